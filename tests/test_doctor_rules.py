"""The rules: silent on a healthy training, and each at its threshold; what they say can be acted on."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click
import pytest

from charrnn.cli import cli
from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.runs.history import read_history
from charrnn.runs.metrics import Row
from charrnn.studies.doctor import rules
from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding
from charrnn.studies.doctor.probes.activity import Activity
from charrnn.studies.doctor.probes.numerics import Numerics
from charrnn.studies.doctor.probes.reading import Continuation, Reading
from charrnn.studies.doctor.probes.texts import Texts
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.doctor.rules import RULES, ask_rules, fit, gradients, mechanics, rates, state, texts, units
from charrnn.studies.doctor.trials import PLATEAU, Trials
from charrnn.text.encoded import SHORTEST as SHORTEST_TEXT

Rule = Callable[[Evidence], Finding | None]
NAN, INF = math.nan, math.inf
UNIFORM, UNIGRAM, BIGRAM, BATCH = 4.0, 3.0, 2.4, 3.2
JUST = 1e-3
INSIDE, BEYOND = 1 - JUST, 1 + JUST  # of a threshold that must not be exceeded


def a_config(*assignments: str) -> Config:
    return load_config(None, ["corpus.source=my.txt", "training.max_steps=1000", *assignments])


def tensors(**changes: Any) -> dict[str, dict[str, float]]:
    seen = {"grad_norm": 0.1, "weight_norm": 10.0, "update_ratio": 1e-3, "second_moment_ratio": 1.5, **changes}
    return {"embedding.weight": dict(seen), "decoder.bias": dict(seen)}


def log_rows(**changes: Any) -> list[Row]:
    """Twenty log lines of a training that learns; a change may be a function of the row's number."""
    rows = []
    for number in range(20):
        row: Row = {"step": 50 * (number + 1), "train_loss": 2.0 - 0.01 * number, "chars_per_sec": 1e4}
        row |= {"grad_norm_median": 0.5, "grad_norm_p99": 1.0, "clipped": 0.1, "taught_positions": 1.0}
        row |= {"carried_streams": 1.0, "optimizer_steps": row["step"], "loss_by_position": [2.0] * 16}
        row |= {"largest_logit": 9.0, "largest_state": 3.0, "tensors": tensors(), "zero_gradients": 0.0}
        row["train_loss_max"] = row["train_loss"] + 0.1
        rows.append(row | {key: value(number) if callable(value) else value for key, value in changes.items()})
    return rows


def evaluations(*losses: float) -> list[Row]:
    return [{"step": 500 * number, "val_loss": loss} for number, loss in enumerate(losses, start=1)]


def some_activity(**changes: Any) -> Activity:
    gates = [{"input": 0.1, "forget": 0.1, "output": 0.1}]
    return replace(Activity(gates, [0.0], 0.1, [0], 1000, 3.0), **changes)


def gates_at(share: float) -> Activity:
    return some_activity(gates=[{"input": share, "forget": share, "output": share}])


FADING = Profile([0.9**k for k in range(129)], [0.9**k for k in range(129)])
READING = Reading([3.0] * 4 + [2.0] * 252, [2.0] * 256, {-1: 8.0, 0: 8.0, 1: 2.0, 2: 4.0, 3: 4.0})
TRIALS = Trials(60, {"same": [2.5, 2.6], "lower rate": [2.8, 2.8], "higher rate": [2.7, INF]})
HEALTHY = Evidence(
    config_name="my.yaml",
    config=a_config(),
    history=read_history([*log_rows(), *evaluations(2.2, 2.1)]),
    characters=100_000,
    entropies={"uniform": UNIFORM, "unigram": UNIGRAM, "bigram": BIGRAM, "trigram": 1.5},
    texts=Texts(0.01, 0.0, 0, 0.02, 0.02),
    profile=FADING,
    activity=some_activity(),
    new_profile=FADING,
    new_activity=some_activity(),
    reading=READING,
    continuation=Continuation(100, 2.0, 2.02),
    numerics=Numerics(1e-7, 1e-6, 0.01),
    val_loss=2.1,
    val_loss_cold=2.11,
    start_loss=UNIFORM,
    memorised=[UNIFORM] + [2.0] * 50 + [0.1] * 49,
    batch_unigram=BATCH,
    trials=TRIALS,
)


def but(**changes: Any) -> Evidence:
    return replace(HEALTHY, **changes)


def logged(*more: Row, config: Any = HEALTHY.config, **changes: Any) -> Evidence:
    """With other log lines, and rows after them."""
    return but(history=read_history([*log_rows(**changes), *more]), config=config)


def set_to(*assignments: str) -> Evidence:
    return but(config=a_config(*assignments))


def unobserved() -> Evidence:
    """Of a bee of a batch: its log lines have losses and norms, and nothing of the inside of a step."""
    outside = ("step", "train_loss", "train_loss_max", "chars_per_sec", "grad_norm_median", "grad_norm_p99", "clipped")
    return but(history=read_history([{key: row[key] for key in outside} for row in log_rows()]))


def offsets(**changes: float) -> Evidence:
    values = {int(key.removeprefix("at_").replace("minus_", "-")): value for key, value in changes.items()}
    return but(reading=replace(READING, offsets=READING.offsets | values))


def profiles(**norms: list[float]) -> Evidence:
    return but(**{name: Profile(values, None) for name, values in norms.items()})


def spike(height: float) -> list[float]:
    return [1.0] * 20 + [height] + [1.0] * 80


def reaching(reach: int) -> list[float]:
    return [1.0] * reach + [0.0] * 50


def cut(share: float, seq_len: int = 64) -> list[float]:
    """A profile with this share from ``seq_len`` on."""
    return [1.0] * seq_len + [seq_len * share / (1 - share) / 30] * 30


def first_piece(excess: float, cold_cost: float) -> Evidence:
    """Windows of 64 in 16 pieces: the first four characters cost so much more in training, and so much when cold."""
    reading = replace(READING, cold=[2.0 + cold_cost] * 4 + [2.0] * 252)
    return replace(logged(loss_by_position=[2.0 + excess] + [2.0] * 15), reading=reading)


