"""A curve in a terminal: braille dots (2 x 4 to a character), axes, points and horizontal marks.

Its own rather than plotext's: plotext 6 has another interface than 5, takes half a second to import, and a chart of
30 x 8 characters has no room for its frame and legend. What is drawn is told apart by shape, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

# Okabe and Ito's blue and vermilion, as in plots/figures.py: both can be read on black and on white.
LINE, POINT, MARK = Style(color="#0072b2"), Style(color="#d55e00", bold=True), Style(dim=True)
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of a braille character by column and row
BLANK, FULL_POINT, DASH = 0x2800, "●", "╌"
MOST_KEPT = 1000  # pieces of a curve: more than the dots of any terminal's width
BEGINNING = 0.01  # of the steps: how the loss falls there would leave no room for the rest, so it may leave the chart
LEAST_WIDTH, LEAST_HEIGHT = 16, 4
ROWS_PER_TICK, COLUMNS_PER_TICK = 3, 12


@dataclass(frozen=True)
class Piece:
    """One point of a curve, or ``count`` neighbours: the last one's step; lowest, highest and mean value."""

    step: int
    low: float
    high: float
    mean: float
    count: int = 1


class Curve:
    """Values over steps, thinned as they become many: all pieces hold equally many of them."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._full = 1  # values of a piece

    def add(self, step: int, value: float | None) -> None:
        """Take in a point; one that goes back in steps takes back what came after it. None and NaN are left out."""
        while self.pieces and self.pieces[-1].step >= step:
            self.pieces.pop()
        if value is None or not math.isfinite(value):
            return
        piece = Piece(step, value, value, value)
        if self.pieces and self.pieces[-1].count < self._full:
            piece = _joined([self.pieces.pop(), piece])
        self.pieces.append(piece)
        if len(self.pieces) > MOST_KEPT:
            self.pieces = [_joined(self.pieces[i : i + 2]) for i in range(0, len(self.pieces), 2)]
            self._full *= 2


def _joined(pieces: Sequence[Piece]) -> Piece:
    count = sum(one.count for one in pieces)
    return Piece(
        pieces[-1].step,
        min(one.low for one in pieces),
        max(one.high for one in pieces),
        sum(one.mean * one.count for one in pieces) / count,
        count,
    )


@dataclass
class Chart:
    """A curve with points and named horizontal marks, as large as the place it is given. ``log``: of the y axis, which
    then reaches to marks up to ten times above the curve; other marks out of range are left out."""

    curve: Curve
    points: Curve = field(default_factory=Curve)
    marks: dict[str, float] = field(default_factory=dict)
    log: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or 10
        for line in self.lines(width, height):
            yield from (Segment(text, style) for text, style in line)
            yield Segment.line()

    def lines(self, width: int, height: int) -> list[list[tuple[str, Style | None]]]:
        """Rows of ``width`` characters as pieces of one style each, ``height`` of them."""
        grid = _Grid(width, height)
        curve, points = (
            [one for one in part.pieces if not self.log or one.low > 0] for part in (self.curve, self.points)
        )
        pieces = [*curve, *points]
        if not pieces or width < LEAST_WIDTH or height < LEAST_HEIGHT:
            grid.write(0, 0, "nothing yet" if not pieces else "", MARK)
            return grid.rows()
        last = max(1, *(one.step for one in pieces))
        scaled = [one for one in pieces if one.step >= BEGINNING * last]
        high = max(one.high for one in scaled)
        near = [value for value in self.marks.values() if self.log and high < value <= 10 * high]
        scale = Scale(min(one.low for one in scaled), max(high, *near) if near else high, self.log)
        labels = scale.labels(height - 2)
        left = max(map(len, labels.values())) + 1
        plot = _Plot(grid, left, width - left, height - 2, scale, last)
        plot.axes(labels)
        plot.curve(curve)
        for name, value in self.marks.items():
            plot.mark(name, value)
        for one in points:
            plot.point(one)
        return grid.rows()


class Scale:
    """The y axis: values to shares of the height, 0 at the top; with a little room if all values are one."""

    def __init__(self, low: float, high: float, log: bool) -> None:
        self._log = log
        self._low, self._high = self._of(low), self._of(high)
        if self._high - self._low < 1e-9 * max(abs(self._high), 1.0):
            room = 0.05 if log else max(abs(high) * 0.05, 1e-6)
            self._low, self._high = self._low - room, self._high + room

    def _of(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def share(self, value: float) -> float:
        """0 at the top, 1 at the bottom; outside of that for what is not in range."""
        return (self._high - self._of(value)) / (self._high - self._low)

    def labels(self, rows: int) -> dict[int, str]:
        """Round numbers by row, at least one."""
        values = self._decades() if self._log else round_numbers(self._low, self._high, max(rows // ROWS_PER_TICK, 3))
        found: dict[int, float] = {}
        for value in values:
            found.setdefault(round(self.share(value) * (rows - 1)), value)
        if not found:  # between two round numbers
            found = {0: 10**self._high if self._log else self._high}
        texts = [f"{value:.4g}" for value in found.values()]
        decimals = max(len(text.partition(".")[2]) for text in texts)
        if not self._log and not any("e" in text for text in texts):
            texts = [f"{value:.{decimals}f}" for value in found.values()]
        return dict(zip(found, texts, strict=True))

    def _decades(self) -> list[float]:
        """Powers of ten, and multiples of them where there would be one or none."""
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        for factors in ((1,), (1, 2, 5), range(1, 10)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if self._low <= math.log10(value) <= self._high]
            if len(inside) > 1:
                break
        return inside


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Up to about ``most`` multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``."""
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


