"""What all figures share: their look, log axes of rates, and how they are saved.

Figures are made without pyplot: no window, no backend, no state between them.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    AutoLocator,
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)
from matplotlib.typing import ColorType

from charrnn.runs.output import refuse_name, refuse_output, write_output

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which readers who see few colours can tell apart (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)
STYLES = ("-", "--", ":")  # one for each time round the colours
LEGEND_WIDTH = 120  # characters of its small print, over the whole figure
LOG_FROM = 5  # largest loss over smallest, above which the axis is logarithmic
ZERO = 1e-6  # where 0 stands on a logarithmic axis, unless there is something below
# Both come with matplotlib, so a user's text looks the same everywhere, and what they cannot show is known.
SANS, MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"


def new_figure(panels: int, panel_height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure with ``panels`` plots above each other that share their x axis."""
    figure = Figure(figsize=(8.5, 0.9 + panel_height * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        dress(axis)
    return figure, list(axes)


def dress(axis: Axes) -> None:
    """A faint grid, and no frame where there is no scale."""
    axis.grid(True, which="major", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def line_style(number: int) -> dict[str, Any]:
    """Colour and line style of the run of this number."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}


def legend_above(figure: Figure, names: Sequence[str], size: float | str) -> None:
    """A legend above all plots: runs by the line styles of their numbers."""
    handles = [Line2D([], [], linewidth=2, **line_style(number)) for number in range(len(names))]
    columns = max(1, min(3, LEGEND_WIDTH // (max(map(len, names)) + 6)))
    named_legend(figure, handles, names, loc="outside upper center", ncols=columns, fontsize=size)


def named_legend(place: Figure | Axes, handles: Sequence[Artist], names: Sequence[str], **look: Any) -> None:
    """A legend with names as they are: none is left out for a leading ``_``, and no ``$`` begins a formula."""
    for text in place.legend(handles, names, **look).get_texts():
        text.set_parse_math(False)


def drawable(text: str, font: str = SANS) -> str:
    """A text on one line that a font can show: line ends as an arrow, what it lacks as an empty box."""
    return "".join("↵" if c == "\n" else c if _has(font, c) else "□" for c in text)


@cache
def _has(font: str, character: str) -> bool:
    return character.isprintable() and get_font(findfont(font)).get_char_index(ord(character)) != 0


def wrapped(text: str, inches: float, size: float) -> str:
    """A text in lines that fit into a width in a font of ``size`` points; after three lines it ends in an ellipsis.

    A letter is taken as 0.6 of the size wide, which is a little more than the average.
    """
    width = max(int(inches * 72 / (0.6 * size)), 4)
    # A setting that is too long breaks before its value, not within it.
    words = (word if len(word) <= width else word.replace("=", "= ", 1) for word in drawable(text).split(" "))
    return textwrap.fill(" ".join(words), width, max_lines=3, placeholder="…")


def luminance(colour: ColorType) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2); over 0.18 black on it has more contrast than white."""
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in to_rgb(colour)]
    return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def count_steps(axis: Axes) -> None:
    """Whole numbers along the bottom, with their thousands told apart."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def loss_axis(axis: Axes, losses: Sequence[float], log: bool = False) -> None:
    """Logarithmic where losses span much, or with ``log``; then with 0 at the lower edge. Plain numbers either way."""
    drawn = [loss for loss in losses if math.isfinite(loss) and loss > 0]
    if drawn and 0 in losses:
        zero = min(ZERO, *drawn)
        drawn.append(zero)
        for line in axis.get_lines():
            line.set_ydata(np.maximum(line.get_ydata(), zero))
        axis.relim()
    if drawn and (log or max(drawn) > LOG_FROM * min(drawn)):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(_ticks(max(drawn) / min(drawn)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())


def _ticks(span: float) -> Locator:
    """Of a logarithmic axis that ends at ``span`` times its beginning: a short one has too few powers of ten."""
    if span <= LOG_FROM:
        return AutoLocator()
    return LogLocator(subs=(1.0, 2.0, 5.0) if span < 100 else (1.0,))


def rate_axes(axes: list[Axes], low: float, high: float) -> None:
    """A common log axis of learning rates: rates below the last plot, powers of ten above the first."""
    bottom, top = axes[-1], axes[0]
    bottom.set_xscale("log")
    bottom.set_xlim(low / 1.3, high * 1.3)
    bottom.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{float(f'{rate:.1g}'):g}"))
    bottom.xaxis.set_minor_formatter(NullFormatter())
    bottom.set_xlabel("learning rate")
    powers = top.secondary_xaxis("top")
    powers.xaxis.set_major_locator(LogLocator())
    powers.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"$10^{{{math.log10(rate):.0f}}}$"))
    powers.xaxis.set_minor_formatter(NullFormatter())


def refuse_picture(path: Path) -> None:
    """Find out before the work whether a picture can be written under this name.

    Raises:
        UsageError: no such format, or no such folder.
    """
    refuse_output(path, "a picture", FORMATS)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name ends in.

    Raises:
        UsageError: no such format, or the file cannot be written.
    """
    refuse_name(path, "a picture", FORMATS)
    kind = path.suffix.lower()
    content = io.BytesIO()
    figure.savefig(content, format=kind[1:], dpi=130, metadata={"Date": None} if kind == ".svg" else None)
    write_output(path, content.getvalue())
