"""Writing files so that a name never stands for half a file. Every write of a run goes through here."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, all or nothing, also across a power loss.

    A temporary file in the same folder is written and flushed to the disk, then renamed; then the folder itself is
    flushed, which makes the new name last.

    Raises:
        OSError: it could not be written; ``path`` is as it was.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).replace(path)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
