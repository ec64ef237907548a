"""``charrnn train``: a text in, a trained network out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._account import conclude, describe, show_dry_run
from charrnn.cli._choice import Request
from charrnn.cli._complete import checkpoints, folders
from charrnn.cli._openmp import threads_are_open
from charrnn.cli._options import config_option, data_option, device_option, overrides, set_option
from charrnn.cli._ranks import SharedInterrupts, leading, other_ranks
from charrnn.cli._terminal import TerminalReporter, format_seconds, no_live_view, say, warn
from charrnn.errors import Interrupted, UsageError
from charrnn.training.courtesy import courtesy

if TYPE_CHECKING:
    from charrnn.cli._live import LiveReporter
    from charrnn.config.schema import Config
    from charrnn.config.settings import NamedOverride
    from charrnn.text.places import Places
    from charrnn.training.loop import Reporter
    from charrnn.training.ranks import Ranks
    from charrnn.training.session import Session


@click.command(short_help="Train a network, or go on with a run.")
@config_option()
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    shell_complete=checkpoints,
    help="Go on with this run folder.",
)
@click.option("--inexact", is_flag=True, help="With --resume: go on although it will not be bit for bit the same run.")
@data_option("Train on this file or folder (corpus.source)")
@click.option("--max-time", metavar="TIME", help="Stop after this time: 60s, 5m, 1h.")
@click.option("--seed", type=int, help="Seed of everything random (training.seed).")
@device_option
@click.option("--name", help="Name of the run folder; default: the config's, or the text's where there is none.")
@click.option("--out", metavar="FOLDER", shell_complete=folders, help="Folder of the run folders; default: runs.")
@click.option("--note", metavar="TEXT", help="Why this run: kept with it, shown by 'charrnn runs ls'.")
@set_option()
@click.option("--live", is_flag=True, help="Show curves, gradient norm and samples, filling the terminal.")
@click.option("--tracker", metavar="none|tensorboard", help="Write event files for TensorBoard as well (run.tracker).")
@click.option("--dry-run", is_flag=True, help="Check everything, take a few steps, write nothing.")
def train(
    config_name: str | None,
    resume: Path | None,
    inexact: bool,
    assignments: tuple[str, ...],
    live: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train a network, or go on with a run.

    With --data and no --config, the settings are chosen: by the text's size, this processor's speed and the time given.

    \b
    Examples:
      charrnn train --data my.txt --max-time 5m
      charrnn train --config shakespeare.yaml --max-time 60s
      charrnn train --config quickstart.yaml --data my.txt --set training.lr=1e-3
      charrnn train --config shakespeare.yaml --set training.seq_len=40 --note "does 40 steps fail?"
      charrnn train --resume runs/shakespeare --live
    """
    ranks = click.get_current_context().with_resource(leading())
    _refuse_contradictions(config_name, resume, inexact, dry_run, options)
    if ranks is not None and dry_run:
        raise UsageError("--dry-run looks at one process; leave out --dry-run, or torchrun")
    if live:
        from charrnn.config.extras import require

        require("rich", "--live", "live")
    with ExitStack() as locks:
        if resume is not None:
            session = _resumed(resume, assignments, options, inexact, locks, ranks)
        else:
            session = _new(config_name, assignments, options, dry_run, locks, ranks)
        if session is not None:
            _train(session, ranks, live)


def _refuse_contradictions(
    config_name: str | None, resume: Path | None, inexact: bool, dry_run: bool, options: dict[str, Any]
) -> None:
    if config_name is not None and resume is not None:
        raise UsageError("give --config NAME for a new run ('charrnn config ls'), or --resume RUN; not both")
    if config_name is None and resume is None and options["data"] is None:
        raise UsageError(
            "give --data PATH to train on a text with settings chosen for it, --config NAME for settings of your own "
            "('charrnn config ls'), or --resume RUN to go on with a run"
        )
    if resume is not None and (options["name"] is not None or options["out"] is not None):
        from charrnn.runs.amending import STAYS

        raise UsageError(f"--name and --out {STAYS}")
    if resume is not None and dry_run:
        raise UsageError("--dry-run looks at a new run; leave out --resume, or give --config instead")
    if inexact and resume is None:
        raise UsageError("--inexact is about how a run goes on; leave it out, or give --resume RUN")


def _new(
    name: str | None,
    assignments: tuple[str, ...],
    options: dict[str, Any],
    dry_run: bool,
    locks: ExitStack,
    ranks: Ranks | None,
) -> Session | None:
    given = overrides(**options)
    make, run_name = _configured(name, assignments, given) if name is not None else _chosen(assignments, given)

    # Below the check of the config: these bring torch, and a typo should not have to wait for it.
    from charrnn.runs.lock import FolderLock
    from charrnn.text.places import Places, scratch_places
    from charrnn.training.session import start_run

    locks.enter_context(courtesy(os.environ))
    if dry_run:
        with scratch_places(Places.from_environment()) as places:
            show_dry_run(make(places, threads_are_open(), ranks))
        return None
    session = make(Places.from_environment(), threads_are_open(), ranks)
    describe(session)
    locks.enter_context(FolderLock(start_run(session, run_name)))
    return session


