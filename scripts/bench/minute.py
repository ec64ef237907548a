"""What a minute of training gives: ``charrnn train --config shakespeare.yaml --max-time 60s``, then ``charrnn eval``.

    .venv/bin/python scripts/bench/minute.py [--seeds 3] [--set training.precision=fp32 ...] [--data sonnets.txt --test]

Prints, for every seed, steps, characters per second and the loss over the whole validation split (the best
checkpoint, carried and cold state), and the processor. With ``--test`` the text is split 90/5/5 and the loss over the
test part, which chose no checkpoint, is printed too: to try a recipe on another text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charrnn.runs.environment import processor_name
from charrnn.runs.metrics import read_metrics
from charrnn.training.precision import bf16_extension

TEST_SPLIT = "corpus.split=[0.9, 0.05, 0.05]"


@dataclass(frozen=True)
class Minute:
    """One training: ``seconds`` on its own clock, evaluations within it included; losses in nats per character."""

    steps: int
    seconds: float
    chars_per_sec: float
    carried: dict[str, float]  # by part of the text: val, test
    cold: dict[str, float]

    def __str__(self) -> str:
        losses = [f"{part} carried {self.carried[part]:.4f}, cold {self.cold[part]:.4f}" for part in self.carried]
        return f"{self.steps:,} steps, {self.chars_per_sec:,.0f} characters/s, {', '.join(losses)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--data", metavar="NAME-or-PATH", help="train on this text instead of the config's")
    parser.add_argument("--test", action="store_true", help="split 90/5/5 and score the test part too")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    arguments = ["--config", options.config, "--max-time", options.time, "--set=corpus.fallback=null"]
    arguments += ["--data", options.data] if options.data else []
    arguments += [f"--set={assignment}" for assignment in [*options.set, *([TEST_SPLIT] if options.test else [])]]
    parts = ("val", "test") if options.test else ("val",)
    print(f"{processor_name()}, {bf16_extension() or 'no fast bf16'}; {' '.join(arguments)}")
    minutes = []
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            minutes.append(one_minute([*arguments, "--seed", str(seed)], Path(folder) / "run", parts))
            print(f"seed {seed}: {minutes[-1]}", flush=True)
    for part in parts:
        losses = [minute.carried[part] for minute in minutes]
        print(f"{part}: median {statistics.median(losses):.4f}, worst {max(losses):.4f} nats per character")


def one_minute(arguments: Sequence[str], run: Path, parts: Sequence[str] = ("val",)) -> Minute:
    """Train with these arguments into the new run folder ``run``, and score the best checkpoint on the ``parts``."""
    charrnn("train", *arguments, "--out", str(run.parent), "--name", run.name)
    scores = {part: json.loads(charrnn("eval", "--checkpoint", str(run), "--split", part, "--json")) for part in parts}
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "chars_per_sec" in row]
    carried, cold = (
        {part: float(found[state]["nats_per_char"]) for part, found in scores.items()} for state in ("carried", "cold")
    )
    speed = statistics.median(row["chars_per_sec"] for row in rows)
    return Minute(rows[-1]["step"], rows[-1]["seconds"], speed, carried, cold)


def charrnn(*arguments: str) -> str:
    program = str(Path(sys.executable).with_name("charrnn"))
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
