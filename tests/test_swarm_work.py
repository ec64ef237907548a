"""Units of work on executors: every bee lands exactly once, whatever happens to the process it was trained in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from charrnn.errors import INTERRUPTIONS, ClusterLost
from charrnn.studies.swarm.arrange import stacking_key
from charrnn.studies.swarm.bee import Landed, Task, train_bees
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.local import LocalExecutor, LocalWorkplace
from charrnn.studies.swarm.texts import Parcel
from charrnn.studies.swarm.work import Crew, Unit, landings, make_units
from charrnn.text.places import Places
from tests.children import PATIENCE_SECONDS
from tests.helpers import differences, never
from tests.hives import (
    Here,
    bee_config,
    by_place,
    children_of,
    colony_of,
    die,
    die_while_telling,
    eventually,
    is_running,
    name_and_compute,
    state_of,
)

Answer = Callable[[Unit], list[Landed]]


def tasks_of(places: Places, seeds: int = 2, *assignments: str) -> list[tuple[Task, Parcel]]:
    return colony_of(bee_config("cat.txt", *assignments), places, seeds).tasks(Hive(Path("hive")), 1)


class Odd(Executor):
    """Answers a unit as it is told to, in a thread; keeps what it was sent."""

    def __init__(self, answer: Callable[[tuple[Task, ...]], list[Landed]]) -> None:
        self.sent: list[list[str]] = []
        self._answer = answer
        self._threads = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert fn is train_bees
        _, tasks, _ = args
        self.sent.append([task.place for task in tasks])
        return self._threads.submit(self._answer, tasks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def landed_of(tasks: tuple[Task, ...]) -> list[Landed]:
    """Without training."""
    return [Landed(task, {"result.json": b'{"status": "ended"}'}) for task in tasks]


def landed_on(place: Any, units: list[Unit], should_stop: Callable[[], object] = never) -> list[Landed]:
    return [one for some in landings(units, place, True, should_stop) for one in some]


@pytest.mark.usefixtures("text_file")
class TestLandings:
    @pytest.mark.parametrize("together", [1, 3, 4])
    def test_every_bee_once(self, places: Places, together: int) -> None:
        tasks = tasks_of(places, 5)
        units = make_units(tasks, together, stacking_key)
        with Here(Odd(landed_of)) as place:
            landed = landed_on(place, units)
        assert Counter(one.task.place for one in landed) == Counter(task.place for task, _ in tasks)

    def test_trained(self, places: Places) -> None:
        """As they are without any executor."""
        tasks = tasks_of(places)
        with Here() as place:
            landed = landed_on(place, make_units(tasks, 1, stacking_key))
        expected = [one for task, parcel in tasks for one in train_bees(parcel, (task,), True)]
        assert differences(by_place(expected), by_place(landed)) == []

    def test_nothing_to_do(self) -> None:
        with Here() as place:
            assert landed_on(place, []) == []

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (BrokenProcessPool("x"), "its process died: killed, or out of memory"),
            (MemoryError(), "nothing came back: MemoryError: "),
            (ValueError("what?"), "nothing came back: ValueError: what?"),
        ],
    )
    def test_one_that_dies_has_failed(self, places: Places, error: Exception, says: str) -> None:
        def answer(tasks: tuple[Task, ...]) -> list[Landed]:
            if tasks[0].seed == 2:
                raise error
            return landed_of(tasks)

        tasks = tasks_of(places, 3)
        with Here(odd := Odd(answer)) as place:
            landed = landed_on(place, make_units(tasks, 1, stacking_key))
        assert Counter(one.task.place for one in landed) == Counter(task.place for task, _ in tasks)
        assert len(odd.sent) == len(tasks), "nothing is tried twice"
        for one in landed:
            assert one.result["status"] == ("failed" if one.task.seed == 2 else "ended")
            assert one.task.seed != 2 or one.result["message"] == says

    def test_a_cluster_that_is_gone_is_no_fault_of_the_bees(self, places: Places) -> None:
        """What landed before is there; nothing is said to have failed, or it would count as diverged."""

        def answer(tasks: tuple[Task, ...]) -> list[Landed]:
            if tasks[0].seed == 2:
                raise CancelledError
            return landed_of(tasks)

        landed: list[Landed] = []
        with Here(Odd(answer)) as place, pytest.raises(ClusterLost, match="its scheduler ended"):
            for some in landings(make_units(tasks_of(places, 3), 1, stacking_key), place, True, never):
                landed += some
        assert {one.result["status"] for one in landed} <= {"ended"}

    def test_what_landed_as_the_cluster_went_is_there(self, places: Places) -> None:
        first, *others = make_units(tasks_of(places, 3), 1, stacking_key)
        with Here() as place:
            crew = Crew(place, keep_checkpoints=True)
            for unit in (first, *others):
                future: Future[list[Landed]] = Future()
                crew.flying[future] = unit
                if unit is first:
                    future.set_result(landed_of(unit.tasks))
                elif future.cancel():
                    future.set_running_or_notify_cancel()
            assert [one.task for one in crew.poll()] == list(first.tasks)
            with pytest.raises(ClusterLost):
                crew.poll()

    def test_a_stack_that_dies_is_tried_one_by_one(self, places: Places) -> None:
        def answer(tasks: tuple[Task, ...]) -> list[Landed]:
            if any(task.seed == 2 and task.swarm == "lr=0.03" for task in tasks):
                raise BrokenProcessPool("x")
            return landed_of(tasks)

        tasks = tasks_of(places, 4)
        with Here(odd := Odd(answer)) as place:
            landed = landed_on(place, make_units(tasks, 4, stacking_key))
        assert sorted(map(len, odd.sent)) == [1, 1, 1, 1, 4, 4]
        assert Counter(one.task.place for one in landed) == Counter(task.place for task, _ in tasks)
        assert {one.task.place for one in landed if one.result["status"] == "failed"} == {"lr=0.03/bee-2"}

    @pytest.mark.parametrize("together", [1, 2])
    def test_stop(self, places: Places, together: int) -> None:
        """Once the first has landed: the one that runs lands too, nothing new is begun, nothing has failed."""
        running, go_on, stopped = threading.Semaphore(0), threading.Semaphore(1), threading.Event()

        def answer(tasks: tuple[Task, ...]) -> list[Landed]:
            running.release()
            go_on.acquire()
            if stopped.is_set():
                go_on.release()
            return landed_of(tasks)

        units = make_units(tasks_of(places, 8), together, stacking_key)
        found: list[Landed] = []
        with Here(odd := Odd(answer)) as place:
            for some in landings(units, place, True, stopped.is_set):
                found += some
                if found and not stopped.is_set():
                    running.acquire()
                    running.acquire()  # the second has begun
                    stopped.set()
                elif place.stopped:
                    go_on.release()
        assert place.stopped
        assert [one.task.place for one in found] == odd.sent[0] + odd.sent[1]

    def test_what_dies_after_a_stop_is_missing(self, places: Places) -> None:
        """It may well have died of the same Ctrl-C; it is not a result."""
        stopped = threading.Event()

        def answer(tasks: tuple[Task, ...]) -> list[Landed]:
            while not place.stopped:
                time.sleep(0.001)
            raise BrokenProcessPool("x")

        stopped.set()
        with Here(odd := Odd(answer)) as place:
            assert landed_on(place, make_units(tasks_of(places), 2, stacking_key), stopped.is_set) == []
        assert len(odd.sent) == 2, "nothing was tried again"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalExecutor]:
    """Two processes, which take seconds to start."""
    executor = LocalExecutor(2)
    yield executor
    executor.shutdown()


class TestProcesses:
    def test_one_that_dies_takes_nothing_with_it(self, local: LocalExecutor) -> None:
        futures = [local.submit(die) if n == 2 else local.submit(pow, 2, n) for n in range(8)]
        assert [future.result() for n, future in enumerate(futures) if n != 2] == [2**n for n in range(8) if n != 2]
        with pytest.raises(BrokenProcessPool):
            futures[2].result()
        assert local.submit(pow, 3, 3).result() == 27

    def test_one_that_dies_holds_nothing_that_others_wait_for(self, local: LocalExecutor) -> None:
        assert local.submit(die_while_telling).result() > 3

    def test_errors_come_back_and_processes_are_used_again(self, local: LocalExecutor) -> None:
        before = {local.submit(os.getpid).result() for _ in range(4)}
        with pytest.raises(ZeroDivisionError):
            local.submit(divmod, 1, 0).result()
        after = {local.submit(os.getpid).result() for _ in range(4)}
        assert os.getpid() not in before
        assert before & after

    def test_signals_are_the_first_process_s_business(self, local: LocalExecutor) -> None:
        """From the first moment: a Ctrl-C goes to all processes, also to one that has only just begun to import."""
        pid = local.submit(os.getpid).result()
        for number in INTERRUPTIONS:
            assert number in local.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(), "not when it began"
            os.kill(pid, number)
        assert [local.submit(abs, -n).result() for n in range(4)] == [0, 1, 2, 3]
        assert is_running(pid)
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {*INTERRUPTIONS}

    def test_ctrl_z_takes_no_time_of_training(self, local: LocalExecutor, tmp_path: Path) -> None:
        work = local.submit(name_and_compute, tmp_path / "pid", 2_000, 10_000)
        pid = self._announced(tmp_path / "pid")
        for _ in range(2):
            os.kill(pid, signal.SIGTSTP)
            assert eventually(lambda: state_of(pid) == "T")
            time.sleep(0.5)
            os.kill(pid, signal.SIGCONT)
        counted, passed = work.result()
        assert passed - counted >= 1.0

    def test_going_on_before_it_had_time_to_stop(self, local: LocalExecutor, tmp_path: Path) -> None:
        """It hears of both signals after its step; nobody would wake it a second time."""
        work = local.submit(name_and_compute, tmp_path / "pid", 2, 50_000_000)
        pid = self._announced(tmp_path / "pid")
        os.kill(pid, signal.SIGTSTP)
        time.sleep(0.2)  # or the system forgets the first at the second
        os.kill(pid, signal.SIGCONT)
        try:
            counted, passed = work.result(PATIENCE_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)  # or a failure would wait for it at the end
        assert counted == pytest.approx(passed, abs=0.1)

    def _announced(self, file: Path) -> int:
        assert eventually(lambda: file.exists() and file.read_text())
        return int(file.read_text())

    @pytest.mark.usefixtures("text_file")
    def test_bees(self, local: LocalExecutor, places: Places) -> None:
        """The same bit for bit as in this process, alone and stacked; one whose process dies is tried alone."""
        tasks = tasks_of(places)
        place = Here(local)
        told = local.progress
        solo = make_units(tasks, 1, stacking_key)
        landed = by_place(landed_on(place, solo))
        assert local.progress - told == pytest.approx(len(tasks))
        with Here() as here:
            assert differences(by_place(landed_on(here, solo)), landed) == []
            stacked = make_units(tasks, 2, stacking_key)
            assert differences(by_place(landed_on(here, stacked)), by_place(landed_on(place, stacked))) == []

    @pytest.mark.usefixtures("text_file")
    def test_killed_while_it_trains(self, local: LocalExecutor, places: Places) -> None:
        """Bees without end, stacked: their process is killed, then those of each bee in turn; others land."""
        endless = tasks_of(places, 1, "training.max_steps=1000000000")
        units = make_units(endless, 2, stacking_key)
        quick = make_units(tasks_of(places, 4, "training.seed=5"), 1, stacking_key)
        assert len(units) == 1
        flight = landings([*units, *quick], Here(local), True, never)
        found: list[Landed] = []
        killed: set[int] = set()
        for some in flight:
            found += some
            for pid in busy_for_long(killed) if len(found) >= len(quick) else ():
                os.kill(pid, 9)
                killed.add(pid)
        counted = Counter(one.task.place for one in found)
        assert counted == Counter(task.place for unit in (*units, *quick) for task in unit.tasks)
        failed = {one.task.place for one in found if one.result["status"] == "failed"}
        assert failed == {task.place for task, _ in endless}
        assert all("its process died" in one.result["message"] for one in found if one.task.place in failed)


def busy_for_long(killed: set[int]) -> list[int]:
    """Processes of this one's that train a bee, but for those killed."""
    return [pid for pid in children_of(os.getpid()) if pid not in killed and is_training(pid)]


