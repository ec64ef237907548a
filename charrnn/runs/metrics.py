"""The rows of ``metrics.jsonl``.

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
state); the last evaluation adds ``val_loss_cold``. After a rollback (``training.on_divergence``) a line with
``step``, ``epoch``, ``seconds``, ``rollback`` (their number so far) and ``lr_factor`` (what is left of the rate).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


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
