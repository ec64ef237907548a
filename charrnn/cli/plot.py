"""``charrnn plot``: pictures of runs, and of what a config means."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from charrnn.cli._complete import runs_in
from charrnn.cli._options import config_option, output_option, set_option
from charrnn.cli._terminal import say
from charrnn.errors import CharRNNError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from charrnn.runs.run import Run

OF_RUNS = "RUN..."  # how the command that needs no word of its own is called in the help


class _Pictures(click.Group):
    """``plot RUN...``: what is neither a command nor a question for help is meant for the pictures of runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.7)
            if near and not os.path.lexists(args[0]):
                ctx.fail(f"No such command or run {args[0]!r}. Did you mean {near[0]}?")
            args = [OF_RUNS, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, but for the one without a word; and what can stand in its place: runs and its options."""
        found = [item for item in super().shell_complete(ctx, incomplete) if item.value != OF_RUNS]
        command = self.commands[OF_RUNS]
        of_runs = command.make_context(OF_RUNS, [], parent=ctx, resilient_parsing=True)
        if incomplete.startswith("-"):
            known = {item.value for item in found}
            return found + [item for item in command.shell_complete(of_runs, incomplete) if item.value not in known]
        return found + runs_in(of_runs, command.params[0], incomplete)


@click.group(cls=_Pictures, short_help="Pictures of runs, and of schedules.", subcommand_metavar="RUN... | schedule")
def plot() -> None:
    """Draw pictures of runs, or of the learning rate that a config means.

    \b
    Examples:
      charrnn plot runs/shakespeare
      charrnn plot runs/a runs/b --log-loss --average 200 -o losses.svg
      charrnn plot runs/shakespeare --animate
      charrnn plot schedule --config shakespeare.yaml
    """


@plot.command(OF_RUNS, short_help="Curves of runs; see: charrnn plot RUN --help")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="", shell_complete=runs_in)
@click.option("--log-loss", is_flag=True, help="A logarithmic loss axis; losses that span much get one anyway.")
@click.option("--average", type=click.IntRange(1), metavar="N", help="Average losses and norms over N steps.")
@click.option("--parameters", is_flag=True, help="Instead: gradient norm and update ratio of each parameter.")
@click.option("--through-time", is_flag=True, help="Instead: how far back through time the gradient reaches.")
@click.option("--animate", is_flag=True, help="Instead: a GIF of what the network wrote, evaluation by evaluation.")
@output_option(".png, .svg or .pdf (--animate: .gif); default: NAME-plot.png and so on; of two, A-and-B-plot.png.")
def of_runs(
    paths: tuple[Path, ...],
    log_loss: bool,
    average: int | None,
    parameters: bool,
    through_time: bool,
    animate: bool,
    output: Path | None,
) -> None:
    """Draw runs, including runs still in training: losses, gradient norm, clipped share, learning rate, speed.

    Several runs are drawn over each other.

    \b
    Examples of charrnn plot RUN...:
      charrnn plot runs/shakespeare --average 200
      charrnn plot runs/a runs/b -o both.pdf
      charrnn plot runs/shakespeare --parameters
      charrnn plot runs/a runs/b --through-time
    """
    if not paths:
        raise UsageError("no run: give one, as in charrnn plot runs/shakespeare; 'charrnn runs ls' lists them")
    chosen = [name for name, given in (("parameters", parameters), ("through-time", through_time)) if given]
    kinds = [*chosen, *(["animate"] if animate else [])]
    _refuse(kinds, paths, log_loss or average is not None)
    suffix = f"-{chosen[0]}.png" if chosen else ".gif" if animate else "-plot.png"
    from charrnn.plots.figures import refuse_picture, save_figure
    from charrnn.plots.writing import animate_writing, refuse_animation
    from charrnn.runs.run import read_run, refuse_twice

    path = output or Path(f"{_name(paths)}{suffix}")
    (refuse_animation if animate else refuse_picture)(path)
    refuse_twice(paths)
    runs = [read_run(one) for one in paths]
    if animate:
        animate_writing(runs[0], path)
    else:
        save_figure(_figure(runs, kinds, log_loss, average), path)
    say(f"Picture: {path}")


def _refuse(kinds: Sequence[str], paths: Sequence[Path], shapes_losses: bool) -> None:
    if len(kinds) > 1:
        raise UsageError(f"--{kinds[0]} and --{kinds[1]} are two pictures; give one of them at a time")
    if kinds and kinds[0] != "through-time" and len(paths) > 1:
        raise UsageError(f"--{kinds[0]} draws one run at a time; give {paths[0]} alone")
    if kinds and shapes_losses:
        raise UsageError(f"--log-loss and --average are about the curves of losses; leave them out with --{kinds[0]}")


def _name(paths: Sequence[Path]) -> str:
    """What a picture is called: never as that of the first run alone, which may be there already."""
    first, *others = [path.absolute().name for path in paths]
    return first if not others else f"{first}-and-{others[0] if len(others) == 1 else f'{len(others)}-more'}"


def _figure(runs: Sequence[Run], kinds: Sequence[str], log_loss: bool, average: int | None) -> Figure:
    if kinds == ["through-time"]:
        return _through_time(runs)
    from charrnn.plots.curves import draw_parameters, draw_runs

    if kinds == ["parameters"]:
        return draw_parameters(runs[0])
    return draw_runs(runs, _labels(runs), log_loss=log_loss, average=average)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The runs' names, or where two are called alike their paths as they were given."""
    names = [run.path.absolute().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _through_time(runs: Sequence[Run]) -> Figure:
    from charrnn.config.wording import symbol
    from charrnn.plots.through_time import draw_gradients, draw_through_time
    from charrnn.studies.doctor.examination import gradient_of
    from charrnn.text.places import Places

    found = [gradient_of(run.path, Places.from_environment()) for run in runs]
    for run, (profile, _, _) in zip(runs, found, strict=True):
        if not math.isfinite(profile.hidden[0]):
            raise CharRNNError(f"{run.path}: nothing to draw: its gradient is not a finite number; it has diverged")
    unit = symbol(run.config.corpus.vocabulary for run in runs)
    if len(found) == 1:
        [(profile, seq_len, step)] = found
        title = f"{runs[0].path}: how far back it learns, as saved at step {step:,}"
        return draw_through_time(profile.hidden, profile.cell, seq_len, unit, title)
    title = "How far back they learn (the cell state of LSTMs, else the hidden state)"
    states = {f"{label}, step {step:,}": one.state for label, (one, _, step) in zip(_labels(runs), found, strict=True)}
    return draw_gradients(states, [seq_len for _, seq_len, _ in found], unit, title)


@plot.command()
@config_option(required=True)
@click.option("--steps", type=click.IntRange(1), help="Draw for a training of this many steps.")
@output_option(".png, .svg or .pdf; default: NAME-schedule.png")
@set_option()
def schedule(config_name: str, steps: int | None, output: Path | None, assignments: tuple[str, ...]) -> None:
    """The learning rate over training, as a config's schedule has it.

    \b
    Example:
      charrnn plot schedule --config shakespeare.yaml --set training.schedule=one_cycle --steps 2600
    """
    from charrnn.config.library import find_config, stem_of_config
    from charrnn.config.loader import load_config
    from charrnn.plots.figures import save_figure
    from charrnn.plots.schedule import draw_schedule

    file = find_config(config_name)
    config, name = load_config(file, assignments), stem_of_config(file)
    path = output or Path(f"{name}-schedule.png")
    save_figure(draw_schedule(config.training, f"{name}: {config.training.schedule}", steps), path)
    say(f"Picture: {path}")