def learned_until(loss: float) -> Evidence:
    """With a state that is noise."""
    evidence = first_piece(1.0, 1.0)
    rows = [row | {"train_loss": loss} for row in evidence.history.logs]
    return replace(evidence, history=read_history(rows))


def lost(factor: float) -> Continuation:
    """A cold start that costs so many times the limit."""
    return Continuation(100, 2.0, 2.0 + state.COLD_COST * UNIGRAM * factor)


def tried(**losses: list[float]) -> Evidence:
    return but(trials=Trials(60, TRIALS.losses | {name.replace("_", " "): loss for name, loss in losses.items()}))


def with_momentum(gain: float, *assignments: str) -> Evidence:
    return replace(tried(less_momentum=[2.5 - gain, 2.6 - gain]), config=a_config(*assignments))


def with_decay(gain: float, optimizer: str, decay: float) -> Evidence:
    settings = (f"training.optimizer={optimizer}", f"training.weight_decay={decay}")
    return replace(tried(less_decay=[2.5 - gain, 2.6 - gain]), config=a_config(*settings))


def lagging(ratio: float, climb: float, before: float = 2.0) -> Evidence:
    """At the twelfth line the second moment lags; the loss rises from ``before`` to ``climb`` times that there."""
    return logged(
        train_loss=lambda number: before * climb if number >= 11 else before,
        tensors=lambda number: tensors(second_moment_ratio=ratio if number == 11 else 1.0),
    )


def trained_to(loss: float, **changes: Any) -> Evidence:
    return replace(logged(train_loss=loss), **changes)


def scored(last: float, train_loss: float = 1.0) -> Evidence:
    return logged(*evaluations(2.3, 2.0, last), train_loss=train_loss)


RATE_LIMIT = rates.CLEAR_GAIN * UNIGRAM
COLD_LIMIT = state.COLD_EXCESS * UNIGRAM
WORST_FIT = 2.0 + fit.WORSE * UNIGRAM
SHORTEST = gradients.SHORT_REACH
STEPS = {"optimizer_steps": lambda number: 50 * (number + 1) - 3}
LOST = {"optimizer_steps": lambda number: 50 * (number + 1) - 4}
LATE = {"step": 1000, "steps_not_finite": 3}
SGD = ("training.optimizer=sgd", "training.momentum=0.99")
ADAM = ("training.betas=[0.99,0.9]",)
NEVER = gradients.NEVER_FACTOR


@dataclass(frozen=True)
class Case:
    """``inside`` the threshold the rule is silent, ``beyond`` it finds ``name``."""

    rule: Rule
    name: str
    inside: Evidence
    beyond: Evidence
    says: str = ""  # in the beyond's title, measured or command


def misaligned_cases() -> list[Case]:
    limit = mechanics.MISALIGNED_BELOW * 2.0
    return [
        Case(
            mechanics.misaligned,
            "targets-misaligned",
            offsets(**{key: limit * BEYOND}),
            offsets(**{key: limit * INSIDE}),
            which,
        )
        for key, which in (
            ("at_minus_1", "the character before"),
            ("at_0", "the character that it reads"),
            ("at_2", "the character 2 places on"),
            ("at_3", "the character 3 places on"),
        )
    ] + [
        Case(  # what is worse than counting letters is no prediction of anything
            mechanics.misaligned,
            "targets-misaligned",
            offsets(at_1=9.0, at_2=mechanics.MISALIGNED_BELOW * UNIGRAM * BEYOND),
            offsets(at_1=9.0, at_2=mechanics.MISALIGNED_BELOW * UNIGRAM * INSIDE),
        )
    ]


def jump(height: float) -> dict[str, Any]:
    """A gradient norm of so many times the usual one in the eighth line, and a loss that shows it."""
    return {
        "grad_norm_p99": lambda number: 0.5 * height if number == 7 else 0.5,
        "train_loss_max": lambda number: 9.0 if number == 7 else 2.0,
    }


def clipping_cases() -> list[Case]:
    clip = 1.0
    norm = gradients.RULES_FACTOR * clip
    rules_now = {"grad_norm_median": norm * BEYOND, "grad_norm_p99": 30.0, "clipped": gradients.RULES_SHARE + JUST}
    weak, of_sgd = ("training.grad_clip=30", "training.optimizer=sgd"), a_config("training.optimizer=sgd")
    return [
        *(
            Case(
                gradients.clipping,
                "clipping-never",
                logged(clipped=0.0, config=config, **jump(gradients.SPIKE * INSIDE)),
                logged(clipped=0.0, config=config, **jump(gradients.SPIKE * BEYOND)),
            )
            for config in (HEALTHY.config, a_config("training.grad_clip=null"))
        ),
        Case(
            gradients.clipping,
            "clipping-never",
            logged(**jump(gradients.SPIKE * BEYOND)),
            logged(clipped=0.0, **jump(gradients.SPIKE * BEYOND)),
        ),
        Case(
            gradients.clipping,
            "clipping-never",
            logged(clipped=0.0, config=a_config("training.grad_clip=null")),
            logged(LATE, clipped=0.0, config=a_config("training.grad_clip=null")),
        ),
        Case(
            gradients.clipping,
            "clipping-rules",
            logged(config=of_sgd, **rules_now | {"grad_norm_median": norm * INSIDE}),
            logged(config=of_sgd, **rules_now),
        ),
        Case(
            gradients.clipping,
            "clipping-rules",
            logged(config=of_sgd, **rules_now | {"clipped": gradients.RULES_SHARE - JUST}),
            logged(config=of_sgd, **rules_now),
        ),
        Case(gradients.clipping, "clipping-rules", logged(**rules_now), logged(config=of_sgd, **rules_now)),
        Case(
            gradients.clipping,
            "clipping-never",
            logged(grad_norm_p99=30 / NEVER * INSIDE, clipped=0.0, config=a_config(weak[0])),
            logged(grad_norm_p99=30 / NEVER * INSIDE, clipped=0.0, config=a_config(*weak)),
        ),
        Case(
            gradients.clipping,
            "clipping-never",
            logged(grad_norm_p99=30 / NEVER * BEYOND, clipped=0.0, config=a_config(*weak)),
            logged(grad_norm_p99=30 / NEVER * INSIDE, clipped=0.0, config=a_config(*weak)),
        ),
        Case(
            gradients.clipping,
            "clipping-never",
            logged(grad_norm_p99=lambda number: 30 / NEVER * (BEYOND if number == 0 else 0.1), config=a_config(*weak)),
            logged(grad_norm_p99=30 / NEVER * 0.1, grad_norm_median=0.0, config=a_config(*weak)),
        ),
    ]


