"""From a network to characters, one after another. Memory does not grow with the length of the text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from charrnn.config.schema import SamplingConfig
from charrnn.errors import CharRNNError
from charrnn.model.weights import Weights
from charrnn.sampling.decoding import choose, generators
from charrnn.sampling.stepper import FastReader, Ids, Reader
from charrnn.text.vocabulary import OnUnknown, Vocabulary

if TYPE_CHECKING:
    from charrnn.model.charrnn import CharRNN  # which brings torch


def generate(
    network: CharRNN | Weights,
    vocabulary: Vocabulary,
    config: SamplingConfig,
    *,
    prompt: str | None = None,
    num: int = 1,
    seed: int = 1,
    on_unknown: OnUnknown = "error",
) -> Iterator[list[str]]:
    """Yield ``config.length`` times the next piece of text of each of ``num`` samples.

    All samples are drawn as one batch after the same prompt, each with random numbers of its own: the first ones stay
    what they are when there are more. The same seed gives the same text on the same machine; on another one, with
    another ``num`` or another ``Reader``, it differs only where rounding decides. The global generators are not
    touched. The weights must not change before the last piece. With the vocabulary of bytes a piece may be empty or
    several characters, and a character that is not complete at the end shows as U+FFFD. ``Weights`` are for one sample,
    without torch.

    Raises:
        DataError: at once, if the prompt has characters that the model does not know.
        CharRNNError: while drawing, if the model's logits are not finite.
    """
    ids = vocabulary.encode(prompt or "", on_unknown)
    return _draw(network, vocabulary, config, ids if len(ids) else _opening(vocabulary), num, seed)


def _draw(
    network: CharRNN | Weights, vocabulary: Vocabulary, config: SamplingConfig, start: Ids, num: int, seed: int
) -> Iterator[list[str]]:
    """Draw after the ids ``start``, (T,)."""
    own = generators(seed, num)
    decoders = [vocabulary.decoder() for _ in range(num)]
    reader = _reader(network)
    try:
        first = reader.read(start)
        chosen = choose(np.broadcast_to(first, (num, first.shape[1])), config, own)
        # Nothing of the others is prepared before the first characters are out.
        others = reader.draw(chosen, config, own, config.length - 1)
        for step, ids in enumerate(islice(chain([chosen], others), config.length), start=1):
            pieces = zip(decoders, ids.tolist(), strict=True)
            yield [decode(index) + (decode(None) if step == config.length else "") for decode, index in pieces]
    except FloatingPointError as error:
        raise CharRNNError(f"cannot sample: {error}; use an earlier checkpoint") from error
    finally:
        reader.close()


def _reader(network: CharRNN | Weights) -> Reader:
    if isinstance(network, Weights):
        return FastReader(network)
    from charrnn.sampling.plain import PlainReader

    return PlainReader(network)


def sample_text(model: CharRNN, vocabulary: Vocabulary, config: SamplingConfig, seed: int = 1) -> str:
    """One sample as a string."""
    return "".join(pieces[0] for pieces in generate(model, vocabulary, config, seed=seed))


def _opening(vocabulary: Vocabulary) -> Ids:
    """What an unprompted sample starts after: a line break, else a space, else the first symbol."""
    known = "\n " if vocabulary.kind == "bytes" else vocabulary.characters
    opening = next((c for c in "\n " if c in known), vocabulary.characters[:1] or "\n")
    return vocabulary.encode(opening)
