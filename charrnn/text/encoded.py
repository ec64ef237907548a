"""A text as ids on disk: encoded once in chunks, cached by content, memory-mapped ever after.

Memory stays flat whatever the size of the text: nothing here holds more than one chunk of it.

    corpus --digest--> survey (which characters, how often) --> vocabulary --> ids file --> EncodedText
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.config.schema import CorpusConfig
from charrnn.errors import CorpusUnavailable, DataError
from charrnn.text.corpus import Corpus, find_corpus
from charrnn.text.places import Places
from charrnn.text.reading import decoded
from charrnn.text.sealed import SEAL_BYTES, sealed_length, write_sealed
from charrnn.text.vocabulary import OnUnknown, Vocabulary, code_points

CACHE_VERSION = 2  # part of every cache name: raise it when what is written changes
COUNT_CHUNK = 1 << 20
Ids = NDArray[np.unsignedinteger[Any]]
SPLITS = ("train", "val", "test")
SHORTEST = 1_000  # characters to train on: half a page
FEW = 100  # characters to validate on
SPREAD = 1.5  # nats: how much losses of single characters differ (1.1 and 1.3 under the play's own uni- and trigrams)
ITS_PLACE = "where it is with --data (charrnn train --resume, charrnn eval) or --text (charrnn inspect)"


@dataclass(frozen=True)
class EncodedText:
    """A text ready to be read by a model.

    ``ids`` is a read-only memory map, (N,). ``spans`` gives the first and one past the last id of each split.
    ``num_bytes`` and ``sha256`` are of the source; they say which text this was.
    """

    name: str
    source: str | list[str]
    ids: Ids
    vocabulary: Vocabulary
    spans: dict[str, tuple[int, int]]
    num_bytes: int
    sha256: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def train_ids(self) -> Ids:
        """The training part, a view."""
        return self.ids[slice(*self.spans["train"])]

    def describe(self) -> dict[str, Any]:
        """Which text this is, for run folders and checkpoints."""
        return {
            "name": self.name,
            "source": self.source,
            "bytes": self.num_bytes,
            "sha256": self.sha256,
            "characters": len(self),
        }


def split_spans(length: int, shares: list[float]) -> dict[str, tuple[int, int]]:
    """Contiguous spans of train, validation and (with three shares) test over ``length`` ids."""
    cuts = [0, *(int(length * sum(shares[: i + 1]) + 1e-9) for i in range(len(shares) - 1)), length]
    return {name: (cuts[i], cuts[i + 1]) for i, name in enumerate(SPLITS[: len(shares)])}


def load_text(
    config: CorpusConfig,
    places: Places,
    vocabulary: Vocabulary | None = None,
    recorded: dict[str, Any] | None = None,
    on_unknown: OnUnknown = "error",
) -> EncodedText:
    """Find the text that a config asks for, and encode it; see ``find_corpus`` and ``encode_corpus``.

    With a ``vocabulary`` there is no falling back: a trained model's text is known, and no other one is it.
    """
    if vocabulary is not None:
        config = config.model_copy(update={"fallback": None})
    try:
        corpus = find_corpus(config, places)
    except DataError as error:
        if recorded is None:
            raise
        elsewhere = "or" if isinstance(error, CorpusUnavailable) else "where the model's text was moved,"
        raise type(error)(f"{error}; {elsewhere} say {ITS_PLACE}") from error
    return encode_corpus(corpus, config, places, vocabulary, recorded, on_unknown)


def encode_corpus(
    corpus: Corpus,
    config: CorpusConfig,
    places: Places,
    vocabulary: Vocabulary | None = None,
    recorded: dict[str, Any] | None = None,
    on_unknown: OnUnknown = "error",
) -> EncodedText:
    """Encode a corpus, or map the ids cached when it was encoded before.

    With a ``vocabulary`` (a trained model's) that one is used; else it is made from the text as ``config`` says.
    ``recorded`` is what ``describe`` gave of the text that this must be.

    Raises:
        DataError: the text cannot be decoded, is empty, has characters that the given vocabulary lacks, or is
            not the recorded one.
    """
    sha256, lengths = corpus.digest()
    num_bytes = sum(lengths)
    if recorded is not None and recorded["sha256"] != sha256:
        raise DataError(
            f"{corpus.name}: the text has changed since the model was trained on it: {recorded['source']} had "
            f"{recorded['bytes']:,} bytes, now {num_bytes:,}; restore it, start a new run, "
            "or use it as it is: with --inexact (charrnn train --resume), --data (charrnn eval) or --text (inspect)"
        )
    if num_bytes == 0:
        raise DataError(f"{corpus.name}: the text is empty; give a file with some text in it")
    survey = partial(_survey, corpus, config.encoding, places, sha256, lengths)
    if vocabulary is None:
        vocabulary = Vocabulary("bytes") if config.vocabulary == "bytes" else _make_vocabulary(corpus, config, survey())
    what = [*_content(sha256, lengths), config.encoding, vocabulary.digest, on_unknown]
    path, *older = _cached(places.cache / "encoded", f".{vocabulary.dtype.name}", what)
    length, skipped = (num_bytes, 0) if vocabulary.kind == "bytes" else _known(survey(), vocabulary)
    if sealed_length(path) != length * vocabulary.dtype.itemsize:  # not there, or damaged: made anew
        chunks = _chunks_of_ids(corpus, config.encoding, vocabulary, on_unknown, sha256)
        write_sealed(path, (ids.astype(vocabulary.dtype).tobytes() for ids in chunks))
        _forget(older)
    ids = map_ids(path, vocabulary, length)
    spans = split_spans(len(ids), config.split)
    left_out = (
        f"{corpus.name}: {skipped:,} of {length + skipped:,} characters are left out: the model does not know them"
    )
    notes = (*corpus.notes, left_out) if skipped else corpus.notes
    return EncodedText(corpus.name, corpus.source, ids, vocabulary, spans, num_bytes, sha256, notes)


def map_ids(path: Path, vocabulary: Vocabulary, length: int) -> Ids:
    """The ``length`` ids of a file of the cache, whose seal comes after them; nothing is read yet."""
    return np.memmap(path, vocabulary.dtype, "r", shape=(length,)) if length else np.zeros(0, np.uint8)


def _cached(folder: Path, suffix: str, what: list[str]) -> list[Path]:
    """The file of the cache for ``what``, and after it those in which older versions of charrnn kept the same."""
    versions = range(CACHE_VERSION, 0, -1)
    keys = (hashlib.sha256("\0".join((str(version), *what)).encode()).hexdigest()[:32] for version in versions)
    return [folder / f"{key}{suffix}" for key in keys]


def _forget(older: list[Path]) -> None:
    """Remove what nobody would ever look for again. An older program that still reads one keeps it mapped."""
    for path in older:
        with suppress(OSError):  # not there, or another user's
            path.unlink()


def _content(sha256: str, lengths: list[int]) -> list[str]:
    """What tells texts apart: also where their parts end, each of which is decoded for itself."""
    cuts = [str(length) for length in lengths if length]
    return [sha256, *(cuts if len(cuts) > 1 else [])]


def _survey(corpus: Corpus, encoding: str, places: Places, sha256: str, lengths: list[int]) -> dict[int, int]:
    """How often each code point occurs, from the cache where it has that."""
    path, *older = _cached(places.cache / "surveys", ".json", [*_content(sha256, lengths), encoding])
    if sealed_length(path) is not None:
        return {int(point): count for point, count in json.loads(path.read_bytes()[:-SEAL_BYTES]).items()}
    counts = count_characters(corpus, encoding, sha256)
    write_sealed(path, [json.dumps(counts).encode()])
    _forget(older)
    return counts


def _known(counts: dict[int, int], vocabulary: Vocabulary) -> tuple[int, int]:
    """How many characters of a text with these counts have an id, and how many have none."""
    known = vocabulary.ids("".join(map(chr, counts))) >= 0
    numbers = np.fromiter(counts.values(), np.int64)
    return int(numbers[known].sum()), int(numbers[~known].sum())


def _make_vocabulary(corpus: Corpus, config: CorpusConfig, counts: dict[int, int]) -> Vocabulary:
    if not counts:
        raise DataError(f"{corpus.name}: the text is empty but for a byte order mark; give a file with some text in it")
    if max(counts.values()) < config.min_count:
        raise DataError(
            f"{corpus.name}: no character occurs {config.min_count:,} times, as corpus.min_count asks; "
            f"set corpus.min_count to {max(counts.values()):,} at most"
        )
    return Vocabulary.from_counts(counts, config.min_count)


def count_characters(corpus: Corpus, encoding: str, sha256: str | None = None) -> dict[int, int]:
    """How often each code point occurs, in ascending order of code points; ``sha256`` as in ``Corpus.chunks``."""
    counts = np.zeros(0, dtype=np.int64)
    for text in decoded(corpus, encoding, sha256):
        more = np.bincount(code_points(text), minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return {int(point): int(counts[point]) for point in np.flatnonzero(counts)}


def _chunks_of_ids(
    corpus: Corpus, encoding: str, vocabulary: Vocabulary, on_unknown: OnUnknown, sha256: str
) -> Iterator[NDArray[Any]]:
    if vocabulary.kind == "bytes":
        yield from (np.frombuffer(chunk, dtype=np.uint8) for _, chunk in corpus.chunks(sha256))
    else:
        for text in decoded(corpus, encoding, sha256):
            try:
                yield vocabulary.encode(text, on_unknown)
            except DataError as error:
                raise DataError(f"{corpus.name}: {error}") from error


def count_ids(ids: Ids, vocab_size: int) -> NDArray[np.int64]:
    """How often each id occurs, (V,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(ids), COUNT_CHUNK):
        counts += np.bincount(ids[start : start + COUNT_CHUNK], minlength=vocab_size)
        let_go(ids)
    return counts


def let_go(ids: Ids) -> None:
    """Take what was read of a memory map out of resident memory, or it would grow to the size of the text.

    The pages stay in the system's cache and come back when they are read again. Does nothing to other arrays.
    """
    owner: Any = ids
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if sys.platform != "win32" and isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)


