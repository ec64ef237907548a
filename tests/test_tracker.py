"""TensorBoard's event files say what ``metrics.jsonl`` says, however a run was interrupted. Its own readers judge."""

from __future__ import annotations

import dataclasses
import errno
import logging
import math
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import flat
from charrnn.runs import files
from charrnn.runs.event_file import PREFIX
from charrnn.runs.metrics import read_metrics
from charrnn.runs.run import read_run
from charrnn.studies.compared import NO_EXPERIMENT
from charrnn.text.places import Places
from charrnn.training.loop import Loop
from charrnn.training.session import Session
from charrnn.training.tracking import TrackedReporter
from charrnn.training.trainer import StepStats, Trainer
from tests.command_line import run, snapshot
from tests.conftest import make_config
from tests.helpers import Silent, begin, never, resumed, stop_at

Scalars = dict[str, dict[int, float]]
KEYS = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "loss/val_cold": "val_loss_cold",
    "lr": "lr",
    "grad_norm": "grad_norm",
    "grad_norm/p99": "grad_norm_p99",
    "clipped": "clipped",
    "chars_per_sec": "chars_per_sec",
}
WORDS = ("train", "--config", "small.yaml")
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 4}
run: {log_every: 1, sample_length: 20}
"""


@pytest.fixture(autouse=True)
def no_tensorboard_logging() -> Iterator[None]:
    """Its reader tells of every purge."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    yield
    logging.getLogger("tensorboard").setLevel(logging.NOTSET)


@pytest.fixture
def config(small_config: Config) -> Config:
    return revise_config(small_config, ["run.tracker=tensorboard"])


def follow(session: Session, should_stop: Callable[[], object] = never) -> Silent:
    """Train with the tracker; what was told."""
    silent = Silent()
    with TrackedReporter(silent, session) as reporter:
        Loop(session, reporter, should_stop).run()
    return silent


def folder_of(session: Session) -> Path:
    assert session.folder is not None
    return session.folder.path


