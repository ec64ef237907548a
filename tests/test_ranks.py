"""One rank by itself: its rows, its orders, what it says when the others are gone. For several see test_torchrun."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore

from charrnn.cli._ranks import SharedInterrupts, _share_cores, is_first, other_ranks, size
from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, CheckpointError, UsageError
from charrnn.runs.keeping import Found
from charrnn.text.places import Places
from charrnn.training.rank_trainer import RankTrainer, make_trainer, ranks_in
from charrnn.training.ranks import Order, Ranks
from charrnn.training.session import Session, new_session, restore_session, resume_session
from charrnn.training.trainer import Trainer
from tests.conftest import make_config
from tests.helpers import begin, differences

NO_DROPOUT = "model.dropout=0"


@pytest.fixture
def alone() -> Iterator[Ranks]:
    """A group of one, in this process."""
    store = HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield Ranks(0, 1, 0, store)
    dist.destroy_process_group()


@pytest.fixture
def session(small_config: Config, places: Places) -> Session:
    return new_session(small_config, places)


def part(session: Session, rank: int, of: int) -> RankTrainer:
    """One rank's trainer, that nobody else hears of."""
    return RankTrainer(session.text, session.config, Ranks(rank, of, rank, HashStore()))


@pytest.mark.parametrize("of", [1, 2, 3, 4, 6, 12])
def test_the_rows_of_all_ranks_are_the_batch(of: int) -> None:
    rows = [Ranks(rank, of, 0, HashStore()).rows(12) for rank in range(of)]
    assert [row for one in rows for row in range(12)[one]] == list(range(12))
    assert len({one.stop - one.start for one in rows}) == 1


@pytest.mark.parametrize(("batch", "of", "instead"), [(13, 2, 12), (12, 5, 10), (3, 4, 4)])
def test_rows_that_cannot_be_split_evenly_are_refused(batch: int, of: int, instead: int) -> None:
    with pytest.raises(UsageError, match=rf"batch_size {batch} .*{of} processes.*training\.batch_size={instead}"):
        Ranks(0, of, 0, HashStore()).rows(batch)


def test_rows_together_are_the_whole(text_file: object, places: Places) -> None:
    """Windows, resets and carried states of two halves are those of the whole; the mean of their losses is its."""
    whole = new_session(make_config(str(text_file), NO_DROPOUT), places)
    ids, config = whole.text.train_ids, whole.config
    halves = [
        Trainer(ids, len(whole.text.vocabulary), config.model, config.training, rows)
        for rows in (slice(0, 2), slice(2, 4))
    ]
    for _ in range(12):
        loss = whole.trainer.step(0.0).loss
        losses = torch.stack([half.step(0.0).loss for half in halves])
        torch.testing.assert_close(losses.mean(), loss)
        for i, tensor in enumerate(whole.trainer.hidden):
            torch.testing.assert_close(torch.cat([half.hidden[i] for half in halves], dim=1), tensor)


def test_a_group_of_one_is_a_single_process(small_config: Config, places: Places, alone: Ranks) -> None:
    """Bit for bit, with dropout; through its checkpoint too."""
    single, group = new_session(small_config, places), new_session(small_config, places, ranks=alone)
    assert isinstance(group.trainer, RankTrainer)
    states: list[dict[str, Any]] = []
    for session in (single, group):
        trainer = session.trainer
        generator = torch.get_rng_state()
        torch.manual_seed(5)
        stats = [trainer.step(0.01, observe=step == 3) for step in range(4)]
        state = trainer.state_dict()
        trainer.load_state_dict(state)
        stats.append(trainer.step(0.01))
        rows = [(one.loss, one.grad_norm, one.characters) for one in stats]
        observed = stats[3].observation
        assert observed is not None
        state = trainer.state_dict()
        state["generators"].pop("ranks", None)
        states.append({"trainer": state, "rows": dict(enumerate(rows)), "observed": observed.to_row()})
        torch.set_rng_state(generator)
    assert differences(states[0], states[1]) == []
    assert group.trainer.is_finite
    group.trainer.hidden[0][0, 0, 0] = float("nan")
    assert not group.trainer.is_finite


def test_the_characters_of_a_step_are_those_of_all_ranks(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda *_: None)
    half = part(session, 0, 2)
    for _ in range(3):
        assert half.step(0.01).characters == session.trainer.step(0.01).characters


