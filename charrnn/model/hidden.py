"""The hidden state of a CharRNN as a tuple of tensors: ``(h, c)`` for LSTMs, ``(h,)`` for all other cells.

Each tensor is (num_layers, B, H), float32 whatever the precision of the layers.
"""

from __future__ import annotations

from torch import Tensor

Hidden = tuple[Tensor, ...]


def detach(hidden: Hidden) -> Hidden:
    """The same values, cut from the graph: where back-propagation through time is truncated."""
    return tuple(tensor.detach() for tensor in hidden)


def keep_streams(hidden: Hidden, keep: Tensor) -> Hidden:
    """Zero the state of every stream whose ``keep``, (B,), is 0."""
    return tuple(tensor * keep[None, :, None] for tensor in hidden)


def expand(hidden: Hidden, streams: int) -> Hidden:
    """The state of one stream, repeated for several."""
    return tuple(tensor.expand(-1, streams, -1).contiguous() for tensor in hidden)