def profile_cases() -> list[Case]:
    grow, vanish = "exploding-gradients", "vanishing-gradients"
    found = []
    asked = {"profile": gradients.through_time, "new_profile": gradients.through_time_at_start}
    for which, rule in asked.items():
        for name, inside, beyond in (
            (grow, spike(gradients.GROWS * INSIDE), spike(gradients.GROWS * BEYOND)),
            (grow, spike(1.0), spike(INF)),
            (grow, spike(1.0), spike(NAN)),
            (grow, spike(1.0), [NAN] * 100),
            (vanish, reaching(SHORTEST + 1), reaching(SHORTEST)),
        ):
            says = " of a new network" if which == "new_profile" else ""
            one, other = profiles(**{which: inside}), profiles(**{which: beyond})
            found.append(Case(rule, name, one, other, says))
    short = a_config(f"training.seq_len={SHORTEST - 1}")  # nothing reaches further than its windows
    one, other = (replace(profiles(profile=reaching(reach)), config=short) for reach in (SHORTEST, SHORTEST - 1))
    through_hidden = [
        Case(
            rule,
            vanish,
            but(**{which: Profile(reaching(2), FADING.cell)}),
            but(**{which: Profile(reaching(1), FADING.cell)}),
            "of the hidden state alone",
        )
        for which, rule in asked.items()
    ]
    return [*found, *through_hidden, Case(gradients.through_time, vanish, one, other)]


def state_cases() -> list[Case]:
    noise = state.NOISE * 1.0
    assert noise > COLD_LIMIT, "else the second number decides"
    return [
        Case(
            state.carried_state,
            "state-never-carried",
            logged(carried_streams=state.CARRIED * BEYOND),
            logged(carried_streams=state.CARRIED * INSIDE),
        ),
        Case(
            state.carried_state,
            "state-never-carried",
            set_to(f"training.state_reset={state.CARRIED * INSIDE}"),
            set_to(f"training.state_reset={state.CARRIED}"),
        ),
        Case(
            state.carried_state,
            "state-is-noise",
            first_piece(noise * INSIDE, 1.0),
            first_piece(noise * BEYOND, 1.0),
            "the first 4 of 64",
        ),
        Case(
            state.carried_state,
            "state-is-noise",
            first_piece(COLD_LIMIT * INSIDE, COLD_LIMIT),
            first_piece(COLD_LIMIT * BEYOND, COLD_LIMIT),
        ),
        Case(state.carried_state, "state-is-noise", first_piece(1.0, -0.1), first_piece(1.0, 0.1)),
        Case(
            state.carried_state,
            "state-is-noise",
            learned_until(UNIGRAM * BEYOND),
            learned_until(UNIGRAM * INSIDE),
        ),
        Case(
            state.cold_state,
            "state-never-cold",
            but(val_loss_cold=2.1 + COLD_LIMIT * INSIDE),
            but(val_loss_cold=2.1 + COLD_LIMIT * BEYOND),
        ),
        Case(
            state.cold_state,
            "state-never-cold",
            but(continuation=lost(INSIDE), config=a_config("training.state_reset=0.019")),
            but(continuation=lost(BEYOND), config=a_config("training.state_reset=0.019")),
        ),
        Case(  # often reset: it has lost its place in a text that it knows by heart
            state.cold_state,
            "state-never-cold",
            but(continuation=lost(BEYOND), config=a_config("training.state_reset=0.02")),
            but(continuation=lost(BEYOND), config=a_config("training.state_reset=0.019")),
        ),
    ]


def rate_cases() -> list[Case]:
    def losses(gain: float) -> list[float]:
        return [2.5 - gain, 2.6 - gain]

    near, far = losses(RATE_LIMIT * INSIDE), losses(RATE_LIMIT * BEYOND)
    return [
        Case(rates.rate, "rate-too-high", tried(lower_rate=near), tried(lower_rate=far), "too high"),
        Case(rates.rate, "rate-too-low", tried(higher_rate=near), tried(higher_rate=far), "too low"),
        Case(rates.rate, "rate-too-high", tried(same=[2.5, INF]), tried(same=[INF, INF]), "diverged at the rate"),
        *(
            Case(
                rates.momentum,
                "too-much-momentum",
                with_momentum(RATE_LIMIT * INSIDE, *settings),
                with_momentum(RATE_LIMIT * BEYOND, *settings),
                fixed,
            )
            for settings, fixed in ((SGD, "training.momentum=0.9"), (ADAM, "training.betas=[0.9,0.9]"))
        ),
        *(
            Case(
                rates.decay,
                "too-much-decay",
                with_decay(RATE_LIMIT * INSIDE, *setting),
                with_decay(RATE_LIMIT * BEYOND, *setting),
                fixed,
            )
            for setting, fixed in (
                (("adam", 0.1), "training.weight_decay=0"),
                (("sgd", 0.01), "training.weight_decay=0"),
                (("adamw", 10.0), "training.weight_decay=0.1"),
            )
        ),
        *(
            Case(
                rates.second_moment, "second-moment-lags", inside, lagging(rates.LAGGING * BEYOND, rates.CLIMB * BEYOND)
            )
            for inside in (
                lagging(rates.LAGGING * INSIDE, rates.CLIMB * BEYOND),
                lagging(rates.LAGGING * BEYOND, rates.CLIMB * INSIDE),
                lagging(rates.LAGGING * BEYOND, rates.CLIMB * BEYOND, before=UNIGRAM * BEYOND),
                lagging(rates.LAGGING * BEYOND, 2.0, before=gradients.HARM * UNIGRAM * INSIDE),
            )
        ),
    ]


