"""Nothing waits for the device but a log line; no denormal is computed with; the optimizer is torch's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from charrnn.model.device import send
from charrnn.text.places import Places
from charrnn.training.process import prepare_process
from charrnn.training.session import new_session
from tests.children import Child
from tests.conftest import make_config
from tests.helpers import begin, train
from tests.replaying import WAITING

# Window lengths are drawn on the CPU whatever the device: they are the one thing that may be read.
CONFIG = ("training.random_seq_len=false", "training.state_reset=0.2", "model.dropout=0.2")


class Waits(TorchDispatchMode):
    """Notes for each operation that waits what ``when`` says."""

    def __init__(self, when: Callable[[], int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.when = when
        self.at: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func.overloadpacket) in WAITING:
            self.at.append(self.when())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_step_waits_for_nothing(cell: str, optimizer: str, text_file: Path, places: Places) -> None:
    what = (f"model.cell={cell}", f"training.optimizer={optimizer}")
    trainer = new_session(make_config(str(text_file), *CONFIG, *what), places).trainer
    with Waits(lambda: trainer.steps) as waits:
        for _ in range(3):
            trainer.step(1e-3)
    assert waits.at == []


def test_a_run_waits_at_log_lines_evaluations_and_saves_only(text_file: Path, places: Places) -> None:
    session = begin(make_config(str(text_file), *CONFIG), places)
    with Waits(lambda: session.trainer.steps) as waits:
        train(session)
    assert set(waits.at) == {0, 7, 14, 15, 20, 21, 28, 30, 35, 40}


def test_the_instrument_sees_a_wait() -> None:
    with Waits(lambda: 5) as waits:
        float(torch.ones(()))
        bool(torch.ones(3).sum() > 1)
        torch.ones(1).item()
        torch.ones(3).nonzero()
    assert waits.at == [5] * 4


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers on torch's meta device: it computes nothing, refuses to mix with another in most operations, and has no
    value to read. Torch's fused optimizers do not know it."""

    def unfused(optimizer: str, **settings: Any) -> Any:
        kind = getattr(torch.optim, {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[optimizer])
        return lambda parameters, fused, **more: kind(parameters, **more, **settings)

    monkeypatch.setattr("charrnn.training.trainer.choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr("charrnn.training.trainer.skip_step_if", lambda *_: None)  # belongs to the fused ones
    for name, optimizer in (("SGD", "sgd"), ("Adam", "adam"), ("AdamW", "adamw")):
        monkeypatch.setattr(f"charrnn.training.optimizers.{name}", unfused(optimizer, foreach=True))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("embedding_size", [0, 8])
def test_all_of_a_step_is_on_the_device(
    cell: str, optimizer: str, embedding_size: int, text_file: Path, places: Places
) -> None:
    what = (f"model.cell={cell}", f"training.optimizer={optimizer}", f"model.embedding_size={embedding_size}")
    more = ("training.random_seq_len=true", "model.num_layers=2", "model.skip_connections=true")
    trainer = new_session(make_config(str(text_file), *CONFIG, *what, *more), places).trainer
    observed = optimizer != "sgd"  # that compares a buffer with a gradient
    for _ in range(3):
        stats = trainer.step(1e-3, observe=observed)
    kept = [value for one in trainer.optimizer.state.values() for name, value in one.items() if name != "step"]
    tensors = [stats.loss, stats.grad_norm, *trainer.hidden, *trainer.model.parameters(), *kept]
    if stats.observation:
        tensors += [stats.observation.loss_by_position, *stats.observation.tensors.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_the_text_goes_to_the_device_at_once(text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not window by window: all of a short text, once."""
    sent: list[int] = []

    def noted(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        sent.append(tensor.numel())
        return send(tensor, device)

    monkeypatch.setattr("charrnn.training.trainer.send", noted)
    trainer = new_session(make_config(str(text_file), *CONFIG, "training.state_reset=0"), places).trainer
    while trainer.streams.epoch < 2:
        trainer.step(1e-3)
    assert sent == [trainer.config.batch_size * (trainer.streams.length + 1)]


@pytest.mark.usefixtures("elsewhere")
def test_a_tensor_left_elsewhere_is_noticed(text_file: Path, places: Places) -> None:
    trainer = new_session(make_config(str(text_file), *CONFIG), places).trainer
    trainer.step(1e-3)
    trainer.hidden = tuple(torch.zeros(tensor.shape) for tensor in trainer.hidden)
    with pytest.raises(RuntimeError, match="device"):
        trainer.step(1e-3)


def no_denormals() -> None:
    """In the threads that OpenMP makes as well: enough numbers that both have some."""
    prepare_process(2)
    tiny = torch.full((1 << 17,), 1e-20)
    assert int((tiny * tiny).count_nonzero()) == 0


def denormals() -> None:
    tiny = torch.full((1 << 17,), 1e-20)
    assert int((tiny * tiny).count_nonzero()) > 0


@pytest.mark.parametrize("check", [no_denormals, denormals])
def test_denormals_are_flushed_in_every_thread(check: Callable[[], None], tmp_path: Path) -> None:
    """In a process of its own: threads inherit the setting when they are made."""
    with Child(tmp_path, check) as child:
        assert child.wait() == 0, child.err.read_text()


def start_up() -> None:
    from charrnn.config.schema import ModelConfig, TrainingConfig
    from charrnn.training.trainer import Trainer

    ids = torch.randint(5, (1000,), dtype=torch.uint8).numpy()
    for optimizer in ("adam", "adamw", "sgd"):
        settings = {"optimizer": optimizer, "batch_size": 4, "seq_len": 10, "max_steps": 5, "device": "cpu"}
        trainer = Trainer(ids, 5, ModelConfig(hidden_size=8), TrainingConfig.model_validate(settings))
        trainer.step(1e-3, observe=True)
        trainer.load_state_dict(trainer.state_dict())
        trainer.step(1e-3)
    assert "torch._dynamo" not in sys.modules


def test_training_does_not_import_the_compiler(tmp_path: Path) -> None:
    """It takes 1.5 seconds of a start that may take three."""
    import subprocess

    words = [sys.executable, "-c", "from tests.test_no_sync import start_up; start_up()"]
    done = subprocess.run(words, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
