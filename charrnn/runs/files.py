"""Every change that a run makes to the disk: files written all or nothing, files that only grow, folders, locks.

All of it goes through the operations of ``Disk``, one method each, so that tests can record them, stop before or
after any of them, or let it fail.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".unfinished-"


class Disk:
    """The operations of the system that change the disk."""

    def create(self, path: Path) -> int:
        """A new file, open for writing; its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def open_to_append(self, path: Path) -> int:
        """A file (no link), made if it is not there, whose writes go to its end; its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        """Bytes written: perhaps fewer than given."""
        return os.write(descriptor, content)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file off."""
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Flush a file's content to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file another name, in place of what had it."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        target.hardlink_to(source)

    def unlink(self, path: Path) -> None:
        """Take a name away."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """A new folder."""
        path.mkdir()

    def sync_folder(self, path: Path) -> None:
        """Flush the names in a folder to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


disk = Disk()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, all or nothing, also across a power loss.

    A temporary file in the same folder is written and flushed to the disk, then renamed; then the folder itself is
    flushed, which makes the new name last.

    Raises:
        OSError: it could not be written; ``path`` is as it was.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    try:
        _write_new(temporary, content)
        disk.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            disk.unlink(temporary)
        raise
    disk.sync_folder(path.parent)


def write_folder(path: Path, contents: dict[str, bytes]) -> None:
    """Make the folder ``path`` with these files (by name, perhaps in folders of their own), all or nothing.

    It is made under another name beside its place, flushed to the disk, then renamed.

    Raises:
        OSError: it could not be written, or there is something at ``path`` already; that is as it was.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    try:
        inner = {(temporary / name).parent for name in contents} | {temporary}
        for folder in sorted(inner):
            disk.make_folder(folder)
        for name, content in contents.items():
            _write_new(temporary / name, content)
        for folder in inner:
            disk.sync_folder(folder)
        disk.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    disk.sync_folder(path.parent)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = disk.create(path)
    try:
        _write_all(descriptor, content)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def remove_unfinished(folder: Path) -> None:
    """Remove what a crash left of files and folders that never got their name. Nobody else may be writing there."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            disk.unlink(path)


class GrowingFile:
    """A file that is only appended to, and whose length a checkpoint can remember. A context manager.

    What could not be written (a full disk, say) is kept, and written before whatever is appended next.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open for appending after the first ``length`` bytes; what lies behind them is cut off.

        A resumed run passes the length its checkpoint knows of, so that nothing is in the file twice.
        """
        self._descriptor = disk.open_to_append(path)
        self.cut(length)

    def cut(self, length: int) -> None:
        """Forget everything behind the first ``length`` bytes; it leaves the disk with the next write."""
        self._pending = b""
        self._length = min(length, os.fstat(self._descriptor).st_size)  # somebody may have shortened it
        self._has_tail = True  # bytes on the disk that are not to be there

    @property
    def length(self) -> int:
        """In bytes, with what still waits to be written."""
        return self._length + len(self._pending)

    def append(self, content: str | bytes) -> None:
        """Add text or bytes and hand them to the system at once.

        Raises:
            OSError: the system did not take it; it is kept for the next time.
        """
        self._pending += content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
        self._write_pending()

    def _write_pending(self) -> None:
        self._cut_tail()
        try:
            _write_all(self._descriptor, self._pending)
        except BaseException:  # Ctrl-C, too, which may come when all is written and not yet counted
            self._has_tail = True  # half a line, perhaps
            with suppress(OSError):
                self._cut_tail()
            raise
        self._length += len(self._pending)
        self._pending = b""

    def _cut_tail(self) -> None:
        if self._has_tail:
            disk.truncate(self._descriptor, self._length)
            self._has_tail = False

    def sync(self) -> None:
        """Flush to the disk, so that a checkpoint may rely on its length.

        Raises:
            OSError: as ``append``.
        """
        self._write_pending()
        disk.sync(self._descriptor)

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what still waits, where that can be, and close the file."""
        with suppress(OSError):
            self._write_pending()
        with suppress(OSError):  # whatever must last was flushed before
            disk.close(self._descriptor)
