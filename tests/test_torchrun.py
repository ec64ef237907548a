"""Two processes (and three) train as one would: the same losses and weights, one voice, one end.

Nearly all are forked from a process that has torch already (see ``children``) and told by the environment what torchrun
tells; one pair is started by torchrun itself.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charrnn.cli._ranks import SharedInterrupts
from charrnn.errors import CharRNNError
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import Row
from tests.children import PATIENCE_SECONDS, Child, charrnn
from tests.command_line import run
from tests.conftest import TEXT
from tests.helpers import comparable_rows, differences

# Everything random but dropout, which draws on each rank for itself; a line for every step.
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4, num_layers: 2}
training: {batch_size: 12, seq_len: 10, random_seq_len: true, state_reset: 0.2, lr: 1e-2, schedule: constant,
           max_steps: 24, threads: 1, device: cpu, precision: fp32}
run: {log_every: 1, eval_every: 10, save_every: 7, sample_length: 20}
"""
START, RESUME = ("train", "--config", "c.yaml", "--name"), ("train", "--resume")
DROPOUT = ("--set", "model.dropout=0.2")
LONG = ("--set", "training.max_steps=1000000", "--set", "run.eval_every=50")
TORCHRUN = Path(sys.executable).with_name("torchrun")


def _as_rank(rank: int, size: int, port: int, prepare: Callable[[], object] | None, *words: str) -> None:
    told = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="localhost")
    if prepare is not None:
        prepare()
    charrnn(*words)


