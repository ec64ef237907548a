"""Is the arithmetic good enough? One batch, replayed in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import Hidden, detach
from charrnn.model.reference import reference_forward
from charrnn.training.precision import Precision


@dataclass(frozen=True)
class Numerics:
    """``loss`` and ``gradient``: relative difference of the run's arithmetic from float64, the gradient's as the norm
    of the difference over the norm. ``coarse``: share of the weights that bfloat16 would hold exactly."""

    loss: float
    gradient: float
    coarse: float


def replay(model: CharRNN, precision: Precision, x: Tensor, y: Tensor, hidden: Hidden) -> Numerics:
    """One forward and backward pass without dropout in the run's precision, and again in float64."""
    losses, gradients = [], []
    for exact in (False, True):
        twin = _without_dropout(model)
        twin = twin.double() if exact else twin
        state = tuple(tensor.double() if exact else tensor for tensor in detach(hidden))
        if exact:
            # With the reference cell: what the kernels compute is what is in question.
            logits = reference_forward(twin, x, state)[0]
            loss = -torch.log_softmax(logits, -1).gather(-1, y[..., None]).mean()
            loss.backward()
        else:
            with precision.autocast():
                logits = twin(x, state)[0]
            loss = cross_entropy(logits, y)
            precision.backward(loss, y.numel(), twin.parameters())
        losses.append(loss.item())
        gradients.append(_flat([p.grad for p in twin.parameters() if p.grad is not None]))
    rough, fine = gradients
    difference = (rough - fine).norm().item() / max(fine.norm().item(), 1e-300) if len(rough) == len(fine) else math.nan
    return Numerics(abs(losses[0] - losses[1]) / max(abs(losses[1]), 1e-300), difference, _coarse(model))


def _without_dropout(model: CharRNN) -> CharRNN:
    """A copy in training mode: cuDNN gives no gradient in the other."""
    twin = copy.deepcopy(model).train()
    for dropout in (twin.input_dropout, twin.between_dropout, twin.output_dropout):
        dropout.p = 0.0
    return twin


def _flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.double().flatten() for gradient in gradients]) if gradients else torch.zeros(0)


def _coarse(model: CharRNN) -> float:
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    weights = weights[weights != 0]
    return float((weights.bfloat16().float() == weights).float().mean()) if len(weights) else 0.0