def unit_cases() -> list[Case]:
    rough, coarse = units.ROUGH_GRADIENT, units.COARSE
    start, now, dead = units.SATURATED_START, units.SATURATED, round(1000 * units.DEAD)
    stuck, zero = units.STUCK_START, units.VANISHED
    poor = {"config": HEALTHY.config, "train_loss": BIGRAM * BEYOND}
    return [
        Case(
            units.initialisation,
            "bad-initialisation",
            but(start_loss=units.HIGH_START * UNIFORM * INSIDE),
            but(start_loss=units.HIGH_START * UNIFORM * BEYOND),
        ),
        Case(
            units.saturation_at_start,
            "saturated-gates",
            but(new_activity=gates_at(start)),
            but(new_activity=gates_at(start * BEYOND)),
        ),
        Case(
            units.saturation_at_start,
            "saturated-gates",
            but(new_activity=some_activity(stuck=stuck)),
            but(new_activity=some_activity(stuck=stuck * BEYOND)),
        ),
        Case(
            units.precision,
            "precision",
            logged(zero_gradients=zero),
            logged(zero_gradients=zero * BEYOND),
        ),
        Case(
            units.precision,
            "precision",
            logged(zero_gradients=1.0, config=a_config("model.cell=rnn_relu")),
            logged(zero_gradients=1.0, config=a_config("model.cell=rnn_tanh")),
        ),
        Case(
            units.precision,
            "precision",
            but(numerics=Numerics(1.0, 1.0, 0.0), profile=Profile(spike(gradients.GROWS * BEYOND), None)),
            but(numerics=Numerics(1.0, 1.0, 0.0), profile=Profile(spike(gradients.GROWS * INSIDE), None)),
        ),
        Case(
            units.saturation,
            "saturated-gates",
            replace(logged(**poor), activity=gates_at(now)),
            replace(logged(**poor), activity=gates_at(now * BEYOND)),
        ),
        Case(
            units.saturation,
            "saturated-gates",
            trained_to(BIGRAM * INSIDE, activity=gates_at(1.0)),
            trained_to(BIGRAM * BEYOND, activity=gates_at(1.0)),
        ),
        *(
            Case(
                units.dead_units,
                "dead-units",
                but(activity=some_activity(dead=[dead]), config=a_config(f"model.cell={cell}")),
                but(activity=some_activity(dead=[dead + 1]), config=a_config(f"model.cell={cell}")),
                "model.cell=rnn_tanh" if cell == "rnn_relu" else "",
            )
            for cell in ("lstm", "rnn_relu")
        ),
        Case(
            units.precision,
            "precision",
            but(numerics=Numerics(1e-7, rough * INSIDE, 0.0)),
            but(numerics=Numerics(1e-7, rough * BEYOND, 0.0)),
        ),
        Case(
            units.precision,
            "precision",
            but(numerics=Numerics(1e-7, 1e-7, coarse * INSIDE)),
            but(numerics=Numerics(1e-7, 1e-7, coarse * BEYOND)),
        ),
    ]


def fit_cases() -> list[Case]:
    known = UNIGRAM * PLATEAU
    few = read_history([row | {"step": fit.FEWEST_STEPS - 1} for row in log_rows(train_loss=UNIGRAM)])
    last, bound = fit.NOT_MEMORISED * BATCH, rates.CLEAR_GAIN * UNIGRAM
    return [
        Case(
            fit.overfitting, "overfitting", scored(WORST_FIT * INSIDE), scored(WORST_FIT * BEYOND), "since step 1,000"
        ),
        Case(
            fit.overfitting,
            "overfitting",
            scored(WORST_FIT * BEYOND, train_loss=WORST_FIT * BEYOND + JUST),
            scored(WORST_FIT * BEYOND, train_loss=WORST_FIT),
        ),
        Case(
            fit.too_small,
            "underfitting",
            but(memorised=[UNIFORM] + [last * INSIDE] * 60),
            but(memorised=[UNIFORM] + [last * BEYOND] * 60),
        ),
        Case(  # wherever it begins
            fit.too_small,
            "underfitting",
            but(memorised=[1.1 * last] + [last * INSIDE] * 60),
            but(memorised=[3 * UNIFORM] + [last * BEYOND] * 60),
        ),
        Case(  # nearly one character over and over
            fit.too_small,
            "underfitting",
            but(memorised=[UNIFORM] + [bound * INSIDE] * 60, batch_unigram=0.01),
            but(memorised=[UNIFORM] + [bound * BEYOND] * 60, batch_unigram=0.01),
        ),
        Case(fit.unigram_plateau, "unigram-plateau", trained_to(known * INSIDE), trained_to(known * BEYOND)),
        Case(fit.unigram_plateau, "unigram-plateau", but(history=few), trained_to(UNIGRAM)),
        Case(  # what diverges on a batch is not small
            fit.too_small,
            "underfitting",
            but(memorised=[UNIFORM] + [UNIFORM * BEYOND] * 60),
            but(memorised=[UNIFORM] + [UNIFORM * INSIDE] * 60),
        ),
    ]


CASES = [
    *misaligned_cases(),
    Case(
        mechanics.last_character_only,
        "last-character-only",
        logged(taught_positions=0.995),
        logged(taught_positions=1 / 64),
        "1.6%",
    ),
    Case(mechanics.optimizer_reset, "optimizer-reset", logged(LATE, **STEPS), logged(LATE, **LOST)),
    Case(
        mechanics.optimizer_reset,
        "optimizer-reset",
        HEALTHY,
        logged(optimizer_steps=lambda number: 50 * (number + 1) - (number in (7, 12))),
        "before step 400",
    ),
    Case(
        mechanics.frozen,
        "frozen-parameters",
        logged(tensors=tensors(update_ratio=mechanics.STILL * BEYOND)),
        logged(tensors=tensors(update_ratio=mechanics.STILL * INSIDE)),
        "decoder.bias, embedding.weight",
    ),
    Case(mechanics.diverged, "diverged", HEALTHY, logged(LATE), "before step 1,000"),
    *clipping_cases(),
    *profile_cases(),
    Case(
        gradients.truncation,
        "truncation-too-short",
        profiles(profile=cut(gradients.CUT * INSIDE)),
        profiles(profile=cut(gradients.CUT * BEYOND)),
    ),
    *state_cases(),
    *rate_cases(),
    *unit_cases(),
    *fit_cases(),
    Case(
        texts.too_short,
        "text-too-short",
        but(characters=SHORTEST_TEXT),
        but(characters=SHORTEST_TEXT - 1),
        "999 characters",
    ),
    Case(
        texts.foreign_text,
        "validation-unlike-training",
        but(texts=Texts(texts.FOREIGN, 0, 0, 0, 0)),
        but(texts=Texts(texts.FOREIGN * BEYOND, 0, 0, 0, 0)),
    ),
    Case(
        texts.unseen_characters,
        "unseen-characters",
        but(texts=Texts(0, texts.UNSEEN, 1, 0, 0)),
        but(texts=Texts(0, texts.UNSEEN * BEYOND, 1, 0, 0)),
    ),
    *(
        Case(
            texts.duplicates,
            "duplicates",
            but(texts=Texts(0, 0, 0, repeats + texts.DUPLICATED * INSIDE, repeats)),
            but(texts=Texts(0, 0, 0, repeats + texts.DUPLICATED * BEYOND, repeats)),
        )
        for repeats in (0.0, 0.4)
    ),
]


