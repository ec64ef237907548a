"""The live view: what is drawn where, in any size; and that the terminal is given back, however training ends."""

from __future__ import annotations

import fcntl
import io
import itertools
import math
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.cells import cell_len
from rich.console import Console

from charrnn.cli import main
from charrnn.cli._chart import BLANK, DASH, DOTS, FULL_POINT, MOST_KEPT, Chart, Curve, round_numbers
from charrnn.cli._live import LEAST_SECONDS, LiveReporter
from charrnn.cli._terminal import TimeLeft
from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.errors import DivergedError
from charrnn.runs.metrics import Row
from charrnn.text.places import Places
from charrnn.training.clock import clock
from charrnn.training.loop import Loop
from charrnn.training.session import Session
from tests.command_line import run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import Silent, begin, never, resumed, stop_at

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 20}
run: {log_every: 5, eval_every: 8, save_every: 10, sample_length: 20}
"""


def curve(*values: float, first: int = 1) -> Curve:
    made = Curve()
    for step, value in enumerate(values, start=first):
        made.add(step, value)
    return made


def lines(chart: Chart, width: int = 40, height: int = 10) -> list[str]:
    return ["".join(text for text, _ in line) for line in chart.lines(width, height)]


def dots(rows: list[str]) -> set[tuple[int, int]]:
    """(x, y) of the braille dots, from the top left of the text."""
    return {
        (2 * column + x, 4 * row + y)
        for row, line in enumerate(rows)
        for column, character in enumerate(line)
        if BLANK < ord(character) < BLANK + 256
        for x, y in itertools.product(range(2), range(4))
        if (ord(character) - BLANK) & DOTS[x][y]
    }


class TestChart:
    def test_dots_are_those_of_unicode(self) -> None:
        """Dots 1 2 3 7 on the left from above, 4 5 6 8 on the right; dot n is bit n - 1."""
        assert tuple(tuple(1 << (n - 1) for n in column) for column in ((1, 2, 3, 7), (4, 5, 6, 8))) == DOTS

    def test_a_falling_line_is_a_diagonal(self) -> None:
        width, height = 33, 10
        rows = lines(Chart(curve(*[1.0 - i / 200 for i in range(201)], first=0)), width, height)
        left = rows[-2].index("└") + 1
        found = {(x - 2 * left, y) for x, y in dots(rows[:-2])}
        columns, last = 2 * (width - left), 4 * (height - 2) - 1
        # The first hundredth of the steps is above the scale: it stays on the upper edge.
        expected = {x: (x / (columns - 1) - 0.01) / 0.99 * last for x in range(columns)}
        assert {x for x, _ in found} == set(range(columns))
        assert all(abs(y - expected[x]) <= 1 for x, y in found)
        assert (0, 0) in found
        assert (columns - 1, last) in found

    def test_numbers_stand_at_their_height(self) -> None:
        rows = lines(Chart(curve(4.0, *[2.0] * 9)), 40, 11)
        assert [rows[row].split("┤")[0] for row in (0, 4, 8)] == ["4", "3", "2"]

    def test_a_peak_among_many_is_seen(self) -> None:
        """A thousand points in fifty columns."""
        values = [1.0] * 1000
        values[700] = 9.0
        chart = lines(Chart(curve(*values)), 50, 10)
        top = [x for x, y in dots(chart[:-2]) if y == 0]
        left = chart[-2].index("└") + 1
        assert top
        assert all(abs((x - 2 * left) / (2 * (50 - left)) - 0.7) < 0.02 for x in top)

    def test_the_beginning_leaves_room_for_the_rest(self) -> None:
        rows = lines(Chart(curve(100.0, *[2.0 + math.sin(i / 20) for i in range(199)])), 40, 10)
        labels = [float(row.split("┤")[0]) for row in rows if "┤" in row]
        assert max(labels) <= 3

    def test_points_and_marks(self) -> None:
        points = Curve()
        points.add(50, 2.0)
        chart = Chart(curve(*[3 - i / 50 for i in range(100)]), points, {"unigram": 2.5, "bigram": 0.5})
        rows = lines(chart, 60, 12)
        assert [row.count(FULL_POINT) for row in rows].count(1) == 1
        [row] = [number for number, text in enumerate(rows) if FULL_POINT in text]
        left = rows[-2].index("└") + 1
        assert abs((rows[row].index(FULL_POINT) - left) / (60 - left) - 0.5) < 0.03
        assert abs(row - 4.5) <= 1  # half way down ten rows
        assert [text.count(" unigram 2.5 ") for text in rows].count(1) == 1
        assert DASH in next(text for text in rows if "unigram" in text)
        assert not any("bigram" in text.replace("unigram", "") for text in rows), "out of range"

    def test_a_log_axis_reaches_to_a_mark_that_is_near(self) -> None:
        for clip, there in ((1.0, True), (4.9, True), (5.1, False), (0.04, False), (0.06, True)):
            rows = lines(Chart(curve(0.5, 0.05, 0.5), marks={"clip": clip}, log=True))
            assert any("clip" in row for row in rows) is there, clip
            assert any("clip" in row for row in lines(Chart(curve(0.5, 0.05, 0.5), marks={"clip": clip}))) is (
                clip < 0.1 and there
            )

    def test_a_label_never_covers_the_curve(self) -> None:
        chart = Chart(curve(*[1.0, 2.0] * 200), marks={"clip": 1.5})
        plain = Chart(chart.curve)
        assert dots(lines(chart)) == dots(lines(plain))

    def test_steps_below(self) -> None:
        rows = lines(Chart(curve(*[1.0, 2.0] * 5000)), 70, 10)
        assert rows[-1].endswith(" 10,000 steps")
        assert re.findall(r"[\d,]+", rows[-1])[:-1] == ["0", "2,000", "4,000", "6,000"]
        left = rows[-2].index("└") + 1
        ticks = [at - left for at, one in enumerate(rows[-2]) if one == "┬"]
        assert ticks == [pytest.approx(share * (70 - left), abs=1) for share in (0, 0.2, 0.4, 0.6)]

    def test_log_axis(self) -> None:
        rows = lines(Chart(curve(1000.0, 1000.0, 10.0, 0.1), log=True), 40, 14)
        labels = {float(row.split("┤")[0]): number for number, row in enumerate(rows) if "┤" in row}
        assert labels.keys() == {1000, 100, 10, 1, 0.1}
        assert [labels[10.0**power] for power in (3, 2, 1, 0, -1)] == [0, 3, 6, 8, 11]

    @pytest.mark.parametrize("values", [[], [2.0], [2.0] * 50, [1e30, 1e-30], [0.0, 1.0], [1e-5, 2e-5], [-1.0, 1.0]])
    @pytest.mark.parametrize("log", [False, True])
    def test_any_size(self, values: list[float], log: bool) -> None:
        chart = Chart(curve(*values), curve(*values), {"a": 1.0, "b": 1e-9}, log)
        for width, height in itertools.product((1, 5, 16, 17, 80, 200), (1, 3, 4, 5, 60)):
            rows = lines(chart, width, height)
            assert len(rows) == height
            assert all(cell_len(row) == width for row in rows)

    def test_round_numbers(self) -> None:
        assert round_numbers(0, 10, 5) == [0, 2, 4, 6, 8, 10]
        assert round_numbers(1.37, 3.3, 4) == [1.5, 2.0, 2.5, 3.0]
        assert round_numbers(0, 20_000, 4) == [0, 5000, 10000, 15000, 20000]


class TestCurve:
    def test_stays_small_and_keeps_the_extremes(self) -> None:
        many = Curve()
        for step in range(1, 50_001):
            many.add(step, 100.0 if step == 31_234 else -5.0 if step == 17 else 1.0)
        assert MOST_KEPT / 2 <= len(many.pieces) <= MOST_KEPT
        [peak] = [piece for piece in many.pieces if piece.high == 100]
        assert abs(peak.step - 31_234) < 200
        assert [piece.low for piece in many.pieces].count(-5.0) == 1
        assert many.pieces[-1].step == 50_000
        gaps = {after.step - before.step for before, after in itertools.pairwise(many.pieces[:-1])}
        assert gaps == {64}, "all of one length"

    def test_going_back_takes_back(self) -> None:
        made = curve(1.0, 2.0, 3.0, 4.0)
        made.add(3, 9.0)
        assert [(piece.step, piece.mean) for piece in made.pieces] == [(1, 1.0), (2, 2.0), (3, 9.0)]

    @pytest.mark.parametrize("value", [None, math.nan, math.inf])
    def test_what_is_no_number_is_left_out(self, value: float | None) -> None:
        made = curve(1.0)
        made.add(2, value)
        assert len(made.pieces) == 1


def test_time_left() -> None:
    moments = iter([100.0, 110.0, 130.0])
    left = TimeLeft(lambda: next(moments))
    left.advanced(0.5)  # a resumed run
    assert left.seconds is None
    left.advanced(0.6)
    assert left.seconds == pytest.approx(40)
    left.advanced(0.9)
    assert left.seconds == pytest.approx(7.5)


class Screen(Console):
    """A console of any size that keeps what was written."""

    def __init__(self, width: int = 100, height: int = 30) -> None:
        self.written = io.StringIO()
        super().__init__(
            file=self.written, width=width, height=height, force_terminal=True, color_system=None, markup=False
        )

    @property
    def output(self) -> str:
        return self.written.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A run that was stopped at step 25, about to go on. Nobody changes it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cat.txt").write_text(TEXT)
    config = make_config(str(folder / "cat.txt"), f"run.out={folder / 'runs'}")
    places = Places(data=(), cache=folder / "cache")
    session = begin(config, places)
    Loop(session, Silent(), stop_at(session, 25)).run()
    return resumed(folder / "runs" / "run", places, config)


def picture(reporter: LiveReporter, width: int, height: int) -> list[str]:
    """The lines of a picture of this size."""
    screen = Screen(width, height)
    reporter._console = screen
    screen.print(reporter.picture(), height=height)
    found = re.sub(r"\x1b\[[0-9;]*m", "", screen.output).split("\n")
    return found[:-1] if found[-1] == "" else found


def log(step: int, **numbers: float) -> Row:
    return {"step": step, "train_loss": 2.0, "grad_norm": 0.5, "lr": 1e-3, "chars_per_sec": 31_000.0, **numbers}


class TestPicture:
    def test_everything_on_a_large_terminal(self, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        reporter._warnings.append("the disk is full")
        found = "\n".join(picture(reporter, 120, 40))
        parts = ["runs/run", "lstm 2 x 8", "parameters", " 62%  step 21", "train ", "best val ", "lr ", "k char/s"]
        parts += [
            "loss, nats/character",
            "gradient norm",
            "clip 1",
            "sample at step 20",
            "warnings",
            "the disk is full",
        ]
        assert [part for part in parts if part not in found] == []
        assert sum(line.count(FULL_POINT) for line in found.split("\n")) == 2  # the legend's and the evaluation's
        assert dots(found.split("\n"))

    def test_the_numbers_are_those_of_the_last_rows(self, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        reporter._take_in(log(28, train_loss=1.2345, lr=4.5e-3, chars_per_sec=67_890.0))
        found = picture(reporter, 100, 30)
        assert "step 28" in found[2]
        assert all(one in found[3] for one in ("train 1.2345", "lr 4.5e-03", "67.9k char/s"))
        best = trained.score.best_val_loss
        assert f"best val {best:.4f} at step 20" in found[3]

    def test_a_resumed_run_shows_its_past(self, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        assert [piece.step for piece in reporter._loss.pieces] == [7, 14, 21]
        assert [piece.step for piece in reporter._gradient.pieces] == [7, 14, 21]
        assert [piece.step for piece in reporter._validation.pieces] == [20]
        assert [(piece.mean) for piece in reporter._loss.pieces] == [
            row["train_loss"] for row in trained.rows if "train_loss" in row
        ]

    def test_a_past_that_was_removed(self, small_config: Config, places: Places) -> None:
        session = begin(small_config, places)
        Loop(session, Silent(), stop_at(session, 25)).run()
        assert session.folder is not None
        session.folder.metrics.unlink()
        found = picture(LiveReporter(resumed(session.folder.path, places, small_config), Screen()), 80, 24)
        assert "\n".join(found).count("nothing yet") == 2

    @pytest.mark.parametrize(
        ("width", "height", "loss", "gradient", "sample"),
        [
            (200, 60, True, True, True),
            (80, 24, True, True, True),
            (60, 40, True, True, True),
            (60, 24, True, False, True),
            (100, 14, True, True, False),
            (40, 7, False, False, False),
        ],
    )
    def test_what_has_no_room_goes(
        self, width: int, height: int, loss: bool, gradient: bool, sample: bool, trained: Session
    ) -> None:
        rows = picture(LiveReporter(trained, Screen()), width, height)
        found = "\n".join(rows)
        assert ("loss, nats" in found, "gradient norm" in found, "sample at" in found) == (loss, gradient, sample)
        assert "step 21" in found

    @pytest.mark.parametrize("warning", [False, True])
    def test_every_size_is_filled_and_never_exceeded(self, warning: bool, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        if warning:
            reporter._warnings.extend(["something " * 50, "else"])
        for width, height in itertools.product((10, 40, 75, 76, 81, 200), (1, 5, 8, 15, 16, 24, 33, 60)):
            rows = picture(reporter, width, height)
            assert len(rows) == height
            assert all(cell_len(row) == width for row in rows), (width, height)

    def test_a_sample_is_shown_as_it_is(self, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        reporter._take_in({"step": 22, "val_loss": 2.0, "sample": "[bold]no[/bold] \x1b[2J\x07 :smile: [/]\n漢字 end"})
        found = "\n".join(picture(reporter, 100, 30))
        assert r"[bold]no[/bold] \x1b[2J\x07 :smile: [/]" in found
        assert "漢字 end" in found
        assert "\x1b" not in found

    def test_names_and_warnings_are_shown_as_they_are(self, trained: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        reporter = LiveReporter(trained, Screen())
        assert trained.folder is not None
        monkeypatch.setattr(trained.folder, "path", Path("[red]a\x1b[2Jb"))
        reporter._warnings.append("[blink]w\x1b[2J")
        found = "\n".join(picture(reporter, 100, 30))
        assert r"[red]a\x1b[2Jb" in found
        assert r"[blink]w\x1b[2J" in found

    def test_the_newest_warnings(self, trained: Session) -> None:
        reporter = LiveReporter(trained, Screen())
        reporter._warnings.extend(["the first", "much " * 30 + "to say", "the last"])
        rows = picture(reporter, 80, 24)
        start = next(number for number, row in enumerate(rows) if "warnings" in row)
        inside = [row.strip("│ ") for row in rows[start + 1 : -1]]
        much = " ".join(["much"] * 15)
        assert inside == [much, much, "to say", "the last"], "the first has no room"
        reporter._warnings.append("very " * 100)
        assert "very very" in "\n".join(picture(reporter, 80, 24))

    def test_before_anything_is_known(self, small_config: Config, places: Places) -> None:
        found = "\n".join(picture(LiveReporter(begin(small_config, places), Screen()), 80, 24))
        assert found.count("nothing yet") == 2
        assert "step 0" in found
        assert "comes with the next evaluation" in found

    def test_without_samples_their_room_is_the_curves(self, small_config: Config, places: Places) -> None:
        session = begin(revise_config(small_config, ["run.sample_length=0"]), places)
        rows = picture(LiveReporter(session, Screen()), 80, 24)
        assert "sample" not in "\n".join(rows) and len(rows) == 24

    @pytest.mark.parametrize(("vocabulary", "unit"), [("characters", "character"), ("bytes", "byte")])
    def test_what_a_loss_is_per(self, vocabulary: str, unit: str, small_config: Config, places: Places) -> None:
        session = begin(revise_config(small_config, [f"corpus.vocabulary={vocabulary}"]), places)
        reporter = LiveReporter(session, Screen())
        reporter._take_in(log(1))
        found = "\n".join(picture(reporter, 80, 24))
        assert f"loss, nats/{unit} " in found and f"31.0k {unit[:4]}/s" in found

    def test_no_clip_no_line(self, small_config: Config, places: Places) -> None:
        session = begin(revise_config(small_config, ["training.grad_clip=null"]), places)
        reporter = LiveReporter(session, Screen())
        for step in range(1, 9):
            reporter._take_in(log(step, grad_norm=10.0 ** (step - 4)))
        assert "clip" not in "\n".join(picture(reporter, 100, 30))


class TestOnTheScreen:
    def test_is_drawn_four_times_a_second_at_most(self, trained: Session) -> None:
        now = itertools.count(0.0, LEAST_SECONDS / 10)  # drawing asks for the time twice, a line once
        screen = Screen()
        with LiveReporter(trained, screen, clock=lambda: next(now)) as reporter:
            begun = next(now)
            before = screen.output.count("╭─ loss")
            for step in range(26, 2026):
                reporter.logged(log(step), 0.7)
            pictures = screen.output.count("╭─ loss") - before
            seconds = next(now) - begun
        assert 2 < pictures <= seconds / LEAST_SECONDS

    def test_an_evaluation_and_a_warning_are_drawn_at_once(self, trained: Session) -> None:
        screen = Screen()
        with LiveReporter(trained, screen, clock=lambda: 0.0) as reporter:
            reporter.evaluated({"step": 26, "val_loss": 2.0, "sample": "quite new"})
            assert "quite new" in screen.output
            reporter.warned("quite bad")
            assert "quite bad" in screen.output

    def test_resized(self, trained: Session) -> None:
        screen = Screen(100, 30)
        with LiveReporter(trained, screen, clock=lambda: 0.0):
            screen._width, screen._height = 60, 20
            before = len(screen.output)
            os.kill(os.getpid(), signal.SIGWINCH)
            rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.output[before:]).split("\n")
        assert {cell_len(row) for row in rows if row} == {60}
        assert len(rows) == 20
        assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL

    @pytest.mark.parametrize("error", [None, DivergedError("diverged"), KeyboardInterrupt(), RuntimeError("a bug")])
    def test_the_terminal_is_given_back(
        self, error: BaseException | None, trained: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        screen = Screen()

        def work() -> None:
            with LiveReporter(trained, screen) as reporter:
                assert screen.output.startswith(ENTER)
                assert HIDE in screen.output
                reporter.warned("[b]something\x1b[2J")
                print("from elsewhere", file=sys.stderr)
                reporter.evaluated({"step": 26, "val_loss": 2.0, "sample": "last [words]"})
                assert capsys.readouterr().err == ""
                if error:
                    raise error

        if error:
            with pytest.raises(type(error)):
                work()
        else:
            work()
        assert screen.output.count(ENTER) == screen.output.count(LEAVE) == 1
        assert screen.output.rindex(SHOW) > screen.output.rindex(HIDE)
        out, err = capsys.readouterr()
        assert out == ""
        assert "\x1b[2J" not in err
        assert "warning: " in re.sub(r"\x1b\[\d*m", "", err)
        assert r"[b]something\x1b[2J" in err
        assert "from elsewhere" in err
        assert "step 26  train " in err
        assert "val 2.0000 nats/char" in err
        assert err.endswith("    | last [words]\n")

    def test_without_an_evaluation_the_last_line_stays(
        self, small_config: Config, places: Places, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with LiveReporter(begin(small_config, places), Screen()) as reporter:
            reporter.logged(log(7), 0.1)
        assert capsys.readouterr().err.startswith("step 7  train 2.000  |g| 0.50")

    def test_a_whole_training(self, small_config: Config, places: Places, capsys: pytest.CaptureFixture[str]) -> None:
        session, screen = begin(small_config, places), Screen()
        with LiveReporter(session, screen) as reporter:
            Loop(session, reporter, never).run()
        assert [piece.step for piece in reporter._loss.pieces] == [7, 14, 21, 28, 35, 40]
        assert [piece.step for piece in reporter._validation.pieces] == [20, 40]
        assert "step 40  train " in capsys.readouterr().err


class TestCommand:
    @pytest.fixture(autouse=True)
    def here(self, text_file: Path) -> None:
        Path("small.yaml").write_text(CONFIG)

    def test_no_terminal(self) -> None:
        result = run("train", "--config", "small.yaml", "--live")
        assert (result.code, result.out) == (0, "")
        assert "--live: stderr is not a terminal; plain lines instead\n" in result.err
        assert "step 5  train" in result.err
        assert "\x1b" not in result.err

    @pytest.mark.parametrize("term", ["dumb", None])
    def test_a_terminal_that_can_do_nothing(self, term: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM", raising=False)
        result = run("train", "--config", "small.yaml", "--live", terminal=True)
        assert result.code == 0
        assert "--live: this terminal cannot move its cursor (TERM); plain lines instead\n" in result.err
        assert "\r" not in result.err
        assert ENTER not in result.err

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rich", None)
        before = snapshot()
        result = run("train", "--config", "small.yaml", "--live")
        assert (result.code, result.out) == (2, "")
        assert result.err.endswith("--live needs rich, which is not installed; try: pip install 'charrnn[live]'\n")
        assert snapshot() == before


class Terminal:
    """A real one, 90 x 30, for the stderr of this process. A context manager."""

    def __enter__(self) -> Terminal:
        self._near, self._far = pty.openpty()
        fcntl.ioctl(self._far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        self._before = os.dup(2)
        os.dup2(self._far, 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._before, 2)
        for descriptor in (self._before, self._far, self._near):
            os.close(descriptor)

    def run(self, *words: str, interrupt_at: str | None = None, key: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code and all that was written; ``interrupt_at``: press Ctrl-C, or another key, once this is seen."""
        seen, ended = bytearray(), threading.Event()

        def watch() -> None:
            told = interrupt_at is None
            while select.select([self._near], [], [], 0.02)[0] or not ended.is_set():
                if select.select([self._near], [], [], 0)[0]:
                    seen.extend(os.read(self._near, 65536))
                if not told and interrupt_at and interrupt_at.encode() in seen:
                    os.kill(os.getpid(), key)
                    told = True

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with (
                open(2, "w", encoding="utf-8", closefd=False, buffering=1) as err,
                patch.object(sys, "stderr", err),
                patch.object(sys, "argv", ["charrnn", *words]),
                pytest.raises(SystemExit) as leaving,
            ):
                main()
        finally:
            ended.set()
            watcher.join()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, seen.decode().replace("\r\n", "\n")


