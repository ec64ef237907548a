"""Characters per second of ``charrnn train`` beside a bare loop over the same layers, in one run.

    .venv/bin/python scripts/bench/throughput.py [--config shakespeare.yaml] [--rounds 3] [--seconds 30]

The bare loop is what one would write by hand: ``nn.LSTM``, fused AdamW, clipping, the same text as tensors in memory,
no logging, no state reset. On a shared machine the same work varies by 1.5 times from one second to the next, so both
run as whole processes that are stopped and continued in turn (SIGSTOP, SIGCONT), half a second each: neighbours
slow both alike. Compared are the steps each has made in its own half of the time, from one line of its log to another.
Both have as many threads as there are cores, which spin as OpenMP has it: left to itself, charrnn would take the other
one for a program that wants the cores, and spin less. Exit code 1 below 0.97. Not for Windows.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charrnn.config.library import find_config
from charrnn.config.loader import load_config
from charrnn.config.schema import Config

GOAL = 0.97
TURN_SECONDS = 0.5
SPIN_COUNT = "300000"  # libgomp's own, where threads have a core each
LOG_EVERY = 20  # steps, as in shakespeare.yaml
WARM_UP_LINES = 5
LOOK_SECONDS = 0.002


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--seconds", type=float, default=30.0, help="time for each of the two")
    parser.add_argument("--rounds", type=int, default=3, help="each with new processes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = load_config(find_config(options.config), options.set)
    if options.bare:
        bare_loop(config, options.bare)
    ratios = [one_round(options, config) for _ in range(options.rounds)]
    print(f"median ratio {statistics.median(ratios):.3f} (goal {GOAL})")
    return int(statistics.median(ratios) < GOAL)


def one_round(options: argparse.Namespace, config: Config) -> float:
    with tempfile.TemporaryDirectory() as folder:
        contestants = []
        try:
            for start in (Contestant.charrnn, Contestant.bare):
                contestants.append(start(options, Path(folder)))
                contestants[-1].warm_up()
            for _ in range(int(options.seconds / TURN_SECONDS)):
                for contestant in contestants:
                    contestant.take_turn()
            per_line = LOG_EVERY * config.training.batch_size * config.training.seq_len
            ours, bare = (per_line * contestant.lines_per_second() for contestant in contestants)
        finally:
            for contestant in contestants:
                contestant.end()
    print(
        f"charrnn train {ours:,.0f}, bare loop {bare:,.0f} characters per second, ratio {ours / bare:.3f}", flush=True
    )
    return ours / bare


class Contestant:
    """A process that writes a line to a file every ``LOG_EVERY`` steps, and runs only in its turns."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        self._seconds = 0.0  # in which it ran
        openmp = {"OMP_NUM_THREADS": str(os.cpu_count()), "GOMP_SPINCOUNT": SPIN_COUNT}
        self.process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **openmp}
        )

    @classmethod
    def charrnn(cls, options: argparse.Namespace, folder: Path) -> Contestant:
        endless = ["training.max_time=1000h", f"run.log_every={LOG_EVERY}", "run.eval_every=1000000000"]
        words = [str(Path(sys.executable).with_name("charrnn")), "train", "--config", options.config]
        words += ["--out", str(folder), "--name", "bench"]
        words += [f"--set={assignment}" for assignment in [*options.set, *endless]]
        return cls(words, folder / "bench" / "metrics.jsonl")

    @classmethod
    def bare(cls, options: argparse.Namespace, folder: Path) -> Contestant:
        words = [sys.executable, __file__, "--config", options.config, "--bare", str(folder / "bare")]
        return cls([*words, *(f"--set={assignment}" for assignment in options.set)], folder / "bare")

    def warm_up(self) -> None:
        """Start, and stop at a line of the log."""
        self._run_to_line(WARM_UP_LINES)
        self._seconds = 0.0

    def take_turn(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        time.sleep(TURN_SECONDS)
        os.kill(self.process.pid, signal.SIGSTOP)
        self._seconds += TURN_SECONDS

    def lines_per_second(self) -> float:
        """Of its own turns, after one more to the end of a line."""
        self._run_to_line(self._lines() + 1)
        return (self._lines() - WARM_UP_LINES) / self._seconds

    def _run_to_line(self, number: int) -> None:
        began = time.monotonic()
        os.kill(self.process.pid, signal.SIGCONT)
        while self._lines() < number:
            if self.process.poll() is not None:
                raise SystemExit(f"{' '.join(self.process.args)} ended with exit code {self.process.returncode}")  # type: ignore[arg-type]
            time.sleep(LOOK_SECONDS)
        os.kill(self.process.pid, signal.SIGSTOP)
        self._seconds += time.monotonic() - began

    def _lines(self) -> int:
        return self.log.read_text().count("\n") if self.log.exists() else 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def bare_loop(config: Config, log: Path) -> None:
    """Train until killed."""
    import torch
    from torch import nn

    from charrnn.text.encoded import load_text
    from charrnn.text.places import Places
    from charrnn.training.precision import choose_precision

    places = Places.from_environment()
    text = load_text(config.corpus, places)
    model, training, vocab_size = config.model, config.training, len(text.vocabulary)
    assert (model.cell, model.num_layers) == ("lstm", 1), "the bare loop is written for one LSTM layer"
    embedding = nn.Embedding(vocab_size, model.embedding_size)
    lstm = nn.LSTM(model.embedding_size, model.hidden_size)
    decoder = nn.Linear(model.hidden_size, vocab_size)
    parameters = [*embedding.parameters(), *lstm.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=training.lr, betas=(0.9, 0.99), weight_decay=training.weight_decay, fused=True
    )
    precision = choose_precision(training.precision, model, torch.device("cpu"))
    length = len(text.train_ids) // training.batch_size
    ids = torch.from_numpy(text.train_ids[: length * training.batch_size].astype("int64"))
    streams = ids.view(training.batch_size, length).t().contiguous()  # time first
    windows = streams.split(training.seq_len)
    hidden = tuple(torch.zeros(1, training.batch_size, model.hidden_size) for _ in range(2))
    step = 0
    with log.open("a", buffering=1) as file:
        for window, after in itertools.cycle(itertools.pairwise(windows[:-1])):
            both = torch.cat([window, after[:1]])
            with precision.autocast():
                output, hidden = lstm(embedding(both[:-1]), tuple(tensor.detach().float() for tensor in hidden))
                logits = decoder(output)
            loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), both[1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            if step % LOG_EVERY == 0:
                file.write(f"{step}\n")


if __name__ == "__main__":
    sys.exit(main())
