"""CharRNN against the stepped reference cell, its initialisation, and its hidden state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from charrnn.config.schema import ModelConfig
from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.model.hidden import expand, keep_streams
from charrnn.model.reference import reference_forward
from tests.helpers import needs_bf16_lstm

VOCAB, STREAMS, WINDOW = 11, 3, 7
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]


def build(**settings: object) -> CharRNN:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"hidden_size": 12, "embedding_size": 5, "num_layers": 2, **settings})
    return CharRNN(VOCAB, config)


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randint(VOCAB, (STREAMS, WINDOW + 1), generator=torch.Generator().manual_seed(1))
    return x[:, :-1], x[:, 1:]


def random_hidden(model: CharRNN) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    return tuple(
        torch.randn(tensor.shape, generator=generator).requires_grad_() for tensor in model.zero_hidden(STREAMS)
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 1},
        {"num_layers": 3, "skip_connections": True},
        {"embedding_size": 0},
        {"embedding_size": 12, "tie_weights": True},
        {"recurrent_init": "uniform", "dropout": 0.5},
    ],
    ids=str,
)
def test_equals_the_reference_forwards_and_backwards(cell: str, settings: dict[str, object]) -> None:
    model = build(cell=cell, **settings).eval()
    x, y = batch()
    results = []
    for forward in (model, lambda x, h: reference_forward(model, x, h)):
        model.zero_grad()
        hidden = random_hidden(model)
        logits, after = forward(x, hidden)
        loss = cross_entropy(logits, y) + sum(tensor.square().mean() for tensor in after)
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()] + [tensor.grad for tensor in hidden]
        results.append([logits, *after, *gradients])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_the_reference_can_disagree() -> None:
    model = build().eval()
    x, _ = batch()
    hidden = model.zero_hidden(STREAMS)
    before = reference_forward(model, x, hidden)[0]
    with torch.no_grad():
        model.recurrent_layers[1].get_parameter("bias_ih_l0")[0] += 1e-2
    assert (model(x, hidden)[0] - before).abs().max() > 1e-5


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_with_carried_state_equal_one_long_window(cell: str) -> None:
    model = build(cell=cell).eval()
    x, _ = batch()
    whole, end = model(x, model.zero_hidden(STREAMS))
    first, state = model(x[:, :3], model.zero_hidden(STREAMS))
    second, state = model(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for ours, expected in zip(state, end, strict=True):
        torch.testing.assert_close(ours, expected)


def test_skip_connections_change_the_result_and_add_no_parameter() -> None:
    plain, skipping = build(), build(skip_connections=True)
    x, _ = batch()
    assert plain.num_parameters == skipping.num_parameters
    hidden = plain.zero_hidden(STREAMS)
    assert not torch.allclose(plain.eval()(x, hidden)[0], skipping.eval()(x, hidden)[0])


def test_recurrent_matrices_start_orthogonal_and_the_forget_gate_open() -> None:
    model = build(forget_bias=1.5)
    for layer in model.recurrent_layers:
        for gate in layer.get_parameter("weight_hh_l0").detach().split(12):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(12), atol=1e-5, rtol=0)
        bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).detach()
        assert bias.split(12)[1].tolist() == [1.5] * 12
        assert bias.abs().sum() == 12 * 1.5


def test_tied_weights_are_one_parameter() -> None:
    tied, untied = build(embedding_size=12, tie_weights=True), build(embedding_size=12)
    assert untied.num_parameters - tied.num_parameters == VOCAB * 12
    assert "decoder.weight" not in tied.state_dict()


@pytest.mark.parametrize("place", ["input", "between", "output"])
def test_dropout_acts_in_training_only(place: str) -> None:
    model = build(dropout={place: 0.5})
    x, _ = batch()
    hidden = model.zero_hidden(STREAMS)
    assert not torch.equal(model(x, hidden)[0], model(x, hidden)[0])
    model.eval()
    assert torch.equal(model(x, hidden)[0], model(x, hidden)[0])


@needs_bf16_lstm
def test_bf16_autocast_is_close_and_carries_float32() -> None:
    model = build().eval()
    x, _ = batch()
    hidden = model.zero_hidden(STREAMS)
    exact, _ = model(x, hidden)
    with torch.autocast("cpu", torch.bfloat16):
        rough, state = model(x, hidden)
    assert {tensor.dtype for tensor in state} == {torch.float32}
    assert 0 < (rough.float() - exact).abs().max() < 0.05


def test_cross_entropy_is_a_mean_over_all_targets_in_nats() -> None:
    _, y = batch()
    assert cross_entropy(torch.zeros(STREAMS, WINDOW, VOCAB), y).item() == pytest.approx(math.log(VOCAB))
    logits = torch.randn(STREAMS, WINDOW, VOCAB, generator=torch.Generator().manual_seed(3))
    by_hand = -torch.log_softmax(logits, -1).gather(-1, y[..., None]).squeeze(-1)
    torch.testing.assert_close(cross_entropy(logits, y, reduction="none"), by_hand)
    torch.testing.assert_close(cross_entropy(logits, y), by_hand.mean())


def test_hidden_helpers() -> None:
    model = build()
    hidden = random_hidden(model)
    kept = keep_streams(hidden, torch.tensor([1.0, 0.0, 1.0]))
    for before, after in zip(hidden, kept, strict=True):
        assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
        assert not after[:, 1].any()
    one = tuple(tensor[:, :1] for tensor in hidden)
    assert all(torch.equal(tensor[:, 2], start[:, 0]) for tensor, start in zip(expand(one, 3), one, strict=True))
