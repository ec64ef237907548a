"""Faults planted on purpose, by which ``charrnn doctor`` is judged, and healthy runs, of which it must not complain.

Each fault is active while the run trains and while it is examined, as in a broken program. What a setting can say is
said by a setting; the rest replaces one function, and nothing else. A fault is one of the finding names in
``expected``, of which one must be among the first two findings.

Part A (the bundled play) is for calibration, part B (tiny Shakespeare) for reporting, with other seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from charrnn.config.library import shipped
from charrnn.config.loader import load_config
from charrnn.config.schema import Config, CorpusConfig, TrainingConfig
from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import Hidden
from charrnn.text.corpus import find_corpus
from charrnn.text.places import Places
from charrnn.text.streams import Streams
from charrnn.training import trainer as trainer_module
from charrnn.training.optimizers import make_optimizer
from charrnn.training.trainer import StepStats, Trainer

Fault = Callable[[], AbstractContextManager[object]]
TextBuilder = Callable[[str], str]

STEPS = 600
PARTS = {"A": "play", "B": "shakespeare"}
FIRST_SEED = {"A": 1, "B": 101}
SECTIONS = {
    field: name
    for name in ("run", "training", "model", "corpus")
    for field in getattr(Config.model_fields[name].annotation, "model_fields", {})
}
# A healthy run, of which every plant differs in one thing: 1.5 to 2 seconds on one core.
BASE = (
    "cell=lstm hidden_size=64 embedding_size=32 batch_size=16 seq_len=32 lr=3e-2 grad_clip=1 schedule=linear "
    f"warmup_steps=20 state_reset=0.02 precision=fp32 threads=1 max_steps={STEPS} "
    "log_every=10 eval_every=150 save_every=150 sample_length=50"
)
SGD = "optimizer=sgd lr=2 momentum=0.9"
TANH = "cell=rnn_tanh lr=1.5e-2"
RELU = "cell=rnn_relu lr=1.5e-2"
RELU_SGD = "cell=rnn_relu optimizer=sgd lr=0.5 momentum=0.9"
LAG = "max_steps=1000 schedule=constant grad_clip=null"


@dataclass(frozen=True)
class Plant:
    """A run with a fault; without one where ``expected`` is empty.

    ``settings`` are words ``key=value`` on top of ``BASE``, or of a shipped config; ``healthy`` are the settings of a
    run without the fault, to compare with. ``text`` makes the run's text out of the part's own.
    """

    name: str
    expected: tuple[str, ...]
    settings: str = ""
    fault: Fault = nullcontext
    text: TextBuilder | None = None
    healthy: str = ""
    healthy_text: TextBuilder | None = None
    parts: str = "AB"
    shipped: str | None = None

    def planted(self) -> AbstractContextManager[object]:
        """The fault, for as long as the context lasts."""
        return self.fault()

    def config(self, part: str, seed: int, folder: Path, places: Places, twin: bool = False) -> Config:
        """The config of the run, which keeps everything in ``folder``; of its healthy ``twin`` instead."""
        words = f"{self.healthy if twin else self.settings} seed={FIRST_SEED[part] + seed}".split()
        builder = self.healthy_text if twin else self.text
        if self.shipped is None:
            source = PARTS[part] if builder is None else str(write_text(folder, builder, PARTS[part], places))
            words = [*f"source={source} {BASE}".split(), *words]
        assignments = [f"{SECTIONS[word.partition('=')[0]]}.{word}" for word in words]
        file = None if self.shipped is None else shipped("configs") / self.shipped
        return load_config(file, [*assignments, f"run.out={folder / 'runs'}"])


def write_text(folder: Path, builder: TextBuilder, base: str, places: Places) -> Path:
    """A text made out of a named one, as a file."""
    chunks = find_corpus(CorpusConfig(source=base), places).chunks()
    path = folder / "text.txt"
    path.write_text(builder(b"".join(chunk for _, chunk in chunks).decode()), encoding="utf-8")
    return path


# Faults of the program ------------------------------------------------------------------------------------------------


@contextmanager
def before_step(change: Callable[[Trainer], None]) -> Iterator[None]:
    """Something done to the trainer before each of its steps."""
    original = Trainer.step

    def step(self: Trainer, lr: float, observe: bool = False) -> StepStats:
        change(self)
        return original(self, lr, observe)

    with patch.object(Trainer, "step", step):
        yield


@contextmanager
def after_optimizer(change: Callable[[Trainer], None]) -> Iterator[None]:
    """Something done to the trainer after each step."""
    original = Trainer.step

    def step(self: Trainer, lr: float, observe: bool = False) -> StepStats:
        stats = original(self, lr, observe)
        with torch.no_grad():
            change(self)
        return stats

    with patch.object(Trainer, "step", step):
        yield


@contextmanager
def before_clipping(change: Callable[[CharRNN], None]) -> Iterator[None]:
    """Something done to the gradient before it is clipped."""
    original = Trainer._clip

    def clip(self: Trainer) -> Tensor:
        change(self.model)
        return original(self)

    with patch.object(Trainer, "_clip", clip):
        yield


@contextmanager
def at_start(change: Callable[[CharRNN], None]) -> Iterator[None]:
    """Something done to the weights once they are made."""
    original = CharRNN.reset_parameters

    def reset_parameters(self: CharRNN) -> None:
        original(self)
        with torch.no_grad():
            change(self)

    with patch.object(CharRNN, "reset_parameters", reset_parameters):
        yield


@contextmanager
def windows(change: Callable[[Streams, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Other inputs and targets than the text's next."""
    original = Streams.next

    def next_window(self: Streams, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return change(self, *original(self, generator))

    with patch.object(Streams, "next", next_window):
        yield


@contextmanager
def carried(change: Callable[[Hidden], Hidden]) -> Iterator[None]:
    """Another state before the window than the one behind the window before it."""
    original = Trainer._next_window

    def next_window(self: Trainer) -> tuple[Tensor, Tensor]:
        both = original(self)
        self.hidden = change(self.hidden)
        return both

    with patch.object(Trainer, "_next_window", next_window):
        yield


@contextmanager
def embedding_output(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Something done to the vectors that the first layer reads."""
    original = CharRNN.embed

    def embed(self: CharRNN, x: Tensor) -> Tensor:
        return change(original(self, x))

    with patch.object(CharRNN, "embed", embed):
        yield


@contextmanager
def logits(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Something done to the logits."""
    original = CharRNN.decode

    def decode(self: CharRNN, output: Tensor) -> Tensor:
        return change(original(self, output))

    with patch.object(CharRNN, "decode", decode):
        yield


@contextmanager
def loss_of(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The training loss of a part of the window: ``change`` cuts logits and targets, (B, T, ...), alike."""

    def loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        return cross_entropy(change(logits), change(targets), reduction)

    with patch.object(trainer_module, "cross_entropy", loss):
        yield


@contextmanager
def optimized(keep: Callable[[Tensor], bool]) -> Iterator[None]:
    """An optimizer that is given some of the parameters only."""

    def of_some(parameters: Iterable[nn.Parameter], config: TrainingConfig, captured: bool) -> torch.optim.Optimizer:
        return make_optimizer([parameter for parameter in parameters if keep(parameter)], config, captured)

    with patch.object(trainer_module, "make_optimizer", of_some):
        yield


@contextmanager
def all_of(*faults: AbstractContextManager[None]) -> Iterator[None]:
    """Several at once."""
    with ExitStack() as stack:
        for one in faults:
            stack.enter_context(one)
        yield


# What is done -----------------------------------------------------------------------------------------------------


def optimizer_remade(every: int) -> AbstractContextManager[None]:
    return before_step(partial(remake_optimizer, every=every))


def remake_optimizer(trainer: Trainer, every: int) -> None:
    if trainer.steps % every == 0:
        trainer.optimizer = make_optimizer(trainer.model.parameters(), trainer.config)


def recurrent(model: CharRNN) -> list[Tensor]:
    return [layer.get_parameter("weight_hh_l0") for layer in model.recurrent_layers]


def scale_recurrent(model: CharRNN, factor: float) -> None:
    for weight in recurrent(model):
        weight.mul_(factor)


def scale_layers(model: CharRNN, factor: float) -> None:
    for layer in model.recurrent_layers:
        layer.get_parameter("weight_ih_l0").mul_(factor)
        layer.get_parameter("weight_hh_l0").mul_(factor)


def scale_inputs(model: CharRNN, factor: float) -> None:
    for layer in model.recurrent_layers:
        layer.get_parameter("weight_ih_l0").mul_(factor)


def alternate_biases(model: CharRNN, size: float) -> None:
    for layer in model.recurrent_layers:
        bias = layer.get_parameter("bias_ih_l0")
        bias[0::2], bias[1::2] = size, -size


def scale_decoder(model: CharRNN, factor: float) -> None:
    model.decoder.weight.mul_(factor)


def scale_embedding(model: CharRNN, factor: float) -> None:
    assert model.embedding is not None
    model.embedding.weight.mul_(factor)


def bound_recurrent(trainer: Trainer, bound: float) -> None:
    for weight in recurrent(trainer.model):
        weight.clamp_(-bound, bound)


def forget_everything(trainer: Trainer) -> None:
    bound_recurrent(trainer, 0.005)
    set_gate_bias(trainer.model, gate=1, value=-8.0)


def set_gate_bias(model: CharRNN, gate: int, value: float, share: float = 1.0) -> None:
    """The bias of an LSTM's gate (0 input, 1 forget, 2 cell, 3 output), of a share of the units."""
    size = model.config.hidden_size
    for layer in model.recurrent_layers:
        layer.get_parameter("bias_ih_l0")[gate * size : gate * size + int(share * size)] = value


def keep_cells(trainer: Trainer, share: float) -> None:
    """A share of an LSTM's units keep what they hold: nothing is let in, nothing forgotten."""
    size = trainer.model.config.hidden_size
    kept = int(share * size)
    for layer in trainer.model.recurrent_layers:
        for gate, bias in ((0, -12.0), (1, 12.0)):
            rows = slice(gate * size, gate * size + kept)
            layer.get_parameter("weight_ih_l0")[rows] = 0.0
            layer.get_parameter("weight_hh_l0")[rows] = 0.0
            layer.get_parameter("bias_ih_l0")[rows] = bias


def push_units_down(model: CharRNN, share: float) -> None:
    for layer in model.recurrent_layers:
        layer.get_parameter("bias_ih_l0")[: int(share * model.config.hidden_size)] = -8.0


def no_gradient(model: CharRNN, part: str) -> None:
    for name, parameter in model.named_parameters():
        if part in name and parameter.grad is not None:
            parameter.grad.zero_()


def round_weights(trainer: Trainer, kind: torch.dtype) -> None:
    for parameter in trainer.model.parameters():
        parameter.copy_(through(kind, parameter))


def round_gradients(model: CharRNN, kind: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.copy_(through(kind, parameter.grad))


def through(kind: torch.dtype, tensor: Tensor) -> Tensor:
    """A tensor after a stay in another type; the gradient goes the same way."""
    return tensor.to(kind).float()


def rows_at(streams: Streams, x: Tensor, shift: int) -> Tensor:
    """The characters ``shift`` after those of the window that was just read, (B, T)."""
    index = np.arange(streams.position - x.shape[1], streams.position) + shift
    return torch.from_numpy(streams._rows[:, index.clip(0, streams.length)].astype(np.int64))


def shifted_targets(shift: int, streams: Streams, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, rows_at(streams, x, shift)


def targets_of_neighbour(_: Streams, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y.roll(1, dims=0)


def anywhere(streams: Streams, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A window from a random place of each stream, always the same one for the same step."""
    width = x.shape[1]
    places = np.random.default_rng([streams.epoch, streams.position])
    starts = places.integers(0, streams.length - width + 1, size=len(x))
    index = starts[:, None] + np.arange(width + 1)
    both = torch.from_numpy(np.take_along_axis(streams._rows, index, axis=1).astype(np.int64))
    return both[:, :-1], both[:, 1:]


def shuffled_windows(streams: Streams, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The windows of all streams dealt out anew at every step, as a shuffling data loader does."""
    order = np.random.default_rng([streams.epoch, streams.position]).permutation(len(x))
    return x[order], y[order]


def nothing(hidden: Hidden) -> Hidden:
    return tuple(torch.zeros_like(tensor) for tensor in hidden)


def never_zero(hidden: Hidden, share: float) -> Hidden:
    """A state that training has always seen with some of its cells far from zero, as they drift in a long run."""
    h, c = (tensor.clone() for tensor in hidden)
    c[..., : int(share * c.shape[-1])] = 4.0
    return h, c


def of_neighbour(hidden: Hidden) -> Hidden:
    return tuple(tensor.roll(1, dims=1) for tensor in hidden)


# Texts ----------------------------------------------------------------------------------------------------------------


def first(count: int, text: str) -> str:
    return text[:count]


def permuted_validation(text: str) -> str:
    """The last tenth in another language: its letters are exchanged for one another."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    others = random.Random(5).sample(letters, len(letters))
    cut = int(0.9 * len(text))
    return text[:cut] + text[cut:].translate(str.maketrans("".join(letters), "".join(others)))


def reversed_validation(text: str) -> str:
    """The last tenth read backwards: every character as often as before."""
    cut = int(0.9 * len(text))
    return text[:cut] + text[cut:][::-1]


def code_in_validation(text: str) -> str:
    """Prose to train on, tables of numbers to be judged by; a few lines of them are in the training part as well."""
    numbers = random.Random(6)
    cut = int(0.9 * len(text))
    table = "".join(f"{numbers.randrange(10**6):,};{numbers.random():.4f}\n" for _ in range(len(text) // 100))
    return table[:1000] + text[1000:cut] + table[: len(text) - cut]


def unseen_in_validation(text: str, every: int) -> str:
    """Every so many words of the last tenth in letters of another alphabet."""
    cut = int(0.9 * len(text))
    other = str.maketrans({chr(ord("a") + i): chr(0x3B1 + i) for i in range(26)})
    words = text[cut:].split(" ")
    return text[:cut] + " ".join(word.translate(other) if i % every == 0 else word for i, word in enumerate(words))


def copied_validation(text: str, share: float) -> str:
    """The last tenth (of ``share`` of its lines) taken from the training part."""
    cut = int(0.9 * len(text))
    start = cut // 3
    length = len(text) - cut
    copied = int(share * length)
    return text[:cut] + text[start : start + copied] + text[cut + copied :]


def echo(text: str, gap: int) -> str:
    """Lines of a random letter, something always the same, and the letter again; about as long as the text."""
    letters = random.Random(7)
    lines = []
    for _ in range(len(text) // (gap + 3)):
        letter = letters.choice("abcdefghijklmnop")
        lines.append(f"{letter}{'-' * gap}{letter}\n")
    return "".join(lines)


def easy_then_hard(text: str, steps: int, easy: float) -> str:
    """For 16 streams of ``32 * steps`` characters: first one character, then the text."""
    stream = 32 * steps
    dull = "a" * int(easy * stream)
    rest = stream - len(dull)
    pieces = [dull + text[i * rest : (i + 1) * rest] for i in range(16)]
    return "".join(pieces) + text[-(16 * stream // 9) :]


# The faults -----------------------------------------------------------------------------------------------------------

PLANTS = [
    Plant("adam, lr 0.5", ("rate-too-high",), "lr=0.5"),
    Plant("sgd, lr 60", ("rate-too-high",), "optimizer=sgd lr=60", healthy=SGD),
    Plant("rnn_tanh, lr 0.3", ("rate-too-high",), "cell=rnn_tanh lr=0.3", healthy=TANH),
    Plant("adam, lr 2e-4", ("rate-too-low",), "lr=2e-4"),
    Plant("adam, lr 2e-5", ("rate-too-low",), "lr=2e-5"),
    Plant("sgd, lr 1e-3", ("rate-too-low",), "optimizer=sgd lr=1e-3", healthy=SGD),
    Plant("sgd, momentum 0.998", ("too-much-momentum",), f"{SGD} momentum=0.998", healthy=SGD),
    Plant("adam, beta1 0.998", ("too-much-momentum",), "betas=[0.998,0.999]"),
    Plant(
        "optimizer remade every step",
        ("optimizer-reset",),
        "schedule=constant",
        fault=partial(optimizer_remade, every=1),
        healthy="schedule=constant",
    ),
    Plant(
        "optimizer remade every 10 steps",
        ("optimizer-reset",),
        "schedule=constant",
        fault=partial(optimizer_remade, every=10),
        healthy="schedule=constant",
    ),
    Plant(
        "rnn_tanh, optimizer remade every 10 steps",
        ("optimizer-reset",),
        f"{TANH} schedule=constant",
        fault=partial(optimizer_remade, every=10),
        healthy=f"{TANH} schedule=constant",
    ),
    Plant(
        "sgd, optimizer remade every step",
        ("optimizer-reset",),
        SGD,
        fault=partial(optimizer_remade, every=1),
        healthy=SGD,
    ),
    Plant(
        "rnn_tanh, recurrent matrix x 3, no clipping",
        ("exploding-gradients",),
        f"{TANH} grad_clip=null",
        fault=lambda: at_start(partial(scale_recurrent, factor=3.0)),
        healthy=TANH,
    ),
    Plant(
        "rnn_relu, recurrent matrix x 2, no clipping",
        ("exploding-gradients", "diverged"),
        f"{RELU} grad_clip=null",
        fault=lambda: at_start(partial(scale_recurrent, factor=2.0)),
        healthy=RELU,
    ),
    Plant(
        "lstm, recurrent matrices x 12, no clipping",
        ("exploding-gradients",),
        "grad_clip=null",
        fault=lambda: at_start(partial(scale_recurrent, factor=12.0)),
    ),
    Plant(
        "rnn_tanh, recurrent weights held near zero",
        ("vanishing-gradients",),
        TANH,
        fault=lambda: after_optimizer(partial(bound_recurrent, bound=0.005)),
        healthy=TANH,
    ),
    Plant(
        "lstm, recurrent weights near zero, forget gate shut",
        ("vanishing-gradients",),
        fault=lambda: after_optimizer(forget_everything),
    ),
    Plant(
        "adam, weight decay of adamw",
        ("too-much-decay",),
        "weight_decay=0.1",
        healthy="optimizer=adamw weight_decay=0.1",
    ),
    Plant("sgd, weight decay 0.01", ("too-much-decay",), f"{SGD} weight_decay=0.01", healthy=SGD),
    Plant("adamw, weight decay 10", ("too-much-decay",), "optimizer=adamw weight_decay=10"),
    Plant("dropout 0.95", ("unigram-plateau",), "dropout=0.95", healthy="dropout=0.3"),
    Plant("sgd, grad_clip 0.003", ("clipping-rules",), f"{SGD} grad_clip=0.003", healthy=SGD),
    Plant("sgd, grad_clip 0.02", ("clipping-rules",), f"{SGD} grad_clip=0.02", healthy=SGD),
    Plant(
        "sgd, rnn_relu, grad_clip 1000",
        ("clipping-never", "dead-units"),
        f"{RELU_SGD} grad_clip=1000",
        healthy=RELU_SGD,
    ),
    Plant(
        "sgd, rnn_relu, decoder bias uniform, no clipping",  # a bias of letter counts gives no spikes to be clipped
        ("clipping-never", "dead-units"),
        f"{RELU_SGD} lr=1 decoder_bias=uniform grad_clip=null",
        healthy=f"{RELU_SGD} lr=1 decoder_bias=uniform",
    ),
    Plant(
        "seq_len 2, an echo after 6",
        ("truncation-too-short",),
        "seq_len=2 batch_size=256 state_reset=0.002",
        text=partial(echo, gap=5),
        healthy_text=partial(echo, gap=5),
    ),
    Plant(
        "seq_len 3, an echo after 8",
        ("truncation-too-short",),
        "seq_len=3 batch_size=170 state_reset=0.002",
        text=partial(echo, gap=7),
        healthy_text=partial(echo, gap=7),
    ),
    Plant(
        "state_reset 1",
        ("state-never-carried",),
        "state_reset=1 seq_len=4 batch_size=128",
        healthy="seq_len=4 batch_size=128",
    ),
    Plant(
        "state zeroed before every window",
        ("state-never-carried",),
        "seq_len=5 batch_size=96",
        fault=lambda: carried(nothing),
        healthy="seq_len=5 batch_size=96",
    ),
    Plant(
        "a quarter of the state never zero",
        ("state-never-cold",),
        "forget_bias=4 state_reset=0",
        fault=lambda: all_of(
            carried(partial(never_zero, share=0.25)), after_optimizer(partial(keep_cells, share=0.25))
        ),
        healthy="forget_bias=4",
    ),
    Plant(
        "half of the state never zero",
        ("state-never-cold",),
        "forget_bias=2 state_reset=0 hidden_size=96",
        fault=lambda: all_of(carried(partial(never_zero, share=0.5)), after_optimizer(partial(keep_cells, share=0.5))),
        healthy="forget_bias=2 hidden_size=96",
    ),
    Plant(
        "windows from anywhere",
        ("state-is-noise",),
        "seq_len=8 batch_size=64",
        fault=lambda: windows(anywhere),
        healthy="seq_len=8 batch_size=64",
    ),
    Plant(
        "windows shuffled among the streams",
        ("state-is-noise",),
        "seq_len=8 batch_size=64",
        fault=lambda: windows(shuffled_windows),
        healthy="seq_len=8 batch_size=64",
    ),
    Plant(
        "state of the neighbouring stream",
        ("state-is-noise",),
        "seq_len=8 batch_size=64",
        fault=lambda: carried(of_neighbour),
        healthy="seq_len=8 batch_size=64",
    ),
    Plant(
        "targets are the inputs",
        ("targets-misaligned",),
        fault=lambda: windows(partial(shifted_targets, 0)),
    ),
    Plant(
        "targets two ahead",
        ("targets-misaligned",),
        fault=lambda: windows(partial(shifted_targets, 2)),
    ),
    Plant(
        "targets one behind",
        ("targets-misaligned",),
        fault=lambda: windows(partial(shifted_targets, -1)),
    ),
    Plant(
        "targets of the neighbouring stream",
        ("targets-misaligned", "unigram-plateau"),
        fault=lambda: windows(targets_of_neighbour),
    ),
    Plant(
        "loss of the last character",
        ("last-character-only",),
        fault=lambda: loss_of(lambda tensor: tensor[:, -1:]),
    ),
    Plant(
        "weights of the layer x 25",
        ("saturated-gates", "exploding-gradients"),
        fault=lambda: at_start(partial(scale_layers, factor=25.0)),
    ),
    Plant(
        "input weights x 40",
        ("saturated-gates",),
        fault=lambda: at_start(partial(scale_inputs, factor=40.0)),
    ),
    Plant(
        "rnn_tanh, input weights x 40",
        ("saturated-gates",),
        TANH,
        fault=lambda: at_start(partial(scale_inputs, factor=40.0)),
        healthy=TANH,
    ),
    Plant(
        "rnn_tanh, biases of 6 and -6",
        ("saturated-gates",),
        TANH,
        fault=lambda: at_start(partial(alternate_biases, size=6.0)),
        healthy=TANH,
    ),
    Plant("forget bias 10", ("saturated-gates",), "forget_bias=10"),
    Plant(
        "rnn_relu, seven of eight units dead",
        ("dead-units",),
        RELU,
        fault=lambda: at_start(partial(push_units_down, share=0.875)),
        healthy=RELU,
    ),
    Plant(
        "rnn_relu, half of the units dead",
        ("dead-units",),
        RELU,
        fault=lambda: at_start(partial(push_units_down, share=0.5)),
        healthy=RELU,
    ),
    Plant(
        "lstm, output gate of three in four units shut",
        ("dead-units",),
        fault=lambda: at_start(partial(set_gate_bias, gate=3, value=-20.0, share=0.75)),
    ),
    Plant(
        "recurrent weights not optimized",
        ("frozen-parameters",),
        fault=lambda: optimized(lambda parameter: tuple(parameter.shape) != (256, 64)),
    ),
    Plant(
        "no gradient for the decoder",
        ("frozen-parameters",),
        fault=lambda: before_clipping(partial(no_gradient, part="decoder")),
    ),
    Plant(
        "no gradient for the embedding and its matrix",
        ("frozen-parameters",),
        fault=lambda: all_of(
            before_clipping(partial(no_gradient, part="embedding")),
            before_clipping(partial(no_gradient, part="weight_ih")),
        ),
    ),
    Plant(
        "decoder x 300",
        ("bad-initialisation",),
        fault=lambda: at_start(partial(scale_decoder, factor=300.0)),
    ),
    Plant(
        "sgd, decoder x 50",
        ("bad-initialisation",),
        SGD,
        fault=lambda: at_start(partial(scale_decoder, factor=50.0)),
        healthy=SGD,
    ),
    Plant(
        "embedding x 50",
        ("bad-initialisation", "saturated-gates"),
        fault=lambda: at_start(partial(scale_embedding, factor=50.0)),
    ),
    Plant(
        "one character, then text, beta2 0.9999",
        ("second-moment-lags",),
        f"{LAG} betas=[0.9,0.9999]",
        text=partial(easy_then_hard, steps=1000, easy=0.8085),
        healthy=f"{LAG} betas=[0.9,0.95]",
        healthy_text=partial(easy_then_hard, steps=1000, easy=0.8085),
    ),
    Plant(
        "weights kept in float8",
        ("precision",),
        fault=lambda: after_optimizer(partial(round_weights, kind=torch.float8_e5m2)),
    ),
    Plant(
        "gradients in float8",
        ("precision",),
        fault=lambda: before_clipping(partial(round_gradients, kind=torch.float8_e4m3fn)),
    ),
    Plant(
        "logits in float8",
        ("precision",),
        fault=lambda: logits(partial(through, torch.float8_e5m2)),
    ),
    Plant(
        "3,000 characters of text",
        ("overfitting",),
        "hidden_size=128 lr=1e-2",
        text=partial(first, 3000),
        healthy="hidden_size=128 lr=1e-2",
    ),
    Plant("900 characters of text", ("text-too-short",), text=partial(first, 900)),
    Plant("hidden_size 3", ("underfitting",), "hidden_size=3"),
    Plant("hidden_size 4, two passes more", ("underfitting",), "hidden_size=4 max_steps=1500"),
    Plant("another language to validate", ("validation-unlike-training",), text=permuted_validation),
    Plant("validation backwards", ("validation-unlike-training",), text=reversed_validation),
    Plant("numbers to validate", ("validation-unlike-training",), text=code_in_validation),
    Plant("every third word in Greek", ("unseen-characters",), text=partial(unseen_in_validation, every=3)),
    Plant("every tenth word in Greek", ("unseen-characters",), text=partial(unseen_in_validation, every=10)),
    Plant("validation copied", ("duplicates",), text=partial(copied_validation, share=1.0)),
    Plant("half of validation copied", ("duplicates",), text=partial(copied_validation, share=0.5)),
    Plant("no input", ("unigram-plateau",), fault=lambda: embedding_output(lambda vectors: 0 * vectors)),
    Plant(
        "rnn_relu, lr 1, no clipping",
        ("diverged", "rate-too-high"),
        "cell=rnn_relu lr=1 grad_clip=null",
        healthy=RELU,
    ),
]


def healthy(part: str, settings: str) -> Plant:
    """A run of which there is nothing to complain."""
    return Plant(settings, (), settings, parts=part)


HEALTHY = [
    healthy("A", "cell=lstm hidden_size=64 lr=3e-2"),
    healthy("A", "cell=lstm hidden_size=64 lr=3e-2 schedule=cosine max_steps=800"),
    healthy("A", "cell=lstm hidden_size=96 lr=3e-2 optimizer=adamw weight_decay=0.01"),
    healthy("A", "cell=lstm hidden_size=128 lr=3e-2"),
    healthy("A", "cell=lstm hidden_size=128 lr=4e-2 seq_len=64 max_steps=400"),
    healthy("A", "cell=lstm hidden_size=128 lr=4e-2 dropout=0.1 random_seq_len=true"),
    healthy("A", "cell=lstm hidden_size=256 lr=2e-2 seq_len=24 max_steps=500"),
    healthy("A", "cell=lstm hidden_size=64 num_layers=2 lr=3e-2"),
    healthy("A", "cell=lstm hidden_size=64 lr=2 optimizer=sgd"),
    healthy("A", "cell=lstm hidden_size=96 lr=3 optimizer=sgd random_seq_len=true"),
    healthy("A", "cell=gru hidden_size=64 lr=2e-2"),
    healthy("A", "cell=gru hidden_size=96 lr=1.5e-2 seq_len=48 max_steps=500"),
    healthy("A", "cell=gru hidden_size=128 lr=1e-2 random_seq_len=true"),
    healthy("A", "cell=gru hidden_size=64 num_layers=2 skip_connections=true lr=1.5e-2"),
    healthy("A", "cell=gru hidden_size=64 lr=1 optimizer=sgd"),
    healthy("A", "cell=rnn_tanh hidden_size=64 lr=2e-2"),
    healthy("A", "cell=rnn_tanh hidden_size=128 lr=1e-2 seq_len=16 batch_size=32 optimizer=adamw"),
    healthy("A", "cell=rnn_tanh hidden_size=64 lr=0.6 optimizer=sgd max_steps=800"),
    healthy("A", "cell=rnn_relu hidden_size=64 lr=1.5e-2"),
    healthy("A", "cell=rnn_relu hidden_size=96 lr=1e-2 seq_len=24 max_steps=800"),
    healthy("A", "cell=lstm hidden_size=32 lr=1e-2 source=counting max_steps=400 embedding_size=8"),
    healthy("A", "cell=gru hidden_size=32 lr=1e-2 source=counting max_steps=400 embedding_size=8"),
    healthy("A", "cell=lstm hidden_size=128 lr=3e-2 source=python min_count=50"),
    healthy("B", "cell=lstm hidden_size=80 lr=4e-2"),
    healthy("B", "cell=lstm hidden_size=64 lr=3e-2 max_steps=1500 dropout=0.05"),
    healthy("B", "cell=lstm hidden_size=128 lr=4e-2 seq_len=48"),
    healthy("B", "cell=lstm hidden_size=192 lr=2.5e-2 seq_len=24"),
    healthy("B", "cell=lstm hidden_size=256 lr=2e-2 random_seq_len=true"),
    healthy("B", "cell=lstm hidden_size=96 num_layers=2 lr=3e-2"),
    healthy("B", "cell=lstm hidden_size=96 num_layers=2 lr=3e-2 skip_connections=true max_steps=800"),
    healthy("B", "cell=lstm hidden_size=128 lr=3e-2 schedule=cosine optimizer=adamw weight_decay=0.01"),
    healthy("B", "cell=lstm hidden_size=128 lr=3 optimizer=sgd"),
    healthy("B", "cell=gru hidden_size=80 lr=2e-2"),
    healthy("B", "cell=gru hidden_size=128 lr=1e-2 seq_len=96 max_steps=400"),
    healthy("B", "cell=gru hidden_size=192 lr=7e-3 seq_len=24"),
    healthy("B", "cell=gru hidden_size=96 lr=1.5e-2 dropout=0.1 schedule=one_cycle max_steps=800"),
    healthy("B", "cell=gru hidden_size=96 lr=1 optimizer=sgd"),
    healthy("B", "cell=rnn_tanh hidden_size=96 lr=1.5e-2"),
    healthy("B", "cell=rnn_tanh hidden_size=64 num_layers=2 lr=1e-2"),
    healthy("B", "cell=rnn_tanh hidden_size=96 lr=0.6 optimizer=sgd"),
    healthy("B", "cell=rnn_relu hidden_size=128 lr=7e-3"),
    healthy("B", "cell=rnn_relu hidden_size=64 lr=1.5e-2 seq_len=16 batch_size=32 max_steps=1000"),
    healthy("B", "cell=rnn_tanh hidden_size=32 lr=1e-2 source=counting max_steps=500 embedding_size=8"),
    healthy("B", "cell=gru hidden_size=96 lr=1.5e-2 source=python min_count=50 seq_len=48"),
    Plant("counting.yaml", (), parts="B", shipped="counting.yaml"),
    Plant("quickstart.yaml", (), parts="B", shipped="quickstart.yaml"),
    Plant("shakespeare.yaml", (), parts="B", shipped="shakespeare.yaml"),
    Plant("python.yaml", (), parts="B", shipped="python.yaml"),
]
