"""Characters per second and memory of ``charrnn train`` as the text grows, and as the network grows.

    .venv/bin/python scripts/bench/growth.py [--sizes 1MB,16MB,256MB,1GB,4GB] [--hidden 64,128,256,512,1024,2048]
                                             [--steps 300] [--seconds 10] [-o growth.png]

The texts are shuffled pieces of tiny Shakespeare (of the play where that is not to be had), made on the spot and
deleted with their cache; the disk must have room for twice the largest. Every text is trained on twice by a new
process, ``--steps`` steps each: from an empty cache, and again. *Start* is the time from the process's first moment to
its run folder: Python and torch, reading and encoding the text. After each of the two stands the same training on the
base text, since the machine may not be as fast in a minute as it is now: *times base* compares the two. Networks of
each size are trained on the base text for ``--seconds``.

Read 100 times a second: VmHWM (the most memory that was ever resident), and the peaks of its two parts, anonymous
memory (RssAnon) and pages of files, of programs and of the mapped text (RssFile; the system may take these back at any
time). Linux only. Exit code 1 if the largest text takes over 100 MB more than the smallest.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from charrnn.plots.figures import BLUE, GREEN, ORANGE, dress, save_figure
from charrnn.runs.environment import processor_name
from charrnn.runs.metrics import read_metrics
from charrnn.text.named import NAMED, local_shakespeare
from charrnn.text.places import Places

GOAL_MB = 100.0
LOOK_SECONDS = 0.01
PIECE_BYTES = 10_000
ROOM = 2.1  # times the text: itself, its ids, and a little
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
LOG_EVERY = 10
PARTS = {
    "resident": "resident (VmHWM)",
    "anonymous": "of it anonymous (RssAnon)",
    "file_pages": "of it pages of files (RssFile)",
}


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="charrnn-") as name:
        folder = Path(name)
        make_room_for(max(options.sizes, default=0), folder)
        base = base_text(folder)
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(f"{date.today()}, {processor_name()}, {len(os.sched_getaffinity(0))} cores, {threads} threads")
        print(f"\n    {shlex.join(sys.argv)}\n")
        print(f"{options.config}; texts of shuffled pieces of {base.name}:\n")
        texts = [of_text(size, base, folder, options) for size in head(Text.COLUMNS, options.sizes)]
        print(f"\n{options.config}, hidden_size changed; {base.name}:\n")
        networks = [of_network(size, base, folder, options) for size in head(Network.COLUMNS, options.hidden)]
    if options.o:
        save_figure(draw(texts, networks), options.o)
    if len(texts) < 2:
        return 0
    more = texts[-1].peaks.resident - texts[0].peaks.resident
    print(f"\nthe largest text takes {more:+.0f} MB more than the smallest (goal: at most {GOAL_MB:.0f})")
    return int(more > GOAL_MB)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, default="1MB,16MB,256MB,1GB,4GB", help="of the texts, ascending")
    parser.add_argument("--hidden", type=numbers, default="64,128,256,512,1024,2048", help="hidden sizes, ascending")
    parser.add_argument("--steps", type=int, default=300, help="of a training on a text of each size")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a training of a network of each size")
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("-o", type=Path, metavar="PICTURE", help="draw it as well: .png, .svg or .pdf")
    return parser.parse_args()


def sizes(text: str) -> list[int]:
    """'1MB,4GB' in bytes."""
    return [int(float(word[:-2]) * UNITS[word[-2:].upper()]) for word in text.split(",") if word]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def in_words(size: int) -> str:
    unit = max((unit for unit, value in UNITS.items() if value <= size), key=UNITS.__getitem__, default="KB")
    return f"{size / UNITS[unit]:g} {unit}"


# The texts


def make_room_for(largest: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM * largest:
        raise SystemExit(
            f"{folder}: {in_words(free)} free, but a text of {in_words(largest)} and its ids need "
            f"{in_words(int(ROOM * largest))}; choose smaller --sizes, or another disk with TMPDIR"
        )


def base_text(folder: Path) -> Path:
    """Tiny Shakespeare if it is on this machine, else a copy of the play."""
    places = Places.from_environment()
    if found := local_shakespeare(places):
        return found.absolute()
    copy = folder / "play.txt"
    with NAMED["play"].find(places)[0].open() as play:
        copy.write_bytes(play.read())
    return copy


def write_text(path: Path, base: Path, size: int) -> None:
    """``size`` bytes of the pieces of ``base``, shuffled anew whenever all have been used."""
    content, generator, left = base.read_bytes(), random.Random(1), size
    pieces = [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]
    with path.open("wb") as file:
        while left > 0:
            generator.shuffle(pieces)
            left -= file.write(b"".join(pieces)[:left])


# The trainings


@dataclass(frozen=True)
class Peaks:
    """Of a process, or of several: MB (10^6 bytes)."""

    resident: float = 0.0
    anonymous: float = 0.0
    file_pages: float = 0.0

    def beside(self, other: Peaks) -> Peaks:
        """The higher of each."""
        return Peaks(*(max(mine, its) for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def cells(self) -> list[str]:
        return [f"{megabytes:,.0f}" for megabytes in vars(self).values()]


@dataclass(frozen=True)
class Training:
    """A process of ``charrnn train``: speeds of its log lines after the first, characters per second."""

    speeds: list[float]
    parameters: int
    start_seconds: float
    peaks: Peaks


@dataclass(frozen=True)
class Text:
    """A row of the first table."""

    COLUMNS = (
        *("text", "characters/s", "times base", "first start, s", "start again, s"),
        *("peak resident, MB", "anonymous, MB", "file pages, MB"),
    )
    size: int
    first: Training
    again: Training
    beside: list[Training]

    @property
    def peaks(self) -> Peaks:
        return self.first.peaks.beside(self.again.peaks)

    @property
    def speed(self) -> float:
        return median_speed([self.first, self.again])


@dataclass(frozen=True)
class Network:
    """A row of the second table."""

    COLUMNS = (
        *("hidden_size", "parameters", "characters/s"),
        *("peak resident, MB", "anonymous, MB", "file pages, MB"),
    )
    hidden_size: int
    training: Training


def of_text(size: int, base: Path, folder: Path, options: argparse.Namespace) -> Text:
    """Measure, print, and leave nothing on the disk."""
    settings = [f"training.max_steps={options.steps}", "training.max_time=null"]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "text.txt"
        write_text(path, base, size)
        trainings = []
        for _ in range(2):
            trainings.append(train(path, Path(name), options, settings))
            trainings.append(train(base, folder, options, settings))
    row = Text(size, trainings[0], trainings[2], trainings[1::2])
    ratio = row.speed / median_speed(row.beside)
    starts = (f"{training.start_seconds:.1f}" for training in (row.first, row.again))
    show([in_words(size), f"{row.speed:,.0f}", f"{ratio:.2f}", *starts, *row.peaks.cells()])
    return row


def of_network(hidden_size: int, base: Path, folder: Path, options: argparse.Namespace) -> Network:
    """Measure and print."""
    settings = [f"model.hidden_size={hidden_size}", f"training.max_time={options.seconds}"]
    row = Network(hidden_size, train(base, folder, options, settings))
    speed = f"{median_speed([row.training]):,.0f}"
    show([str(hidden_size), f"{row.training.parameters:,}", speed, *row.training.peaks.cells()])
    return row


def train(text: Path, folder: Path, options: argparse.Namespace, settings: list[str]) -> Training:
    """Train on a text, its cache in ``folder``; the run is deleted."""
    # Little to evaluate and to save: it is training that is measured.
    settings = [*settings, f"run.log_every={LOG_EVERY}", "run.eval_every=1000000000", "run.eval_characters=20000"]
    words = [str(Path(sys.executable).with_name("charrnn")), "train", "--config", options.config, "--data", str(text)]
    environment = {**os.environ, "CHARRNN_CACHE": str(folder / "cache")}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run, said = Path(out) / "run", Path(out) / "stderr"
        where = ["--out", out, "--name", "run", *(f"--set={setting}" for setting in settings)]
        begun, started, peaks = time.monotonic(), 0.0, Peaks()
        with said.open("w") as stderr, subprocess.Popen([*words, *where], env=environment, stderr=stderr) as process:
            while process.poll() is None:
                peaks = peaks.beside(memory_of(process.pid))
                started = started or (time.monotonic() - begun if run.exists() else 0.0)
                time.sleep(LOOK_SECONDS)
        if process.returncode:
            raise SystemExit(f"{shlex.join([*words, *where])}: exit code {process.returncode}\n{said.read_text()}")
        speeds = [row["chars_per_sec"] for row in read_metrics(run / "metrics.jsonl") if "chars_per_sec" in row]
        counted = re.search(r"([\d,]+) parameters", said.read_text())
    assert counted is not None
    return Training(speeds[1:] or speeds, int(counted[1].replace(",", "")), started, peaks)


def memory_of(pid: int) -> Peaks:
    """Of a process until now (VmHWM) and at this moment; zeros when it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return Peaks()
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, flags=re.MULTILINE))
    return Peaks(*(int(kilobytes.get(name, 0)) * 1024 / 1e6 for name in ("VmHWM", "RssAnon", "RssFile")))


