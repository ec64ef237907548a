"""The pictures of a hive: every bee, median, cross and number that is drawn is the one that was given."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from charrnn.cli.swarm import describe
from charrnn.errors import UsageError
from charrnn.plots.animation import DPI, PER_SECOND, _Film, animate_swarm
from charrnn.plots.figures import MONOSPACE, RED, drawable, save_figure, wrapped
from charrnn.plots.gif import palette
from charrnn.plots.heat import best_swarms, draw_heat
from charrnn.plots.hive import Curve, Line, median_curve, place
from charrnn.plots.swarm import COLOURS, MEDIAN, MOST, draw_swarm

POINTS = 50
SAMPLES = ["13 3 22", "1 3 2 1 2 3 3", "1 2 3 1 2 2 3", "1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2 3"]


def a_bee(seed: int, lr: float, fate: str = "ended", per_step: int = 384, samples: bool = False) -> dict[str, Any]:
    """A loss that falls the faster the higher the rate, with noise; a high rate bounces, others diverge or wait."""
    noise = np.random.default_rng(seed).normal(0, 0.1 + 3 * lr, POINTS)
    steps = np.arange(1, POINTS + 1) * 20
    floor = 0.0003 * (1 + 300 * lr)
    losses: list[float | None] = [
        float(x) for x in (floor + 1.25 * np.exp(-steps * lr / 2.5 * (1 + seed % 3 / 3))) * np.exp(noise)
    ]
    if fate == "diverged":
        last = 5 + seed % 20
        losses = [*losses[:last], 2.0, 10.0, 1e5, None]
    elif fate in ("failed", "waiting"):
        losses = losses[: 8 * (seed % 4)]
    count = len(losses)
    taken = [int(step) for step in steps[:count]]
    return {
        "seed": seed,
        "status": fate,
        "message": None,
        "val_loss": losses[-1] if fate == "ended" else None,
        "seconds": 3.1,
        "curve": {
            "step": taken,
            "epoch": [step / 200 for step in taken],
            "characters": [step * per_step for step in taken],
            "train_loss": losses,
        },
        "samples": [[step, SAMPLES[min(number // 4, 3)]] for number, step in enumerate(taken[4::5])] if samples else [],
    }


def a_swarm(labels: list[str], lr: float, fates: list[str], per_step: int = 384, samples: bool = False) -> Any:
    """A bee per fate, and what ``hive.json`` has of them together."""
    bees = [a_bee(seed, lr, fate, per_step, samples) for seed, fate in enumerate(fates, 1)]
    ends = [math.inf if bee["val_loss"] is None else bee["val_loss"] for bee in bees]
    median = float(np.median(ends))
    return {
        "name": ",".join(labels),
        "labels": labels,
        "settings": {},
        "unigram": 1.2425,
        "uniform": math.log(4),
        "median": median if math.isfinite(median) else None,
        "quartiles": [None, None],
        "diverged": fates.count("diverged") / len(fates),
        "count": len(fates),
        "bees": bees,
    }


def a_hive(*groups: list[str], fates: Any = None, per_step: int | None = 384, samples: bool = False) -> dict[str, Any]:
    """A swarm for each combination of one label from each group; ``fates(number)`` are its bees'."""
    swarms = []
    for number, labels in enumerate(itertools.product(*groups)):
        lr = 0.002 * 1.6 ** (number % 7)
        chosen = fates(number) if fates else ["diverged"] * (number % 4) + ["ended"] * (10 - number % 4)
        swarms.append(a_swarm(list(labels), lr, chosen, per_step or 100 * (1 + number), samples))
    return {
        "name": "counting-swarm",
        "text": "counting",
        "groups": [[f"training.group{number}"] for number in range(len(groups))],
        "per_step": per_step,
        "swarms": swarms,
    }


LRS = [f"lr={2.0**n}" for n in range(-9, 4)]
MOMENTA = [f"momentum={n}" for n in range(12)]
CELLS = ["cell=gru", "cell=lstm"]
CAPPED = 2 * math.log(4)


def mixed(number: int) -> list[str]:
    return ["diverged"] * (number % 3) + ["failed"] * (number % 2) + ["waiting"] * 3 + ["ended"] * 5


