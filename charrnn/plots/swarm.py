"""The facet grid of ``charrnn swarm``: one small plot per swarm, one thin line per bee, from the content of a hive."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from charrnn.config.wording import counted
from charrnn.plots.figures import BLUE, GREY, RED, dress, wrapped
from charrnn.plots.hive import (
    LOWEST,
    Curve,
    Grid,
    Line,
    Place,
    fates,
    heading,
    median_curve,
    place,
    short_number,
    symbol_of,
)

MOST = 8  # facets across and down: more of them could not be read
CAP = 2.0  # times ln(symbols): a model that is this wrong has learned nothing, and its loss may be anything
MEDIAN, FAILED = "#003a5c", "#8e3b6f"  # the bees' blue, and purple, dark enough for letters
COLOURS = {"diverged": RED, "failed": FAILED, "waiting": GREY}


@dataclass
class Facet:
    """One swarm's plot, and what of it grows while training goes on."""

    place: Place
    axis: Axes
    curves: list[Curve]
    lines: list[Line]
    median: Line
    bees: LineCollection
    bold: Line2D
    crosses: Line2D
    failures: Line2D
    notes: list[Text]

    def show(self, x: float) -> None:
        """Show training up to ``x`` steps or characters."""
        self.bees.set_segments([np.column_stack(line.until(x)) for line in self.lines])
        self.bold.set_data(*self.median.until(x))
        for marks, status in ((self.crosses, "diverged"), (self.failures, "failed")):
            pairs = zip(self.lines, self.place.swarm["bees"], strict=True)
            stops = [line.stop for line, bee in pairs if line.stop and bee["status"] == status]
            marks.set_data(np.array([stop for stop in stops if stop[0] <= x]).reshape(-1, 2).T)

    def moving(self) -> list[LineCollection | Line2D]:
        """What ``show`` changes, in the order it is drawn in."""
        return [self.bees, self.bold, self.crosses, self.failures]


@dataclass
class Facets:
    """A whole grid, its figure, the size of its letters (points) and the furthest of what is on the x axis."""

    figure: Figure
    facets: list[Facet]
    title: str
    size: float
    scale: str
    first: float
    last: float


def draw_swarm(hive: dict[str, Any]) -> Figure:
    """Every bee's training loss, and the median of each swarm's: the first group across, all others down.

    A bee that diverged counts as above everything. Losses over twice ln(symbols) are drawn on the top edge.
    """
    drawn = draw_facets(hive)
    for facet in drawn.facets:
        facet.show(math.inf)
    return drawn.figure


def draw_facets(hive: dict[str, Any], more_title: int = 0, strip: float = 0.0) -> Facets:
    """The grid with nothing in it yet.

    Room is left for ``more_title`` lines of title, and under each facet for ``strip`` lines of what its bees write.
    """
    grid = place(hive, MOST, MOST, wrap=True)
    size = {1: 10.0, 2: 9.0, 3: 9.0, 4: 8.0, 5: 8.0}.get(grid.columns, 7.0)
    figure = Figure()
    axes = figure.subplots(grid.rows, grid.columns, sharex=True, sharey=True, squeeze=False)
    scale = "characters" if hive["per_step"] is None else "step"
    curves = [[Curve.of(bee, scale) for bee in one.swarm["bees"]] for one in grid.places]
    low, high = _limits([one.swarm for one in grid.places], curves)
    facets = [
        _new_facet(one, axes[one.row, one.column], bees, low, high)
        for one, bees in zip(grid.places, curves, strict=True)
    ]
    xs = [curve.x for bees in curves for curve in bees if len(curve.x)]
    first, last = min((float(x[0]) for x in xs), default=0.0), max((float(x[-1]) for x in xs), default=1.0)
    _scales(axes[0, 0], grid, (low, high), last)
    for axis in axes.flat:
        axis.tick_params(labelsize=size - 1, length=2)
        axis.tick_params(axis="x", pad=3 + 1.35 * strip * size)
    _hide_empty(axes, grid)
    for facet in facets:
        facet.axis.axhline(facet.place.swarm["unigram"], color=GREY, linestyle=":", linewidth=1.2)
    title = _lay_out(figure, hive, grid, facets, size, more_title, strip)
    return Facets(figure, facets, title, size, scale, first, last)


