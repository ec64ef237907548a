"""The folders that texts are looked up in and cached in. The only place that reads the environment for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from charrnn.config.library import shipped


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
