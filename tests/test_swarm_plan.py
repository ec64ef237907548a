"""The plan of a hive: combinations, their configs and folders, units of bees that are trained together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.schema import Config
from charrnn.errors import ConfigError, DataError, UsageError
from charrnn.studies.swarm.arrange import stacking_key
from charrnn.studies.swarm.bee import Task
from charrnn.studies.swarm.colony import Point, make_colony
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.plan import CURVE_POINTS, SAMPLES, Swarm, grid, make_swarms, observed_often
from charrnn.studies.swarm.texts import Parcel
from charrnn.studies.swarm.work import Unit, make_units
from charrnn.text.places import Places
from tests.hives import RATES, bee_config, colony_of

CELLS: list[Point] = [{"model.cell": "lstm"}, {"model.cell": "gru"}, {"model.cell": "rnn_tanh"}]
BASE = bee_config("cat.txt")
LONGEST_FILE_NAME = 255  # bytes


def swarms(*axes: list[Point], base: Config = BASE) -> list[Swarm]:
    return make_swarms(base, grid(axes))


def problems(*axes: list[Point]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        swarms(*axes)
    return caught.value.problems


class TestGrid:
    def test_the_last_axis_varies_fastest(self) -> None:
        expected = [(rate, cell) for rate in RATES for cell in CELLS]
        assert grid([RATES, CELLS]) == expected

    def test_nothing_varied_is_one_combination(self) -> None:
        [swarm] = swarms()
        assert (swarm.name, swarm.labels, swarm.settings, swarm.config) == ("all", [], {}, BASE)

    def test_too_many(self) -> None:
        """Is said at once, not after they were made."""
        axis: list[Point] = [{"training.lr": n} for n in range(1000)]
        with pytest.raises(UsageError, match="1,000,000,000,000 combinations"):
            grid([axis] * 4)


class TestSwarms:
    def test_configs(self) -> None:
        for swarm, (rate, cell) in zip(swarms(RATES, CELLS), itertools.product(RATES, CELLS), strict=True):
            assert swarm.settings == {**rate, **cell}
            training = BASE.training.model_copy(update={"lr": rate["training.lr"]})
            model = BASE.model.model_copy(update={"cell": cell["model.cell"]})
            assert swarm.config == BASE.model_copy(update={"training": training, "model": model})

    def test_names_and_labels(self) -> None:
        zipped = [{"training.seq_len": 5, "training.max_steps": 20}, {"training.seq_len": 20, "training.max_steps": 5}]
        found = swarms(zipped, [{"training.grad_clip": None}, {"training.grad_clip": 0.5}])
        assert [swarm.name for swarm in found] == [
            "seq_len=5,max_steps=20,grad_clip=null",
            "seq_len=5,max_steps=20,grad_clip=0.5",
            "seq_len=20,max_steps=5,grad_clip=null",
            "seq_len=20,max_steps=5,grad_clip=0.5",
        ]
        assert found[0].labels == ["seq_len=5, max_steps=20", "grad_clip=null"]

    def test_values_as_they_are_shown(self) -> None:
        [swarm] = swarms([{"training.betas": [0.9, 0.99]}], [{"model.tie_weights": False}], [{"corpus.fallback": None}])
        assert swarm.labels == ["betas=[0.9, 0.99]", "tie_weights=false", "fallback=null"]

    def test_bees_differ_in_their_seed_only(self) -> None:
        """And every combination has the same ones: pairs."""
        for swarm in swarms(RATES):
            for seed in (1, 2, 30):
                config = swarm.bee_config(seed)
                training = swarm.config.training.model_copy(update={"seed": seed})
                assert config == swarm.config.model_copy(update={"training": training})

    def test_a_whole_section(self) -> None:
        everywhere, places = 0.1, {"input": 0.2, "between": 0.0, "output": 0.0}
        found = swarms([{"model.dropout": everywhere}, {"model.dropout": places}])
        assert [swarm.config.model.dropout.input for swarm in found] == [0.1, 0.2]
        assert found[1].config.model.dropout.output == 0
        assert found[1].labels == ["dropout={input: 0.2, between: 0, output: 0}"]

    def test_bad_combinations_are_all_told_once(self) -> None:
        rates: list[Point] = [{"training.lr": 0.01}, {"training.lr": 5000}, {"training.lr": "fast"}]
        found = problems(rates, [*CELLS, {"model.cell": "lstn"}])
        assert len(found) == 3
        assert any(one.startswith("--vary training.lr=5000: training.lr: ") and "1000" in one for one in found)
        assert any(one.startswith("--vary training.lr=fast: training.lr: ") for one in found)
        assert any(one.startswith("--vary model.cell=lstn: model.cell: ") and "'lstm'" in one for one in found)

    def test_settings_that_do_not_go_together(self) -> None:
        """Neither is wrong alone."""
        found = problems([{"training.min_lr": 0.0}, {"training.min_lr": 0.02}], RATES)
        assert len(found) == 1
        assert found[0] == "--vary min_lr=0.02, lr=0.01: training: min_lr (0.02) is above lr (0.01)"

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("training.lrr", "did you mean 'lr'?"),
            ("trainign.lr", "did you mean 'training'?"),
            ("model.lr", "it belongs under 'training'"),
            ("training.lr.high", "training.lr"),
            ("model.dropout.inputs", "did you mean 'input'?"),
        ],
    )
    def test_unknown_keys(self, name: str, says: str) -> None:
        found = problems([{name: 0.1}, {name: 0.2}])
        assert all(says in problem for problem in found)
        assert found[0].startswith(f"--vary {name}=0.1: ")


def named_after(sources: list[str]) -> list[str]:
    """The folders of swarms that vary their text."""
    return [swarm.name for swarm in swarms([{"corpus.source": source} for source in sources])]


class TestFolderNames:
    @pytest.mark.parametrize(
        "sources",
        [
            ["a/b.txt", "a_b.txt", "a//b.txt", "a\\b.txt", "a b.txt", "a:b.txt", "a?b.txt"],
            ["../../etc/passwd", "..", ".", "/", "~", "-", "*", "|", " ", "  "],
            ["x" * 500, "x" * 501, "x" * 499 + "y", "x" * 80, "x" * 86, "x" * 87, "x" * 93, "x" * 94],
            [
                "日" * 80,
                "日" * 90,
                "日本" * 60,
                "日本" * 60 + "語",
                "🐝" * 80,
                "é" * 90,
                "e\u0301" * 90,
                "\u202e",
                "\n",
                "\x1b[31m",
            ],
            ["a=1,b=2", "a=1, b=2", "a=1 b=2"],
        ],
    )
    def test_the_file_system_takes_them(self, sources: list[str], in_own_folder: Path) -> None:
        names = named_after(sources)
        for name in names:
            assert "/" not in name
            assert not name.startswith(".")
            assert name.isprintable()
            assert len(name.encode()) <= LONGEST_FILE_NAME
            Path(name).mkdir()
        assert {path.name for path in in_own_folder.iterdir()} == set(names)
        assert len(set(names)) == len(sources)

    def test_values_that_look_the_same(self) -> None:
        names = [swarm.name for swarm in swarms([{"training.lr": 0.0123456789}, {"training.lr": 0.01234567891}])]
        assert len(set(names)) == 2
        assert all(name.startswith("lr=0.01234") for name in names)

    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True))
    def test_any(self, sources: list[str]) -> None:
        names = named_after(sources)
        assert len(set(names)) == len(sources)
        assert named_after(sources) == names
        for name in names:
            assert name.isprintable()
            assert not set(name) & set('/\\:*?"<>| ')
            assert 0 < len(name.encode()) <= LONGEST_FILE_NAME


class TestObserved:
    @pytest.mark.parametrize(
        ("assignments", "steps"),
        [
            (("training.max_steps=1000",), 1000),
            (("training.max_steps=1000", "training.epochs=2"), 200),
            (("training.max_steps=100", "training.epochs=2"), 100),
            (("training.max_steps=null", "training.epochs=0.5"), 50),
            (("training.max_steps=7",), 7),
        ],
    )
    def test_often_enough(self, assignments: tuple[str, ...], steps: int) -> None:
        """Streams of 1,000 characters, read in windows of ten."""
        config = bee_config("cat.txt", "run.log_every=50", "run.eval_every=1000", *assignments)
        few, many = observed_often(config, 1000, 4), observed_often(config, 1000, 65)
        for one in (few, many):
            assert 1 <= one.run.log_every <= 50
            lines = math.ceil(steps / one.run.log_every)
            assert lines >= min(CURVE_POINTS, steps)
            assert lines <= 2 * CURVE_POINTS or one.run.log_every == 50
            assert one.model_copy(update={"run": config.run}) == config
        assert many.run.eval_every == 1000
        assert min(SAMPLES, steps) <= math.ceil(steps / few.run.eval_every) <= 2 * SAMPLES

    def test_what_is_often_enough_already(self) -> None:
        config = bee_config("cat.txt", "training.max_steps=1000", "run.log_every=3", "run.eval_every=5")
        assert observed_often(config, 1000, 4) == config

    def test_numbers_that_look_alike_are_told_apart(self) -> None:
        swarms = make_swarms(bee_config("cat.txt"), [({"training.lr": lr},) for lr in (0.01, 0.01000001, 0.0123456789)])
        assert [swarm.labels for swarm in swarms] == [["lr=0.01"], ["lr=0.01000001"], ["lr=0.0123457"]]
        assert len({swarm.name for swarm in swarms}) == 3

    def test_what_the_user_counts_or_varies_stays(self) -> None:
        settings = ("training.max_steps=1000", "run.log_every=50", "run.eval_every=1000", "run.sample_length=90")
        patient = observed_often(bee_config("cat.txt", *settings, "training.patience=3"), 1000, 4).run
        assert (patient.eval_every, patient.log_every < 50, patient.sample_length < 90) == (1000, True, True)
        varied = ("run.eval_every", "run.log_every", "run.sample_length", "training.lr")
        config = bee_config("cat.txt", *settings)
        assert observed_often(config, 1000, 4, varied) == config

    def test_where_the_clock_decides(self) -> None:
        config = bee_config("cat.txt", "training.max_steps=null", "training.max_time=1s", "run.log_every=50")
        assert observed_often(config, 1000, 4) == config


class TestColony:
    def test_seeds_begin_at_the_config_s(self, text_file: Path, places: Places) -> None:
        colony = colony_of(bee_config(text_file, "training.seed=7"), places, 3)
        assert colony.seeds == [7, 8, 9]
        tasks = [task for task, _ in colony.tasks(Hive(Path("hive")), 1)]
        names = [swarm.name for swarm, _ in colony.swarms]
        assert [task.place for task in tasks] == [f"{name}/bee-{seed}" for seed in (7, 8, 9) for name in names]
        assert {task.config.training.threads for task in tasks} == {1}

    def test_seeds_that_no_config_may_have(self, text_file: Path, places: Places) -> None:
        config = bee_config(text_file, f"training.seed={2**63 - 2}")
        assert colony_of(config, places, 2).seeds[-1] == 2**63 - 1
        with pytest.raises(UsageError, match="beyond the largest"):
            colony_of(config, places, 3)

    def test_a_text_that_is_too_short(self, text_file: Path, places: Places) -> None:
        axis = [{"training.seq_len": 10}, {"training.seq_len": 5000}]
        with pytest.raises(DataError, match="seq_len=5000"):
            make_colony(bee_config(text_file), [axis], 1, places)

    def test_each_combination_has_its_own_text(self, text_file: Path, places: Places) -> None:
        Path("dog.txt").write_text("a dog is no cat\n" * 200)
        axis = [{"corpus.source": "cat.txt"}, {"corpus.source": "dog.txt"}]
        colony = make_colony(bee_config(text_file), [axis], 1, places)
        assert [parcel.text.name for _, parcel in colony.swarms] == ["cat.txt", "dog.txt"]
        assert len(colony.plan["texts"]) == 2


Tasks = list[tuple[Task, Parcel]]


def tasks_of(places: Places, seeds: int, *axes: list[Point]) -> Tasks:
    return make_colony(bee_config("cat.txt"), list(axes), seeds, places).tasks(Hive(Path("hive")), 1)


def places_of(units: list[Unit]) -> list[list[str]]:
    return [[task.place for task in unit.tasks] for unit in units]


@pytest.mark.usefixtures("text_file")
class TestUnits:
    def test_one_at_a_time(self, places: Places) -> None:
        tasks = tasks_of(places, 2, RATES)
        assert places_of(make_units(tasks, 1, stacking_key)) == [[task.place] for task, _ in tasks]

    @pytest.mark.parametrize("together", [2, 3, 4, 64])
    def test_every_bee_once_with_its_like(self, places: Places, together: int) -> None:
        tasks = tasks_of(places, 3, RATES, CELLS)
        units = make_units(tasks, together, stacking_key)
        assert sorted(place for unit in places_of(units) for place in unit) == sorted(task.place for task, _ in tasks)
        for unit in units:
            assert len({task.config.model.cell for task in unit.tasks}) == 1
            assert len(unit.tasks) <= together
        assert len(units) == 3 * math.ceil(6 / together)
        assert places_of(make_units(tasks, together, stacking_key)) == places_of(units)

    def test_what_cannot_be_stacked_flies_alone(self, places: Places) -> None:
        tasks = tasks_of(places, 3, [{"model.dropout": 0.0}, {"model.dropout": 0.1}])
        sizes = {unit.tasks[0].swarm: len(unit.tasks) for unit in make_units(tasks, 3, stacking_key)}
        assert sizes == {"dropout=0": 3, "dropout=0.1": 1}

    def test_texts_are_kept_apart(self, places: Places) -> None:
        Path("dog.txt").write_text("a dog is no cat\n" * 200)
        tasks = tasks_of(places, 2, [{"corpus.source": "cat.txt"}, {"corpus.source": "dog.txt"}])
        units = make_units(tasks, 4, lambda task: "all")
        assert [{task.swarm for task in unit.tasks} for unit in units] == [{"source=cat.txt"}, {"source=dog.txt"}]
        assert [unit.parcel.text.name for unit in units] == ["cat.txt", "dog.txt"]

    @pytest.mark.parametrize("together", [2, 3, 5])
    def test_more_seeds_leave_full_units_as_they_were(self, places: Places, together: int) -> None:
        def key(task: Task) -> Hashable:
            return task.config.model.cell

        few, many = (places_of(make_units(tasks_of(places, seeds, RATES, CELLS), together, key)) for seeds in (3, 8))
        full: list[Any] = [unit for unit in few if len(unit) == together]
        assert full
        assert [unit for unit in many if unit in full] == full
