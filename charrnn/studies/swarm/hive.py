"""The folder of a hive: what was planned, which bees have landed.

runs/NAME-swarm/hive.yaml                   the plan: config, what is varied, seeds, threads, bees at a time
                hive.json                   all results, written at the end; swarm.png, heat.png, swarm.gif
                lr=0.01,momentum=0.9/       a swarm: one combination
                    swarm.json              its labels and settings
                    bee-1/                  an ordinary run folder, and result.json; there once it has landed
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from charrnn.config.library import is_file, is_folder
from charrnn.config.schema import MOST_THREADS
from charrnn.config.settings import dump_yaml
from charrnn.errors import CharRNNError, CheckpointError, UsageError
from charrnn.runs import files
from charrnn.runs.directory import MAX_RUNS_OF_A_NAME
from charrnn.runs.files import remove_unfinished, write_atomically, write_folder
from charrnn.studies.compared import RESULT
from charrnn.studies.swarm.bee import LOSSES, REPORT, Landed, Task
from charrnn.studies.swarm.plan import Swarm

FINISHED = ("ended", "diverged")  # a bee that failed is tried again when the hive is
MAY_GROW = ("seeds", "threads", "together", "trials", "command")  # what a plan that goes on may have otherwise

Plan = dict[str, Any]


class _PlanForm(BaseModel):
    """What a plan looks like, as far as nobody checks it later: a hive's folder may come from anywhere."""

    model_config = ConfigDict(strict=True)

    config: dict[str, Any]
    axes: list[Annotated[list[Annotated[dict[str, Any], Field(min_length=1)]], Field(min_length=1)]]
    seeds: int = Field(ge=1, le=100_000)
    texts: list[str]
    threads: int | None = Field(ge=1, le=MOST_THREADS)
    together: int | None = Field(ge=1, le=1024)

    @model_validator(mode="after")
    def _is_arranged_or_not(self) -> _PlanForm:
        if (self.threads is None) != (self.together is None):
            raise ValueError("threads and together are chosen at once: give both, or null for both")
        return self


class Hive:
    """Paths in a hive's folder, and what is written there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_file = path / "hive.yaml"
        self.json = path / "hive.json"

    @property
    def plan(self) -> Plan:
        """What ``hive.yaml`` says.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            plan: Plan = yaml.safe_load(self.plan_file.read_text(encoding="utf-8"))
            _PlanForm.model_validate(plan)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
            raise CheckpointError(
                f"{self.plan_file}: not the plan of a hive: {wrong}; start a new one with --name"
            ) from error
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise CheckpointError(f"{self.plan_file}: cannot be read: {error}; start a new hive with --name") from error
        return plan

    def write_plan(self, plan: Plan) -> None:
        """Keep the plan."""
        self._write(self.plan_file, dump_yaml(plan).encode())

    def grow(self, seeds: int) -> Plan:
        """The plan with so many seeds, if these are more. The hive's lock must be held."""
        plan = self.plan
        if seeds > plan["seeds"]:
            plan["seeds"] = seeds
            self.write_plan(plan)
        return plan

    def tidy(self) -> None:
        """Remove what a crash left half written. The hive's lock must be held."""
        with self._explaining():
            for folder in (self.path, *(path for path in self.path.iterdir() if path.is_dir())):
                remove_unfinished(folder)

    def add_swarm(self, swarm: Swarm) -> None:
        """Make the folder of a swarm, if it is not there."""
        folder = self.path / swarm.name
        if not (folder / "swarm.json").exists():
            with self._explaining():
                if not folder.exists():
                    files.disk.make_folder(folder)
                files.disk.sync_folder(self.path)  # its name must last as long as the bees in it
            kept = {"labels": swarm.labels, "settings": swarm.settings}
            self._write(folder / "swarm.json", json.dumps(kept, indent=2).encode() + b"\n")

    def result(self, task: Task) -> dict[str, Any] | None:
        """How a bee ended; None if it has not, or nobody can tell any more."""
        try:
            result = json.loads((self.path / task.place / RESULT).read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return result if _is_result(result) else None

    def has_landed(self, task: Task) -> bool:
        """Whether a bee need not fly (again)."""
        result = self.result(task)
        return result is not None and result["status"] in FINISHED

    def keep(self, landed: Landed) -> None:
        """Keep a bee, all or nothing; in place of one that failed."""
        folder = self.path / landed.task.place
        with self._explaining():
            if folder.exists():
                shutil.rmtree(folder)
            write_folder(folder, landed.files)

    def write_results(self, results: dict[str, Any], file: Path | None = None) -> None:
        """Keep ``hive.json``, or the results of a search."""
        self._write(file or self.json, json.dumps(results, allow_nan=False).encode() + b"\n")

    def _write(self, path: Path, content: bytes) -> None:
        with self._explaining():
            write_atomically(path, content)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CharRNNError(
                f"{self.path}: cannot write: {error.strerror or error}; what has landed is kept; make room, then "
                f"charrnn swarm --resume {shlex.quote(str(self.path))}"
            ) from error


def open_hive(path: Path) -> Hive:
    """An existing hive.

    Raises:
        CheckpointError: there is none.
    """
    if not is_folder(path) or not is_file(Hive(path).plan_file):
        raise CheckpointError(f"{path}: is not a hive (no hive.yaml in it); 'charrnn swarm' prints where one is kept")
    return Hive(path)


def find_or_make_hive(out: Path, name: str, plan: Plan) -> Hive:
    """The hive of this plan below ``out``: one that was begun is gone on with (to ``grow`` it is the caller's business,
    behind the lock); for another plan of the same name there will be ``NAME-swarm-2`` and so on.

    Raises:
        UsageError: the folder cannot be made.
    """
    fixed = _fixed(yaml.safe_load(dump_yaml(plan)))
    for number in range(1, MAX_RUNS_OF_A_NAME):
        hive = Hive(out / (f"{name}-swarm" if number == 1 else f"{name}-swarm-{number}"))
        if is_file(hive.plan_file) and _fixed(hive.plan) == fixed:
            return hive
        if not os.path.lexists(hive.path) and _make(hive, plan):
            return hive
    raise UsageError(f"{out}: too many hives named {name}; choose another --name")


def _make(hive: Hive, plan: Plan) -> bool:
    """Make a hive's folder, its plan in it from the first moment; False if somebody else just did."""
    out = hive.path.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_folder(hive.path, {hive.plan_file.name: dump_yaml(plan).encode()})
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and is_folder(hive.path):
            return False
        raise UsageError(f"{out}: cannot make a folder: {error.strerror}; choose another with --out") from error
    return True


def _is_result(found: Any) -> bool:
    """Whether this is what a bee leaves, as far as anybody reckons with it."""
    if not isinstance(found, dict) or not set(REPORT) <= found.keys():
        return False
    losses = [found[name] for name in LOSSES if found[name] is not None]
    return all(isinstance(number, int | float) for number in (found["steps"], found["seconds"], *losses))


def _fixed(plan: Plan) -> Plan:
    return {key: value for key, value in plan.items() if key not in MAY_GROW}
