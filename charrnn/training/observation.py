"""One step looked at from the inside: what each parameter, the logits and the carried state were like.

Made once per log line, in the step that ends it, so that it costs next to nothing; the doctor reads it later.
Shapes: B streams, T window, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import Hidden

MOST_POSITIONS = 16  # numbers of ``loss_by_position``: longer windows are averaged in pieces
DIGITS = 4


class Observer:
    """Takes notes during one step: made before the optimizer moves anything, ``observation`` after it."""

    def __init__(self, model: CharRNN, optimizer: torch.optim.Optimizer, grad_clip: float | None) -> None:
        self._model = model
        self._optimizer = optimizer
        self._grad_clip = grad_clip

    def window(self, before: Hidden, logits: Tensor, y: Tensor) -> None:
        """The carried state a window began with, its logits (B, T, V) and its targets (B, T)."""
        self._before, self._logits, self._y = before, logits, y
        logits.retain_grad()

    def gradient(self, norm: Tensor) -> None:
        """The gradient is there, clipped from this global norm; the weights are still the old ones."""
        self._norm = norm
        self._weights = [parameter.detach().clone() for parameter in self._model.parameters()]

    def observation(self, after: Hidden) -> Observation:
        """Everything, once the step is done; ``after`` is the state behind the window."""
        losses = cross_entropy(self._logits.detach(), self._y, reduction="none").mean(dim=0)  # (T,)
        by_position = torch.stack([piece.mean() for piece in losses.tensor_split(min(len(losses), MOST_POSITIONS))])
        return Observation(
            loss_by_position=by_position,
            taught_positions=_share_not_zero(self._logits.grad),
            carried_streams=_share_not_zero(self._before[0]),
            largest_logit=self._logits.detach().abs().amax().float(),
            largest_state=after[-1].detach().abs().amax(),
            zero_gradients=self._zero_gradients(),
            optimizer_steps=self._optimizer_steps(),
            tensors={
                name: self._tensor(parameter, old)
                for (name, parameter), old in zip(self._model.named_parameters(), self._weights, strict=True)
            },
        )

    def _tensor(self, parameter: nn.Parameter, old: Tensor) -> Tensor:
        """Norms of gradient (before clipping) and weight, update-to-weight ratio (NaN of a weight that was zero and
        moved), mean g^2 over Adam's; (4,)."""
        gradient = torch.zeros_like(old) if parameter.grad is None else parameter.grad
        limit = math.inf if self._grad_clip is None else self._grad_clip
        unclipped = gradient.norm() * torch.clamp(self._norm / limit, min=1.0)
        weight, moved = old.norm(), (parameter.detach() - old).norm()
        ratio = moved / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        update = torch.where((weight > 0) | (moved == 0), ratio, math.nan)
        return torch.stack([unclipped, weight, update, self._second_moment_ratio(parameter, gradient)])

    def _second_moment_ratio(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """Mean g^2 of this step over Adam's average of it, bias-corrected: 1 where gradients are what they were.
        NaN for other optimizers."""
        state = self._optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in state:
            return gradient.new_tensor(math.nan)
        correction = 1 - self._optimizer.param_groups[0]["betas"][1] ** state["step"]
        expected = state["exp_avg_sq"].mean() / correction
        ratio: Tensor = gradient.square().mean() / expected.clamp(min=torch.finfo(expected.dtype).tiny)
        return ratio

    def _optimizer_steps(self) -> Tensor | None:
        """The steps that the optimizer is known to have taken: Adam counts them, the least of all parameters. SGD with
        momentum only shows whether this was its first, if its buffer is the gradient itself (with weight decay it never
        is); else None."""
        states = self._optimizer.state
        counts = [state["step"].float() for state in states.values() if "step" in state]
        if counts:
            return torch.stack(counts).min()
        buffers = [(parameter.grad, state.get("momentum_buffer")) for parameter, state in states.items()]
        same = [g is not None and buffer is not None and torch.equal(g, buffer) for g, buffer in buffers]
        return torch.ones(()) if same and all(same) else None

    def _zero_gradients(self) -> Tensor:
        """The share of the recurrent matrices' gradient that is exactly zero: too small for the arithmetic."""
        zero = [
            parameter.grad == 0
            for name, parameter in self._model.named_parameters()
            if "weight_hh" in name and parameter.grad is not None
        ]
        return torch.cat([one.flatten() for one in zero]).float().mean() if zero else torch.zeros(())


@dataclass(frozen=True)
class Observation:
    """What was seen, as tensors: hardly anybody waits for the device before ``to_row`` (SGD's buffers are compared).

    ``tensors`` has (4,) for each parameter: norm of its gradient before clipping, of itself, of its update over that,
    and mean g^2 over Adam's second moment. Shares are of the window's positions and of the streams.
    """

    loss_by_position: Tensor
    taught_positions: Tensor
    carried_streams: Tensor
    largest_logit: Tensor
    largest_state: Tensor
    zero_gradients: Tensor
    optimizer_steps: Tensor | None
    tensors: dict[str, Tensor]

    def to_row(self) -> dict[str, Any]:
        """Plain values for a line of ``metrics.jsonl``, see ``runs/metrics.py``."""
        row: dict[str, Any] = {
            "loss_by_position": [_rounded(loss) for loss in self.loss_by_position.tolist()],
            "taught_positions": _rounded(self.taught_positions.item()),
            "carried_streams": _rounded(self.carried_streams.item()),
            "largest_logit": _rounded(self.largest_logit.item()),
            "largest_state": _rounded(self.largest_state.item()),
            "zero_gradients": _rounded(self.zero_gradients.item()),
        }
        if self.optimizer_steps is not None:
            row["optimizer_steps"] = int(self.optimizer_steps.item())
        names = ("grad_norm", "weight_norm", "update_ratio", "second_moment_ratio")
        row["tensors"] = {
            parameter: {
                name: _rounded(value)
                for name, value in zip(names, values.tolist(), strict=True)
                if not math.isnan(value)
            }
            for parameter, values in self.tensors.items()
        }
        return row


def _share_not_zero(tensor: Tensor | None) -> Tensor:
    """The share of the indices of dimension 1 (positions, or streams) at which anything is not zero."""
    if tensor is None:
        return torch.zeros(())
    return (tensor.detach() != 0).any(dim=2).any(dim=0).float().mean()


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
