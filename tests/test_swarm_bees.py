"""Bees: each is the run that ``charrnn train`` would make; how they may end; their texts."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charrnn.config.loader import load_config, revise_config
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import read_metrics
from charrnn.studies.swarm.bee import HERE, Landed, Task, fallen, train_bees
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.texts import Parcel, open_parcel, pack_text
from charrnn.text.places import Places
from charrnn.training.loop import Outcome
from tests.helpers import begin, differences, resumed, train
from tests.hives import bee_config, colony_of, files_of, one_task, without_clock

RESULT_KEYS = {"status", "message", "steps", "seconds", "train_loss", "val_loss", "val_loss_cold", "best_val_loss"}
RANDOM = ("model.dropout=0.2", "model.num_layers=2", "training.random_seq_len=true")
DIVERGING = (
    *("training.optimizer=sgd", "training.lr=1000", "training.momentum=0.99", "training.grad_clip=null"),
    *("training.schedule=constant", "training.max_steps=100", "model.cell=rnn_relu", "training.weight_decay=0.1"),
)


def trained(task: Task, parcel: Parcel, checkpoints: bool = True) -> Landed:
    """One bee, alone."""
    [landed] = train_bees(parcel, (task,), checkpoints)
    assert landed.task is task
    assert landed.result.keys() == RESULT_KEYS
    return landed


def one(source: Path | str, places: Places, *assignments: str) -> Landed:
    return trained(*one_task(bee_config(source, *assignments), places))


def kept(landed: Landed, out: Path) -> RunFolder:
    """In a folder, as a hive keeps it."""
    folder = out / landed.task.place
    for name, content in landed.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return RunFolder(folder)


class TestAlone:
    @pytest.mark.parametrize(
        "assignments", [(), RANDOM, ("training.optimizer=sgd", "model.cell=gru"), ("corpus.vocabulary=bytes",)]
    )
    def test_is_the_run_that_train_makes(self, assignments: tuple[str, ...], text_file: Path, places: Places) -> None:
        """Of the config that it leaves; bit for bit."""
        landed = one(text_file, places, *assignments)
        bee = kept(landed, Path("hive"))
        config = revise_config(load_config(bee.config), ["run.out=ordinary", "run.name=run"])
        assert train(begin(config, places)) is Outcome.LIMIT
        run = files_of(Path("ordinary/run"))
        expected, found = without_clock(run), without_clock(landed.files)
        result = found.pop("result.json")
        best = expected.pop("checkpoints/best.safetensors")
        for state in (expected["checkpoints/last.safetensors"], best, found["checkpoints/last.safetensors"]):
            state["config"]["run"].update(out="", name="")
        if best["trainer"]["steps"] != 8:
            found.pop("checkpoints/best.safetensors")["config"]["run"].update(out="", name="")
        expected = {name: value for name, value in expected.items() if not name.startswith("checkpoints/step-")}
        assert differences(expected, found) == []
        rows = list(read_metrics(bee.metrics))
        assert (result["status"], result["message"], result["steps"]) == ("ended", None, 8)
        assert result["train_loss"] == [row["train_loss"] for row in rows if "train_loss" in row][-1]
        assert (result["val_loss"], result["val_loss_cold"]) == (rows[-1]["val_loss"], rows[-1]["val_loss_cold"])
        assert result["best_val_loss"] == min(row["val_loss"] for row in rows if "val_loss" in row)

    def test_its_config_is_its_task_s(self, text_file: Path, places: Places) -> None:
        task, parcel = one_task(bee_config(text_file, "training.seed=5"), places)
        bee = kept(trained(task, parcel), Path("hive"))
        config = load_config(bee.config)
        assert (config.training.seed, config.run.out, config.run.name) == (5, "hive/all", "bee-5")
        assert bee.path == Path("hive/all/bee-5")
        same_text = config.corpus.model_copy(update={"source": task.config.corpus.source})
        assert config.model_copy(update={"corpus": same_text}) == task.config

    def test_it_can_be_resumed(self, text_file: Path, places: Places) -> None:
        bee = kept(one(text_file, places), Path("hive"))
        longer = revise_config(load_config(bee.config), ["training.max_steps=12"])
        session = resumed(bee.path, places, longer)
        assert session.trainer.steps == 8
        assert train(session) is Outcome.LIMIT

    def test_without_checkpoints(self, text_file: Path, places: Places) -> None:
        landed = trained(*one_task(bee_config(text_file), places), checkpoints=False)
        assert set(landed.files) == {"config.yaml", "metrics.jsonl", "samples.txt", "environment.json", "result.json"}

    def test_the_best_is_kept_where_it_is_not_the_last(self, text_file: Path, places: Places) -> None:
        rising = ("training.lr=30", "training.schedule=constant", "training.warmup_steps=40", "training.max_steps=40")
        landed = one(text_file, places, *rising)
        state = without_clock(landed.files)
        names = {name for name in landed.files if name.startswith("checkpoints/")}
        assert names == {"checkpoints/last.safetensors", "checkpoints/best.safetensors"}
        best = state["checkpoints/best.safetensors"]["trainer"]["steps"]
        assert best < state["checkpoints/last.safetensors"]["trainer"]["steps"] == 40

    def test_nothing_is_left_elsewhere(
        self, text_file: Path, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        one(text_file, places)
        assert list(scratch.iterdir()) == []
        assert not Path("hive").exists()

    def test_it_tells_how_far_it_is(self, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """Shares that add up to one bee, also where it fails half way."""
        told: list[float] = []
        monkeypatch.setattr(HERE, "advanced", told.append)
        for assignments in ((), DIVERGING, ("training.device=cuda:77",)):
            told.clear()
            one(text_file, places, *assignments)
            assert sum(told) == pytest.approx(1)
            assert min(told) >= 0
            assert len(told) > 3 or assignments


class TestEnds:
    def test_diverged(self, text_file: Path, places: Places) -> None:
        landed = one(text_file, places, *DIVERGING)
        result = landed.result
        assert result["status"] == "diverged"
        assert result["message"].startswith("training diverged before step ")
        assert (result["val_loss"], result["val_loss_cold"]) == (None, None)
        assert 0 < result["steps"] < 100
        rows = list(read_metrics(kept(landed, Path("hive")).metrics))
        assert rows[-1]["steps_not_finite"] > 0

    @pytest.mark.parametrize("unit", ["character", "byte"])
    def test_ended_above_a_guess(self, unit: str, text_file: Path, places: Places) -> None:
        reading = f"corpus.vocabulary={unit}s"
        landed = one(text_file, places, "training.lr=100", "training.schedule=constant", reading)
        result = landed.result
        rows = list(read_metrics(kept(landed, Path("hive")).metrics))
        guess = math.log(len(open_parcel(pack_text(landed.task.config.corpus, places)).vocabulary))
        assert rows[-1]["val_loss"] > 1.1 * guess
        assert result["status"] == "diverged"
        assert result["message"] == f"ended above a uniform guess ({guess:.3f} nats per {unit})"
        assert result["val_loss"] is None
        assert result["steps"] == 8

    def test_a_loss_that_is_no_number(self, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """Weights may be finite and their logits not."""
        monkeypatch.setattr("charrnn.training.loop.validation_loss", lambda *_: math.nan)
        assert one(text_file, places).result["status"] == "diverged"

    @pytest.mark.parametrize(
        ("assignments", "says"),
        [
            (("training.device=cuda:77",), "cuda:77"),
            (("training.seq_len=4000",), "cat.txt: "),
            (("model.hidden_size=65536", "model.num_layers=64"), "this machine has"),
        ],
    )
    def test_failed(self, assignments: tuple[str, ...], says: str, text_file: Path, places: Places) -> None:
        task, parcel = one_task(bee_config(text_file), places)
        bad = replace(task, config=revise_config(task.config, assignments))
        result = trained(bad, parcel).result
        assert result["status"] == "failed"
        assert says in result["message"]
        assert (result["steps"], result["val_loss"]) == (0, None)

    @pytest.mark.parametrize("error", [RuntimeError("out of something"), MemoryError()])
    def test_errors_of_torch(
        self, error: Exception, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def raising(*_: object, observe: bool) -> None:
            raise error

        monkeypatch.setattr("charrnn.training.trainer.Trainer.step", raising)
        result = one(text_file, places).result
        assert (result["status"], result["message"]) == ("failed", str(error) or "MemoryError()")

    def test_the_disk_is_full(self, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("charrnn.runs.files.disk.write", full)
        result = one(text_file, places).result
        assert result["status"] == "failed"
        assert "No space left on device" in result["message"]

    def test_fallen(self, text_file: Path, places: Places) -> None:
        task, _ = one_task(bee_config(text_file), places)
        landed = fallen(task, "an eagle")
        assert landed.result.keys() == RESULT_KEYS
        assert (landed.result["status"], landed.result["message"]) == ("failed", "an eagle")
        assert load_config(kept(landed, Path("hive")).config) == task.config

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("calls", [0, 1, 10])
    def test_stopped(
        self, count: int, calls: int, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are missing, whenever it was."""
        left = iter(range(calls))
        monkeypatch.setattr(HERE, "should_stop", lambda: next(left, None) is None)
        colony = colony_of(bee_config(text_file), places, count, axes=[])
        tasks = tuple(task for task, _ in colony.tasks(Hive(Path("hive")), 1))
        assert train_bees(colony.swarms[0][1], tasks, True) == []


