"""One character after another: the logits of the next one, about as fast as the weights can be read, and without torch.

Nothing is done twice: what a character adds to the gates of the first layer is a row of a table, buffers are made once,
gates are computed in place (``nn.LSTM`` prepares its weights anew at every call). ``cells.py`` has the layers,
``plain.py`` the model's own way.

Shapes: N streams, T characters, H hidden, K layers, V vocabulary, G = gates * H.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from charrnn.config.schema import SamplingConfig
from charrnn.model.weights import STATES, Array, LayerWeights, Weights, aligned, make_buffer
from charrnn.sampling.cells import CELLS, Layer, Product
from charrnn.sampling.decoding import choose

Ids = npt.NDArray[np.integer]

LARGEST_TABLE = 2**26  # numbers: 256 MB
LIGHT = 2**24  # numbers: 64 MB. Not measured: a GPU, if there is one, may be the faster one above


class Reader(Protocol):
    """Reads a prompt with a network, and lets streams go on from there."""

    def read(self, ids: Ids) -> Array:
        """The logits after the characters of the prompt, (T,) to (1, V)."""

    def draw(
        self, chosen: Ids, config: SamplingConfig, own: Sequence[np.random.Generator], count: int
    ) -> Iterator[Ids]:
        """Go on with N streams: ``count`` times the next id of each, (N,), once for each reader.

        Args:
            chosen: the first ids after the prompt, (N,).
            own: the generators of the streams.

        Raises:
            FloatingPointError: while drawing, at the first logits that are not finite.
        """

    def close(self) -> None:
        """Leave the network as it was."""


def has_room_for_table(vocab_size: int, gates: int) -> bool:
    """Whether the table is worth its memory: that of a huge vocabulary is not."""
    return vocab_size * gates <= LARGEST_TABLE


def is_light(weights: Weights) -> bool:
    """Whether one stream is best stepped here, whatever devices there are."""
    gates = len(weights.layers[0].bias_ih)
    return weights.size <= LIGHT and has_room_for_table(weights.vocab_size, gates)


class FastStepper:
    """Streams that go on from the state ``hidden``, each (K, N, H). The weights must not change while it is in use (for
    one stream they are not copied)."""

    def __init__(self, weights: Weights, hidden: Sequence[Array]) -> None:
        num, cell = hidden[0].shape[1], CELLS[weights.config.cell]
        first, *upper = weights.layers
        states = [[aligned(part[k]) for part in hidden] for k in range(len(weights.layers))]
        self._table = _make_table(weights.embedding, first, cell)
        self._row = make_buffer(num, self._table.shape[1])
        self._first = cell(first, states[0])
        self._upper: list[_Upper] = []
        signal = self._first.h
        for layer, state in zip(upper, states[1:], strict=True):
            self._upper.append(_Upper(layer, cell(layer, state), signal, weights.config.skip_connections))
            signal = self._upper[-1].signal
        matrix, self._bias = weights.output
        self._decode = Product(matrix, signal)

    def step(self, ids: Ids) -> Array:
        """One more character of each stream, (N,), to the logits of the next one, (N, V), good until the next step."""
        # Ids are known to be good: "clip" only keeps numpy from filling a buffer of its own first.
        np.take(self._table, ids, axis=0, out=self._row, mode="clip")
        with np.errstate(all="ignore"):  # what is not finite is seen in the logits
            self._first.step(self._row)
            for upper in self._upper:
                upper.step()
            logits = self._decode()
        logits += self._bias
        return logits


def draw_one_by_one(
    stepper: FastStepper, chosen: Ids, config: SamplingConfig, own: Sequence[np.random.Generator], count: int
) -> Iterator[Ids]:
    """See ``Reader.draw``."""
    for _ in range(count):
        chosen = choose(stepper.step(chosen), config, own)
        yield chosen


class FastReader:
    """One stream, from a state of zeros, that reads as it writes: character by character."""

    def __init__(self, weights: Weights) -> None:
        config = weights.config
        zeros = np.zeros((config.num_layers, 1, config.hidden_size), np.float32)
        self._stepper = FastStepper(weights, [zeros] * STATES[config.cell])

    def read(self, ids: Ids) -> Array:
        """See ``Reader``."""
        for index in range(len(ids)):
            logits = self._stepper.step(ids[index : index + 1])
        return logits

    def draw(
        self, chosen: Ids, config: SamplingConfig, own: Sequence[np.random.Generator], count: int
    ) -> Iterator[Ids]:
        """See ``Reader``; only for one stream."""
        return draw_one_by_one(self._stepper, chosen, config, own, count)

    def close(self) -> None:
        """See ``Reader``."""


class _Upper:
    """A layer above the first: reads the buffer ``below`` and hands ``signal`` up, (N, H) both."""

    def __init__(self, weights: LayerWeights, layer: Layer, below: Array, skip: bool) -> None:
        self._layer, self._below, self._skip = layer, below, skip
        self._from_below = Product(weights.weight_ih, below)
        self._bias = layer.input_bias(weights)
        self.signal = make_buffer(*below.shape) if skip else layer.h

    def step(self) -> None:
        from_below = self._from_below()
        from_below += self._bias
        self._layer.step(from_below)
        if self._skip:
            np.add(self._layer.h, self._below, out=self.signal)


def _make_table(embedding: Array | None, first: LayerWeights, cell: type[Layer]) -> Array:
    """What each character adds to the gates of the first layer, (V, G)."""
    weight = first.weight_ih.T
    with np.errstate(all="ignore"):
        table = weight if embedding is None else embedding @ weight
        return aligned(table + cell.input_bias(first))
