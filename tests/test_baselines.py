"""Entropies of sources whose entropy is known, and of any text by plain counting. All in nats per character."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charrnn.config.schema import CorpusConfig
from charrnn.text.baselines import SAMPLE_BLOCKS, baselines, conditional_entropy
from charrnn.text.corpus import find_corpus
from charrnn.text.encoded import Ids, encode_corpus
from charrnn.text.places import Places
from tests.conftest import TEXT

repeatable = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.lists(st.integers(0, 3), max_size=60)
ORDERS = ("unigram", "bigram", "trigram")


def as_ids(symbols: list[int] | np.ndarray) -> Ids:
    return np.asarray(symbols, dtype=np.uint8)


def counted_entropy(symbols: list[int], order: int) -> float:
    """- sum over n-grams of p(n-gram) ln p(last | those before), by dictionaries."""
    grams = Counter(tuple(symbols[i : i + order]) for i in range(len(symbols) - order + 1))
    contexts: Counter[tuple[int, ...]] = Counter()
    for gram, n in grams.items():
        contexts[gram[:-1]] += n
    return -sum(n / grams.total() * math.log(n / contexts[gram[:-1]]) for gram, n in grams.items())


def markov_chain(transitions: np.ndarray, length: int, seed: int = 1) -> Ids:
    """A text whose next symbol depends on the last one, by ``transitions``, (V, V)."""
    cumulative = transitions.cumsum(axis=1)
    symbols = [0]
    for draw in np.random.default_rng(seed).random(length - 1).tolist():
        symbols.append(int(np.searchsorted(cumulative[symbols[-1]], draw, side="right")))
    return as_ids(symbols)


def stationary(transitions: np.ndarray) -> np.ndarray:
    """How often the chain is in each state in the long run, (V,)."""
    return np.asarray(np.linalg.matrix_power(transitions, 200)[0])


TRANSITIONS = np.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.05, 0.9, 0.05]])


@repeatable
@given(texts, st.integers(1, 4))
def test_any_text_by_plain_counting(symbols: list[int], order: int) -> None:
    entropy = conditional_entropy(as_ids(symbols), 4, order)
    assert entropy == pytest.approx(counted_entropy(symbols, order), abs=1e-12)
    assert entropy > -1e-12


@repeatable
@given(st.text(min_size=1))
def test_a_text_of_many_characters(text: str) -> None:
    characters = sorted(set(text))
    symbols = [characters.index(c) for c in text]
    found = baselines(np.asarray(symbols, dtype=np.uint16), len(characters))
    expected = [counted_entropy(symbols, order) for order in (1, 2, 3)]
    assert [found[name] for name in ORDERS] == pytest.approx(expected, abs=1e-12)
    assert found["uniform"] == math.log(len(characters))


@repeatable
@given(texts, st.integers(1, 3))
def test_a_longer_context_never_hurts(symbols: list[int], order: int) -> None:
    """Over the same targets (the shorter context has one more at the start, which is left out here)."""
    ids = as_ids(symbols)
    assert conditional_entropy(ids, 4, order + 1) <= conditional_entropy(ids[1:], 4, order) + 1e-12


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_a_large_vocabulary_does_not_overflow(dtype: type[np.unsignedinteger]) -> None:
    """Ids near the top of their type, and of a vocabulary of every code point there is."""
    top = min(np.iinfo(dtype).max, 0x10FFFF)
    symbols = [int(top) - i for i in np.random.default_rng(1).integers(0, 3, 200).tolist()]
    found = baselines(np.asarray(symbols, dtype=dtype), int(top) + 1)
    assert [found[name] for name in ORDERS] == pytest.approx([counted_entropy(symbols, n) for n in (1, 2, 3)])


def test_counting() -> None:
    """1 2 3 1 2 3: a space after every digit; after a space one of three; after a digit and a space no doubt."""
    corpus = CorpusConfig(source="counting")
    text = encode_corpus(find_corpus(corpus, Places.from_environment()), corpus, Places.from_environment())
    found = baselines(text.ids, len(text.vocabulary))
    unigram = 0.5 * math.log(2) + 0.5 * math.log(6)
    by_hand = {"uniform": math.log(4), "unigram": unigram, "bigram": 0.5 * math.log(3), "trigram": 0.0}
    assert found == pytest.approx(by_hand, abs=1e-4)
    assert abs(found["trigram"]) < 1e-12


def test_more_context_tells_more_about_a_real_text() -> None:
    ids = as_ids(np.frombuffer(TEXT.encode(), dtype=np.uint8))
    uniform, unigram, bigram, trigram = baselines(ids, 128).values()
    assert uniform > unigram > bigram > trigram > 0


def test_two_letters_by_hand() -> None:
    found = baselines(as_ids([0, 0, 1, 1]), 2)
    assert found["unigram"] == pytest.approx(math.log(2))
    assert found["bigram"] == pytest.approx(2 / 3 * math.log(2))  # 00, 01, 11: open after 0, certain after 1
    assert found["trigram"] == 0


@pytest.mark.parametrize("length", [1, 2])
def test_texts_shorter_than_the_context(length: int) -> None:
    found = baselines(as_ids([0, 1][:length]), 2)
    assert found == pytest.approx(
        {"uniform": math.log(2), "unigram": math.log(length), "bigram": 0.0, "trigram": 0.0}, abs=1e-12
    )


def test_uniform_noise_is_not_predictable() -> None:
    found = baselines(as_ids(np.random.default_rng(1).integers(0, 8, 200_000)), 8)
    assert list(found.values()) == pytest.approx([math.log(8)] * 4, abs=3e-3)


def test_a_chain_has_its_entropy_rate() -> None:
    found = baselines(markov_chain(TRANSITIONS, 100_000), 3)
    share = stationary(TRANSITIONS)
    rate = float(-(share[:, None] * TRANSITIONS * np.log(TRANSITIONS)).sum())
    assert found["unigram"] == pytest.approx(float(-(share * np.log(share)).sum()), abs=0.01)
    assert found["bigram"] == pytest.approx(rate, abs=0.01)
    assert found["trigram"] == pytest.approx(rate, abs=0.01)
    assert found["unigram"] > rate + 0.1


class TestLongTexts:
    """Only blocks of a long text are counted."""

    @pytest.fixture(autouse=True)
    def short_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("charrnn.text.baselines.SAMPLE_CHARACTERS", 1 << 14)

    def exact(self, ids: Ids) -> list[float]:
        return [counted_entropy(ids.tolist(), order) for order in (1, 2, 3)]

    def test_close_to_the_exact_value(self) -> None:
        ids = markov_chain(TRANSITIONS, 100_000)
        found = baselines(ids, 3)
        assert [found[name] for name in ORDERS] == pytest.approx(self.exact(ids), abs=0.02)
        assert [found[name] for name in ORDERS] != self.exact(ids)

    def test_every_part_of_the_text_has_its_share(self) -> None:
        noise = np.random.default_rng(1).integers(1, 5, 40_000)
        ids = as_ids(np.concatenate([np.zeros(40_000), noise, np.full(40_000, 5)]))
        found = baselines(ids, 6)
        assert [found[name] for name in ORDERS] == pytest.approx(self.exact(ids), abs=0.06)

    @pytest.mark.parametrize("more", [0, 1, SAMPLE_BLOCKS])
    def test_about_as_long_as_the_sample(self, more: int) -> None:
        ids = markov_chain(TRANSITIONS, (1 << 14) + more)
        found = baselines(ids, 3)
        assert [found[name] for name in ORDERS] == pytest.approx(self.exact(ids), abs=0.01 if more else 1e-12)
