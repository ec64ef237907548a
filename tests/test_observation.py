"""What is recorded of one step, against the same step taken apart in plain PyTorch."""

from __future__ import annotations

import copy
import math

import pytest

from charrnn.model.charrnn import cross_entropy
from charrnn.training.observation import MOST_POSITIONS
from tests.helpers import OBSERVED_KEYS, differences
from tests.test_trainer import PLAIN, make_trainer

CLIP = 0.05  # below the norms of a new network


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_number_is_that_of_the_step(optimizer: str, cell: str) -> None:
    settings = (f"training.grad_clip={CLIP}", f"training.optimizer={optimizer}", f"model.cell={cell}")
    trainer, before = (make_trainer(*PLAIN, *settings, "training.seq_len=20") for _ in range(2))
    for _ in range(5):
        trainer.step(0.01)
        before.step(0.01)
    observation = trainer.step(0.01, observe=True).observation
    assert observation is not None
    row = observation.to_row()
    assert set(row) == OBSERVED_KEYS - ({"optimizer_steps"} if optimizer == "sgd" else set())
    x, y = before.streams.next(before.generator)
    logits, after = before.model(x, tuple(tensor.detach() for tensor in before.hidden))
    losses = cross_entropy(logits, y, reduction="none")
    before.optimizer.zero_grad()
    losses.mean().backward()
    pieces = losses.mean(dim=0).tensor_split(MOST_POSITIONS)
    assert row["loss_by_position"] == pytest.approx([piece.mean().item() for piece in pieces], rel=1e-3)
    assert (row["taught_positions"], row["carried_streams"]) == (1.0, 1.0)
    assert row["largest_logit"] == pytest.approx(logits.abs().max().item(), rel=1e-3)
    assert row["largest_state"] == pytest.approx(after[-1].abs().max().item(), rel=1e-3)
    whole = math.sqrt(sum(p.grad.square().sum().item() for p in before.model.parameters() if p.grad is not None))
    assert whole > CLIP
    for name, old in before.model.named_parameters():
        new, seen = trainer.model.get_parameter(name).detach(), row["tensors"][name]
        assert old.grad is not None
        assert seen["grad_norm"] == pytest.approx(old.grad.norm().item(), rel=1e-3), "before clipping"
        assert seen["weight_norm"] == pytest.approx(old.norm().item(), rel=1e-3)
        assert seen["update_ratio"] == pytest.approx(((new - old).norm() / old.norm()).item(), rel=2e-3)
        if optimizer == "sgd":
            assert "second_moment_ratio" not in seen
        else:
            average = before.optimizer.state[old]["exp_avg_sq"] * 0.99
            average += 0.01 * (old.grad * CLIP / whole).square()
            expected = (old.grad * CLIP / whole).square().mean() / (average.mean() / (1 - 0.99**6))
            assert seen["second_moment_ratio"] == pytest.approx(expected.item(), rel=1e-2)


def test_looking_changes_nothing() -> None:
    """Bit for bit, with everything random switched on."""
    states = []
    for every in (3, 100):
        trainer = make_trainer()  # seeds torch's own generator, which dropout draws from
        for step in range(1, 13):
            trainer.step(0.01, observe=step % every == 0)
        states.append(copy.deepcopy(trainer.state_dict()))
    assert differences(states[0], states[1]) == []


def test_what_is_wrong_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares are of what really happened: states thrown away, losses of the last character alone, a new Adam."""
    trainer = make_trainer("training.state_reset=1", "training.random_seq_len=false")
    monkeypatch.setattr(
        "charrnn.training.trainer.cross_entropy", lambda logits, y: cross_entropy(logits[:, -1:], y[:, -1:])
    )
    for _ in range(3):
        trainer.step(0.01)
    trainer.optimizer.state.clear()
    observation = trainer.step(0.01, observe=True).observation
    assert observation is not None
    row = observation.to_row()
    assert row["carried_streams"] == 0
    assert row["taught_positions"] == pytest.approx(1 / 10)
    assert row["optimizer_steps"] == 1


def test_what_was_zero_has_no_ratio() -> None:
    """The biases of an LSTM's recurrent part begin there: an update divided by nothing is no number."""
    trainer = make_trainer()
    trainer.model.decoder.bias.data.zero_()
    row = trainer.step(0.01, observe=True).observation.to_row()  # type: ignore[union-attr]
    assert "update_ratio" not in row["tensors"]["decoder.bias"]
    assert row["tensors"]["decoder.bias"]["grad_norm"] > 0
    trainer.model.decoder.bias.data.zero_()
    trainer.model.decoder.bias.requires_grad_(False)
    row = trainer.step(0.01, observe=True).observation.to_row()  # type: ignore[union-attr]
    assert row["tensors"]["decoder.bias"]["update_ratio"] == 0, "what does not move stays visible as such"


def test_a_parameter_that_gets_no_gradient() -> None:
    trainer = make_trainer()
    frozen = trainer.model.decoder.bias.requires_grad_(False)
    row = trainer.step(0.01, observe=True).observation.to_row()  # type: ignore[union-attr]
    assert row["tensors"]["decoder.bias"]["grad_norm"] == row["tensors"]["decoder.bias"]["update_ratio"] == 0
    assert frozen.grad is None