def check_command(command: str) -> None:
    """It can be given as it is: such a command, such options, such settings."""
    words = shlex.split(command, comments=True)
    assert words[0] == "charrnn"
    assert "nan" not in command
    assert "inf" not in command
    group: click.Command = cli
    rest = words[1:]
    above = click.Context(cli, help_option_names=["-h", "--help"])  # commands remember the names that they see first
    while isinstance(group, click.Group):
        assert rest[0] in group.commands, command
        group, rest = group.commands[rest[0]], rest[1:]
    context = group.make_context(group.name, list(rest), parent=above)  # raises for an option that there is not
    assert context.params.get("config_name", "my.yaml") == "my.yaml"
    load_config(None, ["corpus.source=my.txt", "training.max_steps=1000", *context.params.get("assignments", ())])


def check_problem(finding: Finding) -> None:
    assert finding.problem
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", finding.name)
    assert finding.title.endswith(".")
    assert finding.title[0].isupper()
    assert re.search(r"\d", finding.measured)
    assert re.search(r"\d", finding.threshold) or finding.name in WITHOUT_NUMBER
    assert len(finding.meaning) > 30
    assert finding.meaning.endswith(".")
    check_command(finding.command)


# Where the threshold is that it must not happen at all.
WITHOUT_NUMBER = {"diverged", "last-character-only", "optimizer-reset"}


def number(case: Case) -> str:
    return f"{case.rule.__name__}-{case.name}"


class TestHealthy:
    @pytest.mark.parametrize("rule", RULES)
    def test_silent(self, rule: Rule) -> None:
        finding = rule(HEALTHY)
        if finding is not None:
            assert not finding.problem
            assert finding.title.endswith(".")
            assert re.search(r"\d", finding.measured)
            assert finding.threshold
            assert (finding.meaning, finding.command) == ("", "")

    def test_most_have_good_news(self) -> None:
        silent = [rule.__name__ for rule in RULES if rule(HEALTHY) is None]
        assert set(silent) == {"saturation_at_start", "through_time_at_start", "momentum", "decay", "diverged"}
        names = [finding.name for rule in RULES if (finding := rule(HEALTHY))]
        assert len(set(names)) == len(names)


class TestThresholds:
    @pytest.mark.parametrize("case", CASES, ids=number)
    def test_inside(self, case: Case) -> None:
        finding = case.rule(case.inside)
        assert finding is None or not finding.problem, finding

    @pytest.mark.parametrize("case", CASES, ids=number)
    def test_beyond(self, case: Case) -> None:
        finding = case.rule(case.beyond)
        assert finding is not None
        assert finding.name == case.name
        check_problem(finding)
        assert case.says in f"{finding.title} {finding.measured} {shlex.split(finding.command, comments=True)}"

    @pytest.mark.parametrize("rule", RULES)
    def test_every_rule_has_a_case(self, rule: Rule) -> None:
        assert any(case.rule is rule for case in CASES)

    @pytest.mark.parametrize("case", CASES, ids=number)
    def test_numbers_of_bytes_are_not_called_characters(self, case: Case) -> None:
        for evidence in (case.inside, case.beyond):
            corpus = evidence.config.corpus.model_copy(update={"vocabulary": "bytes"})
            finding = case.rule(replace(evidence, config=evidence.config.model_copy(update={"corpus": corpus})))
            if finding is not None:
                assert "character" not in f"{finding.measured} {finding.threshold}"


class TestTargets:
    def test_the_next_character_is_the_least_only_if_it_is(self) -> None:
        least, unclear = mechanics.misaligned(HEALTHY), mechanics.misaligned(offsets(at_minus_1=1.95))
        assert least is not None
        assert unclear is not None
        assert least.measured == "2.00 nats on it, the least of all"
        assert unclear.measured == "2.00 nats on it, 1.95 on the character before: no clear difference"
        assert not unclear.problem


