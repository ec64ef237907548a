"""Learning-rate schedules as pure functions: numbers in, a rate out.

``progress`` runs from 0 to 1 over training, whether a step count, a number of epochs or a time limit ends it.
Warm-up counts steps, and multiplies whatever shape the schedule has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from charrnn.config.schema import TrainingConfig

# One cycle as in torch's OneCycleLR (https://arxiv.org/abs/1708.07120): its defaults.
ONE_CYCLE_PEAK = 0.3
ONE_CYCLE_START_DIVISOR = 25.0
ONE_CYCLE_END_DIVISOR = 1e4


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """The rate of the step with this index (from 0), at this progress (0 to 1)."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return warmup * SHAPES[config.schedule](config, min(max(progress, 0.0), 1.0))


def lower_rate(config: TrainingConfig, factor: float) -> list[str]:
    """Assignments for a rate lower by this factor, with a schedule that ends no higher."""
    lr = float(f"{config.lr / factor:.2g}")
    return [f"training.lr={lr:g}", *([f"training.min_lr={lr:g}"] if config.min_lr > lr else [])]


def constant(config: TrainingConfig, _: float) -> float:
    """``lr`` throughout."""
    return config.lr


def linear(config: TrainingConfig, progress: float) -> float:
    """A straight line from ``lr`` to ``min_lr``."""
    return config.lr + (config.min_lr - config.lr) * progress


def cosine(config: TrainingConfig, progress: float) -> float:
    """Half a cosine from ``lr`` to ``min_lr`` (https://arxiv.org/abs/1608.03983, without restarts)."""
    return _cosine_between(config.lr, config.min_lr, progress)


def step(config: TrainingConfig, progress: float) -> float:
    """``lr``, multiplied by ``step_gamma`` at each of ``step_drops`` evenly spaced drops."""
    # The small term: 0.3 / 0.1 is 2.999... in floating point.
    drops = min(config.step_drops, math.floor(progress * (config.step_drops + 1) + 1e-9))
    return config.lr * config.step_gamma**drops


def one_cycle(config: TrainingConfig, progress: float) -> float:
    """Up to ``lr`` over the first 30 %, then down to nearly nothing, both as half cosines."""
    start = config.lr / ONE_CYCLE_START_DIVISOR
    if progress < ONE_CYCLE_PEAK:
        return _cosine_between(start, config.lr, progress / ONE_CYCLE_PEAK)
    return _cosine_between(config.lr, start / ONE_CYCLE_END_DIVISOR, (progress - ONE_CYCLE_PEAK) / (1 - ONE_CYCLE_PEAK))


def triangular2(config: TrainingConfig, progress: float) -> float:
    """``cycles`` triangles between ``min_lr`` and ``lr``, each half as high (https://arxiv.org/abs/1506.01186)."""
    position = progress * config.cycles
    cycle = min(math.floor(position + 1e-9), config.cycles - 1)
    height = max(0.0, 1 - abs(2 * (position - cycle) - 1))
    return config.min_lr + (config.lr - config.min_lr) * height * 0.5**cycle


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


SHAPES: dict[str, Callable[[TrainingConfig, float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "one_cycle": one_cycle,
    "triangular2": triangular2,
}
