"""The doctor's probes, each against an oracle: analysis, plain loops, substring search, dictionaries."""

from __future__ import annotations

import copy
import math
from collections import Counter
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from charrnn.config.schema import ModelConfig
from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.model.reference import reference_forward
from charrnn.studies.doctor.probes import activity, reading, texts, through_time
from charrnn.studies.doctor.probes.activity import watch
from charrnn.studies.doctor.probes.numerics import replay
from charrnn.studies.doctor.probes.pieces import PIECES, SHORTEST_SPAN, pieces, unseen_span
from charrnn.studies.doctor.probes.reading import FEWEST_AHEAD, Reading, read, read_on
from charrnn.studies.doctor.probes.texts import bigram_loss, compare_parts, share_repeated
from charrnn.studies.doctor.probes.through_time import SMALL, Profile, gradient_through_time
from charrnn.text.encoded import EncodedText, Ids
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.precision import Precision
from tests.helpers import differences, needs_bf16_lstm

SYMBOLS, UNITS = 7, 8
FP32, BF16 = Precision("fp32", "", "cpu"), Precision("bf16", "", "cpu")


def a_model(cell: str, seed: int = 0, **settings: Any) -> CharRNN:
    """A small network with larger weights than usual, so that nothing about it is nearly zero."""
    torch.manual_seed(seed)
    config = {"cell": cell, "hidden_size": UNITS, "embedding_size": 4, **settings}
    model = CharRNN(SYMBOLS, ModelConfig.model_validate(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.6)
    return model


@torch.no_grad()
def fill(model: CharRNN, layer: int = 0, **values: float | Tensor) -> CharRNN:
    """Set parameters of a layer (``weight_hh``, ``bias_ih`` ...) to a number or a tensor."""
    for name, value in values.items():
        parameter = model.recurrent_layers[layer].get_parameter(f"{name}_l0")
        parameter.copy_(torch.as_tensor(value).expand_as(parameter))
    return model


def gates(*values: float) -> Tensor:
    """One bias per gate, (gates * H,)."""
    return torch.tensor(values).repeat_interleave(UNITS)


def some_ids(count: int, symbols: int = SYMBOLS, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, symbols, count).astype(np.uint8)


class TestGradientThroughTime:
    @pytest.mark.parametrize(
        ("cell", "factor"), [("rnn_tanh", 0.8), ("rnn_tanh", 1.02), ("rnn_relu", 0.9), ("rnn_relu", 1.05)]
    )
    def test_a_linear_network(self, cell: str, factor: float) -> None:
        """With a recurrent matrix of a I and states so small that tanh is straight, a step back is a factor of a."""
        model = fill(a_model(cell), weight_hh=factor * torch.eye(UNITS), weight_ih=0.0, bias_ih=1e-7, bias_hh=0.0)
        profile = gradient_through_time(model, some_ids(2000), (0, 2000), horizon=60)
        assert profile.cell is None
        assert len(profile.hidden) == 61
        assert profile.relative == pytest.approx([factor**k for k in range(61)], rel=1e-3)
        assert profile.decay == pytest.approx(factor, rel=1e-4)
        if factor < 1:
            assert profile.half_life == pytest.approx(math.log(0.5) / math.log(factor), rel=1e-3)
            assert profile.reach == math.ceil(math.log(SMALL) / math.log(factor))
            assert profile.beyond(5) == pytest.approx(factor**5, rel=1e-2)
        else:
            assert (profile.half_life, profile.reach) == (math.inf, None)

    @pytest.mark.parametrize("bias", [-1.0, 1.0, 4.0])
    def test_the_cell_state_decays_by_the_forget_gate(self, bias: float) -> None:
        """Nothing else leads back where the hidden state is not read; and no gradient reaches that."""
        weight = torch.randn(4 * UNITS, 4)
        weight[UNITS : 2 * UNITS] = 0
        model = fill(a_model("lstm"), weight_hh=0.0, weight_ih=weight, bias_ih=gates(0, bias, 0, 0), bias_hh=0.0)
        profile = gradient_through_time(model, some_ids(2000), (0, 2000), horizon=20)
        forget = 1 / (1 + math.exp(-bias))
        assert profile.cell is not None
        assert profile.relative == pytest.approx([forget**k for k in range(21)], rel=1e-4)
        assert profile.state is profile.cell
        assert profile.decay == pytest.approx(forget, rel=1e-4)
        assert profile.hidden[0] > 0
        assert profile.hidden[1:] == [0.0] * 20

    @pytest.mark.parametrize("layers", [1, 2])
    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    def test_any_network(self, cell: str, layers: int) -> None:
        """Against each stream alone, in float64: the gradient of a zero that is added to the state of each step."""
        model = a_model(cell, num_layers=layers)
        ids, horizon = some_ids(400), 6
        profile = gradient_through_time(model, ids, (30, 400), horizon)
        streams = pieces(ids, (30, 400), through_time.WARM_UP + horizon + 2)
        expected = torch.stack([gradient_norms(model, stream, horizon) for stream in streams]).mean(dim=0)
        assert profile.hidden == pytest.approx(expected[0].tolist(), rel=1e-3)
        if cell == "lstm":
            assert profile.cell == pytest.approx(expected[1].tolist(), rel=1e-3)

    def test_the_model_is_left_as_it_was(self) -> None:
        """Also one in the middle of training, whose dropout must not show."""
        model = a_model("lstm", dropout=0.5)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        expected = gradient_through_time(model, some_ids(500), (0, 500), 10)
        model.train()
        before = copy.deepcopy(model.state_dict())
        assert gradient_through_time(model, some_ids(500), (0, 500), 10) == expected
        assert differences(dict(before), dict(model.state_dict())) == []
        assert model.training
        assert model.between_dropout.training
        for parameter in model.parameters():
            assert parameter.requires_grad
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, torch.ones_like(parameter))

    @pytest.mark.parametrize("length", [3, 50, through_time.WARM_UP + 20])
    def test_a_short_text(self, length: int) -> None:
        profile = gradient_through_time(a_model("gru"), some_ids(length), (0, length), 40)
        assert len(profile.hidden) == min(length - 1, 41)
        assert all(map(math.isfinite, profile.hidden))


