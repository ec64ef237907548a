"""From logits to the next character: pure functions. Shapes: N samples, V vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from charrnn.config.schema import SamplingConfig


def choose(logits: Tensor, config: SamplingConfig, generator: torch.Generator) -> Tensor:
    """One id per row of ``logits``, (N, V) to (N,). Temperature 0 takes the likeliest.

    Raises:
        FloatingPointError: a logit is not finite: the model itself is broken.
    """
    logits = logits.double()
    # A sum of float32 cannot overflow a double: it is finite where all are, and takes one look rather than four.
    if not math.isfinite(logits.sum().item()):
        raise FloatingPointError("the model's logits are not finite")
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    probability = probabilities(logits, config)
    # As torch.multinomial draws a single one, bit for bit, without its checks: twice as fast for one sample.
    return probability.div_(torch.empty_like(probability).exponential_(generator=generator)).argmax(dim=-1)


def probabilities(logits: Tensor, config: SamplingConfig) -> Tensor:
    """The distribution to draw from, (N, V): temperature first, then top-k, then top-p."""
    # Subtracting the maximum first keeps a tiny temperature from overflowing.
    logits = logits.double()
    shifted = (logits - logits.amax(dim=-1, keepdim=True)) / config.temperature
    if config.top_k is not None:
        shifted = keep_top_k(shifted, config.top_k)
    probability = shifted.softmax(dim=-1)
    return probability if config.top_p is None else keep_top_p(probability, config.top_p)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the ``k`` largest of each row become -inf; ties with the k-th stay."""
    smallest = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(probability: Tensor, p: float) -> Tensor:
    """Nucleus sampling (https://arxiv.org/abs/1904.09751): the fewest likeliest symbols that add up to ``p``."""
    ordered, index = probability.sort(dim=-1, descending=True)
    # A symbol is left out where those before it suffice already; so the likeliest always stays.
    ordered = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= p, 0.0)
    kept = torch.zeros_like(probability).scatter(-1, index, ordered)
    return kept / kept.sum(dim=-1, keepdim=True)
