"""``charrnn doctor`` as a person uses it: streams, exit codes, and what is left on the disk."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from charrnn.cli.doctor import QUESTIONS as OFFERED
from charrnn.cli.doctor import describe
from charrnn.config.loader import load_config
from charrnn.plots.through_time import draw_gradients, draw_through_time
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import FolderLock
from charrnn.runs.metrics import read_metrics
from charrnn.studies.doctor import brief_run, examination, questions, trials
from charrnn.studies.doctor.examination import Examination, examine, open_run
from charrnn.studies.doctor.finding import Finding, healthy
from charrnn.studies.doctor.probes.reading import Reading
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.doctor.questions import QUESTIONS
from charrnn.studies.doctor.rules import RULES
from charrnn.studies.doctor.rules.mechanics import frozen, last_character_only, optimizer_reset
from charrnn.studies.trials import trial
from charrnn.text.places import Places
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT
from tests.test_bad_input import cases, refused
from tests.test_cli import interrupted_once
from tests.test_plots import STARTS

CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 16, seq_len: 10, lr: 1e-2, max_steps: 40}
run: {sample_length: 0, log_every: 10, name: small}
"""
NEVER_CARRIED = ("--set", "training.state_reset=1", "--set", "run.name=reset")
WILD = ("model.cell=rnn_relu", "training.optimizer=sgd", "training.lr=1000", "training.grad_clip=null", "run.name=wild")
KEYS = {"subject", "problems", "healthy", "gradient_through_time", "seq_len", "reading", "texts", "activity"}
KEYS |= {"new_profile", "new_activity", "continuation", "numerics", "trials", "val_loss", "val_loss_cold"}
KEYS |= {"start_loss", "memorised", "batch_unigram", "entropies"}
FINDING_KEYS = {"name", "problem", "title", "measured", "threshold", "meaning", "command"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs: an ordinary one, one that never carries its state, one that diverged, a young one."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(folder)
        Path("cat.txt").write_text(TEXT)
        Path("small.yaml").write_text(CONFIG)
        assert run("train", "--config", "small.yaml").code == 0
        assert run("train", "--config", "small.yaml", *NEVER_CARRIED).code == 0
        young = ("--set", "run.log_every=1000", "--set", "run.name=young")
        assert run("train", "--config", "small.yaml", *young).code == 0
        assert run("train", "--config", "small.yaml", *(word for one in WILD for word in ("--set", one))).code == 3
    return folder


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This folder: a small text, a config for it, and the runs. Short trainings are as short as can be; whatever is
    left among the temporary files can be seen."""
    Path("cat.txt").write_text(TEXT)
    Path("small.yaml").write_text(CONFIG)
    shutil.copytree(made / "runs", "runs")
    monkeypatch.setattr(trials, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(trials, "FEWEST_STEPS", 4)
    monkeypatch.setattr(trials, "FEWEST_MEMORY_STEPS", 10)
    monkeypatch.setattr(trials, "MEMORY_SECONDS", 0.0)
    monkeypatch.setattr(questions, "FEWEST_STEPS", 4)
    monkeypatch.setattr(questions, "BUDGET_SECONDS", 0.0)
    scratch().mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch()))


def scratch() -> Path:
    return Path.cwd().parent / "scratch"


def only(monkeypatch: pytest.MonkeyPatch, *rules: Callable[..., Finding | None]) -> None:
    """Let these rules alone decide: thresholds of the others are no business of these tests."""
    monkeypatch.setattr(examination, "RULES", list(rules))


def visit(*words: str, code: int | None = None) -> Result:
    """``charrnn doctor`` with an answer, whatever that is."""
    result = run("doctor", *words)
    assert result.code in ((0, 1) if code is None else (code,)), result.err
    assert "rror" not in result.err
    return result


def found(*words: str) -> dict[str, Any]:
    """The answer as an object; stdout has nothing else."""
    result = visit(*words, "--json")
    assert result.out.count("\n") == 1
    values = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(values, dict)
    return values


class TestExamination:
    def test_no_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, last_character_only, frozen, optimizer_reset)
        out = visit("runs/small", code=0).out
        assert out.startswith(
            "runs/small/config.yaml: lstm 1 x 8 on cat.txt, 40 steps (probed as saved at step 40), training loss "
        )
        assert "\n\nNo problem found.\n\nHealthy:\n  + Every position of a window teaches.\n      100% of them\n" in out
        assert "1. " not in out

    def test_a_problem(self) -> None:
        out = visit("runs/reset", code=1).out
        entry = (
            r"(?m)^(\d+)\. .+\.\n   Measured:   .*\d.*\n   Threshold:  .+\n   Meaning:    .+\n"
            r"   Try:        charrnn .+\n$"
        )
        problems = re.findall(entry, out)
        assert problems == [str(number) for number in range(1, len(problems) + 1)]
        assert len(problems) == out.count("Measured:") > 0
        assert "The state is hardly ever carried from window to window.\n   Measured:   0% of the streams" in out
        assert "\nHealthy:\n  + " in out
        assert "No problem" not in out

    def test_json_has_the_same(self) -> None:
        values = found("runs/reset")
        assert set(values) == KEYS
        profile = values["gradient_through_time"]
        assert len(profile["hidden"]) == len(profile["cell"]) == 129
        assert values["seq_len"] == 10
        for finding in values["problems"] + values["healthy"]:
            assert set(finding) == FINDING_KEYS
        assert all(finding["problem"] and finding["command"] for finding in values["problems"])
        assert not any(finding["problem"] or finding["command"] for finding in values["healthy"])
        assert "state-never-carried" in [finding["name"] for finding in values["problems"]]

    def test_a_validation_part_that_is_too_short_for_the_probes_is_scored_all_the_same(self) -> None:
        """468 characters: pieces of 512 want four times as many, and are of the training part then."""
        values, result = found("runs/reset"), visit("runs/reset")
        assert values["reading"]["unseen"] is False
        assert "Loss on the training text (validation: too short for this)" in result.out
        scored = json.loads(run("eval", "--checkpoint", "runs/reset/checkpoints/last.safetensors", "--json").out)
        assert values["val_loss"] == pytest.approx(scored["carried"]["nats_per_char"], rel=1e-6)

    def test_what_is_said_of_a_profile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, frozen)
        values, out = found("runs/small"), visit("runs/small").out
        cell = values["gradient_through_time"]["cell"]
        numbers = [f"{cell[k] / cell[0]:.1e}" for k in (1, 2, 4, 8, 16, 32, 64, 128)]
        assert out.splitlines()[-6].split() == ["gradient", *numbers]
        assert out.splitlines()[-7].split() == ["characters", "back", "1", "2", "4", "8", "16", "32", "64", "128"]

    def test_the_run_is_left_alone_and_may_be_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, frozen)
        with FolderLock(RunFolder(Path("runs/small"))):
            before = snapshot()
            visit("runs/small", code=0)
            assert snapshot() == before
        assert list(scratch().iterdir()) == []

    def test_the_newest_state_is_examined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not the best one."""
        assert run("train", "--config", "small.yaml", "--name", "half", "--set", "training.max_steps=20").code == 0
        shutil.copy("runs/half/checkpoints/best.safetensors", "runs/small/checkpoints/best.safetensors")
        only(monkeypatch, optimizer_reset)
        seen: list[int] = []
        real = examination.collect

        def spied(session: Any, *rest: Any) -> Any:
            seen.append(session.trainer.steps)
            return real(session, *rest)

        monkeypatch.setattr(examination, "collect", spied)
        visit("runs/small", code=0)
        assert seen == [40]

    def test_random_state(self, places: Places) -> None:
        session, history = open_run(RunFolder(Path("runs/small")), places)
        torch.manual_seed(12)
        before = torch.get_rng_state()
        examine(session, history, "small.yaml", lambda stage, share: None)
        assert torch.equal(torch.get_rng_state(), before)

    def test_progress(self, places: Places) -> None:
        """Rises from 0 to 1, whatever is trained in between."""
        shares: list[float] = []
        examination.examine_folder(Path("runs/small"), places, lambda stage, share: shares.append(share))
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)
        shares.clear()
        config = load_config(Path("small.yaml"))
        examination.examine_config(config, "small.yaml", places, lambda stage, share: shares.append(share))
        assert shares == sorted(shares)
        assert shares[0] == pytest.approx(examination.BRIEF_SHARE / 4), "after ten steps of forty"
        assert shares[-1] == pytest.approx(1)
        result = visit("runs/small")
        assert re.search(r"(?m)^ +0%  reading the text$", result.err)
        assert "\r" not in result.err

    def test_one_that_diverged(self) -> None:
        """At once: there is no log line but the one that says so."""
        assert [
            set(row) & {"train_loss", "steps_not_finite"} for row in read_metrics(Path("runs/wild/metrics.jsonl"))
        ] == [{"steps_not_finite"}]
        values = found("runs/wild")
        names = [finding["name"] for finding in values["problems"]]
        assert "diverged" in names
        [advice] = [finding["command"] for finding in values["problems"] if finding["name"] == "diverged"]
        assert "--set training.lr=100 --set training.grad_clip=1" in advice
        assert "training loss not logged" in values["subject"]
        told = [finding["measured"] for finding in values["problems"] + values["healthy"]]
        assert not [measured for measured in told if re.search(r"\bnan\b", measured)]

    def test_a_bee_of_a_batch(self) -> None:
        """Its log lines lack what others tell of a step that was looked into."""
        metrics = Path("runs/small/metrics.jsonl")
        inside = {"loss_by_position", "taught_positions", "carried_streams", "largest_logit", "largest_state"}
        inside |= {"zero_gradients", "optimizer_steps", "tensors"}
        rows = [{key: row[key] for key in row if key not in inside} for row in read_metrics(metrics)]
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        values = found("runs/small")
        told = {finding["name"]: finding["measured"] for finding in values["problems"] + values["healthy"]}
        assert "updates" not in told, "of which nothing is known"
        assert not [measured for measured in told.values() if re.search(r"\bnan\b", measured)]

    def test_a_young_run(self) -> None:
        Path("runs/young/metrics.jsonl").write_text("")
        refused("doctor runs/young", "runs/young", "no log line yet", "run.log_every")


