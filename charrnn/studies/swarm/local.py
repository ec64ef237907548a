"""The processes of this machine that bees train in."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from charrnn.errors import INTERRUPTIONS
from charrnn.studies.swarm.texts import Parcel
from charrnn.training.clock import clock
from charrnn.training.load import usable_cores

MOST_ARRIVALS = 4096  # signals since the last pause

P = ParamSpec("P")
T = TypeVar("T")


class LocalExecutor(Executor):
    """``jobs`` processes, each a pool of its own: one that dies takes nothing with it but what it was doing.

    (The processes of one ``ProcessPoolExecutor`` are all given up when any of them dies, and nobody can say which task
    it was.) Processes are started, not forked, when first needed: torch's threads do not survive a fork. What is shared
    with them has one writer each and no lock, which one that is killed could hold for ever.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # that lets signals through once, which the threads below block
        self._stop: Any = self._context.RawValue("b", False)
        self._progress: list[Any] = []  # of every process that ever was
        self._free: list[ProcessPoolExecutor] = []
        self._threads = ThreadPoolExecutor(jobs, initializer=_block_signals)
        # Of the processes' own temporary files: what one that is killed leaves goes with the others'.
        self._scratch = TemporaryDirectory(prefix="charrnn-swarm-", ignore_cleanup_errors=True)

    @property
    def progress(self) -> float:
        """How much work the processes have told of, in bees."""
        return float(sum(one.value for one in self._progress))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in the next free process. Its future raises BrokenProcessPool if that dies."""
        return self._threads.submit(self._in_a_process, fn, args, kwargs)

    def _in_a_process(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        try:
            pool = self._free.pop()
        except IndexError:
            pool = self._new_pool()
        try:
            result = pool.submit(fn, *args, **kwargs).result()
        except BrokenProcessPool:
            pool.shutdown(wait=False)
            raise
        except BaseException:
            self._free.append(pool)
            raise
        self._free.append(pool)
        return result

    def _new_pool(self) -> ProcessPoolExecutor:
        progress = self._context.RawValue("d", 0.0)
        self._progress.append(progress)
        shared = (self._stop, progress, self._scratch.name)
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_settle_in, initargs=shared)

    def stop(self) -> None:
        """Ask every bee to end after its present step."""
        self._stop.value = True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        while self._free:
            self._free.pop().shutdown(wait)
        self._scratch.cleanup()


class LocalWorkplace:
    """This machine. A context manager: its processes end with it."""

    def __init__(self, jobs: int | None = None) -> None:
        self.cores = len(usable_cores())
        self.executor = LocalExecutor(jobs or self.cores)

    def use(self, jobs: int) -> None:
        """From now on with so many processes."""
        if jobs != self.executor.jobs:
            self.executor.shutdown()
            self.executor = LocalExecutor(jobs)

    def share(self, parcel: Parcel) -> Parcel:
        """A text's file is there for all."""
        return parcel

    def stop(self) -> None:
        """Every bee ends after its present step."""
        self.executor.stop()

    @property
    def progress(self) -> float:
        """In bees."""
        return self.executor.progress

    def __enter__(self) -> LocalWorkplace:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.stop()
        self.executor.shutdown(cancel_futures=True)


def _block_signals() -> None:
    """In a thread that starts processes: until these can ignore a Ctrl-C, which goes to all of them, it waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)


def _settle_in(stop: Any, progress: Any, scratch: str) -> None:
    """In a new process: signals are the first process's business, and without it there is nothing to do."""
    from charrnn.studies.swarm.bee import HERE

    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_IGN)
    _leave_out_pauses()
    tempfile.tempdir = scratch
    threading.Thread(target=_leave_with_parent, args=(scratch,), daemon=True).start()

    def advanced(share: float) -> None:
        progress.value += share

    HERE.should_stop, HERE.advanced = lambda: stop.value, advanced


def _leave_out_pauses() -> None:
    """Let a stop (Ctrl-Z, which goes to all processes) be no time of training.

    Python hears of it only after the step under way: by then the others may go on already ("fg"). So the order in which
    signals came is read from where the system itself writes them, and what was taken back is not done.
    """
    arrived, arrivals = os.pipe()
    for end in (arrived, arrivals):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(arrivals, warn_on_full_buffer=False)

    def pause(*_: object) -> None:
        with suppress(BlockingIOError):  # of two stops at once the first call has read both
            if os.read(arrived, MOST_ARRIVALS)[-1] == signal.SIGTSTP:
                clock.pause()

    signal.signal(signal.SIGTSTP, pause)
    signal.signal(signal.SIGCONT, lambda *_: None)  # so that it is written down as well


def _leave_with_parent(scratch: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
