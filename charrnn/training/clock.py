"""The time that a training has had: while its process is stopped (Ctrl-Z) it has none."""

from __future__ import annotations

import os
import signal
import time


class Clock:
    """A stopwatch, in seconds since an arbitrary moment."""

    def __init__(self) -> None:
        self._left_out = 0.0

    def now(self) -> float:
        """Seconds, without those left out."""
        return time.monotonic() - self._left_out

    def pause(self) -> None:
        """Stop this process, as Ctrl-Z does where nobody handles it; until it goes on ("fg") no time passes."""
        stopped = time.monotonic()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._left_out += time.monotonic() - stopped


clock = Clock()  # of this process
