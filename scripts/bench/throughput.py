"""Characters per second of ``charrnn train`` beside a bare loop over the same layers, in one run.

    .venv/bin/python scripts/bench/throughput.py [--config shakespeare.yaml] [--rounds 5] [--seconds 10]

The bare loop is what one would write by hand: ``nn.LSTM``, fused Adam, clipping, a batch that is already in memory,
no logging, no random state reset. Both are whole processes and take turns, so that a noisy machine treats them alike.
The ratio of each round is printed, and the median. Exit code 1 if that is below 0.95.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charrnn.config.library import find_config
from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.runs.metrics import read_metrics

GOAL = 0.95
WARM_UP_STEPS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="training time of each turn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = load_config(find_config(options.config), options.set)
    if options.bare:
        print(bare_loop(config, options.seconds))
        return 0
    ratios = []
    for number in range(options.rounds):
        arguments = [f"--set={assignment}" for assignment in options.set]
        bare = float(output_of(sys.executable, __file__, "--bare", *turn(options), *arguments).split()[-1])
        ours = charrnn_train(options, arguments)
        ratios.append(ours / bare)
        print(f"round {number + 1}: charrnn {ours:,.0f}, bare loop {bare:,.0f} characters/s, ratio {ours / bare:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f} (goal {GOAL})")
    return int(statistics.median(ratios) < GOAL)


def turn(options: argparse.Namespace) -> list[str]:
    return ["--config", options.config, "--seconds", str(options.seconds)]


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def charrnn_train(options: argparse.Namespace, arguments: list[str]) -> float:
    """Median of the log lines' characters per second, as a user would read them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("charrnn")), "train", "--config", options.config, *arguments]
        output_of(*command, "--max-time", f"{options.seconds}s", "--out", folder, "--name", "bench")
        rows = list(read_metrics(Path(folder) / "bench" / "metrics.jsonl"))
    speeds = [row["chars_per_sec"] for row in rows if "chars_per_sec" in row and row["step"] > WARM_UP_STEPS]
    return float(statistics.median(speeds))


def bare_loop(config: Config, seconds: float) -> float:
    """Median characters per second, over intervals as long as charrnn's log lines."""
    import torch
    from torch import nn

    from charrnn.training.precision import choose_precision

    model, training, vocab_size = config.model, config.training, 65
    assert (model.cell, model.num_layers) == ("lstm", 1), "the bare loop is written for one LSTM layer"
    embedding = nn.Embedding(vocab_size, model.embedding_size)
    lstm = nn.LSTM(model.embedding_size, model.hidden_size)
    decoder = nn.Linear(model.hidden_size, vocab_size)
    parameters = [*embedding.parameters(), *lstm.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=training.lr, betas=(0.9, 0.99), fused=True)
    precision = choose_precision(training.precision, model.cell, torch.device("cpu"))
    both = torch.randint(vocab_size, (training.seq_len + 1, training.batch_size))
    hidden = tuple(torch.zeros(1, training.batch_size, model.hidden_size) for _ in range(2))
    speeds: list[float] = []
    begun = mark = time.perf_counter()
    step = 0
    while time.perf_counter() - begun < seconds:
        with precision.autocast():
            output, hidden = lstm(embedding(both[:-1]), tuple(tensor.detach().float() for tensor in hidden))
            logits = decoder(output)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), both[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % config.run.log_every == 0:
            now = time.perf_counter()
            if step > WARM_UP_STEPS:
                speeds.append(config.run.log_every * training.batch_size * training.seq_len / (now - mark))
            mark = now
    return statistics.median(speeds)


if __name__ == "__main__":
    sys.exit(main())
