"""The numbers of a choice as people like them."""

from __future__ import annotations

import math
from collections.abc import Callable


def time_in_words(seconds: float) -> str:
    """In hours, minutes or seconds."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{_three_digits(seconds / unit)} {name}"
    return f"{_three_digits(seconds)} s"


def count(number: float) -> str:
    """How many characters."""
    return f"{_three_digits(number / 1e6)} million" if number >= 1e6 else f"{number:,.0f}"


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def times(number: float) -> str:
    """How often."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def one_digit(number: float, rounding: Callable[[float], int]) -> int:
    """A positive number as one digit and zeros; 1 at least."""
    if number <= 1:
        return 1
    unit: int = 10 ** int(math.log10(number))
    return rounding(number / unit) * unit
