"""``charrnn lr-find`` and ``charrnn plot`` as a person uses them: streams, exit codes, and what is left on the disk."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from charrnn.cli.lr_find import describe
from charrnn.config.library import find_config
from charrnn.config.loader import load_config, revise_config
from charrnn.plots import figures
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.saved import saved_config
from charrnn.studies import lr_find
from charrnn.studies.lr_find import Finding, Plan
from charrnn.studies.recommendation import Range
from charrnn.studies.sweep import Sweep, sweep
from charrnn.studies.trials import Trial, trial
from charrnn.training.schedules import SHAPES, learning_rate
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT
from tests.test_bad_input import cases, refused
from tests.test_cli import interrupted_once
from tests.test_plots import STARTS

CONFIG = """\
# A cat and a dog.
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}

training:
  batch_size: 16  # sixteen streams
  seq_len: 10
  # the rate
  lr: 1e-2        # a guess
  max_steps: 40   # a blink

run: {sample_length: 20}
"""
# With these there is an answer; one sweep without trials is the fastest way to one.
ANSWERED = ("--min-lr", "1e-3", "--max-lr", "10", "--seeds", "2", "--trial-steps", "10")
QUICK = ("--min-lr", "1e-3", "--max-lr", "10", "--seeds", "1", "--quick")
HOPELESS = ("--min-lr", "1e-9", "--max-lr", "1e-6", "--seeds", "1")
FILES = {"lr-find.json", "lr-find.png", "lr-find.svg"}


@dataclass(frozen=True)
class Made:
    """A folder with a trained run, in which rates were looked for with --write; tests only read it."""

    folder: Path
    result: Result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(folder)
        Path("cat.txt").write_text(TEXT)
        Path("small.yaml").write_text(CONFIG)
        assert run("train", "--config", "small.yaml").code == 0
        result = run("lr-find", "--config", "small.yaml", "--write", *ANSWERED)
    return Made(folder, result)


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """This folder: a small text, a config for it, and a trained run.

    Pictures take longer than all the rest: those of ``made`` are real, and those that a test asks for.
    """
    monkeypatch.setattr("charrnn.studies.lr_find_files.save_figure", lambda _, path: path.write_bytes(b"picture"))
    Path("cat.txt").write_text(TEXT)
    Path("small.yaml").write_text(CONFIG)
    shutil.copytree(made.folder / "runs" / "small", "runs/small")


def done(*words: str) -> Result:
    """``charrnn lr-find`` with an answer."""
    result = run("lr-find", *words)
    assert result.code == 0, result.err
    return result


def recommended(out: str) -> float:
    """The rate that the last line says how to use."""
    found = re.search(r"\nUse it: +--set training\.lr=(\S+)\n\Z", out)
    assert found, out
    return float(found[1])


class TestAnswer:
    def test_what_it_says(self, made: Made) -> None:
        result = made.result
        assert result.code == 0, result.err
        content = json.loads((made.folder / "runs/small-lr-find/lr-find.json").read_text())
        assert recommended(result.out) == content["lr"]
        assert f"Recommended: {content['lr']:.1e}\n" in result.out
        for one in content["trials"]:
            assert f"{one['lr']:.1e}" in result.out
            assert f"{one['val_loss']:.3f}" in result.out
        assert f"best {content['proven']['best']:.1e}, for 10 steps (measured)" in result.out
        assert f"best {content['wanted']['best']:.1e}, for 40 steps" in result.out
        assert "Trials:      validation loss after 10 steps, nats per character\n" in result.out
        assert "Picture: runs/small-lr-find/lr-find.png" in result.err

    @pytest.mark.parametrize(("planned", "lines"), [(9, 1), (10, 1), (11, 2)])
    def test_one_range_where_the_training_is_no_longer_than_the_trials(self, planned: int, lines: int) -> None:
        proven = Range(10, 1e-3, 2e-3, 4e-3)
        plan = Plan(1e-4, 1.0, trial_steps=10)
        finding = Finding(plan, 3.0, proven=proven, wanted=proven.for_length(planned), lr=2e-3)
        assert describe(finding, "byte").count("Range: ") == lines

    def test_what_it_leaves(self, made: Made) -> None:
        assert {path.name for path in made.folder.iterdir()} == {"cat.txt", "small.yaml", "runs"}
        assert {path.name for path in (made.folder / "runs").iterdir()} == {"small", "small-lr-find"}
        folder = made.folder / "runs/small-lr-find"
        assert set(snapshot(folder)) == FILES | {"small.yaml"}
        for suffix in (".png", ".svg"):
            assert (folder / f"lr-find{suffix}").read_bytes().startswith(STARTS[suffix])

    def test_the_points_in_full(self, made: Made) -> None:
        content = json.loads((made.folder / "runs/small-lr-find/lr-find.json").read_text())
        assert content["name"] == "small"
        assert content["config"]["training"]["batch_size"] == 16
        assert content["plan"] == {"min_lr": 1e-3, "max_lr": 10, "seeds": 2, "sweep_steps": 100, "trial_steps": 10}
        assert [one["seed"] for one in content["sweeps"]] == [1, 2]
        assert len(content["trials"]) % 2 == 0

    def test_the_config_keeps_everything_but_the_rate(self, made: Made) -> None:
        """Also its comments; the file it was made from is as it was."""
        assert (made.folder / "small.yaml").read_text() == CONFIG
        written = made.folder / "runs/small-lr-find/small.yaml"
        lr = recommended(made.result.out)
        expected = CONFIG.replace("lr: 1e-2        # a guess", f"lr: {lr!r}  # found by charrnn lr-find")
        assert written.read_text() == expected
        assert load_config(written) == load_config(Path("small.yaml"), [f"training.lr={lr!r}"])

    def test_train_takes_the_answer(self, made: Made) -> None:
        words = re.findall(r"Use it: +(.*)", made.result.out)[0]
        result = run("train", "--config", "small.yaml", *shlex.split(words))
        assert result.code == 0, result.err
        assert load_config(Path("runs/small-2/config.yaml")).training.lr == recommended(made.result.out)

    def test_train_takes_the_config(self, made: Made) -> None:
        result = run(
            "train", "--config", made.folder / "runs/small-lr-find/small.yaml", "--set", "training.max_steps=5"
        )
        assert result.code == 0, result.err

    def test_the_second_of_a_name_does_not_touch_the_first(self) -> None:
        done("--config", "small.yaml", *QUICK)
        before = snapshot()
        assert {path.name for path in Path("runs").iterdir()} == {"small", "small-lr-find"}
        result = done("--config", "small.yaml", *QUICK)
        assert ", 1 seed; " in result.out
        assert "runs/small-lr-find-2/lr-find.png" in result.err
        after = snapshot()
        assert {name: after.get(name) for name in before} == before
        assert set(snapshot(Path("runs/small-lr-find-2"))) == FILES

    def test_name_and_out(self) -> None:
        result = done("--config", "small.yaml", *QUICK, "--name", "other", "--out", "some/where", "--write")
        assert "Config:  some/where/other-lr-find/other.yaml, with that rate\n" in result.err
        assert "Config:" not in done("--config", "small.yaml", *QUICK).err
        assert set(snapshot(Path("some/where/other-lr-find"))) == FILES | {"other.yaml"}

    def test_quick_proves_nothing_and_says_so(self) -> None:
        result = done("--config", "small.yaml", *QUICK)
        assert json.loads(Path("runs/small-lr-find/lr-find.json").read_text())["trials"] == []
        assert "Trials" not in result.out
        assert "not proven" in result.out
        assert recommended(result.out) > 0

    def test_json(self) -> None:
        result = done("--config", "small.yaml", *QUICK, "--json")
        assert result.out.count("\n") == 1
        values = json.loads(result.out)
        content = json.loads(Path("runs/small-lr-find/lr-find.json").read_text())
        assert {**values, "name": "small", "config": content["config"]} == content
        assert "Picture: " in result.err

    def test_the_picture_is_of_these_points(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn = spied_figures(monkeypatch, "charrnn.studies.lr_find_files.save_figure")
        values = json.loads(done("--config", "small.yaml", *QUICK, "--json").out)
        figure = drawn["runs/small-lr-find/lr-find.png"]
        assert drawn["runs/small-lr-find/lr-find.svg"] is figure
        [line] = [line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("sweep")]
        assert np.asarray(line.get_ydata()).tolist() == values["band"]["median"]


class TestWrite:
    """The config that --write leaves has every setting that the rate was found with."""

    @pytest.mark.parametrize(
        ("words", "settings"),
        [
            ("--set model.hidden_size=6", ("model.hidden_size=6",)),
            ("--set training.lr=1 --seed 3", ("training.seed=3",)),
            ("--seed 0", ("training.seed=0",)),
            ("--data dog.txt", ("corpus.source=dog.txt",)),
        ],
    )
    def test_overrides(self, words: str, settings: tuple[str, ...]) -> None:
        Path("dog.txt").write_text(TEXT.upper())
        lr = recommended(done("--config", "small.yaml", *QUICK, "--write", *shlex.split(words)).out)
        written = load_config(Path("runs/small-lr-find/small.yaml"))
        expected = load_config(Path("small.yaml"), [*settings, f"training.lr={lr!r}"])
        # As in a run folder, the text may be named by its full path.
        assert Path(str(written.corpus.source)).absolute() == Path(str(expected.corpus.source)).absolute()
        corpus = written.corpus.model_copy(update={"source": expected.corpus.source})
        assert written.model_copy(update={"corpus": corpus}) == expected
        assert Path("small.yaml").read_text() == CONFIG

    def test_a_shipped_config(self) -> None:
        """Is left as it is; its comments go into the copy."""
        file = find_config("counting.yaml")
        before = file.read_text()
        lr = recommended(done("--config", "counting.yaml", *QUICK, "--write").out)
        assert file.read_text() == before
        written = Path("runs/counting-lr-find/counting.yaml").read_text()
        assert [line for line in written.splitlines() if " lr: " not in line] == [
            line for line in before.splitlines() if " lr: " not in line
        ]
        assert f"  lr: {lr!r}  # found by charrnn lr-find\n" in written

    def test_of_a_run_s_config_it_is_called_after_the_run(self) -> None:
        """``report`` looks for it under that name."""
        done("--config", "runs/small/config.yaml", *QUICK)
        assert set(snapshot(Path("runs/small-lr-find"))) == FILES
        assert not list(Path("runs").glob("config*"))

    def test_without_it_there_is_none(self) -> None:
        done("--config", "small.yaml", *QUICK)
        assert set(snapshot(Path("runs/small-lr-find"))) == FILES


class TestCheckpoint:
    @pytest.mark.parametrize("path", ["runs/small", "runs/small/"])
    def test_the_run_is_left_alone(self, path: str) -> None:
        before = snapshot()
        result = done("--checkpoint", path, *QUICK, "--write")
        after = snapshot()
        assert {name: after.get(name) for name in before} == before
        assert set(snapshot(Path("runs/small-lr-find"))) == FILES | {"small.yaml"}
        saved = saved_config(read_checkpoint(Path("runs/small/checkpoints/best.safetensors")))
        lr = recommended(result.out)
        assert load_config(Path("runs/small-lr-find/small.yaml")) == revise_config(saved, [f"training.lr={lr!r}"])

    def test_it_starts_from_the_trained_model(self) -> None:
        """Whose first loss is about what the run's last log line says, and not that of a new model."""
        found = [
            json.loads(done(*words, *QUICK, "--json").out)
            for words in (("--config", "small.yaml"), ("--checkpoint", "runs/small"))
        ]
        cold, warm = (one["sweeps"][0]["losses"][0] for one in found)
        assert cold == pytest.approx(found[0]["unigram"], abs=0.3)
        assert warm < cold - 0.15

    def test_other_seeds(self) -> None:
        values = json.loads(done("--checkpoint", "runs/small", *QUICK, "--seed", "5", "--json").out)
        assert [one["seed"] for one in values["sweeps"]] == [5]


