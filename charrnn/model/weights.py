"""A trained network's parameters as plain arrays: all that is needed to run it without torch.

Shapes: I inputs, H hidden, G = gates * H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from charrnn.config.schema import ModelConfig

if TYPE_CHECKING:
    from charrnn.model.charrnn import CharRNN  # which brings torch

Array = npt.NDArray[np.float32]

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
STATES = {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}  # tensors that a layer carries: h, and an LSTM's c
CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class LayerWeights:
    """One recurrent layer: ``weight_ih`` (G, I), ``weight_hh`` (G, H), both biases (G,)."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


@dataclass(frozen=True)
class Weights:
    """``arrays`` by their names in ``CharRNN.state_dict()``.

    Raises:
        ValueError: names or shapes are not those of such a network.
    """

    vocab_size: int
    config: ModelConfig
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        expected = shapes(self.vocab_size, self.config)
        found = {name: array.shape for name, array in self.arrays.items()}
        if found != expected:
            wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise ValueError(f"weights of another shape than the config's: {', '.join(wrong)}")

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(array.size for array in self.arrays.values())

    @property
    def embedding(self) -> Array | None:
        """(V, I); None where characters are one-hot."""
        return self.arrays.get("embedding.weight")

    @property
    def layers(self) -> list[LayerWeights]:
        """From the input up."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        numbers = range(self.config.num_layers)
        return [LayerWeights(*(self.arrays[f"layers.{index}.{name}"] for name in names)) for index in numbers]

    @property
    def output(self) -> tuple[Array, Array]:
        """The decoder's matrix, (V, H), which may be the embedding's, and bias, (V,)."""
        return self.arrays[output_name(self.config)], self.arrays["decoder.bias"]


def weights_of(model: CharRNN) -> Weights:
    """A view of a model's parameters, which must be float32 and on the CPU."""
    arrays = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return Weights(model.vocab_size, model.config, arrays)


def output_name(config: ModelConfig) -> str:
    """The name of the decoder's matrix, which may be the embedding's."""
    return "embedding.weight" if config.tie_weights else "decoder.weight"


def shapes(vocab_size: int, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of ``CharRNN(vocab_size, config).state_dict()``."""
    hidden, gates = config.hidden_size, GATES[config.cell] * config.hidden_size
    found: dict[str, tuple[int, ...]] = {"decoder.bias": (vocab_size,)}
    if config.embedding_size:
        found["embedding.weight"] = (vocab_size, config.embedding_size)
    if not config.tie_weights:
        found["decoder.weight"] = (vocab_size, hidden)
    for index in range(config.num_layers):
        inputs = hidden if index else config.embedding_size or vocab_size
        sizes = {"weight_ih_l0": (gates, inputs), "weight_hh_l0": (gates, hidden)}
        biases = {"bias_ih_l0": (gates,), "bias_hh_l0": (gates,)}
        found |= {f"layers.{index}.{name}": shape for name, shape in {**sizes, **biases}.items()}
    return found


def make_buffer(*shape: int) -> Array:
    """Room for numbers, not filled; aligned, since what BLAS rounds may depend on that."""
    count = int(np.prod(shape))
    room = np.empty(count + CACHE_LINE // 4, np.float32)
    first = -room.ctypes.data % CACHE_LINE // 4
    return room[first : first + count].reshape(shape)


def aligned(array: npt.NDArray[np.generic]) -> Array:
    """A copy in float32, in memory of its own."""
    copy = make_buffer(*array.shape)
    copy[...] = array
    return copy