class _Grid:
    """Characters with a style each."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells: list[list[tuple[str, Style | None]]] = [[(" ", None)] * width for _ in range(height)]

    def write(self, row: int, column: int, text: str, style: Style | None) -> None:
        """Put text in its place; what does not fit is cut."""
        for offset, character in enumerate(text):
            if 0 <= row < self.height and 0 <= column + offset < self.width:
                self.cells[row][column + offset] = (character, style)

    def is_free(self, row: int, column: int, length: int) -> bool:
        """Whether nothing but blanks and dashes is there."""
        return column >= 0 and all(one in (" ", DASH) for one, _ in self.cells[row][column : column + length])

    def rows(self) -> list[list[tuple[str, Style | None]]]:
        """Neighbours of one style joined."""
        joined: list[list[tuple[str, Style | None]]] = []
        for row in self.cells:
            line: list[tuple[str, Style | None]] = []
            for character, style in row:
                if line and line[-1][1] is style:
                    line[-1] = (line[-1][0] + character, style)
                else:
                    line.append((character, style))
            joined.append(line)
        return joined


class _Plot:
    """The inside of a chart: ``rows`` rows right of ``left``; the axis' line is column ``left - 1``."""

    def __init__(self, grid: _Grid, left: int, width: int, rows: int, scale: Scale, last_step: int) -> None:
        self.grid, self.left, self.width, self.rows_ = grid, left, width, rows
        self.scale, self.last_step = scale, last_step

    def axes(self, labels: dict[int, str]) -> None:
        """Lines, numbers of the y axis, steps below."""
        for row in range(self.rows_):
            label = labels.get(row, "")
            self.grid.write(row, 0, label.rjust(self.left - 1), None)
            self.grid.write(row, self.left - 1, "┤" if label else "│", MARK)
        self.grid.write(self.rows_, self.left - 1, "└" + "─" * self.width, MARK)
        end, before = self.grid.width, f"{self.last_step:,} steps"
        self.grid.write(self.rows_ + 1, end - len(before), before, None)
        for step in round_numbers(0, self.last_step, max(self.width // COLUMNS_PER_TICK, 1)):
            text, column = f"{step:,.0f}", self._column(step) // 2
            start = self.left + max(column - len(text) // 2, 0)
            if self.grid.is_free(self.rows_ + 1, start - 1, len(text) + 2) and start + len(text) < end:
                self.grid.write(self.rows_ + 1, start, text, None)
                self.grid.write(self.rows_, self.left + column, "┬", MARK)

    def _column(self, step: float) -> int:
        """In dots."""
        return round(step / self.last_step * (2 * self.width - 1))

    def _row(self, value: float) -> int:
        """In dots, from the top."""
        return min(max(round(self.scale.share(value) * (4 * self.rows_ - 1)), 0), 4 * self.rows_ - 1)

    def curve(self, pieces: Sequence[Piece]) -> None:
        """Each column of dots from the lowest to the highest value in it, neighbours connected."""
        columns: dict[int, list[Piece]] = {}
        for piece in pieces:
            columns.setdefault(self._column(piece.step), []).append(piece)
        dots: dict[tuple[int, int], int] = {}
        before: tuple[int, int] | None = None
        for column, inside in sorted(columns.items()):
            one = _joined(inside)
            here = (column, self._row(one.mean))
            stretch = [(column, row) for row in range(self._row(one.high), self._row(one.low) + 1)]
            for x, y in (*_between(before or here, here), *stretch):
                key = (y // 4, x // 2)
                dots[key] = dots.get(key, 0) | DOTS[x % 2][y % 4]
            before = here
        for (row, cell), bits in dots.items():
            self.grid.write(row, self.left + cell, chr(BLANK + bits), LINE)

    def mark(self, name: str, value: float) -> None:
        """A dashed line behind the curve, with its name where there is room; nothing if it is out of range."""
        share = self.scale.share(value)
        if not 0 <= share <= 1:
            return
        row = self._row(value) // 4
        for column in range(self.left, self.grid.width):
            if self.grid.is_free(row, column, 1):
                self.grid.write(row, column, DASH, MARK)
        label = f" {name} {value:.3g} "
        for start in (self.grid.width - len(label) - 1, (self.left + self.grid.width - len(label)) // 2, self.left + 1):
            if start >= self.left and self.grid.is_free(row, start, len(label)):
                self.grid.write(row, start, label, None)
                return

    def point(self, piece: Piece) -> None:
        """A point above everything else."""
        self.grid.write(self._row(piece.mean) // 4, self.left + self._column(piece.step) // 2, FULL_POINT, POINT)


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(round(x0 + (x1 - x0) * i / count), round(y0 + (y1 - y0) * i / count)) for i in range(count + 1)]
