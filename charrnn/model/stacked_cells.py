"""Recurrent layers of N networks at once, with a backward pass written by hand.

Autograd would record every small operation of every time step, and keep every result. Here a time step is one batched
matrix product and a few pointwise operations on buffers small enough for the processor's cache; the gradient of the
weights is one product after the loop. Equations as in torch's documentation of LSTM, GRU, RNN; ``reference.py`` has
them in plain form.

Shapes: N networks, T window, B streams, H hidden, V vocabulary, G = gates * H. What whole-window products work with is
(N, T, B, ...); what pointwise operations work with has the gates in front, (gates, N, B, H): each is then contiguous.
No gradient flows to the state before the window: back-propagation through time is truncated there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from charrnn.model.hidden import Hidden

# What autograd itself calls: the gradient of an input from that of the output and the output, in one pass.
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input
threshold_backward = torch.ops.aten.threshold_backward.grad_input


def run_layer(
    cell: str, from_input: Tensor, weight_hh: Tensor, bias_hh: Tensor, before: Hidden
) -> tuple[Tensor, Hidden]:
    """One layer over one window.

    Args:
        from_input: what the input adds to each gate, (N, T, B, G), with both biases; for a GRU without ``bias_hh``.
            For an LSTM the part of the cell gate is doubled.
        weight_hh: (N, G, H), for an LSTM with the cell gate's rows doubled.
        bias_hh: (N, G), read by GRUs only.
        before: the state before the window, each (N, B, H).

    Returns:
        outputs, (N, T, B, H), and the state after the window.
    """
    if cell == "lstm":
        output, last_c = _LSTM.apply(from_input, weight_hh, *before)  # type: ignore[no-untyped-call]
        return output, (output[:, -1].detach(), last_c)
    if cell == "gru":
        output = _GRU.apply(from_input, weight_hh, bias_hh, *before)  # type: ignore[no-untyped-call]
    else:
        output = _RNN.apply(from_input, weight_hh, cell == "rnn_relu", *before)  # type: ignore[no-untyped-call]
    return output, (output[:, -1].detach(),)


def look_up(table: Tensor, x: Tensor) -> Tensor:
    """Row ``x[b, t]`` of each network's table, (N, V, G), for ids (B, T): (N, T, B, G)."""
    found: Tensor = _LookUp.apply(table, x.t())  # type: ignore[no-untyped-call]
    return found


