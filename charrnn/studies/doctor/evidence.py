"""Everything the rules may look at."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict, dataclass
from typing import Any

from charrnn.config.schema import Config
from charrnn.runs.history import History
from charrnn.studies.doctor.probes.activity import Activity
from charrnn.studies.doctor.probes.numerics import Numerics
from charrnn.studies.doctor.probes.reading import Continuation, Reading
from charrnn.studies.doctor.probes.texts import Texts
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.doctor.trials import Trials


@dataclass(frozen=True)
class Evidence:
    """Losses and ``entropies`` (of the text: uniform, unigram, bigram, trigram) are in nats per character.

    ``config_name`` is how a command line names the config, with the options that change it. ``val_loss`` and
    ``val_loss_cold`` are those of the state that was examined, as are the probes'; ``new_profile``,
    ``new_activity`` and ``start_loss`` (over the training part) are of a new network of the same config, ``memorised``
    its losses on one batch.
    """

    config_name: str
    config: Config
    history: History
    entropies: dict[str, float]
    texts: Texts
    profile: Profile
    activity: Activity
    new_profile: Profile
    new_activity: Activity
    reading: Reading
    continuation: Continuation
    numerics: Numerics
    val_loss: float
    val_loss_cold: float
    start_loss: float
    memorised: list[float]
    trials: Trials

    @property
    def train_loss(self) -> float:
        """Of the last log line; NaN where there is none."""
        return float(self.history.logs[-1]["train_loss"]) if self.history.logs else math.nan

    def details(self) -> dict[str, Any]:
        """What probes and trials measured, as plain values, but for the profile and the reading."""
        names = ("texts", "activity", "new_profile", "new_activity", "continuation", "numerics", "trials")
        return {
            **{name: asdict(getattr(self, name)) for name in names},
            "val_loss": self.val_loss,
            "val_loss_cold": self.val_loss_cold,
            "start_loss": self.start_loss,
            "memorised": self.memorised,
            "entropies": self.entropies,
        }

    def lower_rate(self, factor: float) -> list[str]:
        """Assignments for a rate lower by this factor, with a schedule that ends no higher."""
        lr = float(f"{self.config.training.lr / factor:.2g}")
        return [f"training.lr={lr:g}", *([f"training.min_lr={lr:g}"] if self.config.training.min_lr > lr else [])]

    def command(self, *assignments: str) -> str:
        """A training of the same config with other settings."""
        return f"charrnn train --config {self.config_name}" + "".join(
            f" --set {shlex.quote(one)}" for one in assignments
        )
