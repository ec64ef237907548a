"""The Python interface: its examples are true, and it does what the command line does."""

from __future__ import annotations

import dataclasses
import doctest
import json
import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import charrnn
from charrnn import api
from charrnn.config.schema import Config
from charrnn.errors import CheckpointError, ConfigError, DataError, UsageError
from charrnn.model.charrnn import CharRNN
from charrnn.model.reference import reference_forward
from charrnn.runs.checkpoint import State, read_checkpoint
from charrnn.runs.run import Run
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.loop import Loop
from charrnn.training.notebook import NotebookReporter, StopButton
from charrnn.training.session import Session, new_session
from tests import command_line
from tests.conftest import TEXT, make_config
from tests.helpers import comparable_rows, differences

CLOCK = {"seconds", "logged_at", "metrics_length"}


@pytest.fixture
def run(small_config: Config) -> Run:
    return charrnn.train(small_config, name="cats", progress=False)


def state_of(run: Run) -> State:
    state = read_checkpoint(run.path / "checkpoints" / "last.safetensors")
    state["score"] = {key: value for key, value in state["score"].items() if key not in CLOCK}
    state["config"]["run"]["name"] = None
    return state


def test_the_examples_are_true() -> None:
    tests = doctest.DocTestFinder().find(api)
    assert sum(bool(test.examples) for test in tests) >= 3
    found = doctest.testmod(api)
    assert found.attempted > 10 and found.failed == 0


def test_it_trains_as_the_command_line_does(small_config: Config, run: Run) -> None:
    result = command_line.run("train", "--config", run.path / "config.yaml", "--name", "other")
    assert result.code == 0
    assert comparable_rows(run.path / "metrics.jsonl") == comparable_rows(Path("runs/other/metrics.jsonl"))
    assert run.path == Path("runs/cats") and run.state == "done" and not run.locked
    assert run.config.training == small_config.training


@pytest.mark.parametrize(
    "config",
    [
        {"corpus.source": "counting", "training": {"max_steps": 3, "lr": 0.5}, "model.dropout": {"between": 0.25}},
        {"corpus": {"source": "counting"}, "training.max_steps": 3, "training.lr": 0.5, "model.dropout.between": 0.25},
    ],
)
def test_a_config_by_sections_or_dotted_names(config: dict[str, Any]) -> None:
    before = json.dumps(config)
    run = charrnn.train(config, settings={"training.lr": 0.25, "model": {"hidden_size": 9}}, progress=False)
    assert json.dumps(config) == before
    assert run.settings["training.lr"] == 0.25 and run.settings["model.hidden_size"] == 9
    assert run.settings["model.dropout.between"] == 0.25 and run.settings["model.dropout.input"] == 0
    assert run.path == Path("runs/counting")
    # What a run says of itself is a config again.
    again = charrnn.train(run.settings, progress=False)
    assert again.path == Path("runs/counting-2") and not differences(state_of(run), state_of(again))