def median_speed(trainings: list[Training]) -> float:
    return statistics.median(speed for training in trainings for speed in training.speeds)


# The table and the plot


def head(columns: Iterable[str], what: list[int]) -> list[int]:
    """Print the head of a table of ``what``, which is given back."""
    columns = list(columns)
    show(columns)
    show(["---:"] * len(columns))
    return what


def show(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def draw(texts: list[Text], networks: list[Network]) -> Figure:
    """Speed above memory, against the size of the text on the left and of the network on the right; all axes log."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    of_texts = [(text.size, text.speed, text.peaks) for text in texts]
    of_networks = [(row.hidden_size, median_speed([row.training]), row.training.peaks) for row in networks]
    draw_column(axes[0, 0], axes[1, 0], of_texts, [in_words(text.size) for text in texts])
    draw_column(axes[0, 1], axes[1, 1], of_networks, [str(row.hidden_size) for row in networks])
    axes[0, 0].set_ylabel("training speed, characters/s")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[1, 0].set_xlabel("size of the text")
    axes[1, 1].set_xlabel("hidden_size of the network")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(f"charrnn train, {processor_name()}", fontsize="medium")
    return figure


def draw_column(above: Axes, below: Axes, rows: list[tuple[int, float, Peaks]], names: list[str]) -> None:
    xs = [x for x, _, _ in rows]
    above.plot(xs, [speed for _, speed, _ in rows], color=BLUE, marker="o")
    for name, colour, marker in (("resident", BLUE, "o"), ("anonymous", ORANGE, "s"), ("file_pages", GREEN, "^")):
        peaks = [vars(peaks)[name] for _, _, peaks in rows]
        below.plot(xs, peaks, label=PARTS[name], color=colour, marker=marker)
    for axis in (above, below):
        dress(axis)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(FixedLocator(xs))
        axis.xaxis.set_major_formatter(FixedFormatter(names))
        axis.xaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    sys.exit(main())
