"""The streams that training reads: B contiguous pieces of one text, side by side.

    text:     a b c d e f g h i j k l m     B = 3 streams of L = (N - 1) // B = 4 characters
    streams:  a b c d | e                   the column behind the bar is only a target
              e f g h | i                   a window of T = 2:  x = [[a b] [e f] [i j]]
              i j k l | m                                       y = [[b c] [f g] [j k]]

Window follows window, so the hidden state at the end of one is the right start for the next. At the end of the
streams a new epoch starts at the left. What a stream has left over there is a shorter window, not lost.

Shapes: B streams, T window length, N characters.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charrnn.errors import DataError
from charrnn.text.encoded import Ids, let_go

# AWD-LSTM (https://arxiv.org/abs/1708.02182, section 5): the base length is halved now and then, then varied.
FULL_LENGTH_PROBABILITY = 0.95
LENGTH_STANDARD_DEVIATION = 5.0
SHORTEST_WINDOW = 5
LARGEST_COUNT = 2**63
READ_AHEAD = 2**19  # ids of all streams together that are copied at a time


class Streams:
    """Windows over B parallel streams, with a cursor that can be saved.

    ``send`` takes the ids of many windows to where each is wanted, a device perhaps, at once.

    Raises:
        DataError: the text is shorter than ``batch_size * (seq_len + 1)`` characters.
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        seq_len: int,
        random_seq_len: bool = False,
        send: Callable[[Tensor], Tensor] = lambda ids: ids,
    ) -> None:
        need = batch_size * (seq_len + 1)
        if len(ids) < need:
            fit = max(1, len(ids) // (seq_len + 1))
            smaller = f", or --set training.batch_size={fit} --set training.seq_len={min(seq_len, len(ids) // fit - 1)}"
            raise DataError(
                f"the training text has {len(ids):,} characters, but batch_size {batch_size} x (seq_len {seq_len} + 1)"
                f" needs {need:,}; give more text{smaller if len(ids) > 1 else ''}"
            )
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.random_seq_len = random_seq_len
        self.length = (len(ids) - 1) // batch_size
        self._ids = ids
        self._send = send
        # A copy of the rows from the column ``_ahead_from`` on, there.
        self._ahead = torch.from_numpy(np.empty((batch_size, 0), ids.dtype))
        self._ahead_from = 0
        # One view onto the (mapped) ids: row b is stream b with its last target. Nothing is copied.
        self._rows = np.lib.stride_tricks.as_strided(
            ids,
            shape=(batch_size, self.length + 1),
            strides=(self.length * ids.itemsize, ids.itemsize),
            writeable=False,
        )
        self.position = 0
        self.epoch = 0

    @property
    def epochs_done(self) -> float:
        """Passes over the text so far, with fractions."""
        return self.epoch + self.position / self.length

    def next(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The next window: inputs and targets, each (B, T) int64. ``generator`` draws random lengths."""
        if self.position >= self.length:
            self.position = 0
            self.epoch += 1
        size = min(self._draw_length(generator), self.length - self.position)
        both = self._columns(self.position, size + 1).long()
        self.position += size
        return both[:, :-1], both[:, 1:]

    def windows_in(self, epochs: float) -> int:
        """Windows of full length, and a short one at the end of each pass, in so many passes."""
        whole = int(epochs)
        return whole * math.ceil(self.length / self.seq_len) + math.ceil((epochs - whole) * self.length / self.seq_len)

    def _columns(self, first: int, count: int) -> Tensor:
        """Some columns of all rows, (B, count), copied with many that follow.

        Every place of a mapped text that is touched makes about a megabyte of it resident: so the text is touched
        seldom, stream after stream, and let go each time.
        """
        offset = first - self._ahead_from
        if offset < 0 or offset + count > self._ahead.shape[1]:
            many = min(max(count, READ_AHEAD // self.batch_size), self.length + 1 - first)
            ahead = np.empty((self.batch_size, many), self._ids.dtype)
            for row, copy in zip(self._rows, ahead, strict=True):
                copy[:] = row[first : first + many]
                let_go(self._ids)
            self._ahead, self._ahead_from, offset = self._send(torch.from_numpy(ahead)), first, 0
        return self._ahead[:, offset : offset + count]

    def ahead(self, count: int) -> Tensor:
        """The next ``count`` characters of each stream and one more, (B, count + 1) int64, or what is left of them;
        the cursor stays."""
        rows = self._rows[:, self.position : self.position + count + 1]
        return torch.from_numpy(rows.astype(np.int64))

    @property
    def at_start(self) -> bool:
        """Whether the next window begins a pass, where no state is to be carried in."""
        return self.position % self.length == 0

    def _draw_length(self, generator: torch.Generator) -> int:
        if not self.random_seq_len:
            return self.seq_len
        coin = torch.rand((), generator=generator).item()
        base = self.seq_len if coin < FULL_LENGTH_PROBABILITY else self.seq_len / 2
        drawn = base + LENGTH_STANDARD_DEVIATION * torch.randn((), generator=generator).item()
        return max(min(SHORTEST_WINDOW, self.seq_len), int(drawn))

    def state_dict(self) -> dict[str, Any]:
        """The cursor."""
        return {"position": self.position, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved cursor, or to the end if that lies behind it: this text may be another, shorter one."""
        self.position, self.epoch = min(saved_count(state["position"]), self.length), saved_count(state["epoch"])


def saved_count(value: Any) -> int:
    """A count out of a saved state.

    Raises:
        TypeError, ValueError: it is none, or of a size that nobody counts to and no float can hold.
    """
    count = operator.index(value)
    if not 0 <= count < LARGEST_COUNT:
        raise ValueError(f"a count of {value}")
    return count
