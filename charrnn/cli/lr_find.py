"""``charrnn lr-find``: which learning rate to train with, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._complete import checkpoints
from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import config_option, data_option, device_option, overrides, set_option
from charrnn.cli._terminal import StudyBar, say, warn
from charrnn.errors import CharRNNError, UsageError

if TYPE_CHECKING:
    from charrnn.runs.checkpoint import State
    from charrnn.studies.lr_find import Finding, Plan
    from charrnn.training.session import Session


@click.command(name="lr-find", short_help="Find the learning rate, and prove it.")
@config_option()
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="RUN",
    shell_complete=checkpoints,
    help="Start from this trained model instead.",
)
@data_option("Train on this file or folder (corpus.source)")
@click.option("--min-lr", type=float, help="Lowest rate of the sweep; default: 1e-4, for sgd 1e-2.")
@click.option("--max-lr", type=float, help="Highest rate of the sweep; default: 1, for sgd 100.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Number of random starts.")
@click.option(
    "--trial-steps", type=click.IntRange(10), default=80, show_default=True, help="Steps of each short training."
)
@click.option("--quick", is_flag=True, help="Stop after the sweep: a bracket, no proof.")
@click.option("--write", is_flag=True, help="Put the rate into a copy of the config.")
@click.option("--seed", type=int, help="The first seed (training.seed).")
@device_option
@click.option("--name", help="Name of the folder for the picture; default: the config's name.")
@click.option("--out", metavar="FOLDER", help="Where that folder is made; default: runs.")
@set_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every point.")
def lr_find(
    config_name: str | None,
    checkpoint: Path | None,
    assignments: tuple[str, ...],
    write: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the learning rate: sweep it, then prove it by short trainings.

    \b
    Examples:
      charrnn lr-find --config shakespeare.yaml
      charrnn lr-find --config my.yaml --data my.txt --quick
      charrnn lr-find --checkpoint runs/shakespeare --write
    """
    tune_openmp()
    if (config_name is None) == (checkpoint is None):
        raise UsageError(
            "give --config NAME ('charrnn config ls'; RUN/config.yaml is one, too), or --checkpoint RUN for a trained "
            "model; not both"
        )
    if checkpoint is not None and options["data"] is not None:
        raise UsageError("--checkpoint searches a trained model on its own text; leave out --data, or give --config")
    from charrnn.config.wording import symbol
    from charrnn.runs.directory import refuse_unwritable
    from charrnn.studies.lr_find import make_plan

    planning = {key: options.pop(key) for key in ("min_lr", "max_lr", "seeds", "trial_steps", "quick")}
    if checkpoint is None:
        session, file, warm = _from_config(str(config_name), assignments, options)
    else:
        session, file, warm = _from_checkpoint(checkpoint, assignments, options)
    plan = make_plan(session.config.training, **planning)
    refuse_unwritable(Path(session.config.run.out))
    finding = _search(session, plan, warm)
    unit = symbol([session.config.corpus.vocabulary])
    click.echo(json.dumps(finding.to_dict()) if as_json else describe(finding, unit))
    changed = bool(assignments) or any(value is not None for value in options.values())
    folder = _keep(finding, session, file, write, changed)
    say(f"Picture: {folder / 'lr-find.png'} (also .svg, and all points in lr-find.json)")
    if finding.lr is None:
        raise CharRNNError(f"no learning rate to recommend: {finding.problem}")


def _from_config(name: str, assignments: tuple[str, ...], options: dict[str, Any]) -> tuple[Session, Path, None]:
    from charrnn.config.library import find_config
    from charrnn.config.loader import load_config

    file = find_config(name)
    config = load_config(file, assignments, overrides(**options))

    from charrnn.text.places import Places
    from charrnn.training.session import new_session

    return new_session(config, Places.from_environment()), file, None


