"""The commands as a person uses them: what goes to which stream, what is left on the disk, how a run is stopped.

What cannot be done is in ``test_bad_input``.
"""

from __future__ import annotations

import json
import math
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from charrnn.__main__ import main as entry_point
from charrnn.cli import cli
from charrnn.cli._interrupts import Interrupts
from charrnn.cli._terminal import format_loss, log_line, printable
from charrnn.cli.eval import _table
from charrnn.config.library import shipped_configs
from charrnn.config.schema import Config
from charrnn.runs.metrics import read_metrics
from charrnn.text.named import NAMED
from charrnn.text.places import Places
from charrnn.training.clock import clock
from charrnn.training.evaluation import Evaluation
from charrnn.training.scoring import Report
from tests.command_line import PROGRAM, Result, run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import LOG_KEYS, OBSERVED_KEYS, begin, train

ROOT = Path(__file__).parent.parent
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 20}
run: {log_every: 5, eval_every: 8, save_every: 10, sample_length: 20}
"""
ENDLESS = CONFIG  # nothing happens at a step that a signal may come before or after
for rhythm in ("max_steps: 20", "eval_every: 8", "save_every: 10"):
    ENDLESS = ENDLESS.replace(rhythm, f"{rhythm.split()[0]} 100000000")
PATIENCE_SECONDS = 60  # how long a test waits for what takes a second or two, before it fails
RUN_FILES = {
    *("config.yaml", "environment.json", "metrics.jsonl", "samples.txt", "checkpoints"),
    *("checkpoints/best.safetensors", "checkpoints/last.safetensors"),
}
FIRST = "checkpoints/step-000000000.safetensors"
EVALUATION_KEYS = {"step", "epoch", "seconds", "val_loss", "sample"}
HEAVY = {"torch", "numpy", "pydantic"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps, made once."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cat.txt").write_text(TEXT)
    sizes = ("model.num_layers=1", "training.max_steps=20", f"run.out={folder}")
    session = begin(make_config(str(folder / "cat.txt"), *sizes), Places(data=(), cache=folder / "cache"))
    train(session)
    return folder / "run"


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, trained: Path) -> None:
    """This folder: a small text, a config for it, and a trained run."""
    Path("cat.txt").write_text(TEXT)
    Path("small.yaml").write_text(CONFIG)
    shutil.copytree(trained, "run")


def done(*words: str, stdin: bytes = b"") -> Result:
    """A command that works."""
    result = run(*words, stdin=stdin)
    assert result.code == 0, result.err
    return result


def sample(*words: str, stdin: bytes = b"") -> str:
    return done("sample", "--checkpoint", "run", "--length", "30", *words, stdin=stdin).out


def samples(*words: str) -> list[str]:
    texts = json.loads(sample("--json", *words))["samples"]
    assert isinstance(texts, list)
    return texts


def started(*words: str, **options: Any) -> subprocess.Popen[str]:
    """A process of its own, with pipes."""
    return subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_while_the_command_line_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading:
        def __getattr__(self, _: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "charrnn.cli", Loading())
    with pytest.raises(SystemExit) as ended:
        entry_point()
    assert ended.value.code == 130


def interrupted_once(sign: str, *words: str) -> None:
    """Ctrl-C to a study as soon as a line with ``sign`` shows that it is at work: it leaves, and leaves nothing."""
    before = snapshot()
    process = started(*words)
    try:
        assert process.stderr
        assert any(sign in line for line in process.stderr), "it ended before it began"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "charrnn: interrupted; nothing was changed and nothing written"
    assert "Traceback" not in err
    assert snapshot() == before


def all_commands(group: click.Group = cli, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    for name, command in sorted(group.commands.items()):
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*before, name))


class TestHelp:
    @pytest.mark.parametrize("words", [(), *all_commands()], ids=" ".join)
    def test_help_has_an_example(self, words: tuple[str, ...]) -> None:
        result = done(*words, "--help")
        assert result.err == ""
        usage, _, rest = result.out.partition("\n")
        assert usage.startswith(f"Usage: {' '.join(['charrnn', *words])}")
        assert " ".join(["charrnn", *words]) in rest, "no example"

    @pytest.mark.parametrize("words", list(all_commands()), ids=" ".join)
    def test_every_option_is_explained(self, words: tuple[str, ...]) -> None:
        command: click.Command = cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        assert command.help
        assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []

    @pytest.mark.parametrize("words", [(), ("config",), ("corpus",), ("plot",), ("runs",)])
    def test_a_list_of_commands_cuts_no_sentence(self, words: tuple[str, ...]) -> None:
        listed = done(*words, "--help").out.split("Commands:")[1]
        assert "..." not in listed.replace("RUN...", "")

    @pytest.mark.parametrize("name", sorted(cli.commands))
    def test_the_readme_names_every_command(self, name: str) -> None:
        assert re.search(rf"charrnn {name}\b", (ROOT / "README.md").read_text())

    def test_short_option(self) -> None:
        assert done("train", "-h") == done("train", "--help")

    def test_version(self) -> None:
        assert re.fullmatch(r"charrnn, version \d+\.\d+\.\d+\n", done("--version").out)

    def test_no_command_shows_help_and_fails(self) -> None:
        result = run()
        assert (result.code, result.out) == (2, "")
        assert "Commands:" in result.err

    def test_importing_the_command_line_is_light(self) -> None:
        code = f"import sys, charrnn.cli; print({HEAVY} & set(sys.modules))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout == "set()\n"

    @pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("config", "ls"), ("corpus", "--help")])
    def test_help_is_light(self, words: tuple[str, ...]) -> None:
        command = [sys.executable, "-X", "importtime", str(PROGRAM), *words]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in found.stderr.splitlines()}
        assert "click" in imported
        assert not imported & HEAVY


class TestTrain:
    def test_a_run_and_all_it_leaves(self) -> None:
        result = done("train", "--config", "small.yaml")
        assert result.out == ""
        files = {*RUN_FILES, "checkpoints/step-000000010.safetensors"}
        assert set(snapshot(Path("runs"))) == {"small", *(f"small/{name}" for name in files)}
        for word in ("Text:", "4,680 characters", "Model:", "lstm 1 x 8", "Run:", "runs/small", "unigram", "Done:"):
            assert word in result.err
        assert "charrnn sample --checkpoint runs/small" in result.err

    def test_plain_lines_where_there_is_no_terminal(self) -> None:
        err = done("train", "--config", "small.yaml").err
        assert "\r" not in err
        assert "\x1b" not in err
        assert "step 5  train" in err

    def test_a_bar_on_a_terminal(self) -> None:
        result = run("train", "--config", "small.yaml", terminal=True)
        assert result.code == 0
        assert "%|" in result.err
        assert "\r" in result.err

    def test_metrics_have_the_documented_keys(self) -> None:
        done("train", "--config", "small.yaml")
        rows = list(read_metrics(Path("runs/small/metrics.jsonl")))
        logs = [row for row in rows if "train_loss" in row]
        evaluations = [row for row in rows if "val_loss" in row]
        assert len(logs) + len(evaluations) == len(rows)
        assert [row["step"] for row in logs] == [5, 10, 15, 20]
        assert [row["step"] for row in evaluations] == [8, 16, 20]
        assert all(set(row) == LOG_KEYS | OBSERVED_KEYS for row in logs)
        assert all(set(row) == EVALUATION_KEYS for row in evaluations[:-1])
        assert set(evaluations[-1]) == EVALUATION_KEYS | {"val_loss_cold"}

    def test_an_evaluation_at_the_last_step_is_made_once(self) -> None:
        """The step is due for an evaluation, and it is the end: one line, not two."""
        done("train", "--config", "small.yaml", "--set", "run.eval_every=10")
        steps = [row["step"] for row in read_metrics(Path("runs/small/metrics.jsonl")) if "val_loss" in row]
        assert steps == [10, 20]

    def test_the_second_of_a_name_does_not_touch_the_first(self) -> None:
        done("train", "--config", "small.yaml")
        before = snapshot(Path("runs/small"))
        result = done("train", "--config", "small.yaml")
        assert "runs/small-2" in result.err
        assert set(snapshot(Path("runs/small-2"))) == {*RUN_FILES, "checkpoints/step-000000010.safetensors"}
        assert snapshot(Path("runs/small")) == before

    def test_options_reach_the_config(self) -> None:
        Path("dog.txt").write_text(TEXT)
        options = ["--data", "dog.txt", "--seed", "7", "--device", "cpu", "--name", "mine", "--out", "kept"]
        done("train", "--config", "small.yaml", *options, "--max-time", "1h", "--set", "training.lr=1e-3")
        config = yaml.safe_load(Path("kept/mine/config.yaml").read_text())
        assert config["corpus"]["source"] == str(Path("dog.txt").absolute())
        assert config["training"] | {"seed": 7, "device": "cpu", "max_time": 3600, "lr": 1e-3} == config["training"]

    def test_same_seed_same_run(self) -> None:
        first, second = (list(self._losses(name, "--seed", "3")) for name in ("a", "b"))
        assert first == second != list(self._losses("c", "--seed", "4"))

    def _losses(self, name: str, *options: str) -> Iterator[float]:
        done("train", "--config", "small.yaml", "--name", name, *options)
        yield from (row["train_loss"] for row in read_metrics(Path(f"runs/{name}/metrics.jsonl")) if "lr" in row)

    def test_text_from_standard_input(self) -> None:
        done("train", "--config", "small.yaml", "--data", "-", stdin=TEXT.encode())
        kept = yaml.safe_load(Path("runs/small/config.yaml").read_text())["corpus"]["source"]
        assert Path(kept).read_text() == TEXT

    def test_dry_run_writes_nothing(self, places: Places) -> None:
        before = snapshot()
        result = done("train", "--config", "small.yaml", "--dry-run")
        assert result.out == ""
        assert snapshot() == before
        assert not places.cache.exists()
        for pattern in (
            r"\b\d+ parameters",
            r"Memory: .*\d \w+ for weights",
            r"Speed: .*characters per sec",
            r"Time: .*\d",
        ):
            assert re.search(pattern, result.err)

    def test_dry_run_of_a_resumed_run_writes_nothing(self) -> None:
        before = snapshot()
        run("train", "--resume", "run", "--dry-run", "--set", "training.max_steps=30")
        assert snapshot() == before

    def test_symbols_of_the_validation_text_only(self) -> None:
        Path("cat.txt").write_text(TEXT + "QQQ")
        err = done("train", "--config", "small.yaml", "--dry-run").err
        assert re.search(r"warning: 1 symbol\(s\) do not occur in the training text, 3 times", err)

    @pytest.mark.parametrize(("length", "warned"), [(1111, True), (1112, False)])
    def test_a_text_too_short(self, length: int, warned: bool) -> None:
        Path("cat.txt").write_text(TEXT[:length])
        err = done("train", "--config", "small.yaml", "--dry-run").err
        assert (
            "warning: cat.txt: 999 characters to train on are soon known by heart; give a longer text" in err
        ) == warned

    def test_thousands_of_symbols(self) -> None:
        Path("cat.txt").write_text("".join(map(chr, range(0x4E00, 0x4E00 + 1234))) * 2, encoding="utf-8")
        assert "2,468 characters, 1,234 different, " in done("train", "--config", "small.yaml", "--dry-run").err


class TestResume:
    def test_a_finished_run_is_left_alone(self) -> None:
        before = snapshot()
        result = done("train", "--resume", "run")
        assert "finished at step 20" in result.err
        assert "to go on, raise what ended it: --set training.max_steps=..." in result.err
        assert (result.out, snapshot()) == ("", before)

    def test_the_time_that_a_finished_run_had_is_told(self) -> None:
        said = done("train", "--resume", "run", "--set", "training.max_time=1e-3").err
        assert re.search(r"at step 20, after 0:\d\d in all; to go on, raise .* --set training.max_time=...\n", said)

    @pytest.mark.parametrize(
        ("settings", "limit"),
        [
            (("training.max_steps=null", "training.epochs=0.01"), "training.epochs"),
            (
                ("training.max_steps=50", "training.patience=1", "training.lr=1e-9", "run.eval_every=2"),
                "training.patience",
            ),
        ],
    )
    def test_what_ended_it_is_named(self, settings: tuple[str, ...], limit: str) -> None:
        assignments = [word for one in settings for word in ("--set", one)]
        done("train", "--config", "small.yaml", "--name", "short", *assignments)
        assert f"what ended it: --set {limit}=...\n" in done("train", "--resume", "runs/short", "--max-time", "1h").err

    def test_a_raised_limit_goes_on(self) -> None:
        result = done("train", "--resume", "run", "--set", "training.max_steps=30")
        assert "Going on with run at step 20" in result.err
        assert [row["step"] for row in read_metrics(Path("run/metrics.jsonl"))][-1] == 30
        assert set(snapshot(Path("run"))) == {*RUN_FILES, "checkpoints/step-000000020.safetensors"}


@pytest.mark.usefixtures("no_nohup")
class TestSignals:
    """A training of its own process, stopped once its first line of metrics is there."""

    def _stopped(self, number: signal.Signals) -> tuple[int, str]:
        Path("slow.yaml").write_text(ENDLESS)
        process = started("train", "--config", "slow.yaml")
        try:
            self._wait_for_metrics(process)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        assert out == ""
        assert "Traceback" not in err
        return process.returncode, err

    def _wait_for_metrics(self, process: subprocess.Popen[str]) -> None:
        file = Path("runs/slow/metrics.jsonl")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (file.exists() and file.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_ctrl_c_saves_and_says_how_to_go_on(self) -> None:
        code, err = self._stopped(signal.SIGINT)
        assert code == 130
        assert set(snapshot(Path("runs/slow"))) == {*RUN_FILES, FIRST} - {"checkpoints/best.safetensors"}
        message = re.search(r"interrupted at step ([\d,]+), saved; to go on: charrnn (.*)", err)
        assert message
        step, words = int(message[1].replace(",", "")), shlex.split(message[2])
        assert words == ["train", "--resume", "runs/slow"]

        result = done(*words, "--set", f"training.max_steps={step + 10}")
        assert f"at step {step:,}" in result.err
        assert "Done:" in result.err
        assert set(snapshot(Path("runs/slow"))) == {*RUN_FILES, f"checkpoints/step-{step:09}.safetensors"}
        logged = [row["step"] for row in read_metrics(Path("runs/slow/metrics.jsonl")) if "train_loss" in row]
        assert logged == sorted({*range(5, step + 11, 5), step + 10}), "a line is missing or there twice"

    def test_sigterm(self) -> None:
        code, err = self._stopped(signal.SIGTERM)
        assert code == 143
        assert "charrnn train --resume runs/slow" in err
        assert Path("runs/slow/checkpoints/last.safetensors").exists()

    def test_the_terminal_is_closed(self) -> None:
        """As by a connection that is lost: nothing can be printed any more, and the shell says so."""
        Path("slow.yaml").write_text(ENDLESS)
        terminal, end = pty.openpty()
        words = [str(PROGRAM), "train", "--config", "slow.yaml"]
        process = subprocess.Popen(words, stdin=end, stdout=end, stderr=end, text=True)
        try:
            os.close(end)
            self._wait_for_metrics(process)
            os.close(terminal)
            process.send_signal(signal.SIGHUP)
            assert process.wait(PATIENCE_SECONDS) == 129
        finally:
            process.kill()
        assert "Going on with" in done("train", "--resume", "runs/slow", "--set", "training.max_steps=1").err
        assert next(iter(read_metrics(Path("runs/slow/metrics.jsonl"))))["step"] == 5

    @pytest.mark.parametrize(("before", "received"), [(signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, None)])
    def test_a_hang_up_counts_once_and_not_under_nohup(self, before: signal.Handlers, received: int | None) -> None:
        signal.signal(signal.SIGHUP, before)
        with Interrupts() as interrupts:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.received == received
        assert signal.getsignal(signal.SIGHUP) is before

    def test_ctrl_z_takes_no_time_of_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against a stopwatch: stopped at 10 seconds, and gone on with at 1,000."""
        asked: list[tuple[int, int]] = []
        looks = iter((0, 10, 1000, 1005))
        monkeypatch.setattr(os, "kill", lambda *words: asked.append(words))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(looks)))
        with Interrupts() as interrupts:
            before = clock.now()
            signal.raise_signal(signal.SIGTSTP)
            assert clock.now() - before == 15
        assert asked == [(os.getpid(), signal.SIGSTOP)]
        assert interrupts.received is None
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


