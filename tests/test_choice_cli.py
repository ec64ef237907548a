"""``charrnn train --data`` without a config, as a person uses it. The speed of the machine is made up."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from charrnn.config.schema import Config
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.text import corpus
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT
from tests.helpers import comparable_rows, differences

SHORT = ("--set", "training.max_steps=12", "--set", "run.sample_length=20")


@pytest.fixture(autouse=True)
def here(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """A text in this folder, and a machine that does 40,000 characters per second at 64 units; what was measured."""
    asked: list[Config] = []

    def made_up(config: Config, text: Any, entropies: dict[str, float], sizes: Sequence[int]) -> dict[int, float]:
        asked.append(config)
        return {size: 40_000.0 * (64 / size) ** 2 for size in sizes}

    monkeypatch.setattr("charrnn.studies.speeds.measure_speeds", made_up)
    return asked


def done(*words: str, stdin: bytes = b"") -> Result:
    result = run("train", *words, stdin=stdin)
    assert result.code == 0, result.err
    return result


def config_of(name: str) -> Any:
    return yaml.safe_load(Path("runs", name, "config.yaml").read_text())


def chosen_lines(err: str) -> list[str]:
    """What was said about the choice, without the column in front."""
    return [line[8:] for line in err[: err.index("Text:   ")].splitlines()]


class TestATraining:
    def test_bytes_are_called_bytes(self) -> None:
        Path("e.txt").write_text("žluťoučký kůň " * 200)
        given = ("--data", "e.txt", "--set", "corpus.vocabulary=bytes")
        assert f"e.txt, {len(Path('e.txt').read_bytes()):,} bytes, " in done(*given, *SHORT).err
        lines = run("eval", "--checkpoint", "runs/e").out.splitlines()
        assert lines[0].endswith(" bytes")
        assert lines[1].split() == ["nats/byte", "bits", "perplexity"]

    def test_several_texts_are_joined(self) -> None:
        Path("dog.txt").write_text("the dog sat. " * 300)
        given = ("--data", "dog.txt", "--data", "cat.txt")
        result = done(*given, *SHORT)
        length = len(TEXT) + 300 * len("the dog sat. ")
        assert f"Text:   dog.txt and 1 more, {length:,} characters" in result.err
        source = config_of("dog")["corpus"]["source"]
        assert source == [str(Path("dog.txt").absolute()), str(Path("cat.txt").absolute())]
        scored = json.loads(run("eval", "--checkpoint", "runs/dog", *given, "--json").out)
        assert scored["characters"] == length - 1
        assert run("train", "--data", "cat.txt", "--data", "bird.txt").code == 2

    def test_it_trains_and_says_what_and_why(self) -> None:
        result = done("--data", "cat.txt", *SHORT)
        assert result.out == ""
        lines = result.err.splitlines()
        assert lines[0].startswith("Chosen: lstm 1 x 64: in 12 steps this machine (40,000 characters per second at ")
        assert lines[1].startswith("        not 128: it would read 3,456 characters, and needs 150,000")
        assert len(chosen_lines(result.err)) <= 6
        assert "Keep:   runs/cat/config.yaml" in result.err
        assert result.err.index("Keep: ") < result.err.index("step 12")
        assert Path("runs/cat/checkpoints/best.safetensors").exists()

    def test_the_config_is_the_choice_and_nothing_else_differs_from_the_defaults(self) -> None:
        done("--data", "cat.txt", *SHORT)
        config = config_of("cat")
        assert config["corpus"]["source"] == str(Path("cat.txt").absolute())
        assert (config["model"]["hidden_size"], config["training"]["batch_size"]) == (64, 12)
        expected = Config.model_validate(
            {
                "corpus": {"source": str(Path("cat.txt").absolute())},
                # 0.8 passes with 7.8 weights per character.
                "model": {"hidden_size": 64, "embedding_size": 64, "dropout": {"input": 0.0, "output": 0.25}},
                "training": {
                    **{"batch_size": 12, "seq_len": 24, "lr": 0.012, "schedule": "linear", "warmup_steps": 1},
                    **{"optimizer": "adamw", "weight_decay": 0.1, "state_reset": 0.02, "max_steps": 12},
                },
                "run": {"name": "cat", "log_every": 100, "eval_every": 30, "save_every": 4000, "sample_length": 20},
            }
        )
        assert config == expected.model_dump(mode="json")

    def test_the_reasons_are_kept(self) -> None:
        result = done("--data", "cat.txt", "--set", "model.cell=gru", "--set", "model.dropout=0.25", *SHORT)
        environment = json.loads(Path("runs/cat/environment.json").read_text())
        assert environment["chosen"] == chosen_lines(result.err)
        assert {"corpus.source", "model.cell", "model.dropout.input"} <= set(environment["given"])
        assert not {"model.hidden_size", "training.lr"} & set(environment["given"])
        done("--config", "runs/cat/config.yaml")
        assert "chosen" not in json.loads(Path("runs/cat-2/environment.json").read_text())

    def test_its_config_gives_the_same_run(self) -> None:
        done("--data", "cat.txt", *SHORT)
        result = done("--config", "runs/cat/config.yaml")
        assert "Chosen" not in result.err
        assert "Keep" not in result.err
        assert config_of("cat-2") == config_of("cat")
        first, second = (
            read_checkpoint(Path(f"runs/{name}/checkpoints/last.safetensors")) for name in ("cat", "cat-2")
        )
        assert differences(first["trainer"], second["trainer"]) == []
        assert comparable_rows(Path("runs/cat/metrics.jsonl")) == comparable_rows(Path("runs/cat-2/metrics.jsonl"))

    def test_it_can_be_resumed(self) -> None:
        done("--data", "cat.txt", *SHORT)
        assert "at step 12" in done("--resume", "runs/cat", "--set", "training.max_steps=15").err

    def test_a_minute_where_no_time_is_given(self) -> None:
        refused = run("train", "--data", "cat.txt", "--dry-run", "--out", "cat.txt")
        assert (refused.code, "cat.txt: cannot make a folder" in refused.err) == (2, True)
        result = done("--data", "cat.txt", "--dry-run")
        assert "in 60 s (unless --max-time says otherwise)" in result.err
        assert re.search(r"Time: +about [01]:\d\d to the end", result.err)

    def test_the_time_given_decides(self) -> None:
        sizes = [re.search(r"1 x (\d+)", done("--data", "play", "--dry-run", *more).err)[1] for more in TIMES]  # type: ignore[index]
        assert sizes == ["64", "256", "64", "256"]


TIMES = (
    ("--max-time", "1s"),
    ("--max-time", "10m"),
    ("--set", "training.max_time=1s"),
    ("--set", "training.max_time=1s", "--max-time", "10m"),
)


class TestWhatIsGiven:
    def test_settings_and_options_win(self, here: list[Config]) -> None:
        given = ("model.hidden_size=12", "training.lr=1e-3", "training.batch_size=4", "model.dropout.input=0.25")
        options = ("--seed", "7", "--name", "own", "--out", "kept", "--device", "cpu")
        result = done("--data", "cat.txt", *SHORT, *options, *(word for one in given for word in ("--set", one)))
        config = yaml.safe_load(Path("kept/own/config.yaml").read_text())
        assert (config["model"]["hidden_size"], config["training"]["lr"], config["training"]["seed"]) == (12, 1e-3, 7)
        assert config["model"]["dropout"] == {"input": 0.25, "between": 0.0, "output": 0.0}
        assert config["training"]["batch_size"] == 4
        assert "lstm 1 x 12 (as asked): " in result.err
        assert "on the input" not in result.err
        assert [(one.training.batch_size, one.training.seq_len) for one in here] == [(4, 24)]

    def test_one_dropout_leaves_the_others_to_the_choice(self) -> None:
        result = done("--data", "cat.txt", *SHORT, "--set", "model.dropout.input=0.1")
        assert config_of("cat")["model"]["dropout"] == {"input": 0.1, "between": 0.0, "output": 0.25}
        assert "dropout 0.25 on the output: " in result.err

    @pytest.mark.parametrize(
        ("given", "sizes"),
        [
            ((), 64),
            (("model.embedding_size=24",), 24),
            (("model.hidden_size=24",), 24),
            (("model.hidden_size=24", "model.embedding_size=24"), 24),
        ],
    )
    def test_tied_sizes_are_one(self, given: tuple[str, ...], sizes: int) -> None:
        words = [word for one in ("model.tie_weights=true", *given) for word in ("--set", one)]
        done("--data", "cat.txt", *SHORT, *words)
        model = config_of("cat")["model"]
        assert (model["hidden_size"], model["embedding_size"]) == (sizes, sizes)

    @pytest.mark.parametrize(("least", "lr"), [(0.005, 0.012), (0.05, 0.05)])
    def test_a_rate_that_nobody_gave_is_not_held_against_min_lr(self, least: float, lr: float) -> None:
        done("--data", "cat.txt", *SHORT, "--set", f"training.min_lr={least}")
        assert config_of("cat")["training"]["lr"] == lr

    def test_windows_are_measured_as_they_will_be(self, here: list[Config]) -> None:
        done("--data", "cat.txt", *SHORT, "--set", "training.precision=fp32", "--set", "model.cell=gru")
        assert [(one.training.batch_size, one.training.seq_len) for one in here] == [(12, 24)]
        assert (here[0].training.precision, here[0].model.cell) == ("fp32", "gru")

    def test_how_the_text_is_read(self) -> None:
        done("--data", "cat.txt", *SHORT, "--set", "corpus.vocabulary=bytes", "--set", "corpus.split=[0.5, 0.5]")
        chosen = json.loads(Path("runs/cat/environment.json").read_text())["chosen"][0]
        assert f"reads the {len(TEXT) // 2:,} characters" in chosen

    def test_a_whole_section(self) -> None:
        done("--data", "cat.txt", *SHORT, "--set", "model={hidden_size: 12}")
        config = config_of("cat")
        assert (config["model"]["hidden_size"], config["model"]["embedding_size"]) == (12, 64)

    def test_standard_input_is_read_once(self) -> None:
        result = done("--data", "-", *SHORT, stdin=TEXT.encode())
        assert f"Text:   standard input, {len(TEXT):,} characters" in result.err
        done("--config", "runs/standard-input/config.yaml")
        done("--resume", "runs/standard-input", "--set", "training.max_steps=15")

    def test_a_folder(self) -> None:
        Path("my texts").mkdir()
        for name in ("a.txt", "b.txt"):
            Path("my texts", name).write_text(TEXT)
        result = done("--data", "my texts", *SHORT)
        assert f"Text:   my texts, {2 * len(TEXT):,} characters" in result.err
        assert Path("runs/my-texts").is_dir()

    def test_a_text_is_opened_no_more_often_than_with_a_config(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[object] = []
        real = corpus._open_source

        def counted(*given: Any) -> Any:
            found.append(given)
            return real(*given)

        monkeypatch.setattr(corpus, "_open_source", counted)
        done("--data", "cat.txt", *SHORT)
        assert len(found) == 1


class TestDryRun:
    def test_it_says_the_choice_and_writes_nothing(self, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        result = done("--data", "cat.txt", "--dry-run", "--max-time", "20s")
        assert snapshot(tmp_path) == before
        assert result.err.startswith("Chosen: lstm 1 x 128: in 20 s this machine (10,000 characters per second ")
        assert "Dry run: nothing was written" in result.err
        assert "Keep" not in result.err


TIED = ("model.tie_weights=true", "model.embedding_size=8", "model.hidden_size=16")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), ("--data PATH", "--config NAME", "--resume RUN")),
        (("--max-time", "5s"), ("--data PATH", "--config NAME", "--resume RUN")),
        (("--set", "corpus.source=cat.txt"), ("--data PATH", "--config NAME", "--resume RUN")),
        (("--data", "none.txt"), ("none.txt", "No such file", "give a file, a folder")),
        (("--data", ""), ("--data ", "give the name of a corpus, a file or a folder")),
        (("--data", "short.txt"), ("short.txt", "batch_size 1 x (seq_len 24 + 1)", "give more text")),
        (("--data", "one.txt"), ("one.txt", "one character over and over", "give another text")),
        (("--data", "empty.txt"), ("empty.txt", "the text is empty")),
        (("--data", "cat.txt", "--max-time", "soon"), ("--max-time soon", "60s, 5m or 1h")),
        (("--data", "cat.txt", "--set", "training.lrr=1"), ("training.lrr", "did you mean 'lr'?")),
        (("--data", "cat.txt", "--set", "training=3"), ("--set training=3", "training is a section")),
        (("--data", "cat.txt", "--set", "training=null"), ("--set training=null", "training is a section")),
        (("--data", "cat.txt", "--set", "modell.x=1"), ("modell", "model")),
        (("--data", "cat.txt", "--set", "training.max_time=null"), ("training has no end",)),
        (("--data", "cat.txt", "--name", "a/b"), ("--name a/b",)),
        (
            ("--data", "cat.txt", *(w for s in TIED for w in ("--set", s))),
            ("tie_weights needs embedding_size = hidden_size, here 8 and 16",),
        ),
        (
            ("--data", "cat.txt", "--set", "training.lr=0.1", "--set", "training.min_lr=0.2"),
            ("(0.2) is above lr (0.1)",),
        ),
        (("--data", "cat.txt", "--device", "toaster"), ("--device toaster",)),
        (("--data", "cat.txt", "--inexact"), ("--inexact", "--resume RUN")),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_what_cannot_be_done(words: tuple[str, ...], says: tuple[str, ...]) -> None:
    Path("short.txt").write_text("the cat sat.")
    Path("one.txt").write_text("a" * 5000)
    Path("empty.txt").write_text("")
    before = snapshot()
    result = run("train", *words)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    for fragment in says:
        assert fragment in result.err
    assert snapshot() == before
