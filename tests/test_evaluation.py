"""Evaluation against a slow reader that goes through the text one stream and one character after another."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from charrnn.config.schema import ModelConfig
from charrnn.model.charrnn import CharRNN
from charrnn.model.hidden import Hidden
from charrnn.text.encoded import Ids, let_go
from charrnn.training import evaluation
from charrnn.training.evaluation import Evaluation, evaluate
from charrnn.training.precision import Precision

FP32 = Precision("fp32", "test", "cpu")
VOCAB = 6


@pytest.fixture
def model() -> CharRNN:
    torch.manual_seed(0)
    model = CharRNN(VOCAB, ModelConfig(hidden_size=8, embedding_size=3, num_layers=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # a state that matters
    return model


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, VOCAB, 900).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "WARM_UP_CHARACTERS", 50)
    monkeypatch.setattr(evaluation, "WINDOW", 16)
    monkeypatch.setattr(evaluation, "CHARACTERS_PER_STREAM", 60)


@torch.no_grad()
def slow_losses(model: CharRNN, ids: np.ndarray, start: int, end: int, read_from: int) -> list[float]:
    """Losses of ``ids[start:end]`` by a reader that begins at ``read_from`` with the zero state."""
    model.eval()
    hidden = model.zero_hidden(1)
    losses = []
    for position in range(read_from, end - 1):
        logits, hidden = model(torch.tensor([[int(ids[position])]]), hidden)
        if position + 1 >= start:
            losses.append(-torch.log_softmax(logits[0, 0], -1)[int(ids[position + 1])].item())
    return losses


@pytest.mark.parametrize("span", [(500, 900), (500, 871), (0, 300), (30, 200), (899, 900), (3, 4)])
@pytest.mark.parametrize("carried", [True, False])
def test_equals_the_slow_reader(model: CharRNN, ids: np.ndarray, span: tuple[int, int], carried: bool) -> None:
    first, end = max(span[0], 1), span[1]
    streams = max((end - first) // 60, 1)
    length = math.ceil((end - first) / streams)
    expected: list[float] = []
    for start in range(first, end, length):
        read_from = max(0, start - 1 - 50) if carried else start - 1
        expected += slow_losses(model, ids, start, min(start + length, end), read_from)
    result = evaluate(model, ids, span, FP32, carried=carried)
    assert result is not None
    assert result.characters == len(expected) == end - first
    assert result.nats_per_char == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_carried_and_cold_differ_where_the_state_matters(model: CharRNN, ids: np.ndarray) -> None:
    carried = evaluate(model, ids, (500, 900), FP32, carried=True)
    cold = evaluate(model, ids, (500, 900), FP32, carried=False)
    assert carried is not None
    assert cold is not None
    assert carried.nats_per_char != pytest.approx(cold.nats_per_char, rel=1e-4)


def test_a_limit_reads_the_beginning_of_each_piece(model: CharRNN, ids: np.ndarray) -> None:
    result = evaluate(model, ids, (500, 900), FP32, max_characters=100)
    assert result is not None
    assert 100 <= result.characters < 110


@pytest.mark.parametrize("limit", [1, 60, 300, 3000])
def test_a_limit_bounds_what_is_read(limit: int, monkeypatch: pytest.MonkeyPatch, model: CharRNN) -> None:
    """Beside what is scored no more than a warm-up of 50 for each 60 characters, and what fills a window of 16."""
    read, forward = [0], CharRNN.forward

    def counting(self: CharRNN, x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        read[0] += x.numel()
        return forward(self, x, hidden)

    monkeypatch.setattr(CharRNN, "forward", counting)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, 40_000).astype(np.uint8)
    result = evaluate(model, ids, (5_000, 35_000), FP32, max_characters=limit)
    assert result is not None
    assert limit <= result.characters < 1.1 * limit + 1
    streams = max(limit // 60, 1)
    assert read[0] <= result.characters + streams * (50 + 16)


def test_measures_of_known_models() -> None:
    coin = Evaluation(math.log(2), 1)
    assert [coin.bpc, coin.perplexity] == pytest.approx([1, 2])
    assert Evaluation(709.0, 1).perplexity == pytest.approx(math.exp(709))
    assert Evaluation(710.0, 1).perplexity == math.inf, "and no number made up"


def test_a_model_that_knows_nothing_scores_ln_v(ids: np.ndarray) -> None:
    model = CharRNN(VOCAB, ModelConfig(hidden_size=4))
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.zero_()
    result = evaluate(model, ids, (500, 900), FP32)
    assert result is not None
    assert result.nats_per_char == pytest.approx(math.log(VOCAB))


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_the_model_and_the_random_state_as_they_were(training: bool, model: CharRNN, ids: np.ndarray) -> None:
    model.train(training)
    before, random_state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    evaluate(model, ids, (500, 900), FP32)
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_it_can_be_stopped(model: CharRNN, ids: np.ndarray) -> None:
    assert evaluate(model, ids, (500, 900), FP32, should_stop=lambda: True) is None


def test_a_mapped_text_is_let_go_at_each_place(
    model: CharRNN, ids: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or every stream of an evaluation keeps a megabyte of a large text resident."""
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", dtype=ids.dtype, mode="r")
    places: list[Ids] = []

    def notice(text: Ids) -> None:
        places.append(text)
        let_go(text)

    monkeypatch.setattr(evaluation, "let_go", notice)
    found = evaluate(model, mapped, (500, 900), FP32)
    streams, warm_up, windows = 400 // 60, math.ceil(50 / 16), math.ceil(67 / 16)
    assert len(places) == streams * (warm_up + windows)
    assert all(text is mapped for text in places)
    assert found == evaluate(model, ids, (500, 900), FP32)
