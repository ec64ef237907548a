"""Every state of checkpoints, run folders and samples that can go wrong; a list as in ``test_inputs_text``.

Checkpoint  empty, wrong format            test_bad_input.TestDamagedCheckpoint (empty; random, foreign)
            truncated at any byte          test_fuzz.truncations: every length, without the command
            any bit flipped                test_bad_input.test_any_flipped_bit_is_noticed, test_checkpoint, test_fuzz
            a malicious pickle             test_bad_input.test_a_pickle_is_named_and_never_loaded, test_malice
Run folder  exists                         test_cli.TestTrain.test_the_second_of_a_name_does_not_touch_the_first
            read-only, and other errors    test_faults: every operation on the disk
            two processes                  test_kills.test_a_second_process_..., test_runs_of_the_same_name_...
Sampling    unknown characters             test_bad_input.test_sample, test_unknown_characters_of_a_prompt_...
            temperature 0; length 0        test_cli.TestSample
            temperature -1, nan, inf       test_bad_input.test_sample
"""

from __future__ import annotations

import gc
import math
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from charrnn.runs.checkpoint import FORMAT_VERSION, State, pack, read_checkpoint
from charrnn.sampling.decoding import choose
from charrnn.text.places import Places
from charrnn.training.trainer import Trainer
from tests.children import Child, charrnn
from tests.command_line import run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import begin, train
from tests.test_bad_input import check, refused

CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, max_steps: 20, device: cpu, threads: 1}
run: {sample_length: 20, save_every: 5, log_every: 5}
"""
LAST = "run/checkpoints/last.safetensors"
READERS = ["sample --checkpoint run", "eval --checkpoint run", "lr-find --quick --checkpoint run"]
RESUME = "train --resume run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("trained")
    (base / "cat.txt").write_text(TEXT)
    sizes = ("model.num_layers=1", "training.max_steps=20", "training.threads=1", "training.device=cpu")
    session = begin(make_config(str(base / "cat.txt"), *sizes, f"run.out={base}"), Places((), base / "cache"))
    train(session)
    return base


@pytest.fixture(autouse=True)
def here(in_own_folder: Path, trained: Path) -> None:
    """This folder: a trained run and a config."""
    shutil.copytree(trained / "run", "run")
    Path("ok.yaml").write_text(CONFIG)
    Path("cat.txt").write_text(TEXT)


def edit(change: Callable[[State], object]) -> None:
    """Change both checkpoints of the run, whose digests are right afterwards."""
    state = read_checkpoint(Path(LAST))
    change(state)
    for name in ("last", "best"):
        Path(f"run/checkpoints/{name}.safetensors").write_bytes(pack(state))


def works(words: str, *more: str) -> str:
    """The command is done, and this folder is as it was; what it printed."""
    before, result = snapshot(), run(*words.split(), *more)
    assert (result.code, snapshot() == before) == (0, True), result.err
    return result.out


@pytest.mark.parametrize("where", ["--name x", "--out x", "--set run.name=x", "--set run.out=x"])
def test_a_run_stays_in_its_folder(where: str) -> None:
    refused(f"{RESUME} --set training.max_steps=22 {where}", "stays in its folder")


class TestCheckpoint:
    @pytest.mark.parametrize("words", [*READERS, RESUME])
    def test_truncated(self, words: str) -> None:
        """At the borders of its parts, and within each."""
        raw = Path(LAST).read_bytes()
        header = 8 + int.from_bytes(raw[:8], "little")
        for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(raw) // 2, len(raw) - 1):
            for file in Path("run/checkpoints").iterdir():
                file.write_bytes(raw[:length])
            refused(words, "run", "safetensors: ")

    @pytest.mark.parametrize("words", [*READERS, RESUME])
    def test_of_a_newer_version(self, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as newer_version:
            newer_version.setattr("charrnn.runs.checkpoint.FORMAT_VERSION", FORMAT_VERSION + 1)
            for file in Path("run/checkpoints").iterdir():
                file.write_bytes(pack({"everything": "is other"}))
        newer = f"written in format version {FORMAT_VERSION + 1}, newer than {FORMAT_VERSION}: update charrnn"
        refused(words, "run", ".safetensors: ", newer)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
class TestMadeOnCuda:
    @pytest.fixture(autouse=True)
    def made_on_cuda(self, here: None) -> None:
        def on_cuda(state: State) -> None:
            state["config"]["training"]["device"] = "cuda"
            state["environment"]["device"] = "NVIDIA H200"
            state["trainer"]["generators"]["cuda"] = torch.zeros(16, dtype=torch.uint8)

        self.sample, self.score = works(READERS[0]), works(READERS[1])
        edit(on_cuda)

    def test_sampled_from_and_scored_as_ever(self) -> None:
        shutil.copy(LAST, "run/checkpoints/best.safetensors")
        assert (works(READERS[0]), works(READERS[1])) == (self.sample, self.score)

    @pytest.mark.parametrize("words", [RESUME, READERS[2]])
    def test_not_trained_where_there_is_no_cuda(self, words: str) -> None:
        refused(words, "--device cuda: torch sees 0 CUDA devices", "use --device cpu")

    def test_resumed_on_the_cpu_when_told_so_twice(self) -> None:
        refused(RESUME, "--device cpu", "--inexact")
        refused(f"{RESUME} --device cpu", LAST, "device: NVIDIA H200 in the run, cpu here", "--inexact goes on")
        result = run(*RESUME.split(), "--device", "cpu", "--inexact", "--set", "training.max_steps=22")
        assert result.code == 0, result.err
        assert read_checkpoint(Path(LAST))["trainer"]["steps"] == 22


class TestWithoutOptimizer:
    @pytest.fixture(autouse=True)
    def without_optimizer(self, here: None) -> None:
        self.sample = works(READERS[0])
        edit(lambda state: state["trainer"].pop("optimizer"))

    def test_sampled_from_and_scored(self) -> None:
        assert works(READERS[0]) == self.sample
        works(READERS[1])

    def test_not_gone_on_with(self) -> None:
        refused(RESUME, LAST, "holds no optimizer", "another checkpoint")


# --- Run folders.


class TestReadOnly:
    @pytest.fixture
    def read_only(self) -> Callable[[str], None]:
        def make(folder: str) -> None:
            for path in (Path(folder), *Path(folder).rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            if os.access(folder, os.W_OK):
                pytest.skip("this user may write everywhere")

        return make

    def test_what_only_reads(self, read_only: Callable[[str], None]) -> None:
        read_only("run")
        works(READERS[0])
        works(READERS[1])

    def test_resumed(self, read_only: Callable[[str], None]) -> None:
        read_only("run")
        before, result = snapshot(), run(*RESUME.split(), "--set", "training.max_steps=25")
        assert (result.code, result.out, snapshot()) == (1, "", before)
        assert re.search(r"(?m)^error: run: cannot save: Permission denied; ", result.err)
        assert "Traceback" not in result.err

    def test_no_place_for_a_new_one(self, read_only: Callable[[str], None]) -> None:
        Path("runs").mkdir()
        read_only("runs")
        before, result = snapshot(), run("train", "--config", "ok.yaml")
        assert (result.code, result.out, snapshot()) == (2, "", before)
        assert "error: runs: cannot make a folder: Permission denied; choose another with --out" in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("removed", ["runs", "runs/ok", "runs/ok/checkpoints"])
def test_removed_during_training(removed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once and again at the end; nothing is said to be intact that is gone."""
    step = Trainer.step

    def removing(self: Trainer, lr: float, **more: Any) -> Any:
        if self.steps == 7:
            shutil.rmtree(removed)
        return step(self, lr, **more)

    monkeypatch.setattr(Trainer, "step", removing)
    before = snapshot()
    result = run("train", "--config", "ok.yaml")
    assert (result.code, result.out) == (1, "")
    assert "Traceback" not in result.err and "internal error" not in result.err
    assert len(re.findall(r"(?m)^(warning|error): runs/ok: cannot save: No such file or directory", result.err)) == 2
    assert {name: content for name, content in snapshot().items() if not name.startswith("runs")} == before
    assert "intact" not in result.err and "make room" not in result.err