class TestEval:
    def test_json_has_the_documented_keys(self) -> None:
        result = done("eval", "--checkpoint", "run", "--json")
        report = json.loads(result.out)
        assert result.err == ""
        assert set(report) == {"split", "characters", "carried", "cold", "baselines"}
        assert set(report["carried"]) == set(report["cold"]) == {"nats_per_char", "bpc", "perplexity"}
        assert set(report["baselines"]) == {"uniform", "unigram", "bigram", "trigram"}
        assert (report["split"], report["characters"]) == ("val", 468)

    def test_the_three_measures_are_one(self) -> None:
        measures = json.loads(done("eval", "--checkpoint", "run", "--json").out)["carried"]
        assert measures["bpc"] == pytest.approx(measures["nats_per_char"] / math.log(2))
        assert measures["perplexity"] == pytest.approx(math.exp(measures["nats_per_char"]))

    def test_a_run_just_trained_scores_what_its_log_says(self) -> None:
        done("train", "--config", "small.yaml")
        report = json.loads(done("eval", "--checkpoint", "runs/small/checkpoints/last.safetensors", "--json").out)
        last = list(read_metrics(Path("runs/small/metrics.jsonl")))[-1]
        assert report["carried"]["nats_per_char"] == pytest.approx(last["val_loss"], rel=1e-6)
        assert report["cold"]["nats_per_char"] == pytest.approx(last["val_loss_cold"], rel=1e-6)

    @pytest.mark.parametrize(("split", "characters"), [("train", 4211), ("val", 468), ("all", 4679)])
    def test_splits(self, split: str, characters: int) -> None:
        report = json.loads(done("eval", "--checkpoint", "run", "--split", split, "--json").out)
        assert (report["split"], report["characters"]) == (split, characters)

    def test_another_text_whole_and_without_what_is_unknown(self) -> None:
        Path("other.txt").write_text("the QQQcat sat")
        options = ["--data", "other.txt", "--on-unknown", "skip", "--json"]
        result = done("eval", "--checkpoint", "run", *options)
        report = json.loads(result.out)
        assert (report["split"], report["characters"]) == ("all", len("the cat sat") - 1)
        assert result.err == "warning: other.txt: 3 of 14 characters are left out: the model does not know them\n"

    def test_table(self) -> None:
        out = done("eval", "--checkpoint", "run").out
        assert [line.split()[0] for line in out.splitlines()[2:]] == [
            *("carried", "cold", "uniform", "unigram", "bigram", "trigram")
        ]
        assert out.startswith("cat.txt, val: 468 characters\n")


