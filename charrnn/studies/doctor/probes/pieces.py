"""Pieces of text for the probes to read, side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from charrnn.text.encoded import EncodedText, Ids

PIECES = 24
SHORTEST_SPAN = 4  # times the length of a piece: below it the training part has to do


def unseen_span(text: EncodedText, length: int) -> tuple[int, int]:
    """The validation part, or the training part where that is too short for pieces of this length."""
    first, end = text.spans["val"]
    return (first, end) if end - first >= SHORTEST_SPAN * length else text.spans["train"]


def pieces(ids: Ids, span: tuple[int, int], length: int, count: int = PIECES) -> Tensor:
    """``count`` evenly spaced pieces of ``length`` ids each, (S, length) int64; shorter ones of a shorter span."""
    first, end = span
    length = min(length, end - first)
    starts = np.unique(np.linspace(first, end - length, count).astype(int))
    return torch.from_numpy(np.stack([ids[start : start + length] for start in starts]).astype(np.int64))
