"""A network as it reads a text: what every character cost it, and what its units keep track of.

After Karpathy, Johnson and Fei-Fei, "Visualizing and Understanding Recurrent Networks" (https://arxiv.org/abs/1506.02078).
One stream from the cold state, one character after another, in float32 whatever the precision of the training.

Shapes: N characters, U units (layer after layer), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.config.settings import NamedOverride
from charrnn.errors import CharRNNError, DataError, UsageError
from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.model.reference import reference_steps
from charrnn.runs.saved import SavedModel
from charrnn.studies import Advanced
from charrnn.studies.properties import PROPERTIES
from charrnn.studies.tracking import CONFIDENCE, SHIFTS, States, Tracked, Tracker, track
from charrnn.text.encoded import Ids, load_text
from charrnn.text.places import Places
from charrnn.text.vocabulary import OnUnknown, Vocabulary
from charrnn.training.scoring import how_to_read

WINDOW = 256
LIKELIEST = 3
BEFORE, AFTER = 30, 10  # characters of context around a surprise


@dataclass(frozen=True)
class Reading:
    """``bits`` that each symbol cost, (N,), NaN for the first one; ``likeliest`` ids in its place and their
    ``probabilities``, (N, 3); ``states`` of all units after it, (N, U): tanh(c) of an LSTM, h of other cells."""

    bits: NDArray[np.float64]
    likeliest: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    states: States

    def at(self, places: NDArray[np.int64], ends: NDArray[np.int64]) -> Reading:
        """Symbols taken together: each of the new ones begins at one of ``places`` and ends at one of ``ends``."""
        bits = np.add.reduceat(self.bits[: ends[-1] + 1], places)
        return Reading(bits, self.likeliest[places], self.probabilities[places], self.states[ends])


@dataclass(frozen=True)
class Inspection:
    """A text of N ``characters`` as a model reads it. ``mean_bits`` are per symbol of the vocabulary, as those of
    ``charrnn eval`` are; in the vocabulary of bytes a character costs the sum of its bytes. ``notes`` say what of the
    text one should know."""

    model: SavedModel
    text_name: str
    characters: str
    reading: Reading
    mean_bits: float
    tracked: tuple[Tracked, ...]
    notes: tuple[str, ...] = ()

    def unit_name(self, unit: int) -> str:
        """``LAYER:UNIT`` of a column of the states; layers and units count from 1."""
        layer, index = divmod(unit, self.model.config.model.hidden_size)
        return f"{layer + 1}:{index + 1}"

    def expected(self, place: int) -> list[tuple[str, float]]:
        """The likeliest symbols at a place and their probabilities; none at the first, which nothing precedes."""
        if math.isnan(self.reading.bits[place]):
            return []
        names = [_symbol(self.model.vocabulary, int(i)) for i in self.reading.likeliest[place]]
        return list(zip(names, self.reading.probabilities[place].tolist(), strict=True))

    def context(self, place: int) -> tuple[str, str]:
        """A few characters before a place, and behind it."""
        return self.characters[max(place - BEFORE, 0) : place], self.characters[place + 1 : place + 1 + AFTER]

    def surprises(self, count: int) -> list[int]:
        """The places of the most surprising characters, worst first, none within the context of another."""
        found: list[int] = []
        for place in np.argsort(-np.nan_to_num(self.reading.bits), kind="stable").tolist():
            if len(found) == count or not self.reading.bits[place] > 0:
                break
            if all(abs(place - other) > BEFORE for other in found):
                found.append(place)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The content of ``charrnn inspect --json``: everything but the states and the bits of each character."""
        return {
            "checkpoint": str(self.model.path),
            "text": self.text_name,
            "characters": len(self.characters),
            "mean_bits": self.mean_bits,
            "surprises": [self._plain_surprise(place) for place in self.surprises(10)],
            "chance": {"shifts": SHIFTS, "confidence": CONFIDENCE},
            "properties": [self._plain_property(found) for found in self.tracked],
        }

    def _plain_surprise(self, place: int) -> dict[str, Any]:
        before, after = self.context(place)
        return {
            "place": place,
            "character": self.characters[place],
            "before": before,
            "after": after,
            "bits": float(self.reading.bits[place]),
            "expected": self.expected(place),
        }

    def _plain_property(self, found: Tracked) -> dict[str, Any]:
        return {
            "name": found.what.name,
            "begins": found.begins,
            "present": found.is_present,
            "chance_ranked": found.chance_ranked,
            "chance_held_out": found.chance_held_out,
            "units": [self._plain_tracker(found, tracker) for tracker in found.best],
        }

    def _plain_tracker(self, found: Tracked, tracker: Tracker) -> dict[str, Any]:
        return {
            "unit": self.unit_name(tracker.unit),
            "ranked": tracker.ranked,
            "held_out": tracker.held_out,
            "auc": tracker.auc,
            "holds": found.holds(tracker),
        }