class Ranks:
    """So many processes that run ``charrnn`` with these words together. A context manager."""

    def __init__(self, size: int, *words: str, prepare: Callable[[], object] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self._stack = ExitStack()
        children = [Child(Path(), _as_rank, rank, size, port, prepare, *words) for rank in range(size)]
        self.children = [self._stack.enter_context(child) for child in children]

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def codes(self) -> list[int | None]:
        """The exit codes, by rank; None for one that hangs."""
        return [child.wait() for child in self.children]

    def texts(self) -> list[str]:
        """What each wrote, on stdout and stderr."""
        return [child.out.read_text() + child.err.read_text() for child in self.children]


@pytest.fixture(autouse=True)
def text_and_config(in_own_folder: Path) -> None:
    Path("cat.txt").write_text(TEXT)
    Path("c.yaml").write_text(CONFIG)


def finish(size: int, *words: str, prepare: Callable[[], object] | None = None) -> str:
    """Run to a good end in ``size`` processes, of which only the first may speak; what it said."""
    if size == 1:
        with Child(Path(), charrnn, *words) as child:
            assert child.wait() == 0, child.err.read_text()
            return child.err.read_text()
    with Ranks(size, *words, prepare=prepare) as ranks:
        assert ranks.codes() == [0] * size, ranks.texts()
        voice, *others = ranks.texts()
        assert others == [""] * (size - 1)
        return voice


def last(name: str) -> dict[str, Any]:
    state: dict[str, Any] = read_checkpoint(RunFolder(Path("runs") / name).last)["trainer"]
    return state


def rows(name: str) -> list[Row]:
    return comparable_rows(RunFolder(Path("runs") / name).metrics)


def assert_close(left: Any, right: Any, where: str = "", tolerance: float = 1e-5) -> None:
    """Nested values are equal, numbers up to rounding."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_close(left[key], right[key], f"{where}/{key}", tolerance)
    elif isinstance(left, list):
        assert_close(dict(enumerate(left)), dict(enumerate(right)), where, tolerance)
    elif isinstance(left, torch.Tensor) and left.is_floating_point():
        torch.testing.assert_close(left, right, atol=tolerance, rtol=1e-3, msg=lambda text: f"{where}: {text}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif not isinstance(left, float):
        assert left == right, where
    else:
        assert left == pytest.approx(right, rel=1e-3, abs=tolerance), where


def assert_same_training(name: str, other: str) -> None:
    """The same weights, state, cursor and window generator, up to rounding. Generators of dropout may differ."""
    states = [last(one) for one in (name, other)]
    for state in states:
        state["generators"] = {"windows": state["generators"]["windows"]}
    assert_close(states[0], states[1])


def until(name: str, step: int, child: Child) -> RunFolder:
    """Wait until a run has logged so many steps."""
    folder = RunFolder(Path("runs") / name)
    child.until(lambda: folder.metrics.exists() and len(rows(name)) >= step)
    return folder


def _write_down_weights() -> None:
    from charrnn.training.rank_trainer import RankTrainer

    original = RankTrainer.state_dict

    def state_dict(trainer: RankTrainer) -> dict[str, Any]:
        torch.save(trainer.model.state_dict(), f"weights-{os.environ['RANK']}-{trainer.steps}")
        return original(trainer)

    RankTrainer.state_dict = state_dict  # type: ignore[method-assign,assignment]


def test_all_ranks_have_the_same_weights() -> None:
    """Bit for bit: nothing brings them together again once they differ. The rate is one that float32 has not."""
    finish(2, *START, "run", *DROPOUT, "--set", "training.schedule=cosine", prepare=_write_down_weights)
    files = [sorted(Path().glob(f"weights-{rank}-*")) for rank in (0, 1)]
    assert len(files[0]) == len(files[1]) > 3
    for one, other in zip(*files, strict=True):
        assert differences(dict(torch.load(one)), dict(torch.load(other))) == [], one.name


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_two_ranks_equal_one_step_by_step(cell: str) -> None:
    """Losses, norms and observations of every step, evaluations, and everything in the last checkpoint."""
    said = [finish(n, *START, f"{n}", "--set", f"model.cell={cell}") for n in (1, 2)]
    alone, both = rows("1"), rows("2")
    assert [row["step"] for row in both] == [row["step"] for row in alone]
    for ours, theirs in zip(both, alone, strict=True):
        samples = [row.pop("sample", "") for row in (ours, theirs)]
        assert len(samples[0]) == len(samples[1])
        # Rates of change of tiny numbers, rounded to four digits.
        assert_close(ours, theirs, tolerance=2e-3)
        for key in {"train_loss", "val_loss", "grad_norm"} & theirs.keys():
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    assert_same_training("2", "1")
    assert len(re.findall("^Text: ", said[1], re.MULTILINE)) == len(re.findall("^Done: ", said[1], re.MULTILINE)) == 1
    files = [sorted(path.name for path in Path(f"runs/{n}").rglob("*")) for n in (1, 2)]
    assert files[0] == files[1]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_resumed_by_another_number_of_ranks(before: int, after: int) -> None:
    """The rows are split anew, each with the state that its stream had."""
    finish(1, *START, "whole")
    finish(before, *START, "part", "--set", "training.max_steps=11")
    said = finish(after, *RESUME, "runs/part", "--set", "training.max_steps=24")
    assert f"saved by {before} process(es), going on with {after}" in said
    assert_same_training("part", "whole")


def test_resumed_by_as_many_ranks_it_is_the_same_run_bit_for_bit() -> None:
    """Also with dropout: the generator of each rank is saved."""
    finish(2, *START, "whole", *DROPOUT)
    finish(2, *START, "part", *DROPOUT, "--set", "training.max_steps=11")
    said = finish(2, *RESUME, "runs/part", "--set", "training.max_steps=24")
    assert "process(es)" not in said
    assert differences(last("part"), last("whole")) == []
    generators = last("whole")["generators"]
    assert not torch.equal(generators["cpu"], generators["ranks"]["1"]["cpu"]), "ranks draw for themselves"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_training(killed: int) -> None:
    with Ranks(2, *START, "run", *LONG) as ranks:
        folder = until("run", 20, ranks.children[0])
        ranks.children[killed].send(signal.SIGKILL)
        assert ranks.children[1 - killed].wait() == 1
        (error,) = re.findall("^error: .*", ranks.texts()[1 - killed], re.MULTILINE)
        assert "Traceback" not in ranks.texts()[1 - killed]
    assert re.search(r"lost another process.*--resume", error)
    steps = read_checkpoint(folder.last)["trainer"]["steps"]
    assert steps > 0
    said = finish(2, *RESUME, "runs/run", "--set", f"training.max_steps={steps + 5}")
    assert f"Going on with runs/run at step {steps:,}" in said
    assert last("run")["steps"] == steps + 5


def _be_impatient() -> None:
    from charrnn.cli import _ranks

    _ranks.STUCK_SECONDS = 0.5


@pytest.mark.parametrize("silent", [0, 1])
def test_a_signal_ends_a_rank_that_waits_for_a_silent_one(silent: int) -> None:
    """As for a machine without power, or where gloo misses that a connection was closed."""
    with Ranks(2, *START, "run", *LONG, prepare=_be_impatient) as ranks:
        until("run", 20, ranks.children[0])
        ranks.children[silent].send(signal.SIGSTOP)
        waiting = ranks.children[1 - silent]
        assert waiting.wait(1.0) is None, "nothing tells it"
        waiting.send(signal.SIGTERM)
        assert waiting.wait() == 1
        said = ranks.texts()[1 - silent]
    assert len(re.findall(f"^error: rank {1 - silent} lost another process.*--resume", said, re.MULTILINE)) == 1, said


def _speak_at_every_chance() -> None:
    from charrnn.training import ranks

    ranks.QUIET_SECONDS = -1.0


@pytest.mark.parametrize(
    ("number", "whom", "code", "prepare"),
    [
        (signal.SIGINT, (0, 1), 130, None),
        (signal.SIGTERM, (1,), 143, None),
        (signal.SIGTERM, (1,), 143, _speak_at_every_chance),
    ],
)
def test_a_signal_to_any_rank_ends_all_of_them(
    number: signal.Signals, whom: tuple[int, ...], code: int, prepare: Callable[[], object] | None
) -> None:
    with Ranks(2, *START, "run", *LONG, prepare=prepare) as ranks:
        folder = until("run", 20, ranks.children[0])
        for rank in whom:
            ranks.children[rank].send(number)
        assert ranks.codes() == [code, 0]
        voice, other = ranks.texts()
    assert other == ""
    (step,) = re.findall(r"interrupted at step ([\d,]+), saved", voice)
    step = int(step.replace(",", ""))
    assert read_checkpoint(folder.last)["trainer"]["steps"] == step == rows("run")[-1]["step"]
    finish(1, *RESUME, "runs/run", "--set", f"training.max_steps={step + 3}")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((*START, "x", "--set", "training.batch_size=13"), 2, r"batch_size 13 .* 2 processes; .*batch_size=12"),
        ((*START, "x", "--device", "cuda:0"), 2, r"--device cuda:0: each process takes a device of its own"),
        ((*START, "x", "--no-such-option"), 2, "No such option"),
        (("train",), 2, "give --data"),
        ((*START, "x", "--dry-run"), 2, "--dry-run looks at one process"),
        ((*RESUME, "nowhere"), 2, "nowhere: no such run folder"),
        ((*START, "x", "--set", "training.lr=100", "--set", "training.grad_clip=null", "--set", "model.cell=rnn_relu"),
         3, "training diverged before step"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_once(words: tuple[str, ...], code: int, message: str) -> None:
    with Ranks(2, *words) as ranks:
        assert ranks.codes() in ([code, 0], [2, 2])
        voice, other = ranks.texts()
    assert other == ""
    assert len(re.findall(message, voice)) == 1, voice


def _lose_the_text() -> None:
    from charrnn.errors import DataError
    from charrnn.training import rank_trainer

    def missing(*_: object) -> None:
        raise DataError("cat.txt: no such file")

    rank_trainer.__dict__["load_text"] = missing


def test_what_goes_wrong_on_another_rank_is_said_by_the_first() -> None:
    with Ranks(3, *START, "run", prepare=_lose_the_text) as ranks:
        assert ranks.codes() == [2, 0, 0]
        voice, *others = ranks.texts()
    assert others == ["", ""]
    assert voice.count("no such file") == 1
    assert "error: rank 1: cat.txt: no such file" in voice
    assert not Path("runs").exists()


def test_a_rollback_takes_all_ranks_back() -> None:
    """The same steps are lost and the same are taken again, by two processes as by one."""
    words = ["training.on_divergence=rollback", "training.max_rollbacks=20", "training.grad_clip=null"]
    words += ["training.lr=100", "training.rollback_factor=0.01", "model.cell=rnn_relu"]
    for size in (1, 2):
        finish(size, *START, f"{size}", *(word for one in words for word in ("--set", one)))
    alone, both = ([(row["step"], row.get("rollback")) for row in rows(name)] for name in "12")
    assert any(rollback for _, rollback in alone)
    assert both == alone
    assert_same_training("2", "1")


def test_the_clock_of_the_first_rank_ends_training() -> None:
    limits = ("training.max_steps=null", "training.max_time=1s", "training.patience=100", "training.schedule=linear")
    said = finish(2, *START, "run", *(word for one in limits for word in ("--set", one)))
    assert "Done:   reached its limit" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("config", "ls"), "quickstart"),
        (("train", "--help"), "--max-time"),
        (("--help",), "doctor"),
        (("--version",), "."),
    ],
    ids=["config ls", "train --help", "--help", "--version"],
)
def test_what_is_no_training_is_answered_once(words: tuple[str, ...], says: str) -> None:
    with Ranks(2, *words) as ranks:
        assert ranks.codes() == [0, 0]
        voice, other = ranks.texts()
    assert says in voice
    assert other == ""


@pytest.mark.parametrize(
    "wrong", [{"WORLD_SIZE": "x"}, {"WORLD_SIZE": "0"}, {"RANK": "2"}, {"LOCAL_RANK": "-1"}, {"MASTER_PORT": "abc"}]
)
def test_an_environment_that_makes_no_sense(wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}
    for name, value in (usual | wrong).items():
        monkeypatch.setenv(name, value)
    result = run("train", "--config", "quickstart.yaml", "--dry-run")
    [(name, value)] = wrong.items()
    assert (result.code, result.err.splitlines()) == (
        2,
        [f"error: {name}={value}: is not a number that torchrun sets; unset it to train in one process"],
    )
    assert run("config", "ls").code == 0


def test_processes_that_cannot_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        usual = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
        for name, value in (usual | {"MASTER_PORT": str(taken.getsockname()[1])}).items():
            monkeypatch.setenv(name, value)
        result = run("train", "--config", "quickstart.yaml")
    assert result.code == 1
    assert "the processes cannot meet there" in result.err


@pytest.mark.parametrize("fails", [True, False])
def test_a_failed_job_says_so_before_torchrun_ends_it(fails: bool) -> None:
    """Its SIGTERM may come between the error and its message."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with suppress(CharRNNError), SharedInterrupts(SimpleNamespace()):  # type: ignore[arg-type]
            if fails:
                raise CharRNNError("rank 0 lost another process")
        assert signal.getsignal(signal.SIGTERM) == (signal.SIG_IGN if fails else before)
    finally:
        signal.signal(signal.SIGTERM, before)


def _notice_the_end() -> None:
    leave = sys.exit

    def noticed(code: int) -> None:
        Path("ended").touch()
        leave(code)

    sys.exit = noticed  # type: ignore[assignment]


def test_processes_that_have_met_end_at_once() -> None:
    """Python's own end, in which gloo's threads may abort it, does not come."""
    with Ranks(2, *START, "x", prepare=_notice_the_end) as ranks:
        assert ranks.codes() == [0, 0]
    assert not Path("ended").exists()
    assert "Done:" in ranks.texts()[0], "nothing that was said is lost"


@pytest.fixture
def torchrun() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts torchrun with two processes; what runs in the end is ended."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [str(TORCHRUN), "--nproc-per-node=2", "--standalone", "-m", "charrnn", *words]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, env=environment))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()  # a kill would leave its own processes behind
        process.communicate(timeout=PATIENCE_SECONDS)


def test_torchrun(torchrun: Callable[..., subprocess.Popen[str]]) -> None:
    """The real thing: it trains, and when one rank is killed, the job ends by itself."""
    process = torchrun(*START, "run", *LONG)
    folder = RunFolder(Path("runs/run"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder.metrics.exists() and len(rows("run")) >= 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    leader = int(re.findall(r"process (\d+)", folder.lock.read_text())[0])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (other,) = {int(child) for child in children} - {leader}
    os.kill(other, signal.SIGKILL)
    out, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (1, "")
    assert said.count("Run:    runs/run") == 1
    assert len(re.findall("^error: rank 0 lost another process", said, re.MULTILINE)) == 1, said
    steps = read_checkpoint(folder.last)["trainer"]["steps"]
    finish(2, *RESUME, "runs/run", "--set", f"training.max_steps={steps + 5}")
