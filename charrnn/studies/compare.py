"""Runs, or swarms, against each other: the settings that differ, what came of them, and differences in paired seeds.

The first one is the reference. A pair is two trainings with one seed: what the seed does to both cancels, so that few
pairs tell more than many unpaired runs. Differences are theirs minus the reference's, nats per character: negative is
better.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charrnn.config.settings import shown
from charrnn.errors import UsageError
from charrnn.runs.metrics import without_nan
from charrnn.runs.run import refuse_twice
from charrnn.studies.bootstrap import FEWEST_PAIRS, Interval, paired_interval, sign_test
from charrnn.studies.compared import MEASURED, SEED, Side, Training, differing, read_side

# Settings that decide what a loss is a mean over, and per what: where one of them differs, losses do not compare.
YARDSTICKS = ("corpus.split", "corpus.vocabulary", "corpus.min_count", "run.eval_characters")
CERTAIN = 0.05  # two-sided p below which one side diverges more often than the other
LONGEST_LABEL = 40

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Contrast:
    """One side against the reference. ``differences`` by seed, where neither diverged; ``pairs`` counts those too
    where one or both did. ``divergence`` and ``verdict`` are plain words; no divergence verdict is None."""

    pairs: int
    differences: dict[int, float]
    diverged: int
    diverged_reference: int
    p_divergence: float
    mean: float | None
    interval: Interval | None
    divergence: str | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Everything that is known of the sides; ``contrasts`` has one for each side but the first."""

    sides: list[Side]
    labels: list[str]
    differing: dict[str, list[Any]]
    warnings: list[str]
    contrasts: list[Contrast]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``; None for NaN and inf."""
        values: dict[str, Any] = without_nan(
            {
                "sides": [_plain(side, label) for side, label in zip(self.sides, self.labels, strict=True)],
                "differing": self.differing,
                "warnings": self.warnings,
                "contrasts": [asdict(one) for one in self.contrasts],
            }
        )
        return values


def _plain(side: Side, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "path": str(side.path),
        "swarm": side.is_swarm,
        "waiting": side.waiting,
        "text": side.text,
        "settings": side.settings,
        "quartiles": {name: side.quartiles(name) for name in MEASURED},
        "trainings": [{name: getattr(one, name) for name in ("seed", "status", *MEASURED)} for one in side.trainings],
    }


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare what is in these folders with what is in the first.

    Raises:
        UsageError: they are fewer than two, or one is named twice.
        CheckpointError, ConfigError: one cannot be read.
    """
    if len(paths) < 2:
        raise UsageError("nothing to compare with; give at least two run folders, or swarm folders of a hive")
    refuse_twice(paths)
    sides = [read_side(path) for path in paths]
    settings = differing([side.settings for side in sides])
    if any(side.is_swarm for side in sides):
        settings.pop(SEED, None)
    contrasts = [contrast(sides[0], side) for side in sides[1:]]
    return Comparison(sides, _labels(sides, settings), settings, _warnings(sides), contrasts)


def _warnings(sides: Sequence[Side]) -> list[str]:
    warnings = [f"{side.path}: {why}: losses do not compare" for side in sides for why in incomparable(sides[0], side)]
    for side in sides:
        if side.text is None:
            warnings.append(f"{side.path}: does not say which text it read; losses compare on one and the same only")
        if side.trainings[0].status == "unfinished":  # bees without a result are not among them
            warnings.append(
                f"{side.path}: has not ended (step {side.trainings[0].steps:,}): its losses are those so far"
            )
        if failed := sum(one.status == "failed" for one in side.trainings):
            warnings.append(f"{side.path}: {failed} of {len(side.trainings)} bees failed, and count as diverged")
    return warnings


def incomparable(reference: Side, other: Side) -> list[str]:
    """Why the losses of two sides mean different things; empty where they do not. An unknown text is not held
    against it."""
    reasons = []
    if reference.text and other.text and reference.text["sha256"] != other.text["sha256"]:
        text, its = (f"{one['name']} (sha256 {one['sha256'][:8]})" for one in (reference.text, other.text))
        reasons.append(f"its text is {its}, that of {reference.path} is {text}")
    for name, (value, its_value) in differing([reference.settings, other.settings]).items():
        as_many = reference.evaluated is not None and reference.evaluated == other.evaluated
        if name in YARDSTICKS and not (name == "run.eval_characters" and as_many):
            reasons.append(f"its {name} is {shown(its_value)}, that of {reference.path} is {shown(value)}")
    return reasons


