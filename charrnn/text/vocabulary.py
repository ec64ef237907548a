"""Symbols and their ids: characters (code points) or bytes. Knows nothing of files."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import DataError

CODE_POINTS = 0x110000
OnUnknown = Literal["error", "skip"]
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of ``text``, (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@dataclass(frozen=True)
class Vocabulary:
    """The symbols a model knows; a symbol's id is its place.

    ``characters`` holds the known code points in ascending order; with ``has_unknown``, the last id stands for
    every other character. The kind ``bytes`` always has the 256 byte values and leaves ``characters`` empty.
    """

    kind: Literal["characters", "bytes"]
    characters: str = ""
    has_unknown: bool = False

    @classmethod
    def from_counts(cls, counts: dict[int, int], min_count: int = 1) -> Vocabulary:
        """Characters seen at least ``min_count`` times; the others, if any, fold into one unknown symbol."""
        known = sorted(point for point, count in counts.items() if count >= min_count)
        return cls("characters", "".join(map(chr, known)), has_unknown=len(known) < len(counts))

    def __len__(self) -> int:
        return 256 if self.kind == "bytes" else len(self.characters) + self.has_unknown

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    @cached_property
    def _id_of_code_point(self) -> NDArray[np.int32]:
        table = np.full(CODE_POINTS, len(self.characters) if self.has_unknown else -1, dtype=np.int32)
        table[code_points(self.characters)] = np.arange(len(self.characters))
        return table

    def ids(self, text: str) -> NDArray[np.int32]:
        """The ids of ``text``, (N,); -1 for a character that has none. In bytes: the ids of its UTF-8."""
        if self.kind == "bytes":
            return np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8).astype(np.int32)
        return self._id_of_code_point[code_points(text)]

    def encode(self, text: str, on_unknown: OnUnknown = "error") -> NDArray[np.int32]:
        """The ids of ``text`` with characters the vocabulary lacks refused or left out.

        Raises:
            DataError: a character is unknown and is not to be skipped; names the first few. Or it is half of one (a
                lone surrogate), which has no bytes.
        """
        try:
            ids = self.ids(text)
        except UnicodeEncodeError as error:
            half = describe_character(text[error.start])
            raise DataError(f"half of a character: {half}, which has no bytes; leave it out") from error
        if on_unknown == "error" and (ids < 0).any():
            strange = sorted({chr(c) for c in code_points(text)[ids < 0]})
            shown = " ".join(describe_character(c) for c in strange[:8]) + (" ..." if len(strange) > 8 else "")
            raise DataError(
                f"{len(strange)} character(s) the model does not know: {shown}; leave them out with --on-unknown skip "
                "(sample, eval, inspect), or train a new run on them"
            )
        return ids[ids >= 0]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; the unknown symbol and invalid UTF-8 show as U+FFFD."""
        feed = self.decoder()
        return "".join(map(feed, ids)) + (feed(None) if self.kind == "bytes" else "")

    def decoder(self) -> Callable[[int | None], str]:
        """A function from the next id to the text it completes (None: the end), for streams of characters."""
        if self.kind == "characters":
            symbols = self.characters + REPLACEMENT * self.has_unknown
            return lambda index: "" if index is None else symbols[index]
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda index: utf8.decode(b"", final=True) if index is None else utf8.decode(bytes([index]))

    def symbol_name(self, index: int) -> str:
        """A readable name of one symbol, for tables and messages."""
        if self.kind == "bytes":
            return f"0x{index:02x}"
        return describe_character(self.characters[index]) if index < len(self.characters) else "(unknown)"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint. Code points as numbers: JSON text cannot be trusted with every character."""
        points = [int(point) for point in code_points(self.characters)]
        return {"kind": self.kind, "code_points": points, "has_unknown": self.has_unknown}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Vocabulary:
        """The inverse of ``to_dict``; raises ValueError for what is none."""
        if values["kind"] not in ("characters", "bytes") or not isinstance(values["has_unknown"], bool):
            raise ValueError("not a vocabulary")
        return cls(values["kind"], "".join(map(chr, values["code_points"])), values["has_unknown"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the vocabulary, for cache names and comparisons."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()


def describe_character(character: str) -> str:
    """A character for a message: itself if it prints, with its code point."""
    shown = repr(character) if character.isprintable() else ascii(character)
    return f"{shown} (U+{ord(character):04X})"
