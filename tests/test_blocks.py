"""Characters that are chosen on a device, block by block: the same text as one by one. On a CPU, with ``replaying.py``
for CUDA graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from charrnn.config.schema import SamplingConfig
from charrnn.errors import CharRNNError
from charrnn.model.charrnn import CharRNN
from charrnn.model.device import WARM_UP, Replayed
from charrnn.sampling import blocks, decoding, stepper
from charrnn.sampling.blocks import BLOCK, LONG, Blocks
from charrnn.sampling.sampler import generate
from tests.replaying import FakeGraphs
from tests.test_stepper import VOCABULARY, make_model

PLACES = 1 + LONG  # the first character is chosen from the prompt's logits


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    """Blocks, as on a device that has graphs, instead of the fast steps of a CPU."""
    fake = FakeGraphs()
    monkeypatch.setattr(blocks, "graphs_of", lambda _: fake)
    monkeypatch.setattr(stepper, "LARGEST_TABLE", 0)
    return fake


def drawn(model: CharRNN, num: int = 1, length: int = PLACES, **config: Any) -> list[list[str]]:
    settings = SamplingConfig(length=length, **config)
    return list(generate(model, VOCABULARY, settings, prompt="abba", num=num, seed=7))


def one_by_one(model: CharRNN, **given: Any) -> list[list[str]]:
    """By the fast steps of a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepper, "LARGEST_TABLE", 2**26)
        return drawn(model, **given)


@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("config", [{}, {"temperature": 1.5, "top_k": 7, "top_p": 0.9}, {"temperature": 0}], ids=str)
def test_the_same_text_as_one_by_one(cell: str, num: int, config: dict[str, Any], graphs: FakeGraphs) -> None:
    model = make_model(cell=cell, num_layers=2, skip_connections=True)
    expected = one_by_one(model, num=num, **config)
    assert config == {"temperature": 0} or len(set(itertools.chain(*expected))) > 3
    assert drawn(model, num, **config) == expected
    assert (graphs.warmed_up, graphs.captured, graphs.replayed) == (WARM_UP, 1, LONG // BLOCK - WARM_UP)


@pytest.mark.parametrize("length", [0, 1, 2, BLOCK, BLOCK + 1, BLOCK + 2, PLACES - 1])
def test_short_texts_are_not_worth_a_capture(length: int, graphs: FakeGraphs) -> None:
    model = make_model()
    found = drawn(model, length=length)
    assert len(found) == length
    assert found == one_by_one(model, length=length)
    assert not graphs.captured


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 3])
def test_as_many_as_were_asked_for(count: int, graphs: FakeGraphs) -> None:
    model = make_model()
    given = np.array([1, 2]), SamplingConfig(), decoding.generators(1, 2)
    assert [len(ids) for ids in blocks.draw_blocks(model, model.zero_hidden(2), *given, count)] == [2] * count


