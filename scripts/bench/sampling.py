"""Characters per second of sampling: a plain loop over ``nn.LSTM``, charrnn's plain way and its fast one, in one run.

    .venv/bin/python scripts/bench/sampling.py [--rounds 41] [--length 60]

One thread, and its processor time: on a shared machine, what others take away counts for nobody (their use of caches
and memory still does). The contestants take short turns, round after round, and the median of the rounds' ratios is
what counts. The limit is the time to read, once a character, the weights that a step needs (all but the first layer's
input weights, of which it needs a row); it is measured in the same rounds with dot products over as many numbers. A
model that nearly fits the processor's second-level cache can be faster than that: see ``Product`` in
``charrnn/sampling/cells.py``.

Also: what half-width weights would give, a sample during training, and the time to the first character of ``charrnn
sample`` in a new process. Exit code 1 below 4 times the plain loop for one stream, or above 2 s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and numpy

import numpy as np
import torch
from torch import nn

from charrnn.config.schema import ModelConfig, SamplingConfig
from charrnn.model.charrnn import CharRNN
from charrnn.runs.environment import processor_name
from charrnn.sampling import stepper
from charrnn.sampling.sampler import generate, sample_text
from charrnn.text.vocabulary import Vocabulary

GOAL = 4.0  # times the plain loop
GOAL_SECONDS = 2.0
VOCABULARY = Vocabulary("characters", "".join(map(chr, [10, *range(32, 96)])))  # 65, as tiny Shakespeare
SETTINGS = SamplingConfig(temperature=0.8)
Way = Callable[[], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--length", type=int, default=60, help="characters of one stream in a round")
    options = parser.parse_args()
    print(f"{processor_name()}; torch {torch.__version__}, numpy {np.__version__}, one thread")
    good = True
    for layers in (1, 2):
        for num in (1, 64, 256):
            ratio = contest(layers, num, options.rounds, max(5, options.length // num))
            good &= num > 1 or ratio >= GOAL
    half_width()
    for hidden_size in (32, 384):
        training_sample(hidden_size, options.rounds)
    seconds = first_character()
    print(f"first character of charrnn sample: {seconds:.2f} s after its start (goal {GOAL_SECONDS:g})")
    return int(not good or seconds > GOAL_SECONDS)


def contest(layers: int, num: int, rounds: int, length: int) -> float:
    """Print one line of the table; the median ratio of the fast way to the plain loop."""
    torch.manual_seed(1)
    model = CharRNN(len(VOCABULARY), ModelConfig(hidden_size=512, num_layers=layers)).eval()
    ways = {
        "loop": loop_over_lstm(model, num, length),
        "plain": lambda: plainly(lambda: drawing(model, num, length)),
        "fast": lambda: drawing(model, num, length),
        "limit": reading(model),
    }
    rows = [{name: way() for name, way in ways.items()} for _ in range(rounds + 1)][1:]  # the first one warms up
    per_second = {name: num / statistics.median(row[name] for row in rows) for name in ways}
    against = {name: statistics.median(row[name] / row["fast"] for row in rows) for name in ways}
    limit = f", {against['limit']:.0%} of the limit {per_second['limit']:,.0f}" if num == 1 else ""
    print(
        f"LSTM {layers}x512, {num:3} streams: loop {per_second['loop']:6,.0f}, plain {per_second['plain']:6,.0f},"
        f" fast {per_second['fast']:6,.0f} characters/s: {against['loop']:.2f} times the loop,"
        f" {against['plain']:.2f} times plain{limit}",
        flush=True,
    )
    return against["loop"]


def loop_over_lstm(model: CharRNN, num: int, length: int) -> Way:
    """What one would write by hand. Seconds per step."""
    size, layers, vocab_size = model.config.hidden_size, model.config.num_layers, model.vocab_size
    embedding = nn.Embedding(vocab_size, model.config.embedding_size)
    lstm, decoder = nn.LSTM(model.config.embedding_size, size, layers), nn.Linear(size, vocab_size)

    @torch.no_grad()
    def run() -> float:
        ids = torch.zeros(1, num, dtype=torch.long)
        hidden = (torch.zeros(layers, num, size), torch.zeros(layers, num, size))
        started = time.process_time()
        for _ in range(length):
            output, hidden = lstm(embedding(ids), hidden)
            probability = torch.softmax(decoder(output[0]) / SETTINGS.temperature, dim=-1)
            ids = torch.multinomial(probability, 1).t()
            ids.tolist()
        return (time.process_time() - started) / length

    return run


def drawing(model: CharRNN, num: int, length: int) -> float:
    """Seconds per step of ``generate``, from the first character to the last."""
    pieces = generate(model, VOCABULARY, SETTINGS.model_copy(update={"length": length + 2}), num=num)
    next(pieces), next(pieces)
    started = time.process_time()
    for _ in pieces:
        pass
    return (time.process_time() - started) / length


def plainly(way: Way) -> float:
    """The same the plain way."""
    with no_tables():
        return way()


@contextmanager
def no_tables() -> Iterator[None]:
    largest, stepper.LARGEST_TABLE = stepper.LARGEST_TABLE, 0
    try:
        yield
    finally:
        stepper.LARGEST_TABLE = largest


def reading(model: CharRNN) -> Way:
    """Seconds to read once what a step reads of the weights."""
    names = {"layers.0.weight_ih_l0", "embedding.weight"}
    weights = [p.detach().numpy().ravel() for name, p in model.named_parameters() if name not in names]

    def run(times: int = 10) -> float:
        started = time.process_time()
        for _ in range(times):
            for weight in weights:
                np.dot(weight, weight)
        return (time.process_time() - started) / times

    return run


def half_width() -> None:
    """The recurrent product of 512 units in float32 and bfloat16, and what that does to the logits."""
    weight, h = torch.randn(2048, 512) / 23, torch.rand(512) * 2 - 1
    narrow, into = weight.bfloat16(), h.bfloat16()
    seconds = []
    for matrix, vector in ((weight, h), (narrow, into)):
        times = []
        for _ in range(300):
            started = time.process_time()
            torch.mv(matrix, vector)
            times.append(time.process_time() - started)
        seconds.append(statistics.median(times))
    error = (narrow.float() @ h - weight @ h).abs().max()
    print(
        f"half-width weights (bfloat16), one product of 512 units: {seconds[1] * 1e6:.0f} against"
        f" {seconds[0] * 1e6:.0f} microseconds; error {error:.0e} in the gates, so never within 1e-4"
    )


def training_sample(hidden_size: int, rounds: int) -> None:
    """The 200 characters of an evaluation, with all that is made anew for it."""
    model = CharRNN(len(VOCABULARY), ModelConfig(hidden_size=hidden_size))
    config = SETTINGS.model_copy(update={"length": 200})
    found = []
    for _ in range(rounds + 1):
        times = [time.process_time()]
        sample_text(model, VOCABULARY, config)
        times.append(time.process_time())
        with no_tables():
            sample_text(model, VOCABULARY, config)
        times.append(time.process_time())
        found.append([1e3 * (b - a) for a, b in itertools.pairwise(times)])
    fast, plain = (statistics.median(column) for column in zip(*found[1:], strict=True))
    print(f"200 characters while training, {hidden_size} units: {fast:.1f} ms, the plain way {plain:.1f} ms")


def first_character(times: int = 5) -> float:
    """Median seconds from the start of a new process to its first byte."""
    program = str(Path(sys.executable).with_name("charrnn"))
    with tempfile.TemporaryDirectory() as folder:
        settings = ["model.hidden_size=512", "training.max_steps=1"]
        words = [
            program,
            "train",
            "--config",
            "quickstart.yaml",
            "--out",
            folder,
            "--name",
            "run",
            *(f"--set={setting}" for setting in settings),
        ]
        subprocess.run(words, check=True, capture_output=True)
        command = [program, "sample", "--checkpoint", str(Path(folder) / "run"), "--length", "1"]
        found = []
        for _ in range(times):
            started = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None and process.stdout.read(1)
                found.append(time.perf_counter() - started)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
