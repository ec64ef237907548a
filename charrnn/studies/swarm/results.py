"""What the bees of a hive say together, read from its folder alone: curves, medians, quartiles, shares diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from charrnn.config.schema import Config
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import read_metrics, without_nan
from charrnn.studies.compared import quantile
from charrnn.studies.swarm.bee import LOSSES, Task
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.plan import Swarm
from charrnn.studies.swarm.texts import Parcel

Results = dict[str, Any]
WAITING = {"status": "waiting", "message": None, "steps": 0, "seconds": 0.0, **dict.fromkeys(LOSSES)}


def collect(hive: Hive, swarms: Sequence[tuple[Swarm, Parcel]], seeds: list[int], groups: list[list[str]]) -> Results:
    """The content of ``hive.json``.

    ``vocabularies`` says what was read: characters, bytes. ``swarms`` has one entry per combination: its labels (one
    per group) and settings; its text, with how many symbols and which entropies; median and quartiles of the final
    validation loss over its bees (a bee that diverged or failed counts as infinite: null where that decides), shares;
    and of each bee its result, curve and samples.

    Raises:
        CheckpointError: a bee's files are damaged.
    """
    per_step = {_per_step(swarm.config) for swarm, _ in swarms}
    results = {
        "name": hive.path.name,
        "text": ", ".join(dict.fromkeys(one.text.name for _, one in swarms)),
        "vocabularies": sorted({one.text.vocabulary.kind for _, one in swarms}),
        "groups": groups,
        "seeds": seeds,
        "per_step": per_step.pop() if len(per_step) == 1 else None,
        "swarms": [_swarm(hive, swarm, seeds, parcel) for swarm, parcel in swarms],
    }
    plain: Results = without_nan(results)
    return plain


def _per_step(config: Config) -> int | None:
    """Characters read in a step, where it is always as many."""
    return None if config.training.random_seq_len else config.training.batch_size * config.training.seq_len


def _swarm(hive: Hive, swarm: Swarm, seeds: list[int], parcel: Parcel) -> dict[str, Any]:
    text = parcel.text
    first, end = text.spans["train"]  # the parcel's text is without its ids
    per_step = _per_step(swarm.config)
    bees = [_bee(hive, Task(swarm.name, swarm.bee_config(seed)), per_step, end - first) for seed in seeds]
    known = [bee for bee in bees if bee["status"] != "waiting"]
    return {
        "name": swarm.name,
        "labels": swarm.labels,
        "settings": swarm.settings,
        "text": text.name,
        "symbols": len(text.vocabulary),
        "unigram": parcel.entropies["unigram"],
        "uniform": math.log(len(text.vocabulary)),
        **summary(known),
        "bees": bees,
    }


def summary(bees: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and quartiles of the final validation loss, share diverged (or failed), and how many bees that is of."""
    losses = [math.inf if bee["val_loss"] is None else bee["val_loss"] for bee in bees]
    lost = [bee for bee in bees if bee["status"] in ("diverged", "failed")]
    quartiles = [quantile(losses, share) for share in (0.25, 0.75)] if losses else [math.inf, math.inf]
    return {
        "median": median(losses) if losses else math.inf,
        "quartiles": quartiles,
        "diverged": len(lost) / len(bees) if bees else 0.0,
        "count": len(bees),
        "seconds": median(bee["seconds"] for bee in bees) if bees else 0.0,
    }


def _bee(hive: Hive, task: Task, per_step: int | None, train_characters: int) -> dict[str, Any]:
    result = hive.result(task)
    curve: dict[str, list[Any]] = {"step": [], "epoch": [], "characters": [], "train_loss": []}
    samples: list[tuple[int, str]] = []
    if result is None:
        return {"seed": task.seed, **WAITING, "curve": curve, "samples": samples}
    metrics = RunFolder(hive.path / task.place).metrics
    for row in read_metrics(metrics) if metrics.exists() else ():
        if row["step"] > result.get("steps", math.inf):
            break  # "train --resume" took this bee further than the hive did
        if "train_loss" in row or "steps_not_finite" in row:
            curve["step"].append(row["step"])
            curve["epoch"].append(row["epoch"])
            # An epoch has four decimals, of a large text too few.
            read = row["epoch"] * train_characters if per_step is None else row["step"] * per_step
            curve["characters"].append(round(read))
            curve["train_loss"].append(row.get("train_loss"))
        elif "sample" in row:
            samples.append((row["step"], row["sample"]))
    return {"seed": task.seed, **{key: result.get(key) for key in WAITING}, "curve": curve, "samples": samples}
