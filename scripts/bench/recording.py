"""What it costs to look inside one step per log line (``training/observation.py``), as a share of training time.

    .venv/bin/python scripts/bench/recording.py [--config shakespeare.yaml] [--pairs 40] [--set KEY=VALUE]

Two trainers of the same config take turns, one log interval each: one looks inside its last step and turns what it
saw into a line of metrics, the other does not. Printed is the median over the pairs, and its quartiles: the same work
varies by more than the difference on a shared machine. Exit code 1 above 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from charrnn.config.library import find_config
from charrnn.config.loader import load_config
from charrnn.runs.metrics import json_line
from charrnn.text.places import Places
from charrnn.training.meter import Meter
from charrnn.training.session import Session, new_session

GOAL = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = load_config(find_config(options.config), options.set)
    sessions = {observe: new_session(config, Places.from_environment()) for observe in (True, False)}
    for observe, session in sessions.items():
        interval(session, observe)  # the first steps are slower
    shares = []
    for number in range(options.pairs):
        seconds = {}
        for observe in (True, False) if number % 2 else (False, True):
            seconds[observe] = interval(sessions[observe], observe)
        shares.append(seconds[True] / seconds[False] - 1)
    low, middle, high = statistics.quantiles(shares, n=4)
    print(
        f"{options.config}, one step in {config.run.log_every} observed, {options.pairs} pairs: "
        f"{middle:+.2%} of training time (quartiles {low:+.2%}, {high:+.2%}; goal {GOAL:.0%})"
    )
    return int(middle > GOAL)


def interval(session: Session, observe: bool) -> float:
    """Seconds for one log interval and its line."""
    every, meter = session.config.run.log_every, Meter(session.config.training.grad_clip)
    begun = time.perf_counter()
    for step in range(1, every + 1):
        meter.add(session.trainer.step(session.config.training.lr / 10, observe=observe and step == every))
    json_line(meter.summary())
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
