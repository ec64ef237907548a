"""How a hive fares, on stderr: one bar for all bees with the time left, and a live table of medians."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._interrupts import Interrupts
from charrnn.cli._terminal import PLAIN_LINE_SECONDS, format_loss, format_seconds, printable, say
from charrnn.errors import ClusterLost, Interrupted

if TYPE_CHECKING:
    from charrnn.studies.swarm.arrange import Batched
    from charrnn.studies.swarm.bee import Task
    from charrnn.studies.swarm.cluster import Cluster
    from charrnn.studies.swarm.colony import Colony
    from charrnn.studies.swarm.hive import Hive

BAR = "{percentage:3.0f}%|{bar:24}| {desc}"


def announce_measurement(
    hive: Hive, colony: Colony, cluster: Cluster | None, jobs: int | None, batched: Batched
) -> None:
    """Say why nothing seems to happen, where there will be one."""
    from charrnn.studies.swarm.arrange import is_measured

    if is_measured(hive, colony, cluster, jobs, batched):
        say("        some seconds to measure how this machine is best used ...")


def to_go_on(hive: Hive, cluster: Cluster | None, checkpoints: bool, animate: bool) -> str:
    """The command that goes on with a hive as it was begun."""
    where = [] if cluster is None else ["--scheduler", cluster.address]
    how = [*([] if checkpoints else ["--no-checkpoints"]), *(["--animate"] if animate else [])]
    return shlex.join(["charrnn", "swarm", "--resume", str(hive.path), *where, *how])


@contextmanager
def interruptible(go_on: str) -> Iterator[Interrupts]:
    """Around bees that fly: where they do not all come to land, ``go_on`` is said.

    Raises:
        Interrupted: by a signal; what has landed is kept.
        ClusterLost: now with that command.
    """
    try:
        with Interrupts() as interrupts:
            yield interrupts
    except ClusterLost as error:
        raise ClusterLost(f"{error}; what has landed is kept; once it is there again: {go_on}") from error
    if interrupts.received is not None:
        raise Interrupted(f"interrupted; what has landed is kept; to go on: {go_on}", interrupts.received)


class SwarmBar:
    """Told of every bee that lands. A context manager. ``swarms`` has the labels of each, by name."""

    def __init__(self, swarms: dict[str, str], seeds: int) -> None:
        self._labels = swarms
        self._total = len(swarms) * seeds
        self._results: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._on_terminal = sys.stderr.isatty()
        self._begun = self._last_line = time.monotonic()
        self._there = 0  # bees that had landed before this session
        self._done = 0

    def __enter__(self) -> SwarmBar:
        from tqdm import tqdm

        room = shutil.get_terminal_size().lines - 3
        shown = list(self._labels)[: max(room, 0)]
        self._lines = {
            name: tqdm(total=0, bar_format="{desc}", position=index + 1, leave=False, disable=not self._on_terminal)
            for index, name in enumerate(shown)
        }
        for name, line in self._lines.items():
            line.set_description_str(self._line(name))
        self._bar = tqdm(
            total=self._total,
            bar_format=BAR,
            position=0,
            leave=False,
            disable=not self._on_terminal,
            dynamic_ncols=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for line in (*self._lines.values(), self._bar):
            line.close()

    def landed(self, task: Task, result: dict[str, Any], anew: bool) -> None:
        """Take a bee into the table."""
        self._done += 1
        self._there += not anew
        self._results[task.swarm].append(result)
        if task.swarm in self._lines:
            self._lines[task.swarm].set_description_str(self._line(task.swarm))

    def flying(self, bees: float) -> None:
        """Move the bar on; without a terminal a plain line now and then."""
        from charrnn.config.wording import counted

        done = min(max(self._there + bees, self._done), self._total)
        text = f"{self._done:,} of {counted(self._total, 'bee')}{self._time_left(done)}"
        if self._on_terminal:
            self._bar.n = done
            self._bar.set_description_str(text)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            click.echo(f"{done / self._total:4.0%}  {text}", err=True)

    def _time_left(self, done: float) -> str:
        new = done - self._there
        if new <= 0:
            return ""
        left = (time.monotonic() - self._begun) * (self._total - done) / new
        return f", {format_seconds(left)} left"

    def _line(self, swarm: str) -> str:
        from charrnn.plots.hive import STOPPED, fates
        from charrnn.studies.swarm.results import summary

        bees = self._results[swarm]
        if not bees:
            return printable(f"  {self._labels[swarm]}")
        loss, counts = summary(bees)["median"], fates({"bees": bees})
        lost = [f"{counts[status]} {status}" for status in STOPPED if counts[status]]
        median = f"median {format_loss(loss)}" if math.isfinite(loss) else "no median"
        return printable(f"  {self._labels[swarm]:40}  {', '.join([f'{median} of {len(bees)}', *lost])}")
