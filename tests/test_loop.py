"""When the loop logs, evaluates, saves and stops."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.errors import DivergedError
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.keeping import newest_whole
from charrnn.runs.metrics import read_metrics
from charrnn.runs.saved import load_model
from charrnn.text.places import Places
from charrnn.training import loop as loop_module
from charrnn.training.dry_run import TIMED_STEPS, dry_run
from charrnn.training.evaluation import evaluate
from charrnn.training.look import validation_loss
from charrnn.training.loop import Outcome
from charrnn.training.schedules import learning_rate
from charrnn.training.session import new_session, resume_session
from charrnn.training.trainer import StepStats, Trainer
from tests.conftest import make_config
from tests.helpers import LOG_KEYS, OBSERVED_KEYS, begin, resumed, train


def test_cadence_of_logs_and_evaluations(small_config: Config, places: Places) -> None:
    session = begin(small_config, places)
    train(session)
    assert session.folder is not None
    rows = list(read_metrics(session.folder.metrics))
    logs = [row for row in rows if "train_loss" in row]
    evaluations = [row for row in rows if "val_loss" in row]
    assert [row["step"] for row in logs] == [7, 14, 21, 28, 35, 40]
    assert [row["step"] for row in evaluations] == [20, 40]
    assert all(set(row) == LOG_KEYS | OBSERVED_KEYS for row in logs[:-1])
    assert set(logs[-1]) == LOG_KEYS, "an interval that was cut short"
    assert "val_loss_cold" in evaluations[-1]
    assert rows[-1]["seconds"] >= rows[0]["seconds"] > 0


def test_the_log_says_what_the_steps_were(small_config: Config, places: Places) -> None:
    session = begin(small_config, places)
    train(session)
    twin = new_session(small_config, places)
    losses, weights, norms = [], [], []
    for step in range(7):
        stats = twin.trainer.step(learning_rate(small_config.training, step, step / 40))
        losses.append(stats.loss.item())
        weights.append(stats.characters)
        norms.append(stats.grad_norm.item())
    assert session.folder is not None
    row = next(read_metrics(session.folder.metrics))
    mean = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
    assert row["train_loss"] == pytest.approx(mean, rel=1e-6)
    assert row["grad_norm"] == pytest.approx(sum(norms) / 7, rel=1e-6)
    assert row["grad_norm_median"] == pytest.approx(sorted(norms)[3], rel=1e-6)
    assert max(norms) >= row["grad_norm_p99"] > sorted(norms)[-2]
    assert row["train_loss_max"] == pytest.approx(max(losses), rel=1e-6)
    assert row["clipped"] == sum(norm > 1 for norm in norms) / 7
    assert row["lr"] == learning_rate(small_config.training, 6, 6 / 40)


def test_best_and_last_are_kept(small_config: Config, places: Places) -> None:
    session = begin(small_config, places)
    train(session)
    assert session.folder is not None
    losses = {r["step"]: r["val_loss"] for r in read_metrics(session.folder.metrics) if "val_loss" in r}
    best = min(losses, key=lambda step: losses[step])
    assert read_checkpoint(session.folder.best)["trainer"]["steps"] == best == session.score.best_step
    assert read_checkpoint(session.folder.last)["trainer"]["steps"] == 40
    assert load_model(session.folder.path, torch.device("cpu")).steps == best


def test_epochs_end_training(text_file: Path, places: Places) -> None:
    session = begin(make_config(str(text_file), "training.max_steps=null", "training.epochs=1.5"), places)
    assert train(session) is Outcome.LIMIT
    assert 1.5 <= session.trainer.streams.epochs_done < 1.6


def test_patience_ends_training(text_file: Path, places: Places) -> None:
    """At a rate that does nothing, no evaluation improves on the first."""
    config = make_config(
        str(text_file), "training.lr=1e-30", "training.max_steps=null", "training.patience=3", "run.eval_every=5"
    )
    session = begin(config, places)
    with patch("charrnn.training.look.evaluate", wraps=evaluate) as evaluations:
        assert train(session) is Outcome.PATIENCE
    assert session.trainer.steps == 5 * (1 + 3)
    assert session.folder is not None
    *_, before, final = [row for row in read_metrics(session.folder.metrics) if "val_loss" in row]
    assert (before["step"], before["val_loss"]) == (final["step"], final["val_loss"])
    assert [call.kwargs["carried"] for call in evaluations.call_args_list] == [True] * 4 + [False], (
        "nothing is read twice"
    )


def test_more_patience_goes_on(text_file: Path, places: Places) -> None:
    """As far as if there had been so much from the start; with no more than before nothing is done or written."""
    settings = ("training.lr=1e-30", "training.max_steps=null", "run.eval_every=5")
    whole = begin(make_config(str(text_file), *settings, "training.patience=4"), places, "whole")
    assert train(whole) is Outcome.PATIENCE
    session = begin(make_config(str(text_file), *settings, "training.patience=3"), places)
    train(session)
    assert session.folder is not None
    found = newest_whole(session.folder)
    assert resume_session(session.folder, found, session.config, places).score.finished
    patient = revise_config(session.config, ["training.patience=4"])
    session = resume_session(session.folder, found, patient, places)
    assert not session.score.finished
    assert train(session) is Outcome.PATIENCE
    assert session.trainer.steps == whole.trainer.steps == 25


def test_time_ends_training_and_drives_the_schedule(
    text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that ticks half a second per look, ten seconds are at most twenty steps."""
    ticks = iter(range(10**6))
    monkeypatch.setattr("charrnn.training.loop.clock.now", lambda: next(ticks) * 0.5)
    config = make_config(
        str(text_file),
        "training.max_steps=null",
        "training.max_time=10s",
        "run.log_every=1",
        "training.schedule=linear",
    )
    session = begin(config, places)
    assert train(session) is Outcome.LIMIT
    assert session.folder is not None
    rows = [row for row in read_metrics(session.folder.metrics) if "lr" in row]
    assert rows[-1]["seconds"] == pytest.approx(10)
    for before, row in pairwise(rows):
        # The rate was set somewhere between the two lines: saving takes time as well.
        rates = [config.training.lr * (1 - r["seconds"] / 10) for r in (row, before)]
        assert rates[0] <= row["lr"] <= rates[1] * (1 + 1e-9)


