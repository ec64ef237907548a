"""The units and their arithmetic: how they begin, saturate, die, and how exactly they are computed."""

from __future__ import annotations

import math

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy

HIGH_START = 1.5  # times ln V
SATURATED_START = 0.5  # share of the gates of a new network
SATURATED = 0.9  # share of the gates of a trained one
DEAD = 0.25  # share of the units
ROUGH_GRADIENT = 0.1  # relative difference from float64
COARSE = 0.9  # share of the weights that fit bfloat16


def initialisation(evidence: Evidence) -> Finding:
    """Does a new network begin at the loss of knowing nothing, ln V?"""
    uniform, start = evidence.entropies["uniform"], evidence.memorised[0]
    measured = f"a new network's first loss is {start:.2f}, ln V is {uniform:.2f}"
    threshold = f"{HIGH_START:g} times ln V (calibrated; see https://cs231n.github.io/neural-networks-3/#sanitycheck)"
    if start <= HIGH_START * uniform:
        return healthy("initialisation", "It begins by knowing nothing, as it should.", measured, threshold)
    return Finding(
        "bad-initialisation",
        True,
        "It begins with strong and wrong opinions: the initial weights are too large.",
        measured,
        threshold,
        "The first steps, and often the whole warm-up, are spent unlearning the start.",
        evidence.command("model.recurrent_init=orthogonal", "model.forget_bias=1"),
    )


def saturation(evidence: Evidence) -> Finding:
    """Are gates stuck open or shut: from the start, or later and to no avail?"""
    start, now = evidence.new_activity.saturation, evidence.activity.saturation
    measured = f"{start:.0%} of a new network's gates are below 0.05 or above 0.95, {now:.0%} of this one's"
    threshold = (
        f"{SATURATED_START:.0%} of a new network's; {SATURATED:.0%} of a trained one's while its loss is above the "
        "bigram entropy (calibrated)"
    )
    poor = evidence.train_loss > evidence.entropies["bigram"]
    if start <= SATURATED_START and not (now > SATURATED and poor):
        return healthy("gates", "Gates are free to move.", measured, threshold)
    return Finding(
        "saturated-gates",
        True,
        "Gates are saturated: stuck open or shut.",
        measured,
        threshold,
        "Where a gate is at its end its derivative is nearly zero, so no gradient moves it back: weights too large at "
        "the start, or a rate that threw them there.",
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
    return Finding(
        "dead-units",
        True,
        "Many units are dead: they do the same whatever they read.",
        measured,
        threshold,
        "They are paid for and add nothing"
        + ("; a rectified unit that is always below zero gets no gradient either." if relu else "."),
        evidence.command(
            *(["model.cell=rnn_tanh"] if relu else []), f"training.lr={evidence.config.training.lr / 3:.2g}"
        ),
    )


def precision(evidence: Evidence) -> Finding | None:
    """Is the arithmetic exact enough for gradients, and do the weights keep small updates?"""
    numerics = evidence.numerics
    if not math.isfinite(numerics.gradient):
        return None  # no number at all is no rounding error
    measured = (
        f"gradient {numerics.gradient:.1e} from its float64 value, loss {numerics.loss:.1e}; "
        f"{numerics.coarse:.0%} of the weights would fit bfloat16"
    )
    threshold = f"{ROUGH_GRADIENT:g}; {COARSE:.0%} (calibrated; bfloat16 autocast stays at about 0.01)"
    if numerics.gradient <= ROUGH_GRADIENT and numerics.coarse <= COARSE:
        return healthy("precision", "The arithmetic is exact enough.", measured, threshold)
    return Finding(
        "precision",
        True,
        "The arithmetic is too coarse.",
        measured,
        threshold,
        "Rounding is a good part of the gradient, or eats updates smaller than the weights' last digit: the loss stops "
        "falling where exact arithmetic would go on.",
        evidence.command("training.precision=fp32"),
    )
