"""``charrnn swarm`` as a person uses it: streams, exit codes, what is left on the disk, Ctrl-C. Not its pictures."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pooch
import pytest
import requests

from charrnn.cli._swarm_bar import SwarmBar, interruptible, to_go_on
from charrnn.config.loader import load_config
from charrnn.errors import ClusterLost
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import FolderLock
from charrnn.studies.swarm.hive import Hive
from tests.command_line import PROGRAM, Result, run, snapshot
from tests.conftest import TEXT
from tests.helpers import differences
from tests.hives import Here, bees_of, eventually
from tests.test_bad_input import cases, refused

CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 8, device: cpu, precision: fp32}
run: {sample_length: 5}
"""
LONG = CONFIG.replace("max_steps: 8", "max_steps: 80")
VARY = ("--vary", "training.lr=0.01,0.03")
GRID = ("swarm", "--config", "small.yaml", *VARY, "--seeds", "2", "--jobs", "2", "--batched", "no")
HIVE = Path("runs/small-swarm")
BEE_KEYS = {"seed", "status", "message", "steps", "seconds", "curve", "samples"}
BEE_KEYS |= {"train_loss", "val_loss", "val_loss_cold", "best_val_loss"}


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This folder: a small text and a config for it. Bees fly in this process; nobody draws."""
    monkeypatch.setattr("charrnn.studies.swarm.arrange.LocalWorkplace", lambda jobs: Here())
    monkeypatch.setattr("charrnn.studies.swarm.pictures.draw", lambda *_: [])
    Path("cat.txt").write_text(TEXT)
    Path("small.yaml").write_text(CONFIG)


def done(*words: str) -> Result:
    result = run(*words)
    assert result.code == 0, result.err
    return result


def stamps(folder: Path = HIVE) -> dict[Path, int]:
    """When each file of a bee was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*")}


def table(out: str) -> dict[str, list[str]]:
    """The cells of each combination."""
    lines = out.split("\n\n", maxsplit=1)[0].splitlines()
    assert lines[0] == "Final validation loss, nats per character:"
    assert re.split(r" {2,}", lines[1])[-4:] == ["bees", "median", "quartiles", "diverged"]
    return {line.split()[0]: re.split(r" {2,}", line)[1:] for line in lines[2:]}


