"""The optimizer: made once per run, saved and restored with the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from charrnn.config.schema import TrainingConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum, fused: one kernel for all parameters, and able to skip a bad step."""
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    beta1, beta2 = config.betas
    return kind(parameters, lr=config.lr, betas=(beta1, beta2), weight_decay=decay, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def skip_step_if(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """Make the next ``step`` change nothing where ``bad``, a boolean scalar, is true.

    This is the hook that torch's GradScaler uses (``found_inf``). The decision stays on the device: no waiting.
    """
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's ``state_dict`` with text for keys, as a checkpoint's JSON wants them."""
    state = optimizer.state_dict()
    return {"state": {str(i): s for i, s in state["state"].items()}, "param_groups": state["param_groups"]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what ``optimizer_state`` gave, also after JSON, which has made a list of the tuple ``betas``."""
    per_parameter = {int(i): s for i, s in state["state"].items()}
    groups = [{**g, "betas": tuple(g["betas"])} if "betas" in g else g for g in state["param_groups"]]
    optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
