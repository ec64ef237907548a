"""The rows of ``metrics.jsonl``.

``metrics.jsonl`` holds one JSON object per line, flushed at once, and is the only source for plots, comparisons
and the doctor. Every ``run.log_every`` steps ``charrnn train`` writes

    step, epoch          optimizer steps and passes over the training text so far
    seconds              time spent in this run, evaluations and earlier sessions included
    train_loss           nats per character, mean over all characters since the last line
    train_loss_max       the largest loss of one step since then
    lr                   learning rate of the last step
    grad_norm            global gradient norm before clipping, mean over the steps since the last line
    grad_norm_median     and their median (of an even number the lower of the two in the middle)
    grad_norm_p99        and their 99th percentile
    clipped              share of these steps whose gradient was clipped
    chars_per_sec        training characters per second of training time, since the last line

and, of the last step alone (see ``training/observation.py``; not in the line of an interval that was cut short)

    loss_by_position     mean loss along the window, nats per character, in 16 pieces at most
    taught_positions     share of the window's positions whose loss reaches the gradient
    carried_streams      share of the streams whose state before the window was not zero
    largest_logit        by absolute value
    largest_state        the same of the cell state (LSTM) or hidden state behind the window
    zero_gradients       share of the recurrent matrices' gradient that is exactly zero
    optimizer_steps      steps that Adam itself has counted (of SGD: 1 where its state began with this step)
    tensors              for each parameter: grad_norm (before clipping), weight_norm, update_ratio (norm of the
                         update over that of the weight), second_moment_ratio (mean g^2 over Adam's average of it)

and after an evaluation a line with ``step``, ``epoch``, ``seconds`` and ``val_loss`` (nats per character, carried
state), with ``sample``, what the network then wrote (``run.sample_length`` characters); the last evaluation adds
``val_loss_cold``. After a rollback (``training.on_divergence``) a line with
``step``, ``epoch``, ``seconds``, ``rollback`` (their number so far) and ``lr_factor`` (what is left of the rate).
Where training diverges, the last line has ``step``, ``epoch``, ``seconds`` and ``steps_not_finite``: how many since the
line before it had a loss or gradient norm that was not a number; or, where that was seen on the validation text, a
``val_loss`` that is null. A training that was interrupted ends with ``step``, ``epoch``, ``seconds`` and
``interrupted``, until it goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from charrnn.errors import CheckpointError

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


def read_metrics(path: str | Path, length: int | None = None) -> Iterator[Row]:
    """The rows of a metrics file, also while it is being written: an unfinished last line is left out.

    Args:
        length: stop behind so many bytes, as a checkpoint knows them; None reads to the end.

    Raises:
        CheckpointError: a line is damaged.
    """
    end = 0
    with Path(path).open("rb") as file:
        for number, line in enumerate(_whole_lines(file), start=1):
            end += len(line)
            if length is None or end <= length:
                yield _row(line.decode(errors="replace"), f"{path}:{number}")


def read_outline(path: Path) -> list[Row]:
    """The rows that say how a run went: those with a validation loss, those that say that it diverged, and the last
    one. The others, which are long and many, are not looked into.

    Raises:
        CheckpointError: one of these is damaged.
    """
    last, kept = (0, b""), {}
    with path.open("rb") as file:
        for number, line in enumerate(_whole_lines(file), start=1):
            last = number, line
            if b'"val_loss' in line or b'"steps_not_finite"' in line:
                kept[number] = line
    rows = [(number, line) for number, line in sorted({**kept, last[0]: last[1]}.items()) if line]
    return [_row(line.decode("utf-8", "replace"), f"{path}:{number}") for number, line in rows]


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The finished lines. What follows an unfinished one, written while this reads, is its rest and no line."""
    return takewhile(lambda line: line.endswith(b"\n"), file)


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not a line of metrics: {error}; take the line out") from error
    if not isinstance(row, dict):
        raise CheckpointError(f"{where}: not a line of metrics; take the line out")
    return row
