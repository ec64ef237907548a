"""From a model to characters, one after another. Memory does not grow with the length of the text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from charrnn.config.schema import SamplingConfig
from charrnn.errors import CharRNNError
from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden, expand
from charrnn.sampling.decoding import choose
from charrnn.sampling.stepper import make_stepper
from charrnn.text.vocabulary import OnUnknown, Vocabulary

PROMPT_WINDOW = 1024


def generate(
    model: CharRNN,
    vocabulary: Vocabulary,
    config: SamplingConfig,
    *,
    prompt: str | None = None,
    num: int = 1,
    seed: int = 1,
    on_unknown: OnUnknown = "error",
) -> Iterator[list[str]]:
    """Yield ``config.length`` times the next piece of text of each of ``num`` samples.

    All samples are drawn as one batch after the same prompt. The same seed gives the same text on the same machine;
    on another one, or drawn by the other ``Stepper``, it differs only where rounding decides. Torch's global generator
    is not touched. The weights must not change before the last piece. With the vocabulary of bytes a piece may be
    empty or several characters.

    Raises:
        DataError: at once, if the prompt has characters that the model does not know.
        CharRNNError: while drawing, if the model's logits are not finite.
    """
    ids = vocabulary.encode(prompt or "", on_unknown)
    start = torch.from_numpy((ids if len(ids) else _opening(vocabulary)).astype(np.int64))[None]
    return _draw(model, vocabulary, config, start, num, seed)


def _draw(
    model: CharRNN, vocabulary: Vocabulary, config: SamplingConfig, start: torch.Tensor, num: int, seed: int
) -> Iterator[list[str]]:
    """Draw after the ids ``start``, (1, T)."""
    device = model.decoder.bias.device
    generator = torch.Generator(device).manual_seed(seed)
    decoders = [vocabulary.decoder() for _ in range(num)]
    was_training = model.training
    model.eval()
    try:
        logits, hidden = _read_prompt(model, start.to(device))
        logits, stepper = logits.expand(num, -1), None
        for step in range(config.length):
            chosen = choose(logits, config, generator)
            yield [decode(index) for decode, index in zip(decoders, chosen.tolist(), strict=True)]
            if step + 1 < config.length:
                # Not before the first characters are out.
                stepper = stepper or make_stepper(model, expand(hidden, num))
                logits = stepper.step(chosen)
    except FloatingPointError as error:
        raise CharRNNError(f"cannot sample: {error}; use an earlier checkpoint") from error
    finally:
        model.train(was_training)


def sample_text(model: CharRNN, vocabulary: Vocabulary, config: SamplingConfig, seed: int = 1) -> str:
    """One sample as a string."""
    return "".join(pieces[0] for pieces in generate(model, vocabulary, config, seed=seed))


@torch.inference_mode()
def _read_prompt(model: CharRNN, x: torch.Tensor) -> tuple[torch.Tensor, Hidden]:
    """Logits after the prompt, (1, V), and the state; in windows, so that a long prompt needs little memory."""
    hidden = model.zero_hidden(1)
    for window in x.split(PROMPT_WINDOW, dim=1):
        logits, hidden = model(window, hidden)
    return logits[:, -1], hidden


def _opening(vocabulary: Vocabulary) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """What an unprompted sample starts after: a line break, else a space, else the first symbol."""
    known = "\n " if vocabulary.kind == "bytes" else vocabulary.characters
    opening = next((c for c in "\n " if c in known), vocabulary.characters[:1] or "\n")
    return vocabulary.encode(opening)
