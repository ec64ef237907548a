"""Options that several commands share: how they become overrides of a config, and what is refused early."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from charrnn.cli._complete import checkpoints, configs, settings
from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.config.settings import NamedOverride

Command = TypeVar("Command", bound=Callable[..., Any])

# Where an option with a short name of its own goes in the config.
PATHS = {
    "data": ("corpus", "source"),
    "seed": ("training", "seed"),
    "device": ("training", "device"),
    "max_time": ("training", "max_time"),
    "name": ("run", "name"),
    "out": ("run", "out"),
    "note": ("run", "note"),
    "tracker": ("run", "tracker"),
    "temperature": ("sampling", "temperature"),
    "top_k": ("sampling", "top_k"),
    "top_p": ("sampling", "top_p"),
    "length": ("sampling", "length"),
}


def set_option(command: Command) -> Command:
    """``--set section.key=value``, repeatable."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=settings,
        help="Override a setting: training.lr=2e-3.",
    )(command)


def config_option(command: Command) -> Command:
    """``--config``: a config file, or the name of a shipped one."""
    return click.option(
        "--config",
        "config_name",
        metavar="NAME",
        shell_complete=configs,
        help="A config file, or the name of a shipped one.",
    )(command)


def checkpoint_option(command: Command) -> Command:
    """``--checkpoint``: a checkpoint file or a run folder."""
    return click.option(
        "--checkpoint",
        required=True,
        type=click.Path(path_type=Path),
        shell_complete=checkpoints,
        help="A checkpoint file, or a run folder (its best checkpoint).",
    )(command)


def device_option(command: Command) -> Command:
    """``--device``."""
    return click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute.")(command)


def overrides(**options: Any) -> list[NamedOverride]:
    """The options that were given, as overrides that messages call by the option's name."""
    from charrnn.config.settings import NamedOverride

    return [
        NamedOverride(PATHS[name], value, f"--{name.replace('_', '-')} {value}")
        for name, value in options.items()
        if value is not None
    ]


def require(module: str, asked_for: str, extra: str) -> None:
    """Find out before the work whether a package of an optional extra is there; imports nothing.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec(module) is None:
        raise UsageError(f"{asked_for} needs {module}, which is not installed; try: pip install 'charrnn[{extra}]'")


def refuse_picture(path: Path) -> None:
    """Find out before the work whether ``-o`` names a picture that can be written.

    Raises:
        UsageError: no such format, or no such folder.
    """
    from charrnn.plots.figures import FORMATS

    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a picture's name ends in {', '.join(FORMATS)}; choose one of these")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: cannot write the picture: no such folder: {path.parent}; choose another with -o")
