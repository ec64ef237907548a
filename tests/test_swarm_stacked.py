"""Bees that are trained as one computation: each as it would be alone, within rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from charrnn.config.loader import load_config, revise_config
from charrnn.config.schema import Config
from charrnn.runs.metrics import read_metrics
from charrnn.studies.swarm.bee import HERE, Landed, train_bees
from charrnn.studies.swarm.colony import Point
from charrnn.studies.swarm.hive import Hive
from charrnn.text.places import Places
from charrnn.training.loop import Outcome
from tests.helpers import OBSERVED_KEYS, comparable_rows, resumed, train
from tests.hives import bee_config, by_place, colony_of
from tests.test_swarm_bees import DIVERGING, RESULT_KEYS, kept


def close(expected: Any) -> Any:
    """Within rounding of float32, grown over a few steps."""
    return pytest.approx(expected, rel=1e-3, abs=1e-4)


def both_ways(config: Config, places: Places, axes: list[list[Point]] | None = None) -> list[tuple[Landed, Landed]]:
    """Every bee alone, and all of them stacked."""
    colony = colony_of(config, places, axes=axes)
    parcel = colony.swarms[0][1]
    tasks = tuple(task for task, _ in colony.tasks(Hive(Path("hive")), 1))
    alone = [landed for task in tasks for landed in train_bees(parcel, (task,), True)]
    stacked = train_bees(parcel, tasks, True)
    assert [one.task for one in stacked] == list(tasks)
    return list(zip(alone, stacked, strict=True))


def rows(landed: Landed, folder: str) -> list[dict[str, Any]]:
    """Its metrics without samples: a rounding may change a letter."""
    found = comparable_rows(kept(landed, Path(folder)).metrics)
    return [{key: value for key, value in row.items() if key != "sample"} for row in found]


@pytest.mark.parametrize(
    "assignments",
    [(), ("model.cell=gru", "training.optimizer=adamw"), ("training.optimizer=sgd", "model.num_layers=2")],
)
def test_as_alone(assignments: tuple[str, ...], text_file: Path, places: Places) -> None:
    for alone, stacked in both_ways(bee_config(text_file, *assignments), places):
        expected, found = rows(alone, "alone"), rows(stacked, "stacked")
        assert len(expected) == 10  # a line for each step, two evaluations
        for solo, one in zip(expected, found, strict=True):
            assert solo.keys() - OBSERVED_KEYS == one.keys()
            assert one == close({key: solo[key] for key in one})
        assert alone.files.keys() == stacked.files.keys()
        assert stacked.files["config.yaml"] == alone.files["config.yaml"]
        assert stacked.result.keys() == RESULT_KEYS
        numbers = {key: value for key, value in alone.result.items() if isinstance(value, float) and key != "seconds"}
        assert {key: stacked.result[key] for key in numbers} == close(numbers)
        assert (stacked.result["status"], stacked.result["steps"]) == ("ended", 8)


def test_they_can_be_resumed(text_file: Path, places: Places) -> None:
    """By ``charrnn train``; what follows is what follows on a bee that was alone."""
    for alone, stacked in both_ways(bee_config(text_file), places):
        after = []
        for one, out in ((alone, "alone"), (stacked, "stacked")):
            bee = kept(one, Path(out))
            session = resumed(bee.path, places, revise_config(load_config(bee.config), ["training.max_steps=16"]))
            assert session.trainer.steps == 8
            assert train(session) is Outcome.LIMIT
            after.append(list(read_metrics(bee.metrics))[-1])
        assert after[0]["step"] == after[1]["step"] == 16
        assert after[1]["val_loss"] == close(after[0]["val_loss"])


def test_one_that_diverges_leaves_the_others_alone(text_file: Path, places: Places) -> None:
    axis: list[Point] = [{"training.lr": 0.01}, {"training.lr": 1000}]
    config = bee_config(text_file, *DIVERGING, "training.momentum=0", "training.weight_decay=0", "training.lr=0.01")
    pairs = both_ways(revise_config(config, ["training.momentum=0.99", "training.weight_decay=0.1"]), places, [axis])
    statuses = [(alone.result["status"], stacked.result["status"]) for alone, stacked in pairs]
    assert statuses == [("ended", "ended"), ("diverged", "diverged")] * 2
    for alone, stacked in pairs[::2]:
        assert stacked.result["val_loss"] == close(alone.result["val_loss"])
    for alone, stacked in pairs[1::2]:
        same = ("message", "steps")
        assert [stacked.result[key] for key in same] == [alone.result[key] for key in same]
        assert stacked.files.keys() == alone.files.keys()


def test_samples_and_progress(text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(HERE, "advanced", told.append)
    colony = colony_of(bee_config(text_file), places)
    tasks = tuple(task for task, _ in colony.tasks(Hive(Path("hive")), 1))
    landed = train_bees(colony.swarms[0][1], tasks, False)
    assert sum(told) == pytest.approx(len(tasks))
    for bee in by_place(landed).values():
        evaluations = [row for row in bee["metrics.jsonl"] if "val_loss" in row]
        assert [len(row["sample"]) for row in evaluations] == [5, 5]
        assert bee["samples.txt"].count(b"--- step") == 2


def test_an_error_of_the_whole_is_the_executor_s(
    text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one it was nobody knows: the crew tries them one by one."""

    def raising(*_: object) -> None:
        raise RuntimeError("out of something")

    monkeypatch.setattr("charrnn.training.stacked.StackedTrainer.step", raising)
    colony = colony_of(bee_config(text_file), places)
    tasks = tuple(task for task, _ in colony.tasks(Hive(Path("hive")), 1))
    with pytest.raises(RuntimeError, match="out of something"):
        train_bees(colony.swarms[0][1], tasks, True)
