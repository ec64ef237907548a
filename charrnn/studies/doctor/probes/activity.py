"""What the units do while the model reads: saturated gates and states, units that never change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from charrnn.model.charrnn import CharRNN
from charrnn.model.reference import reference_steps
from charrnn.studies.doctor.probes.pieces import pieces
from charrnn.text.encoded import Ids

LENGTH = 200
CLOSED = 0.05  # or above 0.95: a gate's derivative is below a fifth of its largest there
STUCK = 0.005  # and below a fiftieth here
SATURATED_STATE = 0.97  # tanh's derivative is below 6 % there
DEAD_RANGE = 1e-3  # a unit whose output stays within so little tells the layer above nothing


@dataclass(frozen=True)
class Activity:
    """Of each layer: ``gates`` name -> share of values below 0.05 or above 0.95; ``states`` share of ``|h|`` above
    0.97 (none of a rectified one); ``stuck`` the largest share of a single gate's values below 0.005 or above 0.995;
    ``dead`` units, that is those whose output never changes, out of ``units``. ``largest_state`` is of |h| (|c| for
    LSTMs)."""

    gates: list[dict[str, float]]
    states: list[float]
    stuck: float
    dead: list[int]
    units: int
    largest_state: float

    @property
    def saturation(self) -> float:
        """The largest share: over the layers, the mean of the gates' (where there are none, of the states)."""
        shares = [sum(gates.values()) / len(gates) if gates else state for gates, state in self._layers]
        return max(shares)

    @property
    def _layers(self) -> list[tuple[dict[str, float], float]]:
        return list(zip(self.gates, self.states, strict=True))

    @property
    def dead_share(self) -> float:
        """Dead units over all units."""
        return sum(self.dead) / (self.units * len(self.dead))


@torch.no_grad()
def watch(model: CharRNN, ids: Ids, span: tuple[int, int]) -> Activity:
    """Read some pieces of text from the zero state, the first half of each to warm up."""
    x = pieces(ids, span, LENGTH).to(model.decoder.bias.device)
    steps = list(reference_steps(model, x, model.zero_hidden(len(x))))[x.shape[1] // 2 :]
    layers = range(model.config.num_layers)
    hidden = [torch.stack([step.states[k][0] for step in steps]) for k in layers]  # (T, S, H) each
    values = [
        {name: torch.stack([step.gates[k][name] for step in steps]) for name in steps[0].gates[k]} for k in layers
    ]
    return Activity(
        [{name: _beyond(CLOSED, gate).float().mean().item() for name, gate in layer.items()} for layer in values],
        [(h.abs() > SATURATED_STATE).float().mean().item() if _is_bounded(model) else 0.0 for h in hidden],
        max((_beyond(STUCK, gate).float().mean().item() for layer in values for gate in layer.values()), default=0.0),
        [int((h.amax(dim=(0, 1)) - h.amin(dim=(0, 1)) < DEAD_RANGE).sum()) for h in hidden],
        model.config.hidden_size,
        max(step.states[k][-1].abs().max().item() for step in steps for k in layers),
    )


def _is_bounded(model: CharRNN) -> bool:
    return model.config.cell != "rnn_relu"


def _beyond(margin: float, gate: Tensor) -> Tensor:
    return (gate < margin) | (gate > 1 - margin)