@pytest.mark.parametrize(
    ("nats", "told"), [(2.4e-5, "2.4e-05 3.5e-05 1.000"), (1.5, "1.5000 2.1640 4.482"), (6e7, "6.0e+07 8.7e+07 inf")]
)
def test_losses_of_any_size_are_told(nats: float, told: str) -> None:
    score = Evaluation(nats, 10)
    lines = _table(Report("x", "val", score, score, {"uniform": 4.0})).splitlines()
    assert lines[2].split() == ["carried", *told.split()]
    row = {"step": 5, "train_loss": nats, "grad_norm": nats, "lr": 0.1, "chars_per_sec": 1000.0}
    assert f"train {format_loss(nats, 3)}  best val {format_loss(nats, 3)}  |g| " in log_line(row, nats)
    assert float(format_loss(nats, 3)) == pytest.approx(nats, rel=0.05)


@pytest.mark.parametrize(("settings", "warned"), [(("adam", 0.1), True), (("sgd", 1e-3), True), (("adamw", 10), False)])
@pytest.mark.parametrize("words", ["train --config small.yaml --dry-run", "swarm --config small.yaml --jobs 1"])
def test_weight_decay_of_adamw_in_other_optimizers_is_warned_of(
    words: str, settings: tuple[str, float], warned: bool
) -> None:
    optimizer, decay = settings
    result = done(*words.split(), "--set", f"training.optimizer={optimizer}", "--set", f"training.weight_decay={decay}")
    assert (f"warning: training.weight_decay is {decay:g}. With {optimizer} it is a penalty" in result.err) == warned


