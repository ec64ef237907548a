"""A config's text with the learning rate changed, and everything else as it was written."""

from __future__ import annotations

import re

import yaml

from charrnn.config.settings import YamlLoader, read_settings
from charrnn.errors import ConfigError


def replace_lr(text: str, lr: float, reason: str) -> str | None:
    """``text``, a valid config, with ``training.lr`` set to ``lr`` (added where it is missing).

    ``reason`` becomes the comment beside it, in place of the old value's. The result is read again: where anything
    else has changed (a config written in a way that this does not foresee), None.
    """
    root = yaml.compose(text, Loader=YamlLoader)
    assert isinstance(root, yaml.MappingNode)
    training = _find(root, "training")
    assert isinstance(training, yaml.MappingNode), "without this section a config is not valid"
    edited = _edit(text, training, f"{lr!r}", f"  # {reason}")
    try:
        before, after = (read_settings(version, "config").values for version in (text, edited))
    except ConfigError:
        return None
    return edited if after == {**before, "training": {**before["training"], "lr": lr}} else None


def _edit(text: str, training: yaml.MappingNode, lr: str, comment: str) -> str:
    old = _find(training, "lr")
    if old is None:
        start = training.start_mark
        if training.flow_style:
            return f"{text[: start.index + 1]}lr: {lr}, {text[start.index + 1 :]}"
        return f"{text[: start.index]}lr: {lr}{comment}\n{' ' * start.column}{text[start.index :]}"
    before, rest = text[: old.start_mark.index], text[old.end_mark.index :]
    if training.flow_style:
        return before + lr + rest
    return before + lr + comment + re.sub(r"\A[ \t]*(#[^\r\n]*)?", "", rest)


def _find(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if key.value == name), None)
