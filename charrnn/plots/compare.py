"""The picture of ``charrnn compare``: the losses of several runs or swarms over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from charrnn.plots.figures import count_steps, legend_above, line_style, loss_axis, new_figure

Points = Sequence[tuple[float, float]]
CROSS: dict[str, Any] = {"marker": "x", "markersize": 7, "markeredgewidth": 2, "linestyle": "none"}
TOP = 0.98  # of a plot's height


def draw_curves(
    labels: Sequence[str],
    training: Sequence[Sequence[Points]],
    validation: Sequence[Sequence[Points]],
    ends: Sequence[Sequence[float]],
    in_characters: bool,
    unit: str,
) -> Figure:
    """``training[i]`` and ``validation[i]`` have a curve for each training of what ``labels[i]`` names: (steps or
    characters, nats), infinite where it has diverged; ``ends[i]`` where its trainings diverged. ``unit`` is what is
    read and what a loss is per, as ``symbol`` of ``figures`` says it.

    Several trainings are thin lines with their median in bold; a cross at the top for each that diverged.
    """
    figure, axes = new_figure(2)
    several = any(len(one) > 1 for one in training)
    for axis, curves, name in zip(axes, (training, validation), ("training", "validation"), strict=True):
        for number, one in enumerate(curves):
            _draw_side(axis, one, number, "." if name == "validation" else "")
        _mark_ends(axis, ends)
        loss_axis(axis, [loss for one in curves for points in one for _, loss in points])
        axis.set_ylabel(f"{name} loss, nats/{unit}" + ("\n(thin: each bee, bold: median)" if several else ""))
    axes[-1].set_xlabel(f"{unit}s read (steps x batch_size x seq_len)" if in_characters else "step")
    if in_characters:
        axes[-1].xaxis.set_major_formatter(EngFormatter())
    else:
        count_steps(axes[-1])
    axes[-1].set_xlim(left=0)
    if any(ends):
        cross = Line2D([], [], color="black", **CROSS)
        axes[0].legend([cross], ["diverged, in the line's colour"], fontsize="small", loc="best")
    legend_above(figure, labels, "small")
    return figure


def _draw_side(axis: Axes, curves: Sequence[Points], number: int, marker: str) -> None:
    bold: dict[str, Any] = {**line_style(number), "linewidth": 2, "marker": marker}
    if len(curves) == 1:
        axis.plot(*_finite(curves[0]), **bold | {"linewidth": 1.5})
        return
    for points in curves:
        axis.plot(*_finite(points), **line_style(number), linewidth=0.6, alpha=0.4)
    axis.plot(*_finite(middle(curves)), **bold)


def _mark_ends(axis: Axes, ends: Sequence[Sequence[float]]) -> None:
    """Where each training diverged, at the top: its loss is above everything."""
    at_the_top = axis.get_xaxis_transform()
    for number, places in enumerate(ends):
        if places:
            colour = line_style(number)["color"]
            axis.plot(places, [TOP] * len(places), color=colour, transform=at_the_top, zorder=5, **CROSS)


def middle(curves: Sequence[Points]) -> list[tuple[float, float]]:
    """The median of curves, wherever at least half of them have a point."""
    losses: dict[float, list[float]] = {}
    for points in curves:
        for x, loss in points:
            losses.setdefault(x, []).append(loss)
    return [(x, median(losses[x])) for x in sorted(losses) if 2 * len(losses[x]) >= len(curves)]


def _finite(points: Points) -> tuple[list[float], list[float]]:
    kept = [(x, loss) for x, loss in points if math.isfinite(loss)]
    return [x for x, _ in kept], [loss for _, loss in kept]
