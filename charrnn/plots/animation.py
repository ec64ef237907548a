"""The facet grid of ``charrnn swarm`` over training, as an animated GIF or an MP4."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from charrnn.errors import UsageError
from charrnn.plots.figures import BLUE, MONOSPACE, drawable
from charrnn.plots.gif import Pixels, gif
from charrnn.plots.hive import Curve, symbol_of
from charrnn.plots.swarm import Facet, draw_facets
from charrnn.runs.output import refuse_name, write_output

FORMATS = (".gif", ".mp4")
DPI = 90
STRIP = 1.2  # lines, free under each facet for what its median bee writes
PER_SECOND = 10
HELD = (8, 25)  # frames' time that the first and the last are shown for


def animate_swarm(hive: dict[str, Any], path: Path, frames: int = 40) -> None:
    """Write the facet grid over training: every bee as far as it has come, and what the median bee would now write.

    The frames are spaced evenly in the square root of the steps (of the characters where swarms read different numbers
    per step), so that early training, where most happens, gets more of them.

    Raises:
        UsageError: no such format, fewer than two frames, no ffmpeg for an MP4, or the file cannot be written.
    """
    kind = path.suffix.lower()
    refuse_name(path, "an animation", FORMATS)
    if frames < 2:
        raise UsageError(f"{path}: an animation of {frames} frames; at least 2 are needed")
    ffmpeg = shutil.which("ffmpeg")
    if kind == ".mp4" and ffmpeg is None:
        raise UsageError(f"{path}: an .mp4 is written by ffmpeg, which is not installed; install it, or choose .gif")
    film = _Film(hive, frames)
    write_output(path, _gif(film) if kind == ".gif" else _mp4(film, str(ffmpeg), path))


@dataclass
class _Stage:
    """A facet with what only the animation has: a dot at each bee's head, and what the median bee writes."""

    facet: Facet
    scale: str
    heads: Line2D
    writing: Annotation | None

    def show(self, x: float, done: bool) -> None:
        self.facet.show(x)
        going = [line for line in self.facet.lines if line.stop is None or line.stop[0] > x]
        heads = [(one[-1], two[-1]) for one, two in (line.until(x) for line in going) if len(one)]
        self.heads.set_data(np.array(heads).reshape(-1, 2).T)
        if self.writing is not None:
            self.writing.set_text(self._written(x))
        for note in self.facet.notes:
            note.set_visible(done)  # how it ended is told at the end

    def draw(self) -> None:
        for artist in self.moving():
            self.facet.axis.draw_artist(artist)

    def moving(self) -> list[Artist]:
        writing = [] if self.writing is None else [self.writing]
        return [*self.facet.moving(), self.heads, *writing, *self.facet.notes]

    def _written(self, x: float) -> str:
        """What the bee nearest to the median wrote last, as much as fits under the facet."""
        bees = self.facet.place.swarm["bees"]
        number = median_bee(self.facet.curves, x)
        if number is None:
            return ""
        curve = bees[number]["curve"]
        written = ""
        for step, sample in bees[number]["samples"]:
            if np.interp(step, [0, *curve["step"]], [0, *curve[self.scale]]) <= x:
                written = sample
        assert self.writing is not None
        letter = math.ceil(0.602 * float(self.writing.get_fontsize()) * DPI / 72)  # as DejaVu Sans Mono is drawn
        return drawable(written, MONOSPACE)[: int(self.facet.axis.bbox.width / letter)]


def median_bee(curves: list[Curve], x: float) -> int | None:
    """The number of the bee whose loss at ``x`` is nearest to the median there; None where no loss is finite."""
    losses = np.array([float(curve.at(np.array([x]))[0]) for curve in curves])
    begun = losses[~np.isnan(losses)]
    if not np.isfinite(begun).any():
        return None
    median = np.median(begun)
    if not np.isfinite(median):
        return None
    return int(np.nanargmin(np.abs(losses - median)))


