"""The corpora that charrnn knows by name, and how each is found."""

from __future__ import annotations

import hashlib
import io
import os
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from charrnn.config.library import shipped
from charrnn.errors import CorpusUnavailable, DataError
from charrnn.text.places import Places

SHAKESPEARE_FILE = "tinyshakespeare.txt"
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOAD_TIMEOUT_SECONDS = 20
COUNTING_CHARACTERS = 60_000
# Tests hold deliberately broken source; the others are not the library's own code.
PYTHON_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


@dataclass(frozen=True)
class Part:
    """One file of a corpus, or a generated piece: a name for messages and a way to open it."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class NamedCorpus:
    """A description for ``charrnn corpus ls`` and the function that finds its parts, downloaded where needed.

    It raises CorpusUnavailable where they would have to be downloaded and cannot be.
    """

    description: str
    find: Callable[[Places], list[Part]]


def file_part(path: Path, name: str | None = None) -> Part:
    """A file; messages call it by its path unless it has another ``name``."""
    return Part(name or str(path), lambda: path.open("rb"))


def local_shakespeare(places: Places) -> Path | None:
    """The first file of the right name and content in the data folders and the cache; None if there is none."""
    for folder in (*places.data, places.cache):
        path = folder / SHAKESPEARE_FILE
        content = path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else b""
        if hashlib.sha256(content).hexdigest() == SHAKESPEARE_SHA256:
            return path
    return None


def _shakespeare(places: Places) -> list[Part]:
    path = local_shakespeare(places) or _download_shakespeare(places)
    return [file_part(path)]


def _download_shakespeare(places: Places) -> Path:
    import logging

    import pooch
    import requests

    def download(url: str, file: str, *rest: object) -> None:
        Path(file).unlink()  # pooch makes it for its owner alone, but several users may share a cache
        pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT_SECONDS)(url, file, *rest)

    pooch.get_logger().setLevel(logging.WARNING)  # our own message says what happens
    try:
        return Path(
            pooch.retrieve(
                SHAKESPEARE_URL,
                known_hash=f"sha256:{SHAKESPEARE_SHA256}",
                fname=SHAKESPEARE_FILE,
                path=places.cache,
                downloader=download,
            )
        )
    except requests.RequestException as error:
        cause = f"the download failed ({type(error).__name__})"
    except ValueError:
        cause = "the downloaded file has the wrong SHA-256"
    except OSError as error:
        cause = f"it cannot be kept in {places.cache} ({error.strerror})"
    for folder in places.data:
        if (folder / SHAKESPEARE_FILE).exists():  # looked at by local_shakespeare, and not taken
            cause += f", and {folder / SHAKESPEARE_FILE} is not it (wrong SHA-256, or unreadable)"
    raise CorpusUnavailable(
        f"shakespeare: {cause}; put {SHAKESPEARE_FILE} into data/ or point CHARRNN_DATA at its folder"
    )


def _play(_: Places) -> list[Part]:
    path = shipped("data") / "play.txt"  # not data/play.txt in any folder, which may be another play
    if not path.is_file():
        raise DataError(f"{path}: the bundled play is missing; install charrnn again, or choose another corpus")
    return [file_part(path)]


def _python(_: Places) -> list[Part]:
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(f for f in root.rglob("*.py") if not PYTHON_LEFT_OUT & set(f.relative_to(root).parts))
    if not files:
        raise DataError(f"{root}: no source of the Python standard library here; choose another corpus")
    return [file_part(file) for file in files]


def _counting(_: Places) -> list[Part]:
    text = (b"1 2 3 " * (COUNTING_CHARACTERS // 6 + 1))[:COUNTING_CHARACTERS]
    return [Part("counting", lambda: io.BytesIO(text))]


NAMED = {
    "shakespeare": NamedCorpus("tiny Shakespeare, 1.1 MB of his plays; downloaded once", _shakespeare),
    "play": NamedCorpus("The Tide-Bell of Marroway, a five-act play that comes with charrnn", _play),
    "python": NamedCorpus("the source of this machine's Python standard library", _python),
    "counting": NamedCorpus("1 2 3 1 2 3 ..., generated: the smallest thing a network can learn", _counting),
}