class _LookUp(torch.autograd.Function):
    """The gradient is a product with one-hot rows: several times faster than adding up row after row."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, x: Tensor) -> Tensor:
        networks, vocab_size, width = table.shape
        ctx.vocab_size = vocab_size
        ctx.save_for_backward(x)
        first_rows = torch.arange(networks, device=x.device)[:, None, None] * vocab_size
        return F.embedding(first_rows + x, table.reshape(-1, width))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_found: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        one_hot = F.one_hot(x.flatten(), ctx.vocab_size).to(d_found.dtype)
        rows = d_found.flatten(1, 2)
        return torch.bmm(one_hot.t().expand(len(rows), -1, -1), rows), None


class _LSTM(torch.autograd.Function):
    """tanh(z) = 2 sigmoid(2 z) - 1, and 2 z is what comes in for the cell gate: one sigmoid does for all gates."""

    @staticmethod
    def forward(ctx: Any, from_input: Tensor, weight_hh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        window = from_input.shape[1]
        states = _room_for_states(h, window)
        gates = h.new_empty(window, 4, *h.shape)
        candidates, squashed = h.new_empty(2, window, *h.shape)
        cells = h.new_empty(window + 1, *h.shape)
        cells[0] = c
        total = torch.empty_like(from_input[:, 0])
        totals = _gates_first(total[:, None], 4)[0]
        transposed = weight_hh.transpose(1, 2).contiguous()
        i, f, g, o = _each_gate(gates)
        state, cell, below = states.unbind(1), cells.unbind(), from_input.unbind(1)
        for t, (now, candidate, squash) in enumerate(zip(gates, candidates, squashed, strict=True)):
            torch.baddbmm(below[t], state[t], transposed, out=total)
            torch.sigmoid(totals, out=now)
            _twice_less_one(g[t], candidate)
            torch.mul(f[t], cell[t], out=cell[t + 1]).addcmul_(i[t], candidate)
            torch.mul(o[t], _tanh(cell[t + 1], squash), out=state[t + 1])
        ctx.save_for_backward(weight_hh, gates, states, candidates, cells, squashed)
        last = cells[-1].clone()
        ctx.mark_non_differentiable(last)
        return states[:, 1:], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        weight_hh, gates, states, candidates, cells, squashed = ctx.saved_tensors
        d_gates = _room_for_gradients(states, 4)
        d_now, d_c, scratch = torch.empty_like(gates[0]), torch.zeros_like(cells[0]), torch.empty_like(cells[0])
        d_i, d_f, d_g, d_o = d_now.unbind()
        i, f, _, o = _each_gate(gates)
        now, into, cell, squash = gates.unbind(), _gates_first(d_gates, 4), cells.unbind(), squashed.unbind()
        for t, d_h in _backwards(d_output, d_gates, weight_hh):
            d_c += tanh_backward(torch.mul(d_h, o[t], out=scratch), squash[t], grad_input=scratch)
            torch.mul(d_c, candidates[t], out=d_i)
            torch.mul(d_c, cell[t], out=d_f)
            torch.mul(d_c, i[t], out=d_g).mul_(2)
            torch.mul(d_h, squash[t], out=d_o)
            sigmoid_backward(d_now, now[t], grad_input=into[t])
            d_c *= f[t]
        return d_gates, _weight_gradient(d_gates, states), None, None


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, from_input: Tensor, weight_hh: Tensor, bias_hh: Tensor, h: Tensor) -> Tensor:
        window = from_input.shape[1]
        states = _room_for_states(h, window)
        gates = h.new_empty(window, 3, *h.shape)
        n_hidden = h.new_empty(window, *h.shape)
        total = torch.empty_like(from_input[:, 0])
        before = _gates_first(total[:, None], 3)[0]
        transposed, bias = weight_hh.transpose(1, 2).contiguous(), bias_hh[:, None]
        r, z, n = _each_gate(gates)
        state = states.unbind(1)
        for t, (below, now) in enumerate(zip(_gates_first(from_input, 3), gates, strict=True)):
            torch.baddbmm(bias, state[t], transposed, out=total)
            torch.add(below[:2], before[:2], out=now[:2]).sigmoid_()
            _tanh(torch.addcmul(below[2], r[t], n_hidden[t].copy_(before[2]), out=n[t]), n[t])
            torch.lerp(n[t], state[t], z[t], out=state[t + 1])  # (1 - z) n + z h
        ctx.save_for_backward(weight_hh, gates, n_hidden, states)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        weight_hh, gates, n_hidden, states = ctx.saved_tensors
        d_hidden = _room_for_gradients(states, 3)  # of what the state before adds to the gates
        d_n = torch.empty_like(d_output)  # of what the input adds to the new gate
        d_now, d_new = torch.empty_like(gates[0]), torch.empty_like(n_hidden[0])
        straight = torch.zeros_like(d_new)  # what flows past the gates
        r, z, n = _each_gate(gates)
        now, into, state = gates.unbind(), _gates_first(d_hidden, 3), states.unbind(1)
        for t, d_from_gates in _backwards(d_output, d_hidden, weight_hh):
            d_h = straight.add_(d_from_gates)
            torch.addcmul(d_h, d_h, z[t], value=-1, out=d_new)
            tanh_backward(d_new, n[t], grad_input=d_new)
            torch.mul(d_new, n_hidden[t], out=d_now[0])
            torch.sub(state[t], n[t], out=d_now[1]).mul_(d_h)
            sigmoid_backward(d_now[:2], now[t][:2], grad_input=d_now[:2])
            torch.mul(d_new, r[t], out=d_now[2])
            into[t].copy_(d_now)
            d_n[:, t] = d_new
            straight *= z[t]
        d_input = d_hidden.clone()
        d_input[..., 2 * n_hidden.shape[-1] :] = d_n
        return d_input, _weight_gradient(d_hidden, states), d_hidden.sum(dim=(1, 2)), None


class _RNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, from_input: Tensor, weight_hh: Tensor, is_relu: bool, h: Tensor) -> Tensor:
        window = from_input.shape[1]
        states = _room_for_states(h, window)
        total = torch.empty_like(from_input[:, 0])
        transposed = weight_hh.transpose(1, 2).contiguous()
        state = states.unbind(1)
        for t, below in enumerate(from_input.unbind(1)):
            torch.baddbmm(below, state[t], transposed, out=total)
            state[t + 1].copy_(total.relu_() if is_relu else _tanh(total, total))
        ctx.is_relu = is_relu
        ctx.save_for_backward(weight_hh, states)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        weight_hh, states = ctx.saved_tensors
        d_total = _room_for_gradients(states, 1)
        slope = partial(threshold_backward, threshold=0) if ctx.is_relu else tanh_backward
        state, into = states.unbind(1), d_total.unbind(1)
        for t, d_h in _backwards(d_output, d_total, weight_hh):
            slope(d_h, state[t + 1], grad_input=into[t])
        return d_total, _weight_gradient(d_total, states), None, None


def _tanh(tensor: Tensor, out: Tensor) -> Tensor:
    """On a CPU by way of the sigmoid: torch's tanh takes 8 ns a number there, its sigmoid 0.6 ns."""
    if tensor.is_cuda:
        return torch.tanh(tensor, out=out)
    return _twice_less_one(torch.mul(tensor, 2, out=out).sigmoid_(), out)


