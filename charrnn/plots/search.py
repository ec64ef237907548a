"""What a search tried: for each setting its value against the median loss, from the results of the search alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from charrnn.config.settings import shown
from charrnn.config.wording import counted
from charrnn.plots.figures import BLUE, GREEN, ORANGE, PURPLE, RED, dress, wrapped
from charrnn.plots.hive import LOWEST, short_number, symbol_of

ACROSS = 3  # plots in a row
MOST = 12  # plots
MOST_NAMES = 12  # choices that are named below a plot
WIDTH, HEIGHT = 4.2, 3.1  # inches of a plot
WIDE = 300.0  # times between the ends of a range, from which on only powers of ten are named
LOG_FROM = 8.0  # times between the lowest and the highest loss, from which on the axis is logarithmic
SPREAD = 0.3  # of the distance between two choices: equal points lie beside each other
# How a trial came out: colour, marker, whether filled.
LOOKS = {
    "complete": (BLUE, "o", "full"),
    "pruned": (ORANGE, "v", "none"),
    "diverged": (RED, "x", "full"),
    "failed": (PURPLE, "s", "none"),
}
NAMES = {
    "complete": "median of the bees",
    "pruned": "pruned, median until then",
    "diverged": "half of the bees diverged, or more",
    "failed": "could not be trained",
}


def draw_search(results: dict[str, Any]) -> Figure:
    """One scatter per setting (settings that change together share one); the axis is logarithmic where the range is.

    Combinations without a loss (most bees diverged, or it could not be trained) are marked on the top edge.
    """
    settings = results["settings"][:MOST]
    columns = min(len(settings), ACROSS)
    rows = math.ceil(len(settings) / columns)
    figure = Figure(figsize=(max(WIDTH * columns, 6.0), HEIGHT * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    trials = [(trial, how) for trial in results["trials"] if (how := fate(trial)) in LOOKS]
    low, high, top = _scale(axes[0, 0], [trial["median"] for trial, how in trials if how in ("complete", "pruned")])
    heights = [top if how in ("diverged", "failed") else max(trial["median"], low) for trial, how in trials]
    for index, setting in enumerate(settings):
        axis = axes[index // columns, index % columns]
        dress(axis)
        _scatter(axis, _positions(axis, setting, results["trials"]), trials, heights, results["best"])
        axis.set_ylim(low, high)
        axis.tick_params(labelleft=index % columns == 0)
    for axis in axes.flat[len(settings) :]:
        axis.set_visible(False)
    figure.supylabel(f"median final validation loss, nats per {symbol_of(results)}", fontsize=9)
    figure.suptitle(wrapped(_title(results), figure.get_figwidth(), 11), fontsize=11, parse_math=False)
    _legend(figure, [how for _, how in trials], results)
    return figure


def fate(trial: dict[str, Any]) -> str:
    """How a trial came out: complete, pruned, failed, running; diverged where that decides its median."""
    return "diverged" if trial["diverged"] is not None and trial["diverged"] >= 0.5 else str(trial["state"])


def _title(results: dict[str, Any]) -> str:
    count, seeds = len(results["trials"]), len(results["seeds"])
    each = " each" if count > 1 else ""
    title = f"{results['name']}: {counted(count, 'combination')} of {counted(seeds, 'seed')}{each} on {results['text']}"
    settings = len(results["settings"])
    return f"{title} ({MOST} of the {settings} settings are drawn)" if settings > MOST else title


def _scale(axis: Axes, losses: list[float]) -> tuple[float, float, float]:
    """Ends of the common axis of losses, logarithmic if they are far apart, and where the top edge is marked."""
    if not losses:
        axis.set_yticks([])
        return 0.0, 1.0, 0.9
    low, high = max(min(losses), LOWEST), max([*losses, LOWEST])
    if high > LOG_FROM * low:
        axis.set_yscale("log")
        room = (high / low) ** 0.06
        return low / room, high * room**2, high * room
    room = max(0.06 * (high - low), 0.01 * high)
    return low - room, high + 2 * room, high + room


def _positions(axis: Axes, setting: dict[str, Any], trials: list[dict[str, Any]]) -> dict[int, float]:
    """Where the trials lie across a plot, by number; dresses the axis to suit. Those without settings are left out."""
    names = setting["names"]
    axis.set_xlabel(wrapped(", ".join(names), WIDTH, 9), fontsize=9, parse_math=False)
    known = [trial for trial in trials if trial["settings"] is not None]
    if setting["choices"] is None:
        _range_axis(axis, setting["low"], setting["high"], setting["log"])
        return {trial["number"]: trial["settings"][names[0]] for trial in known}
    choices: list[Any] = setting["choices"]
    axis.set_xlim(-0.6, len(choices) - 0.4)
    step = math.ceil(len(choices) / MOST_NAMES)
    ticks = range(0, len(choices), step)
    room = 0.8 * WIDTH * step / len(choices)
    labels = [wrapped(", ".join(map(shown, choices[tick])), room, 8) for tick in ticks]
    axis.set_xticks(ticks, labels, fontsize=8, parse_math=False)
    return {
        trial["number"]: choices.index([trial["settings"][name] for name in names]) + _aside(trial["number"])
        for trial in known
    }


def _aside(number: int) -> float:
    """A step to the side that is another one for every trial, and always the same: multiples of the golden ratio."""
    return SPREAD * (2 * (number * 0.618033988749895 % 1) - 1)


def _range_axis(axis: Axes, low: float, high: float, log: bool) -> None:
    """A whole range, whatever was tried of it."""
    if not log:
        room = 0.05 * (high - low)
        axis.set_xlim(low - room, high + room)
        return
    room = (high / low) ** 0.05
    axis.set_xscale("log")
    axis.set_xlim(low / room, high * room)
    wide = high > WIDE * low
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _scatter(
    axis: Axes,
    across: dict[int, float],
    trials: list[tuple[dict[str, Any], str]],
    heights: list[float],
    best: int | None,
) -> None:
    for how, (colour, marker, fill) in LOOKS.items():
        points = [
            (across[trial["number"]], height)
            for (trial, one), height in zip(trials, heights, strict=True)
            if one == how and trial["number"] in across
        ]
        x, y = np.array(points).reshape(-1, 2).T
        axis.plot(x, y, linestyle="none", marker=marker, color=colour, fillstyle=fill, markersize=5, alpha=0.8)
        for (trial, _), height in zip(trials, heights, strict=True):
            if trial["number"] == best and how == "complete" and best in across:
                axis.plot(across[best], height, marker="o", color=GREEN, fillstyle="none", markersize=11)


def _legend(figure: Figure, fates: list[str], results: dict[str, Any]) -> None:
    """One for the whole figure, of what is in it."""
    entries = [
        Line2D([], [], linestyle="none", color=colour, marker=marker, fillstyle=fill, label=NAMES[how])  # type: ignore[arg-type]
        for how, (colour, marker, fill) in LOOKS.items()
        if how in fates
    ]
    if results["best"] is not None:
        median = next(one["median"] for one in results["trials"] if one["number"] == results["best"])
        label = f"best: {short_number(median)}"
        entries.append(
            Line2D([], [], linestyle="none", color=GREEN, marker="o", fillstyle="none", markersize=9, label=label)
        )
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), 3), fontsize=8)
