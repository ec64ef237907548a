"""Bees trained in a stack against the same bees trained alone: ``Trainer`` is the oracle of everything here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charrnn.config.schema import Config
from charrnn.model.charrnn import CharRNN
from charrnn.model.stacked import StackedCharRNN
from charrnn.training.optimizers import make_optimizer, set_lr, skip_step_if
from charrnn.training.stacked import StackedStats, StackedTrainer, stack_key, why_not_stacked
from charrnn.training.stacked_optimizers import StackedOptimizer
from charrnn.training.trainer import StepStats, Trainer
from tests.conftest import make_config
from tests.helpers import differences

VOCAB = 7
PLAIN = ("model.dropout=0", "training.random_seq_len=false", "training.precision=fp32")
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
OPTIMIZERS = ["adam", "adamw", "sgd"]
SHAPES = {
    "one-hot": ("model.num_layers=1", "model.embedding_size=0"),
    "embedding": ("model.num_layers=1",),
    "two layers": (),
    "tied": ("model.embedding_size=8", "model.tie_weights=true"),
    "skipping": ("model.num_layers=3", "model.skip_connections=true"),
}
# Each bee unlike the others in all that may differ. Streams of 74 characters: windows of 10, the last of 4.
BEES = [
    ("seed=1", "lr=0.01", "grad_clip=null", "weight_decay=0", "momentum=0.9", "state_reset=0", "betas=[0.9, 0.99]"),
    ("seed=2", "lr=0.003", "grad_clip=0.2", "weight_decay=0.01", "momentum=0", "state_reset=0.3", "betas=[0.8, 0.9]"),
    ("seed=3", "lr=0.02", "grad_clip=0.5", "weight_decay=0.1", "momentum=0.5", "state_reset=0.1", "betas=[0, 0.999]"),
]
STEPS = 34  # four passes and a half
# A product in another order rounds otherwise: a few units in the last place of a loss. Adam divides a gradient by its
# own size, so that the rounding of a gradient near zero moves a weight as a large one does: hence the looser bound on
# what training leaves behind, relative to the largest number of a tensor.
SAME_LOSS = 5e-6
SAME_TENSOR = 2e-4


def bees(*assignments: str) -> list[Config]:
    """Configs of one stack."""
    forget = ("model.forget_bias=1", "model.forget_bias=0.5", "model.recurrent_init=uniform")
    return [
        make_config("unused", *PLAIN, *assignments, start, *(f"training.{setting}" for setting in settings))
        for settings, start in zip(BEES, forget, strict=True)
    ]


def text(length: int = 300) -> Any:
    return np.random.default_rng(0).integers(0, VOCAB, length).astype(np.uint8)


def stack_of(configs: Sequence[Config]) -> StackedTrainer:
    return StackedTrainer(text(), VOCAB, [(config.model, config.training) for config in configs])


def solo(config: Config) -> Trainer:
    return Trainer(text(), VOCAB, config.model, config.training)


def rates(configs: Sequence[Config], step: int) -> list[float]:
    return [config.training.lr / (1 + step / 10) for config in configs]


def assert_same_step(stacked: StackedStats, alone: Sequence[StepStats], tolerance: float = SAME_LOSS) -> None:
    torch.testing.assert_close(stacked.loss, torch.stack([one.loss for one in alone]), rtol=tolerance, atol=0)
    torch.testing.assert_close(stacked.grad_norm, torch.stack([one.grad_norm for one in alone]), rtol=1e-5, atol=0)
    assert {stacked.characters} == {one.characters for one in alone}


def assert_same_state(left: Any, right: Any, where: str = "") -> None:
    """Two nested states: numbers within rounding, everything else equal."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same_state(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, Tensor) and left.is_floating_point():
        assert left.shape == right.shape
        assert left.dtype == right.dtype
        bound = SAME_TENSOR * float(right.abs().max())
        assert float((left - right).abs().max()) <= bound, where
    else:
        assert not differences(left, right), where


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cell", CELLS)
def test_each_bee_trains_as_it_would_alone(cell: str, optimizer: str) -> None:
    configs = bees(f"model.cell={cell}", f"training.optimizer={optimizer}")
    stack, solos = stack_of(configs), [solo(config) for config in configs]
    lengths = set()
    for step in range(STEPS):
        stats = stack.step(rates(configs, step))
        assert_same_step(stats, [one.step(lr) for one, lr in zip(solos, rates(configs, step), strict=True)])
        lengths.add(stats.characters)
    assert lengths == {40, 16}, "the short window at the end of the streams is among them"
    assert stack.steps == STEPS
    for bee, one in enumerate(solos):
        assert_same_state({**stack.state_of(bee), "generators": 0}, {**one.state_dict(), "generators": 0})
        assert torch.equal(stack.state_of(bee)["generators"]["windows"], one.generator.get_state())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_logits_states_and_gradients_are_those_of_each_network(cell: str, shape: str) -> None:
    """In float64, where rounding hides nothing."""
    configs = bees(f"model.cell={cell}", *SHAPES[shape])
    models = [solo(config).model.double() for config in configs]
    stack = StackedCharRNN(models)
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, VOCAB, (4, 9), generator=generator)
    hidden = tuple(torch.randn(one.shape, generator=generator).double() for one in stack.zero_hidden(4))
    logits, after = stack.forward(x, hidden)
    weights = torch.randn(logits.shape, generator=generator).double()
    (gradient,) = torch.autograd.grad((logits * weights).sum(), stack.weights)
    for bee, model in enumerate(models):
        own, state = model(x, tuple(tensor[bee] for tensor in hidden))
        time_first = own.transpose(0, 1).flatten(0, 1)
        torch.testing.assert_close(logits[bee], time_first, rtol=1e-10, atol=1e-12)
        (time_first * weights[bee]).sum().backward()
        for name, of_all in stack.named(gradient).items():
            expected = model.get_parameter(name).grad
            torch.testing.assert_close(of_all[bee], expected, rtol=1e-9, atol=1e-11)
        for stacked, alone in zip(after, state, strict=True):
            assert not stacked.requires_grad
            # CharRNN hands its state back in float32
            torch.testing.assert_close(stacked[bee].float(), alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_is_torchs_own_for_each_row(optimizer: str) -> None:
    """From gradients too small to outweigh an epsilon to infinite ones, which change nothing: not even the count."""
    configs = [config.training for config in bees(f"training.optimizer={optimizer}")]
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(3, 50, generator=generator)
    weights = start.clone()
    stacked = StackedOptimizer(weights, configs)
    rows = [nn.Parameter(row.clone()) for row in start]
    plain = [make_optimizer([row], config) for row, config in zip(rows, configs, strict=True)]
    for step in range(12):
        gradient = torch.randn(3, 50, generator=generator) * 10.0 ** (step % 6 - 5)
        if step in (4, 7) or (step == 0 and optimizer != "sgd"):  # torch's SGD then keeps whatever was in memory
            gradient[1, 3:5] = torch.tensor([math.nan, math.inf])
        if step == 5:
            gradient[2, 0] = -math.inf
        lrs = [0.1 / (bee + 1) for bee in range(3)]
        norms = stacked.step(gradient.clone(), torch.tensor(lrs, dtype=torch.float64))
        for bee, (row, one, config) in enumerate(zip(rows, plain, configs, strict=True)):
            row.grad = gradient[bee].clone()
            norm = nn.utils.clip_grad_norm_([row], config.grad_clip or math.inf)
            set_lr(one, lrs[bee])
            skip_step_if(one, ~torch.isfinite(norm))
            one.step()
            torch.testing.assert_close(norms[bee], norm, equal_nan=True)
            torch.testing.assert_close(weights[bee], row.detach(), rtol=1e-6, atol=1e-7)
            for name, kept in one.state[row].items():
                torch.testing.assert_close(stacked.kept[name][bee], kept, rtol=1e-6, atol=1e-6 * float(kept.max()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_that_is_not_finite_changes_nothing_of_that_bee(optimizer: str) -> None:
    """And at the next pass, with a state of zeros, it goes on as it would alone."""
    configs = bees(f"training.optimizer={optimizer}", "model.cell=gru")
    stack, solos = stack_of(configs), [solo(config) for config in configs]
    for step in range(12):
        if step == 4:
            stack.hidden[0][1] = math.nan
            solos[1].hidden = tuple(tensor * math.nan for tensor in solos[1].hidden)
            before = stack.model.weights[1].clone()
        stats = stack.step(rates(configs, step))
        alone = [one.step(lr) for one, lr in zip(solos, rates(configs, step), strict=True)]
        if 4 <= step < 8:
            assert stack.is_finite().tolist() == [True, False, True]
            assert torch.isnan(stats.loss).tolist() == [False, True, False]
            assert torch.equal(stack.model.weights[1], before)
        else:
            assert_same_step(stats, alone)
    for bee, one in enumerate(solos):
        assert_same_state(stack.state_of(bee)["optimizer"], one.state_dict()["optimizer"])
        assert stack.is_finite()[bee]


@pytest.mark.parametrize("cell", CELLS)
def test_a_bee_that_diverges_leaves_the_others_exactly_as_they_were(cell: str) -> None:
    configs = bees(f"model.cell={cell}", "training.optimizer=sgd")
    runs = []
    for wild in (0.01, 1e38):
        stack = stack_of(configs)
        losses = torch.stack([stack.step([wild, 0.01, 0.02]).loss for _ in range(20)])
        runs.append((losses, stack))
    (tame_losses, tame), (losses, stack) = runs
    assert not torch.isfinite(losses[:, 0]).all()
    assert torch.isfinite(losses[:, 1:]).all()
    assert torch.equal(losses[:, 1:], tame_losses[:, 1:])
    assert torch.equal(stack.model.weights[1:], tame.model.weights[1:])
    assert stack.is_finite()[1:].all()
    assert tame.is_finite().all()
    for bee in (1, 2):
        assert not differences(stack.state_of(bee), tame.state_of(bee))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_of_a_bee_is_that_of_an_ordinary_trainer(optimizer: str) -> None:
    """At the start bit for bit; later it goes on in a ``Trainer`` as the bee alone does."""
    configs = bees(f"training.optimizer={optimizer}")
    solos = [solo(config) for config in configs]
    starts = [solo(config).state_dict() for config in configs]
    stack = stack_of(configs)
    assert [differences(stack.state_of(bee), start) for bee, start in enumerate(starts)] == [[], [], []]
    for step in range(11):
        stack.step(rates(configs, step))
        for one, lr in zip(solos, rates(configs, step), strict=True):
            one.step(lr)
    states = [stack.state_of(bee) for bee in range(3)]
    stack.step(rates(configs, 11))  # the states given out are not the ones that go on
    for config, one, state, start in zip(configs, solos, states, starts, strict=True):
        expected = one.state_dict()
        assert torch.equal(state["generators"]["cpu"], start["generators"]["cpu"])
        expected["generators"]["cpu"] = state["generators"]["cpu"]  # the oracles share the global generator
        assert_same_state(state, expected)
        resumed = solo(config)
        resumed.load_state_dict(state)
        assert torch.equal(torch.get_rng_state(), start["generators"]["cpu"])
        for step in range(12):
            assert resumed.step(0.01).loss.item() == pytest.approx(one.step(0.01).loss.item(), rel=1e-5), step
        assert_same_state(resumed.state_dict()["model"], one.state_dict()["model"])


def test_the_model_of_a_bee_is_the_callers_own() -> None:
    configs = bees()
    stack = stack_of(configs)
    assert not differences(dict(stack.model_of(2).state_dict()), dict(solo(configs[2]).model.state_dict()))
    stack.step([0.01] * 3)
    model = stack.model_of(2)
    assert isinstance(model, CharRNN)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stack.step([0.01] * 3)
    changed = stack.model_of(2).state_dict()
    assert not differences(dict(model.state_dict()), kept)
    assert not any(torch.equal(kept[name], changed[name]) for name in kept)


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("model.dropout={between: 0.1}", "dropout"),
        ("model.dropout={input: 0.1}", "dropout"),
        ("model.dropout={output: 0.1}", "dropout"),
        ("training.random_seq_len=true", "random_seq_len"),
        ("training.max_time=60s", "max_time"),
        ("training.patience=3", "patience"),
        ("training.on_divergence=rollback", "rollback"),
        ("training.precision=bf16", "bf16"),
    ],
)
def test_what_cannot_be_stacked_is_told_why(assignment: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charrnn.training.precision.has_bf16_lstm", lambda: True)
    assert why_not_stacked(make_config("unused", *PLAIN)) is None
    assert reason in (why_not_stacked(make_config("unused", *PLAIN, assignment)) or "")


def test_auto_precision_is_judged_by_what_it_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config("unused", *PLAIN, "training.precision=auto", "training.device=cpu")
    for extension in ("AMX", None):
        monkeypatch.setattr("charrnn.training.precision.bf16_extension", lambda extension=extension: extension)
        assert ("bf16" in (why_not_stacked(config) or "")) is (extension is not None)


def test_bees_stack_whatever_their_rates_and_seeds() -> None:
    same = {stack_key(config) for config in bees()}
    schedule = ("schedule=triangular2", "cycles=2", "warmup_steps=5", "min_lr=1e-5", "step_drops=1", "step_gamma=0.5")
    same.add(stack_key(make_config("unused", *PLAIN, *(f"training.{setting}" for setting in schedule))))
    same.add(stack_key(make_config("unused", *PLAIN, "run.name=bee-7", "run.out=swarm")))
    assert len(same) == 1


@pytest.mark.parametrize(
    "assignment",
    [
        *("model.cell=gru", "model.num_layers=1", "model.hidden_size=9", "model.embedding_size=5"),
        *("model.skip_connections=true", "training.batch_size=5", "training.seq_len=11", "training.optimizer=sgd"),
        *("training.max_steps=41", "training.epochs=2", "training.device=cpu", "training.threads=1"),
        *("corpus.split=[0.8, 0.2]", "corpus.source=other", "run.log_every=8", "run.eval_every=21"),
    ],
)
def test_bees_of_other_shapes_or_windows_do_not_stack(assignment: str) -> None:
    assert stack_key(make_config("unused", *PLAIN)) != stack_key(make_config("unused", *PLAIN, assignment))
