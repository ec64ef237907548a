"""What a swarm varies: groups of settings, read from ``--vary`` and from a space file.

A group is one setting with its values, or several that change together (zipped): one axis of the grid.

    --vary training.lr=0.002,0.01
    --vary training.lr=1e-4..1e-1:log:7                              seven rates, evenly spaced in the logarithm
    --vary "training.seq_len=10,40 training.max_steps=4000,1000"     zipped: two combinations, not four

A space file says the same as ``vary: [{training.lr: [0.002, 0.01]}, ...]``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.config.settings import Settings, apply_override, read_config_text, read_settings
from charrnn.errors import ConfigError
from charrnn.text.named import NAMED

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(:log)?(?::(\d{{1,9}}))?")
MOST_VALUES = 1000
# Where the space before it ends one assignment of a group: values may hold spaces too.
YAML_SPACE = " \t\n"  # a no-break space is a character like others
NEXT_ASSIGNMENT = re.compile(r"[ \t\n]+(?=[A-Za-z_]+(?:\.[A-Za-z_]+)+=)")
# Not what a bee learns from: its seed is --seeds', its folder is the hive's.
NOT_VARIED = {
    "training.seed": "give --seeds N: the same N starts in every combination",
    "run.out": "give --out, one for all",
    "run.name": "give --name, one for all",
    "training.threads": "give --set training.threads=N, one for all",
}


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``: ``count`` of them for a grid, any of them for a search."""

    low: float
    high: float
    log: bool
    count: int | None
    whole: bool

    def values(self) -> list[int | float]:
        """The numbers of the grid, to four digits; whole ones where both ends are."""
        assert self.count is not None
        points = (np.geomspace if self.log else np.linspace)(self.low, self.high, self.count)
        return list(dict.fromkeys(round(x) if self.whole else float(f"{x:.4g}") for x in map(float, points)))


Choices = list[Any] | Range
Group = dict[str, Choices]  # dotted name -> values, as many for each name


def read_space(file: Path) -> list[Group]:
    """The groups of a space file.

    Raises:
        ConfigError: it is none; every problem with its place.
    """
    settings = read_settings(read_config_text(file), str(file))
    problems = list(settings.problems)
    problems += [
        f"{settings.place((key,))}: unknown key {key!r}; valid here: vary" for key in settings.values.keys() - {"vary"}
    ]
    groups = settings.values.get("vary")
    if not isinstance(groups, list) or not all(isinstance(group, dict) and group for group in groups) or not groups:
        problems.append(f"{file}: write what to vary as a list: 'vary:', below it '- training.lr: [0.002, 0.01]'")
        raise ConfigError(problems)
    found = []
    for index, group in enumerate(groups):
        places = {name: settings.place(("vary", index, name)) for name in group}
        found.append(_group(group, places, problems))
    if problems:
        raise ConfigError(problems)
    return found


def parse_vary(text: str) -> Group:
    """The group that one ``--vary`` gives.

    Raises:
        ConfigError: it cannot be read.
    """
    place, problems = f"--vary {text}", list[str]()
    group: dict[str, Any] = {}
    for assignment in NEXT_ASSIGNMENT.split(text.strip(YAML_SPACE)):
        name, equals, values = assignment.partition("=")
        if not equals or not values.strip(YAML_SPACE) or "." not in name:
            raise ConfigError([f"{place}: write it as section.key=value,value such as training.lr=2e-3,1e-2"])
        read = Settings()
        apply_override(read, f"values=[{values}]", "--vary")
        problems += [f"{place}: {problem.removeprefix(f'--vary values=[{values}]: ')}" for problem in read.problems]
        group[name] = read.values.get("values") or []
    if problems:
        raise ConfigError(problems)
    checked = _group(group, dict.fromkeys(group, place), problems)
    if problems:
        raise ConfigError(problems)
    return checked


def _group(group: dict[str, Any], places: dict[str, str], problems: list[str]) -> Group:
    """Values as lists, ranges recognised; what is wrong is added to ``problems``."""
    found: Group = {}
    for name, given in group.items():
        place = places[name]
        if name in NOT_VARIED:
            problems.append(f"{place}: {name} is not varied; {NOT_VARIED[name]}")
        values = given if isinstance(given, list) else [given]
        if name == "corpus.source":
            values = from_anywhere(values)
        if not values or len(values) > MOST_VALUES:
            problems.append(f"{place}: give {name} one value or more, {MOST_VALUES} at most")
        found[name] = values if (one := _range(values, place, problems)) is None else one
    place = next(iter(places.values()))
    lists = {name: values for name, values in found.items() if isinstance(values, list)}
    if len(set(map(len, lists.values()))) > 1 or (len(found) > 1 and len(lists) < len(found)):
        told = ", ".join(f"{name} {len(lists[name]) if name in lists else 'a range'}" for name in found)
        problems.append(f"{place}: settings that change together need as many values each: {told}")
    points = list(zip(*(values[:MOST_VALUES] for values in lists.values()), strict=False))
    if any(points.count(point) > 1 for point in points):
        problems.append(f"{place}: {' with '.join(lists)} has a value twice; give each once")
    return found


def from_anywhere(value: Any) -> Any:
    """The paths of files in a value made full: a hive may be gone on with from another folder."""
    if isinstance(value, list):
        return [from_anywhere(one) for one in value]
    with suppress(OSError):  # a name that no file can have
        if isinstance(value, str) and value not in NAMED and Path(value).exists():
            return str(Path(value).absolute())
    return value


def _range(values: list[Any], place: str, problems: list[str]) -> Range | None:
    """The range that a single value such as ``1e-4..1e-1:log:7`` means."""
    match = RANGE.fullmatch(values[0]) if len(values) == 1 and isinstance(values[0], str) else None
    if match is None:
        return None
    low, high, log, count = float(match[1]), float(match[2]), bool(match[3]), match[4]
    is_span = -math.inf < low < high < math.inf and (low > 0 or not log)
    if not is_span or (count is not None and not 2 <= int(count) <= MOST_VALUES):
        problems.append(
            f"{place}: {values[0]}: write a range as LOW..HIGH:log:N, LOW below HIGH (above 0 with log), "
            f"N from 2 to {MOST_VALUES}"
        )
    whole = all(re.fullmatch(r"[-+]?\d+", one) for one in (match[1], match[2]))
    return Range(low, high, log, int(count) if count else None, whole)


def grid_values(group: Group) -> list[dict[str, Any]]:
    """The settings of each point of a group's axis, in order.

    Raises:
        ConfigError: a range without a number of values.
    """
    for name, values in group.items():
        if isinstance(values, Range) and values.count is None:
            example = f"{name}={values.low:g}..{values.high:g}:log:7"
            raise ConfigError([f"--vary {name}: a grid needs a number of values: {example}; or use --search"])
    columns = {name: values.values() if isinstance(values, Range) else values for name, values in group.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def corners(group: Group) -> Iterator[dict[str, Any]]:
    """Points of a group: all choices, or the ends of a range."""
    columns = {
        name: [int(one) if values.whole else one for one in (values.low, values.high)]
        if isinstance(values, Range)
        else values
        for name, values in group.items()
    }
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def read_groups(texts: Iterable[str], file: Path | None) -> list[Group]:
    """What every ``--vary`` says, then what a space file says.

    Raises:
        ConfigError: as the two above; or a setting is varied in two places.
    """
    groups = [parse_vary(text) for text in texts] + (read_space(file) if file else [])
    names = [name for group in groups for name in group]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError([f"--vary {name}: is varied twice; give all its values in one place" for name in twice])
    return groups
