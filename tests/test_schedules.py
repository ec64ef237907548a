"""Schedules against torch's own, and their ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from charrnn.config.schema import TrainingConfig
from charrnn.training.schedules import SHAPES, learning_rate

STEPS = 240
LR = 3e-3


def rates_of_torch(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(schedule: str, steps: int, last: int, **settings: object) -> list[float]:
    """Rates at ``steps`` points; ``last`` is the index at which progress is 1."""
    config = TrainingConfig.model_validate({"schedule": schedule, "lr": LR, "max_steps": steps, **settings})
    return [learning_rate(config, step, step / last) for step in range(steps)]


def test_constant() -> None:
    assert our_rates("constant", STEPS, STEPS) == rates_of_torch(lambda o: lr_scheduler.ConstantLR(o, 1.0), STEPS)


@pytest.mark.parametrize("min_lr", [0.0, 1e-4])
def test_linear(min_lr: float) -> None:
    oracle = rates_of_torch(lambda o: lr_scheduler.LinearLR(o, 1.0, min_lr / LR, total_iters=STEPS), STEPS)
    assert our_rates("linear", STEPS, STEPS, min_lr=min_lr) == pytest.approx(oracle, rel=1e-9)


@pytest.mark.parametrize("min_lr", [0.0, 1e-4])
def test_cosine(min_lr: float) -> None:
    oracle = rates_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=min_lr), STEPS)
    assert our_rates("cosine", STEPS, STEPS, min_lr=min_lr) == pytest.approx(oracle, rel=1e-6)


@pytest.mark.parametrize("drops", [1, 2, 5])
def test_step(drops: int) -> None:
    oracle = rates_of_torch(lambda o: lr_scheduler.StepLR(o, STEPS // (drops + 1), gamma=0.3), STEPS)
    assert our_rates("step", STEPS, STEPS, step_drops=drops, step_gamma=0.3) == pytest.approx(oracle, rel=1e-9)


def test_one_cycle() -> None:
    # Torch puts its peak at the step pct_start * total_steps - 1; ours is at 0.3 of the way to the last step.
    peak = (0.3 * (STEPS - 1) + 1) / STEPS
    oracle = rates_of_torch(
        lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=STEPS, pct_start=peak, cycle_momentum=False), STEPS - 1
    )
    assert our_rates("one_cycle", STEPS, STEPS - 1)[:-1] == pytest.approx(oracle, rel=1e-6)


@pytest.mark.parametrize(("cycles", "min_lr"), [(1, 0.0), (3, 1e-4)])
def test_triangular2(cycles: int, min_lr: float) -> None:
    half = STEPS // (2 * cycles)
    oracle = rates_of_torch(
        lambda o: lr_scheduler.CyclicLR(o, min_lr, LR, step_size_up=half, mode="triangular2", cycle_momentum=False),
        STEPS,
    )
    ours = our_rates("triangular2", STEPS, STEPS, cycles=cycles, min_lr=min_lr)
    assert ours == pytest.approx(oracle, rel=1e-6, abs=1e-12)


def test_no_drop_is_late_by_rounding() -> None:
    """1 / 49 * 49 is a little less than 1."""
    config = TrainingConfig(max_steps=49, lr=LR, schedule="step", step_drops=48)
    assert learning_rate(config, 1, 1 / 49) == pytest.approx(0.1 * LR)


@pytest.mark.parametrize("schedule", list(SHAPES))
def test_warm_up_multiplies_every_shape(schedule: str) -> None:
    plain = our_rates(schedule, STEPS, STEPS)
    warmed = our_rates(schedule, STEPS, STEPS, warmup_steps=20)
    assert warmed[:20] == pytest.approx([rate * (i + 1) / 20 for i, rate in enumerate(plain[:20])])
    assert warmed[20:] == plain[20:]


@given(st.sampled_from(list(SHAPES)), st.floats(-1, 2), st.integers(0, 10**6))
def test_rates_stay_between_zero_and_lr(schedule: str, progress: float, step: int) -> None:
    config = TrainingConfig.model_validate({"schedule": schedule, "lr": LR, "max_steps": 10, "warmup_steps": 7})
    assert 0 <= learning_rate(config, step, progress) <= LR * (1 + 1e-12)
