"""The optimizer: made once per run, saved and restored with the model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from charrnn.config.schema import TrainingConfig

MUCH_DECAY = 1e-3  # of adam and sgd: costs 0.2 nats where 1e-4 costs 0.02 (LSTM 1 x 32, 300 steps)


def _eager(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """An optimizer without its wrappers for ``torch.compile``: their first call imports all of torch._dynamo.

    That is 1.5 of 4 seconds from the start of the program to the first step. What is inside is the same, bit for bit.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    bare["step"] = torch.no_grad()(inspect.unwrap(kind.step))  # the only other thing that step's wrapper does
    return cast(type[torch.optim.Optimizer], type(kind.__name__, (kind,), bare))


SGD, Adam, AdamW = (_eager(kind) for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW))


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainingConfig, captured: bool = False
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum, fused: one kernel for all parameters, and able to skip a bad step. For steps
    that are ``captured`` the rate is a tensor on their device: a number would be captured with them."""
    parameters = list(parameters)
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if captured:
        settings["lr"] = torch.tensor(config.lr, device=parameters[0].device)
    if config.optimizer == "sgd":
        settings["momentum"] = config.momentum
    else:
        settings |= {"betas": config.betas, "capturable": captured}
    optimizer = {"sgd": SGD, "adam": Adam, "adamw": AdamW}[config.optimizer](parameters, **settings)
    if settings.get("momentum"):  # a first step that is skipped would leave a buffer of torch's own as memory was
        optimizer.state.update((one, {"momentum_buffer": torch.zeros_like(one)}) for one in parameters)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def as_penalty(optimizer: str) -> str:
    """What weight decay is in optimizers other than AdamW, in a sentence. Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101. Measured: .github/CONTRIBUTING.md."""
    scaled = ", scaled up like every other" if optimizer == "adam" else ""
    return f"With {optimizer} it is a penalty in the gradient{scaled}, and the 0.1 that suits adamw is far too much."


def much_decay(config: TrainingConfig) -> list[str]:
    """A warning where so much of it keeps an optimizer from learning; none where it does not."""
    if config.optimizer == "adamw" or config.weight_decay < MUCH_DECAY:
        return []
    return [f"training.weight_decay is {config.weight_decay:g}. {as_penalty(config.optimizer)} 0 is usual"]


def skip_step_if(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """Make the next ``step`` change nothing where ``bad``, a boolean scalar, is true.

    This is the hook that torch's GradScaler uses (``found_inf``). The decision stays on the device: no waiting.
    """
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's ``state_dict`` with text for keys and numbers for rates, as a checkpoint's JSON wants them."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {"state": {str(i): s for i, s in state["state"].items()}, "param_groups": groups}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what ``optimizer_state`` gave. Settings but the last rate are the optimizer's own: they are in the config.

    Raises:
        ValueError: it is not the state of such an optimizer. The fused kernels would not notice: they read and write
            as many numbers as the parameters have.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = {int(i): one for i, one in state["state"].items()}
    wanted = KEPT[type(optimizer)] if kept else set()
    if kept and kept.keys() != set(range(len(parameters))):
        raise ValueError("the optimizer's state is of another number of parameters")
    for i, one in kept.items():
        if one.keys() != wanted:
            raise ValueError(f"the optimizer's state of parameter {i} holds other things than {sorted(wanted)}")
        for name, tensor in one.items():
            shape = torch.Size([]) if name == "step" else parameters[i].shape
            if not isinstance(tensor, Tensor) or tensor.shape != shape or tensor.dtype != torch.float32:
                raise ValueError(f"{name} of parameter {i} has another shape or type")
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    set_lr(optimizer, float(state["param_groups"][0]["lr"]))


# What each optimizer keeps for a parameter.
KEPT = {
    Adam: {"step", "exp_avg", "exp_avg_sq"},
    AdamW: {"step", "exp_avg", "exp_avg_sq"},
    SGD: {"momentum_buffer"},
}
