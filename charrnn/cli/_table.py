"""Tables of text that fit a terminal: some columns give way, and end in an ellipsis."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

ELLIPSIS = "…"
GAP = "  "
NARROWEST = 12  # columns of the terminal that a column keeps before the others give way too


def table(
    rows: Sequence[Sequence[str]], width: int | None, right: Collection[int] = (), yielding: Sequence[int] = ()
) -> list[str]:
    """Rows of cells as lines, cells aligned; the columns in ``right`` to the right.

    Where a line is longer than ``width`` columns of a terminal (None: no limit), the ``yielding`` columns are cut, the
    longest first, then whatever is still too long.
    """
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    while width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        longest = max(yielding, key=lambda place: widths[place], default=None)
        if longest is None or widths[longest] <= NARROWEST:
            break
        widths[longest] -= 1
    lines = []
    for row in rows:
        cells = [cut(cell, room) for cell, room in zip(row, widths, strict=True)]
        padded = [_padded(cell, widths[place], place in right) for place, cell in enumerate(cells)]
        line = GAP.join(padded).rstrip()
        lines.append(line if width is None else cut(line, width))
    return lines


def columns(text: str) -> int:
    """Columns of a terminal that a text takes: characters of East Asian scripts take two, combining ones none."""
    return sum(_columns(one) for one in text)


def _columns(one: str) -> int:
    return 0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1


def cut(text: str, room: int) -> str:
    """As much of a text as fits into ``room`` columns, with an ellipsis where something is missing."""
    if columns(text) <= room:
        return text
    kept, used = "", columns(ELLIPSIS)
    for one in text:
        used += _columns(one)
        if used > room:
            break
        kept += one
    return kept.rstrip(f" {ELLIPSIS}") + ELLIPSIS


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - columns(cell))
    return space + cell if right else cell + space
