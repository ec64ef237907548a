"""A folder of runs as a list: how each stands, and what about it is not as in the shipped config it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from charrnn.config.library import shipped_configs
from charrnn.config.loader import load_own_config
from charrnn.config.settings import flat
from charrnn.errors import UsageError
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import is_locked
from charrnn.runs.run import Run, glance_at_run
from charrnn.runs.shelf import Entry, entries
from charrnn.studies.compared import NO_EXPERIMENT, RESULT, bee_result, differing

RUN_SETTINGS = "run."  # how often it reports: told last


@dataclass(frozen=True)
class Listed:
    """One folder. ``state`` is that of a run or of a bee ("failed"), "running", "damaged", or else the kind.
    ``best_val_loss`` in nats per character, ``seconds`` of training, ``modified`` since the epoch; ``base`` is the
    shipped config that ``differing`` (the run's values, by dotted name) compares with, None where settings were chosen
    for the text, but for those; ``remark`` says what a folder is that is no run, or what is wrong with it."""

    name: str
    kind: str
    state: str
    modified: float
    best_val_loss: float | None = None
    best_step: int | None = None
    steps: int | None = None
    seconds: float | None = None
    base: str | None = None
    differing: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    remark: str | None = None


def list_runs(folder: Path) -> tuple[list[Listed], int]:
    """What lies in a folder, newest first, and how many folders in it are none of ours. A damaged one is in the list.

    Raises:
        UsageError: the folder cannot be read.
    """
    found, others = entries(folder)
    listed = [one for entry in found if (one := _listed(entry))]
    return sorted(listed, key=lambda one: (-one.modified, one.name)), others


def difference(run: Run) -> tuple[str | None, dict[str, Any]]:
    """The shipped config that a run was made from, and the run's settings that are not as there.

    A run that does not know its config (it is older, or was made from a file of the user's) is compared with the one of
    its name, else with the one that fewest settings differ from. Where settings were chosen for the text: None, and
    those that were not, but given.
    """
    if "chosen" in run.environment:
        return None, _given(run)
    shipped = shipped_settings()
    known, named = run.environment.get("config"), run.path.name.rstrip("0123456789").removesuffix("-")
    for base in (known, f"{run.path.name}.yaml", f"{named}.yaml"):
        if isinstance(base, str) and base in shipped:
            return base, _own(run, shipped[base])
    nearest = min(shipped, key=lambda base: len(_own(run, shipped[base])))
    return nearest, _own(run, shipped[nearest])


@cache
def shipped_settings() -> dict[str, dict[str, Any]]:
    """The shipped configs' settings, by their name and then by dotted name."""
    return {path.name: flat(load_own_config(path).model_dump(mode="json")) for path in shipped_configs()}


def _own(run: Run, base: dict[str, Any]) -> dict[str, Any]:
    """What differs from ``base``, as the run has it; how often it reports comes last."""
    changed = {name: values[1] for name, values in differing([base, run.settings]).items()}
    return dict(sorted(changed.items(), key=lambda item: item[0].startswith(RUN_SETTINGS)))


def _given(run: Run) -> dict[str, Any]:
    """Settings that were given where the others were chosen; older runs do not know them."""
    given = run.environment.get("given")
    names = [str(name) for name in given] if isinstance(given, list) else []
    return {
        setting: value
        for setting, value in run.settings.items()
        if any(setting == name or setting.startswith(f"{name}.") for name in names)
        and setting not in {*NO_EXPERIMENT, "corpus.source"}
    }


def _listed(entry: Entry) -> Listed | None:
    """None for what went away in the meantime."""
    try:
        return _listed_run(entry) if entry.kind == "run" else _listed_other(entry)
    except (UsageError, OSError) as error:
        if not entry.path.exists():
            return None
        cause = str(error).removeprefix(f"{entry.path}/").splitlines()[0]
        return Listed(entry.name, entry.kind, "damaged", entry.modified, remark=cause)


def _listed_other(entry: Entry) -> Listed:
    """What is no run, in one remark."""
    inside = {"hive": "*/bee-*", "swarm": "bee-*"}.get(entry.kind)
    if inside is None:
        remark = "its making was interrupted" if entry.kind == "half-made" else "the picture and points of lr-find"
        return Listed(entry.name, entry.kind, entry.kind, entry.modified, remark=remark)
    bees = sum((bee / RESULT).exists() for bee in entry.path.glob(inside))
    state = "running" if is_locked(RunFolder(entry.path)) else entry.kind
    return Listed(entry.name, entry.kind, state, entry.modified, remark=f"{entry.kind}, {bees:,} bees landed")


def _state(run: Run) -> str:
    """How a run stands; a bee's result knows more than its files: it may have failed, or ended above a guess."""
    status, _ = bee_result(run) or ("ended", None)
    return run.state if status == "ended" or run.locked else status


def _listed_run(entry: Entry) -> Listed:
    run = glance_at_run(entry.path)
    base, changed = difference(run)
    best, model = run.best, run.config.model
    chosen = f"chosen for the text ({model.shape})" if changed else f"all chosen for the text: {model.shape}"
    return Listed(
        entry.name,
        entry.kind,
        _state(run),
        entry.modified,
        best_val_loss=best["val_loss"] if best else None,
        best_step=best["step"] if best else None,
        steps=max((row["step"] for row in run.metrics), default=0),
        seconds=run.seconds,
        base=base,
        differing=changed,
        note=run.config.run.note or None,
        remark=None if base else chosen,
    )
