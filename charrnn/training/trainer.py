"""The trainer: everything that changes while training, and THE ONE STEP that changes it.

``train``, ``lr-find``, ``swarm`` and ``doctor`` all take this step, so what they measure is what training does.
It does no I/O, knows no clock and no schedule: the rate of a step is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from charrnn.config.schema import ModelConfig, TrainingConfig
from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.device import graphs_of, send
from charrnn.model.hidden import Hidden, detach, keep_streams
from charrnn.text.baselines import shares
from charrnn.text.encoded import Ids
from charrnn.text.streams import Streams, saved_count
from charrnn.training.captured import CapturedStep, Taken
from charrnn.training.observation import Observation, Observer
from charrnn.training.optimizers import (
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_lr,
    skip_step_if,
)
from charrnn.training.precision import choose_device, choose_precision


@dataclass(frozen=True)
class StepStats:
    """What one step measured. Tensors stay on the device until somebody logs them: no waiting per step."""

    loss: Tensor  # (), nats per character, mean over the window
    grad_norm: Tensor  # (), global norm before clipping
    characters: int  # targets in the window, B * T
    observation: Observation | None = None


def new_model(ids: Ids, vocab_size: int, config: ModelConfig, seed: int) -> CharRNN:
    """The network as it is before its first step on a training text ``ids``, on the CPU; seeds torch's global
    generator, from which its weights are drawn."""
    torch.manual_seed(seed)
    model = CharRNN(vocab_size, config)
    if config.decoder_bias == "unigram":
        model.predict_shares(torch.from_numpy(shares(ids, vocab_size)))
    return model


class Trainer:
    """Model, the single optimizer, carried state, stream cursor, step count and random generators.

    Seeds torch's global generator with ``config.seed``: weights and dropout draw from it. With ``rows`` it steps on
    these of each window only: what one of several processes does, see ``rank_trainer.py``.

    Raises:
        DataError: the text is too short for the batch.
        UsageError: the device is not there.
    """

    def __init__(
        self,
        ids: Ids,
        vocab_size: int,
        model_config: ModelConfig,
        config: TrainingConfig,
        rows: slice | None = None,
    ) -> None:
        self.config = config
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.precision, model_config, self.device)
        to_device = partial(send, device=self.device)
        self.streams = Streams(ids, config.batch_size, config.seq_len, config.random_seq_len, to_device)
        self.model = new_model(ids, vocab_size, model_config, config.seed).to(self.device)
        self._network: nn.Module = self.model  # what a step calls
        self._graphs = graphs_of(self.device) if rows is None else None  # several processes talk within a step
        self.optimizer = make_optimizer(self.model.parameters(), config, captured=self._graphs is not None)
        self._captured = self._new_captured()
        self._rows = rows or slice(0, config.batch_size)
        self.hidden: Hidden = self._zero_hidden()
        self.steps = 0
        # Window lengths and state resets draw from a generator of their own: dropout cannot shift them.
        self.generator = torch.Generator().manual_seed(config.seed)

    def step(self, lr: float, observe: bool = False) -> StepStats:
        """One window forward, back and one optimizer step at rate ``lr``; with ``observe`` looked at more closely.

        The rate is scaled by the window's length over ``seq_len`` (AWD-LSTM, https://arxiv.org/abs/1708.02182):
        the loss is a mean, so a short window would otherwise weigh as much as a long one. A step whose gradient is
        not finite changes no parameter; the statistics show it.
        """
        x, y = self._next_window()
        set_lr(self.optimizer, lr * x.shape[1] / self.config.seq_len)
        observer = Observer(self.model, self.optimizer, self.config.grad_clip) if observe else None
        if observer or self._captured is None:
            loss, norm, self.hidden = self._learn(x, y, self.hidden, observer)
        else:
            loss, norm, self.hidden = self._captured(x, y, self.hidden)
        self.steps += 1
        observation = observer.observation(self.hidden) if observer else None
        return StepStats(loss, norm, y.numel(), observation)

    def _learn(self, x: Tensor, y: Tensor, before: Hidden, observer: Observer | None = None) -> Taken:
        """Forward, back and one optimizer step; no tensor's value is asked for, so that it can be captured."""
        with self.precision.autocast():
            logits, after = self._network(x, before)
        if observer:
            observer.window(before, logits, y)
        loss = cross_entropy(logits, y)
        self.optimizer.zero_grad()
        self.precision.backward(loss, y.numel(), self.model.parameters())
        norm = self._clip()
        if observer:
            observer.gradient(norm)
        skip_step_if(self.optimizer, ~torch.isfinite(norm))
        self.optimizer.step()
        return loss.detach(), norm, detach(after)

    def _next_window(self) -> tuple[Tensor, Tensor]:
        """The next window, (B, T) each, and the carried state made ready for it."""
        if self.streams.at_start:
            self.hidden = self._zero_hidden()
        x, y = self.streams.next(self.generator)
        if self.config.state_reset:
            drawn = torch.rand(self.config.batch_size, generator=self.generator)
            keep = (drawn[self._rows] >= self.config.state_reset).float()
            self.hidden = keep_streams(self.hidden, send(keep, self.device))
        return x[self._rows], y[self._rows]

    def _new_captured(self) -> CapturedStep | None:
        """To be made anew whenever what the optimizer keeps has moved to another place of memory."""
        if self._graphs is None:
            return None
        return CapturedStep(self._learn, self._changed, self.config.seq_len, self._graphs)

    def _changed(self) -> list[Tensor]:
        """What a step changes in place."""
        kept = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        return [*(parameter.detach() for parameter in self.model.parameters()), *kept]

    def _zero_hidden(self) -> Hidden:
        return self.model.zero_hidden(self._rows.stop - self._rows.start)

    def _clip(self) -> Tensor:
        """Clip the gradient by its global norm; the norm it had."""
        limit = float("inf") if self.config.grad_clip is None else self.config.grad_clip
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    @property
    def obstacle(self) -> str | None:
        """Why its steps are slower than they could be on this device, if that is known."""
        return self._captured.obstacle if self._captured else None

    @property
    def is_finite(self) -> bool:
        """Whether every weight and every number of the carried state is finite. Waits for the device."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in (*self.model.parameters(), *self.hidden))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: nested dicts of tensors and plain values."""
        generators = {"windows": self.generator.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "hidden": {str(i): tensor.detach() for i, tensor in enumerate(self.hidden)},
            "streams": self.streams.state_dict(),
            "generators": generators,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` gave, also that of another device or process.

        Raises:
            ValueError, TypeError, LookupError, RuntimeError: it is not the state of such a trainer.
        """
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self._captured = self._new_captured()
        hidden = tuple(state["hidden"][str(i)].to(self.device) for i in range(len(self.hidden)))
        whole = self.model.zero_hidden(self.config.batch_size)
        if [(one.shape, one.dtype) for one in hidden] != [(one.shape, one.dtype) for one in whole]:
            raise ValueError("the hidden state has another shape or type")
        self.hidden = tuple(one[:, self._rows].contiguous() for one in hidden)
        self.streams.load_state_dict(state["streams"])
        self.steps = saved_count(state["steps"])
        self.generator.set_state(state["generators"]["windows"])
        torch.set_rng_state(state["generators"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["generators"]:
            torch.cuda.set_rng_state(state["generators"]["cuda"], self.device)