def inspect_model(
    saved: SavedModel,
    places: Places,
    text: str | None,
    length: int,
    assignments: Sequence[str] = (),
    on_unknown: OnUnknown = "error",
    advanced: Advanced = lambda stage, share: None,
) -> Inspection:
    """Read the first ``length`` symbols of ``text``, for which ``assignments`` change settings of ``corpus``, or of the
    validation part of the model's own.

    Raises:
        ConfigError: an assignment is not one.
        DataError: the text cannot be used with this model, or is too short to predict a character of.
        CharRNNError: the model's predictions are not finite.
    """
    name, ids, notes = _text_ids(saved, places, text, length, assignments, on_unknown)
    characters, starts, ends = _as_characters(saved.vocabulary, ids)
    if len(characters) < 2:
        raise DataError(f"{name}: too short to predict a character of; give a longer text, or a larger --length")
    reading = read(saved.model, ids, lambda share: advanced("reading", share))
    if not np.isfinite(reading.bits[1:]).all() or not np.isfinite(reading.states).all():
        raise CharRNNError(f"{saved.path}: cannot inspect it: its numbers are not finite; use an earlier checkpoint")
    mean_bits = float(reading.bits[1:].mean())
    reading = reading.at(starts, ends)
    tracked: list[Tracked] = []
    for prop in PROPERTIES:
        advanced(f"ranking units: {prop.name}", 1.0)
        tracked.append(track(reading.states, prop.values(characters), prop))
    return Inspection(saved, name, characters, reading, mean_bits, tuple(tracked), notes)


def _text_ids(
    saved: SavedModel, places: Places, text: str | None, length: int, assignments: Sequence[str], on_unknown: OnUnknown
) -> tuple[str, NDArray[np.int64], tuple[str, ...]]:
    """The name of the text, the ids to read, (N,), and what of the text one should know."""
    source = NamedOverride(("corpus", "source"), text, f"--text {text}")
    config = saved.config.corpus if text is None else how_to_read(saved.config, source, assignments)
    recorded = saved.corpus if text is None else None
    encoded = load_text(config, places, saved.vocabulary, recorded, on_unknown)
    first, end = encoded.spans["val"] if text is None else (0, len(encoded))
    ids: Ids = encoded.ids[first : min(end, first + length)]
    return encoded.name + (", val" if text is None else ""), ids.astype(np.int64), encoded.notes


@torch.inference_mode()
def read(model: CharRNN, ids: NDArray[np.int64], advanced: Callable[[float], None] = lambda share: None) -> Reading:
    """Read ``ids``, (N,), from the cold state; ``advanced`` is told the share that is done."""
    x = torch.from_numpy(ids).to(model.decoder.bias.device)
    hidden = model.zero_hidden(1)
    # Nothing precedes the first symbol.
    bits, likeliest, probabilities = [x.new_full((1,), math.nan, dtype=torch.double)], [], []
    states: list[Tensor] = []
    guesses = min(LIKELIEST, model.vocab_size)
    likeliest.append(x.new_zeros((1, guesses)))
    probabilities.append(x.new_zeros((1, guesses), dtype=torch.double))
    for start in range(0, len(ids), WINDOW):
        steps = list(reference_steps(model, x[None, start : start + WINDOW], hidden))
        hidden = tuple(torch.stack(parts) for parts in zip(*steps[-1].states, strict=True))
        states.append(torch.cat([torch.cat([_seen(state) for state in step.states], dim=1) for step in steps]).cpu())
        log_p = torch.cat([step.logits for step in steps]).double().log_softmax(dim=1)  # (T, V)
        targets = x[start + 1 : start + 1 + len(steps)]
        top = log_p[: len(targets)].topk(guesses, dim=1)
        bits.append(-log_p[torch.arange(len(targets)), targets] / math.log(2))
        likeliest.append(top.indices)
        probabilities.append(top.values.exp())
        advanced(min((start + WINDOW) / len(ids), 1.0))
    return Reading(
        torch.cat(bits).cpu().numpy(),
        torch.cat(likeliest).cpu().numpy(),
        torch.cat(probabilities).cpu().numpy(),
        torch.cat(states).numpy(),
    )


def _seen(state: Hidden) -> Tensor:
    """What is shown of the units of one layer, (1, H): the cell state through tanh, as in the paper, or h."""
    return torch.tanh(state[1]) if len(state) == 2 else state[0]


def _as_characters(vocabulary: Vocabulary, ids: NDArray[np.int64]) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """The text, one character for each that the ids complete, and the places of each one's first and last symbol."""
    feed = vocabulary.decoder()
    pieces = [feed(index) for index in ids.tolist()]
    # Bytes that are no UTF-8 may come out together with the character behind them, which then stands for both.
    ends = np.array([place for place, piece in enumerate(pieces) if piece], np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return "".join(pieces[end][-1] for end in ends), starts, ends


def _symbol(vocabulary: Vocabulary, index: int) -> str:
    if vocabulary.kind == "bytes" and index >= 128:
        return vocabulary.symbol_name(index)
    return vocabulary.decode([index])


def parse_unit(word: str, layers: int, size: int) -> int:
    """The column of a unit given as ``LAYER:UNIT``, both from 1.

    Raises:
        UsageError: it is no such thing, or there is no such unit.
    """
    layer, colon, unit = word.partition(":")
    if not (colon and layer.isdecimal() and unit.isdecimal()):
        raise UsageError(f"--unit {word}: not a unit; give LAYER:UNIT, for example 1:{size}")
    if not (1 <= int(layer) <= layers and 1 <= int(unit) <= size):
        raise UsageError(f"--unit {word}: no such unit; give one from 1:1 to {layers}:{size}")
    return (int(layer) - 1) * size + int(unit) - 1
