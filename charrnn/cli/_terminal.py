"""What a person sees on stderr: bars and plain lines while something goes on, warnings, errors; numbers in words."""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any

import click

from charrnn.cli._interrupts import Interrupts
from charrnn.errors import CharRNNError, ConfigError, Interrupted
from charrnn.training.clock import clock as training_clock

PLAIN_LINE_SECONDS = 10.0
STUDY_BAR = "{percentage:3.0f}%|{bar:24}| {desc}, {remaining} left"
BAR = "{percentage:3.0f}%|{bar:12}| {desc}"


class TerminalReporter:
    """Shows what the loop tells. A context manager: the bar is closed at the end. ``plain``: no bar in any case."""

    def __init__(self, baselines: dict[str, float], best_val_loss: float | None, plain: bool = False) -> None:
        self.baselines = baselines
        self.best = best_val_loss
        self._on_terminal = sys.stderr.isatty() and not plain
        self._time_left = TimeLeft()
        self._train_loss: float | None = None
        self._last_line = -math.inf

    def __enter__(self) -> TerminalReporter:
        from tqdm import tqdm

        self._bar = tqdm(total=1.0, bar_format=BAR, disable=not self._on_terminal, dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def logged(self, row: dict[str, Any], progress: float) -> None:
        """Refresh the bar; without a terminal a plain line now and then."""
        line = self._line(row, progress)
        if self._on_terminal:
            self._bar.n = progress
            self._bar.set_description_str(line)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            click.echo(f"{progress:4.0%}  {line}", err=True)

    def evaluated(self, row: dict[str, Any]) -> None:
        """One line of losses beside what the text's n-grams would give, and a short sample."""
        loss = row["val_loss"]
        if self.best is None or loss < self.best:
            self.best = loss
        self._write(evaluation_line(row, self._train_loss, self.best, self.baselines))
        if sample := row.get("sample"):
            self._write(indented(sample))

    def warned(self, text: str) -> None:
        """A warning, above the bar."""
        self._bar.clear()
        warn(text)
        self._bar.refresh()

    def _write(self, text: str) -> None:
        self._bar.clear()
        say(text)
        self._bar.refresh()

    def _line(self, row: dict[str, Any], progress: float) -> str:
        self._train_loss = row["train_loss"]
        self._time_left.advanced(progress)
        left = self._time_left.seconds
        # The time left comes first: a narrow terminal cuts the end.
        return f"{'' if left is None else f'{format_seconds(left)} left  '}{log_line(row, self.best)}"


class TimeLeft:
    """How long it will take still, from the share done since this session began: a resumed run starts in the middle.

    ``seconds`` is None while nobody can know. While the process was stopped (Ctrl-Z) nothing was done in no time.
    """

    def __init__(self, clock: Callable[[], float] = training_clock.now) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None  # progress and time
        self.seconds: float | None = None

    def advanced(self, progress: float) -> None:
        """The share done by now, 0 to 1."""
        if self._first is None:
            self._first = (progress, self._clock())
        done = progress - self._first[0]
        if done > 0:
            self.seconds = (self._clock() - self._first[1]) * (1 - progress) / done


class StudyBar:
    """How far a study is, on stderr; ends it when somebody has asked for that. A context manager."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._last_line = -math.inf

    def __enter__(self) -> StudyBar:
        from tqdm import tqdm

        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=1.0, bar_format=STUDY_BAR, disable=hidden, dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advanced(self, stage: str, share: float) -> None:
        """Show the share that is done, 0 to 1.

        Raises:
            Interrupted: there was a signal.
        """
        if self._interrupts.received is not None:
            raise Interrupted("interrupted; nothing was changed and nothing written", self._interrupts.received)
        self._bar.set_description_str(stage, refresh=False)
        self._bar.update(max(share - self._bar.n, 0.0))
        if self._bar.disable and time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            click.echo(f"{share:4.0%}  {stage}", err=True)


def no_live_view() -> str | None:
    """Why stderr cannot show one that fills a terminal; None if it can."""
    if not sys.stderr.isatty():
        return "stderr is not a terminal"
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return "this terminal cannot move its cursor (TERM)"
    if "utf" not in (sys.stderr.encoding or "").lower():
        return f"this terminal takes {sys.stderr.encoding} and not UTF-8, which the curves are drawn with"
    return None


def log_line(row: dict[str, Any], best: float | None) -> str:
    """What matters most in a line of metrics, beside the best validation loss so far."""
    known = "" if best is None else f"  best val {format_loss(best, 3)}"
    return (
        f"step {row['step']:,}  train {format_loss(row['train_loss'], 3)}{known}"
        f"  |g| {format_loss(row['grad_norm'], 2)}  lr {row['lr']:.1e}  {row['chars_per_sec'] / 1000:.1f}k char/s"
    )


def evaluation_line(
    row: dict[str, Any], train_loss: float | None, best: float | None, baselines: dict[str, float]
) -> str:
    """The losses of an evaluation beside what the text's n-grams would give."""
    cold = f", cold {format_loss(row['val_loss_cold'])}" if "val_loss_cold" in row else ""
    train = "" if train_loss is None else f"train {format_loss(train_loss)}  "
    lowest = "" if best is None else f"  best {format_loss(best)}"
    known = "  ".join(f"{name} {baselines[name]:.2f}" for name in ("unigram", "bigram"))
    return f"step {row['step']:,}  {train}val {format_nats(row['val_loss'])}{cold}{lowest}  ({known})"


def indented(sample: str) -> str:
    """A sample set off from what charrnn itself says."""
    return "\n".join(f"    | {line}" for line in sample.strip("\n").split("\n"))


def format_loss(nats: float, decimals: int = 4) -> str:
    """So many decimals, or what is left of a number smaller than these show, or larger than anybody reads."""
    return f"{nats:.{decimals}f}" if 0.01 <= nats < 1e4 else f"{nats:.1e}"


def format_nats(nats: float) -> str:
    """A loss in both units."""
    return f"{format_loss(nats)} nats/char ({format_loss(nats / math.log(2))} bpc)"


def format_seconds(seconds: float) -> str:
    """``0:42``, ``12:03``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_bytes(count: float) -> str:
    """A size for people: ``1.1 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def warn(text: str) -> None:
    """A warning in plain sight."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {printable(text)}", err=True)


def show_error(error: CharRNNError) -> int:
    """What went wrong, a line each, and the exit code for it."""
    if debugging():
        traceback.print_exception(error)
    # An interruption that was saved is what the user asked for, not an error.
    mark = "charrnn:" if isinstance(error, Interrupted) else click.style("error:", fg="red", bold=True)
    lines = error.problems if isinstance(error, ConfigError) else [str(error)]
    for line in lines:
        click.echo(f"{mark} {printable(line)}", err=True, color=False if os.environ.get("NO_COLOR") else None)
    return error.exit_code


def debugging() -> bool:
    """Whether tracebacks were asked for."""
    return "--debug" in sys.argv[1:]


def say(text: str) -> None:
    """A message; results go to stdout, this does not."""
    click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """Text with whatever steers a terminal, or the direction of writing, as escapes: a file's name or content must
    not. Spaces of other widths and what joins the parts of a character are none of that."""
    return "".join(c if c.isprintable() or c in "\n\t" or _is_harmless(c) else repr(c)[1:-1] for c in text)


def _is_harmless(character: str) -> bool:
    """Of what Python does not call printable."""
    kind = unicodedata.category(character)
    return kind == "Zs" or (kind == "Cf" and unicodedata.bidirectional(character) in ("BN", "L", "R", "AL"))
