"""The one step against plain PyTorch, and the promises it makes: one optimizer, carried state, true norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from charrnn.config.schema import Config, ModelConfig
from charrnn.errors import UsageError
from charrnn.model.hidden import Hidden
from charrnn.model.reference import reference_forward
from charrnn.text.places import Places
from charrnn.training.memory import parameter_bytes
from charrnn.training.meter import Meter
from charrnn.training.optimizers import load_optimizer_state, optimizer_state
from charrnn.training.precision import choose_device, choose_precision, has_bf16_lstm, precision_to_evaluate_in
from charrnn.training.session import new_session
from charrnn.training.trainer import StepStats, Trainer
from tests.conftest import make_config
from tests.helpers import differences, needs_bf16_lstm

PLAIN = ("model.dropout=0", "training.random_seq_len=false", "training.state_reset=0")


def make_trainer(*assignments: str, length: int = 1000) -> Trainer:
    config = make_config("unused", *assignments)
    ids = np.random.default_rng(0).integers(0, 7, length).astype(np.uint8)
    return Trainer(ids, 7, config.model, config.training)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_steps_equal_plain_pytorch(optimizer: str) -> None:
    """Twelve steps against the reference cell, torch's unfused optimizer and clipping written out."""
    settings = ("training.grad_clip=0.3", "training.weight_decay=0.01", f"training.optimizer={optimizer}")
    trainer, twin = (make_trainer(*PLAIN, *settings) for _ in range(2))
    parameters = list(twin.model.parameters())
    plain: torch.optim.Optimizer
    if optimizer == "sgd":
        plain = torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.01, lr=1.0, fused=False)
    else:
        kind = torch.optim.Adam if optimizer == "adam" else torch.optim.AdamW
        plain = kind(parameters, betas=(0.9, 0.99), weight_decay=0.01, lr=1.0, fused=False)
    hidden = twin.model.zero_hidden(4)
    for step in range(12):
        lr = 0.01 / (step + 1)
        stats = trainer.step(lr)
        x, y = twin.streams.next(twin.generator)
        logits, hidden = reference_forward(twin.model, x, tuple(tensor.detach() for tensor in hidden))
        loss = -torch.log_softmax(logits, -1).gather(-1, y[..., None]).mean()
        plain.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.sqrt(torch.stack([gradient.square().sum() for gradient in gradients]).sum())
        for gradient in gradients:
            gradient.mul_(min(1.0, 0.3 / norm.item()))
        plain.param_groups[0]["lr"] = lr
        plain.step()
        assert stats.loss.item() == pytest.approx(loss.item(), rel=1e-4)
        assert stats.grad_norm.item() == pytest.approx(norm.item(), rel=1e-3), "the norm before clipping is reported"
    for ours, reference in zip(trainer.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, reference, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_memory_is_foretold(optimizer: str, momentum: float) -> None:
    """Weights, gradients and what the optimizer keeps, but for its counts of steps."""
    settings = (f"training.optimizer={optimizer}", f"training.momentum={momentum}")
    trainer = make_trainer(*settings)
    trainer.step(0.01)
    kept = [value for state in trainer.optimizer.state.values() for name, value in state.items() if name != "step"]
    tensors = [tensor for p in trainer.model.parameters() for tensor in (p, p.grad)] + kept
    there = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    assert parameter_bytes(7, make_config("unused", *settings)) == there


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
def test_an_optimizer_of_other_numbers_is_refused(name: str) -> None:
    """The fused kernels would read float64 as twice as many float32, without a word."""
    trainer, other = make_trainer(), make_trainer()
    trainer.step(0.01)
    state = optimizer_state(trainer.optimizer)
    load_optimizer_state(other.optimizer, state)
    state["state"]["1"][name] = state["state"]["1"][name].double()
    with pytest.raises(ValueError, match=f"{name} of parameter 1 has another shape or type"):
        load_optimizer_state(other.optimizer, state)


def test_there_is_one_optimizer_for_ever() -> None:
    trainer = make_trainer()
    optimizer = trainer.optimizer
    for _ in range(30):
        trainer.step(0.01)
    assert trainer.optimizer is optimizer
    counted = {int(state["step"]) for state in optimizer.state.values()}
    assert counted == {30}, "Adam's own step count shows that its state was never thrown away"
    trainer.load_state_dict(make_trainer().state_dict())
    assert trainer.optimizer is optimizer


def watch_hidden(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[Hidden]:
    """The states that the model is given from now on."""
    seen: list[Hidden] = []
    original = trainer.model.forward

    def forward(x: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        seen.append(hidden)
        return original(x, hidden)

    monkeypatch.setattr(trainer.model, "forward", forward)
    return seen


def test_state_is_carried_between_windows_and_zero_at_the_start_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(*PLAIN, "training.seq_len=100", length=1001)  # 250 characters a stream: 3 windows
    seen = watch_hidden(trainer, monkeypatch)
    for _ in range(4):
        trainer.step(0.01)
    assert [bool(hidden[0].any()) for hidden in seen] == [False, True, True, False]
    assert not any(hidden[0].requires_grad for hidden in seen)


def test_state_reset_zeroes_whole_streams_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("training.state_reset=0.25", "training.batch_size=64", "training.seq_len=5", length=90_000)
    seen = watch_hidden(trainer, monkeypatch)
    for _ in range(60):
        trainer.step(0.01)
    cold = [~hidden[0].any(dim=2).any(dim=0) for hidden in seen[1:]]
    share = torch.stack(cold).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.04)


def test_the_rate_scales_with_the_window() -> None:
    trainer = make_trainer(*PLAIN, "training.seq_len=100", length=1001)
    rates = []
    for _ in range(3):
        trainer.step(0.01)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.01, 0.005]), "the last window of a stream of 250 has 50 characters"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_changes_no_parameter(bad: float) -> None:
    trainer = make_trainer()
    trainer.step(0.01)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.model.decoder.bias.register_hook(lambda gradient: gradient + bad)
    stats = trainer.step(0.01)
    assert not torch.isfinite(stats.grad_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_nor_does_it_where_it_is_the_first_of_sgd() -> None:
    """torch makes the buffers of momentum in the first step, and leaves them as memory was where that is skipped."""
    trainer, twin = (make_trainer(*PLAIN, "training.optimizer=sgd") for _ in range(2))
    state = twin.state_dict()
    trainer.hidden = tuple(tensor * float("nan") for tensor in trainer.hidden)
    trainer.streams.position = 5  # not where a pass begins, or the state would be zero
    assert not torch.isfinite(trainer.step(0.01).grad_norm)
    assert differences(state["optimizer"]["state"], trainer.state_dict()["optimizer"]["state"]) == []


def test_no_clipping_leaves_the_gradient_alone() -> None:
    trainer = make_trainer("training.grad_clip=null")
    norm = trainer.step(0.01).grad_norm
    left = torch.stack([p.grad.square().sum() for p in trainer.model.parameters() if p.grad is not None]).sum().sqrt()
    torch.testing.assert_close(norm, left)


def test_seeds_decide_everything(small_config: Config, places: Places) -> None:
    runs = []
    for seed in (1, 1, 2):
        training = small_config.training.model_copy(update={"seed": seed})
        session = new_session(small_config.model_copy(update={"training": training}), places)
        runs.append([session.trainer.step(0.01).loss.item() for _ in range(5)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_it_learns(places: Places) -> None:
    config = make_config("counting", *PLAIN, "training.max_steps=200", "training.lr=0.02", "model.num_layers=1")
    session = new_session(config, places)
    losses = [session.trainer.step(0.02).loss.item() for _ in range(200)]
    assert losses[0] > 1.2
    assert losses[-1] < 0.05


def test_meter_weights_losses_by_characters_and_counts_clipping() -> None:
    meter = Meter(grad_clip=1.0)
    for loss, norm, characters in [(1.0, 0.5, 100), (4.0, 2.0, 50), (2.0, 1.5, 50)]:
        meter.add(StepStats(torch.tensor(loss), torch.tensor(norm), characters))
    copy = Meter(grad_clip=1.0)
    copy.load_state_dict(meter.state_dict(), torch.device("cpu"))
    expected = {"train_loss": 2.0, "train_loss_max": 4.0, "grad_norm": pytest.approx(4 / 3), "grad_norm_median": 1.5}
    expected |= {"grad_norm_p99": pytest.approx(1.99), "clipped": pytest.approx(2 / 3)}
    assert meter.summary() == copy.summary() == expected
    assert meter.is_finite
    meter.add(StepStats(torch.tensor(float("nan")), torch.tensor(1.0), 1))
    assert not meter.is_finite
    assert meter.steps_not_finite == 1


@pytest.mark.parametrize("shape", [(2, 2, 0), (1,), (2, 1), ()])
def test_meter_refuses_what_is_no_interval(shape: tuple[int, ...]) -> None:
    """A checkpoint with a right digest may still hold anything."""
    with pytest.raises(ValueError, match="one of each kind per step"):
        Meter(1.0).load_state_dict(
            {"losses": torch.zeros(shape), "norms": torch.zeros(2), "characters": [1, 1]}, torch.device("cpu")
        )


def test_meter_goes_on_where_the_steps_measure() -> None:
    """A checkpoint is read on the CPU, whatever device it was saved from."""
    meter = Meter(1.0)
    meter.add(StepStats(torch.tensor(1.0), torch.tensor(1.0), 10))
    moved = Meter(1.0)
    moved.load_state_dict(meter.state_dict(), torch.device("meta"))
    moved.add(StepStats(torch.zeros((), device="meta"), torch.zeros((), device="meta"), 10))
    state = moved.state_dict()
    assert {state[name].device.type for name in ("losses", "norms")} == {"meta"}


@pytest.mark.parametrize(
    ("extensions", "wanted"),
    [
        ({"amx_tile", "avx512_bf16"}, {"narrow": "bf16", "wide": "bf16"}),
        ({"avx512_bf16"}, {"narrow": "fp32", "wide": "bf16"}),
        (set(), {"narrow": "fp32", "wide": "fp32"}),
    ],
)
def test_auto_precision_takes_bf16_only_where_it_is_fast(
    extensions: set[str], wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in extensions)
    cpu = torch.device("cpu")
    sizes = {"narrow": 127, "wide": 128}
    chosen = {name: choose_precision("auto", ModelConfig(hidden_size=size), cpu) for name, size in sizes.items()}
    assert {name: one.kind for name, one in chosen.items()} == wanted
    wide_gru = ModelConfig(cell="gru", hidden_size=128)
    assert choose_precision("auto", wide_gru, cpu).kind == "fp32"
    assert choose_precision("fp32", ModelConfig(hidden_size=128), cpu).kind == "fp32"
    assert choose_precision("auto", ModelConfig(hidden_size=128), torch.device("cuda")).kind == "fp32"


def test_bf16_where_it_cannot_be_is_refused_to_train_and_not_to_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for can in (True, False):
        monkeypatch.setattr("charrnn.training.precision.has_bf16_lstm", lambda can=can: can)
        assert choose_precision("bf16", ModelConfig(cell="gru"), cpu).kind == "bf16"
        assert precision_to_evaluate_in("bf16", ModelConfig(), cpu).kind == ("bf16" if can else "fp32")
        assert precision_to_evaluate_in("fp32", ModelConfig(), cpu).kind == "fp32"
    with pytest.raises(UsageError, match=r"this processor cannot compute an LSTM in bfloat16.*precision=fp32"):
        make_trainer(*PLAIN, "training.precision=bf16")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_bf16_is_not_promised_on_a_gpu_where_torch_computes_in_float16(cell: str) -> None:
    gpu, model = torch.device("cuda"), ModelConfig.model_validate({"cell": cell})
    with pytest.raises(UsageError, match=r"training.precision bf16: on a GPU .* float16 .*precision=fp32"):
        choose_precision("bf16", model, gpu)
    assert precision_to_evaluate_in("bf16", model, gpu).kind == "fp32"
    assert choose_precision("fp32", model, gpu).kind == "fp32"


def test_whether_it_can_is_tried_without_drawing_numbers() -> None:
    has_bf16_lstm.cache_clear()
    before = torch.get_rng_state()
    can = has_bf16_lstm()
    assert torch.equal(torch.get_rng_state(), before)
    if can:
        make_trainer(*PLAIN, "training.precision=bf16").step(0.01)
    else:
        with pytest.raises(RuntimeError), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(3, 5)(torch.zeros(2, 4, 3))


@needs_bf16_lstm
def test_bf16_trains_to_nearly_the_same_loss() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        trainer = make_trainer(*PLAIN, f"training.precision={precision}")
        losses.append(float(np.mean([trainer.step(0.01).loss.item() for _ in range(40)][-10:])))
        assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_refused() -> None:
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="--device cpu"):
        choose_device("cuda:0")
