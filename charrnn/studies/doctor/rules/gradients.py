"""The gradient through time, and what clipping and truncation make of it."""

from __future__ import annotations

import math

from charrnn.runs.history import History
from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy, problem
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.doctor.trials import PLATEAU

GROWS = 100.0  # times the gradient at k = 0
SHORT_REACH = 2  # characters: the model learns from pairs of letters alone
CUT = 0.6  # of the whole gradient through time
RULES_SHARE, RULES_FACTOR = 0.9, 5.0  # of the steps clipped, by how much in the middle
NEVER_FACTOR = 30.0  # grad_clip over the largest norm
SPIKE = 10.0  # a log line's 99th percentile over the median of the line before,
HARM = 0.1  # with a step's loss higher by so much of the unigram entropy


def through_time_at_start(evidence: Evidence) -> Finding | None:
    """Does the gradient of a new network explode or vanish on its way back?"""
    return _trouble(evidence, evidence.new_profile, " of a new network")


def through_time(evidence: Evidence) -> Finding:
    """Does the gradient of the network as it is explode or vanish on its way back?"""
    trouble = _trouble(evidence, evidence.profile, "")
    knows_more = evidence.train_loss < evidence.entropies["trigram"]  # than two characters tell, however it does that
    if trouble is not None and not (trouble.name == "vanishing-gradients" and knows_more):
        return trouble
    return healthy(
        "gradient through time",
        "The gradient through time neither explodes nor vanishes." if trouble is None else "It learns from far enough.",
        describe(evidence.profile, evidence.unit),
        f"at most {GROWS:g} times its start, and above 1 % of it for more than {SHORT_REACH} {evidence.unit}s "
        "(calibrated)",
    )


def _trouble(evidence: Evidence, profile: Profile, whose: str) -> Finding | None:
    """Through an LSTM's hidden state it must reach as far as the next character at least: the cell alone cannot use
    what it keeps to decide what to keep."""
    if not profile.relative[_largest(profile.relative)] <= GROWS:
        return _exploding(evidence, profile.relative, whose)
    short = min(SHORT_REACH, evidence.config.training.seq_len)
    if (profile.reach is not None and profile.reach <= short) or profile.hidden_reach == 1:
        return _vanishing(evidence, profile, whose)
    return None


def describe(profile: Profile, unit: str) -> str:
    """Half-life and reach in words; ``unit``: what the text is read by."""
    reach = "does not fall below 1 %" if profile.reach is None else f"below 1 % at {profile.reach} {unit}s back"
    return f"times {profile.decay:.2f} per {unit}, half-life {profile.half_life:.1f} {unit}s, {reach}"


def _largest(relative: list[float]) -> int:
    """Where the largest is; what is no number at all counts as larger."""
    return max(range(len(relative)), key=lambda k: relative[k] if math.isfinite(relative[k]) else math.inf)


def _exploding(evidence: Evidence, relative: list[float], whose: str) -> Finding:
    first, largest = next(k for k, share in enumerate(relative) if not share <= GROWS), _largest(relative)
    norm = evidence.history.median("grad_norm_median")
    whole = "" if math.isnan(norm) else f"; the whole gradient's norm is {norm:.2g}"
    fixes = [f"training.seq_len={max(first - 1, 1)}"] if first > 2 else []
    shorter = f"windows shorter than {first} {evidence.unit}s cut it off, " if fixes else ""
    grown = (
        f"{relative[largest]:.3g} times as large {largest} {evidence.unit}s back as at the loss, over {GROWS:g} times "
        f"from {first} on"
    )
    return problem(
        "exploding-gradients",
        f"The gradient{whose} explodes through time.",
        ("it is not a finite number, even at the loss itself" if math.isnan(relative[0]) else grown) + whole,
        f"{GROWS:g} times (calibrated); see Pascanu, Mikolov and Bengio 2013, https://arxiv.org/abs/1211.5063",
        "What happened long ago outweighs what happened just now, and its direction is noise. Clipping bounds the "
        f"step, {shorter}orthogonal starts avoid it.",
        evidence.command("training.grad_clip=1", *fixes, "model.recurrent_init=orthogonal"),
    )


def _vanishing(evidence: Evidence, profile: Profile, whose: str) -> Finding:
    fix = ["model.forget_bias=1"] if evidence.config.model.cell == "lstm" else ["model.cell=lstm"]
    hidden = f"; of the hidden state alone, below 1 % at {profile.hidden_reach}" if profile.cell is not None else ""
    return problem(
        "vanishing-gradients",
        f"The gradient{whose} vanishes through time.",
        describe(profile, evidence.unit) + hidden,
        f"above 1 % for more than {SHORT_REACH} {evidence.unit}s, through the hidden state for more than 1 "
        "(calibrated)",
        f"What stands further back can hardly be learned from: a window of {evidence.config.training.seq_len} teaches "
        f"little more than one of {max(profile.reach or 1, 1)}.",
        evidence.command(*fix, "model.recurrent_init=orthogonal"),
    )


