"""One character after another: the logits of the next one, about as fast as the weights can be read.

``make_stepper`` chooses. The fast way, on a CPU, does nothing twice: what a character adds to the gates of the first
layer is a row of a table, buffers are made once, gates are computed in place (``nn.LSTM`` prepares its weights anew at
every call). ``cells.py`` has the layers.

Shapes: N streams, H hidden, K layers, V vocabulary, G = gates * H.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.sampling.cells import CELLS, Array, Layer, Product, input_bias, make_buffer, numbers

LARGEST_TABLE = 2**26  # numbers: 256 MB


class Stepper(Protocol):
    """Streams of characters, with their state."""

    def step(self, ids: Tensor) -> Tensor:
        """One more character of each stream, (N,), to the logits of the next one, (N, V), good until the next step."""


def make_stepper(model: CharRNN, hidden: Hidden) -> Stepper:
    """Streams that go on from the state ``hidden``, each (K, N, H), without dropout.

    Both ways compute the same up to rounding. Elsewhere than on a CPU the model itself is faster; and the table of a
    huge vocabulary would take more memory than it is worth.
    """
    weight = model.recurrent_layers[0].get_parameter("weight_hh_l0")
    small = model.vocab_size * len(weight) <= LARGEST_TABLE
    if small and weight.device.type == "cpu" and weight.dtype == torch.float32:
        return FastStepper(model, hidden)
    return PlainStepper(model, hidden)


class PlainStepper:
    """The model itself, which must be in evaluation mode."""

    def __init__(self, model: CharRNN, hidden: Hidden) -> None:
        self._model, self._hidden = model, hidden

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """See ``Stepper``."""
        logits, self._hidden = self._model(ids[:, None], self._hidden)
        last: Tensor = logits[:, -1]
        return last


class FastStepper:
    """The model's weights in numpy; they must not change while it is in use (for one stream they are not copied)."""

    def __init__(self, model: CharRNN, hidden: Hidden) -> None:
        num, cell = hidden[0].shape[1], CELLS[model.config.cell]
        first, *upper = model.recurrent_layers
        states = [[numbers(part[k].clone()) for part in hidden] for k in range(len(model.layers))]
        self._table = _make_table(model)
        self._row = make_buffer(num, self._table.shape[1])
        self._first = cell(first, states[0])
        self._upper: list[_Upper] = []
        signal = self._first.h
        for layer, state in zip(upper, states[1:], strict=True):
            self._upper.append(_Upper(layer, cell(layer, state), signal, model.config.skip_connections))
            signal = self._upper[-1].signal
        self._decode = Product(_output_weight(model), signal)
        self._bias = numbers(model.decoder.bias)
        self._logits = torch.from_numpy(self._decode.result)

    def step(self, ids: Tensor) -> Tensor:
        """See ``Stepper``."""
        # Ids are known to be good: "clip" only keeps numpy from filling a buffer of its own first.
        np.take(self._table, ids.numpy(), axis=0, out=self._row, mode="clip")
        with np.errstate(all="ignore"):  # what is not finite is seen in the logits
            self._first.step(self._row)
            for upper in self._upper:
                upper.step()
            logits = self._decode()
        logits += self._bias
        return self._logits


class _Upper:
    """A layer above the first: reads the buffer ``below`` and hands ``signal`` up, (N, H) both."""

    def __init__(self, weights: nn.RNNBase, layer: Layer, below: Array, skip: bool) -> None:
        self._layer, self._below, self._skip = layer, below, skip
        self._from_below = Product(weights.get_parameter("weight_ih_l0"), below)
        self._bias = numbers(input_bias(weights))
        self.signal = make_buffer(*below.shape) if skip else layer.h

    def step(self) -> None:
        from_below = self._from_below()
        from_below += self._bias
        self._layer.step(from_below)
        if self._skip:
            np.add(self._layer.h, self._below, out=self.signal)


@torch.no_grad()
def _make_table(model: CharRNN) -> Array:
    """What each character adds to the gates of the first layer, (V, G)."""
    layer = model.recurrent_layers[0]
    weight, bias = layer.get_parameter("weight_ih_l0"), input_bias(layer)
    if model.embedding is None:
        return numbers(weight.t() + bias)
    return numbers(F.linear(model.embedding.weight, weight, bias))


def _output_weight(model: CharRNN) -> Tensor:
    """The decoder's matrix, (V, H); tied, it is the embedding's."""
    if model.config.tie_weights and model.embedding is not None:
        return model.embedding.weight
    return model.decoder.weight
