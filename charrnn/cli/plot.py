"""``charrnn plot``: pictures of what a config means."""

from __future__ import annotations

from pathlib import Path

import click

from charrnn.cli._options import set_option
from charrnn.cli._terminal import say


@click.group()
def plot() -> None:
    """Draw pictures.

    \b
    Example:
      charrnn plot schedule --config shakespeare.yaml -o schedule.png
    """


@plot.command()
@click.option("--config", "config_name", required=True, metavar="NAME", help="A config file, or a shipped one.")
@click.option("--steps", type=click.IntRange(1), help="Draw for a training of this many steps.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=".png, .svg or .pdf; default: NAME-schedule.png",
)
@set_option
def schedule(config_name: str, steps: int | None, output: Path | None, assignments: tuple[str, ...]) -> None:
    """The learning rate over training, as a config's schedule has it.

    \b
    Example:
      charrnn plot schedule --config shakespeare.yaml --set training.schedule=one_cycle --steps 2600
    """
    from charrnn.config.library import find_config
    from charrnn.config.loader import load_config
    from charrnn.plots.figures import save_figure
    from charrnn.plots.schedule import draw_schedule

    file = find_config(config_name)
    config = load_config(file, assignments)
    path = output or Path(f"{file.stem}-schedule.png")
    save_figure(draw_schedule(config.training, f"{file.stem}: {config.training.schedule}", steps), path)
    say(f"Picture: {path}")
