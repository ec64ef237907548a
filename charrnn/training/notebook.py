"""What a notebook sees of a training, and its stop button."""

from __future__ import annotations

import signal
import threading
import warnings
from types import FrameType

from tqdm.auto import tqdm

from charrnn.runs.metrics import Row

BAR = "{percentage:3.0f}%|{bar:12}| {desc}"


class StopButton:
    """While it is open, a first Ctrl-C only makes it true; a second one raises. Python lets the main thread alone know
    of signals: in another one it stays false."""

    def __init__(self) -> None:
        self._noticed = False

    def __call__(self) -> bool:
        """Whether to stop: what the loop polls."""
        return self._noticed

    def _notice(self, _: int, frame: FrameType | None) -> None:
        if self._noticed:
            raise KeyboardInterrupt("at once; what was saved before is intact")
        self._noticed = True

    def __enter__(self) -> StopButton:
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)


class NotebookReporter:
    """A bar, in a notebook or a terminal, and a line after each evaluation; or nothing but warnings.

    ``unit`` is what is read: a character or a byte.
    """

    def __init__(self, shown: bool, unit: str = "character") -> None:
        self._shown, self._unit = shown, unit[:4]

    def __enter__(self) -> NotebookReporter:
        self._bar = tqdm(total=1.0, bar_format=BAR, disable=not self._shown)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def logged(self, row: Row, progress: float) -> None:
        """See ``Reporter``."""
        self._bar.update(progress - self._bar.n)
        self._bar.set_description_str(
            f"step {row['step']:,}  train {row['train_loss']:.4g}  {row['chars_per_sec'] / 1000:.1f}k {self._unit}/s"
        )

    def evaluated(self, row: Row) -> None:
        """See ``Reporter``."""
        if self._shown:
            tqdm.write(f"step {row['step']:,}  val {row['val_loss']:.5g} nats/{self._unit}")

    def warned(self, text: str) -> None:
        """See ``Reporter``."""
        warnings.warn(text, stacklevel=2)
