"""Steps that are replayed: equal to plain ones, or not taken. On a CPU, with ``replaying.py`` for CUDA graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from charrnn.model.device import WARM_UP, CudaGraphs, Replayed, graphs_of, send
from charrnn.training.trainer import Trainer
from tests.replaying import FakeGraphs
from tests.test_trainer import make_trainer

# 1,000 characters in 4 streams: each pass has 12 windows of 20, and one of 9 that is stepped plainly.
SETTINGS = (
    *("training.random_seq_len=false", "training.seq_len=20", "training.state_reset=0.2", "training.grad_clip=0.3"),
    *("model.dropout=0.2", "model.num_layers=2"),
)
WINDOWS = 12
UNEQUAL = "what was replayed was not equal to what was done plainly"
STEPS = 60


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    """Trainers capture with these."""
    fake = FakeGraphs()
    monkeypatch.setattr("charrnn.training.trainer.graphs_of", lambda _: fake)
    return fake


def plain_trainer(*more: str) -> Trainer:
    """Rates that are tensors are float32: those of a plain step have to be, if all is to be equal."""
    trainer = make_trainer(*SETTINGS, *more)
    trainer._captured = None
    return trainer


def steps(trainer: Trainer, count: int = STEPS, observe: Callable[[int], bool] = lambda _: False) -> list[list[float]]:
    """Loss and gradient norm of each, at rates that fall."""
    taken = []
    for _ in range(count):
        stats = trainer.step(0.02 / (1 + trainer.steps / 10), observe(trainer.steps))
        taken.append([stats.loss, stats.grad_norm])
    return [[one.item() for one in each] for each in taken]


def assert_same(one: Trainer, other: Trainer) -> None:
    assert [t.tolist() for t in one._changed()] == [t.tolist() for t in other._changed()]
    assert [t.tolist() for t in one.hidden] == [t.tolist() for t in other.hidden]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_replayed_steps_equal_plain_ones(cell: str, optimizer: str, graphs: FakeGraphs) -> None:
    """Bit for bit: dropout, resets, rates, windows of other lengths, and steps that are looked at."""
    what = (f"model.cell={cell}", f"training.optimizer={optimizer}")
    plain = plain_trainer(*what)
    expected = steps(plain)
    replayed = make_trainer(*SETTINGS, *what)
    assert steps(replayed, observe=lambda step: step % 7 == 6) == expected
    assert_same(replayed, plain)
    short, observed = STEPS // (WINDOWS + 1), STEPS // 7
    both = sum(step % 7 == 6 and step % (WINDOWS + 1) == WINDOWS for step in range(STEPS))
    assert (graphs.warmed_up, graphs.captured) == (WARM_UP, 1)
    assert graphs.replayed == STEPS - WARM_UP - short - observed + both
    assert replayed.obstacle is None


def test_a_plain_run_goes_on_replayed_and_the_other_way_round(graphs: FakeGraphs) -> None:
    plain = plain_trainer()
    expected = steps(plain)
    first, second, third = make_trainer(*SETTINGS), plain_trainer(), make_trainer(*SETTINGS)
    seen = steps(first, 17)
    for before, after in ((first, second), (second, third)):
        after.load_state_dict(before.state_dict())
        seen += steps(after, 43 if after is third else 0)
    assert seen == expected
    assert_same(third, plain)
    assert graphs.captured == 2


def test_going_back_needs_another_capture(graphs: FakeGraphs) -> None:
    """What the optimizer keeps is then in another place."""
    trainer = make_trainer(*SETTINGS)
    steps(trainer, 8)
    state = {**trainer.state_dict(), "model": {k: v.clone() for k, v in trainer.model.state_dict().items()}}
    state["hidden"] = {name: tensor.clone() for name, tensor in state["hidden"].items()}
    state["optimizer"] = {**state["optimizer"], "state": _copies(state["optimizer"]["state"])}
    expected = steps(trainer, 30)
    trainer.load_state_dict(state)
    assert steps(trainer, 30) == expected
    assert graphs.captured == 2


def _copies(kept: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {i: {name: tensor.clone() for name, tensor in one.items()} for i, one in kept.items()}


def test_what_cannot_be_captured_is_stepped_plainly(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = steps(plain_trainer())

    def waits(trainer: Trainer) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 0.3)
        assert norm.item() > 0
        return norm

    monkeypatch.setattr(Trainer, "_clip", waits)
    trainer = make_trainer(*SETTINGS)
    assert steps(trainer) == expected
    assert trainer.obstacle == "aten._local_scalar_dense is not permitted when stream is capturing"
    assert (graphs.captured, graphs.replayed) == (0, 0)


def test_what_cannot_be_captured_is_undone(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture does nothing, also one that fails at the end of the step, where a number is copied to the device."""
    expected = steps(plain_trainer())
    learn = Trainer._learn

    def copies(trainer: Trainer, *window: Any) -> Any:
        taken = learn(trainer, *window)
        torch.tensor(1.0)
        return taken

    monkeypatch.setattr(Trainer, "_learn", copies)
    trainer = make_trainer(*SETTINGS)
    assert steps(trainer) == expected
    assert trainer.obstacle == "aten.lift_fresh is not permitted when stream is capturing"


