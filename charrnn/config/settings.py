"""The plain values of a config, from YAML and from overrides, and where each was written.

Knows nothing of the schema: see ``loader`` for what a config must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from charrnn.errors import ConfigError

KeyPath = tuple[str | int, ...]
MAX_CONFIG_BYTES = 100_000  # some fifty times a config; more takes PyYAML many seconds
MAX_DEPTH = 20
YAML_TAG = "tag:yaml.org,2002:"
COLLECTION_TAGS = {YAML_TAG + "map", YAML_TAG + "seq"}
LARGEST_NUMBER = 2**63
LEADING_ZEROS = re.compile(r"^[-+]?0[\d_]+$")
YAML_ADVICE = {
    r"'\t'": "use spaces to indent",
    "another document": "put each in a file of its own",
}  # by what the problem mentions
NUMBERS = {YAML_TAG + kind for kind in ("int", "float")}
PLAIN_TAGS = {YAML_TAG + kind for kind in ("str", "int", "float", "bool", "null")}


class YamlLoader(yaml.SafeLoader):
    """YAML 1.1 without its traps that read ``1e-3`` as text, ``010`` as eight and ``1:30`` as ninety."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """The number of an integer; zeros before it mean nothing."""
        zeros = LEADING_ZEROS.match(node.value)
        return int(node.value.replace("_", "")) if zeros else int(super().construct_yaml_int(node))


class QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads the same, with libyaml where that is there: ten times as fast, its messages less exact."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that ``YamlLoader`` would read as a number."""


for _kind in (YamlLoader, QuickLoader, _Dumper):
    _kind.add_implicit_resolver(
        YAML_TAG + "float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )
    _kind.add_implicit_resolver(YAML_TAG + "int", LEADING_ZEROS, list("-+0"))
YamlLoader.add_constructor(YAML_TAG + "int", YamlLoader.construct_yaml_int)


def dump_yaml(values: dict[str, Any]) -> str:
    """Plain values as YAML that ``read_settings`` reads back as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@dataclass
class Settings:
    """Plain values of a config, the place each came from, and the problems met on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)  # already among the problems: None stands in their place
    name: str = "config"

    def place(self, path: KeyPath) -> str:
        """The place of a value, or of the nearest section around it that was written down."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)

    def refuse(self, path: KeyPath, place: str, cause: str) -> None:
        """Note a problem with the value at ``path``."""
        self.problems.append(f"{place}: {cause}")
        self.refused.add(path)


def read_settings(text: str, name: str, loader: type[Any] = YamlLoader) -> Settings:
    """Parse YAML ``text``; ``name`` is what messages call the file. Syntax errors raise ``ConfigError``."""
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([f"{where}: {_not_yaml(error.problem or error.context or '')}"]) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ConfigError([f"{name}: {_not_yaml(' '.join(str(error).split())[:200])}"]) from error
    if root is None:
        raise ConfigError([f"{name}: the config is empty; start from 'charrnn config show shakespeare.yaml'"])
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            [f"{name}:1:1: a config is a mapping of sections (corpus, model, training, ...); give a text with --data"]
        )
    settings = Settings(name=name)
    reader = _NodeReader(settings, lambda node: f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}")
    settings.values = reader.value(root, ())
    return settings


def _not_yaml(problem: str) -> str:
    advice = (text for what, text in YAML_ADVICE.items() if what in problem)
    return f"not valid YAML: {problem}; {next(advice, 'check indentation, quotes and brackets')}"


class _NodeReader:
    """Turns YAML nodes into plain data: no aliases, no tags, no key twice. Problems are noted, not raised."""

    def __init__(self, settings: Settings, place_of: Callable[[yaml.Node], str]) -> None:
        self.settings = settings
        self.place_of = place_of
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The Python value of a node; None, with a problem noted, for what a config cannot hold."""
        place = self.settings.places.setdefault(path, self.place_of(node))
        if id(node) in self._seen or len(path) > MAX_DEPTH:
            self.settings.refuse(path, place, "aliases and deep nesting are not supported; write the value out")
            return None
        self._seen.add(id(node))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in COLLECTION_TAGS:
            self.settings.refuse(path, place, f"the tag {node.tag} is not supported; leave it out, write plain values")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path, place)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            if key in values:
                first = self.settings.places[(*path, key)].rsplit(":", 2)
                cause = f"duplicate key {key!r}" + (f", first given on line {first[1]}" if len(first) == 3 else "")
                self.settings.problems.append(f"{self.place_of(key_node)}: {cause}; give it once")
                continue
            self.settings.places[(*path, key)] = self.place_of(key_node)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.Node, path: KeyPath, place: str) -> Any:
        if node.tag not in PLAIN_TAGS:
            standard = node.tag.startswith(YAML_TAG) and not node.tag.startswith(YAML_TAG + "python/")
            cause = f"{node.value!r} cannot be read as a value" if standard else f"the tag {node.tag} is not supported"
            self.settings.refuse(path, place, f"{cause}; write a plain value, text in quotes")
            return None
        if node.tag in NUMBERS and ":" in node.value:
            return node.value  # YAML 1.1 counts it in sixties; the schema says how a time is written
        try:
            value = YamlLoader("").construct_object(node)
        # PyYAML's constructors fail in as many ways as there are odd scalars: !!int "", !!bool x, ...
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
            self.settings.refuse(path, place, f"{node.value!r} cannot be read as a value; write a plain value")
            return None
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            self.settings.refuse(path, place, "the number is too large; write one below 2**63")
            return None
        return value


def apply_override(settings: Settings, assignment: str, option: str = "--set") -> None:
    """Apply ``section.key=value`` (the value in YAML) over what is there; later ones win. Messages name ``option``."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    place = f"{option} {assignment}"
    if not equals or not all(keys):
        settings.problems.append(f"{place}: write it as section.key=value, such as training.lr=2e-3")
        return
    path = tuple(keys)
    try:
        # An alias in YAML, which no setting can be: so it is a pattern of file names.
        node = yaml.compose(f"'{text}'" if text.startswith("*") and "'" not in text else text, Loader=YamlLoader)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        cause = getattr(error, "problem", None) or str(error).splitlines()[0]
        settings.problems.append(f"{place}: not a YAML value: {cause}; put text in quotes")
        return
    set_value(settings, path, None, place)
    if node is not None:
        set_value(settings, path, _NodeReader(settings, lambda _: place).value(node, path), place)


def set_value(settings: Settings, path: tuple[str, ...], value: Any, place: str) -> None:
    """Put a value (an option's, say) at ``path`` with the place that messages shall name."""
    target = settings.values
    for depth, key in enumerate(path[:-1], start=1):
        if not isinstance(target.get(key), dict):
            target[key] = {}
            settings.places[path[:depth]] = place
        target = target[key]
    target[path[-1]] = value
    settings.places[path] = place


def filled(settings: Settings, choices: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The same settings with ``choices``, keys by section, where nothing was given."""
    values = dict(settings.values)
    for section, keys in choices.items():
        given = values.get(section, {})
        if isinstance(given, dict):  # else it is no section, and will be refused
            values[section] = {**keys, **given}
    return replace(settings, values=values)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        named |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return named


def shown(value: Any) -> str:
    """A setting's value as a config has it, on one line."""
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


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
        raise ConfigError(
            [f"{file}: cannot read the config: {error.strerror}; check the path and its permissions"]
        ) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(
            [f"{file}: larger than {MAX_CONFIG_BYTES:,} bytes: this is not a config; give a text with --data"]
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8 at byte {error.start}: save the config as UTF-8"]) from error
