"""How much of this machine's matrix-product peak training uses, as a Markdown table.

    .venv/bin/python scripts/bench/peak.py [--sizes 128 256 512 1024] [--batches 32 96] [--seconds 1.0] [--threads N]

For LSTMs of these sizes: charrnn's own step (``Trainer.step``: forward, backward, clipping, Adam) and a bare
``nn.LSTM`` with a decoder, forward and backward. Both are counted as 3 * 2 * B * T * ((E + H) * 4H + H * V) operations
per window, so that everything else they do counts as loss. They are compared with the fastest of ``torch.mm`` at some
large sizes (the peak), and with the product that one time step of an LSTM is, (B x H) by (H x 4H), which is as fast as
a window can be that waits for its own last state.

Each number is the best of turns that all of a row take in rotation: neighbours come and go, the best is what is there
without them. bf16 by autocast, as ``training.precision: bf16``.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from charrnn.config.schema import ModelConfig, TrainingConfig
from charrnn.model.charrnn import cross_entropy
from charrnn.runs.environment import processor_name
from charrnn.training.precision import bf16_extension, has_bf16_lstm
from charrnn.training.process import prepare_process
from charrnn.training.trainer import Trainer

WINDOW, EMBEDDING, VOCABULARY = 24, 64, 65  # as shakespeare.yaml
LARGE = (512, 1024, 2048)
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
TURNS = 5
Work = tuple[int, Callable[[], object]]  # operations, and what makes them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = list(KINDS) if has_bf16_lstm() else ["fp32"]
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--precisions", nargs="+", choices=list(KINDS), default=kinds)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number")
    parser.add_argument("--threads", type=int, help="default: all")
    options = parser.parse_args()
    prepare_process(options.threads)
    extension = bf16_extension() or "no fast bf16: it is emulated or slow here, and 'auto' would not choose it"
    threads = torch.get_num_threads()
    print(f"{datetime.date.today()}, {processor_name()}, {threads} threads, torch {torch.__version__}; {extension}")
    print(f"`{shlex.join(['python', *sys.argv])}`\n")
    print("| size | batch | precision | peak, GFLOP/s | one time step's product | bare LSTM | charrnn's step |")
    print("|---|---|---|---|---|---|---|")
    for precision in options.precisions:
        for batch in options.batches:
            for size in options.sizes:
                print(row(size, batch, precision, options.seconds), flush=True)


def row(size: int, batch: int, precision: str, seconds: float) -> str:
    """One line of the table."""
    window = window_operations(size, batch)
    work: dict[str, Work] = {f"mm {n}": (2 * n**3, product((n, n), (n, n), precision)) for n in LARGE}
    work |= {
        "small": (2 * batch * size * 4 * size, product((batch, size), (size, 4 * size), precision)),
        "bare": (window, bare(size, batch, precision)),
        "own": (window, own(size, batch, precision)),
    }
    rates = best_rates(work, seconds)
    peak = max(rates[f"mm {n}"] for n in LARGE)
    shares = [f"{rates[name] / 1e9:,.0f} ({rates[name] / peak:.0%})" for name in ("small", "bare", "own")]
    return f"| {size} | {batch} | {precision} | {peak / 1e9:,.0f} | {' | '.join(shares)} |"


def window_operations(size: int, batch: int) -> int:
    """Operations of the matrix products of one window, forward and (twice that) backward."""
    per_character = (EMBEDDING + size) * 4 * size + size * VOCABULARY
    return 3 * 2 * batch * WINDOW * per_character


def best_rates(work: Mapping[str, Work], seconds: float) -> dict[str, float]:
    """Operations per second of each: ``TURNS`` turns in rotation, the best counts."""
    best = dict.fromkeys(work, 0.0)
    for _, run in work.values():
        run()
    for _ in range(TURNS):
        for name, (operations, run) in work.items():
            begun, count = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - begun) < seconds / TURNS:
                run()
                count += 1
            best[name] = max(best[name], count * operations / elapsed)
    return best


def product(left: tuple[int, int], right: tuple[int, int], precision: str) -> Callable[[], object]:
    """A matrix product into memory that is there."""
    a, b = (torch.randn(shape, dtype=KINDS[precision]) for shape in (left, right))
    out = torch.mm(a, b)
    return lambda: torch.mm(a, b, out=out)


def bare(size: int, batch: int, precision: str) -> Callable[[], object]:
    """Forward and backward of what a CharRNN of one layer consists of."""
    embedding, lstm = nn.Embedding(VOCABULARY, EMBEDDING), nn.LSTM(EMBEDDING, size)
    decoder = nn.Linear(size, VOCABULARY)
    x, y = torch.randint(VOCABULARY, (2, WINDOW, batch))

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = decoder(lstm(embedding(x))[0])
        cross_entropy(logits, y).backward()
        for module in (embedding, lstm, decoder):
            module.zero_grad()

    return run


def own(size: int, batch: int, precision: str) -> Callable[[], object]:
    """The step that ``charrnn train`` takes."""
    model = ModelConfig.model_validate({"hidden_size": size, "embedding_size": EMBEDDING, "num_layers": 1})
    settings = {"batch_size": batch, "seq_len": WINDOW, "precision": precision, "device": "cpu", "max_steps": 1}
    ids = np.random.default_rng(1).integers(VOCABULARY, size=batch * WINDOW * 50 + 1).astype(np.uint8)
    trainer = Trainer(ids, VOCABULARY, model, TrainingConfig.model_validate(settings))
    return lambda: trainer.step(1e-3)


if __name__ == "__main__":
    main()
