"""Where a text comes from: named corpora, files, folders, standard input. Knows bytes, not characters.

A ``Corpus`` is a list of parts in a fixed order, each of which can be read more than once.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from charrnn.config.schema import CorpusConfig
from charrnn.errors import CorpusUnavailable, DataError
from charrnn.text.named import NAMED, find_named
from charrnn.text.places import CacheFile, Places

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """One file of a corpus, or a generated piece: a name for messages and a way to open it."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Corpus:
    """A text in parts, read in this order and joined without separators.

    ``source`` is what a config needs to say to find the same text again; ``notes`` are warnings for the user.
    """

    name: str
    source: str | list[str]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    def chunks(self, sha256: str | None = None) -> Iterator[tuple[Part, bytes]]:
        """The bytes of each part in pieces of at most 1 MiB, so that a text of any size needs little memory.

        Raises:
            DataError: a part cannot be read; or, at the end, what was read does not have the given ``sha256``.
        """
        sha = hashlib.sha256()
        for part in self.parts:
            try:
                with part.open() as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        sha.update(chunk)
                        yield part, chunk
            except OSError as error:
                cause = error.strerror or error
                raise DataError(f"{part.name}: cannot read the text: {cause}; check the path") from error
        if sha256 not in (None, sha.hexdigest()):
            raise DataError(f"{self.name}: the text changed while it was being read; try again")

    def digest(self) -> tuple[str, int]:
        """SHA-256 and length in bytes of the whole text."""
        sha, length = hashlib.sha256(), 0
        for _, chunk in self.chunks():
            sha.update(chunk)
            length += len(chunk)
        return sha.hexdigest(), length


def find_corpus(config: CorpusConfig, places: Places) -> Corpus:
    """The text that a config asks for; its fallback, with a note, where a download is not to be had.

    Raises:
        DataError: a file or folder is missing or unreadable.
        CorpusUnavailable: a named corpus cannot be downloaded and there is no fallback.
    """
    try:
        return _open_source(config.source, config.glob, places)
    except CorpusUnavailable as error:
        if config.fallback is None:
            raise
        found = _open_source(config.fallback, config.glob, places)
        note = f"{error}. USING THE FALLBACK CORPUS {config.fallback!r} INSTEAD: numbers will differ"
        return Corpus(found.name, found.source, found.parts, (note,))


def _open_source(source: str | list[str], glob: str, places: Places) -> Corpus:
    if isinstance(source, str) and source in NAMED:
        parts = tuple(Part(name, opener) for name, opener in find_named(source, places))
        return Corpus(source, source, parts)
    given = [source] if isinstance(source, str) else source
    called = {path: name for item in given for path, name in _files_of(item, glob, places).items()}
    paths = sorted(called)
    name = Path(given[0]).resolve().name if len(given) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    if source == "-":
        name = "standard input"
    lasting: str | list[str] = [str(path) for path in paths]
    if len(given) == 1 and Path(given[0]).is_dir():
        lasting = str(Path(given[0]).resolve())
    elif len(paths) == 1:
        lasting = str(paths[0])
    return Corpus(name, lasting, tuple(_file_part(path, called[path]) for path in paths))


def _file_part(path: Path, name: str) -> Part:
    return Part(name, lambda: path.open("rb"))


def _files_of(item: str, glob: str, places: Places) -> dict[Path, str]:
    """The files that one entry of ``corpus.source`` stands for, as absolute paths, and what messages call them."""
    if item == "-":
        kept = _spool(sys.stdin.buffer, places)
        return {kept: f"standard input (kept as {kept})"}
    path = Path(item).absolute()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        names = ", ".join(NAMED)
        raise DataError(
            f"{path}: cannot read the text: {error.strerror}; give a file, a folder or one of {names}"
        ) from error
    if stat.S_ISDIR(mode):
        try:
            files = sorted(file for file in path.glob(glob) if file.is_file())
        except (ValueError, NotImplementedError) as error:
            raise DataError(f"corpus.glob {glob!r}: no pattern within a folder; use one like '**/*.txt'") from error
        if not files:
            raise DataError(f"{path}: no file matches {glob!r}; set corpus.glob, for example to '**/*.md'")
        return {file: str(file) for file in files}
    if stat.S_ISFIFO(mode):
        with path.open("rb") as stream:
            kept = _spool(stream, places)
        return {kept: f"{path} (kept as {kept})"}
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is a device or socket, not a text; give a file or a folder")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot read the text: permission denied; check the file's permissions")
    return {path: str(path)}


def _spool(stream: BinaryIO, places: Places) -> Path:
    """Keep what can be read only once under its hash in the cache, so that a run can be resumed from it."""
    with CacheFile(places.cache / "stdin") as copy:
        sha = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            sha.update(chunk)
            copy.write(chunk)
        return copy.keep_as(f"{sha.hexdigest()[:16]}.txt")
