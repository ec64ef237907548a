"""What a run wrote down while it trained: the rows of its ``metrics.jsonl``, sorted by what they tell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from charrnn.runs.metrics import Row


@dataclass(frozen=True)
class History:
    """``logs`` are the rows with a training loss, ``observed`` those of them that looked inside a step,
    ``evaluations`` those with a validation loss; ``diverged`` and ``interrupted`` are the rows that say so, if there
    are any."""

    logs: list[Row]
    observed: list[Row]
    evaluations: list[Row]
    diverged: Row | None
    interrupted: Row | None

    @property
    def steps(self) -> int:
        """Steps up to the last row."""
        rows = (*self.logs, *self.evaluations, *filter(None, (self.diverged, self.interrupted)))
        return max((int(row["step"]) for row in rows), default=0)

    @property
    def late(self) -> list[Row]:
        """The second half of the log lines that looked inside: what training is like, rather than how it began."""
        return self.observed[len(self.observed) // 2 :]

    @property
    def chars_per_sec(self) -> float | None:
        """Of training alone, in the middle; None before the first line."""
        return median([row["chars_per_sec"] for row in self.logs]) if self.logs else None

    def median(self, key: str) -> float:
        """Over the second half of the log lines that have it; NaN where none has. Norms stand also in those of a bee
        that was trained as one of a batch, whose steps are not looked into."""
        values = [row[key] for row in self.logs if row.get(key) is not None]
        return float(median(values[len(values) // 2 :])) if values else math.nan

    def largest(self, key: str) -> float:
        """Over all log lines; NaN where there are none."""
        return max((row[key] for row in self.logs if row.get(key) is not None), default=math.nan)

    def largest_of_tensors(self, key: str) -> dict[str, float]:
        """The largest of a number over all rows that looked inside, for each parameter."""
        values: dict[str, list[float]] = {}
        for row in self.observed:
            for name, seen in row["tensors"].items():
                if seen.get(key) is not None:
                    values.setdefault(name, []).append(seen[key])
        return {name: max(one) for name, one in values.items()}


def read_history(rows: Iterable[Row]) -> History:
    """Sort the rows of a metrics file."""
    kept: list[dict[str, Any]] = list(rows)
    logs = [row for row in kept if row.get("train_loss") is not None]
    return History(
        logs,
        [row for row in logs if "tensors" in row],
        [row for row in kept if row.get("val_loss") is not None],
        next((row for row in kept if "steps_not_finite" in row), None),
        next((row for row in kept if "interrupted" in row), None),
    )
