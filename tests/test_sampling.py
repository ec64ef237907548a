"""From logits to text: against plain Python, the reference cell and ``str.partition``.

Shapes: N samples, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from charrnn.config.schema import DropoutConfig, ModelConfig, SamplingConfig
from charrnn.errors import CharRNNError, DataError
from charrnn.model.charrnn import CharRNN
from charrnn.model.reference import reference_forward
from charrnn.sampling.decoding import choose, generators, keep_top_k, keep_top_p, probabilities
from charrnn.sampling.sampler import generate, sample_text
from charrnn.sampling.stopping import StopAt
from charrnn.text.vocabulary import Vocabulary

repeatable = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
# Exact in float32 and far enough apart that no order depends on rounding.
distinct_logits = st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True).map(lambda q: [x / 4 for x in q])
temperatures = st.sampled_from([0.1, 0.5, 1.0, 1.7, 100.0])


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [weight / sum(weights) for weight in weights]


def slow_probabilities(
    logits: list[float], temperature: float, top_k: int | None = None, top_p: float | None = None
) -> list[float]:
    """Temperature, then top-k, then top-p, one symbol at a time."""
    ranked = sorted(range(len(logits)), key=lambda i: logits[i], reverse=True)[:top_k]
    kept = dict(zip(ranked, softmax([logits[i] for i in ranked], temperature), strict=True))
    if top_p is not None:
        nucleus: dict[int, float] = {}
        for i in ranked:
            nucleus[i] = kept[i]
            if sum(nucleus.values()) >= top_p:
                break
        kept = nucleus
    return [kept.get(i, 0.0) / sum(kept.values()) for i in range(len(logits))]


def chi_square(observed: NDArray[np.integer], expected: list[float]) -> float:
    """How far counts of choices are from their distribution; about V - 1 where they follow it."""
    counts = Counter(observed.tolist())
    share = {i: p * len(observed) for i, p in enumerate(expected)}
    assert set(counts) <= {i for i, n in share.items() if n > 0}
    return sum((counts[i] - n) ** 2 / n for i, n in share.items() if n > 0)


class TestProbabilities:
    @repeatable
    @given(distinct_logits, temperatures)
    def test_temperature(self, logits: list[float], temperature: float) -> None:
        found = probabilities(np.array([logits]), SamplingConfig(temperature=temperature))
        assert found[0].tolist() == pytest.approx(softmax(logits, temperature), abs=1e-12)

    @repeatable
    @given(distinct_logits, temperatures, st.integers(1, 15))
    def test_top_k(self, logits: list[float], temperature: float, k: int) -> None:
        found = probabilities(np.array([logits]), SamplingConfig(temperature=temperature, top_k=k))
        assert found[0].tolist() == pytest.approx(slow_probabilities(logits, temperature, k), abs=1e-12)

    @repeatable
    @given(distinct_logits, temperatures, st.floats(0.001, 0.999))
    def test_top_p(self, logits: list[float], temperature: float, p: float) -> None:
        found = probabilities(np.array([logits]), SamplingConfig(temperature=temperature, top_p=p))
        assert found[0].tolist() == pytest.approx(slow_probabilities(logits, temperature, None, p), abs=1e-12)

    @repeatable
    @given(distinct_logits, temperatures, st.integers(1, 15), st.floats(0.001, 0.999))
    def test_top_p_is_of_what_top_k_leaves(self, logits: list[float], temperature: float, k: int, p: float) -> None:
        config = SamplingConfig(temperature=temperature, top_k=k, top_p=p)
        found = probabilities(np.array([logits]), config)
        assert found[0].tolist() == pytest.approx(slow_probabilities(logits, temperature, k, p), abs=1e-12)

    @repeatable
    @given(
        st.lists(st.integers(-100, 100) | st.sampled_from([-(2**120), 2**120]), min_size=1, max_size=12),
        st.floats(5e-324, 100),
        st.none() | st.integers(1, 15),
        st.none() | st.floats(5e-324, 1),
    )
    @example([0, 0, -(2**120)], 5e-324, 2, 1.0)
    def test_always_a_distribution_that_keeps_the_likeliest(
        self, logits: list[int], temperature: float, k: int | None, p: float | None
    ) -> None:
        config = SamplingConfig(temperature=temperature, top_k=k, top_p=p)
        found = probabilities(np.array([list(map(float, logits))]), config)[0].tolist()
        assert sum(found) == pytest.approx(1, abs=1e-9)
        assert min(found) >= 0
        best = [value for value, logit in zip(found, logits, strict=True) if logit == max(logits)]
        assert max(best) == max(found) > 0

    def test_rows_do_not_mix(self) -> None:
        rows = [[1.0, 2.0, 3.0, -4.0], [9.0, -2.0, 0.5, 0.25], [0.0, 1.0, -1.0, 2.0]]
        found = probabilities(np.array(rows), SamplingConfig(temperature=0.7, top_k=3, top_p=0.9))
        for row, expected in zip(found.tolist(), rows, strict=True):
            assert row == pytest.approx(slow_probabilities(expected, 0.7, 3, 0.9), abs=1e-12)

    def test_ties_with_the_kth_stay(self) -> None:
        kept = keep_top_k(np.array([[1.0, 2.0, 2.0, 3.0, 0.0]]), 2)
        assert kept.tolist() == [[-math.inf, 2.0, 2.0, 3.0, -math.inf]]

    def test_top_p_takes_as_few_as_it_can_of_equals(self) -> None:
        kept = keep_top_p(np.full((1, 8), 1 / 8), 0.5)
        assert sorted(kept[0].tolist()) == [0.0] * 4 + [0.25] * 4

    def test_top_p_of_one_keeps_all(self) -> None:
        even = np.array([[0.5, 0.25, 0.125, 0.125]])
        assert np.array_equal(keep_top_p(even, 1.0), even)


class TestChoose:
    LOGITS = (2.0, 1.0, 0.5, 0.0, -1.0, -3.0)

    def draw(self, config: SamplingConfig, count: int = 20_000, seed: int = 1) -> NDArray[np.int64]:
        return choose(np.array([self.LOGITS] * count), config, generators(seed, count))

    def test_temperature_one_is_the_model_s_own_distribution(self) -> None:
        drawn = self.draw(SamplingConfig(temperature=1))
        assert chi_square(drawn, softmax(list(self.LOGITS))) < 25  # 5 degrees of freedom: 1 in 7,000

    def test_other_settings_draw_what_they_say(self) -> None:
        drawn = self.draw(SamplingConfig(temperature=2, top_k=4, top_p=0.8))
        assert chi_square(drawn, slow_probabilities(list(self.LOGITS), 2, 4, 0.8)) < 20

    def test_a_wrong_distribution_would_be_noticed(self) -> None:
        assert chi_square(self.draw(SamplingConfig(temperature=1)), softmax(list(self.LOGITS), 1.1)) > 50

    @repeatable
    @given(distinct_logits, st.sampled_from([0, 5e-324, 1e-300, 1e-30, 1e-3]))
    def test_the_limit_of_temperature_zero_is_the_likeliest(self, logits: list[float], temperature: float) -> None:
        config = SamplingConfig(temperature=temperature)
        assert choose(np.array([logits] * 3), config, generators(1, 3)).tolist() == [logits.index(max(logits))] * 3

    def test_a_tiny_temperature_row_by_row(self) -> None:
        logits = np.array([[1e30, 0.0], [-2.0, -1.0], [-1e30, -2e30]])
        assert choose(logits, SamplingConfig(temperature=1e-300), generators(1, 3)).tolist() == [0, 1, 0]

    def test_a_tiny_temperature_shares_between_equals(self) -> None:
        found = probabilities(np.array([[3.0, 7.0, 7.0, -3e38]]), SamplingConfig(temperature=5e-324))
        assert found.tolist() == [[0.0, 0.5, 0.5, 0.0]]

    @pytest.mark.parametrize("config", [SamplingConfig(temperature=5, top_k=1), SamplingConfig(top_p=1e-9)])
    def test_one_candidate_leaves_no_choice(self, config: SamplingConfig) -> None:
        assert set(self.draw(config, 100).tolist()) == {0}

    def test_the_seed_decides(self) -> None:
        first, again, other = (self.draw(SamplingConfig(), 100, seed).tolist() for seed in (1, 1, 2))
        assert first == again != other

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_logits_that_are_not_finite_are_refused(self, bad: float, temperature: float) -> None:
        logits = np.array([[0.0, 1.0], [bad, 0.0]])
        with pytest.raises(FloatingPointError, match="not finite"):
            choose(logits, SamplingConfig(temperature=temperature), generators(1, 2))


pieces_of_text = st.lists(st.text(alphabet="ab", max_size=4), max_size=8)


class TestStopAt:
    @repeatable
    @given(pieces_of_text, st.text(alphabet="ab", min_size=1, max_size=5))
    @example(["aa", "ab"], "aab")
    @example(["ab", "a", "aba", "b"], "abaab")
    @example([*"aaab"], "aab")
    def test_shows_what_stands_before_the_stop(self, pieces: list[str], stop: str) -> None:
        before, found, _ = "".join(pieces).partition(stop)
        stopper = StopAt(stop)
        shown = "".join(stopper.feed(piece) for piece in pieces)
        assert stopper.done == bool(found)
        assert shown + stopper.flush() == before
        assert not found or shown == before

    @repeatable
    @given(pieces_of_text, st.text(alphabet="ab", min_size=1, max_size=5))
    def test_holds_back_no_more_than_it_must(self, pieces: list[str], stop: str) -> None:
        stopper, shown, fed = StopAt(stop), "", ""
        for piece in pieces:
            shown, fed = shown + stopper.feed(piece), fed + piece
            if stop in fed:
                break
            beginnings = (n for n in range(len(stop)) if fed.endswith(stop[:n]))
            assert len(fed) - len(shown) == max(beginnings)

    @pytest.mark.parametrize("stop", [None, ""])
    def test_without_a_stop_all_is_shown_at_once(self, stop: str | None) -> None:
        stopper = StopAt(stop)
        assert [stopper.feed(piece) for piece in ("a", "", "bc")] == ["a", "", "bc"]
        assert (stopper.done, stopper.flush()) == (False, "")

    def test_nothing_comes_after_the_stop(self) -> None:
        stopper = StopAt("\n\n")
        assert [stopper.feed(piece) for piece in ("one\n", "\ntwo", "three")] == ["one", "", ""]
        assert (stopper.done, stopper.flush()) == (True, "")


VOCABULARY = Vocabulary("characters", "\n abcdefghij")
PROMPT = "bad cab fed a dig"


def make_model(vocab_size: int = len(VOCABULARY), cell: str = "lstm") -> CharRNN:
    """A network that says much: large weights, and dropout that must not be seen in samples."""
    half = DropoutConfig(input=0.5, between=0.5, output=0.5)
    config = ModelConfig.model_validate(
        {"cell": cell, "num_layers": 2, "hidden_size": 16, "embedding_size": 8, "dropout": half}
    )
    model, generator = CharRNN(vocab_size, config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7, generator=generator)
    return model


@pytest.fixture
def model() -> CharRNN:
    return make_model()


def texts(pieces: Iterator[list[str]]) -> list[str]:
    return ["".join(sample) for sample in zip(*pieces, strict=True)]


Chooser = Callable[[Tensor], Tensor]


@torch.no_grad()
def step_by_step(model: CharRNN, ids: list[int], length: int, pick: Chooser, num: int = 1) -> list[list[int]]:
    """Ids of ``num`` samples after a prompt, (num, length), from the reference cell alone."""
    logits, hidden = reference_forward(model, torch.tensor([ids] * num), model.zero_hidden(num))
    chosen = []
    for _ in range(length):
        chosen.append(pick(logits[:, -1]))
        logits, hidden = reference_forward(model, chosen[-1][:, None], hidden)
    return torch.stack(chosen, dim=1).tolist()


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


class TestGenerate:
    @pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
    def test_temperature_zero_is_the_likeliest_at_every_step(self, cell: str) -> None:
        model = make_model(cell=cell)
        found = texts(generate(model, VOCABULARY, SamplingConfig(temperature=0, length=80), prompt=PROMPT, num=3))
        (ids,) = step_by_step(model, VOCABULARY.encode(PROMPT).tolist(), 80, likeliest)
        assert found == [VOCABULARY.decode(ids)] * 3

    def test_every_step_is_drawn_after_the_text_so_far(self, model: CharRNN) -> None:
        config, own = SamplingConfig(temperature=0.9, top_k=6, length=60), generators(3, 4)
        found = texts(generate(model, VOCABULARY, config, prompt=PROMPT, num=4, seed=3))
        rows = step_by_step(
            model,
            VOCABULARY.encode(PROMPT).tolist(),
            60,
            lambda logits: torch.from_numpy(choose(logits.numpy(), config, own)),
            num=4,
        )
        assert found == [VOCABULARY.decode(row) for row in rows]
        assert len(set(found)) == 4

    def test_the_first_samples_are_the_same_however_many_there_are(self, model: CharRNN) -> None:
        alone, several, more = (
            texts(generate(model, VOCABULARY, SamplingConfig(length=60), num=num, seed=5)) for num in (1, 3, 8)
        )
        assert several[:1] == alone
        assert more[:3] == several
        assert len(set(more)) == 8
        others = texts(generate(model, VOCABULARY, SamplingConfig(length=60), num=8, seed=6))
        assert not set(more) & set(others)

    def test_first_characters_follow_the_model_s_distribution(self, model: CharRNN) -> None:
        config = SamplingConfig(temperature=1, length=1)
        (pieces,) = generate(model, VOCABULARY, config, prompt=PROMPT, num=20_000)
        with torch.no_grad():
            ids = torch.tensor([VOCABULARY.encode(PROMPT).tolist()])
            logits, _ = reference_forward(model, ids, model.zero_hidden(1))
        drawn = VOCABULARY.encode("".join(pieces))
        assert chi_square(drawn, softmax(logits[0, -1].tolist())) < 40  # 11 degrees of freedom: 1 in 30,000

    def test_same_seed_same_text_whatever_torch_s_own_seed(self, model: CharRNN) -> None:
        found = []
        for own_seed, seed in ((1, 5), (2, 5), (2, 6)):
            torch.manual_seed(own_seed)
            found.append(texts(generate(model, VOCABULARY, SamplingConfig(length=50), num=2, seed=seed)))
        assert found[0] == found[1] != found[2]

    def test_torch_s_random_state_is_untouched(self, model: CharRNN) -> None:
        before = torch.get_rng_state()
        list(generate(model, VOCABULARY, SamplingConfig(length=20), num=2))
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("training", [True, False])
    def test_dropout_is_off_and_the_mode_is_given_back(self, model: CharRNN, training: bool) -> None:
        expected = sample_text(make_model().eval(), VOCABULARY, SamplingConfig(length=50))
        model.train(training)
        assert sample_text(model, VOCABULARY, SamplingConfig(length=50)) == expected
        assert all(module.training == training for module in model.modules())

    def test_the_mode_is_given_back_when_sampling_ends_early(self, model: CharRNN) -> None:
        model.train()
        pieces = generate(model, VOCABULARY, SamplingConfig(length=50))
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert model.training

    def test_gradients_go_on_as_before(self, model: CharRNN) -> None:
        for _ in generate(model, VOCABULARY, SamplingConfig(length=3)):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
        logits, _ = model(torch.tensor([[1, 2]]), model.zero_hidden(1))
        logits.sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    @pytest.mark.parametrize("window", [1, 7, 100, 101])
    def test_a_long_prompt_in_windows_is_one_pass(
        self, model: CharRNN, window: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prompt = (PROMPT * 10)[:100]
        monkeypatch.setattr("charrnn.sampling.plain.PROMPT_WINDOW", window)
        found = texts(generate(model, VOCABULARY, SamplingConfig(temperature=0, length=40), prompt=prompt))
        (ids,) = step_by_step(model, VOCABULARY.encode(prompt).tolist(), 40, likeliest)
        assert found == [VOCABULARY.decode(ids)]

    def test_length(self, model: CharRNN) -> None:
        assert list(generate(model, VOCABULARY, SamplingConfig(length=0), num=2)) == []
        assert sample_text(model, VOCABULARY, SamplingConfig(length=0)) == ""
        assert model.training
        assert [len(text) for text in texts(generate(model, VOCABULARY, SamplingConfig(length=7), num=2))] == [7, 7]

    def test_sample_text_is_the_first_of_one(self, model: CharRNN) -> None:
        config = SamplingConfig(length=30)
        assert [sample_text(model, VOCABULARY, config, seed=4)] == texts(generate(model, VOCABULARY, config, seed=4))

    @pytest.mark.parametrize(
        ("characters", "unknown", "start"),
        [("\n abc", False, 0), (" !abc", False, 0), ("!ab c", False, 3), ("xyz", False, 0), ("", True, 0)],
    )
    @pytest.mark.parametrize("prompt", [None, ""])
    def test_without_a_prompt_it_starts_a_line_or_a_word(
        self, characters: str, unknown: bool, start: int, prompt: str | None
    ) -> None:
        vocabulary = Vocabulary("characters", characters, unknown)
        model = make_model(len(vocabulary))
        found = texts(generate(model, vocabulary, SamplingConfig(temperature=0, length=20), prompt=prompt))
        (ids,) = step_by_step(model, [start], 20, likeliest)
        assert found == [vocabulary.decode(ids)]

    def test_a_prompt_of_unknown_characters(self, model: CharRNN) -> None:
        config = SamplingConfig(length=20)
        with pytest.raises(DataError, match=r"does not know: 'Z' \(U\+005A\)"):
            list(generate(model, VOCABULARY, config, prompt="aZb"))
        for given_prompt, read in (("aZb", "ab"), ("ZZ", "\n")):
            skipped = texts(generate(model, VOCABULARY, config, prompt=given_prompt, on_unknown="skip"))
            assert skipped == texts(generate(model, VOCABULARY, config, prompt=read))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("temperature", [0.0, 0.8])
    def test_a_broken_model_is_an_error(self, model: CharRNN, bad: float, temperature: float) -> None:
        model.decoder.bias.data[3] = bad
        with pytest.raises(CharRNNError, match="cannot sample: the model's logits are not finite; use an earlier"):
            list(generate(model, VOCABULARY, SamplingConfig(temperature=temperature, length=5)))
        assert model.training


def replace_choose(monkeypatch: pytest.MonkeyPatch, other: Callable[..., NDArray[np.int64]]) -> None:
    """Of the first character and of those after it."""
    for module in ("sampler", "stepper"):
        monkeypatch.setattr(f"charrnn.sampling.{module}.choose", other)


class TestGenerateBytes:
    BYTES = Vocabulary("bytes")

    def test_characters_appear_when_their_last_byte_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written = "na\u00efve \U0001f600 \u4e0a"
        script = iter(written.encode())
        replace_choose(monkeypatch, lambda *_: np.array([next(script)]))
        config = SamplingConfig(length=len(written.encode()))
        pieces = [piece for (piece,) in generate(make_model(256), self.BYTES, config)]
        assert [piece for piece in pieces if piece] == list(written)
        assert pieces[:4] == ["n", "a", "", "\u00ef"]

    def test_any_bytes_give_valid_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen: list[list[int]] = []

        def watched(*args: object) -> NDArray[np.int64]:
            chosen.append(choose(*args).tolist())  # type: ignore[arg-type]
            return np.array(chosen[-1])

        replace_choose(monkeypatch, watched)
        found = texts(generate(make_model(256), self.BYTES, SamplingConfig(temperature=2, length=200), num=3))
        for text, ids in zip(found, zip(*chosen, strict=True), strict=True):
            assert text == bytes(ids).decode("utf-8", "replace")
            assert text.encode("utf-8")

    @pytest.mark.parametrize(("prompt", "read"), [("caf\u00e9", "caf\u00e9".encode()), (None, b"\n")])
    def test_a_prompt_is_read_as_utf8(self, prompt: str | None, read: bytes) -> None:
        model, config = make_model(256), SamplingConfig(temperature=0, length=30)
        (ids,) = step_by_step(model, list(read), 30, likeliest)
        (found,) = texts(generate(model, self.BYTES, config, prompt=prompt))
        assert self.BYTES.decode(ids) == found

    @pytest.mark.parametrize("num", [1, 2])
    def test_a_character_that_is_cut_off_at_the_end_shows(self, num: int, monkeypatch: pytest.MonkeyPatch) -> None:
        script = iter(b"ab\xe2\x82")
        replace_choose(monkeypatch, lambda *_: np.array([next(script)] * num))
        pieces = list(generate(make_model(256), self.BYTES, SamplingConfig(length=4), num=num))
        assert pieces == [[piece] * num for piece in ("a", "b", "", "\ufffd")]
