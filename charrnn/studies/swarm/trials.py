"""A search under way: combinations begun, their bees flown in waves, what came of each told to the memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from charrnn.errors import UsageError
from charrnn.studies.swarm.arrange import stacking_key
from charrnn.studies.swarm.bee import Task
from charrnn.studies.swarm.colony import task_of
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.memory import Memory, Proposal
from charrnn.studies.swarm.plan import Swarm
from charrnn.studies.swarm.search import CAP, Search
from charrnn.studies.swarm.speed import Arrangement
from charrnn.studies.swarm.study import Watcher as HiveWatcher
from charrnn.studies.swarm.texts import Parcel
from charrnn.studies.swarm.work import Crew, Workplace, make_units


class Watcher(HiveWatcher, Protocol):
    """Whoever is told how a search fares."""

    def skipped(self, bees: int) -> None:
        """So many bees need not fly: their combination was pruned, was tried before, or cannot be trained."""


def fly_search(
    search: Search,
    memory: Memory,
    hive: Hive,
    place: Workplace,
    arrangement: Arrangement,
    watcher: Watcher,
    should_stop: Callable[[], object],
    keep_checkpoints: bool,
) -> None:
    """Try combinations until there are as many as wanted, and keep each bee as it lands.

    A new one is begun whenever there is a process without work: with one process they come one after the other.
    """
    hive.tidy()
    flock = _Flock(search, memory, hive, Crew(place, keep_checkpoints), arrangement, watcher)
    try:
        while True:
            while not should_stop() and len(flock.crew.flying) < arrangement.jobs and flock.begin():
                pass
            if not flock.crew.flying:
                break
            flock.land()
            watcher.flying(place.progress)
            if should_stop():
                flock.crew.recall()
    finally:
        flock.give_up()


@dataclass
class _Trying:
    """A combination on its way. Its bees fly in waves: all at once, or, if it may be pruned, one by one."""

    proposal: Proposal
    swarm: Swarm
    parcel: Parcel
    waves: list[list[Task]]
    landed: int = 0  # waves
    own: int = 0  # bees that were sent, or found, for this combination and not for an equal one before it

    @property
    def flown(self) -> list[Task]:
        return [task for wave in self.waves[: self.landed] for task in wave]


@dataclass
class _Flock:
    """All combinations on their way, and every bee that was sent or has landed, by its place in the hive."""

    search: Search
    memory: Memory
    hive: Hive
    crew: Crew
    arrangement: Arrangement
    watcher: Watcher
    trying: list[_Trying] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin(self) -> bool:
        """Begin another combination; False if there are no more."""
        proposal = self.memory.ask(self.search.groups, self.search.trials)
        if proposal is None:
            return False
        try:
            swarm, parcel = self.search.swarm(proposal.point)
            if self.arrangement.together > 1:  # what is stacked is decided here, where its device may not be
                stacking_key(Task(swarm.name, swarm.config))
        except UsageError as error:
            self.memory.refuse(proposal, str(error))
            self.watcher.skipped(self.search.seeds)
            return True
        self.hive.add_swarm(swarm)
        first = self.search.base.training.seed
        tasks = [task_of(self.hive, swarm, first + n, self.arrangement.threads) for n in range(self.search.seeds)]
        one = _Trying(proposal, swarm, parcel, [[task] for task in tasks] if self.search.prune else [tasks])
        self.trying.append(one)
        self._advance(one)
        return True

    def land(self) -> None:
        """Take in what has landed by now, and see what it means for each combination."""
        for landed in self.crew.poll():
            if landed.task.place not in self.results:
                self.hive.keep(landed)
                self.results[landed.task.place] = landed.result
                self.watcher.landed(landed.task, landed.result, anew=True)
        for one in list(self.trying):
            self._advance(one)

    def _advance(self, one: _Trying) -> None:
        """Send the next wave once the last one is there; tell of the combination when it is at its end."""
        while one.landed < len(one.waves):
            wave = one.waves[one.landed]
            self._send(one, wave)
            if any(task.place not in self.results for task in wave):
                return
            one.landed += 1
            left = len(one.waves) - one.landed
            if left and self.memory.hopeless(one.proposal, one.landed, self._median(one)):
                self._finish(one, pruned=True)
                return
        self._finish(one, pruned=False)

    def _send(self, one: _Trying, wave: list[Task]) -> None:
        """Train those bees of a wave that are neither there nor under way, for this combination or an equal one."""
        one.own += sum(task.place not in self.sent for task in wave)
        for task in wave:
            if task.place not in self.sent and self.hive.has_landed(task):
                self.sent.add(task.place)
                self.results[task.place] = self.hive.result(task) or {}
                self.watcher.landed(task, self.results[task.place], anew=False)
        together = min(self.arrangement.together, self.search.seeds)
        for unit in make_units([(task, one.parcel) for task in wave], together, stacking_key):
            if any(task.place not in self.sent for task in unit.tasks):
                self.crew.send(unit)
                self.sent |= {task.place for task in unit.tasks}

    def _losses(self, one: _Trying) -> list[float | None]:
        return [self.results[task.place]["val_loss"] for task in one.flown]

    def _median(self, one: _Trying) -> float:
        cap = CAP * math.log(len(one.parcel.text.vocabulary))
        return median(cap if loss is None else min(loss, cap) for loss in self._losses(one))

    def _finish(self, one: _Trying, pruned: bool) -> None:
        self.trying.remove(one)
        self.watcher.skipped(self.search.seeds - one.own)
        losses = self._losses(one)
        self.memory.finish(
            one.proposal,
            None if pruned else self._median(one),
            swarm=one.swarm.name,
            bees=len(losses),
            diverged=losses.count(None) / len(losses),
        )

    def give_up(self) -> None:
        """Those that are still on their way will be tried another time."""
        for one in self.trying:
            self.memory.give_up(one.proposal)
        self.trying.clear()