class TestGrid:
    def test_what_it_says_and_leaves(self) -> None:
        result = done(*GRID)
        found = table(result.out)
        swarms = {one["name"]: one for one in json.loads((HIVE / "hive.json").read_text())["swarms"]}
        assert found.keys() == swarms.keys() == {"lr=0.01", "lr=0.03"}
        for name, (count, median, quartiles, diverged) in found.items():
            one = swarms[name]
            assert (count, diverged) == ("2", "0%")
            assert float(median) == pytest.approx(one["median"], abs=1e-4)
            low, high = map(float, quartiles.split(" to "))
            assert [low, high] == pytest.approx(one["quartiles"], abs=1e-4)
        best = min(swarms.values(), key=lambda one: float(one["median"]))
        assert result.out.splitlines()[-1].startswith(f"Best: {best['name']}, median ")
        assert f"Hive:   {HIVE}: 2 combinations x 2 seeds = 4 bees on cat.txt" in result.err
        assert sorted(bees_of(HIVE)) == [f"lr={lr}/bee-{seed}" for lr in (0.01, 0.03) for seed in (1, 2)]
        assert set(snapshot()) - {"cat.txt", "small.yaml"} == {
            "runs",
            *(f"runs/{name}" for name in snapshot(Path("runs"))),
        }

    def test_a_second_start_trains_nothing_anew(self) -> None:
        first = done(*GRID)
        before = stamps()
        for words in (GRID, ("swarm", "--resume", str(HIVE))):
            again = done(*words)
            assert again.out == first.out
            assert stamps() == before
        assert list(Path("runs").iterdir()) == [HIVE]

    def test_more_seeds_are_added(self) -> None:
        done(*GRID)
        before = stamps()
        assert [row[0] for row in table(done(*GRID, "--seeds", "3").out).values()] == ["3", "3"]
        assert before.items() <= stamps().items()
        out = done("swarm", "--resume", str(HIVE), "--seeds", "4", "--json").out
        assert json.loads(out)["seeds"] == [1, 2, 3, 4]
        assert before.items() <= stamps().items()

    def test_json(self) -> None:
        result = done(*GRID, "--json")
        assert result.out.count("\n") == 1
        values = json.loads(result.out)
        assert values == json.loads((HIVE / "hive.json").read_text())
        assert (values["name"], values["groups"], values["per_step"]) == ("small-swarm", [["training.lr"]], 40)
        for one in values["swarms"]:
            assert [bee["seed"] for bee in one["bees"]] == values["seeds"] == [1, 2]
            assert all(bee.keys() == BEE_KEYS for bee in one["bees"])

    def test_a_space_file_says_the_same(self) -> None:
        first = done(*GRID)
        Path("space.yaml").write_text("vary:\n- training.lr: [0.01, 0.03]\n")
        assert done(*GRID[:3], "--space", "space.yaml", *GRID[5:]).out == first.out
        assert list(Path("runs").iterdir()) == [HIVE]

    def test_name_out_set_and_seed(self) -> None:
        words = ("--name", "bees", "--out", "a/b", "--set", "training.max_steps=4", "--seed", "7", "--json")
        values = json.loads(done(*GRID, *words).out)
        assert values["seeds"] == [7, 8]
        assert {bee["steps"] for one in values["swarms"] for bee in one["bees"]} == {4}
        assert sorted(bees_of(Path("a/b/bees-swarm"))) == [f"lr={lr}/bee-{n}" for lr in (0.01, 0.03) for n in (7, 8)]

    def test_batched(self) -> None:
        first = table(done(*GRID).out)
        result = done(*GRID[:-1], "yes", "--name", "other")
        assert "2 bees at a time as one batched computation" in result.err
        for name, cells in table(result.out).items():
            assert float(cells[1]) == pytest.approx(float(first[name][1]), abs=2e-3)

    def test_diverged_is_a_result(self) -> None:
        sgd = ("--set", "training.optimizer=sgd", "--set", "training.grad_clip=null", "--set", "training.max_steps=60")
        words = (*sgd, "--set", "training.schedule=constant", "--set", "model.cell=rnn_relu")
        result = done(*GRID[:3], "--vary", "training.lr=0.01,1000", *GRID[5:], *words)
        assert table(result.out)["lr=1000"] == ["2", "diverged", "inf to inf", "100%"]
        assert result.out.splitlines()[-1].startswith("Best: lr=0.01, ")

    @pytest.mark.parametrize(
        ("grid", "says"),
        [
            (GRID, "4 bees failed, the first one: a bear"),
            ((*GRID[:3], "--vary", "training.lr=0.01", "--seeds", "1", *GRID[-4:]), "1 bee failed: a bear"),
        ],
    )
    def test_failed_bees_are_told_and_tried_again(
        self, grid: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def raising(*_: object, observe: bool) -> None:
            raise MemoryError("a bear")

        with monkeypatch.context() as bear:
            bear.setattr("charrnn.training.trainer.Trainer.step", raising)
            result = run(*grid)
        assert result.code == 1
        assert table(result.out)["lr=0.01"][1:] == ["failed", "inf to inf", "100%"]
        assert result.err.splitlines()[-1] == f"error: {says}; to try again: charrnn swarm --resume {HIVE}"
        assert table(done("swarm", "--resume", str(HIVE)).out)["lr=0.01"][3] == "0%"

    def test_what_to_know_of_the_texts_is_said_once_of_each(self) -> None:
        Path("short.txt").write_text(TEXT[:1050])
        err = done(*GRID, "--vary", "corpus.source=cat.txt,short.txt").err
        said = "short.txt: 945 characters to train on are soon known by heart; give a longer text"
        assert [line for line in err.splitlines() if "warning" in line] == [f"warning: {said}"]
        assert " on cat.txt and 1 more" in err

    def test_one_that_cannot_fit(self) -> None:
        for search in ((), ("--search",)):
            words = " ".join((*GRID, "--vary", "model.hidden_size=65536", "--set", "model.num_layers=16", *search))
            refused(words, "the training needs at least", "lower model.hidden_size")
        assert not Path("runs").exists()

    def test_a_name_that_would_steer_the_terminal(self) -> None:
        Path("\x1b[2J.txt").write_text(TEXT)
        result = done(*GRID, "--vary", 'corpus.source="\\e[2J.txt"')
        assert "source=\\x1b[2J.txt" in result.out
        assert "\x1b" not in result.out + result.err

    def test_bytes(self) -> None:
        for vary, unit in (((), "byte"), (("--vary", "corpus.vocabulary=characters,bytes"), "symbol")):
            out = done(*GRID, *vary, *(() if vary else ("--set", "corpus.vocabulary=bytes"))).out
            assert out.startswith(f"Final validation loss, nats per {unit}:")

    def test_one_of_each(self) -> None:
        words = (*GRID[:3], "--seeds", "1", *GRID[7:])
        assert f"Hive:   {HIVE}: 1 combination x 1 seed = 1 bee on cat.txt" in done(*words).err
        assert "1 of 1 bee" in (err := run(*words, "--name", "x", terminal=True).err)
        assert "1 bees" not in err

    @pytest.mark.parametrize("search", [(), ("--search", "--trials", "1")])
    def test_a_measurement_is_announced_where_there_is_one(self, search: tuple[str, ...]) -> None:
        auto = (*GRID[:-1], "auto", "--name", "x", *search)
        cannot_be_stacked = (*GRID[:-1], "auto", "--name", "y", "--set", "model.dropout=0.2", *search)
        for words, measured in (((*GRID, *search), False), (auto, True), (auto, False), (cannot_be_stacked, False)):
            assert ("some seconds to measure" in done(*words).err) == measured, words

    def test_progress(self) -> None:
        """A bar and medians on a terminal; without one nothing that moves."""
        assert "\r" not in done(*GRID).err
        result = run(*GRID, "--seeds", "3", terminal=True)
        assert result.code == 0
        assert re.search(r"\r *\d+%\|.*6 of 6 bees", result.err)


def timeless(values: Any) -> Any:
    """Results without times and the hive's name."""
    if isinstance(values, dict):
        return {key: timeless(value) for key, value in values.items() if key not in ("seconds", "name")}
    return [timeless(value) for value in values] if isinstance(values, list) else values


@pytest.mark.parametrize("vary", ["training.max_steps=4,8", "training.max_steps=4,null training.epochs=null,1"])
def test_what_the_config_lacks_may_be_varied(vary: str) -> None:
    """A config without an end is refused, but not where every combination has one."""
    words = ("swarm", "--config", "small.yaml", "--set", "training.max_steps=null", "--seeds", "1", "--vary")
    assert "training has no end" in run(*words, "training.lr=0.01,0.03").err
    assert len(json.loads(done(*words, vary, "--json").out)["swarms"]) == 2
    said = run(*words, vary, "--set", "training.lr=-1").err
    assert "--set training.lr=-1: training.lr" in said
    assert "--vary" not in said


def test_the_command_that_goes_on_does_so_in_the_same_way() -> None:
    hive = Hive(Path("runs/a b-swarm"))
    here = "charrnn swarm --resume 'runs/a b-swarm'"
    assert to_go_on(hive, None, checkpoints=True, animate=False) == here
    cluster = Mock(address="tcp://far:8786")
    there = f"{here} --scheduler tcp://far:8786 --no-checkpoints --animate"
    assert to_go_on(hive, cluster, checkpoints=False, animate=True) == there


def test_a_cluster_that_is_gone_has_an_error_that_says_how_to_go_on() -> None:
    with pytest.raises(ClusterLost) as lost, interruptible("this"):
        raise ClusterLost("it is gone")
    assert str(lost.value) == "it is gone; what has landed is kept; once it is there again: this"
    assert lost.value.exit_code == 1


@pytest.mark.parametrize("batched", ["no", "yes"])
def test_interrupted_and_resumed(batched: str) -> None:
    """The program itself, with processes of its own; it ends as a hive that was not interrupted."""
    Path("long.yaml").write_text(LONG)
    words = ["swarm", "--config", "long.yaml", *VARY, "--seeds", "2", "--jobs", "2", "--batched", batched]
    cut = Path("runs/cut-swarm")
    if batched == "yes":  # two units, which end together: a third, of another cell, is not there yet
        words += ["--vary", "model.cell=lstm,gru"]
    process = subprocess.Popen(
        [PROGRAM, *words, "--name", "cut"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert eventually(lambda: process.poll() is not None or list(cut.glob("*/*/result.json")))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    resume = f"charrnn swarm --resume {cut}"
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == f"charrnn: interrupted; what has landed is kept; to go on: {resume}"
    assert "Traceback" not in err
    landed = bees_of(cut)
    before = stamps(cut)
    assert 0 < len(landed) < (8 if batched == "yes" else 4)
    assert {bee["result.json"]["status"] for bee in landed.values()} == {"ended"}
    resumed = done(*resume.split()[1:], "--json")
    assert before.items() <= stamps(cut).items()
    whole = done(*words, "--name", "whole", "--json")
    expected, found = (timeless(json.loads(result.out)) for result in (whole, resumed))
    assert differences({"all": expected}, {"all": found}) == []


@pytest.mark.parametrize(
    ("fates", "told"),
    [
        ("", ""),
        ("eee", "median 1.5000 of 3"),
        ("ede", "median 1.5000 of 3, 1 diverged"),
        ("dfff", "no median of 4, 1 diverged, 3 failed"),
    ],
)
def test_the_live_line_of_a_swarm(fates: str, told: str) -> None:
    statuses = {"e": ("ended", 1.5), "d": ("diverged", None), "f": ("failed", None)}
    with SwarmBar({"lr=0.01": "lr=0.01"}, 4) as bar:
        for fate in fates:
            status, loss = statuses[fate]
            bar.landed(Mock(swarm="lr=0.01"), {"status": status, "val_loss": loss, "seconds": 1.0}, anew=True)
        assert bar._line("lr=0.01").split(maxsplit=1) == ["lr=0.01", *filter(None, [told])]


def test_two_at_once() -> None:
    """The second is refused, and has changed nothing."""
    done(*GRID)
    before = snapshot()
    with FolderLock(RunFolder(HIVE)):
        for words in (GRID, ("swarm", "--resume", str(HIVE))):
            result = run(*words, "--seeds", "5")
            assert (result.code, result.out) == (2, "")
            assert "is training in it; wait for that, or stop it first" in result.err
    assert snapshot() == before


@cases(
    ("swarm", "--config NAME", "--resume HIVE", "not both"),
    ("swarm --config small.yaml --resume runs", "--config NAME", "--resume HIVE", "not both"),
    ("swarm --config none.yaml", "none.yaml", "no such config"),
    ("swarm --config small.yaml --vary training.lrr=1", "--vary training.lrr=1", "did you mean 'lr'?"),
    ("swarm --config small.yaml --vary training.lr", "--vary training.lr", "section.key=value"),
    ("swarm --config small.yaml --vary training.lr=1e-4..1e-1:log", "--vary training.lr", "a grid needs a number"),
    ("swarm --config small.yaml --vary training.seed=1,2", "training.seed is not varied", "--seeds"),
    ("swarm --config small.yaml --vary training.lr=1,5000", "--vary training.lr=5000", "1000"),
    ("swarm --config small.yaml --vary training.lr=1,2 --vary training.lr=3", "training.lr: is varied twice"),
    ("swarm --config small.yaml --vary training.seq_len=10,4000", "seq_len=4000", "4,212 characters"),
    ("swarm --config small.yaml --vary corpus.source=cat.txt,dog.txt", "dog.txt", "No such file"),
    ("swarm --config small.yaml --space none.yaml", "none.yaml", "cannot read"),
    ("swarm --config small.yaml --space cat.txt", "cat.txt:"),
    ("swarm --config small.yaml --data empty.txt", "empty.txt", "the text is empty"),
    ("swarm --config small.yaml --data one.txt", "one.txt", "nothing to learn"),
    ("swarm --config small.yaml --device toaster", "--device toaster", "cpu", "cuda"),
    ("swarm --config small.yaml --seeds 0", "--seeds", "0 is not in the range"),
    ("swarm --config small.yaml --seed -1", "--seed -1", "greater than or equal to 0"),
    ("swarm --config small.yaml --jobs 0", "--jobs", "0 is not in the range"),
    ("swarm --config small.yaml --batched maybe", "--batched", "'maybe'"),
    ("swarm --config small.yaml --name a/b", "--name a/b"),
    ("swarm --config small.yaml --out cat.txt", "cat.txt", "--out"),
    ("swarm --config small.yaml --out /proc/nothing", "/proc", "--out"),
    ("swarm --resume none", "none", "is not a hive"),
    ("swarm --resume cat.txt", "cat.txt", "is not a hive"),
    ("swarm --resume .", ".", "is not a hive"),
)
def test_bad_usage(words: str, says: tuple[str, ...]) -> None:
    Path("empty.txt").touch()
    Path("one.txt").write_text("a" * 5000)
    refused(words, *says)


@pytest.mark.parametrize("words", [VARY, ("--set", "training.lr=1"), ("--name", "x"), ("--out", "x"), ("--seed", "2")])
def test_a_hive_goes_on_as_it_was_planned(words: tuple[str, ...]) -> None:
    refused(" ".join(("swarm", "--resume", str(HIVE), *words)), "goes on as it was planned")


def test_a_hive_with_texts_of_this_folder_goes_on_from_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dog.txt").write_text(TEXT.replace("c", "g"))
    first = done(*GRID[:3], "--vary", "corpus.source=cat.txt,dog.txt", *GRID[5:])
    assert list(table(first.out)) == ["source=cat.txt", "source=dog.txt"]
    hive = HIVE.absolute()
    written = stamps(hive)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert done("swarm", "--resume", str(hive)).out == first.out
    assert stamps(hive) == written
    assert done("eval", "--checkpoint", str(next(hive.glob("*dog.txt*/bee-1")))).out


def test_texts_of_one_name_are_told_apart() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "cat.txt").write_text(TEXT + folder)
    result = done(*GRID[:3], "--vary", "corpus.source=a/cat.txt,b/cat.txt", *GRID[5:])
    assert [Path(label.partition("=")[2]).parts[-2:] for label in table(result.out)] == [
        ("a", "cat.txt"),
        ("b", "cat.txt"),
    ]


def test_what_cannot_be_stacked_is_refused_of_a_begun_hive_too() -> None:
    done(*GRID, "--set", "model.dropout=0.2")
    refused(f"swarm --resume {HIVE} --batched yes", "--batched yes", "dropout draws", "leave it out")


@pytest.mark.parametrize(("begun", "asked"), [("no", "yes"), ("yes", "no")])
def test_a_begun_hive_stays_batched_or_not(begun: str, asked: str) -> None:
    done(*GRID[:-1], begun)
    written = stamps()
    refused(" ".join((*GRID[:-1], asked)), f"--batched {asked}", "go on so", "--name")
    refused(f"swarm --resume {HIVE} --jobs 1 --batched {asked}", f"--batched {asked}", "go on so", "--name")
    done("swarm", "--resume", str(HIVE), "--batched", begun)
    assert stamps() == written


@pytest.mark.parametrize("words", [VARY, ("--vary", "training.device=cpu,cuda:99")])
def test_a_device_that_is_not_there_leaves_no_hive(words: tuple[str, ...]) -> None:
    device = ("--device", "cuda:99") if words is VARY else ()
    refused(" ".join((*GRID[:3], *words, *device)), "cuda:99: torch sees")
    assert not Path("runs").exists()


@pytest.mark.parametrize("more", [(), ("--vary", "training.precision=fp32,fp16"), ("--search", "--trials", "2")])
def test_a_precision_that_the_device_has_not_leaves_no_hive(more: tuple[str, ...]) -> None:
    asked = () if "training.precision=fp32,fp16" in more else ("--set", "training.precision=fp16")
    refused(" ".join((*GRID[:3], *VARY, "--device", "cpu", *asked, *more)), "precision fp16", "on GPUs only")
    assert not Path("runs").exists()


def test_the_text_has_changed() -> None:
    done(*GRID)
    Path("cat.txt").write_text(TEXT.upper())
    refused(f"swarm --resume {HIVE}", "the text has changed", "--config")


def test_a_moved_text() -> None:
    """It goes on with it, from then on without being told, and its bees are still those of one swarm."""
    done(*GRID)
    before = stamps()
    Path("there").mkdir()
    Path("cat.txt").rename("there/moved.txt")
    refused(f"swarm --resume {HIVE}", "cat.txt: cannot read the text", f"charrnn swarm --resume {HIVE} --data PATH")
    done("swarm", "--resume", str(HIVE), "--data", "there/moved.txt", "--seeds", "3")
    done("swarm", "--resume", str(HIVE), "--seeds", "4")
    assert before.items() <= stamps().items()
    swarms = [str(one.parent) for one in HIVE.glob("*/bee-4")]
    for swarm in swarms:
        assert load_config(Path(swarm, "bee-4/config.yaml")).corpus.source == str(Path("there/moved.txt").absolute())
    assert "4 pairs" in done("compare", *swarms).out


@pytest.fixture
def shakespeare(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the play lies that cannot be downloaded: the text of these tests."""
    monkeypatch.setattr("charrnn.text.named.SHAKESPEARE_SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    monkeypatch.setattr(pooch, "retrieve", Mock(side_effect=requests.ConnectionError))
    Path("data").mkdir()
    Path("data/tinyshakespeare.txt").write_text(TEXT)
    return Path("data/tinyshakespeare.txt")


PLAY = ("--set", "corpus.source=shakespeare", "--set", "corpus.fallback=play")


@pytest.mark.parametrize("search", [(), ("--search", "--trials", "1")])
def test_no_fallback_for_the_text_of_a_begun_hive(search: tuple[str, ...], shakespeare: Path) -> None:
    """And given by its path it is the hive's, whose bees have their settings."""
    done(*GRID, *PLAY, *search)
    shakespeare.rename("mine.txt")
    resume = f"charrnn swarm --resume {HIVE}"
    refused(resume.removeprefix("charrnn "), "shakespeare: the download failed", f"or go on with {resume} --data PATH")
    done("swarm", "--resume", str(HIVE), "--data", "mine.txt", "--seeds", "3")
    assert {load_config(one).corpus.fallback for one in HIVE.glob("*/*/config.yaml")} == {"play"}


@pytest.mark.parametrize(
    "words", [("--vary", "corpus.source=cat.txt,shakespeare"), ("--vary", "corpus.source=shakespeare", "--search")]
)
def test_nor_for_one_that_is_varied(words: tuple[str, ...], shakespeare: Path) -> None:
    done(*GRID, *PLAY, *words, *(("--trials", "1") if "--search" in words else ()))
    shakespeare.unlink()
    refused(f"swarm --resume {HIVE} --seeds 3", "shakespeare: the download failed", "CHARRNN_DATA")
    assert not list(HIVE.glob("*/bee-3"))


def test_nor_for_one_that_a_combination_names(shakespeare: Path) -> None:
    """Or the table would call it by the name of another one."""
    shakespeare.unlink()
    words = (*GRID, *PLAY, "--vary", "corpus.source=shakespeare,cat.txt")
    for search in ((), ("--search",)):
        refused(" ".join((*words, *search)), "shakespeare: the download failed", "CHARRNN_DATA")
    assert not Path("runs").exists()


def test_a_new_hive_says_that_it_falls_back(shakespeare: Path) -> None:
    shakespeare.unlink()
    for search in ((), ("--search", "--trials", "1", "--name", "x")):
        assert done(*GRID, *PLAY, *search).err.count("USING THE FALLBACK CORPUS 'play' INSTEAD") == 1


def test_a_text_that_is_another_one() -> None:
    done(*GRID)
    before = snapshot(HIVE)
    Path("dog.txt").write_text(TEXT.replace("c", "g"))
    refused(f"swarm --resume {HIVE} --data dog.txt", "--data dog.txt", "not the text that", "SHA-256")
    refused(f"swarm --resume {HIVE} --data none.txt", "none.txt: cannot read the text")
    assert snapshot(HIVE) == before


def test_a_text_that_nobody_reads_may_be_missing() -> None:
    Path("small.yaml").write_text(CONFIG.replace("cat.txt", "none.txt"))
    refused(" ".join(GRID), "none.txt: cannot read the text")
    done(*GRID[:3], "--vary", "corpus.source=cat.txt", *GRID[5:])
    written = stamps()
    done("swarm", "--resume", str(HIVE))
    assert stamps() == written


def test_texts_that_are_varied_cannot_be_moved() -> None:
    Path("dog.txt").write_text(TEXT.replace("c", "g"))
    done(*GRID[:3], "--vary", "corpus.source=cat.txt,dog.txt", *GRID[5:])
    refused(f"swarm --resume {HIVE} --data cat.txt", "its texts are what it varies", "leave out --data")


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.studies.swarm.cluster.CONNECT_SECONDS", 0.5)
    result = run(*GRID[:7], "--scheduler", "tcp://127.0.0.1:1")
    assert (result.code, result.out) == (2, "")
    assert "--scheduler tcp://127.0.0.1:1: no Dask scheduler answers" in result.err.splitlines()[-1]
    assert bees_of(HIVE) == {}