def test_a_state_that_is_not_finite_on_another_rank_counts(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    half = part(session, 0, 2)
    for elsewhere, finite in [(0.0, True), (1.0, False)]:
        monkeypatch.setattr(dist, "all_reduce", lambda tensor, *_, bad=elsewhere: tensor.clamp_(min=bad))
        assert half.is_finite is finite


def test_threads_are_kept_by_as_many_ranks_only(
    session: Session, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process may have all cores to itself; each of several has its share."""
    given: list[int | None] = []

    def make(text: object, config: object, threads: int | None, ranks: object) -> Trainer:
        given.append(threads)
        return session.trainer

    monkeypatch.setattr("charrnn.training.session.make_trainer", make)
    state = session.state_dict()
    state["environment"]["threads"] = 3
    for ranks in (None, Ranks(0, 2, 0, HashStore())):
        restore_session(tmp_path / "file", state, session.config, places, ranks=ranks)
    assert given == [3, None]


def test_other_threads_are_no_reason_to_refuse_where_ranks_are_others(
    small_config: Config, places: Places, alone: Ranks
) -> None:
    """As they are where the ranks are the same; another precision always is."""
    session = begin(small_config, places)
    assert session.folder is not None
    state = session.state_dict()
    state["environment"]["threads"] = 3
    config = revise_config(small_config, ["training.threads=1"])
    for count, refused in [(2, False), (1, True)]:
        state["trainer"]["generators"]["ranks"] = {str(rank): {} for rank in range(1, count)}
        found = Found(session.folder.last, state, [])
        with pytest.raises(CheckpointError, match="threads: 3") if refused else nullcontext():
            resume_session(session.folder, found, config, places, ranks=alone)
    state["precision"] = "bf16"
    state["trainer"]["generators"]["ranks"] = {"1": {}}
    with pytest.raises(CheckpointError, match=r"precision: bf16 in the run, fp32 here$"):
        resume_session(session.folder, Found(session.folder.last, state, []), config, places, ranks=alone)


def test_a_rank_takes_its_rows_of_a_saved_state(session: Session) -> None:
    for _ in range(3):
        session.trainer.step(0.01)
    state = session.trainer.state_dict()
    second = part(session, 1, 2)
    assert second._load_part(state) is None
    assert second.steps == 3
    for ours, whole in zip(second.hidden, session.trainer.hidden, strict=True):
        assert torch.equal(ours, whole[:, 2:])
    state["hidden"]["0"] = state["hidden"]["0"][:, :3]
    assert "rank 1: the hidden state has another shape" in str(second._load_part(state))
    assert "rank 1" in str(second._load_part({}))


def test_every_rank_draws_dropout_for_itself(session: Session) -> None:
    """From its saved generator; one that was not saved gets a seed by rank and step, and rank 0's stays its own."""
    state = session.trainer.state_dict()  # with torch's own generator, which the next line seeds anew
    trainers = [part(session, rank, 2) for rank in (0, 1)]
    drawn = []
    for trainer in trainers:
        for steps in (0, 7):
            trainer._load_part({**state, "steps": steps})
            drawn.append(torch.rand(3).tolist())
    torch.set_rng_state(state["generators"]["cpu"])
    assert drawn[0] == drawn[1] == torch.rand(3).tolist()
    assert drawn[2] != drawn[3]
    assert drawn[0] not in drawn[2:]
    own = torch.Generator().manual_seed(3)
    state["generators"]["ranks"] = {"1": {"cpu": own.get_state()}}
    trainers[1]._load_part(state)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=own))
    assert ranks_in(state) == 2


def test_all_ranks_start_with_the_same_weights(session: Session) -> None:
    states = [dict(part(session, rank, 2).model.state_dict()) for rank in (0, 1)]
    assert differences(states[0], states[1]) == []
    assert differences(states[0], dict(session.trainer.model.state_dict())) == []


def test_an_order_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce(tensor: Tensor, kind: object) -> None:
        assert kind == dist.ReduceOp.MAX
        torch.maximum(tensor, torch.tensor([Order.STEP, 0.1, 1, 0], dtype=torch.float64), out=tensor)

    monkeypatch.setattr(dist, "all_reduce", reduce)
    listener = Ranks(1, 2, 1, HashStore())
    assert listener.hear() == (Order.STEP, 0.1, True)
    assert listener.asked_to_stop == 0
    assert listener.hear(signal.SIGTERM)[0] is Order.STEP
    assert listener.hear()[0] is Order.STEP
    assert listener.asked_to_stop == signal.SIGTERM, "it is not forgotten"
    assert listener.say(Order.END) is None, "only rank 0 says something"  # type: ignore[func-returns-value]


