"""How many CPU threads a new training gets: measured, with its own step, under the load as it is.

A matrix product of one window and one time step is small: on some machines two threads nearly double the speed, beside
another program one alone is faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from charrnn.config.schema import Config
from charrnn.text.encoded import Ids
from charrnn.training.precision import choose_device
from charrnn.training.process import prepare_process
from charrnn.training.trainer import Trainer

BUDGET_SECONDS = 0.3  # for all numbers together; every one has a turn at least
TRIAL_SEQ_LEN = 12  # at most: shorter windows are as much work per time step, and leave room for more turns
TURN_SECONDS = 0.02
TURNS = 6  # enough where steps are so short that the budget would allow more
LEVEL = 1.05  # a number must be this many times as fast as the default to be preferred to it
LONG = 0.5  # seconds; a warm-up that took so long says enough


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads, and the training characters per second with each number that was tried."""

    threads: int
    speeds: Mapping[int, float]

    def __str__(self) -> str:
        tried = ", ".join(f"{number} {speed:,.0f}" for number, speed in sorted(self.speeds.items()))
        return f"{self.threads} of {max(self.speeds)} (measured, characters per second: {tried})"


def choose_threads(ids: Ids, vocab_size: int, config: Config) -> ThreadChoice | None:
    """Measure and choose; None where there is nothing to choose: a number in the config, a GPU, or one core.

    A throw-away trainer takes the steps, and torch's generator is as it was: the training that follows is bit for bit
    the one with this number in its config. Takes 0.3 seconds, or two steps for each number; their windows are short, so
    a training is some 10 % faster than it says.

    Raises:
        DataError, UsageError: as ``Trainer``.
    """
    most = torch.get_num_threads()
    if config.training.threads is not None or most == 1 or choose_device(config.training.device).type != "cpu":
        return None
    prepare_process(None)  # denormals: before the first step makes a thread
    with torch.random.fork_rng(devices=[]):
        # Any start will do for the speed, and orthogonal matrices take longer to make than the trial.
        model = config.model.model_copy(update={"recurrent_init": "uniform"})
        seq_len = min(config.training.seq_len, TRIAL_SEQ_LEN)
        trainer = Trainer(ids, vocab_size, model, config.training.model_copy(update={"seq_len": seq_len}))
        speeds = measure(lambda: trainer.step(0.0).characters, candidates(most))
    torch.set_num_threads(most)
    return ThreadChoice(fastest(speeds, most), speeds)


def candidates(most: int) -> list[int]:
    """All, half, and one."""
    return sorted({1, max(most // 2, 1), most})


def fastest(speeds: Mapping[int, float], default: int) -> int:
    """The fastest number, or the default unless it is clearly slower: noise must not choose."""
    best = max(speeds, key=lambda number: speeds[number])
    return best if speeds[best] > LEVEL * speeds[default] else default


def measure(
    step: Callable[[], int], numbers: Sequence[int], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Characters per second with each number of threads: the median over turns, which the numbers take in rotation.

    ``step`` returns the characters it trained on.
    """
    turns: dict[int, list[float]] = {number: [] for number in numbers}
    end = clock() + BUDGET_SECONDS
    for number in numbers:
        begun, speed = clock(), _turn(step, number, 0.0, clock)
        if clock() - begun >= LONG:
            turns[number].append(speed)
    for _ in range(TURNS):
        for number in numbers:
            if clock() < end or not turns[number]:
                turns[number].append(_turn(step, number, TURN_SECONDS, clock))
    return {number: statistics.median(speeds) for number, speeds in turns.items()}


def _turn(step: Callable[[], int], threads: int, seconds: float, clock: Callable[[], float]) -> float:
    """Characters per second of one step or as many as fit."""
    torch.set_num_threads(threads)
    begun, characters = clock(), step()
    while clock() - begun < seconds:
        characters += step()
    return characters / max(clock() - begun, 1e-9)
