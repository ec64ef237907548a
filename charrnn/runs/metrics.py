"""The files that grow while a run trains: ``metrics.jsonl`` and ``samples.txt``.

``metrics.jsonl`` holds one JSON object per line, flushed at once, and is the only source for plots, comparisons
and the doctor. Every ``run.log_every`` steps ``charrnn train`` writes

    step, epoch          optimizer steps and passes over the training text so far
    seconds              time spent in this run, evaluations and earlier sessions included
    train_loss           nats per character, mean over all characters since the last line
    lr                   learning rate of the last step
    grad_norm            global gradient norm before clipping, mean over the steps since the last line
    clipped              share of these steps whose gradient was clipped
    chars_per_sec        training characters per second of training time, since the last line

and after an evaluation a line with ``step``, ``epoch``, ``seconds`` and ``val_loss`` (nats per character, carried
state); the last evaluation adds ``val_loss_cold``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class GrowingFile:
    """A file that is only appended to, and whose length a checkpoint can remember. A context manager."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open for appending after the first ``length`` bytes; what lies behind them is cut off.

        A resumed run passes the length its checkpoint knows of, so that nothing is in the file twice.
        """
        self._file = path.open("ab")
        self._file.truncate(length)

    def append(self, text: str) -> None:
        """Add text and hand it to the system at once."""
        self._file.write(text.encode("utf-8", "backslashreplace"))
        self._file.flush()

    def sync(self) -> int:
        """Flush to the disk, so that a checkpoint may rely on it; the length in bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def json_line(row: Row) -> str:
    """A row as one line of JSON; NaN and inf, which JSON lacks, become null."""
    return json.dumps(without_nan(row), allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """Nested plain values with None for every NaN and inf."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> Iterator[Row]:
    """The rows of a metrics file, also while it is being written: an unfinished last line is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
