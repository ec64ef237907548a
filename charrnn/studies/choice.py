"""What ``charrnn train --data`` chooses where nothing is said: the rule, a pure function of numbers, and its reasons.

All its numbers stand in the tables below; nothing here reads a text or a clock (see ``speeds`` for the processor's).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from charrnn.model.weights import GATES
from charrnn.studies.choice_words import count, one_digit, time_in_words, times

Asked = Mapping[str, Any]  # what the user set, checked, by dotted name: {"training.max_time": 60.0}

DEFAULT_SECONDS = 60.0
LIMITS = ("training.max_time", "training.max_steps", "training.epochs")


@dataclass(frozen=True)
class Size:
    """A size of the network, and what it wants: characters to read in the time given, and different ones of them."""

    hidden: int
    reads: float
    text: float


# Coarse on purpose: the speed of a machine wavers, the choice should not.
SIZES = (
    Size(64, 0, 0),
    Size(128, 0.15e6, 4e3),
    Size(192, 0.4e6, 10e3),
    Size(256, 0.8e6, 30e3),
    Size(384, 1.6e6, 100e3),
    Size(512, 4e6, 500e3),
    Size(768, 15e6, 2e6),
    Size(1024, 40e6, 10e6),
)
# What learns by heart is reading often with many weights: passes over the text times weights per character. From so
# much of it, so much dropout on the input, and on what the layers give. Measured at 3, 24 and 164 on two texts, between
# them a guess: .github/CONTRIBUTING.md.
DROPOUT = (
    (0, 0.0, 0.0),
    (5, 0.0, 0.25),
    (12, 0.05, 0.35),
    (25, 0.1, 0.5),
    (50, 0.2, 0.5),
    (100, 0.3, 0.5),
    (150, 0.4, 0.6),
)
SEQ_LEN = 24  # most of the gradient through time lies within; the fewer time steps a window has, the faster it is
BATCH = 96  # streams
WINDOWS_PER_STREAM = 10  # at least: a carried state is worth little in streams of a few windows
# Of RATE_AT units and BATCH streams; lowest and highest. SGD shares a gradient of norm 1 out among all weights (see
# ``sweep``) and wants a hundred times Adam's: measured at 64 and 128 units over 60 and 300 steps.
RATE_AT = 384
RATES = {"adam": (1.4e-2, 2e-3, 2e-2), "adamw": (1.4e-2, 2e-3, 2e-2), "sgd": (1.4, 0.2, 5.0)}
WEIGHT_DECAY = 0.1
WARMUP_STEPS, WARMUP_SHARE = 50, 0.1
EMBEDDING, LARGE_EMBEDDING, LARGE_EMBEDDING_ABOVE = 64, 128, 256  # the larger one above so many symbols
STATE_RESET = 0.02
EVALUATION_SHARE = 0.05  # of the time, at most
EVALUATION_SPEED = 1.5  # characters read by an evaluation while training reads one
EVALUATION_SECONDS = 0.3  # on top: the sample, the checkpoint
MOST_EVALUATIONS = 20
RHYTHM = {"log_every": 1.0, "save_every": 30.0}  # seconds


@dataclass(frozen=True)
class Facts:
    """What the choice rests on.

    ``characters`` are those to train on, ``validation`` those read by one evaluation, ``symbols`` the size of the
    vocabulary, ``speeds`` characters per second while training, by hidden size; so many ``processes`` train together.
    """

    characters: int
    validation: int
    symbols: int
    speeds: Mapping[int, float]
    processes: int = 1


@dataclass(frozen=True)
class Choice:
    """Settings by section, without those that were asked for, and lines for people that say why these."""

    values: dict[str, dict[str, Any]]
    reasons: list[str]


def sizes_to_measure(asked: Asked) -> list[int]:
    """The hidden sizes whose speed ``choose`` wants to know, smallest first."""
    hidden = asked_size(asked)
    return [size.hidden for size in SIZES] if hidden is None else [hidden]


def asked_size(asked: Asked) -> int | None:
    """The hidden size that was asked for, perhaps by that of an embedding whose weights the decoder shares."""
    names = ["model.hidden_size", *(["model.embedding_size"] if asked.get("model.tie_weights") else [])]
    return next((asked[name] for name in names if asked.get(name)), None)


def window_shape(characters: int, asked: Asked, processes: int = 1) -> tuple[int, int]:
    """Streams and characters per window for a text of so many characters to train on: as many streams as still have
    their windows, ``BATCH``, a half of it, a quarter ...; as many for each of several processes."""
    seq_len = asked.get("training.seq_len", SEQ_LEN)
    streams = BATCH
    while streams > 1 and characters < streams * seq_len * WINDOWS_PER_STREAM:
        streams //= 2
    return asked.get("training.batch_size", max(streams // processes, 1) * processes), seq_len


def ends(asked: Asked) -> bool:
    """Whether it was said how long to train; else ``DEFAULT_SECONDS`` are taken."""
    return any(name in asked for name in LIMITS)


def choose(facts: Facts, asked: Asked) -> Choice:
    """Settings for a training on such a text, on such a machine; what was ``asked`` stands, the rest follows from it.

    The network is the largest of ``SIZES`` that reads enough in the time given, from a text that is long enough.
    """
    plan = _Plan(facts, asked)
    on_input, on_output = plan.dropout
    values: dict[str, dict[str, Any]] = {
        "model": {
            "hidden_size": plan.hidden,
            "embedding_size": plan.embedding,
            "dropout": {"input": on_input, "between": on_output if plan.layers > 1 else 0.0, "output": on_output},
        },
        "training": {
            "batch_size": plan.batch_size,
            "seq_len": plan.seq_len,
            "optimizer": plan.optimizer,
            "lr": plan.lr,
            "weight_decay": plan.weight_decay,
            "schedule": "linear",
            "warmup_steps": min(WARMUP_STEPS, int(plan.steps * WARMUP_SHARE)),
            "state_reset": STATE_RESET,
            **({} if ends(asked) else {"max_time": DEFAULT_SECONDS}),
        },
        "run": {"eval_every": plan.eval_every} | {name: plan.steps_in(seconds) for name, seconds in RHYTHM.items()},
    }
    return Choice(_free(values, asked), list(_reasons(plan)))


def _free(values: dict[str, Any], asked: Asked, above: str = "") -> dict[str, Any]:
    """Nested values without what was asked for; one of several dropouts leaves the others to us."""
    return {
        key: _free(value, asked, f"{above}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if f"{above}{key}" not in asked
    }


class _Plan:
    """The training that comes of it, in numbers."""

    def __init__(self, facts: Facts, asked: Asked) -> None:
        self.facts = facts
        self.asked = asked
        self.batch_size, self.seq_len = window_shape(facts.characters, asked, facts.processes)
        self.layers: int = asked.get("model.num_layers", 1)
        self.hidden: int = asked_size(asked) or max(size.hidden for size in SIZES if not self.lacks(size))
        self.optimizer: str = asked.get("training.optimizer", "adamw")
        self.reads, self.limit = self.reach(self.hidden)
        self.passes = self.reads / facts.characters
        self.speed = facts.speeds[self.hidden]
        self.seconds = self.reads / self.speed
        self.steps = max(self.reads / (self.batch_size * self.seq_len), 1.0)

    @property
    def free(self) -> bool:
        """Whether the size is ours to choose."""
        return asked_size(self.asked) is None

    @property
    def embedding(self) -> int:
        """What was asked for; else as wide as the network where the decoder shares its weights."""
        if self.asked.get("model.tie_weights"):
            return self.hidden
        usual = EMBEDDING if self.facts.symbols <= LARGE_EMBEDDING_ABOVE else LARGE_EMBEDDING
        return int(self.asked.get("model.embedding_size", usual))

    def reach(self, hidden: int) -> tuple[float, str]:
        """Characters read at this size before the first limit, and which limit that is, in words."""
        time, steps, epochs = (self.asked.get(name) for name in LIMITS)
        speed = self.facts.speeds[hidden]
        found = []
        if time is not None:
            found.append((time * speed, time_in_words(time)))
        if steps is not None:
            found.append((float(steps * self.batch_size * self.seq_len), f"{steps:,} steps"))
        if epochs is not None:
            found.append((float(epochs * self.facts.characters), f"{epochs:g} epochs"))
        why = "a guess: patience alone ends it" if ends(self.asked) else "unless --max-time says otherwise"
        return min(found, default=(DEFAULT_SECONDS * speed, f"{time_in_words(DEFAULT_SECONDS)} ({why})"))

    def lacks(self, size: Size) -> str:
        """Why a network of this size is not worth its time here; nothing if it is."""
        reads = self.reach(size.hidden)[0]
        if reads < size.reads:
            return f"it would read {count(reads)} characters, and needs {count(size.reads)}"
        if self.facts.characters < size.text:
            return f"it needs a text of {count(size.text)} characters; this one has {count(self.facts.characters)}"
        return ""

    @property
    def dropout(self) -> tuple[float, float]:
        """On input and output: more of it, the more often the text is read, and the larger the network is beside it."""
        return next((first, second) for least, first, second in reversed(DROPOUT) if self.by_heart >= least)

    @property
    def by_heart(self) -> float:
        """Passes over the text times the recurrent layers' weights per character of it."""
        return self.passes * self.weights / self.facts.characters

    @property
    def weights(self) -> int:
        """Of the recurrent layers, where nearly all of them are."""
        inputs = (self.embedding or self.facts.symbols) + (self.layers - 1) * self.hidden
        return GATES[self.asked.get("model.cell", "lstm")] * self.hidden * (inputs + self.layers * self.hidden)

    @property
    def lr(self) -> float:
        """To two digits, and no lower than where the schedule is to end."""
        usual, lowest, highest = RATES[self.optimizer]
        rate = usual * math.sqrt(RATE_AT / self.hidden * self.batch_size / BATCH)
        least: float = self.asked.get("training.min_lr", 0.0)
        return max(float(f"{min(max(rate, lowest), highest):.2g}"), least)

    @property
    def weight_decay(self) -> float:
        """Of AdamW; in other optimizers the same number is a penalty in the gradient, and another thing."""
        return WEIGHT_DECAY if self.optimizer == "adamw" else 0.0

    def steps_in(self, seconds: float) -> int:
        """About as many as are taken in so many seconds."""
        return one_digit(self.speed / (self.batch_size * self.seq_len) * seconds, math.floor)

    @property
    def evaluations(self) -> int:
        """As many as the time allows, besides the one at the end."""
        cost = self.facts.validation / (self.speed * EVALUATION_SPEED) + EVALUATION_SECONDS
        return int(min(EVALUATION_SHARE * self.seconds / cost, MOST_EVALUATIONS))

    @property
    def eval_every(self) -> int:
        """Steps between two evaluations; for the end's to be the only one twice the expected: it may go faster."""
        return one_digit(self.steps / (self.evaluations + 1 if self.evaluations else 0.5), math.ceil)


