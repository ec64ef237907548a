"""Is the text fit for what it is used for? The parts against each other, by counting. No model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.text.encoded import EncodedText, Ids, unseen_in_training

COUNTED = 2_000_000  # characters of the training part that are counted, at the most: the last ones
WINDOW = 50  # characters: a line of verse or code
EVERY = 25
MOST_WINDOWS = 20_000
MULTIPLIER = np.uint64(6364136223846793005)


@dataclass(frozen=True)
class Texts:
    """``foreign``: nats per character by which a bigram count of the training part predicts the validation part worse
    than it predicts a held-out end of the training part. ``unseen``: share of the validation characters that the
    training part never has, ``unseen_symbols`` how many different ones, ``unseen_most`` how often it has the commonest.
    ``duplicates``: share of the validation part's windows of 50 characters that stand in the training part too;
    ``repeats``: the same of its own held-out end."""

    foreign: float
    unseen: float
    unseen_symbols: int
    duplicates: float
    repeats: float
    unseen_most: int = 0


def compare_parts(text: EncodedText) -> Texts:
    """Training against validation part."""
    train = text.train_ids[-COUNTED:]
    val = text.ids[slice(*text.spans["val"])][:COUNTED]
    held_out = max(min(len(val), len(train) // 5), 1)
    known, rest = train[:-held_out], train[-held_out:]
    size = len(text.vocabulary)
    unseen = [count for symbol in unseen_in_training(text) if (count := int((val == symbol).sum()))]
    return Texts(
        bigram_loss(known, val, size) - bigram_loss(known, rest, size),
        sum(unseen) / max(len(val), 1),
        len(unseen),
        share_repeated(train, val),
        share_repeated(known, rest),
        max(unseen, default=0),
    )


def bigram_loss(known: Ids, other: Ids, vocab_size: int) -> float:
    """Mean loss on ``other`` of a bigram model counted on ``known``, smoothed towards the unigram (one count's weight),
    nats per character."""
    if len(other) < 2 or len(known) < 2:
        return 0.0
    single = np.bincount(known, minlength=vocab_size) + 1.0
    single /= single.sum()
    pairs, counts = np.unique(_pairs(known, vocab_size), return_counts=True)
    wanted = _pairs(other, vocab_size)
    at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[at] == wanted, counts[at], 0)
    contexts = np.bincount(known[:-1], minlength=vocab_size)[other[:-1]]
    return float(-np.log((seen + single[other[1:]]) / (contexts + 1)).mean())


def _pairs(ids: Ids, vocab_size: int) -> NDArray[np.int64]:
    return ids[:-1].astype(np.int64) * vocab_size + ids[1:]


def share_repeated(known: Ids, other: Ids) -> float:
    """The share of evenly spaced windows of ``other`` that stand anywhere in ``known``."""
    if min(len(known), len(other)) < WINDOW:
        return 0.0
    windows = _hashes(other)[::EVERY]
    windows = windows[:: max(len(windows) // MOST_WINDOWS, 1)]
    return float(np.isin(windows, _hashes(known)).mean())


def _hashes(ids: Ids) -> NDArray[Any]:
    """A polynomial hash of every window, modulo 2^64: a collision in a text of millions is unlikely."""
    count = len(ids) - WINDOW + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(WINDOW):
        hashes = hashes * MULTIPLIER + ids[offset : offset + count].astype(np.uint64) + np.uint64(1)
    return hashes