def truncation(evidence: Evidence) -> Finding | None:
    """How much of the gradient through time lies behind the window's edge?"""
    seq_len = evidence.config.training.seq_len
    share = evidence.profile.beyond(seq_len)
    learned = evidence.train_loss < PLATEAU * evidence.entropies["unigram"]
    if math.isnan(share) or not learned:
        return None  # what reaches back is of use to nothing yet
    measured = f"{share:.0%} of the gradient through time lies {seq_len} {evidence.unit}s back or more"
    threshold = f"{CUT:.0%} (calibrated)"
    if share <= CUT:
        return healthy("truncation", f"Windows of {seq_len} are long enough for what it learns.", measured, threshold)
    longer = max(4 * seq_len, 16)
    return problem(
        "truncation-too-short",
        f"Truncation is too short: seq_len is {seq_len}.",
        measured,
        threshold,
        "Backpropagation stops at the edge of the window, so what the model would learn from there is left out.",
        f"charrnn doctor --config {evidence.config_name} --ask seq-len   # or --set training.seq_len={longer}",
    )


def clipping(evidence: Evidence) -> Finding | None:
    """Does clipping rule every step, or is it never there when it is needed?"""
    clip, history = evidence.config.training.grad_clip, evidence.history
    norm, clipped = history.median("grad_norm_median"), history.median("clipped")
    fixed_steps = evidence.config.training.optimizer == "sgd"  # Adam's do not depend on the scale of its gradients
    if clip is not None and fixed_steps and clipped > RULES_SHARE and norm > RULES_FACTOR * clip:
        return _ruling(evidence, clip, norm)
    largest = history.largest("grad_norm_p99")
    spike = _spike(history, HARM * evidence.entropies["unigram"])
    unbounded = clip is None and history.diverged is not None
    spiky = spike > SPIKE and not history.largest("clipped") > 0
    if unbounded or spiky or (clip is not None and fixed_steps and clip > NEVER_FACTOR * largest):
        return _never(evidence, clip, norm, largest, spike)
    if clip is None or math.isnan(norm):
        return None
    return healthy(
        "clipping",
        "Clipping catches spikes and does not dominate.",
        f"norm {norm:.2g} in the middle, {largest:.2g} at most; {clipped:.0%} of the steps clipped to {clip:g}",
        f"{RULES_SHARE:.0%} clipped from over {RULES_FACTOR:g} times grad_clip (calibrated)",
    )


def _spike(history: History, harm: float) -> float:
    """The largest jump of the gradient norm from one log line to the next, of those after which the loss was higher by
    ``harm`` nats at least."""
    pairs = zip(history.logs, history.logs[1:], strict=False)
    jumps = [
        after["grad_norm_p99"] / before["grad_norm_median"]
        for before, after in pairs
        if before["grad_norm_median"] and after["train_loss_max"] > before["train_loss"] + harm
    ]
    return max(jumps, default=0.0)


def _ruling(evidence: Evidence, clip: float, norm: float) -> Finding:
    clipped = evidence.history.median("clipped")
    return problem(
        "clipping-rules",
        f"Clipping dominates: grad_clip is {clip:g}, and nearly every step is cut.",
        f"{clipped:.0%} of the steps clipped, from a norm of {norm:.2g} in the middle",
        f"{RULES_SHARE:.0%} clipped from over {RULES_FACTOR:g} times grad_clip (calibrated)",
        f"Every step has the same length, {norm / clip:.0f} times shorter than the gradient asks for: grad_clip "
        "has become the learning rate, and no schedule or slope is heard.",
        evidence.command(f"training.grad_clip={3 * norm:.1g}"),
    )


def _never(evidence: Evidence, clip: float | None, norm: float, largest: float, spike: float) -> Finding:
    usual = norm if math.isfinite(norm) and norm > 0 else 1 / 3
    jump = f", a jump to {spike:.2g} times the line before" if spike else ""
    measured = f"norm {norm:.2g} in the middle, {largest:.2g} at most{jump}; none clipped"
    return problem(
        "clipping-never",
        "Nothing clips the gradient" + ("." if clip is None else f": grad_clip is {clip:g}, above any norm."),
        "the norm was not logged" if math.isnan(norm) else measured,
        f"{SPIKE:g} times with no step clipped, a divergence without grad_clip, or grad_clip over {NEVER_FACTOR:g} "
        "times the largest norm (calibrated)",
        "A single spike throws the weights away. Three times the usual norm catches spikes and little else.",
        evidence.command(f"training.grad_clip={3 * usual:.1g}"),
    )