def test_the_first_thing_that_went_wrong_is_told(graphs: FakeGraphs) -> None:
    """Of a capture that failed, torch's own end complains as well."""

    def fails(work: Callable[[], None]) -> Callable[[], None]:
        try:
            raise RuntimeError("not permitted: the cause\nand so on")
        finally:
            raise RuntimeError("failed because of a previous error")

    graphs.capture = fails  # type: ignore[method-assign]
    trainer = make_trainer(*SETTINGS)
    steps(trainer, WARM_UP + 1)
    assert trainer.obstacle == "not permitted: the cause"


@pytest.mark.parametrize("good_steps", [1, WARM_UP], ids=["warming up", "captured"])
def test_a_step_that_fails_can_be_followed_by_others(good_steps: int, graphs: FakeGraphs) -> None:
    expected = steps(plain_trainer(), good_steps + 5)
    trainer = make_trainer(*SETTINGS)
    seen = steps(trainer, good_steps)
    state = trainer.streams.state_dict(), trainer.generator.get_state(), torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_clip", Mock(side_effect=KeyboardInterrupt))
        trainer.step(0.01)
    trainer.streams.load_state_dict(state[0])
    trainer.generator.set_state(state[1])
    torch.set_rng_state(state[2])
    assert seen + steps(trainer, 5) == expected


class Streams:
    """``torch.cuda`` as far as streams go: which one is current, and which waited for which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usual, self.other = Mock(), Mock()
        self.current = self.usual
        monkeypatch.setattr("torch.cuda.Stream", lambda _: self.other)
        monkeypatch.setattr("torch.cuda.current_stream", lambda _: self.current)
        for name in ("stream", "graph", "CUDAGraph"):
            monkeypatch.setattr(f"torch.cuda.{name}", getattr(self, name, Mock()))

    @contextmanager
    def stream(self, stream: Mock) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, _: Any, stream: Mock, capture_error_mode: str) -> Iterator[None]:
        """As torch's own: where its end fails, it does not go back."""
        assert capture_error_mode == "thread_local"
        before, self.current = self.current, stream
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("failed because of a previous error") from error
        self.current = before


