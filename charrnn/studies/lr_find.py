"""``charrnn lr-find``: sweeps to bracket the learning rate, short trainings to prove it. Changes nothing.

The session it looks at only says what to train on what: every sweep and every trial is a trainer of its own, made
for it and dropped after it. Torch's random state is put back at the end, however it ends.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from charrnn.config.schema import HIGHEST_LR, TrainingConfig
from charrnn.errors import UsageError
from charrnn.model.device import kept_generators
from charrnn.runs.checkpoint import State
from charrnn.runs.metrics import without_nan
from charrnn.studies import Advanced
from charrnn.studies.recommendation import (
    MOST_RATES,
    Range,
    bracket_centre,
    first_rates,
    next_rate,
    rate_range,
    why_no_proof,
    why_no_sweep,
)
from charrnn.studies.sweep import Band, Sweep, band, exponential_rates, start_error, suggestions, sweep
from charrnn.studies.trials import Trial, trial, trial_config
from charrnn.training.session import Session
from charrnn.training.trainer import Trainer

# Adam moves every weight by about the rate at each step, whatever the gradient: below 1e-4 a hundred steps do not
# move weights of 0.05 (1 / sqrt(hidden_size)), and at 1 a single step throws all of them away. SGD shares a gradient
# of norm about 1 out among all weights: it needs rates a hundred times higher for the same.
DEFAULT_RANGE = {"adam": (1e-4, 1.0), "adamw": (1e-4, 1.0), "sgd": (1e-2, 100.0)}
NARROWEST_RANGE = 100.0
SURE = 4.0  # standard errors: the least of a hundred losses is often two below their mean


@dataclass(frozen=True)
class Plan:
    """What to do: range and number of the rates swept, seeds, and the steps of a trial (0: no trials)."""

    min_lr: float
    max_lr: float
    seeds: int = 3
    sweep_steps: int = 100
    trial_steps: int = 80


def make_plan(
    config: TrainingConfig, min_lr: float | None, max_lr: float | None, seeds: int, trial_steps: int, quick: bool
) -> Plan:
    """A plan with the default range of the optimizer where none is given.

    Raises:
        UsageError: the range is empty, too narrow or not of positive numbers.
    """
    low, high = DEFAULT_RANGE[config.optimizer]
    low, high = low if min_lr is None else min_lr, high if max_lr is None else max_lr
    for option, rate in (("--min-lr", low), ("--max-lr", high)):
        if not 0 < rate <= HIGHEST_LR:
            raise UsageError(f"{option} {rate:g}: give a rate above 0, of {HIGHEST_LR:g} at most")
    low = max(low, config.min_lr)  # a schedule that ends there cannot begin below
    if low * NARROWEST_RANGE > high * (1 + 1e-9):
        if low * NARROWEST_RANGE > HIGHEST_LR:
            raise UsageError(f"--min-lr {low:g}: give {HIGHEST_LR / NARROWEST_RANGE:g} at most, to leave room above it")
        raise UsageError(f"--max-lr {high:g}: give at least {low * NARROWEST_RANGE:g}, for a sweep from {low:g}")
    return Plan(low, high, seeds, trial_steps=0 if quick else trial_steps)


@dataclass
class Finding:
    """Everything that was measured. ``problem`` says why there is no ``lr``, if so.

    ``proven`` is for the length of the trials, ``wanted`` for the ``planned_steps`` of the config (None where they
    cannot be foretold). ``lr`` is the recommended rate, of two digits.
    """

    plan: Plan
    unigram: float
    sweeps: list[Sweep] = field(default_factory=list)
    band: Band | None = None
    suggestions: dict[str, float] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    planned_steps: int | None = None
    proven: Range | None = None
    wanted: Range | None = None
    lr: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the content of ``lr-find.json``. A loss that is not finite is None."""
        values = asdict(self)
        if self.band is not None:
            values["band"] = {name: curve.tolist() for name, curve in asdict(self.band).items()}
        plain: dict[str, Any] = without_nan(values)
        return plain


def find_lr(session: Session, plan: Plan, advanced: Advanced, warm: State | None = None) -> Finding:
    """Sweep, then prove. With ``warm`` (a trainer's ``state_dict``) every training starts from that state.

    A warm model has one set of weights: there the seeds differ in dropout, state resets and the place in the text.
    """
    with kept_generators(session.trainer.device):
        return _Study(session, plan, advanced, warm).run()


