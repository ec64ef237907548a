"""The folder that holds run folders, usually ``runs``: what lies in it, and how something is taken away.

An entry is a folder of ours: a run, a hive of a swarm, a swarm of a hive, or what ``charrnn lr-find`` left.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from charrnn.config.library import is_file, is_folder
from charrnn.errors import CharRNNError, ConfigError, UsageError
from charrnn.runs import files
from charrnn.runs.directory import RunFolder
from charrnn.runs.files import TEMPORARY
from charrnn.runs.lock import FolderLock, is_locked

REMOVING = ".removing-"
Kind = Literal["run", "hive", "swarm", "lr-find", "half-made"]
# What tells the kinds apart, in this order; each is the first or only file that is always there.
SIGNS: dict[str, Kind] = {"hive.yaml": "hive", "swarm.json": "swarm", "lr-find.json": "lr-find"}
# What a run folder may hold when the machine stops while it is being made.
BEGINNING = {"checkpoints", "config.yaml", "lock"}
# A key of each file that a run alone has beside its config: other programs have files of these names, too.
KEYS = {"environment.json": "charrnn", "result.json": "status"}


@dataclass(frozen=True)
class Entry:
    """One folder of ours."""

    path: Path
    kind: Kind

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.name

    @property
    def modified(self) -> float:
        """When training last wrote in it, seconds since the epoch."""
        folder = RunFolder(self.path)
        for path in (folder.metrics, folder.config, self.path / "hive.json", self.path):
            if is_file(path) or path == self.path:
                return path.lstat().st_mtime
        raise AssertionError("the folder itself comes last")


def kind_of(path: Path) -> Kind | None:
    """What kind of ours a folder is; None if it is none, or cannot be looked into."""
    try:
        names = {one.name for one in path.iterdir()}
    except OSError:
        return None
    for sign, kind in SIGNS.items():
        if sign in names:
            return kind
    checkpoints = [one for one in RunFolder(path).checkpoints.glob("*") if not one.name.startswith(TEMPORARY)]
    if "config.yaml" in names:
        if any(_has_key(path / name, key) for name, key in KEYS.items()):
            return "run"
        if not _is_config(path / "config.yaml"):
            return None
        if names & {*KEYS, "metrics.jsonl"} or any(one.suffix == ".safetensors" for one in checkpoints):
            return "run"
    begun = all(name in BEGINNING or name.startswith(TEMPORARY) for name in names)
    return "half-made" if begun and not checkpoints else None


def _has_key(path: Path, key: str) -> bool:
    try:
        return key in json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, TypeError):
        return False


def _is_config(path: Path) -> bool:
    from charrnn.config.loader import load_config  # brings the schema, for which completion should not have to wait

    try:
        load_config(path)
    except ConfigError:
        return False
    return True


def entries(folder: Path) -> tuple[list[Entry], int]:
    """The entries of a folder by name, and how many other folders lie beside them; hidden ones are not looked at.

    Raises:
        UsageError: it cannot be read.
    """
    inner = [path for path in _visible(folder) if is_folder(path)]
    found = [Entry(path, kind) for path in inner if (kind := kind_of(path))]
    return found, len(inner) - len(found)


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}; give a folder that holds run folders") from error


def newest_run(folder: Path) -> Entry:
    """The run in which training wrote last.

    Raises:
        UsageError: there is none.
    """
    runs = [entry for entry in entries(folder)[0] if entry.kind == "run"] if is_folder(folder) else []
    if not runs:
        raise UsageError(f"{folder}: holds no run; train one, or say with --out where runs are kept")
    return max(runs, key=lambda entry: (entry.modified, entry.name))


def find_entry(folder: Path, name: str) -> Entry:
    """The entry of this name, also written ``FOLDER/NAME`` or in full; nothing outside the folder is ever found.

    Raises:
        UsageError: there is none; names the nearest.
    """
    given = Path(name)
    inside = given.parent == Path() or given.parent.absolute() == folder.absolute()
    if not inside or given.name in ("", ".."):
        raise UsageError(f"{name}: is not the name of a folder in {folder}; give a name alone, its folder with --out")
    name = given.name
    path = folder / name
    if not path.is_symlink() and not is_folder(path):
        known = [entry.name for entry in entries(folder)[0]] if is_folder(folder) else []
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        listing = f"charrnn runs ls {shlex.quote(str(folder))}"
        advice = f"did you mean {near[0]}?" if near else f"'{listing}' lists what is there"
        raise UsageError(f"{path}: no such run; {advice}")
    kind = kind_of(path)
    if kind is None or name.startswith("."):
        raise UsageError(f"{path}: is not a run, not a hive and nothing that charrnn lr-find left; it stays as it is")
    return Entry(path, kind)


def size_of(path: Path) -> tuple[int, int]:
    """Files, and bytes on the disk; a file with two names counts once, a link is not followed."""
    found = path.lstat() if path.is_symlink() else None
    seen = {one.stat().st_ino: one.stat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink()}
    return (1, found.st_size) if found else (len(seen), sum(seen.values()))


def refuse_busy(entry: Entry) -> None:
    """Find out before anything is deleted whether somebody trains in it.

    Raises:
        UsageError: somebody does.
    """
    for one in (entry.path, *entry.path.glob("*/bee-*")):
        if not entry.path.is_symlink() and is_locked(RunFolder(one)):
            raise UsageError(f"{one}: somebody is training in it; wait for that, or stop it first")


def _refuse_protected(path: Path) -> None:
    """Find out before anything is deleted whether all of a folder can be."""
    for folder in (path, *(one for one in path.rglob("*") if one.is_dir() and not one.is_symlink())):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CharRNNError(
                f"{folder}: is write-protected, nothing was deleted; chmod -R u+w {shlex.quote(str(path))} allows it"
            )


def remove(entry: Entry) -> None:
    """Delete an entry, all or nothing: it first gets a hidden name, so that no half of it ever looks like a run.

    Of a symbolic link the link alone goes. What an earlier removal left because it was interrupted goes too.

    Raises:
        UsageError: somebody trains in it.
        CharRNNError: the disk refused.
    """
    path, hidden = entry.path, None
    try:
        if path.is_symlink():
            files.disk.unlink(path)
        else:
            hidden = path.with_name(f"{REMOVING}{secrets.token_hex(8)}")  # without a name that may be long
            refuse_busy(entry)
            _refuse_protected(path)
            with FolderLock(RunFolder(path)):
                files.disk.replace(path, hidden)
        files.disk.sync_folder(path.parent)
        for left in path.parent.glob(f"{REMOVING}*"):
            with nullcontext() if left == hidden else suppress(OSError):
                shutil.rmtree(left)
    except OSError as error:
        raise CharRNNError(
            f"{error.filename or path}: cannot be deleted: {error.strerror}; check its permissions"
        ) from error