class TestPage:
    profile = Profile([4.0, 2.0, math.nan], None)
    reading = Reading([4.0, 3.0, 2.0, 1.0], [2.0, 2.0, 1.5, 1.0], {1: 2.0})
    good = healthy("good", "All is well.", "1 of 1", "1")
    bad = Finding("bad", True, "Not well.", "2 of 1", "1 (calibrated)", "It hurts.", "charrnn train")

    def page(self, *problems: Finding) -> str:
        examination = Examination("a run", list(problems), [self.good], self.profile, self.reading, 10, "character", {})
        return describe(examination)

    def test_with_problems(self) -> None:
        assert self.page(self.bad, replace(self.bad, title="Worse.")) == (
            "a run\n\n"
            "1. Not well.\n   Measured:   2 of 1\n   Threshold:  1 (calibrated)\n   Meaning:    It hurts.\n"
            "   Try:        charrnn train\n\n"
            "2. Worse.\n   Measured:   2 of 1\n   Threshold:  1 (calibrated)\n   Meaning:    It hurts.\n"
            "   Try:        charrnn train\n\n"
            "Healthy:\n  + All is well.\n      1 of 1\n\n"
            "Gradient through time, relative to the loss itself:\n"
            "  characters back         1        2\n"
            "  gradient          5.0e-01      nan\n\n"
            "Loss on unseen text by the characters read before, from a cold start and from a carried state:\n"
            "  characters              1        2\n"
            "  cold                    3      1.5\n"
            "  carried                 2     1.25"
        )

    def test_short_pieces(self) -> None:
        """The gradient reaches further back than the pieces that the validation part has room for."""
        profile = Profile([0.5**k for k in range(20)], None)
        lines = describe(Examination("a run", [], [self.good], profile, self.reading, 10, "character", {})).splitlines()
        assert lines[-7].split()[2:] == ["1", "2", "4", "8", "16"]
        assert lines[-3].split() == ["characters", "1", "2"]
        assert lines[-1].split() == ["carried", "2", "1.25"]

    def test_without(self) -> None:
        assert self.page().startswith("a run\n\nNo problem found.\n\nHealthy:\n  + All is well.\n")

    def test_json_knows_no_infinity(self) -> None:
        profile = Profile([1.0, math.inf], [1.0, math.nan])
        values = Examination("a run", [self.bad], [], profile, self.reading, 10, "character", {}).to_dict()
        assert values["gradient_through_time"] == {"hidden": [1.0, None], "cell": [1.0, None]}
        json.dumps(values, allow_nan=False)


