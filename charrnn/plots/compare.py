"""The picture of ``charrnn compare``: the losses of several runs or swarms over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

from charrnn.plots.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, count_steps, named_legend, new_figure

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)
STYLES = ("-", "--", ":")  # one for each time round the colours
LEGEND_WIDTH = 120  # characters of its small print, over the whole figure
LOG_FROM = 5  # largest loss over smallest, above which the axis is logarithmic
ZERO = 1e-6  # where 0 stands on a logarithmic axis, unless there is something below

Points = Sequence[tuple[float, float]]


def draw_curves(
    labels: Sequence[str],
    training: Sequence[Sequence[Points]],
    validation: Sequence[Sequence[Points]],
    in_characters: bool,
) -> Figure:
    """``training[i]`` and ``validation[i]`` have a curve for each training of what ``labels[i]`` names: (steps or
    characters, nats per character), infinite where it has diverged.

    Several trainings are thin lines with their median in bold.
    """
    figure, axes = new_figure(2)
    several = any(len(one) > 1 for one in training)
    for axis, curves, name in zip(axes, (training, validation), ("training", "validation"), strict=True):
        for number, one in enumerate(curves):
            _draw_side(axis, one, number, "." if name == "validation" else "")
        loss_axis(axis, [loss for one in curves for points in one for _, loss in points])
        axis.set_ylabel(f"{name} loss, nats/char" + ("\n(thin: each bee, bold: median)" if several else ""))
    axes[-1].set_xlabel("characters read (steps x batch_size x seq_len)" if in_characters else "step")
    if in_characters:
        axes[-1].xaxis.set_major_formatter(EngFormatter())
    else:
        count_steps(axes[-1])
    axes[-1].set_xlim(left=0)
    handles = [Line2D([], [], linewidth=2, **look(number)) for number in range(len(labels))]
    columns = max(1, min(3, LEGEND_WIDTH // (max(map(len, labels)) + 6)))
    named_legend(figure, handles, labels, loc="outside upper center", ncols=columns, fontsize="small")
    return figure


def look(number: int) -> dict[str, Any]:
    """Colour and line style of the run of this number."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}


def _draw_side(axis: Axes, curves: Sequence[Points], number: int, marker: str) -> None:
    bold: dict[str, Any] = {**look(number), "linewidth": 2, "marker": marker}
    if len(curves) == 1:
        axis.plot(*_finite(curves[0]), **bold | {"linewidth": 1.5})
        return
    for points in curves:
        axis.plot(*_finite(points), **look(number), linewidth=0.6, alpha=0.4)
    axis.plot(*_finite(middle(curves)), **bold)


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


def loss_axis(axis: Axes, losses: Sequence[float]) -> None:
    """Logarithmic where the losses span much, with 0 at the lower edge; plain numbers either way."""
    drawn = [loss for loss in losses if math.isfinite(loss) and loss > 0]
    if drawn and 0 in losses:
        zero = min(ZERO, *drawn)
        drawn.append(zero)
        for line in axis.get_lines():
            line.set_ydata(np.maximum(line.get_ydata(), zero))
        axis.relim()
    if drawn and max(drawn) > LOG_FROM * min(drawn):
        axis.set_yscale("log")
        few_decades = max(drawn) < 100 * min(drawn)
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few_decades else (1.0,)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
