"""Statistics of the steps since the last line of the log. They stay tensors until ``summary`` reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charrnn.training.observation import Observation
from charrnn.training.trainer import StepStats


class Meter:
    """Collects ``StepStats`` and reduces them to the numbers of one log line."""

    def __init__(self, grad_clip: float | None) -> None:
        self.grad_clip = grad_clip
        self.clear()

    def clear(self) -> None:
        """Start the next interval."""
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._characters: list[int] = []
        self._observation: Observation | None = None

    def add(self, stats: StepStats) -> None:
        """Take in one step."""
        self._observation = stats.observation
        self._losses.append(stats.loss)
        self._norms.append(stats.grad_norm)
        self._characters.append(stats.characters)

    @property
    def characters(self) -> int:
        """Training characters since the last ``clear``."""
        return sum(self._characters)

    @property
    def is_finite(self) -> bool:
        """Whether every loss and gradient norm since the last ``clear`` is a number. Waits for the device."""
        values = self._losses + self._norms
        return not values or bool(torch.isfinite(torch.stack(values)).all())

    @property
    def steps_not_finite(self) -> int:
        """Steps since the last ``clear`` whose loss or gradient norm is not a number. Waits for the device."""
        values = torch.stack([torch.stack(self._losses), torch.stack(self._norms)])
        return int((~torch.isfinite(values)).any(dim=0).sum())

    def summary(self) -> dict[str, Any]:
        """The numbers of a log line, see ``runs/metrics.py``; {} where no step was taken."""
        if not self._losses:
            return {}
        weights = torch.tensor(self._characters, dtype=torch.float64)
        losses = torch.stack(self._losses).double().cpu()
        norms = torch.stack(self._norms).double().cpu()
        clipped = (norms > self.grad_clip).double().mean() if self.grad_clip is not None else torch.zeros(())
        return {
            "train_loss": float((losses * weights).sum() / weights.sum()),
            "train_loss_max": float(losses.max()),
            "grad_norm": float(norms.mean()),
            "grad_norm_median": float(norms.median()),
            "grad_norm_p99": float(norms.quantile(0.99)),
            "clipped": float(clipped),
            **(self._observation.to_row() if self._observation else {}),
        }

    def state_dict(self) -> dict[str, Any]:
        """The unfinished interval: a run stopped inside one logs the same line when it is resumed."""
        empty = torch.zeros(0)
        return {
            "losses": torch.stack(self._losses) if self._losses else empty,
            "norms": torch.stack(self._norms) if self._norms else empty,
            "characters": list(self._characters),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on with a saved interval, on the ``device`` that the next steps measure on.

        Raises:
            ValueError: it is none.
        """
        if not state["losses"].shape == state["norms"].shape == (len(state["characters"]),):
            raise ValueError("the log interval's numbers are not one of each kind per step")
        self._losses = list(state["losses"].to(device).unbind())
        self._norms = list(state["norms"].to(device).unbind())
        self._characters = list(state["characters"])