def bare_swarm(
    labels: list[str], *losses: Sequence[float | None], fates: str = "", samples: Any = ()
) -> dict[str, Any]:
    """A swarm with these curves, a point every 10 steps; ``fates`` are the first letters of the bees' statuses."""
    names = {"e": "ended", "d": "diverged", "f": "failed", "w": "waiting"}
    bees = []
    for seed, (curve, fate) in enumerate(zip(losses, fates or "e" * len(losses), strict=True)):
        steps = [10 * (number + 1) for number in range(len(curve))]
        points = {"step": steps, "epoch": steps, "characters": [7 * step for step in steps], "train_loss": curve}
        bee = {"seed": seed, "status": names[fate], "message": None, "val_loss": curve[-1] if fate == "e" else None}
        bees.append({**bee, "curve": points, "samples": list(samples)})
    median = np.median([bee["val_loss"] or math.inf for bee in bees])
    share = sum(bee["status"] == "diverged" for bee in bees) / len(bees)
    found = {"median": float(median) if np.isfinite(median) else None, "quartiles": [None, None], "diverged": share}
    found |= {"unigram": 1.2, "uniform": math.log(4)}
    return {"name": "", "labels": labels, "settings": {}, **found, "count": len(bees), "bees": bees}


def bare_hive(*swarms: dict[str, Any], **more: Any) -> dict[str, Any]:
    groups = [["x"]] * len(swarms[0]["labels"])
    about = {"name": "hive", "text": "text", "per_step": 7}
    return {**about, "groups": groups, "swarms": list(swarms), **more}


def facets(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_visible()]


def bees(axis: Axes) -> list[list[tuple[float, float]]]:
    """The points of each thin line."""
    [collection] = [one for one in axis.collections if isinstance(one, LineCollection)]
    return [[(float(x), float(y)) for x, y in segment] for segment in collection.get_segments()]


def bold(axis: Axes) -> Line2D:
    [found] = [one for one in axis.get_lines() if one.get_color() == MEDIAN]
    return found


def marks(axis: Axes, marker: str) -> list[tuple[float, float]]:
    lines = [one for one in axis.get_lines() if one.get_marker() == marker]
    return [(float(x), float(y)) for one in lines for x, y in np.asarray(one.get_xydata())]


def words(axis: Axes) -> list[str]:
    """Names and writing around a facet, without its notes."""
    return [text.get_text() for text in axis.texts if text.get_text()]


def shown(figure: Figure) -> str:
    """All that is written, on one line; nothing may be read as a formula."""
    figure.draw_without_rendering()
    parts = [str(figure.get_suptitle()), *(text.get_text() for text in figure.texts)]
    for axis in figure.axes:
        parts += [text.get_text() for text in (*axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels())]
    return " ".join(" ".join(parts).split())


class TestNumbers:
    def test_the_median_counts_those_that_diverged_as_above_everything(self) -> None:
        swarm = bare_swarm([], [1.0, 0.5, 0.2], [1.1, 5.0], [1.2, None, None], [0.9, 0.3, 0.1], fates="edee")
        x, median = median_curve([Curve.of(bee, "step") for bee in swarm["bees"]])
        table = np.array([[1.0, 0.5, 0.2], [1.1, 5.0, np.inf], [1.2, np.inf, np.inf], [0.9, 0.3, 0.1]])
        assert x.tolist() == [10, 20, 30]
        assert median.tolist() == np.median(table, axis=0).tolist()
        assert median[-1] == np.inf

    def test_those_not_there_do_not_count_and_those_that_ended_stay(self) -> None:
        swarm = bare_swarm([], [1.0, 0.5, 0.2], [3.0], [4.0], [0.8, 0.1], fates="efwe")
        _, median = median_curve([Curve.of(bee, "step") for bee in swarm["bees"]])
        assert median.tolist() == pytest.approx([2.0, 0.3, 0.15])

    def test_bees_that_tell_their_loss_at_different_points(self) -> None:
        one = Curve(np.array([10.0, 30]), np.array([1.0, 0.5]), "ended")
        other = Curve(np.array([20.0, 40]), np.array([2.0, np.inf]), "ended")
        x, median = median_curve([one, other])
        assert x.tolist() == [10, 20, 30, 40]
        assert median.tolist() == [1.0, (0.75 + 2) / 2, np.inf, np.inf]

    def test_no_curve_at_all(self) -> None:
        none = Curve(np.empty(0), np.empty(0), "diverged")
        assert none.at(np.array([3.0])).tolist() == [np.inf]
        assert len(median_curve([none])[0]) == 0
        assert len(median_curve([])[0]) == 0

    def test_a_line_grows_along_what_a_log_axis_shows(self) -> None:
        line = Line(np.array([10.0, 20, 30]), np.array([1.0, 0.01, 4.0]))
        assert [part.tolist() for part in line.until(5)] == [[], []]
        assert [part.tolist() for part in line.until(15)] == [[10, 15], pytest.approx([1.0, 0.1])]
        assert [part.tolist() for part in line.until(25)] == [[10, 20, 25], pytest.approx([1.0, 0.01, 0.2])]
        assert [part.tolist() for part in line.until(math.inf)] == [[10, 20, 30], [1.0, 0.01, 4.0]]


