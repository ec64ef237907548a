"""What several tests need: a silent reporter, a run from start to end, comparison of full states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from charrnn.config.schema import Config
from charrnn.runs.checkpoint import State, pack
from charrnn.runs.directory import RunFolder
from charrnn.runs.keeping import newest_whole
from charrnn.runs.metrics import Row, read_metrics
from charrnn.text.places import Places
from charrnn.training.loop import Loop, Outcome
from charrnn.training.precision import has_bf16_lstm
from charrnn.training.session import Session, new_session, resume_session, start_run

# What a log line holds; the line of an interval that was cut short has the first ones only.
LOG_KEYS = {"step", "epoch", "seconds", "train_loss", "train_loss_max", "lr", "grad_norm", "grad_norm_median"}
LOG_KEYS |= {"grad_norm_p99", "clipped", "chars_per_sec"}
OBSERVED_KEYS = {"loss_by_position", "taught_positions", "carried_streams", "largest_logit", "largest_state"}
OBSERVED_KEYS |= {"zero_gradients", "optimizer_steps", "tensors"}

needs_bf16_lstm = pytest.mark.skipif(not has_bf16_lstm(), reason="this processor cannot compute LSTMs in bfloat16")


def write_checkpoint(path: Path, state: State) -> None:
    """A checkpoint with any content, whole and with the right digest."""
    path.write_bytes(pack(state))


class Silent:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.logs: list[Row] = []
        self.evaluations: list[Row] = []
        self.warnings: list[str] = []

    def logged(self, row: Row, progress: float) -> None:
        assert 0 <= progress <= 1
        self.logs.append(row)

    def evaluated(self, row: Row) -> None:
        self.evaluations.append(row)

    def warned(self, text: str) -> None:
        self.warnings.append(text)


def never() -> bool:
    return False


def stop_at(session: Session, step: int) -> Callable[[], bool]:
    return lambda: session.trainer.steps >= step


def begin(config: Config, places: Places, name: str = "run") -> Session:
    session = new_session(config, places)
    start_run(session, name)
    return session


def train(session: Session, should_stop: Callable[[], object] = never) -> Outcome:
    return Loop(session, Silent(), should_stop).run()


def resumed(path: Path, places: Places, config: Config) -> Session:
    folder = RunFolder(path)
    return resume_session(folder, newest_whole(folder), config, places)


def comparable_rows(path: Path) -> list[Row]:
    """The metrics without what the clock decides, and who presses Ctrl-C."""
    rows = (row for row in read_metrics(path) if "interrupted" not in row)
    return [{k: v for k, v in row.items() if k not in ("seconds", "chars_per_sec")} for row in rows]


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """The paths at which two nested states differ; tensors are compared bit for bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        found = [f"{where}/{key}" for key in left.keys() ^ right.keys()]
        for key in left.keys() & right.keys():
            found += differences(left[key], right[key], f"{where}/{key}")
        return found
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return [] if left.dtype == right.dtype and torch.equal(left, right) else [where]
    return [] if left == right else [where]