class TestParcels:
    @pytest.mark.parametrize("assignment", ["corpus.vocabulary=bytes", "corpus.split=[0.5, 0.3, 0.2]"])
    def test_bytes_hold_the_same_text(self, assignment: str, text_file: Path, places: Places) -> None:
        parcel = pack_text(bee_config(text_file, assignment).corpus, places)
        sent = pickle.loads(pickle.dumps(parcel.as_bytes()))
        assert sent.file is None
        left, right = open_parcel(parcel), open_parcel(sent)
        assert left.ids.tolist() == right.ids.tolist()
        assert left.ids.dtype == right.ids.dtype
        assert replace(left, ids=right.ids) == right
        assert len(pickle.dumps(parcel)) < 2000, "this goes to a process with every bee"

    def test_bees_on_them_are_the_same(self, text_file: Path, places: Places) -> None:
        task, parcel = one_task(bee_config(text_file, *RANDOM), places)
        here, there = trained(task, parcel), trained(task, parcel.as_bytes())
        assert differences(without_clock(here.files), without_clock(there.files)) == []

    def test_a_text_is_opened_once(self, text_file: Path, places: Places) -> None:
        config = bee_config(text_file).corpus
        parcel, again = pack_text(config, places), pack_text(config, places)
        assert parcel == again
        assert open_parcel(parcel) is open_parcel(again)
        assert open_parcel(pickle.loads(pickle.dumps(parcel.as_bytes()))) is open_parcel(parcel.as_bytes())

    def test_other_texts_are_others(self, text_file: Path, places: Places) -> None:
        corpus = bee_config(text_file).corpus
        other = Path("dog.txt")
        other.write_text(text_file.read_text().replace("cat", "cow"))
        changes: list[dict[str, Any]] = [
            *({"source": str(other)}, {"vocabulary": "bytes"}, {"split": [0.5, 0.5]}, {"min_count": 100})
        ]
        parcels = [pack_text(corpus.model_copy(update=change), places) for change in ({}, *changes)]
        for kind in (parcels, [parcel.as_bytes() for parcel in parcels]):
            assert len(set(kind)) == len(kind)
            texts = [open_parcel(parcel) for parcel in kind]
            assert len({(text.vocabulary.digest, text.ids.tobytes(), str(text.spans)) for text in texts}) == len(kind)


def test_a_text_at_another_place_is_named_there(text_file: Path, places: Places) -> None:
    """By what is opened in a process that had it from its old place: a bee's config tells it."""
    corpus = bee_config(text_file).corpus
    copy = Path("copy.txt")
    copy.write_text(text_file.read_text())
    parcels = [pack_text(corpus.model_copy(update={"source": str(one)}), places) for one in (text_file, copy)]
    for kind in (parcels, [parcel.as_bytes() for parcel in parcels]):
        assert [open_parcel(parcel).name for parcel in kind] == ["cat.txt", "copy.txt"]


def test_threads_do_not_mix(text_file: Path, places: Places) -> None:
    """A worker of Dask may have several: bees draw from torch's one generator all the same."""
    work = [one_task(bee_config(text_file, *RANDOM, f"training.seed={seed}"), places) for seed in range(1, 5)]
    expected = [without_clock(trained(*each).files) for each in work]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: without_clock(trained(*each).files), work))
    assert differences(dict(enumerate(expected)), dict(enumerate(found))) == []
