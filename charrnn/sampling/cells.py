"""Recurrent layers one step at a time, in numpy, in place. Equations as in torch's documentation of LSTM, GRU, RNN;
``model/reference.py`` has them in plain form.

A sigmoid is made of a tanh, (1 + tanh(x / 2)) / 2, so that one pass over all gates serves both; numpy's is accurate and
vectorised. Numpy rather than torch: its small operations cost 0.7 microseconds, torch's 4, and a step has a dozen.

Shapes: N streams, I inputs, H hidden, G = gates * H.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from charrnn.model.weights import Array, LayerWeights, make_buffer

BLOCK = 2**18  # numbers, 1 MB


class Product:
    """``source @ weight.T`` from one buffer, (N, I), into another, ``result``, (N, G).

    For one stream by blocks of rows, in turn from the first to the last and back: so the processor's cache still holds
    what was read last, and BLAS, which would share a large product among threads, takes each block on one. Waiting for
    another thread at every character costs more than it gains as soon as anything else is running. Several streams
    want the transposed weights, and torch, whose product of matrices is the faster one; one stream does without torch.
    """

    def __init__(self, weight: Array, source: Array) -> None:
        num, rows = len(source), len(weight)
        self.result = make_buffer(num, rows)
        self._blocks: list[tuple[Array, Array]] = []
        self._source = source[0]
        if num == 1:
            step = max(1, BLOCK // weight.shape[1])
            row = self.result[0]
            self._blocks = [(weight[a : a + step], row[a : a + step]) for a in range(0, rows, step)]
        else:
            import torch

            matrices = torch.from_numpy(source), torch.from_numpy(weight).t().contiguous()
            self._multiply = partial(torch.mm, *matrices, out=torch.from_numpy(self.result))

    def __call__(self) -> Array:
        """Compute ``result`` and return it."""
        if self._blocks:
            for block, part in self._blocks:
                np.dot(block, self._source, out=part)
            self._blocks.reverse()
        else:
            self._multiply()
        return self.result


class Layer:
    """One layer: its state, and its last output ``h``, (N, H), in a buffer that stays the same."""

    def __init__(self, weights: LayerWeights, state: Sequence[Array]) -> None:
        self.h = state[0]
        self._from_hidden = Product(weights.weight_hh, self.h)

    @classmethod
    def input_bias(cls, weights: LayerWeights) -> Array:
        """What belongs to ``from_input``, (G,)."""
        return weights.bias_ih + weights.bias_hh

    def step(self, from_input: Array) -> None:
        """One step, given what the input adds to the gates, (N, G), with ``input_bias``."""
        raise NotImplementedError


class LSTM(Layer):
    """Gates: input, forget, cell, output."""

    def __init__(self, weights: LayerWeights, state: Sequence[Array]) -> None:
        super().__init__(weights, state)
        size = self.h.shape[1]
        self._c = state[1]
        self._scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), size)
        self._shift = 1 - self._scale
        self._gates = _split(self._from_hidden.result, 4)

    def step(self, from_input: Array) -> None:
        """See ``Layer``."""
        total = self._from_hidden()
        total += from_input
        total *= self._scale
        np.tanh(total, out=total)
        total *= self._scale
        total += self._shift
        i, f, g, o = self._gates
        i *= g
        self._c *= f
        self._c += i
        np.tanh(self._c, out=self.h)
        self.h *= o


class GRU(Layer):
    """Gates: reset, update, new. The bias of the new gate's hidden part is inside what the reset gate scales."""

    def __init__(self, weights: LayerWeights, state: Sequence[Array]) -> None:
        super().__init__(weights, state)
        self._size = self.h.shape[1]
        self._bias = weights.bias_hh[2 * self._size :]
        self._gates = _split(self._from_hidden.result, 3)

    @classmethod
    def input_bias(cls, weights: LayerWeights) -> Array:
        """See ``Layer``; without the bias that ``step`` adds itself."""
        squashed = len(weights.bias_hh) * 2 // 3
        return weights.bias_ih + np.where(np.arange(len(weights.bias_hh)) < squashed, weights.bias_hh, np.float32(0))

    def step(self, from_input: Array) -> None:
        """See ``Layer``."""
        total, squashed = self._from_hidden(), 2 * self._size
        both = total[:, :squashed]
        both += from_input[:, :squashed]
        both *= 0.5
        np.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        r, z, n = self._gates
        n += self._bias
        n *= r
        n += from_input[:, squashed:]
        np.tanh(n, out=n)
        self.h -= n  # (1 - z) n + z h
        self.h *= z
        self.h += n


class TanhRNN(Layer):
    """No gates."""

    def step(self, from_input: Array) -> None:
        """See ``Layer``."""
        np.add(self._from_hidden(), from_input, out=self.h)
        np.tanh(self.h, out=self.h)


class ReluRNN(Layer):
    """No gates."""

    def step(self, from_input: Array) -> None:
        """See ``Layer``."""
        np.add(self._from_hidden(), from_input, out=self.h)
        np.maximum(self.h, 0, out=self.h)


CELLS: dict[str, type[Layer]] = {"lstm": LSTM, "gru": GRU, "rnn_tanh": TanhRNN, "rnn_relu": ReluRNN}


def _split(gates: Array, count: int) -> list[Array]:
    return np.split(gates, count, axis=1)
