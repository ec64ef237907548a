"""Intervals of paired differences: their coverage against known truth, and what cannot be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from charrnn.studies import bootstrap
from charrnn.studies.bootstrap import FEWEST_PAIRS, Interval, paired_interval, sign_test

EXPERIMENTS = 1000
Draw = Callable[[np.random.Generator, int], np.ndarray[Any, Any]]
# Each with its true mean.
NORMAL: tuple[Draw, float] = (lambda rng, n: rng.normal(-0.03, 0.02, n), -0.03)
SKEWED: tuple[Draw, float] = (lambda rng, n: rng.lognormal(0.0, 0.5, n) - 1, math.exp(0.125) - 1)
FINITE = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: round(value, 6))


def percentile_interval(differences: list[float]) -> Interval:
    """The plain bootstrap, which is too narrow for few pairs: what this program must not do."""
    rng = np.random.default_rng(5)
    means = rng.choice(differences, (2000, len(differences))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(np.mean(differences)), float(low), float(high), len(differences))


def coverage(interval: Callable[[list[float]], Interval | None], kind: tuple[Draw, float], pairs: int) -> float:
    """The share of simulated experiments whose interval holds the true mean."""
    draw, truth = kind
    rng = np.random.default_rng(20)
    held = 0
    for _ in range(EXPERIMENTS):
        found = interval(draw(rng, pairs).tolist())
        assert found is not None
        held += found.low <= truth <= found.high
    return held / EXPERIMENTS


class TestCoverage:
    """Three standard errors of a share of 95 % in 1,000 are 0.02; skewed differences may lack another 0.01."""

    @pytest.mark.parametrize("pairs", [5, 10, 20])
    @pytest.mark.parametrize(("kind", "lowest"), [(NORMAL, 0.93), (SKEWED, 0.92)], ids=["normal", "skewed"])
    def test_the_truth_is_inside_as_often_as_promised(
        self, kind: tuple[Draw, float], lowest: float, pairs: int
    ) -> None:
        assert lowest <= coverage(paired_interval, kind, pairs) <= 0.97

    def test_the_plain_percentile_interval_fails_this(self) -> None:
        assert coverage(percentile_interval, NORMAL, 5) < 0.88
        assert coverage(percentile_interval, SKEWED, 5) < 0.88

    def test_another_confidence(self) -> None:
        assert coverage(lambda d: paired_interval(d, 0.8), NORMAL, 10) == pytest.approx(0.8, abs=0.03)

    def test_each_side_misses_as_often(self) -> None:
        """Quantiles put on the wrong sides would still cover normal differences."""
        draw, truth = SKEWED
        rng = np.random.default_rng(21)
        found = [paired_interval(draw(rng, 10).tolist()) for _ in range(EXPERIMENTS)]
        above = sum(one is not None and one.low > truth for one in found) / EXPERIMENTS
        below = sum(one is not None and one.high < truth for one in found) / EXPERIMENTS
        assert above < 0.04
        assert below < 0.07


class TestInterval:
    def test_it_is_the_bootstrap_t_of_every_possible_resample(self) -> None:
        """With five differences all 3,125 resamples can be listed: the exact quantiles of t*."""
        differences = [-0.05, -0.01, 0.0, 0.02, 0.09]
        values = np.array(differences)
        resamples = values[np.array(list(product(range(5), repeat=5)))]
        spread = resamples.std(axis=1, ddof=1)
        kept = spread > 1e-9
        ratios = (resamples.mean(axis=1)[kept] - values.mean()) / (spread[kept] / math.sqrt(5))
        lower, upper = np.quantile(ratios, [0.025, 0.975])
        error = values.std(ddof=1) / math.sqrt(5)
        found = paired_interval(differences)
        assert found is not None
        assert found.pairs == 5
        assert found.mean == pytest.approx(values.mean())
        assert found.low == pytest.approx(values.mean() - upper * error, abs=0.05 * (found.high - found.low))
        assert found.high == pytest.approx(values.mean() - lower * error, abs=0.05 * (found.high - found.low))

    def test_of_normal_differences_it_is_nearly_students(self) -> None:
        differences = np.random.default_rng(3).normal(1.0, 0.1, 200)
        found = paired_interval(differences.tolist())
        assert found is not None
        half = 1.972 * differences.std(ddof=1) / math.sqrt(200)
        assert found.low == pytest.approx(differences.mean() - half, abs=0.1 * half)
        assert found.high == pytest.approx(differences.mean() + half, abs=0.1 * half)

    def test_the_same_differences_give_the_same_interval(self) -> None:
        differences = np.random.default_rng(4).normal(size=15).tolist()  # few would have few resamples
        found = paired_interval(differences)
        bootstrap._weights.cache_clear()
        assert paired_interval(differences) == found

    @given(st.lists(FINITE, min_size=6, max_size=12, unique=True), st.floats(0.01, 100), st.floats(-10, 10))
    def test_it_moves_and_grows_with_the_differences(self, values: list[float], scale: float, shift: float) -> None:
        assume(np.std(values) > 1e-3)
        first, second = paired_interval(values), paired_interval([scale * value + shift for value in values])
        assume(first is not None and second is not None)
        assert first is not None
        assert second is not None
        width = scale * (first.high - first.low)
        assert second.low == pytest.approx(scale * first.low + shift, abs=1e-4 * width)
        assert second.high == pytest.approx(scale * first.high + shift, abs=1e-4 * width)

    @given(st.lists(FINITE, min_size=FEWEST_PAIRS, max_size=12))
    def test_the_mean_is_inside(self, values: list[float]) -> None:
        found = paired_interval(values)
        if found is not None:
            assert found.low <= found.mean <= found.high
            assert math.isfinite(found.high - found.low)

    def test_a_higher_confidence_is_wider(self) -> None:
        differences = [0.1, 0.3, -0.2, 0.5, 0.4, 0.25]
        narrow, wide = paired_interval(differences, 0.8), paired_interval(differences)
        assert narrow is not None
        assert wide is not None
        assert wide.low < narrow.low < narrow.high < wide.high


class TestDegenerate:
    @pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.2], [0.1, 0.2, 0.3], [0.0, 0.0, 0.0]])
    def test_too_few_pairs(self, differences: list[float]) -> None:
        assert paired_interval(differences) is None

    def test_as_few_as_can_be(self) -> None:
        assert paired_interval([0.1, 0.2, 0.3, 0.5]) is not None

    @pytest.mark.parametrize("value", [0.0, -0.1, 1e-300, 1e9])
    def test_equal_differences(self, value: float) -> None:
        assert paired_interval([value] * 7) == Interval(value, value, value, 7)

    def test_nearly_all_equal(self) -> None:
        """A third of the resamples consists of the equal ones alone: the rest does not stand for all."""
        assert paired_interval([0.0, 0.0, 0.0, 0.0, 0.1]) is None

    def test_some_equal(self) -> None:
        assert paired_interval([0.0, 0.0, 0.1, 0.2, 0.3, 0.5]) is not None

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_no_difference(self, value: float) -> None:
        with pytest.raises(AssertionError):
            paired_interval([0.1, 0.2, 0.3, value])


class TestSignTest:
    @pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 1), (5, 5), (1, 0), (1, 2)])
    def test_nothing_to_see(self, first: int, second: int) -> None:
        assert sign_test(first, second) == 1

    @pytest.mark.parametrize(("first", "second"), [(0, 5), (6, 0), (9, 1), (2, 9), (10, 10), (3, 12)])
    def test_it_counts_the_ways_a_coin_falls(self, first: int, second: int) -> None:
        tosses = first + second
        uneven = [k for k in range(tosses + 1) if abs(2 * k - tosses) >= abs(first - second)]
        expected = Fraction(sum(math.comb(tosses, k) for k in uneven), 2**tosses)
        assert sign_test(first, second) == pytest.approx(float(expected), rel=1e-12)

    def test_six_to_none_is_the_least_that_tells(self) -> None:
        assert sign_test(5, 0) > 0.05 > sign_test(0, 6)

    def test_many(self) -> None:
        assert sign_test(2000, 0) == pytest.approx(0, abs=1e-300)