def gradient_norms(model: CharRNN, stream: Tensor, horizon: int) -> Tensor:
    """Norms of the gradient k = 0, 1, ... characters back of one stream, (kinds, horizon + 1)."""
    twin = copy.deepcopy(model).double()
    kinds, layers = (2 if model.config.cell == "lstm" else 1), model.config.num_layers
    nudges = torch.zeros(horizon + 1, kinds, layers, UNITS, dtype=torch.float64, requires_grad=True)
    states = torch.zeros(kinds, layers, UNITS, dtype=torch.float64)
    for place, character in enumerate(stream[:-1]):
        back = len(stream) - 2 - place
        nudge = nudges[back] if back <= horizon else torch.zeros_like(states)
        signal, new = twin.embed(character), []
        for k, layer in enumerate(twin.recurrent_layers):
            parameters = [p for _, p in sorted(layer.named_parameters())]  # bias_hh, bias_ih, weight_hh, weight_ih
            one = one_step(model.config.cell, parameters, signal, states[:, k], nudge[:, k])
            signal = one[0]
            new.append(one)
        states = torch.stack(new, dim=1)
    loss = -torch.log_softmax(twin.decode(signal), -1)[stream[-1]]
    gradient: Tensor = torch.autograd.grad(loss, nudges)[0]
    return gradient.square().sum(dim=(2, 3)).sqrt().t()


