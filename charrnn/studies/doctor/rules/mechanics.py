"""What is plainly broken: targets, loss, optimizer, parameters that do not move, numbers that are none."""

from __future__ import annotations

import math

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, healthy, problem

MISALIGNED_BELOW = 0.9  # times the loss on the next character, or the unigram entropy: another is predicted better
STILL = 1e-9  # update-to-weight ratio: nothing moves
NEXT_CHARACTER = 1


def misaligned(evidence: Evidence) -> Finding | None:
    """Are the targets the next characters? The predictions tell which ones it was taught."""
    offsets = evidence.reading.offsets
    best, right, unit = evidence.reading.predicts, offsets[NEXT_CHARACTER], evidence.unit
    if not all(map(math.isfinite, offsets.values())):
        return None
    threshold = f"{MISALIGNED_BELOW:g} times the loss on the next {unit}, or the unigram entropy (calibrated)"
    if right <= offsets[best]:
        return healthy("targets", f"It predicts the next {unit}.", f"{_nats(right)} on it, the least of all", threshold)
    which = {-1: f"the {unit} before", 0: f"the {unit} that it reads"}.get(best, f"the {unit} {best} places on")
    if offsets[best] >= MISALIGNED_BELOW * min(right, evidence.entropies["unigram"]):
        measured = f"{_nats(right)} on it, {offsets[best]:.2f} on {which}: no clear difference"
        return healthy("targets", f"It predicts no {unit} clearly better than the next one.", measured, threshold)
    return problem(
        "targets-misaligned",
        f"It has learned to predict {which}, not the next one.",
        f"loss {offsets[best]:.2f} nats on {which}, {right:.2f} on the next one",
        threshold,
        "The targets of the training are not the text moved on by one: every sample is nonsense however low the loss.",
        evidence.command(),
    )


def _nats(loss: float) -> str:
    return f"{loss:.2f} nats" if abs(loss) < 1000 else f"{loss:.2g} nats"


def last_character_only(evidence: Evidence) -> Finding | None:
    """Does the loss of every position reach the gradient?"""
    taught = evidence.history.median("taught_positions")
    threshold = "all positions of a window: the loss is the mean over all of them"
    if math.isnan(taught):
        return None
    if taught > 0.99:  # a float of a share, not a margin: one position out of a hundred would show
        return healthy("positions", "Every position of a window teaches.", f"{taught:.0%} of them", threshold)
    return problem(
        "last-character-only",
        "Only some positions of a window teach anything.",
        f"the loss of {taught:.1%} of the positions reaches the gradient",
        threshold,
        "The loss leaves most characters out (the last one alone, perhaps): a step learns from that share of its text "
        "only, and the others' predictions are never corrected.",
        evidence.command(),
    )


def optimizer_reset(evidence: Evidence) -> Finding | None:
    """Has the one optimizer been there from the first step? Adam counts; SGD shows no more than a first step."""
    rows = [row for row in evidence.history.observed if "optimizer_steps" in row]
    if not rows:
        return None
    threshold = "as many as the run: there is one optimizer, made once"
    last = rows[-1]
    bad = [row for row in rows if row["optimizer_steps"] < row["step"] - _steps_not_taken(evidence)]
    measured = f"the optimizer has counted {last['optimizer_steps']:,} steps at step {last['step']:,}"
    if not bad:
        return healthy("optimizer", "One optimizer from the first step on.", measured, threshold)
    return problem(
        "optimizer-reset",
        f"The optimizer's state was lost, for the first time before step {bad[0]['step']:,}.",
        measured,
        threshold,
        "Its averages of the gradient begin anew each time, and the steps after it are wild or blind. With long "
        "averages training stalls, with short ones it may get away with it. Make the optimizer once, and save it with "
        "the model.",
        evidence.command(),
    )


def _steps_not_taken(evidence: Evidence) -> int:
    diverged_row = evidence.history.diverged
    return 0 if diverged_row is None else int(diverged_row["steps_not_finite"])


def frozen(evidence: Evidence) -> Finding | None:
    """Does every parameter move?"""
    updates = evidence.history.largest_of_tensors("update_ratio")
    if not updates:
        return None
    still = sorted(name for name, ratio in updates.items() if ratio < STILL)
    threshold = "above 1e-9; about 1e-3 is usual (CS231n, https://cs231n.github.io/neural-networks-3/#ratio)"
    if not still:
        low, high = min(updates.values()), max(updates.values())
        return healthy(
            "updates", "Every parameter moves.", f"largest update-to-weight ratios {low:.0e} to {high:.0e}", threshold
        )
    return problem(
        "frozen-parameters",
        f"Parameters that never move: {', '.join(still)}.",
        f"update-to-weight ratio {max(updates[name] for name in still):.0e} at most",
        threshold,
        "They get no gradient, or the optimizer does not know them: the network learns with what is left.",
        evidence.command(),
    )


def diverged(evidence: Evidence) -> Finding | None:
    """Did it end because a number was none?"""
    row = evidence.history.diverged
    if row is None:
        return None
    training = evidence.config.training
    return problem(
        "diverged",
        f"The training diverged before step {row['step']:,}.",
        f"{row['steps_not_finite']} steps with a loss or gradient norm that is not finite",
        "not a single one",
        "Something grew without limit: the rate is too high for this network, or nothing bounds its gradient.",
        evidence.command(*evidence.lower_rate(10), *([] if training.grad_clip else ["training.grad_clip=1"])),
    )