class _Study:
    def __init__(self, session: Session, plan: Plan, advanced: Advanced, warm: State | None) -> None:
        self.session = session
        self.plan = plan
        self.advanced = advanced
        self.warm = warm
        self.finding = Finding(plan, session.baselines["unigram"])
        self._taken = 0  # steps really taken
        self._done = 0  # the same, but a training that diverged counts as a whole one
        self._total = plan.seeds * (plan.sweep_steps + MOST_RATES * plan.trial_steps)

    def run(self) -> Finding:
        finding, plan = self.finding, self.plan
        begun = time.perf_counter()
        self._sweep()
        assert finding.band is not None
        # Trials would show what is to be learned; where none follow, the sweeps alone must be sure of it.
        doubt = 0.0 if plan.trial_steps else SURE * start_error(finding.sweeps)
        finding.problem = why_no_sweep(finding.band, finding.suggestions, self.warm is not None, doubt)
        if finding.problem is None and plan.trial_steps:
            self._prove()
            finding.problem = why_no_proof(finding.trials, plan.trial_steps, finding.unigram)
        finding.planned_steps = self.session.planned_steps((time.perf_counter() - begun) / self._taken)
        if finding.problem is None:
            self._recommend()
        return finding

    def _sweep(self) -> None:
        finding, plan = self.finding, self.plan
        lrs = exponential_rates(plan.min_lr, plan.max_lr, plan.sweep_steps)
        for index in range(plan.seeds):
            config = self._training_config(index)
            finding.sweeps.append(sweep(self._trainer(index, config), config.seed, lrs, finding.unigram, self._step))
            self._done = (index + 1) * plan.sweep_steps
        finding.band = band(finding.sweeps)
        finding.suggestions = suggestions(finding.band.lrs, finding.band.median)

    def _prove(self) -> None:
        finding, plan = self.finding, self.plan
        assert finding.band is not None
        for lr in first_rates(bracket_centre(finding.band), plan.min_lr, plan.max_lr):
            self._try(lr)
        while (further := next_rate(finding.trials, plan.min_lr, plan.max_lr)) is not None:
            self._try(further)

    def _try(self, lr: float) -> None:
        """Trials at one rate, from the start of each seed."""
        finding, plan = self.finding, self.plan
        for index in range(plan.seeds):
            config = trial_config(self._training_config(index), lr, plan.trial_steps)
            done = self._done
            trainer = self._trainer(index, config)
            finding.trials.append(
                trial(trainer, config, plan.trial_steps, self.session.text, finding.unigram, self._step)
            )
            self._done = done + plan.trial_steps

    def _recommend(self) -> None:
        """The rate for a training as long as the config's own; without trials the bracket's middle has to do."""
        finding, plan = self.finding, self.plan
        assert finding.band is not None
        if plan.trial_steps:
            found = finding.proven = rate_range(finding.trials, plan.trial_steps)
        else:
            rate = bracket_centre(finding.band)
            found = Range(plan.sweep_steps, rate, rate, rate)
        wanted = found.for_length(finding.planned_steps or found.steps)
        finding.wanted = wanted if plan.trial_steps else None
        finding.lr = max(float(f"{wanted.best:.2g}"), self.session.config.training.min_lr)

    def _step(self) -> None:
        self._taken += 1
        self._done += 1
        stage = "sweep" if self.finding.band is None else "trials"
        self.advanced(stage, min(self._done / self._total, 1.0))

    def _training_config(self, index: int) -> TrainingConfig:
        """The config's own, with the seed of this index."""
        config = self.session.config.training
        return config.model_copy(update={"seed": config.seed + index})

    def _trainer(self, index: int, config: TrainingConfig) -> Trainer:
        """A trainer at the start that all trainings with this seed share."""
        session = self.session
        trainer = Trainer(session.text.train_ids, len(session.text.vocabulary), session.config.model, config)
        if self.warm is not None:
            trainer.load_state_dict(copy.deepcopy(self.warm))
            torch.manual_seed(config.seed)
            trainer.generator.manual_seed(config.seed)
            if index:
                streams = trainer.streams
                streams.position = (streams.position + index * streams.length // self.plan.seeds) % streams.length
                trainer.hidden = trainer.model.zero_hidden(config.batch_size)
        return trainer
