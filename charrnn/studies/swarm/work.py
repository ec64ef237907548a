"""Units of work on any executor: every bee lands exactly once, whatever happens to the process it was trained in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from typing import Protocol

from charrnn.errors import ClusterLost
from charrnn.studies.swarm.bee import Landed, Task, fallen, train_bees
from charrnn.studies.swarm.texts import Parcel

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Unit:
    """Bees that are trained together (or one alone), on one text."""

    tasks: tuple[Task, ...]
    parcel: Parcel


class Workplace(Protocol):
    """Where units are worked on."""

    @property
    def executor(self) -> Executor:
        """What runs them."""

    def share(self, parcel: Parcel) -> object:
        """What is submitted in place of a text: that itself, or what the executor will have turned into it."""

    def stop(self) -> None:
        """Ask what is running to end soon."""

    @property
    def progress(self) -> float:
        """Bees' worth of work that was told of; 0 where nobody tells."""


def make_units(
    tasks: Iterable[tuple[Task, Parcel]], together: int, key: Callable[[Task], Hashable | None]
) -> list[Unit]:
    """Bees of equal ``key`` (None: by itself), in order, in units of ``together``.

    The same tasks always give the same units, whichever of them have landed: what is trained together decides the last
    digits of a bee's numbers, so a hive that was interrupted ends as if it had not been.
    """
    waiting: dict[Hashable, list[tuple[Task, Parcel]]] = {}
    units = []
    for task, parcel in tasks:
        group = key(task) if together > 1 else None
        if group is None:
            units.append(Unit((task,), parcel))
            continue
        full = waiting.setdefault((group, parcel), [])
        full.append((task, parcel))
        if len(full) == together:
            units.append(Unit(tuple(one for one, _ in full), parcel))
            full.clear()
    units += [Unit(tuple(one for one, _ in rest), rest[0][1]) for rest in waiting.values() if rest]
    return units


def landings(
    units: Iterable[Unit], workplace: Workplace, keep_checkpoints: bool, should_stop: Callable[[], object]
) -> Iterator[list[Landed]]:
    """Train all units; yields what has landed, several times a second, perhaps nothing.

    A bee whose process dies has failed; bees that were trained together with it are tried again one by one. Once
    ``should_stop`` is true nothing new is begun, what runs is asked to end, and what lands all the same is yielded.

    Raises:
        ClusterLost: what was sent was let go of.
    """
    crew = Crew(workplace, keep_checkpoints)
    for unit in units:
        crew.send(unit)
    while crew.flying:
        yield crew.poll()
        if should_stop():
            crew.recall()


class Crew:
    """The units that are under way, by their futures."""

    def __init__(self, workplace: Workplace, keep_checkpoints: bool) -> None:
        self.workplace = workplace
        self.keep_checkpoints = keep_checkpoints
        self.flying: dict[Future[list[Landed]], Unit] = {}
        self.recalled = False

    def send(self, unit: Unit) -> None:
        """Have a unit trained."""
        shared = self.workplace.share(unit.parcel)
        submit = self.workplace.executor.submit
        self.flying[submit(train_bees, shared, unit.tasks, self.keep_checkpoints)] = unit  # type: ignore[arg-type]

    def poll(self) -> list[Landed]:
        """What has landed, after a moment at most."""
        done, _ = wait(self.flying, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        landed = [future for future in done if not future.cancelled()]  # first: a cluster that is gone ends it all
        return [one for future in landed or done for one in self._receive(future)]

    def _receive(self, future: Future[list[Landed]]) -> list[Landed]:
        unit = self.flying.pop(future)
        try:
            return future.result()
        except Exception as error:  # of the executor: bees catch their own
            if self.recalled:
                return []
            if isinstance(error, CancelledError):  # by nobody here: no bee has failed
                raise ClusterLost("the cluster is gone: its scheduler ended, or could not be reached") from error
            if len(unit.tasks) == 1:
                return [fallen(unit.tasks[0], _what_happened(error))]
            for task in unit.tasks:
                self.send(Unit((task,), unit.parcel))
            return []

    def recall(self) -> None:
        """Begin nothing new, and ask what runs to end."""
        if not self.recalled:
            self.recalled = True
            self.workplace.stop()
        self.flying = {future: unit for future, unit in self.flying.items() if not future.cancel()}


def _what_happened(error: Exception) -> str:
    if isinstance(error, BrokenExecutor):
        return "its process died: killed, or out of memory"
    return f"nothing came back: {type(error).__name__}: {error}"
