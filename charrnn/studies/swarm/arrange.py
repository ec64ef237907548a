"""Where the bees of a hive are trained, and how: this machine, used as a measurement suggests, or a cluster."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, UsageError
from charrnn.studies.swarm.bee import Task
from charrnn.studies.swarm.colony import Colony
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.local import LocalWorkplace
from charrnn.studies.swarm.speed import (
    Arrangement,
    bees_at_a_time,
    choose_processes,
    choose_together,
    probing,
    together_rate,
)
from charrnn.studies.swarm.work import Workplace
from charrnn.training.memory import refuse_what_cannot_fit
from charrnn.training.precision import choose_device, choose_precision
from charrnn.training.stacked import stack_key, why_not_stacked

if TYPE_CHECKING:
    from charrnn.studies.swarm.cluster import Cluster

Batched = Literal["auto", "yes", "no"]  # whether bees of one shape are trained as one computation


@contextmanager
def place_for(
    hive: Hive, colony: Colony, cluster: Cluster | None, jobs: int | None, batched: Batched
) -> Iterator[tuple[Workplace, Arrangement]]:
    """The place, and how to use it: as before where the hive was begun already, or rounding would differ."""
    plan = hive.plan
    if cluster is not None:
        _refuse_another_way(hive, colony, batched, cluster.jobs)
        together = bees_at_a_time(len(_largest_family(colony)), cluster.jobs) if batched == "yes" else 1
        threads = plan["threads"] or colony.base.training.threads or 1
        arrangement = Arrangement(cluster.jobs, threads, plan["together"] or together)
        hive.write_plan({**plan, "threads": arrangement.threads, "together": arrangement.together})
        yield cluster, arrangement
        return
    with LocalWorkplace(jobs) as place:
        if plan["threads"] is None:
            arrangement = _measured(place, colony, jobs, batched)
            hive.write_plan({**plan, "threads": arrangement.threads, "together": arrangement.together})
        else:
            fitting = jobs or max(place.cores // plan["threads"], 1)
            _refuse_another_way(hive, colony, batched, fitting)
            arrangement = Arrangement(fitting, plan["threads"], plan["together"])
        place.use(arrangement.jobs)
        yield place, arrangement


def is_measured(hive: Hive, colony: Colony, cluster: Cluster | None, jobs: int | None, batched: Batched) -> bool:
    """Whether ``place_for`` takes its time: neither the user nor a measurement before has decided everything."""
    if cluster is not None or hive.plan["threads"] is not None:
        return False
    is_open = jobs is None and colony.base.training.threads is None
    return is_open or (batched == "auto" and bool(_largest_family(colony)))


def _refuse_another_way(hive: Hive, colony: Colony, batched: Batched, jobs: int) -> None:
    """Raises UsageError where a begun hive is to be gone on with otherwise than it was begun."""
    _refuse_unstackable(colony, batched)
    together = hive.plan["together"] or 0
    alone = together == 1 and batched == "yes" and bees_at_a_time(len(_largest_family(colony)), jobs) > 1
    if alone or (together > 1 and batched == "no"):
        way = "one at a time" if alone else f"{together} at a time as one batched computation"
        raise UsageError(
            f"--batched {batched}: the bees of {hive.path} train {way}, and go on so, or rounding would differ; "
            "leave out --batched, or give another --name for a new hive"
        )


def _measured(place: LocalWorkplace, colony: Colony, jobs: int | None, batched: Batched) -> Arrangement:
    try:
        return arrange(place, colony, jobs, batched)
    except (RuntimeError, MemoryError) as error:  # torch's, and that of a process that died
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CharRNNError(
            f"the measurement of how this machine is best used failed: {cause}; where memory is short, give --jobs 1 "
            "--batched no, or a smaller network"
        ) from error


def arrange(place: LocalWorkplace, colony: Colony, jobs: int | None, batched: Batched) -> Arrangement:
    """How to use this machine, by a measurement of a second or two; ``jobs`` and the config's ``training.threads`` are
    what the user wants, if anything."""
    swarm, parcel = colony.swarms[0]
    threads = colony.base.training.threads
    slots = min(place.cores, len(colony.swarms) * len(colony.seeds))
    if jobs is None and threads is None:
        found, rate = choose_processes(place.executor, slots, parcel, probing(swarm.config))
    else:
        jobs = jobs or max(slots // (threads or 1), 1)
        found, rate = Arrangement(jobs, threads or max(place.cores // jobs, 1)), None
    family = [] if batched == "no" else _largest_family(colony)
    if not family:
        return found
    if batched == "yes":
        return Arrangement(found.jobs, found.threads, bees_at_a_time(len(family), found.jobs))
    configs = [probing(config) for config in family]
    if rate is None:
        rate = together_rate(place.executor, found.jobs, parcel, configs[:1], found.threads)
    return choose_together(place.executor, found, rate, parcel, configs)


def refuse_impossible(colony: Colony, batched: Batched, cluster: Cluster | None) -> None:
    """Raises UsageError where bees are to be stacked that cannot be, or trained here where the device, or what it can
    compute, or the memory is not enough."""
    _refuse_unstackable(colony, batched)
    for swarm, parcel in colony.swarms if cluster is None else ():
        training = swarm.config.training
        choose_precision(training.precision, swarm.config.model, choose_device(training.device))
        refuse_what_cannot_fit(len(parcel.text.vocabulary), swarm.config)


def _refuse_unstackable(colony: Colony, batched: Batched) -> None:
    if batched == "yes" and not _largest_family(colony):
        raise UsageError(f"--batched yes: {why_not_stacked(colony.swarms[0][0].config)}; leave it out")


def _largest_family(colony: Colony) -> list[Config]:
    """The bees on the first text that can be stacked with each other, of the kind that has most."""
    families: dict[Hashable, list[Config]] = {}
    first = colony.swarms[0][1]
    for swarm, parcel in colony.swarms:
        key = stacking_key(Task(swarm.name, swarm.config))
        if key is not None and parcel == first:
            families.setdefault(key, []).extend(swarm.bee_config(seed) for seed in colony.seeds)
    return max(families.values(), key=len, default=[])


def stacking_key(task: Task) -> Hashable | None:
    """Equal for bees that can be stacked with each other; None for one that cannot be at all."""
    return None if why_not_stacked(task.config) else stack_key(task.config)
