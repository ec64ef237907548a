"""Many networks of one shape as one: their weights stacked, each layer one batched product.

No network sees another: every operation works on each separately, so one whose numbers are not finite spoils no other.

Shapes: N networks, P parameters of one, B streams, T window, E embedding, H hidden, V vocabulary, K layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.model.stacked_cells import look_up, run_layer
from charrnn.model.weights import GATES, STATES, output_name


class StackedCharRNN:
    """N networks without dropout, of the same vocabulary and shape, with copies of the weights of ``models``.

    ``weights`` is (N, P), the one tensor that a gradient is made of: row n holds the parameters of network n one after
    another, in the order of ``CharRNN.parameters()``.
    """

    def __init__(self, models: Sequence[CharRNN]) -> None:
        self.vocab_size, self.config = models[0].vocab_size, models[0].config
        self._shapes = {name: parameter.shape for name, parameter in models[0].named_parameters()}
        rows = [torch.cat([parameter.detach().flatten() for parameter in model.parameters()]) for model in models]
        self.weights = torch.stack(rows).requires_grad_()

    def zero_hidden(self, batch_size: int) -> Hidden:
        """The state before any character: zeros, each (N, K, B, H)."""
        shape = (len(self.weights), self.config.num_layers, batch_size, self.config.hidden_size)
        return tuple(self.weights.new_zeros(shape) for _ in range(STATES[self.config.cell]))

    def named(self, stacked: Tensor) -> dict[str, Tensor]:
        """Views of something (N, P) by the name of the parameter, each (N, ...)."""
        parts = stacked.split([shape.numel() for shape in self._shapes.values()], dim=1)
        return {
            name: part.view(len(stacked), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def losses(self, x: Tensor, y: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Each network's mean loss over a window, nats per character, (N,), and its state after it.

        Args:
            x: ids, (B, T), read by all networks.
            y: the targets, (B, T).
            hidden: the state before the window, each (N, K, B, H).
        """
        logits, after = self.forward(x, hidden)
        targets = y.t().flatten().repeat(len(logits))
        losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
        return losses.view(len(logits), -1).mean(dim=1), after

    def forward(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Logits, (N, T * B, V), time first, and the state after the window."""
        weight = self.named(self.weights)
        states: list[Hidden] = []
        signal = self.weights  # replaced by the first layer's output
        for k in range(self.config.num_layers):
            from_input = self._from_below(weight, k, signal) if k else self._from_characters(weight, x)
            recurrent = self._doubled(weight[f"layers.{k}.weight_hh_l0"])
            before = tuple(tensor[:, k] for tensor in hidden)
            output, after = run_layer(self.config.cell, from_input, recurrent, weight[f"layers.{k}.bias_hh_l0"], before)
            signal = output + signal if k and self.config.skip_connections else output
            states.append(after)
        decoder = weight[output_name(self.config)]
        logits = torch.baddbmm(weight["decoder.bias"][:, None], signal.flatten(1, 2), decoder.transpose(1, 2))
        return logits, tuple(torch.stack(parts, dim=1) for parts in zip(*states, strict=True))

    def _from_characters(self, weight: dict[str, Tensor], x: Tensor) -> Tensor:
        """What the characters add to the first layer's gates, (N, T, B, G): a row for each character of a table."""
        to_gates, bias = self._input_weights(weight, 0)
        table = to_gates if self.config.embedding_size == 0 else weight["embedding.weight"] @ to_gates
        return look_up(table + bias, x)

    def _from_below(self, weight: dict[str, Tensor], k: int, signal: Tensor) -> Tensor:
        """What the layer below, (N, T, B, H), adds to the gates of layer ``k``, (N, T, B, G)."""
        to_gates, bias = self._input_weights(weight, k)
        return torch.baddbmm(bias, signal.flatten(1, 2), to_gates).view(*signal.shape[:3], -1)

    def _input_weights(self, weight: dict[str, Tensor], k: int) -> tuple[Tensor, Tensor]:
        """Input matrix, (N, I, G), and bias, (N, 1, G), of layer ``k``. GRUs add their second bias inside the layer."""
        bias = weight[f"layers.{k}.bias_ih_l0"]
        if self.config.cell != "gru":
            bias = bias + weight[f"layers.{k}.bias_hh_l0"]
        matrix = self._doubled(weight[f"layers.{k}.weight_ih_l0"])
        return matrix.transpose(1, 2), self._doubled(bias)[:, None]

    def _doubled(self, tensor: Tensor) -> Tensor:
        """(N, G, ...) with an LSTM's cell gate times two, as ``run_layer`` wants it."""
        if self.config.cell != "lstm":
            return tensor
        factors = tensor.new_ones(GATES["lstm"], self.config.hidden_size)
        factors[2] = 2
        return tensor * factors.view(-1, *(1 for _ in tensor.shape[2:]))
