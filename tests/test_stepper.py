"""The fast steps of sampling against the plain formulas of ``model/reference.py`` in float64, and who takes which.

Shapes: N streams, T characters, V vocabulary.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from charrnn.config.schema import ModelConfig, SamplingConfig
from charrnn.errors import CharRNNError
from charrnn.model.charrnn import CharRNN
from charrnn.model.reference import reference_forward
from charrnn.model.weights import Weights, aligned, make_buffer, shapes, weights_of
from charrnn.sampling import cells, stepper
from charrnn.sampling.cells import Product
from charrnn.sampling.plain import is_fast
from charrnn.sampling.sampler import generate, sample_text
from charrnn.sampling.stepper import FastReader, FastStepper, is_light
from charrnn.text.vocabulary import Vocabulary

VOCAB_SIZE, HIDDEN, LENGTH = 11, 12, 300
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
INPUTS: dict[str, dict[str, Any]] = {
    "one-hot": {"embedding_size": 0},
    "embedding": {"embedding_size": 5},
    "tied": {"embedding_size": HIDDEN, "tie_weights": True},
}


def make_model(scale: float = 0.4, **config: Any) -> CharRNN:
    """All parameters random, so that no bias is zero and no two gates are alike; not so large as to be chaotic."""
    given = {"hidden_size": HIDDEN, "embedding_size": 5, **config}
    model, generator = CharRNN(VOCAB_SIZE, ModelConfig.model_validate(given)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, scale, generator=generator)
    return model.eval()


def make_ids(num: int, length: int = LENGTH, seed: int = 2) -> Tensor:
    """(num, length)."""
    return torch.randint(0, VOCAB_SIZE, (num, length), generator=torch.Generator().manual_seed(seed))


def step_through(model: CharRNN, ids: Tensor, hidden: tuple[Tensor, ...]) -> Tensor:
    """Logits of the fast way, (N, T, V)."""
    return all_steps(FastStepper(weights_of(model), [part.numpy() for part in hidden]), ids)


def all_steps(stepper: FastStepper, ids: Tensor) -> Tensor:
    """(N, T, V)."""
    return torch.from_numpy(np.stack([stepper.step(column).copy() for column in ids.t().numpy()], axis=1))


@torch.no_grad()
def exactly(model: CharRNN, ids: Tensor, hidden: tuple[Tensor, ...]) -> Tensor:
    """The same from the formulas, in float64."""
    doubled = copy.deepcopy(model).double()
    return reference_forward(doubled, ids, tuple(part.double() for part in hidden))[0]


def some_state(model: CharRNN, num: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.empty_like(part).uniform_(-0.9, 0.9, generator=generator) for part in model.zero_hidden(num))


KINDS = list(itertools.product(CELLS, [1, 2, 3], INPUTS, [False, True]))


class TestLogits:
    @pytest.mark.parametrize("num", [1, 3])
    @pytest.mark.parametrize(("cell", "layers", "inputs", "skip"), KINDS)
    def test_equal_the_formulas(self, cell: str, layers: int, inputs: str, skip: bool, num: int) -> None:
        # With 0.4 the relu grows without end.
        scale = 0.2 if cell == "rnn_relu" else 0.4
        model = make_model(scale, cell=cell, num_layers=layers, skip_connections=skip, **INPUTS[inputs])
        ids, hidden = make_ids(num), some_state(model, num)
        expected = exactly(model, ids, hidden)
        assert expected.std() > 0.05
        found = step_through(model, ids, hidden)
        assert (found - expected).abs().max() < 1e-5

    @pytest.mark.parametrize("num", [1, 4])
    @pytest.mark.parametrize("cell", CELLS)
    def test_equal_the_model_s_own_after_a_long_prompt(self, cell: str, num: int) -> None:
        model = make_model(0.09, cell=cell, num_layers=2, hidden_size=96)
        ids = make_ids(num, 1500)
        with torch.no_grad():
            expected, _ = model(ids, model.zero_hidden(num))
            _, hidden = model(ids[:, :1100], model.zero_hidden(num))
        found = step_through(model, ids[:, 1100:], hidden)
        assert (found - expected[:, 1100:]).abs().max() < 1e-5

    def test_saturated_gates(self) -> None:
        model, ids = make_model(30.0), make_ids(1, 30)
        found = step_through(model, ids, model.zero_hidden(1))
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.double(), exactly(model, ids, model.zero_hidden(1)), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("num", [1, 3])
    def test_the_state_it_starts_from_is_left_alone(self, num: int) -> None:
        model = make_model(num_layers=2)
        hidden, before = some_state(model, num), some_state(model, num)
        step_through(model, make_ids(num, 5), hidden)
        assert all(torch.equal(after, value) for after, value in zip(hidden, before, strict=True))

    @pytest.mark.parametrize("num", [1, 3])
    def test_the_model_is_left_alone(self, num: int) -> None:
        model = make_model(cell="gru", num_layers=2, embedding_size=0)
        before = copy.deepcopy(model.state_dict())
        step_through(model, make_ids(num, 5), model.zero_hidden(num))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_bit_for_bit_again(self) -> None:
        model, ids = make_model(hidden_size=200), make_ids(1, 40)
        first, *others = (step_through(model, ids, model.zero_hidden(1)) for _ in range(4))
        assert all(torch.equal(first, other) for other in others)


class TestProduct:
    @pytest.mark.parametrize("num", [1, 3])
    @pytest.mark.parametrize("block", [1, 30, 64, 2**18])
    def test_whatever_the_blocks(self, monkeypatch: pytest.MonkeyPatch, num: int, block: int) -> None:
        monkeypatch.setattr(cells, "BLOCK", block)
        generator = torch.Generator().manual_seed(4)
        weight, source = torch.randn(17, 10, generator=generator).numpy(), np.empty((num, 10), np.float32)
        product = Product(weight, source)
        for _ in range(3):  # there and back
            source[:] = torch.randn(num, 10, generator=generator).numpy()
            assert product() is product.result
            np.testing.assert_allclose(product.result, source @ weight.T, rtol=1e-5, atol=1e-5)

    def test_blocks_are_small_enough_for_one_thread(self) -> None:
        """OpenBLAS shares out products of more than 460,800 numbers (interface/gemv.c)."""
        assert cells.BLOCK <= 460_800


class TestChoice:
    def test_on_a_cpu_the_fast_way(self) -> None:
        assert is_fast(make_model())

    def test_other_numbers_the_plain_way(self) -> None:
        assert not is_fast(make_model().double())

    def test_other_devices_the_plain_way(self) -> None:
        assert not is_fast(make_model().to("meta"))

    def test_a_huge_table_the_plain_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for room, fast in ((VOCAB_SIZE * 4 * HIDDEN, True), (VOCAB_SIZE * 4 * HIDDEN - 1, False)):
            monkeypatch.setattr(stepper, "LARGEST_TABLE", room)
            assert is_fast(make_model()) is fast


VOCABULARY = Vocabulary("characters", "\nabcdefghij")


class TestGenerate:
    @pytest.mark.parametrize("num", [1, 3])
    @pytest.mark.parametrize("cell", CELLS)
    def test_the_same_text_either_way(self, monkeypatch: pytest.MonkeyPatch, cell: str, num: int) -> None:
        model = make_model(cell=cell, num_layers=2)
        found = []
        for room in (stepper.LARGEST_TABLE, 0):
            monkeypatch.setattr(stepper, "LARGEST_TABLE", room)
            config = SamplingConfig(length=100)
            found.append(list(generate(model, VOCABULARY, config, prompt="abba", num=num, seed=7)))
        assert found[0] == found[1]

    def test_weights_of_now(self) -> None:
        model, config = make_model(), SamplingConfig(length=60)
        first = sample_text(model, VOCABULARY, config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(-2)
        changed = sample_text(model, VOCABULARY, config)
        assert first != changed == sample_text(copy.deepcopy(model), VOCABULARY, config)

    @pytest.mark.parametrize("num", [1, 2])
    def test_logits_that_break_on_the_way(self, num: int) -> None:
        """A weight that only shows after the first drawn character: what the prompt's logits do not see."""
        model = make_model()
        assert model.embedding is not None
        with torch.no_grad():
            model.embedding.weight[1:] = float("nan")
            model.decoder.bias[0] = -1e9
        pieces = generate(model, VOCABULARY, SamplingConfig(length=5), num=num)
        next(pieces)
        with pytest.raises(CharRNNError, match="not finite"):
            next(pieces)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_broken_weights_without_warnings(self, recwarn: pytest.WarningsRecorder, value: float) -> None:
        for cell, num in itertools.product(CELLS, (1, 2)):
            model = make_model(cell=cell, num_layers=2)
            with torch.no_grad():
                model.recurrent_layers[1].get_parameter("weight_hh_l0").fill_(value)
                model.decoder.weight.fill_(value)
            assert not torch.isfinite(step_through(model, make_ids(num, 1), some_state(model, num))).any()
        assert not recwarn.list