class TestFacets:
    def test_every_bee_and_the_median_are_drawn(self) -> None:
        hive = a_hive(LRS[:3], MOMENTA[:2])
        found = facets(draw_swarm(hive))
        assert len(found) == 6
        # the first group across, the second down
        drawn_order = [hive["swarms"][number] for number in (0, 2, 4, 1, 3, 5)]
        for axis, swarm in zip(found, drawn_order, strict=True):
            for bee, drawn in zip(swarm["bees"], bees(axis), strict=True):
                curve = bee["curve"]
                given = list(zip(curve["step"], curve["train_loss"], strict=True))
                if bee["status"] == "ended":
                    assert drawn == given
                else:
                    assert drawn == [*given[:-3], (given[-3][0], pytest.approx(CAPPED))], "ends where it leaves"
            table = np.full((10, POINTS), np.inf)
            for row, bee in zip(table, swarm["bees"], strict=True):
                losses = np.array(bee["curve"]["train_loss"], dtype=float)
                row[: len(losses)] = np.where(np.isnan(losses), np.inf, losses)
            assert np.asarray(bold(axis).get_xdata()).tolist() == [20 * (n + 1) for n in range(POINTS)]
            assert np.asarray(bold(axis).get_ydata()).tolist() == np.median(table, axis=0).tolist()

    def test_scales_and_their_names(self) -> None:
        figure = draw_swarm(a_hive(LRS[:3], MOMENTA[:2]))
        found = facets(figure)
        assert {axis.get_yscale() for axis in found} == {"log"}
        assert len({(axis.get_xlim(), axis.get_ylim()) for axis in found}) == 1
        low, high = found[0].get_ylim()
        lowest = min(y for axis in found for bee in bees(axis) for _, y in bee)
        assert low < lowest
        assert CAPPED < high < 1.5 * CAPPED
        assert found[0].get_xlim() == pytest.approx((0, 1020))
        texts = [text.get_text() for text in figure.texts]
        assert "step (384 characters each)" in texts
        assert "training loss, nats per character" in texts
        assert figure.get_suptitle() == "counting-swarm: 6 swarms of 10 bees on counting"

    @pytest.mark.parametrize(("vocabularies", "unit"), [(["bytes"], "byte"), (["bytes", "characters"], "symbol")])
    def test_bytes_are_not_called_characters(self, vocabularies: list[str], unit: str) -> None:
        """In any picture. (A hive that does not say what it read is of before there was a difference.)"""
        hive = a_hive(LRS[:2]) | {"vocabularies": vocabularies}
        texts = [text.get_text() for text in draw_swarm(hive).texts]
        assert {f"step (384 {unit}s each)", f"training loss, nats per {unit}"} <= set(texts)
        assert draw_heat(hive).axes[1].get_ylabel().endswith(f"nats per {unit}")
        hive["per_step"] = None
        assert f"{unit}s read" in {text.get_text() for text in draw_swarm(hive).texts}
        film = _Film(hive, 2)
        film.picture(film.positions[-1])
        assert film._title.get_text().endswith(f"{unit}s read")

    def test_characters_where_a_step_means_different_things(self) -> None:
        hive = a_hive(LRS[:2], per_step=None)
        figure = draw_swarm(hive)
        assert "characters read" in [text.get_text() for text in figure.texts]
        for axis, swarm in zip(facets(figure), hive["swarms"], strict=True):
            assert [x for x, _ in bees(axis)[-1]] == swarm["bees"][-1]["curve"]["characters"]

    def test_notes(self) -> None:
        [one, other] = facets(draw_swarm(a_hive(LRS[:2], fates=lambda n: mixed(4 + n))))
        assert one.get_title("right") == "1 of 9 diverged\n3 waiting"
        assert other.get_title("right") == "2 of 11 diverged\n1 failed\n3 waiting"
        assert other.get_title("left") == "no median", "six of eleven have no loss"
        [swarm] = (hive := a_hive(fates=lambda n: ["ended"] * 3))["swarms"]
        swarm["median"] = 0.00031234
        [axis] = facets(draw_swarm(hive))
        assert axis.get_title("left") == "median 0.000312"
        assert not axis.get_title("right")

    def test_crosses_where_bees_diverged(self) -> None:
        swarm = bare_swarm(
            [], [1.0, 10.0, 0.5, 1e5, None], [1.0, 2.0], [None, None], [], [1.0, 0.9], [1.0, 50.0, 0.4], fates="ddddfe"
        )
        [axis] = facets(draw_swarm(bare_hive(swarm)))
        assert marks(axis, "x") == [(40, pytest.approx(CAPPED)), (20, 2.0), (10, CAPPED), (0, CAPPED)]
        assert marks(axis, "s") == [(20, 0.9)]
        assert [y for _, y in bees(axis)[0]] == pytest.approx([1.0, CAPPED, 0.5, CAPPED])
        assert [y for _, y in bees(axis)[5]] == pytest.approx([1.0, CAPPED, 0.4]), "it came back: no cross"

    def test_the_top_is_no_higher_than_it_must_be(self) -> None:
        [axis] = facets(draw_swarm(bare_hive(bare_swarm([], [1.3, 0.9]))))
        assert 1.3 * 1.2 < axis.get_ylim()[1] < 2
        [axis] = facets(draw_swarm(bare_hive(bare_swarm([], [0.0, 1e-12]))))
        assert 1e-7 < axis.get_ylim()[0] < 1e-6, "a loss of nothing does not squeeze all others"

    def test_unigram_entropy_is_named_once(self) -> None:
        figure = draw_swarm(a_hive(LRS[:3], fates=mixed))
        for axis in facets(figure):
            assert [set(np.asarray(one.get_ydata())) for one in axis.get_lines() if one.get_linestyle() == ":"] == [
                {1.2425}
            ]
        [legend] = figure.legends
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels.count("unigram entropy 1.24") == 1
        assert {"diverged", "failed", "waiting"} < set(labels)
        hive = a_hive(LRS[:3], fates=lambda n: ["ended"])
        [legend] = draw_swarm(hive).legends
        assert not {"diverged", "failed", "waiting"} & {text.get_text() for text in legend.get_texts()}

    def test_each_text_has_its_own_unigram_entropy(self) -> None:
        hive = a_hive(LRS[:2], fates=lambda n: ["ended"])
        hive["swarms"][1] |= {"unigram": 3.3, "uniform": 4.0}
        figure = draw_swarm(hive)
        levels = [np.unique(one.get_ydata()) for axis in facets(figure) for one in axis.get_lines()[-1:]]
        assert [level.tolist() for level in levels] == [[1.2425], [3.3]]
        assert facets(figure)[0].get_ylim()[1] > 3.3
        assert "unigram entropy of each text" in {text.get_text() for text in figure.legends[0].get_texts()}

    def test_colours_tell_what_became_of_a_bee(self) -> None:
        [axis] = facets(draw_swarm(bare_hive(bare_swarm([], *[[1.0, 0.9]] * 4, fates="edfw"))))
        colours = [to_hex(colour) for colour in np.asarray(axis.collections[0].get_edgecolor())[:, :3]]
        assert colours[1:] == [COLOURS["diverged"], COLOURS["failed"], COLOURS["waiting"]]
        assert colours[0] not in COLOURS.values()


