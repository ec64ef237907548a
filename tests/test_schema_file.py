"""The JSON Schema of configs: the file beside the shipped ones, and that it takes and refuses what the loader does."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charrnn.config.library import shipped, shipped_configs
from charrnn.config.loader import load_config
from charrnn.config.settings import YamlLoader, read_settings
from charrnn.errors import ConfigError
from tests.command_line import run

FILE = shipped("configs") / "charrnn.schema.json"
SCHEMA = json.loads(FILE.read_text())
MODELINE = "# yaml-language-server: $schema=charrnn.schema.json"
NAMES: dict[str, type] = {"string": str, "array": list, "object": dict, "null": type(None), "boolean": bool}
ANNOTATIONS = {"title", "description", "default", "$defs", "$schema"}


def is_a(value: Any, kind: str) -> bool:
    """The types of JSON Schema: a boolean is no number."""
    if kind in ("number", "integer"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return isinstance(value, int | float) and not isinstance(value, bool) and (kind == "number" or whole)
    return isinstance(value, NAMES[kind])


def problems(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """Every keyword that a value breaks; fails on keywords that this small validator does not know."""
    for key, wanted in schema.items():
        if key not in ANNOTATIONS and not holds(key, wanted, value, schema):
            yield key


def holds(key: str, wanted: Any, value: Any, schema: dict[str, Any]) -> bool:
    """One keyword."""
    number = is_a(value, "number")
    checks: dict[str, Callable[[], bool]] = {
        "$ref": lambda: not list(problems(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")])),
        "type": lambda: is_a(value, wanted),
        "enum": lambda: value in wanted,
        "anyOf": lambda: any(not list(problems(value, one)) for one in wanted),
        "minimum": lambda: not number or value >= wanted,
        "maximum": lambda: not number or value <= wanted,
        "exclusiveMinimum": lambda: not number or value > wanted,
        "exclusiveMaximum": lambda: not number or value < wanted,
        "pattern": lambda: not isinstance(value, str) or re.search(wanted, value) is not None,
        "minLength": lambda: not isinstance(value, str) or len(value) >= wanted,
        "maxLength": lambda: not isinstance(value, str) or len(value) <= wanted,
        "minItems": lambda: not isinstance(value, list) or len(value) >= wanted,
        "maxItems": lambda: not isinstance(value, list) or len(value) <= wanted,
        "items": lambda: not isinstance(value, list) or not any(list(problems(one, wanted)) for one in value),
        "required": lambda: not isinstance(value, dict) or set(wanted) <= value.keys(),
        "properties": lambda: (
            not isinstance(value, dict) or not any(list(problems(value[n], wanted[n])) for n in wanted if n in value)
        ),
        "additionalProperties": lambda: (
            wanted is not False or not isinstance(value, dict) or value.keys() <= schema["properties"].keys()
        ),
    }
    return bool(checks[key]())


def accepted(text: str) -> tuple[bool, bool]:
    """Whether the loader and whether the schema takes a config."""
    values = read_settings(text, "config").values
    Path("config.yaml").write_text(text)
    try:
        load_config(Path("config.yaml"))
    except ConfigError:
        return False, not list(problems(values, SCHEMA))
    return True, not list(problems(values, SCHEMA))


def test_the_file_is_what_the_command_prints() -> None:
    assert FILE.read_text() == run("config", "schema").out


def test_it_says_what_it_is_and_takes_no_unknown_key() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert SCHEMA["title"] == "A config of charrnn"
    sections = [SCHEMA, *SCHEMA["$defs"].values()]
    assert [one["title"] for one in sections if one["additionalProperties"] is not False] == []
    fields = {name: field for one in sections[1:] for name, field in one["properties"].items()}
    assert [name for name, field in fields.items() if "description" not in field] == []
    assert [name for name, field in fields.items() if "default" not in field] == ["source"]


@pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
class TestShippedConfigs:
    def test_each_is_taken(self, file: Path) -> None:
        assert list(problems(yaml.load(file.read_text(), Loader=YamlLoader), SCHEMA)) == []

    def test_each_names_the_file_beside_it_behind_its_description(self, file: Path) -> None:
        first, second, *rest = file.read_text().splitlines()
        assert second == MODELINE
        assert MODELINE not in (first, *rest)
        assert (file.parent / MODELINE.rpartition("=")[2]).is_file()

    def test_a_wrong_key_or_value_anywhere_is_refused(self, file: Path) -> None:
        right = yaml.load(file.read_text(), Loader=YamlLoader)
        for section in right:
            wrong = copy.deepcopy(right)
            wrong[section]["learning_rate"] = 1
            assert list(problems(wrong, SCHEMA)) == ["properties"]
            for key in right[section]:
                wrong = copy.deepcopy(right)
                wrong[section][key] = {"no": "such value"}
                assert list(problems(wrong, SCHEMA)) == ["properties"], f"{section}.{key}"


@pytest.mark.parametrize(
    "line",
    [
        *(
            f"training: {{max_time: {value}}}"
            for value in ("60s", "5m", "1.5h", "90", '"90"', "3min", "' 2 h '", "1e3")
        ),
        *(f"training: {{max_time: {value}}}" for value in ("-1", "0", "1 day", "true", "[1]", "s", "1e10", "60sec")),
        *(f"model: {{dropout: {value}}}" for value in ("0.2", "0", "{input: 0.1}", "{input: 0.1, output: 0.3}", "{}")),
        *(f"model: {{dropout: {value}}}" for value in ("1", "-0.1", "{in: 0.1}", "{input: 1}", "high", "true", "null")),
        *(f"training: {{lr: {value}}}" for value in ("1e-3", "1", "0.5", "0", "2000", "high", "'1e-3'", "null")),
        *(f"training: {{grad_clip: {value}}}" for value in ("null", "1", "0", "-1")),
        *(f"training: {{betas: {value}}}" for value in ("[0.9, 0.99]", "[0.9]", "[0.9, 1]", "[0.9, 0.9, 0.9]", "0.9")),
        *(f"training: {{device: {value}}}" for value in ("cpu", "cuda:1", "cuda:x", "gpu")),
        *(f"model: {{cell: {value}}}" for value in ("gru", "GRU", "3")),
        *(f"model: {{hidden_size: {value}}}" for value in ("64", "0", "65537", "big", "true", "6.5")),
        *(f"run: {{name: {value}}}" for value in ("a-b.c", "null", "-a", "a/b", "3")),
        *(f"corpus: {{split: {value}}}" for value in ("[0.9, 0.1]", "[0.8, 0.1, 0.1]", "[1]", "0.9")),
        *(f"corpus: {{source: {value}}}" for value in ("x", "[x, y]", "3", "null")),
        *("training: 3", "model: null", "sampling: {top_k: 0}", "sampling: {temprature: 1}", "extra: {}", "run: {}"),
    ],
)
def test_it_agrees_with_the_loader(line: str) -> None:
    whole = {"corpus": "{source: x}", "training": "{epochs: 1}"}
    section, _, values = line.partition(": ")
    if section in whole and values.startswith("{"):
        values = f"{{{values[1:-1]}, {whole[section][1:-1]}}}" if "source" not in values else values
    whole[section] = values
    loader, schema = accepted("\n".join(f"{name}: {content}" for name, content in whole.items()))
    assert loader == schema, f"the loader says {loader}"


def test_a_missing_section_is_refused() -> None:
    assert list(problems({"corpus": {"source": "x"}}, SCHEMA)) == ["required"]
