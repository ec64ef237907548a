"""Trainings that are killed, at any time and by any signal, and resumed: their end is that of one left in peace.

Nearly all are forked from a process that has torch already (see ``children``), a few are the program itself.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.directory import RunFolder
from tests.children import PATIENCE_SECONDS, Child, charrnn
from tests.command_line import PROGRAM, run, snapshot
from tests.conftest import TEXT
from tests.helpers import comparable_rows, differences

NAME = "runs/killed"
START, RESUME = ("train", "--config", "killed.yaml"), ("train", "--resume", NAME)
# Everything random is on, nothing is left to the machine; a line, a checkpoint or an evaluation at nearly every step.
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4, num_layers: 2, dropout: 0.2}
training: {batch_size: 4, seq_len: 10, random_seq_len: true, state_reset: 0.2, lr: 1e-2, max_steps: 100,
           threads: 1, device: cpu, precision: fp32}
run: {log_every: 5, eval_every: 20, save_every: 4, sample_length: 20}
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLITE = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
CLOCK = ("seconds", "logged_at", "metrics_length", "samples_length")


class Golden:
    """A run that nobody killed, the seconds it took, and folders for others like it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.text = base / "cat.txt"
        self.text.write_text(TEXT)
        finish(self.fresh())  # starts the server, too
        begun = time.monotonic()
        self.run = finish(self.fresh())
        self.seconds = time.monotonic() - begun

    def fresh(self) -> Path:
        """An empty folder but for a config."""
        folder = self.base / f"folder-{len(list(self.base.iterdir()))}"
        folder.mkdir()
        (folder / "killed.yaml").write_text(CONFIG.replace("cat.txt", str(self.text)))
        return folder

    def check(self, folder: Path) -> None:
        """The finished run in ``folder`` equals the golden one: state, log and samples; nothing is left lying about."""
        run = RunFolder(folder / NAME)
        assert differences(comparable(run), comparable(self.run)) == [], folder
        assert comparable_rows(run.metrics) == comparable_rows(self.run.metrics), folder
        assert run.samples.read_text() == self.run.samples.read_text(), folder
        names = {re.sub(r"\d{9}", "N", name) for name in snapshot(run.path)}
        assert names == {re.sub(r"\d{9}", "N", name) for name in snapshot(self.run.path)}, folder


def comparable(run: RunFolder) -> dict[str, Any]:
    """The last checkpoint without what clock and command line decide."""
    state = read_checkpoint(run.last)
    del state["environment"]["command"]
    state["score"] = {name: value for name, value in state["score"].items() if name not in CLOCK}
    return state


def command(folder: Path) -> tuple[str, ...]:
    """How to begin in ``folder``, or to go on: anew where a kill came before there was anything to resume."""
    if (folder / NAME / "checkpoints" / "last.safetensors").exists():
        return RESUME
    shutil.rmtree(folder / "runs", ignore_errors=True)
    return START


def finish(folder: Path) -> RunFolder:
    """Train in ``folder`` to the end, undisturbed."""
    with Child(folder, charrnn, *command(folder)) as child:
        assert child.wait() == 0, child.err.read_text()
    return RunFolder(folder / NAME)


def kill_once(folder: Path, number: signal.Signals, seconds: float) -> str:
    """Train in ``folder`` and send a signal after a time; what it was doing then: starting, training, or done."""
    with Child(folder, charrnn, *command(folder)) as child:
        if child.wait(seconds) is None:
            child.send(number)
        code, told = child.wait(), child.err.read_text()
    if code == 0:
        return "done"
    training = re.search("(?m)^Run: ", told) and "Done:" not in told
    if training and number in POLITE:
        assert code == POLITE[number], told
        assert f"saved; to go on: charrnn train --resume {NAME}" in told
    else:
        # Before training has begun, and when all is done, nobody asks a program what it thinks of a signal.
        assert code in (-number, 1 if number == signal.SIGINT else None, POLITE.get(number)), (code, told)
    return "training" if training else "starting"


def campaign(base: Path, seed: int, size: int) -> dict[str, int]:
    """At least ``size`` kills, the signals in turn, each at a random time; how many there were, in how many runs."""
    golden, chance, signals = Golden(base), random.Random(seed), cycle(SIGNALS)
    count = {"runs": 0, "starting": 0, "training": 0}
    while count["starting"] + count["training"] < size:
        assert count["runs"] < 10 * size, "the signals all come too late"
        folder = golden.fresh()
        for _ in range(chance.randint(1, 6)):
            doing = kill_once(folder, next(signals), chance.uniform(0, 0.7 * golden.seconds))
            if doing == "done":
                break
            count[doing] += 1
        finish(folder)
        golden.check(folder)
        count["runs"] += 1
        shutil.rmtree(folder)
    return count


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Golden(tmp_path_factory.mktemp("kills"))


def test_killed_at_random_times(tmp_path: Path, record_property: Any) -> None:
    count = campaign(tmp_path, seed=1, size=21)
    print("kills:", count)
    record_property("kills", count)
    assert count["training"] >= 5, "hardly one was killed while it trained"


def has_lines(folder: Path) -> bool:
    """Whether training is under way: the log has begun."""
    file = RunFolder(folder / NAME).metrics
    return file.exists() and file.stat().st_size > 0


