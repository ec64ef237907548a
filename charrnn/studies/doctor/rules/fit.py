"""What model and text allow: too much learned by heart, too little room, nothing but letter counts."""

from __future__ import annotations

import math
from statistics import mean

from charrnn.config.schema import DropoutConfig
from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy, problem
from charrnn.studies.doctor.rules.rates import CLEAR_GAIN
from charrnn.studies.doctor.trials import PLATEAU, RATE_FACTOR

WORSE = 0.015  # of the unigram entropy
FAR_APART = 0.2  # of it; after a minute of Shakespeare validation and training loss are 0.06 of it apart
NOT_MEMORISED = 0.5  # of the entropy of its own letters, after a hundred steps on one batch
FEWEST_STEPS = 100
MOST_DROPOUT = 0.8


def overfitting(evidence: Evidence) -> Finding | None:
    """Does the validation loss climb while the training loss falls, and since when?"""
    rows = evidence.history.evaluations
    if len(rows) < 2 or math.isnan(evidence.train_loss):
        return _by_heart(evidence)
    best, last = min(rows, key=lambda row: row["val_loss"]), rows[-1]
    measured = (
        f"validation loss {best['val_loss']:.3g} at step {best['step']:,}, {last['val_loss']:.3g} at step "
        f"{last['step']:,}; training loss {evidence.train_loss:.3g}"
    )
    limit = WORSE * evidence.entropies["unigram"]
    threshold = (
        f"{limit:.2g} nats above its best, {WORSE:.1%} of the unigram entropy, with a lower training loss (calibrated)"
    )
    if last["val_loss"] <= best["val_loss"] + limit or evidence.train_loss > last["val_loss"]:
        return healthy("overfitting", "It does not learn the text by heart.", measured, threshold)
    return problem(
        "overfitting",
        f"Overfitting since step {best['step']:,}.",
        measured,
        threshold,
        "From there on it learns the training text by heart, and gets worse on any other: more text, dropout, or "
        "stopping earlier.",
        evidence.command(*_more_dropout(evidence.config.model.dropout), "training.patience=3"),
    )


def _by_heart(evidence: Evidence) -> Finding | None:
    """The same with one evaluation, which shows no climb: is the validation loss far above that of the training?"""
    gap, limit = evidence.val_loss - evidence.train_loss, FAR_APART * evidence.entropies["unigram"]
    if not gap > limit:
        return None
    return problem(
        "overfitting",
        "It knows the training text by heart.",
        f"validation loss {evidence.val_loss:.3g}, training loss {evidence.train_loss:.3g}",
        f"{limit:.2g} nats apart, {FAR_APART:.0%} of the unigram entropy",
        "What it learned of the training text helps with no other: more text, dropout, or stopping earlier, which "
        "evaluations on the way would find.",
        evidence.command(*_more_dropout(evidence.config.model.dropout), "training.patience=3"),
    )


def _more_dropout(dropout: DropoutConfig) -> list[str]:
    """More where there is some, a usual share where there is none; nothing more where there is much."""
    now = dropout.model_dump()
    if not any(now.values()):
        return ["model.dropout=0.3"]
    some = {place: share for place, share in now.items() if 0 < share < MOST_DROPOUT}
    return [f"model.dropout.{place}={min(share + 0.2, MOST_DROPOUT):g}" for place, share in some.items()]


def too_small(evidence: Evidence) -> Finding | None:
    """Can a new network learn one batch by heart?"""
    first, last = evidence.memorised[0], mean(evidence.memorised[-5:])
    if not last <= first:
        return None  # it diverges, which is not for want of units
    trials, clear = evidence.trials, CLEAR_GAIN * evidence.entropies["unigram"]
    if trials.higher_factor > RATE_FACTOR and trials.gain("higher rate") > clear:
        return None  # the rate is far too low, and was so for the batch as well
    if trials.gain("less decay") > clear:
        return None  # the batch is read without weight decay, but at the rate that was best with too much of it
    model = evidence.config.model
    measured = f"one batch, {len(evidence.memorised)} times: loss {first:.2f} to {last:.2f}"
    threshold = (
        f"{NOT_MEMORISED:.0%} of the batch's own unigram entropy, {evidence.batch_unigram:.2f} (calibrated; the check "
        "is that of https://cs231n.github.io/neural-networks-3/)"
    )
    if _knows_batch(evidence):
        return healthy("capacity", "A new network learns one batch by heart.", measured, threshold)
    size = max(4 * model.hidden_size, 64)
    return problem(
        "underfitting",
        f"The network is too small: {model.num_layers} x {model.hidden_size} units.",
        measured,
        threshold,
        "It cannot even learn one batch by heart: no amount of training will teach it the text.",
        evidence.command(f"model.hidden_size={size}", *([f"model.embedding_size={size}"] if model.tie_weights else [])),
    )


def _knows_batch(evidence: Evidence) -> bool:
    """Measured by the batch itself: another one of the same text may be half a nat harder. Of one that is hardly more
    than a single character, the last bit is not asked for."""
    limit = max(NOT_MEMORISED * evidence.batch_unigram, CLEAR_GAIN * evidence.entropies["unigram"])
    return mean(evidence.memorised[-5:]) <= limit


def unigram_plateau(evidence: Evidence) -> Finding | None:
    """Has it learned more than how often each character occurs?"""
    unigram, history = evidence.entropies["unigram"], evidence.history
    losses = [row["train_loss"] for row in history.logs[-max(len(history.logs) // 4, 1) :]]
    if history.steps < FEWEST_STEPS or not losses:
        return None
    entropies = ", ".join(f"{name} {nats:.2f}" for name, nats in evidence.entropies.items())
    measured = f"training loss {mean(losses):.2f} of late; entropies of the text: {entropies}"
    threshold = f"{PLATEAU:.0%} of the unigram entropy"
    if mean(losses) < PLATEAU * unigram:
        return healthy("plateau", "It has learned more than letter counts.", measured, threshold)
    if evidence.entropies["trigram"] > PLATEAU * unigram:
        return problem(
            "unigram-plateau",
            "It has learned how often each character occurs, and there is hardly more to learn in this text.",
            measured,
            threshold,
            "Two characters before it say next to nothing about the next one: a network can only do better where those "
            "further back do.",
            evidence.statistics,
        )
    dropout = {f"model.dropout.{place}": share for place, share in evidence.config.model.dropout.model_dump().items()}
    most = max(dropout, key=lambda place: dropout[place])
    if dropout[most] > MOST_DROPOUT and _knows_batch(evidence):
        return problem(
            "unigram-plateau",
            f"It has learned how often each character occurs, and nothing else: {most} is {dropout[most]:g}.",
            measured,
            threshold,
            "Without dropout a new network learns one batch by heart; with so much of it, hardly anything of what was "
            "read comes through.",
            evidence.command(*(f"{place}=0.2" for place, share in dropout.items() if share > MOST_DROPOUT)),
        )
    return problem(
        "unigram-plateau",
        "It has learned how often each character occurs, and nothing else.",
        measured,
        threshold,
        "The output does not depend on what is read: the input does not reach it, or the rate keeps it from learning.",
        f"charrnn lr-find --config {evidence.config_name}",
    )
