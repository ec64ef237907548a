"""Ctrl-C, SIGTERM and a terminal that goes away: the first asks politely, the second leaves at once. Ctrl-Z pauses."""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress
from types import FrameType

from charrnn.errors import INTERRUPTIONS, Interrupted
from charrnn.training.clock import clock


class Interrupts:
    """While this context is open, a first signal only makes it true; a second one raises ``Interrupted``.

    A hang-up that was ignored from the start stays ignored (nohup). It may come twice, from the system and from the
    shell, so a second one means nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self) -> bool:
        """Whether to stop: what loops poll."""
        return self.received is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _let_gone_terminals_be()
        elif self.received is not None:
            raise Interrupted("left at once; what was saved before is intact", number)
        self.received = self.received or number

    def __enter__(self) -> Interrupts:
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        self._before = {number: signal.signal(number, self._handle) for number in {*INTERRUPTIONS} - ignored}
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, lambda *_: clock.pause())
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _let_gone_terminals_be() -> None:
    """What is still said on a terminal that is gone goes nowhere, instead of failing."""
    for output in (1, 2):
        with suppress(OSError):  # closed from the start
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)
