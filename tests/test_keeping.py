"""Which checkpoints a run keeps, from which of them it goes on, and when it refuses to."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charrnn.config.loader import load_config, revise_config
from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, CheckpointError, DivergedError, UsageError
from charrnn.runs import files
from charrnn.runs.checkpoint import State, pack, read_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.runs.keeping import Keeper, find_state, newest_whole, step_of
from charrnn.runs.lock import FolderLock
from charrnn.runs.metrics import read_metrics
from charrnn.runs.run import read_run
from charrnn.text.places import Places
from charrnn.training import loop as loop_module
from charrnn.training.divergence import diverged
from charrnn.training.loop import Loop, Outcome
from charrnn.training.session import Session, config_in, resume_session
from charrnn.training.trainer import StepStats, Trainer
from tests.children import Child, charrnn
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import Silent, begin, comparable_rows, differences, resumed, stop_at, train, write_checkpoint

CLOCK = ("seconds", "logged_at", "metrics_length", "samples_length")
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Runs may ask for a number of threads: the tests behind them had another."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and two runs on it: one that nothing happened to, and one that was stopped at step 22."""
    base = tmp_path_factory.mktemp("trained")
    (base / "cat.txt").write_text(TEXT)
    config, places = config_for(base / "cat.txt", f"run.out={base}"), Places(data=(), cache=base / "cache")
    assert train(begin(config, places, "golden")) is Outcome.LIMIT
    session = begin(config, places, "stopped")
    train(session, stop_at(session, 22))
    return base


def config_for(text: Path, *changes: str) -> Config:
    """40 steps: saves at 0, 6, 12 ... 36 and 40, evaluations at 20 and 40."""
    return make_config(str(text), "run.save_every=6", "run.keep=3", "training.threads=1", *changes)


@pytest.fixture
def text_file(trained: Path) -> Iterator[Path]:
    """The text of these runs; a test may change it."""
    yield trained / "cat.txt"
    (trained / "cat.txt").write_text(TEXT)


@pytest.fixture
def config(text_file: Path) -> Config:
    return config_for(text_file)


@pytest.fixture
def golden(trained: Path, text_file: Path) -> RunFolder:
    """A run that nothing happened to."""
    return RunFolder(Path(shutil.copytree(trained / "golden", "runs/golden")))


@pytest.fixture
def stopped(trained: Path, text_file: Path) -> RunFolder:
    """The same run, stopped at step 22: last is 22, best is 20, older ones are 18, 12 and 6."""
    folder = RunFolder(Path(shutil.copytree(trained / "stopped", "runs/stopped")))
    assert (older(folder), steps_of(folder.last), steps_of(folder.best)) == ([18, 12, 6], 22, 20)
    return folder


def folder_of(session: Session) -> RunFolder:
    assert session.folder is not None
    return session.folder


def older(folder: RunFolder) -> list[int]:
    """The steps of the older checkpoints, newest first, by their names."""
    return [int(path.stem.removeprefix("step-")) for path in folder.all_older()]


def steps_of(file: Path) -> int:
    steps = read_checkpoint(file)["trainer"]["steps"]
    assert isinstance(steps, int)
    return steps


def comparable(state: State) -> State:
    """A state without clocks, command line and what decides which checkpoints there are."""
    state = {**state, "score": {name: value for name, value in state["score"].items() if name not in CLOCK}}
    del state["environment"], state["config"]["run"]
    return state


def assert_equal(folder: RunFolder, golden: RunFolder) -> None:
    """Two finished runs end in the same state, with the same log and samples."""
    assert differences(comparable(read_checkpoint(folder.last)), comparable(read_checkpoint(golden.last))) == []
    assert comparable_rows(folder.metrics) == comparable_rows(golden.metrics)
    assert folder.samples.read_text() == golden.samples.read_text()


def resume(path: Path, *words: str) -> Result:
    return run("train", "--resume", path, *words)


def refused(path: Path, *words: str) -> str:
    """What ``--resume`` says; it may change nothing."""
    before = snapshot()
    result = resume(path, *words)
    assert (result.code, result.out, len(re.findall("(?m)^error: ", result.err))) == (2, "", 1), result
    assert snapshot() == before
    return result.err


def goes_on(path: Path, *words: str) -> str:
    """What ``--resume`` says when it goes on to the end."""
    result = resume(path, *words)
    assert result.code == 0, result.err
    assert "Done:   reached its limit" in result.err
    return result.err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: list[Callable[[Path], None]] = [cut, flip, empty, Path.unlink]


