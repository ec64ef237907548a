"""Training in float16: for GPUs, tried on a CPU, where torch's own LSTM can do it and oneDNN's cannot."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config, ModelConfig
from charrnn.errors import DivergedError, UsageError
from charrnn.model.charrnn import CharRNN, cross_entropy
from charrnn.studies.doctor.probes.numerics import replay
from charrnn.studies.doctor.questions import QUESTIONS
from charrnn.text.places import Places
from charrnn.training import precision
from charrnn.training.loop import Loop
from charrnn.training.precision import LARGEST_SCALE, Precision, choose_precision, precision_to_evaluate_in
from tests.conftest import make_config
from tests.helpers import Silent, begin
from tests.replaying import FakeGraphs
from tests.test_captured import SETTINGS, assert_same, plain_trainer, steps
from tests.test_trainer import PLAIN, make_trainer

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP16, FP32 = (Precision(kind, "a test", "cpu") for kind in ("fp16", "fp32"))


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing keeps a CPU from computing in float16."""
    monkeypatch.setattr(precision, "_why_not", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's flags speak of Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_each_device_has_its_own_kind(cell: str) -> None:
    model = ModelConfig.model_validate({"cell": cell})
    assert choose_precision("fp16", model, GPU).kind == "fp16"
    assert precision_to_evaluate_in("fp16", model, GPU).kind == "fp16"
    assert precision_to_evaluate_in("fp16", model, CPU).kind == "fp32"
    with pytest.raises(UsageError, match=r"training.precision fp16: float16 is fast on GPUs only; .*precision=fp32"):
        choose_precision("fp16", model, CPU)


def test_the_doctor_asks_about_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, kind in ((CPU, "bf16"), (GPU, "fp16")):
        monkeypatch.setattr("charrnn.studies.doctor.questions.choose_device", lambda _, device=device: device)
        variants = QUESTIONS["precision"].variants(make_config("unused"))
        assert [(one.label, one.config.training.precision) for one in variants] == [("fp32", "fp32"), (kind, kind)]


def gradient(model: CharRNN, how: Precision, window: tuple[Tensor, Tensor], targets: int | None = None) -> Tensor:
    """All of it, in float64."""
    twin, (x, y) = copy.deepcopy(model), window
    with how.autocast():
        logits, _ = twin(x, twin.zero_hidden(len(x)))
    how.backward(cross_entropy(logits, y), y.numel() if targets is None else targets, twin.parameters())
    return torch.cat([p.grad.double().flatten() for p in twin.parameters() if p.grad is not None])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.usefixtures("on_cpu")
def test_the_gradient_of_a_sum_loses_nothing(cell: str) -> None:
    """That of the mean, 3,072 times smaller, does: this is what the scale is for."""
    torch.manual_seed(1)
    model = CharRNN(65, ModelConfig.model_validate({"cell": cell, "hidden_size": 64}))
    window = torch.randint(65, (64, 48)), torch.randint(65, (64, 48))
    exact = gradient(model, FP32, window)

    def error(targets: int) -> float:
        return float((gradient(model, FP16, window, targets) - exact).norm() / exact.norm())

    assert error(64 * 48) < 1.5e-3
    assert error(1) > 1.5 * error(64 * 48)


@pytest.mark.parametrize(("targets", "scale"), [(1, 1), (2, 2), (3, 2), (3072, 2048), (10**6, LARGEST_SCALE)])
def test_the_scale(targets: int, scale: float) -> None:
    """A power of two, at most the number of targets; the gradient comes back divided by it."""
    weight = torch.nn.Parameter(torch.tensor([0.1, 3.0]))
    never_used = torch.nn.Parameter(torch.ones(1))
    seen: list[float] = []
    weight.register_hook(lambda found: seen.append((found / weight.detach()).mean().item()))
    FP16.backward(weight.square().sum() / 2, targets, [weight, never_used])
    assert seen == [pytest.approx(scale)]
    assert torch.equal(weight.grad, weight.detach())  # type: ignore[arg-type]
    assert never_used.grad is None


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.usefixtures("on_cpu")
def test_it_trains_to_nearly_the_same_loss(optimizer: str) -> None:
    losses = {}
    for kind in ("fp32", "fp16"):
        trainer = make_trainer(*PLAIN, f"training.precision={kind}", f"training.optimizer={optimizer}")
        assert trainer.precision.kind == kind
        losses[kind] = torch.stack([trainer.step(0.01).loss for _ in range(40)])
        assert {one.dtype for one in (*trainer.model.parameters(), *trainer.hidden)} == {torch.float32}
    assert not torch.equal(losses["fp16"], losses["fp32"])
    assert losses["fp16"].tolist() == pytest.approx(losses["fp32"].tolist(), abs=0.01)


@pytest.mark.usefixtures("on_cpu")
def test_a_gradient_beyond_float16_changes_nothing() -> None:
    trainer = make_trainer(*PLAIN, "training.precision=fp16")
    trainer.step(0.01)
    with torch.no_grad():
        trainer.model.decoder.weight.mul_(1e6)  # finite, and so is the loss
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    stats = trainer.step(0.01)
    assert not torch.isfinite(stats.grad_norm)
    assert all(torch.equal(one, other) for one, other in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["fp16", "fp32"])
@pytest.mark.usefixtures("on_cpu")
def test_a_training_that_stops_there_is_told_of_float32(kind: str, small_config: Config, places: Places) -> None:
    session = begin(revise_config(small_config, [f"training.precision={kind}", "run.log_every=1"]), places)
    with torch.no_grad():
        session.trainer.model.decoder.weight.mul_(1e6 if kind == "fp16" else torch.inf)
    with pytest.raises(DivergedError) as stopped:
        Loop(session, Silent(), lambda: False).run()
    assert str(stopped.value).endswith(", or --set training.precision=fp32") == (kind == "fp16")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.usefixtures("on_cpu")
def test_replayed_steps_equal_plain_ones(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = FakeGraphs()
    monkeypatch.setattr("charrnn.training.trainer.graphs_of", lambda _: graphs)
    what = (f"model.cell={cell}", "training.precision=fp16")
    plain = plain_trainer(*what)
    expected = steps(plain)
    replayed = make_trainer(*SETTINGS, *what)
    assert steps(replayed) == expected
    assert_same(replayed, plain)
    assert graphs.replayed > 40
    assert replayed.obstacle is None


@pytest.mark.usefixtures("on_cpu")
def test_the_doctor_finds_its_arithmetic_good_enough() -> None:
    trainer: Any = make_trainer(*PLAIN, "training.precision=fp16")
    x, y = trainer.streams.next(trainer.generator)
    found = replay(trainer.model, trainer.precision, x, y, trainer.hidden)
    assert 0 < found.gradient < 3e-3
