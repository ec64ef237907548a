"""What can be compared: a run, or a swarm (the bees of one combination of settings), as its folder tells it.

Only files that people can read are opened; a run may still be training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.errors import CheckpointError
from charrnn.runs.directory import RunFolder
from charrnn.runs.history import History
from charrnn.runs.run import Run, read_json, read_run, reading
from charrnn.text.encoded import split_spans

SEED = "training.seed"
# Where a run is kept and what computes it: two trainings with only these different are the same experiment.
NO_EXPERIMENT = {"run.name", "run.out", "run.note", "run.tracker", "training.threads", "training.device"}
RESULT, HIVE = "result.json", "hive.yaml"
MEASURED = ("steps", "final_val_loss", "best_val_loss", "train_loss", "seconds")
SHOWN_SWARMS = 6  # in the message for a hive


@dataclass(frozen=True)
class Training:
    """One run or bee. Losses in nats per character: ``final_val_loss`` is infinite if it diverged or failed, and
    None, like the others, where nothing was measured yet. ``status``: ended, unfinished, diverged or failed."""

    seed: int
    status: str
    steps: int
    seconds: float | None
    final_val_loss: float | None
    best_val_loss: float | None
    train_loss: float | None
    history: History

    @property
    def diverged(self) -> bool:
        """Whether it came to no loss: also where it failed in another way."""
        return self.status in ("diverged", "failed")


@dataclass(frozen=True)
class Side:
    """What one path holds. ``settings`` by dotted name; ``text`` is what environment.json says of it (name, sha256),
    None if nothing; ``waiting`` counts bees without a result, which are not among the ``trainings``; an evaluation read
    ``evaluated`` characters, None if that is not known."""

    path: Path
    settings: dict[str, Any]
    text: dict[str, str] | None
    trainings: list[Training]
    is_swarm: bool
    waiting: int = 0
    evaluated: int | None = None

    def quartiles(self, name: str) -> list[float | None]:
        """Lower quartile, median and upper quartile of one of ``MEASURED`` over the trainings that have it; infinite
        ones count."""
        values = [value for one in self.trainings if (value := getattr(one, name)) is not None]
        return [quantile(values, share) if values else None for share in (0.25, 0.5, 0.75)]


def read_side(path: Path) -> Side:
    """The run or swarm in a folder.

    Raises:
        CheckpointError: there is none, or a file in it is damaged.
        ConfigError: its config is not one of this version.
    """
    with reading(path):
        return _read_folder(path)


def _read_folder(path: Path) -> Side:
    if (path / HIVE).exists():
        swarms = sorted(str(inner) for inner in path.iterdir() if _bees(inner))
        named = ", ".join(swarms[:SHOWN_SWARMS]) + (", ..." if len(swarms) > SHOWN_SWARMS else "")
        raise CheckpointError(f"{path}: is a hive; give two of its swarms: {named or 'there are none yet'}")
    if RunFolder(path).config.exists():
        run = read_run(path)
        return Side(path, run.settings, run.text, [_training(run)], is_swarm=False, evaluated=_evaluated(run))
    if bees := _bees(path):
        return _read_swarm(path, bees)
    raise CheckpointError(f"{path}: holds no config.yaml and no bee; give a run folder, or a swarm folder of a hive")


def _bees(path: Path) -> list[Path]:
    numbered = [(one.name.removeprefix("bee-"), one) for one in path.glob("bee-*") if one.is_dir()]
    return [one for number, one in sorted(numbered, key=lambda pair: (len(pair[0]), pair[0])) if number.isdigit()]


def _read_swarm(path: Path, bees: list[Path]) -> Side:
    done = [bee for bee in bees if (bee / RESULT).exists()]
    if not done:
        raise CheckpointError(f"{path}: no bee has ended yet; give another swarm, or wait")
    runs = [read_run(bee) for bee in done]
    for run in runs:
        own = {SEED, *_moved_text(runs[0], run)}
        if different := [name for name in differing([runs[0].settings, run.settings]) if name not in own]:
            raise CheckpointError(
                f"{run.path}: is not a bee of the same swarm as {done[0].name}: {different[0]} differs; "
                "give the two as runs"
            )
    trainings, waiting = [_training(run) for run in runs], len(bees) - len(done)
    return Side(path, runs[0].settings, runs[0].text, trainings, True, waiting, _evaluated(runs[0]))


def _moved_text(first: Run, other: Run) -> set[str]:
    """The setting that says where a text is, if both read the same: a hive may go on with it at another place."""
    texts = [run.text and run.text["sha256"] for run in (first, other)]
    return {"corpus.source"} if None not in texts and texts[0] == texts[1] else set()


def _evaluated(run: Run) -> int | None:
    """Characters that an evaluation reads: of a short validation part all, whatever the limit."""
    if run.characters is None:
        return None
    first, end = split_spans(run.characters, run.config.corpus.split)["val"]
    return min(end - first, run.config.run.eval_characters)


def differing(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The settings, by dotted name, that are not equal in all, with the value of each; none of ``NO_EXPERIMENT``."""
    columns = {name: [one.get(name) for one in settings] for one in settings for name in one}
    return {
        name: values
        for name, values in columns.items()
        if name not in NO_EXPERIMENT and any(value != values[0] for value in values)
    }


def _training(run: Run) -> Training:
    history = run.history
    last = history.evaluations[-1]["val_loss"] if history.evaluations else None
    status, final = ("diverged", math.inf) if run.diverged else ("ended" if run.ended else "unfinished", last)
    status, final = bee_result(run) or (status, final)
    return Training(
        seed=run.settings[SEED],
        status=status,
        steps=history.steps,
        seconds=run.seconds,
        final_val_loss=final,
        best_val_loss=run.best["val_loss"] if run.best else (math.inf if final == math.inf else None),
        train_loss=history.logs[-1]["train_loss"] if history.logs else None,
        history=history,
    )


def bee_result(run: Run) -> tuple[str, float] | None:
    """How a bee came to its end (ended, diverged, failed), and its final validation loss, infinite if not well. None
    for a run that is no bee, or that ``train --resume`` took further than its result tells.

    Raises:
        CheckpointError: its ``RESULT`` is damaged.
    """
    path = run.path / RESULT
    if not path.exists():
        return None
    values = read_json(path)
    status, loss = values.get("status"), values.get("val_loss")
    if status not in ("ended", "diverged", "failed") or not isinstance(loss, float | None):
        raise CheckpointError(f"{path}: not the result of a bee; restore it, or leave this swarm out")
    last = run.metrics[-1]["step"] if run.metrics else 0
    if isinstance(steps := values.get("steps"), int) and last > steps:
        return None
    if status == "ended" and (loss is None or not math.isfinite(loss)):
        status = "diverged"
    return status, loss if status == "ended" and loss is not None else math.inf


def quantile(values: Sequence[float], share: float) -> float:
    """As numpy's, but infinite rather than NaN where the upper neighbour is infinite."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))
