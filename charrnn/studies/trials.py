"""A trial: one short but real training at one rate, scored on validation text. See ``recommendation`` for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from charrnn.config.schema import TrainingConfig
from charrnn.model.charrnn import CharRNN
from charrnn.studies.sweep import why_diverged
from charrnn.text.encoded import EncodedText
from charrnn.training.evaluation import evaluate
from charrnn.training.precision import Precision
from charrnn.training.schedules import learning_rate
from charrnn.training.trainer import Trainer

EVAL_CHARACTERS = 20_000
WARM_UP_SHARE = 0.1  # of a trial, at most: fifty steps of warm-up out of a hundred would be another training


@dataclass(frozen=True)
class Trial:
    """One short training: its rate, seed and losses (nats per character; None if it diverged): on validation text, and
    in training over its last quarter."""

    lr: float
    seed: int
    val_loss: float | None
    diverged: str | None
    train_loss: float | None = None


def trial_config(config: TrainingConfig, lr: float, steps: int, warm_up_share: float = WARM_UP_SHARE) -> TrainingConfig:
    """The training that a trial of this many steps is a short version of, at another rate."""
    warmup_steps = min(config.warmup_steps, int(warm_up_share * steps))
    return config.model_copy(update={"lr": lr, "warmup_steps": warmup_steps, "min_lr": min(config.min_lr, lr)})


def trial(
    trainer: Trainer,
    config: TrainingConfig,
    steps: int,
    text: EncodedText,
    ceiling: float,
    after_step: Callable[[], None],
    *,
    carried: bool = True,
) -> Trial:
    """Train for ``steps`` under the schedule of ``config``, then score the validation text from a carried state (or,
    if not ``carried``, from a cold one)."""
    losses: list[float] = []
    for step in range(steps):
        stats = trainer.step(learning_rate(config, step, step / steps))
        losses.append(stats.loss.item())
        after_step()
        if (reason := why_diverged(losses, stats.grad_norm.item(), ceiling)) is not None:
            return Trial(config.lr, config.seed, None, reason)
    loss = quick_loss(trainer.model, text, "val", trainer.precision, carried=carried)
    if not math.isfinite(loss):
        return Trial(config.lr, config.seed, None, "the validation loss is not finite")
    return Trial(config.lr, config.seed, loss, None, mean(losses[-max(steps // 4, 1) :]))


def quick_loss(model: CharRNN, text: EncodedText, part: str, precision: Precision, *, carried: bool) -> float:
    """The loss over so much of a part of the text as tells trainings apart."""
    span = text.spans[part]
    result = evaluate(model, text.ids, span, precision, carried=carried, max_characters=EVAL_CHARACTERS)
    assert result is not None, "nobody asks it to stop"
    return result.nats_per_char
