"""The time that a training has had: while its process is stopped (Ctrl-Z) it has none."""

from __future__ import annotations

import time


class Clock:
    """A stopwatch, in seconds since an arbitrary moment."""

    def __init__(self) -> None:
        self._left_out = 0.0

    def now(self) -> float:
        """Seconds, without those left out."""
        return time.monotonic() - self._left_out

    def leave_out(self, seconds: float) -> None:
        """Let so many seconds have been none of training's."""
        self._left_out += seconds


clock = Clock()  # of this process