def is_training(pid: int) -> bool:
    """Whether a bee's scratch folder is open in a process."""
    try:
        return any("charrnn-bees-" in str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


# What will be killed: an executor whose processes are at work. It needs no memory of this process's.
PARENT = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from charrnn.studies.swarm.local import LocalExecutor
from tests.hives import name_and_wait
executor = LocalExecutor(len(sys.argv) - 2)
for future in [executor.submit(name_and_wait, Path(file)) for file in sys.argv[2:]]:
    future.result()
"""
ROOT = Path(__file__).parent.parent


class TestNothingIsLeft:
    """No process, and nothing among the temporary files."""

    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.setenv("TMPDIR", str(folder))
        return folder

    def test_after_shutdown(self, temporary: Path) -> None:
        with LocalWorkplace(2) as place:
            pids = [place.executor.submit(os.getpid).result() for _ in range(2)]
            assert Path(place.executor.submit(mkdtemp).result()).is_relative_to(temporary)
            with pytest.raises(BrokenProcessPool):
                place.executor.submit(die).result()
            place.use(1)
            pids.append(place.executor.submit(os.getpid).result())
            assert Path(place.executor.submit(mkdtemp).result()).is_relative_to(temporary)
        assert not any(map(is_running, pids))
        assert list(temporary.iterdir()) == []

    def test_after_the_parent_was_killed(self, tmp_path: Path, temporary: Path) -> None:
        files = [tmp_path / "one", tmp_path / "two"]
        parent = subprocess.Popen([sys.executable, "-c", PARENT, ROOT, *files])
        try:
            assert eventually(lambda: all(file.exists() and file.read_text() for file in files))
            pids = [int(file.read_text()) for file in files]
            assert all(map(is_running, pids))
            assert any(temporary.glob("charrnn-swarm-*"))
        finally:
            parent.kill()
            parent.wait()
        assert eventually(lambda: not any(map(is_running, pids)))
        assert not any(temporary.glob("charrnn-swarm-*"))
