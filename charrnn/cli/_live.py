"""``train --live``: a picture of the training that fills the terminal, on its second screen.

The second (alternate) screen, because it can be resized without leaving debris and gives back what was there before;
warnings and the last evaluation are said again in plain text once it is left. It is drawn when a line of metrics comes,
four times a second at most and for about 1 % of the time.
"""

from __future__ import annotations

import io
import math
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from charrnn.cli._chart import LINE, MARK, POINT, Chart, Curve
from charrnn.cli._terminal import (
    TimeLeft,
    evaluation_line,
    format_loss,
    format_seconds,
    indented,
    log_line,
    printable,
    say,
    warn,
)
from charrnn.config.wording import symbol
from charrnn.training.clock import clock as training_clock

if TYPE_CHECKING:
    from charrnn.training.session import Session

LEAST_SECONDS = 0.25  # between two pictures
LARGEST_SHARE = 0.01  # of the time that drawing them may take
KEPT_WARNINGS = 100
HEADER_LINES = 3
BORDER = 2  # lines of a panel's frame
SIDE_BY_SIDE = 76  # columns: from here on the gradient stands beside the loss
ONE_ABOVE_THE_OTHER = 22  # lines below the header for both in a narrow terminal
WITH_A_SAMPLE = 10  # lines below the header
LONGEST_SAMPLE = 12
WARNING_LINES = 4


