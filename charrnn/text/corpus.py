"""Where a text comes from: named corpora, files, folders, standard input. Knows bytes, not characters.

A ``Corpus`` is a list of parts in a fixed order, each of which can be read more than once.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from charrnn.config.schema import CorpusConfig
from charrnn.config.settings import MAX_CONFIG_BYTES, dump_yaml
from charrnn.errors import CorpusUnavailable, DataError
from charrnn.text.named import NAMED, Part, file_part
from charrnn.text.places import CacheFile, Places

CHUNK_BYTES = 1 << 20
MOST_SOURCE_BYTES = MAX_CONFIG_BYTES - 10_000  # of YAML; what is left holds all other settings


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

    def digest(self) -> tuple[str, list[int]]:
        """SHA-256 of the whole text, and the length of each part in bytes."""
        sha, lengths = hashlib.sha256(), dict.fromkeys(self.parts, 0)
        for part, chunk in self.chunks():
            sha.update(chunk)
            lengths[part] += len(chunk)
        return sha.hexdigest(), list(lengths.values())


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


def settled(config: CorpusConfig, source: str | list[str]) -> CorpusConfig:
    """The same config with the ``source`` of the text that was found, so that it is found again from anywhere.

    Raises:
        DataError: no config file can hold it.
    """
    paths = [source] if isinstance(source, str) else source
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            cause = "this path is not UTF-8, and a run's config could not name it"
            raise DataError(f"{path!r}: {cause}; give the text by a path that is") from error
    if len(dump_yaml({"source": source}).encode()) > MOST_SOURCE_BYTES:
        raise DataError(f"corpus.source: {len(paths):,} paths are more than a config can hold; give their folder")
    return config.model_copy(update={"source": source})


def _open_source(source: str | list[str], glob: str, places: Places) -> Corpus:
    if isinstance(source, str) and source in NAMED:
        return Corpus(source, source, tuple(NAMED[source].find(places)))
    given = [source] if isinstance(source, str) else source
    # By where each is found again; what is given twice counts once.
    found = dict(_files_of(item, glob, places) for item in given)
    called = {path: name for files in found.values() for path, name in files.items()}
    first, *others = called
    name = f"{first.name} and {len(others)} more" if others else first.name
    if len(found) == 1:
        name = _name(given[0])
    lasting = list(found)
    parts = tuple(file_part(path, name) for path, name in called.items())
    return Corpus(name, lasting[0] if len(lasting) == 1 else lasting, parts)


def _name(item: str) -> str:
    """What the text of one entry of ``corpus.source`` is called. Of a pipe from the shell, as ``<(zcat my.gz)`` makes
    one, there is only a number that means nothing tomorrow."""
    if item == "-":
        return "standard input"
    path = Path(item).resolve()
    return path.name if path.exists() else "piped text"


def _files_of(item: str, glob: str, places: Places) -> tuple[str, dict[Path, str]]:
    """Where one entry of ``corpus.source`` is found again, whatever the folder, and the files that it stands for, as
    absolute paths in order, with what messages call them."""
    if item == "-":
        kept = _spool(sys.stdin.buffer, places)
        return str(kept), {kept: f"standard input (kept as {kept})"}
    path = Path(item).absolute()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if item in NAMED:
            advice = f"set corpus.source: {item}, or give files and folders only"
            raise DataError(f"{item}: a named corpus stands alone, not in a list; {advice}") from error
        names = ", ".join(NAMED)
        raise DataError(
            f"{path}: cannot read the text: {error.strerror}; give a file, a folder or one of {names}"
        ) from error
    if stat.S_ISDIR(mode):
        folder = path.resolve()
        return str(folder), {file: str(file) for file in _files_in(folder, glob)}
    if stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and path.parts[1] in ("dev", "proc")):  # /dev/stdin < file
        with path.open("rb") as stream:
            kept = _spool(stream, places)
        return str(kept), {kept: f"{path} (kept as {kept})"}
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is a device or socket, not a text; give a file or a folder")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot read the text: permission denied; check the file's permissions")
    return str(path), {path: str(path)}


def _files_in(folder: Path, glob: str) -> list[Path]:
    """The files of a folder that match, in sorted order, without those below its hidden folders and run folders."""
    try:
        matching = sorted(file for file in folder.glob(glob) if file.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"corpus.glob {glob!r}: no pattern within a folder; use one like '**/*.txt'") from error
    below = {file.parent for file in matching}
    left_out = {one for one in below if _is_left_out(one, folder)}
    files = [file for file in matching if file.parent not in left_out]
    if not files:
        but = " outside hidden folders and run folders" if matching else ""
        raise DataError(f"{folder}: no file matches {glob!r}{but}; set corpus.glob, for example to '**/*.md'")
    return files


def _is_left_out(inner: Path, folder: Path) -> bool:
    """Whether it has no texts, or a folder between it and ``folder`` has none."""
    between = [one for one in (inner, *inner.parents) if folder in one.parents]
    return any(map(_has_no_texts, between))


def _has_no_texts(folder: Path) -> bool:
    """Whether a folder is hidden, or a run's, as ``runs.directory`` lays it out: the samples that a training writes are
    none of its text, or that would have changed when the run goes on."""
    is_run = (folder / "config.yaml").exists() and any((folder / n).exists() for n in ("metrics.jsonl", "checkpoints"))
    return is_run or (folder.name.startswith(".") and folder.name != "..")


def _spool(stream: BinaryIO, places: Places) -> Path:
    """Keep what can be read only once under its hash in the cache, so that a run can be resumed from it."""
    with CacheFile(places.cache / "stdin") as copy:
        sha = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            sha.update(chunk)
            copy.write(chunk)
        return copy.keep_as(f"{sha.hexdigest()[:16]}.txt")
