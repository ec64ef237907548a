"""``charrnn runs``: which runs there are, what was tried in each, and how it went."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._complete import folders, run_names, runs_in
from charrnn.cli._table import table
from charrnn.cli._terminal import format_bytes, format_loss, format_seconds, printable, say
from charrnn.config.wording import counted
from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.runs.shelf import Entry
    from charrnn.studies.listing import Listed

HEAD = ["run", "state", "best val", "steps", "time", "differs from the shipped config", "note"]
NUMBERS = (2, 3, 4)
YIELDING = (5, 6, 0)

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="runs",
    show_default=True,
    metavar="FOLDER",
    help="The folder of the run folders.",
    shell_complete=folders,
)


@click.group(short_help="List, annotate, find and delete runs.")
def runs() -> None:
    """List runs, say what a run is about, find its folder, delete it.

    \b
    Examples:
      charrnn runs ls
      charrnn runs note runs/shakespeare "does 40 steps fail?"
      cd "$(charrnn runs path)"
      charrnn runs rm shakespeare-2
    """


@runs.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), shell_complete=folders)
@click.option("--sort", type=click.Choice(["time", "loss", "name"]), default="time", show_default=True, help="Order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ls(folder: Path | None, sort: str, as_json: bool) -> None:
    """The runs in FOLDER (default: runs), the one trained last first.

    Losses are nats per character. A run is running, done, diverged or interrupted.

    \b
    Examples:
      charrnn runs ls
      charrnn runs ls --sort loss
      charrnn runs ls --json | jq '.runs[] | select(.state == "diverged") | .name'
    """
    from charrnn.runs.directory import DEFAULT
    from charrnn.runs.shelf import kind_of
    from charrnn.studies.listing import list_runs

    place = folder or DEFAULT
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the one that holds the run folders, such as {DEFAULT}")
    if folder is not None and kind_of(folder) == "run":
        parent = f"charrnn runs ls {shlex.quote(str(folder.parent))}"
        raise UsageError(f"{folder}: is a run itself; give the folder it lies in: {parent}")
    listed, others = list_runs(place) if place.is_dir() else ([], 0)
    listed = _sorted(listed, sort)
    if as_json:
        click.echo(json.dumps({"folder": str(place), "others": others, "runs": [asdict(one) for one in listed]}))
    elif listed:
        click.echo("\n".join(_table(listed)))
    else:
        say(f"{place}: no runs yet; 'charrnn train --config quickstart.yaml' makes one")
    if others and not as_json:
        say(f"{counted(others, 'other folder')} in {place} left out: not charrnn's, or not to be read")


def _sorted(listed: list[Listed], sort: str) -> list[Listed]:
    if sort == "loss":
        return sorted(listed, key=lambda one: math.inf if one.best_val_loss is None else one.best_val_loss)
    return sorted(listed, key=lambda one: one.name) if sort == "name" else listed


def _table(listed: list[Listed]) -> list[str]:
    """Cut to the terminal, whole in a pipe."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return table([HEAD, *([_line(cell) for cell in _cells(one)] for one in listed)], width, NUMBERS, YIELDING)


def _cells(one: Listed) -> list[str]:
    changed = ", ".join(f"{name.partition('.')[2]}={_value(name, value)}" for name, value in one.differing.items())
    told = one.remark or Path(one.base or "").stem
    return [
        one.name,
        one.state,
        "" if one.best_val_loss is None else format_loss(one.best_val_loss),
        "" if one.steps is None else f"{one.steps:,}",
        "" if one.seconds is None else format_seconds(one.seconds),
        f"{told}: {changed}" if changed else told,
        one.note or "",
    ]


def _value(name: str, value: Any) -> str:
    """A setting's value; of a file of text its name alone, which is what fits."""
    from charrnn.config.settings import shown

    return Path(value).name if name == "corpus.source" and isinstance(value, str) else shown(value)


def _line(cell: str) -> str:
    """One line, in which nothing steers the terminal."""
    return printable(" ".join(cell.split()))


@runs.command(short_help="Print the folder of a run; default: the one trained last.")
@click.argument("name", required=False, shell_complete=run_names)
@out_option
def path(name: str | None, out: Path) -> None:
    """Print the folder of the run NAME as an absolute path; without NAME that of the run trained last.

    \b
    Examples:
      cd "$(charrnn runs path shakespeare)"
      charrnn sample --checkpoint "$(charrnn runs path)"
    """
    from charrnn.runs.shelf import find_entry, newest_run

    click.echo((find_entry(out, name) if name is not None else newest_run(out)).path.absolute())


@runs.command(short_help="Say what a run is about; an empty text takes that away.")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=runs_in)
@click.argument("text")
def note(run: Path, text: str) -> None:
    """Say what RUN, a folder or a name in runs/, is about; an empty TEXT takes the note away. Its config.yaml keeps it.

    \b
    Example:
      charrnn runs note runs/shakespeare-2 "40 steps fail because of the rate"
    """
    from charrnn.config.settings import NamedOverride
    from charrnn.runs.amending import amend
    from charrnn.runs.directory import DEFAULT, RunFolder
    from charrnn.runs.lock import FolderLock
    from charrnn.runs.shelf import kind_of

    place = run if run.exists() or run.parent != Path() else DEFAULT / run
    if kind_of(place) != "run":
        raise UsageError(f"{run}: is not a run folder; 'charrnn runs ls' lists the runs")
    folder = RunFolder(place)
    with FolderLock(folder):
        amend(folder, options=[NamedOverride(("run", "note"), text or None, "the note")])


@runs.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=run_names)
@out_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], out: Path, yes: bool) -> int:
    """Delete runs, hives or what lr-find left, by name; asks before. Of a symbolic link the link alone goes.

    \b
    Examples:
      charrnn runs rm shakespeare-2 shakespeare-3
      charrnn runs rm old --out trials --yes
    """
    from charrnn.runs.shelf import find_entry, refuse_busy, remove

    found = list({entry.path: entry for entry in (find_entry(out, name) for name in names)}.values())
    for entry in found:
        refuse_busy(entry)
    if not yes and not _agreed(found):
        say("Nothing was deleted.")
        return 1
    for entry in found:
        remove(entry)
        say(f"Deleted: {entry.path}")
    return 0


def _agreed(found: list[Entry]) -> bool:
    """Whether the user wants these gone."""
    if not sys.stdin.isatty():
        raise UsageError("stdin is not a terminal, so nobody can confirm; give --yes")
    from charrnn.runs.shelf import size_of

    for entry in found:
        count, size = size_of(entry.path)
        what = "a link; only that goes" if entry.path.is_symlink() else f"{entry.kind}, {count:,} files"
        say(f"{entry.path}: {what}, {format_bytes(size)}")
    return click.confirm(f"Delete {'these ' + str(len(found)) if len(found) > 1 else 'it'}?", err=True)