def one_step(cell: str, parameters: list[nn.Parameter], x: Tensor, state: Tensor, nudge: Tensor) -> Tensor:
    bias_hh, bias_ih, weight_hh, weight_ih = parameters
    a, b = weight_ih @ x + bias_ih, weight_hh @ state[0] + bias_hh
    if cell == "lstm":
        i, f, g, o = (a + b).view(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh() + nudge[1]
        return torch.stack([o.sigmoid() * c.tanh() + nudge[0], c])
    (r, z, n), (r_h, z_h, n_h) = a.view(3, -1), b.view(3, -1)
    update = (z + z_h).sigmoid()
    new = (n + (r + r_h).sigmoid() * n_h).tanh()
    after: Tensor = new + update * (state[0] - new) + nudge[0]
    return after[None]


class TestProfile:
    def test_halving(self) -> None:
        profile = Profile([8.0, 4.0, 2.0, 1.0], None)
        assert profile.relative == [1, 0.5, 0.25, 0.125]
        assert profile.decay == pytest.approx(0.5)
        assert profile.half_life == pytest.approx(1.0)
        assert profile.reach is None
        assert profile.beyond(2) == pytest.approx(3 / 15)
        assert profile.beyond(0) == 1
        assert profile.beyond(4) == profile.beyond(100) == 0

    def test_the_cell_state_is_what_counts(self) -> None:
        profile = Profile([1.0, 0.0], [4.0, 1.0])
        assert profile.relative == [1, 0.25]
        assert (profile.reach, profile.hidden_reach) == (None, 1)

    @given(st.lists(st.floats(0, 3), min_size=1, max_size=8).map(lambda rest: [1.0, *rest]))
    def test_reach(self, norms: list[float]) -> None:
        """The first place from which on everything is small."""
        small = (k for k in range(len(norms)) if all(norm < SMALL for norm in norms[k:]))
        assert Profile(norms, None).reach == next(small, None)

    def test_what_is_next_to_nothing_does_not_bend_the_line(self) -> None:
        assert Profile([1.0, 0.5, 0.25, 1e-9, 0.0], None).decay == pytest.approx(0.5)

    def test_nothing_at_all(self) -> None:
        profile = Profile([0.0, 0.0, 0.0], None)
        assert profile.relative == [0, 0, 0]
        assert (profile.decay, profile.half_life, profile.reach, profile.beyond(1)) == (0, 0, 1, 0)

    def test_growth(self) -> None:
        profile = Profile([1.0, 2.0, 4.0, 8.0], None)
        assert profile.decay == pytest.approx(2)
        assert (profile.half_life, profile.reach) == (math.inf, None)
        assert profile.beyond(3) == pytest.approx(8 / 15)

    def test_no_numbers(self) -> None:
        """What overflowed has not vanished."""
        profile = Profile([1.0, 2.0, math.inf, math.nan], None)
        assert profile.decay == pytest.approx(2)
        assert profile.reach is None
        assert math.isnan(profile.beyond(1))
        nothing = Profile([math.nan] * 3, None)
        assert all(map(math.isnan, nothing.relative))
        assert nothing.reach is None
        assert math.isnan(nothing.beyond(1))
        assert not math.isnan(nothing.decay)


class TestActivity:
    def test_gates_forced_by_their_biases(self) -> None:
        still = fill(a_model("lstm"), weight_hh=0.0, weight_ih=0.0, bias_hh=0.0)
        seen = watch(fill(still, bias_ih=gates(10, -10, 1, 0)), some_ids(3000), (0, 3000))
        assert seen.gates == [{"input": 1.0, "forget": 1.0, "output": 0.0}]
        assert seen.saturation == pytest.approx(2 / 3)
        assert seen.units == UNITS

    def test_gates_of_a_gru(self) -> None:
        still = fill(a_model("gru"), weight_hh=0.0, weight_ih=0.0, bias_hh=0.0)
        seen = watch(fill(still, bias_ih=gates(0, 10, 0)), some_ids(3000), (0, 3000))
        assert seen.gates == [{"reset": 0.0, "update": 1.0}]

    def test_gates_of_any_lstm(self) -> None:
        """Against the equations, with torch's own kernel for the states."""
        model, ids = a_model("lstm"), some_ids(3000)
        layer = model.recurrent_layers[0]
        x = model.embed(pieces(ids, (0, 3000), activity.LENGTH).t())
        with torch.no_grad():
            output = layer(x)[0]
            before = torch.cat([torch.zeros_like(output[:1]), output[:-1]])
            total = x @ layer.get_parameter("weight_ih_l0").t() + before @ layer.get_parameter("weight_hh_l0").t()
            total += layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")
        later = total[activity.LENGTH // 2 :].sigmoid().chunk(4, dim=-1)
        shares = [((gate < 0.05) | (gate > 0.95)).float().mean().item() for gate in later]
        seen = watch(model, ids, (0, 3000))
        assert min(shares) > 0.01
        expected = {"input": shares[0], "forget": shares[1], "output": shares[3]}
        assert seen.gates[0] == pytest.approx(expected, abs=2e-4)
        high = output[activity.LENGTH // 2 :].abs() > activity.SATURATED_STATE
        assert seen.states == pytest.approx([high.float().mean().item()], abs=1e-3)

    def test_dead_units(self) -> None:
        """Three of eight see neither the input nor any unit."""
        model = a_model("rnn_tanh")
        alive = torch.tensor([1.0, 0, 1, 1, 0, 1, 0, 1])[:, None]
        layer = model.recurrent_layers[0]
        fill(model, weight_ih=alive * torch.randn(UNITS, 4), weight_hh=alive * layer.get_parameter("weight_hh_l0"))
        seen = watch(model, some_ids(3000), (0, 3000))
        assert seen.gates == [{}]
        assert seen.dead == [3]
        assert seen.dead_share == pytest.approx(3 / 8)

    def test_states_at_their_end(self) -> None:
        """Two of eight, one at each end."""
        bias = torch.tensor([0.0, 9, 0, 0, -9, 0, 0, 1])
        model = fill(a_model("rnn_tanh"), weight_ih=0.0, weight_hh=0.0, bias_ih=bias, bias_hh=0.0)
        seen = watch(model, some_ids(3000), (0, 3000))
        assert seen.states == [2 / 8]
        assert seen.saturation == 2 / 8
        assert seen.dead == [UNITS]

    def test_a_rectified_state_has_no_end(self) -> None:
        model = fill(a_model("rnn_relu"), weight_ih=0.0, weight_hh=0.0, bias_ih=50.0, bias_hh=0.0)
        seen = watch(model, some_ids(3000), (0, 3000))
        assert (seen.states, seen.saturation) == ([0.0], 0.0)
        assert seen.largest_state == 50

    def test_layers(self) -> None:
        """The second one is stuck, the first is not."""
        model = a_model("gru", num_layers=2)
        fill(model, layer=1, weight_ih=0.0, weight_hh=0.0, bias_ih=gates(9, 9, 0), bias_hh=0.0)
        seen = watch(model, some_ids(3000), (0, 3000))
        assert seen.dead == [0, UNITS]
        assert seen.dead_share == 0.5
        assert seen.gates[1] == {"reset": 1.0, "update": 1.0}
        assert max(seen.gates[0].values()) < 0.9
        assert seen.saturation == 1.0

    def test_a_single_gate_that_is_stuck(self) -> None:
        """Beyond 0.005 or 0.995, whatever the others do: sigmoid(5.2) is 0.9945, sigmoid(5.4) is 0.9955."""
        still = fill(a_model("lstm"), weight_hh=0.0, weight_ih=0.0, bias_hh=0.0)
        for bias, share in ((5.2, 0.0), (-5.2, 0.0), (5.4, 1.0), (-5.4, 1.0)):
            assert watch(fill(still, bias_ih=gates(0, bias, 0, 0)), some_ids(3000), (0, 3000)).stuck == share
        assert watch(a_model("rnn_tanh"), some_ids(3000), (0, 3000)).stuck == 0

    def test_largest_state(self) -> None:
        """Of the cell state: it gains sigmoid(1) tanh(1) with each character, and forgets nothing to speak of."""
        model = fill(a_model("lstm"), weight_ih=0.0, weight_hh=0.0, bias_ih=gates(1, 40, 1, 0), bias_hh=0.0)
        gain = math.tanh(1) / (1 + math.exp(-1))
        assert watch(model, some_ids(3000), (0, 3000)).largest_state == pytest.approx(activity.LENGTH * gain, rel=1e-3)


def shift_model(places: int) -> CharRNN:
    """Predicts the symbol so many places further in the alphabet, whatever came before."""
    model = a_model("rnn_tanh", embedding_size=0, hidden_size=SYMBOLS)
    fill(model, weight_ih=5 * torch.eye(SYMBOLS), weight_hh=0.0, bias_ih=0.0, bias_hh=0.0)
    with torch.no_grad():
        model.decoder.weight.copy_(10 * torch.eye(SYMBOLS).roll(places, 0))
        model.decoder.bias.zero_()
    return model


class TestReading:
    @pytest.mark.parametrize(("step", "offset"), [(1, 1), (4, 2), (5, 3), (6, -1)])
    def test_which_character_it_predicts(self, step: int, offset: int) -> None:
        """The symbol after the one it reads, in a text that goes round the alphabet in steps."""
        ids = (step * np.arange(2000) % SYMBOLS).astype(np.uint8)
        seen = read(shift_model(1), ids, (0, 2000))
        assert seen.predicts == offset
        assert seen.offsets[offset] < 1e-2
        assert min(loss for other, loss in seen.offsets.items() if other != offset) > 5

    @pytest.mark.parametrize("ids", [some_ids(2000), (np.arange(2000) % SYMBOLS).astype(np.uint8)])
    def test_a_copy(self, ids: Ids) -> None:
        assert read(shift_model(0), ids, (0, 2000)).predicts == 0

    @pytest.mark.parametrize("cell", ["lstm", "rnn_relu"])
    def test_every_number(self, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against the reference cell, one piece and one character at a time."""
        for name, value in (("LENGTH", 9), ("WARM_UP", 5), ("PIECES", 3)):
            monkeypatch.setattr(reading, name, value)
        model, ids = a_model(cell, num_layers=2), some_ids(60)
        model.requires_grad_(False)
        seen = read(model, ids, (3, 57))
        cold, carried = np.zeros((3, 9)), np.zeros((3, 9))
        offsets: dict[int, list[float]] = {offset: [] for offset in reading.OFFSETS}
        for row, start in enumerate((3, 22, 42)):  # evenly from 3 to 57 - 15
            text = torch.from_numpy(ids[start : start + 15].astype(np.int64))
            for losses, begin in ((cold, 5), (carried, 0)):
                logits = reference_forward(model, text[None, begin:], model.zero_hidden(1))[0][0]
                surprise = -torch.log_softmax(logits, -1)
                for place in range(5, 14):
                    losses[row, place - 5] = surprise[place - begin, text[place + 1]]
                    if begin == 0 and 6 <= place < 11:  # where all offsets are inside
                        for offset, values in offsets.items():
                            values.append(float(surprise[place, text[place + offset]]))
        assert seen.cold == pytest.approx(cold.mean(axis=0).tolist(), rel=1e-4)
        assert seen.carried == pytest.approx(carried.mean(axis=0).tolist(), rel=1e-4)
        assert seen.offsets == pytest.approx({k: float(np.mean(v)) for k, v in offsets.items()}, rel=1e-4)

    def test_cold_cost(self) -> None:
        one = Reading([3.0, 2.0, 1.0], [1.0, 1.5, 1.0], {})
        assert one.cold_cost(1) == 2
        assert one.cold_cost(2) == pytest.approx((2 + 0.5) / 2)
        assert one.cold_cost(100) == pytest.approx(2.5 / 3), "there are no more than three"

    @pytest.mark.parametrize("length", [8, 9, 30])
    def test_a_short_text(self, length: int) -> None:
        seen = read(a_model("gru"), some_ids(length), (0, length))
        assert all(map(math.isfinite, seen.cold + seen.carried))


class TestContinuation:
    def test_both_states(self) -> None:
        """The state that is given against zeros, with the reference cell."""
        model = a_model("lstm", num_layers=2)
        text = torch.from_numpy(some_ids(90).astype(np.int64)).view(3, 30)
        hidden = tuple(torch.rand(2, 3, model.config.hidden_size) for _ in range(2))
        seen = read_on(model, text, hidden)
        assert seen.characters == 29
        for loss, state in ((seen.carried, hidden), (seen.cold, model.zero_hidden(3))):
            logits = reference_forward(model, text[:, :-1], state)[0]
            expected = -torch.log_softmax(logits, -1).gather(-1, text[:, 1:, None]).mean()
            assert loss == pytest.approx(expected.item(), rel=1e-4)
        assert seen.carried != pytest.approx(seen.cold, rel=1e-4)

    def test_at_the_end_of_the_streams(self) -> None:
        model = a_model("gru")
        seen = read_on(model, torch.zeros(3, FEWEST_AHEAD, dtype=torch.int64), model.zero_hidden(3))
        assert seen.characters == 0
        assert math.isnan(seen.carried)
        assert math.isnan(seen.cold)


class TestNumerics:
    x, y = (torch.from_numpy(some_ids(60, seed=seed).astype(np.int64)).view(3, 20) for seed in (1, 2))

    def of(self, model: CharRNN, precision: Precision = FP32) -> tuple[float, float]:
        hidden = tuple(torch.randn_like(part) for part in model.zero_hidden(3))
        numerics = replay(model, precision, self.x, self.y, hidden)
        return numerics.loss, numerics.gradient

    @pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
    def test_float32_is_exact_enough(self, cell: str) -> None:
        loss, gradient = self.of(a_model(cell, num_layers=2))
        assert loss < 1e-5
        assert 0 < gradient < 1e-4

    @needs_bf16_lstm
    def test_bfloat16_shows(self) -> None:
        loss, gradient = self.of(a_model("lstm"), BF16)
        assert 1e-5 < loss < 0.05
        assert 1e-3 < gradient < 0.1

    def test_a_forward_pass_that_is_coarse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.change_logits(monkeypatch, lambda logits: logits + (logits.round() - logits).detach())
        loss, gradient = self.of(a_model("gru"))
        assert loss > 1e-3
        assert gradient > 0.05

    def test_a_gradient_of_twice_the_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is as far from the right one as that is long."""
        self.change_logits(monkeypatch, lambda logits: 2 * logits - logits.detach())
        loss, gradient = self.of(a_model("gru"))
        assert loss < 1e-5
        assert gradient == pytest.approx(1, rel=1e-3)

    def change_logits(self, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
        forward = CharRNN.forward

        def other(model: CharRNN, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
            logits, hidden = forward(model, x, hidden)
            changed: Tensor = change(logits)
            return changed, hidden

        monkeypatch.setattr(CharRNN, "forward", other)

    @pytest.mark.parametrize("training", [True, False])
    def test_no_dropout_and_nothing_changed(self, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though in training mode: cuDNN gives no gradient in the other."""
        modes: list[bool] = []
        forward = CharRNN.forward

        def spied(model: CharRNN, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
            modes.append(model.training)
            return forward(model, x, hidden)

        monkeypatch.setattr(CharRNN, "forward", spied)
        model = a_model("lstm", num_layers=2, dropout=0.5).train(training)
        before = copy.deepcopy(model.state_dict())
        assert self.of(model)[1] < 1e-4
        assert modes == [True]
        assert model.training is training
        assert model.input_dropout.p == model.between_dropout.p == model.output_dropout.p == 0.5
        assert all(parameter.grad is None for parameter in model.parameters())
        assert differences(dict(before), dict(model.state_dict())) == []

    def test_weights_that_were_rounded(self) -> None:
        model = a_model("gru")
        hidden = model.zero_hidden(3)
        assert replay(model, FP32, self.x, self.y, hidden).coarse < 0.02
        recurrent = model.recurrent_layers[0].get_parameter("weight_hh_l0")
        with torch.no_grad():
            recurrent.copy_(recurrent.bfloat16().float())
            model.decoder.weight.zero_()  # zeros are exact in any format, and say nothing
        share = recurrent.numel() / (model.num_parameters - model.decoder.weight.numel())
        assert replay(model, FP32, self.x, self.y, hidden).coarse == pytest.approx(share, abs=0.02)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16().float())
        assert replay(model, FP32, self.x, self.y, hidden).coarse == 1


WORDS = st.lists(st.integers(0, 3), min_size=0, max_size=40)


def as_ids(values: list[int] | str) -> Ids:
    return np.array([ord(one) - ord("a") if isinstance(one, str) else one for one in values], dtype=np.uint8)


def slow_bigram_loss(known: list[int], other: list[int], size: int) -> float:
    pairs, singles, contexts = Counter(pairwise(known)), Counter(known), Counter(known[:-1])
    losses = []
    for one, two in pairwise(other):
        alone = (singles[two] + 1) / (len(known) + size)
        losses.append(-math.log((pairs[one, two] + alone) / (contexts[one] + 1)))
    return sum(losses) / len(losses)


def a_text(train: Ids, val: Ids, test: Ids | None = None) -> EncodedText:
    test = as_ids("") if test is None else test
    ends = np.cumsum([len(train), len(val), len(test)]).tolist()
    spans = {"train": (0, ends[0]), "val": (ends[0], ends[1])} | ({"test": (ends[1], ends[2])} if len(test) else {})
    vocabulary = Vocabulary("characters", "".join(map(chr, range(97, 97 + 26))))
    return EncodedText("made", "made", np.concatenate([train, val, test]), vocabulary, spans, ends[-1], "")


class TestTexts:
    @settings(max_examples=60)
    @given(WORDS, WORDS)
    def test_bigram_loss(self, known: list[int], other: list[int]) -> None:
        loss = bigram_loss(as_ids(known), as_ids(other), 4)
        if min(len(known), len(other)) < 2:
            assert loss == 0
        else:
            assert loss == pytest.approx(slow_bigram_loss(known, other, 4), rel=1e-9)

    @settings(max_examples=60)
    @given(WORDS, WORDS, st.integers(1, 4), st.integers(1, 3))
    def test_share_repeated(self, known: list[int], other: list[int], window: int, every: int) -> None:
        """Against searching for the windows, one after another."""
        with patch.multiple(texts, WINDOW=window, EVERY=every):
            share = share_repeated(as_ids(known), as_ids(other))
        if min(len(known), len(other)) < window:
            assert share == 0
            return
        windows = [bytes(other[start : start + window]) for start in range(0, len(other) - window + 1, every)]
        assert share == pytest.approx(sum(one in bytes(known) for one in windows) / len(windows))

    def test_a_long_text_is_sampled(self) -> None:
        known, other = some_ids(1000, 26), some_ids(1000, 26, seed=1)
        other[:500] = known[200:700]
        with patch.multiple(texts, WINDOW=5, EVERY=1):
            whole = share_repeated(known, other)
            assert whole == pytest.approx(496 / 996)
            with patch.object(texts, "MOST_WINDOWS", 300):
                assert share_repeated(known, other) == pytest.approx(whole, abs=0.02)

    def test_what_was_planted(self) -> None:
        """Half of the validation part is taken from the training part: 19 of the 39 windows in 1,000 characters."""
        train, val = some_ids(6000, 26), some_ids(1000, 26, seed=1)
        val[:500] = train[700:1200]
        found = compare_parts(a_text(train, val))
        assert found.duplicates == pytest.approx(19 / 39)
        assert found.repeats == 0
        train[-1000:] = train[:1000]
        assert compare_parts(a_text(train, val)).repeats == 1

    def test_characters_that_training_lacks(self) -> None:
        """Those of the test part are another matter."""
        train, val, test = some_ids(900, 5), some_ids(100, 5), some_ids(50, 5)
        val[[3, 50, 70]], test[:9] = (9, 9, 20), (21, 22, 23, 21, 21, 9, 9, 9, 9)
        found = compare_parts(a_text(train, val, test))
        assert found.unseen == pytest.approx(0.03)
        assert found.unseen_symbols == 2

    def test_foreign_text(self) -> None:
        """Symbols in a circle, with noise; foreign is what goes round the other way."""

        def circle(count: int, step: int, seed: int) -> Ids:
            return ((step * np.arange(count) + some_ids(count, 2, seed)) % 20).astype(np.uint8)

        train = circle(5000, 1, 0)
        assert abs(compare_parts(a_text(train, circle(500, 1, 1))).foreign) < 0.05
        found = compare_parts(a_text(train, circle(500, 19, 1)))
        expected = slow_bigram_loss(train[:-500].tolist(), circle(500, 19, 1).tolist(), 26)
        expected -= slow_bigram_loss(train[:-500].tolist(), train[-500:].tolist(), 26)
        assert found.foreign == pytest.approx(expected)
        assert found.foreign > 1


class TestPieces:
    @given(st.integers(0, 50), st.integers(1, 300), st.integers(1, 90), st.integers(1, 30))
    def test_bounds(self, first: int, width: int, length: int, count: int) -> None:
        ids = np.arange(400, dtype=np.uint16)
        seen = pieces(ids, (first, first + width), length, count)
        assert seen.dtype == torch.int64
        assert 1 <= len(seen) <= count
        assert seen.shape[1] == min(length, width)
        starts = seen[:, 0].tolist()
        assert sorted(set(starts)) == starts
        assert starts[0] == first
        assert len(starts) == 1 or seen[-1, -1] == first + width - 1
        for row, start in zip(seen.tolist(), starts, strict=True):
            assert row == list(range(start, start + min(length, width)))

    def test_evenly(self) -> None:
        gaps = pieces(np.arange(4000, dtype=np.uint16), (0, 4000), 10).diff(dim=0)[:, 0]
        assert len(gaps) == PIECES - 1
        assert gaps.max() - gaps.min() <= 1

    def test_where_the_validation_part_is_too_short(self) -> None:
        text = a_text(some_ids(900), some_ids(100))
        assert unseen_span(text, 100 // SHORTEST_SPAN) == (900, 1000)
        assert unseen_span(text, 100 // SHORTEST_SPAN + 1) == (0, 900)