def _reasons(plan: _Plan) -> Iterator[str]:
    asked, cell = plan.asked, plan.asked.get("model.cell", "lstm")
    model = f"{cell} {plan.layers} x {plan.hidden}{'' if plan.free else ' (as asked)'}"
    yield (
        f"{model}: in {plan.limit} this machine ({plan.speed:,.0f} characters per second at this size) reads the "
        f"{count(plan.facts.characters)} characters {times(plan.passes)} times"
    )
    larger = [size for size in SIZES if size.hidden > plan.hidden]
    if plan.free and larger:
        yield f"not {larger[0].hidden}: {plan.lacks(larger[0])}"
    places = zip(("input", "output"), plan.dropout, strict=True)
    dropout = [f"{share:g} on the {place}" for place, share in places if f"model.dropout.{place}" not in asked]
    if "model.dropout" not in asked and dropout:
        yield f"dropout {', '.join(dropout)}: {_why_dropout(plan)}"
    learning = {
        "training.batch_size": f"batch_size {plan.batch_size} ({_why_batch(plan)})",
        "training.lr": f"lr {plan.lr:g} ({_why_lr(plan)})",
        "training.weight_decay": f"weight_decay {plan.weight_decay:g}",
    }
    if free := [text for name, text in learning.items() if name not in asked]:
        yield ", ".join(free)
    if "run.eval_every" not in asked:
        often = f"every {plan.eval_every:,} steps: that takes {EVALUATION_SHARE:.0%} of the time at most"
        once = f"at the end only: another one would take more than {EVALUATION_SHARE:.0%} of the time"
        yield f"evaluated {often if plan.evaluations else once}"


def _why_dropout(plan: _Plan) -> str:
    passes, weights = times(plan.passes), times(plan.weights / plan.facts.characters)
    verb = "would" if any(plan.dropout) else "do not"
    return f"{passes} passes over the text with {weights} weights per character {verb} learn it by heart"


def _why_lr(plan: _Plan) -> str:
    if plan.lr == plan.asked.get("training.min_lr"):
        return "min_lr, where it is to end"
    of_sgd = " with sgd" if plan.optimizer == "sgd" else ""
    return f"{RATES[plan.optimizer][0]:g} at {RATE_AT} units and {BATCH} streams{of_sgd}"


def _why_batch(plan: _Plan) -> str:
    if plan.batch_size < BATCH:
        return f"more streams would be shorter than {WINDOWS_PER_STREAM} windows"
    return "more of them would leave too few steps"
