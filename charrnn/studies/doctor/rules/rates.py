"""How far a step goes, and what pulls it back: learning rate, momentum, weight decay, Adam's second moment. Judged by
short trainings, not by taste."""

from __future__ import annotations

import math
from statistics import median

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy, problem
from charrnn.studies.doctor.rules.gradients import HARM
from charrnn.studies.doctor.trials import RATE_FACTOR, SHORTEST_SCALED, USUAL_DECAY, USUAL_MOMENTUM, Trials
from charrnn.text.encoded import SHORTEST
from charrnn.training.optimizers import as_penalty

CLEAR_GAIN = 0.04  # of the text's unigram entropy: what another rate must be better by
LAGGING = 10.0  # mean g^2 over Adam's average of it
CLIMB = 1.3  # times the training loss before, medians of so many log lines
ROWS = 5


def rate(evidence: Evidence) -> Finding | None:
    """Would an eighth, or eight times, of the rate do better? Or more, where neither teaches anything?"""
    trials = evidence.trials
    limit = CLEAR_GAIN * evidence.entropies["unigram"]
    threshold = f"{limit:.2f} nats, {CLEAR_GAIN:.0%} of the unigram entropy (calibrated)"
    losses = ", ".join(
        f"{trials.loss(change):.2f} {words}"
        for change, words in (
            ("lower rate", f"at 1/{RATE_FACTOR:g} of the rate"),
            ("same", "at the rate"),
            ("higher rate", f"at {trials.higher_factor:g} times the rate"),
        )
    ).replace("inf", "diverged")
    length = "to that length" if trials.steps >= SHORTEST_SCALED else f"as for {SHORTEST_SCALED}"
    scaled = f", rates scaled {length}" if trials.scaled else ""
    measured = f"training loss after {trials.steps} steps{scaled}: {losses}"
    lower, higher = trials.gain("lower rate"), trials.gain("higher rate")
    high = lower > higher or math.isinf(trials.loss("same"))  # what diverges is not cured by more
    if max(lower, higher) <= limit:
        if not math.isfinite(trials.loss("same")):
            return None  # nothing to compare with
        return healthy("rate", "The learning rate is about right.", measured, threshold)
    if not high and (evidence.train_loss <= limit or evidence.characters < SHORTEST):
        return None  # a higher one would know the text by heart sooner, and no more than that
    return problem(
        "rate-too-high" if high else "rate-too-low",
        f"The learning rate, {evidence.config.training.lr:g}, is too {'high' if high else 'low'}.",
        measured,
        threshold,
        "Each step overshoots: the loss does not fall, or falls and climbs again."
        if high
        else "Each step is tiny: the loss falls, but at this rate it takes many times as long.",
        f"charrnn lr-find --config {evidence.config_name}",
    )


def momentum(evidence: Evidence) -> Finding | None:
    """Where there is much momentum: would less do better?"""
    gain, training = evidence.trials.gain("less momentum"), evidence.config.training
    limit = CLEAR_GAIN * evidence.entropies["unigram"]
    if "less momentum" not in evidence.trials.losses:
        return None
    sgd = training.optimizer == "sgd"
    name, value = ("training.momentum", training.momentum) if sgd else ("training.betas[0]", training.betas[0])
    trials = evidence.trials
    measured = _compared(trials, "less momentum", value, USUAL_MOMENTUM)
    threshold = f"{limit:.2f} nats, {CLEAR_GAIN:.0%} of the unigram entropy (calibrated)"
    if gain <= limit:
        return healthy("momentum", f"{name} {value:g} does no harm.", measured, threshold)
    fix = (
        f"training.momentum={USUAL_MOMENTUM:g}" if sgd else f"training.betas=[{USUAL_MOMENTUM:g},{training.betas[1]:g}]"
    )
    return problem(
        "too-much-momentum",
        f"Too much momentum: {name} is {value:g}.",
        measured,
        threshold,
        f"A step keeps 1 / (1 - {value:g}) = {1 / (1 - value):.0f} times its own size from the ones before it: the "
        "weights swing past the minimum and back, and the loss bounces.",
        evidence.command(fix),
    )


