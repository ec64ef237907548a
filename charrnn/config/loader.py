"""From settings to a checked ``Config``, with messages that say where each problem is.

Precedence: defaults < file < overrides. All problems are reported at once, each as ``place: cause``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from charrnn.config.schema import Config, dropout_everywhere
from charrnn.config.settings import (
    KeyPath,
    NamedOverride,
    QuickLoader,
    Settings,
    apply_override,
    dump_yaml,
    read_config_text,
    read_settings,
    set_value,
)
from charrnn.errors import ConfigError

# Of pydantic's messages those that speak of patterns and items where the setting's own help says what is wanted.
BETTER_SAID_BY_THE_FIELD = {"string_pattern_mismatch", "string_too_short", "too_short", "too_long", "model_type"}


def load_config(
    file: str | Path | None, assignments: Iterable[str] = (), options: Iterable[NamedOverride] = ()
) -> Config:
    """Read ``file`` (None: start from the defaults), apply ``--set`` assignments, then options; check it all.

    Raises:
        ConfigError: with every problem found, each located.
    """
    settings = read_settings(read_config_text(Path(file)), str(file)) if file else Settings()
    return build_config(overridden(settings, assignments, options))


def load_own_config(file: Path) -> Config:
    """A config that charrnn wrote itself, read quickly: a list of runs has a thousand of them.

    Raises:
        ConfigError: it is damaged.
    """
    return build_config(read_settings(read_config_text(file), str(file), QuickLoader))


def revise_config(config: Config, assignments: Iterable[str] = (), options: Iterable[NamedOverride] = ()) -> Config:
    """The same config with overrides, checked anew: for a saved run that goes on, or is sampled from, differently.

    Raises:
        ConfigError: with every problem found, each located.
    """
    return build_config(overridden(Settings(config.model_dump(mode="json")), assignments, options))


def overridden(settings: Settings, assignments: Iterable[str], options: Iterable[NamedOverride]) -> Settings:
    """``settings`` themselves, with the assignments and then the options put in, not checked yet."""
    for assignment in assignments:
        _write_dropout_out(settings)
        apply_override(settings, assignment)
    for option in options:
        _write_dropout_out(settings)
        set_value(settings, option.path, option.value, option.place)
    return settings


def _write_dropout_out(settings: Settings) -> None:
    """A number for all places becomes one for each, so that it stands for the others when one is overridden."""
    model = settings.values.get("model")
    if isinstance(model, dict) and "dropout" in model:
        model["dropout"] = dropout_everywhere(model["dropout"])


def build_config(settings: Settings) -> Config:
    """Check the settings against the schema; raise ``ConfigError`` naming every problem, in file order."""
    problems = list(dict.fromkeys(settings.problems))  # an alias is refused where its value stands, at every use
    try:
        config = Config.model_validate(settings.values)
    except ValidationError as error:
        problems += _describe_all(error, settings)
        raise ConfigError(sorted(problems, key=_line_and_column)) from error
    if problems:
        raise ConfigError(sorted(problems, key=_line_and_column))
    return config


def _line_and_column(problem: str) -> tuple[str, int, int]:
    match = re.match(r"(.*?):(\d+):(\d+): ", problem)
    return (match[1], int(match[2]), int(match[3])) if match else (problem.split(": ", 1)[0], 0, 0)


def _describe_all(error: ValidationError, settings: Settings) -> list[str]:
    """One message per key: a value that fits no branch of a union gives one error per branch, the first is kept."""
    messages: dict[KeyPath, str] = {}
    for item in error.errors():
        path = _key_path(item["loc"], settings) if item["type"] != "missing" else item["loc"]
        if not any(path[:length] in settings.refused for length in range(len(path) + 1)):
            messages.setdefault(path, _describe(item["type"], item["msg"], item["input"], path, settings))
    return list(messages.values())


def _key_path(loc: KeyPath, settings: Settings) -> KeyPath:
    """Where in the config an error is, as far as it was written down: pydantic goes on with names of its own."""
    while len(loc) > 1 and loc not in settings.places:
        loc = loc[:-1]
    return loc


def _describe(kind: str, message: str, given: Any, path: KeyPath, settings: Settings) -> str:
    name = ".".join(str(key) for key in path) or "config"
    where = settings.place(path)
    if kind == "extra_forbidden":
        return f"{where}: unknown key {name!r}{_nearest(path)}"
    if kind == "missing":
        return f"{where}: {name} is missing: {_field_help(path)}"
    if kind == "model_type" and len(path) == 1:
        return f"{where}: {name} is a section: write its settings below it as 'key: value', not {given!r}"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    if kind in BETTER_SAID_BY_THE_FIELD:
        message = f"should be: {_field_help(path)}"
    shown = "" if isinstance(given, (dict, BaseModel)) else f", not {given!r}"
    advice = "; put text in quotes" if kind == "string_type" and isinstance(given, int | float) else ""
    return f"{where}: {name}: {message[0].lower()}{message[1:]}{shown}{advice}"


def _section_fields(path: KeyPath) -> dict[str, Any]:
    """The fields of the section at ``path``, by name; empty where there is no such section."""
    model: type[BaseModel] = Config
    for key in path:
        annotation = model.model_fields[str(key)].annotation if str(key) in model.model_fields else None
        branches = [annotation, *get_args(annotation)]
        section = next((b for b in branches if isinstance(b, type) and issubclass(b, BaseModel)), None)
        if section is None:
            return {}
        model = section
    return dict(model.model_fields)


def _nearest(path: KeyPath) -> str:
    key = str(path[-1])
    for section in Config.model_fields:
        if key in _section_fields((section,)):
            return f"; it belongs under {section!r}"
    names = list(_section_fields(path[:-1]))
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid here: {', '.join(names)}"


def _field_help(path: KeyPath) -> str:
    info = _section_fields(path[:-1]).get(str(path[-1]))
    return (info.description if info else None) or "this section must be given"


def dump_config(config: Config) -> str:
    """The whole config as YAML, defaults included: what a run folder keeps."""
    return dump_yaml(config.model_dump(mode="json"))
