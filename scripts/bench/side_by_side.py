"""What two trainings on one machine leave each other: one alone, two begun together, one that joins another later.

    .venv/bin/python scripts/bench/side_by_side.py [--config shakespeare.yaml] [--seconds 15] [--join 10] [--set K=V]

Real ``charrnn train`` processes, as somebody would start them in two terminals. Speeds are characters per second, from
the log lines of the time in which all of a case were running. Goal: two together make 0.7 of what one alone makes.
Alone is measured before and after, and the mean is taken: neighbours come and go. Exit code 1 below the goal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charrnn.runs.environment import processor_name
from charrnn.runs.metrics import read_metrics
from charrnn.training.load import usable_cores

GOAL = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each case, once all its trainings run")
    parser.add_argument("--join", type=float, default=10.0, help="seconds that one trains before the other comes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    print(f"{processor_name()}, {len(usable_cores())} cores; {options.config} {' '.join(options.set)}")
    alone = [case("alone", options, 1, 0.0)]
    together = [case("both at once", options, 2, 0.0), case("one joins later", options, 2, options.join)]
    alone.append(case("alone again", options, 1, 0.0))
    one = sum(alone) / len(alone)
    print(f"both at once {together[0] / one:.2f}, one joins later {together[1] / one:.2f} of one alone (goal {GOAL})")
    return int(min(together) < GOAL * one)


def case(name: str, options: argparse.Namespace, count: int, delay: float) -> float:
    """Run ``count`` trainings, the second ``delay`` seconds after the first has begun to train; their common speed."""
    with tempfile.TemporaryDirectory() as folder:
        trainings: list[Training] = []
        try:
            for number in range(count):
                if number and delay:
                    trainings[0].wait_until_running()
                    time.sleep(delay)
                trainings.append(Training(options, Path(folder) / str(number)))
            for training in trainings:
                training.wait_until_running()
            before = [training.position() for training in trainings]
            time.sleep(options.seconds)
            speeds = [training.speed(since) for training, since in zip(trainings, before, strict=True)]
        finally:
            for training in trainings:
                training.end()
        print(f"{name}: {' + '.join(f'{speed:,.0f}' for speed in speeds)} characters per second", flush=True)
        for number, training in enumerate(trainings):
            for line in training.said():
                print(f"    {number}: {line}", flush=True)
        return sum(speeds)


class Training:
    """A ``charrnn train`` that goes on until it is ended."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        folder.mkdir()
        self.metrics, self.stderr = folder / "run" / "metrics.jsonl", folder / "stderr"
        endless = ["training.max_time=1000h", "run.log_every=5", "run.eval_every=1000000000"]
        words = [sys.executable, "-c", "from charrnn.cli import main; main()", "train", "--config", options.config]
        words += ["--out", str(folder), "--name", "run", *(f"--set={one}" for one in [*options.set, *endless])]
        with self.stderr.open("w") as file:
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file)

    def wait_until_running(self) -> None:
        while self.position()[0] == 0:
            if self.process.poll() is not None:
                raise SystemExit(
                    f"a training ended with exit code {self.process.returncode}: {self.stderr.read_text()}"
                )
            time.sleep(0.05)

    def position(self) -> tuple[float, float]:
        """Passes over the text, and the run's own seconds."""
        rows = list(read_metrics(self.metrics)) if self.metrics.exists() else []
        return (rows[-1]["epoch"], rows[-1]["seconds"]) if rows else (0.0, 0.0)

    def speed(self, since: tuple[float, float]) -> float:
        """Characters per second since then."""
        rows = [row for row in read_metrics(self.metrics) if row["seconds"] > since[1] and "chars_per_sec" in row]
        if not rows:
            return 0.0  # not one log line
        seconds = [row["seconds"] for row in rows]
        passed = [b - a for a, b in zip([since[1], *seconds], seconds, strict=False)]
        return float(sum(row["chars_per_sec"] * long for row, long in zip(rows, passed, strict=True)) / sum(passed))

    def said(self) -> list[str]:
        """What it said about threads and speed."""
        lines = self.stderr.read_text().splitlines()
        return [line for line in lines if line.startswith("Threads:") or "characters per second from" in line]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    sys.exit(main())
