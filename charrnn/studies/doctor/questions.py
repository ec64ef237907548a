"""Paired experiments on the user's own config: the same starts with and without one thing, an effect and its interval.

Which is better is asked of the validation loss after short trainings, at rates scaled to their length (see lr-find).
The interval is Student's t of the differences between trainings with the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from charrnn.config.schema import Config
from charrnn.errors import UsageError
from charrnn.model.device import kept_generators
from charrnn.studies import Advanced
from charrnn.studies.doctor.trials import Lab
from charrnn.studies.trials import Trial
from charrnn.training.precision import choose_device, choose_precision

SEEDS = 5
# Student's t, 97.5 %, four degrees of freedom: one less than the seeds.
T_QUANTILE = 2.776
MOST_STEPS, FEWEST_STEPS = 300, 40
BUDGET_SECONDS = 50.0
USUAL_CLIP, USUAL_RESET, USUAL_BETA1 = 1.0, 0.02, 0.9
LONGER = 4


@dataclass(frozen=True)
class Variant:
    """A config to try; a training of it takes ``length`` times the steps, so that all read as many characters."""

    label: str
    config: Config
    length: float = 1.0


@dataclass(frozen=True)
class Question:
    """``variants`` gives what is compared, what is asked about last; ``cold`` scores from a cold state."""

    text: str
    variants: Callable[[Config], list[Variant]]
    cold: bool = False


@dataclass(frozen=True)
class Answer:
    """``effect`` of ``label`` instead of ``against``: mean difference of the losses, nats per character (negative is
    better), within ``low`` to ``high`` with 95 % confidence. NaN where trainings diverged. ``steps`` of each training
    of ``against``; the others read as many characters."""

    question: str
    label: str
    against: str
    losses: list[float]
    losses_against: list[float]
    effect: float
    low: float
    high: float
    verdict: str
    steps: int


def ask(name: str, lab: Lab, advanced: Advanced) -> list[Answer]:
    """Train every variant from every seed, and compare each with the first. ``name`` is one of ``QUESTIONS``.

    Raises:
        UsageError: at once, if this processor cannot do a variant's precision, or there is but one variant.
    """
    question = QUESTIONS[name]
    variants = [variant for variant in question.variants(lab.session.config) if lab.has_text_for(variant.config)]
    if len(variants) < 2:
        raise UsageError(f"--ask {name}: nothing to compare with: the text is too short for it; give a longer one")
    for variant in variants:
        choose_precision(variant.config.training.precision, variant.config.model, lab.session.trainer.device)
    work = SEEDS * sum(variant.length for variant in variants)
    steps = lab.steps_within(BUDGET_SECONDS, work, FEWEST_STEPS, MOST_STEPS)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advanced(name, min(done / (work * steps), 1.0))

    with kept_generators(lab.session.trainer.device):
        losses = {
            variant.label: [
                _validation_loss(
                    lab.train(variant.config, steps, seed, step, carried=not question.cold, length=variant.length)
                )
                for seed in range(SEEDS)
            ]
            for variant in variants
        }
    first = variants[0].label
    return [
        compare(name, variant.label, losses[variant.label], first, losses[first], steps) for variant in variants[1:]
    ]


def _validation_loss(trial: Trial) -> float:
    return math.inf if trial.val_loss is None else trial.val_loss


def compare(
    question: str, label: str, losses: list[float], against: str, losses_against: list[float], steps: int
) -> Answer:
    """The paired difference, and what it says."""
    pairs = [(a, b) for a, b in zip(losses, losses_against, strict=True) if math.isfinite(a) and math.isfinite(b)]
    diverged, diverged_against = (sum(map(math.isinf, one)) for one in (losses, losses_against))
    if len(pairs) < SEEDS:
        verdict = "cannot be told at this budget"
        if diverged != diverged_against:
            verdict = "helps" if diverged < diverged_against else "hurts"
        verdict += f": {diverged} of {SEEDS} trainings diverged, {diverged_against} without it"
        return Answer(question, label, against, losses, losses_against, math.nan, math.nan, math.nan, verdict, steps)
    differences = [a - b for a, b in pairs]
    effect, half = mean(differences), T_QUANTILE * stdev(differences) / math.sqrt(SEEDS)
    low, high = effect - half, effect + half
    verdict = "helps" if high < 0 else "hurts" if low > 0 else "cannot be told at this budget"
    if not any(differences):
        verdict += ": it changed nothing in trainings as short as these"
    return Answer(question, label, against, losses, losses_against, effect, low, high, verdict, steps)


def _clipping(config: Config) -> list[Variant]:
    clip = config.training.grad_clip or USUAL_CLIP
    return [_with(config, "no clipping", grad_clip=None), _with(config, f"grad_clip {clip:g}", grad_clip=clip)]


def _seq_len(config: Config) -> list[Variant]:
    """Shorter and longer windows at the same rate, over as many characters; that rate may suit one better."""
    seq_len = config.training.seq_len
    others = [length for length in (seq_len // LONGER, seq_len * LONGER) if length >= 1]
    return [_with(config, f"seq_len {seq_len}")] + [
        _with(config, f"seq_len {length}", length=seq_len / length, seq_len=length) for length in others
    ]


def _random_length(config: Config) -> list[Variant]:
    return [
        _with(config, "fixed length", random_seq_len=False),
        _with(config, "random length", random_seq_len=True),
    ]


def _momentum(config: Config) -> list[Variant]:
    training = config.training
    if training.optimizer == "sgd":
        value = training.momentum or USUAL_BETA1
        return [_with(config, "no momentum", momentum=0.0), _with(config, f"momentum {value:g}", momentum=value)]
    beta1, beta2 = training.betas[0] or USUAL_BETA1, training.betas[1]
    return [
        _with(config, "no momentum (betas[0] 0)", betas=[0.0, beta2]),
        _with(config, f"momentum (betas[0] {beta1:g})", betas=[beta1, beta2]),
    ]


def _precision(config: Config) -> list[Variant]:
    half = "bf16" if choose_device(config.training.device).type == "cpu" else "fp16"
    return [_with(config, "fp32", precision="fp32"), _with(config, half, precision=half)]


def _reset(config: Config) -> list[Variant]:
    reset = config.training.state_reset or USUAL_RESET
    return [_with(config, "no reset", state_reset=0.0), _with(config, f"state_reset {reset:g}", state_reset=reset)]


def _with(config: Config, label: str, length: float = 1.0, **settings: Any) -> Variant:
    return Variant(label, config.with_training(**settings), length)


QUESTIONS = {
    "clipping": Question("Does clipping the gradient help?", _clipping),
    "seq-len": Question("Would shorter or longer windows help, at this rate, over as much text?", _seq_len),
    "random-length": Question("Does a random sequence length help?", _random_length),
    "momentum": Question("Does momentum help?", _momentum),
    "precision": Question("Does half precision cost anything?", _precision),
    "reset": Question("Does resetting the state now and then help a cold start?", _reset, cold=True),
}
