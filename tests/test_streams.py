"""The streams that training reads: every window is a piece of the text, in its place, none left out.

Shapes: N characters, B streams of L = (N - 1) // B characters, T window length.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from charrnn.errors import DataError
from charrnn.text.encoded import Ids, let_go
from charrnn.text.streams import Streams

repeatable = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
Window = tuple[np.ndarray, np.ndarray]


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    """N, B, T with text enough for at least one full window."""
    streams, window = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    need = streams * (window + 1)
    return need + draw(st.integers(0, 80)), streams, window


def numbered(length: int) -> Ids:
    """A text in which each id says where it stands."""
    return np.arange(length, dtype=np.uint16)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_pass(streams: Streams, generator: torch.Generator) -> list[Window]:
    """The windows of the pass that begins now."""
    assert streams.at_start
    windows = [as_arrays(streams, generator)]
    while not streams.at_start:
        windows.append(as_arrays(streams, generator))
        assert len(windows) <= streams.length
    return windows


def as_arrays(streams: Streams, generator: torch.Generator) -> Window:
    x, y = streams.next(generator)
    assert x.dtype == y.dtype == torch.int64
    return x.numpy(), y.numpy()


def assert_same(first: list[Window], second: list[Window]) -> None:
    for (x, y), (x_again, y_again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


@repeatable
@given(shapes(), st.booleans(), st.integers(0, 2**32))
def test_windows_joined_are_the_pieces_of_the_text(shape: tuple[int, int, int], vary: bool, seed: int) -> None:
    length, count, window = shape
    text = np.random.default_rng(seed).integers(0, 256, length).astype(np.uint8)
    windows = one_pass(Streams(text, count, window, vary), seeded(seed))
    stream = (length - 1) // count
    joined = np.concatenate([x for x, _ in windows], axis=1)
    shifted = np.concatenate([y for _, y in windows], axis=1)
    for b in range(count):
        assert joined[b].tolist() == text[b * stream : (b + 1) * stream].tolist()
        assert shifted[b].tolist() == text[b * stream + 1 : (b + 1) * stream + 1].tolist()


@repeatable
@given(shapes(), st.booleans(), st.integers(0, 2**32))
def test_every_target_of_a_pass_exactly_once(shape: tuple[int, int, int], vary: bool, seed: int) -> None:
    length, count, window = shape
    windows = one_pass(Streams(numbered(length), count, window, vary), seeded(seed))
    targets = sorted(int(y) for _, ys in windows for y in ys.flat)
    used = count * ((length - 1) // count)
    assert targets == list(range(1, used + 1))
    assert length - 1 - used < count  # what no stream has room for


@repeatable
@given(shapes())
def test_windows_are_full_but_for_the_last_of_a_pass(shape: tuple[int, int, int]) -> None:
    length, count, window = shape
    sizes = [x.shape[1] for x, _ in one_pass(Streams(numbered(length), count, window), seeded())]
    stream = (length - 1) // count
    assert sizes == [window] * (stream // window) + [stream % window] * (stream % window > 0)


@repeatable
@given(shapes(), st.floats(0.01, 4))
def test_windows_are_counted_beforehand(shape: tuple[int, int, int], epochs: float) -> None:
    length, count, window = shape
    streams, taken = Streams(numbered(length), count, window), 0
    while streams.epochs_done < epochs * (1 - 1e-9):
        streams.next(seeded())
        taken += 1
    assert streams.windows_in(epochs) == taken


def test_the_drawing_in_the_module() -> None:
    text = np.frombuffer(b"abcdefghijklm", dtype=np.uint8)
    (x, y), (x2, y2) = one_pass(Streams(text, 3, 2), seeded())
    assert [bytes(row.astype(np.uint8)) for row in (*x, *y)] == [b"ab", b"ef", b"ij", b"bc", b"fg", b"jk"]
    assert [bytes(row.astype(np.uint8)) for row in (*x2, *y2)] == [b"cd", b"gh", b"kl", b"de", b"hi", b"lm"]


@repeatable
@given(shapes())
def test_passes_repeat_and_are_counted(shape: tuple[int, int, int]) -> None:
    length, count, window = shape
    streams = Streams(numbered(length), count, window)
    first = one_pass(streams, seeded())
    for done in range(1, 4):
        assert streams.epochs_done == done
        assert_same(first, one_pass(streams, seeded()))
    assert streams.epochs_done == 4


def test_fractions_of_a_pass() -> None:
    streams = Streams(numbered(2 * 25 + 1), 2, 10)
    seen = []
    for _ in range(7):
        seen.append((streams.epochs_done, streams.at_start))
        streams.next(seeded())
    expected = [0.0, 0.4, 0.8, 1.0, 1.4, 1.8, 2.0]
    assert [done for done, _ in seen] == pytest.approx(expected)
    assert [start for _, start in seen] == [done == int(done) for done in expected]


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize(("length", "count", "window"), [(101, 2, 7), (100, 3, 9), (8, 4, 1)])
def test_resumed_anywhere_it_goes_on_the_same(length: int, count: int, window: int, vary: bool) -> None:
    text = numbered(length)
    streams, generator = Streams(text, count, window, vary), seeded()
    states, windows = [], []
    while streams.epoch < 3:
        states.append((streams.state_dict(), generator.get_state(), streams.at_start, streams.epochs_done))
        windows.append(as_arrays(streams, generator))
    for i, (cursor, random, at_start, epochs_done) in enumerate(states):
        resumed, generator = Streams(text, count, window, vary), seeded(99)
        resumed.load_state_dict(cursor)
        generator.set_state(random)
        assert (resumed.at_start, resumed.epochs_done) == (at_start, epochs_done)
        assert_same(windows[i:], [as_arrays(resumed, generator) for _ in windows[i:]])


def test_resumed_behind_the_end_of_a_shorter_text_a_pass_begins() -> None:
    streams = Streams(numbered(21), 2, 5)
    streams.load_state_dict({"position": 13, "epoch": 1})
    assert (streams.at_start, streams.epochs_done) == (True, 2.0)
    assert_same([as_arrays(streams, seeded())], [as_arrays(Streams(numbered(21), 2, 5), seeded())])


def test_looking_ahead_moves_nothing() -> None:
    streams = Streams(np.arange(100, dtype=np.uint8), 3, 10)
    generator = torch.Generator()
    streams.next(generator)
    ahead = streams.ahead(10)
    assert ahead.tolist() == [list(range(start, start + 11)) for start in (10, 43, 76)]
    x, y = streams.next(generator)
    assert torch.equal(torch.cat([x, y[:, -1:]], dim=1), ahead)
    assert streams.ahead(50).shape == (3, 14), "what is left of each, and one more"


def test_a_saved_state_does_not_move_with_the_cursor() -> None:
    streams = Streams(numbered(50), 2, 5)
    before = streams.state_dict()
    streams.next(seeded())
    assert before == {"position": 0, "epoch": 0}
    assert streams.state_dict() == {"position": 5, "epoch": 0}


@repeatable
@given(st.integers(2, 400), st.integers(1, 100), st.integers(1, 300))
def test_a_text_too_short_is_refused_with_sizes_that_work(length: int, count: int, window: int) -> None:
    need = count * (window + 1)
    if length >= need:
        assert one_pass(Streams(numbered(length), count, window), seeded())
        return
    with pytest.raises(DataError, match=rf"has {length:,} characters.* needs {need:,}") as caught:
        Streams(numbered(length), count, window)
    found = re.search(r"--set training\.batch_size=(\d+) --set training\.seq_len=(\d+)$", str(caught.value))
    assert found
    fewer, shorter = int(found[1]), int(found[2])
    assert (fewer <= count, shorter <= window) == (True, True)
    assert one_pass(Streams(numbered(length), fewer, shorter), seeded())


@pytest.mark.parametrize("length", [0, 1])
def test_no_sizes_are_advised_where_none_work(length: int) -> None:
    with pytest.raises(DataError) as caught:
        Streams(numbered(length), 4, 10)
    assert "training.batch_size=" not in str(caught.value)


def test_windows_leave_a_read_only_text_alone() -> None:
    text = numbered(100)
    text.flags.writeable = False
    streams = Streams(text, 2, 5)
    x, y = streams.next(seeded())
    x.zero_()
    y.zero_()
    assert text.tolist() == list(range(100))


class TestRandomLengths:
    """AWD-LSTM (https://arxiv.org/abs/1708.02182, section 5): N(s, 5), with s halved in 5 % of the windows."""

    def draw(self, window: int, count: int = 4000) -> list[int]:
        streams = Streams(numbered(60_000), 1, window, random_seq_len=True)
        generator = seeded(5)
        sizes: list[int] = []
        while len(sizes) < count:
            x, _ = streams.next(generator)
            if not streams.at_start:  # the last of a pass is cut off
                sizes.append(x.shape[1])
        return sizes

    @pytest.mark.parametrize("window", [70, 200])
    def test_mean(self, window: int) -> None:
        sizes = self.draw(window)
        # Rounding down takes away a half; the variance is that of the noise and of the halving.
        expected = window * (0.95 + 0.05 / 2) - 0.5
        deviation = math.sqrt(25 + 0.05 * 0.95 * (window / 2) ** 2)
        assert abs(np.mean(sizes) - expected) < 4 * deviation / math.sqrt(len(sizes))

    @pytest.mark.parametrize("window", [70, 200])
    def test_share_of_halved_lengths(self, window: int) -> None:
        sizes = self.draw(window)
        halved = sum(size < 0.75 * window for size in sizes) / len(sizes)
        assert abs(halved - 0.05) < 4 * math.sqrt(0.05 * 0.95 / len(sizes))

    def test_both_groups_vary_as_much(self) -> None:
        sizes = self.draw(200)
        long, short = ([s for s in sizes if (s > 150) == is_long] for is_long in (True, False))
        assert np.std(long) == pytest.approx(5, rel=0.05)
        assert np.std(short) == pytest.approx(5, rel=0.25)
        assert np.mean(short) == pytest.approx(99.5, abs=2)

    @pytest.mark.parametrize(("window", "shortest"), [(1, 1), (3, 3), (5, 5), (6, 5), (12, 5)])
    def test_never_below_the_minimum(self, window: int, shortest: int) -> None:
        sizes = self.draw(window)
        assert min(sizes) == shortest

    def test_the_seed_decides(self) -> None:
        first, second, other = (
            [x.shape[1] for x, _ in one_pass(Streams(numbered(2000), 1, 20, random_seq_len=True), seeded(seed))]
            for seed in (1, 1, 2)
        )
        assert first == second != other

    def test_fixed_lengths_draw_nothing(self) -> None:
        generator = seeded()
        before = generator.get_state()
        one_pass(Streams(numbered(100), 2, 5), generator)
        assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("value", [-1, 10**83, 2**63, 1.0, "1", None])
def test_a_saved_count_that_is_none(value: object) -> None:
    """A checkpoint with a right digest may hold any number."""
    streams = Streams(np.arange(100, dtype=np.uint8), 3, 10)
    for key in ("position", "epoch"):
        with pytest.raises((TypeError, ValueError)):
            streams.load_state_dict({"position": 0, "epoch": 0, key: value})


@pytest.mark.parametrize("ahead", [0, 6, 40, 10**6])
def test_a_mapped_text_is_touched_stream_after_stream_and_let_go(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is read ahead, windows are what they are; also after a jump."""
    numbered(300).tofile(tmp_path / "ids")
    mapped: Ids = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r")
    given_back: list[Ids] = []

    def notice(ids: Ids) -> None:
        given_back.append(ids)
        let_go(ids)

    monkeypatch.setattr("charrnn.text.streams.let_go", notice)
    monkeypatch.setattr("charrnn.text.streams.READ_AHEAD", ahead)
    sent: list[Tensor] = []

    def send(ids: Tensor) -> Tensor:
        sent.append(ids)
        return ids

    streams = Streams(mapped, 2, 7, send=send)
    rows = np.stack([numbered(300)[:150], numbered(300)[149:299]])  # 149 columns, and the last target
    position = 0
    for window in range(60):
        if window == 50:
            streams.load_state_dict({"position": 14, "epoch": 5})
            position = 14
        position %= 149
        end = min(position + 7, 149)
        x, y = streams.next(seeded())
        np.testing.assert_array_equal(x, rows[:, position:end])
        np.testing.assert_array_equal(y, rows[:, position + 1 : end + 1])
        position = end
    of_mapped = sum(ids is mapped for ids in given_back)
    per_pass = {0: 22, 6: 22, 40: 11, 10**6: 1}[ahead]  # copies: 22 windows of 8 columns; of 20; of all
    assert of_mapped == 2 * len(sent)  # both rows, each time
    assert of_mapped >= 2 * per_pass
    assert of_mapped <= 2 * 4 * per_pass  # 60 windows are three passes, and a jump
