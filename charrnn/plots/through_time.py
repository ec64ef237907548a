"""The gradient through time: how far back a model really learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from charrnn.plots.figures import GREY, RED, line_style, named_legend, new_figure, wrapped

TITLE = 11.0  # points
LOWEST = 1e-6  # of the gradient at the loss: below it nothing is learned, and the axis would be all noise


def draw_through_time(hidden: list[float], cell: list[float] | None, seq_len: int, unit: str, title: str) -> Figure:
    """Norms of d loss_t / d h_{t-k}, and of the cell state where there is one, against k, relative to k = 0; k counts
    ``unit``: characters or bytes, in the singular.

    A line at 1 %, and one where the windows of training end.
    """
    states = {"hidden state h": hidden} | ({} if cell is None else {"cell state c": cell})
    return draw_gradients(states, [seq_len], unit, title)


def draw_gradients(curves: dict[str, list[float]], seq_lens: Sequence[int], unit: str, title: str) -> Figure:
    """The same, of several runs: norms against k by the label that they get."""
    figure, (axis,) = new_figure(1, 4.0)
    for number, (label, norms) in enumerate(curves.items()):
        with np.errstate(invalid="ignore"):
            shares = np.array(norms) / max(norms[0], 1e-30)
        drawn = np.isfinite(shares) & (shares > LOWEST)
        axis.plot(np.where(drawn, shares, np.nan), **line_style(number), label=label)
    axis.axhline(0.01, color=GREY, linestyle=":", label="1 %")
    longest = max(map(len, curves.values()))
    for seq_len in sorted(set(seq_lens)):
        if seq_len < longest:
            axis.axvline(seq_len, color=RED, linestyle="--", label=f"seq_len {seq_len}: windows end here")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator())
    axis.set_xlim(0, max(longest - 1, 1))
    axis.set_xlabel(f"{unit}s back, k")
    axis.set_ylabel(f"gradient of the loss with respect to the\nstate k {unit}s back, relative to k = 0")
    axis.set_title(wrapped(title, float(figure.get_figwidth()), TITLE), fontsize=TITLE, parse_math=False)
    lines = axis.get_lines()
    named_legend(axis, lines, [str(line.get_label()) for line in lines], fontsize="small", loc="best")
    return figure
