"""Dropout from raw bits: the shares, the mean and the independence that ``nn.Dropout`` promises."""

from __future__ import annotations

import math

import pytest
import torch

from charrnn.model.dropout import Dropout

SIZE = 1_000_003  # no multiple of anything


def dropped(p: float, seed: int = 1, dtype: torch.dtype = torch.float32, size: int = SIZE) -> torch.Tensor:
    torch.manual_seed(seed)
    out: torch.Tensor = Dropout(p)(torch.ones(size, dtype=dtype))
    return out


@pytest.mark.parametrize("p", [1e-4, 0.05, 0.25, 0.5, 0.9, 0.9999])
def test_share_scale_and_mean(p: float) -> None:
    """Five standard deviations of a binomial count."""
    out = dropped(p)
    zeros = int((out == 0).sum())
    assert abs(zeros - p * SIZE) < 5 * math.sqrt(SIZE * p * (1 - p)) + SIZE / 2**16
    kept = out[out != 0].unique()
    assert kept.tolist() == pytest.approx([1 / (1 - p)], rel=0.2 if p > 0.99 else 1e-3)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 16, 384])
def test_neighbours_know_nothing_of_each_other(lag: int) -> None:
    """Also those that come out of one number of the generator, four at a time, and each of its quarters alone."""
    zero = (dropped(0.5) == 0).float()
    both = float((zero[lag:] * zero[:-lag]).mean())
    assert both == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / SIZE))
    for quarter in range(4):
        assert float(zero[quarter::4].mean()) == pytest.approx(0.5, abs=5 * math.sqrt(0.25 * 4 / SIZE))


def test_the_gradient_goes_where_the_numbers_went() -> None:
    torch.manual_seed(3)
    x = torch.randn(7, 5, 11, requires_grad=True)
    out = Dropout(0.4)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(out, x * x.grad)
    assert x.grad.unique().tolist() == pytest.approx([0.0, 1 / 0.6], rel=1e-4)


def test_it_keeps_shape_and_type_and_torch_s_generator_decides() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert dropped(0.3, dtype=dtype, size=10).dtype == dtype
    assert torch.equal(dropped(0.3, seed=4), dropped(0.3, seed=4))
    assert not torch.equal(dropped(0.3, seed=4), dropped(0.3, seed=5))


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    x = torch.ones(8)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_probability_that_rounds_to_one_gives_numbers() -> None:
    assert torch.isfinite(dropped(1 - 1e-9)).all()
