"""Hives flown in this process: interrupted or not, grown, repaired, summed up."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.studies.swarm.bee import fallen
from charrnn.studies.swarm.colony import Colony
from charrnn.studies.swarm.results import summary
from charrnn.studies.swarm.study import results_of
from charrnn.text.places import Places
from tests.command_line import snapshot
from tests.helpers import differences
from tests.hives import Seen, bee_config, bees_of, colony_of, comparable, files_of, flown, make, without_clock


@pytest.fixture
def colony(text_file: Path, places: Places) -> Colony:
    return colony_of(bee_config(text_file), places)


class TestSummary:
    @given(st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=20))
    def test_is_numpy_s(self, losses: list[float | None]) -> None:
        bees = [
            {"status": "ended" if loss is not None else "diverged", "val_loss": loss, "seconds": float(index)}
            for index, loss in enumerate(losses)
        ]
        found = summary(bees)
        # numpy knows no quantiles between infinities: a number that is far beyond any loss tells where they are.
        huge = 1e12
        numbers = [huge if loss is None else loss for loss in losses]
        expected = [float(np.quantile(numbers, share)) for share in (0.25, 0.5, 0.75)]
        for number, known in zip(
            [found["quartiles"][0], found["median"], found["quartiles"][1]], expected, strict=True
        ):
            assert number == pytest.approx(known) if known < huge / 100 else number == math.inf
        assert found["count"] == len(losses)
        assert found["diverged"] == losses.count(None) / len(losses)
        assert found["seconds"] == statistics.median(range(len(losses)))

    def test_failed_counts_as_lost(self) -> None:
        bees = [
            {"status": one, "val_loss": 1.0 if one == "ended" else None, "seconds": 1.0} for one in ("ended", "failed")
        ]
        assert summary(bees) == {
            "median": math.inf,
            "quartiles": [math.inf, math.inf],
            "diverged": 0.5,
            "count": 2,
            "seconds": 1.0,
        }

    def test_of_none(self) -> None:
        assert (summary([])["count"], summary([])["median"], summary([])["diverged"]) == (0, math.inf, 0.0)


class TestFlight:
    """Hives flown in this process."""

    @pytest.mark.parametrize("together", [1, 3])
    def test_interrupted_or_not(self, colony: Colony, together: int) -> None:
        """The same bees, bit for bit, whenever it was interrupted; none is trained twice, none is missing."""
        whole, parts = make(colony, "whole"), make(colony, "parts")
        colony = colony.with_seeds(3)
        flown(colony, whole, together)
        landed: list[str] = []
        for _ in range(20):
            before = bees_of(parts.path)
            seen = Seen()
            flown(colony, parts, together, seen, stop=lambda seen=seen: seen.anew)  # type: ignore[misc]
            assert differences(before, {place: bees_of(parts.path)[place] for place in before}) == []
            assert sorted(seen.before) == sorted(landed)
            landed += seen.anew
            if not seen.anew:
                break
        assert len(landed) == len(set(landed)) == 6
        assert differences(comparable(whole), comparable(parts)) == []
        tables = [timeless(results_of(colony, hive)) for hive in (whole, parts)]
        assert tables[0] == tables[1]

    @pytest.mark.parametrize("together", [1, 2, 4])
    def test_more_seeds_leave_the_others_as_they_are(self, colony: Colony, together: int) -> None:
        hive = make(colony)
        flown(colony, hive, together)
        before = snapshot(hive.path)
        seen = flown(colony.with_seeds(3), hive, together)
        assert sorted(seen.anew) == ["lr=0.01/bee-3", "lr=0.03/bee-3"]
        after = snapshot(hive.path)
        assert {name: after[name] for name in before} == before

    @pytest.mark.parametrize("together", [1, 3])
    def test_failed_ones_are_tried_again(self, colony: Colony, together: int) -> None:
        """With those that they flew with, which are there already, or the last digits would be others."""
        hive = make(colony)
        flown(colony, hive, together)
        before = bees_of(hive.path)
        task, _ = colony.tasks(hive, 1)[1]
        hive.keep(fallen(task, "an eagle"))
        one = results_of(colony, hive)["swarms"][1]["bees"][0]
        assert (one["status"], one["message"], one["curve"]["step"]) == ("failed", "an eagle", [])
        assert flown(colony, hive, together).anew == [task.place]
        assert differences(before, bees_of(hive.path)) == []

    def test_results(self, colony: Colony) -> None:
        """Are those of the files."""
        hive = make(colony)
        flown(colony, hive)
        results = results_of(colony.with_seeds(3), hive)
        assert json.loads(json.dumps(results)) == json.loads(hive.json.read_text())
        assert (results["name"], results["text"], results["groups"]) == ("cat-swarm", "cat.txt", [["training.lr"]])
        for swarm in results["swarms"]:
            assert [bee["status"] for bee in swarm["bees"]] == ["ended", "ended", "waiting"]
            losses = []
            for bee in swarm["bees"][:2]:
                files = without_clock(files_of(hive.path / swarm["name"] / f"bee-{bee['seed']}"))
                logs = [row for row in files["metrics.jsonl"] if "train_loss" in row]
                assert bee["curve"]["train_loss"] == [row["train_loss"] for row in logs]
                assert bee["curve"]["step"] == [row["step"] for row in logs] == list(range(1, 9))
                assert [step for step, _ in bee["samples"]] == [4, 8]
                losses.append(files["result.json"]["val_loss"])
                assert bee["val_loss"] == losses[-1]
            assert swarm["median"] == pytest.approx(np.median(losses))
            assert swarm["quartiles"] == pytest.approx(np.quantile(losses, [0.25, 0.75]))
            assert (swarm["count"], swarm["diverged"]) == (2, 0)

    @pytest.mark.parametrize("random", ["false", "true"])
    def test_characters_read(self, random: str, text_file: Path, places: Places) -> None:
        """Of a step always as many, or else as the epochs tell."""
        colony = colony_of(bee_config(text_file, f"training.random_seq_len={random}"), places)
        hive = make(colony)
        flown(colony, hive)
        training, characters = colony.base.training, int(0.9 * len(text_file.read_text()))
        for swarm in results_of(colony, hive)["swarms"]:
            for bee in swarm["bees"]:
                curve = bee["curve"]
                full = [step * training.batch_size * training.seq_len for step in curve["step"]]
                by_epochs = [round(epoch * characters) for epoch in curve["epoch"]]
                assert curve["characters"] == (by_epochs if random == "true" else full)
                assert by_epochs[-1] == pytest.approx(full[-1], rel=0.5), "lengths vary by so much"


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    """Without times and the hive's name."""
    plain: dict[str, Any] = json.loads(json.dumps(results), object_hook=_without_seconds)
    return {**plain, "name": ""}


def _without_seconds(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "seconds"}
