"""The plain values of a config, from YAML and from overrides, and where each was written.

Knows nothing of the schema: see ``loader`` for what a config must be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from charrnn.errors import ConfigError

KeyPath = tuple[str | int, ...]
MAX_CONFIG_BYTES = 1_000_000
MAX_DEPTH = 20


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 without its trap that reads ``1e-3`` as text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


@dataclass
class Settings:
    """Plain values of a config, the place each came from, and the problems met on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    name: str = "config"

    def place(self, path: KeyPath) -> str:
        """The place of a value, or of the nearest section around it that was written down."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)


def read_settings(text: str, name: str) -> Settings:
    """Parse YAML ``text``; ``name`` is what messages call the file. Syntax errors raise ``ConfigError``."""
    try:
        root = yaml.compose(text, Loader=_Yaml)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([f"{where}: not valid YAML: {error.problem or error.context}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not valid YAML: {' '.join(str(error).split())}"]) from error
    if root is None:
        raise ConfigError([f"{name}: the config is empty; see 'charrnn config show shakespeare.yaml' for one"])
    settings = Settings(name=name)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{name}:1:1: a config is a mapping of sections (corpus, model, training, ...)"])
    settings.values = _plain(root, (), settings, set())
    return settings


def _plain(node: yaml.Node, path: KeyPath, settings: Settings, seen: set[int]) -> Any:
    """The Python value of a YAML node; only plain data, no aliases, no tags."""
    where = f"{settings.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    settings.places.setdefault(path, where)
    if id(node) in seen or len(path) > MAX_DEPTH:
        settings.problems.append(f"{where}: aliases and deep nesting are not supported; write the value out")
        return None
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, path, settings, seen)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), settings, seen) for index, item in enumerate(node.value)]
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
        settings.problems.append(f"{where}: the tag {node.tag} is not supported; write a plain value")
        return None
    try:
        return _Yaml("").construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        settings.problems.append(f"{where}: {node.value!r} cannot be read as a value")
        return None


def _plain_mapping(node: yaml.MappingNode, path: KeyPath, settings: Settings, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        where = f"{settings.name}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key in values:
            first = settings.places[(*path, key)].rsplit(":", 2)[1]
            settings.problems.append(f"{where}: duplicate key {key!r}, first given on line {first}")
            continue
        settings.places[(*path, key)] = where
        values[key] = _plain(value_node, (*path, key), settings, seen)
    return values


def apply_override(settings: Settings, assignment: str, place: str | None = None) -> None:
    """Apply ``section.key=value`` (the value in YAML) over what is there; later ones win."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    place = place or f"--set {assignment}"
    if not equals or not all(keys):
        settings.problems.append(f"{place}: write it as section.key=value, such as training.lr=2e-3")
        return
    try:
        value = yaml.load(text, Loader=_Yaml)
    except (yaml.YAMLError, ValueError) as error:
        settings.problems.append(f"{place}: not a YAML value: {str(error).splitlines()[0]}")
        return
    set_value(settings, tuple(keys), value, place)


def set_value(settings: Settings, path: tuple[str, ...], value: Any, place: str) -> None:
    """Put a value (an option's, say) at ``path`` with the place that messages shall name."""
    target = settings.values
    for key in path[:-1]:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[path[-1]] = value
    settings.places[path] = place


@dataclass(frozen=True)
class NamedOverride:
    """An option such as ``--seed 3`` as a setting: where it goes, its value, and what messages call it."""

    path: tuple[str, ...]
    value: Any
    place: str


def read_config_text(file: Path) -> str:
    """The text of a config file.

    Raises:
        ConfigError: the file cannot be read, is too large to be a config, or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{file}: cannot read the config: {error.strerror}"]) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError([f"{file}: larger than {MAX_CONFIG_BYTES:,} bytes: this is no config"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8 at byte {error.start}: save the config as UTF-8"]) from error
