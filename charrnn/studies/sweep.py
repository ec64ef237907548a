"""The sweep: one short training while the learning rate rises exponentially, and what its loss curve suggests.

Everything but ``sweep`` itself is a pure function of numbers. Under Adam a sweep confounds the rate with the step
count (a rate that comes late finds a network that the rates before it have trained), so it brackets only: see
``trials`` for the proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charrnn.training.trainer import Trainer

Curve = NDArray[np.float64]
SMOOTHING = 0.98
DIVERGED_ABOVE = 4.0  # times the smallest smoothed loss, fastai's rule
NOTHING = 0.01  # nats: below it a loss has nowhere to fall, and four times it is noise
MARGIN = 1.02  # times the unigram entropy: a loss that wavers about it has not diverged
FEWEST_DIFFERENCES = 5  # losses that tell how much they waver
SKIPPED_AT_START = 0.1  # share of the points: the rate is too small to move anything yet
SKIPPED_AT_END = 5  # points: the loss is already running away
FEWEST_POINTS = 20


@dataclass(frozen=True)
class Sweep:
    """One sweep as far as it went: rate, loss (nats per character) and gradient norm before clipping of each step.

    ``diverged`` says why it ended before its last rate; None if it did not.
    """

    seed: int
    lrs: list[float]
    losses: list[float]
    grad_norms: list[float]
    diverged: str | None

    @property
    def diverged_at(self) -> float:
        """The rate at which it diverged; infinity if it did not."""
        return self.lrs[-1] if self.diverged else math.inf


def sweep(trainer: Trainer, seed: int, lrs: Sequence[float], ceiling: float, after_step: Callable[[], None]) -> Sweep:
    """Take one step at each rate in turn, until the loss diverges; ``ceiling`` as in ``why_diverged``."""
    losses: list[float] = []
    norms: list[float] = []
    reason = None
    for lr in lrs:
        stats = trainer.step(lr)
        losses.append(stats.loss.item())
        norms.append(stats.grad_norm.item())
        after_step()
        if (reason := why_diverged(losses, norms[-1], ceiling)) is not None:
            break
    return Sweep(seed, list(lrs[: len(losses)]), losses, norms, reason)


def exponential_rates(min_lr: float, max_lr: float, count: int) -> list[float]:
    """``count`` rates from ``min_lr`` to ``max_lr``, each the same factor above the one before."""
    return [float(rate) for rate in np.geomspace(min_lr, max_lr, count)]


def smooth(losses: Sequence[float], beta: float = SMOOTHING) -> Curve:
    """Exponential average with bias correction, as in Adam (https://arxiv.org/abs/1412.6980, section 3)."""
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = beta * average + (1 - beta) * loss
        smoothed.append(average / (1 - beta**count))
    return np.array(smoothed)


def why_diverged(losses: Sequence[float], grad_norm: float, ceiling: float) -> str | None:
    """Why a training with these losses so far, and this last gradient norm, is to be called diverged; None if not.

    Two rules on the smoothed loss: above four times its minimum, as in fastai; and clearly above ``ceiling``, the
    text's unigram entropy, after having been clearly below it. A softmax starts there, or at ln V, and may never reach
    four times its minimum: forgetting even how often each character occurs is divergence enough.
    """
    if not (math.isfinite(losses[-1]) and math.isfinite(grad_norm)):
        return "the loss or the gradient norm is not finite"
    smoothed = smooth(losses)
    if smoothed[-1] > DIVERGED_ABOVE * max(smoothed.min(), NOTHING):
        return f"the smoothed loss exceeds {DIVERGED_ABOVE:g} times its minimum"
    if len(losses) >= FEWEST_DIFFERENCES and math.isfinite(ceiling):
        clear = np.maximum((MARGIN - 1) * ceiling, 3 * _standard_errors(losses))
        if (smoothed < ceiling - clear).any() and smoothed[-1] > ceiling + clear[-1]:
            return "the smoothed loss rose above the unigram entropy again"
    return None


def _standard_errors(losses: Sequence[float]) -> Curve:
    """How far the smoothed loss at each step may be off because its windows were easy or hard.

    From the differences of neighbouring losses, whose median is 0.954 standard deviations if they are normal.
    """
    noise = np.median(np.abs(np.diff(losses))) / 0.954
    averaged = np.minimum(np.arange(1, len(losses) + 1), (1 + SMOOTHING) / (1 - SMOOTHING))
    return np.asarray(noise / np.sqrt(averaged))


def start_error(sweeps: Sequence[Sweep]) -> float:
    """How far the smoothed losses may be off where a sweep's first part ends: their standard error, the middle one.

    Not less for more sweeps: all read the same windows.
    """
    errors = [
        _standard_errors(one.losses)[math.ceil(SKIPPED_AT_START * len(one.losses)) - 1]
        for one in sweeps
        if len(one.losses) >= FEWEST_DIFFERENCES
    ]
    return float(np.median(errors)) if errors else 0.0


@dataclass(frozen=True)
class Band:
    """Several sweeps over the same rates: the median smoothed loss, its extremes, and the share that had diverged.

    As long as at least half of the sweeps go on; all of shape (points,).
    """

    lrs: Curve
    median: Curve
    low: Curve
    high: Curve
    diverged: Curve


def band(sweeps: Sequence[Sweep]) -> Band:
    """The band of some sweeps; each counts as far as it went."""
    longest = max(sweeps, key=lambda one: len(one.lrs))
    lrs = np.array(longest.lrs)
    curves = np.full((len(sweeps), len(lrs)), np.nan)
    for row, one in zip(curves, sweeps, strict=True):
        kept = len(one.losses) - (one.diverged is not None)  # the last loss of a diverged one may be infinite
        row[:kept] = smooth(one.losses[:kept])
    diverged = np.array([np.mean([one.diverged_at <= lr for one in sweeps]) for lr in lrs])
    known = (diverged <= 0.5) & ~np.isnan(curves).all(axis=0)
    curves = curves[:, known]
    return Band(
        lrs[known],
        np.nanmedian(curves, axis=0),
        np.nanmin(curves, axis=0),
        np.nanmax(curves, axis=0),
        diverged[known],
    )


def suggestions(lrs: Sequence[float] | Curve, losses: Sequence[float] | Curve) -> dict[str, float]:
    """The usual readings of a smoothed loss curve, without its first 10 % and its last points; {} if it is too short.

    ``minimum/10``, ``steepest`` and ``valley``, see the functions of those names.
    """
    if len(lrs) < FEWEST_POINTS:
        return {}
    inner = slice(math.ceil(SKIPPED_AT_START * len(lrs)), -SKIPPED_AT_END)
    rates, curve = np.asarray(lrs)[inner], np.asarray(losses)[inner]
    return {
        "minimum/10": minimum_tenth(rates, curve),
        "steepest": steepest(rates, curve),
        "valley": valley(rates, curve),
    }


def minimum_tenth(lrs: Curve, losses: Curve) -> float:
    """One order of magnitude below the rate of the smallest loss."""
    return float(lrs[losses.argmin()]) / 10


def steepest(lrs: Curve, losses: Curve) -> float:
    """The rate at which the loss falls fastest per factor of the rate."""
    return float(lrs[np.gradient(losses, np.log(lrs)).argmin()])


def valley(lrs: Curve, losses: Curve) -> float:
    """The middle, on the log axis, of the longest valley: the longest sequence of ever smaller losses.

    The idea is fastai's (2021); noise between two smaller losses does not end a valley.
    """
    lengths, before = [1] * len(losses), [-1] * len(losses)
    for i in range(len(losses)):
        for j in range(i):
            if losses[j] > losses[i] and lengths[j] >= lengths[i]:
                lengths[i], before[i] = lengths[j] + 1, j
    end = start = int(np.argmax(lengths))
    while before[start] >= 0:
        start = before[start]
    return math.sqrt(lrs[start] * lrs[end])
