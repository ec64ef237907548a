"""Loss against time beside peers: charrnn's shakespeare.yaml and other people's trainers, one after the other.

    .venv/bin/python scripts/bench/peers.py [--time 60s] \\
        [--peer nanogpt=PATH] [--peer char-rnn.pytorch=PATH [--old-torch]]

PATH is a checkout that you have: github.com/karpathy/nanoGPT, github.com/spro/char-rnn.pytorch. It is copied to a
temporary folder and run there unchanged; packages that it needs may lie on PYTHONPATH. nanoGPT trains by the recipe for
CPUs of its README, char-rnn.pytorch with its defaults. Both take a number of steps, not a time: trials set it
such that training, and its schedule, end at about the same time; the table has the seconds that training really took
(for a peer without its evaluations, for charrnn with those that its clock counts).

One yardstick for all: nats per character over the last tenth of tiny Shakespeare, every character scored once.
Recurrent networks come with a state carried from the text before it; nanoGPT sees at least half a window.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pickle
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from minute import one_minute

from charrnn.config.schema import parse_duration
from charrnn.errors import CharRNNError
from charrnn.runs.environment import processor_name
from charrnn.runs.saved import load_model
from charrnn.text.named import NAMED
from charrnn.text.places import Places
from charrnn.training.precision import bf16_extension

PROCESS = Path(__file__).absolute().with_name("peer_process.py")
TRIAL_SHARE = 0.2  # of the time: a second, longer trial after a first of a few steps
OLD_INDEX = "invalid index of a 0-dim tensor"


class PeerError(Exception):
    """A peer cannot be run."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    parameters: int
    speed: float  # characters per second
    seconds: float
    loss: float  # nats per character


@dataclass(frozen=True)
class Text:
    """Tiny Shakespeare in a file; what begins at character ``first`` is for validation."""

    path: Path
    content: str
    first: int