class LiveReporter:
    """Shows what the loop tells. A context manager: the terminal is as before when it ends, however it ends.

    Args:
        session: about to begin or to go on; what its log holds already is shown.
        console: where to draw; None for stderr.
        clock: seconds, from anywhere.
    """

    def __init__(
        self, session: Session, console: Console | None = None, clock: Callable[[], float] = training_clock.now
    ) -> None:
        self._session, self._clock = session, clock
        self._console = console or Console(file=sys.stderr, highlight=False, emoji=False, markup=False)
        self._loss, self._validation, self._gradient = Curve(), Curve(), Curve()
        self._log: dict[str, Any] = {}
        self._evaluation: dict[str, Any] = {}
        self._sample, self._sample_step = "", 0
        self._progress = session.progress
        self._time_left = TimeLeft(clock)
        self._warnings: deque[str] = deque(maxlen=KEPT_WARNINGS)
        self._next_picture = -math.inf
        self._drawing = self._to_be_stopped = False
        self._unit = symbol([session.config.corpus.vocabulary])
        self._baselines = {name: session.baselines[name] for name in ("unigram", "bigram")}
        for row in session.rows:
            self._take_in(row)

    def __enter__(self) -> LiveReporter:
        with ExitStack() as stack:
            # What anything else says on stderr waits: it would tear the picture and go with the second screen.
            meanwhile = io.StringIO()
            stack.callback(self._conclude, meanwhile)
            self._live = Live(
                console=self._console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            stack.enter_context(self._live)
            stack.enter_context(redirect_stderr(meanwhile))
            before = signal.signal(signal.SIGWINCH, lambda *_: self._draw())
            stack.callback(signal.signal, signal.SIGWINCH, before)
            pause = signal.getsignal(signal.SIGTSTP)
            if callable(pause):
                self._pause = partial(pause, signal.SIGTSTP, None)
                stack.callback(signal.signal, signal.SIGTSTP, signal.signal(signal.SIGTSTP, lambda *_: self._stop()))
            self._draw()
            self._leaving = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.close()

    def logged(self, row: dict[str, Any], progress: float) -> None:
        """Take in a line of metrics; draw if it is time to."""
        self._take_in(row)
        self._progress = progress
        self._time_left.advanced(progress)
        if self._clock() >= self._next_picture:
            self._draw()

    def evaluated(self, row: dict[str, Any]) -> None:
        """Take in an evaluation and draw."""
        self._take_in(row)
        self._draw()

    def warned(self, text: str) -> None:
        """Show a warning; it is said again at the end."""
        self._warnings.append(text)
        self._draw()

    def _take_in(self, row: dict[str, Any]) -> None:
        step = row["step"]
        if row.get("train_loss") is not None:
            self._log = row
            self._loss.add(step, row["train_loss"])
            self._gradient.add(step, row.get("grad_norm"))
        if row.get("val_loss") is not None:
            self._evaluation = row
            self._validation.add(step, row["val_loss"])
        if isinstance(row.get("sample"), str):
            self._sample, self._sample_step = row["sample"], step

    def _draw(self) -> None:
        if self._drawing:  # a resize in the middle of it: the next picture will be right
            return
        self._drawing = True
        try:
            begun = self._clock()
            self._live.update(self.picture(), refresh=True)
            ended = self._clock()
            self._next_picture = ended + max(LEAST_SECONDS, (ended - begun) / LARGEST_SHARE)
        finally:
            self._drawing = False
        if self._to_be_stopped:
            self._stop()

    def _stop(self) -> None:
        """Ctrl-Z: until the training goes on, the shell has its own screen and its cursor."""
        self._to_be_stopped = self._drawing  # in the middle of a picture: after it
        if self._drawing:
            return
        self._console.set_alt_screen(False)
        self._console.show_cursor(True)
        self._pause()
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self._draw()

    def _conclude(self, meanwhile: io.StringIO) -> None:
        """On the first screen again: what is worth keeping."""
        for text in self._warnings:
            warn(text)
        if meanwhile.getvalue().strip():
            say(meanwhile.getvalue().rstrip("\n"))
        best = self._session.score.best_val_loss
        if not self._evaluation and self._log:
            say(log_line(self._log, best))
        if self._evaluation:
            say(evaluation_line(self._evaluation, self._log.get("train_loss"), best, self._baselines))
        if self._sample:
            say(indented(self._sample))

    def picture(self) -> RenderableType:
        """Everything there is room for on the console as large as it is now."""
        width, height = self._console.size
        whole = Layout()
        header_height = HEADER_LINES + BORDER
        parts = [Layout(self._framed(self._header(width - 4), self._title()), size=header_height)]
        rest = height - header_height
        if self._warnings and rest >= WITH_A_SAMPLE:
            lines = self._last_warnings(max(width - 4, 1))
            panel = self._framed(Text("\n").join(lines), Text("warnings", style=POINT))
            parts.append(Layout(panel, size=len(lines) + BORDER))
            rest -= len(lines) + BORDER
        writes = self._sample or self._session.config.run.sample_length
        sample_height = min(rest // 3, LONGEST_SAMPLE) if writes and rest >= WITH_A_SAMPLE else 0
        if rest - sample_height > BORDER:
            parts.insert(1, self._curves(width, rest - sample_height))
        if sample_height > BORDER:
            parts.insert(2, Layout(self._sample_panel(), size=sample_height))
        whole.split_column(*parts)
        return whole

    def _last_warnings(self, width: int) -> list[Text]:
        """Lines of the newest one, and of those before it as far as they fit whole."""
        shown: list[Text] = []
        for warning in reversed(self._warnings):
            lines = list(Text(printable(warning)).wrap(self._console, width))
            if shown and len(lines) + len(shown) > WARNING_LINES:
                break
            shown = [*lines, *shown]
        return shown[:WARNING_LINES]

    def _curves(self, width: int, height: int) -> Layout:
        marks = self._baselines
        loss = Layout(self._framed(Chart(self._loss, self._validation, marks), self._legend()), ratio=3)
        clip = self._session.config.training.grad_clip
        gradient = Chart(self._gradient, marks={} if clip is None else {"clip": clip}, log=True)
        panel = Layout(self._framed(gradient, Text("gradient norm")), ratio=2)
        both = Layout(size=height)
        if width >= SIDE_BY_SIDE:
            both.split_row(loss, panel)
        elif height >= ONE_ABOVE_THE_OTHER - LONGEST_SAMPLE // 2:
            both.split_column(loss, panel)
        else:
            both.split_column(loss)
        return both

    def _legend(self) -> Text:
        return Text.assemble(f"loss, nats/{self._unit}  ", ("⠒⠒", LINE), " train  ", ("●", POINT), " val")

    def _framed(self, inside: RenderableType, title: Text) -> Panel:
        title.stylize(Style(dim=False))  # unlike the frame
        return Panel(inside, title=title, title_align="left", border_style=MARK, padding=(0, 1))

    def _title(self) -> Text:
        folder = self._session.folder
        return Text(printable(str(folder.path)) if folder else "", style="bold")

    def _header(self, width: int) -> RenderableType:
        log, score = self._log, self._session.score
        left = self._time_left.seconds
        step = f"step {log.get('step', self._session.trainer.steps):,}"
        after = f" {self._progress:4.0%}  {step}{'' if left is None else f'  {format_seconds(left)} left'}"
        room = max(width - len(after), 0)
        done = round(min(self._progress, 1.0) * room)
        bar = Text.assemble(("█" * done, LINE), ("░" * (room - done), MARK), after)
        best = score.best_val_loss
        told = "" if best is None else f"best val {format_loss(best)} at step {score.best_step:,}"
        train, *others = self._numbers(log) or [""]
        lines = [self._model(), bar, Text("   ".join(filter(None, (train, told, *others))))]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _numbers(self, log: dict[str, Any]) -> list[str]:
        if not log:
            return []
        return [
            f"train {format_loss(log['train_loss'])}",
            f"lr {log['lr']:.1e}",
            f"{log['chars_per_sec'] / 1000:.1f}k {self._unit[:4]}/s",
        ]

    def _model(self) -> Text:
        model, trainer = self._session.config.model, self._session.trainer
        return Text(
            f"{model.shape}, {trainer.model.num_parameters:,} parameters, "
            f"{trainer.device}, {trainer.precision.kind}, on {printable(self._session.text.name)}"
        )

    def _sample_panel(self) -> Panel:
        if not self._sample:
            return self._framed(Text("comes with the next evaluation", style=MARK), Text("sample"))
        return self._framed(
            Text(printable(self._sample), overflow="fold"), Text(f"sample at step {self._sample_step:,}")
        )
