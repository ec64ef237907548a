"""Disks that count, kill, fail and record, and a model of what a power loss may leave. Knows nothing of training."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress, product
from pathlib import Path
from typing import Any

from charrnn.runs.files import Disk

OPERATIONS = tuple(name for name, value in vars(Disk).items() if callable(value) and not name.startswith("_"))
GROWING = ("create", "open_to_append", "write", "link", "make_folder")  # what a full disk refuses
Tree = dict[str, bytes | None]  # content by path; None for a folder
Mark = tuple[int, int]  # how far a run is: rollbacks, steps


class Killed(BaseException):
    """The process is no more."""


@dataclass(frozen=True)
class Operation:
    """One operation as it was carried out. ``path`` is that of the descriptor where it was given one."""

    name: str
    path: Path
    target: Path | None = None
    content: bytes = b""
    length: int = 0
    descriptor: int = -1
    mark: Mark = (0, 0)

    def __str__(self) -> str:
        return f"{self.name} {self.path.name}"


class WatchedDisk(Disk):
    """A disk whose every operation passes through ``watch``. It does not flush: that takes long, and shows nowhere."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, Mark] = {}
        self.open: dict[int, Path] = {}

    def watch(self, name: str, args: tuple[Any, ...]) -> Any:
        """Carry out an operation, or do not."""
        return self.perform(name, args)

    def perform(self, name: str, args: tuple[Any, ...]) -> Any:
        """What ``Disk`` does."""
        if name in ("sync", "sync_folder"):
            return None
        result = getattr(Disk, name)(self, *args)
        if name in ("create", "open_to_append"):
            self.open[result] = args[0]
        elif name == "close":
            del self.open[args[0]]
        return result

    def acknowledge(self, file: str, mark: Mark) -> None:
        """A save of the last or the best checkpoint has returned."""
        self.acknowledged[file] = mark

    def bury(self) -> None:
        """Close what a dead process had open, as the kernel does."""
        for descriptor in self.open:
            os.close(descriptor)
        self.open.clear()


def _watched(name: str) -> Callable[..., Any]:
    def operation(self: WatchedDisk, *args: Any) -> Any:
        return self.watch(name, args)

    return operation


for _name in OPERATIONS:  # taken from Disk itself: an operation added there cannot escape
    setattr(WatchedDisk, _name, _watched(_name))


class RecordingDisk(WatchedDisk):
    """Keeps what was done, saves that were acknowledged included."""

    def __init__(self) -> None:
        super().__init__()
        self.record: list[Operation] = []

    def watch(self, name: str, args: tuple[Any, ...]) -> Any:
        """Carry it out, then write it down."""
        path = args[0] if isinstance(args[0], Path) else self.open[args[0]]
        result = self.perform(name, args)
        descriptor = result if name in ("create", "open_to_append") else args[0] if isinstance(args[0], int) else -1
        self.record.append(
            Operation(
                name,
                path,
                target=args[1] if name in ("replace", "link") else None,
                content=bytes(args[1])[:result] if name == "write" else b"",
                length=args[1] if name == "truncate" else 0,
                descriptor=descriptor,
            )
        )
        return result

    def acknowledge(self, file: str, mark: Mark) -> None:
        """A save of the last or the best checkpoint has returned."""
        super().acknowledge(file, mark)
        self.record.append(Operation("acknowledge", Path(file), mark=mark))

    @property
    def operations(self) -> list[Operation]:
        """The record without the acknowledgements: number N is ``operations[N - 1]``."""
        return [operation for operation in self.record if operation.name != "acknowledge"]


