"""A run as its folder tells it: only the files that people can read, no checkpoint and no torch.

The run may still be training; what is read is what it had written by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from charrnn.config.loader import load_config, load_own_config
from charrnn.config.schema import Config
from charrnn.config.settings import flat
from charrnn.errors import CheckpointError, UsageError
from charrnn.runs.directory import RunFolder, refuse_no_folder, where_to_look
from charrnn.runs.history import History, read_history
from charrnn.runs.lock import is_locked
from charrnn.runs.metrics import Row, read_metrics, read_outline

SINCE = "since_step"  # in what ``environment.json`` has of a text: a run began with another one, up to this step
RunState = Literal["running", "done", "diverged", "interrupted"]


@dataclass(frozen=True)
class Run:
    """``metrics`` has the rows of ``metrics.jsonl`` (see ``metrics.py``), each a dict by column: what
    ``pandas.DataFrame(run.metrics)`` takes. ``environment`` is what ``environment.json`` holds, empty where there is
    none. ``locked``: a process was training in the folder."""

    path: Path
    config: Config
    environment: dict[str, Any]
    metrics: list[Row]
    locked: bool

    def __repr__(self) -> str:
        """A line: a notebook would show all rows of metrics."""
        best = f", best val_loss {self.best['val_loss']:.4g} at step {self.best['step']}" if self.best else ""
        return f"Run('{self.path}', {self.state}, {self.config.model.shape}{best})"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config by dotted names: ``{"model.cell": "lstm", ...}``."""
        return flat(self.config.model_dump(mode="json"))

    @cached_property
    def history(self) -> History:
        """The rows, sorted by what they tell."""
        return read_history(self.metrics)

    @property
    def ended(self) -> bool:
        """Whether it came to its end: the last evaluation of a training reads the text cold too."""
        return bool(self.metrics) and "val_loss_cold" in self.metrics[-1] and not self.diverged

    @property
    def diverged(self) -> bool:
        """Whether loss or weights were no numbers in the end."""
        last = self.metrics[-1] if self.metrics else {}
        return self.history.diverged is not None or ("val_loss" in last and last["val_loss"] is None)

    @property
    def state(self) -> RunState:
        """How it stands with it; what neither trains nor came to an end was interrupted."""
        if self.locked:
            return "running"
        return "diverged" if self.diverged else "done" if self.ended else "interrupted"

    @property
    def seconds(self) -> float | None:
        """Training time up to the last row."""
        return self.metrics[-1].get("seconds") if self.metrics else None

    @property
    def best(self) -> Row | None:
        """The evaluation with the lowest validation loss, on the text that it was last trained on."""
        since = self._corpus.get(SINCE)
        first = since if isinstance(since, int) else -1
        on_this = [row for row in self.history.evaluations if row["step"] > first]
        return min(on_this, key=lambda row: float(row["val_loss"]), default=None)

    @property
    def samples(self) -> list[tuple[int, str]]:
        """What the network wrote at its evaluations: (step, text)."""
        return [(row["step"], row["sample"]) for row in self.metrics if isinstance(row.get("sample"), str)]

    @property
    def rollbacks(self) -> list[Row]:
        """The rows that tell of a way back to an earlier step."""
        return [row for row in self.metrics if "rollback" in row]

    @property
    def text(self) -> dict[str, str] | None:
        """Name and SHA-256 of the text it was last trained on; None where that is not known."""
        corpus = self._corpus
        return {key: str(corpus.get(key)) for key in ("name", "sha256")} if corpus.get("sha256") else None

    @property
    def characters(self) -> int | None:
        """How long that text is; None where that is not known."""
        length = self._corpus.get("characters")
        return length if isinstance(length, int) else None

    @property
    def _corpus(self) -> dict[str, Any]:
        """What ``environment.json`` knows of the text."""
        corpus = self.environment.get("corpus")
        return corpus if isinstance(corpus, dict) else {}


def refuse_twice(paths: Iterable[Path]) -> None:
    """Where runs are put beside each other, each is wanted once.

    Raises:
        UsageError: two paths lead to the same folder.
    """
    seen = set()
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is given twice; give each run once")
        seen.add(path.resolve())


def read_run(path: str | Path) -> Run:
    """The run in a folder.

    Raises:
        CheckpointError: there is none, or a file in it is damaged.
        ConfigError: its config is not one of this version.
    """
    path = Path(path)
    with reading(path):
        folder = RunFolder(path)
        if not folder.config.exists():
            raise CheckpointError(f"{path}: holds no {folder.config.name}; {where_to_look(path)}")
        environment = read_json(folder.environment) if folder.environment.exists() else {}
        rows = _rows(folder.metrics) if folder.metrics.exists() else []
        return Run(path, load_config(folder.config), environment, rows, is_locked(folder))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around whatever reads a run folder.

    Raises:
        CheckpointError: ``path`` is no folder, or the system does not let it be read.
    """
    refuse_no_folder(path)
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: cannot be read: {error.strerror}; check its permissions, or give another run"
        ) from error


def glance_at_run(path: Path) -> Run:
    """As ``read_run`` for a folder that holds a run, at a fraction of its time: ``metrics`` has the last row, and of
    the others those alone that say how it went (see ``read_outline``).

    Raises:
        CheckpointError, ConfigError: a file that was looked at is damaged.
    """
    folder = RunFolder(path)
    with reading(path):
        environment = read_json(folder.environment) if folder.environment.exists() else {}
        rows = read_outline(folder.metrics) if folder.metrics.exists() else []
        config = load_own_config(folder.config)
    if not all(map(_is_sound, rows)):
        raise CheckpointError(f"{folder.metrics}: holds a line that is none of metrics; 'charrnn compare' says which")
    return Run(path, config, environment, rows, is_locked(folder))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run.

    Raises:
        CheckpointError: it holds none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}; restore it, or leave this run out") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a JSON object; restore it, or leave this run out")
    return values


def _rows(path: Path) -> list[Row]:
    """The rows of a metrics file, whose numbers are numbers."""
    rows = list(read_metrics(path))
    for number, row in enumerate(rows, start=1):
        if not _is_sound(row):
            raise CheckpointError(f"{path}:{number}: not a line of metrics; take the line out")
    return rows


def _is_sound(row: Row) -> bool:
    numbers = [row.get(key) for key in ("seconds", "train_loss", "val_loss")]
    return isinstance(row.get("step"), int) and all(isinstance(one, float | None) for one in numbers)