class TestConfig:
    def test_nothing_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, last_character_only)
        before = snapshot()
        out = visit("--config", "small.yaml", code=0).out
        assert out.startswith("small.yaml: lstm 1 x 8 on cat.txt, 40 steps (")
        assert snapshot() == before
        assert list(scratch().iterdir()) == []

    def test_options(self) -> None:
        """Are part of what is examined, and of the commands that are advised."""
        Path("dog.txt").write_text(TEXT.upper()[:2000])
        Path("more dogs.txt").write_text(TEXT.upper()[2000:])
        texts = ("--data", "dog.txt", "--data", "more dogs.txt")
        options = (*texts, "--seed", "3", "--set", "training.state_reset=1", "--set", "model.cell=gru")
        values = found("--config", "small.yaml", *options)
        words = shlex.join(["small.yaml", *options])
        assert values["subject"].startswith(f"{words}: gru 1 x 8 on dog.txt and 1 more, ")
        [finding] = [one for one in values["problems"] if one["name"] == "state-never-carried"]
        kept = words.replace(" --set training.state_reset=1", "")
        assert finding["command"] == f"charrnn train --config {kept} --set training.state_reset=0.02"
        assert run(*shlex.split(finding["command"])[1:], "--dry-run").code == 0

    def test_it_trains_as_briefly_as_it_may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, last_character_only)
        monkeypatch.setattr(brief_run, "STEPS", 20)
        assert ", 20 steps (" in visit("--config", "small.yaml", "--set", "training.max_steps=100000").out
        monkeypatch.setattr(brief_run, "SECONDS", 0.001)
        monkeypatch.setattr(brief_run, "STEPS", 100_000)
        result = run("doctor", "--config", "small.yaml", "--set", "training.max_steps=100000")
        assert result.code == 2, "ended before its first log line"
        assert "no log line yet" in result.err

    def test_one_that_diverges(self) -> None:
        words = [word for one in WILD for word in ("--set", one)]
        names = [finding["name"] for finding in found("--config", "small.yaml", *words)["problems"]]
        assert "diverged" in names
        assert list(scratch().iterdir()) == []

    def test_a_shipped_config_from_a_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, last_character_only)
        result = run("doctor", "--config", "small.yaml", "--data", "-", stdin=TEXT.encode())
        assert result.code == 0, result.err