class KillingDisk(WatchedDisk):
    """Kills the process before, after or in the middle of operation number ``at``; the dead change nothing any more.

    ``leaving`` is a second Ctrl-C instead: an exception as sudden as the kill, but clean-up still works.
    """

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how = at, how
        self.count = 0
        self.dead = False

    def watch(self, name: str, args: tuple[Any, ...]) -> Any:
        """Carry it out, unless this is the moment or it is too late."""
        if self.dead:  # whatever a ``finally`` still tries: it must not notice, and nothing may happen
            return len(args[1]) if name == "write" else None
        self.count += 1
        if self.count != self.at:
            return self.perform(name, args)
        if self.how == "after":
            self.perform(name, args)
        elif self.how in ("middle", "leaving") and name == "write":
            self.perform(name, (args[0], half(args[1])))
        self.dead = self.how != "leaving"
        raise Killed


class FailingDisk(WatchedDisk):
    """Refuses operations with an error, from number ``at`` on: ``times`` of them, or (None) for good.

    ``only`` names the operations that can be refused. ``halved`` lets operation ``at``, a write, do half its work,
    and the errors begin with the operation after it.
    """

    def __init__(
        self, at: int, error: int, times: int | None, only: Iterable[str] = OPERATIONS, halved: bool = False
    ) -> None:
        super().__init__()
        self.at, self.error, self.times, self.only, self.halved = at, error, times, frozenset(only), halved
        self.count = 0
        self.refused = 0

    def watch(self, name: str, args: tuple[Any, ...]) -> Any:
        """Carry it out, or raise."""
        self.count += 1
        if self.halved and self.count == self.at and name == "write":
            return self.perform(name, (args[0], half(args[1])))
        first = self.at + self.halved
        refused = name in self.only and self.count >= first
        refused &= self.times is None or self.count < first + self.times
        if name == "open_to_append" and self.error == errno.ENOSPC:
            refused &= not args[0].exists()  # to open a file takes no room
        if refused:
            self.refused += 1
            if name == "close":
                self.perform(name, args)  # Linux closes a file also where it reports an error
            raise OSError(self.error, os.strerror(self.error))
        return self.perform(name, args)


