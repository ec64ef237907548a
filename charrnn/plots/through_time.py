"""The gradient through time: how far back a model really learns."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from charrnn.plots.figures import BLUE, GREY, ORANGE, RED, new_figure

LOWEST = 1e-6  # of the gradient at the loss: below it nothing is learned, and the axis would be all noise


def draw_through_time(hidden: list[float], cell: list[float] | None, seq_len: int, title: str) -> Figure:
    """Norms of d loss_t / d h_{t-k}, and of the cell state where there is one, against k, relative to k = 0.

    A line at 1 %, and one where the windows of training end.
    """
    figure, (axis,) = new_figure(1, 4.0)
    for norms, name, colour in ((hidden, "hidden state h", BLUE), (cell, "cell state c", ORANGE)):
        if norms is not None:
            shares = np.array(norms) / max(norms[0], 1e-30)
            drawn = np.isfinite(shares) & (shares > LOWEST)
            axis.plot(np.where(drawn, shares, np.nan), color=colour, label=name)
    axis.axhline(0.01, color=GREY, linestyle=":", label="1 %")
    if seq_len < len(hidden):
        axis.axvline(seq_len, color=RED, linestyle="--", label=f"seq_len {seq_len}: windows end here")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator())
    axis.set_xlim(0, max(len(hidden) - 1, 1))
    axis.set_xlabel("characters back, k")
    axis.set_ylabel("gradient of the loss with respect to the\nstate k characters back, relative to k = 0")
    axis.set_title(title)
    axis.legend(fontsize="small", loc="best")
    return figure
