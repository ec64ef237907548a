"""Many characters at a time by the model itself: chosen on its device, which waits for nobody between one and the next.

Shapes: N streams, V vocabulary, K characters of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from charrnn.config.schema import SamplingConfig
from charrnn.model.charrnn import CharRNN
from charrnn.model.device import Graphs, Replayed, graphs_of, send, write
from charrnn.model.hidden import Hidden
from charrnn.sampling.decoding import NOT_FINITE
from charrnn.sampling.stepper import Ids

BLOCK = 32  # characters
ROOM = 2**22  # random numbers of a block, 32 MB
LONG = 16 * BLOCK  # characters that are worth the capture of a graph. Not measured: no GPU was at hand
BROKEN = -1  # in place of an id: the logits were not finite


def draw_blocks(
    model: CharRNN, hidden: Hidden, chosen: Ids, config: SamplingConfig, own: Sequence[np.random.Generator], count: int
) -> Iterator[Ids]:
    """See ``Reader.draw``: streams that go on from the state ``hidden``, with a model in evaluation mode.

    In blocks where there are graphs; on a CPU one character comes as soon as another.
    """
    graphs = graphs_of(model.decoder.bias.device)
    length = max(1, min(BLOCK, ROOM // (len(chosen) * model.vocab_size))) if graphs else 1
    blocks = Blocks(model, hidden, chosen, config, length, graphs if count >= LONG else None)
    numbers = blocks.numbers(own)
    for begin in range(0, count, length):
        drawn = blocks.draw(numbers)
        if begin + length < count:
            numbers = blocks.numbers(own)  # while the device is at work
        for ids in drawn[: count - begin].cpu().numpy():
            if (ids == BROKEN).any():
                raise FloatingPointError(NOT_FINITE)
            yield ids


class Blocks:
    """Streams with their state, ``length`` characters at a time: see ``draw_blocks``."""

    def __init__(
        self, model: CharRNN, hidden: Hidden, chosen: Ids, config: SamplingConfig, length: int, graphs: Graphs | None
    ) -> None:
        self._model, self._config, self._device = model, config, model.decoder.bias.device
        self._hidden = [part.clone() for part in hidden]
        self._ids = torch.from_numpy(chosen).to(self._device, torch.int64, copy=True)
        races = model.vocab_size if config.temperature else 0  # the likeliest wins without one
        self._times = torch.empty(len(chosen), length, races, dtype=torch.float64, device=self._device)
        self._drawn = self._ids.new_empty(length, len(chosen))
        self._again = Replayed(self._draw, self._changed, graphs) if graphs else self._draw

    def numbers(self, own: Sequence[np.random.Generator]) -> Tensor:
        """What decides the choices of one block, on the CPU, (N, K, V); in the order in which ``choose`` draws it."""
        numbers = np.empty(self._times.shape)
        for rows, generator in zip(numbers, own, strict=True):
            generator.standard_exponential(out=rows)
        return torch.from_numpy(numbers)

    def draw(self, numbers: Tensor) -> Tensor:
        """The next ids, (K, N), good until the next call; from the first one that is ``BROKEN`` on, none is good."""
        self._times.copy_(send(numbers, self._device))
        self._again()
        return self._drawn

    @torch.no_grad()
    def _draw(self) -> None:
        ids, hidden = self._ids, tuple(self._hidden)
        for times, place in zip(self._times.unbind(1), self._drawn, strict=True):
            logits, hidden = self._model(ids[:, None], hidden)
            logits = logits[:, -1]
            ids = choose(logits, self._config, times)
            place.copy_(ids.masked_fill(~logits.isfinite().all(-1), BROKEN))
        write([self._ids, *self._hidden], [ids, *hidden])

    def _changed(self) -> list[Tensor]:
        return [self._ids, *self._hidden, self._drawn]


def choose(logits: Tensor, config: SamplingConfig, times: Tensor) -> Tensor:
    """``decoding.choose`` on a device, (N, V) to (N,): ``times`` are its random numbers, (N, V)."""
    if not config.temperature:
        return logits.argmax(-1)
    shifted = logits.double()
    shifted = (shifted - shifted.amax(-1, keepdim=True)) / config.temperature
    if config.top_k is not None:
        smallest = shifted.topk(min(config.top_k, shifted.shape[-1])).values[..., -1:]
        shifted = shifted.masked_fill(shifted < smallest, -torch.inf)
    probability = shifted.softmax(-1)
    if config.top_p is not None:
        ordered, index = probability.sort(dim=-1, descending=True, stable=True)
        left_out = ordered.cumsum(-1) - ordered >= config.top_p
        probability = probability.scatter(-1, index, ordered.masked_fill(left_out, 0))
    return (probability / times).argmax(-1)
