"""What a CharRNN computes, one time step after another in plain tensor operations.

Slow and obvious: the oracle of the tests, and eyes for whoever needs to see inside a step. It uses the parameters
of a ``CharRNN`` and neither dropout nor autocast. Equations as in torch's documentation of LSTM, GRU and RNN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden


def reference_forward(model: CharRNN, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
    """As ``CharRNN.forward`` without dropout: ids (B, T) and a state to logits (B, T, V) and a state."""
    states = [tuple(tensor[k] for tensor in hidden) for k in range(len(model.layers))]  # per layer, (B, H) each
    logits = []
    for characters in x.unbind(1):  # (B,)
        signal = model.embed(characters)
        for k, layer in enumerate(model.recurrent_layers):
            states[k] = step_cell(model.config.cell, layer, signal, states[k])
            signal = states[k][0] + signal if k and model.config.skip_connections else states[k][0]
        logits.append(model.decode(signal))
    return torch.stack(logits, dim=1), tuple(torch.stack(parts) for parts in zip(*states, strict=True))


def step_cell(cell: str, layer: nn.RNNBase, x: Tensor, state: Hidden) -> Hidden:
    """One step of one layer: input (B, I) and state, each (B, H), to the new state."""
    h = state[0]
    weight = dict(layer.named_parameters())
    from_input = x @ weight["weight_ih_l0"].t() + weight["bias_ih_l0"]
    from_hidden = h @ weight["weight_hh_l0"].t() + weight["bias_hh_l0"]
    if cell == "lstm":
        i, f, g, o = (from_input + from_hidden).chunk(4, dim=-1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3, dim=-1), from_hidden.chunk(3, dim=-1)
        z = torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        return ((1 - z) * n + z * h,)
    total = from_input + from_hidden
    return (torch.tanh(total) if cell == "rnn_tanh" else torch.relu(total),)