def test_many_streams_and_symbols_have_shorter_blocks(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers of a block have their room; one character always has."""
    model = make_model()
    expected = one_by_one(model, num=2, length=50)
    for room, length in ((2 * 11 * 5, 5), (2 * 11 * 5 - 1, 4), (1, 1)):
        monkeypatch.setattr(blocks, "ROOM", room)
        made = Mock(side_effect=Blocks)
        monkeypatch.setattr(blocks, "Blocks", made)
        assert drawn(model, num=2, length=50) == expected
        assert made.call_args.args[4] == length


def test_another_reader_does_not_disturb(graphs: FakeGraphs) -> None:
    """Places of memory belong to one text."""
    model = make_model()
    expected = drawn(model)
    settings = SamplingConfig(length=PLACES)
    one, other = (generate(model, VOCABULARY, settings, prompt="abba", seed=seed) for seed in (7, 8))
    assert [piece for piece, _ in zip(one, other, strict=True)] == expected


@pytest.mark.parametrize("good", [3, BLOCK, 7 * BLOCK + 5], ids=["first block", "second block", "replayed"])
@pytest.mark.parametrize("num", [1, 3])
def test_logits_that_break_on_the_way(good: int, num: int, graphs: FakeGraphs) -> None:
    """What was drawn before is passed on, as it is one by one."""
    model = make_model()
    expected = drawn(model, num)[: 1 + good]

    def breaks(*given: Any) -> Blocks:
        return with_broken(Blocks(*given), good)

    pieces = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "Blocks", breaks)
        with pytest.raises(CharRNNError, match="cannot sample: the model's logits are not finite"):
            for piece in generate(model, VOCABULARY, SamplingConfig(length=PLACES), prompt="abba", num=num, seed=7):
                pieces.append(piece)
    assert pieces == expected


def with_broken(made: Blocks, good: int) -> Blocks:
    """A state that is no number after ``good`` characters."""
    draw, begun = made.draw, itertools.count()

    def drawing(numbers: torch.Tensor) -> torch.Tensor:
        block = next(begun)
        if block != good // BLOCK:
            return draw(numbers)
        kept = [part.clone() for part in (made._ids, *made._hidden)]
        right = draw(numbers).clone()
        for part, before in zip((made._ids, *made._hidden), kept, strict=True):
            part.copy_(before)
        made._hidden[0][:, -1] = float("nan")
        wrong = draw(numbers).clone()
        assert (wrong[:, -1] == blocks.BROKEN).all()
        assert (wrong[:, :-1] == right[:, :-1]).all()
        return torch.where(torch.arange(len(right))[:, None] < good % BLOCK, right, wrong)

    made.draw = drawing  # type: ignore[method-assign]
    return made


def test_nothing_is_waited_for_within_a_block(graphs: FakeGraphs) -> None:
    """The stand-in refuses a capture in which a tensor's value is asked for."""
    model = make_model(num_layers=2)
    made = Blocks(model, model.zero_hidden(2), np.array([1, 2]), SamplingConfig(top_k=3, top_p=0.5), 4, graphs)
    for _ in range(WARM_UP + 2):
        made.draw(made.numbers(decoding.generators(1, 2)))
    assert isinstance(made._again, Replayed)
    assert made._again.obstacle is None
    assert graphs.replayed == 2


def test_what_cannot_be_captured_is_drawn_plainly(graphs: FakeGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("not permitted")

    model = make_model()
    expected = one_by_one(model)
    graphs.capture = fails  # type: ignore[method-assign]
    assert drawn(model) == expected


def test_a_replay_that_goes_wrong_changes_nothing(graphs: FakeGraphs) -> None:
    model = make_model()
    expected = one_by_one(model)
    graphs.capture = lambda work: lambda: None  # type: ignore[method-assign]
    assert drawn(model) == expected


SOME = [
    SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    for temperature in (0, 1e-300, 0.3, 1, 100)
    for top_k in (None, 1, 4, 500)
    for top_p in (None, 1e-9, 0.6, 1)
]


@pytest.mark.parametrize("config", SOME, ids=str)
def test_chooses_as_numpy_does(config: SamplingConfig) -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 3, (200, 30)).astype(np.float32)
    logits[:50] = logits[:50].round()  # ties
    own = decoding.generators(5, len(logits))
    times = np.stack([one.standard_exponential(30) for one in decoding.generators(5, len(logits))])
    expected = decoding.choose(logits, config, own)
    found = blocks.choose(torch.from_numpy(logits), config, torch.from_numpy(times))
    assert found.tolist() == expected.tolist()


def test_no_more_than_add_up_to_p() -> None:
    logits, times = torch.zeros(1, 4), torch.tensor([[9, 9, 1e-9, 1e-9]], dtype=torch.float64)
    assert blocks.choose(logits, SamplingConfig(temperature=1, top_p=0.5), times).item() < 2
    assert blocks.choose(logits, SamplingConfig(temperature=1, top_p=0.51), times).item() == 2
