"""What sweeps and trials say about the learning rate. Pure functions: results in, a rate and its range out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charrnn.studies.sweep import SKIPPED_AT_START, Band
from charrnn.studies.trials import Trial

GOOD = 1.02  # times the smallest loss counts as nearly as good
SAME, SAME_NATS = 1.005, 0.005  # times, and above, the smallest loss: no difference that a few seeds could show
FITTED = 1.05  # times the smallest loss is near enough to it for a parabola
SPACING = 2.0  # factor between the rates of neighbouring trials
FEWEST_RATES, MOST_RATES = 5, 7
FLAT = 0.01  # share of a loss: a curve that moves by less has not moved
CLEAR_RISE = 0.05  # share of a loss: small windows make it waver by less
BY_HEART = 0.2  # share of the unigram entropy: windows waver by less (0.05 was seen after ten steps)
# The best rate falls with the length of the training, about as steps ** -1/3: measured, see CONTRIBUTING.md.
LENGTH_EXPONENT = 1 / 3


@dataclass(frozen=True)
class Score:
    """All trials at one rate: their mean validation loss, infinite if any diverged, and the share that did."""

    lr: float
    loss: float
    diverged: float


@dataclass(frozen=True)
class Range:
    """Rates for trainings of ``steps``: the lowest within 2 % of the best, the best, the highest that no seed
    diverged at or below."""

    steps: int
    lowest: float
    best: float
    highest: float

    def for_length(self, steps: int) -> Range:
        """The same for longer trainings."""
        factor = length_factor(self.steps, steps)
        return Range(steps, self.lowest * factor, self.best * factor, self.highest * factor)


def length_factor(steps: int, longer: int) -> float:
    """By which factor the best rate of a ``longer`` training lies below that of one of ``steps``."""
    return min(1.0, math.pow(steps / longer, LENGTH_EXPONENT))


def bracket_centre(band: Band) -> float:
    """One order of magnitude below the last rate of the sweeps whose smoothed loss is within 1 % of the smallest.

    Steadier than a tenth of the rate of the minimum itself, which noise moves about where the curve is flat.
    """
    low = np.flatnonzero(band.median <= (1 + FLAT) * band.median.min())
    return float(band.lrs[low[-1]]) / 10


def first_rates(centre: float, min_lr: float, max_lr: float) -> list[float]:
    """The rates that the trials begin with: around ``centre``, but inside the range that was asked for."""
    half = FEWEST_RATES // 2
    reach = SPACING**half
    centre = min(max(centre, min_lr * reach), max_lr / reach)
    return [centre * SPACING**power for power in range(-half, half + 1)]


def next_rate(trials: Sequence[Trial], min_lr: float, max_lr: float) -> float | None:
    """One more rate to try, beyond the end where the best so far lies; None if it lies inside, or enough is known."""
    results = scores(trials)
    end = best_end(results)
    if end is None or len(results) >= MOST_RATES:
        return None
    rate = end.lr / SPACING if end is results[0] else end.lr * SPACING
    return rate if min_lr <= rate <= max_lr else None


def best_end(results: Sequence[Score]) -> Score | None:
    """The lowest or highest rate, if it is clearly the best of all (the lowest, if all diverged); else None."""
    best = min(results, key=lambda score: score.loss)
    if best not in (results[0], results[-1]):
        return None
    others = [score.loss for score in results if score is not best]
    return best if math.isinf(best.loss) or min(others) > SAME * best.loss + SAME_NATS else None


def scores(trials: Sequence[Trial]) -> list[Score]:
    """The trials of each rate taken together, by rising rate."""
    result = []
    for lr in sorted({one.lr for one in trials}):
        losses = [math.inf if one.val_loss is None else one.val_loss for one in trials if one.lr == lr]
        result.append(Score(lr, float(np.mean(losses)), float(np.mean(np.isinf(losses)))))
    return result


def rate_range(trials: Sequence[Trial], steps: int) -> Range:
    """The range that trials of this length prove. At least one rate must be without a diverged seed."""
    results = scores(trials)
    good = [score.lr for score in results if score.loss <= GOOD * min(score.loss for score in results)]
    unstable = [score.lr for score in results if score.diverged]
    stable = [score.lr for score in results if score.lr < min(unstable, default=math.inf)]
    best = lowest_point(results)
    return Range(steps, min([*good, best]), best, max([*stable, best]))


def lowest_point(results: Sequence[Score]) -> float:
    """Where a parabola through the losses near the smallest one, over log rates, has its lowest point.

    It is kept between the neighbours of the best rate. Where it has none (the best rate is the last one, or its
    neighbour diverged): the middle of the rates that are as good.
    """
    best = min(results, key=lambda score: score.loss)
    index = results.index(best)
    around = [score for score in results[max(index - 1, 0) : index + 2] if math.isfinite(score.loss)]
    near = [score for score in results if score.loss <= FITTED * best.loss or score in around]
    if len(around) == 3:
        square, slope, _ = np.polyfit([math.log(score.lr) for score in near], [score.loss for score in near], 2)
        if square > 0:
            lowest = min(max(-slope / (2 * square), math.log(around[0].lr)), math.log(around[-1].lr))
            return math.exp(lowest)
    same = [score.lr for score in results if score.loss <= SAME * best.loss + SAME_NATS]
    return math.sqrt(same[0] * same[-1])


def why_no_sweep(band: Band, suggestions: dict[str, float], warm: bool, doubt: float = 0.0) -> str | None:
    """Why the sweeps say nothing about the rate, and what to try; None if they do.

    The loss of a ``warm`` model need not fall during a sweep: it is low already. A fall by no more than ``doubt``, in
    nats, is none.
    """
    lrs, median = band.lrs, band.median
    if not len(lrs):
        return "every sweep diverged at its first step; try a lower --min-lr, or another start"
    if not suggestions:
        return (
            f"too few points: after {len(lrs)} steps, at a rate of {lrs[-1]:.1e}, half of the sweeps had diverged; "
            f"try --min-lr {lrs[0] / 100:.0e}"
        )
    # The mean of several windows is where it starts: a single one may be easy or hard.
    start, *rest = median[math.ceil(SKIPPED_AT_START * len(median)) - 1 :]
    if warm or start - min(rest) > max(FLAT * start, doubt):
        return None
    rises = median[-1] > (1 + CLEAR_RISE) * start
    advice = f"lower rates: --min-lr {lrs[0] / 1000:.0e}" if rises else f"higher rates: --max-lr {lrs[-1] * 1000:.0e}"
    return (
        f"the loss does not fall: {start:.3f} at first, {min(rest):.3f} at best, {median[-1]:.3f} at the end; "
        f"try {advice}; if that changes nothing, there is nothing to learn in this text"
    )


def why_no_proof(trials: Sequence[Trial], steps: int, unigram: float) -> str | None:
    """Why the trials do not give a rate, and what to try; None if they do."""
    results = scores(trials)
    best = min(results, key=lambda score: score.loss)
    low, high = results[0], results[-1]
    if math.isinf(best.loss):
        return f"a seed diverges at every rate from {low.lr:.1e} to {high.lr:.1e}; try --min-lr {low.lr / 1000:.0e}"
    learned = min((one.train_loss for one in trials if one.train_loss is not None), default=math.inf)
    if best.loss >= unigram and learned < (1 - BY_HEART) * unigram:
        return (
            f"what is learned helps with the training text alone: after {steps} steps the lowest training loss is "
            f"{learned:.3f}, the best validation loss {best.loss:.3f}, the unigram entropy {unigram:.3f}; give a "
            "longer text, or one that is alike from beginning to end"
        )
    if best.loss >= unigram and max(score.loss for score in results) - best.loss < FLAT * best.loss:
        return (
            f"no rate moves the loss: from {low.lr:.1e} to {high.lr:.1e} it is {best.loss:.3f} after {steps} steps, "
            f"the unigram entropy is {unigram:.3f}; try higher rates, --max-lr {high.lr * 1000:.0e}, or longer trials, "
            f"--trial-steps {steps * 5}; if that changes nothing, there is nothing to learn in this text"
        )
    if best.loss >= unigram:
        return (
            f"no rate learns more than how often each character occurs: after {steps} steps the best validation loss "
            f"is {best.loss:.3f}, the unigram entropy {unigram:.3f}; try --trial-steps {steps * 5}, and if that "
            "changes nothing, there is nothing to learn in this text"
        )
    if (end := best_end(results)) is not None:
        which, option, further = ("lowest", "--min-lr", 1e-2) if end is low else ("highest", "--max-lr", 1e2)
        return f"the {which} rate tried, {end.lr:.1e}, is the best: look further, try {option} {end.lr * further:.0e}"
    return None
