"""The text: is there enough of it, is the validation part like the training part, and yet another one?"""

from __future__ import annotations

from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding, by_sign, healthy, problem
from charrnn.text.encoded import SHORTEST

FOREIGN = 0.25  # nats per character
UNSEEN = 0.002  # of the validation characters
RARE = 10  # min_count that makes most of them the unknown symbol
DUPLICATED = 0.3  # of the validation windows, beyond what the training text repeats of itself


def too_short(evidence: Evidence) -> Finding:
    """Can more be learned from it than the text itself?"""
    measured, threshold = f"{evidence.characters:,} {evidence.unit}s to train on", f"{SHORTEST:,}, half a page"
    if evidence.characters >= SHORTEST:
        return healthy("length", "There is a text to learn from.", measured, threshold)
    return problem(
        "text-too-short",
        "The text is too short to learn from.",
        measured,
        threshold,
        "A network soon knows so little by heart, and writes it down again. No setting will help: words take tens of "
        "thousands of characters, something like sentences a hundred thousand.",
        evidence.statistics,
    )


def foreign_text(evidence: Evidence) -> Finding:
    """Do the pairs of letters of the training part foretell those of the validation part?"""
    foreign = evidence.texts.foreign
    difference = by_sign(foreign, "worse", "better")
    measured = f"a bigram count of the training part does {difference} on the validation part than on its own"
    threshold = f"{FOREIGN:g} nats per {evidence.unit} (calibrated)"
    if foreign <= FOREIGN:
        return healthy("split", "The validation text is like the training text.", measured, threshold)
    return problem(
        "validation-unlike-training",
        "The validation text is unlike the training text.",
        measured,
        threshold,
        "The validation loss measures a text that the model was never taught: it says little about how well it learns.",
        evidence.statistics,
    )


def unseen_characters(evidence: Evidence) -> Finding:
    """Are there characters in the validation part that the training part never has?"""
    texts = evidence.texts
    measured = f"{texts.unseen_symbols} different ones, {texts.unseen:.2%} of the validation part"
    threshold = f"{UNSEEN:.1%}: each costs ten nats or more"
    if texts.unseen <= UNSEEN:
        return healthy("characters", "The training text has the validation text's characters.", measured, threshold)
    corpus = evidence.config.corpus
    # Bytes are never taken for unknown, and what is frequent is not, either.
    can_be_rare = corpus.vocabulary == "characters" and max(corpus.min_count, texts.unseen_most + 1) < RARE
    return problem(
        "unseen-characters",
        "The validation text has characters that the training text lacks.",
        measured,
        threshold,
        "They cannot be learned, and each of them costs more than a whole word: they dominate the validation loss.",
        evidence.command(f"corpus.min_count={RARE}") if can_be_rare else evidence.statistics,
    )


def duplicates(evidence: Evidence) -> Finding:
    """Does the validation part stand in the training part too?"""
    texts = evidence.texts
    measured = (
        f"{texts.duplicates:.0%} of the validation part's windows of 50 {evidence.unit}s stand in the training part, "
        f"and {texts.repeats:.0%} of its own end's"
    )
    threshold = f"{DUPLICATED:.0%} more than the text repeats itself (calibrated)"
    if texts.duplicates - texts.repeats <= DUPLICATED:
        return healthy("duplicates", "The validation text differs from the training text.", measured, threshold)
    return problem(
        "duplicates",
        "Much of the validation text stands in the training text.",
        measured,
        threshold,
        "The validation loss rewards learning by heart: it will fall on, and hide overfitting.",
        evidence.statistics,
    )
