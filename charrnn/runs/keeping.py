"""The checkpoints of one run folder: saving, pruning, and finding the newest one that is whole."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from charrnn.errors import CheckpointError
from charrnn.runs import files
from charrnn.runs.checkpoint import State, pack, read_checkpoint
from charrnn.runs.directory import RunFolder

# What file systems say that know no second name for a file (FAT and some network shares).
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Keeper:
    """Saves ``last`` and ``best``; what was the last one before stays as one of ``keep`` older ones.

    Nothing is removed before the new one has been read back whole, and the best one never. A checkpoint that the
    disk refuses waits, until a newer one takes its place.
    """

    def __init__(self, folder: RunFolder, keep: int, before_writing: Callable[[], None] = lambda: None) -> None:
        """``before_writing`` puts on the disk what a checkpoint promises to be there: the logs."""
        self.folder = folder
        self.keep = keep
        self.before_writing = before_writing
        self.step_of_last = step_of(folder.last)  # None where there is no whole one to keep
        self._best: tuple[bytes, int] | None = None
        self._last: tuple[bytes, int] | None = None

    def save_best(self, state: State) -> None:
        """Write the best checkpoint, and one that waits; raises as ``save_last``."""
        self._best = pack(state), state["trainer"]["steps"]
        self._write()

    def taken_back(self, step: int, best_step: int) -> None:
        """The run goes on from ``step``, where its best one was that of ``best_step``: what came later is of another
        time line. A later best checkpoint becomes an older one, as far as the disk lets it."""
        if self._best is not None and self._best[1] != best_step:
            self._best = None
        if self.step_of_last is None or step >= self.step_of_last:
            return
        found, own = step_of(self.folder.best), self.folder.older(best_step)
        if found is None or found <= step:
            return
        with suppress(OSError):
            if not self.folder.older(found).exists():
                _link_or_copy(self.folder.best, self.folder.older(found))
            if step_of(own) == best_step:
                files.write_atomically(self.folder.best, own.read_bytes())
            else:
                files.disk.unlink(self.folder.best)

    def save_last(self, state: State, step: int) -> None:
        """Write the newest checkpoint, and one that waits.

        Raises:
            OSError: the disk refused, or did not give back what was written; every older checkpoint is as it was.
        """
        self._last = pack(state), step
        self._write()

    def _write(self) -> None:
        self.before_writing()
        if self._best is not None:
            files.write_atomically(self.folder.best, self._best[0])
            _verify(self.folder.best)
            self._best = None
        if self._last is not None:
            self._write_last(*self._last)
            self._last = None
            for path in self.folder.all_older()[self.keep :]:
                files.disk.unlink(path)

    def _write_last(self, content: bytes, step: int) -> None:
        if self.step_of_last is not None and self.step_of_last != step:
            older = self.folder.older(self.step_of_last)
            files.disk.unlink(older)  # of a time line that the run was taken back from, if it is there
            _link_or_copy(self.folder.last, older)
        files.write_atomically(self.folder.last, content)
        self.step_of_last = None  # until the new one is known to be whole
        _verify(self.folder.last)
        self.step_of_last = step


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        files.disk.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        files.write_atomically(target, source.read_bytes())


def _verify(path: Path) -> None:
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        raise OSError(errno.EIO, f"what was written cannot be read back ({error})", str(path)) from error


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole; ``damaged`` says what is wrong with those that should have come before it."""

    file: Path
    state: State
    damaged: list[str]

    @property
    def step(self) -> int:
        """Optimizer steps taken; 0 where the content is not that of a run, which is found out when it is used."""
        try:
            return int(self.state["trainer"]["steps"])
        except (LookupError, TypeError, ValueError):
            return 0

    @property
    def is_of_the_end(self) -> bool:
        """Whether it was saved in a training's last evaluation, after which only the last checkpoint is written."""
        score = self.state.get("score")
        return isinstance(score, dict) and bool(score.get("finished"))


def find_state(folder: RunFolder, path: Path) -> Found:
    """What to go on from: the newest whole checkpoint of a run folder; or the one named, if ``path`` is one.

    Raises:
        CheckpointError: there is none, or the one named is damaged.
    """
    return newest_whole(folder) if path == folder.path else Found(path, read_checkpoint(path), [])


def step_of(file: Path) -> int | None:
    """The step of a checkpoint; None if there is none, or it is damaged."""
    try:
        return int(read_checkpoint(file)["trainer"]["steps"])
    except (CheckpointError, KeyError, TypeError):
        return None


def newest_whole(folder: RunFolder, best_step: int | None = None) -> Found:
    """The last checkpoint, or the best one if that is of a later step; where the last is missing or damaged, the one
    written last of all others that are whole. A best one of the end is not gone on from: the last would never come.

    ``best_step``, if it is known, is the run's own: another best one is left from another time line.

    Raises:
        CheckpointError: there is none.
    """
    damaged: list[str] = []
    if last := _whole(folder.last, damaged):
        best = _whole(folder.best, [])
        if best is None or best.step <= last.step or best_step not in (None, best.step) or best.is_of_the_end:
            return last
        return best
    others = [
        found for path in (*folder.all_older(), folder.best) if path.exists() and (found := _whole(path, damaged))
    ]
    if not others:
        raise CheckpointError(f"{folder.path}: holds no checkpoint that can be read; start a new run. {damaged[0]}")
    return max(others, key=lambda found: (found.file.stat().st_mtime, found.step))


def newest_before(folder: RunFolder, step: int) -> Found | None:
    """The checkpoint of the latest step before this one; None if none is whole."""
    paths = [path for path in (*folder.all_older(), folder.best) if path.exists()]
    found = [one for path in paths if (one := _whole(path, [])) and one.step < step]
    return max(found, key=lambda one: one.step, default=None)


def _whole(path: Path, damaged: list[str]) -> Found | None:
    try:
        return Found(path, read_checkpoint(path), damaged)
    except CheckpointError as error:
        damaged.append(str(error))
        return None