class TestOnARealTerminal:
    @pytest.fixture(autouse=True)
    def here(self, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        Path("small.yaml").write_text(CONFIG)

    def _assert_given_back(self, seen: str) -> str:
        """What stands on the first screen after the view."""
        assert seen.count(ENTER) == seen.count(LEAVE) == 1
        assert seen.rindex(SHOW) > seen.rindex(HIDE)
        inside, after = seen.split(ENTER)[1].split(LEAVE)
        rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", inside.replace("\x1b[H", "\n")).split("\n")
        assert max(cell_len(row) for row in rows) == 90
        return after

    def test_to_the_end(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Terminal() as terminal:
            code, seen = terminal.run("train", "--config", "small.yaml", "--live")
        assert code == 0
        assert capsys.readouterr().out == ""
        after = self._assert_given_back(seen)
        assert re.search(r"step 20  train \S+  val \S+ nats/char .* cold .*\n    \| ", after)
        assert "Done:   reached its limit, 20 steps" in after

    def test_interrupted(self) -> None:
        Path("small.yaml").write_text(CONFIG.replace("max_steps: 20", "max_steps: 100000000"))
        with Terminal() as terminal:
            code, seen = terminal.run("train", "--config", "small.yaml", "--live", interrupt_at="sample at step")
        assert code == 130
        after = self._assert_given_back(seen)
        assert "  val " in after
        assert "charrnn: interrupted at step" in after

    def test_stopped_by_ctrl_z(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The shell has its own screen and its cursor until the training goes on."""

        def pause() -> None:
            os.write(2, b"STOPPED")
            os.kill(os.getpid(), signal.SIGINT)  # once it goes on

        monkeypatch.setattr(clock, "pause", pause)
        Path("small.yaml").write_text(CONFIG.replace("max_steps: 20", "max_steps: 100000000"))
        before = signal.getsignal(signal.SIGTSTP)
        with Terminal() as terminal:
            words = ("train", "--config", "small.yaml", "--live")
            code, seen = terminal.run(*words, interrupt_at="sample at step", key=signal.SIGTSTP)
        assert code == 130
        assert signal.getsignal(signal.SIGTSTP) is before
        stopped, continued = seen.split("STOPPED")
        for part in (stopped, continued):
            assert part.count(ENTER) == part.count(LEAVE) == 1
            assert part.rindex(LEAVE) > part.rindex(ENTER)
            assert part.rindex(SHOW) > part.rindex(HIDE)
        assert "sample at step" in continued.split(LEAVE)[0], "drawn anew at once"
        assert "charrnn: interrupted at step" in continued.split(LEAVE)[1]

    @pytest.mark.parametrize("no_color", [False, True])
    def test_colours(self, no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        with Terminal() as terminal:
            _, seen = terminal.run("train", "--config", "small.yaml", "--live")
        assert ("\x1b[38;" in seen) is not no_color
        assert FULL_POINT in seen
