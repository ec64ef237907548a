"""How long ``charrnn train`` takes to its first step, and ``charrnn --help`` to its answer.

    .venv/bin/python scripts/bench/startup.py [--config shakespeare.yaml] [--repeats 5] [--set KEY=VALUE]

From the start of the process to the first line of ``metrics.jsonl``, which the first step writes here
(``run.log_every=1``); with an empty cache of encoded texts (cold) and a filled one (warm); medians. Goals: 3 s and
0.3 s. Exit code 1 above. The text must be there: see $CHARRNN_DATA. Processor seconds say how much of it was waiting
for neighbours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charrnn.runs.environment import processor_name

TRAIN_GOAL, HELP_GOAL = 3.0, 0.3
PROGRAM = [sys.executable, "-c", "from charrnn.cli import main; main()"]
Taken = tuple[float, float]  # seconds by the clock, and of the processor
SETTINGS = ["run.log_every=1", "run.eval_every=1000000000", "training.max_time=1000h"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cold = [first_step(options, Path(folder), f"cold-{number}") for number in range(options.repeats)]
        warm = [first_step(options, Path(folder), "cold-0") for _ in range(options.repeats)]
        helps = [to_its_end(["--help"]) for _ in range(options.repeats)]
    print(f"{processor_name()}; {options.config} {' '.join(options.set)}")
    slow = report("train to its first step, text not encoded before", cold, TRAIN_GOAL) > TRAIN_GOAL
    slow |= report("train to its first step, text encoded before", warm, TRAIN_GOAL) > TRAIN_GOAL
    slow |= report("--help", helps, HELP_GOAL) > HELP_GOAL
    return int(slow)


def report(name: str, taken: list[Taken], goal: float) -> float:
    """Print the medians; the one of the wall clock."""
    wall, own = (statistics.median(seconds) for seconds in zip(*taken, strict=True))
    between = f"{min(taken)[0]:.2f} to {max(taken)[0]:.2f}"
    print(f"{name}: median {wall:.2f} s, {between} (goal {goal}); {own:.2f} processor seconds", flush=True)
    return float(wall)


def first_step(options: argparse.Namespace, folder: Path, cache: str) -> Taken:
    """The time until a training has written its first line of metrics."""
    out = Path(tempfile.mkdtemp(dir=folder))
    words = ["train", "--config", options.config, "--out", str(out), "--name", "run"]
    words += [f"--set={one}" for one in [*options.set, *SETTINGS]]
    metrics = out / "run" / "metrics.jsonl"
    used, begun = children_seconds(), time.perf_counter()
    process = subprocess.Popen(
        [*PROGRAM, *words],
        env={**os.environ, "CHARRNN_CACHE": str(folder / cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"charrnn {' '.join(words)} ended with exit code {process.returncode}")
            time.sleep(0.005)
        wall = time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()
    return wall, children_seconds() - used


def to_its_end(words: list[str]) -> Taken:
    """The time that a command takes."""
    used, begun = children_seconds(), time.perf_counter()
    subprocess.run([*PROGRAM, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, children_seconds() - used


def children_seconds() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
