"""How a machine is used for a hive follows from measured rates, and from what the user has said: a made-up machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest

from charrnn.config.schema import Config
from charrnn.errors import CharRNNError
from charrnn.studies.swarm.arrange import Batched, arrange, place_for
from charrnn.studies.swarm.colony import Colony
from charrnn.studies.swarm.local import LocalWorkplace
from charrnn.studies.swarm.speed import Arrangement
from charrnn.text.places import Places
from tests.hives import bee_config, colony_of, make

Rate = Callable[[int, int], float]  # of one process: its threads, and bees at a time -> steps of bees per second


class Machine(Executor):
    """Answers each probe with a rate, and keeps what was asked."""

    def __init__(self, cores: int, rate: Rate) -> None:
        self.cores, self.rate, self.asked = cores, rate, list[tuple[int, int]]()

    @property
    def executor(self) -> Executor:
        return self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **nothing: Any) -> Future[Any]:
        _parcel, configs, threads = cast(tuple[object, Sequence[Config], int], args)
        self.asked.append((threads, len(configs)))
        future = Future[Any]()
        future.set_result(self.rate(threads, len(configs)))
        return future


def threads_are_worth(*speeds: float) -> Rate:
    """One bee with 1, 2, 4, ... threads; bees at a time gain nothing."""
    return lambda threads, together: speeds[threads.bit_length() - 1]


@pytest.fixture
def colony(places: Places, text_file: Path) -> Callable[..., Colony]:
    """Two rates, so many seeds; no number of threads unless it is given."""

    def make(seeds: int = 4, threads: int | None = None) -> Colony:
        config = bee_config(text_file)
        training = config.training.model_copy(update={"threads": threads})
        return colony_of(config.model_copy(update={"training": training}), places, seeds)

    return make


@pytest.mark.parametrize(
    ("error", "cause"),
    [(BrokenProcessPool("it died"), "it died"), (MemoryError(), "MemoryError"), (RuntimeError("no\nroom"), "no room")],
)
def test_a_measurement_that_fails(
    error: Exception, cause: str, colony: Callable[..., Colony], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ``train`` has in words is no internal error here."""

    def fails(*_: object) -> Arrangement:
        raise error

    monkeypatch.setattr("charrnn.studies.swarm.arrange.arrange", fails)
    found = colony()
    hive = make(found)
    with (
        pytest.raises(CharRNNError, match=f"failed: {cause}; where memory is short, give --jobs 1 --batched no"),
        place_for(hive, found, None, None, "auto"),
    ):
        pass
    assert hive.plan["threads"] is None


def arranged(machine: Machine, colony: Colony, jobs: int | None = None, batched: Batched = "no") -> Arrangement:
    return arrange(cast(LocalWorkplace, machine), colony, jobs, batched)


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (threads_are_worth(1, 1.5, 2), Arrangement(4, 1)),
        (threads_are_worth(1, 2.5, 4), Arrangement(2, 2)),
        (threads_are_worth(1, 3, 9), Arrangement(1, 4)),
    ],
)
def test_what_is_fastest(rate: Rate, found: Arrangement, colony: Callable[..., Colony]) -> None:
    assert arranged(Machine(4, rate), colony()) == found


def test_no_more_processes_than_bees(colony: Callable[..., Colony]) -> None:
    assert arranged(Machine(8, threads_are_worth(1, 1, 1, 1)), colony(seeds=2)) == Arrangement(4, 1)


@pytest.mark.parametrize(
    ("jobs", "threads", "found"),
    [
        (1, None, Arrangement(1, 4)),
        (2, None, Arrangement(2, 2)),
        (9, None, Arrangement(9, 1)),
        (None, 1, Arrangement(4, 1)),
        (None, 2, Arrangement(2, 2)),
        (None, 3, Arrangement(1, 3)),
        (None, 9, Arrangement(1, 9)),
        (1, 1, Arrangement(1, 1)),
        (3, 2, Arrangement(3, 2)),
    ],
)
def test_what_the_user_says_is_done(
    jobs: int | None, threads: int | None, found: Arrangement, colony: Callable[..., Colony]
) -> None:
    machine = Machine(4, threads_are_worth(1, 3, 9))
    assert arranged(machine, colony(threads=threads), jobs) == found
    assert machine.asked == []


@pytest.mark.parametrize(
    ("gain", "together"),
    [(2.0, 4), (1.2, 4), (1.05, 1), (0.5, 1)],
)
@pytest.mark.parametrize("threads", [None, 1])
def test_stacked_where_that_is_clearly_faster(
    gain: float, together: int, threads: int | None, colony: Callable[..., Colony]
) -> None:
    machine = Machine(2, lambda threads, bees: gain if bees > 1 else 1.0)
    assert arranged(machine, colony(threads=threads), batched="auto") == Arrangement(2, 1, together)


def test_stacked_because_the_user_says_so(colony: Callable[..., Colony]) -> None:
    machine = Machine(2, lambda threads, bees: 0.1)
    assert arranged(machine, colony(threads=2), batched="yes") == Arrangement(1, 2, 8)
    assert machine.asked == []
