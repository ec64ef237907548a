"""How much faster a swarm is than its bees one after the other, with all threads, in one process.

    .venv/bin/python scripts/bench/swarm.py [--hidden-size 64] [--bees 12] [--steps 400] [--rounds 3] [--set KEY=VALUE]

An LSTM on tiny Shakespeare. Three ways take turns, in processes that have been started and warmed before: the bees one
after the other with all threads (what a loop over ``charrnn train`` does, its start-up left out); one process per core
with one thread each; and the same with bees stacked into one batched computation. Printed are bees per minute and
ratios to the first way. Exit code 1 where the best of the other two stays below the goal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from charrnn.config.library import find_config
from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.studies.swarm.bee import Task, train_bees
from charrnn.studies.swarm.local import LocalExecutor
from charrnn.studies.swarm.speed import bees_at_a_time
from charrnn.studies.swarm.texts import Parcel, pack_text
from charrnn.text.places import Places
from charrnn.training.load import usable_cores

GOAL = 1.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--bees", type=int, default=12)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = [f"model.hidden_size={options.hidden_size}", f"training.max_steps={options.steps}"]
    # Little to evaluate: it is training that is compared.
    settings += ["training.max_time=null", "run.eval_characters=20000"]
    config = load_config(find_config("shakespeare.yaml"), [*settings, *options.set])
    parcel = pack_text(config.corpus, Places.from_environment())
    cores = len(usable_cores())
    together = bees_at_a_time(options.bees, cores)
    ways = {
        f"one after the other, {cores} threads": (LocalExecutor(1), cores, 1),
        f"{cores} processes, one thread each": (LocalExecutor(cores), 1, 1),
        f"the same, {together} bees stacked": (LocalExecutor(cores), 1, together),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, options.rounds):  # the first round warms up
        for name, (executor, threads, stacked) in ways.items():
            seconds = fly(executor, parcel, config, threads, stacked, options.bees)
            if number >= 0:
                rates[name].append(60 * options.bees / seconds)
    for executor, _, _ in ways.values():
        executor.shutdown()
    return report(rates)


def fly(executor: LocalExecutor, parcel: Parcel, config: Config, threads: int, together: int, bees: int) -> float:
    """Seconds until all bees have landed."""
    tasks = [Task("all", config.with_training(seed=seed, threads=threads)) for seed in range(1, bees + 1)]
    units = [tuple(tasks[start : start + together]) for start in range(0, bees, together)]
    begun = time.perf_counter()
    futures = [executor.submit(train_bees, parcel, unit, True) for unit in units]
    landed = [one for future in futures for one in future.result()]
    seconds = time.perf_counter() - begun
    assert [one.result["status"] for one in landed] == ["ended"] * bees
    return seconds


def report(rates: dict[str, list[float]]) -> int:
    """Print the rates, and the exit code."""
    first = next(iter(rates.values()))
    best = 0.0
    for name, measured in rates.items():
        ratios = [rate / alone for rate, alone in zip(measured, first, strict=True)]
        best = max(best, statistics.median(ratios)) if measured is not first else best
        print(
            f"{name:36} {statistics.median(measured):7.1f} bees per minute   "
            f"{statistics.median(ratios):5.2f} times ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )
    print(f"goal {GOAL}")
    return int(best < GOAL)


if __name__ == "__main__":
    sys.exit(main())
