"""Where a run stands is read back as it was saved, and nothing else is taken for it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from charrnn.training.score import Score, score_from

FULL = Score(12.5, 7.55e21, 20, 1, 40, 1.7e35, 100, 50, 11.25, True, 2, 24, 28, 0.25, 1e-3)


@pytest.mark.parametrize("score", [Score(), FULL, Score(best_val_loss=0), Score(seconds=3)])
def test_read_back(score: Score) -> None:
    """However large a finite loss is: a training on its way to divergence is saved, too."""
    assert score_from(score.to_dict()) == score


def test_no_loss_of_another_text_is_left() -> None:
    score = score_from(FULL.to_dict())
    score.forget_best()
    assert score.val_loss_at(FULL.last_evaluation) is None
    assert score.evaluations_since_best == 0
    assert score.record(60, 2 * 7.55e21), "the first on this one is the best"


@pytest.mark.parametrize("name", list(Score().to_dict()))
@pytest.mark.parametrize("value", ["1", [1], math.nan, math.inf, -math.inf, 10**400, None])
def test_what_is_none(name: str, value: Any) -> None:
    if value is None and name in ("best_val_loss", "last_val_loss"):
        return
    with pytest.raises((TypeError, ValueError), match=name):
        score_from({**FULL.to_dict(), name: value})


@pytest.mark.parametrize(("name", "value"), [("best_step", 1.5), ("rollbacks", True), ("finished", 1), ("lr", False)])
def test_of_another_kind(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        score_from({**FULL.to_dict(), name: value})
