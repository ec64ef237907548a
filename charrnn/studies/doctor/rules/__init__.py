"""What the doctor recognises: pure functions of the evidence, each with its thresholds beside it.

A rule answers with a finding, with the news that all is well, or with None where it has nothing to say. They stand in
the order in which what they find should be mended: what is plainly broken, then what makes numbers run away, then
settings that could be better, then what the text or the size of the model allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding
from charrnn.studies.doctor.rules.fit import overfitting, too_small, unigram_plateau
from charrnn.studies.doctor.rules.gradients import clipping, through_time, through_time_at_start, truncation
from charrnn.studies.doctor.rules.mechanics import diverged, frozen, last_character_only, misaligned, optimizer_reset
from charrnn.studies.doctor.rules.rates import decay, momentum, rate, second_moment
from charrnn.studies.doctor.rules.state import carried_state, cold_state
from charrnn.studies.doctor.rules.texts import duplicates, foreign_text, too_short, unseen_characters
from charrnn.studies.doctor.rules.units import dead_units, initialisation, precision, saturation, saturation_at_start

Rule = Callable[[Evidence], Finding | None]

RULES: list[Rule] = [
    misaligned,
    last_character_only,
    optimizer_reset,
    saturation_at_start,
    initialisation,
    through_time_at_start,
    precision,
    frozen,
    too_short,
    second_moment,
    clipping,
    decay,
    momentum,
    rate,
    diverged,
    carried_state,
    unigram_plateau,
    through_time,
    saturation,
    dead_units,
    cold_state,
    truncation,
    foreign_text,
    unseen_characters,
    duplicates,
    overfitting,
    too_small,
]

# Problems by name, and the rules whose problems follow from them.
CONSEQUENCES: dict[str, set[Rule]] = {
    "too-much-decay": {unigram_plateau, through_time, dead_units},
    "text-too-short": {foreign_text, unseen_characters, overfitting},
}


def ask_rules(rules: Iterable[Rule], evidence: Evidence) -> list[Finding]:
    """What the rules find, in their order. A problem that follows from another one is named there, and not listed."""
    found = {rule: finding for rule in rules if (finding := rule(evidence)) is not None}
    follows = {
        effect: cause
        for cause in found.values()
        for effect in CONSEQUENCES.get(cause.name, ())
        if effect in found and found[effect].problem
    }
    return [
        _with_effects(finding, [found[effect] for effect in found if follows.get(effect) is finding])
        for rule, finding in found.items()
        if rule not in follows
    ]


def _with_effects(finding: Finding, effects: list[Finding]) -> Finding:
    if not effects:
        return finding
    titles = " ".join(effect.title for effect in effects)
    return replace(finding, meaning=f"{finding.meaning} From this follows: {titles}")
