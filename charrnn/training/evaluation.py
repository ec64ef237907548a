"""How good a model is on a span of text: loss from a carried and from a cold state.

The span is cut into S pieces of equal length, read side by side. *Carried*: each piece is preceded by at least
1,000 characters of the text before it, read but not scored, so that the model comes to it as a reader would.
*Cold*: each piece starts from the zero state. Evaluation has its own hidden state and leaves training as it was.

Shapes: S streams, T window, N characters.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import Hidden
from charrnn.text.encoded import Ids, let_go
from charrnn.training.precision import Precision

WARM_UP_CHARACTERS = 1000
WINDOW = 256
CHARACTERS_PER_STREAM = 3000  # long beside the warm-up, which is read for nothing
MAX_STREAMS = 64


def perplexity(nats: float) -> float:
    """As many symbols as equally likely ones would cost so much; infinite where no float holds it."""
    return math.exp(nats) if nats < math.log(sys.float_info.max) else math.inf


@dataclass(frozen=True)
class Evaluation:
    """Mean loss over ``characters`` predicted characters, in nats."""

    nats_per_char: float
    characters: int

    @property
    def bpc(self) -> float:
        """Bits per character."""
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        """Per character; infinite where no float holds it."""
        return perplexity(self.nats_per_char)

    def to_dict(self) -> dict[str, float]:
        """The three measures, by name."""
        return {"nats_per_char": self.nats_per_char, "bpc": self.bpc, "perplexity": self.perplexity}


def evaluate(
    model: CharRNN,
    ids: Ids,
    span: tuple[int, int],
    precision: Precision,
    *,
    carried: bool = True,
    max_characters: int | None = None,
    should_stop: Callable[[], object] = lambda: None,
) -> Evaluation | None:
    """Score the characters ``ids[span]``, each given the ones before it; None if ``should_stop`` became true.

    Every character of the span is scored once; only the first of the whole text, which nothing precedes, is not.
    ``max_characters`` keeps a long span affordable: the pieces stay where they are and are cut short.
    """
    first, end = max(span[0], 1), span[1]
    count = end - first
    if count <= 0:
        return Evaluation(math.nan, 0)
    streams = min(max(min(count, max_characters or count) // CHARACTERS_PER_STREAM, 1), MAX_STREAMS)
    length = math.ceil(count / streams)
    starts = first + length * np.arange(streams)
    ends = np.minimum(starts + min(length, math.ceil((max_characters or count) / streams)), end)
    reader = _Reader(model, ids, precision, should_stop)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            hidden = reader.warm_up(starts) if carried else model.zero_hidden(streams)
            total = reader.score(starts, ends, hidden)
    except _Stopped:
        return None
    finally:
        model.train(was_training)
    scored = int(np.maximum(ends - starts, 0).sum())
    return Evaluation(total / scored, scored)


class _Stopped(Exception):
    """Somebody asked for an end in the middle."""


@dataclass
class _Reader:
    model: CharRNN
    ids: Ids
    precision: Precision
    should_stop: Callable[[], object]

    def warm_up(self, starts: NDArray[Any]) -> Hidden:
        """The state of each stream after the text before its start, as far back as there is text."""
        hidden = self.model.zero_hidden(len(starts))
        reach = np.minimum(WARM_UP_CHARACTERS, starts - 1)  # the character at start - 1 is the first input
        for size in np.unique(reach):
            rows = np.flatnonzero(reach == size)
            state = self.model.zero_hidden(len(rows))
            for offset in range(0, size, WINDOW):
                width = min(WINDOW, size - offset)
                x = self._window(starts[rows] - 1 - size + offset, width)
                state = self._forward(x, state)[1]
            for whole, part in zip(hidden, state, strict=True):
                whole[:, torch.from_numpy(rows).to(whole.device)] = part
        return hidden

    def score(self, starts: NDArray[Any], ends: NDArray[Any], hidden: Hidden) -> float:
        """Sum of the losses of ``ids[start:end]`` over all streams, nats."""
        total = torch.zeros((), dtype=torch.float64, device=hidden[0].device)
        for offset in range(0, int((ends - starts).max()), WINDOW):
            width = min(WINDOW, int((ends - starts).max()) - offset)
            both = self._window(starts - 1 + offset, width + 1)
            logits, hidden = self._forward(both[:, :-1], hidden)
            losses = cross_entropy(logits, both[:, 1:], reduction="none")
            # The last stream may be shorter than the others: what lies behind its end is not scored.
            inside = (starts[:, None] + offset + np.arange(width)) < ends[:, None]
            total += (losses.double() * torch.from_numpy(inside).to(losses.device)).sum()
        return float(total)

    def _window(self, starts: NDArray[Any], width: int) -> Tensor:
        """``ids[start : start + width]`` of each stream, (S, T); behind the end of the text, the last id.

        A mapped text is let go at every place that was touched, or each leaves a megabyte of it resident.
        """
        both = np.full((len(starts), width), self.ids[-1], np.int64)
        for row, start in zip(both, starts, strict=True):
            piece = self.ids[start : start + width]
            row[: len(piece)] = piece
            let_go(self.ids)
        return torch.from_numpy(both).to(self.model.decoder.bias.device)

    def _forward(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        if self.should_stop():
            raise _Stopped
        with self.precision.autocast():
            logits, hidden = self.model(x, hidden)
        return logits, hidden
