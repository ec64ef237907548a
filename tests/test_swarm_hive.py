"""The folder of a hive: made, found again, grown; plans that cannot be gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from charrnn.config.settings import dump_yaml
from charrnn.errors import CheckpointError, DataError, UsageError
from charrnn.studies.swarm.colony import Colony, colony_of_plan
from charrnn.studies.swarm.hive import Hive, find_or_make_hive, open_hive
from charrnn.text.places import Places
from tests.command_line import snapshot
from tests.fault_disk import Killed, KillingDisk, RecordingDisk
from tests.hives import OUT, bee_config, colony_of, disk_of, make


@pytest.fixture
def colony(text_file: Path, places: Places) -> Colony:
    return colony_of(bee_config(text_file), places)


class TestFind:
    def test_made(self, colony: Colony) -> None:
        hive = find_or_make_hive(OUT, "cat", colony.plan)
        assert hive.path == OUT / "cat-swarm"
        assert hive.plan == yaml.safe_load(dump_yaml(colony.plan)) == yaml.safe_load(hive.plan_file.read_text())
        assert set(snapshot(OUT)) == {"cat-swarm", "cat-swarm/hive.yaml"}

    def test_the_same_plan_is_found(self, colony: Colony) -> None:
        before = make(colony)
        before.write_plan({**before.plan, "threads": 1, "together": 4})
        hive = find_or_make_hive(OUT, "cat", colony.plan)
        assert hive.path == before.path
        plan = hive.plan
        assert (plan["seeds"], plan["threads"], plan["together"]) == (2, 1, 4)

    @pytest.mark.parametrize(("seeds", "then"), [(5, 5), (1, 2)])
    def test_more_seeds_grow_it(self, colony: Colony, seeds: int, then: int) -> None:
        make(colony)
        hive = find_or_make_hive(OUT, "cat", colony.with_seeds(seeds).plan)
        assert hive.path == OUT / "cat-swarm"
        assert hive.plan["seeds"] == 2, "nothing is written before the lock is held"
        assert hive.grow(seeds)["seeds"] == hive.plan["seeds"] == then

    @pytest.mark.parametrize("assignment", ["training.seed=9", "training.lr=0.5", "model.cell=gru", "run.log_every=9"])
    def test_another_plan_has_another_folder(
        self, colony: Colony, assignment: str, text_file: Path, places: Places
    ) -> None:
        first = make(colony)
        before = snapshot(first.path)
        other = colony_of(bee_config(text_file, assignment), places)
        assert make(other).path == OUT / "cat-swarm-2"
        assert make(other).path == OUT / "cat-swarm-2"
        third = colony_of(bee_config(text_file), places, axes=[[{"training.lr": 0.01}]])
        assert make(third).path == OUT / "cat-swarm-3"
        assert make(colony).path == first.path
        assert snapshot(first.path) == before

    def test_another_text_has_another_folder(self, colony: Colony, text_file: Path, places: Places) -> None:
        make(colony)
        text_file.write_text(text_file.read_text().upper())
        assert make(colony_of(bee_config(text_file), places)).path == OUT / "cat-swarm-2"

    def test_odd_values_are_found_again(self, text_file: Path, places: Places) -> None:
        axes: list[Any] = [
            [{"training.lr": 1e-05}, {"training.lr": 1.5e-7}],
            [{"training.grad_clip": None}, {"training.grad_clip": 0.1 + 0.2}],
            [{"training.betas": [0.9, 0.99]}, {"training.betas": [0.0, 1e-3]}],
            [{"corpus.glob": "1e-3"}, {"corpus.glob": "yes"}, {"corpus.glob": "日本"}],
        ]
        colony = colony_of(bee_config(text_file), places, axes=axes)
        hive = make(colony)
        assert hive.plan["axes"] == axes
        assert make(colony_of(bee_config(text_file), places, axes=axes)).path == hive.path

    def test_a_name_that_is_taken(self, colony: Colony) -> None:
        (OUT / "cat-swarm").mkdir(parents=True)
        (OUT / "cat-swarm" / "notes.txt").write_text("mine")
        assert make(colony).path == OUT / "cat-swarm-2"
        assert (OUT / "cat-swarm" / "notes.txt").read_text() == "mine"

    def test_opened(self, colony: Colony) -> None:
        hive = make(colony)
        assert open_hive(hive.path).plan == hive.plan

    @pytest.mark.parametrize("how", ["before", "middle", "after"])
    def test_killed_while_it_is_made(self, colony: Colony, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next start finds it, or makes it, under the same name."""
        with disk_of(counting := RecordingDisk()):
            make(colony, "counted")
        for at in range(1, len(counting.operations) + 1):
            with disk_of(KillingDisk(at, how)), monkeypatch.context() as dead, pytest.raises(Killed):
                dead.setattr("shutil.rmtree", lambda *_, **__: None)
                make(colony, f"number-{at}")
            assert make(colony, f"number-{at}").path == OUT / f"number-{at}-swarm"
        assert {path.name for path in OUT.glob("number-*-swarm-*")} == set()

    @pytest.mark.parametrize("path", ["none", "runs", "cat.txt", "a" * 5000, ""])
    def test_no_hive(self, colony: Colony, path: str) -> None:
        make(colony)
        with pytest.raises(CheckpointError, match="is not a hive"):
            open_hive(Path(path))


class TestPlanOfAHive:
    def test_the_same_colony(self, colony: Colony, places: Places) -> None:
        hive = make(colony)
        again = colony_of_plan(hive, 1, places)
        assert again.swarms == colony.swarms
        assert (again.seeds, again.groups, again.plan) == (colony.seeds, colony.groups, colony.plan)

    def test_from_any_folder(
        self, colony: Colony, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make(colony).path.absolute()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        assert colony_of_plan(Hive(path), 4, places).seeds == [1, 2, 3, 4]
        assert Hive(path).plan["seeds"] == 4

    def test_the_text_has_changed(self, colony: Colony, places: Places, text_file: Path) -> None:
        hive = make(colony)
        text_file.write_text(text_file.read_text() + "more")
        before = snapshot(hive.path)
        with pytest.raises(DataError, match=r"text has changed.*start a new one"):
            colony_of_plan(hive, 5, places)
        assert snapshot(hive.path) == before

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"\xff\xfe", b"plan: [", b"- 1", b"config: {}", b"\0", b"!!python/name:os.system x", b"[" * 5000),
            *(b"config: 1\naxes: []\nseeds: 2\nthreads: 1\ntogether: 1\ntexts: []\n",),
        ],
    )
    def test_damaged(self, colony: Colony, content: bytes, places: Places) -> None:
        hive = make(colony)
        hive.plan_file.write_bytes(content)
        with pytest.raises(UsageError, match=r"hive\.yaml"):
            colony_of_plan(hive, 1, places)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("config", 1), ("config", None), ("config", {}), ("axes", 3), ("axes", [3]), ("axes", [[]])),
            *(("axes", [[3]]), ("axes", [[{}]]), ("axes", [{"a": 1}]), ("axes", None), ("seeds", "two"), ("seeds", 0)),
            *(("seeds", None), ("seeds", 10**9), ("seeds", True), ("threads", "x"), ("threads", 0), ("together", -1)),
            *(("together", [1]), ("together", 1), ("threads", 1), ("texts", 5), ("texts", [1])),
        ],
    )
    def test_values_that_are_none(self, colony: Colony, key: str, value: Any, places: Places) -> None:
        hive = make(colony)
        hive.write_plan({**hive.plan, key: value})
        with pytest.raises(UsageError):
            colony_of_plan(hive, 1, places)