class TestPlaces:
    def test_names_of_columns_and_rows(self) -> None:
        found = facets(draw_swarm(a_hive(LRS[:3], MOMENTA[:2], CELLS)))
        assert len(found) == 12
        assert [words(axis) for axis in found[:3]] == [[LRS[0]], [LRS[1]], [LRS[2], "momentum=0, cell=gru"]]
        assert [words(axis) for axis in found[3:]][2::3] == [
            ["momentum=0, cell=lstm"], ["momentum=1, cell=gru"], ["momentum=1, cell=lstm"]
        ]  # fmt: skip
        assert not any(words(axis) for axis in found[3::3])

    @pytest.mark.parametrize(
        ("groups", "shape"),
        [((), (1, 1)), ((5,), (1, 5)), ((7,), (2, 4)), ((11,), (3, 4)), ((1, 4), (4, 1)), ((2, 3), (3, 2)),
         ((6, 3), (3, 6)), ((1, 7), (2, 4)), ((10, 2), (2, 8)), ((2, 10), (8, 2))],
    )  # fmt: skip
    def test_shape(self, groups: tuple[int, ...], shape: tuple[int, int]) -> None:
        swarms = [
            bare_swarm(list(labels), [1.0])
            for labels in itertools.product(*([str(n) for n in range(k)] for k in groups))
        ]
        figure = draw_swarm(bare_hive(*swarms))
        spec = figure.axes[0].get_gridspec()
        assert spec is not None
        assert (spec.nrows, spec.ncols) == shape
        assert len(facets(figure)) == min(len(swarms), shape[0] * shape[1])
        left_out = len(swarms) > shape[0] * shape[1]
        assert (f"({len(facets(figure))} of the {len(swarms)} swarms are drawn)" in shown(figure)) == left_out

    def test_a_long_list_is_cut(self) -> None:
        grid = place(bare_hive(*(bare_swarm([str(n)], [1.0]) for n in range(70))), MOST, MOST, wrap=True)
        assert [(one.row * 8 + one.column, one.column_name) for one in grid.places] == [(n, str(n)) for n in range(64)]
        assert (grid.rows, grid.columns) == (8, 8)

    def test_each_column_has_its_numbers(self) -> None:
        figure = draw_swarm(a_hive(LRS[:7]))
        figure.draw_without_rendering()
        numbered = [any(label.get_visible() for label in axis.get_xticklabels()) for axis in facets(figure)]
        assert numbered == [False, False, False, True, True, True, True], "nothing is below the fourth"

    @pytest.mark.parametrize(
        ("groups", "moving"), [((1, 1), False), ((3, 2), False), ((3, 2), True), ((7,), True), ((6, 3), False)]
    )
    def test_nothing_lies_on_anything_else(self, groups: tuple[int, ...], moving: bool) -> None:
        """Names, notes, axes' names and legend keep apart, and inside the figure."""
        values = [[f"setting_{k}=a rather long value no. {n}" for n in range(count)] for k, count in enumerate(groups)]
        hive = a_hive(*values, fates=lambda n: ["diverged", "failed", "waiting"] + ["ended"] * 6, samples=True)
        hive["name"] = "a name that is so long that it takes more than one line of the title " * 2
        figure = draw_swarm(hive)
        if moving:
            film = _Film(hive, 2)
            film.picture(film.positions[-1])
            figure = film._drawn.figure
        canvas = cast(Any, FigureCanvasAgg(figure))
        canvas.draw()
        renderer = canvas.get_renderer()
        boxes = [axis.bbox for axis in facets(figure)]
        for axis in facets(figure):
            notes = [axis._left_title, axis._right_title]  # type: ignore[attr-defined]
            boxes += [text.get_window_extent(renderer) for text in (*axis.texts, *notes) if text.get_text()]
            ticks = [one for one in axis.get_xticklabels() if one.get_position()[0] <= axis.get_xlim()[1]]
            ticks += [one for one in axis.get_yticklabels() if axis.get_ylim()[0] <= one.get_position()[1] <= CAPPED]
            boxes += [text.get_window_extent(renderer) for text in ticks if text.get_visible() and text.get_text()]
        boxes += [text.get_window_extent(renderer) for text in figure.texts]
        boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        for one, other in itertools.combinations(boxes, 2):
            wide, high = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide < 1 or high < 1, (one, other)


