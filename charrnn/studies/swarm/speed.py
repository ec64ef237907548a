"""How to use this machine for a hive: how many processes, with how many threads, how many bees in one computation.

Measured, not guessed: the bees' own step, on all processes at once, for a moment each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from charrnn.config.schema import Config
from charrnn.studies.swarm.texts import Parcel, open_parcel
from charrnn.training.process import prepare_process
from charrnn.training.stacked import StackedTrainer
from charrnn.training.trainer import Trainer

PROBE_SECONDS = 0.5
WARM_UP_STEPS = 3
MOST_TOGETHER = 64
CLEARLY = 1.1  # times as fast before bees are stacked: on its own each is bit for bit the run that train would make


@dataclass(frozen=True)
class Arrangement:
    """``jobs`` processes of ``threads`` threads each, with ``together`` bees at a time in each."""

    jobs: int
    threads: int
    together: int = 1

    def __str__(self) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        stacked = f", {self.together} bees at a time as one batched computation" if self.together > 1 else ""
        if self.jobs == 1:
            return f"one process with {threads}{stacked}"
        return f"{self.jobs} processes with {threads} each{stacked}"


def probe(parcel: Parcel, configs: Sequence[Config], threads: int) -> float:
    """Steps of bees per second: of one bee, or of several stacked."""
    text = open_parcel(parcel)
    prepare_process(threads)
    if len(configs) == 1:
        config = configs[0]
        alone = Trainer(text.train_ids, len(text.vocabulary), config.model, config.training)
        return _rate(lambda: float(alone.step(config.training.lr).loss))
    pairs = [(config.model, config.training) for config in configs]
    stacked = StackedTrainer(text.train_ids, len(text.vocabulary), pairs)
    rates = [config.training.lr for config in configs]
    return len(configs) * _rate(lambda: float(stacked.step(rates).loss[0]))


def _rate(step: Callable[[], object]) -> float:
    """Steps per second; what ``step`` returns must have waited for the device."""
    for _ in range(WARM_UP_STEPS):
        step()
    begun, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < PROBE_SECONDS:
        step()
        count += 1
    return count / elapsed


def together_rate(executor: Executor, jobs: int, parcel: Parcel, configs: Sequence[Config], threads: int) -> float:
    """Steps of bees per second of ``jobs`` processes at once."""
    futures = [executor.submit(probe, parcel, configs, threads) for _ in range(jobs)]
    return sum(future.result() for future in futures)


def choose_processes(executor: Executor, cores: int, parcel: Parcel, config: Config) -> tuple[Arrangement, float]:
    """From one thread in each of ``cores`` processes to all threads in one, halving, while that is faster; and how fast
    that is."""
    best, best_rate = Arrangement(cores, 1), 0.0
    jobs = cores
    while jobs >= 1:
        arrangement = Arrangement(jobs, cores // jobs)
        rate = together_rate(executor, jobs, parcel, [config], arrangement.threads)
        if rate <= best_rate:
            break
        best, best_rate = arrangement, rate
        jobs //= 2
    return best, best_rate


def choose_together(
    executor: Executor, arrangement: Arrangement, alone: float, parcel: Parcel, configs: Sequence[Config]
) -> Arrangement:
    """As many bees at a time as keep all processes busy, if that is clearly faster than one at a time.

    Args:
        alone: steps of bees per second one at a time.
        configs: all bees that can be stacked with each other.
    """
    together = bees_at_a_time(len(configs), arrangement.jobs)
    if together < 2:
        return arrangement
    stacked = together_rate(executor, arrangement.jobs, parcel, configs[:together], arrangement.threads)
    if stacked < CLEARLY * alone:
        return arrangement
    return Arrangement(arrangement.jobs, arrangement.threads, together)


def bees_at_a_time(bees: int, jobs: int) -> int:
    """So many that all processes have some, and none has too many."""
    return min(math.ceil(bees / jobs), MOST_TOGETHER)


def probing(config: Config) -> Config:
    """A config that takes any number of steps at a rate that does no harm: only its speed is of interest."""
    return config.with_training(lr=min(config.training.lr, 1e-3), min_lr=0.0)
