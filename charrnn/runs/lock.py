"""One writer at a time: a lock on a run folder, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from contextlib import suppress

from charrnn.errors import UsageError
from charrnn.runs.directory import RunFolder

TRIES, TRY_SECONDS = 5, 0.02


def is_locked(folder: RunFolder) -> bool:
    """Whether a process trains in a folder now; the question itself locks nobody out for longer than a moment."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class FolderLock:
    """Held as a context manager. What is locked is the folder itself; the file ``lock`` only says who holds it.

    Raises:
        UsageError: another process holds it, or the folder is gone.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def __enter__(self) -> FolderLock:
        path = self._folder.path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UsageError(f"{path}: cannot open the run folder: {error.strerror}; check its permissions") from error
        try:
            self._lock()
        except OSError as error:
            os.close(self._descriptor)
            raise UsageError(f"{path}: {self._holder()} is training in it; wait for that, or stop it first") from error
        with suppress(OSError):  # on a full disk the lock holds all the same, its holder stays unnamed
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW  # a foreign folder may hold any link
            with os.fdopen(os.open(self._folder.lock, flags, 0o666), "w") as file:
                file.write(f"process {os.getpid()} on {platform.node()}, since {since},")
        return self

    def _lock(self) -> None:
        """Tried a few times: somebody who only asks ``is_locked`` holds it for a moment, too."""
        for _ in range(TRIES):
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(TRY_SECONDS)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _holder(self) -> str:
        try:
            return self._folder.lock.read_text(errors="replace").strip() or "another process"
        except OSError:
            return "another process"

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._folder.lock.unlink(missing_ok=True)
        os.close(self._descriptor)