class TestTexts:
    ODD = ("corpus.source=a$b$.txt", "$\\frac{$_^", "日本=häß", "a\nb")

    @pytest.mark.parametrize("draw", [draw_swarm, draw_heat])
    @pytest.mark.parametrize("odd", ODD)
    def test_odd_names_are_written_as_they_are(self, draw: Any, odd: str) -> None:
        hive = {**a_hive([odd], [odd, "x"]), "name": odd[:9], "text": odd}
        figure = draw(hive)
        figure.savefig(io.BytesIO())
        written = drawable(odd)
        assert shown(figure).replace(" ", "").count(written.replace(" ", "")) >= 3

    def test_what_a_font_lacks(self) -> None:
        assert drawable("aé日\n\t\x00한Ω") == "aé□↵□□□Ω"
        assert drawable("↵□…", MONOSPACE) == "↵□…"

    def test_lines(self) -> None:
        assert wrapped("seq_len=10, max_steps=4000", 1.5, 10).splitlines() == ["seq_len=10,", "max_steps=4000"]
        assert wrapped("weight_decay=0.1", 1.2, 10).splitlines() == ["weight_decay=", "0.1"]
        lines = wrapped("x" * 400, 1.5, 10).splitlines()
        assert len(lines) == 3
        assert wrapped("a " * 400, 1.5, 10).endswith("…")


HIVES: dict[str, Callable[[], dict[str, Any]]] = {
    "one": a_hive,
    "all diverged": lambda: a_hive(LRS[:2], fates=lambda n: ["diverged"] * 10),
    "half finished": lambda: a_hive(LRS[:3], MOMENTA[:2], fates=lambda n: mixed(n) if n < 3 else ["waiting"] * 4),
    "not begun": lambda: bare_hive(*(bare_swarm([lr], [], [], fates="ww") for lr in LRS[:2])),
    "lost at once": lambda: bare_hive(bare_swarm([], [None], [None], fates="dd")),
    "one point": lambda: bare_hive(bare_swarm([], [1.0], fates="f")),
    "no combination": lambda: bare_hive(bare_swarm(["a", "b"], [1.0]), bare_swarm(["c", "d"], [0.5])),
}


