"""What a run wrote down, as the doctor reads it: of rows made up, and of runs that were really made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from charrnn.config.schema import Config
from charrnn.errors import DivergedError
from charrnn.runs.directory import RunFolder
from charrnn.runs.history import read_history
from charrnn.runs.metrics import Row, json_line, read_metrics, read_outline
from charrnn.studies.doctor.examination import open_run
from charrnn.text.places import Places
from tests.conftest import make_config
from tests.helpers import begin, train


def log(step: int, loss: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"step": step, "train_loss": loss, "chars_per_sec": 10.0 * step, **more}


def observed(step: int, **tensors: dict[str, float]) -> dict[str, Any]:
    return log(step, largest_logit=float(step), tensors=tensors)


class TestRows:
    @pytest.mark.parametrize("read", [read_metrics, read_outline])
    def test_a_line_that_is_finished_while_it_is_read(
        self, read: Callable[[Path], Iterable[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the end of a file that grows, a file object gives half a line first, and its rest if asked again."""
        pieces = [b'{"step": 1, "val_loss": 2.0}\n', b'{"step": 2, "val_', b'loss": 1.0}\n', b'{"step": 3}\n']
        monkeypatch.setattr(Path, "open", lambda *_: nullcontext(iter(pieces)))
        assert list(read(tmp_path / "metrics.jsonl")) == [{"step": 1, "val_loss": 2.0}]

    def test_sorts(self) -> None:
        rows = [observed(5), log(7), {"step": 7, "val_loss": 2.5}, {"step": 5, "rollback": 1, "lr_factor": 0.5}]
        history = read_history([*rows, {"step": 9, "steps_not_finite": 2}])
        assert history.logs == rows[:2]
        assert history.observed == rows[:1]
        assert history.evaluations == [rows[2]]
        assert history.diverged == {"step": 9, "steps_not_finite": 2}
        assert history.steps == 9

    def test_nothing(self) -> None:
        history = read_history([])
        assert (history.logs, history.late, history.diverged, history.steps) == ([], [], None, 0)
        assert history.chars_per_sec is None
        assert math.isnan(history.median("clipped"))
        assert math.isnan(history.largest("clipped"))
        assert history.largest_of_tensors("grad_norm") == {}

    @pytest.mark.parametrize(
        ("steps", "late"), [([1], [1]), ([1, 2], [2]), ([1, 2, 3], [2, 3]), ([1, 2, 3, 4], [3, 4])]
    )
    def test_late(self, steps: list[int], late: list[int]) -> None:
        history = read_history(map(observed, steps))
        assert [row["step"] for row in history.late] == late

    def test_medians_are_of_the_late_rows(self) -> None:
        history = read_history([*map(observed, [100, 200, 1, 2, 6]), log(9)])
        assert history.median("largest_logit") == 2, "of 1, 2 and 6"
        assert history.chars_per_sec == pytest.approx(10 * (6 + 9) / 2), "of 10, 20, 60, 90, 1000 and 2000"
        assert math.isnan(history.median("no such thing"))

    def test_medians_are_also_of_lines_that_did_not_look_inside(self) -> None:
        """Bees of a batch have no others."""
        history = read_history([log(step, clipped=step / 8) for step in range(1, 5)])
        assert history.median("clipped") == 3.5 / 8

    def test_the_largest_is_of_all_lines(self) -> None:
        history = read_history([log(1, grad_norm_p99=7.0), log(2, grad_norm_p99=3.0), observed(3)])
        assert history.largest("grad_norm_p99") == 7

    def test_what_was_no_number_is_left_out(self) -> None:
        """JSON has null for it."""
        history = read_history([observed(1), {**observed(2), "largest_logit": None}, observed(3)])
        assert history.median("largest_logit") == 3
        assert history.largest("largest_logit") == 3

    def test_of_tensors(self) -> None:
        rows = [
            observed(1, a={"x": 100.0}, b={"x": 100.0}),
            observed(2, a={"x": 1.0, "y": 5.0}, b={"x": 10.0}),
            observed(3, a={"x": 3.0}, b={"x": 20.0}),
        ]
        assert read_history(rows).largest_of_tensors("x") == {"a": 100, "b": 100}
        assert read_history(rows[1:]).largest_of_tensors("x") == {"a": 3, "b": 20}
        assert read_history(rows).largest_of_tensors("y") == {"a": 5}


class TestRuns:
    def test_a_run(self, small_config: Config, places: Places) -> None:
        train(begin(small_config, places))
        history = open_run(RunFolder(Path("runs/run")), places)[1]
        assert [row["step"] for row in history.logs] == [7, 14, 21, 28, 35, 40]
        assert [row["step"] for row in history.observed] == [7, 14, 21, 28, 35], "the last interval was cut short"
        assert [row["step"] for row in history.late] == [21, 28, 35]
        assert [row["step"] for row in history.evaluations] == [20, 40]
        assert (history.diverged, history.steps) == (None, 40)
        assert history.median("optimizer_steps") == 28
        assert set(history.largest_of_tensors("update_ratio")) == set(history.observed[0]["tensors"])
        assert all(1e-6 < ratio < 1 for ratio in history.largest_of_tensors("update_ratio").values())

    def test_one_that_diverged(self, text_file: Path, places: Places) -> None:
        settings = ("model.cell=rnn_relu", "training.optimizer=sgd", "training.lr=1000", "training.grad_clip=null")
        with pytest.raises(DivergedError):
            train(begin(make_config(str(text_file), *settings), places))
        history = open_run(RunFolder(Path("runs/run")), places)[1]
        assert history.diverged is not None
        assert history.diverged["steps_not_finite"] > 0
        assert history.steps == history.diverged["step"] > 0

    def test_a_line_that_is_being_written(self) -> None:
        path = Path("metrics.jsonl")
        path.write_text(json_line(observed(1)) + json_line(observed(2))[:-1])
        assert read_history(read_metrics(path)).steps == 1

    def test_a_run_without_a_log(self, small_config: Config, places: Places) -> None:
        """One that was killed right after its first checkpoint."""
        train(begin(small_config, places), should_stop=lambda: True)
        RunFolder(Path("runs/run")).metrics.unlink()
        history = open_run(RunFolder(Path("runs/run")), places)[1]
        assert (history.logs, history.steps) == ([], 0)