class _Film:
    """The frames of a hive, drawn one at a time: what does not move only once, and what moves over it."""

    def __init__(self, hive: dict[str, Any], frames: int) -> None:
        samples = any(bee["samples"] for swarm in hive["swarms"] for bee in swarm["bees"])
        self._drawn = draw_facets(hive, 1, STRIP * samples)
        self._canvas = cast(Any, FigureCanvasAgg(self._drawn.figure))  # matplotlib has no types for it
        self._drawn.figure.set_dpi(DPI)
        self._symbol = symbol_of(hive)
        size = self._drawn.size
        self._stages = [_stage(facet, self._drawn.scale, size, samples) for facet in self._drawn.facets]
        self._title = self._drawn.figure.suptitle(self._drawn.title, fontsize=size + 3, parse_math=False)
        for artist in (self._title, *(artist for stage in self._stages for artist in stage.moving())):
            artist.set_animated(True)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._drawn.figure.bbox)
        self.positions = _positions(self._drawn.first, self._drawn.last, frames)

    def picture(self, x: float) -> Pixels:
        """Training up to ``x`` steps or characters."""
        self._canvas.restore_region(self._background)
        self._title.set_text(f"{self._drawn.title}\n{self._how_far(x)}")
        for stage in self._stages:
            stage.show(x, x == self._drawn.last)
            stage.draw()
        self._drawn.figure.draw_artist(self._title)
        return np.array(self._canvas.buffer_rgba())[:, :, :3]

    def _how_far(self, x: float) -> str:
        """As wide in every frame, or the title would tremble."""
        whole = f"{self._drawn.last:,.0f}"
        done = f"{x:,.0f}".rjust(len(whole), "\N{FIGURE SPACE}")
        return f"step {done} of {whole}" if self._drawn.scale == "step" else f"{done} of {whole} {self._symbol}s read"


def _positions(first: float, last: float, frames: int) -> list[float]:
    """Evenly spaced in the square root; the last one is exact."""
    roots = np.linspace(math.sqrt(first), math.sqrt(last), frames)
    return [*(roots[:-1] ** 2).tolist(), last]


def _stage(facet: Facet, scale: str, size: float, samples: bool) -> _Stage:
    (heads,) = facet.axis.plot([], [], "o", color=BLUE, markersize=3, zorder=4, clip_on=False, in_layout=False)
    writing = None
    if samples:
        writing = facet.axis.annotate(
            "|", (0, 0), (0, -4), xycoords="axes fraction", textcoords="offset points", va="top",
            fontsize=size, family=MONOSPACE, parse_math=False,
        )  # fmt: skip
    return _Stage(facet, scale, heads, writing)


def _gif(film: _Film) -> bytes:
    places = film.positions
    shown = [1000 // PER_SECOND] * len(places)
    shown[0], shown[-1] = (held * 1000 // PER_SECOND for held in HELD)
    return gif(lambda number: film.picture(places[number]), shown)


def _mp4(film: _Film, ffmpeg: str, path: Path) -> bytes:
    """H.264 in the pixel format that every player knows, which needs even numbers of pixels."""
    height, width = (length // 2 * 2 for length in film.picture(film.positions[0]).shape[:2])
    times = [HELD[0], *[1] * (len(film.positions) - 2), HELD[1]]
    with tempfile.TemporaryDirectory() as folder:
        target, errors = Path(folder, "swarm.mp4"), Path(folder, "errors")
        command = [ffmpeg, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        command += ["-r", str(PER_SECOND), "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(target)]
        with errors.open("wb") as told, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=told) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:  # ffmpeg says itself why it ended
                for x, count in zip(film.positions, times, strict=True):
                    process.stdin.write(film.picture(x)[:height, :width].tobytes() * count)
        if process.returncode != 0:
            why = (errors.read_text(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise UsageError(f"{path}: ffmpeg could not write it: {why}; choose .gif")
        return target.read_bytes()
