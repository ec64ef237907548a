"""Keeps this process's OpenMP threads from spinning while other programs want its cores.

Threads that spin at barriers make two trainings on one machine hundreds of times slower; threads that sleep early make
a lone one slower. The limit, GOMP_SPINCOUNT, is read once, before anybody knows what will start later. But libgomp
lowers it by itself, to 100 rounds, while its teams have more threads than there are cores (its manual, section
GOMP_SPINCOUNT): so a second team is kept, asleep, for as long as others are at work. No result depends on it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from charrnn.training.load import Load, read_load, read_text, usable_cores

FIRST_LOOK_SECONDS = 0.1
LOOK_SECONDS = 1.0
A_NEIGHBOUR = 0.25  # of a core that others use, or more: a clock's ticks are no neighbour
CROWDED = 0.6  # of all cores at work, or more: else others find a free one
QUIET_LOOKS = 3  # in a row, before the threads may spin again


def spinning_is_open(environment: Mapping[str, str]) -> bool:
    """Whether the user has left it to us how long threads spin."""
    return "GOMP_SPINCOUNT" not in environment and "OMP_WAIT_POLICY" not in environment


def courtesy(environment: Mapping[str, str]) -> AbstractContextManager[object]:
    """Spin only while no other program wants the cores, whenever it comes. Enter it once torch is imported.

    A setting of the user's own is left as it is.
    """
    return Courtesy() if spinning_is_open(environment) else nullcontext()


class Courtesy:
    """Looks at the load once a second, from a thread of its own. A context manager; enter it once torch is imported."""

    def __init__(self, read_load: Callable[[], Load] = read_load) -> None:
        self._read_load = read_load
        self._before = read_load()
        self._cores = len(usable_cores())
        self._quiet = 0
        self._over = threading.Event()
        self._team: SecondTeam | None = None
        self._watcher = threading.Thread(target=self._watch, name="courtesy", daemon=True)

    def __enter__(self) -> Courtesy:
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._watcher.join()
        self._let_spin()

    @property
    def is_polite(self) -> bool:
        """Whether spinning is limited now."""
        return self._team is not None

    def look_around(self) -> None:
        """Begin or end the politeness, as the load since the last look demands."""
        now = self._read_load()
        load, self._before = now.since(self._before), now
        if load.others >= A_NEIGHBOUR and load.busy + load.stolen >= CROWDED * self._cores * load.wall:
            self._quiet = 0
            self._team = self._team or SecondTeam(self._cores)
        else:
            self._quiet += 1
            if self._quiet >= QUIET_LOOKS:
                self._let_spin()

    def _let_spin(self) -> None:
        if self._team is not None:
            self._team.close()
            self._team = None

    def _watch(self) -> None:
        seconds = FIRST_LOOK_SECONDS
        while not self._over.wait(seconds):
            self.look_around()
            seconds = LOOK_SECONDS


class SecondTeam:
    """An OpenMP team of ``threads`` that does nothing and sleeps until ``close``; nothing at all without libgomp.

    Made past torch, whose number of threads is the whole process's business. A team belongs to the thread that made it,
    and ends with it.
    """

    def __init__(self, threads: int) -> None:
        self._closing = threading.Event()
        self._made = threading.Event()
        self._owner = threading.Thread(target=self._live, args=(threads,), name="second team", daemon=True)
        self._owner.start()
        self._made.wait()

    def _live(self, threads: int) -> None:
        if path := loaded_libgomp(read_text("/proc/self/maps")):
            # Every thread calls free(NULL), which does nothing: C code, so that none of them enters Python.
            nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
            ctypes.CDLL(path).GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
        self._made.set()
        self._closing.wait()

    def close(self) -> None:
        """End the team."""
        self._closing.set()
        self._owner.join()


def loaded_libgomp(maps: str) -> str | None:
    """The file of GNU's OpenMP library in this process, from the text of /proc/self/maps; None if it uses none.

    The one that torch brings along, where there are several: another one's teams do not count for it.
    """
    files = [line.split(maxsplit=5)[5] for line in maps.splitlines() if "/libgomp" in line]
    ours = [file for file in files if "/torch/" in file]
    return next(iter(ours or files), None)
