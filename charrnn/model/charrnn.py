"""CharRNN: characters in, logits of the next character out, hidden state through.

Shapes: B streams, T window, E embedding, H hidden, V vocabulary, K layers.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.config.schema import ModelConfig
from charrnn.model.dropout import Dropout
from charrnn.model.hidden import Hidden
from charrnn.model.weights import STATES, output_name


class CharRNN(nn.Module):
    """A recurrent network over characters, built from one-layer torch RNNs.

    Layer by layer rather than with ``num_layers``: dropout then is a module, whose random state is torch's own and can
    be saved, which the state inside cuDNN's dropout cannot.
    """

    def __init__(self, vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.embedding_size) if config.embedding_size else None
        input_sizes = [config.embedding_size or vocab_size] + [config.hidden_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(_make_layer(config.cell, size, config.hidden_size) for size in input_sizes)
        self.input_dropout = Dropout(config.dropout.input)
        self.between_dropout = Dropout(config.dropout.between)
        self.output_dropout = Dropout(config.dropout.output)
        self.decoder = nn.Linear(config.hidden_size, vocab_size)
        if config.tie_weights:
            # No second parameter at all, rather than a shared one: it is then saved and counted once.
            del self.decoder.weight
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Orthogonal recurrent matrices, one per gate (https://arxiv.org/abs/1312.6120); forget bias of
        https://proceedings.mlr.press/v37/jozefowicz15.html; the rest as torch does it."""
        hidden_size = self.config.hidden_size
        if self.embedding is not None and self.config.tie_weights:
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # as logits, N(0, 1) rows would be far too large
        for layer in self.recurrent_layers:
            if self.config.recurrent_init == "orthogonal":
                for gate in layer.get_parameter("weight_hh_l0").split(hidden_size):
                    nn.init.orthogonal_(gate)
            if self.config.cell == "lstm":
                # Torch adds two biases; the gates are ordered input, forget, cell, output.
                layer.get_parameter("bias_hh_l0").zero_()
                bias = layer.get_parameter("bias_ih_l0").zero_()
                bias[hidden_size : 2 * hidden_size] = self.config.forget_bias

    @torch.no_grad()
    def predict_shares(self, shares: Tensor) -> None:
        """Make the decoder's bias the logarithm of each character's share of the text, (V,).

        A network that must first learn how rare rare characters are drives its units into saturation for it, and
        keeps them there (measured: .github/CONTRIBUTING.md). Source: "init well" in
        https://karpathy.github.io/2019/04/25/recipe/.
        """
        self.decoder.bias.copy_(shares.log())

    @property
    def recurrent_layers(self) -> list[nn.RNNBase]:
        """The layers from the input up, as torch's one-layer RNNs."""
        return cast(list[nn.RNNBase], list(self.layers))

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def zero_hidden(self, batch_size: int) -> Hidden:
        """The state before any character: zeros, each (K, B, H)."""
        shape = (self.config.num_layers, batch_size, self.config.hidden_size)
        return tuple(self.decoder.bias.new_zeros(shape) for _ in range(STATES[self.config.cell]))

    def forward(self, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Logits for the character after each one in ``x``, and the state after the last.

        Args:
            x: ids, (B, T).
            hidden: state before the window, see ``hidden.py``.

        Returns:
            logits, (B, T, V), and the new state.
        """
        # Time first: what the recurrent kernels work in.
        signal = self.input_dropout(self.embed(x.t()))  # (T, B, E)
        states: list[Hidden] = []
        for index, layer in enumerate(self.layers):
            below = self.between_dropout(signal) if index else signal
            before = tuple(tensor[index : index + 1] for tensor in hidden)
            output, after = layer(below, before if len(before) == 2 else before[0])
            signal = output + signal if index and self.config.skip_connections else output
            states.append(after if len(before) == 2 else (after,))
        logits = self.decode(self.output_dropout(signal))  # (T, B, V)
        # Under autocast the layers hand back bf16; the carried state stays float32.
        carried = tuple(torch.cat(parts).float() for parts in zip(*states, strict=True))
        return logits.transpose(0, 1), carried

    def embed(self, x: Tensor) -> Tensor:
        """Vectors of ids: the embedding, or one-hot rows."""
        if self.embedding is None:
            return F.one_hot(x, self.vocab_size).to(self.decoder.bias.dtype)
        embedded: Tensor = self.embedding(x)
        return embedded

    def decode(self, output: Tensor) -> Tensor:
        """Logits of the last layer's output."""
        return F.linear(output, self.get_parameter(output_name(self.config)), self.decoder.bias)


def _make_layer(cell: str, input_size: int, hidden_size: int) -> nn.RNNBase:
    if cell == "lstm":
        return nn.LSTM(input_size, hidden_size)
    if cell == "gru":
        return nn.GRU(input_size, hidden_size)
    return nn.RNN(input_size, hidden_size, nonlinearity=cell.removeprefix("rnn_"))


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """The loss, written once: nats per character, computed in float32.

    Args:
        logits: (B, T, V).
        targets: ids, (B, T).
        reduction: ``mean`` over all targets, or ``none`` for one loss per target, (B, T).
    """
    # Time first, as the model has computed them: flattening is then a view, not a copy.
    time_first = logits.transpose(0, 1).float()
    losses = F.cross_entropy(time_first.flatten(0, 1), targets.t().flatten(), reduction=reduction)
    return losses if reduction == "mean" else losses.view(time_first.shape[:2]).t()
