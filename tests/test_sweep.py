"""The sweep against steps taken by hand, and the readings of its curve on curves whose answer is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.schema import Config
from charrnn.studies.sweep import (
    FEWEST_POINTS,
    Sweep,
    band,
    exponential_rates,
    smooth,
    suggestions,
    sweep,
    valley,
    why_diverged,
)
from charrnn.text.places import Places
from charrnn.training.session import new_session

LRS = exponential_rates(1e-5, 1.0, 101)  # 20 points per power of ten: point 60 is 1e-2
LOGS = np.log10(LRS)
FIRST, LAST = 11, 95  # the points that suggestions look at: without the first tenth (rounded up) and the last five
NO_CEILING = math.inf
# No subnormal numbers: an earlier test may have told the processor to flush them, and hypothesis objects to that.
losses_of_a_text = st.floats(0, 10, allow_subnormal=False)


@given(st.lists(losses_of_a_text, min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.98]))
def test_smoothing_is_the_weighted_sum(losses: list[float], beta: float) -> None:
    direct = [
        sum(beta ** (n - i) * (1 - beta) * losses[i - 1] for i in range(1, n + 1)) / (1 - beta**n)
        for n in range(1, len(losses) + 1)
    ]
    assert smooth(losses, beta) == pytest.approx(direct, rel=1e-9, abs=1e-12)


@given(losses_of_a_text, st.integers(1, 200))
def test_a_constant_stays_what_it_is(loss: float, count: int) -> None:
    assert smooth([loss] * count) == pytest.approx([loss] * count)


@given(st.floats(1e-8, 1e-2), st.floats(2, 1e6), st.integers(2, 200))
def test_rates_rise_by_equal_factors_from_end_to_end(low: float, times: float, count: int) -> None:
    rates = exponential_rates(low, low * times, count)
    assert len(rates) == count
    assert (rates[0], rates[-1]) == (low, low * times)
    factors = np.divide(rates[1:], rates[:-1])
    assert factors == pytest.approx(times ** (1 / (count - 1)))


class TestWhyDiverged:
    """After two losses a and b the smoothed loss is (0.98 a + b) / 1.98."""

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_finite(self, value: float) -> None:
        assert "not finite" in str(why_diverged([1.0, value], 1.0, NO_CEILING))
        assert "not finite" in str(why_diverged([1.0, 1.0], value, NO_CEILING))
        assert why_diverged([1.0, 1.0], 1e30, NO_CEILING) is None

    @pytest.mark.parametrize(("loss", "diverged"), [(6.94 - 1e-6, False), (6.94 + 1e-6, True)])
    def test_four_times_the_minimum(self, loss: float, diverged: bool) -> None:
        """(0.98 + 6.94) / 1.98 = 4."""
        reason = why_diverged([1.0, loss], 1.0, NO_CEILING)
        assert (reason is not None) == diverged
        assert not diverged or "4 times its minimum" in str(reason)

    def test_the_minimum_is_that_of_the_smoothed_loss(self) -> None:
        """One lucky step is no minimum: 0.1 behind nine times 1 moves the smoothed loss to 0.9 only."""
        assert why_diverged([1.0] * 9 + [0.1] + [3.0], 1.0, NO_CEILING) is None

    def test_next_to_nothing_times_four_is_noise(self) -> None:
        assert why_diverged([1e-7] * 9 + [0.3], 1.0, NO_CEILING) is None
        assert why_diverged([1e-7] * 9 + [5.0], 1.0, NO_CEILING) is not None

    @pytest.mark.parametrize(
        ("ceiling", "diverged"),
        [
            (3.0612, False),  # it was never clearly (2 %) below
            (3.0613, True),
            (3.55341, True),  # (3 * (0.98 + ... + 0.98^4) + 6) / (1 + 0.98 + ... + 0.98^4) = 3.624484, less 2 %
            (3.55342, False),  # it is not clearly above
        ],
    )
    def test_above_the_ceiling_after_having_been_below(self, ceiling: float, diverged: bool) -> None:
        reason = why_diverged([3.0] * 4 + [6.0], 1.0, ceiling)
        assert (reason is not None) == diverged
        assert not diverged or "unigram" in str(reason)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_loss_that_wavers_about_the_ceiling_has_not_diverged(self, seed: int) -> None:
        """A network that starts there reads easy windows and hard ones; what is lost for good is still seen."""
        wavering = list(np.random.default_rng(seed).normal(3.0, 0.4, 200))
        assert all(why_diverged(wavering[:count], 1.0, 3.0) is None for count in range(1, 201))
        learned_and_lost = [*(np.array(wavering) - 1), *(np.array(wavering) + 1)]
        assert "unigram" in str(why_diverged(learned_and_lost, 1.0, 3.0))

    def test_one_lucky_step_is_not_below(self) -> None:
        assert why_diverged([4.0] * 9 + [1.0, 4.0], 1.0, 3.0) is None

    @given(st.lists(st.floats(3, 6), min_size=1, max_size=30))
    def test_a_loss_that_was_never_below_the_ceiling_is_not_above_it_again(self, losses: list[float]) -> None:
        assert why_diverged(losses, 1.0, 2.9) is None


class TestBand:
    """Constant losses stay constant when smoothed: the answers can be worked out by hand."""

    def _sweep(self, losses: list[float], diverged: bool = False) -> Sweep:
        count = len(losses)
        return Sweep(1, [float(i) for i in range(1, count + 1)], losses, [1.0] * count, "why" if diverged else None)

    @pytest.mark.parametrize("last", [math.inf, math.nan, 90.0])
    def test_each_sweep_counts_as_far_as_it_went(self, last: float) -> None:
        whole = self._sweep([1.0] * 6)
        longer = self._sweep([2.0] * 4 + [last], diverged=True)
        shorter = self._sweep([4.0] * 2 + [last], diverged=True)
        found = band([shorter, whole, longer])
        # From the fifth rate on two of three have diverged.
        assert found.lrs.tolist() == [1, 2, 3, 4]
        assert found.median == pytest.approx([2, 2, 1.5, 1.5])
        assert found.low == pytest.approx([1, 1, 1, 1])
        assert found.high == pytest.approx([4, 4, 2, 2])
        assert found.diverged == pytest.approx([0, 0, 1 / 3, 1 / 3])

    def test_it_goes_on_while_half_of_them_do(self) -> None:
        found = band([self._sweep([1.0] * 5), self._sweep([3.0] * 2 + [math.inf], diverged=True)])
        assert found.lrs.tolist() == [1, 2, 3, 4, 5]
        assert found.median == pytest.approx([2, 2, 1, 1, 1])
        assert found.diverged == pytest.approx([0, 0, 0.5, 0.5, 0.5])

    def test_none_diverged(self) -> None:
        losses = [3.0, 1.0, 2.0, 5.0]
        found = band([self._sweep(losses)])
        assert found.median == pytest.approx(smooth(losses))
        assert (found.low == found.median).all()
        assert (found.high == found.median).all()
        assert not found.diverged.any()

    def test_all_diverged(self) -> None:
        found = band([self._sweep([2.0] * 4 + [math.inf], diverged=True)] * 3)
        assert found.lrs.tolist() == [1, 2, 3, 4]
        assert found.median == pytest.approx([2] * 4)

    def test_smoothing_is_that_of_each_sweep_and_not_of_their_median(self) -> None:
        sweeps = [self._sweep([1.0, 9.0, 1.0]), self._sweep([5.0, 2.0, 3.0]), self._sweep([4.0, 4.0, 8.0])]
        curves = np.stack([smooth(one.losses) for one in sweeps])
        found = band(sweeps)
        assert found.median == pytest.approx(np.median(curves, axis=0))
        assert found.low == pytest.approx(curves.min(axis=0))
        assert found.high == pytest.approx(curves.max(axis=0))


class TestSuggestions:
    @pytest.mark.parametrize("point", [20, 60, 90])
    def test_minimum_of_a_parabola(self, point: int) -> None:
        losses = 1 + (LOGS - LOGS[point]) ** 2
        assert suggestions(LRS, losses)["minimum/10"] == pytest.approx(LRS[point] / 10)

    @pytest.mark.parametrize("point", [20, 50, 90])
    def test_a_logistic_is_steepest_at_its_centre(self, point: int) -> None:
        losses = 3 / (1 + np.exp(2 * (LOGS - LOGS[point])))
        assert suggestions(LRS, losses)["steepest"] == pytest.approx(LRS[point])

    def test_steepest_is_per_factor_of_the_rate(self) -> None:
        """The loss 1 - lr falls faster the higher the rate, by the logarithm; by the rate itself it is a line."""
        assert suggestions(LRS, 1 - np.array(LRS))["steepest"] == pytest.approx(LRS[LAST], rel=0.13)  # of one point

    def test_valley_of_a_falling_curve_is_its_middle(self) -> None:
        assert suggestions(LRS, 3 - LOGS)["valley"] == pytest.approx(math.sqrt(LRS[FIRST] * LRS[LAST]))

    @pytest.mark.parametrize("bottom", [40, 60])
    def test_valley_ends_at_the_bottom(self, bottom: int) -> None:
        losses = 1 + np.abs(LOGS - LOGS[bottom])
        assert suggestions(LRS, losses)["valley"] == pytest.approx(math.sqrt(LRS[FIRST] * LRS[bottom]))

    @given(st.integers(FIRST + 1, LAST - 2), st.floats(-10, 10, allow_subnormal=False))
    def test_one_spike_does_not_end_a_valley(self, point: int, spike: float) -> None:
        losses = 3 - LOGS
        losses[point] += spike
        assert suggestions(LRS, losses)["valley"] == pytest.approx(math.sqrt(LRS[FIRST] * LRS[LAST]))

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
    def test_valley_against_all_subsequences(self, losses: list[int]) -> None:
        """Between the ends of a longest falling sequence, found by trying every one there is."""
        lrs = np.geomspace(1e-3, 1, len(losses))
        ends = []
        for chosen in range(1, 1 << len(losses)):
            points = [i for i in range(len(losses)) if chosen >> i & 1]
            values = [losses[i] for i in points]
            if all(a > b for a, b in pairwise(values)):
                ends.append((len(points), points[0], points[-1]))
        longest = max(ends)[0]
        middles = [math.sqrt(lrs[start] * lrs[end]) for length, start, end in ends if length == longest]
        found = valley(lrs, np.array(losses, dtype=float))
        assert any(found == pytest.approx(middle) for middle in middles)

    @given(st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=16, max_size=16))
    def test_the_first_tenth_and_the_last_points_do_not_count(self, noise: list[float]) -> None:
        losses = 1 + (LOGS - LOGS[60]) ** 2
        changed = losses.copy()
        changed[:FIRST] += noise[:FIRST]
        changed[LAST + 1 :] += noise[FIRST:]
        assert suggestions(LRS, changed) == suggestions(LRS, losses)

    @pytest.mark.parametrize("point", [FIRST, LAST])
    def test_the_points_beside_them_do(self, point: int) -> None:
        losses = 1 + (LOGS - LOGS[60]) ** 2
        losses[point] = 0
        assert suggestions(LRS, losses)["minimum/10"] == pytest.approx(LRS[point] / 10)

    @pytest.mark.parametrize("count", [0, 1, FEWEST_POINTS - 1])
    def test_too_few_points(self, count: int) -> None:
        assert suggestions(LRS[:count], LOGS[:count]) == {}
        assert suggestions(LRS[:FEWEST_POINTS], LOGS[:FEWEST_POINTS]) != {}


class TestSweep:
    """Everything random is switched on in ``small_config``: one draw more or less would show."""

    def test_it_takes_the_steps_of_the_trainer(self, small_config: Config, places: Places) -> None:
        lrs = exponential_rates(1e-4, 0.1, 30)
        by_hand = new_session(small_config, places).trainer
        stats = [by_hand.step(lr) for lr in lrs]

        told: list[int] = []
        trainer = new_session(small_config, places).trainer
        found = sweep(trainer, 7, lrs, NO_CEILING, lambda: told.append(trainer.steps))
        assert found == Sweep(7, lrs, [s.loss.item() for s in stats], [s.grad_norm.item() for s in stats], None)
        assert found.diverged_at == math.inf
        assert told == list(range(1, 31))

    @pytest.mark.parametrize(("ceiling", "why"), [(NO_CEILING, "4 times"), (2.6, "unigram")])
    def test_it_stops_when_it_diverges(self, ceiling: float, why: str, small_config: Config, places: Places) -> None:
        lrs = exponential_rates(1e-2, 1e4, 60)
        trainer = new_session(small_config, places).trainer
        found = sweep(trainer, 1, lrs, ceiling, lambda: None)
        count = len(found.lrs)
        assert trainer.steps == count < 60
        assert len(found.losses) == len(found.grad_norms) == count
        assert found.lrs == lrs[:count]
        assert found.diverged_at == lrs[count - 1]
        reasons = [why_diverged(found.losses[:n], found.grad_norms[n - 1], ceiling) for n in range(1, count + 1)]
        assert reasons == [None] * (count - 1) + [found.diverged]
        assert why in str(found.diverged)
