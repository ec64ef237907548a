"""How far back a model really learns: the gradient of a loss with respect to the states before it.

Backpropagation through time multiplies by one Jacobian per step back, so the norm of d loss_t / d state_{t-k} shrinks
or grows about exponentially with k (Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013,
https://arxiv.org/abs/1211.5063). Measured here, rather than guessed from the norm of the whole gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import detach
from charrnn.model.reference import reference_steps
from charrnn.studies.doctor.probes.pieces import pieces
from charrnn.text.encoded import Ids

WARM_UP = 100  # characters read before, so that the state is a carried one
HORIZON = 128  # characters back, at the most
SMALL = 0.01  # of the gradient at k = 0
LOWEST = 1e-30


@dataclass(frozen=True)
class Profile:
    """Mean norm of d loss_t / d h_{t-k} for k = 0, 1, ...; ``cell`` is the same of the LSTM's cell state, else None.

    ``state`` is what carries the memory: the cell state of an LSTM, the hidden state of all others.
    """

    hidden: list[float]
    cell: list[float] | None

    @property
    def state(self) -> list[float]:
        return self.hidden if self.cell is None else self.cell

    @property
    def relative(self) -> list[float]:
        """``state``, in units of its first number."""
        return _relative(self.state)

    @property
    def reach(self) -> int | None:
        """The k at which it has fallen below 1 % for good; None if it does not within the horizon."""
        return _reach(self.relative)

    @property
    def hidden_reach(self) -> int | None:
        """The same of the hidden state alone: through the recurrent matrix."""
        return _reach(_relative(self.hidden))

    @property
    def decay(self) -> float:
        """Factor per character: the slope of a straight line through the logarithms, as far as they are above 1e-6."""
        shares = np.array(self.relative)
        kept = np.flatnonzero((shares > 1e-6) & np.isfinite(shares))
        if len(kept) < 2:
            return 0.0
        return float(np.exp(np.polyfit(kept, np.log(shares[kept]), 1)[0]))

    @property
    def half_life(self) -> float:
        """Characters after which half of it is gone; infinity if it does not shrink."""
        return math.log(2) / -math.log(self.decay) if 0 < self.decay < 1 else (0.0 if self.decay == 0 else math.inf)

    def beyond(self, seq_len: int) -> float:
        """The share of the whole that lies ``seq_len`` steps back and more: what truncation there leaves out. NaN where
        numbers are none."""
        total = sum(self.state)
        return 0.0 if total <= LOWEST else sum(self.state[seq_len:]) / total


def _relative(norms: list[float]) -> list[float]:
    return [0.0 if norms[0] <= LOWEST else norm / norms[0] for norm in norms]


def _reach(relative: list[float]) -> int | None:
    above = [k for k, share in enumerate(relative) if not share < SMALL]
    last = above[-1] if above else 0
    return last + 1 if last + 1 < len(relative) else None


def gradient_through_time(model: CharRNN, ids: Ids, span: tuple[int, int], horizon: int = HORIZON) -> Profile:
    """The profile of a model on some pieces of text, each read from a carried state.

    ``model`` is used in float32 without dropout, and is left as it was.
    """
    was_training = model.training
    model.eval()
    try:
        return _profile(model, pieces(ids, span, WARM_UP + horizon + 2), horizon)
    finally:
        model.train(was_training)


def _profile(model: CharRNN, x: Tensor, horizon: int) -> Profile:
    x = x.to(model.decoder.bias.device)
    warm = max(x.shape[1] - horizon - 2, 0)
    hidden = model.zero_hidden(len(x))
    if warm:
        with torch.no_grad():
            hidden = model(x[:, :warm], hidden)[1]
    steps = list(reference_steps(model, x[:, warm:-1], detach(hidden)))
    # A loss of one stream does not depend on the others' states: one backward pass serves all.
    loss = cross_entropy(steps[-1].logits[:, None], x[:, -1:], reduction="none").sum()
    kinds = []
    for kind in range(len(hidden)):
        states = [layer[kind] for step in reversed(steps) for layer in step.states]
        gradients = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
        norms = torch.stack([torch.zeros(len(x)) if g is None else g.norm(dim=1).cpu() for g in gradients])
        layers = norms.view(len(steps), -1, len(x))  # (k, layer, stream)
        kinds.append(layers.square().sum(dim=1).sqrt().mean(dim=1).tolist())
    return Profile(kinds[0], kinds[1] if len(kinds) == 2 else None)