def kill_programs(golden: Golden, signals: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """The program itself, in a process for each signal; resumed, and checked. Those whose signal came too late."""
    folders = {number: golden.fresh() for number in signals}
    processes = {
        number: subprocess.Popen([PROGRAM, *START], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number, folder in folders.items()
    }
    waiting, deadline = set(signals), time.monotonic() + PATIENCE_SECONDS
    try:
        while waiting and time.monotonic() < deadline:
            for number in [number for number in waiting if has_lines(folders[number])]:
                processes[number].send_signal(number)
                waiting.remove(number)
            time.sleep(0.005)
        codes = {number: process.wait(PATIENCE_SECONDS) for number, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    assert all(codes[number] in (0, POLITE.get(number, -number)) for number in signals), codes
    for folder in folders.values():
        finish(folder)
        golden.check(folder)
    return [number for number, code in codes.items() if code == 0]


@pytest.mark.usefixtures("no_nohup")
def test_the_program_itself(golden: Golden) -> None:
    """What is killed here is no fork: processes side by side, one for each signal."""
    late: tuple[signal.Signals, ...] = SIGNALS
    for _ in range(3):
        late = tuple(kill_programs(golden, late))
        if not late:
            break
    assert not late


# --- Moments that have to be waited for: a disk that hangs while there is a file "hang".


def hanging(*words: str) -> None:
    """``charrnn`` with such a disk; it leaves a file "hanging" when it does, and "asked" after each signal."""
    from charrnn.cli import _interrupts
    from charrnn.runs import files

    class HangingDisk(files.Disk):
        def sync(self, descriptor: int) -> None:
            while Path("hang").exists():
                Path("hanging").touch()
                time.sleep(0.005)
            super().sync(descriptor)

    class TellingInterrupts(_interrupts.Interrupts):
        def _handle(self, number: int, frame: FrameType | None) -> None:
            super()._handle(number, frame)
            Path("asked").touch()

    files.disk = HangingDisk()
    _interrupts.Interrupts = TellingInterrupts  # type: ignore[misc]
    charrnn(*words)


@pytest.fixture
def hung(golden: Golden) -> Any:
    """A folder and a training in it that waits for its disk, in the middle of a run."""
    folder = golden.fresh()
    with Child(folder, hanging, *START) as child:
        child.until(lambda: has_lines(folder))
        (folder / "hang").touch()
        child.until((folder / "hanging").exists)
        yield folder, child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])  # a second hang-up says nothing new
def test_the_first_signal_saves_and_the_second_leaves_at_once(
    number: signal.Signals, golden: Golden, hung: tuple[Path, Child]
) -> None:
    folder, child = hung
    child.send(number)
    child.until((folder / "asked").exists)
    assert child.code is None, "it should wait for its disk"
    before = comparable(RunFolder(folder / NAME))
    child.send(number)
    assert child.wait() == POLITE[number]
    told = child.err.read_text()
    assert "left at once; what was saved before is intact" in told
    assert "Traceback" not in told
    assert differences(comparable(RunFolder(folder / NAME)), before) == []
    finish(folder)
    golden.check(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])  # a second hang-up says nothing new
def test_the_first_signal_waits_for_the_disk(number: signal.Signals, golden: Golden, hung: tuple[Path, Child]) -> None:
    folder, child = hung
    child.send(number)
    child.until((folder / "asked").exists)
    (folder / "hang").unlink()
    assert child.wait() == POLITE[number]
    told = re.search(r"interrupted at step (\d+), saved", child.err.read_text())
    assert told
    assert read_checkpoint(RunFolder(folder / NAME).last)["trainer"]["steps"] == int(told[1])
    finish(folder)
    golden.check(folder)


def test_a_second_process_is_refused_and_the_first_undisturbed(
    golden: Golden, hung: tuple[Path, Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, child = hung
    monkeypatch.chdir(folder)
    before = snapshot(folder / "runs")
    for words in (RESUME, ("train", "--resume", f"{NAME}/checkpoints/last.safetensors")):
        result = run(*words)
        assert (result.code, result.out) == (2, "")
        assert re.search(rf"{NAME}: process {child.pid} on .+ is training in it; .*wait .*or stop", result.err)
    assert snapshot(folder / "runs") == before
    (folder / "hang").unlink()
    assert child.wait() == 0
    golden.check(folder)


def test_a_killed_process_holds_no_lock(golden: Golden, hung: tuple[Path, Child]) -> None:
    folder, child = hung
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert str(child.pid) in (folder / NAME / "lock").read_text(), "the name of who held it is left behind"
    finish(folder)
    golden.check(folder)


def test_runs_of_the_same_name_do_not_meet(golden: Golden, hung: tuple[Path, Child]) -> None:
    """A new run beside one that is going on takes another folder, and needs not to wait."""
    folder, child = hung
    before = snapshot(folder / NAME)
    with Child(folder, charrnn, *START) as other:
        assert other.wait() == 0
    assert snapshot(folder / NAME) == before
    assert (folder / f"{NAME}-2" / "checkpoints" / "last.safetensors").exists()
    (folder / "hang").unlink()
    assert child.wait() == 0
    golden.check(folder)
