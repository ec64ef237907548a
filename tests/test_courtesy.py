"""Spinning is limited while others are at work, and nothing but that changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import charrnn
from charrnn.training import courtesy
from charrnn.training.courtesy import Courtesy, SecondTeam, loaded_libgomp
from charrnn.training.load import Load, read_text
from tests import command_line

MAPS = """\
55f0-55f1 r--p 00000000 fd:00 1 /usr/bin/python3.11
7f00-7f01 r-xp 00000000 fd:00 2 /usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0
7f02-7f03 r-xp 00000000 fd:00 3 /a b/site-packages/torch/lib/libgomp.so.1
7f04-7f05 rw-p 00000000 00:00 0 [heap]
"""


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "usable_cores", lambda: {0, 1, 2, 3})


def seconds_with(*cores: tuple[float, float]) -> Callable[[], Load]:
    """Looks one second apart, between which this process had ``own`` cores and others ``others``."""

    def looks() -> Iterator[Load]:
        wall = mine = busy = 0.0
        yield Load(wall, mine, busy, 0, 0, 0)
        for own, others in cores:
            wall, mine, busy = wall + 1, mine + own, busy + own + others
            yield Load(wall, mine, busy, 0, 0, 0)

    return looks().__next__


@pytest.mark.parametrize(
    ("cores", "polite"),
    [
        ([(4, 0), (4, 0.2)], [False, False]),
        ([(4, 0), (3, 1)], [False, True]),
        ([(1.8, 0.5)], [False]),  # there is room for both
        ([(2, 0.5)], [True]),
        ([(3, 1), (4, 0), (4, 0), (4, 0), (3, 1)], [True, True, True, False, True]),
        ([(3, 1), (4, 0), (4, 0), (3, 1), (4, 0), (4, 0)], [True] * 6),
        ([(0, 0)] * 3, [False] * 3),
    ],
)
def test_when(cores: list[tuple[float, float]], polite: list[bool], four_cores: None) -> None:
    watch = Courtesy(seconds_with(*cores))
    seen = []
    for _ in cores:
        watch.look_around()
        seen.append(watch.is_polite)
    assert seen == polite
    watch._let_spin()


def test_it_ends_with_the_training(four_cores: None) -> None:
    before = threading.active_count()
    with Courtesy() as watch:
        assert threading.active_count() == before + 1
        watch._team = SecondTeam(2)
    assert threading.active_count() == before
    assert not watch.is_polite


def test_looks_by_itself(monkeypatch: pytest.MonkeyPatch, four_cores: None) -> None:
    monkeypatch.setattr(courtesy, "FIRST_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(courtesy, "LOOK_SECONDS", 0.001)
    looks, enough = iter(range(10**6)), threading.Event()

    def look() -> Load:
        number = next(looks)
        if number == 3:
            enough.set()
        return Load(number, number, 5 * number, 0, 0, 0)

    with Courtesy(look) as watch:
        assert enough.wait(60)
    assert not watch.is_polite


def test_the_library_that_torch_uses() -> None:
    assert loaded_libgomp(MAPS) == "/a b/site-packages/torch/lib/libgomp.so.1"
    assert loaded_libgomp(MAPS.replace("/a b/site-packages/torch/lib/libgomp.so.1", "/x")) == (
        "/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0"
    )
    assert loaded_libgomp("") is None


@pytest.mark.skipif(loaded_libgomp(read_text("/proc/self/maps")) is None, reason="torch without libgomp")
class TestSecondTeam:
    def test_has_threads_of_its_own_until_closed(self) -> None:
        def tasks() -> set[str]:
            return {one.name for one in Path("/proc/self/task").iterdir()}

        before = tasks()  # of which some may be about to end: those of a team of the test before
        team = SecondTeam(4)
        team._owner.join(0.05)
        assert team._owner.is_alive()  # or its threads end with it, sooner or later
        its_own = tasks() - before
        assert len(its_own) == 4  # its owner, and three that OpenMP made
        team.close()
        while tasks() & its_own:  # they are told to end, nobody waits for them
            pass

    def test_changes_no_result_and_no_number_of_threads(self) -> None:
        threads = torch.get_num_threads()
        x = torch.randn(300, 300, generator=torch.Generator().manual_seed(1))
        torch.set_num_threads(2)
        try:
            alone = (x @ x).softmax(1) @ x
            state = torch.get_rng_state()
            team = SecondTeam(4)
            try:
                assert torch.equal((x @ x).softmax(1) @ x, alone)
                assert torch.get_num_threads() == 2
                assert torch.equal(torch.get_rng_state(), state)
            finally:
                team.close()
            assert torch.equal((x @ x).softmax(1) @ x, alone)
        finally:
            torch.set_num_threads(threads)


def test_without_libgomp_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "read_text", lambda path: "")
    SecondTeam(4).close()


@pytest.mark.parametrize("setting", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", None])
def test_the_user_knows_better(setting: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if setting is not None:
        monkeypatch.setenv(setting, "7")
    watches: list[Courtesy] = []

    def enter(watch: Courtesy) -> None:
        watches.append(watch)

    monkeypatch.setattr(Courtesy, "__enter__", enter)
    monkeypatch.setattr(Courtesy, "__exit__", lambda *_: None)
    assert command_line.run("train", "--config", "counting.yaml", "--set", "training.max_steps=1").code == 0
    run = charrnn.train("counting", settings={"training.max_steps": 1}, progress=False)
    charrnn.resume(run, settings={"training.max_steps": 2}, progress=False)
    assert len(watches) == (0 if setting else 3)
