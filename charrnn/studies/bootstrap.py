"""What paired experiments tell: an interval for the mean difference, and whether one side fails more often.

Pure statistics, in whatever unit the differences have. The interval is the studentized bootstrap (bootstrap-t): Efron
and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 12.5. The plain percentile interval is too narrow for
a handful of pairs (Hesterberg 2014, https://arxiv.org/abs/1411.5279): at five it covers the truth in 84 % of normal
experiments instead of 95 %, the studentized one in 95 % (``tests/test_bootstrap.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Table = np.ndarray[Any, np.dtype[np.float64]]

FEWEST_PAIRS = 4
RESAMPLES = 10_000
SEED = 1411_5279  # any: the same runs shall give the same interval
SMALLEST_VARIANCE = 1e-12  # of a resample, relative to that of the differences: below it all its members are equal
MOST_WITHOUT_SPREAD = 0.05  # share of resamples: the tails, which the interval is read from, would be made of the rest


@dataclass(frozen=True)
class Interval:
    """The mean of ``pairs`` differences, and where the true mean lies with the confidence asked for."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """A bootstrap-t interval for the mean of differences, (n,), all finite.

    Each resample gives t* = (mean* - mean) / (s* / sqrt n), and the interval is mean - t* s / sqrt n at the two outer
    quantiles of t*. Equal differences give an interval of no width. None for fewer than ``FEWEST_PAIRS``, or where
    equal differences are so many that too many resamples have no spread to divide by.
    """
    values = np.array(differences, dtype=float)
    assert values.ndim == 1, "one difference per pair"
    assert np.isfinite(values).all(), "a pair that diverged has no difference"
    count = len(values)
    if count < FEWEST_PAIRS:
        return None
    mean, spread = float(values.mean()), float(values.std())
    if values.min() == values.max():
        return Interval(float(values[0]), float(values[0]), float(values[0]), count)
    # In units of the spread around the mean; (resamples,).
    scaled = (values - mean) / spread
    means = _weights(count) @ scaled
    variances = _weights(count) @ scaled**2 - means**2
    usable = variances > SMALLEST_VARIANCE
    if usable.mean() < 1 - MOST_WITHOUT_SPREAD:
        return None
    # Both spreads are over n, not n - 1: that factor cancels, and so does sqrt n.
    ratios = means[usable] / np.sqrt(variances[usable])
    lower, upper = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, mean - float(upper) * spread, mean - float(lower) * spread, count)


@lru_cache(maxsize=8)
def _weights(count: int) -> Table:
    """How often each of ``count`` values is in each resample, over ``count``: (RESAMPLES, count)."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(count, [1 / count] * count, size=RESAMPLES) / count


def sign_test(first: int, second: int) -> float:
    """Two-sided p of a fair coin falling ``first`` times on one side and ``second`` times on the other, or less evenly.

    The exact form of McNemar's test (1947), for pairs where exactly one of the two failed. 1 where there are none.
    """
    tosses = first + second
    tail: float = sum(math.comb(tosses, k) for k in range(min(first, second) + 1)) / 2**tosses
    return min(1.0, 2 * tail)