@pytest.mark.parametrize("name", HIVES)
def test_whatever_is_found_can_be_drawn(name: str) -> None:
    hive = json.loads(json.dumps(HIVES[name]()))
    save_figure(draw_swarm(hive), Path("swarm.png"))
    save_figure(draw_heat(hive), Path("heat.png"))
    animate_swarm(hive, Path("swarm.gif"), 3)


class TestHeat:
    def _cells(self, figure: Figure) -> dict[tuple[float, float], Rectangle]:
        """The coloured ones by their middle, (column, row)."""
        patches = [one for one in figure.axes[0].patches if isinstance(one, Rectangle) and one.get_fill()]
        return {(round(one.get_x() + 0.48), round(one.get_y() + 0.47)): one for one in patches}

    def _told(self, figure: Figure) -> dict[tuple[float, float], str]:
        return {
            (round(x), round(y)): text.get_text() for text in figure.axes[0].texts for x, y in [text.get_position()]
        }

    def _hive(self, *medians: float | None, diverged: float = 0.0) -> dict[str, Any]:
        hive = bare_hive(*(bare_swarm([label], [1.0, None], fates="d") for label in LRS[: len(medians)]))
        for swarm, median in zip(hive["swarms"], medians, strict=True):
            swarm.update(median=median, diverged=diverged)
        return hive

    def test_cells(self) -> None:
        hive = a_hive(LRS[:3], MOMENTA[:2], CELLS)
        figure = draw_heat(hive)
        told = self._told(figure)
        assert len(told) == 12
        for number, (column, row) in enumerate(itertools.product(range(3), range(4))):
            swarm = hive["swarms"][number]
            share = ["", "\n10 % div.", "\n20 % div.", "\n30 % div."][number % 4]
            assert told[column, row] == f"{swarm['median']:{'.3f' if swarm['median'] >= 0.1 else '.3g'}}{share}"
        axis = figure.axes[0]
        assert [label.get_text() for label in axis.get_xticklabels()] == LRS[:3]
        names = [" ".join(label.get_text().split()) for label in axis.get_yticklabels()]
        assert names[:2] == ["momentum=0, cell=gru", "momentum=0, cell=lstm"]
        assert axis.get_ylim() == (3.5, -0.5), "the first row is above"

    def test_the_scale(self) -> None:
        low, middle, high = (
            to_hex(cell.get_facecolor()) for cell in self._cells(draw_heat(self._hive(0.01, 0.1, 1.0))).values()
        )
        from matplotlib import colormaps

        scale = colormaps["viridis_r"]
        assert (low, middle, high) == tuple(to_hex(scale(x)) for x in (0.0, 0.5, 1.0)), "logarithmic"
        _, middle, _ = (
            to_hex(cell.get_facecolor()) for cell in self._cells(draw_heat(self._hive(1.0, 1.5, 2.0))).values()
        )
        assert middle == to_hex(scale(0.5)), "linear"
        bar = draw_heat(self._hive(1.0, 1.5, 2.0)).axes[1]
        assert bar.get_ylabel() == "median validation loss,\nnats per character"
        assert bar.get_ylim() == (1.0, 2.0)
        assert draw_heat(self._hive(0.19, 1.0)).axes[1].get_yscale() == "log"
        assert draw_heat(self._hive(0.21, 1.0)).axes[1].get_yscale() == "linear"

    def test_without_a_median(self) -> None:
        hive = self._hive(0.5, None, diverged=0.6)
        figure = draw_heat(hive)
        assert self._told(figure) == {(0, 0): "0.500\n60 % div.", (1, 0): "diverged\n60 % div."}
        assert [cell.get_hatch() for cell in self._cells(figure).values()] == [None, "////"]
        assert len(draw_heat(self._hive(None, None)).axes) == 1, "no colours, no colour bar"

    def test_those_that_failed_have_not_diverged(self) -> None:
        hive = bare_hive(*(bare_swarm([], [1.0], [1.0], [1.0], fates=fates) for fates in ("ffe", "dfe", "dde")))
        for number, swarm in enumerate(hive["swarms"]):
            swarm.update(labels=[str(number)], diverged=2 / 3, median=None)
        told = list(self._told(draw_heat(hive)).values())
        assert told == ["failed", "diverged\n33 % div.", "diverged\n67 % div."]

    def test_small_differences_are_seen(self) -> None:
        told = self._told(draw_heat(self._hive(1.3654, 1.3629, 7.601e-4)))
        assert list(told.values()) == ["1.365", "1.363", "0.00076"]
        waiting = bare_hive(bare_swarm([], [1.0], [1.0], [1.0], fates="wwd"))
        assert self._told(draw_heat(waiting)) == {(0, 0): "waiting\n33 % div."}

    def test_the_best_is_outlined(self) -> None:
        [outline] = [one for one in draw_heat(self._hive(None, 0.5, 0.2, 0.3)).axes[0].patches if not one.get_fill()]
        assert isinstance(outline, Rectangle)
        assert (round(outline.get_x() + 0.48), round(outline.get_y() + 0.47)) == (2, 0)
        assert to_hex(outline.get_edgecolor()) == RED
        assert not [one for one in draw_heat(self._hive(None)).axes[0].patches if not one.get_fill()]

    @pytest.mark.parametrize("name", ["corpus.source", "corpus.vocabulary", "run.eval_characters"])
    def test_what_does_not_compare_has_no_best(self, name: str) -> None:
        hive = self._hive(0.5, 0.2)
        assert best_swarms(hive) == [hive["swarms"][1]]
        assert best_swarms(hive | {"groups": [[name, "training.lr"]]}) == []

    def test_of_equal_ones_those_that_diverge_less_are_best(self) -> None:
        hive = self._hive(0.2, 0.2, 0.3, 0.2)
        for swarm, diverged in zip(hive["swarms"], (0.5, 0.1, 0.0, 0.1), strict=True):
            swarm["diverged"] = diverged
        assert best_swarms(hive) == [hive["swarms"][1], hive["swarms"][3]]
        outlines = [one for one in draw_heat(hive).axes[0].patches if not one.get_fill()]
        assert [round(one.get_x() + 0.48) for one in outlines if isinstance(one, Rectangle)] == [1, 3]
        assert describe(hive).splitlines()[-1].endswith(", median 0.2000; 1 more is as good")

    def test_letters_stand_out_from_every_colour(self) -> None:
        """At least 4.5 to 1, the contrast that WCAG 2.2 asks for."""
        figure = draw_heat(self._hive(*np.geomspace(0.01, 1, 13).tolist()))
        for cell, text in zip(self._cells(figure).values(), figure.axes[0].texts, strict=True):
            light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(cell.get_facecolor())]
            back = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
            ink = {"black": 0.0, "white": 1.0}[str(text.get_color())]
            assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 4.5


