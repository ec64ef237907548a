"""A hive flown, and what its bees say together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from charrnn.studies.swarm.arrange import stacking_key
from charrnn.studies.swarm.bee import Task
from charrnn.studies.swarm.colony import Colony
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.results import Results, collect
from charrnn.studies.swarm.speed import Arrangement
from charrnn.studies.swarm.work import Workplace, landings, make_units


class Watcher(Protocol):
    """Whoever is told how a hive fares."""

    def landed(self, task: Task, result: dict[str, Any], anew: bool) -> None:
        """A bee is there; ``anew`` if it has just come."""

    def flying(self, bees: float) -> None:
        """As many bees' worth of training was done by now, those under way included."""


def fly(
    colony: Colony,
    arrangement: Arrangement,
    hive: Hive,
    place: Workplace,
    watcher: Watcher,
    should_stop: Callable[[], object],
    keep_checkpoints: bool,
) -> None:
    """Train every bee that has not landed yet, and keep each as it lands."""
    hive.tidy()
    for swarm, _ in colony.swarms:
        hive.add_swarm(swarm)
    tasks = colony.tasks(hive, arrangement.threads)
    there = {task.place for task, _ in tasks if hive.has_landed(task)}
    for task, _ in tasks:
        if task.place in there:
            watcher.landed(task, hive.result(task) or {}, anew=False)
    units = make_units(tasks, arrangement.together, stacking_key)
    missing = [unit for unit in units if any(task.place not in there for task in unit.tasks)]
    for landed in landings(missing, place, keep_checkpoints, should_stop):
        for one in landed:
            if one.task.place not in there:
                there.add(one.task.place)
                hive.keep(one)
                watcher.landed(one.task, one.result, anew=True)
        watcher.flying(place.progress)


def results_of(colony: Colony, hive: Hive) -> Results:
    """What the bees say together, kept in the hive as well."""
    results = collect(hive, colony.swarms, colony.seeds, colony.groups)
    hive.write_results(results)
    return results
