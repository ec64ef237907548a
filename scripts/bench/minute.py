"""What a minute of training gives: ``charrnn train --config shakespeare.yaml --max-time 60s``, then ``charrnn eval``.

    .venv/bin/python scripts/bench/minute.py [--seeds 3] [--set training.precision=fp32 ...]

Prints, for every seed, steps, characters per second and the loss over the whole validation split (the best
checkpoint, carried and cold state), and the processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from charrnn.runs.environment import processor_name
from charrnn.runs.metrics import read_metrics
from charrnn.training.precision import has_amx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    print(f"{processor_name()}, AMX: {'yes' if has_amx() else 'no'}; {options.config} {' '.join(options.set)}")
    losses = []
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            losses.append(one_minute(options, seed, Path(folder)))
    print(f"validation: median {statistics.median(losses):.4f}, worst {max(losses):.4f} nats per character")


def one_minute(options: argparse.Namespace, seed: int, folder: Path) -> float:
    settings = [f"--set={assignment}" for assignment in options.set]
    where = ["--seed", str(seed), "--out", str(folder), "--name", "run"]
    charrnn("train", "--config", options.config, "--max-time", options.time, *settings, *where)
    found = json.loads(charrnn("eval", "--checkpoint", str(folder / "run"), "--json"))
    rows = list(read_metrics(folder / "run" / "metrics.jsonl"))
    speed = statistics.median(row["chars_per_sec"] for row in rows if "chars_per_sec" in row)
    carried, cold = (found[state]["nats_per_char"] for state in ("carried", "cold"))
    print(f"seed {seed}: {rows[-1]['step']:,} steps, {speed:,.0f} characters/s, carried {carried:.4f}, cold {cold:.4f}")
    return float(carried)


def charrnn(*arguments: str) -> str:
    program = str(Path(sys.executable).with_name("charrnn"))
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
