"""The run folder: which files a run keeps, and where.

runs/NAME/config.yaml              the resolved config
          metrics.jsonl            see metrics.py
          samples.txt              a sample of text per evaluation
          environment.json         versions, processor, threads, the text's name, length and SHA-256
          checkpoints/last.safetensors
                      best.safetensors
                      step-000001000.safetensors   what was the last one before, see run.keep
          tensorboard/             event files, where run.tracker asks for them
          lock                     held while somebody trains in the folder; says who
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from charrnn.config.library import is_file, is_folder
from charrnn.errors import CheckpointError, UsageError
from charrnn.runs import files
from charrnn.runs.files import write_atomically

DEFAULT = Path("runs")  # the folder of run folders, unless run.out says another
MAX_RUNS_OF_A_NAME = 100_000


class RunFolder:
    """Paths inside a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples.txt"
        self.environment = path / "environment.json"
        self.last = path / "checkpoints" / "last.safetensors"
        self.best = path / "checkpoints" / "best.safetensors"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.lock = path / "lock"

    def older(self, step: int) -> Path:
        """The name of the checkpoint of this step once it is no longer the last one."""
        return self.checkpoints / f"step-{step:09}.safetensors"

    def all_older(self) -> list[Path]:
        """The checkpoints that once were the last one, the one written last first: not by step, which a run that
        was taken back to an older checkpoint passes twice."""
        paths = self.checkpoints.glob("step-*.safetensors")
        return sorted(paths, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)

    @classmethod
    def create(cls, out: Path, name: str, config_yaml: str, environment: dict[str, Any]) -> RunFolder:
        """Make ``out/NAME``, or ``NAME-2``, ``NAME-3`` ... where that exists: no run writes into another.

        Raises:
            UsageError: the folder cannot be made.
        """
        try:
            folder = cls(new_folder(out, name))
            files.disk.make_folder(folder.checkpoints)
            write_atomically(folder.config, config_yaml.encode())
            write_atomically(folder.environment, environment_json(environment))
        except OSError as error:
            raise UsageError(f"{out}: cannot make a run folder: {error.strerror}; choose another with --out") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder that holds at least one checkpoint.

        Raises:
            CheckpointError: there is no such run.
        """
        refuse_no_folder(path)
        folder = cls(path)
        if not (folder.last.exists() or folder.best.exists() or folder.all_older()):
            raise CheckpointError(f"{path}: holds no checkpoint; {where_to_look(path)}")
        return folder


def environment_json(environment: dict[str, Any]) -> bytes:
    """The content of ``environment.json``."""
    return json.dumps(environment, indent=2).encode() + b"\n"


def refuse_no_folder(path: Path) -> None:
    """Raises CheckpointError where the path, which should be that of a run, is not a folder."""
    if is_file(path):
        raise CheckpointError(f"{path}: is a file; give a run folder, the one that holds config.yaml")
    if not is_folder(path):
        raise CheckpointError(f"{path}: no such run folder; {_perhaps(path)}")


def _perhaps(path: Path) -> str:
    """What to do about a path where nothing is, for the end of a message: it may be the name of a run alone."""
    found = ".." not in path.parts and is_folder(DEFAULT / path)
    return f"did you mean {DEFAULT / path}?" if found else "'charrnn train' prints where a run is kept"


def where_to_look(path: Path) -> str:
    """What to do about a folder that is no run, for the end of a message: take a run in it, if there is one."""
    for pattern in ("*", "*/*"):  # a folder of runs or a swarm; a hive
        for inner in sorted(path.glob(pattern)):
            if RunFolder(inner).config.exists() and RunFolder(inner).checkpoints.exists():
                return f"give one of the runs in it, such as {inner}"
    return "give a run folder, the one with config.yaml and checkpoints/, or train anew"


def folder_of(path: Path) -> RunFolder:
    """The run folder for a path given by the user: that itself, or one of its checkpoints.

    Raises:
        CheckpointError: there is no such run.
    """
    return RunFolder.open(path.absolute().parent.parent if _is_kept_checkpoint(path) else path)


def _is_kept_checkpoint(path: Path) -> bool:
    folder = path.absolute().parent
    return is_file(path) and folder == RunFolder(folder.parent).checkpoints


def new_folder(out: Path, name: str) -> Path:
    """Make ``out/NAME``, or ``NAME-2``, ``NAME-3`` ... where that exists.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_RUNS_OF_A_NAME):
            path = out / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):
                files.disk.make_folder(path)
                files.disk.sync_folder(out)
                return path
    except OSError as error:
        other = "a shorter --name" if error.errno == errno.ENAMETOOLONG else "another with --out"
        raise UsageError(f"{out}: cannot make a folder: {error.strerror}; choose {other}") from error
    raise UsageError(f"{out}: too many folders named {name}; choose another --name")


def refuse_unwritable(out: Path) -> None:
    """Find out before the work whether a folder for its results can be made; makes nothing.

    Raises:
        UsageError: it cannot.
    """
    try:
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:  # a name that no folder can have
        raise UsageError(f"{out}: cannot make a folder: {error.strerror}; choose another with --out") from error
    if not nearest.is_dir():
        raise UsageError(f"{out}: cannot make a folder: {nearest} is a file; choose another with --out")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"{out}: cannot make a folder: {nearest} cannot be written; choose another with --out")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file for a path given by the user: the file itself, or a run folder's best, else last, else newest
    older one.

    Raises:
        CheckpointError: there is none.
    """
    if is_folder(path):
        folder = RunFolder.open(path)
        return next(file for file in (folder.best, folder.last, *folder.all_older()) if file.exists())
    if not is_file(path):
        raise CheckpointError(f"{path}: no such checkpoint or run folder; {_perhaps(path)}")
    return path
