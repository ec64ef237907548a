"""Words for numbers: what a loss is per, and plurals."""

from __future__ import annotations

from collections.abc import Iterable


def symbol(vocabularies: Iterable[str]) -> str:
    """What a loss is per where texts are read with these values of ``corpus.vocabulary``: a character, a byte, or where
    there are both a symbol."""
    kinds = set(vocabularies)
    return kinds.pop().removesuffix("s") if len(kinds) == 1 else "symbol"


def counted(number: int, what: str) -> str:
    """So many of what has a plural in s."""
    return f"{number:,} {what}{'s' * (number != 1)}"