def _lay_out(
    figure: Figure,
    hive: dict[str, Any],
    grid: Grid,
    facets: list[Facet],
    size: float,
    more_title: int,
    strip: float,
) -> str:
    """Names, legend and margins, all in inches: matplotlib's own layout takes seconds for a large grid.

    The title.
    """
    line = 1.35 * size / 72
    width = min(6.0, max(1.75, 11 / grid.columns))
    height = min(0.72 * width, max(1.25, 9 / grid.rows))
    notes, columns, rows = _name_facets(facets, grid, (width, height), size)
    entries = _legend_entries(facets, strip > 0)
    left, right = 4.8 * line, (rows + 0.7) * line
    full = max(left + right + grid.columns * (width + 1.2 * line), 6.5)
    in_a_row = _in_a_row(entries, full * 72 / size)
    title = wrapped(heading(hive, len(facets)), full - 0.3, size + 3)
    top = 1.25 * (title.count("\n") + 1 + more_title) * (size + 3) / 72 + (1.3 + notes + columns) * line + 0.1
    legend = math.ceil(len(entries) / in_a_row) * 1.3 * line + 0.15
    bottom = legend + (3.0 + strip) * line
    between = (notes + 0.8 + strip) * line + grid.is_list * (columns + 1.2) * line
    tall = top + bottom + grid.rows * height + (grid.rows - 1) * between
    figure.set_size_inches(full, tall)
    across = (full - left - right - (grid.columns - 1) * 1.2 * line) / grid.columns
    figure.subplots_adjust(
        left / full, bottom / tall, 1 - right / full, 1 - top / tall, 1.2 * line / across, between / height
    )
    figure.suptitle(title, y=1 - 0.1 / tall, va="top", fontsize=size + 3, parse_math=False)
    middle = (left + (full - left - right) / 2) / full
    x_name, y_name = _axis_names(hive)
    figure.text(middle, (legend + 0.4 * line) / tall, x_name, ha="center", fontsize=size)
    centre = (bottom + (tall - top - bottom) / 2) / tall
    figure.text(0.4 * line / full, centre, y_name, rotation=90, va="center", fontsize=size)
    figure.legend(handles=entries, loc="lower center", ncols=min(in_a_row, len(entries)), fontsize=size, frameon=False,
                  bbox_to_anchor=(middle, 0.05 / tall), borderaxespad=0)  # fmt: skip
    return title


def _limits(swarms: list[dict[str, Any]], curves: list[list[Curve]]) -> tuple[float, float]:
    """From the lowest loss to the highest, but not over the cap; unigram entropies are always in view."""
    unigram = [one["unigram"] for one in swarms]
    losses = np.concatenate([curve.loss for bees in curves for curve in bees] or [np.empty(0)])
    finite = losses[np.isfinite(losses)]
    low = max(min(float(finite.min(initial=np.inf)), 0.7 * min(unigram)), LOWEST)
    highest = float(losses.max(initial=0.0))
    return low, min(CAP * max(one["uniform"] for one in swarms), max(highest, 1.3 * max(unigram)))


def _new_facet(one: Place, axis: Axes, curves: list[Curve], low: float, high: float) -> Facet:
    dress(axis)
    lines = [Line.of(curve, low, high) for curve in curves]
    x, median = median_curve(curves)
    colours = [COLOURS.get(curve.status, BLUE) for curve in curves]
    bees = LineCollection([], colors=colours, linewidths=0.8, alpha=0.45, clip_on=False)
    axis.add_collection(bees, autolim=False)
    # Within the frame whatever they show, and empty ones lie at the figure's corner: nothing to make room for.
    free: dict[str, Any] = {"clip_on": False, "in_layout": False}
    (bold,) = axis.plot([], [], color=MEDIAN, linewidth=2.2, **free)
    (crosses,) = axis.plot([], [], "x", color=RED, markersize=6, markeredgewidth=1.5, zorder=5, **free)
    (failures,) = axis.plot([], [], "s", color=FAILED, fillstyle="none", markersize=5, zorder=5, **free)
    return Facet(one, axis, curves, lines, Line(x, np.clip(median, low, high)), bees, bold, crosses, failures, [])


