"""The units and their arithmetic: how they begin, saturate, die, and how exactly they are computed."""

from __future__ import annotations

import math

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy, problem
from charrnn.studies.doctor.rules.gradients import GROWS

HIGH_START = 1.5  # times ln V
SATURATED_START = 0.5  # share of the gates of a new network
STUCK_START = 0.5  # share of the values of one gate
SATURATED = 0.9  # share of the gates of a trained one
DEAD = 0.25  # share of the units
ROUGH_GRADIENT = 0.1  # relative difference from float64
COARSE = 0.9  # share of the weights that fit bfloat16
VANISHED = 0.85  # share of the recurrent gradient that is exactly zero


def initialisation(evidence: Evidence) -> Finding:
    """Does a new network begin at the loss of knowing nothing, ln V, or lower, knowing how often characters occur?"""
    uniform, start = evidence.entropies["uniform"], evidence.start_loss
    measured = f"a new network's loss is {start:.2f}, ln V is {uniform:.2f}"
    threshold = f"{HIGH_START:g} times ln V (calibrated; see https://cs231n.github.io/neural-networks-3/#sanitycheck)"
    if start <= HIGH_START * uniform:
        return healthy("initialisation", "It begins without strong opinions, as it should.", measured, threshold)
    return problem(
        "bad-initialisation",
        "It begins with strong and wrong opinions: the initial weights are too large.",
        measured,
        threshold,
        "The first steps, and often the whole warm-up, are spent unlearning the start.",
        evidence.command("model.recurrent_init=orthogonal", "model.forget_bias=1"),
    )


def saturation_at_start(evidence: Evidence) -> Finding | None:
    """Are the gates of a new network stuck open or shut?"""
    activity = evidence.new_activity
    if activity.saturation <= SATURATED_START and activity.stuck <= STUCK_START:
        return None
    return _saturated(
        evidence,
        f"{activity.saturation:.0%} of a new network's gates are below 0.05 or above 0.95; of one gate "
        f"{activity.stuck:.0%} are below 0.005 or above 0.995",
        f"{SATURATED_START:.0%}; {STUCK_START:.0%} (calibrated)",
        "weights or biases are too large at the start",
    )


def saturation(evidence: Evidence) -> Finding:
    """Have gates become stuck open or shut, to no avail?"""
    now, poor = evidence.activity.saturation, evidence.train_loss > evidence.entropies["bigram"]
    measured = f"{now:.0%} of the gates are below 0.05 or above 0.95"
    threshold = f"{SATURATED:.0%}, while the loss is above the bigram entropy (calibrated)"
    if now > SATURATED and poor:
        return _saturated(evidence, measured, threshold, "a rate too high threw them there, perhaps")
    return healthy("gates", "Gates do their work.", measured, threshold)


def _saturated(evidence: Evidence, measured: str, threshold: str, cause: str) -> Finding:
    return problem(
        "saturated-gates",
        "Gates are saturated: stuck open or shut.",
        measured,
        threshold,
        f"Where a gate is at its end its derivative is nearly zero, so no gradient moves it back: {cause}.",
        evidence.command("model.recurrent_init=orthogonal", "model.forget_bias=1"),
    )


def dead_units(evidence: Evidence) -> Finding:
    """Are there units that never say anything?"""
    activity = evidence.activity
    share = activity.dead_share
    measured = f"{sum(activity.dead)} of {activity.units * len(activity.dead)} units keep the same output all the time"
    threshold = f"{DEAD:.0%} (calibrated)"
    if share <= DEAD:
        return healthy("units", "The units are alive.", measured, threshold)
    relu = evidence.config.model.cell == "rnn_relu"
    return problem(
        "dead-units",
        "Many units are dead: they do the same whatever they read.",
        measured,
        threshold,
        "They are paid for and add nothing"
        + ("; a rectified unit that is always below zero gets no gradient either." if relu else "."),
        evidence.command(*(["model.cell=rnn_tanh"] if relu else []), *evidence.lower_rate(3)),
    )


def precision(evidence: Evidence) -> Finding | None:
    """Is the arithmetic exact enough for gradients, and do weights and gradients keep small numbers?"""
    numerics, zero = evidence.numerics, evidence.history.median("zero_gradients")
    if not math.isfinite(numerics.gradient) or max(evidence.profile.relative) > GROWS:
        return None  # no number at all is no rounding error, and a network that explodes enlarges any
    measured = (
        f"gradient {numerics.gradient:.1e} from its float64 value, loss {numerics.loss:.1e}; {numerics.coarse:.0%} of "
        "the weights would fit bfloat16"
    )
    if not math.isnan(zero):  # else no log line looked inside a step
        measured += f"; {zero:.0%} of the recurrent gradient is zero"
    threshold = (
        f"{ROUGH_GRADIENT:g}; {COARSE:.0%}; {VANISHED:.0%} (calibrated; bfloat16 autocast differs by about 0.01)"
    )
    # Saturated gates and rectified units give zeros by right.
    by_right = evidence.activity.saturation > SATURATED or evidence.config.model.cell == "rnn_relu"
    underflow = zero > VANISHED and not by_right and evidence.history.diverged is None
    if numerics.gradient <= ROUGH_GRADIENT and numerics.coarse <= COARSE and not underflow:
        return healthy("precision", "The arithmetic is exact enough.", measured, threshold)
    return problem(
        "precision",
        "The arithmetic is too coarse.",
        measured,
        threshold,
        "Rounding is a good part of the gradient, makes its small numbers zero, or eats updates smaller than the "
        "weights' last digit: the loss stops falling where exact arithmetic would go on.",
        evidence.command("training.precision=fp32"),
    )
