"""Where a run stands: its clock, its best evaluation, what its logs hold; saved with every checkpoint."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from typing import Any

from charrnn.text.streams import LARGEST_COUNT


@dataclass
class Score:
    """Where a run stands; saved with it. ``seconds`` counts everything since the run began, over all sessions."""

    seconds: float = 0.0
    best_val_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    last_evaluation: int = 0  # the step it was made at
    last_val_loss: float | None = None  # what it gave, if that was a number
    metrics_length: int = 0  # bytes of metrics.jsonl that belong to this state
    samples_length: int = 0
    logged_at: float = 0.0  # ``seconds`` at the last log line, moved on by whatever was not training since
    finished: bool = False
    rollbacks: int = 0  # times that divergence was answered by going back
    went_back_to: int = 0  # the step that it last went back to, and the one at which that was seen to be needed
    diverged_at: int = 0
    lr_factor: float = 1.0  # what these left of the schedule's rate
    lr: float = 0.0  # of the last step

    def val_loss_at(self, step: int) -> float | None:
        """What the last evaluation gave, if it was made at this step."""
        return self.last_val_loss if self.last_evaluation == step else None

    def record(self, step: int, val_loss: float) -> bool:
        """Take in a validation loss; whether it is the best so far."""
        again = self.last_evaluation == step  # the final one, where patience ended training
        self.last_evaluation = step
        self.last_val_loss = val_loss if math.isfinite(val_loss) else None
        if math.isfinite(val_loss) and (self.best_val_loss is None or val_loss < self.best_val_loss):
            self.best_val_loss, self.best_step, self.evaluations_since_best = val_loss, step, 0
            return True
        self.evaluations_since_best += not again
        return False

    def forget_best(self) -> None:
        """Losses on another text do not compare: the first on this one will be the best."""
        self.best_val_loss = self.last_val_loss = None
        self.best_step = self.evaluations_since_best = 0

    def go_on_after(self, before: Score, diverged_at: int, step: int, rollback_factor: float) -> None:
        """Where the run stands once it went back here, to ``step``, from ``before``: time goes on, and the rate is a
        lower one."""
        self.logged_at += before.seconds - self.seconds  # what was trained of the unfinished log interval counts
        self.seconds, self.rollbacks = before.seconds, before.rollbacks + 1
        self.lr_factor = before.lr_factor * rollback_factor
        self.diverged_at, self.went_back_to = diverged_at, step

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


COUNTS = {field.name for field in fields(Score) if type(field.default) is int}
LOSSES = {"best_val_loss", "last_val_loss"}


def score_from(values: dict[str, Any]) -> Score:
    """A saved score; raises TypeError or ValueError for what is not one."""
    score = Score(**values)
    for name, value in score.to_dict().items():
        known: Any = int if name in COUNTS else bool if name == "finished" else int | float
        missing = value is None and name in LOSSES
        if not (missing or isinstance(value, known)) or isinstance(value, bool) != (name == "finished"):
            raise TypeError(f"{name} is {value!r}")
        largest = sys.float_info.max if name in LOSSES else LARGEST_COUNT
        if not (missing or abs(value) <= largest):  # also of NaN
            raise ValueError(f"{name} is {value!r}")
    return score
