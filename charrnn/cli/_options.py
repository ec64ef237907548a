"""Options that several commands share: how they become overrides of a config, and what is refused early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from charrnn.cli._complete import checkpoints, configs, corpora, settings
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


def set_option(use: str = "Override a setting: training.lr=2e-3; repeatable.") -> Callable[[Command], Command]:
    """``--set section.key=value``, repeatable; ``use`` is its help."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=settings,
        help=use,
    )


def config_option(
    use: str = "A config file, or the name of a shipped one.", required: bool = False
) -> Callable[[Command], Command]:
    """``--config``: a config file, or the name of a shipped one; ``use`` is its help."""
    return click.option(
        "--config",
        "config_name",
        required=required,
        metavar="NAME",
        shell_complete=configs,
        help=use,
    )


def checkpoint_option(command: Command) -> Command:
    """``--checkpoint``: a checkpoint file, a run folder or one that ``charrnn export`` wrote."""
    return click.option(
        "--checkpoint",
        required=True,
        type=click.Path(path_type=Path),
        shell_complete=checkpoints,
        help="A checkpoint file, a run folder (its best checkpoint), or a folder of 'charrnn export'.",
    )(command)


def data_option(use: str) -> Callable[[Command], Command]:
    """``--data``, repeatable: a text, or a list of several; ``use`` begins its help."""
    return click.option(
        "--data",
        multiple=True,
        metavar="PATH",
        shell_complete=corpora,
        callback=_one_or_several,
        help=f"{use}; repeatable: joined in this order.",
    )


def _one_or_several(_: click.Context, __: click.Parameter, paths: tuple[str, ...]) -> str | list[str] | None:
    return list(paths) if len(paths) > 1 else next(iter(paths), None)


def on_unknown_option(text: str) -> Callable[[Command], Command]:
    """``--on-unknown``: error or skip; ``text`` says in its help what they may be characters of."""
    return click.option(
        "--on-unknown",
        type=click.Choice(["error", "skip"]),
        default="error",
        show_default=True,
        help=f"What to do with characters of {text} that the model does not know.",
    )


def output_option(use: str, metavar: str = "FILE", default: str | None = None) -> Callable[[Command], Command]:
    """``-o``: the file to write; ``use`` is its help."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar=metavar,
        default=default,
        show_default=True,
        help=use,
    )


def device_option(command: Command) -> Command:
    """``--device``."""
    return click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute.")(command)


def overrides(**options: Any) -> list[NamedOverride]:
    """The options that were given, as overrides that messages call by the option's name."""
    from charrnn.config.settings import NamedOverride

    return [
        NamedOverride(PATHS[name], value, " ".join(as_words({name: value})))
        for name, value in options.items()
        if value is not None
    ]


def refuse_other_settings(assignments: Iterable[str], known: Sequence[str], given: object, option: str) -> None:
    """Raises UsageError unless ``--set`` says how the text of an ``option`` that was ``given`` is read."""
    for one in assignments:
        if given is None or one.partition("=")[0].strip() not in known:
            raise UsageError(f"--set {one}: give {', '.join(known)} only: how {option} is read")


def as_words(options: Mapping[str, Any]) -> list[str]:
    """The options that were given as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        given = value if isinstance(value, list) else [] if value is None else [value]
        words += [word for one in given for word in (f"--{name.replace('_', '-')}", str(one))]
    return words
