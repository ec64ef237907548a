"""The text that a network writes getting better as it trains: an animated GIF of a run's samples."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from charrnn.config.wording import symbol
from charrnn.errors import CheckpointError
from charrnn.plots.figures import BLUE, GREY, MONOSPACE, ORANGE, ZERO, drawable, dress, loss_axis
from charrnn.plots.gif import Pixels, gif
from charrnn.plots.hive import short_number
from charrnn.runs.metrics import Row
from charrnn.runs.output import refuse_name, refuse_output, write_output
from charrnn.runs.run import Run

FORMATS = (".gif",)
SIZE = (10.0, 4.6)  # inches
DPI = 100
MOST_FRAMES = 60
WHOLE, SHORTEST, LONGEST, LAST = 30_000, 300, 1500, 4000  # milliseconds: all frames about; one of them; the last
WIDTH, LINES = 52, 17  # letters and lines of a sample
LONGEST_NAME = 40  # of a run, in the title
NO_END = "\N{HORIZONTAL ELLIPSIS}"


def refuse_animation(path: Path) -> None:
    """Find out before the work whether an animation can be written under this name.

    Raises:
        UsageError: it is no name of a GIF, or there is no such folder.
    """
    refuse_output(path, "an animation", FORMATS)


def animate_writing(run: Run, path: Path) -> None:
    """Write a GIF with a frame for each evaluation that had a sample: what the network wrote, beside the losses so far.

    Of more than 60 evaluations as many are shown, evenly spaced.

    Raises:
        CheckpointError: fewer than two evaluations of the run have a sample.
        UsageError: the name is not one of a GIF, or the file cannot be written.
    """
    refuse_name(path, "an animation", FORMATS)
    told = [row for row in run.history.evaluations if row.get("sample")]
    if len(told) < 2:
        raise CheckpointError(
            f"{run.path}: {len(told)} of its evaluations have a sample, an animation needs two; wait for more, or "
            "train with a lower run.eval_every and run.sample_length above 0"
        )
    chosen = np.unique(np.linspace(0, len(told) - 1, min(len(told), MOST_FRAMES)).round().astype(int))
    rows = [told[place] for place in chosen]
    one = min(max(WHOLE // len(rows), SHORTEST), LONGEST)
    film = _Film(run, rows)
    write_output(path, gif(film.picture, [one] * (len(rows) - 1) + [LAST]))


class _Film:
    """The frames: one figure, of which a frame changes the curves' ends, the text and the title."""

    def __init__(self, run: Run, rows: list[Row]) -> None:
        self._rows = rows
        self._unit = f"nats/{symbol([run.config.corpus.vocabulary])}"
        self._training = [(row["step"], max(row["train_loss"], ZERO)) for row in run.history.logs]
        self._validation = [(row["step"], max(row["val_loss"], ZERO)) for row in run.history.evaluations]
        self._figure = Figure(figsize=SIZE, dpi=DPI)
        self._canvas = cast(Any, FigureCanvasAgg(self._figure))  # matplotlib has no types for it
        axis = self._figure.add_axes((0.1, 0.13, 0.33, 0.68))
        dress(axis)
        losses = [loss for _, loss in (*self._training, *self._validation)]
        axis.set_xlim(0, rows[-1]["step"] * 1.03)
        axis.set_ylim(min(losses) * 0.97, max(losses) * 1.03)
        loss_axis(axis, losses)
        axis.set_xlabel("step")
        axis.set_ylabel(f"loss, {self._unit}")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        (self._train,) = axis.plot([], [], color=BLUE, linewidth=1.2, label="training")
        (self._val,) = axis.plot([], [], color=ORANGE, linewidth=1.4, marker="o", markersize=4, label="validation")
        axis.legend(loc="upper right", fontsize="small")
        self._title = self._figure.text(0.02, 0.92, "", fontsize=13, weight="bold", parse_math=False)
        self._text = self._figure.text(
            0.48, 0.81, "", fontsize=10.5, family=MONOSPACE, va="top", linespacing=1.45, parse_math=False
        )
        self._figure.text(0.48, 0.84, "what it writes then", fontsize=11, color=GREY)
        name = drawable(run.path.name)
        self._name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + NO_END

    def picture(self, number: int) -> Pixels:
        """The run as it was at an evaluation."""
        row = self._rows[number]
        for line, points in ((self._train, self._training), (self._val, self._validation)):
            line.set_data(np.array([one for one in points if one[0] <= row["step"]], float).reshape(-1, 2).T)
        self._title.set_text(f"{self._name}, step {row['step']:,}: {short_number(row['val_loss'])} {self._unit}")
        self._text.set_text("\n".join(in_lines(row["sample"])))
        self._canvas.draw()
        pixels: Pixels = np.array(self._canvas.buffer_rgba())[:, :, :3]
        return pixels


def in_lines(sample: str) -> list[str]:
    """A sample as lines that fit: long ones are broken, and where there are too many the last is an ellipsis."""
    lines = [
        piece
        for line in sample.strip("\n").split("\n")
        for piece in textwrap.wrap(drawable(line, MONOSPACE), WIDTH, drop_whitespace=False) or [""]
    ]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], NO_END]