class TestOnlyTheCause:
    """What follows from a fault that another rule names is not named as well."""

    def test_no_rate_is_too_low_for_a_text_that_is_known_by_heart(self) -> None:
        """A higher one would get there sooner, and could not get lower."""
        tried = replace(TRIALS, losses=TRIALS.losses | {"higher rate": [0.5, 0.5]})
        unknown, known = (replace(logged(train_loss=RATE_LIMIT * one), trials=tried) for one in (BEYOND, INSIDE))
        finding = rates.rate(unknown)
        assert finding is not None
        assert finding.problem
        assert rates.rate(known) is None

    def test_no_setting_helps_a_text_that_is_too_short(self) -> None:
        """Not a rate at which it is known by heart sooner; and a few characters to validate on show nothing."""
        tried = replace(TRIALS, losses=TRIALS.losses | {"higher rate": [0.5, 0.5]})
        short, long = (but(characters=count, trials=tried, val_loss_cold=3.0) for count in (999, 1000))
        for rule in (rates.rate, state.cold_state):
            finding = rule(long)
            assert finding is not None
            assert finding.problem
            assert rule(short) is None

    def test_a_rate_far_too_low_makes_no_network_too_small(self) -> None:
        learns = tried(same=[UNIGRAM] * 2, higher_rate=[UNIGRAM - 1] * 2)
        slow = replace(learns, memorised=[UNIFORM] * 100)
        far = replace(slow, trials=replace(slow.trials, higher_factor=64.0))
        assert fit.too_small(far) is None
        for other in (slow, replace(far, trials=replace(TRIALS, higher_factor=64.0))):
            found = fit.too_small(other)
            assert found is not None
            assert found.name == "underfitting"

    @pytest.mark.parametrize(("gain", "says"), [(1.0, False), (0.0, True)])
    def test_too_much_decay_makes_no_network_too_small(self, gain: float, says: bool) -> None:
        """The batch is tried at the rate that was best under it."""
        evidence = replace(with_decay(gain, "adam", 0.1), memorised=[UNIFORM] * 100)
        assert (fit.too_small(evidence) is not None) == says

    def test_zero_gradients_of_a_training_that_diverged_are_no_rounding(self) -> None:
        coarse = logged(zero_gradients=1.0)
        found = units.precision(coarse)
        assert found is not None
        assert found.problem
        end = {"step": 300, "steps_not_finite": 3}
        diverged = units.precision(replace(coarse, history=read_history([*log_rows(zero_gradients=1.0), end])))
        assert diverged is not None
        assert not diverged.problem

    def test_truncation_where_nothing_was_learned(self) -> None:
        long = profiles(profile=[1.0] * 200)
        found = gradients.truncation(long)
        assert found is not None
        assert found.problem
        unlearned = [row | {"train_loss": UNIGRAM} for row in log_rows()]
        assert gradients.truncation(replace(long, history=read_history(unlearned))) is None

    def test_one_evaluation_shows_what_is_known_by_heart(self) -> None:
        once = but(history=read_history([*log_rows(), *evaluations(2.2)]))
        limit = once.train_loss + fit.FAR_APART * UNIGRAM
        assert fit.overfitting(replace(once, val_loss=limit * INSIDE)) is None
        found = fit.overfitting(replace(once, val_loss=limit * BEYOND))
        assert found is not None
        assert (found.name, found.title) == ("overfitting", "It knows the training text by heart.")
        assert "model.dropout=0.3" in found.command

    @pytest.mark.parametrize(("trigram", "says"), [(0.96, "and nothing else"), (0.98, "hardly more to learn")])
    def test_a_text_of_chance(self, trigram: float, says: str) -> None:
        rows = [row | {"train_loss": UNIGRAM} for row in log_rows()]
        text = HEALTHY.entropies | {"trigram": trigram * UNIGRAM}
        found = fit.unigram_plateau(but(history=read_history(rows), entropies=text))
        assert found is not None
        assert says in found.title


class TestUnseenCharacters:
    @pytest.mark.parametrize(
        ("setting", "says"),
        [
            ("corpus.min_count=9", "charrnn train --config my.yaml --set corpus.min_count=10"),
            ("corpus.min_count=10", "charrnn corpus stats my.txt"),
            ("corpus.min_count=50", "charrnn corpus stats my.txt"),
            ("corpus.vocabulary=bytes", "charrnn corpus stats my.txt"),
        ],
    )
    def test_what_helps(self, setting: str, says: str) -> None:
        finding = texts.unseen_characters(replace(set_to(setting), texts=Texts(0, 1, 1, 0, 0)))
        assert finding is not None
        assert finding.command.startswith(says)

    def test_what_is_frequent_is_never_rare(self) -> None:
        for count, helps in ((8, True), (9, False)):
            finding = texts.unseen_characters(but(texts=Texts(0, 1, 1, 0, 0, unseen_most=count)))
            assert finding is not None
            assert ("min_count" in finding.command) is helps


LATE_ONLY = but(history=read_history([{"step": 3, "steps_not_finite": 3}]))


