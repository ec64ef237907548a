"""``charrnn swarm --search``: the search part of the command, from its options to its table and picture."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._options import as_words, overrides
from charrnn.cli._swarm_bar import SwarmBar, announce_measurement, interruptible, to_go_on
from charrnn.cli._table import table
from charrnn.cli._terminal import format_loss, printable, say, warn
from charrnn.errors import CharRNNError, UsageError

if TYPE_CHECKING:
    from charrnn.config.schema import Config
    from charrnn.studies.swarm.arrange import Batched
    from charrnn.studies.swarm.cluster import Cluster
    from charrnn.studies.swarm.colony import Source
    from charrnn.studies.swarm.hive import Hive
    from charrnn.studies.swarm.search import Search
    from charrnn.studies.swarm.space import Group

DEFAULT_TRIALS = 30
ROWS = 20
REASON = 60  # characters of why a combination could not be trained
ORDER = ("complete", "pruned", "running", "failed")


class SearchBar(SwarmBar):
    """One bar for all bees that may come to fly."""

    def __init__(self, trials: int, seeds: int) -> None:
        super().__init__({}, seeds)
        self._total = max(trials * seeds, 1)

    def __enter__(self) -> SearchBar:
        super().__enter__()
        return self

    def skipped(self, bees: int) -> None:
        """So many are done with."""
        self._done += bees
        self._there += bees


def refuse_other_kind(path: Path, search: bool) -> bool:
    """Whether the hive in this folder is a search.

    Raises:
        CheckpointError: it is no hive.
        UsageError: it is a grid, and ``search`` was asked for.
    """
    from charrnn.studies.swarm.hive import open_hive

    found = "search" in open_hive(path).plan
    if search and not found:
        raise UsageError(
            f"{path}: this hive is a grid, not a search; leave out --search, or give --config for a new one"
        )
    return found


def refuse_mixed(search: bool, resume: Path | None, searching: dict[str, Any], flying: dict[str, Any]) -> None:
    """Raises UsageError for options that do not go together."""
    if not search and any(searching.values()):
        raise UsageError("--trials, --storage and --prune belong to --search; add that, or leave them out")
    if resume is not None and searching["prune"]:
        raise UsageError(f"{resume}: a search goes on as it was planned; leave out --prune, or give --config")
    if search and flying["animate"]:
        raise UsageError("--animate: a search has no picture over training; use it with a grid")
    if searching["prune"] and flying["batched"] == "yes":
        raise UsageError("--batched yes: with --prune bees fly one after the other; use one of the two")


@dataclass(frozen=True)
class NewHive:
    """What the options say of a hive that is to be made, a grid or a search; ``options`` are those of any config."""

    config_name: str
    vary: tuple[str, ...]
    space: Path | None
    seeds: int
    assignments: tuple[str, ...]
    options: dict[str, Any]
    batched: Batched

    def read(self) -> tuple[Path, Config, list[Group]]:
        """The config's file, the config that the combinations change, and what is varied.

        Raises:
            UsageError: there is no such file.
            ConfigError: it, or what is to be varied, cannot be used.
        """
        from charrnn.config.library import find_config
        from charrnn.studies.swarm.plan import load_base
        from charrnn.studies.swarm.space import read_groups

        file, groups = find_config(self.config_name), read_groups(self.vary, self.space)
        return file, load_base(file, self.assignments, overrides(**self.options), groups), groups


def new_search(
    new: NewHive, cluster: Cluster | None, held: ExitStack, trials: int | None, storage: str | None, prune: bool
) -> tuple[Hive, Search]:
    """The search that the options describe, in a folder of its own, or in that where it was begun before.

    Raises:
        UsageError: Optuna is not there, or there is nothing to search.
    """
    from charrnn.config.library import stem_of_config
    from charrnn.studies.swarm.memory import open_storage, require_optuna
    from charrnn.studies.swarm.space import from_anywhere

    require_optuna()
    file, config, groups = new.read()
    if not groups:
        raise UsageError("--search: give what to search, such as --vary training.lr=1e-4..1e-1:log, or --space FILE")

    from charrnn.runs.directory import RunFolder, refuse_unwritable
    from charrnn.runs.lock import FolderLock
    from charrnn.studies.swarm.arrange import refuse_impossible
    from charrnn.studies.swarm.hive import find_or_make_hive
    from charrnn.studies.swarm.search import make_search
    from charrnn.text.places import Places

    refuse_unwritable(Path(config.run.out))
    words = as_words({"config": from_anywhere(new.config_name), "set": list(new.assignments)})
    options = {name: new.options[name] for name in ("seed", "device")}
    words += as_words({**options, "data": from_anywhere(new.options["data"])})
    if storage is not None:
        storage = _lasting(storage)
        open_storage(storage)  # found out before a folder is made
    places = Places.from_environment()
    search = make_search(config, groups, new.seeds, trials or DEFAULT_TRIALS, prune, storage, words, places)
    refuse_impossible(search.colony, new.batched, cluster)
    hive = find_or_make_hive(Path(config.run.out), config.run.name or stem_of_config(file), search.plan)
    held.enter_context(FolderLock(RunFolder(hive.path)))
    plan = hive.grow(new.seeds)
    hive.write_plan({**plan, "trials": search.trials, "command": words})
    return hive, search.with_seeds(plan["seeds"])


def _lasting(storage: str) -> str:
    """A journal file or SQLite database by its full path: the hive may be gone on with from another folder."""
    kind = "sqlite:///"
    if storage.startswith(kind) and storage != f"{kind}:memory:":
        return kind + str(Path(storage.removeprefix(kind)).absolute())
    return storage if "://" in storage else str(Path(storage).absolute())


def resumed_search(
    path: Path, seeds: int | None, data: Source | None, searching: dict[str, Any], held: ExitStack
) -> tuple[Hive, Search]:
    """The search of a hive's folder, perhaps with more seeds or trials, or its text at another place.

    Raises:
        UsageError: Optuna is not there, or the hive cannot be gone on with.
    """
    from charrnn.runs.directory import RunFolder
    from charrnn.runs.lock import FolderLock
    from charrnn.studies.swarm.hive import open_hive
    from charrnn.studies.swarm.memory import require_optuna
    from charrnn.studies.swarm.search import search_of_plan
    from charrnn.studies.swarm.space import from_anywhere
    from charrnn.text.places import Places

    require_optuna()
    hive = open_hive(path)
    held.enter_context(FolderLock(RunFolder(hive.path)))
    numbers = (seeds, searching["trials"], searching["storage"])
    return hive, search_of_plan(hive, *numbers, Places.from_environment(), from_anywhere(data))


def run_search(
    hive: Hive,
    search: Search,
    as_json: bool,
    cluster: Cluster | None,
    jobs: int | None,
    batched: Batched,
    checkpoints: bool,
    **_: Any,
) -> None:
    """Search, then show what was found.

    Raises:
        Interrupted: by a signal; what has landed is kept.
        CharRNNError: no combination came to its end.
    """
    from charrnn.config.wording import counted
    from charrnn.plots.hive import INCOMPARABLE, are_comparable
    from charrnn.plots.search import fate
    from charrnn.studies.swarm.arrange import place_for
    from charrnn.studies.swarm.search import results_of_search
    from charrnn.studies.swarm.trials import fly_search

    memory = search.memory(hive)
    for note in search.colony.notes:
        warn(note)
    if not are_comparable(name for group in search.groups for name in group):
        warn(f"{INCOMPARABLE}: this searches for what is easiest to predict; vary that in a grid, without --search")
    say(
        f"Hive:   {hive.path}: {counted(search.trials, 'combination')} x {counted(search.seeds, 'seed')} "
        f"on {search.text}, {memory.count} tried before"
    )
    batched = "no" if search.prune else batched
    left = max(search.trials - memory.count, 0)
    announce_measurement(hive, search.colony, cluster, jobs, batched)
    go_on = to_go_on(hive, cluster, checkpoints, animate=False) + password_again(search.storage)
    with (
        interruptible(go_on) as interrupts,
        place_for(hive, search.colony, cluster, jobs, batched) as (place, arrangement),
    ):
        say(f"Bees:   {arrangement}")
        with SearchBar(left, search.seeds) as bar:
            fly_search(search, memory, hive, place, arrangement, bar, interrupts, checkpoints)
    results = results_of_search(search, memory, hive)
    click.echo(json.dumps(results) if as_json else printable(describe(results)))
    _draw(hive, results)
    if not any(fate(row) == "complete" for row in results["trials"]):
        diverged = any(fate(row) == "diverged" for row in results["trials"])
        usual = "it diverged; search lower rates" if diverged else "all were pruned, or still run"
        reason = next((row["reason"] for row in results["trials"] if row["reason"]), usual)
        raise CharRNNError(f"{hive.path}: no combination finished successfully; the first one: {reason}")


def password_again(storage: str | None) -> str:
    """What the command that goes on lacks: a password is kept nowhere."""
    from charrnn.studies.swarm.memory import without_password

    if storage is None or without_password(storage) == storage:
        return ""
    return f" --storage {without_password(storage)}, with its password, which is not kept"


def _draw(hive: Hive, results: dict[str, Any]) -> None:
    from charrnn.plots.figures import save_figure
    from charrnn.plots.search import draw_search

    figure = draw_search(results)
    for suffix in (".png", ".svg"):
        save_figure(figure, hive.path / f"search{suffix}")
    say(f"Picture: {hive.path / 'search.png'}")


def describe(results: dict[str, Any]) -> str:
    """The table: one line per combination, best first, then which is best and how to train it."""
    from charrnn.config.wording import counted
    from charrnn.plots.hive import INCOMPARABLE, are_comparable, symbol_of

    trials = sorted(results["trials"], key=lambda one: (ORDER.index(one["state"]), one["median"] or 0.0))
    different = list({json.dumps(one["settings"]): one for one in reversed(trials)}.values())[::-1]
    names = [" ".join(name.rsplit(".", 1)[-1] for name in setting["names"]) for setting in results["settings"]]
    heads = ["number", *names, "bees", "median", "diverged", ""]
    rows = [[str(one["number"]), *one["labels"], *_outcome(one)] for one in different[:ROWS]]
    lines = table([heads, *rows], None)
    if len(different) > ROWS:
        lines.append(f"... and {len(different) - ROWS} more")
    again = len(trials) - len(different)
    lines += ["", f"{counted(len(trials), 'combination')} tried" + (f", {again} of them again" if again else "")]
    best = next((one for one in trials if one["number"] == results["best"]), None)
    if not are_comparable(name for setting in results["settings"] for name in setting["names"]):
        lines += [f"No best: {INCOMPARABLE}"]
    elif best is not None:
        lines += [f"Best: {', '.join(best['labels'])}, median {format_loss(best['median'])}"]
        lines += [f"Train it: {results['train']}"]
    return "\n".join([f"Median final validation loss, nats per {symbol_of(results)}:", *lines])


def _outcome(trial: dict[str, Any]) -> list[str]:
    """Bees, median, share diverged, and what else there is to say."""
    if trial["state"] in ("failed", "running"):
        reason = (trial["reason"] or "").partition("\n")[0]
        told = reason if len(reason) <= REASON else f"{reason[: REASON - 1]}…"
        return ["", "", "", f"{trial['state']}: {told}".removesuffix(": ")]
    from charrnn.plots.search import fate

    median = "diverged" if fate(trial) == "diverged" else format_loss(trial["median"])
    return [str(trial["bees"]), median, f"{trial['diverged']:.0%}", "pruned" if trial["state"] == "pruned" else ""]
