"""Ending a sample at a string, while it streams."""

from __future__ import annotations


class StopAt:
    """Passes text on until ``stop`` appears in it; holds back what may yet turn out to be its beginning."""

    def __init__(self, stop: str | None) -> None:
        self.stop = stop or ""
        self.done = False
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that can be shown after this piece; sets ``done`` when ``stop`` is complete (it is not shown)."""
        if self.done or not self.stop:
            return "" if self.done else piece
        text = self._held + piece
        before, found, _ = text.partition(self.stop)
        if found:
            self.done, self._held = True, ""
            return before
        keep = next(n for n in range(min(len(text), len(self.stop) - 1), -1, -1) if text.endswith(self.stop[:n]))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back when the text ended without ``stop``."""
        held, self._held = self._held, ""
        return held