class TestNothingToSay:
    @pytest.mark.parametrize(
        ("rule", "evidence"),
        [
            *((rule, but(history=read_history([]))) for rule in (mechanics.last_character_only, mechanics.frozen)),
            *((rule, LATE_ONLY) for rule in (mechanics.last_character_only, mechanics.frozen, rates.second_moment)),
            *((rule, LATE_ONLY) for rule in (state.carried_state, gradients.clipping, fit.unigram_plateau)),
            *((rule, LATE_ONLY) for rule in (mechanics.optimizer_reset, fit.overfitting)),
            (mechanics.diverged, HEALTHY),
            (mechanics.optimizer_reset, but(history=read_history([{"step": 1, "train_loss": 2.0}]))),
            (gradients.clipping, set_to("training.grad_clip=null")),
            (rates.second_moment, replace(lagging(1e6, 2.0), config=a_config("training.optimizer=sgd"))),
            (rates.momentum, HEALTHY),
            (fit.overfitting, logged(*evaluations(2.0))),
            (state.carried_state, logged(loss_by_position=[2.0])),
            (
                state.carried_state,
                but(history=read_history(log_rows()[: 2 * state.FEWEST_ROWS - 3])),
            ),
            (rates.rate, tried(same=[INF, INF], lower_rate=[INF, INF], higher_rate=[INF, INF])),
            (mechanics.misaligned, offsets(at_minus_1=NAN)),
            (mechanics.misaligned, offsets(at_1=NAN)),
            (state.cold_state, but(val_loss=NAN, val_loss_cold=NAN)),
            (units.precision, but(numerics=Numerics(NAN, NAN, 0.0))),
            (fit.too_small, but(memorised=[UNIFORM] + [NAN] * 60)),
            (gradients.truncation, profiles(profile=[NAN] * 100)),
        ],
    )
    def test_where_there_are_no_data(self, rule: Rule, evidence: Evidence) -> None:
        assert rule(evidence) is None

    def test_a_network_that_overflowed(self) -> None:
        """Where nothing is a number there is no telling: only what is plain is said, and nothing falls over."""
        evidence = replace(
            LATE_ONLY,
            profile=Profile([NAN] * 129, [NAN] * 129),
            reading=Reading([NAN] * 256, [NAN] * 256, dict.fromkeys((-1, 0, 1, 2, 3), NAN)),
            numerics=Numerics(NAN, NAN, 0.0),
            val_loss=NAN,
            val_loss_cold=NAN,
            memorised=[UNIFORM] + [NAN] * 99,
            trials=Trials(60, {"same": [INF, INF], "lower rate": [INF, INF], "higher rate": [INF, INF]}),
        )
        found = [finding.name for rule in RULES if (finding := rule(evidence)) and finding.problem]
        assert sorted(found) == ["diverged", "exploding-gradients"]

    @pytest.mark.parametrize("rule", RULES)
    def test_a_bee_of_a_batch(self, rule: Rule) -> None:
        finding = rule(unobserved())
        assert finding is None or not finding.problem
        assert finding is None or "nan" not in finding.measured

    def test_a_bee_s_clipping_is_in_its_log_lines(self) -> None:
        finding = gradients.clipping(unobserved())
        assert finding is not None
        assert finding.measured == "norm 0.5 in the middle, 1 at most; 10% of the steps clipped to 1"

    @pytest.mark.parametrize("rule", RULES)
    def test_one_that_diverged_before_its_first_log_line(self, rule: Rule) -> None:
        late = read_history([*evaluations(2.1, 3.0), {"step": 1003, "steps_not_finite": 3}])
        for clip in ("null", "1"):
            exploding = {"profile": Profile(spike(INF), None), "new_profile": Profile(spike(INF), None)}
            for more in ({}, exploding, {"continuation": Continuation(0, NAN, NAN)}):
                finding = rule(but(history=late, config=a_config(f"training.grad_clip={clip}"), **more))
                assert finding is None or not re.search(r"\bnan\b", finding.measured)

    @pytest.mark.parametrize(
        ("foreign", "words"), [(0.031, "0.03 nats worse on the"), (-0.031, "0.03 nats better on the")]
    )
    def test_better_and_worse(self, foreign: float, words: str) -> None:
        assert words in texts.foreign_text(but(texts=replace(HEALTHY.texts, foreign=foreign))).measured

    @pytest.mark.parametrize(
        ("seq_len", "first", "words"),
        [
            (
                16,
                2.1,
                "the first of 16 characters of a window costs 0.10 nats more than the others; from a zero state ",
            ),
            (
                16,
                1.9,
                "the first of 16 characters of a window costs 0.10 nats less than the others; from a zero state ",
            ),
            (
                64,
                2.1,
                "the first 4 of 64 characters of a window cost 0.10 nats more than the others; from a zero state ",
            ),
        ],
    )
    def test_how_a_window_begins(self, seq_len: int, first: float, words: str) -> None:
        config = a_config(f"training.seq_len={seq_len}")
        finding = state.carried_state(logged(config=config, loss_by_position=[first] + [2.0] * 15))
        assert finding is not None
        assert finding.measured.startswith(words)
        assert finding.measured.endswith("1.00 nats more")

    @pytest.mark.parametrize(("cold", "words"), [(2.113, "0.013 nats more"), (2.087, "0.013 nats less")])
    def test_a_cold_start(self, cold: float, words: str) -> None:
        finding = state.cold_state(but(val_loss_cold=cold))
        assert finding is not None
        assert f"on the validation text {words} from a cold start" in finding.measured

    def test_no_jump_is_told_where_there_was_none(self) -> None:
        finding = gradients.clipping(logged(LATE, clipped=0.0, config=a_config("training.grad_clip=null")))
        assert finding is not None
        assert finding.measured == "norm 0.5 in the middle, 1 at most; none clipped"

    def test_a_second_moment_that_lagged_to_no_harm(self) -> None:
        finding = rates.second_moment(lagging(1e6, 1.0))
        assert finding is not None
        assert finding.title == "Adam's second moment lagged, and did no harm."

    def test_a_parameter_that_adam_does_not_know(self) -> None:
        """Frozen ones have no second moment; what overflowed is null."""
        for seen in ({"second_moment_ratio": None}, {}):
            others = {"embedding.weight": {"update_ratio": 0.0, **seen}, "decoder.bias": {"update_ratio": 0.1}}
            finding = rates.second_moment(logged(tensors=others))
            assert finding is not None
            assert not finding.problem


