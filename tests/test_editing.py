"""A config's text with another rate: read again it is the same config, and read by a person the same text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.editing import replace_lr
from charrnn.config.library import shipped_configs
from charrnn.config.loader import dump_config, load_config, revise_config
from charrnn.config.settings import read_settings
from tests.conftest import make_config

LR = 1.3e-3
COMMENT = "found"
rates = st.floats(1e-9, 1000)


def values(text: str) -> dict[str, Any]:
    return read_settings(text, "config").values


def edited(text: str, lr: float = LR) -> str:
    """``replace_lr``, and what must be true of every edit: the rate is new, everything else is what it was."""
    result = replace_lr(text, lr, COMMENT)
    assert result is not None
    expected = values(text)
    expected["training"]["lr"] = lr
    assert values(result) == expected
    return result


@pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
def test_a_shipped_config(file: Path, tmp_path: Path) -> None:
    """One line is another, and only what it says of the rate."""
    text = file.read_text()
    result = edited(text)
    pairs = list(zip(text.split("\n"), result.split("\n"), strict=True))
    changed = [(old, new) for old, new in pairs if old != new]
    assert len(changed) == 1
    assert re.fullmatch(r"  lr: \S+ +#.+", changed[0][0]), "the shipped configs say why"
    assert changed[0][1] == f"  lr: {LR!r}  # {COMMENT}"

    copy = tmp_path / "copy.yaml"
    copy.write_text(result)
    assert load_config(copy) == load_config(file, [f"training.lr={LR!r}"])


BLOCKS = {
    "plain": ("training:\n  lr: 0.1\n  epochs: 1\n", "training:\n  lr: 0.0013  # found\n  epochs: 1\n"),
    "comment": ("training:\n  lr: 0.1 # old #1\n  epochs: 1\n", "training:\n  lr: 0.0013  # found\n  epochs: 1\n"),
    "last": ("training:\n  epochs: 1\n  lr: 0.1", "training:\n  epochs: 1\n  lr: 0.0013  # found"),
    "comments around": (
        "# one\ntraining: # two\n  # three\n  lr: 1e-1   # four\n  # five\n  epochs: 1 # six\n",
        "# one\ntraining: # two\n  # three\n  lr: 0.0013  # found\n  # five\n  epochs: 1 # six\n",
    ),
    "deep": (
        "training:\n        epochs: 1\n        lr:   0.1\n",
        "training:\n        epochs: 1\n        lr:   0.0013  # found\n",
    ),
    "value on a line of its own": (
        "training:\n  lr:\n    0.1\n  epochs: 1\n",
        "training:\n  lr:\n    0.0013  # found\n  epochs: 1\n",
    ),
    "quoted": (
        "'training':\n  \"lr\": '0.1'  # old\n  \"epochs\": 1\n",
        '\'training\':\n  "lr": 0.0013  # found\n  "epochs": 1\n',
    ),
    "tag": ("training:\n  lr: !!float 1\n  epochs: 1\n", "training:\n  lr: 0.0013  # found\n  epochs: 1\n"),
    "document marks": ("---\ntraining:\n  lr: 0.1\n...\n", "---\ntraining:\n  lr: 0.0013  # found\n...\n"),
    "lr elsewhere": (
        "run: {name: 'lr: 0.1'}\ntraining:\n  min_lr: 0.1\n  lr: 0.1\n",
        "run: {name: 'lr: 0.1'}\ntraining:\n  min_lr: 0.1\n  lr: 0.0013  # found\n",
    ),
    "Windows": ("training:\r\n  lr: 0.1\r\n  epochs: 1\r\n", "training:\r\n  lr: 0.0013  # found\r\n  epochs: 1\r\n"),
    "Windows, comment": (
        "training:\r\n  lr: 0.1 # old\r\n  epochs: 1\r\n",
        "training:\r\n  lr: 0.0013  # found\r\n  epochs: 1\r\n",
    ),
}
FLOWS = {
    "plain": ("training: {epochs: 1, lr: 0.1, seed: 2}\n", "training: {epochs: 1, lr: 0.0013, seed: 2}\n"),
    "last": ("training: {epochs: 1, lr: 1e-1}", "training: {epochs: 1, lr: 0.0013}"),
    "JSON": ('{"training": {"lr":0.1,"epochs":1}}', '{"training": {"lr":0.0013,"epochs":1}}'),
    "lines": (
        "training: {\n  lr: 0.1,  # old\n  epochs: 1 }  # end\n",
        "training: {\n  lr: 0.0013,  # old\n  epochs: 1 }  # end\n",
    ),
    "the whole in one": ("{corpus: {source: a}, training: {lr: 0.1}}", "{corpus: {source: a}, training: {lr: 0.0013}}"),
}
MISSING = {
    "block": ("training:\n  epochs: 1 # one\n", "training:\n  lr: 0.0013  # found\n  epochs: 1 # one\n"),
    "block, deep": (
        "training:\n    # why\n    epochs: 1",
        "training:\n    # why\n    lr: 0.0013  # found\n    epochs: 1",
    ),
    "block, quoted": ("training:\n  'epochs': 1\n", "training:\n  lr: 0.0013  # found\n  'epochs': 1\n"),
    "block, min_lr is another": (
        "training:\n  min_lr: 0\n  epochs: 1\n",
        "training:\n  lr: 0.0013  # found\n  min_lr: 0\n  epochs: 1\n",
    ),
    "flow": ("training: {epochs: 1}\n", "training: {lr: 0.0013, epochs: 1}\n"),
    "flow, spaces": ("training: { epochs: 1 }\n", "training: {lr: 0.0013,  epochs: 1 }\n"),
    "flow, comment": ("training: { # why\n  epochs: 1 }", "training: {lr: 0.0013,  # why\n  epochs: 1 }"),
}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(*texts, id=f"{kind}: {name}")
        for kind, table in (("block", BLOCKS), ("flow", FLOWS), ("missing", MISSING))
        for name, texts in table.items()
    ],
)
def test_styles(before: str, after: str) -> None:
    assert edited(before) == after


@given(rates)
def test_every_rate_is_read_back_exactly(lr: float) -> None:
    edited("training:\n  lr: 0.1  # old\n", lr)
    edited("training: {epochs: 1}", lr)


@given(rates)
def test_a_dumped_config(lr: float) -> None:
    """As run folders keep it."""
    config = make_config("cat.txt")
    text = edited(dump_config(config), lr)
    assert values(text) == revise_config(config, [f"training.lr={lr!r}"]).model_dump(mode="json")


scalars = st.one_of(st.integers(0, 9), st.floats(1e-6, 1), st.booleans(), st.none(), st.text("ab c#:'\"é", max_size=6))
names = st.sampled_from(["min_lr", "seed", "epochs", "max_time", "betas", "schedule"])
sections = st.dictionaries(names, st.one_of(scalars, st.lists(scalars, max_size=3)), min_size=1)
remarks = st.sampled_from(["", "", "# why", "#", "# lr: 1", "# {training: }"])


@given(
    st.fixed_dictionaries({"training": sections}, optional={"corpus": sections, "run": sections}),
    st.permutations(["training", "corpus", "run"]),
    st.tuples(rates, st.integers(0, 6)) | st.none(),
    st.integers(2, 8),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, '"', "'"]),
    st.data(),
)
def test_however_it_is_written(
    config: dict[str, Any],
    order: list[str],
    old: tuple[float, int] | None,
    indent: int,
    flow: bool | None,
    quotes: str | None,
    data: st.DataObject,
) -> None:
    """Any sections in any order, indentation and style, with comments between the lines of the block style."""
    if old is not None:
        settings = list(config["training"].items())
        settings.insert(old[1], ("lr", old[0]))
        config["training"] = dict(settings)
    ordered = {name: config[name] for name in order if name in config}
    text = yaml.safe_dump(ordered, sort_keys=False, indent=indent, default_flow_style=flow, default_style=quotes)
    if flow is False and not set(text) & set("'\""):  # quoted text may go over lines, and # is none of its comments
        text = "".join(f"{data.draw(remarks)}\n{line}\n" for line in text.splitlines())
    edited(text)
