"""Short trainings of a run's config, each with one thing changed, from the same starts: what would that do?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from charrnn.config.schema import Config, DropoutConfig
from charrnn.model.charrnn import CharRNN
from charrnn.studies.recommendation import length_factor
from charrnn.studies.trials import WARM_UP_SHARE, Trial, trial, trial_config
from charrnn.text.encoded import Ids
from charrnn.training.session import Session
from charrnn.training.trainer import Trainer, new_model

STEPS = 60
MOMENTUM_STEPS = 200  # where momentum is much: it takes 1 / (1 - momentum) steps to gather
FEWEST_STEPS = 20
SEEDS = 2
BUDGET_SECONDS = 16.0
# Between these lengths the law of rates and lengths was measured. Followed further, it takes rates that long trainings
# do well with for too high, 0.15 nats worse than an eighth of it (LSTM 1 x 512, 8,640 steps, 38 in the trials).
SHORTEST_SCALED, LONGEST_SCALED = STEPS, 1_000
RATE_FACTOR = 8.0
MOST_FACTOR = 512.0
PLATEAU = 0.97  # of the unigram entropy: below it something was learned
USUAL_MOMENTUM = 0.9
USUAL_DECAY = {"adamw": 0.1, "adam": 0.0, "sgd": 0.0}  # in the others it is a penalty in the gradient, and much
MEMORY_STEPS, FEWEST_MEMORY_STEPS = 100, 50
MEMORY_SECONDS = 5.0


@dataclass(frozen=True)
class Lab:
    """Where short trainings are made. ``planned_steps`` is the length of the config's own training, as far as rates are
    scaled by it."""

    session: Session
    planned_steps: int
    seconds_per_step: float
    warm_up_share: float = WARM_UP_SHARE

    @classmethod
    def of(cls, session: Session, seconds_per_step: float) -> Lab:
        """A lab for a session whose steps take so long."""
        planned = session.planned_steps(seconds_per_step)
        planned = planned or session.trainer.steps or STEPS
        return cls(session, min(planned, LONGEST_SCALED), seconds_per_step)

    @property
    def batch(self) -> Ids:
        """The beginning of the training part, as long as one batch with its targets."""
        training = self.session.config.training
        return self.session.text.train_ids[: training.batch_size * (training.seq_len + 1)]

    def has_text_for(self, config: Config) -> bool:
        """Whether the training part has a window for each stream."""
        training = config.training
        return len(self.session.text.train_ids) >= training.batch_size * (training.seq_len + 1)

    def steps_within(self, seconds: float, trainings: float, fewest: int, most: int) -> int:
        """How many steps each of so many trainings may take."""
        return min(max(int(seconds / (trainings * self.seconds_per_step)), fewest), most)

    def length_factor(self, steps: int) -> float:
        """By which factor the best rate of the whole training lies below that of one of ``steps``."""
        return length_factor(max(steps, SHORTEST_SCALED), self.planned_steps)

    def train(
        self,
        config: Config,
        steps: int,
        seed: int,
        after_step: Callable[[], None],
        *,
        carried: bool = True,
        length: float = 1.0,
    ) -> Trial:
        """A short version of a training.

        The rate is scaled up to the shorter length (see ``lr-find``); ``seed`` counts from the config's own. With
        shorter windows a training of as many characters has ``length`` times the steps.
        """
        lr = config.training.lr / self.length_factor(steps)
        steps = max(round(steps * length), 1)
        training = trial_config(config.training, lr, steps, self.warm_up_share).model_copy(
            update={"seed": config.training.seed + seed}
        )
        trainer = Trainer(self.session.text.train_ids, len(self.session.text.vocabulary), config.model, training)
        unigram = self.session.baselines["unigram"]
        return trial(trainer, training, steps, self.session.text, unigram, after_step, carried=carried)


@dataclass(frozen=True)
class Trials:
    """``losses``: name of the change -> training loss of each seed at the end, infinite if it diverged, nats per
    character (the validation text may be another matter). ``same`` is the config as it is.

    Rates are scaled to the trials' length, unless the config's own rate diverges when scaled (``scaled`` false).
    ``higher rate`` is ``higher_factor`` times the config's own.
    """

    steps: int
    losses: dict[str, list[float]]
    scaled: bool = True
    higher_factor: float = RATE_FACTOR

    def loss(self, change: str) -> float:
        """Mean over the seeds that did not diverge, infinite if all did; NaN where the change was not tried."""
        losses = self.losses.get(change, [math.nan])
        ended = [loss for loss in losses if not math.isinf(loss)]
        return sum(ended) / len(ended) if ended else math.inf

    @property
    def best_factor(self) -> float:
        """By which of the rates' factors the config's own is best multiplied."""
        factors = {"lower rate": 1 / RATE_FACTOR, "same": 1.0, "higher rate": self.higher_factor}
        return factors[min(factors, key=self.loss)]

    def gain(self, change: str) -> float:
        """By how much the loss is lower with a change, nats per character; 0 where it was not tried or diverged."""
        gain = self.loss("same") - self.loss(change)
        return gain if math.isfinite(self.loss(change)) else 0.0


def run_trials(lab: Lab, advanced: Callable[[float], None]) -> Trials:
    """Try the config as it is, with other rates, and with less momentum or weight decay where there is much;
    ``advanced`` is told the share that is done, after every step.

    Scaling to so few steps asks much of a network that is barely stable at its own rate: where the config as it is
    diverges, everything is tried again at unscaled rates, with as much of its warm-up as there is room for.
    """
    trials = _run(lab, lambda share: advanced(share / 2))
    if math.isinf(trials.loss("same")) and lab.planned_steps > trials.steps:
        unscaled = replace(lab, planned_steps=trials.steps, warm_up_share=0.5)
        return replace(_run(unscaled, lambda share: advanced(0.5 + share / 2)), scaled=False)
    return trials


def _run(lab: Lab, advanced: Callable[[float], None]) -> Trials:
    variants = _variants(lab.session.config)
    count = len(variants) * SEEDS
    most = MOMENTUM_STEPS if "less momentum" in variants else STEPS
    steps = lab.steps_within(BUDGET_SECONDS, count, FEWEST_STEPS, most)
    done = 0
    losses: dict[str, list[float]] = {}

    def step() -> None:
        nonlocal done
        done += 1
        advanced(min(done / (count * steps), 1.0))

    for name, config in variants.items():
        losses[name] = [_training_loss(lab.train(config, steps, seed, step)) for seed in range(SEEDS)]
        done = len(losses) * SEEDS * steps  # a training that diverged counts as a whole one
    trials = Trials(steps, losses)
    while _none_learns(trials, PLATEAU * lab.session.baselines["unigram"]) and trials.higher_factor < MOST_FACTOR:
        factor = trials.higher_factor * RATE_FACTOR
        higher = lab.session.config.with_training(lr=lab.session.config.training.lr * factor)
        found = [_training_loss(lab.train(higher, steps, seed, step)) for seed in range(SEEDS)]
        trials = Trials(steps, losses | {"higher rate": found}, higher_factor=factor)
    return trials


def _none_learns(trials: Trials, plateau: float) -> bool:
    """Whether neither the rate nor the higher one teaches more than letter counts, with which a network begins, and
    neither diverges: then both may be far too low, which a comparison of the two cannot show."""
    return all(plateau < trials.loss(change) < math.inf for change in ("same", "higher rate"))


def _training_loss(one: Trial) -> float:
    return math.inf if one.train_loss is None else one.train_loss


def _variants(config: Config) -> dict[str, Config]:
    lr, beta1, beta2 = config.training.lr, *config.training.betas
    variants = {
        "same": config,
        "lower rate": config.with_training(lr=lr / RATE_FACTOR),
        "higher rate": config.with_training(lr=lr * RATE_FACTOR),
    }
    if config.training.optimizer == "sgd" and config.training.momentum > USUAL_MOMENTUM:
        variants["less momentum"] = config.with_training(momentum=USUAL_MOMENTUM)
    if config.training.optimizer != "sgd" and beta1 > USUAL_MOMENTUM:
        variants["less momentum"] = config.with_training(betas=[USUAL_MOMENTUM, beta2])
    if config.training.weight_decay > USUAL_DECAY[config.training.optimizer]:
        variants["less decay"] = config.with_training(weight_decay=USUAL_DECAY[config.training.optimizer])
    return variants


def untrained(session: Session) -> CharRNN:
    """The network as it was before its first step."""
    text, config = session.text, session.config
    model = new_model(text.train_ids, len(text.vocabulary), config.model, config.training.seed)
    return model.to(session.trainer.device).eval()


def memorise(lab: Lab, trials: Trials, advanced: Callable[[float], None]) -> list[float]:
    """The losses of a new network of this config that sees one batch, from the zero state, again and again, nats per
    character; at the best rate of the trials. What cannot learn that cannot learn."""
    session = lab.session
    training = session.config.training.model_copy(
        update={"random_seq_len": False, "state_reset": 0.0, "weight_decay": 0.0}
    )
    model = session.config.model.model_copy(update={"dropout": DropoutConfig()})
    trainer = Trainer(lab.batch, len(session.text.vocabulary), model, training)
    # Alone, the batch would give other shares of characters than the text that training starts from.
    trainer.model.load_state_dict(untrained(session).state_dict())
    steps = lab.steps_within(MEMORY_SECONDS, 1, FEWEST_MEMORY_STEPS, MEMORY_STEPS)
    lr = training.lr * trials.best_factor
    if trials.scaled:
        lr /= lab.length_factor(steps)
    losses = []
    for step in range(steps):
        losses.append(trainer.step(lr).loss.item())
        advanced((step + 1) / steps)
    return losses