class TestWhichAreKept:
    @pytest.mark.parametrize(("keep", "expected"), [(0, []), (1, [36]), (3, [36, 30, 24]), (100, [*range(36, -1, -6)])])
    def test_keep(self, keep: int, expected: list[int], config: Config, places: Places) -> None:
        session = begin(revise_config(config, [f"run.keep={keep}"]), places)
        train(session)
        folder = folder_of(session)
        assert older(folder) == expected
        assert [steps_of(file) for file in folder.all_older()] == expected
        assert steps_of(folder.last) == 40
        assert steps_of(folder.best) == session.score.best_step
        assert len(list(folder.checkpoints.iterdir())) == len(expected) + 2, "something is left lying about"

    @pytest.mark.parametrize(("keep", "expected"), [(0, []), (1, [36]), (5, [36, 30, 24, 22, 18])])
    def test_keep_may_change_on_resume(self, keep: int, expected: list[int], stopped: RunFolder) -> None:
        goes_on(stopped.path, "--set", f"run.keep={keep}")
        assert older(stopped) == expected

    def test_the_best_is_never_removed(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """At every save there is the best one of the log so far; here the losses fall until step 12 and then rise."""
        session = begin(revise_config(config, ["run.keep=0", "run.eval_every=4"]), places)
        save, seen = Keeper.save_last, []

        def save_and_look(keeper: Keeper, state: State, step: int) -> None:
            save(keeper, state, step)
            losses = {row["step"]: row["val_loss"] for row in read_metrics(keeper.folder.metrics) if "val_loss" in row}
            if losses:
                seen.append(steps_of(keeper.folder.best))
                assert seen[-1] == min(losses, key=lambda step: losses[step])

        monkeypatch.setattr(Keeper, "save_last", save_and_look)
        monkeypatch.setattr(
            "charrnn.training.loop.validation_loss", lambda session, *_: 1.0 + abs(session.trainer.steps - 12)
        )
        train(session)
        assert seen == [4, 12, 12, 12, 12, 12, 12]

    def test_a_save_at_the_same_step_keeps_no_copy(self, stopped: RunFolder, config: Config, places: Places) -> None:
        session = resumed(stopped.path, places, config)
        train(session, lambda: True)
        assert (older(stopped), steps_of(stopped.last)) == ([18, 12, 6], 22)

    def test_what_a_crash_left_unfinished_goes_away(self, stopped: RunFolder) -> None:
        rubbish = stopped.checkpoints / ".unfinished-last.safetensors-0123"
        rubbish.write_bytes(b"half a checkpoint")
        goes_on(stopped.path)
        assert not rubbish.exists()


class TestNothingIsPrunedForWhatCannotBeRead:
    """A disk that takes everything and gives back rubbish, at some saves or at all of them."""

    @pytest.fixture
    def bad_saves(self, monkeypatch: pytest.MonkeyPatch) -> set[int]:
        """The steps at which the disk does that."""
        steps: set[int] = set()

        class BadDisk(files.Disk):
            def replace(self, source: Path, target: Path) -> None:
                if target.suffix == ".safetensors" and steps_of(source) in steps:
                    flip(source)
                super().replace(source, target)

        monkeypatch.setattr(files, "disk", BadDisk())
        return steps

    def _train(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, Silent, Any]:
        """The folder, what was said, and the checkpoints that were there after each save."""
        session, silent, seen = begin(config, places, "bad"), Silent(), []
        write = Loop._save

        def save_and_look(loop: Loop) -> None:
            write(loop)
            seen.append((loop.session.trainer.steps, step_of(loop.folder.last), older(loop.folder)))

        monkeypatch.setattr(Loop, "_save", save_and_look)
        Loop(session, silent, lambda: False).run()
        return folder_of(session), silent, seen

    def test_one_bad_save(
        self, bad_saves: set[int], config: Config, places: Places, golden: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad_saves.add(18)
        folder, silent, seen = self._train(revise_config(config, ["run.keep=1"]), places, monkeypatch)
        assert seen == [
            *((0, 0, []), (6, 6, [0]), (12, 12, [6])),
            (18, None, [12, 6]),  # 12 is what was the last one: it has to stay, and so has everything before it
            *((24, 24, [12]), (30, 30, [24]), (36, 36, [30]), (40, 40, [36])),
        ]
        assert [
            re.search("cannot be read back.*does not match its digest", text) is not None for text in silent.warnings
        ]
        assert len(silent.warnings) == 1
        assert_equal(folder, golden)

    def test_bad_from_some_step_on(
        self, bad_saves: set[int], config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad_saves.update(range(18, 41))
        with pytest.raises(CharRNNError, match="cannot save") as caught:
            self._train(revise_config(config, ["run.keep=0"]), places, monkeypatch)
        assert caught.value.exit_code == 1
        folder = RunFolder(Path("runs/bad"))
        assert older(folder) == [12]
        found = newest_whole(folder)
        assert (steps_of(found.file), len(found.damaged)) == (12, 2), "last and best are damaged"

    def test_then_resumed_on_a_good_disk(
        self, bad_saves: set[int], config: Config, places: Places, golden: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad_saves.update(range(18, 41))
        with pytest.raises(CharRNNError):
            self._train(config, places, monkeypatch)
        bad_saves.clear()
        assert "warning: runs/bad/checkpoints/last.safetensors: damaged" in goes_on(Path("runs/bad"))
        assert_equal(RunFolder(Path("runs/bad")), golden)

    def test_an_unreadable_new_one(self, stopped: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        """As above, with a reader that fails instead of a disk."""

        def read(path: Path, advice: str = "") -> State:
            raise CheckpointError(f"{path}: no")

        keeper, state = Keeper(stopped, keep=0), read_checkpoint(stopped.last)
        with monkeypatch.context() as patch:
            patch.setattr("charrnn.runs.keeping.read_checkpoint", read)
            for step in (24, 30):
                with pytest.raises(OSError, match="cannot be read back"):
                    keeper.save_last(state, step)
                assert older(stopped) == [22, 18, 12, 6]
        keeper.save_last(state, 36)
        assert older(stopped) == []


class TestGoingOn:
    @pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
    @pytest.mark.parametrize(
        ("broken", "expected"),
        [
            (["last"], "best.safetensors"),  # of step 20
            (["last", "best"], "step-000000018.safetensors"),
            (["last", "best", "step-000000018"], "step-000000012.safetensors"),
            (["last", "step-000000018", "step-000000012", "step-000000006"], "best.safetensors"),
        ],
        ids=lambda value: "+".join(value) if isinstance(value, list) else "",
    )
    def test_from_the_newest_that_is_whole(
        self, damage: Callable[[Path], None], broken: list[str], expected: str, stopped: RunFolder, golden: RunFolder
    ) -> None:
        for name in broken:
            damage(stopped.checkpoints / f"{name}.safetensors")
        said = goes_on(stopped.path)
        warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
        assert f"warning: going on from {expected} instead, the newest that is whole" in warnings
        if damage is not Path.unlink:
            assert len(warnings) == len(broken) + 1
            assert all(any(f"{name}.safetensors: " in line for line in warnings) for name in broken)
        assert_equal(stopped, golden)

    def test_files_of_the_same_time(self, stopped: RunFolder, golden: RunFolder) -> None:
        """As after a copy; and clocks of file systems tick every few milliseconds, or seconds."""
        for file in stopped.checkpoints.iterdir():
            os.utime(file, (10**9, 10**9))
        assert older(stopped) == [18, 12, 6]
        cut(stopped.last)
        assert steps_of(newest_whole(stopped).file) == 20
        stopped.best.unlink()
        goes_on(stopped.path, "--set", "run.keep=1")
        assert older(stopped) == [36]
        assert_equal(stopped, golden)

    def test_from_nothing(self, stopped: RunFolder) -> None:
        for file in stopped.checkpoints.iterdir():
            cut(file)
        said = refused(stopped.path)
        assert "holds no checkpoint that can be read" in said
        assert f"{stopped.last}: damaged" in said

    @pytest.mark.parametrize("damage", DAMAGE[:3], ids=lambda damage: damage.__name__)
    @pytest.mark.parametrize("name", ["last", "best", "step-000000012"])
    def test_a_damaged_one_that_is_named_is_not_replaced_by_another(
        self, damage: Callable[[Path], None], name: str, stopped: RunFolder
    ) -> None:
        file = stopped.checkpoints / f"{name}.safetensors"
        damage(file)
        assert f"{file}: " in refused(file)

    @pytest.mark.parametrize(
        ("name", "step"), [("last", 22), ("best", 20), ("step-000000018", 18), ("step-000000006", 6)]
    )
    def test_from_the_one_that_is_named(self, name: str, step: int, stopped: RunFolder, golden: RunFolder) -> None:
        file = stopped.checkpoints / f"{name}.safetensors"
        said = goes_on(file)
        assert re.search(rf"Going on with .*{name}.safetensors at step {step}\n", said)
        assert "warning" not in said
        assert_equal(stopped, golden)

    def test_from_inside_its_folder(self, stopped: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(stopped.checkpoints)
        assert "at step 22\n" in goes_on(Path("last.safetensors"))

    def test_a_checkpoint_outside_of_a_run_is_no_run(self, stopped: RunFolder) -> None:
        shutil.copy(stopped.last, "alone.safetensors")
        assert "give a run folder" in refused(Path("alone.safetensors"))

    def test_a_finished_run_stays_as_it_is(self, golden: RunFolder) -> None:
        before = snapshot()
        assert "is finished at step 40" in resume(golden.path).err
        assert snapshot() == before

    @pytest.mark.parametrize("change", ["training.lr=0.5", "training.max_steps=20"])
    def test_and_its_config_tells_nothing_that_it_was_not_trained_with(self, change: str, golden: RunFolder) -> None:
        before = snapshot()
        assert "is finished at step 40" in resume(golden.path, "--set", change).err
        assert snapshot() == before

    def test_but_its_note_may_change(self, golden: RunFolder) -> None:
        before = load_config(golden.config)
        assert "is finished at step 40" in resume(golden.path, "--note", "the best", "--set", "training.lr=0.5").err
        assert load_config(golden.config) == revise_config(before, ["run.note=the best"])


class TestGoingBack:
    """Going on from an older checkpoint, with another rate, begins a new branch: the old one's future is over."""

    RATE = 0.001

    def _lr(self, state: State) -> float:
        lr = state["config"]["training"]["lr"]
        assert isinstance(lr, float)
        return lr

    def _gone_back(self, golden: RunFolder, places: Places, until: int) -> RunFolder:
        """From step 24 of a finished run, at another rate, to some step."""
        file = golden.older(24)
        words = ["--set", f"training.lr={self.RATE}", "--set", f"training.max_steps={until}"]
        goes_on(file, *words)
        assert (steps_of(golden.last), self._lr(read_checkpoint(golden.last))) == (until, self.RATE)
        return golden

    def test_a_damaged_last_one_does_not_bring_the_old_branch_back(self, golden: RunFolder, places: Places) -> None:
        folder = self._gone_back(golden, places, 37)
        cut(folder.last)
        folder.best.unlink()
        found = newest_whole(folder)
        assert (steps_of(found.file), self._lr(found.state)) == (36, self.RATE)

    def test_older_ones_are_of_the_new_branch(self, golden: RunFolder, places: Places) -> None:
        folder = self._gone_back(golden, places, 37)
        found = [(steps_of(file), self._lr(read_checkpoint(file))) for file in folder.all_older()]
        assert found[:2] == [(36, self.RATE), (30, self.RATE)]

    def test_a_rollback_does_not_bring_the_old_branch_back(
        self, golden: RunFolder, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        diverge_if(
            monkeypatch, lambda step, lr: step == 26 and lr > 0.0006 * (1 - 26 / 40)
        )  # between the rate and half of it
        goes_on(golden.older(24), "--set", f"training.lr={self.RATE}", "--set", "training.on_divergence=rollback")
        back = [row["step"] for row in read_metrics(golden.metrics) if "rollback" in row]
        assert back == [24]

    def test_a_later_best_one_is_put_aside(self, golden: RunFolder, places: Places) -> None:
        """That of step 40: the branch begins at 24, where step 20 was the best, of which nothing is kept."""
        assert (steps_of(golden.best), golden.older(20).exists()) == (40, False)
        found = find_state(golden, golden.older(24))
        train(resume_session(golden, found, config_in(found), places), lambda: True)
        assert (golden.best.exists(), steps_of(golden.older(40))) == (False, 40)
        assert resume(golden.path, "--set", "training.lr=0.001", "--set", "training.max_steps=26").code == 0
        best = read_checkpoint(golden.best)
        assert (best["trainer"]["steps"], self._lr(best)) == (26, self.RATE)
        assert resume(golden.path, "--set", "training.max_steps=27").code == 0

    def test_and_the_best_one_of_this_branch_put_in_its_place(self, golden: RunFolder, places: Places) -> None:
        golden.older(20).write_bytes(pack(read_checkpoint(golden.older(24)) | {"mark": "step 20"}))
        state = read_checkpoint(golden.older(20))
        state["trainer"]["steps"] = 20
        golden.older(20).write_bytes(pack(state))
        keeper = Keeper(golden, keep=3)
        keeper.taken_back(24, 20)
        assert read_checkpoint(golden.best)["mark"] == "step 20"
        assert steps_of(golden.older(40)) == 40
        keeper.taken_back(24, 20)
        assert read_checkpoint(golden.best)["mark"] == "step 20"

    def test_what_is_not_later_stays(self, golden: RunFolder, stopped: RunFolder) -> None:
        Keeper(golden, keep=3).taken_back(40, 40)
        Keeper(stopped, keep=3).taken_back(22, 20)
        assert (steps_of(golden.best), steps_of(stopped.best)) == (40, 20)


class TestKilledAfterAnEvaluation:
    """The best checkpoint is later than the last one."""

    @pytest.fixture
    def killed(self, stopped: RunFolder) -> RunFolder:
        """With 18 as the last one, and 20 as the best."""
        stopped.older(18).replace(stopped.last)
        return stopped

    def test_goes_on_from_the_best_one(self, killed: RunFolder, golden: RunFolder) -> None:
        assert "at step 20\n" in goes_on(killed.path)
        assert_equal(killed, golden)

    def test_but_not_where_that_was_the_end(self, killed: RunFolder, golden: RunFolder) -> None:
        """Or the last one would stay behind for ever."""
        shutil.copy(golden.best, killed.best)
        assert "at step 18\n" in goes_on(killed.path)
        assert_equal(killed, golden)


class TestOtherMachine:
    def _edit(self, folder: RunFolder, edit: Callable[[State], object]) -> None:
        state = read_checkpoint(folder.last)
        edit(state)
        write_checkpoint(folder.last, state)

    @pytest.mark.parametrize(
        ("edit", "difference"),
        [
            (lambda state: state["environment"].update(threads=2), "threads: 2 in the run, 1 here"),
            (lambda state: state["environment"].update(device="NVIDIA X1"), "device: NVIDIA X1 in the run, cpu here"),
            (lambda state: state.update(precision="bf16"), "precision: bf16 in the run, fp32 here"),
        ],
        ids=["threads", "device", "precision"],
    )
    def test_what_decides_rounding(
        self, edit: Callable[[State], object], difference: str, stopped: RunFolder, golden: RunFolder
    ) -> None:
        self._edit(stopped, edit)
        said = refused(stopped.path)
        assert f"  {difference}" in said
        assert said.count(" in the run, ") == 1
        assert "--inexact" in said
        goes_on(stopped.path, "--inexact")
        assert_equal(stopped, golden)  # in truth nothing was different

    def test_threads_that_are_asked_for(self, stopped: RunFolder) -> None:
        said = refused(stopped.path, "--set", "training.threads=2")
        assert "threads: 1 in the run, 2 here" in said
        words = ("--set", "training.threads=2", "--set", "training.max_steps=23", "--inexact")
        with Child(Path.cwd(), charrnn, "train", "--resume", str(stopped.path), *words) as child:
            assert child.wait() == 0, child.err.read_text()

    def test_threads_that_nobody_asked_for_are_those_of_the_run(
        self, stopped: RunFolder, places: Places, config: Config
    ) -> None:
        def leave_it_to_torch(state: State) -> None:
            state["config"]["training"]["threads"] = None
            state["environment"]["threads"] = 2

        self._edit(stopped, leave_it_to_torch)
        resumed(stopped.path, places, revise_config(config, ["training.threads=null"]))
        assert torch.get_num_threads() == 2

    def test_another_version_is_no_obstacle(self, stopped: RunFolder, golden: RunFolder) -> None:
        self._edit(stopped, lambda state: state["environment"].update(charrnn="0.0.1", torch="1.0", cores=64))
        goes_on(stopped.path)
        assert_equal(stopped, golden)

    def test_inexact_is_for_resuming(self, text_file: Path) -> None:
        Path("c.yaml").write_text(f"corpus: {{source: {text_file}}}\ntraining: {{max_steps: 5}}\n")
        result = run("train", "--config", "c.yaml", "--inexact")
        assert result.code == 2
        assert "--resume" in result.err


class TestOtherText:
    @pytest.mark.parametrize("text", [TEXT + "the cat sat.\n", TEXT[: len(TEXT) // 20], TEXT.replace("cat", "dog")])
    def test_refused_unless_inexact(self, text: str, stopped: RunFolder, text_file: Path) -> None:
        """Longer, shorter than where the run has got to, and with other words."""
        position = read_checkpoint(stopped.last)["trainer"]["streams"]["position"]
        assert len(TEXT) // 20 * 0.9 / 4 < position
        text_file.write_text(text)
        said = refused(stopped.path)
        assert "the text has changed since the model was trained on it" in said
        goes_on(stopped.path, "--inexact")
        rows = [row for row in read_metrics(stopped.metrics) if "train_loss" in row]
        assert [row["step"] for row in rows] == [7, 14, 21, 28, 35, 40]
        assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows) or len(text) != len(TEXT)
        state = read_checkpoint(stopped.last)
        assert state["corpus"]["bytes"] == len(text)
        assert state["trainer"]["steps"] == 40

    def test_then_exactly(self, stopped: RunFolder, text_file: Path, config: Config, places: Places) -> None:
        """Once it has gone on with another text, that is the run's text, and going on is exact again."""
        text_file.write_text(TEXT + "the cat sat.\n")
        other = RunFolder(Path("runs/other"))
        shutil.copytree(stopped.path, other.path)
        goes_on(other.path, "--inexact")
        assert resume(stopped.path, "--inexact", "--set", "training.max_steps=30").code == 0
        goes_on(stopped.path, "--set", "training.max_steps=40")
        logs = [[row for row in comparable_rows(one.metrics) if row["step"] < 28] for one in (stopped, other)]
        assert logs[0] == logs[1]

    def test_losses_on_the_text_before_are_forgotten(self, stopped: RunFolder, text_file: Path) -> None:
        """They do not compare, and the best network is one that has read the new text."""
        state = read_checkpoint(stopped.last)
        state["score"] |= {"best_val_loss": 1e-3, "evaluations_since_best": 1}
        stopped.last.write_bytes(pack(state))
        text_file.write_text(TEXT.replace("cat", "dog"))
        goes_on(stopped.path, "--inexact", "--set", "training.patience=2")
        score = read_checkpoint(stopped.last)["score"]
        assert (score["best_step"], score["best_val_loss"] > 0.1) == (40, True)
        assert steps_of(stopped.best) == 40

    def test_the_folder_says_which_text_it_is_and_since_when(self, stopped: RunFolder, text_file: Path) -> None:
        before = read_run(stopped.path)
        text_file.write_text(TEXT.replace("cat", "dog"))
        goes_on(stopped.path, "--inexact")
        run = read_run(stopped.path)
        assert run.environment == {
            **before.environment,
            "corpus": {**read_checkpoint(stopped.last)["corpus"], "since_step": 22},
        }
        assert run.text != before.text
        assert [row["step"] for row in run.history.evaluations] == [20, 40]
        better_before = [{**row, "val_loss": 1e-9} if row["step"] == 20 else row for row in run.metrics]
        best = dataclasses.replace(run, metrics=better_before).best
        assert best is not None
        assert best["step"] == 40
        assert resume(stopped.path, "--set", "training.max_steps=41").code == 0
        assert read_run(stopped.path).environment == run.environment, "told once"

    @pytest.mark.parametrize("words", [(), ("--inexact",)])
    def test_unknown_characters(self, words: tuple[str, ...], stopped: RunFolder, text_file: Path) -> None:
        text_file.write_text(TEXT + "QQ")
        said = refused(stopped.path, *words)
        assert ("'Q' (U+0051)" if words else "the text has changed") in said

    @pytest.mark.parametrize("text", ["", "the cat"])
    def test_too_short(self, text: str, stopped: RunFolder, text_file: Path) -> None:
        text_file.write_text(text)
        assert str(text_file.name) in refused(stopped.path, "--inexact")


def diverge_if(monkeypatch: pytest.MonkeyPatch, is_so: Callable[[int, float], bool], what: str = "loss") -> None:
    """Training diverges at a step and rate for which ``is_so``: loss, a weight or the carried state is not finite."""
    step = Trainer.step

    def diverging(self: Trainer, lr: float, observe: bool = False) -> StepStats:
        stats = step(self, lr, observe)
        if not is_so(self.steps, lr):
            return stats
        if what == "weight":
            self.model.decoder.bias.data[0] = torch.nan
        if what == "hidden":
            self.hidden = tuple(tensor / 0 for tensor in self.hidden)
        return dataclasses.replace(stats, loss=stats.loss * torch.inf) if what == "loss" else stats

    monkeypatch.setattr(Trainer, "step", diverging)


class TestDivergence:
    """At step 26, in a run that saves at 24 and logs at 28."""

    def _config(self, config: Config, *changes: str) -> Config:
        return revise_config(config, ["training.on_divergence=rollback", "training.schedule=constant", *changes])

    @pytest.mark.parametrize("what", ["loss", "weight", "hidden"])
    def test_stops_with_the_last_good_checkpoint_intact(
        self, what: str, stopped: RunFolder, golden: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            diverge_if(patch, lambda step, _: step == 26, what)
            result = resume(stopped.path)
        assert (result.code, result.out) == (3, "")
        assert "training diverged" in result.err
        assert "the saved checkpoints are intact" in result.err
        last = read_checkpoint(stopped.last)
        assert last["trainer"]["steps"] == 24
        tensors = [*last["trainer"]["model"].values(), *last["trainer"]["hidden"].values()]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        goes_on(stopped.path)  # it was a fluke
        assert_equal(stopped, golden)

    @pytest.mark.parametrize("what", ["loss", "weight", "hidden"])
    @pytest.mark.parametrize("on_divergence", ["stop", "rollback"])
    @pytest.mark.parametrize(
        ("step", "stopped_there"), [(20, False), (24, False), (28, False), (26, True), (40, False)]
    )
    def test_what_is_not_finite_is_never_saved(
        self,
        step: int,
        stopped_there: bool,
        what: str,
        on_divergence: str,
        config: Config,
        places: Places,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Not at an evaluation, a save, a line of the log, an interruption or the end."""
        config = self._config(config, f"training.on_divergence={on_divergence}", "run.keep=100")
        session = begin(config, places)
        diverge_if(monkeypatch, lambda now, lr: now == step and lr > 0.006, what)
        should_stop = stop_at(session, step) if stopped_there else lambda: False
        if on_divergence == "stop":
            with pytest.raises(DivergedError):
                train(session, should_stop)
        else:
            assert train(session, should_stop) is (Outcome.INTERRUPTED if stopped_there else Outcome.LIMIT)
            assert session.score.rollbacks == 1
        for file in folder_of(session).checkpoints.iterdir():
            state = read_checkpoint(file)
            trainer = state["trainer"]
            assert trainer["steps"] < step or state["score"]["rollbacks"] == 1
            assert all(bool(torch.isfinite(t).all()) for t in [*trainer["model"].values(), *trainer["hidden"].values()])

    @pytest.mark.parametrize(("targets", "enough"), [([24, 20], 0.003), ([24, 20, 18], 0.002), ([24] * 3, 0.002)])
    def test_rolls_back(
        self, targets: list[int], enough: float, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each time to the checkpoint before, of which 20 is the best one: a lower rate has not helped the other. To
        the same one where there is no other."""
        if targets[1] == 24:
            monkeypatch.setattr(loop_module, "newest_before", lambda *_: None)
        diverge_if(monkeypatch, lambda step, lr: step == 26 and lr > enough)
        session = begin(self._config(config, "training.rollback_factor=0.5"), places)
        silent = Silent()
        assert Loop(session, silent, lambda: False).run() is Outcome.LIMIT
        rows = list(read_metrics(folder_of(session).metrics))
        back = [{k: row[k] for k in ("step", "rollback", "lr_factor")} for row in rows if "rollback" in row]
        last, left = targets[-1], 0.5 ** len(targets)
        assert back[-1] == {"step": last, "rollback": len(targets), "lr_factor": left}
        assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
        assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
        rates = {row["step"]: row["lr"] for row in rows if "lr" in row}
        assert rates == {step: 0.01 * (left if step > last else 1) for step in (7, 14, 21, 28, 35, 40)}
        for number, (step, told) in enumerate(zip(targets, silent.warnings, strict=True), start=1):
            assert re.search(rf"back to step {step}.*rollback {number} of 3", told)
        assert (session.score.rollbacks, session.score.lr_factor) == (len(targets), left)

    @pytest.mark.parametrize("what", ["validation_loss", "sample_of"])
    @pytest.mark.parametrize("on_divergence", ["stop", "rollback"])
    def test_of_what_an_evaluation_sees(
        self, on_divergence: str, what: str, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Weights and training loss are finite, logits on other text are not: at step 20, until the rate is halved."""
        original = getattr(loop_module, what)

        def overflowing(session: Session, *more: Any) -> Any:
            if session.trainer.steps == 20 and session.score.lr_factor > 0.6:
                return None if what == "sample_of" else math.inf
            return original(session, *more)

        monkeypatch.setattr(loop_module, what, overflowing)
        session = begin(self._config(config, f"training.on_divergence={on_divergence}"), places)
        if on_divergence == "rollback":
            assert train(session) is Outcome.LIMIT
            assert session.score.rollbacks == 1
            return
        with pytest.raises(DivergedError, match=r"before step 20: a logit on unseen text is not a finite number"):
            train(session)
        assert (steps_of(folder_of(session).last), folder_of(session).best.exists()) == (18, False)
        told = read_run(folder_of(session).path)
        assert (told.state, told.metrics[-1]["val_loss"]) == ("diverged", None)

    def test_time_on_the_way_to_a_rollback_counts_for_speed(
        self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second a step: back from 26 to 24, the line at 28 is of 22 to 24 and 25 to 28, and not of four seconds."""
        seconds = iter(range(10**6))
        monkeypatch.setattr("charrnn.training.loop.clock", SimpleNamespace(now=lambda: float(next(seconds))))
        diverge_if(monkeypatch, lambda step, lr: step == 26 and lr > 0.006)
        session = begin(self._config(config, "training.random_seq_len=false"), places)
        assert train(session) is Outcome.LIMIT
        rows = list(read_metrics(folder_of(session).metrics))
        speeds = {row["step"]: row["chars_per_sec"] for row in rows if "chars_per_sec" in row}
        assert speeds[28] < 1.1 * speeds[35]

    def test_no_time_of_a_sample_does(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes 100 seconds, a step takes one: back from 20 to 18, the line at 21 is of 15 to 18 and 19 to 21."""
        now = 0.0
        monkeypatch.setattr(loop_module, "clock", SimpleNamespace(now=lambda: now))

        def overflowing(session: Session) -> str | None:
            nonlocal now
            now += 100
            return None if session.trainer.steps == 20 and session.score.lr_factor > 0.6 else ""

        def a_second(*_: float) -> bool:
            nonlocal now
            now += 1
            return False

        monkeypatch.setattr(loop_module, "sample_of", overflowing)
        diverge_if(monkeypatch, a_second)
        session = begin(self._config(config, "training.random_seq_len=false"), places)
        assert train(session) is Outcome.LIMIT
        assert session.score.rollbacks == 1
        rows = list(read_metrics(folder_of(session).metrics))
        speeds = {row["step"]: row["chars_per_sec"] for row in rows if "chars_per_sec" in row}
        assert speeds[21] == speeds[14]

    def test_gives_up_after_max_rollbacks(
        self, config: Config, stopped: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        diverge_if(monkeypatch, lambda step, _: step == 26)
        words = ("--set", "training.on_divergence=rollback", "--set", "training.max_rollbacks=2")
        result = resume(stopped.path, *words)
        assert result.code == 3
        assert re.findall(r"back to step (\d+)", result.err) == ["24", "22"], "it was stopped at 22"
        assert "Try a lower rate in a new run: --set training.lr=0.00025\n" in result.err, (
            "a tenth of what two rollbacks left"
        )
        assert (steps_of(stopped.last), read_checkpoint(stopped.last)["score"]["rollbacks"]) == (24, 2)
        assert resume(stopped.path, *words).err.count("back to step") == 0, "it has had its two"

    @pytest.mark.parametrize(("steps", "advised"), [(28, "0.00028"), (100, "0.00028"), (101, "0.001")])
    def test_the_rate_advised_is_below_that_of_the_warm_up(
        self, steps: int, advised: str, config: Config, places: Places
    ) -> None:
        """A rate of 0.01, of which it had come to 0.0028: a tenth of the whole would be no advice."""
        session = begin(revise_config(config, ["training.lr=0.01", "training.warmup_steps=100"]), places)
        session.score.lr, session.trainer.steps = 0.0028, steps
        assert str(diverged(session, "loss")).endswith(f"Try a lower rate: --set training.lr={advised}")

    @pytest.mark.parametrize("stop", [20, 24, 25, 27, 33])
    def test_survives_a_resume(
        self, stop: int, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped after a rollback, at its very step or later, and resumed: as if it had not been stopped."""
        config = self._config(config)
        diverge_if(monkeypatch, lambda step, lr: step == 26 and lr > 0.003)
        whole = begin(config, places, "whole")
        train(whole)
        first = begin(config, places, "first")
        train(first, lambda: first.score.rollbacks == 2 and first.trainer.steps >= stop)
        assert first.trainer.steps == stop
        second = resumed(folder_of(first).path, places, config)
        assert (second.score.rollbacks, second.score.lr_factor) == (2, 0.25)
        train(second)
        assert_equal(folder_of(second), folder_of(whole))


class TestLock:
    def test_one_at_a_time(self, stopped: RunFolder) -> None:
        with FolderLock(stopped):
            assert f"process {os.getpid()} on " in stopped.lock.read_text()
            before = snapshot()
            result = resume(stopped.path)
            assert result.code == 2
            assert f"process {os.getpid()} on " in result.err
            assert snapshot() == before
        assert not stopped.lock.exists()
        with FolderLock(stopped):
            assert stopped.lock.exists()

    def test_released_by_an_error(self, stopped: RunFolder) -> None:
        with pytest.raises(ZeroDivisionError), FolderLock(stopped):
            _ = 1 / 0
        goes_on(stopped.path)
        assert not stopped.lock.exists()

    def test_a_stale_name_is_no_lock(self, stopped: RunFolder) -> None:
        stopped.lock.write_text("process 1 on mars, since 1970,")
        goes_on(stopped.path)
        assert not stopped.lock.exists()

    def test_held_by_nobody_knows_who(self, stopped: RunFolder) -> None:
        with FolderLock(stopped):
            stopped.lock.unlink()
            assert "another process is training in it" in refused(stopped.path)
            stopped.lock.write_bytes(b"\xff\xfe")
            assert "is training in it" in refused(stopped.path)

    def test_the_folder_is_gone(self) -> None:
        with pytest.raises(UsageError, match="cannot open the run folder"), FolderLock(RunFolder(Path("none"))):
            pass
