"""A text on its way to the processes that train on it: its file's name on this machine, its bytes elsewhere."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from charrnn.config.schema import CorpusConfig
from charrnn.text.baselines import baselines
from charrnn.text.encoded import EncodedText, load_text, map_ids
from charrnn.text.places import Places


@dataclass(frozen=True)
class Parcel:
    """An encoded text without its ids, these as a file or as (compressed) bytes, and its n-gram entropies.

    Hashable by what it holds: a process opens it once, however many bees it trains.
    """

    text: EncodedText
    entropies: dict[str, float]
    file: Path | None
    content: bytes | None

    def __hash__(self) -> int:
        return hash((self.text.sha256, self.text.vocabulary.digest, self.file))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parcel) and self.__key() == other.__key()

    def __key(self) -> tuple[object, ...]:
        text = self.text
        return (text.sha256, text.vocabulary.digest, tuple(text.spans.items()), text.name, text.source, self.file)

    def as_bytes(self) -> Parcel:
        """The same for a machine that does not share this one's disk."""
        ids = open_parcel(self).ids
        return replace(self, file=None, content=zlib.compress(ids.tobytes(), 1))


class Library:
    """The texts that combinations read, each packed once. Where a hive has ``begun``, or its texts are among what is
    ``varied``, it is known which these are: ``corpus.fallback`` takes the place of none. ``lost`` are those that could
    not be had when last asked for."""

    def __init__(self, places: Places, begun: bool, varied: Collection[str]) -> None:
        self._places = places
        self._known = begun or "corpus.source" in varied
        self._parcels: dict[str, Parcel] = {}
        self.lost: set[str] = set()

    def read(self, config: CorpusConfig) -> Parcel:
        """The text that a config asks for.

        Raises:
            DataError: it cannot be used.
        """
        config, key = self._known_as(config)
        if key not in self._parcels:
            self.lost.add(key)
            self._parcels[key] = pack_text(config, self._places)
            self.lost.remove(key)
        return self._parcels[key]

    def has_lost(self, config: CorpusConfig) -> bool:
        """Whether the text that a config asks for could not be had when last asked for."""
        return self._known_as(config)[1] in self.lost

    def _known_as(self, config: CorpusConfig) -> tuple[CorpusConfig, str]:
        config = config.model_copy(update={"fallback": None}) if self._known else config
        return config, config.model_dump_json()


def pack_text(config: CorpusConfig, places: Places) -> Parcel:
    """Read and encode a text, as a run does before it begins.

    Raises:
        DataError: it cannot be used.
    """
    text = load_text(config, places)
    entropies = baselines(text.ids, len(text.vocabulary))
    assert isinstance(text.ids, np.memmap)  # an empty text was refused
    bare = replace(text.vocabulary)  # without the table that it was encoded with: megabytes, for every bee
    empty = replace(text, ids=np.zeros(0, bare.dtype), vocabulary=bare)
    return Parcel(empty, entropies, Path(str(text.ids.filename)), None)


@functools.lru_cache(maxsize=8)
def open_parcel(parcel: Parcel) -> EncodedText:
    """The text, its ids mapped or unpacked."""
    text, vocabulary = parcel.text, parcel.text.vocabulary
    if parcel.file is not None:
        length = max(end for _, end in text.spans.values())
        return replace(text, ids=map_ids(parcel.file, vocabulary, length))
    assert parcel.content is not None
    return replace(text, ids=np.frombuffer(zlib.decompress(parcel.content), dtype=vocabulary.dtype))
