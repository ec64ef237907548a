"""How a model reads: from a cold and from a carried state, and which character it really predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import Hidden
from charrnn.studies.doctor.probes.pieces import pieces
from charrnn.text.encoded import Ids

LENGTH = 256
WARM_UP = 1000  # some models need hundreds of characters to get over a cold start
AHEAD, FEWEST_AHEAD = 100, 20
OFFSETS = (-1, 0, 1, 2, 3)  # the right one is 1: the next character
PIECES = 32


@dataclass(frozen=True)
class Reading:
    """On text it has not seen, ``cold`` and ``carried``: mean loss at 0, 1, 2 ... characters after the start
    of a piece, nats per character; cold from the zero state, carried after reading what stands before. ``offsets``:
    mean loss when the prediction at a character is scored against the one so many places on."""

    cold: list[float]
    carried: list[float]
    offsets: dict[int, float]

    @property
    def predicts(self) -> int:
        """The offset that the predictions fit best."""
        return min(self.offsets, key=lambda offset: self.offsets[offset])

    def cold_cost(self, first: int) -> float:
        """What a zero state costs over the first so many characters, nats per character."""
        return mean(self.cold[:first]) - mean(self.carried[:first])


@torch.inference_mode()
def read(model: CharRNN, ids: Ids, span: tuple[int, int]) -> Reading:
    """Read some pieces of text, cold and carried."""
    text = pieces(ids, span, WARM_UP + LENGTH + 1, PIECES).to(model.decoder.bias.device)
    warm = min(WARM_UP, text.shape[1] // 2)
    zeros = model.zero_hidden(len(text))
    x, y = text[:, warm:-1], text[:, warm + 1 :]
    carried_logits = model(x, model(text[:, :warm], zeros)[1])[0]
    cold = cross_entropy(model(x, zeros)[0], y, reduction="none").mean(dim=0)
    carried = cross_entropy(carried_logits, y, reduction="none").mean(dim=0)
    inner = slice(1, max(x.shape[1] - max(OFFSETS), 2))
    offsets = {}
    for offset in OFFSETS:
        places = torch.arange(*inner.indices(x.shape[1])) + warm + offset
        targets = text[:, places.clamp(max=text.shape[1] - 1)]
        offsets[offset] = cross_entropy(carried_logits[:, inner], targets).item()
    return Reading(cold.tolist(), carried.tolist(), offsets)


@dataclass(frozen=True)
class Continuation:
    """Mean loss over the next ``characters`` of the training streams: from the state that training carried there, and
    from the zero state, nats per character; NaN where the streams are at their end."""

    characters: int
    carried: float
    cold: float


@torch.inference_mode()
def read_on(model: CharRNN, text: Tensor, hidden: Hidden) -> Continuation:
    """Read on where the streams are: ``text``, (B, L + 1), with their state and without.

    The state must be training's own: a model that cannot start from nothing may not find its way in a thousand
    characters, so no warm-up would show what it has lost.
    """
    count = text.shape[1] - 1
    if count < FEWEST_AHEAD:
        return Continuation(0, math.nan, math.nan)
    losses = [
        cross_entropy(model(text[:, :-1], state)[0], text[:, 1:]).item()
        for state in (hidden, tuple(torch.zeros_like(tensor) for tensor in hidden))
    ]
    return Continuation(count, *losses)
