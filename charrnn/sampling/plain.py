"""Reading by the model itself: on any device, many characters of a prompt at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from charrnn.config.schema import SamplingConfig
from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import expand
from charrnn.model.weights import Array, weights_of
from charrnn.sampling.blocks import draw_blocks
from charrnn.sampling.stepper import FastStepper, Ids, draw_one_by_one, has_room_for_table

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
        prompt = torch.from_numpy(ids.astype(np.int64)).to(self._model.decoder.bias.device)
        for window in prompt.split(PROMPT_WINDOW):
            logits, self._hidden = self._model(window[None], self._hidden)
        last: Array = logits[:, -1].cpu().numpy()
        return last

    def draw(
        self, chosen: Ids, config: SamplingConfig, own: Sequence[np.random.Generator], count: int
    ) -> Iterator[Ids]:
        """See ``Reader``. Both ways draw the same up to rounding; elsewhere the model itself is faster."""
        hidden = expand(self._hidden, len(chosen))
        if is_fast(self._model):
            stepper = FastStepper(weights_of(self._model), [part.numpy() for part in hidden])
            yield from draw_one_by_one(stepper, chosen, config, own, count)
        else:
            yield from draw_blocks(self._model, hidden, chosen, config, own, count)

    def close(self) -> None:
        """See ``Reader``."""
        self._model.train(self._was_training)


def is_fast(model: CharRNN) -> bool:
    """Whether ``FastStepper`` can step it, and is faster than the model."""
    weight = model.recurrent_layers[0].get_parameter("weight_hh_l0")
    is_plain = weight.device.type != "cpu" or weight.dtype != torch.float32
    return not is_plain and has_room_for_table(model.vocab_size, len(weight))
