"""A saved model scored on a text: what ``charrnn eval`` reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config, CorpusConfig
from charrnn.config.settings import NamedOverride
from charrnn.errors import CharRNNError, DataError, UsageError
from charrnn.runs.saved import SavedModel
from charrnn.text.baselines import baselines
from charrnn.text.encoded import EncodedText, load_text
from charrnn.text.places import Places
from charrnn.text.vocabulary import OnUnknown
from charrnn.training.evaluation import Evaluation, evaluate
from charrnn.training.precision import precision_to_evaluate_in


@dataclass(frozen=True)
class Report:
    """Loss from a carried and from a cold state; ``baselines`` are of the whole text, nats per character, or per byte
    where ``symbol`` says so; ``notes`` say what of the text one should know."""

    text_name: str
    split: str
    carried: Evaluation
    cold: Evaluation
    baselines: dict[str, float]
    symbol: Literal["char", "byte"] = "char"
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The content of ``charrnn eval --json``."""
        return {
            "split": self.split,
            "characters": self.carried.characters,
            "carried": self.carried.to_dict(),
            "cold": self.cold.to_dict(),
            "baselines": self.baselines,
        }


def score_model(
    saved: SavedModel,
    places: Places,
    data: str | list[str] | None,
    assignments: Sequence[str],
    split: str | None,
    on_unknown: OnUnknown,
    should_stop: Callable[[], object],
) -> Report | None:
    """Score a model on its own text, or on ``data``, for which ``assignments`` change settings of ``corpus``; None if
    ``should_stop`` became true.

    Raises:
        ConfigError: an assignment, or the name of the data, is not one.
        DataError: the text cannot be used with this model, or its own is no longer what it was trained on.
        UsageError: the text has no such split.
        CharRNNError: the loss is not finite: the model itself is broken.
    """
    text = _own_text(saved, places) if data is None else _other_text(saved, places, data, assignments, on_unknown)
    split = split or ("val" if data is None else "all")
    spans: dict[str, tuple[int, int]] = {"all": (0, len(text)), **text.spans}
    span = spans.get(split)
    if span is None:
        raise UsageError(f"--split {split}: this text is split into {', '.join(text.spans)} only (corpus.split)")
    if span[1] - max(span[0], 1) < 1:
        raise DataError(f"{text.name}: the part {split!r} is too short to predict a character of; give a longer text")
    model = saved.model
    config = saved.config
    precision = precision_to_evaluate_in(config.training.precision, config.model, model.decoder.bias.device)
    results = [
        evaluate(model, text.ids, span, precision, carried=carried, should_stop=should_stop)
        for carried in (True, False)
    ]
    carried, cold = results
    if carried is None or cold is None:
        return None
    if not math.isfinite(carried.nats_per_char + cold.nats_per_char):
        raise CharRNNError(f"{saved.path}: cannot score it: the loss is not a finite number; use an earlier checkpoint")
    symbol: Literal["char", "byte"] = "byte" if text.vocabulary.kind == "bytes" else "char"
    return Report(text.name, split, carried, cold, baselines(text.ids, len(text.vocabulary)), symbol, text.notes)


def _own_text(saved: SavedModel, places: Places) -> EncodedText:
    config = saved.config.corpus
    return load_text(config, places, saved.vocabulary, saved.corpus)


def _other_text(
    saved: SavedModel, places: Places, data: str | list[str], assignments: Sequence[str], on_unknown: OnUnknown
) -> EncodedText:
    source = NamedOverride(("corpus", "source"), data, f"--data {data}")
    return load_text(how_to_read(saved.config, source, assignments), places, saved.vocabulary, on_unknown=on_unknown)


def how_to_read(config: Config, source: NamedOverride, assignments: Sequence[str]) -> CorpusConfig:
    """Another text for a model of this config: read as its own was, but for ``assignments``.

    Raises:
        ConfigError: one of them is out of range.
    """
    read = revise_config(config, assignments, [source]).corpus
    return CorpusConfig(source=read.source, glob=read.glob, encoding=read.encoding, split=read.split)