class TestPicture:
    @pytest.mark.parametrize("suffix", list(STARTS))
    def test_formats(self, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        only(monkeypatch, last_character_only)
        before = snapshot()
        result = visit("runs/small", "-o", f"time{suffix}", code=0)
        assert f"\nPicture: time{suffix}\n" in f"\n{result.err}"
        assert set(snapshot()) - set(before) == {f"time{suffix}"}
        assert Path(f"time{suffix}").read_bytes().startswith(STARTS[suffix])
        if suffix == ".svg":
            text = Path("time.svg").read_text()
            for label in ("characters back, k", "hidden state h", "cell state c", "seq_len 10", "runs/small: how far"):
                assert label in text

    @pytest.mark.parametrize("cell", [None, [2.0, 1.0, 1e-9, 0.0]])
    def test_what_is_drawn(self, cell: list[float] | None) -> None:
        [axis] = draw_through_time([4.0, 2.0, 0.04, 0.0], cell, 2, "byte", "a title").axes
        lines = {str(line.get_label()): line for line in axis.get_lines()}
        hidden = lines["hidden state h"].get_ydata()
        assert list(map(float, hidden))[:3] == pytest.approx([1, 0.5, 0.01])  # type: ignore[arg-type]
        assert math.isnan(list(map(float, hidden))[3]), "too small to matter"  # type: ignore[arg-type]
        assert ("cell state c" in lines) is (cell is not None)
        assert list(lines["1 %"].get_ydata()) == [0.01, 0.01]  # type: ignore[arg-type]
        assert list(lines["seq_len 2: windows end here"].get_xdata()) == [2, 2]  # type: ignore[arg-type]
        assert (axis.get_xlim(), axis.get_yscale(), axis.get_title()) == ((0, 3), "log", "a title")
        assert axis.get_xlabel() == "bytes back, k"
        assert "state k bytes back" in axis.get_ylabel()

    def test_windows_that_end_outside(self) -> None:
        [axis] = draw_through_time([4.0, 2.0], None, 2, "byte", "a title").axes
        assert not any("seq_len" in str(line.get_label()) for line in axis.get_lines())

    @pytest.mark.parametrize("norms", [[1.0], [0.0, 0.0], [1.0, math.inf, math.nan], [math.nan] * 3, [1e30, 1e-30]])
    def test_whatever_was_measured(self, norms: list[float]) -> None:
        draw_through_time(norms, norms, 1, "byte", "a title").savefig("time.png")

    def test_names_are_no_formulas_and_none_is_left_out(self) -> None:
        """To matplotlib a ``$`` begins one, and what begins with ``_`` has no place in a legend."""
        names = ["_a", "a$_b", "$^$"]
        figure = draw_gradients({name: [1.0, 0.5] for name in names}, [2], "byte", r"$\x: how far$")
        figure.draw_without_rendering()
        found = figure.axes[0].get_legend()
        assert found is not None
        assert [text.get_text() for text in found.get_texts()] == [*names, "1 %"]

    def test_a_bad_name_is_refused_before_the_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def worked(*_: object) -> Any:
            raise AssertionError("this would have been half a minute")

        monkeypatch.setattr(sys.modules["charrnn.cli.doctor"], "_examine", worked)
        for name in ("time.jpg", "time", "runs"):
            refused(f"doctor runs/small -o {name}", f"{name}:", ".png, .svg, .pdf")
        refused("doctor runs/small -o none/time.png", "none/time.png", "no such folder", "-o")
        Path("time.png").mkdir()
        refused("doctor runs/small -o time.png", "time.png: cannot be written: is a folder", "-o")
        monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
        refused("doctor runs/small -o runs/time.png", "runs/time.png", "runs cannot be written in", "-o")


class TestAsk:
    def test_a_question(self) -> None:
        before = snapshot()
        small = ("--set", "model.hidden_size=8", "--set", "training.batch_size=4")
        result = visit("--config", "counting.yaml", "--ask", "clipping", *small, code=0)
        lines = result.out.splitlines()
        assert re.match(
            r"Does clipping the gradient help\? 5 pairs of trainings of \d+ steps with equal seeds, ", lines[0]
        )
        assert len(lines) == 4
        for line, label in zip(lines[1:3], ("no clipping", "grad_clip 1"), strict=True):
            assert re.fullmatch(rf"  {label} +(\d\.\d{{3}}|diverged)(  (\d\.\d{{3}}|diverged)){{4}}", line)
        assert lines[3].startswith("  grad_clip 1 instead of no clipping: ")
        assert re.search("helps|hurts|cannot be told at this budget", lines[3])
        assert snapshot() == before

    @pytest.mark.parametrize(("vocabulary", "unit"), [("characters", "character"), ("bytes", "byte")])
    def test_losses_are_per_what_is_read(self, vocabulary: str, unit: str) -> None:
        words = ("--config", "small.yaml", "--set", f"corpus.vocabulary={vocabulary}", "--ask", "clipping")
        assert re.search(rf": [-+]\d\.\d+ nats per {unit}, 95 % within ", visit(*words, code=0).out)

    @pytest.mark.parametrize("words", ["runs/small", "--config small.yaml"])
    def test_json(self, words: str) -> None:
        result = visit(*words.split(), "--ask", "seq-len", "--json", code=0)
        assert result.out.count("\n") == 1
        answers = json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert [answer["label"] for answer in answers] == ["seq_len 2", "seq_len 40"]
        for answer in answers:
            assert set(answer) == {
                *("question", "label", "against", "losses", "losses_against"),
                *("effect", "low", "high"),
                *("verdict", "steps"),
            }
            assert len(answer["losses"]) == len(answer["losses_against"]) == 5

    def test_all_diverge(self) -> None:
        words = [word for one in WILD for word in ("--set", one)]
        result = visit("--config", "small.yaml", *words, "--ask", "random-length", code=0)
        assert result.out.count("  diverged" * 5) == 2
        assert "nan" not in result.out
        values = json.loads(visit("--config", "small.yaml", *words, "--ask", "random-length", "--json").out)
        assert values[0]["effect"] is None
        assert values[0]["losses"] == [None] * 5

    def test_questions_that_can_be_asked(self) -> None:
        """The command line lists them without importing torch."""
        assert list(QUESTIONS) == list(OFFERED)


@cases(
    ("doctor", "run folder", "--config NAME"),
    ("doctor runs/small --config small.yaml", "--config NAME", "not both"),
    ("doctor runs/none", "runs/none", "no such run folder", "prints where"),
    ("doctor runs", "runs:", "holds no checkpoint"),
    ("doctor cat.txt", "cat.txt", "is a file"),
    ("doctor runs/small/checkpoints/last.safetensors", "last.safetensors", "give a run folder"),
    ("doctor --config none.yaml", "none.yaml", "no such config"),
    ("doctor --config small.yaml --ask why", "--ask", "'why'", "clipping"),
    ("doctor runs/small --ask why", "--ask", "'why'"),
    ("doctor runs/small --set training.lr=1", "runs/small", "--set", "--config"),
    ("doctor runs/small --data cat.txt", "runs/small", "as it is"),
    ("doctor runs/small --seed 3", "runs/small", "as it is"),
    ("doctor runs/small --device cpu --ask reset", "runs/small", "as it is"),
    ("doctor runs/small --ask reset -o a.png", "-o draws", "--ask"),
    ("doctor --config small.yaml --set training.lrr=1", "--set training.lrr=1", "did you mean 'lr'?"),
    ("doctor --config small.yaml --device toaster", "--device toaster", "cpu", "cuda"),
    ("doctor --config small.yaml --data none.txt", "none.txt", "No such file"),
    ("doctor --config small.yaml --data short.txt", "short.txt", "too short", "give"),
    ("doctor --config small.yaml --ask seq-len --data none.txt", "none.txt", "No such file"),
)
def test_bad_usage(words: str, says: tuple[str, ...]) -> None:
    Path("short.txt").write_text("abcab")
    one = " --set training.batch_size=1 --set training.seq_len=1" if "short.txt" in words else ""
    refused(words + one, *says)


def test_another_text() -> None:
    assert run("train", "--config", "small.yaml", "--name", "here").code == 0
    Path("cat.txt").write_text(TEXT + "!")
    refused("doctor runs/here", "cat.txt", "changed")
    refused("doctor runs/here --ask reset", "cat.txt", "changed")


def test_a_damaged_run() -> None:
    for checkpoint in Path("runs/small/checkpoints").iterdir():
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    refused("doctor runs/small", "runs/small", "no checkpoint that can be read")


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, *RULES)
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (("runs/reset",), ("runs/none",)):
        result = run("doctor", *words, terminal=True)
        assert "\x1b[3" not in result.err
        assert "\x1b" not in result.out
        assert result.out or result.code == 2


