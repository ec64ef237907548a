"""How predictable a text is without any network: its n-gram entropies, in nats per character.

The entropies are the text's own (plug-in) estimates, H(x_t | x_{t-n+1} ... x_{t-1}) under its own n-gram counts
(Shannon, "Prediction and Entropy of Printed English", 1951). For the trigram of a short text that is optimistic:
an n-gram model meeting new text would do worse.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import DataError
from charrnn.text.encoded import Ids

# Longer texts are sampled, so that memory stays flat: the estimates move in the third decimal only.
SAMPLE_CHARACTERS = 1 << 21
SAMPLE_BLOCKS = 32
MOST_BINS = 1 << 21  # of 8 bytes: up to here counting takes less memory and time than sorting
NAMES = {1: "unigram", 2: "bigram", 3: "trigram"}


def baselines(ids: Ids, vocab_size: int) -> dict[str, float]:
    """Uniform, unigram, bigram and trigram entropy of a text, nats per character."""
    sample = _sample(ids)
    entropies = {name: conditional_entropy(sample, vocab_size, order) for order, name in NAMES.items()}
    return {"uniform": math.log(vocab_size), **entropies}


def refuse_monotony(name: str, entropies: dict[str, float]) -> None:
    """Raises DataError where the text of these ``baselines`` has nothing to learn."""
    if entropies["unigram"] == 0:
        raise DataError(f"{name}: is one character over and over: there is nothing to learn; give another text")


def shares(ids: Ids, vocab_size: int) -> NDArray[np.float64]:
    """Each symbol's share of a text, (V,); one more of each is counted, so that none is zero."""
    counts: NDArray[np.int64] = np.bincount(_sample(ids), minlength=vocab_size) + 1
    part: NDArray[np.float64] = counts / counts.sum()
    return part


def conditional_entropy(ids: Ids, vocab_size: int, order: int) -> float:
    """Entropy of a character given the ``order - 1`` before it, nats; 0 for a text shorter than ``order``."""
    count = len(ids) - order + 1
    if count <= 0:
        return 0.0
    context = np.zeros(count, dtype=np.int64)
    for offset in range(order - 1):
        context = context * vocab_size + ids[offset : offset + count]
    grams = context * vocab_size + ids[order - 1 :]
    return (_sum_n_log_n(context, vocab_size ** (order - 1)) - _sum_n_log_n(grams, vocab_size**order)) / count


def _sum_n_log_n(keys: NDArray[np.int64], kinds: int) -> float:
    """Over the numbers n of equal keys, which are below ``kinds``."""
    if kinds <= MOST_BINS:
        counts = np.bincount(keys)
        counts = counts[counts > 0]
    else:
        counts = np.unique(keys, return_counts=True)[1]
    return float(np.sum(counts * np.log(counts)))


def _sample(ids: Ids) -> Ids:
    """The whole text, or evenly spaced blocks of a long one."""
    if len(ids) <= SAMPLE_CHARACTERS:
        return ids
    size = SAMPLE_CHARACTERS // SAMPLE_BLOCKS
    starts = np.linspace(0, len(ids) - size, SAMPLE_BLOCKS).astype(int)
    return np.concatenate([ids[start : start + size] for start in starts])