def events(path: Path, reader: type[Any] = EventAccumulator) -> Any:
    found = reader(str(path / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def shown(path: Path) -> Scalars:
    """All scalars by tag and step; no step may be there twice."""
    found = events(path)
    scalars: Scalars = {}
    for tag in found.Tags()["scalars"]:
        steps = [one.step for one in found.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
        if steps:  # a tag of which everything was taken back stays
            scalars[tag] = {one.step: one.value for one in found.Scalars(tag)}
    return scalars


def logged(path: Path) -> Scalars:
    """The same, from the run's log."""
    scalars: Scalars = {}
    for row in read_metrics(path / "metrics.jsonl"):
        values: dict[str, Any] = {tag: row[key] for tag, key in KEYS.items() if key in row}
        if "val_loss" in row:
            values["bpc/val"] = row["val_loss"] / math.log(2)
        for name, seen in row.get("tensors", {}).items():
            values |= {f"{key}/{name}": seen[key] for key in ("grad_norm", "update_ratio") if key in seen}
        for tag, value in values.items():
            scalars.setdefault(tag, {})[row["step"]] = value
    return scalars


def texts(path: Path, tag: str) -> list[tuple[int, str]]:
    """The texts of a tag, without the indentation that makes them code; read as TensorBoard's pages do (the other
    reader forgets to take texts back)."""
    there = events(path, PluginEventAccumulator)
    tensors = there.Tensors(tag) if tag in there.Tags()["tensors"] else []
    found = [(one.step, one.tensor_proto.string_val[0].decode()) for one in tensors]
    assert all(line.startswith("    ") for _, text in found for line in text.split("\n"))
    return [(step, "\n".join(line[4:] for line in text.split("\n"))) for step, text in found]


def assert_mirrored(path: Path) -> None:
    """Everything in the log is shown, and nothing else; a scalar has the digits of a float32."""
    expected, found = logged(path), shown(path)
    assert found.keys() == expected.keys()
    for tag, values in expected.items():
        assert found[tag] == {step: pytest.approx(value, rel=1e-6) for step, value in values.items()}, tag
    assert texts(path, "sample") == read_run(path).samples


class Lost(Exception):
    """The process is gone."""


def crash_at(session: Session, step: int) -> Callable[[], bool]:
    def ask() -> bool:
        if session.trainer.steps >= step:
            raise Lost
        return False

    return ask


def test_every_number_of_the_log(config: Config, places: Places) -> None:
    session = begin(config, places)
    silent = follow(session)
    path = folder_of(session)
    assert_mirrored(path)
    assert {"loss/val_cold", "update_ratio/decoder.weight"} < shown(path).keys()
    assert (len(silent.logs), len(silent.evaluations), silent.warnings) == (6, 2, [])


def test_config_as_text_and_as_settings_to_compare_by(config: Config, places: Places) -> None:
    session = begin(config, places)
    follow(session)
    path = folder_of(session)
    [(step, text)] = texts(path, "config")
    assert step == 0
    assert text == (path / "config.yaml").read_text()
    content = events(path).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    settings = flat(yaml.safe_load(text))
    assert hparams.keys() == settings.keys()
    assert hparams["training.lr"].number_value == 1e-2
    assert hparams["model.cell"].string_value == "lstm"
    assert hparams["training.random_seq_len"].bool_value is True
    assert hparams["training.max_time"].string_value == "None"


class TestGoingOn:
    @pytest.mark.parametrize("stop", [20, 23, 28, 30])
    def test_after_an_interruption(self, config: Config, places: Places, stop: int) -> None:
        session = begin(config, places)
        follow(session, stop_at(session, stop))
        follow(resumed(folder_of(session), places, config))
        assert_mirrored(folder_of(session))

    @pytest.mark.parametrize("crash", [3, 22, 29, 36, 39])
    def test_after_a_crash(self, config: Config, places: Places, crash: int) -> None:
        """What was logged behind the checkpoint that is gone back to is logged again."""
        session = begin(config, places)
        with pytest.raises(Lost):
            follow(session, crash_at(session, crash))
        again = resumed(folder_of(session), places, config)
        follow(again, stop_at(again, again.trainer.steps))
        assert_mirrored(folder_of(session))
        follow(resumed(folder_of(session), places, config))
        assert_mirrored(folder_of(session))

    def test_a_finished_run_with_more_steps(self, config: Config, places: Places) -> None:
        session = begin(config, places)
        follow(session)
        follow(resumed(folder_of(session), places, revise_config(config, ["training.max_steps=50"])))
        assert_mirrored(folder_of(session))
        assert list(shown(folder_of(session))["loss/val_cold"]) == [40, 50]
        configs = texts(folder_of(session), "config")
        assert [(step, f"max_steps: {step or 40}\n" in text) for step, text in configs] == [(0, True), (40, False)]
        assert "max_steps: 50\n" in configs[1][1]

    def test_a_tracker_that_comes_later_shows_all_of_the_run(self, config: Config, places: Places) -> None:
        session = begin(revise_config(config, ["run.tracker=none"]), places)
        Loop(session, Silent(), stop_at(session, 25)).run()
        follow(resumed(folder_of(session), places, config))
        assert_mirrored(folder_of(session))
        assert min(shown(folder_of(session))["lr"]) == 7

    @pytest.mark.parametrize("stopped", [False, True], ids=["goes on", "stopped there"])
    def test_after_a_rollback(
        self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch, stopped: bool
    ) -> None:
        """From step 40 to step 30: the line of step 35 belongs to a past that is gone."""
        step = Trainer.step

        def diverging(self: Trainer, lr: float, observe: bool = False) -> StepStats:
            stats = step(self, lr, observe)
            bad = self.steps == 37 and session.score.rollbacks == 0
            return dataclasses.replace(stats, loss=stats.loss * torch.inf) if bad else stats

        monkeypatch.setattr(Trainer, "step", diverging)
        session = begin(revise_config(config, ["training.on_divergence=rollback"]), places)
        silent = follow(session, (lambda: session.score.rollbacks > 0) if stopped else never)
        assert len(silent.warnings) == 1
        assert [row["step"] for row in silent.logs].count(35) == (1 if stopped else 2)
        assert_mirrored(folder_of(session))
        assert (35 in shown(folder_of(session))["lr"]) is not stopped


class TestTrouble:
    def test_a_disk_that_is_full_for_a_while(
        self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One warning, training goes on, and what was not written is written later; half a record is no obstacle."""
        session = begin(config, places)

        class FullDisk(files.Disk):
            tracked: int | None = None

            def open_to_append(self, path: Path) -> int:
                descriptor = super().open_to_append(path)
                if path.name.startswith(PREFIX):
                    self.tracked = descriptor
                return descriptor

            def write(self, descriptor: int, content: bytes | memoryview) -> int:
                if descriptor == self.tracked and 10 < session.trainer.steps < 30:
                    os.write(descriptor, content[: len(content) // 2])
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(descriptor, content)

        monkeypatch.setattr(files, "disk", FullDisk())
        silent = follow(session)
        assert len(silent.warnings) == 1
        assert "run/tensorboard: cannot write for TensorBoard: No space left on device; " in silent.warnings[0]
        assert_mirrored(folder_of(session))

    def test_no_folder(self, config: Config, places: Places) -> None:
        session = begin(config, places)
        (folder_of(session) / "tensorboard").write_text("mine")
        silent = follow(session)
        assert len(silent.warnings) == 1
        assert "run/tensorboard" in silent.warnings[0]
        assert len(silent.logs) == 6
        assert session.score.finished
        assert (folder_of(session) / "tensorboard").read_text() == "mine"

    def test_other_warnings_pass(self, config: Config, places: Places) -> None:
        silent = Silent()
        with TrackedReporter(silent, begin(config, places)) as reporter:
            reporter.warned("the disk is full")
        assert silent.warnings == ["the disk is full"]


def test_training_is_the_same_with_it(config: Config, places: Places) -> None:
    weights = []
    for train in (follow, lambda session: Loop(session, Silent(), never).run()):
        session = begin(config, places)
        train(session)
        weights.append(session.trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_records_are_tfrecords(config: Config, places: Places) -> None:
    """Lengths lead from record to record to the very end."""
    session = begin(config, places)
    follow(session)
    [path] = (folder_of(session) / "tensorboard").iterdir()
    content, start, records = path.read_bytes(), 0, 0
    while start < len(content):
        start += struct.unpack_from("<Q", content, start)[0] + 16
        records += 1
    assert start == len(content)
    assert records == 2 + 2 + 6 + 2  # head, config, lines, evaluations


class TestCommand:
    @pytest.fixture(autouse=True)
    def config_file(self, text_file: Path) -> None:
        Path("small.yaml").write_text(CONFIG)

    def test_the_option_is_a_setting_and_stays(self) -> None:
        assert run(*WORDS, "--tracker", "tensorboard", "--name", "x").code == 0
        path = Path("runs/x")
        assert read_run(path).config.run.tracker == "tensorboard"
        assert_mirrored(path)
        assert run("train", "--resume", path, "--set", "training.max_steps=6").code == 0
        assert_mirrored(path)
        assert max(shown(path)["loss/val"]) == 6

    def test_nothing_is_made_unless_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)  # nor is it imported
        assert run(*WORDS, "--name", "x").code == 0
        assert Path("runs/x/metrics.jsonl").exists()
        assert not Path("runs/x/tensorboard").exists()

    @pytest.mark.parametrize("words", [("--tracker", "tensorboard"), ("--set", "run.tracker=tensorboard")])
    def test_without_the_package(self, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        before = snapshot()
        result = run(*WORDS, *words)
        assert (result.code, result.out) == (2, "")
        assert "run.tracker: tensorboard needs tensorboard, which is not installed; try: pip" in result.err
        assert result.err.endswith("pip install 'charrnn[tensorboard]'\n")
        assert snapshot() == before

    def test_without_the_package_on_resume(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run(*WORDS, "--name", "x").code == 0
        before = snapshot()
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        result = run("train", "--resume", "runs/x", "--tracker", "tensorboard", "--set", "training.max_steps=6")
        assert result.code == 2
        assert "pip install 'charrnn[tensorboard]'" in result.err
        assert {name for name in snapshot() if name != "runs/x/lock"} == {
            name for name in before if name != "runs/x/lock"
        }

    def test_an_unknown_tracker(self) -> None:
        result = run(*WORDS, "--tracker", "wandb")
        assert result.code == 2
        assert "--tracker wandb" in result.err
        assert not Path("runs").exists()


def test_a_tracker_is_no_part_of_an_experiment() -> None:
    assert "run.tracker" in NO_EXPERIMENT


def test_part_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    assert [row["step"] for row in read_metrics(path, 24)] == [1, 2]
    assert [row["step"] for row in read_metrics(path, 23)] == [1]
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]


def test_the_tests_config_has_a_line_after_its_last_checkpoint() -> None:
    """Else a crash and a rollback would have nothing to take back."""
    config = make_config("x.txt")
    assert config.run.save_every * 2 < config.run.log_every * 5 < (config.training.max_steps or 0)
