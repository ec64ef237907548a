"""How fast this machine trains networks of different sizes: a few real steps of two of them, half a second in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from charrnn.config.schema import Config
from charrnn.text.encoded import EncodedText
from charrnn.training.session import session_on
from charrnn.training.trainer import Trainer

SECONDS = 0.5
MOST_STEPS = 20  # of one size
LR = 1e-3  # any will do: the weights are thrown away


def measure_speeds(
    config: Config,
    text: EncodedText,
    entropies: dict[str, float],
    sizes: Sequence[int],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Characters per second of the trainer's own step by hidden size, for ``config`` with each of ``sizes``, ascending.

    Everything is as it will be: text, vocabulary, windows, precision, threads, optimizer. The smallest and the middle
    size are measured, the others follow (see ``fitted``). The best of a few steps is taken: what disturbs a step only
    makes it slower.

    Raises:
        DataError, UsageError: nothing can be trained on this text, or with this config.
    """
    probes = sorted({sizes[0], sizes[len(sizes) // 2]})
    speeds: dict[int, float] = {}
    end = 0.0
    for number, size in enumerate(probes, start=1):
        trainer = _trainer(config, text, entropies, size)
        if not speeds:
            trainer.step(LR).loss.item()  # waits for libraries to be loaded: not counted
            end = clock() + SECONDS
        share = (end - clock()) / (len(probes) - number + 1)
        speeds[size] = _best_speed(trainer, clock() + share, clock)
    return fitted(speeds, sizes)


def fitted(speeds: dict[int, float], sizes: Sequence[int]) -> dict[int, float]:
    """A speed for every one of ``sizes`` from those of one size or two.

    A character takes a + b hidden_size^2 seconds: what a step costs whatever its size, and the products. Measured
    at six sizes from 64 to 512 (one thread, fp32), this fits within 15 %; the square alone is off by a factor of three.
    """
    small, large = min(speeds), max(speeds)
    times = {size: 1 / speed for size, speed in speeds.items()}
    # A disturbed measurement must not make larger ones faster.
    slope = max(0.0, (times[large] - times[small]) / (large**2 - small**2)) if small < large else 0.0
    return {size: 1 / (times[large] + slope * (size**2 - large**2)) for size in sizes}


def _trainer(config: Config, text: EncodedText, entropies: dict[str, float], size: int) -> Trainer:
    # Orthogonal matrices take longer to make than the steps do, and are no slower to multiply with.
    changes: dict[str, int | str] = {"hidden_size": size, "recurrent_init": "uniform"}
    if config.model.tie_weights:  # the copy is not checked
        changes["embedding_size"] = size
    model = config.model.model_copy(update=changes)
    return session_on(config.model_copy(update={"model": model}), text, entropies).trainer


def _best_speed(trainer: Trainer, end: float, clock: Callable[[], float]) -> float:
    """Characters per second of the fastest step: of one at least, and of those that begin before ``end``."""
    best = 0.0
    for _ in range(MOST_STEPS):
        begun = clock()
        stats = trainer.step(LR)
        stats.loss.item()  # wait for the device
        now = clock()
        best = max(best, stats.characters / max(now - begun, 1e-9))
        if now >= end:
            break
    return best
