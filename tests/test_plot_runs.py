"""``charrnn plot RUN...``: what is drawn is what the runs wrote down."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from charrnn.cli.plot import _labels
from charrnn.config.loader import dump_config
from charrnn.errors import CheckpointError, UsageError
from charrnn.plots.curves import draw_parameters, draw_runs, moving_average
from charrnn.plots.figures import COLOURS
from charrnn.plots.writing import LINES, MOST_FRAMES, WIDTH, _Film, animate_writing, in_lines
from charrnn.runs.run import Run, read_run
from tests.command_line import run as charrnn
from tests.conftest import TEXT, make_config
from tests.test_plots import STARTS

TENSORS = ("embedding.weight", "layers.0.weight_hh_l0", "layers.0.bias_hh_l0", "decoder.weight")


def log(step: int, **more: Any) -> dict[str, Any]:
    """A line as training writes it, with numbers that tell which line they are from."""
    place = {"step": step, "epoch": step / 100, "seconds": step / 10}
    norms = {"grad_norm": 0.3 + step / 1000, "grad_norm_p99": 0.5 + step / 1000, "clipped": step / 1000}
    rest = {"train_loss": 3.0 - step / 100, "lr": 1e-2 - step * 1e-5, "chars_per_sec": 1000.0 + step}
    tensors = {name: {"grad_norm": (k + 1) / step, "update_ratio": 1e-3 * (k + 1)} for k, name in enumerate(TENSORS)}
    return {**place, **norms, **rest, "tensors": tensors, **more}


def evaluation(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0.1, "seconds": 1.0, "val_loss": 3.1 - step / 100, **more}


def a_run(path: str, rows: list[dict[str, Any]], *assignments: str) -> Run:
    """A run folder with these rows, read back."""
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(make_config("cat.txt", *assignments)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_run(folder)


LOGS = [log(step) for step in (10, 20, 30, 40)]
ROWS = [*LOGS[:2], evaluation(20), *LOGS[2:], evaluation(40, val_loss_cold=3.0)]


def test_steps_are_whole_numbers() -> None:
    few = a_run("few", [log(step) for step in (1, 2, 3)])
    axis = draw_runs([few], ["few"]).axes[-1]
    ticks = [tick for tick in axis.get_xticks() if 0 <= tick <= 3]
    assert ticks == sorted({round(tick) for tick in ticks})


def panel(figure: Figure, name: str) -> Axes:
    [found] = [axis for axis in figure.axes if axis.get_ylabel().startswith(name)]
    return found


def curves(axis: Axes) -> list[list[tuple[float, float]]]:
    """The points of every line that is a curve: not the clip line, not a rollback."""
    lines = [np.array(line.get_xydata()) for line in axis.get_lines() if not str(line.get_label()).startswith("grad_")]
    return [[(float(x), float(y)) for x, y in one] for one in lines]


def tick_labels(axis: Axes) -> list[str]:
    """What is written beside the y axis, also at its small ticks."""
    axis.figure.canvas.draw()
    low, high = axis.get_ylim()
    found = [*axis.get_yticklabels(which="major"), *axis.get_yticklabels(which="minor")]
    return [label.get_text() for label in found if low <= label.get_position()[1] <= high and label.get_text()]


class TestCurves:
    def test_every_number_is_where_the_log_has_it(self) -> None:
        figure = draw_runs([a_run("a", ROWS)], ["a"])
        assert curves(panel(figure, "loss")) == [
            [(row["step"], row["train_loss"]) for row in LOGS],
            [(20, 3.1 - 0.2), (40, 3.1 - 0.4)],
        ]
        for name, key in (
            ("gradient", "grad_norm"),
            ("clipped", "clipped"),
            ("learning", "lr"),
            ("characters", "chars_per_sec"),
        ):
            assert curves(panel(figure, name)) == [[(row["step"], row[key]) for row in LOGS]], name

    def test_a_level_speed_is_not_drawn_on_the_edge(self) -> None:
        """Of 1,000 characters per second up and down by none the automatic margin is none."""
        level = a_run("level", [log(step, chars_per_sec=1000.0) for step in (10, 20)])
        assert panel(draw_runs([level], ["level"]), "characters").get_ylim() == pytest.approx((0, 1100))
        empty = a_run("empty", [evaluation(10)])
        assert panel(draw_runs([empty], ["empty"]), "characters").get_ylim()[0] == 0

    @pytest.mark.parametrize(
        ("kinds", "unit"),
        [
            (["characters"], "character"),
            (["bytes", "bytes"], "byte"),
            (["bytes", "characters"], "symbol"),
        ],
    )
    def test_what_a_loss_is_per(self, kinds: list[str], unit: str) -> None:
        runs = [a_run(str(number), ROWS, f"corpus.vocabulary={kind}") for number, kind in enumerate(kinds)]
        names = {axis.get_ylabel() for axis in draw_runs(runs, [run.path.name for run in runs]).axes}
        assert {f"loss, nats/{unit}", f"{unit}s/s"} <= names

    def test_the_clip_line_is_at_the_clip_norm(self) -> None:
        figure = draw_runs([a_run("a", ROWS, "training.grad_clip=0.7"), a_run("b", ROWS)], ["a", "b"])
        lines = [line for line in panel(figure, "gradient").get_lines() if str(line.get_label()).startswith("grad_")]
        assert [(line.get_label(), set(np.ravel(line.get_ydata()))) for line in lines] == [
            ("grad_clip 0.7", {0.7}),
            ("grad_clip 1", {1.0}),
        ]

    def test_without_clipping_nothing_is_said_of_it(self) -> None:
        figure = draw_runs([a_run("a", ROWS, "training.grad_clip=null")], ["a"])
        assert [axis.get_ylabel() for axis in figure.axes if "clipped" in axis.get_ylabel()] == []
        assert len(curves(panel(figure, "gradient"))) == 1

    def test_runs_have_colours_and_names_of_their_own(self) -> None:
        more = [row | {"train_loss": row["train_loss"] / 2} if "lr" in row else row for row in ROWS]
        figure = draw_runs([a_run("a", ROWS), a_run("b", more)], ["first", "second"])
        lines = panel(figure, "learning").get_lines()
        assert [line.get_color() for line in lines] == list(COLOURS[:2])
        [legend] = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
        assert [handle.get_color() for handle in legend.get_lines()] == list(COLOURS[:2])

    def test_a_logarithmic_loss_on_demand_and_where_losses_span_much(self) -> None:
        run = a_run("a", ROWS)
        assert panel(draw_runs([run], ["a"]), "loss").get_yscale() == "linear"
        assert panel(draw_runs([run], ["a"], log_loss=True), "loss").get_yscale() == "log"
        numbers = tick_labels(panel(draw_runs([run], ["a"], log_loss=True), "loss"))
        assert len(numbers) >= 2
        assert all(re.fullmatch(r"\d+(\.\d+)?", number) for number in numbers), numbers  # plain, not 2 x 10^0
        wide = a_run("b", [*ROWS, log(50, train_loss=0.01)])
        assert panel(draw_runs([wide], ["b"]), "loss").get_yscale() == "log"

    def test_rates_far_apart_are_both_seen(self) -> None:
        slow = a_run("a", ROWS)
        fast = a_run("b", [row | {"lr": 300 * row["lr"]} if "lr" in row else row for row in ROWS])
        assert panel(draw_runs([slow], ["a"]), "learning").get_yscale() == "linear"
        axis = panel(draw_runs([slow, fast], ["a", "b"]), "learning")
        assert axis.get_yscale() == "log"
        assert axis.get_ylim()[0] < 1e-3

    def test_averages_stand_before_what_they_are_of(self) -> None:
        figure = draw_runs([a_run("a", ROWS)], ["a"], average=20)
        raw, averaged, validation = curves(panel(figure, "loss"))
        assert raw == [(row["step"], row["train_loss"]) for row in LOGS]
        assert [x for x, _ in averaged] == [10, 20, 30, 40]
        assert [y for _, y in averaged] == pytest.approx([2.9, 2.85, 2.75, 2.65])
        assert len(validation) == 2

    @pytest.mark.parametrize(("average", "said"), [(None, ""), (1, ""), (2, ", mean of 2 steps")])
    def test_what_was_averaged_is_said(self, average: int | None, said: str) -> None:
        figure = draw_runs([a_run("a", ROWS)], ["a"], average=average)
        key = panel(figure, "loss").get_legend()
        assert key is not None
        assert key.get_texts()[0].get_text() == f"training{said}"

    def test_divergence_and_rollbacks_are_marked(self) -> None:
        rollback = {"step": 15, "epoch": 0.1, "seconds": 1.0, "rollback": 1, "lr_factor": 0.5}
        end = {"step": 45, "epoch": 0.1, "seconds": 1.0, "steps_not_finite": 1}
        figure = draw_runs([a_run("a", [LOGS[0], rollback, *LOGS[1:], end])], ["a"])
        for axis in figure.axes:
            assert [set(np.ravel(line.get_xdata())) for line in axis.get_lines() if line.get_label() == "rollback"] == [
                {15}
            ]
        crosses = [line for axis in figure.axes for line in axis.get_lines() if line.get_label() == "diverged"]
        assert [list(np.ravel(line.get_xdata())) for line in crosses] == [[45]]

    def test_numbers_that_were_none_leave_gaps(self) -> None:
        rows = [LOGS[0], log(20, grad_norm=None, grad_norm_p99=None), LOGS[2]]
        (points,) = curves(panel(draw_runs([a_run("a", rows)], ["a"]), "gradient"))
        assert math.isnan(points[1][1])
        assert [y for _, y in points if not math.isnan(y)] == [LOGS[0]["grad_norm"], LOGS[2]["grad_norm"]]

    @pytest.mark.parametrize("rows", [LOGS[:1], [evaluation(0)], LOGS])
    def test_a_little_is_enough(self, rows: list[dict[str, Any]]) -> None:
        draw_runs([a_run("a", rows)], ["a"]).savefig("little.png")

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(CheckpointError, match=r"a: has no log line yet; wait for step 7"):
            draw_runs([a_run("a", [])], ["a"])
        diverged = a_run("b", [{"step": 3, "epoch": 0.0, "seconds": 0.1, "steps_not_finite": 1}])
        with pytest.raises(CheckpointError, match=r"b: diverged before its first log line"):
            draw_runs([diverged], ["b"])


class TestMovingAverage:
    def test_weights_are_the_steps_that_a_value_stands_for(self) -> None:
        points = [(10.0, 1.0), (20.0, 2.0), (25.0, 4.0), (40.0, 8.0)]
        averaged = moving_average(points, [0, 10, 20, 25], 20)
        expected = [1.0, 1.5, (5 * 1 + 10 * 2 + 5 * 4) / 20, (5 * 4 + 15 * 8) / 20]
        assert [y for _, y in averaged] == pytest.approx(expected)

    def test_it_equals_the_mean_over_single_steps(self) -> None:
        values = np.random.default_rng(1).normal(size=60)
        points = [(float(step), float(values[step - 5 : step].mean())) for step in range(5, 61, 5)]
        averaged = moving_average(points, [step - 5 for step, _ in points], 23)
        for step, value in averaged:
            each = np.repeat([y for x, y in points if x <= step], 5)[-23:]
            assert value == pytest.approx(each.mean()), step

    def test_what_is_no_number_is_left_out(self) -> None:
        points = [(10.0, 1.0), (20.0, math.nan), (30.0, 4.0)]
        averaged = moving_average(points, [0, 10, 20], 30)
        assert math.isnan(averaged[1][1])
        assert averaged[2][1] == 2.5


class TestParameters:
    def test_every_parameter_in_both_panels(self) -> None:
        figure = draw_parameters(a_run("a", ROWS))
        norms, ratios = figure.axes
        assert curves(norms) == [[(row["step"], (k + 1) / row["step"]) for row in LOGS] for k in range(len(TENSORS))]
        assert curves(ratios) == [[(row["step"], 1e-3 * (k + 1)) for row in LOGS] for k in range(len(TENSORS))]
        assert norms.get_yscale() == ratios.get_yscale() == "log"
        [legend] = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == list(TENSORS)

    def test_no_two_parameters_look_alike(self) -> None:
        names = [
            f"layers.{n}.{what}_{kind}_l0" for n in range(3) for what in ("weight", "bias") for kind in ("ih", "hh")
        ]
        tensors = {
            name: {"grad_norm": 1.0, "update_ratio": 1.0} for name in ["embedding.weight", *names, "decoder.bias"]
        }
        figure = draw_parameters(a_run("a", [log(10, tensors=tensors)]))
        looks = [(line.get_color(), line.get_linestyle(), line.get_linewidth()) for line in figure.axes[0].get_lines()]
        assert len(set(looks)) == len(tensors)

    def test_nothing_is_refused(self) -> None:
        row = {key: value for key, value in LOGS[0].items() if key != "tensors"}
        with pytest.raises(CheckpointError, match="no log line that looks inside a step"):
            draw_parameters(a_run("a", [row]))  # an interval cut short: log_every is 7

    def test_a_bee_of_a_batch_is_refused_for_what_it_is(self) -> None:
        row = {key: value for key, value in LOGS[0].items() if key != "tensors"}
        with pytest.raises(CheckpointError, match=r"one of a batch.* 'charrnn train --config a/config.yaml'$"):
            draw_parameters(a_run("a", [row], "run.log_every=10"))


def frames(path: Path) -> Image.Image:
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert image.format == "GIF"
    return image


class TestWriting:
    def test_a_frame_for_every_sample(self) -> None:
        rows = [LOGS[0], evaluation(10, sample="ab"), evaluation(20), *LOGS[1:], evaluation(40, sample="abc")]
        animate_writing(a_run("a", rows), Path("a.gif"))
        image = frames(Path("a.gif"))
        assert image.n_frames == 2  # type: ignore[attr-defined]
        first = np.array(image.convert("RGB"))
        image.seek(1)
        second = np.array(image.convert("RGB"))
        assert (first != second).any(axis=(1, 2)).any(), "the frames differ"
        assert image.info["duration"] == 4000

    def test_of_many_some_are_chosen_the_last_among_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[list[int]] = []
        monkeypatch.setattr("charrnn.plots.writing._Film", lambda run, rows: shown.append([r["step"] for r in rows]))
        monkeypatch.setattr("charrnn.plots.writing.gif", lambda picture, durations: b"")
        monkeypatch.setattr("charrnn.plots.writing._Film.picture", None, raising=False)
        rows = [evaluation(step, sample=str(step)) for step in range(1, 200)]
        with pytest.raises(AttributeError):  # a film of nothing has no pictures
            animate_writing(a_run("a", rows), Path("a.gif"))
        [steps] = shown
        assert len(steps) == MOST_FRAMES
        assert (steps[0], steps[-1]) == (1, 199)
        assert max(np.diff(steps)) - min(np.diff(steps)) <= 1

    def test_foreign_text_is_drawn_as_it_is(self) -> None:
        odd = "$\\frac$ \x1b[31m \N{SNOWMAN} \ud800 <b>"
        rows = [LOGS[0], evaluation(10, sample=odd), evaluation(20, sample="")]
        animate_writing(a_run("a", [*rows, evaluation(30, sample=odd * 50)]), Path("a.gif"))
        assert frames(Path("a.gif")).n_frames == 2  # type: ignore[attr-defined]

    def test_a_frame_is_the_run_as_it_was_then(self) -> None:
        rows = [*LOGS[:2], evaluation(20, sample="ab"), *LOGS[2:], evaluation(40, sample="cd\nef")]
        film = _Film(a_run("a", rows), [rows[2], rows[5]])
        for number, (steps, evaluations, text) in enumerate(
            (([10, 20], [20], "ab"), ([10, 20, 30, 40], [20, 40], "cd\nef"))
        ):
            film.picture(number)
            assert np.ravel(film._train.get_xdata()).tolist() == steps
            assert np.ravel(film._val.get_xdata()).tolist() == evaluations
            assert film._text.get_text() == text
        assert film._title.get_text() == "a, step 40: 2.700 nats/character"

    def test_bytes_are_called_so(self) -> None:
        film = _Film(a_run("a", ROWS, "corpus.vocabulary=bytes"), [evaluation(20, sample="ab")])
        film.picture(0)
        assert film._title.get_text() == "a, step 20: 2.900 nats/byte"
        assert film._figure.axes[0].get_ylabel() == "loss, nats/byte"

    def test_lines_fit(self) -> None:
        assert in_lines("\none\n\n  two\n") == ["one", "", "  two"]
        long = in_lines("x" * (2 * WIDTH + 1))
        assert [len(line) for line in long] == [WIDTH, WIDTH, 1]
        many = in_lines("\n".join(str(n) for n in range(100)))
        assert (len(many), many[-2:]) == (LINES, [str(LINES - 2), "…"])

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few_samples_are_refused(self, count: int) -> None:
        rows = [LOGS[0], *(evaluation(10, sample="x") for _ in range(count)), evaluation(20)]
        with pytest.raises(
            CheckpointError, match=f"a: {count} of its evaluations have a sample, .* two; wait for more"
        ):
            animate_writing(a_run("a", rows), Path("a.gif"))
        assert not Path("a.gif").exists()

    def test_another_format_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"ends in \.gif"):
            animate_writing(a_run("a", ROWS), Path("a.png"))


@pytest.fixture
def trained(in_own_folder: Path) -> Path:
    """A run that was really trained, with four evaluations."""
    (in_own_folder / "cat.txt").write_text(TEXT)
    (in_own_folder / "cat.yaml").write_text(dump_config(make_config("cat.txt", "run.eval_every=10")))
    assert charrnn("train", "--config", "cat.yaml").code == 0
    return Path("runs/cat")


class TestCommand:
    @pytest.mark.parametrize("suffix", sorted(STARTS))
    def test_a_real_run_in_every_format(self, trained: Path, suffix: str) -> None:
        for option in ((), ("--parameters",), ("--through-time",), ("--log-loss", "--average", "14")):
            result = charrnn("plot", str(trained), *option, "-o", f"it{suffix}")
            assert (result.code, result.out, result.err) == (0, "", f"Picture: it{suffix}\n")
            assert Path(f"it{suffix}").read_bytes().startswith(STARTS[suffix])
            Path(f"it{suffix}").unlink()

    def test_names_that_nobody_gave(self, trained: Path) -> None:
        for option, name in (
            ((), "cat-plot.png"),
            (("--parameters",), "cat-parameters.png"),
            (("--through-time",), "cat-through-time.png"),
            (("--animate",), "cat.gif"),
        ):
            assert charrnn("plot", str(trained), *option).err == f"Picture: {name}\n"
            assert Path(name).stat().st_size > 1000

    def test_a_picture_of_several_is_not_written_over_that_of_the_first_alone(self) -> None:
        names = [str(a_run(f"runs/{name}", ROWS).path) for name in ("cat", "dog", "elk")]
        for count, name in ((1, "cat-plot.png"), (2, "cat-and-dog-plot.png"), (3, "cat-and-2-more-plot.png")):
            assert charrnn("plot", *names[:count]).err == f"Picture: {name}\n"
            assert Path(name).exists()

    def test_options_may_come_first(self, trained: Path) -> None:
        assert charrnn("plot", "--animate", "-o", "it.gif", str(trained)).code == 0
        assert frames(Path("it.gif")).n_frames == 4  # type: ignore[attr-defined]

    def test_several(self, trained: Path) -> None:
        a_run("others/cat", ROWS)
        a_run("others/dog", ROWS)
        for words in ((str(trained), "others/dog"), (str(trained), "others/cat")):
            assert charrnn("plot", *words).code == 0
        shutil.copytree(trained, "again/cat")
        assert charrnn("plot", str(trained), "again/cat", "--through-time", "-o", "tt.svg").code == 0
        drawn = Path("tt.svg").read_text()
        assert "seq_len 10" in drawn and "again/cat, step 40" in drawn
        assert charrnn("plot", str(trained), "--through-time", "-o", "one.svg").code == 0
        assert "how far back it learns, as saved at step 40" in Path("one.svg").read_text()

    def test_runs_that_are_called_alike_are_told_apart(self) -> None:
        here, there, other = a_run("here/cat", ROWS), a_run("there/cat", ROWS), a_run("there/dog", ROWS)
        assert _labels([here, other]) == ["cat", "dog"]
        assert _labels([here, there]) == ["here/cat", "there/cat"]

    def test_the_folder_stays_as_it_is(self, trained: Path) -> None:
        before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
        for option in ((), ("--parameters",), ("--through-time",), ("--animate",)):
            charrnn("plot", str(trained), *option)
        assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("schedul", "No such command or run 'schedul'. Did you mean schedule?"),
            ("scherzo", "scherzo: no such run folder"),
            ("a runs/../a", "runs/../a: is given twice; give each run once"),
            ("a a --parameters", "--parameters draws one run at a time; give a alone"),
            ("a a --animate", "--animate draws one run at a time"),
            ("a --parameters --animate", "--parameters and --animate are two pictures"),
            ("a --parameters --through-time", "--parameters and --through-time are two pictures"),
            ("a --parameters --log-loss", "--log-loss and --average are about the curves of losses"),
            ("a --animate --average 3", "--log-loss and --average are about the curves of losses"),
            ("a -o a.gif", "a picture's name ends in .png, .svg, .pdf"),
            ("a --animate -o a.png", "an animation's name ends in .gif"),
            ("a -o none/a.png", "no such folder: none"),
            ("a -o " + "x" * 300 + ".png", "File name too long"),
            ("a --animate", "a: 0 of its evaluations have a sample"),
            ("a --through-time", "a: holds no checkpoint"),
            ("a a/metrics.jsonl", "a/metrics.jsonl: is a file"),
            ("--average 0 a", "0 is not in the range x>=1"),
            ("--log-loss", "no run: give one"),
        ],
    )
    def test_refused(self, words: str, says: str) -> None:
        a_run("a", ROWS)
        result = charrnn("plot", *words.split())
        assert result.code == 2
        assert says in result.err
        assert "Traceback" not in result.err
        assert sorted(Path().glob("*.*")) == []

    def test_help_shows_both(self) -> None:
        result = charrnn("plot", "--help")
        assert result.code == 0
        assert "charrnn plot runs/shakespeare" in result.out
        assert "schedule" in result.out
        for option in ("--log-loss", "--average", "--parameters", "--through-time", "--animate"):
            assert option in charrnn("plot", "RUN", "--help").out
