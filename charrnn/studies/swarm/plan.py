"""The plan of a hive: combinations of settings, the config of each, the seeds that fly in all of them."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charrnn.config.loader import load_config, revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import NamedOverride
from charrnn.errors import ConfigError, UsageError
from charrnn.studies.swarm.space import Group, corners

CURVE_POINTS = 50  # log lines of a bee at least: what a picture of it needs
SMALL_ALPHABET = 16  # symbols up to which it is interesting, and cheap, to see what a bee would write as it learns
SAMPLES = 8  # of those, over a training
SAMPLE_LENGTH = 24  # characters of each: drawing them one by one costs more than to train, and a picture shows no more
LONGEST_NAME = 100  # bytes of a folder's name; a file system takes 255 of them
MOST_BEES = 100_000


@dataclass(frozen=True)
class Swarm:
    """One combination: ``labels`` has one text per group, ``settings`` the values by dotted name."""

    name: str
    labels: list[str]
    settings: dict[str, Any]
    config: Config

    def bee_config(self, seed: int) -> Config:
        """The config of the bee with this seed."""
        return self.config.with_training(seed=seed)


def bee_name(seed: int) -> str:
    """The folder of a bee, in that of its swarm."""
    return f"bee-{seed}"


def load_base(
    file: Path, assignments: Iterable[str], options: Sequence[NamedOverride], groups: Sequence[Group]
) -> Config:
    """The config that the combinations change. What is wrong with it may be right in all of them (no limit, where
    ``training.max_steps`` is varied): then it has the settings of the first.

    Raises:
        ConfigError: it is none in either way; what is wrong with it by itself.
    """
    try:
        return load_config(file, assignments, options)
    except ConfigError:
        first = [_override(name, value) for group in groups for name, value in next(corners(group)).items()]
        with suppress(ConfigError):
            return load_config(file, assignments, [*options, *first])
        raise


def make_swarms(base: Config, points: Iterable[Sequence[dict[str, Any]]]) -> list[Swarm]:
    """A swarm for each combination; ``points`` gives its settings, one dict per group.

    Raises:
        ConfigError: a combination is no config that can be trained; every problem once.
    """
    points = [list(point) for point in points]
    swarms, problems, names = [], list[str](), set[str]()
    for point in points:
        settings = {name: value for part in point for name, value in part.items()}
        labels = labels_of(point)
        try:
            config = revise_config(base, options=[_override(name, value) for name, value in settings.items()])
        except ConfigError as error:
            problems += [_located(problem, labels) for problem in error.problems]
            continue
        name = _folder_name(labels, settings, names)
        names.add(name)
        swarms.append(Swarm(name, labels, settings, config))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    told = Counter(tuple(swarm.labels) for swarm in swarms)
    return [
        swarm if told[tuple(swarm.labels)] == 1 else replace(swarm, labels=labels_of(point, exact=True))
        for swarm, point in zip(swarms, points, strict=True)
    ]


def labels_of(point: Sequence[dict[str, Any]], exact: bool = False) -> list[str]:
    """A text per group of a combination's settings, with six digits of each number and the name of a file, or all."""
    short = _short_names({name for part in point for name in part})
    return [", ".join(f"{short[name]}={_shown(value, exact)}" for name, value in part.items()) for part in point]


def grid(axes: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[dict[str, Any], ...]]:
    """Every combination of the points of the axes, the last axis varying fastest.

    Raises:
        UsageError: they are too many.
    """
    count = math.prod(len(axis) for axis in axes)
    if count > MOST_BEES:
        raise UsageError(f"--vary: {count:,} combinations; give fewer values, or let --search choose among them")
    return list(itertools.product(*axes))


def _override(name: str, value: Any) -> NamedOverride:
    return NamedOverride(tuple(name.split(".")), value, f"--vary {name}={_shown(value)}")


def _located(problem: str, labels: list[str]) -> str:
    """A problem with the place of a setting, or (of settings that do not go together) that of the combination."""
    return (
        problem if problem.startswith("--vary ") else f"--vary {', '.join(labels)}: {problem.removeprefix('config: ')}"
    )


def _short_names(names: set[str]) -> dict[str, str]:
    """The last part of a dotted name, where no other ends in the same."""
    last = [name.rsplit(".", 1)[-1] for name in names]
    return {name: name if last.count(name.rsplit(".", 1)[-1]) > 1 else name.rsplit(".", 1)[-1] for name in names}


def _shown(value: Any, exact: bool = False) -> str:
    """Six digits of a number and the name of a file, or ``exact``ly all."""
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "null"
    if isinstance(value, list):
        return f"[{', '.join(_shown(one, exact) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(one, exact)}' for key, one in value.items())}}}"
    if isinstance(value, float):
        return repr(value) if exact else f"{value:g}"
    return Path(value).name if isinstance(value, str) and value.startswith(os.sep) and not exact else str(value)


def _shown_whole(value: Any) -> bool:
    """Whether a label has all digits of a number, all of a path."""
    if isinstance(value, list):
        return all(map(_shown_whole, value))
    return float(f"{value:g}") == value if isinstance(value, float) else _shown(value) == _shown(value, exact=True)


def _folder_name(labels: list[str], settings: dict[str, Any], taken: set[str]) -> str:
    """A name that a file system takes, unlike those taken, and that no other combination has."""
    full = ",".join(labels).replace(", ", ",") or "all"
    name = re.sub(r"[^\w.+=,-]+", "_", full)
    told = name == full.replace(" ", "_") and all(map(_shown_whole, settings.values()))
    if not told or len(name.encode()) > LONGEST_NAME or name in taken or name[0] == ".":
        mark = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
        start = name.encode()[: LONGEST_NAME - 9].decode(errors="ignore")  # perhaps without its last half character
        name = f"{start.lstrip('.')}-{mark}"
    return name


def observed_often(config: Config, stream_length: int, symbols: int, varied: Collection[str] = ()) -> Config:
    """The config with log lines often enough for a curve, and for small alphabets evaluations (each writes a sample).

    What the swarm varies stays, and so do the evaluations that patience counts.

    Args:
        stream_length: characters in each of its streams.
        symbols: size of the vocabulary.
        varied: dotted names of settings.
    """
    training, run = config.training, config.run
    steps = training.max_steps
    if training.epochs is not None:
        by_epochs = math.ceil(training.epochs * stream_length / training.seq_len)
        steps = by_epochs if steps is None else min(steps, by_epochs)
    if steps is None:
        return config  # the clock or patience decides: as the config says
    rhythm = {"log_every": min(run.log_every, max(steps // CURVE_POINTS, 1))}
    if symbols <= SMALL_ALPHABET:
        if training.patience is None:
            rhythm["eval_every"] = min(run.eval_every, max(steps // SAMPLES, 1))
        rhythm["sample_length"] = min(run.sample_length, SAMPLE_LENGTH)
    rhythm = {name: value for name, value in rhythm.items() if f"run.{name}" not in varied}
    return config.model_copy(update={"run": run.model_copy(update=rhythm)})
