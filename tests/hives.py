"""What tests of swarms share: bees that train in a blink, a workplace in this process, hives that were flown."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from charrnn.config.schema import Config
from charrnn.runs import files
from charrnn.runs.checkpoint import unpack
from charrnn.studies.swarm.bee import HERE, Landed, Task
from charrnn.studies.swarm.colony import Colony, Point, make_colony, task_of
from charrnn.studies.swarm.hive import Hive, find_or_make_hive
from charrnn.studies.swarm.speed import Arrangement
from charrnn.studies.swarm.study import fly
from charrnn.studies.swarm.texts import Parcel
from charrnn.text.places import Places
from charrnn.training.clock import clock
from charrnn.training.load import usable_cores
from tests.children import PATIENCE_SECONDS
from tests.conftest import make_config
from tests.fault_disk import WatchedDisk
from tests.helpers import never

CLOCK = ("seconds", "chars_per_sec", "logged_at", "metrics_length", "samples_length")
BEE = (
    *("model.num_layers=1", "model.dropout=0", "training.random_seq_len=false", "training.max_steps=8"),
    *("training.threads=1", "training.device=cpu", "training.precision=fp32"),
    *("run.log_every=2", "run.eval_every=4", "run.save_every=3", "run.sample_length=5", "run.eval_characters=200"),
)
OUT = Path("runs")
RATES: list[Point] = [{"training.lr": 0.01}, {"training.lr": 0.03}]


def bee_config(source: str | Path, *assignments: str) -> Config:
    """A config whose bees can be stacked."""
    return make_config(str(source), *BEE, *assignments)


def colony_of(config: Config, places: Places, seeds: int = 2, axes: list[list[Point]] | None = None) -> Colony:
    """Two rates, so many seeds."""
    return make_colony(config, [RATES] if axes is None else axes, seeds, places)


def make(colony: Colony, name: str = "cat") -> Hive:
    """The hive of a colony, below this folder."""
    hive = find_or_make_hive(OUT, name, colony.plan)
    hive.grow(len(colony.seeds))
    return hive


def one_task(config: Config, places: Places, folder: str = "hive") -> tuple[Task, Parcel]:
    """A bee by itself, of the config's seed."""
    colony = make_colony(config, [], 1, places)
    [(swarm, parcel)] = colony.swarms
    return task_of(Hive(Path(folder)), swarm, config.training.seed, 1), parcel


class Here:
    """A workplace in this process: a thread, one unit at a time. A context manager."""

    cores = len(usable_cores())
    progress = 0.0

    def __init__(self, executor: Executor | None = None) -> None:
        self.executor: Executor = executor or ThreadPoolExecutor(1)
        self.stopped = False

    def use(self, jobs: int) -> None:
        """There is one."""

    def share(self, parcel: Parcel) -> object:
        """As it is."""
        return parcel

    def stop(self) -> None:
        """Bees notice at once."""
        self.stopped = True

    def __enter__(self) -> Here:
        self._before = HERE.should_stop
        HERE.should_stop = lambda: self.stopped
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True
        self.executor.shutdown(cancel_futures=True)
        HERE.should_stop = self._before


class Seen:
    """A watcher that keeps what it was told; ``whenever`` is called with each bee that landed anew."""

    def __init__(self, whenever: Callable[[Task], object] = lambda task: None) -> None:
        self.anew: list[str] = []
        self.before: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self._whenever = whenever

    def landed(self, task: Task, result: dict[str, Any], anew: bool) -> None:
        """A bee."""
        (self.anew if anew else self.before).append(task.place)
        self.results[task.place] = result
        if anew:
            self._whenever(task)

    def flying(self, bees: float) -> None:
        """Nobody looks."""
        assert bees >= 0


def flown(
    colony: Colony, hive: Hive, together: int = 1, seen: Seen | None = None, stop: Callable[[], object] = never
) -> Seen:
    """Fly a hive in this process, with its checkpoints."""
    seen = seen or Seen()
    with Here() as place:
        fly(colony, Arrangement(1, 1, together), hive, place, seen, stop, keep_checkpoints=True)
    return seen


def without_clock(files: dict[str, bytes]) -> dict[str, Any]:
    """A bee's files, read, without what clock, command line and folder decide."""
    found: dict[str, Any] = {}
    for name, content in files.items():
        if name.endswith(".safetensors"):
            state = unpack(content)
            state["score"] = _timeless(state["score"])
            del state["environment"]["command"]
            found[name] = state
        elif name == "metrics.jsonl":
            found[name] = [_timeless(json.loads(line)) for line in content.splitlines()]
        elif name == "result.json":
            found[name] = _timeless(json.loads(content))
        elif name == "samples.txt":
            found[name] = content
    return found


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in CLOCK}


def files_of(folder: Path) -> dict[str, bytes]:
    """A bee's files, from its folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bees_of(hive: Path) -> dict[str, dict[str, Any]]:
    """Every bee's files by its place in the hive, without what the clock decides."""
    folders = sorted(path.parent for path in hive.glob("*/*/result.json"))
    return {str(folder.relative_to(hive)): without_clock(files_of(folder)) for folder in folders}


def by_place(landed: Iterable[Landed]) -> dict[str, dict[str, Any]]:
    """The same of bees that were not kept."""
    return {one.task.place: without_clock(one.files) for one in landed}


def die(*_: object) -> None:
    """What a process may do instead of its work."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_telling() -> int:
    """Let children be killed at every place in what a bee asks and tells, then do it in their stead; how many died."""
    signal.alarm(PATIENCE_SECONDS)  # it would be for ever
    died = 0
    while (child := os.fork()) and os.waitpid(child, 0)[1]:
        died += 1
    if not child:
        signal.alarm(PATIENCE_SECONDS)
        events = itertools.count()
        sys.setprofile(lambda *_: die() if next(events) == died else None)
    HERE.should_stop()
    HERE.advanced(0.0)
    if not child:
        sys.setprofile(None)
        os._exit(0)
    signal.alarm(0)
    return died


def name_and_wait(file: Path) -> None:
    """Say which process this is, and stay."""
    file.write_text(str(os.getpid()))
    time.sleep(600)


def name_and_compute(file: Path, rounds: int, numbers: int) -> tuple[float, float]:
    """Say which process this is, and reckon; signals are heard between the rounds. How long it took by the clock of
    trainings, and by that on the wall."""
    begun, began = clock.now(), time.monotonic()
    file.write_text(str(os.getpid()))
    for _ in range(rounds):
        sum(range(numbers))
    return clock.now() - begun, time.monotonic() - began


def state_of(pid: int) -> str:
    """Of a process, in the system's letter: Z for one that waits to be buried, T for one that is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def is_running(pid: int) -> bool:
    """Whether a process is there, and not just waiting to be buried."""
    return state_of(pid) not in ("", "Z")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started; those of a thread that ends meanwhile may be missed."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # such a thread
            found += map(int, file.read_text().split())
    return found


def eventually(condition: Callable[[], object]) -> bool:
    """Whether something becomes so within a time that is long for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(found)


def comparable(hive: Hive) -> dict[str, Any]:
    """Its bees, without the name of the hive that their configs tell."""
    bees = bees_of(hive.path)
    for bee in bees.values():
        for name, state in bee.items():
            if name.endswith(".safetensors"):
                state["config"]["run"]["out"] = ""
    return bees


@contextmanager
def disk_of(one: WatchedDisk) -> Iterator[None]:
    """This one in place of the real one."""
    before, files.disk = files.disk, one
    try:
        yield
    finally:
        files.disk = before
        one.bury()
