"""What ``charrnn lr-find`` costs or saves: the loss at its rate beside the best of a grid of twelve, and beside peers.

    .venv/bin/python scripts/bench/regret.py [--seeds 1 2] [--only A B] [--results regret.jsonl]

For each of ten set-ups a full ``lr-find`` recommends a rate for trainings of 1,000 steps; so do, on the first of its
three sweeps, the rules of other finders, and torch-lr-finder itself where it is installed (``pip install
torch-lr-finder``). Then real trainings of 1,000 steps, at each of these rates and at the twelve of a grid, over the
seeds given. *Excess* is the mean validation loss at a rate over that of the best in the grid. Every rate
found and every training is kept in the results file, one JSON object a line: an interrupted benchmark goes on where
it stopped. On two cores the whole takes about two hours.

The rules are written out here from their descriptions and sources, not installed: fastai 2.7's (valley, slide,
minimum/10, steep; on its loss smoothed as ours, 10 % and 5 points left out) and Lightning 2.x's (steepest descent by
*linear* rate, its own off-by-one bias correction, 10 points and 1 left out).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: one process for each core

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.studies.lr_find import find_lr, make_plan
from charrnn.studies.sweep import smooth
from charrnn.text.encoded import EncodedText, load_text
from charrnn.text.places import Places
from charrnn.training.evaluation import evaluate
from charrnn.training.process import prepare_process
from charrnn.training.schedules import learning_rate
from charrnn.training.session import new_session
from charrnn.training.trainer import Trainer

STEPS = 1000
GRID_SIZE, GRID_FACTOR = 12, 1.6
GRID_START = {"adam": 3e-4, "sgd": 0.1}
COMMON = "embedding_size=64 batch_size=16 warmup_steps=50 max_steps=1000"
SETUPS = {
    "A": "source=shakespeare cell=lstm hidden_size=384 seq_len=48",
    "B": "source=play cell=lstm hidden_size=128 seq_len=32",
    "C": "source=shakespeare cell=gru hidden_size=256 seq_len=64",
    "D": "source=play cell=rnn_tanh hidden_size=128 seq_len=16 batch_size=32",
    "E": "source=play cell=lstm hidden_size=512 seq_len=32",
    "F": "source=shakespeare cell=gru hidden_size=64 seq_len=128",
    "G": "source=shakespeare cell=lstm hidden_size=256 seq_len=48 optimizer=sgd",
    "H": "source=play cell=rnn_tanh hidden_size=64 seq_len=16 batch_size=32 optimizer=sgd",
    "I": "source=shakespeare cell=lstm num_layers=2 hidden_size=128 seq_len=64",
    "J": "source=play cell=gru hidden_size=128 seq_len=32 optimizer=sgd",
}
Training = tuple[str, float, int]  # set-up, rate, seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--results", type=Path, default=Path("regret.jsonl"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        rates = find_all(pool, options.only, options.results)
        wanted = [
            (name, lr, seed)
            for seed in options.seeds
            for name in options.only
            for lr in [*grid(name), *(lr for lr in rates[name].values() if lr is not None)]
        ]
        losses = train_all(pool, wanted, options.results)
    table(rates, losses, options.seeds)
    return 0


def setup(name: str) -> Config:
    sections = {"source": "corpus", **dict.fromkeys(("cell", "num_layers", "hidden_size", "embedding_size"), "model")}
    words = f"{COMMON} {SETUPS[name]}".split()
    return load_config(None, [f"{sections.get(word.split('=')[0], 'training')}.{word}" for word in words])


def grid(name: str) -> list[float]:
    return [GRID_START[setup(name).training.optimizer] * GRID_FACTOR**i for i in range(GRID_SIZE)]


def find_all(pool: ProcessPoolExecutor, names: list[str], results: Path) -> dict[str, dict[str, float | None]]:
    """What every finder recommends for each set-up, from the results file or by asking them."""
    known = {row["name"]: row["rates"] for row in kept_rows(results) if "rates" in row}
    missing = [name for name in names if name not in known]
    for name, rates in zip(missing, pool.map(recommended_rates, missing), strict=True):
        known[name] = rates
        keep_row(results, {"name": name, "rates": rates})
    for name in names:
        shown = ", ".join(f"{finder} {'none' if lr is None else f'{lr:.2g}'}" for finder, lr in known[name].items())
        print(f"{name}: {SETUPS[name]}\n   {shown}", flush=True)
    return {name: known[name] for name in names}


def kept_rows(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def keep_row(results: Path, row: dict[str, Any]) -> None:
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")


def recommended_rates(name: str) -> dict[str, float | None]:
    """The rate that each finder recommends for a set-up; None where it has no answer."""
    prepare_process(1)
    config = setup(name)
    session = new_session(config, Places.from_environment())
    found = find_lr(session, make_plan(config.training, None, None, seeds=3, trial_steps=80, quick=False), _silent)
    quick = find_lr(session, make_plan(config.training, None, None, seeds=3, trial_steps=80, quick=True), _silent)
    lrs, losses = np.array(found.sweeps[0].lrs), np.array(found.sweeps[0].losses)
    rates: dict[str, float | None] = {"charrnn lr-find": found.lr, "charrnn lr-find --quick": quick.lr}
    smoothed = smooth(losses.tolist())
    kept = slice(len(found.sweeps[0].lrs) // 10, -5)
    for rule in (fastai_valley, fastai_slide, fastai_minimum, fastai_steep):
        rates[rule.__name__.replace("_", " ")] = rule(lrs[kept], smoothed[kept])
    rates["lightning"] = lightning(lrs, losses)
    rates["torch-lr-finder"] = torch_lr_finder(config, session.text)
    return rates


def _silent(stage: str, share: float) -> None:
    """Nothing to tell."""


def train_all(pool: ProcessPoolExecutor, wanted: list[Training], results: Path) -> dict[Training, float]:
    """The validation loss of each training, from the results file or by doing it."""
    rows = [row for row in kept_rows(results) if "val" in row]
    known = {(row["name"], round(row["lr"], 9), row["seed"]): row["val"] for row in rows}
    missing = sorted(
        {(name, round(lr, 9), seed) for name, lr, seed in wanted} - known.keys(), key=lambda one: one[::-1]
    )
    print(f"{len(missing)} trainings to do", flush=True)
    for one, loss in zip(missing, pool.map(train, missing), strict=True):
        known[one] = loss
        keep_row(results, {"name": one[0], "lr": one[1], "seed": one[2], "steps": STEPS, "val": loss})
    return known


def train(one: Training) -> float:
    """A training of ``STEPS`` at this rate: loss over the whole validation part, nats per character."""
    name, lr, seed = one
    prepare_process(1)
    config = setup(name)
    text = read_text(config)
    training = config.training.model_copy(update={"lr": lr, "seed": seed})
    trainer = Trainer(text.train_ids, len(text.vocabulary), config.model, training)
    for step in range(STEPS):
        stats = trainer.step(learning_rate(training, step, step / STEPS))
        if step % 20 == 19 and not torch.isfinite(stats.loss):
            break
    result = evaluate(trainer.model, text.ids, text.spans["val"], trainer.precision)
    assert result is not None
    return result.nats_per_char


def read_text(config: Config) -> EncodedText:
    places = Places.from_environment()
    return load_text(config.corpus, places)


def table(rates: dict[str, dict[str, float | None]], losses: dict[Training, float], seeds: list[int]) -> None:
    """Excess over the best of the grid, in percent, a row for each finder."""

    def loss(name: str, lr: float) -> float:
        mean = statistics.mean(losses[name, round(lr, 9), seed] for seed in seeds)
        return mean if math.isfinite(mean) else math.inf

    best = {name: min(loss(name, lr) for lr in grid(name)) for name in rates}
    print("\nbest of grid, nats per character: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    print(f"\n| excess, % | mean | worst | {' | '.join(rates)} |")
    print("|---" * (3 + len(rates)) + "|")
    for finder in next(iter(rates.values())):
        excess = []
        for name in rates:
            lr = rates[name][finder]
            excess.append(math.inf if lr is None else 100 * (loss(name, lr) / best[name] - 1))
        cells = [
            f"{value:.1f}" if math.isfinite(value) else "none"
            for value in (statistics.mean(excess), max(excess), *excess)
        ]
        print(f"| {finder} | {' | '.join(cells)} |")


# The rules of others ------------------------------------------------------------------------------------------------


def fastai_valley(lrs: Any, losses: Any) -> float:
    """Half way through the longest decreasing subsequence, which is taken to end where it does and be contiguous."""
    lengths = [1] * len(losses)
    start = end = 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end = i
                start = end - lengths[end]
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def fastai_slide(lrs: Any, losses: Any) -> float:
    """From the right: the first place where the slopes 15 points apart differ by less than 0.005."""
    slopes = np.gradient(losses)
    right, left = -1, -16
    found = lrs[left]
    while left >= -len(losses) and abs(slopes[right] - slopes[left]) > 0.005:
        found = lrs[left]
        right, left = right - 1, left - 1
    return float(found)


def fastai_minimum(lrs: Any, losses: Any) -> float:
    return float(lrs[losses.argmin()]) / 10


def fastai_steep(lrs: Any, losses: Any) -> float:
    return float(lrs[(np.diff(losses) / np.diff(np.log(lrs))).argmin()])


def lightning(lrs: Any, losses: Any) -> float:
    """Steepest descent by the rate itself, not its logarithm."""
    average, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = 0.98 * average + 0.02 * loss
        smoothed.append(average / (1 - 0.98 ** (step + 1)))
    return float(lrs[10:-1][np.gradient(np.array(smoothed)[10:-1], lrs[10:-1]).argmin()])


def torch_lr_finder(config: Config, text: EncodedText) -> float | None:
    """The program itself, on our model: every window from a zero state, no clipping, as it knows neither."""
    try:
        from torch_lr_finder import LRFinder
    except ImportError:
        return None
    trainer = Trainer(text.train_ids, len(text.vocabulary), config.model, config.training)
    plan = make_plan(config.training, None, None, seeds=1, trial_steps=10, quick=False)
    windows = [trainer.streams.next(trainer.generator) for _ in range(plan.sweep_steps)]
    data = TensorDataset(torch.cat([x for x, _ in windows]), torch.cat([y for _, y in windows]))
    loader = DataLoader(data, batch_size=config.training.batch_size)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder = LRFinder(FromZeroState(trainer.model), trainer.optimizer, cross_entropy)
        finder.range_test(loader, start_lr=plan.min_lr, end_lr=plan.max_lr, num_iter=plan.sweep_steps)
        try:
            return float(finder.plot(ax=Figure().subplots())[1])
        except RuntimeError:  # too few points
            return None


class FromZeroState(nn.Module):
    """A network that takes nothing but a window, as torch-lr-finder has it."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x, self.model.zero_hidden(len(x)))[0]
        return logits


if __name__ == "__main__":
    sys.exit(main())
