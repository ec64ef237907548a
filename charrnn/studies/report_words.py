"""How a run went, how far it learns back, and what it ran on, in the words of a report."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from charrnn.config.settings import shown
from charrnn.config.wording import symbol
from charrnn.runs.run import Run
from charrnn.studies.doctor.probes.through_time import Profile

BEGINNINGS = {
    "done": "Done after {}.",
    "running": "Still training, so far for {}.",
    "diverged": "Diverged after {}.",
    "interrupted": "Interrupted after {}.",
}
SHOWN_BACK = (1, 4, 16, 64)  # characters, or bytes


def verdict(run: Run) -> str:
    """The run in two sentences: how it stands, and the best loss."""
    spent = f"{run.history.steps:,} steps" + ("" if run.seconds is None else f" and {duration(run.seconds)}")
    best = run.best
    loss = "It has not been evaluated."
    if best is not None:
        loss = f"Its best validation loss is {_both_units(best['val_loss'], [run])}, at step {best['step']:,}."
    return f"{BEGINNINGS[run.state].format(spent)} {loss}"


def verdict_on_all(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Which of several runs has the lowest validation loss."""
    known = [(float(run.best["val_loss"]), name) for run, name in zip(runs, names, strict=True) if run.best]
    if not known:
        return "None of them has been evaluated."
    nats, name = min(known)
    return f"The lowest validation loss is that of {name}: {_both_units(nats, runs)}."


def _both_units(nats: float, runs: Sequence[Run]) -> str:
    return f"{nats:.4g} nats, or {nats / math.log(2):.4g} bits, per {_symbol(runs)}"


def _symbol(runs: Sequence[Run]) -> str:
    return symbol(run.config.corpus.vocabulary for run in runs)


def numbers(run: Run, runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What a table of ``runs`` says of one: best loss in both units, steps, time."""
    best = None if run.best is None else run.best["val_loss"]
    return [
        (f"best validation loss, nats per {_symbol(runs)}", "none yet" if best is None else f"{best:.4g}"),
        ("the same in bits", "none yet" if best is None else f"{best / math.log(2):.4g}"),
        ("steps", f"{run.history.steps:,}"),
        ("time", "none yet" if run.seconds is None else duration(run.seconds)),
    ]


def duration(seconds: float) -> str:
    """``31 s``, ``12 min 3 s``, ``1 h 2 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def reach_words(profile: Profile, seq_len: int, unit: str) -> str:
    """What the gradient through time shows, in numbers; ``unit`` is what the network reads: character or byte."""
    state = "hidden state" if profile.cell is None else "cell state"
    shares = profile.relative
    some = ", ".join(f"{shares[k]:.2g} at {k}" for k in SHOWN_BACK if k < len(shares))
    end = (
        f"stays above 1\u00a0% for all {len(shares) - 1} {unit}s looked back"
        if profile.reach is None
        else f"is below 1\u00a0% from {profile.reach} {unit}s back on"
    )
    return (
        f"The gradient of the loss with respect to the {state} some {unit}s back, as a share of that at the loss, "
        f"{end}: {some}. Training looks back over windows of {seq_len} {unit}s."
    )


def environment_words(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """What a run ran on and which text it read, line by line; nothing that was chosen, which stands elsewhere."""
    told = []
    for name, value in environment.items():
        if name == "command" and isinstance(value, list):
            told.append((name, shlex.join(map(str, value))))
        elif isinstance(value, dict):
            told += [(f"{name}: {inner}", _value(one)) for inner, one in value.items()]
        elif name not in ("chosen", "given"):
            told.append((name, _value(value)))
    return told


def _value(value: Any) -> str:
    return f"{value:,}" if type(value) is int else shown(value)
