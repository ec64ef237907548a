"""Pictures: the numbers drawn are the numbers given, and whatever a study can find, it can be drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from charrnn.config.schema import TrainingConfig
from charrnn.errors import UsageError
from charrnn.plots.figures import loss_axis, new_figure, save_figure
from charrnn.plots.lr_find import CLIPPED_OVER, draw_lr_find
from charrnn.plots.schedule import draw_schedule
from charrnn.studies.lr_find import Finding, Plan
from charrnn.studies.recommendation import Range
from charrnn.studies.sweep import Sweep, band, exponential_rates, suggestions
from charrnn.studies.trials import Trial
from charrnn.training.schedules import SHAPES, learning_rate

LRS = exponential_rates(1e-4, 1.0, 30)
PLAN = Plan(1e-4, 1.0, 2, 30, 50)
STARTS = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


def a_sweep(seed: int, count: int = 30, reason: str | None = None) -> Sweep:
    """The first ``count`` steps of one whose loss falls, then rises, with noise of its own."""
    noise = np.random.default_rng(seed).normal(0, 0.05, 30)
    losses = [2 + (math.log10(lr) + 1.5) ** 2 / 4 + float(e) for lr, e in zip(LRS, noise, strict=True)][:count]
    norms = [0.3 + float(abs(e)) * 20 for e in noise][:count]
    if reason:
        losses[-1] = norms[-1] = math.inf
    return Sweep(seed, LRS[:count], losses, norms, reason)


def a_finding(*sweeps: Sweep, **more: Any) -> dict[str, Any]:
    """What ``lr-find.json`` has of these sweeps, and of ``more``."""
    together = band(sweeps)
    read = suggestions(together.lrs, together.median)
    finding = Finding(PLAN, 3.3, list(sweeps), together, read, **more)
    return {"config": {"corpus": {"vocabulary": "characters"}}, **finding.to_dict()}


TRIALS = [
    Trial(1e-2, 1, 2.5, None),
    Trial(1e-2, 2, 2.3, None),
    Trial(2e-2, 1, 2.0, None),
    Trial(2e-2, 2, 2.2, None),
    Trial(4e-2, 1, 2.6, None),
    Trial(4e-2, 2, None, "why"),
    Trial(8e-2, 1, None, "why"),
    Trial(8e-2, 2, None, "why"),
]
ANSWER: dict[str, Any] = {
    "planned_steps": 400,
    "proven": Range(50, 1.9e-2, 2.1e-2, 2e-2),
    "wanted": Range(400, 0.95e-2, 1.05e-2, 1e-2),
    "lr": 1.1e-2,
}
ALL_DIVERGED = [Trial(lr, seed, None, "why") for lr in (1e-2, 2e-2) for seed in (1, 2)]


@pytest.fixture
def figure() -> Figure:
    return draw_lr_find(a_finding(a_sweep(1), a_sweep(2), trials=TRIALS, **ANSWER), "a title", 1.0)


def lines(axis: Axes, label: str) -> list[Line2D]:
    return [line for line in axis.get_lines() if str(line.get_label()).startswith(label)]


def line(axis: Axes, label: str) -> Line2D:
    """The one line of an axis whose label begins with this."""
    found = lines(axis, label)
    assert len(found) == 1, [other.get_label() for other in axis.get_lines()]
    return found[0]


def points(drawn: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(drawn.get_xydata())]


def legend(axis: Axes) -> list[str]:
    found = axis.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


class TestLRFind:
    def test_axes(self, figure: Figure) -> None:
        figure.draw_without_rendering()
        losses, gradients, trials, clipped = figure.axes
        for axis in (losses, gradients, trials):
            assert axis.get_xscale() == "log"
            assert axis.get_ylabel()
        assert gradients.get_yscale() == "log"
        assert clipped.get_ylabel().startswith("clipped")
        assert trials.get_xlabel() == "learning rate"
        assert "a title" in figure.get_suptitle()
        low, high = losses.get_xlim()
        assert low <= LRS[0]
        assert LRS[-1] <= high
        assert trials.get_xlim() == (low, high), "the panels can be read from one to the other"

    def test_the_sweep_and_its_band(self, figure: Figure) -> None:
        together = band([a_sweep(1), a_sweep(2)])
        axis = figure.axes[0]
        assert points(line(axis, "sweep")) == list(zip(together.lrs, together.median, strict=True))
        outline = axis.collections[0].get_paths()[0].vertices
        assert set(map(tuple, np.asarray(outline))) >= {
            *zip(together.lrs, together.low, strict=True),
            *zip(together.lrs, together.high, strict=True),
        }
        assert set(np.asarray(line(axis, "unigram").get_ydata())) == {3.3}

    def test_the_suggestions_are_marked_on_the_curve(self, figure: Figure) -> None:
        together = band([a_sweep(1), a_sweep(2)])
        read = suggestions(together.lrs, together.median)
        axis = figure.axes[0]
        for name, lr in read.items():
            [(x, y)] = points(line(axis, name))
            assert x == lr
            assert together.median.min() <= y <= together.median.max()
        nearest = int(np.abs(together.lrs - read["steepest"]).argmin())
        assert points(line(axis, "steepest"))[0][1] == pytest.approx(together.median[nearest])

    def test_the_answer(self, figure: Figure) -> None:
        axis = figure.axes[0]
        recommended = line(axis, "recommended")
        assert set(np.asarray(recommended.get_xdata())) == {1.1e-2}
        assert recommended.get_label() == "recommended: 1.1e-02"
        [span] = [patch for patch in axis.patches if str(patch.get_label()).startswith("range for 400 steps")]
        box = span.get_path().get_extents(span.get_patch_transform())
        assert (box.x0, box.x1) == pytest.approx((0.95e-2, 1e-2))
        assert set(np.asarray(line(figure.axes[2], "best after 50 steps").get_xdata())) == {2.1e-2}

    def test_gradient_norms(self, figure: Figure) -> None:
        axis = figure.axes[1]
        drawn = [points(one) for one in axis.get_lines()]
        for one in (a_sweep(1), a_sweep(2)):
            assert list(zip(one.lrs, one.grad_norms, strict=True)) in drawn
        assert set(np.asarray(line(axis, "grad_clip 1").get_ydata())) == {1.0}
        figure.canvas.draw()
        assert not [label for label in axis.get_yticklabels(which="both") if "10^" in label.get_text()], "plain numbers"

    def test_the_share_of_clipped_steps(self, figure: Figure) -> None:
        """Over nine steps, of both sweeps: the highest points of the shaded area."""
        table = np.array([a_sweep(1).grad_norms, a_sweep(2).grad_norms]) > 1.0
        half = CLIPPED_OVER // 2
        expected = {lr: 100 * table[:, max(i - half, 0) : i + half + 1].mean() for i, lr in enumerate(LRS)}
        assert len(set(expected.values())) > 3
        corners = np.asarray(figure.axes[3].collections[0].get_paths()[0].vertices)
        assert {lr: corners[corners[:, 0] == lr, 1].max() for lr in LRS} == pytest.approx(expected)

    def test_the_trials(self, figure: Figure) -> None:
        axis = figure.axes[2]
        assert points(line(axis, "one seed")) == [(one.lr, one.val_loss) for one in TRIALS if one.val_loss is not None]
        assert dict(points(line(axis, "mean"))) == pytest.approx({1e-2: 2.4, 2e-2: 2.1, 4e-2: 2.6})
        crosses = [one for one in axis.get_lines() if one.get_marker() == "x"]
        assert [points(one)[0][0] for one in crosses] == [4e-2, 8e-2, 8e-2]
        assert legend(axis).count("diverged") == 1
        [span] = [patch for patch in axis.patches if "2 %" in str(patch.get_label())]
        box = span.get_path().get_extents(span.get_patch_transform())
        assert (box.y0, box.y1) == pytest.approx((2.1, 2.142))

    def test_where_the_sweeps_diverged(self) -> None:
        sweeps = (a_sweep(1, 22, "why"), a_sweep(2, 25, "why"), a_sweep(3))
        axis = draw_lr_find(a_finding(*sweeps), "", 1.0).axes[0]
        assert set(np.asarray(line(axis, "first of 2 diverged").get_xdata())) == {LRS[21]}
        assert not lines(axis, "recommended")

    @pytest.mark.parametrize(("vocabulary", "unit"), [("characters", "nats/character"), ("bytes", "nats/byte")])
    def test_what_a_loss_is_per(self, vocabulary: str, unit: str) -> None:
        found = a_finding(a_sweep(1), trials=TRIALS) | {"config": {"corpus": {"vocabulary": vocabulary}}}
        sweep, _, trials = (axis.get_ylabel() for axis in draw_lr_find(found, "", None).axes)
        assert sweep.endswith(f", {unit}") and trials.endswith(f", {unit}")

    def test_one_seed(self) -> None:
        one, two = ([a_sweep(n + 1) for n in range(seeds)] for seeds in (1, 2))
        assert "the one seed" in legend(draw_lr_find(a_finding(*one), "", None).axes[0])
        assert "all 2 seeds" in legend(draw_lr_find(a_finding(*two), "", None).axes[0])

    def test_nothing_is_marked_that_was_not_found(self) -> None:
        figure = draw_lr_find(a_finding(a_sweep(1)), "", None)
        assert len(figure.axes) == 2, "no trials and no clipping: neither a third panel nor a second scale"
        marks = ("recommended", "range", "first of", "diverged", "best")
        assert not [label for axis in figure.axes for label in legend(axis) if label.startswith(marks)]

    @pytest.mark.parametrize(
        "found",
        [
            pytest.param(lambda: a_finding(a_sweep(1), a_sweep(2), trials=TRIALS, **ANSWER), id="an answer"),
            pytest.param(lambda: a_finding(a_sweep(1), lr=0.01), id="quick, one seed"),
            pytest.param(lambda: a_finding(a_sweep(1, 9, "why"), a_sweep(2, 25, "why"), a_sweep(3)), id="some diverge"),
            pytest.param(lambda: a_finding(a_sweep(1, 2, "why"), a_sweep(2, 2, "why")), id="all diverge at once"),
            pytest.param(lambda: a_finding(a_sweep(1, 1, "why"), a_sweep(2, 1, "why")), id="no point at all"),
            pytest.param(lambda: a_finding(a_sweep(1), trials=ALL_DIVERGED, problem="why"), id="all trials diverge"),
            pytest.param(lambda: a_finding(a_sweep(1), trials=TRIALS[:1], problem="why"), id="one trial"),
        ],
    )
    @pytest.mark.parametrize("grad_clip", [None, 1.0])
    def test_whatever_is_found_can_be_drawn(self, found: Any, grad_clip: float | None) -> None:
        draw_lr_find(found(), "", grad_clip).draw_without_rendering()


@pytest.mark.parametrize(("losses", "lowest"), [([1.0, 0.1, 0.0], 1e-6), ([1.0, 1e-9, 0.0], 1e-9)])
def test_nothing_is_drawn_at_the_lower_edge(losses: list[float], lowest: float) -> None:
    """A loss of exactly 0 has no place on a logarithmic axis, and would be missing just where it is best."""
    _, (axis,) = new_figure(1)
    axis.plot([1, 2, 3], losses)
    loss_axis(axis, losses)
    assert axis.get_yscale() == "log"
    assert list(np.asarray(axis.get_lines()[0].get_ydata())) == [*losses[:2], lowest]
    assert lowest / 100 < axis.get_ylim()[0] <= lowest


class TestSchedule:
    def _drawn(self, config: TrainingConfig, steps: int | None = None) -> tuple[Axes, list[tuple[float, float]]]:
        figure = draw_schedule(config, "a title", steps)
        figure.draw_without_rendering()
        [axis] = figure.axes
        assert axis.get_title() == "a title"
        assert axis.get_ylabel() == "learning rate"
        assert axis.get_ylim()[0] == 0
        [drawn] = axis.get_lines()
        return axis, points(drawn)

    def test_of_a_long_training_some_steps_are_drawn(self) -> None:
        config = TrainingConfig.model_validate({"schedule": "linear", "max_steps": 10**7, "warmup_steps": 12_345})
        [line] = draw_schedule(config, "a title").axes[0].get_lines()
        steps, rates = np.array(line.get_data())
        assert len(steps) < 10_000
        assert (steps[0], steps[-1], np.diff(steps).max() < 10**4) == (0, 10**7 - 1, True)
        assert rates[list(steps).index(12_345)] == learning_rate(config, 12_345, 12_345 / 10**7)

    @pytest.mark.parametrize("schedule", list(SHAPES))
    def test_it_is_the_rate_of_every_step(self, schedule: str) -> None:
        config = TrainingConfig.model_validate({"schedule": schedule, "max_steps": 60, "warmup_steps": 7})
        axis, drawn = self._drawn(config)
        assert drawn == [(step, learning_rate(config, step, step / 60)) for step in range(60)]
        assert axis.get_xlabel() == "step"

    def test_another_number_of_steps(self) -> None:
        config = TrainingConfig.model_validate({"schedule": "cosine", "max_steps": 60, "warmup_steps": 7})
        _, drawn = self._drawn(config, 25)
        assert drawn == [(step, learning_rate(config, step, step / 25)) for step in range(25)]
        axis, drawn = self._drawn(config, 1)
        assert drawn == [(0, learning_rate(config, 0, 0))]
        assert axis.get_lines()[0].get_marker() == ".", "one point alone is no line"
        assert all(tick.is_integer() for tick in self._drawn(config, 4)[0].get_xticks())

    @pytest.mark.parametrize("warmup_steps", [0, 7])
    @pytest.mark.parametrize(
        "limit",
        [
            {"max_time": "60s"},
            {"epochs": 2},
            {"patience": 1},
            {"max_steps": 9, "epochs": 2},
            {"max_steps": 9, "max_time": "60s"},
        ],
    )
    def test_no_known_number_of_steps(self, limit: dict[str, Any], warmup_steps: int) -> None:
        """Over the share of training that is done, as if warm-up were over."""
        config = TrainingConfig.model_validate({"schedule": "one_cycle", "warmup_steps": warmup_steps, **limit})
        axis, drawn = self._drawn(config)
        bare = config.model_copy(update={"warmup_steps": 0})
        rates = [learning_rate(bare, 0, share / 100) for share, _ in drawn]
        assert [rate for _, rate in drawn] == pytest.approx(rates, rel=1e-9)
        assert (drawn[0][0], drawn[-1][0]) == (0, 100)
        assert "%" in axis.get_xlabel()
        assert ("warm-up" in axis.get_xlabel()) == bool(warmup_steps)


class TestSave:
    @pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf", "a.b.PNG"])
    def test_formats(self, name: str) -> None:
        save_figure(new_figure(1)[0], Path(name))
        assert Path(name).read_bytes().startswith(STARTS[Path(name).suffix.lower()])

    @pytest.mark.parametrize("name", ["a", "a.jpg", "a.png.txt", ".png", "png"])
    def test_other_formats(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
            save_figure(new_figure(1)[0], Path(name))
        assert not Path(name).exists()

    def test_no_such_folder(self) -> None:
        with pytest.raises(UsageError, match=r"none/a\.png: cannot be written: No such file"):
            save_figure(new_figure(1)[0], Path("none/a.png"))
        assert not Path("none").exists()

    def test_a_folder_in_its_place(self) -> None:
        Path("a.png").mkdir()
        with pytest.raises(UsageError, match=r"a\.png: cannot be written: Is a directory"):
            save_figure(new_figure(1)[0], Path("a.png"))


def test_a_title_is_no_formula() -> None:
    """Whatever a config is called: to matplotlib a ``$`` begins one."""
    schedule = draw_schedule(TrainingConfig.model_validate({"max_steps": 60}), r"a$\b$")
    for figure in (schedule, draw_lr_find(a_finding(a_sweep(1)), r"a$\b$", None)):
        figure.draw_without_rendering()