def test_a_config_from_a_file_with_arguments(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    settings = {"training.max_steps": 2}
    first = charrnn.train("counting", data=text_file, out=out, settings=settings, progress=False)
    assert first.path == out / "counting" and first.settings["corpus.source"] == str(text_file.absolute())
    second = charrnn.train(first.path / "config.yaml", name="mine", progress=False)
    assert second.path == out / "mine"
    arguments_win = charrnn.train("counting", name="a", settings={"run.name": "b", **settings}, progress=False)
    assert arguments_win.path == Path("runs/a")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("nothing",), ConfigError, "nothing: no such config"),
        (({"corpus.source": "counting"},), ConfigError, "training is missing"),
        (({"corpus.source": "counting", "training.max_steps": 2.5},), ConfigError, r"training\.max_steps=2\.5"),
        (({"corpus.source": "counting", "training.max_stepz": 2},), ConfigError, "did you mean 'max_steps'"),
        (({"corpus.source": "none.txt", "training.max_steps": 2},), DataError, "none.txt"),
    ],
)
def test_bad_configs_are_refused(arguments: tuple[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        charrnn.train(*arguments)
    assert not Path("runs").exists()


def test_a_finished_run_goes_on_with_more_steps(small_config: Config) -> None:
    first = charrnn.train(small_config, settings={"training.max_steps": 23}, progress=False)
    again = charrnn.resume(first, settings={"training": {"max_steps": 40}}, progress=False)
    assert again.settings["training.max_steps"] == 40
    assert again.path == first.path and again.state == "done" and again.metrics[-1]["step"] == 40
    before = command_line.snapshot(again.path)
    nothing_to_do = charrnn.resume(str(again.path), progress=False)
    assert nothing_to_do.metrics == again.metrics
    assert command_line.snapshot(again.path) == before
    with pytest.raises(CheckpointError, match=r"model\.hidden_size"):
        charrnn.resume(again, settings={"model.hidden_size": 9}, progress=False)
    with pytest.raises(CheckpointError, match="no such run folder"):
        charrnn.resume("nowhere")
    with pytest.raises(UsageError, match="stays in its folder"):
        charrnn.resume(again, settings={"run.name": "elsewhere"})


def test_another_text_is_for_those_who_say_so(small_config: Config, text_file: Path) -> None:
    first = charrnn.train(small_config, settings={"training.max_steps": 23}, progress=False)
    text_file.write_text(text_file.read_text() + "the cat sat.\n")
    with pytest.raises(DataError, match="the text has changed"):
        charrnn.resume(first, settings={"training.max_steps": 25}, progress=False)
    again = charrnn.resume(first, settings={"training.max_steps": 25}, inexact=True, progress=False)
    assert (again.state, again.metrics[-1]["step"]) == ("done", 25)


def test_the_process_is_given_back(small_config: Config) -> None:
    """Threads, random numbers, and numbers too small for others to be normal."""
    threads = torch.get_num_threads() + 1
    torch.set_num_threads(threads)
    try:
        state = torch.get_rng_state()
        first = charrnn.train(small_config, settings={"training.threads": 1}, progress=False)
        charrnn.load(charrnn.resume(first, settings={"training.max_steps": 42}, progress=False))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert float(np.float32(1e-40) * np.float32(0.5)) > 0
    finally:
        torch.set_num_threads(threads - 1)


def test_what_one_should_know_is_a_warning() -> None:
    settings = {"training.max_steps": 2, "training.weight_decay": 0.1}
    with pytest.warns(UserWarning, match=r"training\.weight_decay is 0\.1\. With adam "):
        charrnn.train("counting", settings={**settings, "training.optimizer": "adam"}, progress=False)


def test_half_a_character_is_no_byte() -> None:
    run = charrnn.train("counting", settings={"training.max_steps": 2, "corpus.vocabulary": "bytes"}, progress=False)
    model = charrnn.load(run)
    for read in (model.sample, model.loss):
        with pytest.raises(DataError, match="half of a character"):
            read("ab\ud800")


def test_a_run_from_the_config_of_another_has_no_note_of_its_own() -> None:
    first = charrnn.train("counting", settings={"training.max_steps": 2, "run.note": "why"}, progress=False)
    assert first.environment["config"] == "counting.yaml"
    second = charrnn.train(first.path / "config.yaml", progress=False)
    assert second.config.run.note is None
    assert second.environment["config"] == str((first.path / "config.yaml").absolute())


def test_what_cannot_be_kept_or_told_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.config.extras.find_spec", lambda _: None)
    Path("file").touch()
    for settings, message in (({"run.tracker": "tensorboard"}, "needs tensorboard"), ({"run.out": "file"}, "file")):
        with pytest.raises(UsageError, match=message):
            charrnn.train("counting", settings=settings, progress=False)
    assert not Path("runs").exists()
    first = charrnn.train("counting", settings={"training.max_steps": 2}, progress=False)
    with pytest.raises(UsageError, match="needs tensorboard"):
        charrnn.resume(first, settings={"run.tracker": "tensorboard", "training.max_steps": 3}, progress=False)


def test_the_tracker_of_the_config_is_kept(small_config: Config) -> None:
    pytest.importorskip("tensorboard")
    tracked = charrnn.train(small_config, settings={"run.tracker": "tensorboard"}, progress=False)
    assert list((tracked.path / "tensorboard").iterdir())


def test_a_run_is_called_as_the_command_line_does(small_config: Config, in_own_folder: Path) -> None:
    Path(".my text (1).txt").write_text("the cat sat on the mat. " * 200)
    settings = {"training.max_steps": 5, "model.hidden_size": 8}
    first = charrnn.train(settings, data=".my text (1).txt", progress=False)
    assert charrnn.train(first.path / "config.yaml", progress=False).path.name == f"{first.path.name}-2"
    assert first.path.name == "my-text-1"


def test_a_stop_button_saves_and_says_how_to_go_on(
    small_config: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    ordinary = Loop._step

    def press(loop: Loop) -> Iterator[Any]:
        if loop.session.trainer.steps == 11:
            signal.raise_signal(signal.SIGINT)
        return ordinary(loop)

    monkeypatch.setattr(Loop, "_step", press)
    with pytest.raises(
        KeyboardInterrupt, match=r"at step 12, saved in runs/cat; to go on: charrnn\.resume\('runs/cat'\)"
    ):
        charrnn.train(small_config, progress=False)
    monkeypatch.setattr(Loop, "_step", ordinary)
    assert signal.getsignal(signal.SIGINT) is before
    half = charrnn.read_run(Path("runs/cat"))
    assert half.state == "interrupted"
    assert (half.metrics[-1]["step"], half.metrics[-1]["interrupted"]) == (12, True)
    whole = charrnn.resume(half, progress=False)
    assert whole.state == "done" and not differences(state_of(whole), state_of(run))
    assert comparable_rows(whole.path / "metrics.jsonl") == comparable_rows(run.path / "metrics.jsonl")


def test_a_second_press_leaves_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="at once"), StopButton() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_train() -> None:
    runs: list[Run] = []

    def work() -> None:
        runs.append(charrnn.train("counting", settings={"training.max_steps": 2}, progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert runs[0].state == "done"


def test_metrics_are_a_plain_table(run: Run) -> None:
    assert run.metrics == [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all(type(row) is dict and all(type(key) is str for key in row) for row in run.metrics)
    assert [row["step"] for row in run.history.evaluations] == [20, 40]
    assert run.best is not None and run.best["val_loss"] == min(row["val_loss"] for row in run.history.evaluations)
    assert [len(text) for _, text in run.samples] == [20, 20]


def test_a_notebook_shows_a_run_as_a_line(run: Run) -> None:
    assert run.best is not None
    best = f"best val_loss {run.best['val_loss']:.4g} at step {run.best['step']}"
    assert repr(run) == f"Run('runs/cats', done, {run.config.model.shape}, {best})"
    (run.path / "metrics.jsonl").unlink()
    assert repr(charrnn.read_run(run.path)) == f"Run('runs/cats', interrupted, {run.config.model.shape})"


def test_paths_may_be_strings(run: Run) -> None:
    assert charrnn.read_run(str(run.path)) == run
    assert list(charrnn.read_metrics(f"{run.path}/metrics.jsonl")) == run.metrics
    assert charrnn.load_config(f"{run.path}/config.yaml") == run.config
    assert charrnn.load_model(str(run.path), torch.device("cpu")).steps == charrnn.load(run).steps
    with pytest.raises(CheckpointError, match="nowhere: no such"):
        charrnn.read_run("nowhere")


def test_progress_is_shown_or_not(small_config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    charrnn.train(small_config, progress=False)
    assert capsys.readouterr() == ("", "")
    run = charrnn.train(small_config)
    shown = capsys.readouterr()
    losses = [row["val_loss"] for row in run.history.evaluations]
    assert shown.out == "".join(f"step {s}  val {v:.4f} nats/char\n" for s, v in zip((20, 40), losses, strict=True))
    assert "100%" in shown.err and "step 40" in shown.err and "char/s" in shown.err


def test_progress_is_per_byte_where_bytes_are_read(small_config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    run = charrnn.train(small_config, settings={"corpus.vocabulary": "bytes"})
    shown = capsys.readouterr()
    assert shown.out.count(" nats/byte\n") == 2 and "byte/s" in shown.err and "char" not in shown.out + shown.err
    assert (run.path / "samples.txt").read_text(errors="replace").count(" nats/byte\n") == 2


def test_warnings_are_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="slow"), NotebookReporter(False) as reporter:
        reporter.warned("slow")

    def noted(*arguments: Any) -> Session:
        session = new_session(*arguments)
        return dataclasses.replace(session, text=dataclasses.replace(session.text, notes=("another text was taken",)))

    monkeypatch.setattr("charrnn.api.new_session", noted)
    with pytest.warns(UserWarning, match="another text was taken"):
        charrnn.train("counting", settings={"training.max_steps": 1}, progress=False)


def test_a_damaged_last_checkpoint_is_warned_of(run: Run) -> None:
    (run.path / "checkpoints" / "last.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"last\.safetensors.*going on from"):
        again = charrnn.resume(run, progress=False)
    assert again.metrics[-1]["step"] == 40


def test_sampling_is_that_of_the_command_line(run: Run) -> None:
    model = charrnn.load(run.path)
    words = [
        "--prompt",
        "the ",
        "--length",
        "40",
        "--temperature",
        "1.5",
        "--top-k",
        "9",
        "--top-p",
        "0.9",
        "--seed",
        "7",
    ]
    result = command_line.run("sample", "--checkpoint", run.path, *words)
    ours = model.sample("the ", length=40, temperature=1.5, top_k=9, top_p=0.9, seed=7)
    assert len(ours) == 40 and result.out.rstrip("\n") == ("the " + ours).rstrip("\n")
    assert model.sample("the ", length=40, temperature=1.5, top_k=9, top_p=0.9, seed=8) != ours
    assert len(model.sample()) == run.config.sampling.length
    assert model.sample("thXe ", length=9, on_unknown="skip") == model.sample("the ", length=9)
    for settings in ({"temperature": 0.5}, {"top_k": 1}, {"top_p": 0.1}):
        given: Any = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, **settings}
        assert model.sample("the ", length=40, seed=7, **given) != ours
    with pytest.raises(ConfigError, match="temperature=-1"):
        model.sample(temperature=-1)
    with pytest.raises(DataError, match="'X'"):
        model.sample("X")


def test_load_takes_what_holds_a_model(run: Run) -> None:
    best = run.path / "checkpoints" / "best.safetensors"
    assert command_line.run("export", "--checkpoint", run.path, "--format", "safetensors", "-o", "hub").code == 0
    texts = [charrnn.load(one).sample(length=50) for one in (run, run.path, str(run.path), best, Path("hub"))]
    assert len(set(texts)) == 1
    model = charrnn.load(run)
    assert model.path == best and model.vocabulary.characters == "".join(sorted(set(TEXT))) and not model.model.training
    assert run.best is not None and model.steps == run.best["step"] and model.val_loss == run.best["val_loss"]
    with pytest.raises(CheckpointError, match="no such"):
        charrnn.load("nowhere")
    with pytest.raises(UsageError, match="tpu"):
        charrnn.load(run, device="tpu")


def test_loss_is_that_of_the_equations() -> None:
    config = make_config("counting", "model.dropout=0.5")
    torch.manual_seed(1)
    vocabulary = Vocabulary("characters", "abc ")
    network = CharRNN(len(vocabulary), config.model).eval()
    facts: dict[str, Any] = {"path": Path("x"), "corpus": {}, "baselines": {}, "steps": 1, "val_loss": None}
    model = api.TrainedModel(model=network, vocabulary=vocabulary, config=config, **facts)
    text = "ab cab  acb" * 30
    ids = torch.tensor(["abc ".index(one) for one in text])[None]
    logits, _ = reference_forward(network, ids[:, :-1], network.zero_hidden(1))
    expected = -logits.log_softmax(-1).gather(2, ids[:, 1:, None]).double().mean().item()
    assert model.loss(text) == pytest.approx(expected, abs=1e-6)
    assert model.loss(text[:2]) != pytest.approx(expected, abs=1e-3)
    assert model.loss("aXb", on_unknown="skip") == model.loss("ab")
    assert math.isfinite(model.loss(text * 40))
    for short in ("", "a"):
        with pytest.raises(DataError, match="too short"):
            model.loss(short)
    with pytest.raises(DataError, match="'X'"):
        model.loss("aXb")


def test_arguments_of_a_model_are_checked(run: Run) -> None:
    model = charrnn.load(run.path)
    for seed in (-1, 1.5, 2**63):
        with pytest.raises(charrnn.CharRNNError, match="seed="):
            model.sample(seed=seed)  # type: ignore[arg-type]
    for read in (model.sample, model.loss):
        with pytest.raises(charrnn.CharRNNError, match=r"on_unknown='foo'.*error, skip"):
            read("the cat", on_unknown="foo")  # type: ignore[arg-type]
