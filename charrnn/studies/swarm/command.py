"""The command line that trains with what a search found.

Words of a command are pairs of an option and its value.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from typing import Any

import yaml

from charrnn.config.settings import YamlLoader
from charrnn.studies.swarm.colony import Source

OWN_OPTIONS = {"--data": "corpus.source", "--device": "training.device"}  # of a search, and the settings they are of


def with_data(words: list[str], source: Source) -> list[str]:
    """The words of a command with the text at another place."""
    return _without(words, {"--data"}) + [
        word for one in ([source] if isinstance(source, str) else source) for word in ("--data", one)
    ]


def training_command(words: list[str], settings: dict[str, Any]) -> str:
    """What a person types to train with these settings; ``words`` are those that the search was begun with.

    An option that a setting replaces is left out: it would win over ``--set``.
    """
    kept = _without(words, {option for option, name in OWN_OPTIONS.items() if name in settings})
    found = [f"{name}={_as_yaml(value)}" for name, value in settings.items()]
    return shlex.join(["charrnn", "train", *kept, *(word for one in found for word in ("--set", one))])


def _as_yaml(value: Any) -> str:
    """As ``--set`` reads it: a text in quotes only where it would be something else without."""
    with suppress(yaml.YAMLError, ValueError):  # no date, for one
        if isinstance(value, str) and yaml.load(value, YamlLoader) == value:
            return value
    return json.dumps(value, ensure_ascii=False)


def _without(words: list[str], options: set[str]) -> list[str]:
    pairs = zip(words[::2], words[1::2], strict=False)
    return [word for option, value in pairs if option not in options for word in (option, value)]
