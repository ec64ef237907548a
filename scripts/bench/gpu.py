"""What a GPU gives: plain and replayed steps in float32 and float16, samples, and the loss beside nanoGPT's.

    .venv/bin/python scripts/bench/gpu.py [--config shakespeare.yaml] [--seconds 5] [--device cuda]
                                          [--time 20s] [--peer nanogpt=PATH]

*Steps*: the config's own network, and where cuDNN's persistent kernels want vectors of 128 one with these, each as it
steps without CUDA graphs and with them. *Outside cuDNN* is the share of a replayed step's time in which no kernel of
cuDNN's recurrent layers runs; their time is that of a profile of plain steps, where each kernel is known to belong to
them. *Samples*: characters per second of one, 64 and 256 streams, on the device and on a CPU, and whether the text is
the same. *Loss*: after ``--time``; with ``--peer`` nanoGPT's ``config/train_shakespeare_char.py`` runs as it is, on
the same device, and charrnn then has a fifth of its time, for which the goal is its final loss.

With ``--device cpu`` it shows no more than that it runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from unittest import mock

import torch
from minute import one_minute
from peers import PROCESS, PeerError, find_checkouts, prepare_nanogpt, read_text, run_there
from torch.profiler import ProfilerActivity, profile

from charrnn.config.library import find_config
from charrnn.config.loader import load_config
from charrnn.config.schema import Config, SamplingConfig
from charrnn.errors import CharRNNError
from charrnn.sampling.sampler import generate
from charrnn.text.encoded import EncodedText, load_text
from charrnn.text.places import Places
from charrnn.training.precision import choose_device
from charrnn.training.process import prepare_process
from charrnn.training.trainer import Trainer

LR = 1e-3
WARM_UP_STEPS, PROFILED_STEPS = 30, 20
LAYERS = ("aten::_cudnn_rnn", "aten::_cudnn_rnn_backward")
SHARE = 1 / 5  # of nanoGPT's time
SAMPLE = SamplingConfig(temperature=0.8, length=2000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shakespeare.yaml")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way to step")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--time", help="train for so long, and score")
    parser.add_argument("--peer", action="append", default=[], metavar="nanogpt=PATH")
    options = parser.parse_args()
    settings = [f"training.device={options.device}"]
    try:
        config = load_config(find_config(options.config), settings)
        if any(not one.startswith("nanogpt=") for one in options.peer):
            raise PeerError("--peer: only nanogpt=PATH has a recipe for a GPU")
        checkouts = find_checkouts(options.peer)
        text = load_text(config.corpus, Places.from_environment())
        prepare_process(None)
        print(name_of(choose_device(options.device)))
        steps(config, text, options.seconds)
        samples(config, text)
        arguments = ["--config", options.config, "--seed=1", f"--set={settings[0]}"]
        if options.time:
            train(arguments, options.time)
        for checkout in checkouts.values():
            beside_nanogpt(checkout, arguments, options.device)
    except (CharRNNError, PeerError) as error:
        sys.exit(str(error))
    return 0


def name_of(device: torch.device) -> str:
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    return f"{card}; torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def steps(config: Config, text: EncodedText, seconds: float) -> None:
    """The table of ways to step."""
    print("\n| precision | embedding_size | plain, characters/s | replayed | outside cuDNN | loss | peak memory, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    own = config.model.embedding_size
    for precision in ("fp32", "fp16") if config.training.device != "cpu" else ("fp32",):
        for embedding_size in sorted({own, 128}):
            model = config.model.model_copy(update={"embedding_size": embedding_size})
            changed = config.model_copy(update={"model": model}).with_training(precision=precision)
            slow, layers = plain_steps(changed, text, seconds)
            gc.collect()  # a trainer and its graph are a cycle: those before would count in the peak
            rest = replayed_steps(changed, text, seconds, layers)
            print(f"| {precision} | {embedding_size} | {slow:,.0f} | {rest}", flush=True)


def plain_steps(config: Config, text: EncodedText, seconds: float) -> tuple[float, float]:
    """Characters per second, and seconds of a step in cuDNN's recurrent layers."""
    with mock.patch("charrnn.training.trainer.graphs_of", lambda _: None):
        trainer = make(config, text)
        return speed(trainer, seconds), seconds_in_layers(trainer)


