"""What of an inspection is put on its page, and in which words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from charrnn.plots.inspect import InspectionPage, Ranked, Surprise, Unit, visible
from charrnn.runs.export import default_name
from charrnn.studies.inspection import Inspection
from charrnn.studies.tracking import CONFIDENCE, FEWEST_STRETCHES, SHIFTS, Tracked, Tracker

SHOWN = 4000  # characters
LINE_SEARCH = 200  # characters in which a line's beginning is looked for
SURPRISES = 10


def inspection_page(inspection: Inspection, asked: Sequence[int] = ()) -> InspectionPage:
    """The page of an inspection; ``asked`` are columns of the states to show besides the ranked ones."""
    first, end = _shown(inspection.characters)
    places = range(first, end)
    return InspectionPage(
        title=f"{default_name(inspection.model.path)} reads {inspection.text_name}",
        facts=_facts(inspection),
        shown=f"Shown are characters {first + 1:,} to {end:,}"
        + (", which no unit was ranked on." if first >= len(inspection.characters) // 2 else "."),
        characters=inspection.characters[first:end],
        bits=inspection.reading.bits[first:end].tolist(),
        expected=[expected_words(inspection, place) for place in places],
        units=list(_units(inspection, slice(first, end), asked)),
        ranking=[_ranked(inspection, found, tracker) for found in inspection.tracked for tracker in found.best],
        notes=list(_notes(inspection)),
        surprises=[surprise_words(inspection, place) for place in inspection.surprises(SURPRISES)],
    )


def _shown(characters: str) -> tuple[int, int]:
    """The part of a text to show: of its second half, which no unit was ranked on, and from the start of a line."""
    if len(characters) <= SHOWN:
        return 0, len(characters)
    first = min(len(characters) // 2, len(characters) - SHOWN)
    line = characters.find("\n", first, first + LINE_SEARCH) + 1
    first = line or first
    return first, min(first + SHOWN, len(characters))


def _facts(inspection: Inspection) -> list[str]:
    model = inspection.model.config.model
    return [
        f"{model.cell}, {model.num_layers} x {model.hidden_size} units, step {inspection.model.steps:,}; "
        f"{len(inspection.characters):,} characters, read one after another from the cold state, "
        f"at {inspection.mean_bits:.4g} bits {per_symbol(inspection)}."
    ]


def per_symbol(inspection: Inspection) -> str:
    """What the mean of the bits is over."""
    return "per byte" if inspection.model.vocabulary.kind == "bytes" else "per character"


def expected_words(inspection: Inspection, place: int) -> str:
    """The likeliest symbols at a place in words, without a line end."""
    return " · ".join(
        f"{''.join(map(visible, symbol))} {probability:.0%}" for symbol, probability in inspection.expected(place)
    )


def surprise_words(inspection: Inspection, place: int) -> Surprise:
    """A surprise with its context on one line."""
    before, after = inspection.context(place)
    return Surprise(
        float(inspection.reading.bits[place]),
        "".join(visible(one, " ") for one in before),
        visible(inspection.characters[place]),
        "".join(visible(one, " ") for one in after),
        expected_words(inspection, place),
    )


def _units(inspection: Inspection, shown: slice, asked: Sequence[int]) -> Iterator[Unit]:
    """The best unit's property first, then the others; what was asked for at the end."""

    def worth(found: Tracked) -> float:
        return max((abs(one.held_out) for one in found.best if found.holds(one)), default=0.0)

    chosen = [
        (
            found.what.name,
            one.unit,
            f"{one.held_out:+.2f}",
            f": {found.what.name} ({found.what.title}), correlation {one.held_out:+.2f} on the second half"
            + ("" if found.holds(one) else ", not above chance"),
        )
        for found in sorted(inspection.tracked, key=worth, reverse=True)
        for one in found.best
    ]
    chosen += [("asked for", unit, "", "") for unit in asked]
    for reason, unit, number, words in chosen or [("the first", 0, "", "")]:
        name, states = f"unit {inspection.unit_name(unit)}", inspection.reading.states[:, unit]
        # Only rectified units leave -1 to 1.
        scale = max(float(np.abs(states).max()), 1.0)
        yield Unit(
            f"{reason}: {name} {number}".strip(), name.capitalize() + words, (states[shown] / scale).tolist(), scale
        )


def _ranked(inspection: Inspection, found: Tracked, tracker: Tracker) -> Ranked:
    return Ranked(
        found.what.name,
        inspection.unit_name(tracker.unit),
        f"{tracker.ranked:+.2f}",
        f"{tracker.held_out:+.2f}",
        f"{found.chance_held_out:.2f}",
        "" if tracker.auc is None else f"{tracker.auc:.3f}",
        found.holds(tracker),
    )


def _notes(inspection: Inspection) -> Iterator[str]:
    """How the numbers came about, and which properties this text does not have."""
    properties = "; ".join(f"{found.what.name}: {found.what.title}" for found in inspection.tracked)
    yield (
        "The units were ranked on the first half of the text by the size of their correlation with a property; the "
        "second half tells whether that holds. Chance: what the best unit stays below on the second half in "
        f"{CONFIDENCE:.0%} of {SHIFTS} rankings with the property shifted around in a circle. AUC, for yes or no: "
        "how often the unit tells a character that has the property from one that has not; 0.5 is guessing."
    )
    yield f"Properties: {properties}."
    for found in inspection.tracked:
        if not found.is_present:
            yield absent(found)
    yield from inspection.notes


def absent(found: Tracked) -> str:
    """Why a property was not ranked."""
    return (
        f"{found.what.name}: not present often enough (begins {found.begins[0]} and {found.begins[1]} times in the "
        f"two halves; {FEWEST_STRETCHES} in each are needed)"
    )
