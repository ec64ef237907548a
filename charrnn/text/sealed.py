"""Files of the cache with a digest at their end: one that was damaged, or lies in the place of another, is not taken.

Of each block only its sum is hashed: a tenth of a second per gigabyte, as nobody is to be kept from forging it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

import numpy as np

from charrnn.text.places import CacheFile

SEAL_BYTES = 32
BLOCK_BYTES = 1 << 18


def write_sealed(path: Path, chunks: Iterable[bytes]) -> None:
    """Put ``chunks`` and their seal into a file of the cache, all or nothing.

    Raises:
        DataError: the cache cannot be written.
    """
    with CacheFile(path.parent) as file:
        for chunk in chunks:
            file.write(chunk)
        with file.reread() as written:
            seal = _seal(written, _length(written), path.name)
        file.write(seal)
        file.keep_as(path.name)


def sealed_length(path: Path) -> int | None:
    """How many bytes were written before the seal; None where there is no such file, or not as it was written."""
    with suppress(OSError), path.open("rb") as file:
        length = _length(file) - SEAL_BYTES
        if _seal(file, length, path.name) == file.read():
            return length
    return None


def _length(file: BufferedReader) -> int:
    return os.fstat(file.fileno()).st_size


def _seal(file: BufferedReader, length: int, name: str) -> bytes:
    """Of the next ``length`` bytes under this name."""
    digest = hashlib.sha256(name.encode())
    room = memoryview(bytearray(BLOCK_BYTES))
    block = np.frombuffer(room, np.uint64)
    while length > 0 and (count := file.readinto(room[: min(length, BLOCK_BYTES)])):
        room[count:] = bytes(BLOCK_BYTES - count)
        digest.update(block.sum().tobytes())
        length -= count
    return digest.digest()