def test_what_steers_a_terminal_is_escaped_and_nothing_else() -> None:
    harmless = "a\u00a0b\u3000\u4ed6 \U0001f469\u200d\U0001f4bb \u0646\u200c\u0647\n\t\u00ad"
    assert printable(harmless) == harmless
    for character in "\x1b\x00\r\x7f\x9b\u202a\u202e\u2066\u2069\u2028\u2029\ud800\ue000":
        assert printable(f"a{character}b") == f"a{repr(character)[1:-1]}b"


class TestSample:
    def test_same_seed_same_text(self) -> None:
        assert sample() == sample() != sample("--seed", "2")
        assert sample("--seed", "2") == sample("--seed", "2")

    @pytest.mark.parametrize(
        ("words", "light"),
        [((), True), (("--device", "cpu"), True), (("--num", "2"), False), (("--prompt", "cat " * 251), False)],
    )
    def test_one_sample_needs_no_torch(self, words: tuple[str, ...], light: bool) -> None:
        code = "import sys; from charrnn.cli import cli; cli(standalone_mode=False); print('torch' in sys.modules)"
        command = [sys.executable, "-c", code, "sample", "--checkpoint", "run", "--length", "3", *words]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout.splitlines()[-1] == str(not light)

    def test_what_is_wrong_with_a_checkpoint_is_said_without_torch(self) -> None:
        code = "import sys; from charrnn.cli import main; sys.modules['torch'] = None; main()"
        Path("damaged").write_bytes(Path("run/checkpoints/best.safetensors").read_bytes()[:-1])
        for name, cause in (("nowhere", "no such"), ("damaged", "damaged")):
            command = [sys.executable, "-c", code, "sample", "--checkpoint", name]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            assert found.returncode == 2
            assert cause in found.stderr

    @pytest.mark.parametrize("words", [(), ("--prompt", "the cat"), ("--top-p", "0.9", "--temperature", "1")])
    def test_with_torch_the_same_text(self, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        without = sample(*words)
        monkeypatch.setattr(sys.modules["charrnn.cli.sample"], "LONGEST_PROMPT", -1)
        assert sample(*words) == without

    def test_nothing_but_the_text(self) -> None:
        result = done("sample", "--checkpoint", "run", "--length", "30", "--prompt", "the")
        assert result.err == ""
        assert result.out.startswith("the")
        assert len(result.out.removesuffix("\n")) in (32, 33)  # a line break is added where the text ends without one

    def test_json(self) -> None:
        found = json.loads(sample("--json", "--prompt", "the", "--seed", "5"))
        assert set(found) == {"prompt", "seed", "samples"}
        assert (found["prompt"], found["seed"], len(found["samples"])) == ("the", 5, 1)
        assert len(found["samples"][0]) == 30
        assert sample("--prompt", "the", "--seed", "5").rstrip("\n") == ("the" + found["samples"][0]).rstrip("\n")

    def test_three_samples(self) -> None:
        texts = samples("--num", "3", "--prompt", "the")
        assert len(set(texts)) == 3
        out = sample("--num", "3", "--prompt", "the")
        parts = re.split(r"--- \d of 3\n", out)
        assert parts[0] == ""
        assert [part.rstrip("\n") for part in parts[1:]] == [("the" + text).rstrip("\n") for text in texts]

    @pytest.mark.parametrize("stop", [" ", "t", "zzz"])
    def test_stop(self, stop: str) -> None:
        whole = samples("--num", "3")
        assert samples("--num", "3", "--stop", stop) == [text.partition(stop)[0] for text in whole]
        assert sample("--stop", stop).rstrip("\n") == samples()[0].partition(stop)[0].rstrip("\n")

    def test_length_zero(self) -> None:
        assert sample("--length", "0") == ""
        assert sample("--length", "0", "--prompt", "the") == "the\n"
        assert samples("--length", "0", "--prompt", "the") == [""]

    def test_temperature_zero_needs_no_luck(self) -> None:
        assert sample("--temperature", "0") == sample("--temperature", "0", "--seed", "2")
        assert sample("--temperature", "0") == sample("--top-k", "1")

    def test_the_config_s_own_settings_hold_where_no_option_is_given(self) -> None:
        assert len(json.loads(done("sample", "--checkpoint", "run", "--json").out)["samples"][0]) == 500
        assert samples() == samples("--temperature", "0.8") != samples("--temperature", "1.5")

    def test_prompt_from_standard_input_and_file(self) -> None:
        Path("prompt.txt").write_bytes(b"the cat\n")
        expected = sample("--prompt", "the cat\n")
        assert sample("--prompt", "-", stdin=b"the cat\n") == expected
        assert sample("--prompt-file", "prompt.txt") == expected
        done("train", "--resume", "run", "--set", "training.max_steps=200")  # after 20 steps nothing depends on it
        first, other = (samples("--prompt", prompt, "--length", "1", "--num", "200") for prompt in ("th", "ca"))
        assert first != other

    def test_the_checkpoint_may_be_a_file_or_its_run(self) -> None:
        by_file = done("sample", "--checkpoint", "run/checkpoints/best.safetensors", "--length", "30").out
        assert by_file == sample()

    def test_sampling_needs_the_checkpoint_only(self) -> None:
        expected = sample()
        Path("cat.txt").unlink()
        shutil.move("run/checkpoints/best.safetensors", "alone.safetensors")
        assert done("sample", "--checkpoint", "alone.safetensors", "--length", "30").out == expected

    def test_a_closed_pipe_is_no_error(self) -> None:
        command = f"{shlex.quote(str(PROGRAM))} sample --checkpoint run --length 10000000 | head -c 5"
        piped = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert (piped.returncode, piped.stderr) == (0, b"")
        assert len(piped.stdout) == 5

    def test_ctrl_c(self) -> None:
        process = started("sample", "--checkpoint", "run", "--length", "10000000")
        try:
            assert process.stdout and process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in err


class TestCorpus:
    def test_ls(self) -> None:
        lines = done("corpus", "ls").out.splitlines()
        assert [line.split()[0] for line in lines] == list(NAMED)

    def test_stats(self) -> None:
        out = done("corpus", "stats", "cat.txt").out
        for word in ("4,680 characters", "vocabulary    18 characters", "train 4,212, val 468", "bigram", "nats/char"):
            assert word in out

    def test_stats_of_nothing(self) -> None:
        result = run("corpus", "stats", "")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: SOURCE '': corpus.source: give the name of a corpus")

    def test_stats_as_json(self) -> None:
        result = done("corpus", "stats", "cat.txt", "--json", "--set", "corpus.split=[0.5, 0.25, 0.25]")
        values = json.loads(result.out)
        assert result.err == ""
        assert values["splits"] == {"train": 2340, "val": 1170, "test": 1170}
        assert (values["bytes"], values["characters"], values["vocabulary_size"]) == (4680, 4680, 18)
        assert set(values["baselines"]) == {"uniform", "unigram", "bigram", "trigram"}
        assert values["baselines"]["uniform"] == pytest.approx(math.log(18))

    def test_carriage_returns_are_pointed_out(self) -> None:
        Path("dos.txt").write_bytes(b"one\r\ntwo\r\n")
        result = done("corpus", "stats", "dos.txt", "--json")
        assert json.loads(result.out)["carriage_returns"] == 2
        assert "2 carriage returns" in result.err

    def test_fetch(self) -> None:
        path = done("corpus", "fetch", "play").out
        assert Path(path.strip()).read_text().count("\n") > 1000
        assert re.match(r"\d+ files, the first /", done("corpus", "fetch", "python").out)
        assert done("corpus", "fetch", "counting").out == "counting\n"


class TestConfig:
    def test_ls(self) -> None:
        lines = done("config", "ls").out.splitlines()
        assert [line.split()[0] for line in lines] == [file.name for file in shipped_configs()]
        assert all(len(line.split()) > 2 for line in lines)

    @pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
    def test_show_is_the_file_and_check_takes_it(self, file: Path) -> None:
        out = done("config", "show", file.name).out
        assert out == file.read_text()
        Path("mine.yaml").write_text(out)
        assert Config.model_validate(yaml.safe_load(done("config", "check", "mine.yaml").out))

    def test_check_fills_in_defaults_and_overrides(self) -> None:
        result = done("config", "check", "small.yaml", "--set", "training.lr=0.5")
        config = Config.model_validate(yaml.safe_load(result.out))
        assert (config.training.lr, config.training.seq_len, config.training.grad_clip) == (0.5, 10, 1.0)
        assert result.err == ""

    def test_schema(self) -> None:
        assert json.loads(done("config", "schema").out) == Config.model_json_schema()


class TestWithoutATerminal:
    def test_a_training_whose_reader_is_gone_is_not_done(self) -> None:
        """What comes after ``&&`` must not begin."""
        words = ("train", "--config", "small.yaml", "--name", "cut", "--set", "training.max_steps=100000")
        with started(*words) as process:
            try:
                assert process.stderr
                assert any(line.startswith("step ") for line in process.stderr), "it ended before it began"
                process.stderr.close()
                assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGPIPE
            finally:
                process.kill()
        assert Path("runs/cut/checkpoints/last.safetensors").exists()

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_what_is_closed_from_the_start_is_no_error(self, closed: str) -> None:
        words = shlex.join([str(PROGRAM), "train", "--config", "small.yaml", "--name", "closed"])
        assert subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, check=False).returncode == 0
        assert Path("runs/closed/checkpoints/last.safetensors").exists()


