"""Anonymous resident memory of ``charrnn train`` on a 1 GB text beside that on a 1 MB text.

    .venv/bin/python scripts/bench/memory.py [--megabytes 1000]

The texts are generated on the spot and deleted. ``RssAnon`` of the whole process is read 50 times a second from its
start to its end, encoding included; pages of mapped files do not count. Linux only. Exit code 1 if the peaks differ
by more than 100 MB.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_MB = 100.0
STEPS = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = peak_of_training(1, Path(folder))
        large = peak_of_training(options.megabytes, Path(folder))
    print(f"difference {large - small:+.1f} MB (goal: at most {GOAL_MB:.0f})")
    return int(large - small > GOAL_MB)


def write_text(path: Path, megabytes: int) -> None:
    """English-looking lines, shuffled anew in every megabyte."""
    words = ["the", "of", "and", "to", "in", "that", "with", "harbour", "lamp", "bell", "tide", "salt", "not", "are"]
    generator = random.Random(1)
    lines = [" ".join(generator.choices(words, k=12)) + "\n" for _ in range(18_000)]
    with path.open("w") as file:
        for _ in range(megabytes):
            generator.shuffle(lines)
            file.write("".join(lines)[:1_000_000])


def peak_of_training(megabytes: int, folder: Path) -> float:
    """Peak RssAnon in MB of a training on a text of this size, from an empty cache."""
    text = folder / f"{megabytes}.txt"
    write_text(text, megabytes)
    command = [str(Path(sys.executable).with_name("charrnn")), "train", "--config", "shakespeare.yaml"]
    settings = ["--data", str(text), "--out", str(folder), "--set", f"training.max_steps={STEPS}"]
    environment = {**os.environ, "CHARRNN_CACHE": str(folder / f"cache-{megabytes}")}
    begun = time.monotonic()
    peak = 0.0
    with subprocess.Popen([*command, *settings], env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, rss_anon(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"charrnn train ended with exit code {process.returncode}")
    print(f"{megabytes:5} MB text: peak RssAnon {peak:.1f} MB, {time.monotonic() - begun:.0f} s in all")
    text.unlink()
    return peak


def rss_anon(pid: int) -> float:
    """Anonymous resident memory of a process, MB; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    values = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(values[0]) * 1024 / 1e6 if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