class TestWeights:
    @pytest.mark.parametrize(("cell", "layers", "inputs", "skip"), KINDS)
    def test_shapes_are_the_model_s(self, cell: str, layers: int, inputs: str, skip: bool) -> None:
        model = make_model(cell=cell, num_layers=layers, skip_connections=skip, **INPUTS[inputs])
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        assert shapes(VOCAB_SIZE, model.config) == expected
        assert weights_of(model).size == model.num_parameters

    def test_others_are_refused(self) -> None:
        weights = weights_of(make_model())
        for size, config in ((12, weights.config), (VOCAB_SIZE, weights.config.model_copy(update={"cell": "gru"}))):
            with pytest.raises(ValueError, match=r"another shape than the config's: .*(embedding|weight_hh)"):
                Weights(size, config, weights.arrays)
        fewer = {name: array for name, array in weights.arrays.items() if name != "layers.0.bias_hh_l0"}
        with pytest.raises(ValueError, match=r"config's: layers\.0\.bias_hh_l0$"):
            Weights(VOCAB_SIZE, weights.config, fewer)

    @pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 64, 5)])
    def test_buffers_begin_a_cache_line(self, shape: tuple[int, ...]) -> None:
        buffers = [make_buffer(*shape) for _ in range(20)]
        assert {(buffer.shape, buffer.ctypes.data % 64) for buffer in buffers} == {(shape, 0)}

    def test_a_copy_of_its_own(self) -> None:
        array = np.arange(6.0).reshape(2, 3)
        copy = aligned(array)
        copy += 1
        assert (copy.dtype.name, copy.tolist(), array[0, 0]) == ("float32", (array + 1).tolist(), 0.0)