Maker = Callable[["Places", bool, "Ranks | None"], "Session"]


def _chosen(assignments: tuple[str, ...], options: list[NamedOverride]) -> tuple[Maker, str]:
    """What makes a session whose open settings are chosen, and a name; bad settings are refused at once."""
    request = Request(assignments, options)
    _refuse_missing_places(request.draft)
    return request.session, "text"


def _configured(name: str, assignments: tuple[str, ...], options: list[NamedOverride]) -> tuple[Maker, str]:
    """What makes the session of a config, and the config's name; a bad config is refused at once."""
    from charrnn.config.library import find_config, is_of_run, name_of_config, stem_of_config
    from charrnn.config.loader import load_config

    file = find_config(name)
    if is_of_run(file):  # why that run was made is not why this one is
        assignments = ("run.note=null", *assignments)
    config = load_config(file, assignments, options)
    _refuse_missing_places(config)

    def make(places: Places, measure_threads: bool, ranks: Ranks | None) -> Session:
        from charrnn.training.session import new_session

        session = new_session(config, places, measure_threads, ranks)
        session.origin = {"config": name_of_config(file)}
        return session

    return make, stem_of_config(file)


def _resumed(
    path: Path,
    assignments: tuple[str, ...],
    options: dict[str, Any],
    inexact: bool,
    locks: ExitStack,
    ranks: Ranks | None,
) -> Session | None:
    from charrnn.config.extras import require_tracker
    from charrnn.config.loader import revise_config
    from charrnn.runs.amending import amend_resumed, amend_text, refuse_moving, with_kept_note
    from charrnn.runs.directory import folder_of
    from charrnn.runs.keeping import find_state
    from charrnn.runs.lock import FolderLock
    from charrnn.text.places import Places
    from charrnn.training.session import config_in, resume_session

    folder = folder_of(path)
    locks.enter_context(FolderLock(folder))
    locks.enter_context(courtesy(os.environ))
    found = find_state(folder, path)
    for problem in found.damaged:
        warn(problem)
    if found.damaged:
        warn(f"going on from {found.file.name} instead, the newest that is whole")
    kept = with_kept_note(config_in(found), folder)
    config = revise_config(kept, assignments, overrides(**options))
    refuse_moving(kept, config)
    require_tracker(config)
    session = resume_session(folder, found, config, Places.from_environment(), inexact, ranks)
    amend_resumed(folder, session.config, goes_on=not session.score.finished)
    amend_text(folder, session.text.describe(), session.trainer.steps)
    if note := other_ranks(found.state, ranks):
        warn(note)
    describe(session)
    if session.score.finished:
        limits = " ".join(f"--set {name}=..." for name in session.reached)
        # A minute more for a run that had one is a --max-time of two.
        end = f"step {session.trainer.steps:,}, after {format_seconds(session.score.seconds)} in all"
        say(f"{path} is finished at {end}; to go on, raise what ended it: {limits}")
        return None
    say(f"Going on with {path} at step {session.trainer.steps:,}")
    return session


def _refuse_missing_places(config: Config) -> None:
    """Raises UsageError where a new run could not be kept, or not be watched as it wants."""
    from charrnn.config.extras import require_tracker
    from charrnn.runs.directory import refuse_unwritable

    refuse_unwritable(Path(config.run.out))
    require_tracker(config)


def _train(session: Session, ranks: Ranks | None, live: bool) -> None:
    from charrnn.cli._interrupts import Interrupts
    from charrnn.training.loop import Loop
    from charrnn.training.pace import paced

    assert session.folder is not None
    say(f"Run:    {session.folder.path}")
    if "chosen" in session.origin:
        say(f"Keep:   {session.folder.config} has all that was chosen; change it, and give it to --config")
    with (
        SharedInterrupts(ranks) if ranks else Interrupts() as interrupts,
        _reporting(session, live) as reporter,
    ):
        outcome = Loop(session, paced(reporter, session), interrupts).run()
    if interrupts.received is not None and not session.score.finished:
        raise Interrupted(
            f"interrupted at step {session.trainer.steps:,}, saved; to go on: "
            f"charrnn train --resume {shlex.quote(str(session.folder.path))}",
            interrupts.received,
        )
    conclude(session, outcome)


@contextmanager
def _reporting(session: Session, live: bool) -> Iterator[Reporter]:
    """What a person sees, and what the run's tracker does."""
    from charrnn.training.tracking import tracked

    with _view(session, live) as view, tracked(view, session) as reporter:
        yield reporter


def _view(session: Session, live: bool) -> LiveReporter | TerminalReporter:
    if live and (why_not := no_live_view()):
        say(f"--live: {why_not}; plain lines instead")
    elif live:
        from charrnn.cli._live import LiveReporter

        return LiveReporter(session)
    return TerminalReporter(session.baselines, session.score.best_val_loss, plain=live)
