"""What cannot be done is refused: one message that says what and what next, the right exit code, nothing touched.

Every case goes through the real command line. ``refused`` holds the promises that are the same for all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pooch
import pytest
import requests
import torch
from safetensors.torch import save_file

from charrnn.config.schema import Config
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.text.places import Places
from tests.command_line import PROGRAM, Result, run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import begin, train, write_checkpoint

CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, max_steps: 20}
"""
# Words of advice, one of which every message has: a message that only complains is half a message.
ADVICE = re.compile(
    r"\b(give|set|use|try|put|choose|check|write|add|save|start|restore|raise|should be|did you mean|valid here"
    r"|there are|lower|shipped ones|prints|leave (it|them) out|belongs|score it|go(es)? on (with|from|all)"
    r"|is split into)\b|--help"
)
DAMAGED = ["empty", "cut", "flipped", "random", "pickle", "old-pickle", "foreign"]


class Bomb:
    """A pickle that leaves a file behind when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("exploded", "w")


def small_config(source: Path, *assignments: str) -> Config:
    sizes = ("model.num_layers=1", "training.max_steps=20", "run.eval_every=10", "run.save_every=10")
    return make_config(str(source.absolute()), *sizes, *assignments)


def trained_run(source: Path, folder: Path) -> Path:
    """A run of 20 steps on ``source``, in ``folder/run``."""
    places = Places(data=(), cache=folder / "cache")
    session = begin(small_config(source, f"run.out={folder}"), places)
    train(session)
    shutil.rmtree(places.cache)
    return folder / "run"


def write_damaged(good: Path, folder: Path) -> None:
    """The checkpoint ``good`` in all the ways of ``DAMAGED``."""
    raw = good.read_bytes()
    middle = len(raw) // 2
    folder.mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "cut").write_bytes(raw[:-100])
    (folder / "flipped").write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
    (folder / "random").write_bytes(random.Random(1).randbytes(5000))
    torch.save({"model": Bomb()}, folder / "pickle")
    torch.save({"model": Bomb()}, folder / "old-pickle", _use_new_zipfile_serialization=False)
    save_file({"weight": torch.zeros(3)}, folder / "foreign", {"format": "pt"})
    for name in DAMAGED:
        (folder / name).rename(folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained ``run`` and its checkpoint ``damaged`` in every way; the text stays where it is."""
    base = tmp_path_factory.mktemp("trained")
    text = base / "cat.txt"
    text.write_text(TEXT)
    folder = base / "copied"
    write_damaged(trained_run(text, folder) / "checkpoints" / "last.safetensors", folder / "damaged")
    return folder


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, trained: Path) -> None:
    """This folder: a run, damaged checkpoints, a config that is good, and texts that are not."""
    shutil.copytree(trained, in_own_folder, dirs_exist_ok=True)
    Path("ok.yaml").write_text(CONFIG)
    Path("cat.txt").write_text(TEXT)
    Path("empty.txt").write_bytes(b"")
    Path("short.txt").write_text("abc")
    Path("one.txt").write_text("a" * 5000)
    Path("latin.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    Path("utf16.txt").write_bytes("one\ntwo\n".encode("utf-16"))
    Path("strange.txt").write_text("the Quiet dog\n")
    Path("bad.yaml").write_text("corpus: {source: cat.txt}\ntraining: {max_stepz: 20}\n")
    Path("endless.yaml").write_text("corpus: {source: cat.txt}\n\ntraining: {lr: 1e-3}\n")
    Path("no-run").mkdir()


def check(result: Result, says: tuple[str, ...], code: int) -> None:
    """One message, of at most two lines or click's four, that names what it must and gives advice."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert len(re.findall(r"(?m)^(error|Error|internal error): ", result.err)) == 1, result.err
    message = result.err[re.search("(?m)^[Ee]rror: ", result.err).start() :]  # type: ignore[union-attr]
    assert len(message.splitlines()) <= 2, message
    for fragment in says:
        assert fragment in message, result.err
    assert ADVICE.search(result.err), f"what to do about it? {result.err}"


def refused(words: str, *says: str, code: int = 2, stdin: bytes = b"") -> None:
    """The command is refused with a message that has all of ``says``, and this folder is as it was."""
    before = snapshot()
    result = run(*shlex.split(words), stdin=stdin)
    check(result, says, code)
    assert snapshot() == before


def cases(*rows: tuple[str, ...]) -> pytest.MarkDecorator:
    """Rows of (words, fragment, fragment ...) as parameters, named by their words."""
    return pytest.mark.parametrize(("words", "says"), [pytest.param(row[0], row[1:], id=row[0]) for row in rows])


@cases(
    ("train", "--config NAME", "--resume RUN"),
    ("train --config ok.yaml --resume run", "--config NAME", "--resume RUN", "not both"),
    ("train --config none.yaml", "none.yaml", "no such config"),
    ("train --config run", "run: no such config: it is a folder; give run/config.yaml"),
    ("train --config no-run", "no-run: no such config: it is a folder; give a config file"),
    ("train --config shakespear", "shakespear", "did you mean shakespeare.yaml?"),
    ("train --config bad.yaml", "bad.yaml:2:12", "'training.max_stepz'", "did you mean 'max_steps'?"),
    ("train --config endless.yaml", "endless.yaml:3:1", "max_steps", "epochs", "max_time", "patience"),
    ("train --config cat.txt", "cat.txt:"),
    ("train --config ok.yaml --set training.max_steps=null", "max_steps, epochs, max_time or patience"),
    ("train --config ok.yaml --set training.lrr=1", "--set training.lrr=1", "did you mean 'lr'?"),
    ("train --config ok.yaml --set trainign.lr=1", "--set trainign.lr=1", "did you mean 'training'?"),
    ("train --config ok.yaml --set training.lr", "--set training.lr", "section.key=value"),
    ("train --config ok.yaml --set training.lr=nan", "--set training.lr=nan", "should be a valid number"),
    ("train --config ok.yaml --set training.lr=.nan", "--set training.lr=.nan", "should be a finite number"),
    ("train --config ok.yaml --device toaster", "--device toaster", "auto", "cpu", "cuda"),
    ("train --config ok.yaml --device cuda:99", "--device cuda:99", "use --device cpu"),
    ("train --config ok.yaml --max-time soon", "--max-time soon", "60s, 5m or 1h"),
    ("train --config ok.yaml --seed -1", "--seed -1", "should be greater than or equal to 0"),
    ("train --config ok.yaml --seed x", "--seed", "'x'"),
    ("train --config ok.yaml --name a/b", "--name a/b"),
    ("train --config ok.yaml --out cat.txt", "cat.txt", "cannot make a folder", "cat.txt is a file", "--out"),
    ("train --config ok.yaml --colour red", "--colour"),
    ("train --config ok.yaml --data none.txt", "none.txt", "No such file", "give a file, a folder"),
    ("train --config ok.yaml --data empty.txt", "empty.txt", "the text is empty", "give a file"),
    ("train --config ok.yaml --data one.txt", "one.txt", "one character over and over", "another text"),
    (
        "train --config ok.yaml --set model.hidden_size=65536 --set model.num_layers=64",
        *("needs at least 34,91", "GB", "lower model.hidden_size"),
    ),
    ("train --config ok.yaml --set training.batch_size=1 --set training.seq_len=5000", "4,212 characters"),
    ("train --config ok.yaml --inexact", "--inexact", "--resume"),
    ("plot --average 5", "no run: give one", "charrnn runs ls"),
    ("train --config ok.yaml --data short.txt", "short.txt", "2 characters", "training.batch_size=1"),
    ("train --config ok.yaml --data /dev/zero", "/dev/zero", "is a device", "give a file"),
    ("train --config ok.yaml --data latin.txt", "latin.txt", "byte 11, line 3", "0xe9", "latin-1"),
    ("train --config ok.yaml --data utf16.txt", "utf16.txt", "corpus.encoding: utf-16"),
    ("train --config ok.yaml --data no-run", "no-run", "**/*.txt", "corpus.glob"),
    ("train --config ok.yaml --data -", "standard input", "the text is empty"),
    ("train --config ok.yaml --dry-run --data none.txt", "none.txt"),
)
def test_train(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


@cases(
    ("train cat.txt", "unexpected extra argument (cat.txt); say with an option what it is: --data, --config, --resume"),
    (
        "sample --checkpoint run cat.txt",
        "unexpected extra argument (cat.txt); say with an option what it is: --checkpoint",
    ),
    ("train --resume none", "none", "no such run folder", "'charrnn train' prints"),
    ("train --resume no-run", "no-run", "holds no checkpoint"),
    ("train --resume cat.txt", "cat.txt", "run folder"),
    ("train --resume run --set model.hidden_size=16", "start a new run", "model.hidden_size: 8 in the run, 16 asked"),
    ("train --resume run --set training.optimizer=sgd", "training.optimizer: 'adam' in the run"),
    ("train --resume run --data strange.txt", "strange.txt: the text has changed"),
    ("train --resume run --set training.lr=0", "--set training.lr=0", "should be greater than 0"),
    ("train --resume run --device cuda:99", "--device cuda:99", "use --device cpu"),
)
def test_resume(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


@pytest.mark.parametrize("words", ["train --resume", "sample --checkpoint", "plot"])
def test_the_name_of_a_run_alone(words: str) -> None:
    Path("runs/tom").mkdir(parents=True)
    refused(f"{words} tom", "tom: no such", "did you mean runs/tom?")
    refused(f"{words} ../run", "../run: no such", "'charrnn train' prints where")  # though runs/../run is there


@pytest.mark.parametrize("words", ["train --resume run", "eval --checkpoint run"])
class TestTextOfARun:
    """A run's own text, no longer what it was: the message speaks of that change and of nothing else."""

    @pytest.fixture(autouse=True)
    def own_run(self, here: None) -> None:
        shutil.rmtree("run")
        trained_run(Path("cat.txt"), Path())

    def test_longer(self, words: str) -> None:
        Path("cat.txt").write_text(TEXT * 2)
        refused(words, "the text has changed", "run")

    def test_with_new_characters(self, words: str) -> None:
        Path("cat.txt").write_text(TEXT.upper())
        refused(words, "the text has changed", "run")

    def test_empty(self, words: str) -> None:
        Path("cat.txt").write_text("")
        refused(words, "cat.txt", "text")

    def test_gone(self, words: str) -> None:
        Path("cat.txt").unlink()
        refused(words, "cat.txt", "No such file")


def test_with_an_older_checkpoint_only() -> None:
    folder = RunFolder(Path("run"))
    folder.last.replace(folder.older(20))
    folder.best.unlink()
    for command in ("sample", "eval"):
        result = run(command, "--checkpoint", "run")
        assert result.code == 0, result.err


@pytest.mark.parametrize("words", ["train --resume", "eval --checkpoint", "inspect --checkpoint"])
def test_a_text_that_was_moved(words: str) -> None:
    assert run("train", "--config", "ok.yaml", "--name", "x").code == 0
    Path("cat.txt").rename("elsewhere.txt")
    refused(f"{words} runs/x", "cat.txt", "No such file", "where it is with --data", "--text (charrnn inspect)")
    assert "was moved" not in run("train", "--data", "none.txt").err, "a text that was never there"


@pytest.mark.parametrize(
    "words", ["train --resume", "train --inexact --resume", "eval --checkpoint", "inspect --checkpoint"]
)
def test_a_run_s_text_that_cannot_be_downloaded_again(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other text takes its place, and it is not said to have changed. Given by its path it is the run's text."""
    monkeypatch.setattr("charrnn.text.named.SHAKESPEARE_SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    monkeypatch.setattr(pooch, "retrieve", Mock(side_effect=requests.ConnectionError))
    Path("data").mkdir()
    Path("data/tinyshakespeare.txt").write_text(TEXT)
    settings = ("corpus.source=shakespeare", "corpus.fallback=play")
    assert run("train", "--config", "ok.yaml", "--name", "x", *(w for s in settings for w in ("--set", s))).code == 0
    Path("data/tinyshakespeare.txt").rename("mine.txt")
    where = () if "--inexact" in words else ("or say where it is with --data",)
    refused(f"{words} runs/x", "shakespeare: the download failed", "CHARRNN_DATA", *where)
    data = "--text" if "inspect" in words else "--data"
    result = run(*words.split(), "runs/x", data, "mine.txt")
    assert result.code == 0, result.err


def test_eval_reads_another_encoding() -> None:
    Path("latin.txt").write_bytes(TEXT.encode() + "cat\xe9".encode("latin-1"))
    words = ("eval", "--checkpoint", "run", "--data", "latin.txt", "--on-unknown", "skip")
    result = run(*words, "--set", "corpus.encoding=latin-1", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["characters"] == len(TEXT) + 2


def test_a_validation_part_without_a_character() -> None:
    refused(
        "train --config ok.yaml --set corpus.split=[0.9,0.000001,0.099999]", "the validation part is empty", "split"
    )


@pytest.mark.parametrize("kind", DAMAGED)
class TestDamagedCheckpoint:
    def test_sample(self, kind: str) -> None:
        refused(f"sample --checkpoint damaged/{kind}.safetensors", f"damaged/{kind}.safetensors")

    def test_eval(self, kind: str) -> None:
        refused(f"eval --checkpoint damaged/{kind}.safetensors", f"damaged/{kind}.safetensors")

    def test_run_folder(self, kind: str) -> None:
        shutil.copy(f"damaged/{kind}.safetensors", "run/checkpoints/best.safetensors")
        refused("sample --checkpoint run", "run/checkpoints/best.safetensors")

    def test_resume(self, kind: str) -> None:
        """Asked for by name it is not replaced by another one: see ``test_keeping`` for a run folder."""
        shutil.copy(f"damaged/{kind}.safetensors", "run/checkpoints/last.safetensors")
        refused("train --resume run/checkpoints/last.safetensors", "run/checkpoints/last.safetensors")

    def test_resume_with_no_other(self, kind: str) -> None:
        for name in Path("run/checkpoints").iterdir():
            shutil.copy(f"damaged/{kind}.safetensors", name)
        refused("train --resume run", "run: ", "no checkpoint that can be read")


def test_a_pickle_is_named_and_never_loaded() -> None:
    for kind in ("pickle", "old-pickle"):
        refused(f"sample --checkpoint damaged/{kind}.safetensors", "a PyTorch pickle")
    with io.BytesIO(Path("damaged/pickle.safetensors").read_bytes()) as file:
        torch.load(file, weights_only=False)["model"].close()
    assert Path("exploded").exists(), "the pickle was harmless: this test would have proved nothing"


def test_any_flipped_bit_is_noticed() -> None:
    path = Path("run/checkpoints/best.safetensors")
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    words = (b'"__metadata__"', b'"digest":', b'"format":', b'"format_version":', b'"values":', b'"dtype":')
    inside_header = [good.index(word) + 1 for word in words]
    for place in (0, 2, 7, 8, *inside_header, header - 1, header, len(good) - 1):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        result = run("sample", "--checkpoint", "run")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"error: {path}: ")


@pytest.mark.parametrize("command", ["sample --checkpoint run", "eval --checkpoint run", "train --resume run"])
@pytest.mark.parametrize("change", ["setting", "trainer", "corpus", "vocabulary", "shape"])
def test_a_whole_checkpoint_of_another_version(command: str, change: str) -> None:
    """Written by a charrnn that kept other things: whole, with a digest that is right, and of no use here."""
    state = read_checkpoint(Path("run/checkpoints/last.safetensors"))
    if change == "setting":
        state["config"]["model"]["colour"] = "red"
    elif change == "shape":
        state["trainer"]["model"]["decoder.bias"] = torch.zeros(3)
    else:
        del state[change]
    for name in ("last", "best"):
        write_checkpoint(Path(f"run/checkpoints/{name}.safetensors"), state)
    refused(command, "safetensors", "version")


@pytest.mark.parametrize("command", ["sample --checkpoint", "train --resume", "doctor", "plot", "report"])
@pytest.mark.parametrize("folder", ["runs", "runs/h-swarm", "runs/h-swarm/lr=1"])
def test_a_run_is_found_inside(command: str, folder: str) -> None:
    """A folder of runs, a hive and a swarm are no run; the message names one that is in it."""
    Path("runs/h-swarm/lr=1/empty").mkdir(parents=True)
    shutil.copytree("run", "runs/h-swarm/lr=1/bee-1")
    refused(
        f"{command} {folder}",
        f"{folder}: holds no ",
        "such as runs/h-swarm/lr=1/bee-1" if folder != "runs" else "a run folder",
    )
    shutil.copytree("run", "runs/mine")
    refused(f"{command} runs", "such as runs/mine")


@cases(
    ("sample", "--checkpoint"),
    ("sample --checkpoint none", "none", "no such checkpoint", "'charrnn train' prints"),
    ("sample --checkpoint no-run", "no-run", "holds no checkpoint"),
    ("sample --checkpoint cat.txt", "cat.txt", "not a checkpoint"),
    ("sample --checkpoint run --prompt 'the Quiet ÿ'", "'Q' (U+0051)", "'ÿ' (U+00FF)", "--on-unknown skip"),
    ("sample --checkpoint run --json --prompt Q", "'Q' (U+0051)", "--on-unknown skip"),
    ("sample --checkpoint run --num 2 --prompt Q", "'Q' (U+0051)", "--on-unknown skip"),
    ("sample --checkpoint run --prompt-file strange.txt", "'Q' (U+0051)", "--on-unknown skip"),
    ("sample --checkpoint run --prompt the --prompt-file cat.txt", "--prompt", "--prompt-file", "not both"),
    ("sample --checkpoint run --prompt-file none.txt", "none.txt", "No such file"),
    ("sample --checkpoint run --prompt-file no-run", "no-run", "Is a directory"),
    ("sample --checkpoint run --prompt-file latin.txt", "latin.txt", "not UTF-8 at byte 11"),
    ("sample --checkpoint run --temperature -1", "--temperature -1", "should be greater than or equal to 0"),
    ("sample --checkpoint run --temperature nan", "--temperature nan", "should be a finite number"),
    ("sample --checkpoint run --temperature inf", "--temperature inf", "should be a finite number"),
    ("sample --checkpoint run --temperature warm", "--temperature", "'warm'"),
    ("sample --checkpoint run --top-p 2", "--top-p 2", "should be less than or equal to 1"),
    ("sample --checkpoint run --top-p 0", "--top-p 0", "should be greater than 0"),
    ("sample --checkpoint run --top-k 0", "--top-k 0", "should be greater than or equal to 1"),
    ("sample --checkpoint run --length -1", "--length -1", "should be greater than or equal to 0"),
    ("sample --checkpoint run --num 0", "--num", "0 is not in the range"),
    ("sample --checkpoint run --seed -1", "--seed", "-1 is not in the range"),
    ("sample --checkpoint run --on-unknown guess", "--on-unknown", "'guess'"),
    ("sample --checkpoint run --device toaster", "--device toaster", "cpu", "cuda"),
    ("sample --checkpoint run --device cuda:99", "--device cuda:99", "use --device cpu"),
    ("sample --checkpoint run --device cuda:99999999999999999999", "--device cuda:9999", "use --device cpu"),
)
def test_sample(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


def test_prompt_from_standard_input() -> None:
    refused("sample --checkpoint run --prompt -", "standard input", "not UTF-8 at byte 2", stdin=b"a\n\xff")


def test_unknown_characters_of_a_prompt_can_be_skipped() -> None:
    words = ["sample", "--checkpoint", "run", "--json", "--prompt"]
    skipped, known = run(*words, "tQhÿe", "--on-unknown", "skip"), run(*words, "the")
    assert skipped.code == 0
    assert skipped.out.partition('"samples"')[2] == known.out.partition('"samples"')[2] != ""


@cases(
    ("eval", "--checkpoint"),
    ("eval --checkpoint none", "none", "no such checkpoint"),
    ("eval --checkpoint no-run", "no-run", "holds no checkpoint"),
    ("eval --checkpoint run --data strange.txt", "strange.txt", "'Q' (U+0051)", "--on-unknown skip"),
    ("eval --checkpoint run --data none.txt", "none.txt", "No such file", "give a file"),
    ("eval --checkpoint run --data empty.txt", "empty.txt", "the text is empty"),
    ("eval --checkpoint run --data latin.txt", "latin.txt", "byte 11, line 3"),
    ("eval --checkpoint run --data ''", "--data", "give the name of a corpus, a file or a folder"),
    ("eval --checkpoint run --set corpus.encoding=latin-1", "corpus.encoding", "how --data is read"),
    ("eval --checkpoint run --data cat.txt --set model.cell=gru", "model.cell", "how --data is read"),
    ("eval --checkpoint run --data cat.txt --set corpus.encoding=klingon", "corpus.encoding", "klingon"),
    ("eval --checkpoint run --data utf16.txt", "utf16.txt", "utf-16"),
    ("eval --checkpoint run --data /dev/null", "/dev/null", "is a device"),
    ("eval --checkpoint run --split test", "--split test", "train, val only", "corpus.split"),
    ("eval --checkpoint run --split middle", "--split", "'middle'"),
    ("eval --checkpoint run --json --split test", "--split test"),
    ("eval --checkpoint run --device toaster", "--device toaster", "cpu", "cuda"),
    ("eval --checkpoint run --device cuda:99", "--device cuda:99", "use --device cpu"),
)
def test_eval(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


def test_eval_of_a_single_character() -> None:
    Path("one.txt").write_text("c")
    refused("eval --checkpoint run --data one.txt", "one.txt", "too short")


@cases(
    ("corpus stats", "SOURCE"),
    ("corpus stats none.txt", "none.txt", "No such file", "give a file"),
    ("corpus stats empty.txt", "empty.txt", "the text is empty"),
    ("corpus stats empty.txt --json", "empty.txt", "the text is empty"),
    ("corpus stats latin.txt", "latin.txt", "byte 11, line 3", "corpus.encoding"),
    ("corpus stats utf16.txt", "utf16.txt", "corpus.encoding: utf-16"),
    ("corpus stats /dev/zero", "/dev/zero", "is a device"),
    ("corpus stats no-run", "no-run", "corpus.glob"),
    ("corpus stats cat.txt --set corpus.min_count=x", "--set corpus.min_count=x", "should be a valid integer"),
    ("corpus stats cat.txt --set corpus.min=2", "--set corpus.min=2", "min_count"),
    ("corpus stats cat.txt --set training.lr=1", "--set training.lr=1", "corpus.encoding", "how the text is read"),
    ("corpus stats cat.txt --set corpus.source=b.txt", "--set corpus.source=b.txt", "how the text is read"),
    ("corpus stats cat.txt --set corpus.encoding=utf-9", "--set corpus.encoding=utf-9", "try utf-8"),
    ("corpus fetch hamlet", "hamlet", "there are shakespeare, play, python, counting"),
    ("corpus melt", "'melt'", "No such command"),
    ("config check none.yaml", "none.yaml", "no such config"),
    ("config check bad.yaml", "bad.yaml:2:12", "did you mean 'max_steps'?"),
    ("config check endless.yaml", "endless.yaml:3:1", "no end"),
    ("config check no-run", "no-run", "no such config"),
    ("config check ok.yaml --set model.cell=gnu", "--set model.cell=gnu", "'lstm'", "'gru'"),
    ("config show quikstart.yaml", "quikstart.yaml", "did you mean quickstart.yaml?"),
    ("config show", "NAME"),
    ("trian", "'trian'", "No such command"),
)
def test_corpus_and_config(words: str, says: tuple[str, ...]) -> None:
    refused(words, *says)


@pytest.mark.parametrize(
    "words",
    [
        *("config check", "train --config", "train --resume", "sample --checkpoint", "eval --checkpoint"),
        *("train --config ok.yaml --data", "train --config ok.yaml --out", "sample --checkpoint run --prompt-file"),
    ],
)
def test_a_name_too_long_for_the_file_system(words: str) -> None:
    refused(f"{words} {'x' * 300}", "x" * 300)


def test_a_run_name_too_long_for_the_file_system() -> None:
    Path("runs").mkdir()
    refused(f"train --config ok.yaml --name {'x' * 300}", "File name too long; choose a shorter --name")


def test_not_utf8_config() -> None:
    Path("latin.yaml").write_bytes(b"corpus: {source: caf\xe9}\n")
    refused("train --config latin.yaml", "latin.yaml", "not UTF-8 at byte 20", "save the config as UTF-8")


def test_every_problem_of_a_config_is_on_a_line_of_its_own() -> None:
    Path("bad.yaml").write_text("corpus: {sorce: cat.txt}\ntraining: {lr: -1, max_steps: 1}\n")
    result = run("config", "check", "bad.yaml", "--set", "run.log_every=0")
    assert result.code == 2
    assert [line.split(": ")[:2] for line in result.err.splitlines()] == [
        ["error", "--set run.log_every=0"],
        ["error", "bad.yaml:1:1"],
        ["error", "bad.yaml:1:10"],
        ["error", "bad.yaml:2:12"],
    ]


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr("charrnn.text.named.local_shakespeare", lambda _: None)
    refused("corpus fetch shakespeare", "shakespeare", "the download failed", "CHARRNN_DATA")
    refused("corpus stats shakespeare", "shakespeare", "the download failed", "CHARRNN_DATA")


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("train --config ok.yaml", "cat.txt"),
        ("corpus stats cat.txt", "cat.txt"),
        ("config check ok.yaml", "ok.yaml"),
        ("sample --checkpoint run", "run/checkpoints/best.safetensors"),
        ("sample --checkpoint run --prompt-file cat.txt", "cat.txt"),
    ],
)
def test_unreadable_file(words: str, file: str) -> None:
    Path(file).chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read everything")
    result = run(*shlex.split(words))
    check(result, (file,), 2)
    assert re.search("[Pp]ermission denied|not readable", result.err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --config none.yaml", ("none.yaml", "no such config")),
        ("config check bad.yaml", ("bad.yaml:2:12", "did you mean 'max_steps'?")),
        ("sample --checkpoint damaged/pickle.safetensors", ("damaged/pickle.safetensors", "a PyTorch pickle")),
    ],
)
def test_as_a_process_of_its_own(words: str, says: tuple[str, ...]) -> None:
    before = snapshot()
    process = subprocess.run([PROGRAM, *shlex.split(words)], capture_output=True, text=True, timeout=60, check=False)
    check(Result(process.returncode, process.stdout, process.stderr), says, 2)
    assert snapshot() == before
