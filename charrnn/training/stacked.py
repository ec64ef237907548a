"""Many small networks of one shape trained together: each comes out as it would alone, within rounding.

A network of 32 units keeps no processor busy: most of its step goes into starting operations. Stacked, N of them
("bees" of a swarm) start as many operations as one. They read the same windows; rates, momentum, decay, clipping,
seeds and state resets are each bee's own.

Shapes: N bees, B streams, T window, H hidden, K layers.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charrnn.config.schema import Config, ModelConfig, TrainingConfig
from charrnn.model.charrnn import CharRNN
from charrnn.model.device import send
from charrnn.model.hidden import Hidden
from charrnn.model.stacked import StackedCharRNN
from charrnn.text.encoded import Ids
from charrnn.training.optimizers import set_lr
from charrnn.training.precision import choose_device, choose_precision
from charrnn.training.stacked_optimizers import StackedOptimizer
from charrnn.training.trainer import StepStats, Trainer

# What may differ between stacked bees: numbers that a step reads, not its shape, its windows or how many there are.
FREE: dict[str, set[str]] = {
    "model": {"recurrent_init", "forget_bias"},
    "training": {
        *("seed", "lr", "schedule", "warmup_steps", "min_lr", "step_drops", "step_gamma", "cycles"),
        *("betas", "momentum", "weight_decay", "grad_clip", "state_reset"),
    },
    "run": {"out", "name"},
}


def why_not_stacked(config: Config) -> str | None:
    """Why a bee of this config can only be trained alone, in words; None if it can be stacked.

    Raises:
        UsageError: its device is not there.
    """
    training, dropout = config.training, config.model.dropout
    precision = choose_precision(training.precision, config.model, choose_device(training.device))
    reasons = {
        "dropout draws from one random generator": dropout.input or dropout.between or dropout.output,
        "random_seq_len gives each bee windows of its own": training.random_seq_len,
        "max_time ends bees at different steps": training.max_time is not None,
        "patience ends bees at different steps": training.patience is not None,
        "on_divergence: rollback takes bees to different steps": training.on_divergence == "rollback",
        f"the precision is {precision.kind} ({precision.reason})": precision.kind != "fp32",
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def stack_key(config: Config) -> Hashable:
    """Equal for configs whose bees can be trained in one stack."""
    return config.model_dump_json(exclude=FREE)


@dataclass(frozen=True)
class StackedStats:
    """What one step measured, for each bee. Tensors stay on the device until somebody reads them."""

    loss: Tensor  # (N,), nats per character, mean over the window
    grad_norm: Tensor  # (N,), before clipping
    characters: int  # targets in the window of one bee, B * T

    def of(self, bee: int) -> StepStats:
        """Those of one bee."""
        return StepStats(self.loss[bee], self.grad_norm[bee], self.characters)


class StackedTrainer:
    """N bees, each as ``Trainer`` makes it: seeds torch's global generator with one seed after the other.

    ``configs`` must have nothing against stacking (``why_not_stacked``), and one ``stack_key``.

    Raises:
        DataError: the text is too short for the batch.
        UsageError: the device is not there.
    """

    def __init__(self, ids: Ids, vocab_size: int, configs: Sequence[tuple[ModelConfig, TrainingConfig]]) -> None:
        self._solos: list[Trainer] = []  # hold what is not stacked, and give ``state_of`` its form
        self._generators: list[dict[str, Tensor]] = []
        for model_config, config in configs:
            self._solos.append(Trainer(ids, vocab_size, model_config, config))
            self._generators.append(self._solos[-1].state_dict()["generators"])
        first = self._solos[0]
        self.device, self.precision, self.streams = first.device, first.precision, first.streams
        self.model = StackedCharRNN([solo.model for solo in self._solos])
        self.optimizer = StackedOptimizer(self.model.weights, [config for _, config in configs])
        self.hidden: Hidden = self.model.zero_hidden(self.streams.batch_size)
        self.steps = 0
        self._finite: Tensor | None = None
        self._lrs = [config.lr for _, config in configs]
        self._resets = any(config.state_reset for _, config in configs)

    def step(self, lrs: Sequence[float]) -> StackedStats:
        """One window and one step of every bee, each as ``Trainer.step`` takes it at its rate of ``lrs``."""
        x, y = self._next_window()
        losses, self.hidden = self.model.losses(x, y, self.hidden)
        (gradient,) = torch.autograd.grad(losses.sum(), self.model.weights)  # of each bee: the others' have none of it
        self._lrs = [lr * x.shape[1] / self.streams.seq_len for lr in lrs]
        norms = self.optimizer.step(gradient, send(torch.tensor(self._lrs, dtype=torch.float64), self.device))
        self.steps += 1
        self._finite = None
        return StackedStats(losses.detach(), norms, y.numel())

    def _next_window(self) -> tuple[Tensor, Tensor]:
        """The next window, (B, T) each, and the carried states made ready for it."""
        if self.streams.at_start:
            self.hidden = self.model.zero_hidden(self.streams.batch_size)
        x, y = self.streams.next(self._solos[0].generator)
        if self._resets:
            keep = send(torch.stack([self._kept_streams(solo) for solo in self._solos]), self.device)
            self.hidden = tuple(tensor * keep[:, None, :, None] for tensor in self.hidden)
        return x, y

    def _kept_streams(self, solo: Trainer) -> Tensor:
        """1 for each stream of a bee that keeps its state, 0 for the others, (B,)."""
        if not solo.config.state_reset:
            return torch.ones(self.streams.batch_size)
        return (torch.rand(self.streams.batch_size, generator=solo.generator) >= solo.config.state_reset).float()

    def is_finite(self) -> Tensor:
        """Whether every weight and every number of the carried state is finite, of each bee: (N,)."""
        if self._finite is None:  # every bee's loop asks for its own after the same step
            tensors = (self.model.weights.detach(), *self.hidden)
            each = [torch.isfinite(tensor).flatten(1).all(dim=1) for tensor in tensors]
            self._finite = torch.stack(each).all(dim=0).cpu()
        return self._finite

    def model_of(self, bee: int) -> CharRNN:
        """A network with this bee's present weights, the caller's own."""
        return copy.deepcopy(self._solo(bee).model)

    def state_of(self, bee: int) -> dict[str, Any]:
        """What ``Trainer.state_dict`` would give had this bee been trained alone."""
        return copy.deepcopy({**self._solo(bee).state_dict(), "generators": self._generators_of(bee)})

    def _generators_of(self, bee: int) -> dict[str, Tensor]:
        """torch's own are as they were once the weights were made: nothing has drawn from them since."""
        return {**self._generators[bee], "windows": self._solos[bee].generator.get_state()}

    def _solo(self, bee: int) -> Trainer:
        """This bee's own trainer, brought to where the stack is."""
        solo = self._solos[bee]
        weights = self.model.named(self.model.weights.detach())
        solo.model.load_state_dict({name: tensor[bee] for name, tensor in weights.items()})
        solo.hidden = tuple(tensor[bee] for tensor in self.hidden)
        solo.steps = self.steps
        solo.streams.load_state_dict(self.streams.state_dict())
        set_lr(solo.optimizer, self._lrs[bee])
        if self.steps and (solo.config.optimizer != "sgd" or solo.config.momentum):
            kept = {name: self._kept(name, bee) for name in self.optimizer.kept}
            for name, parameter in solo.model.named_parameters():
                solo.optimizer.state[parameter] = {key: one[name].clone() for key, one in kept.items()}
        return solo

    def _kept(self, name: str, bee: int) -> dict[str, Tensor]:
        """What the optimizer keeps of one kind for each parameter of a bee; Adam's step count is the same for all."""
        stacked = self.optimizer.kept[name]
        if name == "step":
            return dict.fromkeys(self.model.named(self.model.weights), stacked[bee])
        return {parameter: tensor[bee] for parameter, tensor in self.model.named(stacked).items()}


class StackedBee:
    """One bee of a stack with what a loop uses of a ``Trainer``; its steps are the stack's."""

    def __init__(self, stack: StackedTrainer, bee: int) -> None:
        self._stack = stack
        self._bee = bee
        self._model: tuple[int, CharRNN] | None = None
        self.device, self.precision, self.streams = stack.device, stack.precision, stack.streams

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._stack.steps

    @property
    def model(self) -> CharRNN:
        """A network with the bee's present weights, to look at."""
        if self._model is None or self._model[0] != self.steps:
            self._model = (self.steps, self._stack.model_of(self._bee))
        return self._model[1]

    @property
    def is_finite(self) -> bool:
        """As ``Trainer.is_finite``."""
        return bool(self._stack.is_finite()[self._bee])

    def state_dict(self) -> dict[str, Any]:
        """As ``Trainer.state_dict``."""
        return self._stack.state_of(self._bee)
