"""A text coloured by what it cost a network and by the state of one of its units, as a page.

Every character is an element with the class of its colour: ``b0`` to ``b8`` by bits, ``u0`` to ``uk`` by state. The
states of the other units stand in the page as one base-36 digit per character, so that a unit costs no more than the
text itself; a script puts them in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase, digits
from unicodedata import category

from charrnn.plots.figures import luminance
from charrnn.plots.page import render

BIT_LEVELS = 9  # 0 to 1 bit, 1 to 2, ... and 8 or more
STATE_LEVELS = 21  # -1, -0.9, ... 1
DIGITS = (digits + ascii_lowercase)[:STATE_LEVELS]
# The page's own background (templates/base.html.j2), and the ends of the scales: purple, blue, orange. Ends of equal
# lightness that readers who see few colours can tell apart; the text on them is black or white.
THEMES = {"light": ("#fdfdfc", "#7b2d8b", "#0072b2", "#d55e00"), "dark": ("#15181c", "#dba6f2", "#56b4e9", "#f5954c")}


@dataclass(frozen=True)
class Unit:
    """A unit to show: its ``states``, one per shown character, as shares of ``scale``, the state of the full colour.

    ``label`` says in few words which unit and what it was chosen for, ``title`` in more.
    """

    label: str
    title: str
    states: Sequence[float]
    scale: float


@dataclass(frozen=True)
class Ranked:
    """A line of the table of units, in words; ``holds`` is whether the second half confirmed it."""

    property: str
    unit: str
    ranked: str
    held_out: str
    chance: str
    auc: str
    holds: bool


@dataclass(frozen=True)
class Surprise:
    """A character that cost much, with what stands around it and what was expected instead."""

    bits: float
    before: str
    character: str
    after: str
    expected: str


@dataclass(frozen=True)
class InspectionPage:
    """Everything the page shows: facts in sentences, a part of the text with its bits and what was expected, units
    (the first one is shown without a script), rankings, what is not there to be ranked, surprises."""

    title: str
    facts: Sequence[str]
    shown: str
    characters: str
    bits: Sequence[float]
    expected: Sequence[str]
    units: Sequence[Unit]
    ranking: Sequence[Ranked]
    notes: Sequence[str]
    surprises: Sequence[Surprise]


def draw_inspection(page: InspectionPage) -> str:
    """The page as HTML."""
    return render(
        "inspect.html.j2",
        script="inspect.js",
        page=page,
        bit_classes=[bit_level(bits) for bits in page.bits],
        bits=" ".join("" if math.isnan(bits) else f"{bits:.2f}" for bits in page.bits),
        expected="\n".join(page.expected),
        glyphs=[character if character in "\n\t" else visible(character, " ") for character in page.characters],
        coded=[encode_states(unit.states) for unit in page.units],
        themes={name: _styles(*colours) for name, colours in THEMES.items()},
        bit_levels=range(BIT_LEVELS),
        state_levels=DIGITS,
    )


def bit_level(bits: float) -> int:
    """The class of a number of bits; NaN, where nothing was predicted, has that of none."""
    return 0 if math.isnan(bits) else min(int(bits), BIT_LEVELS - 1)


def encode_states(states: Sequence[float]) -> str:
    """One digit per state: -1 is the first, 1 the last; what lies outside is cut off."""
    half = (STATE_LEVELS - 1) // 2
    return "".join(DIGITS[round((min(max(state, -1.0), 1.0) + 1) * half)] for state in states)


def visible(character: str, space: str = "␣") -> str:
    """A character as something to be seen: white space and control characters as signs, one that has none as a box."""
    if character in "\n\t ":
        return {"\n": "↵", "\t": "⇥"}.get(character, space)
    if ord(character) < 32:
        return chr(0x2400 + ord(character))  # the block of control pictures
    # Nothing may steer the page, such as by the direction of writing.
    return character if character.isprintable() or category(character) == "Zs" else "□"


def _styles(page: str, purple: str, blue: str, orange: str) -> list[tuple[str, str, str]]:
    """Class, background and text of every level."""
    levels = [(f"b{level}", mixed(page, purple, level / (BIT_LEVELS - 1))) for level in range(BIT_LEVELS)]
    for place, digit in enumerate(DIGITS):
        state = 2 * place / (STATE_LEVELS - 1) - 1
        levels.append((f"u{digit}", mixed(page, blue if state < 0 else orange, abs(state))))
    return [(name, colour, readable_on(colour)) for name, colour in levels]


def mixed(start: str, end: str, share: float) -> str:
    """The colour that lies a share of the way from one to another."""
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(_rgb(start), _rgb(end), strict=True))


def readable_on(colour: str) -> str:
    """Black or white, whichever can be read better on a colour."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio): 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
