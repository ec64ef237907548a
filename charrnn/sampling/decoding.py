"""From logits to the next character: pure functions. Shapes: N samples, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from charrnn.config.schema import SamplingConfig

NOT_FINITE = "the model's logits are not finite"

Floats = npt.NDArray[np.float64]


def generators(seed: int, num: int) -> list[np.random.Generator]:
    """One for each of ``num`` samples; the first ones are the same however many there are."""
    first = np.random.SeedSequence(seed)
    return [np.random.default_rng(sequence) for sequence in (first, *first.spawn(num - 1))]


def choose(
    logits: npt.NDArray[np.floating], config: SamplingConfig, own: Sequence[np.random.Generator]
) -> npt.NDArray[np.int64]:
    """One id per row of ``logits``, (N, V) to (N,), each drawn with its ``own`` generator. Temperature 0 takes the
    likeliest.

    Raises:
        FloatingPointError: a logit is not finite: the model itself is broken.
    """
    if not np.isfinite(logits).all():
        raise FloatingPointError(NOT_FINITE)
    worth: npt.NDArray[np.floating] = logits
    if config.temperature:
        # A race: times with rate p each, and the first one wins, which is symbol i in a share p_i of all races.
        worth = probabilities(logits, config)
        times = np.empty(worth.shape)
        for row, generator in zip(times, own, strict=True):
            generator.standard_exponential(out=row)
        worth /= times
    chosen: npt.NDArray[np.int64] = worth.argmax(axis=-1)
    return chosen


def probabilities(logits: npt.NDArray[np.floating], config: SamplingConfig) -> Floats:
    """The distribution to draw from, (N, V): temperature first, then top-k, then top-p."""
    shifted = logits.astype(np.float64)
    # Subtracting the maximum first keeps a tiny temperature from overflowing upwards.
    shifted -= shifted.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        shifted /= config.temperature
    if config.top_k is not None:
        shifted = keep_top_k(shifted, config.top_k)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted if config.top_p is None else keep_top_p(shifted, config.top_p)


def keep_top_k(logits: Floats, k: int) -> Floats:
    """All but the ``k`` largest of each row become -inf; ties with the k-th stay."""
    place = max(logits.shape[-1] - k, 0)
    smallest = np.partition(logits, place, axis=-1)[..., place, None]
    return np.where(logits < smallest, -np.inf, logits)


def keep_top_p(probability: Floats, p: float) -> Floats:
    """Nucleus sampling (https://arxiv.org/abs/1904.09751): the fewest likeliest symbols that add up to ``p``."""
    index = np.argsort(-probability, axis=-1, kind="stable")
    ordered = np.take_along_axis(probability, index, axis=-1)
    # A symbol is left out where those before it suffice already; so the likeliest always stays.
    ordered[ordered.cumsum(axis=-1) - ordered >= p] = 0.0
    kept = np.empty_like(probability)
    np.put_along_axis(kept, index, ordered, axis=-1)
    kept /= kept.sum(axis=-1, keepdims=True)
    return kept
