"""From sweeps and trials to a rate: pure functions, on curves and trials made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from charrnn.studies.recommendation import (
    MOST_RATES,
    Range,
    Score,
    bracket_centre,
    first_rates,
    lowest_point,
    next_rate,
    rate_range,
    scores,
    why_no_proof,
    why_no_sweep,
)
from charrnn.studies.sweep import Band, exponential_rates, suggestions
from charrnn.studies.trials import Trial

WIDE = (1e-9, 1e9)
DIVERGED = None


def trials(*losses: float | None, first: float = 1.0) -> list[Trial]:
    """One trial at each of the rates ``first``, twice that ...; ``DIVERGED`` for one that did."""
    return [Trial(first * 2.0**i, 1, loss, "why" if loss is DIVERGED else None) for i, loss in enumerate(losses)]


def band_of(lrs: Sequence[float], median: Sequence[float]) -> Band:
    """A band of one sweep."""
    curve = np.array(median, dtype=float)
    return Band(np.array(lrs), curve, curve, curve, np.zeros_like(curve))


class TestFirstRates:
    @given(st.floats(1e-6, 1e-2), st.floats(100, 1e6), st.floats(1e-9, 1e6))
    def test_five_rates_a_factor_two_apart_inside_the_range(self, low: float, times: float, centre: float) -> None:
        high = low * times
        rates = first_rates(centre, low, high)
        assert len(rates) == 5
        assert np.divide(rates[1:], rates[:-1]) == pytest.approx(2)
        assert low <= rates[0]
        assert rates[-1] <= high

    @given(st.floats(4, 25))
    def test_they_lie_around_the_centre_where_there_is_room(self, centre: float) -> None:
        assert first_rates(centre, 1, 100) == pytest.approx([centre * factor for factor in (0.25, 0.5, 1, 2, 4)])

    def test_they_move_in_at_the_ends(self) -> None:
        assert first_rates(1.5, 1, 100) == pytest.approx([1, 2, 4, 8, 16])
        assert first_rates(80, 1, 100) == pytest.approx([6.25, 12.5, 25, 50, 100])


class TestBracketCentre:
    def test_a_tenth_of_the_minimum_of_a_sharp_valley(self) -> None:
        lrs = exponential_rates(1e-4, 1, 41)
        median = 1 + np.abs(np.log10(lrs) + 1)
        assert bracket_centre(band_of(lrs, list(median))) == pytest.approx(1e-2)

    def test_the_end_of_a_flat_floor(self) -> None:
        """Within 1 % of the smallest, however the noise on the floor lies."""
        lrs = exponential_rates(1e-4, 1, 5)
        assert bracket_centre(band_of(lrs, [3, 2.000, 2.015, 2.019, 2.5])) == pytest.approx(lrs[3] / 10)
        assert bracket_centre(band_of(lrs, [3, 2.000, 2.015, 2.021, 2.5])) == pytest.approx(lrs[2] / 10)


class TestNextRate:
    """Rates of 1, 2, 4, 8, 16."""

    @pytest.mark.parametrize(
        ("losses", "rate"),
        [
            ((3, 2, 1, 2, 3), None),
            ((3, 1, 2, 2, 3), None),
            ((1, 2, 3, 4, 5), 0.5),
            ((5, 4, 3, 2, 1), 32),
            ((5, 4, 3, 1, DIVERGED), None),
            ((DIVERGED, 1, 2, 3, 4), None),
            ((DIVERGED,) * 5, 0.5),
            ((DIVERGED,) * 4 + (1,), 32),
            ((6, 5, 4, 3, 2, 1), 64),
            ((7, 6, 5, 4, 3, 2, 1), None),
            ((1, 2, 3, 4, 5, 6, 7), None),
            ((DIVERGED,) * 7, None),
        ],
    )
    def test_one_beyond_the_end_that_is_best(self, losses: tuple[float | None, ...], rate: float | None) -> None:
        assert len(losses) <= MOST_RATES
        assert next_rate(trials(*losses), *WIDE) == rate

    def test_it_stays_inside_the_range_that_was_asked_for(self) -> None:
        low, high = trials(1, 2, 3, 4, 5), trials(5, 4, 3, 2, 1)
        assert next_rate(low, 0.5, 100) == 0.5
        assert next_rate(low, 0.51, 100) is None
        assert next_rate(high, 0.5, 32) == 32
        assert next_rate(high, 0.5, 31.9) is None

    def test_an_end_that_is_hardly_better_is_no_reason_to_go_on(self) -> None:
        """Half a percent and 0.005 nats: what a few seeds cannot tell apart."""
        best = 1.0
        assert next_rate(trials(4, 3, 2, best * 1.005 + 0.0049, best), *WIDE) is None
        assert next_rate(trials(4, 3, 2, best * 1.005 + 0.0051, best), *WIDE) == 32

    @given(st.permutations(range(5)))
    def test_the_order_of_the_trials_does_not_matter(self, order: list[int]) -> None:
        made = trials(1, 2, 3, 4, 5)
        assert next_rate([made[i] for i in order], *WIDE) == 0.5


def test_scores() -> None:
    """The mean of the seeds by rising rate; a rate at which any diverged has none."""
    made = [
        Trial(4.0, 1, 2.0, None),
        Trial(2.0, 1, 1.0, None),
        Trial(8.0, 1, None, "why"),
        Trial(4.0, 2, None, "why"),
        Trial(2.0, 2, 2.0, None),
        Trial(8.0, 2, None, "why"),
    ]
    assert scores(made) == [Score(2.0, 1.5, 0.0), Score(4.0, math.inf, 0.5), Score(8.0, math.inf, 1.0)]


class TestRateRange:
    def test_lowest_is_within_two_percent_of_the_best(self) -> None:
        base = [2.0, 1.0, 1.5, 3.0]
        assert rate_range(trials(*base), 10).lowest == 2.0
        assert rate_range(trials(1.019, *base[1:]), 10).lowest == 1.0
        assert rate_range(trials(1.021, *base[1:]), 10).lowest > 1.0

    def test_highest_is_the_last_one_below_the_first_that_diverged(self) -> None:
        assert rate_range(trials(3, 1, 2, 4, 5), 10).highest == 16
        assert rate_range(trials(3, 1, 2, 4, DIVERGED), 10).highest == 8
        assert rate_range(trials(3, 1, 2, DIVERGED, DIVERGED), 10).highest == 4

    def test_a_rate_above_one_that_diverged_is_not_stable(self) -> None:
        assert rate_range(trials(3, 1, 2, DIVERGED, 4), 10).highest == 4

    def test_one_diverged_seed_is_enough(self) -> None:
        made = [*trials(3, 1, 2, 4, 5), Trial(8.0, 2, None, "why")]
        assert rate_range(made, 10).highest == 4

    @pytest.mark.parametrize(
        "losses", [(DIVERGED, 3, 1, 2, 4), (DIVERGED, DIVERGED, 1, 2, 3), (DIVERGED, 1, 2, 3, DIVERGED)]
    )
    def test_the_lowest_rate_diverged(self, losses: tuple[float | None, ...]) -> None:
        """A slow training that wavers about the unigram entropy is called diverged: the others still have a best."""
        found = rate_range(trials(*losses), 10)
        assert found.best == pytest.approx(lowest_point(scores(trials(*losses))))
        assert found.lowest <= found.best <= found.highest

    @given(st.lists(st.one_of(st.none(), st.floats(0.5, 5)), min_size=5, max_size=7), st.integers(1, 1000))
    def test_it_is_in_order(self, losses: list[float | None], steps: int) -> None:
        assume(any(loss is not DIVERGED for loss in losses))
        found = rate_range(trials(*losses), steps)
        assert found.steps == steps
        assert found.lowest <= found.best <= found.highest
        assert found.lowest >= 1 - 1e-9
        assert found.highest <= 2.0 ** (len(losses) - 1) + 1e-9


class TestLowestPoint:
    @given(st.integers(5, 7), st.floats(0.55, 5.45), st.floats(0.02, 2), st.floats(0.5, 5))
    def test_it_is_the_vertex_of_a_parabola(self, count: int, vertex: float, width: float, lowest: float) -> None:
        """Losses on a parabola over the logarithm of the rate, its vertex at 2 ** vertex."""
        assume(vertex < count - 1.55)  # the best rate has neighbours on both sides
        assume(abs(vertex % 1 - 0.5) > 0.01)  # and is one
        losses = [lowest + width * (i - vertex) ** 2 for i in range(count)]
        assert lowest_point(scores(trials(*losses))) == pytest.approx(2.0**vertex, rel=1e-6)

    def test_it_stays_between_the_neighbours_of_the_best(self) -> None:
        """All of these count for the parabola; its vertex lies far to the right, at 2 ** 3.5 and above."""
        losses = [1.049, 1.0, 1.001, 1.0011, 1.0012, 1.0013, 1.0014]
        square, slope, _ = np.polyfit(np.arange(7), losses, 2)
        assert -slope / (2 * square) > 2
        assert lowest_point(scores(trials(*losses))) == pytest.approx(4)
        assert lowest_point(scores(trials(*losses[::-1]))) == pytest.approx(16)

    def test_a_parabola_that_is_all_but_a_line(self) -> None:
        """Through 2, 1, 2, 1 the curvature is zero but for rounding: its lowest point is beyond all numbers."""
        assert 1 <= lowest_point(scores(trials(2.0, 1.0, 2.0, 1.0, DIVERGED))) <= 4

    def test_a_parabola_upside_down_has_no_lowest_point(self) -> None:
        losses = [1.02, 1.0, 1.045, 1.045, 1.02]
        assert np.polyfit(np.arange(5), losses, 2)[0] < 0
        assert lowest_point(scores(trials(*losses))) == 2

    def test_the_middle_of_those_as_good_where_the_best_is_at_an_end(self) -> None:
        assert lowest_point(scores(trials(1.0, 1.002, 2.0, 3.0))) == pytest.approx(math.sqrt(2))
        assert lowest_point(scores(trials(3.0, 2.0, 1.002, 1.001, 1.0))) == pytest.approx(8)
        assert lowest_point(scores(trials(1.0, 2.0, 3.0))) == 1

    def test_beside_a_rate_that_diverged(self) -> None:
        assert lowest_point(scores(trials(3.0, 2.0, 1.0, DIVERGED))) == 4
        assert lowest_point(scores(trials(3.0, 1.002, 1.0, DIVERGED, DIVERGED))) == pytest.approx(math.sqrt(8))

    def test_losses_all_the_same(self) -> None:
        assert lowest_point(scores(trials(1.0, 1.0, 1.0, 1.0, 1.0))) == pytest.approx(4)


class TestForLength:
    @given(st.integers(1, 10**4), st.integers(1, 10**7))
    def test_the_cube_root_of_the_length_and_never_higher(self, steps: int, longer: int) -> None:
        found = Range(steps, 1.0, 2.0, 5.0).for_length(longer)
        factor = 1.0 if longer <= steps else math.exp(-math.log(longer / steps) / 3)
        assert found.steps == longer
        assert (found.lowest, found.best, found.highest) == pytest.approx((factor, 2 * factor, 5 * factor))

    def test_eight_times_as_long_wants_half(self) -> None:
        assert Range(100, 1.0, 2.0, 4.0).for_length(800) == Range(800, 0.5, 1.0, 2.0)


class TestWhyNoSweep:
    LRS = exponential_rates(1e-4, 1, 41)

    def _why(self, median: Sequence[float], warm: bool = False) -> str | None:
        lrs = self.LRS[: len(median)]
        return why_no_sweep(band_of(lrs, median), suggestions(lrs, median), warm)

    def test_a_loss_that_falls_is_fine(self) -> None:
        assert self._why(list(np.linspace(3, 2, 41))) is None
        assert self._why(list(3 - np.sin(np.linspace(0, 6, 41)))) is None, "and rises afterwards"

    @pytest.mark.parametrize("fall", [0.0110, 0.0113])
    def test_one_percent_is_the_least(self, fall: float) -> None:
        """Of what the smoothed loss is after a tenth of the points: the first windows may be hard ones."""
        problem = self._why(list(np.linspace(3, 3 * (1 - fall), 41)))
        assert (problem is None) == (0.9 * fall / (1 - 0.1 * fall) > 0.01)

    def test_a_flat_one_wants_higher_rates(self) -> None:
        problem = self._why([3.0] * 41)
        assert problem is not None
        assert "does not fall" in problem
        assert "--max-lr 1e+03" in problem
        assert "nothing to learn" in problem

    def test_one_that_only_rises_wants_lower_rates(self) -> None:
        problem = self._why(list(np.linspace(3, 6, 41)))
        assert problem is not None
        assert "3.300 at first, 3.375 at best, 6.000 at the end" in problem
        assert "--min-lr 1e-07" in problem

    @pytest.mark.parametrize("warm", [False, True])
    def test_too_few_points(self, warm: bool) -> None:
        problem = self._why(list(np.linspace(3, 2, 19)), warm)
        assert problem is not None
        assert "too few points: after 19 steps" in problem
        assert "--min-lr 1e-06" in problem

    def test_one_within_its_error_is_none(self) -> None:
        """Sweeps without trials: a fall of 0.27 from 2.9 to 2.63."""
        lrs, median = self.LRS, np.linspace(3, 2.6, 41)
        start, low = median[4], 2.6
        for doubt, fine in ((start - low - 0.001, True), (start - low + 0.001, False)):
            problem = why_no_sweep(band_of(lrs, list(median)), suggestions(lrs, median), False, doubt)
            assert (problem is None) == fine

    def test_that_of_a_warm_model_need_not_fall(self) -> None:
        assert self._why([3.0] * 41, warm=True) is None
        assert self._why(list(np.linspace(3, 6, 41)), warm=True) is None

    def test_no_points_at_all(self) -> None:
        """Every sweep diverged at its first step, as that of a ruined warm model does."""
        assert self._why([], warm=True) is not None


class TestWhyNoProof:
    UNIGRAM = 3.0

    def _why(self, *losses: float | None) -> str | None:
        return why_no_proof(trials(*losses), 100, self.UNIGRAM)

    def test_fine(self) -> None:
        assert self._why(2.9, 2.5, 2, 2.5, DIVERGED) is None

    def test_all_diverged(self) -> None:
        problem = self._why(*[DIVERGED] * 5)
        assert problem is not None
        assert "1.0e+00 to 1.6e+01" in problem
        assert "--min-lr 1e-03" in problem

    def test_one_seed_at_every_rate_is_enough(self) -> None:
        made = [*trials(2.5, 2, 2.5), *trials(*[DIVERGED] * 3)]
        assert "diverges at every rate" in str(why_no_proof(made, 100, self.UNIGRAM))

    @pytest.mark.parametrize(("best", "fine"), [(2.999, True), (3.0, False), (3.001, False)])
    def test_not_below_the_unigram_entropy(self, best: float, fine: bool) -> None:
        problem = self._why(3.5, 3.2, best, 3.2, 3.5)
        assert (problem is None) == fine
        assert fine or "--trial-steps 500" in str(problem)

    def test_none_that_moves_the_loss(self) -> None:
        """Rates far too low, or trials far too short: nobody can tell which."""
        problem = str(self._why(3.01, 3.009, 3.01))
        assert "--max-lr 4e+03" in problem
        assert "--trial-steps 500" in problem

    @pytest.mark.parametrize(("learned", "says"), [(2.3, "give a longer text"), (2.5, "--trial-steps 500")])
    def test_a_text_too_short_is_learned_and_to_no_avail(self, learned: float, says: str) -> None:
        made = [replace(one, train_loss=learned) for one in trials(3.1, 4, 5)]
        assert says in str(why_no_proof(made, 100, self.UNIGRAM))

    def test_the_best_at_an_end(self) -> None:
        lowest, highest = self._why(1, 1.5, 2), self._why(2, 1.5, 1)
        assert "lowest rate tried, 1.0e+00, is the best" in str(lowest)
        assert "--min-lr 1e-02" in str(lowest)
        assert "highest rate tried, 4.0e+00, is the best" in str(highest)
        assert "--max-lr 4e+02" in str(highest)

    def test_as_good_as_the_best_before_the_end(self) -> None:
        assert self._why(2, 1.5, 1.001, 1) is None
