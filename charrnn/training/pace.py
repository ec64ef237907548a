"""Notices when a run's speed collapses, and says why as far as this machine can tell."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

import torch

from charrnn.runs.metrics import Row
from charrnn.training.load import Load, read_load, usable_cores
from charrnn.training.loop import Reporter
from charrnn.training.session import Session

COLLAPSED = 1 / 3  # of the usual speed; short windows and neighbours that come and go stay above
RECOVERED = 1 / 2
INTERVALS, SECONDS = 2, 3.0  # so many log lines in a row, over so long: a hiccup is not worth a word
REMEMBERED = 200  # log lines that the usual speed is taken from
ENOUGH = 3  # of them
TAKEN = 0.15  # of all cores, by the host or by a container's limit, before that is called the cause
LACKING = 0.75  # of the run's own cores: with less it was kept from working
A_NEIGHBOUR = 0.3  # of a core
WASTED = 0.5  # of the speed that the cores it had should give: with less its threads spin instead of working
SLOWER = "(heat, a power limit, or neighbours on its host that a virtual machine cannot see)"
ONE_THREAD = "end these, or interrupt this run and go on with --inexact --set training.threads=1"
PAGE_READS = 100  # per second; from a disk, so many take all the time there is


def explain(load: Load, left: float, threads: int, cores: int) -> str:
    """The likeliest cause of a collapse and what to do about it, from what happened meanwhile.

    Args:
        load: the difference between the end and the beginning of the slow time.
        left: the share of the usual speed that is left.
        threads: of this run.
        cores: that it may use.
    """
    wall = max(load.wall, 1e-9)
    had = load.own / wall
    here = f"this run had {had:.1f} of the {threads} {'core' if threads == 1 else 'cores'} it can use"
    if cause := _outside(load, wall, cores, here):
        return cause
    if threads + load.others >= cores + A_NEIGHBOUR:
        theirs = f"other programs keep {load.others:.1f} of {cores} cores busy"
        if threads > 1 and left < WASTED * had / threads:
            return f"its threads wait for each other, because {theirs}; {ONE_THREAD}"
        return f"{theirs}, {here}; end these, or wait: nothing is lost"
    if had < LACKING * threads:
        return f"{here}, no other program had the rest: it was held, or waited for a disk or a device"
    return f"it had its cores to itself: the processor is slower than it was {SLOWER}"


def _outside(load: Load, wall: float, cores: int, here: str) -> str | None:
    """What is not another program's doing."""
    if load.page_reads / wall > PAGE_READS:
        return (
            f"memory is short: {load.page_reads / wall:,.0f} pages per second are read back from the disk; "
            "end other programs, or train with a smaller batch or model"
        )
    if load.throttled / wall > TAKEN * cores:
        return f"this container's share of the processor is used up ({here}); give it more, or train with fewer threads"
    if load.stolen / wall > TAKEN * cores:
        return (
            f"the host of this virtual machine gave {load.stolen / wall:.1f} of its {cores} cores to others ({here}); "
            "nothing on this machine can be done about it"
        )
    return None


class Pace:
    """The speeds of a run's log lines so far, and whether the latest are a collapse.

    Args:
        threads: of the run.
        expected: characters per second that were measured before it began, if they were.
    """

    def __init__(self, threads: int, expected: float | None = None, cores: int | None = None) -> None:
        self.threads, self.expected = threads, expected
        self.cores = len(usable_cores()) if cores is None else cores
        self._speeds: deque[float] = deque(maxlen=REMEMBERED)
        self._before: Load | None = None  # at the line before
        self._slow_since: Load | None = None
        self._slow = 0  # lines in a row
        self._told = False

    @property
    def usual(self) -> float:
        """Characters per second to be expected; 0 while nothing is known."""
        known = [self.expected or 0.0]
        if len(self._speeds) >= ENOUGH:
            known.append(statistics.median(self._speeds))
        return max(known)

    def judge(self, speed: float, now: Load) -> str | None:
        """Take in a log line's characters per second and the load at that moment; a warning if there is one to give.

        One warning per collapse: the next comes only after the speed was back.
        """
        before, self._before = self._before, now
        if speed >= COLLAPSED * self.usual:
            self._told &= speed < RECOVERED * self.usual
            self._speeds.append(speed)
            self._slow = 0
            return None
        if self._slow == 0 or self._slow_since is None:
            self._slow_since = before  # None where the run begins slow
        self._slow += 1
        since = self._slow_since
        if self._told or since is None or self._slow < INTERVALS or now.wall - since.wall < SECONDS:
            return None
        self._told = True
        why = explain(now.since(since), speed / self.usual, self.threads, self.cores)
        return f"down to {speed:,.0f} characters per second from {self.usual:,.0f}: {why}"


class PacedReporter:
    """Passes on what the loop tells, and warns of a collapse; also, once, of an ``obstacle`` as ``Trainer`` has it."""

    def __init__(
        self,
        reporter: Reporter,
        pace: Pace,
        obstacle: Callable[[], str | None],
        read_load: Callable[[], Load] = read_load,
    ) -> None:
        self._reporter, self._pace, self._obstacle, self._read_load = reporter, pace, obstacle, read_load
        self._told: str | None = None
        self.evaluated = reporter.evaluated
        self.warned = reporter.warned

    def logged(self, row: Row, progress: float) -> None:
        """A line of metrics was written."""
        self._reporter.logged(row, progress)
        if warning := self._pace.judge(row["chars_per_sec"], self._read_load()):
            self.warned(warning)
        if (obstacle := self._obstacle()) and obstacle != self._told:
            self._told = obstacle
            self.warned(f"slower than it could be: {obstacle}")


def pace_of(session: Session) -> Pace:
    """The pace of a run that is about to begin or to go on."""
    choice = session.thread_choice
    return Pace(torch.get_num_threads(), choice.speeds[choice.threads] if choice else None)


def paced(reporter: Reporter, session: Session) -> PacedReporter:
    """A reporter for this run that also says when and why it is slow."""
    return PacedReporter(reporter, pace_of(session), lambda: session.trainer.obstacle)