# --- Sampling.


def talkative(state: State) -> None:
    """Large weights, so that what is likeliest changes from character to character."""
    generator, weights = torch.Generator().manual_seed(1), state["trainer"]["model"]
    for name in sorted(weights):
        weights[name].normal_(0, 1.5, generator=generator)


@pytest.mark.parametrize("temperature", ["1e-9", "1e-300", "2.3e-308", "5e-324", "1e-400", "-0.0"])
def test_a_tiny_temperature_is_greedy(temperature: str) -> None:
    """Down to the smallest number there is; what is smaller is 0."""
    edit(talkative)
    greedy = works(READERS[0], "--temperature", "0")
    assert len(set(greedy)) > 3 and works(READERS[0], "--temperature", "1") != greedy
    assert works(READERS[0], "--temperature", temperature) == greedy


def test_a_tiny_temperature_while_training() -> None:
    """Where denormal numbers are flushed to zero."""
    for name, temperature in (("tiny", "5e-324"), ("greedy", "0")):
        words = ("train", "--config", "ok.yaml", "--name", name, "--set", f"sampling.temperature={temperature}")
        with Child(Path.cwd(), charrnn, *words) as child:
            assert child.wait() == 0, child.err.read_text()
    texts = [Path(f"runs/{name}/samples.txt").read_text() for name in ("tiny", "greedy")]
    assert texts[0] == texts[1] != ""


def growth(start: int, end: int) -> None:
    """In a child: a sample of ``end`` characters, and how much of Python's memory each from ``start`` on has kept."""
    calls = count(2)  # the first character is chosen elsewhere

    def watched(*arguments: Any) -> Any:
        call = next(calls)
        if call == start:
            tracemalloc.start()
        if call == end:
            gc.collect()
            Path("growth").write_text(str(tracemalloc.get_traced_memory()[0]))
        return choose(*arguments)

    with patch("charrnn.sampling.stepper.choose", watched):
        charrnn("sample", "--checkpoint", "run", "--length", str(end))


def test_a_long_sample_needs_no_more_memory_than_a_short_one() -> None:
    """Whatever Python kept of each of 4,000 characters would be at least a pointer: 32 kB."""
    with Child(Path.cwd(), growth, 100, 4100) as child:
        assert child.wait() == 0, child.err.read_text()
        assert len(child.out.read_bytes()) in (4100, 4101)  # a line break is added where the text ends without one
    assert 0 < int(Path("growth").read_text()) < 8000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tensor", ["decoder.bias", "embedding.weight"])
class TestNotFinite:
    @pytest.fixture(autouse=True)
    def broken(self, here: None, bad: float, tensor: str) -> None:
        edit(lambda state: state["trainer"]["model"][tensor].fill_(bad))

    @pytest.mark.parametrize("words", ["", "--temperature 0", "--json --num 3", f"--length {10**12}"])
    def test_sample(self, words: str) -> None:
        before, result = snapshot(), run(*READERS[0].split(), *words.split())
        check(result, ("run/checkpoints/best.safetensors: cannot sample", "logits are not finite; use an earlier"), 1)
        assert snapshot() == before

    @pytest.mark.parametrize("words", ["", "--json"])
    def test_eval(self, words: str) -> None:
        before, result = snapshot(), run(*READERS[1].split(), *words.split())
        check(result, ("run/checkpoints/best.safetensors: cannot score", "not a finite number; use an earlier"), 1)
        assert snapshot() == before