class TestNoAnswer:
    @pytest.mark.parametrize("words", [(), ("--json",)])
    def test_it_fails_and_keeps_what_it_measured(self, words: tuple[str, ...]) -> None:
        result = run("lr-find", "--config", "small.yaml", *HOPELESS, "--write", *words)
        assert result.code == 1
        errors = [line for line in result.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert errors[0] == result.err.splitlines()[-1]
        assert "no learning rate to recommend" in errors[0]
        assert re.search(r"try .*--max-lr 1e-03", errors[0])
        assert "Recommended" not in result.out
        assert set(snapshot(Path("runs/small-lr-find"))) == FILES
        content = json.loads(Path("runs/small-lr-find/lr-find.json").read_text())
        assert content["lr"] is None
        assert content["problem"] in errors[0]
        assert len(content["sweeps"][0]["losses"]) == 100
        if words:
            assert json.loads(result.out)["problem"] == content["problem"]

    def test_its_advice_is_words_that_can_be_given(self) -> None:
        error = run("lr-find", "--config", "small.yaml", *HOPELESS).err
        option = re.search(r"try .*(--max-lr) (\S+);", error)
        assert option
        again = run("lr-find", "--config", "small.yaml", *HOPELESS[:2], *option.groups(), "--seeds", "1", "--quick")
        assert again.code in (0, 1)
        assert "internal error" not in again.err


class TestProgress:
    def test_plain_lines_where_there_is_no_terminal(self) -> None:
        result = done("--config", "small.yaml", *QUICK)
        assert re.search(r"(?m)^ +\d+%  sweep$", result.err)
        assert "\r" not in result.err
        assert "\x1b" not in result.err
        assert "%" not in result.out

    def test_a_bar_on_a_terminal(self) -> None:
        result = run("lr-find", "--config", "small.yaml", *QUICK, terminal=True)
        assert result.code == 0, result.err
        assert re.search(r"\r +\d+%\|.*\| sweep, ", result.err)
        assert "%  sweep" not in result.err
        assert "%" not in result.out


class TestSignals:
    def test_ctrl_c(self) -> None:
        interrupted_once(
            "sweep", "lr-find", "--config", "small.yaml", *ANSWERED, "--seeds", "100", "--trial-steps", "100000"
        )

    @pytest.mark.parametrize(
        ("stage", "number", "code"), [("sweep", signal.SIGINT, 130), ("trial", signal.SIGTERM, 143)]
    )
    def test_in_the_middle(
        self, stage: str, number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The signal comes before the third sweep, or the third trial; its first step ends it."""
        begun: list[Any] = []

        def third_is_too_much(*arguments: Any) -> Sweep | Trial:
            begun.append(arguments)
            if len(begun) == 3:
                os.kill(os.getpid(), number)
            return sweep(*arguments) if stage == "sweep" else trial(*arguments)

        monkeypatch.setattr(lr_find, stage, third_is_too_much)
        before = snapshot()
        result = run("lr-find", "--config", "small.yaml", "--write", *ANSWERED, "--seeds", "3")
        assert (result.code, result.out, len(begun)) == (code, "", 3)
        assert "nothing written" in result.err
        assert snapshot() == before


@cases(
    ("lr-find", "--config NAME", "--checkpoint RUN"),
    ("lr-find --config small.yaml --checkpoint runs/small", "--config NAME", "--checkpoint RUN", "not both"),
    ("lr-find --config none.yaml", "none.yaml", "no such config"),
    ("lr-find --config cat.txt", "cat.txt:"),
    ("lr-find --config small.yaml --min-lr 1 --max-lr 0.1", "--max-lr 0.1:", "100"),
    ("lr-find --config small.yaml --min-lr 0.1 --max-lr 1", "--max-lr 1:", "10"),
    ("lr-find --config small.yaml --min-lr 0", "--min-lr 0:"),
    ("lr-find --config small.yaml --min-lr -1", "--min-lr -1:"),
    ("lr-find --config small.yaml --min-lr nan", "--min-lr nan:"),
    ("lr-find --config small.yaml --min-lr inf", "--min-lr inf:"),
    ("lr-find --config small.yaml --min-lr low", "--min-lr", "'low'"),
    ("lr-find --config small.yaml --max-lr nan", "--max-lr nan:"),
    ("lr-find --config small.yaml --max-lr inf", "--max-lr inf:"),
    ("lr-find --config small.yaml --max-lr -1", "--max-lr -1:"),
    ("lr-find --config small.yaml --seeds 0", "--seeds", "0 is not in the range"),
    ("lr-find --config small.yaml --trial-steps 1", "--trial-steps", "1 is not in the range"),
    ("lr-find --config small.yaml --set training.lrr=1", "--set training.lrr=1", "did you mean 'lr'?"),
    ("lr-find --config small.yaml --data none.txt", "none.txt", "No such file"),
    ("lr-find --config small.yaml --device toaster", "--device toaster", "cpu", "cuda"),
    ("lr-find --config small.yaml --seed -1", "--seed -1", "should be greater than or equal to 0"),
    ("lr-find --config small.yaml --name a/b", "--name a/b"),
    ("lr-find --config small.yaml --quick --seeds 1 --out cat.txt", "cat.txt", "--out"),
    ("lr-find --config small.yaml --quick --seeds 1 --out cat.txt/in", "cat.txt/in", "--out"),
    ("lr-find --config small.yaml --min-lr 20", "--min-lr 20:", "give 10 at most"),
    ("lr-find --checkpoint runs/small --data cat.txt", "--checkpoint", "leave out --data"),
    ("lr-find --checkpoint none", "none", "no such checkpoint"),
    ("lr-find --checkpoint cat.txt", "cat.txt", "not a checkpoint"),
    ("lr-find --checkpoint runs", "runs", "holds no checkpoint"),
    ("lr-find --checkpoint runs/small --set model.hidden_size=9", "model.hidden_size: 8 in the run, 9 asked"),
    ("lr-find --checkpoint runs/small --min-lr 0", "--min-lr 0:"),
    ("plot schedule", "--config"),
    ("plot schedule --config none.yaml", "none.yaml", "no such config"),
    ("plot schedule --config small.yaml --steps 0", "--steps", "0 is not in the range"),
    ("plot schedule --config small.yaml --set training.schedule=saw", "--set training.schedule=saw", "'cosine'"),
    ("plot schedule --config small.yaml -o a.jpg", "a.jpg", ".png, .svg, .pdf"),
    ("plot schedule --config small.yaml -o a", "a:", ".png, .svg, .pdf"),
    ("plot schedule --config small.yaml -o none/a.png", "none/a.png", "No such file", "-o"),
    ("plot schedule --config small.yaml -o runs", "runs:", ".png, .svg, .pdf"),
    ("plot scedule --config small.yaml", "'scedule'", "No such command"),
)
def test_bad_usage(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


@pytest.mark.parametrize("words", ["--config small.yaml", "--checkpoint runs/small"])
def test_bad_usage_is_found_before_the_work(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study takes minutes: where its results cannot go is to be said at once."""

    def worked(*_: object) -> Finding:
        raise AssertionError("this would have been minutes")

    monkeypatch.setattr(lr_find, "find_lr", worked)
    refused(f"lr-find {words} --out cat.txt", "cat.txt", "--out")


def spied_figures(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, Figure]:
    """The figures that are saved from now on, by the name of their file."""
    saved: dict[str, Figure] = {}
    save = figures.save_figure

    def spy(figure: Figure, path: Path) -> None:
        saved[str(path)] = figure
        save(figure, path)

    monkeypatch.setattr(name, spy)
    return saved


class TestPlotSchedule:
    @pytest.mark.parametrize("suffix", list(STARTS))
    def test_formats(self, suffix: str) -> None:
        before = snapshot()
        result = run("plot", "schedule", "--config", "small.yaml", "-o", f"rate{suffix}")
        assert (result.code, result.out, result.err) == (0, "", f"Picture: rate{suffix}\n")
        assert set(snapshot()) - set(before) == {f"rate{suffix}"}
        assert Path(f"rate{suffix}").read_bytes().startswith(STARTS[suffix])

    def test_a_name_of_its_own(self) -> None:
        result = run("plot", "schedule", "--config", "small")
        assert (result.code, result.err) == (0, "Picture: small-schedule.png\n")
        assert Path("small-schedule.png").exists()

    def test_the_config_of_a_run_is_called_after_the_run(self) -> None:
        Path("runs/cat/checkpoints").mkdir(parents=True)
        shutil.copy("small.yaml", "runs/cat/config.yaml")
        result = run("plot", "schedule", "--config", "runs/cat/config.yaml")
        assert (result.code, result.err) == (0, "Picture: cat-schedule.png\n")

    @pytest.mark.parametrize(
        ("words", "steps", "label"),
        [
            *(((f"--set training.schedule={name}"), 40, "step") for name in SHAPES),
            ("--set training.warmup_steps=7 --set training.schedule=cosine", 40, "step"),
            ("--steps 12 --set training.schedule=cosine", 12, "step"),
            ("--steps 12 --set training.max_steps=null --set training.max_time=60s", 12, "step"),
            ("--set training.max_steps=null --set training.max_time=60s", None, "training done, %"),
        ],
    )
    def test_what_is_drawn(self, words: str, steps: int | None, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn = spied_figures(monkeypatch, "charrnn.plots.figures.save_figure")
        result = run("plot", "schedule", "--config", "small.yaml", "-o", "rate.svg", *shlex.split(words))
        assert result.code == 0, result.err
        [axis] = drawn["rate.svg"].axes
        assert axis.get_xlabel() == label
        assignments = re.findall(r"--set (\S+)", words)
        config = load_config(Path("small.yaml"), assignments).training
        [line] = axis.get_lines()
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        if steps is None:
            assert (x[0], x[-1]) == (0, 100)
            assert y == pytest.approx([learning_rate(config, 0, share / 100) for share in x])
        else:
            assert x.tolist() == list(range(steps))
            assert y.tolist() == [learning_rate(config, step, step / steps) for step in range(steps)]