class TestCommands:
    @pytest.mark.parametrize("case", CASES, ids=number)
    def test_of_a_config_that_was_changed(self, case: Case) -> None:
        """The advice is for what was examined: the options that made it are part of the command."""
        name = shlex.join(["my config.yaml", "--set", "training.seed=3", "--data", "my text.txt"])
        source = case.beyond.config.corpus.model_copy(update={"source": "my text.txt"})
        config = case.beyond.config.model_copy(update={"corpus": source})
        finding = case.rule(replace(case.beyond, config_name=name, config=config))
        assert finding is not None
        words = shlex.split(finding.command, comments=True)
        if words[1] == "corpus":
            assert words == ["charrnn", "corpus", "stats", "my text.txt"]
        else:
            assert words[2:8] == ["--config", *shlex.split(name)]

    def test_a_shell_leaves_them_alone(self) -> None:
        assert HEALTHY.command() == "charrnn train --config my.yaml"
        command = HEALTHY.command("training.lr=0.1", "training.betas=[0.9,0.95]")
        assert command == "charrnn train --config my.yaml --set training.lr=0.1 --set 'training.betas=[0.9,0.95]'"

    def test_what_is_replaced_is_left_out(self) -> None:
        named = but(config_name="'my config.yaml' --set training.lr=0.5 --seed 3 --set 'training.betas=[0.5, 0.9]'")
        kept = "charrnn train --config 'my config.yaml' --seed 3 --set 'training.betas=[0.5, 0.9]'"
        assert named.command("training.lr=0.1") == f"{kept} --set training.lr=0.1"

    def test_what_would_change_nothing_is_not_advised(self) -> None:
        """The settings are so already, or nothing reads them; a search for the rate is left."""
        usual = ("model.recurrent_init=orthogonal", "model.forget_bias=1", "model.dropout.output=0")
        assert HEALTHY.command(*usual) == "charrnn lr-find --config my.yaml"
        other = set_to("model.cell=gru", "model.recurrent_init=uniform")
        assert other.command(*usual).endswith("my.yaml --set model.recurrent_init=orthogonal")

    @pytest.mark.parametrize(
        ("now", "more"),
        [
            ("0", ["model.dropout=0.3"]),
            ("{output: 0.5}", ["model.dropout.output=0.7"]),
            ("{input: 0.1, between: 0.8, output: 0.7}", ["model.dropout.input=0.3", "model.dropout.output=0.8"]),
            ("0.8", []),
            ("{input: 0.9, output: 0.1}", ["model.dropout.output=0.3"]),
        ],
    )
    def test_never_less_dropout_against_overfitting(self, now: str, more: list[str]) -> None:
        history = read_history([*log_rows(), *evaluations(2.0, 2.5)])
        finding = fit.overfitting(replace(set_to(f"model.dropout={now}"), history=history))
        assert finding is not None
        assignments = [word for word in shlex.split(finding.command) if "=" in word]
        assert assignments == [*more, "training.patience=3"]
        a_config(f"model.dropout={now}", *assignments)

    @pytest.mark.parametrize(
        ("dropout", "learns", "advised"),
        [
            ("0.95", True, [f"model.dropout.{place}=0.2" for place in ("input", "between", "output")]),
            ("{input: 0.3, output: 0.9}", True, ["model.dropout.output=0.2"]),
            ("0.7", True, []),
            ("0.95", False, []),
        ],
    )
    def test_dropout_that_lets_nothing_through(self, dropout: str, learns: bool, advised: list[str]) -> None:
        memorised = [UNIFORM] + ([0.1] if learns else [0.9 * UNIFORM]) * 60
        evidence = replace(set_to(f"model.dropout={dropout}"), history=trained_to(UNIGRAM).history, memorised=memorised)
        finding = fit.unigram_plateau(evidence)
        assert finding is not None
        assert [word for word in shlex.split(finding.command) if "=" in word] == advised
        assert ("model.dropout." in finding.title) == bool(advised)

    def test_below_the_trigram_entropy_nothing_vanishes(self) -> None:
        fading = profiles(profile=reaching(1))
        assert gradients.through_time(replace(fading, history=trained_to(1.51).history)).problem
        assert not gradients.through_time(replace(fading, history=trained_to(1.49).history)).problem

    def test_a_larger_network_with_tied_weights(self) -> None:
        settings = ("model.tie_weights=true", "model.hidden_size=2", "model.embedding_size=2")
        finding = fit.too_small(replace(set_to(*settings), memorised=[UNIFORM] * 100))
        assert finding is not None
        assignments = [word for word in shlex.split(finding.command) if "=" in word]
        assert a_config(*settings, *assignments).model.hidden_size == 64

    def test_statistics_are_of_the_same_text(self) -> None:
        finding = texts.foreign_text(
            replace(
                set_to("corpus.glob='*.md'", "corpus.encoding=latin-1", "corpus.split=[0.8, 0.1, 0.1]"),
                texts=Texts(texts.FOREIGN + 1, 0, 0, 0, 0),
            )
        )
        assert finding is not None
        words = shlex.split(finding.command)
        assert words[:4] == ["charrnn", "corpus", "stats", "my.txt"]
        assert words[4::2] == ["--set"] * 3
        same = a_config(*words[5::2])
        assert (same.corpus.glob, same.corpus.encoding) == ("*.md", "latin-1")
        assert list(same.corpus.split) == [0.8, 0.1, 0.1]

    def test_several_texts(self) -> None:
        finding = texts.foreign_text(
            replace(set_to("corpus.source=[a b.txt, c.txt]"), texts=Texts(texts.FOREIGN + 1, 0, 0, 0, 0))
        )
        assert finding is not None
        assert finding.command == "charrnn corpus stats 'a b.txt' && charrnn corpus stats c.txt"

    @pytest.mark.parametrize("norm", [7.3e-4, 0.05, 12.0, 4321.0, 3e8])
    def test_a_limit_for_any_gradient(self, norm: float) -> None:
        config = a_config(f"training.grad_clip={norm / gradients.RULES_FACTOR / 2:.20f}", "training.optimizer=sgd")
        finding = gradients.clipping(logged(grad_norm_median=norm, grad_norm_p99=norm, clipped=1.0, config=config))
        assert finding is not None
        [assignment] = [word for word in shlex.split(finding.command) if "=" in word]
        assert a_config(assignment).training.grad_clip == pytest.approx(3 * norm, rel=0.5)


def test_every_rule_is_asked() -> None:
    """All public functions that take evidence and give a finding, in all modules of the package."""
    found = set()
    for module in pkgutil.iter_modules(rules.__path__, f"{rules.__name__}."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            hints = inspect.get_annotations(function, eval_str=True)
            is_rule = "return" in hints and list(hints) == ["evidence", "return"] and not name.startswith("_")
            if function.__module__ == module.name and is_rule:
                found.add(function)
    assert set(RULES) == found
    assert len(RULES) == len(found)


@pytest.mark.parametrize("decays", [True, False])
def test_what_follows_from_a_problem_is_told_there(decays: bool) -> None:
    """Weights that are pulled to zero: letter counts alone, no gradient, dead units; any other problem stays."""
    held = with_decay(1.0 if decays else 0.0, "adam", 0.1)
    evidence = replace(
        held,
        history=read_history(log_rows(train_loss=UNIGRAM)),
        profile=Profile([0.001**k for k in range(129)], [0.001**k for k in range(129)]),
        activity=some_activity(dead=[1000]),
        texts=Texts(1.0, 0, 0, 0, 0),
    )
    problems = [finding for finding in ask_rules(RULES, evidence) if finding.problem]
    effects = ["unigram-plateau", "vanishing-gradients", "dead-units"]
    rest = ["too-much-decay"] if decays else effects
    assert [finding.name for finding in problems] == [*rest, "validation-unlike-training"]
    for finding in problems:
        check_problem(finding)
    if decays:
        for rule in (fit.unigram_plateau, gradients.through_time, units.dead_units):
            effect = rule(evidence)
            assert effect is not None
            assert effect.title in problems[0].meaning


def test_nothing_follows_where_nothing_else_is_wrong() -> None:
    evidence = with_decay(1.0, "adam", 0.1)
    assert [one for one in ask_rules(RULES, evidence) if one.problem] == [rates.decay(evidence)]


def test_the_order_is_that_of_mending() -> None:
    """What is plainly broken comes before what it makes other numbers look like."""
    order = [rule.__name__ for rule in RULES]
    for earlier, later in (
        ("misaligned", "through_time"),
        ("initialisation", "rate"),
        ("saturation_at_start", "rate"),
        ("through_time_at_start", "clipping"),
        ("rate", "too_small"),
        ("last_character_only", "unigram_plateau"),
    ):
        assert order.index(earlier) < order.index(later)
