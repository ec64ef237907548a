"""A collapse of speed is noticed once, and its cause told from made-up numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from charrnn.config.schema import Config
from charrnn.text.places import Places
from charrnn.training.load import Load, core_seconds, read_load, throttled_seconds
from charrnn.training.loop import Loop
from charrnn.training.pace import Pace, PacedReporter, explain, pace_of
from charrnn.training.threads import ThreadChoice
from tests.helpers import Silent, begin, never

STAT = """\
cpu  100 10 20 300 5 1 2 7 3 0
cpu0 60 4 12 100 3 1 1 5 3 0
cpu1 40 6 8 200 2 0 1 2 0 0
intr 12345
"""


def load(wall: float = 10.0, **numbers: float) -> Load:
    """Ten seconds in which nothing happened but ``numbers``."""
    nothing = {"own": 0.0, "busy": 0.0, "stolen": 0.0, "throttled": 0.0, "page_reads": 0.0}
    return Load(wall=wall, **{**nothing, **numbers})


class TestLoad:
    def test_proc_stat(self) -> None:
        tick = 1 / os.sysconf("SC_CLK_TCK")
        assert core_seconds(STAT, {0, 1}) == pytest.approx((133 * tick, 7 * tick))
        assert core_seconds(STAT, {1}) == pytest.approx((55 * tick, 2 * tick))

    @pytest.mark.parametrize("text", ["", "cpu  1 2 3 4\n", "cpu7 1 2 3 4\n", "\n\n"])
    def test_a_system_that_does_not_tell(self, text: str) -> None:
        assert core_seconds(text, {0, 1}) is None

    def test_an_old_kernel_has_fewer_columns(self) -> None:
        assert core_seconds("cpu0 100 0 100 5\n", {0}) == pytest.approx((200 / os.sysconf("SC_CLK_TCK"), 0))

    def test_throttling(self) -> None:
        assert throttled_seconds("usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n") == 2.5
        assert throttled_seconds("usage_usec 5\n") == throttled_seconds("") == 0

    def test_difference(self) -> None:
        passed = load(30.0, own=12.0, busy=20.0).since(load(20.0, own=4.0, busy=5.0))
        assert passed == load(10.0, own=8.0, busy=15.0)
        assert passed.others == pytest.approx(0.7)
        assert load(own=8.0, busy=7.5).others == 0  # the two are not counted at the same instant
        assert load(0.0).others == 0

    def test_of_this_process(self) -> None:
        before = read_load()
        while read_load().own == before.own:
            pass
        passed = read_load().since(before)
        assert passed.wall > 0
        assert min(passed.busy, passed.stolen, passed.throttled, passed.page_reads) >= 0


@pytest.mark.parametrize(
    ("happened", "left", "threads", "said"),
    [
        (load(own=10.0, busy=20.0), 0.3, 2, "other programs keep 1.0 of 2 cores busy, this run had 1.0 of the 2 cores"),
        (load(own=4.0, busy=20.0), 0.3, 1, "other programs keep 1.6 of 2 cores busy, this run had 0.4 of the 1 core"),
        (load(own=10.0, busy=20.0), 0.01, 2, "its threads wait for each other, because other programs keep 1.0 of 2"),
        (load(own=10.0, busy=20.0), 0.01, 1, "it had its cores to itself"),  # one free core for each of the two
        (load(own=10.0, busy=10.5, stolen=8.0), 0.3, 2, "the host of this virtual machine gave 0.8 of its 2 cores"),
        (load(own=5.0, busy=5.0, throttled=9.0), 0.3, 2, "this container's share of the processor is used up"),
        (load(own=2.0, busy=2.0, page_reads=5000.0), 0.1, 2, "memory is short: 500 pages per second"),
        (load(own=2.0, busy=2.5), 0.1, 2, "this run had 0.2 of the 2 cores it can use, no other program had the rest"),
        (load(own=19.8, busy=20.0), 0.2, 2, "it had its cores to itself: the processor is slower"),
        (load(0.0), 0.2, 2, "this run had 0.0 of the 2 cores it can use"),
    ],
)
def test_causes(happened: Load, left: float, threads: int, said: str) -> None:
    assert said in explain(happened, left, threads, cores=2)


def test_what_to_do_about_spinning() -> None:
    assert "--inexact --set training.threads=1" in explain(load(own=10.0, busy=20.0), 0.01, 2, 2)


class Run:
    """A pace that is fed one line every ``seconds``."""

    def __init__(self, pace: Pace, seconds: float = 2.0) -> None:
        self.pace, self.seconds = pace, seconds
        self.now = 0.0

    def line(self, speed: float) -> str | None:
        self.now += self.seconds
        return self.pace.judge(speed, load(self.now, own=self.now, busy=2 * self.now))

    def lines(self, *speeds: float) -> list[bool]:
        return [self.line(speed) is not None for speed in speeds]


class TestPace:
    def test_once_and_again_after_recovery(self) -> None:
        run = Run(Pace(2, cores=2))
        assert not any(run.lines(100, 110, 90, 100))
        assert run.lines(30, 30, 30, 30) == [False, True, False, False]
        assert run.lines(40, 30, 30, 30) == [False] * 4  # above a third, and still not recovered
        assert run.lines(95, 30, 30) == [False, False, True]

    def test_what_it_says(self) -> None:
        run = Run(Pace(2, cores=2))
        run.lines(1000, 1100, 900, 200)
        assert run.line(300) == (
            "down to 300 characters per second from 1,000: other programs keep 1.0 of 2 cores busy, this run had 1.0 "
            "of the 2 cores it can use; end these, or wait: nothing is lost"
        )

    def test_the_load_is_that_of_the_slow_lines(self) -> None:
        pace = Pace(2, cores=2)
        for moment in range(1, 5):
            pace.judge(100, load(float(moment), own=2.0 * moment, busy=2.0 * moment))
        # Since then this process had nothing, and others both cores.
        pace.judge(10, load(8.0, own=8.0, busy=16.0))
        said = pace.judge(10, load(12.0, own=8.0, busy=24.0))
        assert said is not None
        assert "other programs keep 2.0 of 2 cores busy, this run had 0.0" in said

    @pytest.mark.parametrize("speeds", [(34, 34, 34), (30, 100, 30, 100), (100, 30)])
    def test_no_collapse(self, speeds: tuple[float, ...]) -> None:
        run = Run(Pace(2, cores=2))
        assert not any(run.lines(100, 100, 100, *speeds))

    def test_a_hiccup_among_short_lines(self) -> None:
        run = Run(Pace(2, cores=2), seconds=0.01)
        assert not any(run.lines(*[100] * 5, *[5] * 100, *[100] * 5))

    def test_a_slow_start_is_nothing_to_compare_with(self) -> None:
        run = Run(Pace(2, cores=2))
        assert not any(run.lines(1, 100, 10, 10))
        assert not any(Run(Pace(2, cores=2)).lines(*[5] * 10))

    def test_against_the_trial_from_the_second_line_on(self) -> None:
        run = Run(Pace(2, expected=100.0, cores=2))
        assert run.lines(10, 10, 10, 10) == [False, False, True, False]

    def test_slow_lines_do_not_become_the_usual(self) -> None:
        run = Run(Pace(2, cores=2))
        run.lines(*[100] * 4, *[10] * 500)
        assert run.pace.usual == 100

    def test_a_slow_decline_is_one_too(self) -> None:
        """The usual speed is that of a long time: fifty lines above a third do not make it a lower one."""
        run = Run(Pace(2, cores=2))
        assert not any(run.lines(*[100] * 60, *[40] * 50))
        assert run.lines(30, 30) == [False, True]


def no_obstacle() -> None:
    """As on a CPU."""


class TestInARun:
    def test_warns_through_the_reporter(self, small_config: Config, places: Places) -> None:
        """Looks ten seconds apart; the trial is said to have been a thousand times faster than this machine is."""
        moments = iter(range(0, 10_000, 10))
        silent = Silent()
        looks = lambda: load(float(next(moments)))  # noqa: E731
        session = begin(small_config, places)
        Loop(session, PacedReporter(silent, Pace(1, expected=1e12, cores=2), no_obstacle, looks), never).run()
        assert len(silent.logs) == 6
        assert len(silent.evaluations) == 2
        assert len(silent.warnings) == 1
        assert "from 1,000,000,000,000: this run had 0.0 of the 1 core it can use" in silent.warnings[0]

    def test_says_once_why_steps_are_not_replayed(self, small_config: Config, places: Places) -> None:
        silent, session = Silent(), begin(small_config, places)
        found = iter([None, "no room", "no room", None, "no room"])
        Loop(session, PacedReporter(silent, pace_of(session), lambda: next(found, None)), never).run()
        assert silent.warnings == ["slower than it could be: no room"]

    def test_other_warnings_pass(self) -> None:
        silent = Silent()
        PacedReporter(silent, Pace(1, cores=2), no_obstacle).warned("the disk is full")
        assert silent.warnings == ["the disk is full"]

    def test_expects_what_the_trial_has_shown(self, small_config: Config, places: Places) -> None:
        session = begin(small_config, places)
        assert pace_of(session).usual == 0
        session.thread_choice = ThreadChoice(1, {1: 500.0, 2: 900.0})
        assert pace_of(session).usual == 500


def test_a_line_for_a_person(small_config: Config, in_own_folder: Path) -> None:
    """No line breaks: warnings are one line."""
    for happened in (load(own=10.0, busy=20.0), load(throttled=9.0), load(stolen=9.0), load(page_reads=1e5)):
        assert "\n" not in explain(happened, 0.1, 2, 2)
