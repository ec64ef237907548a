"""Ctrl-C and SIGTERM: the first asks politely, the second leaves at once."""

from __future__ import annotations

import signal
from types import FrameType

from charrnn.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While this context is open, a first signal only makes it true; a second one raises ``Interrupted``."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None

    def __call__(self) -> bool:
        """Whether to stop: what loops poll."""
        return self.received is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted("left at once; what was saved before is intact", number)
        self.received = number

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