def test_a_failed_step_leaves_the_usual_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the usual stream waits for what such a step asked of the other one."""
    streams = Streams(monkeypatch)
    graphs = CudaGraphs(torch.device("cuda"))
    seen = []

    def work() -> None:
        seen.append(streams.current)
        raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"), graphs.warm_up():
        work()
    streams.usual.wait_stream.assert_called_once_with(streams.other)
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.capture(work)
    assert seen == [streams.other, streams.other]
    assert streams.current is streams.usual


def of_the_first_step(trainer: Trainer) -> Any:
    """A step with a number that Python counts: a replay does not."""
    learn, count = trainer._learn, iter(range(1, 1000))

    def counting(x: Tensor, y: Tensor, before: Any, observer: Any = None) -> Any:
        loss, norm, after = learn(x, y, before, observer)
        return loss * next(count), norm, after

    return counting


def test_a_number_made_while_capturing_is_found_out(graphs: FakeGraphs) -> None:
    trainer = make_trainer(*SETTINGS)
    trainer._learn = of_the_first_step(trainer)  # type: ignore[method-assign]
    trainer._captured = trainer._new_captured()
    steps(trainer)
    assert trainer.obstacle == UNEQUAL
    assert graphs.replayed == 1


@pytest.mark.parametrize("lost", ["weights", "everything"])
def test_a_replay_that_goes_wrong_changes_nothing(lost: str, graphs: FakeGraphs) -> None:
    expected = steps(plain_trainer())
    capture = graphs.capture

    def wrong(work: Callable[[], None]) -> Callable[[], None]:
        replay, trainer_ = capture(work), trainer

        def half() -> None:
            kept = [parameter.detach().clone() for parameter in trainer_.model.parameters()]
            replay()
            with torch.no_grad():
                for parameter, old in zip(trainer_.model.parameters(), kept, strict=True):
                    parameter.copy_(old)

        return half if lost == "weights" else lambda: None

    graphs.capture = wrong  # type: ignore[method-assign]
    trainer = make_trainer(*SETTINGS)
    assert steps(trainer) == expected
    assert trainer.obstacle == UNEQUAL


@pytest.mark.parametrize(
    ("step", "times", "equal"),
    [(1e-3, 0, False), (1e-3, 0.98, False), (1e-3, 0.995, True), (1e-3, 1, True), (1e-3, 2, False), (1e-8, 2, True)],
)
def test_a_replay_has_to_change_as_much(step: float, times: float, equal: bool) -> None:
    """However little that is of what is there, if it is more than rounding."""
    place, graphs = torch.ones(3, dtype=torch.float64), FakeGraphs()

    def add(number: float) -> None:
        place.add_(number)

    graphs.capture = lambda work: lambda: add(step * times)  # type: ignore[method-assign]
    replayed = Replayed(lambda: add(step), lambda: [place], graphs)
    for _ in range(WARM_UP + 1):
        replayed()
    assert (replayed.obstacle is None) == equal
    assert place.tolist() == pytest.approx([1 + step * (WARM_UP + 1)] * 3)


@pytest.mark.parametrize("good_steps", [WARM_UP, 10], ids=["the one taken both ways", "a replayed one"])
def test_a_step_that_is_not_finite_changes_no_parameter(good_steps: int, graphs: FakeGraphs) -> None:
    def trained(trainer: Trainer) -> Trainer:
        steps(trainer, good_steps)
        trainer.hidden = tuple(tensor * float("nan") for tensor in trainer.hidden)
        ((loss, norm),) = steps(trainer, 1)
        assert math.isnan(loss)
        assert math.isnan(norm)
        trainer.hidden = trainer.model.zero_hidden(4)
        steps(trainer, 20)
        return trainer

    plain = trained(plain_trainer())
    replayed = trained(make_trainer(*SETTINGS))
    assert_same(replayed, plain)
    assert bool(replayed.obstacle) == (good_steps == WARM_UP), "nothing can be said of equality then"
    assert graphs.replayed == (1 if replayed.obstacle else 26)


def test_the_statistics_of_a_step_outlive_the_next(graphs: FakeGraphs) -> None:
    trainer = make_trainer(*SETTINGS)
    kept = [trainer.step(0.01) for _ in range(9)]
    losses = [stats.loss.item() for stats in kept]
    trainer.step(0.01)
    assert [stats.loss.item() for stats in kept] == losses
    assert len(set(losses)) == 9


def test_a_checkpoint_holds_plain_numbers(graphs: FakeGraphs) -> None:
    trainer = make_trainer(*SETTINGS)
    steps(trainer, 8)
    groups = trainer.state_dict()["optimizer"]["param_groups"]
    assert type(groups[0]["lr"]) is float
    assert groups[0]["lr"] == pytest.approx(0.02 / 1.7)


def test_on_a_cpu_nothing_is_captured() -> None:
    assert graphs_of(torch.device("cpu")) is None
    assert make_trainer(*SETTINGS)._captured is None


def test_what_is_sent_to_a_gpu_is_not_waited_for() -> None:
    """In one piece: of any other torch makes a copy first, in memory that is not pinned."""
    tensor = Mock()
    assert send(tensor, torch.device("cuda:1")) is tensor.contiguous().pin_memory().to.return_value
    tensor.contiguous().pin_memory().to.assert_called_once_with(torch.device("cuda:1"), non_blocking=True)
    here = torch.ones(2)
    assert send(here, torch.device("cpu")) is here
