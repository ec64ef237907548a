"""Reading and stepping by the model itself: on any device, many characters of a prompt at once.

Shapes: N streams, T characters, H hidden, K layers, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden, expand
from charrnn.model.weights import Array, weights_of
from charrnn.sampling.stepper import FastStepper, Ids, Stepper, has_room_for_table

PROMPT_WINDOW = 1024


class PlainReader:
    """A ``Reader``; the model is in evaluation mode until it is closed."""

    def __init__(self, model: CharRNN) -> None:
        self._was_training = model.training
        self._model = model.eval()

    @torch.inference_mode()
    def read(self, ids: Ids) -> Array:
        """See ``Reader``; in windows, so that a long prompt needs little memory."""
        self._hidden = self._model.zero_hidden(1)
        for window in _to_tensor(ids, self._model).split(PROMPT_WINDOW):
            logits, self._hidden = self._model(window[None], self._hidden)
        return _to_array(logits[:, -1])

    def stepper(self, num: int) -> Stepper:
        """See ``Reader``."""
        return make_stepper(self._model, expand(self._hidden, num))

    def close(self) -> None:
        """See ``Reader``."""
        self._model.train(self._was_training)


def make_stepper(model: CharRNN, hidden: Hidden) -> Stepper:
    """Streams that go on from the state ``hidden``, each (K, N, H), without dropout.

    Both ways compute the same up to rounding. Elsewhere than on a CPU the model itself is faster.
    """
    weight = model.recurrent_layers[0].get_parameter("weight_hh_l0")
    is_plain = weight.device.type != "cpu" or weight.dtype != torch.float32
    if is_plain or not has_room_for_table(model.vocab_size, len(weight)):
        return PlainStepper(model, hidden)
    return FastStepper(weights_of(model), [part.numpy() for part in hidden])


class PlainStepper:
    """The model itself, which must be in evaluation mode."""

    def __init__(self, model: CharRNN, hidden: Hidden) -> None:
        self._model, self._hidden = model, hidden

    @torch.inference_mode()
    def step(self, ids: Ids) -> Array:
        """See ``Stepper``."""
        logits, self._hidden = self._model(_to_tensor(ids, self._model)[:, None], self._hidden)
        return _to_array(logits[:, -1])


def _to_tensor(ids: Ids, model: CharRNN) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(model.decoder.bias.device)


def _to_array(logits: Tensor) -> Array:
    array: Array = logits.cpu().numpy()
    return array
