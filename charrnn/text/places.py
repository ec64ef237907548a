"""The folders that texts are looked up in and cached in. The only place that reads the environment for them."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import platformdirs

from charrnn.config.library import shipped
from charrnn.errors import DataError

UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Places:
    """``data``: folders searched for a named corpus, in order. ``cache``: downloads and encoded ids."""

    data: tuple[Path, ...]
    cache: Path

    @classmethod
    def from_environment(cls) -> Places:
        """``data/`` here, the shipped data, ``$CHARRNN_DATA``; cache in ``$CHARRNN_CACHE`` or the user's cache."""
        extra = os.environ.get("CHARRNN_DATA")
        data = [Path("data"), shipped("data"), *([Path(extra)] if extra else [])]
        cache = os.environ.get("CHARRNN_CACHE")
        return cls(tuple(data), Path(cache) if cache else platformdirs.user_cache_path("charrnn"))


@contextmanager
def scratch_places(places: Places) -> Iterator[Places]:
    """The same data folders with a cache that disappears afterwards: for a dry run, which writes nothing."""
    with TemporaryDirectory(prefix="charrnn-") as folder:
        yield Places((*places.data, places.cache), Path(folder))


class CacheFile:
    """A file for the cache that gets its name when it is complete and on the disk, so that names can be trusted.

    Used as a context manager; without ``keep_as`` nothing is left of it. What a killed process left of its own goes as
    well: whoever still writes one holds a lock on it.

    Raises:
        DataError: the cache cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> CacheFile:
        with self._explaining():
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(f"{UNFINISHED}*"):
                with suppress(OSError), left.open("rb") as file:  # somebody else's, perhaps, or just gone
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
            self._file = self._make()
        return self

    def _make(self) -> BinaryIO:
        while True:
            # Not one of tempfile, which nobody else may read: several users may share a cache.
            file = (self._folder / f"{UNFINISHED}{secrets.token_hex(8)}").open("xb")
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if Path(file.name).exists():  # else somebody took it for one that was left, before it was locked
                return file
            file.close()

    def write(self, content: bytes) -> None:
        """Add to the file."""
        with self._explaining():
            self._file.write(content)

    def reread(self) -> BufferedReader:
        """What was written so far, from its beginning."""
        with self._explaining():
            self._file.flush()
            return Path(self._file.name).open("rb")

    def keep_as(self, name: str) -> Path:
        """Close the file and put it under its name."""
        with self._explaining():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            return Path(self._file.name).replace(self._folder / name).absolute()

    def __exit__(self, *_: object) -> None:
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._folder}: cannot write the cache: {error.strerror}; point CHARRNN_CACHE elsewhere"
            ) from error
