"""A run that was stopped and resumed equals one that was not: every tensor, every number, every line of the log."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.errors import CheckpointError, DataError
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.metrics import Row
from charrnn.text.places import Places
from charrnn.training.loop import Loop, Outcome
from charrnn.training.session import Session
from tests.conftest import make_config
from tests.helpers import Silent, begin, comparable_rows, differences, never, resumed, stop_at, train

STEPS = 40
# Includes the first step, both sides of a log line, an evaluation and a save, and the last step.
STOPS = [1, 6, 7, 8, 15, 19, 20, 21, 33, 39]


def full_state(session: Session) -> dict[str, Any]:
    """A checkpoint's content without what the clock decides."""
    state = session.state_dict()
    for name in ("seconds", "logged_at"):
        del state["score"][name]
    for name in ("metrics_length", "samples_length"):  # lines hold seconds, whose digits vary
        del state["score"][name]
    return state


@pytest.fixture
def golden(small_config: Config, places: Places) -> Session:
    session = begin(small_config, places, "golden")
    assert train(session) is Outcome.LIMIT
    return session


@pytest.mark.parametrize("stop", STOPS)
def test_resumed_equals_uninterrupted(stop: int, golden: Session, small_config: Config, places: Places) -> None:
    first = begin(small_config, places, "stopped")
    assert first.folder is not None
    assert golden.folder is not None
    assert train(first, stop_at(first, stop)) is Outcome.INTERRUPTED
    second = resumed(first.folder.path, places, small_config)
    assert second.trainer.steps == stop
    assert train(second) is Outcome.LIMIT
    assert differences(full_state(second), full_state(golden)) == []
    assert comparable_rows(first.folder.metrics) == comparable_rows(golden.folder.metrics)
    assert first.folder.samples.read_text() == golden.folder.samples.read_text()


class Deaf(Silent):
    """A terminal that goes away with the line of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def logged(self, row: Row, progress: float) -> None:
        if row["step"] == self.step:
            raise OSError(errno.EIO, "Input/output error")

    def evaluated(self, row: Row) -> None:
        self.logged(row, 0.0)


@pytest.mark.parametrize("step", [7, 14, 20, 40])
def test_nothing_is_lost_when_nobody_can_be_told(
    step: int, golden: Session, small_config: Config, places: Places
) -> None:
    first = begin(small_config, places, "deaf")
    assert first.folder is not None
    assert golden.folder is not None
    with pytest.raises(OSError, match="Input/output error"):
        Loop(first, Deaf(step), never).run()
    second = resumed(first.folder.path, places, small_config)
    assert second.trainer.steps == step
    train(second)
    assert differences(full_state(second), full_state(golden)) == []
    assert comparable_rows(first.folder.metrics) == comparable_rows(golden.folder.metrics)


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_other_cells_and_optimizers_resume_too(cell: str, optimizer: str, text_file: Path, places: Places) -> None:
    config = make_config(str(text_file), f"model.cell={cell}", f"training.optimizer={optimizer}")
    whole = begin(config, places, "whole")
    train(whole)
    stopped = begin(config, places, "stopped")
    train(stopped, stop_at(stopped, 17))
    assert stopped.folder is not None
    again = resumed(stopped.folder.path, places, config)
    train(again)
    assert differences(full_state(again), full_state(whole)) == []


LEFT_OUT = [
    ("trainer", "optimizer", "state", "0", "exp_avg"),
    ("trainer", "hidden", "0"),
    ("trainer", "generators", "cpu"),
    ("trainer", "generators", "windows"),
    ("trainer", "streams", "position"),
    ("trainer", "steps"),
    ("meter", "losses"),
]


@pytest.mark.parametrize("path", LEFT_OUT, ids="/".join)
def test_whatever_is_left_out_shows(
    path: tuple[str, ...], golden: Session, small_config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above can fail: forget one saved item, and the resumed run is another one."""
    first = begin(small_config, places, "stopped")
    train(first, stop_at(first, 26))  # behind an evaluation, inside a log interval
    assert first.folder is not None

    def forgetful(file: Path) -> dict[str, Any]:
        state = read_checkpoint(file)
        target = state
        for key in path[:-1]:
            target = target[key]
        value = target[path[-1]]
        if "generators" in path:
            target[path[-1]] = torch.Generator().manual_seed(99).get_state()
        else:
            target[path[-1]] = value + 1 if isinstance(value, int) else value.mul(0)
        return state

    monkeypatch.setattr("charrnn.runs.keeping.read_checkpoint", forgetful)
    second = resumed(first.folder.path, places, small_config)
    train(second)
    assert golden.folder is not None
    same_log = comparable_rows(first.folder.metrics) == comparable_rows(golden.folder.metrics)
    assert differences(full_state(second), full_state(golden)) or not same_log


def test_logs_are_cut_back_to_what_the_checkpoint_knows(golden: Session, small_config: Config, places: Places) -> None:
    """A crash after the last save leaves lines that the resumed run will write again."""
    first = begin(small_config, places, "crashed")
    train(first, stop_at(first, 22))
    assert first.folder is not None
    assert golden.folder is not None
    with first.folder.metrics.open("a") as file:
        file.write('{"step": 23, "train_loss": 1.0}\n{"step": 2')
    train(resumed(first.folder.path, places, small_config))
    assert comparable_rows(first.folder.metrics) == comparable_rows(golden.folder.metrics)


def test_a_finished_run_is_finished_until_its_limit_is_raised(golden: Session, places: Places) -> None:
    assert golden.folder is not None
    config = golden.config
    assert resumed(golden.folder.path, places, config).score.finished
    longer = revise_config(config, ["training.max_steps=50"])
    session = resumed(golden.folder.path, places, longer)
    assert not session.score.finished
    assert train(session) is Outcome.LIMIT
    assert session.trainer.steps == 50


def test_what_was_changed_is_saved_before_the_first_step(small_config: Config, places: Places) -> None:
    """Whoever is killed behind it goes on, or back, with the new settings."""
    first = begin(small_config, places)
    train(first, stop_at(first, 20))
    assert first.folder is not None
    slower = revise_config(small_config, ["training.lr=1e-3"])
    with closing(Loop(resumed(first.folder.path, places, slower), Silent(), never).steps()) as steps:
        next(steps)
        assert read_checkpoint(first.folder.last)["config"]["training"]["lr"] == 1e-3


@pytest.mark.parametrize("change", ["model.hidden_size=9", "training.batch_size=5", "training.optimizer=sgd"])
def test_a_resumed_run_keeps_its_model(change: str, golden: Session, places: Places) -> None:
    assert golden.folder is not None
    with pytest.raises(CheckpointError, match=change.split("=", maxsplit=1)[0]):
        resumed(golden.folder.path, places, revise_config(golden.config, [change]))


def test_a_changed_text_is_refused(golden: Session, text_file: Path, places: Places) -> None:
    assert golden.folder is not None
    text_file.write_text(text_file.read_text().replace("cat", "cow"))
    with pytest.raises(DataError, match="changed"):
        resumed(golden.folder.path, places, golden.config)