def occurrences(text: EncodedText, character: str) -> int:
    """How often an ASCII character occurs; 0 for one that is folded into the unknown symbol."""
    vocabulary = text.vocabulary
    is_known = vocabulary.kind == "bytes" or character in vocabulary.characters
    return int(count_ids(text.ids, len(vocabulary))[vocabulary.ids(character)[0]]) if is_known else 0


def shortness(text: EncodedText) -> list[str]:
    """A warning where so short a text teaches little, or its validation loss says little; none where it is long enough.
    Only the spans are looked at."""
    training, validation = (end - first for first, end in (text.spans["train"], text.spans["val"]))
    kind, told = text.vocabulary.kind, []
    advice = f"give more text, or a larger second share of corpus.split, for {FEW} or more"
    if training < SHORTEST:
        told, advice = [f"{training:,} {kind} to train on are soon known by heart"], "give a longer text"
    if validation < FEW:
        error = SPREAD / math.sqrt(max(validation, 1))  # the standard error of a mean
        told.append(f"{validation} {kind} to validate on are few: chance moves their mean loss by {error:.1f} nats")
    return [f"{text.name}: {', and '.join(told)}; {advice}"] if told else []


def unseen_in_training(text: EncodedText) -> dict[int, int]:
    """Ids that the validation (and test) part uses and the training part never: id -> occurrences."""
    in_training = count_ids(text.train_ids, len(text.vocabulary))
    elsewhere = count_ids(text.ids[text.spans["train"][1] :], len(text.vocabulary))
    return {int(i): int(elsewhere[i]) for i in np.flatnonzero((in_training == 0) & (elsewhere > 0))}
