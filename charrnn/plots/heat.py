"""The heat map of ``charrnn swarm``: how well each combination of settings ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from charrnn.plots.figures import RED, luminance, wrapped
from charrnn.plots.hive import LOWEST, Grid, Place, are_comparable, fates, heading, place, short_number, symbol_of

MOST = (30, 60)  # columns and rows: a larger picture is no longer a picture
LOG_OVER = 5.0  # where the highest median is over so many times the lowest, colours are on a log scale
SIZE = 9.0
CELL = (1.15, 0.62)  # inches


def draw_heat(hive: dict[str, Any]) -> Figure:
    """Each swarm's median validation loss: the first group across, all others down, the best outlined.

    A swarm without a median is hatched, with what became of most of its bees.
    """
    grid = place(hive, *MOST, wrap=False)
    names = [wrapped(name, 1.8, SIZE) for name in _names(grid, lambda one: (one.row, one.row_name))]
    size = (max(CELL[0] * grid.columns, 3) + 1.7 + 1.8 * any(names), max(CELL[1] * grid.rows + 1.3, 2.4))
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    norm = _norm([one.swarm["median"] for one in grid.places if one.swarm["median"] is not None])
    for one in grid.places:
        _draw_cell(axis, one, norm)
    _outline(axis, grid, best_swarms(hive))
    columns = [wrapped(name, CELL[0], SIZE) for name in _names(grid, lambda one: (one.column, one.column_name))]
    axis.set_xticks(range(grid.columns), columns, fontsize=SIZE, parse_math=False)
    axis.set_yticks(range(grid.rows), names, fontsize=SIZE, parse_math=False)
    axis.set_xlim(-0.5, grid.columns - 0.5)
    axis.set_ylim(grid.rows - 0.5, -0.5)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(wrapped(heading(hive, len(grid.places)), size[0], SIZE + 2), fontsize=SIZE + 2, parse_math=False)
    if norm is not None:
        _colour_bar(figure, axis, norm, symbol_of(hive))
    return figure


def _names(grid: Grid, name: Callable[[Place], tuple[int, str]]) -> list[str]:
    return [text for _, text in sorted({name(one) for one in grid.places})]


def _norm(medians: list[float]) -> Normalize | None:
    """From losses to 0..1; None where there is no loss at all."""
    if not medians:
        return None
    low, high = max(min(medians), LOWEST), max(*medians, LOWEST)
    if high > LOG_OVER * low:
        return LogNorm(low, high, clip=True)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05 * high)  # noise is not to look like a difference
    return Normalize(middle - half, middle + half)


def _draw_cell(axis: Axes, one: Place, norm: Normalize | None) -> None:
    corner, median = (one.column - 0.48, one.row - 0.47), one.swarm["median"]
    share = one.swarm["diverged"] - fates(one.swarm)["failed"] / max(one.swarm["count"], 1)  # which are among them
    if median is None or norm is None:
        cell = Rectangle(corner, 0.96, 0.94, facecolor="#e8e8e8", edgecolor="#bbbbbb", hatch="////", linewidth=0)
        text, ink = _fate(one.swarm), "black"
    else:
        colour = colormaps["viridis_r"](float(norm(median)))
        cell = Rectangle(corner, 0.96, 0.94, facecolor=colour, linewidth=0)
        text, ink = short_number(median), "black" if luminance(colour) > 0.18 else "white"
    axis.add_patch(cell)
    if share > 1e-9:
        text += f"\n{100 * share:.0f} % div."
    back = {"facecolor": "#e8e8e8", "linewidth": 0, "pad": 1.5} if median is None else None
    axis.text(one.column, one.row, text, ha="center", va="center", fontsize=SIZE, color=ink, bbox=back)


def best_swarms(hive: dict[str, Any]) -> list[dict[str, Any]]:
    """The swarm with the lowest median, of several those of which fewest bees diverged; all of them, if they are equal
    in that too. None where none has a median, or where they do not compare."""
    if not are_comparable(name for group in hive["groups"] for name in group):
        return []
    ranked = [((one["median"], one["diverged"]), one) for one in hive["swarms"] if one["median"] is not None]
    least = min((rank for rank, _ in ranked), default=None)
    return [one for rank, one in ranked if rank == least]


def _fate(swarm: dict[str, Any]) -> str:
    """What became of most of the bees that have no loss."""
    lost = fates({"bees": [bee for bee in swarm["bees"] if bee["val_loss"] is None]})
    return lost.most_common(1)[0][0] if lost else "no median"


def _outline(axis: Axes, grid: Grid, best: list[dict[str, Any]]) -> None:
    for one in grid.places:
        if one.swarm in best:
            corner = (one.column - 0.48, one.row - 0.47)
            axis.add_patch(Rectangle(corner, 0.96, 0.94, fill=False, edgecolor=RED, linewidth=3))


def _colour_bar(figure: Figure, axis: Axes, norm: Normalize, per: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=axis)
    bar.set_label(f"median validation loss,\nnats per {per}", fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE - 1)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
