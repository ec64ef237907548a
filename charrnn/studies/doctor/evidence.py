"""Everything the rules may look at."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from charrnn.config.schema import Config
from charrnn.config.settings import YamlLoader, flat
from charrnn.config.wording import symbol
from charrnn.runs.history import History
from charrnn.studies.doctor.probes.activity import Activity
from charrnn.studies.doctor.probes.numerics import Numerics
from charrnn.studies.doctor.probes.reading import Continuation, Reading
from charrnn.studies.doctor.probes.texts import Texts
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.doctor.trials import Trials
from charrnn.training.schedules import lower_rate


@dataclass(frozen=True)
class Evidence:
    """Losses and ``entropies`` (of the text: uniform, unigram, bigram, trigram) are in nats per character.

    ``characters`` are those of the training part. ``config_name`` is how a command line names the config, with the
    options, a value each, that change it.
    ``val_loss`` and ``val_loss_cold`` are those of the state that was examined, as are the probes'; ``new_profile``,
    ``new_activity`` and ``start_loss`` (over the training part) are of a new network of the same config, ``memorised``
    its losses on one batch, whose own unigram entropy is ``batch_unigram``.
    """

    config_name: str
    config: Config
    history: History
    characters: int
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
    batch_unigram: float
    trials: Trials

    @property
    def train_loss(self) -> float:
        """Of the last log line; NaN where there is none."""
        return float(self.history.logs[-1]["train_loss"]) if self.history.logs else math.nan

    @property
    def unit(self) -> str:
        """What the text is read by: character or byte."""
        return symbol([self.config.corpus.vocabulary])

    def details(self) -> dict[str, Any]:
        """What probes and trials measured, as plain values, but for the profile and the reading."""
        names = ("texts", "activity", "new_profile", "new_activity", "continuation", "numerics", "trials")
        return {
            **{name: asdict(getattr(self, name)) for name in names},
            "val_loss": self.val_loss,
            "val_loss_cold": self.val_loss_cold,
            "start_loss": self.start_loss,
            "memorised": self.memorised,
            "batch_unigram": self.batch_unigram,
            "entropies": self.entropies,
        }

    def lower_rate(self, factor: float) -> list[str]:
        """Assignments for a rate lower by this factor, with a schedule that ends no higher."""
        return lower_rate(self.config.training, factor)

    def command(self, *assignments: str) -> str:
        """A training of the same config with other settings; where none would change, a search for its rate."""
        changes = [one for one in assignments if self._changes(one)]
        if assignments and not changes:
            return f"charrnn lr-find --config {self.config_name}"
        replaced = {one.partition("=")[0] for one in changes}
        name, *options = shlex.split(self.config_name)
        words = [name]
        for option, value in zip(options[::2], options[1::2], strict=True):
            if option != "--set" or value.partition("=")[0].strip() not in replaced:
                words += [option, value]
        for change in changes:
            words += ["--set", change]
        return f"charrnn train --config {shlex.join(words)}"

    @property
    def statistics(self) -> str:
        """A command that counts in the text."""
        corpus = self.config.corpus
        sources = [corpus.source] if isinstance(corpus.source, str) else corpus.source
        read = corpus.model_dump(mode="json", exclude_defaults=True, exclude={"source", "fallback"})
        settings = "".join(f" --set {shlex.quote(f'corpus.{key}={json.dumps(value)}')}" for key, value in read.items())
        return " && ".join(f"charrnn corpus stats {shlex.quote(one)}{settings}" for one in sources)

    def _changes(self, assignment: str) -> bool:
        """Whether a setting would be another one than now, and is one that the cell reads."""
        name, _, value = assignment.partition("=")
        if name == "model.forget_bias" and self.config.model.cell != "lstm":
            return False
        return bool(flat(self.config.model_dump()).get(name) != yaml.load(value, YamlLoader))
