"""Which units follow a property of the text, and how much of that is chance. Pure numpy; knows no network.

With hundreds of units the best of many correlations is never small. So the units are ranked on the first half of the
text, by the size of their correlation with the property (Pearson; for yes and no that is the point-biserial one), and
what they are worth is measured on the second half. What chance would give is found by doing all of that again with the
property shifted around in a circle, each half within itself: that keeps its rhythm and the units' slowness, which a
formula for independent characters would forget, and takes away only what ties them together.

Shapes: N characters, U units, S shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.studies.properties import Property, Values, stretches

States = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]

SHIFTS = 200
SHIFTS_AT_ONCE = 25  # 25 properties of 100,000 characters: 10 MB
CONFIDENCE = 0.95
NEAREST_SHIFT = 0.05  # of a half: shifts by less would leave a slow property where it was
FEWEST_STRETCHES = 5  # in each half: characters of one quotation are not many observations but one
BEST = 3
SEED = 1506_02078  # any: the same text shall give the same answer


@dataclass(frozen=True)
class Tracker:
    """A unit (its column of the states): correlation on the half it was ranked on and on the other one.

    ``auc``, for yes or no: how often, on the second half, the unit tells a character that has the property from one
    that has not.
    """

    unit: int
    ranked: float
    held_out: float
    auc: float | None


@dataclass(frozen=True)
class Tracked:
    """A property, how often it begins in each half, and the units that follow it best, the best one first.

    ``chance_ranked`` and ``chance_held_out``: what the best of all units stays below in 95 % of the shifts. There are
    neither units nor chance where a property is not present often enough.
    """

    what: Property
    begins: tuple[int, int]
    best: tuple[Tracker, ...] = ()
    chance_ranked: float | None = None
    chance_held_out: float | None = None

    @property
    def is_present(self) -> bool:
        """Whether it begins often enough in both halves."""
        return min(self.begins) >= FEWEST_STRETCHES

    def holds(self, tracker: Tracker) -> bool:
        """Whether the second half confirms a unit: the same sign, and above chance."""
        same = tracker.ranked * tracker.held_out > 0
        return self.chance_held_out is not None and same and abs(tracker.held_out) > self.chance_held_out


def track(states: States, values: Values, prop: Property) -> Tracked:
    """Rank the units, states (N, U), by how well they follow ``values``, (N,), of a property."""
    middle = len(values) // 2
    begins = stretches(values[:middle]), stretches(values[middle:])
    if min(begins) < FEWEST_STRETCHES:
        return Tracked(prop, begins)
    first, second = _standardised(states[:middle]), _standardised(states[middle:])
    ranked, held_out = (
        _correlations(half, part[:, None])[:, 0] for half, part in ((first, values[:middle]), (second, values[middle:]))
    )
    order = np.argsort(-np.abs(ranked), kind="stable")[:BEST]
    best = tuple(
        Tracker(
            int(unit),
            float(ranked[unit]),
            float(held_out[unit]),
            auc(states[middle:, unit] * np.sign(ranked[unit]), values[middle:] > 0) if prop.is_yes_no else None,
        )
        for unit in order
    )
    chance = _chance(first, second, values)
    return Tracked(prop, begins, best, *chance)


def auc(scores: Numbers, labels: NDArray[np.bool_]) -> float:
    """The share of pairs, one with the label and one without, that ``scores`` put in order; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
    yes, no = int(labels.sum()), int((~labels).sum())
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / (yes * no))


def _standardised(columns: Numbers) -> Numbers:
    """Each column, (N, C), with mean 0 and length 1; a constant one becomes zeros."""
    centred = columns - columns.mean(axis=0, dtype=np.float64).astype(columns.dtype)
    length = np.sqrt(np.einsum("nc,nc->c", centred, centred, dtype=np.float64))
    flat = length <= 1e-6 * np.sqrt(len(columns))
    standardised: Numbers = (centred / np.where(flat, np.inf, length)).astype(columns.dtype)
    return standardised


def _correlations(standardised: Numbers, values: Numbers) -> Numbers:
    """Of each unit with each column of ``values``, (N, C): (U, C)."""
    products: Numbers = standardised.T @ _standardised(values).astype(standardised.dtype)
    return products


def _chance(first: Numbers, second: Numbers, values: Values) -> tuple[float, float]:
    """The size of the best unit's correlation, on the half it was chosen on and on the other, that chance gives."""
    middle = len(first)
    shifts = np.random.default_rng(SEED).uniform(NEAREST_SHIFT, 1 - NEAREST_SHIFT, (SHIFTS, 2))
    ranked: list[float] = []
    held_out: list[float] = []
    for block in np.split(shifts, range(SHIFTS_AT_ONCE, SHIFTS, SHIFTS_AT_ONCE)):
        one = np.abs(_correlations(first, _shifted(values[:middle], block[:, 0])))
        other = np.abs(_correlations(second, _shifted(values[middle:], block[:, 1])))
        chosen, each = one.argmax(axis=0), np.arange(len(block))
        ranked += one[chosen, each].tolist()
        held_out += other[chosen, each].tolist()
    return _quantile(ranked), _quantile(held_out)


def _quantile(sizes: Sequence[float]) -> float:
    return float(np.quantile(sizes, CONFIDENCE))


def _shifted(values: Values, shares: Numbers) -> Values:
    """``values``, (N,), moved around in a circle by shares of their length, (S,): (N, S)."""
    by = (shares * len(values)).astype(np.int64)
    moved: Values = values[(np.arange(len(values))[:, None] - by) % len(values)]
    return moved