class ShortDisk(WatchedDisk):
    """Writes half of what it is given: at operation number ``at``, or (None) at every one."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at
        self.count = 0

    def watch(self, name: str, args: tuple[Any, ...]) -> Any:
        """Carry it out, or half of it."""
        self.count += 1
        if name == "write" and self.at in (None, self.count):
            return self.perform(name, (args[0], half(args[1])))
        return self.perform(name, args)


def half(content: bytes | memoryview) -> bytes | memoryview:
    """The first half, never nothing of something."""
    return content[: (len(content) + 1) // 2]


class Inode:
    """A file's content: what is flushed, and what was done to it since."""

    def __init__(self, flushed: bytes = b"") -> None:
        self.flushed = flushed
        self.live = flushed
        self.pending: list[Operation] = []

    def change(self, operation: Operation) -> None:
        """A write or a truncation."""
        self.live = _changed(self.live, operation)
        self.pending.append(operation)

    def sync(self) -> None:
        """Now a power loss takes nothing of it."""
        self.flushed = self.live
        self.pending = []

    def after_crash(self) -> list[bytes]:
        """What a power loss may leave: any number of the changes, the next one in part or as zeros."""
        found = [self.flushed]
        for operation in self.pending:
            content, added = found[-1], operation.content
            if operation.name == "write":
                parts = added[:1], added[: len(added) // 2], added[:-1], bytes(len(added))
                found += [content + part for part in parts]
            found.append(_changed(content, operation))
        return list(dict.fromkeys(found))


def _changed(content: bytes, operation: Operation) -> bytes:
    return content + operation.content if operation.name == "write" else content[: operation.length]


Names = dict[Path, "Inode | Folder"]
Change = tuple[Path, "Inode | Folder | None"]  # a name, and what it now stands for


class Folder:
    """The names in a folder: those flushed, and the changes since, each of which sets or removes names at once."""

    def __init__(self) -> None:
        self.flushed: Names = {}
        self.live: Names = {}
        self.pending: list[list[Change]] = []

    def change(self, *changes: Change) -> None:
        """One operation."""
        _rename(self.live, changes)
        self.pending.append(list(changes))

    def sync(self) -> None:
        """Now a power loss takes none of them."""
        self.flushed = dict(self.live)
        self.pending = []

    def after_crash(self) -> list[Names]:
        """What a power loss may leave: any of the changes, each done or not."""
        found: dict[frozenset[Any], Names] = {}
        for done in product((False, True), repeat=len(self.pending)):
            names = dict(self.flushed)
            for change in compress(self.pending, done):
                _rename(names, change)
            found[frozenset(names.items())] = names
        return list(found.values())


def _rename(names: Names, changes: Iterable[Change]) -> None:
    for path, what in changes:
        if what is None:
            names.pop(path, None)
        else:
            names[path] = what


class PowerModel:
    """A disk in memory, to which a record is applied, and the trees that a power loss may leave at any moment.

    POSIX and no more: content lasts once the file is flushed, a name once its folder is. ``root`` itself lasts.
    """

    def __init__(self, root: Path, tree: Tree) -> None:
        self.root = root
        self.folders = {root: Folder()}
        self.descriptors: dict[int, Inode] = {}
        for name, content in sorted(tree.items()):
            self._add(root / name, Inode(content) if content is not None else Folder())
        for folder in self.folders.values():
            folder.sync()

    def _add(self, path: Path, what: Inode | Folder) -> None:
        if isinstance(what, Folder):
            self.folders[path] = what
        self.folders[path.parent].change((path, what))

    def tree(self) -> Tree:
        """What is there for as long as there is power."""
        what = {path: found for folder in self.folders.values() for path, found in folder.live.items()}
        return {
            str(path.relative_to(self.root)): found.live if isinstance(found, Inode) else None
            for path, found in what.items()
        }

    def live(self, path: Path) -> bytes:
        """A file's content for as long as there is power."""
        inode = self.folders[path.parent].live[path]
        assert isinstance(inode, Inode)
        return inode.live

    def apply(self, operation: Operation) -> None:
        """Do what was done."""
        name, path, target, descriptor = operation.name, operation.path, operation.target, operation.descriptor
        if name in ("create", "open_to_append"):
            inode = self.folders[path.parent].live.get(path)
            if inode is None:
                inode = Inode()
                self._add(path, inode)
            assert isinstance(inode, Inode)
            self.descriptors[descriptor] = inode
        elif name in ("write", "truncate"):
            self.descriptors[descriptor].change(operation)
        elif name == "sync":
            self.descriptors[descriptor].sync()
        elif name == "make_folder":
            self._add(path, Folder())
        elif name == "sync_folder":
            self.folders[path].sync()
        elif name == "unlink":
            self.folders[path.parent].change((path, None))
        elif name in ("replace", "link"):
            assert target is not None
            assert target.parent == path.parent, "the model keeps the names of each folder apart"
            gone: list[Change] = [(path, None)] if name == "replace" else []
            self.folders[path.parent].change((target, self.folders[path.parent].live[path]), *gone)

    def after_crash(self) -> Iterator[Tree]:
        """Every tree that a power loss at this moment may leave."""
        for names in self._names(self.root):
            inodes = list(dict.fromkeys(what for what in names.values() if isinstance(what, Inode)))
            for contents in product(*(inode.after_crash() for inode in inodes)):
                left: dict[Inode | Folder, bytes] = dict(zip(inodes, contents, strict=True))  # links share it
                yield {str(path.relative_to(self.root)): left.get(what) for path, what in names.items()}

    def _names(self, folder: Path) -> Iterator[Names]:
        """Every set of names that may be left in a folder and, where they are left themselves, those below."""
        for names in self.folders[folder].after_crash():
            below = [list(self._names(path)) for path, what in names.items() if isinstance(what, Folder)]
            for chosen in product(*below):
                yield {path: what for part in (names, *chosen) for path, what in part.items()}