class TestAnimation:
    @pytest.fixture
    def hive(self) -> dict[str, Any]:
        return a_hive(LRS[:2], samples=True)

    def test_frames(self, hive: dict[str, Any]) -> None:
        animate_swarm(hive, Path("a.gif"), 7)
        with Image.open("a.gif") as film:
            assert film.n_frames == 7  # type: ignore[attr-defined]
            assert film.info["loop"] == 0
            frames, times = [], []
            for number in range(7):
                film.seek(number)
                frames.append(np.asarray(film.convert("RGB")).astype(int))
                times.append(film.info["duration"])
        assert times[1:-1] == [1000 // PER_SECOND] * 5
        assert min(times[0], times[-1]) > 500
        changed = [(np.abs(one - frames[-1]).sum(axis=2) > 60).mean() for one in frames]
        assert changed == sorted(changed, reverse=True), "every frame is nearer to the last one"
        assert changed[0] > 0.01
        assert Path("a.gif").stat().st_size < 500_000

    def test_early_training_has_more_frames(self, hive: dict[str, Any]) -> None:
        positions = _Film(hive, 5).positions
        assert positions[0] == pytest.approx(20)
        assert positions[-1] == 1000
        assert np.diff(np.sqrt(positions)) == pytest.approx(np.full(4, (math.sqrt(1000) - math.sqrt(20)) / 4))

    def test_a_frame_shows_how_far_it_has_come(self, hive: dict[str, Any]) -> None:
        film = _Film(hive, 5)
        film.picture(110.0)
        axis = facets(film._drawn.figure)[1]
        assert [max(x for x, _ in bee) for bee in bees(axis)] == [110.0] * 10
        assert len(marks(axis, "o")) == 10
        assert marks(axis, "o") == [bee[-1] for bee in bees(axis)]
        assert not marks(axis, "x")
        assert float(np.asarray(bold(axis).get_xdata())[-1]) == 110
        assert " ".join(film._title.get_text().split()).endswith("on counting step 110 of 1,000")
        film.picture(500.0)
        assert len(marks(axis, "x")) == 1
        assert len(marks(axis, "o")) == 9
        assert not film._drawn.facets[1].notes[0].get_visible()
        [(stopped, _)] = marks(axis, "x")
        film.picture(stopped)
        assert len(marks(axis, "x")) == 1, "from the step on at which it stopped"
        film.picture(stopped - 0.1)
        assert not marks(axis, "x")
        film.picture(1000)
        assert film._drawn.facets[1].notes[0].get_visible(), "how it ended is told at the end"

    def test_what_the_median_bee_writes(self) -> None:
        curves = [[1.0, 0.5, 0.1], [1.0, 0.6, 0.3], [1.0, 0.9, 0.4]]
        swarm = bare_swarm([], *curves, [1.0, 10.0], [1.0], fates="eeedw")
        for number, bee in enumerate(swarm["bees"]):
            bee["samples"] = [[10, f"early {number}"], [20, f"later {number}\n" + "x" * 500]]
        for scale, per_step in ((1, 7), (7, None)):
            film = _Film(bare_hive(swarm, per_step=per_step), 4)
            [axis] = facets(film._drawn.figure)
            film.picture(9.0 * scale)
            assert not words(axis)
            film.picture(10.0 * scale)
            assert words(axis) == ["early 0"]
            film.picture(20.0 * scale)  # the median of 0.5, 0.6, 0.9 and one that is above everything is 0.75
            [written] = words(axis)
            assert written.startswith("later 1↵xxx")
            [text] = [text for text in axis.texts if text.get_text()]
            assert 0.85 < text.get_window_extent().width / axis.bbox.width <= 1.0
            film.picture(30.0 * scale)
            assert words(axis)[0].startswith("later 1")
        lost = bare_swarm([], [1.0, None], [1.0, None], [1.0, 0.9], fates="dde", samples=[[10, "a"]])
        film = _Film(bare_hive(lost), 4)
        film.picture(20.0)
        assert not words(facets(film._drawn.figure)[0]), "no median, no median bee"

    def test_colours_are_kept(self) -> None:
        picture = np.full((20, 20, 3), 255, np.uint8)
        picture[0, :5], picture[1, :9] = (213, 94, 0), (252, 252, 252)
        reduced = Image.fromarray(picture).quantize(palette=palette([picture]), dither=Image.Dither.NONE)
        colours = {colour for _, colour in reduced.convert("RGB").getcolors() or []}
        assert colours == {(255, 255, 255), (213, 94, 0)}

    @pytest.mark.parametrize("name", ["a", "a.png", "gif", "a.gif.txt"])
    def test_other_formats(self, hive: dict[str, Any], name: str) -> None:
        with pytest.raises(UsageError, match=r"\.gif, \.mp4"):
            animate_swarm(hive, Path(name))

    def test_too_few_frames(self, hive: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="at least 2"):
            animate_swarm(hive, Path("a.gif"), 1)

    def test_it_cannot_be_written(self, hive: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=r"none/a\.gif: cannot be written: No such file"):
            animate_swarm(hive, Path("none/a.gif"), 2)

    def test_no_ffmpeg(self, hive: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(Path.cwd()))
        with pytest.raises(UsageError, match=r"a\.mp4: .*ffmpeg, which is not installed; install it, or choose \.gif"):
            animate_swarm(hive, Path("a.mp4"))
        assert not Path("a.mp4").exists()

    def _ffmpeg(self, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Something else under its name, first on the path."""
        folder = Path.cwd() / "bin"
        folder.mkdir()
        (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def test_what_ffmpeg_is_given(self, hive: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self._ffmpeg('echo "$@" > arguments; for last in "$@"; do :; done; cat > "$last"', monkeypatch)
        animate_swarm(hive, Path("a.mp4"), 4)
        arguments = Path("arguments").read_text().split()
        width, height = map(int, arguments[arguments.index("-s") + 1].split("x"))
        assert width % 2 == height % 2 == 0
        frames = np.frombuffer(Path("a.mp4").read_bytes(), np.uint8).reshape(-1, height, width, 3)
        film = _Film(hive, 4)
        assert film._drawn.figure.dpi == DPI
        expected = [film.picture(x)[:height, :width] for x in film.positions]
        same = [[number for number, one in enumerate(expected) if np.array_equal(one, frame)] for frame in frames]
        assert same[0] == [0]
        assert same.count([1]) == same.count([2]) == 1
        assert same.count([0]) > 5 < same.count([3])
        assert all(same)

    def test_ffmpeg_fails(self, hive: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self._ffmpeg("echo first >&2; echo no such encoder >&2; exit 1", monkeypatch)
        with pytest.raises(UsageError, match=r"a\.mp4: ffmpeg could not write it: no such encoder; choose \.gif"):
            animate_swarm(hive, Path("a.mp4"), 3)
        assert not Path("a.mp4").exists()
