"""What a CharRNN computes, one time step after another in plain tensor operations.

Slow and obvious: the oracle of the tests, and eyes for the doctor, who needs to see inside a step. It uses the
parameters of a ``CharRNN`` and neither dropout nor autocast. Equations as in torch's documentation of LSTM, GRU, RNN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.model.weights import output_name

Gates = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One time step: per layer the state and the gates, (B, H) each, and the logits, (B, V)."""

    states: list[Hidden]
    gates: list[Gates]
    logits: Tensor


def reference_forward(model: CharRNN, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
    """As ``CharRNN.forward`` without dropout: ids (B, T) and a state to logits (B, T, V) and a state."""
    steps = list(reference_steps(model, x, hidden))
    logits = torch.stack([step.logits for step in steps], dim=1)
    return logits, tuple(torch.stack(parts) for parts in zip(*steps[-1].states, strict=True))


def reference_steps(model: CharRNN, x: Tensor, hidden: Hidden) -> Iterator[Step]:
    """The same, step by step. A gradient flows back through every tensor that is given out."""
    states = [tuple(tensor[k] for tensor in hidden) for k in range(len(model.layers))]
    parameters = dict(model.named_parameters())
    output_weight = parameters[output_name(model.config)]
    for characters in x.unbind(1):  # (B,)
        signal = model.embed(characters)
        all_gates = []
        for k, layer in enumerate(model.recurrent_layers):
            states[k], gates = step_cell(model.config.cell, layer, signal, states[k])
            signal = states[k][0] + signal if k and model.config.skip_connections else states[k][0]
            all_gates.append(gates)
        yield Step(list(states), all_gates, signal @ output_weight.t() + model.decoder.bias)


def step_cell(cell: str, layer: nn.RNNBase, x: Tensor, state: Hidden) -> tuple[Hidden, Gates]:
    """One step of one layer: input (B, I) and state, each (B, H), to the new state and the gates, 0 to 1."""
    h = state[0]
    weight = dict(layer.named_parameters())
    from_input = x @ weight["weight_ih_l0"].t() + weight["bias_ih_l0"]
    from_hidden = h @ weight["weight_hh_l0"].t() + weight["bias_hh_l0"]
    if cell == "lstm":
        i, f, g, o = (from_input + from_hidden).chunk(4, dim=-1)
        gates = {"input": torch.sigmoid(i), "forget": torch.sigmoid(f), "output": torch.sigmoid(o)}
        c = gates["forget"] * state[1] + gates["input"] * torch.tanh(g)
        return (gates["output"] * torch.tanh(c), c), gates
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3, dim=-1), from_hidden.chunk(3, dim=-1)
        gates = {"reset": torch.sigmoid(r_x + r_h), "update": torch.sigmoid(z_x + z_h)}
        n = torch.tanh(n_x + gates["reset"] * n_h)
        return ((1 - gates["update"]) * n + gates["update"] * h,), gates
    total = from_input + from_hidden
    return (torch.tanh(total) if cell == "rnn_tanh" else torch.relu(total),), {}