def _scales(axis: Axes, grid: Grid, limits: tuple[float, float], last: float) -> None:
    """The scales of all facets, set on one of them."""
    decades = math.log10(limits[1] / limits[0])
    steps = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
    axis.set_yscale("log")
    axis.set_ylim(limits[0] / 10 ** (0.04 * decades), limits[1] * 10 ** (0.04 * decades))
    axis.yaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.set_xlim(0, last * 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(7 - grid.columns // 2, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _thousands(x)))


def _thousands(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def _name_facets(facets: list[Facet], grid: Grid, inches: tuple[float, float], size: float) -> tuple[int, int, int]:
    """Above each facet its median and its losses of bees; above those the column's name, at the right the row's.

    How many lines the longest notes, names of columns and names of rows have.
    """
    notes = max(_note(facet, size - 1) for facet in facets)
    columns = [wrapped(facet.place.column_name, inches[0] - 0.1, size) for facet in facets]
    rows = [wrapped(facet.place.row_name, inches[1], size) for facet in facets]
    for facet, column, row in zip(facets, columns, rows, strict=True):
        if facet.place.row == 0 or grid.is_list:
            _name(facet.axis, column, (0.5, 1), (0, 4 + 1.3 * (size - 1) * notes), size)
        if facet.place.column == grid.columns - 1:
            _name(facet.axis, row, (1, 0.5), (5, 0), size)
    return notes, max(map(_lines, columns)), max(map(_lines, rows))


def _name(axis: Axes, text: str, at: tuple[float, float], points: tuple[float, float], size: float) -> None:
    """A column's name upright above a facet, or a row's turned at its right."""
    above = at[1] == 1
    axis.annotate(
        text, at, points, xycoords="axes fraction", textcoords="offset points", ha="center" if above else "left",
        va="bottom" if above else "center", rotation=0 if above else 270, fontsize=size, fontweight="bold",
        parse_math=False,
    )  # fmt: skip


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _note(facet: Facet, size: float) -> int:
    """Write the final median at the left above a facet, and at the right what became of bees that did not end.

    How many lines that takes.
    """
    swarm, counts = facet.place.swarm, fates(facet.place.swarm)
    median = "no median" if swarm["median"] is None else f"median {short_number(swarm['median'])}"
    told = [f"{counts['diverged']} of {swarm['count']} diverged"] * bool(counts["diverged"])
    told += [f"{counts[status]} {status}" for status in ("failed", "waiting") if counts[status]]
    worst = next((COLOURS[status] for status in COLOURS if counts[status]), GREY)
    facet.notes = [
        facet.axis.set_title(median, loc="left", fontsize=size, pad=3, color=MEDIAN),
        facet.axis.set_title("\n".join(told), loc="right", fontsize=size, pad=3, color=worst),
    ]
    return max(len(told), 1)


def _hide_empty(axes: Any, grid: Grid) -> None:
    """Facets without a swarm vanish; the last one of each column has the numbers of the x axis."""
    taken = {(one.row, one.column) for one in grid.places}
    for row, column in np.ndindex(axes.shape):
        if (row, column) not in taken:
            axes[row, column].set_visible(False)
        elif not any((below, column) in taken for below in range(row + 1, grid.rows)):
            axes[row, column].tick_params(labelbottom=True)
        if (row, column) in taken and not any((row, left) in taken for left in range(column)):
            axes[row, column].tick_params(labelleft=True)


def _axis_names(hive: dict[str, Any]) -> tuple[str, str]:
    symbol, per_step = symbol_of(hive), hive["per_step"]
    x_name = f"{symbol}s read" if per_step is None else f"step ({counted(per_step, symbol)} each)"
    return x_name, f"training loss, nats per {symbol}"


def _legend_entries(facets: list[Facet], writing: bool) -> list[Line2D]:
    """Of what is in the whole figure."""
    unigram = {facet.place.swarm["unigram"] for facet in facets}
    level = f"{unigram.pop():.3g}" if len(unigram) == 1 else "of each text"
    counts = sum((fates(facet.place.swarm) for facet in facets), start=Counter[str]())
    entries = [
        Line2D([], [], color=BLUE, linewidth=0.8, alpha=0.6, label="one bee (a seed)"),
        Line2D([], [], color=MEDIAN, linewidth=2.2, label="median of the bees"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=1.2, label=f"unigram entropy {level}"),
        Line2D([], [], color=RED, marker="x", linewidth=0.8, markeredgewidth=1.5, label="diverged"),
        Line2D([], [], color=FAILED, marker="s", linewidth=0.8, fillstyle="none", label="failed"),
        Line2D([], [], color=GREY, linewidth=0.8, alpha=0.6, label="waiting"),
        Line2D([], [], linestyle="none", label="number above: final validation loss"),
    ]
    if writing:
        entries.append(Line2D([], [], linestyle="none", label="text below: written by the median bee"))
    return [entry for entry in entries if entry.get_label() not in COLOURS or counts[str(entry.get_label())]]


def _in_a_row(entries: list[Line2D], room: float) -> int:
    """How many entries of a legend fit beside each other into ``room`` times the letters' size."""
    widths = [0.56 * len(str(entry.get_label())) + 5 for entry in entries]
    return len(widths) if sum(widths) < room else max(int(room / max(widths)), 1)
