"""The numbers of a hive (the content of ``hive.json``) as its pictures need them: curves, medians, places in a grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.config.wording import counted, symbol

Array = NDArray[np.float64]
WRAP = 5  # swarms in a row where there is nothing to put into further rows
LOWEST = 1e-6  # nats per character: below it a log axis would be all noise
STOPPED = ("diverged", "failed")
INCOMPARABLE = "losses on different texts, over different parts or of different symbols do not compare"


@dataclass(frozen=True)
class Curve:
    """A bee's training losses, (points,), against steps or characters; inf where one was not finite."""

    x: Array
    loss: Array
    status: str

    @classmethod
    def of(cls, bee: dict[str, Any], scale: str) -> Curve:
        """Of a bee of a hive, against ``scale``: step or characters."""
        loss = np.array(bee["curve"]["train_loss"], dtype=float)
        return cls(np.array(bee["curve"][scale], dtype=float), np.where(np.isfinite(loss), loss, np.inf), bee["status"])

    def at(self, x: Array) -> Array:
        """The loss at each of ``x``: between two points on the straight line; nan where the bee has not been.

        A bee that ended keeps its last loss for good; one that diverged is above everything from then on.
        """
        if not len(self.x):
            return np.full(len(x), np.inf if self.status == "diverged" else np.nan)
        finite = np.isfinite(self.loss)
        loss = np.interp(x, self.x[finite], self.loss[finite]) if finite.any() else np.full(len(x), np.inf)
        loss[np.interp(x, self.x, ~finite) > 0] = np.inf
        loss[x < self.x[0]] = np.nan
        if self.status != "ended":
            loss[x > self.x[-1]] = np.inf if self.status == "diverged" else np.nan
        return loss


def median_curve(curves: list[Curve]) -> tuple[Array, Array]:
    """At every point of any bee (points,), the median of the losses of the bees that have come so far (points,)."""
    x = np.unique(np.concatenate([curve.x for curve in curves])) if curves else np.empty(0)
    if not len(x):
        return x, x
    table = np.array([curve.at(x) for curve in curves])
    return x, np.array([np.median(column[~np.isnan(column)]) for column in table.T])


@dataclass(frozen=True)
class Line:
    """What is drawn of a curve, (points,), and where it is marked as stopped."""

    x: Array
    y: Array
    stop: tuple[float, float] | None = None

    @classmethod
    def of(cls, curve: Curve, low: float, high: float) -> Line:
        """A bee's, kept between ``low`` and ``high``; one that diverged ends where it leaves them for good."""
        y = np.clip(curve.loss, low, high)
        if curve.status not in STOPPED:
            return cls(curve.x, y)
        if not len(y):
            return cls(curve.x, y, (0.0, high))
        inside = np.flatnonzero(curve.loss <= high)
        last = len(y) - 1 if curve.status == "failed" else min(inside.max(initial=-1) + 1, len(y) - 1)
        return cls(curve.x[: last + 1], y[: last + 1], (float(curve.x[last]), float(y[last])))

    def until(self, x: float) -> tuple[Array, Array]:
        """The part up to ``x``; its last point is where a log axis shows the line there."""
        if not len(self.x) or x >= self.x[-1]:
            return self.x, self.y
        count = int(np.searchsorted(self.x, x, side="right"))
        if count == 0:
            return self.x[:0], self.y[:0]
        head = math.exp(float(np.interp(x, self.x, np.log(self.y))))
        return np.append(self.x[:count], x), np.append(self.y[:count], head)


@dataclass(frozen=True)
class Place:
    """A swarm's place in a grid, with the names of its column and its row."""

    swarm: dict[str, Any]
    row: int
    column: int
    column_name: str
    row_name: str


@dataclass(frozen=True)
class Grid:
    """Where the swarms of a hive are drawn: the first group across, all others down; or one list, row after row."""

    places: list[Place]
    rows: int
    columns: int
    is_list: bool


def place(hive: dict[str, Any], across: int, down: int, wrap: bool) -> Grid:
    """At most ``across`` columns and ``down`` rows. With ``wrap``, a single row or column longer than 5 is a list."""
    names = [(str((one["labels"] or [""])[0]), ", ".join(one["labels"][1:])) for one in hive["swarms"]]
    columns = list(dict.fromkeys(column for column, _ in names))
    rows = list(dict.fromkeys(row for _, row in names))
    longest = max(len(columns), len(rows))
    if wrap and min(len(columns), len(rows)) == 1 and longest > WRAP:
        width = min(across, max(math.ceil(longest / down), WRAP))
        width = math.ceil(longest / math.ceil(longest / width))  # rows of much the same length
        places = [
            Place(one, number // width, number % width, ", ".join(one["labels"]), "")
            for number, one in enumerate(hive["swarms"][: width * down])
        ]
        return Grid(places, places[-1].row + 1, width, True)
    places = [
        Place(one, rows.index(row), columns.index(column), column, row)
        for one, (column, row) in zip(hive["swarms"], names, strict=True)
        if columns.index(column) < across and rows.index(row) < down
    ]
    return Grid(places, min(len(rows), down), min(len(columns), across), False)


def heading(hive: dict[str, Any], drawn: int) -> str:
    """The title of a hive's picture: how many bees on what, and how many swarms are left out."""
    swarms, bees = len(hive["swarms"]), max(one["count"] for one in hive["swarms"])
    title = f"{hive['name']}: {counted(swarms, 'swarm')} of {counted(bees, 'bee')} on {hive['text']}"
    return f"{title} ({drawn} of the {swarms} swarms are drawn)" if drawn < swarms else title


def symbol_of(results: dict[str, Any]) -> str:
    """What a loss of a hive, or of a search, is per; those that do not say what they read are of before bytes were told
    from characters."""
    return symbol(results.get("vocabularies", ["characters"]))


def are_comparable(settings: Iterable[str]) -> bool:
    """Whether losses compare where these settings are varied; else they are ``INCOMPARABLE``."""
    return not any(name.startswith("corpus.") or name == "run.eval_characters" for name in settings)


def fates(swarm: dict[str, Any]) -> Counter[str]:
    """How many bees of a swarm have ended, diverged, failed or wait."""
    return Counter(bee["status"] for bee in swarm["bees"])


def short_number(value: float) -> str:
    """As a loss is named in a picture: to a thousandth of a nat, a few of which may matter; small ones to 3 digits."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"
