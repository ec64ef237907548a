"""The pictures of ``charrnn plot RUN...``: what runs wrote down, over their steps."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from charrnn.config.wording import counted, symbol
from charrnn.errors import CheckpointError
from charrnn.plots.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    count_steps,
    legend_above,
    line_style,
    loss_axis,
    new_figure,
    wrapped,
)
from charrnn.runs.metrics import Row
from charrnn.runs.run import Run

PANEL_HEIGHT = 1.55  # inches, times the panel's share
FAR_APART = 10.0  # peaks of the learning rate: of the lower one nothing would be seen on a linear axis
FEW = 25  # points, up to which each of them gets a dot: one alone is no line
SMALL_PRINT = 8.3  # points
HEADROOM = 1.1  # the height of a panel from 0 up, times its largest value
VALIDATION: dict[str, Any] = {"linewidth": 1, "marker": "o", "markersize": 4, "markerfacecolor": "white"}

Points = Sequence[tuple[float, float]]  # NaN where a number was none
Panel = Callable[[Axes, Sequence[Run], int | None], None]


def draw_runs(
    runs: Sequence[Run], labels: Sequence[str], *, log_loss: bool = False, average: int | None = None
) -> Figure:
    """Losses, gradient norm, clipped share, learning rate and speed of one or more runs over their steps.

    ``average``: training loss, mean gradient norm and clipped share are averages over so many steps, with what the
    log has itself faintly behind them. ``log_loss``: a logarithmic loss axis, which losses that span much get anyway.
    A rollback is a dotted line through all panels; where a run diverged, the line ends in a cross.

    Raises:
        CheckpointError: none of the runs has anything to draw yet.
    """
    if not any(run.history.logs or run.history.evaluations for run in runs):
        raise CheckpointError(_nothing(runs[0], "log line"))
    clips = any(run.config.training.grad_clip is not None for run in runs)
    losses = partial(_losses, log=log_loss)
    panels: list[tuple[float, Panel]] = [(2.2, losses), (1.3, _norms), (0.7, _clipped), (1, _rates), (1, _speeds)]
    panels = [panel for panel in panels if clips or panel[1] is not _clipped]
    figure, axes = new_figure(len(panels), PANEL_HEIGHT)
    figure.set_figheight(0.9 + PANEL_HEIGHT * sum(height for height, _ in panels))
    grid = axes[0].get_gridspec()
    assert grid is not None
    grid.set_height_ratios([height for height, _ in panels])
    for axis, (_, draw) in zip(axes, panels, strict=True):
        draw(axis, runs, average)
        for number, run in enumerate(runs):
            _events(axis, run, number, crossed=axis is axes[0])
    axes[-1].set_xlabel("step")
    count_steps(axes[-1])
    axes[-1].set_xlim(left=0)
    _legend(figure, runs, labels)
    return figure


def draw_parameters(run: Run) -> Figure:
    """The gradient norm and the update ratio of each parameter over the steps.

    Colours tell what a parameter does, line styles the layer, thin lines are biases.

    Raises:
        CheckpointError: no log line looked inside a step yet.
    """
    rows = run.history.observed
    if not rows:
        raise CheckpointError(_of_a_batch(run) or _nothing(run, "log line that looks inside a step"))
    figure, axes = new_figure(2, 3.2)
    names = list(dict.fromkeys(name for row in rows for name in row["tensors"]))
    for axis, key, title in zip(axes, ("grad_norm", "update_ratio"), ("gradient norm", "update ratio"), strict=True):
        for name in names:
            points = [(row["step"], _number(row["tensors"].get(name, {}).get(key))) for row in rows]
            _plot(axis, [(x, y if y > 0 else math.nan) for x, y in points], **_parameter_look(name))
        axis.set_yscale("log")
        axis.set_ylabel(title)
    axes[-1].set_xlabel("step")
    count_steps(axes[-1])
    handles = [Line2D([], [], **_parameter_look(name)) for name in names]
    figure.legend(handles, names, loc="outside right upper", fontsize="x-small")
    return figure


def moving_average(points: Points, begins: Sequence[float], steps: int) -> list[tuple[float, float]]:
    """Each value with those of the ``steps`` steps before it, weighted by the steps that each stands for.

    ``points[i]`` is (step, mean over the steps after ``begins[i]`` up to it). The first averages are over the fewer
    steps that there are, and a NaN is left out, so nothing pulls towards zero.
    """
    averaged = []
    for last, (end, value) in enumerate(points):
        total = weights = 0.0
        for place in range(last, -1, -1):
            step, one = points[place]
            weight = step - max(begins[place], end - steps)
            if step <= end - steps:
                break
            if not math.isnan(one):
                total, weights = total + weight * one, weights + weight
        averaged.append((end, total / weights if weights and not math.isnan(value) else math.nan))
    return averaged


def _nothing(run: Run, what: str) -> str:
    """Why there is nothing to draw, and what to do."""
    log_every = run.config.run.log_every
    if run.diverged:
        return f"{run.path}: diverged before its first {what}; train it again with --set run.log_every=1"
    return f"{run.path}: has no {what} yet; wait for step {log_every}, or train with a lower run.log_every"


def _of_a_batch(run: Run) -> str:
    """That the run is a bee of a batch, and what to do; nothing if it is none: then each whole interval of its log
    lines ends in a step that was looked into."""
    if all(row["step"] % run.config.run.log_every for row in run.history.logs):
        return ""
    return (
        f"{run.path}: was trained as one of a batch, whose steps are not looked into; train it alone with "
        f"'charrnn train --config {shlex.quote(str(run.path / 'config.yaml'))}'"
    )


def _number(value: Any) -> float:
    """JSON has null for what was not finite."""
    return float(value) if isinstance(value, int | float) else math.nan


def _series(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    return [(row["step"], _number(row[key])) for row in rows if key in row]


def _plot(axis: Axes, points: Points, **style: Any) -> None:
    style = {"linewidth": 1.4, "marker": "." if len(points) <= FEW else ""} | style
    axis.plot([x for x, _ in points], [y for _, y in points], **style)


def _means(axis: Axes, run: Run, number: int, key: str, average: int | None) -> None:
    """A number of the log lines, which are means over the steps since the line before."""
    points = _series(run.metrics, key)
    if average is None:
        _plot(axis, points, **line_style(number))
        return
    _plot(axis, points, **line_style(number), alpha=0.25)
    begins = [0.0, *(step for step, _ in points)][: len(points)]
    _plot(axis, moving_average(points, begins, average), **line_style(number))


def _losses(axis: Axes, runs: Sequence[Run], average: int | None, log: bool) -> None:
    for number, run in enumerate(runs):
        _means(axis, run, number, "train_loss", average)
        _plot(axis, _series(run.metrics, "val_loss"), **line_style(number), **VALIDATION)
    loss_axis(axis, _drawn(axis), log)
    axis.set_ylabel(f"loss, nats/{_symbol(runs)}")
    training = f"training, mean of {average} steps" if average and average > 1 else "training"
    validation = "validation" if any(run.history.evaluations for run in runs) else "validation (none yet)"
    handles = [Line2D([], [], color=GREY, label=training), Line2D([], [], color=GREY, label=validation, **VALIDATION)]
    axis.legend(handles=handles, fontsize="small", loc="best")


def _norms(axis: Axes, runs: Sequence[Run], average: int | None) -> None:
    for number, run in enumerate(runs):
        _means(axis, run, number, "grad_norm", average)
        means, highest = _series(run.metrics, "grad_norm"), _series(run.metrics, "grad_norm_p99")
        if len(means) == len(highest):
            steps = [step for step, _ in means]
            low, high = [y for _, y in means], [y for _, y in highest]
            axis.fill_between(steps, low, high, color=line_style(number)["color"], alpha=0.15, linewidth=0)
    clips = sorted({run.config.training.grad_clip for run in runs if run.config.training.grad_clip is not None})
    for clip in clips:
        axis.axhline(clip, color=GREY, linestyle="--", linewidth=1, label=f"grad_clip {clip:g}")
        axis.annotate(
            f"grad_clip {clip:g}", (1, clip), (0, 4), xycoords=axis.get_yaxis_transform(), textcoords="offset points",
            ha="right", fontsize="small", color=GREY,
        )  # fmt: skip
    highest_of_all = [y for run in runs for _, y in _series(run.metrics, "grad_norm_p99")]
    loss_axis(axis, [*_drawn(axis), *highest_of_all, *clips])
    axis.set_ylabel("gradient norm:\nmean, 99 %")


def _clipped(axis: Axes, runs: Sequence[Run], average: int | None) -> None:
    for number, run in enumerate(runs):
        _means(axis, run, number, "clipped", average)
    axis.set_ylim(-0.05, 1.05)
    axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.set_ylabel("clipped")


def _rates(axis: Axes, runs: Sequence[Run], average: int | None) -> None:
    for number, run in enumerate(runs):
        _plot(axis, _series(run.metrics, "lr"), **line_style(number))
    axis.set_ylabel("learning rate")
    peaks = [max(rates) for run in runs if (rates := [row["lr"] for row in run.history.logs if row.get("lr")])]
    if peaks and max(peaks) > FAR_APART * min(peaks):
        axis.set_yscale("log")
        axis.set_ylim(bottom=min(peaks) / FAR_APART)  # a schedule ends at 0, which has no place on such an axis
        return
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)


def _speeds(axis: Axes, runs: Sequence[Run], average: int | None) -> None:
    for number, run in enumerate(runs):
        _plot(axis, _series(run.metrics, "chars_per_sec"), **line_style(number))
    fastest = axis.dataLim.ymax
    axis.set_ylim(0, HEADROOM * fastest if 0 < fastest < math.inf else None)  # a level speed has margins of nothing
    axis.yaxis.set_major_formatter(EngFormatter())
    axis.set_ylabel(f"{_symbol(runs)}s/s")


def _symbol(runs: Sequence[Run]) -> str:
    return symbol(run.config.corpus.vocabulary for run in runs)


def _drawn(axis: Axes) -> list[float]:
    return [float(y) for line in axis.get_lines() for y in np.asarray(line.get_ydata())]


def _events(axis: Axes, run: Run, number: int, crossed: bool) -> None:
    """Rollbacks, and where the run diverged."""
    colour = line_style(number)["color"]
    for row in run.rollbacks:
        axis.axvline(row["step"], color=colour, linestyle=":", linewidth=1, label="rollback")
    if run.diverged and crossed:
        step = run.metrics[-1]["step"]
        axis.plot(
            [step], [1], "X", color=colour, markersize=8, clip_on=False, label="diverged",
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _legend(figure: Figure, runs: Sequence[Run], labels: Sequence[str]) -> None:
    """One line for each run, above all panels."""
    named = [wrapped(f"{label}{_fate(run)}", 7.5, SMALL_PRINT) for run, label in zip(runs, labels, strict=True)]
    legend_above(figure, named, SMALL_PRINT)


def _fate(run: Run) -> str:
    rollbacks = len(run.rollbacks)
    told = [counted(rollbacks, "rollback")] if rollbacks else []
    told += [f"diverged at step {run.metrics[-1]['step']:,}"] if run.diverged else []
    told += ["no log line yet"] if not run.history.logs and not run.diverged else []
    return f" ({', '.join(told)})" if told else ""


def _parameter_look(name: str) -> dict[str, Any]:
    """Its colour by what it does, its style by the layer; biases thin."""
    parts = {"embedding": ORANGE, "weight_ih": BLUE, "bias_ih": BLUE, "weight_hh": GREEN, "bias_hh": GREEN}
    colour = next((colour for part, colour in {**parts, "decoder": RED}.items() if part in name), PURPLE)
    layer = next((int(left) for _, left in pairwise(["", *name.split(".")]) if left.isdigit()), 0)
    styles: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    return {"color": colour, "linestyle": styles[layer % len(styles)], "linewidth": 0.8 if "bias" in name else 1.6}
