"""Dropout whose random numbers are cheap on a CPU.

torch draws them there one by one, 17 ns each: with 96 streams, windows of 24 and 384 units that is 15 of 50 ms of a
step. Here a draw is 16 of the 64 bits that torch's generator gives at a time, 2 ns. The generator is torch's own, so
its state is saved and restored with all others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DRAWS = 2**16  # different values of a draw
PER_NUMBER = 4  # draws in an int64


class Dropout(nn.Dropout):
    """As ``nn.Dropout``: zero with probability ``p``, rounded to a multiple of 1/65536, the rest scaled up to keep the
    mean. Elsewhere than on a CPU it is ``nn.Dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape and type as ``input``."""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return input * self._mask(input)

    def _mask(self, input: Tensor) -> Tensor:
        """0 where a number is dropped, the scale where it is kept."""
        dropped = min(round(self.p * DRAWS), DRAWS - 1)
        numbers = torch.empty(-(-input.numel() // PER_NUMBER), dtype=torch.int64)
        draws = numbers.random_(-(2**63), None).view(torch.int16)[: input.numel()]  # all 64 bits
        kept = draws.view(input.shape) >= dropped - DRAWS // 2
        return kept.to(input.dtype).mul_(DRAWS / (DRAWS - dropped))