class TestFastReader:
    @pytest.mark.parametrize("cell", CELLS)
    def test_reads_what_the_model_reads(self, cell: str) -> None:
        model, ids = make_model(0.2, cell=cell, num_layers=2), make_ids(1, 80)
        with torch.no_grad():
            expected, _ = model(ids, model.zero_hidden(1))
        reader = FastReader(weights_of(model))
        first = reader.read(ids[0, :50].numpy()).copy()
        rest = all_steps(reader._stepper, ids[:, 50:])
        found = torch.cat([torch.from_numpy(first)[None], rest], dim=1)
        assert (found - expected[:, 49:]).abs().max() < 1e-5

    def test_the_same_text_as_the_model_s(self) -> None:
        model, config = make_model(cell="gru", num_layers=2), SamplingConfig(length=200, top_p=0.95)
        drawn = [
            list(generate(network, VOCABULARY, config, prompt="abba", seed=7)) for network in (model, weights_of(model))
        ]
        assert drawn[0] == drawn[1]

    def test_light_is_what_one_core_steps_quickly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = weights_of(make_model())
        assert is_light(weights)
        for limit, room in (("LIGHT", weights.size), ("LARGEST_TABLE", VOCAB_SIZE * 4 * HIDDEN)):
            monkeypatch.setattr(stepper, limit, room - 1)
            assert not is_light(weights)
            monkeypatch.setattr(stepper, limit, room)
            assert is_light(weights)
