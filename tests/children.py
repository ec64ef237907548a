"""Processes of their own at the price of a fork: a server imports torch once, its children begin with that.

What runs in a child starts in a folder of its own, with this process's environment and its output in files, and is
ended with this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("pytest", "hypothesis", "torch._dynamo", "torch.profiler._cupti_monitor", "numpy.ma"),  # slow, and used later
        *("charrnn.cli", "charrnn.training.loop", "charrnn.runs.lock", "charrnn.runs.saved", "charrnn.studies.lr_find"),
    ]
)
PATIENCE_SECONDS = 120  # how long a test waits for what takes a few seconds, before it fails


class Child:
    """A process that runs ``target(*arguments)`` in ``folder``. A context manager, which kills it if it still runs."""

    _count = 0

    def __init__(self, folder: Path, target: Callable[..., object], *arguments: Any) -> None:
        Child._count += 1
        self.out, self.err = (folder / f"{kind}-{Child._count}" for kind in ("out", "err"))
        for file in (self.out, self.err):
            file.touch()
        everything = (folder, dict(os.environ), self.out, self.err, target, arguments)
        self._process = CONTEXT.Process(target=_enter, args=everything, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; a negative number is that of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if it came too late."""
        if self.code is not None:
            return False
        with suppress(ProcessLookupError):  # it has ended, and the news is on its way
            os.kill(self.pid, number)
            return True
        return False

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """The exit code, or None if it still runs after this time."""
        self._process.join(seconds)
        return self.code

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, while the child runs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.code is None, self.err.read_text()
            assert time.monotonic() < deadline, "this does not seem to happen"
            time.sleep(0.005)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            self._process.kill()
        self._process.join()
        self._process.close()


def _enter(
    folder: Path, environment: dict[str, str], out: Path, err: Path, target: Callable[..., object], arguments: Any
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY), number)
    # As in a process that was started by a shell.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    target(*arguments)


def charrnn(*words: str) -> None:
    """What the program ``charrnn`` does."""
    from charrnn.cli import main

    sys.argv = ["charrnn", *words]
    main()
