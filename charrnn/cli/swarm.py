"""``charrnn swarm``: many small trainings over a grid of settings, seen at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._complete import hives, settings
from charrnn.cli._openmp import spin_briefly
from charrnn.cli._options import config_option, data_option, device_option, set_option
from charrnn.cli._search import NewHive, new_search, refuse_mixed, refuse_other_kind, resumed_search, run_search
from charrnn.cli._swarm_bar import SwarmBar, announce_measurement, interruptible, to_go_on
from charrnn.cli._table import table
from charrnn.cli._terminal import format_loss, printable, say, warn
from charrnn.errors import CharRNNError, UsageError

if TYPE_CHECKING:
    from charrnn.studies.swarm.arrange import Batched
    from charrnn.studies.swarm.cluster import Cluster
    from charrnn.studies.swarm.colony import Colony, Source
    from charrnn.studies.swarm.hive import Hive

DEFAULT_SEEDS = 3
BATCHED = ("auto", "yes", "no")


@click.command(short_help="Many small trainings over a grid of settings.")
@config_option()
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="HIVE",
    shell_complete=hives,
    help="Go on with this hive's folder.",
)
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUES",
    shell_complete=settings,
    help="What to vary: training.lr=2e-3,1e-2 or training.lr=1e-4..1e-1:log:7; several at once in quotes; repeatable.",
)
@click.option("--space", type=click.Path(path_type=Path), metavar="FILE", help="The same, from a YAML file.")
@click.option("--seeds", type=click.IntRange(1, 100_000), help=f"Bees per combination; default: {DEFAULT_SEEDS}.")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes; default: what a measurement finds fastest.")
@click.option(
    "--batched",
    type=click.Choice(BATCHED),
    default="auto",
    show_default=True,
    help="Train bees of one shape as one batched computation; auto: where a measurement finds it faster.",
)
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Send the bees to this Dask cluster instead.")
@click.option("--search", is_flag=True, help="Let Optuna choose the combinations: --vary then takes lr=1e-4..1e-1:log.")
@click.option("--trials", type=click.IntRange(1, 100_000), help="With --search: combinations; default: 30.")
@click.option("--storage", metavar="FILE|URL", help="With --search: a journal file or a database that machines share.")
@click.option("--prune", is_flag=True, help="With --search: give up combinations whose first bees do badly.")
@click.option("--checkpoints/--no-checkpoints", default=True, help="Keep each bee's trained network; default: yes.")
@click.option("--animate", is_flag=True, help="Also the picture over training: GIF, and MP4 where ffmpeg is there.")
@data_option("Train on this file or folder (corpus.source); with --resume: where the text is by now")
@click.option("--seed", type=int, help="The first seed (training.seed).")
@device_option
@click.option("--name", help="Name of the hive's folder; default: the config's name.")
@click.option("--out", metavar="FOLDER", help="Where that folder is made; default: runs.")
@set_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every bee.")
def swarm(
    config_name: str | None,
    resume: Path | None,
    vary: tuple[str, ...],
    space: Path | None,
    seeds: int | None,
    assignments: tuple[str, ...],
    as_json: bool,
    search: bool,
    scheduler: str | None,
    **options: Any,
) -> None:
    """Train many small networks over a grid of settings, and see what each setting does.

    For every combination of what is varied, networks from several starts are trained, the same starts for all. Started
    again with the same settings, it goes on where it was; with more seeds, it adds these.

    \b
    Examples:
      charrnn swarm --config counting.yaml --vary training.lr=0.002,0.01 --vary model.hidden_size=8,32 --seeds 10
      charrnn swarm --config my.yaml --vary "training.seq_len=10,40 training.max_steps=4000,1000" --animate
      charrnn swarm --config my.yaml --search --vary training.lr=1e-4..1e-1:log --vary model.hidden_size=8..512:log
      charrnn swarm --resume runs/counting-swarm
    """
    spin_briefly()
    flying = {key: options.pop(key) for key in ("jobs", "batched", "checkpoints", "animate")}
    searching = {key: options.pop(key) for key in ("trials", "storage", "prune")}
    new = NewHive(str(config_name), vary, space, seeds or DEFAULT_SEEDS, assignments, options, flying["batched"])
    if (config_name is None) == (resume is None):
        raise UsageError(
            "give --config NAME for a new hive ('charrnn config ls'; RUN/config.yaml is one, too), or --resume HIVE; "
            "not both"
        )
    if resume is not None:
        _refuse_another_plan(resume, new)
        search = refuse_other_kind(resume, search)
    refuse_mixed(search, resume, searching, flying)
    with ExitStack() as held:
        cluster = _connect(scheduler, held)  # before anything is made
        if search and resume is not None:
            run_search(*resumed_search(resume, seeds, options["data"], searching, held), as_json, cluster, **flying)
        elif search:
            run_search(*new_search(new, cluster, held, **searching), as_json, cluster, **flying)
        else:
            hive, colony = (
                _new(new, cluster, held) if resume is None else _resumed(resume, seeds, options["data"], held)
            )
            _fly(hive, colony, cluster, **flying)
            go_on = to_go_on(hive, cluster, flying["checkpoints"], flying["animate"])
            _show(hive, colony, flying["animate"], as_json, go_on)


def _refuse_another_plan(resume: Path, new: NewHive) -> None:
    others = [value for key, value in new.options.items() if key != "data"]
    if new.vary or new.space or new.assignments or any(value is not None for value in others):
        raise UsageError(
            f"{resume}: a hive goes on as it was planned; give --seeds, or --data if its text was moved, or --config "
            "for a new one"
        )


def _connect(scheduler: str | None, held: ExitStack) -> Cluster | None:
    if scheduler is None:
        return None
    from charrnn.studies.swarm.cluster import Cluster

    return held.enter_context(Cluster(scheduler))


def _new(new: NewHive, cluster: Cluster | None, held: ExitStack) -> tuple[Hive, Colony]:
    from charrnn.config.library import stem_of_config
    from charrnn.studies.swarm.space import grid_values

    file, config, groups = new.read()

    from charrnn.runs.directory import RunFolder, refuse_unwritable
    from charrnn.runs.lock import FolderLock
    from charrnn.studies.swarm.arrange import refuse_impossible
    from charrnn.studies.swarm.colony import make_colony
    from charrnn.studies.swarm.hive import find_or_make_hive
    from charrnn.text.places import Places

    axes = [grid_values(group) for group in groups]
    refuse_unwritable(Path(config.run.out))
    colony = make_colony(config, axes, new.seeds, Places.from_environment())
    refuse_impossible(colony, new.batched, cluster)
    hive = find_or_make_hive(Path(config.run.out), config.run.name or stem_of_config(file), colony.plan)
    held.enter_context(FolderLock(RunFolder(hive.path)))
    return hive, colony.with_seeds(hive.grow(new.seeds)["seeds"])


def _resumed(path: Path, seeds: int | None, data: Source | None, held: ExitStack) -> tuple[Hive, Colony]:
    from charrnn.runs.directory import RunFolder
    from charrnn.runs.lock import FolderLock
    from charrnn.studies.swarm.colony import colony_of_plan
    from charrnn.studies.swarm.hive import open_hive
    from charrnn.text.places import Places

    hive = open_hive(path)
    held.enter_context(FolderLock(RunFolder(hive.path)))
    return hive, colony_of_plan(hive, seeds or 1, Places.from_environment(), data)


def _fly(
    hive: Hive,
    colony: Colony,
    cluster: Cluster | None,
    jobs: int | None,
    batched: Batched,
    checkpoints: bool,
    animate: bool,
) -> None:
    from charrnn.config.wording import counted
    from charrnn.studies.swarm.arrange import place_for
    from charrnn.studies.swarm.study import fly

    for note in colony.notes:
        warn(note)
    swarms, seeds = len(colony.swarms), len(colony.seeds)
    say(
        f"Hive:   {hive.path}: {counted(swarms, 'combination')} x {counted(seeds, 'seed')} "
        f"= {counted(swarms * seeds, 'bee')} on {colony.text}"
    )
    announce_measurement(hive, colony, cluster, jobs, batched)
    go_on = to_go_on(hive, cluster, checkpoints, animate)
    with interruptible(go_on) as interrupts, place_for(hive, colony, cluster, jobs, batched) as (place, arrangement):
        say(f"Bees:   {arrangement}")
        with SwarmBar(colony.labels, seeds) as bar:
            fly(colony, arrangement, hive, place, bar, interrupts, checkpoints)


def _show(hive: Hive, colony: Colony, animate: bool, as_json: bool, go_on: str) -> None:
    from charrnn.studies.swarm.pictures import draw
    from charrnn.studies.swarm.study import results_of

    results = results_of(colony, hive)
    click.echo(json.dumps(results) if as_json else printable(describe(results)))
    for path in draw(hive, results, animate):
        say(f"Picture: {path}")
    failed = [bee for one in results["swarms"] for bee in one["bees"] if bee["status"] == "failed"]
    if failed:
        told = "1 bee failed" if len(failed) == 1 else f"{len(failed)} bees failed, the first one"
        raise CharRNNError(f"{told}: {failed[0]['message']}; to try again: {go_on}")


def describe(results: dict[str, Any]) -> str:
    """The table: one line per combination, and which is best."""
    from charrnn.plots.heat import best_swarms
    from charrnn.plots.hive import INCOMPARABLE, symbol_of

    swarms = results["swarms"]
    names = [" ".join(name.rsplit(".", 1)[-1] for name in group) for group in results["groups"]]
    heads = [*names, "bees", "median", "quartiles", "diverged"]
    rows = [[*one["labels"], *summary_cells(one)] for one in swarms]
    lines = table([heads, *rows], None)
    if best := best_swarms(results):
        first, *others = best
        alike = f"; {len(others)} more {'is' if len(others) == 1 else 'are'} as good" if others else ""
        lines += [
            "",
            f"Best: {', '.join(first['labels']) or first['name']}, median {format_loss(first['median'])}{alike}",
        ]
    elif any(one["median"] is not None for one in swarms):
        lines += ["", f"No best: {INCOMPARABLE}"]
    return "\n".join([f"Final validation loss, nats per {symbol_of(results)}:", *lines])


def summary_cells(summary: dict[str, Any]) -> Sequence[str]:
    """Count, median, quartiles and share diverged of a swarm as they are shown."""
    low, high = (("inf" if one is None else format_loss(one)) for one in summary["quartiles"])
    failed = all(bee["status"] == "failed" for bee in summary["bees"])
    none = "failed" if failed and summary["bees"] else "diverged"
    median = none if summary["median"] is None else format_loss(summary["median"])
    return (
        str(summary["count"]),
        median,
        f"{low} to {high}",
        f"{summary['diverged']:.0%}",
    )