def _from_checkpoint(path: Path, assignments: tuple[str, ...], options: dict[str, Any]) -> tuple[Session, Path, State]:
    from charrnn.config.loader import revise_config
    from charrnn.runs.checkpoint import read_checkpoint
    from charrnn.runs.directory import find_checkpoint
    from charrnn.runs.saved import saved_config, understanding
    from charrnn.text.places import Places
    from charrnn.training.session import restore_session

    file = find_checkpoint(path)
    state = read_checkpoint(file)
    seed = options.pop("seed")  # not the run's, which it keeps: that of the trainings to come
    with understanding(file):
        config = revise_config(saved_config(state), assignments, overrides(**options))
    session = restore_session(file, state, config, Places.from_environment())
    session.config = revise_config(session.config, options=overrides(seed=seed))
    run = file.absolute().parent.parent if file.parent.name == "checkpoints" else file
    return session, run, state["trainer"]


def _search(session: Session, plan: Plan, warm: State | None) -> Finding:
    from charrnn.cli._interrupts import Interrupts
    from charrnn.studies.lr_find import find_lr

    for note in session.notes:
        warn(note)
    with Interrupts() as interrupts, StudyBar(interrupts) as bar:
        return find_lr(session, plan, bar.advanced, warm)


def _keep(finding: Finding, session: Session, file: Path, write: bool, changed: bool) -> Path:
    from charrnn.config.editing import replace_lr
    from charrnn.config.library import is_file, stem_of_config
    from charrnn.config.loader import dump_config
    from charrnn.config.settings import read_config_text
    from charrnn.studies.lr_find_files import keep_finding

    config, text = session.config, None
    if write and finding.lr is not None:
        if not changed and is_file(file) and file.suffix != ".safetensors":
            text = replace_lr(read_config_text(file), finding.lr, "found by charrnn lr-find")
        if text is None:  # the settings are not those of a file alone, or it is written in a strange way
            training = config.training.model_copy(update={"lr": finding.lr})
            text = dump_config(config.model_copy(update={"training": training}))
    name = config.run.name or stem_of_config(file)
    folder = keep_finding(finding, config, name, text)
    if text is not None:
        say(f"Config:  {folder / name}.yaml, with that rate")
    return folder


def describe(finding: Finding, unit: str) -> str:
    """The answer in words and numbers, of losses per ``unit``."""
    from charrnn.config.wording import counted

    plan, sweeps = finding.plan, finding.sweeps
    diverged = [f"{one.diverged_at:.1e}" for one in sweeps if one.diverged]
    lines = [
        f"Sweep:       {plan.min_lr:g} to {plan.max_lr:g} in {plan.sweep_steps} steps, {counted(plan.seeds, 'seed')}; "
        + (f"diverged at {', '.join(diverged)}" if diverged else "none diverged"),
        "Suggestions: " + ", ".join(f"{name} {lr:.1e}" for name, lr in finding.suggestions.items()),
    ]
    if finding.trials:
        lines += _trial_lines(finding, unit)
    if finding.lr is not None:
        lines += _answer_lines(finding)
    return "\n".join(lines)


def _trial_lines(finding: Finding, unit: str) -> list[str]:
    from charrnn.studies.recommendation import scores

    lines = [f"Trials:      validation loss after {finding.plan.trial_steps} steps, nats per {unit}"]
    for score in scores(finding.trials):
        losses = [one.val_loss for one in finding.trials if one.lr == score.lr]
        seeds = "  ".join("diverged" if loss is None else f"{loss:.3f}" for loss in losses)
        mean = f"{score.loss:.3f}" if not score.diverged else "  -  "
        lines.append(f"             {score.lr:.1e}   {mean}   ({seeds})")
    return lines


def _answer_lines(finding: Finding) -> list[str]:
    lines, longer = [], finding.wanted
    if longer and finding.proven and longer.steps <= finding.proven.steps:
        longer = None  # the trials are as long as the training will be
    for found, source in ((finding.proven, "measured"), (longer, "longer trainings want lower rates")):
        if found is not None:
            lines.append(
                f"Range:       {found.lowest:.1e} to {found.highest:.1e}, best {found.best:.1e}, "
                f"for {found.steps:,} steps ({source})"
            )
    basis = "" if finding.proven else "  (a bracket, not proven: leave out --quick)"
    return [*lines, f"Recommended: {finding.lr:.1e}{basis}", f"Use it:      --set training.lr={finding.lr:g}"]