def replayed_steps(config: Config, text: EncodedText, seconds: float, layers: float) -> str:
    """The rest of a line of the table."""
    trainer = make(config, text)
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(trainer.device)
    fast = speed(trainer, seconds)
    window = config.training.batch_size * config.training.seq_len
    outside = f"{1 - layers * fast / window:.0%}" if layers else "?"
    loss = sum(trainer.step(LR).loss.item() for _ in range(PROFILED_STEPS)) / PROFILED_STEPS
    memory = torch.cuda.max_memory_allocated(trainer.device) / 1e6 if on_gpu else 0
    obstacle = f" not replayed: {trainer.obstacle}" if trainer.obstacle else ""
    return f"{fast:,.0f} | {outside} | {loss:.3f} | {memory:,.0f} |{obstacle}"


def make(config: Config, text: EncodedText) -> Trainer:
    return Trainer(text.train_ids, len(text.vocabulary), config.model, config.training)


def speed(trainer: Trainer, seconds: float) -> float:
    """Characters per second, after a warm-up in which the step is captured if it can be."""
    for _ in range(WARM_UP_STEPS):
        trainer.step(LR)
    wait(trainer.device)
    started, characters = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        characters += sum(trainer.step(LR).characters for _ in range(PROFILED_STEPS))
        wait(trainer.device)
    return characters / (time.perf_counter() - started)


def seconds_in_layers(trainer: Trainer) -> float:
    """Of a step, in the kernels of cuDNN's recurrent layers, forwards and backwards."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(PROFILED_STEPS):
            trainer.step(LR)
        wait(trainer.device)
    spent = sum(event.device_time_total for event in found.key_averages() if event.key in LAYERS)
    kernels = sorted({event.name for event in found.events() if "ersist" in event.name})
    if trainer.device.type == "cuda":
        print(f"<!-- {trainer.precision.kind}: {', '.join(kernels) or 'no persistent kernel'} -->")
    return float(spent) / 1e6 / PROFILED_STEPS


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def samples(config: Config, text: EncodedText) -> None:
    """The table of samples, of a network that has learned a little."""
    trainer = make(config, text)
    for _ in range(WARM_UP_STEPS):
        trainer.step(LR)
    print("\n| streams | on the device, characters/s | on a CPU | characters that agree |")
    print("|---:|---:|---:|---:|")
    for num in (1, 64, 256):
        texts, speeds = [], []
        for device in (trainer.device, torch.device("cpu")):
            model = trainer.model.to(device).eval()
            pieces = generate(model, text.vocabulary, SAMPLE, num=num)
            next(pieces)
            started = time.perf_counter()
            lines = list(islice(pieces, SAMPLE.length if device.type == "cuda" or num == 1 else 200))
            speeds.append(num * len(lines) / (time.perf_counter() - started))
            texts.append("".join(line[0] for line in lines))
        trainer.model.to(trainer.device).train()
        shortest = min(map(len, texts))
        agree = next((i for i in range(shortest) if texts[0][i] != texts[1][i]), shortest)
        print(f"| {num} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {agree:,} of {shortest:,} |", flush=True)


def train(arguments: list[str], limit: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = one_minute([*arguments, "--max-time", limit], Path(folder) / "run")
    print(f"\ncharrnn, {limit}: {found}", flush=True)


def beside_nanogpt(checkout: Path, arguments: list[str], device: str) -> None:
    """Its recipe for a GPU, evaluations included; its best checkpoint is what it leaves."""
    text = read_text()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanogpt"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
        prepare_nanogpt(copy, text)
        lines = run_there(copy, ["train.py", "config/train_shakespeare_char.py", f"--device={device}"])
        seconds = lines[-1][0] - next(when for when, line in lines if line.startswith("iter 0:"))
        score = json.loads(run_there(copy, [str(PROCESS), "nanogpt", str(text.path), str(text.first)])[-1][1])
    own = min(line.partition("val loss ")[2] for _, line in lines if line.startswith("step "))
    print(f"\nnanoGPT, {seconds:.1f} s: {score['nats_per_char']:.4f} nats per character (its own estimate {own})")
    train(arguments, f"{SHARE * seconds:.0f}s")


if __name__ == "__main__":
    sys.exit(main())
