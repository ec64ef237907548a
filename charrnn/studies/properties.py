"""What a unit might keep track of: properties of a text, one number per character.

Each number is what holds after that character was read: an opening quotation mark is inside, the closing one no longer.
Quotation marks and brackets count only in pairs, and a pair ends before the next blank line (but for triple quotation
marks), so that one forgotten mark cannot turn all the rest of a text inside out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LONGEST = 999  # characters of a quotation: more is a forgotten mark; and looking for its end must not take for ever
TAB = 8  # columns, as Python itself counts them
CLOSES = {")": "(", "]": "[", "}": "{"}
# Within a paragraph: any character but a line end that a blank line follows. A backslash takes the next one along.
_INSIDE = rf"(?:\\(?s:.)|\n(?![ \t]*\n)|[^\\\nMARKS]){{0,{LONGEST}}}"
_DOUBLE = [r'"""[\s\S]*?"""']
_DOUBLE += [
    opening + _INSIDE.replace("MARKS", opening + closing) + closing
    for opening, closing in ('""', "“”", "„“", "«»", "»«")
]
# An apostrophe has a letter on its left, or nothing that closes it on its line. Python puts letters before a string.
_SINGLE = [
    r"'''[\s\S]*?'''",
    rf"(?<![^\W_])(?:[rRbBuUfF]{{1,2}})?'(?:\\(?s:.)|[^'\\\n]){{0,{LONGEST}}}'(?![^\W_])",
    r"\u2018[^\u2018\n]*\u2019(?![^\W_])",
]
_QUOTED = re.compile(f"(?P<double>{'|'.join(_DOUBLE)})|(?P<single>{'|'.join(_SINGLE)})")
_CAPITALS = re.compile(r"(?<![^\W\d_])[^\W\d_a-z](?:[^\W\d_a-z]|[ _'-](?=[^\W\d_a-z]))+(?![^\W\d_])")
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)


@dataclass(frozen=True)
class Property:
    """``values`` makes a text of N characters to (N,) numbers, 0 where there is nothing of it.

    ``is_yes_no``: they are 0 and 1. ``title`` completes "units that follow ...".
    """

    name: str
    title: str
    is_yes_no: bool
    values: Callable[[str], Values]


def stretches(values: Values) -> int:
    """How often a property begins: how many runs of characters have it, each after one that has not."""
    present = np.concatenate([[False], values > 0])
    return int((present[1:] & ~present[:-1]).sum())


def _marked(text: str, spans: Iterator[tuple[int, int]]) -> Values:
    """1 from the first of each span's characters up to the one before its last."""
    values = np.zeros(len(text))
    for first, end in spans:
        values[first : end - 1] = 1
    return values


def _quoted(kind: str) -> Callable[[str], Values]:
    def values(text: str) -> Values:
        return _marked(text, (match.span() for match in _QUOTED.finditer(text) if match[kind] is not None))

    return values


def _capitals(text: str) -> Values:
    """Two capital letters or more in a row, as in headings, constants and the names of who speaks in a play."""
    values = np.zeros(len(text))
    for match in _CAPITALS.finditer(text):
        values[slice(*match.span())] = match[0] == match[0].upper()
    return values


def _brackets(text: str) -> Values:
    """How many pairs of brackets a character is in."""
    change = np.zeros(len(text) + 1)
    for paragraph in re.finditer(r"(?:[^\n]|\n(?![ \t]*\n))+", text):
        for opening, closing in _pairs(paragraph[0]):
            change[paragraph.start() + opening] += 1
            change[paragraph.start() + closing] -= 1
    return change.cumsum()[:-1]


def _pairs(text: str) -> Iterator[tuple[int, int]]:
    """Places of the brackets that belong together; those without a partner are passed over."""
    waiting: list[tuple[str, int]] = []
    unpaired = dict.fromkeys(CLOSES.values(), 0)  # how many of each kind are waiting
    for place, character in enumerate(text):
        if character in CLOSES.values():
            waiting.append((character, place))
            unpaired[character] += 1
        elif unpaired.get(CLOSES.get(character, "")):
            while waiting:
                opening, start = waiting.pop()
                unpaired[opening] -= 1
                if opening == CLOSES[character]:
                    yield start, place
                    break


def _line_position(text: str) -> Values:
    return _since(text, lambda character: character == "\n")


def _word_position(text: str) -> Values:
    return _since(text, lambda character: not character.isalnum())


def _since(text: str, restarts: Callable[[str], bool]) -> Values:
    """Characters since the last one that ``restarts`` the count, which has 0 itself."""
    values, count = np.zeros(len(text)), 0
    for place, character in enumerate(text):
        count = 0 if restarts(character) else count + 1
        values[place] = count
    return values


def _indentation(text: str) -> Values:
    """Columns of white space that the line begins with, as far as they have been read; a tab goes to the next stop."""
    values = np.zeros(len(text))
    for match in _INDENT.finditer(text):
        columns = 0
        for place in range(*match.span()):
            columns += TAB - columns % TAB if text[place] == "\t" else 1
            values[place] = columns
        end = text.find("\n", match.end())
        values[match.end() : len(text) if end < 0 else end] = columns
    return values


PROPERTIES: tuple[Property, ...] = (
    Property("quotes", "inside double or typographic quotation marks", True, _quoted("double")),
    Property("single quotes", "inside single quotation marks", True, _quoted("single")),
    Property("line position", "characters since the line began", False, _line_position),
    Property("brackets", "how many brackets are open", False, _brackets),
    Property("indentation", "columns that the line is indented by", False, _indentation),
    Property("capitals", "inside a run of capital letters", True, _capitals),
    Property("word position", "characters since the word began", False, _word_position),
)
