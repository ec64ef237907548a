"""The gradient through time, and what clipping and truncation make of it."""

from __future__ import annotations

import math

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy
from charrnn.studies.doctor.probes.through_time import Profile

GROWS = 10.0  # times the gradient at k = 0
SHORT_REACH = 3  # characters: the model learns from these pairs of letters alone
CUT = 0.25  # of the whole gradient through time
RULES_SHARE, RULES_FACTOR = 0.9, 5.0  # of the steps clipped, by how much in the middle
NEVER_FACTOR = 30.0  # grad_clip over the largest norm


def through_time(evidence: Evidence) -> Finding:
    """Does the gradient explode or vanish on its way back? Measured on the profile, of the run and of a new network."""
    seq_len = evidence.config.training.seq_len
    for profile, whose in ((evidence.profile, ""), (evidence.new_profile, " of a new network")):
        relative = profile.relative
        if not relative[_largest(relative)] <= GROWS:
            return _exploding(evidence, relative, whose)
        if profile.reach is not None and profile.reach <= min(SHORT_REACH, seq_len):
            return _vanishing(evidence, profile, whose)
    return healthy(
        "gradient through time",
        "The gradient through time neither explodes nor vanishes.",
        describe(evidence.profile),
        f"at most {GROWS:g} times its start, and above 1 % of it for more than {SHORT_REACH} characters (calibrated)",
    )


def describe(profile: Profile) -> str:
    """Half-life and reach in words."""
    reach = "does not fall below 1 %" if profile.reach is None else f"below 1 % at {profile.reach} characters back"
    return f"times {profile.decay:.2f} per character, half-life {profile.half_life:.1f} characters, {reach}"


def _largest(relative: list[float]) -> int:
    """Where the largest is; what is no number at all counts as larger."""
    return max(range(len(relative)), key=lambda k: relative[k] if math.isfinite(relative[k]) else math.inf)


def _exploding(evidence: Evidence, relative: list[float], whose: str) -> Finding:
    first, largest = next(k for k, share in enumerate(relative) if not share <= GROWS), _largest(relative)
    norm = evidence.history.median("grad_norm_median")
    fixes = [f"training.seq_len={max(first - 1, 1)}"] if first > 2 else []
    return Finding(
        "exploding-gradients",
        True,
        f"The gradient{whose} explodes through time.",
        f"{relative[largest]:.3g} times as large {largest} characters back "
        f"as at the loss, over {GROWS:g} times from {first} on; the whole gradient's norm is {norm:.2g}",
        f"{GROWS:g} times (calibrated); see Pascanu, Mikolov and Bengio 2013, https://arxiv.org/abs/1211.5063",
        "What happened long ago outweighs what happened just now, and its direction is noise. Clipping bounds the "
        f"step, windows shorter than {first} characters cut it off, orthogonal starts avoid it.",
        evidence.command("training.grad_clip=1", *fixes, "model.recurrent_init=orthogonal"),
    )


def _vanishing(evidence: Evidence, profile: Profile, whose: str) -> Finding:
    fix = ["model.forget_bias=1"] if evidence.config.model.cell == "lstm" else ["model.cell=lstm"]
    return Finding(
        "vanishing-gradients",
        True,
        f"The gradient{whose} vanishes through time.",
        describe(profile),
        f"above 1 % for more than {SHORT_REACH} characters (calibrated)",
        f"Nothing that stands more than {profile.reach} characters back can be learned from: a window of "
        f"{evidence.config.training.seq_len} teaches no more than one of {profile.reach}.",
        evidence.command(*fix, "model.recurrent_init=orthogonal"),
    )


def truncation(evidence: Evidence) -> Finding | None:
    """How much of the gradient through time lies behind the window's edge?"""
    seq_len = evidence.config.training.seq_len
    share = evidence.profile.beyond(seq_len)
    if math.isnan(share):
        return None
    measured = f"{share:.0%} of the gradient through time lies {seq_len} characters back or more"
    threshold = f"{CUT:.0%} (calibrated)"
    if share <= CUT:
        return healthy("truncation", f"Windows of {seq_len} are long enough for what it learns.", measured, threshold)
    longer = max(4 * seq_len, 16)
    return Finding(
        "truncation-too-short",
        True,
        f"Truncation is too short: seq_len is {seq_len}.",
        measured,
        threshold,
        "Backpropagation stops at the edge of the window, so what the model would learn from there is left out.",
        f"charrnn doctor --config {evidence.config_name} --ask seq-len   # or --set training.seq_len={longer}",
    )


def clipping(evidence: Evidence) -> Finding | None:
    """Does clipping rule every step, or is it never there?"""
    clip, history = evidence.config.training.grad_clip, evidence.history
    norm, clipped, largest = (
        history.median("grad_norm_median"),
        history.median("clipped"),
        history.largest("grad_norm_p99"),
    )
    if clip is None or math.isnan(norm):
        return None
    measured = f"norm {norm:.2g} in the middle, {largest:.2g} at most; {clipped:.0%} of the steps clipped to {clip:g}"
    threshold = (
        f"more than {RULES_SHARE:.0%} clipped with a norm over {RULES_FACTOR:g} times grad_clip, or grad_clip over "
        f"{NEVER_FACTOR:g} times the largest norm (calibrated)"
    )
    if clipped > RULES_SHARE and norm > RULES_FACTOR * clip:
        return Finding(
            "clipping-rules",
            True,
            f"Clipping rules: grad_clip is {clip:g}, and nearly every step is cut.",
            measured,
            threshold,
            f"Every step has the same length, {norm / clip:.0f} times shorter than the gradient asks for: grad_clip "
            "has become the learning rate, and no schedule or slope is heard.",
            evidence.command(f"training.grad_clip={3 * norm:.1g}"),
        )
    if clip > NEVER_FACTOR * largest:
        return Finding(
            "clipping-never",
            True,
            f"Clipping never acts: grad_clip is {clip:g}.",
            measured,
            threshold,
            "The limit is so high that a spike would pass it. Three times the usual norm catches them and little else.",
            evidence.command(f"training.grad_clip={max(3 * norm, 1e-3):.1g}"),
        )
    return healthy("clipping", "Clipping catches spikes and does not rule.", measured, threshold)
