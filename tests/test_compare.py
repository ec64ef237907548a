"""``charrnn compare``: runs and swarms made by hand, whose losses are known; and two that were really trained."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from charrnn.config.loader import dump_config
from charrnn.errors import CheckpointError, UsageError
from charrnn.plots.compare import draw_curves, middle
from charrnn.plots.figures import COLOURS
from charrnn.studies.bootstrap import paired_interval
from charrnn.studies.compare import compare, curves
from charrnn.studies.compared import read_side
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT, make_config
from tests.test_bad_input import cases, check
from tests.test_plots import STARTS, points

# A seed that is hard is hard with either setting: only pairs tell them apart.
HARD = [0.0, 0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.6, 0.4, 0.8]
GAINS = [-0.03, -0.04, -0.02, -0.05, -0.03, -0.01, -0.04, -0.035, -0.025, -0.03]
SHA = "a" * 64


def a_run(
    path: str,
    *assignments: str,
    losses: Sequence[float] = (3.0, 2.0, 1.5),
    ending: str = "ended",
    sha256: str | None = SHA,
) -> Path:
    """A run folder as ``charrnn train`` leaves it: every ten steps a log line (0.1 below) and a validation loss."""
    folder = Path(path)
    folder.mkdir(parents=True)
    name = "".join(filter(str.isalnum, folder.name))
    (folder / "config.yaml").write_text(dump_config(make_config("cat.txt", f"run.name={name}", *assignments)))
    rows: list[dict[str, Any]] = []
    for step, loss in enumerate(losses, start=1):
        place = {"step": 10 * step, "epoch": 0.1 * step, "seconds": 2.0 * step}
        rows += [{**place, "train_loss": loss - 0.1, "chars_per_sec": 1.0}, {**place, "val_loss": loss}]
    if ending == "ended" and rows:
        rows[-1]["val_loss_cold"] = 9.0
    if ending == "diverged":
        rows.append({"step": 10 * len(losses) + 5, "epoch": 1.0, "seconds": 99.0, "steps_not_finite": 2})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if sha256 is not None:
        about = {"torch": "2", "corpus": {"name": f"text-{sha256[0]}", "sha256": sha256}}
        (folder / "environment.json").write_text(json.dumps(about))
    return folder


def a_swarm(path: str, *assignments: str, losses: Sequence[float | None], first: int = 1, **more: Any) -> Path:
    """A swarm folder with a bee for each final loss, None for one that diverged."""
    for seed, loss in enumerate(losses, start=first):
        bee = f"{path}/bee-{seed}"
        its = (3.0, 2.0) if loss is None else (3.0, 2.0, loss)
        a_run(bee, f"training.seed={seed}", *assignments, losses=its, ending="ended" if loss else "diverged", **more)
        result = {"status": "ended" if loss else "diverged", "message": None, "val_loss": loss}
        Path(bee, "result.json").write_text(json.dumps(result))
    return Path(path)


def two_swarms(losses: Sequence[float | None], against: Sequence[float | None]) -> None:
    a_swarm("hive/momentum=0.7", "training.momentum=0.7", losses=against)
    a_swarm("hive/momentum=0.9", "training.momentum=0.9", losses=losses)


def compared(*words: str) -> dict[str, Any]:
    """What ``--json`` says, which is the only thing on stdout."""
    result = run("compare", *words, "--json")
    assert result.code == 0, result
    found: dict[str, Any] = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return found


def swarms_compared() -> dict[str, Any]:
    [found] = compared("hive/momentum=0.7", "hive/momentum=0.9")["contrasts"]
    return dict(found)


def page(*words: str) -> list[str]:
    result = run("compare", *words)
    assert result.code == 0, result
    return result.out.splitlines()


def swarms_page() -> str:
    return "\n".join(page("hive/momentum=0.7", "hive/momentum=0.9"))


BASE = [1.5 + hard for hard in HARD]
BETTER = [base + gain for base, gain in zip(BASE, GAINS, strict=True)]


class TestSettings:
    def test_only_those_that_differ(self) -> None:
        a_run("a", "training.lr=0.01", "training.threads=1", "model.dropout=0.1")
        a_run("b", "training.lr=0.02", "training.threads=2", "training.device=cpu", "model.dropout.input=0.3")
        a_run("c", "training.lr=0.01", "training.grad_clip=null", "run.out=elsewhere", "training.seed=4")
        assert compared("a", "b", "c")["differing"] == {
            "model.dropout.input": [0.1, 0.3, 0.2],
            "model.dropout.between": [0.1, 0.2, 0.2],
            "model.dropout.output": [0.1, 0.2, 0.2],
            "training.lr": [0.01, 0.02, 0.01],
            "training.grad_clip": [1.0, 1.0, None],
            "training.seed": [1, 1, 4],
        }

    @pytest.mark.parametrize(("vocabulary", "unit"), [("characters", "symbol"), ("bytes", "byte")])
    def test_what_losses_are_per(self, vocabulary: str, unit: str) -> None:
        a_run("a", f"corpus.vocabulary={vocabulary}")
        a_run("b", "corpus.vocabulary=bytes")
        assert f"Losses in nats per {unit}" in page("a", "b")

    def test_on_the_page_a_column_for_each(self) -> None:
        a_run("a", "training.lr=0.01")
        a_run("b", "training.lr=0.02", "training.grad_clip=null", "model.cell=gru", "training.random_seq_len=false")
        lines = page("a", "b")
        table = [line.split() for line in lines[lines.index("") + 1 :]]
        assert table[: table.index([])] == [
            ["Settings", "that", "differ", "A", "B"],
            ["model.cell", "lstm", "gru"],
            ["training.random_seq_len", "true", "false"],
            ["training.lr", "0.01", "0.02"],
            ["training.grad_clip", "1", "null"],
        ]
        ends = {len(line) for line in lines[lines.index("") + 1 :][:5]}
        assert len(ends) == 1, "aligned to the right"

    def test_none(self) -> None:
        a_run("a")
        a_run("b")
        assert "No setting differs." in page("a", "b")

    def test_the_seeds_of_a_swarm_are_no_setting(self) -> None:
        a_swarm("a", losses=[1.0, 2.0])
        a_swarm("b", losses=[1.0, 2.0], first=5)
        a_run("c", "training.seed=9")
        assert compared("a", "b", "c")["differing"] == {}

    @pytest.mark.parametrize(
        ("assignments", "labels"),
        [
            ((["training.lr=0.01"], ["training.lr=0.02"]), ["lr=0.01", "lr=0.02"]),
            ((["model.dropout=0.1"], ["model.dropout=0.3"]), ["a", "b"]),
            ((["run.eval_every=5"], ["run.eval_every=6"]), ["a", "b"]),
            (([], []), ["a", "b"]),
        ],
        ids=["settings", "too long", "no experiment", "equal"],
    )
    def test_labels(self, assignments: tuple[list[str], list[str]], labels: list[str]) -> None:
        for name, its in zip("ab", assignments, strict=True):
            a_run(name, *its)
        assert [side["label"] for side in compared("a", "b")["sides"]] == labels

    def test_labels_of_folders_with_one_name(self) -> None:
        a_run("x/a")
        a_run("y/a")
        assert [side["label"] for side in compared("x/a", "y/a")["sides"]] == ["x/a", "y/a"]


class TestResults:
    def test_a_run(self) -> None:
        a_run("a", losses=(3.0, 1.4, 1.5))
        a_run("b", losses=(3.0,))
        first, second = compared("a", "b")["sides"]
        assert first["trainings"] == [
            {
                "seed": 1,
                "status": "ended",
                "steps": 30,
                "final_val_loss": 1.5,
                "best_val_loss": 1.4,
                "train_loss": 1.4,
                "seconds": 6.0,
            }
        ]
        assert first["text"] == {"name": "text-a", "sha256": SHA}
        assert second["quartiles"]["final_val_loss"] == [3.0, 3.0, 3.0]
        lines = page("a", "b")
        [row] = [line.split() for line in lines if line.startswith("A") and "1.5000" in line]
        assert row == ["A", "30", "1.5000", "1.4000", "1.4000", "0:06"]
        assert not any("bees" in line for line in lines)

    def test_a_run_that_goes_on(self) -> None:
        a_run("a")
        a_run("b", ending="unfinished")
        with Path("b/metrics.jsonl").open("a") as file:
            file.write('{"step": 99')
        result = run("compare", "a", "b")
        assert result.code == 0
        assert "warning: b: has not ended (step 30): its losses are those so far" in result.err
        assert compared("a", "b")["sides"][1]["trainings"][0]["status"] == "unfinished"

    @pytest.mark.parametrize("without", ["rows", "file"])
    def test_a_run_that_has_just_begun(self, without: str) -> None:
        a_run("a")
        a_run("b", losses=(), ending="unfinished")
        if without == "file":
            Path("b/metrics.jsonl").unlink()
        assert ["B", "0", "-", "-", "-", "-"] in [line.split() for line in page("a", "b")]
        [found] = compared("a", "b")["contrasts"]
        assert (found["pairs"], found["mean"]) == (0, None)

    @pytest.mark.parametrize("how", ["steps", "validation"])
    def test_a_run_that_diverged(self, how: str) -> None:
        """It has no final loss, but was once as good as its best."""
        a_run("a")
        a_run("b", losses=(3.0, 2.0), ending="diverged")
        if how == "validation":
            a_run("c", losses=(3.0, 2.0, math.nan), ending="ended")
            text = Path("c/metrics.jsonl").read_text().replace("NaN", "null")
            Path("b/metrics.jsonl").write_text(text)
        [training] = compared("a", "b")["sides"][1]["trainings"]
        assert (training["status"], training["final_val_loss"], training["best_val_loss"]) == ("diverged", None, 2.0)
        assert any(line.split()[:1] == ["B"] and "diverged" in line and "2.0000" in line for line in page("a", "b"))

    def test_a_run_that_diverged_at_once(self) -> None:
        a_run("a")
        a_run("b", losses=(), ending="diverged")
        assert ["B", "5", "diverged", "diverged", "-", "1:39"] in [line.split() for line in page("a", "b")]

    def test_a_swarm(self) -> None:
        """Median and quartiles over the bees, those that diverged above all others."""
        losses = [1.0, 1.4, 1.2, 1.1]
        two_swarms([*losses, None], losses)
        reference, other = compared("hive/momentum=0.7", "hive/momentum=0.9")["sides"]
        assert reference["quartiles"]["final_val_loss"] == pytest.approx(np.quantile(losses, [0.25, 0.5, 0.75]))
        assert other["quartiles"]["final_val_loss"] == [1.1, 1.2, 1.4]
        assert other["quartiles"]["best_val_loss"] == [1.1, 1.2, 1.4]
        assert other["quartiles"]["steps"] == [30, 30, 30]
        assert [one["status"] for one in other["trainings"]] == ["ended"] * 4 + ["diverged"]
        rows = swarms_page().splitlines()
        [row] = [line.split() for line in rows if line.startswith("B  ") and "%" in line]
        assert row[:8] == ["B", "5", "1", "(20%)", "30", "1.2000", "(1.1000", "to"]

    def test_quartiles_that_are_infinite(self) -> None:
        two_swarms([None, None, None, 1.0], [None, None, 1.0, 1.1])
        first, second = compared("hive/momentum=0.7", "hive/momentum=0.9")["sides"]
        assert first["quartiles"]["final_val_loss"] == [pytest.approx(1.075), None, None]
        assert second["quartiles"]["final_val_loss"] == [None, None, None]
        assert "diverged (1.0750 to diverged)" in swarms_page()

    def test_a_bee_without_a_result_does_not_count(self) -> None:
        two_swarms([1.0, 1.1, 1.2], [1.0, 1.1, 1.2])
        Path("hive/momentum=0.9/bee-2/result.json").unlink()
        Path("hive/momentum=0.9/bee-x").mkdir()
        side = compared("hive/momentum=0.7", "hive/momentum=0.9")["sides"][1]
        assert [one["seed"] for one in side["trainings"]] == [1, 3]
        assert side["waiting"] == 1
        assert "2 of 3" in swarms_page()

    @pytest.mark.parametrize(
        ("result", "status"),
        [
            ({"status": "failed", "message": "killed", "val_loss": None}, "failed"),
            ({"status": "ended", "message": None, "val_loss": None}, "diverged"),
            ({"status": "diverged", "message": None, "val_loss": 1.0}, "diverged"),
        ],
    )
    def test_a_bee_that_came_to_nothing(self, result: dict[str, Any], status: str) -> None:
        two_swarms([1.0, 1.1], [1.0, 1.1])
        bee = Path("hive/momentum=0.9/bee-2")
        (bee / "result.json").write_text(json.dumps(result))
        (bee / "metrics.jsonl").unlink()
        training = compared("hive/momentum=0.7", "hive/momentum=0.9")["sides"][1]["trainings"][1]
        assert training["status"] == status
        assert training["final_val_loss"] is None
        assert swarms_compared()["diverged"] == 1
        said = run("compare", "hive/momentum=0.7", "hive/momentum=0.9").err
        assert ("0.9: 1 of 2 bees failed, and count as diverged" in said) == (status == "failed")

    def test_the_result_counts_not_the_last_line(self) -> None:
        two_swarms([1.0, 1.1], [1.0, 1.1])
        path = Path("hive/momentum=0.9/bee-2/result.json")
        path.write_text(path.read_text().replace("1.1", "1.05"))
        assert swarms_compared()["differences"]["2"] == pytest.approx(-0.05)

    def test_a_bee_that_went_on_counts_as_the_run_it_is_now(self) -> None:
        two_swarms([1.0, 1.1], [1.0, 1.1])
        path = Path("hive/momentum=0.9/bee-2/result.json")
        result = json.loads(path.read_text()) | {"val_loss": 1.6}
        for steps, expected in ((10**6, 0.5), (1, 0.0)):
            path.write_text(json.dumps(result | {"steps": steps}))
            assert swarms_compared()["differences"]["2"] == pytest.approx(expected)


def test_what_json_holds() -> None:
    two_swarms([*BETTER[:5], None], BASE[:6])
    found = compared("hive/momentum=0.7", "hive/momentum=0.9")
    assert set(found) == {"sides", "differing", "warnings", "contrasts"}
    for side in found["sides"]:
        assert set(side) == {"label", "path", "swarm", "waiting", "text", "settings", "quartiles", "trainings"}
        numbers = {"steps", "final_val_loss", "best_val_loss", "train_loss", "seconds"}
        assert set(side["quartiles"]) == numbers
        assert set(side["trainings"][0]) == {"seed", "status", *numbers}
        assert side["settings"]["model.hidden_size"] == 8
    assert set(found["contrasts"][0]) == {
        *("pairs", "differences", "diverged", "diverged_reference", "p_divergence", "divergence"),
        *("mean", "interval", "verdict"),
    }
    assert set(found["contrasts"][0]["interval"]) == {"mean", "low", "high", "pairs"}


class TestVerdict:
    def test_better(self) -> None:
        two_swarms(BETTER, BASE)
        found = swarms_compared()
        expected = paired_interval([b - a for a, b in zip(BASE, BETTER, strict=True)])
        assert expected is not None
        assert found["interval"]["low"] == pytest.approx(expected.low)
        assert found["interval"]["high"] == pytest.approx(expected.high)
        assert found["interval"]["pairs"] == found["pairs"] == 10
        assert found["mean"] == pytest.approx(np.mean(GAINS))
        assert found["differences"] == pytest.approx({str(i + 1): gain for i, gain in enumerate(GAINS)})
        assert (found["verdict"], found["divergence"]) == ("better", None)
        assert (
            f"B: momentum=0.9 instead of momentum=0.7: -0.031 nats per character, 95 % within {expected.low:+.3f} to "
            f"{expected.high:+.3f} (10 pairs): better" in swarms_page().splitlines()
        )

    def test_worse(self) -> None:
        two_swarms(BASE, BETTER)
        assert swarms_compared()["verdict"] == "worse"
        assert "+0.031 nats per character, 95 % within +0.0" in swarms_page()

    def test_no_difference(self) -> None:
        """The gains with nearly their mean taken away, to either side of it."""
        two_swarms([loss - float(np.mean(GAINS)) - 0.002 for loss in BETTER], BASE)
        a_swarm("more", "training.momentum=0.5", losses=[loss - float(np.mean(GAINS)) + 0.002 for loss in BETTER])
        found = compared("hive/momentum=0.7", "hive/momentum=0.9", "more")["contrasts"]
        assert [one["mean"] for one in found] == pytest.approx([-0.002, 0.002])
        assert [one["verdict"] for one in found] == ["cannot be told apart with 10 pairs"] * 2

    def test_equal(self) -> None:
        two_swarms(BASE, BASE)
        assert swarms_compared()["verdict"] == "cannot be told apart with 10 pairs"
        assert "+0.000 nats per character, 95 % within +0.000 to +0.000 (10 pairs)" in swarms_page()

    def test_small_differences_keep_their_digits(self) -> None:
        two_swarms([1e-3 + 1e-5 * gain for gain in GAINS], [1e-3] * 10)
        assert "-0.00000031 nats" in swarms_page()

    def test_seeds_are_paired_not_places(self) -> None:
        a_swarm("a", "training.momentum=0.7", losses=BASE[2:], first=3)
        a_swarm("b", "training.momentum=0.9", losses=BETTER[:8])
        [found] = compared("a", "b")["contrasts"]
        assert found["differences"] == pytest.approx({str(seed): GAINS[seed - 1] for seed in range(3, 9)})

    def test_bees_in_any_order_and_number(self) -> None:
        two_swarms([1.0 + 0.01 * i for i in range(12)], [1.0] * 12)
        assert list(swarms_compared()["differences"]) == [str(seed) for seed in range(1, 13)]

    def test_every_one_against_the_first(self) -> None:
        two_swarms(BETTER, BASE)
        a_swarm("hive/momentum=0.5", "training.momentum=0.5", losses=[loss + 0.1 + 0.01 * loss for loss in BASE])
        found = compared("hive/momentum=0.7", "hive/momentum=0.9", "hive/momentum=0.5")["contrasts"]
        assert [one["verdict"] for one in found] == ["better", "worse"]
        lines = page("hive/momentum=0.7", "hive/momentum=0.9", "hive/momentum=0.5")
        assert [line[:41] for line in lines[-2:]] == [
            "B: momentum=0.9 instead of momentum=0.7: ",
            "C: momentum=0.5 instead of momentum=0.7: ",
        ]

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_too_few_pairs(self, count: int) -> None:
        two_swarms(BETTER[:count], BASE[:count])
        found = swarms_compared()
        assert found["interval"] is None
        assert found["mean"] == pytest.approx(np.mean(GAINS[:count]))
        assert found["verdict"].startswith("no verdict from fewer than 4 pairs; 'charrnn swarm --resume hive ")
        assert ("(1 pair): " if count == 1 else f"({count} pairs): ") in swarms_page()

    def test_the_side_with_fewer_bees_wants_more(self) -> None:
        a_swarm("few/lr=1", losses=BASE[:3])
        a_swarm("many/lr=2", "training.lr=0.02", losses=BETTER)
        for sides in (("few/lr=1", "many/lr=2"), ("many/lr=2", "few/lr=1")):
            [found] = compared(*sides)["contrasts"]
            assert "--resume few --seeds 10" in found["verdict"]

    def test_two_runs_are_one_pair(self) -> None:
        a_run("a", "training.seed=3")
        a_run("b", "training.seed=3", "training.lr=0.02", losses=(3.0, 1.4))
        [found] = compared("a", "b")["contrasts"]
        assert (found["pairs"], found["interval"]) == (1, None)
        assert found["mean"] == pytest.approx(-0.1)

    def test_a_run_against_a_swarm(self) -> None:
        a_swarm("a", losses=BASE)
        a_run("b", "training.seed=3", "training.lr=0.02", losses=(3.0, 1.0))
        [found] = compared("a", "b")["contrasts"]
        assert found["differences"] == {"3": pytest.approx(1.0 - BASE[2])}

    def test_a_run_that_has_no_loss_yet(self) -> None:
        a_run("a", losses=())
        a_run("b", losses=(2.0, 1.5))
        [found] = compared("a", "b")["contrasts"]
        assert found["verdict"].startswith("no verdict: a training has no validation loss yet; wait")

    def test_no_common_seed(self) -> None:
        a_run("a", "training.seed=3")
        a_run("b", "training.seed=4")
        [found] = compared("a", "b")["contrasts"]
        assert (found["pairs"], found["mean"], found["p_divergence"]) == (0, None, 1.0)
        assert found["verdict"].startswith("no seed that both have")

    def test_too_many_equal_differences(self) -> None:
        two_swarms([*BASE[:4], BASE[4] - 0.1], BASE[:5])
        found = swarms_compared()
        assert found["interval"] is None
        assert "too many of the 5 differences are equal" in found["verdict"]


class TestDiverged:
    def test_a_few_are_left_out_and_counted(self) -> None:
        two_swarms([None, None, *BETTER[2:]], [BASE[0], None, None, *BASE[3:]])
        found = swarms_compared()
        assert (found["pairs"], found["diverged"], found["diverged_reference"]) == (10, 2, 2)
        assert list(found["differences"]) == [str(seed) for seed in range(4, 11)]
        assert (found["divergence"], found["p_divergence"], found["verdict"]) == (None, 1.0, "better")
        assert "3 of 10 pairs (B diverged in 2, A in 2)" in swarms_page()

    @pytest.mark.parametrize(("count", "tells"), [(5, False), (6, True)])
    def test_many_are_the_verdict(self, count: int, tells: bool) -> None:
        """A coin falls on one side six times of six with p = 1/32, five times of five with 1/16."""
        two_swarms([*[None] * count, *BETTER[count:]], BASE)
        found = swarms_compared()
        assert found["divergence"] == ("diverges more often" if tells else None)
        assert found["p_divergence"] == pytest.approx(2 / 2**count)
        assert ("momentum=0.7: diverges more often (p = 0.031); where neither" in swarms_page()) == tells
        assert found["verdict"] == "better"

    def test_less_often(self) -> None:
        two_swarms(BETTER, [*[None] * 8, *BASE[8:]])
        found = swarms_compared()
        assert found["divergence"] == "diverges less often"
        assert found["verdict"].startswith("no verdict from fewer than 4 pairs")
        assert len(found["differences"]) == 2

    def test_all_of_both(self) -> None:
        two_swarms([None] * 7, [None] * 7)
        found = swarms_compared()
        assert (found["divergence"], found["mean"], found["differences"]) == (None, None, {})
        assert "7 of 7 pairs" in swarms_page()


class TestOtherText:
    def test_it_is_said_and_nothing_is_concluded(self) -> None:
        a_swarm("a", losses=BASE)
        a_swarm("b", losses=BETTER, sha256="b" * 64)
        result = run("compare", "a", "b")
        assert result.code == 0
        texts = "its text is text-b (sha256 bbbbbbbb), that of a is text-a (sha256 aaaaaaaa)"
        assert f"warning: b: {texts}: losses do not compare" in result.err
        [found] = compared("a", "b")["contrasts"]
        assert (found["mean"], found["interval"]) == (None, None)
        assert found["verdict"] == "no verdict: the losses do not compare"

    @pytest.mark.parametrize(
        "setting", ["corpus.split=[0.8, 0.2]", "corpus.vocabulary=bytes", "run.eval_characters=50"]
    )
    def test_another_yardstick(self, setting: str) -> None:
        a_swarm("a", losses=BASE)
        a_swarm("b", setting, losses=BETTER)
        found = compared("a", "b")
        assert setting.partition("=")[0] in found["warnings"][0]
        assert found["contrasts"][0]["verdict"] == "no verdict: the losses do not compare"

    def test_all_of_a_short_validation_part(self) -> None:
        """However far an evaluation may read: as far as the text goes."""
        for name, limit in (("a", 200), ("b", 300)):
            a_swarm(name, f"run.eval_characters={limit}", losses=BASE if name == "a" else BETTER)
            for environment in Path(name).glob("bee-*/environment.json"):
                known = json.loads(environment.read_text())
                known["corpus"]["characters"] = 1900
                environment.write_text(json.dumps(known))
        assert compared("a", "b")["contrasts"][0]["verdict"] == "better"
        for environment in Path("b").glob("bee-*/environment.json"):
            environment.write_text(environment.read_text().replace("1900", "2100"))
        assert compared("a", "b")["contrasts"][0]["verdict"] == "no verdict: the losses do not compare"

    @pytest.mark.parametrize("content", [None, "{}", '{"corpus": 3}', '{"corpus": {"name": "x"}}'])
    def test_a_text_nobody_knows_of(self, content: str | None) -> None:
        a_swarm("a", losses=BASE)
        a_swarm("b", losses=BETTER, sha256=None)
        for seed in range(1, 11):
            if content is not None:
                Path(f"b/bee-{seed}/environment.json").write_text(content)
        found = compared("a", "b")
        assert found["sides"][1]["text"] is None
        assert "b: does not say which text" in found["warnings"][0]
        assert found["contrasts"][0]["verdict"] == "better"


class TestRefused:
    @pytest.fixture(autouse=True)
    def here(self) -> None:
        a_run("good")
        two_swarms([1.0, 1.1], [1.0, 1.1])
        Path("hive/hive.yaml").write_text("seeds: 2\n")
        Path("empty").mkdir()
        Path("young/hive.yaml").parent.mkdir()
        Path("young/hive.yaml").write_text("seeds: 2\n")
        shutil.copytree("hive/momentum=0.7", "waiting")
        for path in Path("waiting").rglob("result.json"):
            path.unlink()
        Path("good/checkpoints").mkdir()
        Path("good/checkpoints/last.safetensors").write_bytes(b"x")

    @cases(
        ("", "at least two"),
        ("good", "at least two"),
        ("good good", "good: is given twice; give each run once"),
        ("good none", "none", "no such run folder", "'charrnn train' prints"),
        (f"good {'x' * 300}", "x" * 300),
        ("good empty", "empty", "no config.yaml and no bee"),
        ("good good/checkpoints/last.safetensors", "last.safetensors", "is a file", "run folder"),
        ("good hive", "hive: is a hive", "hive/momentum=0.7, hive/momentum=0.9"),
        ("good young", "young: is a hive", "none yet"),
        ("good waiting", "waiting", "no bee has ended yet"),
        ("good good -o a.jpg", "a.jpg", ".png, .svg, .pdf"),
        ("good good -o none/a.png", "none/a.png", "no such folder"),
        ("none none2 -o a.jpg", "a.jpg"),
        ("good good --colour red", "--colour"),
    )
    def test_words(self, words: str, says: tuple[str, ...]) -> None:
        self._refused(words, *says)

    @pytest.mark.parametrize(
        ("file", "content", "says"),
        [
            ("good/config.yaml", "corpus: {source: a}", "good/config.yaml:1:1"),
            ("good/environment.json", "{", "good/environment.json: not JSON"),
            ("good/environment.json", "[]", "good/environment.json: not a JSON object"),
            ("good/metrics.jsonl", "{\n", "good/metrics.jsonl:1: not a line of metrics"),
            ("good/metrics.jsonl", '{"step": 1}\n{"val_loss": 1.0}\n', "good/metrics.jsonl:2: not a line of metrics"),
            ("good/metrics.jsonl", '{"step": 1, "val_loss": "low"}\n', "good/metrics.jsonl:1: not a line of metrics"),
            ("good/metrics.jsonl", '{"step": 1, "train_loss": []}\n', "good/metrics.jsonl:1: not a line of metrics"),
        ],
    )
    def test_damaged_run(self, file: str, content: str, says: str) -> None:
        Path(file).write_text(content)
        result = run("compare", "good", "hive/momentum=0.7")
        assert (result.code, result.out) == (2, "")
        assert says in result.err.splitlines()[0]

    @pytest.mark.parametrize("content", ["", "7", "{}", '{"status": "ended", "val_loss": "1"}', '{"status": "lost"}'])
    def test_damaged_result(self, content: str) -> None:
        Path("hive/momentum=0.7/bee-2/result.json").write_text(content)
        self._refused("good hive/momentum=0.7", "hive/momentum=0.7/bee-2/result.json")

    def test_a_bee_of_another_swarm(self) -> None:
        shutil.rmtree("hive/momentum=0.7/bee-2")
        shutil.copytree("hive/momentum=0.9/bee-2", "hive/momentum=0.7/bee-2")
        self._refused("good hive/momentum=0.7", "hive/momentum=0.7/bee-2", "bee-1", "training.momentum")

    def test_a_bee_without_its_config(self) -> None:
        Path("hive/momentum=0.7/bee-2/config.yaml").unlink()
        self._refused("good hive/momentum=0.7", "hive/momentum=0.7/bee-2: ", "holds no config.yaml")

    def test_a_folder_in_place_of_a_file(self) -> None:
        Path("good/metrics.jsonl").unlink()
        Path("good/metrics.jsonl").mkdir()
        self._refused("hive/momentum=0.7 good", "good/metrics.jsonl", "Is a directory", "check")

    def test_a_name_that_steers_the_terminal(self) -> None:
        a_run("\x1b[31m\x07red")
        result = run("compare", "good", "\x1b[31m\x07red")
        assert result.code == 0
        assert "\\x07red" in result.out
        assert "\x1b" not in result.out

    def _refused(self, words: str, *says: str) -> None:
        before = snapshot()
        result: Result = run("compare", *shlex.split(words))
        check(result, says, 2)
        assert snapshot() == before


def test_the_library_says_it_by_exceptions() -> None:
    with pytest.raises(UsageError, match="at least two"):
        compare([Path("a")])
    with pytest.raises(CheckpointError, match="no such run folder"):
        read_side(Path("none"))


class TestPicture:
    def _drawn(self, *paths: str, in_characters: bool = False) -> Figure:
        comparison = compare([Path(path) for path in paths])
        figure = draw_curves(comparison.labels, *curves(comparison.sides, in_characters), in_characters, "character")
        figure.draw_without_rendering()
        return figure

    def test_runs(self) -> None:
        a_run("a", "training.lr=0.01")
        a_run("b", "training.lr=0.02", losses=(3.0, 1.4))
        training, validation = self._drawn("a", "b").axes
        assert [points(line) for line in validation.get_lines()] == [
            [(10, 3.0), (20, 2.0), (30, 1.5)],
            [(10, 3.0), (20, 1.4)],
        ]
        assert points(training.get_lines()[1]) == [(10, 2.9), (20, pytest.approx(1.3))]
        assert [line.get_color() for line in training.get_lines()] == list(COLOURS[:2])
        assert (training.get_ylabel(), validation.get_ylabel()) == (
            "training loss, nats/character",
            "validation loss, nats/character",
        )
        assert validation.get_xlabel() == "step"

    def test_swarms(self) -> None:
        """Each bee thin, their median bold: those that diverged are above it from then on."""
        two_swarms([1.0, 1.2, None, None, 1.1], [1.0, 1.3, 1.2])
        _, validation = self._drawn("hive/momentum=0.7", "hive/momentum=0.9").axes
        bold = [points(line) for line in validation.get_lines() if line.get_linewidth() == 2]
        assert bold == [[(10, 3.0), (20, 2.0), (30, 1.2)], [(10, 3.0), (20, 2.0), (30, 1.2)]]
        thin = [points(line) for line in validation.get_lines() if line.get_linewidth() < 1]
        assert len(thin) == 8
        assert thin[5] == [(10, 3.0), (20, 2.0)], "one that diverged ends"
        assert "median" in validation.get_ylabel()

    def test_the_median_where_most_have_diverged(self) -> None:
        two_swarms([1.0, None, None], [1.0, 1.3, 1.2])
        _, validation = self._drawn("hive/momentum=0.7", "hive/momentum=0.9").axes
        bold = [points(line) for line in validation.get_lines() if line.get_linewidth() == 2]
        assert bold[1] == [(10, 3.0), (20, 2.0)]

    def test_a_point_that_few_have_is_not_the_median(self) -> None:
        assert middle([[(1, 4.0), (2, 1.0)], [(1, 2.0)], [(1, 3.0)]]) == [(1, 3.0)]

    def test_characters_where_steps_read_different_numbers_of_them(self) -> None:
        a_run("a", "training.batch_size=4", "training.seq_len=10")
        a_run("b", "training.batch_size=2", "training.seq_len=10")
        _, validation = self._drawn("a", "b", in_characters=True).axes
        assert [points(line)[-1] for line in validation.get_lines()] == [(1200, 1.5), (600, 1.5)]
        assert validation.get_xlabel() == "characters read (steps x batch_size x seq_len)"

    def test_a_bee_that_diverged_is_above_all_from_then_on(self) -> None:
        a_swarm("a", "training.batch_size=2", losses=[1.0, None])
        _, [(whole, diverged)], ends = curves([read_side(Path("a"))], in_characters=True)
        assert whole == [(200, 3.0), (400, 2.0), (600, 1.0)]
        assert diverged == [(200, 3.0), (400, 2.0), (600, math.inf)]
        assert ends == [[500]]

    @pytest.mark.parametrize("losses", [(3.0, 2.0), ()])
    def test_a_run_that_diverged_has_a_cross(self, losses: tuple[float, ...]) -> None:
        """Also one of which there is nothing else to be drawn; at the top, in its colour."""
        a_run("a", "training.lr=0.01")
        a_run("b", "training.lr=0.02", losses=losses, ending="diverged")
        figure = self._drawn("a", "b")
        for axis in figure.axes:
            [cross] = [line for line in axis.get_lines() if line.get_marker() == "x"]
            assert (cross.get_color(), [x for x, _ in points(cross)]) == (COLOURS[1], [10 * len(losses) + 5])
            low, high = axis.get_ylim()
            _, [place] = axis.transAxes.inverted().transform(cross.get_transform().transform(cross.get_xydata())).T
            assert 0.95 < place < 1
            assert (low < 1.5, 2.9 < high < 5) == (True, True), "curves decide what is shown"
        [legend] = [shown for axis in figure.axes if (shown := axis.get_legend())]
        assert [text.get_text() for text in legend.get_texts()] == ["diverged, in the line's colour"]

    def test_no_cross_where_none_diverged(self) -> None:
        two_swarms([1.0, 1.2], [1.0, 1.3])
        for axis in self._drawn("hive/momentum=0.7", "hive/momentum=0.9").axes:
            assert axis.get_legend() is None
            assert "x" not in [line.get_marker() for line in axis.get_lines()]

    def test_no_median_without_the_bee_that_has_just_diverged(self) -> None:
        """At step 25: others have a line there, it has its divergence."""
        for seed, ending in ((1, "ended"), (2, "diverged")):
            bee = a_run(f"a/bee-{seed}", f"training.seed={seed}", ending=ending, losses=(3.0, 2.0))
            status = {"status": ending, "message": None, "val_loss": 2.0 if ending == "ended" else None}
            (bee / "result.json").write_text(json.dumps(status))
        rows = (Path("a/bee-1") / "metrics.jsonl").read_text().replace('"step": 20,', '"step": 25,')
        (Path("a/bee-1") / "metrics.jsonl").write_text(rows)
        training, _, _ = curves([read_side(Path("a"))], in_characters=False)
        assert training[0][1][-1] == (25, math.inf)
        assert middle(training[0])[-1] == (25, math.inf)

    @pytest.mark.parametrize(("setting", "characters"), [("batch_size=2", True), ("seq_len=5", True), ("lr=1", False)])
    def test_the_command_chooses_the_axis(self, setting: str, characters: bool) -> None:
        a_run("a")
        a_run("b", f"training.{setting}")
        assert run("compare", "a", "b", "-o", "a.svg").code == 0
        assert ("characters read" in Path("a.svg").read_text()) == characters

    def test_bytes_are_called_so(self) -> None:
        a_run("a", "corpus.vocabulary=bytes")
        a_run("b", "corpus.vocabulary=bytes", "training.seq_len=5")
        assert run("compare", "a", "b", "-o", "a.svg").code == 0
        for words in ("training loss, nats/byte", "validation loss, nats/byte", "bytes read"):
            assert words in Path("a.svg").read_text()

    @pytest.mark.parametrize(("lowest", "scale"), [(0.59, "log"), (0.7, "linear")])
    def test_a_log_axis_where_losses_span_much(self, lowest: float, scale: str) -> None:
        a_run("a", losses=(3.0, 2.0))
        a_run("b", losses=(3.0, lowest))
        _, validation = self._drawn("a", "b").axes
        assert validation.get_yscale() == scale

    @pytest.mark.parametrize(("lowest", "labels"), [(0.3, ["0.2", "0.5", "1", "2", "5"]), (1e-3, ["0.001", "0.01"])])
    def test_plain_numbers_on_it_and_not_too_many(self, lowest: float, labels: list[str]) -> None:
        a_run("a", losses=(3.0, lowest))
        a_run("b", losses=(3.0, 2.0))
        _, validation = self._drawn("a", "b").axes
        shown = [label.get_text() for label in validation.get_yticklabels()]
        assert set(labels) <= set(shown)
        assert len(shown) < 10

    def test_names_are_no_formulas(self) -> None:
        one = [[(1.0, 2.0)]]
        draw_curves([r"a$\b$"], [one], [one], [[]], False, "character").draw_without_rendering()

    def test_the_legend(self) -> None:
        names = [f"lr={10**-i:g}" for i in range(6)]
        for i, name in enumerate(names):
            a_run(name, f"training.lr={10**-i}")
        figure = self._drawn(*names)
        [shown] = figure.legends
        assert [text.get_text() for text in shown.get_texts()] == names
        looks = [(line.get_color(), line.get_linestyle()) for line in shown.get_lines()]
        assert len(set(looks)) == 6

    def test_more_than_there_are_colours(self) -> None:
        one = [[[(1.0, 2.0)]]] * 13
        [shown] = draw_curves([str(i) for i in range(13)], one, one, [[]] * 13, False, "character").legends
        looks = [(line.get_color(), line.get_linestyle()) for line in shown.get_lines()]
        assert len(set(looks)) == 13

    @pytest.mark.parametrize("suffix", list(STARTS))
    def test_formats(self, suffix: str) -> None:
        a_run("a")
        a_run("b")
        result = run("compare", "a", "b", "--json", "-o", f"a{suffix}")
        assert result.code == 0
        assert json.loads(result.out)
        assert f"Picture: a{suffix}" in result.err
        assert Path(f"a{suffix}").read_bytes().startswith(STARTS[suffix])

    def test_nothing_to_draw(self) -> None:
        a_run("a", losses=(), ending="unfinished")
        a_run("b", losses=(), ending="diverged")
        assert run("compare", "a", "b", "-o", "a.png").code == 0


def test_help_has_examples() -> None:
    result = run("compare", "--help")
    assert result.code == 0
    assert result.out.count("  charrnn compare ") == 3


def test_two_real_trainings() -> None:
    """The final loss is the one that training reported, and nothing in the folders changes."""
    Path("cat.txt").write_text(TEXT)
    Path("small.yaml").write_text(
        "corpus: {source: cat.txt}\n"
        "model: {hidden_size: 8, embedding_size: 4}\n"
        "training: {batch_size: 16, seq_len: 10, lr: 1e-2, max_steps: 20}\n"
        "run: {sample_length: 0, log_every: 5, eval_every: 10}\n"
    )
    for rate in ("1e-2", "1e-1"):
        assert run("train", "--config", "small.yaml", "--set", f"training.lr={rate}", "--name", rate).code == 0
    before = snapshot(Path("runs"))
    found = compared("runs/1e-2", "runs/1e-1")
    assert snapshot(Path("runs")) == before
    finals = []
    for side in found["sides"]:
        rows = [json.loads(line) for line in Path(side["path"], "metrics.jsonl").read_text().splitlines()]
        assert side["trainings"][0]["status"] == "ended"
        assert side["trainings"][0]["steps"] == 20
        assert side["trainings"][0]["final_val_loss"] == rows[-1]["val_loss"]
        finals.append(rows[-1]["val_loss"])
    assert found["warnings"] == []
    assert found["differing"] == {"training.lr": [0.01, 0.1]}
    assert found["contrasts"][0]["mean"] == pytest.approx(finals[1] - finals[0])
    assert finals[0] != finals[1]