@dataclass(frozen=True)
class Peer:
    """How a peer is run: ``arguments`` of python for so many steps; ``timed``: two lines that it prints, by their
    beginnings, and how many steps lie between them.
    """

    recipe: str
    files: tuple[str, ...]
    packages: tuple[str, ...]
    of_old_torch: bool
    characters_per_step: int
    trial_steps: int
    prepare: Callable[[Path, Text], None]
    arguments: Callable[[int], list[str]]
    timed: Callable[[int], tuple[str, str, int]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", default="60s")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help=f"NAME: {', '.join(PEERS)}")
    parser.add_argument(
        "--old-torch", action="store_true", help="let [0] of a number in char-rnn.pytorch be the number"
    )
    options = parser.parse_args()
    try:
        seconds, checkouts = parse_duration(options.time), find_checkouts(options.peer)
        text = read_text()
    except (CharRNNError, PeerError, ValueError) as error:
        sys.exit(str(error))
    rows, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(run_charrnn(options.time, Path(folder) / "run"))
        for name, checkout in checkouts.items():
            try:
                rows.append(run_peer(name, checkout, Path(folder) / name, text, seconds, options.old_torch))
            except PeerError as error:
                problems.append(f"{name}: {error}")
    print(table(rows))
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def find_checkouts(assignments: Sequence[str]) -> dict[str, Path]:
    """The checkouts by the peer's name, all there and with the packages they need; or all that is missing, at once."""
    checkouts, problems = {}, []
    for assignment in assignments:
        name, _, path = assignment.partition("=")
        if name not in PEERS:
            problems.append(f"--peer {assignment}: write NAME=PATH with NAME one of {', '.join(PEERS)}")
            continue
        checkouts[name] = Path(path)
        lost = [file for file in PEERS[name].files if not (Path(path) / file).is_file()]
        packages = [package for package in PEERS[name].packages if importlib.util.find_spec(package) is None]
        problems += [f"--peer {name}: {path} has no {', '.join(lost)}; give a checkout"] if lost else []
        problems += [f"--peer {name}: it needs {', '.join(packages)}; install that"] if packages else []
    if problems:
        raise PeerError("\n".join(problems))
    return checkouts


def read_text() -> Text:
    path = Path(NAMED["shakespeare"].find(Places.from_environment())[0].name)
    content = path.read_text(encoding="utf-8")
    return Text(path.absolute(), content, int(len(content) * 0.9))


def run_charrnn(limit: str, run: Path) -> Row:
    found = one_minute(["--config", "shakespeare.yaml", "--max-time", limit, "--seed", "1"], run)
    parameters = load_model(run, torch.device("cpu")).model.num_parameters
    return Row("charrnn, shakespeare.yaml", parameters, found.chars_per_sec, found.seconds, found.carried["val"])


def run_peer(name: str, checkout: Path, copy: Path, text: Text, seconds: float, old_torch: bool) -> Row:
    """Time some steps in a copy of the checkout, train for as many as fit into the seconds, and score the result."""
    peer = PEERS[name]
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    peer.prepare(copy, text)
    old_torch = old_torch and peer.of_old_torch
    steps = peer.trial_steps
    for share in TRIAL_SHARE, 1.0:
        steps = max(int(share * seconds / seconds_per_step(peer, copy, steps, old_torch)), peer.trial_steps)
    used = steps * seconds_per_step(peer, copy, steps, old_torch)
    score = json.loads(run_there(copy, [str(PROCESS), name, str(text.path), str(text.first)])[-1][1])
    if score["characters"] != len(text.content) - text.first:
        raise PeerError(f"scored {score['characters']} characters, not {len(text.content) - text.first}")
    speed = steps * peer.characters_per_step / used
    title = f"{name} {commit_of(checkout)}, {peer.recipe}, {steps:,} steps{', --old-torch' if old_torch else ''}"
    return Row(title, score["parameters"], speed, used, score["nats_per_char"])


def seconds_per_step(peer: Peer, copy: Path, steps: int, old_torch: bool) -> float:
    """Train for so many steps, which leaves the peer's checkpoint in its copy."""
    arguments = peer.arguments(steps)
    lines = run_there(copy, [str(PROCESS), "old-torch", *arguments] if old_torch else arguments)
    begin, end, between = peer.timed(steps)
    try:
        times = [next(when for when, line in lines if line.startswith(start)) for start in (begin, end)]
    except StopIteration:
        raise PeerError(f"it never printed {begin!r} and {end!r}; is that another version?") from None
    return (times[1] - times[0]) / between


def run_there(copy: Path, arguments: Sequence[str]) -> list[tuple[float, str]]:
    """Run python in the copy; the lines that it prints and when each came."""
    command = [sys.executable, "-u", *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        lines = [(time.perf_counter(), line.rstrip("\n")) for line in process.stdout]
        if process.wait() == 0:
            return lines
        errors.seek(0)
        raise PeerError(failure(arguments, errors.read()))


def failure(arguments: Sequence[str], errors: str) -> str:
    """What to say of a process that failed with this on its standard error."""
    if OLD_INDEX in errors:
        return (
            f"it cannot run with torch {torch.__version__}: it takes [0] of a tensor that is a number (loss.data[0]), "
            "which was an index until torch 0.4; give --old-torch to have that index answered as then"
        )
    return f"python {shlex.join(arguments)} failed:\n" + "\n".join(errors.strip().splitlines()[-5:])


def commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "(no commit)"


def table(rows: Sequence[Row]) -> str:
    """Markdown, the first row being charrnn's."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {processor_name()}, {bf16_extension() or 'no fast bf16'}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}: `python {shlex.join(sys.argv)}`",
        "",
        "| program and recipe | parameters | characters/s | of charrnn's | seconds | validation, nats/char |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        numbers = f"{row.parameters:,} | {row.speed:,.0f} | {row.speed / rows[0].speed:.2f}"
        lines.append(f"| {row.name} | {numbers} | {row.seconds:.1f} | {row.loss:.4f} |")
    return "\n".join(lines)


def prepare_nanogpt(copy: Path, text: Text) -> None:
    """The files that its data/shakespeare_char/prepare.py would write after a download."""
    folder = copy / "data" / "shakespeare_char"
    symbols = sorted(set(text.content))
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    ids = np.array([numbers[symbol] for symbol in text.content], dtype=np.uint16)
    ids[: text.first].tofile(folder / "train.bin")
    ids[text.first :].tofile(folder / "val.bin")
    meta = {"vocab_size": len(symbols), "itos": dict(enumerate(symbols)), "stoi": numbers}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def nanogpt_arguments(steps: int) -> list[str]:
    """Its README's, with the schedule's end at ``steps`` and one evaluation before the first step, one after the last.

    The second one saves the checkpoint; neither lies between the lines that are timed. A schedule that ends with the
    hundred steps of warm-up would divide by zero.
    """
    recipe = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4"
    recipe += f" --n_head=4 --n_embd=128 --max_iters={steps} --lr_decay_iters={max(steps, 101)} --dropout=0.0"
    saving = f"--eval_interval={steps} --always_save_checkpoint=True"
    return ["train.py", "config/train_shakespeare_char.py", *recipe.split(), *saving.split()]


def prepare_char_rnn_pytorch(copy: Path, text: Text) -> None:
    """Its train.py takes one file, and saves train.pt after the file's name."""
    (copy / "train.txt").write_text(text.content[: text.first], encoding="utf-8")


PEERS = {
    "nanogpt": Peer(
        recipe="its README's recipe for CPUs",
        files=("train.py", "model.py", "configurator.py", "config/train_shakespeare_char.py"),
        packages=("numpy", "torch"),
        of_old_torch=False,
        characters_per_step=12 * 64,
        trial_steps=50,
        prepare=prepare_nanogpt,
        arguments=nanogpt_arguments,
        timed=lambda steps: ("iter 0:", f"iter {steps - 1}:", steps - 1),
    ),
    "char-rnn.pytorch": Peer(
        recipe="its defaults",
        files=("train.py", "model.py", "helpers.py", "generate.py"),
        packages=("torch", "tqdm", "unidecode"),
        of_old_torch=True,
        characters_per_step=100 * 200,
        trial_steps=3,
        prepare=prepare_char_rnn_pytorch,
        arguments=lambda steps: ["train.py", "train.txt", "--n_epochs", str(steps)],
        timed=lambda steps: ("Training for", "Saving...", steps),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