def test_divergence_stops_with_the_last_good_checkpoint_intact(
    text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = begin(make_config(str(text_file)), places)
    original = session.trainer.model.forward

    def break_after_step_30(x: torch.Tensor, hidden: tuple[torch.Tensor, ...]) -> object:
        logits, state = original(x, hidden)
        return (logits * float("inf") if session.trainer.steps >= 30 else logits), state

    monkeypatch.setattr(session.trainer.model, "forward", break_after_step_30)
    with pytest.raises(DivergedError, match=r"--set training\.lr=0\.001") as caught:
        train(session)
    assert caught.value.exit_code == 3
    assert session.folder is not None
    saved = read_checkpoint(session.folder.last)
    assert saved["trainer"]["steps"] == 30
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved["trainer"]["model"].values())


def test_an_end_in_the_last_evaluation_is_in_the_log(small_config: Config, places: Places) -> None:
    session = begin(small_config, places)
    looks = iter(range(10))
    assert train(session, lambda: session.trainer.steps == 40 and next(looks) > 1) is Outcome.INTERRUPTED
    assert session.folder is not None
    last = list(read_metrics(session.folder.metrics))[-1]
    assert (last["step"], last.get("interrupted"), session.score.finished) == (40, True, False)


def test_no_time_of_an_evaluation_counts_for_speed(
    small_config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 100 seconds, a step takes one: nor in a run that goes on from the best checkpoint, saved within."""
    now = 0.0

    def a_step(trainer: Trainer, *args: Any, **more: Any) -> StepStats:
        nonlocal now
        now += 1
        return step(trainer, *args, **more)

    def an_evaluation(*args: Any) -> float | None:
        nonlocal now
        now += 100
        return validation_loss(*args)

    step = Trainer.step
    monkeypatch.setattr(loop_module, "clock", SimpleNamespace(now=lambda: now))
    monkeypatch.setattr(loop_module, "validation_loss", an_evaluation)
    monkeypatch.setattr(Trainer, "step", a_step)
    session = begin(revise_config(small_config, ["training.random_seq_len=false"]), places)
    train(session, lambda: session.trainer.steps == 25)
    folder = session.folder
    assert folder is not None
    folder.last.unlink()
    again = resumed(folder.path, places, session.config)
    assert (again.trainer.steps, train(again)) == (20, Outcome.LIMIT)
    speeds = [row["chars_per_sec"] for row in read_metrics(folder.metrics) if "chars_per_sec" in row]
    assert len(set(speeds[:3])) == 1


def test_a_look_before_foretells_the_time(small_config: Config, places: Places) -> None:
    """Two seconds a step, as ``dry_run`` times them; ``max_time`` ends it before step 40."""
    for limit, seconds in (("max_steps=40", 80), ("max_time=30s", 30)):
        config = revise_config(small_config, ["training.random_seq_len=false", f"training.{limit}"])
        with patch("time.perf_counter", side_effect=[0.0, 2.0 * TIMED_STEPS]):
            found = dry_run(new_session(config, places))
        assert (found["estimated_seconds"], found["characters_per_step"], found["chars_per_sec"]) == (seconds, 40, 20)


def test_run_folder_says_which_text_it_used(small_config: Config, places: Places, text_file: Path) -> None:
    session = begin(small_config, places)
    assert session.folder is not None
    environment = session.folder.environment.read_text()
    assert session.text.sha256 in environment
    assert str(text_file) in environment
    assert str(text_file) in session.folder.config.read_text()


def test_baselines_are_beside_the_loss(small_config: Config, places: Places) -> None:
    session = new_session(small_config, places)
    assert list(session.baselines) == ["uniform", "unigram", "bigram", "trigram"]
    assert session.baselines["uniform"] == math.log(len(session.text.vocabulary))
