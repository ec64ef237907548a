"""Adam, AdamW and SGD for many networks at once, each with settings of its own.

What they compute is what torch's fused optimizers do, which ``training/optimizers.py`` makes for a single network.
Shapes: N networks, P parameters of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charrnn.config.schema import TrainingConfig

EPS = 1e-8  # of torch's Adam
CLIP_EPS = 1e-6  # of torch's clip_grad_norm_


class StackedOptimizer:
    """Moves ``weights``, (N, P), row by row as ``configs`` say; all of them name the same kind of optimizer.

    ``kept`` has what the optimizer keeps under torch's names: (N, P) each, and ``step``, (N,), of Adam.
    """

    def __init__(self, weights: Tensor, configs: Sequence[TrainingConfig]) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=weights.device)[:, None]

        self._weights = weights
        self._kind = configs[0].optimizer
        limits = [float("inf") if config.grad_clip is None else config.grad_clip for config in configs]
        self._limits = column(limits).float()
        self._decay = column([config.weight_decay for config in configs])
        self._decays = any(config.weight_decay for config in configs)
        self._momentum = column([config.momentum for config in configs])
        self._betas = [column([config.betas[i] for config in configs]) for i in (0, 1)]
        names = ("momentum_buffer",) if self._kind == "sgd" else ("exp_avg", "exp_avg_sq")
        self.kept = {name: torch.zeros_like(weights, requires_grad=False) for name in names}
        if self._kind != "sgd":
            self.kept["step"] = torch.zeros(len(weights), device=weights.device)

    @torch.no_grad()
    def step(self, gradient: Tensor, lrs: Tensor) -> Tensor:
        """Clip, then one step at rates ``lrs``, (N,) float64; the norms before clipping, (N,).

        ``gradient``, (N, P), is written over. Nothing changes for a network whose row of it is not finite: that takes a
        step with a gradient of zero, at a rate of zero, in which the averages stay as they are. (Selecting rows of old
        and new would be slower.)
        """
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        good = torch.isfinite(norms)[:, None]
        clip = (self._limits / (norms[:, None] + CLIP_EPS)).clamp(max=1.0)
        # A bad row becomes zeros. Its numbers times 0 are 0 or NaN: no number of a good row is changed by this.
        gradient.mul_(torch.where(good, clip, 0.0)).nan_to_num_(nan=0.0)
        lr, decay = torch.where(good, lrs[:, None], 0.0), torch.where(good, self._decay, 0.0)
        if self._kind == "sgd":
            self._sgd(gradient, lr, decay, good)
        else:
            self._adam(gradient, lr, decay, good)
        return norms

    def _sgd(self, gradient: Tensor, lr: Tensor, decay: Tensor, good: Tensor) -> None:
        """The buffer starts at zero: its first value is then the gradient, as in torch."""
        buffer = self.kept["momentum_buffer"]
        if self._decays:
            gradient.addcmul_(self._weights, decay.float())
        buffer.mul_(torch.where(good, self._momentum, 1.0).float()).add_(gradient)
        self._weights.addcmul_(buffer, -lr.float())

    def _adam(self, gradient: Tensor, lr: Tensor, decay: Tensor, good: Tensor) -> None:
        """https://arxiv.org/abs/1412.6980, and https://arxiv.org/abs/1711.05101 for the decay of AdamW."""
        average, square, step = self.kept["exp_avg"], self.kept["exp_avg_sq"], self.kept["step"]
        beta1, beta2 = self._betas
        if self._decays and self._kind == "adamw":
            self._weights.mul_((1 - lr * decay).float())
        elif self._decays:
            gradient.addcmul_(self._weights, decay.float())
        average.lerp_(gradient, torch.where(good, 1 - beta1, 0.0).float())
        square.lerp_(gradient.square_(), torch.where(good, 1 - beta2, 0.0).float())
        step += good[:, 0]
        steps = step[:, None].double().clamp(min=1)  # before the first good step: 0 / 0
        correction = (1 - beta2**steps).sqrt()
        size = lr * correction / (1 - beta1**steps)
        update = average / square.sqrt().add_((EPS * correction).float())
        self._weights.addcmul_(update, -size.float())