def _twice_less_one(tensor: Tensor, out: Tensor) -> Tensor:
    """2 x - 1 in one pass."""
    return torch.add(torch.tensor(-1.0), tensor, alpha=2, out=out)


def _gates_first(tensor: Tensor, gates: int) -> tuple[Tensor, ...]:
    """(N, T, B, G) seen as T times (gates, N, B, H)."""
    networks, window, streams, width = tensor.shape
    return tensor.view(networks, window, streams, gates, width // gates).permute(1, 3, 0, 2, 4).unbind()


def _each_gate(gates: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """(T, gates, N, B, H), gate by gate: T times (N, B, H). Views made together cost less than one by one."""
    return (gate.unbind() for gate in gates.unbind(1))


def _room_for_states(h: Tensor, window: int) -> Tensor:
    """Room for T + 1 states, (N, T + 1, B, H), the first of them filled."""
    networks, streams, size = h.shape
    states = h.new_empty(networks, window + 1, streams, size)
    states[:, 0] = h
    return states


def _room_for_gradients(states: Tensor, gates: int) -> Tensor:
    """Room for the gradient of the gates' inputs, (N, T, B, G)."""
    networks, one_more, streams, size = states.shape
    return states.new_empty(networks, one_more - 1, streams, gates * size)


def _backwards(d_output: Tensor, d_gates: Tensor, weight_hh: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Time steps from the last, and the gradient of the state after each, (N, B, H): from its own output, and from the
    gates one step on, which must be in ``d_gates`` by then."""
    outputs, later = d_output.unbind(1), d_gates.unbind(1)
    last = len(outputs) - 1
    for t in range(last, -1, -1):
        yield t, outputs[t] if t == last else torch.baddbmm(outputs[t], later[t + 1], weight_hh)


def _weight_gradient(d_gates: Tensor, states: Tensor) -> Tensor:
    """Of ``weight_hh``, (N, G, H): one product over all time steps and streams."""
    return torch.bmm(d_gates.flatten(1, 2).transpose(1, 2), states[:, :-1].flatten(1, 2))