class TestTerminal:
    def _stderr_on_a_terminal(self, *words: str, **variables: str) -> bytes:
        """What a command writes to stderr when that is a terminal."""
        near, far = pty.openpty()
        try:
            environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | variables
            subprocess.run([PROGRAM, *words], stderr=far, stdout=subprocess.DEVNULL, env=environment, check=False)
            return os.read(near, 10_000)
        finally:
            os.close(near)
            os.close(far)

    def test_errors_are_coloured_unless_no_color_is_set(self) -> None:
        words = ("config", "show", "nothing")
        assert b"\x1b[31m" in self._stderr_on_a_terminal(*words)
        assert b"\x1b" not in self._stderr_on_a_terminal(*words, NO_COLOR="1")
        assert b"\x1b[31m" in self._stderr_on_a_terminal(*words, NO_COLOR="")  # https://no-color.org: set and not empty

    def test_warnings_are_coloured_unless_no_color_is_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("cat.txt").write_text(TEXT + "Q")
        words = ("train", "--config", "small.yaml", "--dry-run")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert "\x1b[33m" in run(*words, terminal=True).err
        monkeypatch.setenv("NO_COLOR", "1")
        err = run(*words, terminal=True).err
        assert "warning:" in err
        assert "\x1b[3" not in err

    def test_a_traceback_on_request_with_the_same_exit_code(self) -> None:
        process = started("--debug", "config", "show", "nothing")
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert "Traceback" in err
        assert process.returncode == 2


def test_names_and_messages_cannot_steer_the_terminal() -> None:
    """An escape sequence in a file's name is shown, not obeyed."""
    result = run("sample", "--checkpoint", "no\x1b[2Jrun")
    assert result.code == 2
    assert "\x1b" not in result.err
    assert r"no\x1b[2Jrun" in result.err


def test_a_device_is_no_prompt(text_file: Path) -> None:
    result = run("sample", "--checkpoint", text_file, "--prompt-file", "/dev/zero")
    assert (result.code, result.out) == (2, "")
    assert "/dev/zero: is a device, which may never end; give a text file" in result.err
