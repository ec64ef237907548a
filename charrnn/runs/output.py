"""Files that a command writes where the user wants them: refused before the work, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from charrnn.config.library import is_folder
from charrnn.errors import UsageError
from charrnn.runs.files import write_atomically


def refuse_output(path: Path, what: str, suffixes: Sequence[str]) -> None:
    """Find out before the work whether ``what`` ("a picture") can be written under this name.

    Raises:
        UsageError: the name is not one of its kind, it is that of a folder, or nothing can be put there.
    """
    refuse_name(path, what, suffixes)
    if is_folder(path):
        raise UsageError(f"{path}: cannot be written: is a folder; choose another name with -o")
    refuse_place(path)


def refuse_name(path: Path, what: str, suffixes: Sequence[str]) -> None:
    """Raises UsageError where the name ends in none of the suffixes."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: {what}'s name ends in {', '.join(suffixes)}; choose another with -o")


def refuse_place(path: Path) -> None:
    """Raises UsageError where there is no folder to put it in, or one that is not ours to write in."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: cannot be written: no such folder: {path.parent}; choose another with -o")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: cannot be written: {path.parent} cannot be written in; choose another with -o")


def write_output(path: Path, content: bytes) -> None:
    """Put finished content in its place.

    Raises:
        UsageError: the file cannot be written.
    """
    with writing(path):
        write_atomically(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes ``path``: an error of the system becomes a UsageError."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        raise UsageError(f"{path}: cannot be written: {cause}; choose another name with -o") from error