class TestSignals:
    def test_ctrl_c(self) -> None:
        interrupted_once("training", "doctor", "--config", "small.yaml", "--set", "training.max_steps=100000")

    @pytest.mark.parametrize(
        ("stage", "words", "number"),
        [
            ("collect", "--config small.yaml", signal.SIGINT),
            ("collect", "runs/small -o a.png", signal.SIGTERM),
            ("run_trials", "runs/small", signal.SIGINT),
            ("memorise", "runs/small --json", signal.SIGINT),
        ],
    )
    def test_in_the_middle(
        self, stage: str, words: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = getattr(examination, stage)

        def interrupted(*arguments: Any) -> Any:
            os.kill(os.getpid(), number)
            return real(*arguments)

        monkeypatch.setattr(examination, stage, interrupted)
        before = snapshot()
        result = run("doctor", *words.split())
        assert (result.code, result.out) == (128 + number, "")
        assert "nothing written" in result.err
        assert snapshot() == before
        assert list(scratch().iterdir()) == []

    def test_while_asking(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*arguments: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return trial(*arguments, **options)

        monkeypatch.setattr(trials, "trial", interrupted)
        result = run("doctor", "runs/small", "--ask", "momentum")
        assert (result.code, result.out) == (130, "")


def test_a_young_run_that_diverged_is_not_refused() -> None:
    """Nor one whose log is gone but for that."""
    rows = [{"step": 40, "epoch": 1.0, "seconds": 1.0, "steps_not_finite": 1}]
    Path("runs/young/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "diverged" in [finding["name"] for finding in found("runs/young")["problems"]]