def contrast(reference: Side, other: Side) -> Contrast:
    """The paired difference of the final validation losses, and what it says."""
    losses, against = _final(other), _final(reference)
    pairs = {seed: (losses[seed], against[seed]) for seed in losses if seed in against}
    differences = {seed: a - b for seed, (a, b) in pairs.items() if math.isfinite(a) and math.isfinite(b)}
    only_other = sum(math.isfinite(b) and not math.isfinite(a) for a, b in pairs.values())
    only_reference = sum(math.isfinite(a) and not math.isfinite(b) for a, b in pairs.values())
    p = sign_test(only_other, only_reference)
    often = "more" if only_other > only_reference else "less"
    mean, interval, verdict = None, None, "no verdict: the losses do not compare"
    if not incomparable(reference, other):
        mean = sum(differences.values()) / len(differences) if differences else None
        interval = paired_interval(list(differences.values()))
        more_seeds, waits = _more_seeds(_fewer(reference, other)), _waits(reference, other)
        verdict = _verdict(len(pairs), len(differences), interval, more_seeds, waits)
    return Contrast(
        pairs=len(pairs),
        differences=differences,
        diverged=sum(math.isinf(a) for a, _ in pairs.values()),
        diverged_reference=sum(math.isinf(b) for _, b in pairs.values()),
        p_divergence=p,
        mean=mean,
        interval=interval,
        divergence=f"diverges {often} often" if p < CERTAIN else None,
        verdict=verdict,
    )


def _final(side: Side) -> dict[int, float]:
    return {one.seed: one.final_val_loss for one in side.trainings if one.final_val_loss is not None}


def _waits(*sides: Side) -> bool:
    """Whether both have a seed of which one has no validation loss yet."""
    return bool(set.intersection(*({one.seed for one in side.trainings} for side in sides)))


def _fewer(reference: Side, other: Side) -> Side:
    """The side that wants more seeds; the other one where both have as many, or only that is a swarm."""
    is_fewer = len(reference.trainings) < len(other.trainings)
    return reference if reference.is_swarm and (is_fewer or not other.is_swarm) else other


def _more_seeds(side: Side) -> str:
    hive = f"--resume {shlex.quote(str(side.path.parent))}" if side.is_swarm else "--config NAME"
    return f"'charrnn swarm {hive} --seeds 10' trains more seeds"


def _verdict(pairs: int, compared: int, interval: Interval | None, advice: str, waits: bool) -> str:
    if interval is not None:
        unclear = f"cannot be told apart with {compared} pairs"
        return "better" if interval.high < 0 else "worse" if interval.low > 0 else unclear
    if not pairs and waits:
        return "no verdict: a training has no validation loss yet; wait for its first evaluation (run.eval_every)"
    if not pairs:
        return f"no seed that both have, so no verdict; {advice}"
    if compared < FEWEST_PAIRS:
        return f"no verdict from fewer than {FEWEST_PAIRS} pairs; {advice}"
    return f"no verdict: too many of the {compared} differences are equal; {advice}"


def _labels(sides: Sequence[Side], settings: dict[str, list[Any]]) -> list[str]:
    """Short names: the settings of the experiment that differ; where that is no name, the folders'; else the paths."""
    telling = {
        name: values for name, values in settings.items() if name.split(".")[0] in ("corpus", "model", "training")
    }
    by_settings = [
        ", ".join(f"{name.split('.', 1)[1]}={shown(values[i])}" for name, values in telling.items())
        for i in range(len(sides))
    ]
    by_folder = [side.path.resolve().name for side in sides]
    for labels in (by_settings, by_folder):
        if len(set(labels)) == len(sides) and max(map(len, labels)) <= LONGEST_LABEL:
            return labels
    return [str(side.path) for side in sides]


def curves(
    sides: Sequence[Side], in_characters: bool
) -> tuple[list[list[Points]], list[list[Points]], list[list[float]]]:
    """For each side the curve of each training: training loss and validation loss, nats per character, over steps, or
    over the characters read by then (full windows). A training that diverged is at infinity from then on, as far as
    its side goes. Last, where each side's trainings diverged."""
    training, validation, ends = [], [], []
    for side in sides:
        per_step = side.settings["training.batch_size"] * side.settings["training.seq_len"] if in_characters else 1
        training.append(_points(side.trainings, "logs", "train_loss", per_step))
        validation.append(_points(side.trainings, "evaluations", "val_loss", per_step))
        ends.append([float(one.steps * per_step) for one in side.trainings if one.diverged])
    return training, validation, ends


def _points(trainings: Sequence[Training], rows: str, key: str, per_step: int) -> list[Points]:
    drawn = [[(row["step"] * per_step, row[key]) for row in getattr(one.history, rows)] for one in trainings]
    places = sorted({x for points in drawn for x, _ in points})
    for one, points in zip(trainings, drawn, strict=True):
        if one.diverged:
            last = points[-1][0] if points else -1  # a divergence itself is no point
            points += [(x, math.inf) for x in places if x > last]
    return drawn