def test_rank_0_speaks_up_when_it_was_quiet_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[float]] = []
    leader = Ranks(0, 2, 0, HashStore())
    monkeypatch.setattr(leader, "_exchange", said.append)
    clock = iter([100.0, 104.0, 106.0, 106.0, 110.0])
    monkeypatch.setattr("charrnn.training.ranks.time.monotonic", lambda: next(clock))
    leader.say(Order.CHECK)
    leader.keep_in_touch()
    leader.keep_in_touch()
    leader.keep_in_touch()
    assert [numbers[0] for numbers in said] == [Order.CHECK, Order.WAIT]


LOSSES = [
    RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"),
    dist.DistBackendError("NCCL error"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=["gloo", "nccl"])
def test_only_the_first_to_notice_a_loss_speaks(loss: Exception) -> None:
    store = HashStore()
    first, second = (Ranks(rank, 3, rank, store) for rank in (2, 0))
    with pytest.raises(CharRNNError, match=r"rank 2 lost another process .*--resume"), first.together():
        raise loss
    with pytest.raises(SystemExit, match="1"), second.together():
        raise loss
    assert first.broken
    assert second.broken


def test_an_error_of_its_own_is_told_by_the_rank_that_has_it() -> None:
    """The others lose the connection to it, and have nothing to add."""
    store = HashStore()
    first, second = (Ranks(rank, 2, rank, store) for rank in (1, 0))
    with pytest.raises(RuntimeError, match="out of memory"), first.together():
        raise RuntimeError("out of memory")
    assert first.broken
    with pytest.raises(SystemExit), second.together():
        raise LOSSES[0]


def test_without_its_store_a_rank_speaks_rather_than_not() -> None:
    def gone(*_: object) -> int:
        raise dist.DistNetworkError("connection refused")

    lonely = Ranks(1, 2, 1, cast(Any, SimpleNamespace(add=gone)))
    with pytest.raises(CharRNNError), lonely.together():
        raise LOSSES[0]


TORCHRUNS = {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("changes", "processes", "first"),
    [({}, 3, False), ({"RANK": "0"}, 3, True), ({"WORLD_SIZE": "1"}, 1, True), ({"MASTER_PORT": ""}, 1, True)],
)
def test_the_environment_says_who_one_is(
    changes: dict[str, str], processes: int, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**TORCHRUNS, **changes}.items():
        monkeypatch.setenv(name, value)
    assert (size(), is_first()) == (processes, first)


@pytest.mark.parametrize(
    ("told", "processes", "threads"), [(None, "2", 3), (None, "4", 1), (None, "9", 1), ("5", "2", 6)]
)
def test_cores_are_shared_unless_torchrun_has_said_how(
    told: str | None, processes: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [6]
    monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1])
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setenv("OMP_NUM_THREADS", "x")  # so that it is put back afterwards
    os.environ.pop("OMP_NUM_THREADS") if told is None else os.environ.update(OMP_NUM_THREADS=told)
    _share_cores()
    assert chosen[-1] == threads


def test_a_signal_to_another_rank_counts_as_ones_own() -> None:
    far = SimpleNamespace(asked_to_stop=0, keep_in_touch=lambda: asked.append(1))
    asked: list[int] = []
    interrupts = SharedInterrupts(cast(Ranks, far))
    assert not interrupts()
    far.asked_to_stop = signal.SIGTERM
    assert interrupts()
    assert interrupts.received == signal.SIGTERM
    assert len(asked) == 2


def test_another_number_of_processes_is_mentioned() -> None:
    def state(count: int) -> dict[str, Any]:
        return {"trainer": {"generators": {"ranks": {str(rank): {} for rank in range(1, count)}}}}

    two = Ranks(0, 2, 0, HashStore())
    assert other_ranks({"trainer": {"generators": {}}}, None) is None
    assert other_ranks(state(2), two) is None
    assert "saved by 3 process(es), going on with 2" in str(other_ranks(state(3), two))
    assert "saved by 2 process(es), going on with 1" in str(other_ranks(state(2), None))


def test_a_device_for_all_ranks_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so are more ranks than devices; each takes its own."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    from charrnn.training.rank_trainer import _take_device

    for rank in (0, 1):
        _take_device("auto", Ranks(rank, 4, rank, HashStore()))
    assert taken == [0, 1]
    for requested in ("auto", "cuda"):
        with pytest.raises(UsageError, match="more processes than the 2 CUDA devices"):
            _take_device(requested, Ranks(2, 4, 2, HashStore()))
    _take_device("cpu", Ranks(2, 4, 2, HashStore()))
    training = session.config.training.model_copy(update={"device": "cuda:1"})
    config = session.config.model_copy(update={"training": training})
    with pytest.raises(UsageError, match="each process takes a device of its own"):
        make_trainer(session.text, config, None, Ranks(0, 2, 0, HashStore()))
    assert taken == [0, 1]
