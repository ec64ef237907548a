"""The state that is carried from window to window: is it there, is it the right one, can the model begin without?"""

from __future__ import annotations

import math
from statistics import mean

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, by_sign, healthy, problem
from charrnn.text.encoded import SHORTEST

CARRIED = 0.5  # of the streams
NOISE = 0.5  # of what a cold start costs
COLD_EXCESS, COLD_COST = 0.02, 0.03  # of the unigram entropy
USUAL_RESET = 0.02
FEWEST_ROWS = 3


def carried_state(evidence: Evidence) -> Finding | None:
    """Does each window begin with the state that the one before it left, and is that worth anything?"""
    carried = evidence.history.median("carried_streams")
    if math.isnan(carried) or evidence.history.diverged is not None:
        return None  # numbers on the way to infinity say nothing of the state
    if evidence.config.training.state_reset >= CARRIED or carried < CARRIED:
        return _never_carried(evidence, carried)
    rows = [row["loss_by_position"] for row in evidence.history.late if len(row["loss_by_position"]) > 1]
    if len(rows) < FEWEST_ROWS:
        return None
    pieces = len(rows[0])
    first = max(evidence.config.training.seq_len // pieces, 1)
    excess = mean(row[0] - mean(row[1:]) for row in rows)
    cost = evidence.reading.cold_cost(first)
    measured = (
        f"the first {'of' if first == 1 else f'{first} of'} {evidence.config.training.seq_len} {evidence.unit}s of a "
        f"window cost{'s' * (first == 1)} {by_sign(excess)} than the others; from a zero state it would "
        f"be {by_sign(cost)}"
    )
    threshold = f"{NOISE:.0%} of what a cold start costs, and {COLD_EXCESS:.0%} of the unigram entropy (calibrated)"
    learned = evidence.train_loss < evidence.entropies["unigram"]
    if learned and excess > NOISE * cost and excess > COLD_EXCESS * evidence.entropies["unigram"] and cost > 0:
        return problem(
            "state-is-noise",
            "The carried state is noise: each window begins as if from nothing.",
            measured,
            threshold,
            "Windows do not follow one another in the text (shuffled, perhaps), so the state of one says nothing about "
            "the next. Read the streams in order, or reset the state at every window.",
            evidence.command(),
        )
    return healthy("carried state", "The carried state is worth something.", measured, threshold)


def _never_carried(evidence: Evidence, carried: float) -> Finding:
    return problem(
        "state-never-carried",
        "The state is hardly ever carried from window to window.",
        f"{carried:.0%} of the streams begin a window with a state; state_reset is "
        f"{evidence.config.training.state_reset:g}",
        f"{CARRIED:.0%}; with state_reset {USUAL_RESET:g} it is {1 - USUAL_RESET:.0%}",
        f"Every window begins from nothing: the model never sees more than {evidence.config.training.seq_len} "
        f"{evidence.unit}s, and learns the first ones of each without any context.",
        evidence.command(f"training.state_reset={USUAL_RESET:g}"),
    )


def cold_state(evidence: Evidence) -> Finding | None:
    """Can the model read from a zero state, as sampling does? Over its first characters, and in the long run."""
    unigram, ahead = evidence.entropies["unigram"], evidence.continuation
    cost, excess = ahead.cold - ahead.carried, evidence.val_loss_cold - evidence.val_loss
    measured = f"on the validation text {by_sign(excess, digits='.2g')} from a cold start"
    if ahead.characters:
        measured = (
            f"on the next {ahead.characters} {evidence.unit}s of the training streams {ahead.cold:.3g} nats each from "
            f"a cold start, {ahead.carried:.3g} from the carried state; {measured}"
        )
    threshold = (
        f"{COLD_COST * unigram:.2g} and {COLD_EXCESS * unigram:.2g} nats, {COLD_COST:.0%} and {COLD_EXCESS:.0%} of the "
        "unigram entropy (calibrated)"
    )
    if not math.isfinite(excess) or evidence.characters < SHORTEST:
        return None  # of a text so short the validation part is a handful of characters, whose loss is chance
    # A network that was often reset, and knows its text by heart, has lost its place in it, and not its way.
    lost = cost > COLD_COST * unigram and evidence.config.training.state_reset < USUAL_RESET
    if not lost and not excess > COLD_EXCESS * unigram:
        return healthy("cold start", "It finds its way from a cold start.", measured, threshold)
    return problem(
        "state-never-cold",
        "It cannot start from nothing.",
        measured,
        threshold,
        "It was always trained from a carried state, has hardly seen a zero one, and does not find its way from there: "
        "samples, which begin so, will be worse than the loss says.",
        evidence.command(f"training.state_reset={USUAL_RESET:g}"),
    )