def decay(evidence: Evidence) -> Finding | None:
    """Where there is much weight decay: would less do better?"""
    trials, training = evidence.trials, evidence.config.training
    if "less decay" not in trials.losses:
        return None
    usual, limit = USUAL_DECAY[training.optimizer], CLEAR_GAIN * evidence.entropies["unigram"]
    measured = _compared(trials, "less decay", training.weight_decay, usual)
    threshold = f"{limit:.2f} nats, {CLEAR_GAIN:.0%} of the unigram entropy (as for other rates)"
    if trials.gain("less decay") <= limit:
        return healthy("decay", f"training.weight_decay {training.weight_decay:g} does no harm.", measured, threshold)
    of_adamw = "It pulls every weight to zero faster than the text pulls it away."
    return problem(
        "too-much-decay",
        f"Weight decay is too strong: training.weight_decay is {training.weight_decay:g}.",
        measured,
        threshold,
        of_adamw if training.optimizer == "adamw" else f"{of_adamw} {as_penalty(training.optimizer)}",
        evidence.command(f"training.weight_decay={usual:g}"),
    )


def _compared(trials: Trials, change: str, now: float, usual: float) -> str:
    """The losses with a setting as it is now, and with a usual value."""
    losses = f"{trials.loss('same'):.2f} with {now:g}, {trials.loss(change):.2f} with {usual:g}"
    return f"training loss after {trials.steps} steps: {losses}".replace("inf", "diverged")


def second_moment(evidence: Evidence) -> Finding | None:
    """Did Adam's second moment lag behind gradients that had grown, and the loss climb after it had fallen?"""
    if evidence.config.training.optimizer == "sgd" or not evidence.history.observed:
        return None
    beta2 = evidence.config.training.betas[1]
    rows = evidence.history.observed
    ratios = [
        max(
            (seen.get("second_moment_ratio") or 0.0 for name, seen in row["tensors"].items() if "weight" in name),
            default=0.0,
        )
        for row in rows
    ]
    unigram = evidence.entropies["unigram"]
    harm = HARM * unigram
    threshold = (
        f"{LAGGING:g}, with a loss that had fallen below the unigram entropy, {unigram:.2f}, and climbs by "
        f"{CLIMB - 1:.0%} and {harm:.2g} nats after it (calibrated)"
    )
    for index, ratio in enumerate(ratios):
        before, after = (
            median(row["train_loss"] for row in part)
            for part in (rows[max(index - ROWS, 0) : max(index, 1)], rows[index : index + ROWS])
        )
        # A loss that was never lower than its start has not fallen: a first step too far makes gradients grow as well.
        # A text known by heart costs so little that a third of it is nothing.
        if ratio > LAGGING and before < unigram and after > max(CLIMB * before, before + harm):
            return problem(
                "second-moment-lags",
                f"The loss fell and then climbed: Adam's second moment lagged behind at step {rows[index]['step']:,}.",
                f"mean g^2 was {ratio:.0f} times Adam's average of it; the loss rose from {before:.2f} to {after:.2f}",
                threshold,
                f"Adam divides by an average of g^2 over about 1 / (1 - {beta2:g}) = {1 / (1 - beta2):,.0f} steps. "
                "When gradients grow suddenly that is too small, and the steps are far too large.",
                evidence.command(
                    f"training.betas=[{evidence.config.training.betas[0]:g},0.95]", "training.grad_clip=1"
                ),
            )
    largest = max(ratios, default=0.0)
    title = "Adam's second moment keeps up." if largest <= LAGGING else "Adam's second moment lagged, and did no harm."
    return healthy("second moment", title, f"largest mean g^2 over its average {largest:.1f}", threshold)
