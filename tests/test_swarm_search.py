"""``charrnn swarm --search``: against a full grid, against itself when interrupted or shared, and as a person uses it.

Most searches here train nothing: ``Lab`` answers in the place of ``train_bees`` with a loss that a test has made up.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib.axes import Axes

from charrnn.cli._search import password_again
from charrnn.config.loader import dump_config
from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, ConfigError, DataError
from charrnn.plots.figures import save_figure
from charrnn.plots.search import draw_search
from charrnn.runs.metrics import read_metrics
from charrnn.studies.compared import RESULT
from charrnn.studies.swarm import work
from charrnn.studies.swarm.bee import Landed, Task, fallen
from charrnn.studies.swarm.colony import make_colony
from charrnn.studies.swarm.command import training_command
from charrnn.studies.swarm.hive import Hive, find_or_make_hive
from charrnn.studies.swarm.memory import without_password
from charrnn.studies.swarm.search import Search, make_search, results_of_search, search_of_plan
from charrnn.studies.swarm.space import Group, grid_values, parse_vary
from charrnn.studies.swarm.speed import Arrangement
from charrnn.studies.swarm.study import fly
from charrnn.studies.swarm.study import results_of as results_of_grid
from charrnn.studies.swarm.texts import Parcel
from charrnn.studies.swarm.trials import fly_search
from charrnn.text.places import Places
from tests.command_line import run
from tests.conftest import TEXT, make_config
from tests.helpers import never
from tests.test_bad_input import cases, refused

TINY = ("model.num_layers=1", "training.max_steps=12", "run.eval_every=12", "run.save_every=12")
LR = "training.lr=1e-4..1e-1:log"
SIZE = "model.hidden_size=2,4,8,16"
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 4, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 12, threads: 1}
run: {eval_every: 12, save_every: 12, sample_length: 10}
"""


class Inline(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Inside:
    """This process as the place to work in; also stands in for ``LocalWorkplace``."""

    cores = 1
    progress = 0.0

    def __init__(self, jobs: int | None = None, executor: Executor | None = None) -> None:
        self.executor = executor or Inline()

    def use(self, jobs: int) -> None:
        pass

    def share(self, parcel: Parcel) -> object:
        return parcel

    def stop(self) -> None:
        pass

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        pass


Loss = Callable[[Config], float | None]


@dataclass
class Lab:
    """In the place of ``train_bees``: bees end with the loss that ``loss`` says, None: diverged. Keeps who was here."""

    loss: Loss
    flown: list[str] = field(default_factory=list)
    before: Callable[[], object] = lambda: None

    def __call__(self, parcel: object, tasks: tuple[Task, ...], keep_checkpoints: bool) -> list[Landed]:
        landed = []
        for task in tasks:
            self.before()
            self.flown.append(task.place)
            result = fallen(task, "diverged").result
            loss = self.loss(task.config)
            result |= {"status": "diverged"} if loss is None else {"status": "ended", "val_loss": loss}
            content = json.dumps(result).encode()
            landed.append(Landed(task, {"config.yaml": dump_config(task.config).encode(), RESULT: content}))
        return landed


@dataclass
class Ledger:
    """A watcher that keeps what it was told."""

    new: list[str] = field(default_factory=list)
    old: list[str] = field(default_factory=list)
    spared: int = 0

    def landed(self, task: Task, result: dict[str, Any], anew: bool) -> None:
        (self.new if anew else self.old).append(task.place)

    def flying(self, bees: float) -> None:
        pass

    def skipped(self, bees: int) -> None:
        self.spared += bees

    @property
    def total(self) -> int:
        return len(self.new) + len(self.old) + self.spared


def by_rate(config: Config) -> float:
    """Best at a rate of 0.01; each seed is a little different."""
    return 0.1 + abs(math.log10(config.training.lr) + 2) / 3 + 0.01 * (config.training.seed % 3)


@pytest.fixture(autouse=True)
def text(in_own_folder: Path) -> None:
    Path("cat.txt").write_text(TEXT)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(by_rate)
    monkeypatch.setattr(work, "train_bees", made)
    return made


def groups_of(*vary: str) -> list[Group]:
    return [parse_vary(text) for text in vary]


def planned(
    *vary: str,
    trials: int = 8,
    seeds: int = 2,
    prune: bool = False,
    storage: str | None = None,
    out: str = "runs",
    settings: tuple[str, ...] = (),
) -> tuple[Search, Hive]:
    """A search of ``vary`` around a tiny config, and its hive."""
    base = make_config("cat.txt", *TINY, f"run.out={out}", *settings)
    places = Places.from_environment()
    words = ["--config", "x.yaml"]
    search = make_search(base, groups_of(*vary), seeds, trials, prune, storage, words, places)
    hive = find_or_make_hive(Path(out), "x", search.plan)
    hive.write_plan({**hive.plan, "trials": trials, "command": words})
    return search, hive


def flown(
    search: Search,
    hive: Hive,
    jobs: int = 1,
    together: int = 1,
    executor: Executor | None = None,
    should_stop: Callable[[], object] = never,
) -> tuple[dict[str, Any], Ledger]:
    """The results of a search, and what its watcher was told."""
    ledger, memory = Ledger(), search.memory(hive)
    arrangement = Arrangement(jobs, 1, together)
    fly_search(search, memory, hive, Inside(executor=executor), arrangement, ledger, should_stop, False)
    return results_of_search(search, memory, hive), ledger


def stop_after(lab: Lab, bees: int) -> Callable[[], bool]:
    return lambda: len(lab.flown) >= bees


def outcome(results: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What was tried, in order, and how it came out."""
    return [(one["state"], one["settings"], one["median"], one["bees"]) for one in results["trials"]]


class TestWhatIsFound:
    def test_the_best_of_the_full_grid(self) -> None:
        """The grid is trained by ``charrnn swarm`` itself; the same seeds give the same numbers, to the last bit."""
        vary = ("training.lr=1e-3,3e-2", "model.hidden_size=2,6 model.cell=lstm,gru")
        base = make_config("cat.txt", *TINY)
        colony = make_colony(base, [grid_values(group) for group in groups_of(*vary)], 2, Places.from_environment())
        grid_hive = find_or_make_hive(Path("runs"), "grid", colony.plan)
        fly(colony, Arrangement(1, 1), grid_hive, Inside(), Ledger(), never, False)
        grid = {tuple(one["labels"]): one["median"] for one in results_of_grid(colony, grid_hive)["swarms"]}
        assert len(set(grid.values())) == 4

        results, _ = flown(*planned(*vary, trials=16))
        found = {tuple(one["labels"]): one["median"] for one in results["trials"]}
        assert found == grid
        best = results["trials"][results["best"]]
        assert best["median"] == min(grid.values())
        assert best["settings"].keys() == {"training.lr", "model.hidden_size", "model.cell"}

    def test_a_range_is_narrowed_down(self, lab: Lab) -> None:
        """Of random rates a third, five, would lie within half a decade of the best one."""
        search, hive = planned(LR, trials=30, seeds=1)
        results, _ = flown(search, hive)
        asked = optuna.load_study(study_name=search.name, storage=storage_of(hive)).trials[0].distributions
        assert asked == {"training.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)}
        rates = [one["settings"]["training.lr"] for one in results["trials"]]
        near = [abs(math.log10(rate) + 2) < 0.5 for rate in rates[15:]]
        assert sum(near) >= 8
        assert abs(math.log10(rates[results["best"]]) + 2) < 0.1
        assert all(1e-4 <= rate <= 1e-1 and rate == float(f"{rate:.4g}") for rate in rates)

    def test_a_range_of_whole_numbers(self, lab: Lab) -> None:
        results, _ = flown(*planned("model.hidden_size=2..9", trials=12, seeds=1))
        sizes = [one["settings"]["model.hidden_size"] for one in results["trials"]]
        assert all(isinstance(size, int) and 2 <= size <= 9 for size in sizes)
        assert len(set(sizes)) > 3

    def test_lists_and_null_are_choices(self, lab: Lab) -> None:
        """They are told from each other by their place."""
        results, _ = flown(
            *planned("training.grad_clip=null,1.0 training.betas=[0.9,0.99],[0.8,0.9]", trials=8, seeds=1)
        )
        pairs = [
            (one["settings"]["training.grad_clip"], one["settings"]["training.betas"]) for one in results["trials"]
        ]
        assert {str(pair) for pair in pairs} == {"(None, [0.9, 0.99])", "(1.0, [0.8, 0.9])"}


class TestObjective:
    @pytest.mark.parametrize(
        ("losses", "expected"),
        [
            ((0.5, 0.9, 0.6), 0.6),
            ((0.5, None, 0.7), 0.7),
            ((0.5, None, None), "cap"),
            ((0.5, 99.0, 98.0), "cap"),
            ((None, None, None), "cap"),
        ],
    )
    def test_the_median_capped(self, losses: tuple[float | None, ...], expected: float | str, lab: Lab) -> None:
        lab.loss = lambda config: losses[config.training.seed - 1]
        results, _ = flown(*planned("model.hidden_size=4", trials=1, seeds=3))
        [one] = results["trials"]
        assert one["median"] == pytest.approx(2 * math.log(len(set(TEXT))) if expected == "cap" else expected)
        assert one["diverged"] == pytest.approx(losses.count(None) / 3)
        assert (one["bees"], one["state"]) == (3, "complete")

    def test_a_bee_that_failed_counts_as_one_that_diverged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> list[Landed]:
            raise MemoryError("no room")

        monkeypatch.setattr(work, "train_bees", broken)
        results, _ = flown(*planned("model.hidden_size=4", trials=1, seeds=2))
        assert results["trials"][0]["median"] == pytest.approx(2 * results["uniform"])
        assert results["trials"][0]["diverged"] == 1

    def test_the_same_seeds_for_all(self, lab: Lab) -> None:
        flown(*planned(SIZE, trials=12, seeds=3, settings=("training.seed=5",)))
        seeds: dict[str, list[str]] = {}
        for place in lab.flown:
            seeds.setdefault(place.split("/")[0], []).append(place.split("/")[1])
        assert len(seeds) > 1
        assert all(found == ["bee-5", "bee-6", "bee-7"] for found in seeds.values())


class TestNothingTwice:
    def test_a_combination_proposed_again_is_not_trained_again(self, lab: Lab) -> None:
        results, ledger = flown(*planned(SIZE, trials=9))
        assert len(results["trials"]) == 9
        assert max(Counter(lab.flown).values()) == 1
        assert len(lab.flown) == 2 * len({str(one["settings"]) for one in results["trials"]}) <= 8
        assert ledger.total == 18

    def test_nor_while_it_is_still_under_way(self, lab: Lab) -> None:
        with ThreadPoolExecutor(2) as executor:
            results, ledger = flown(*planned("model.hidden_size=4", trials=3, seeds=1), jobs=2, executor=executor)
        assert len(lab.flown) == 1
        assert [one["state"] for one in results["trials"]] == ["complete"] * 3
        assert ledger.total == 3

    def test_numbers_that_look_alike_have_folders_of_their_own(self, lab: Lab) -> None:
        results, _ = flown(*planned("training.lr=0.012345671,0.012345672", trials=10, seeds=1))
        assert len(set(lab.flown)) == len({one["settings"]["training.lr"] for one in results["trials"]}) == 2


class TestAgain:
    def test_one_process_finds_the_same_again(self, lab: Lab) -> None:
        first, _ = flown(*planned(LR, SIZE, trials=9, out="a"))
        second, _ = flown(*planned(LR, SIZE, trials=9, out="b"))
        assert outcome(first) == outcome(second)
        other, _ = flown(*planned(LR, SIZE, trials=9, out="c", settings=("training.seed=2",)))
        assert [one["settings"] for one in first["trials"]] != [one["settings"] for one in other["trials"]]

    @pytest.mark.parametrize("bees", [1, 6, 13])
    def test_interrupted_it_goes_on_as_if_it_had_not_been(self, bees: int, lab: Lab) -> None:
        whole, _ = flown(*planned(LR, SIZE, trials=9, out="whole"))
        lab.flown.clear()
        search, hive = planned(LR, SIZE, trials=9)
        part, _ = flown(search, hive, should_stop=stop_after(lab, bees))
        assert len(lab.flown) == bees if bees % 2 == 0 else bees + 1  # what was sent at once has landed
        assert outcome(part) == outcome(whole)[: len(part["trials"])]
        assert all(one["state"] == "complete" for one in part["trials"])
        kept = {place: (hive.path / place / RESULT).stat().st_mtime_ns for place in lab.flown}
        after, ledger = flown(*planned(LR, SIZE, trials=9))
        assert outcome(after) == outcome(whole)
        assert max(Counter(lab.flown).values()) == 1
        assert {place: (hive.path / place / RESULT).stat().st_mtime_ns for place in kept} == kept
        assert ledger.total == 2 * (9 - len(part["trials"]))

    def test_interrupted_amid_a_combination(self, lab: Lab) -> None:
        """Its bees that have landed are not trained again, and the same combination is proposed again."""
        whole, _ = flown(*planned(LR, trials=3, seeds=4, out="whole"))
        lab.flown.clear()
        asked_to_end = threading.Event()
        lab.before = lambda: lab.flown[4:] and asked_to_end.wait(60)
        search, hive = planned(LR, trials=3, seeds=4)
        asked: list[int] = []

        def stop() -> bool:
            """From the fifth bee on; by the third time it says so, those that had not begun are recalled."""
            asked.extend([1] * (len(lab.flown) >= 5))
            if len(asked) == 3:
                asked_to_end.set()
            return bool(asked)

        with ThreadPoolExecutor(1) as executor:
            flown(search, hive, executor=executor, should_stop=stop)
        assert len(lab.flown) == 6
        assert outcome(results_of_search(search, search.memory(hive), hive)) == outcome(whole)[:1]
        trials = optuna.load_study(study_name=search.name, storage=storage_of(hive)).trials
        assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL"]
        there = len(lab.flown)
        after, ledger = flown(search, hive)
        assert outcome(after) == outcome(whole)
        assert (len(ledger.new), len(ledger.old)) == (12 - there, there - 4)
        assert max(Counter(lab.flown).values()) == 1

    def test_more_trials_go_on_from_there(self, lab: Lab) -> None:
        flown(*planned(LR, trials=5))
        count = len(lab.flown)
        results, ledger = flown(*planned(LR, trials=9))
        assert len(results["trials"]) == 9
        assert len(lab.flown) == len(ledger.new) + count == 18
        assert outcome(results) == outcome(flown(*planned(LR, trials=9, out="other"))[0])

    def test_what_is_there_is_only_shown(self, lab: Lab) -> None:
        first, _ = flown(*planned(LR, trials=5))
        second, ledger = flown(*planned(LR, trials=3))
        assert second == {**first, "wanted": 3}
        assert ledger.total == 0

    def test_a_killed_search_leaves_nothing_behind(self, lab: Lab) -> None:
        """Its trials are still running, says the storage; nobody else can be at work in a hive that is locked."""
        search, hive = planned(LR, trials=4)
        killed = search.memory(hive)
        assert killed.ask(search.groups, 4) is not None
        assert killed.count == 1
        results, _ = flown(search, hive)
        assert [one["state"] for one in results["trials"]] == ["complete"] * 4

    def test_the_trials_of_another_hive_are_left_alone(self, lab: Lab) -> None:
        journal = str(Path("shared.log").absolute())
        search, hive = planned(LR, trials=4, storage=journal, out="a")
        assert search.memory(hive).ask(search.groups, 4) is not None
        results, _ = flown(*planned(LR, trials=4, storage=journal, out="b"))
        assert Counter(one["state"] for one in results["trials"]) == {"running": 1, "complete": 3}

    def test_half_a_line_at_the_end_of_the_journal(self, lab: Lab) -> None:
        search, hive = planned(LR, trials=3)
        flown(search, hive)
        with (hive.path / "search.log").open("ab") as file:
            file.write(b'{"op_code":4,"wor')
        results, _ = flown(*planned(LR, trials=6))
        assert [one["state"] for one in results["trials"]] == ["complete"] * 6
        assert len(search.memory(hive).rows()) == 6

    def test_the_plan_says_it_all(self, lab: Lab) -> None:
        whole, _ = flown(*planned(LR, "model.hidden_size=2..9", "training.grad_clip=null,1", trials=9, out="whole"))
        search, hive = planned(LR, "model.hidden_size=2..9", "training.grad_clip=null,1", trials=4)
        flown(search, hive)
        again = search_of_plan(hive, None, 9, None, Places.from_environment())
        assert again.name == search.name
        after, _ = flown(again, hive)
        assert outcome(after) == outcome(whole)
        assert hive.plan["trials"] == 9

    def test_another_text_is_another_search(self, lab: Lab, text_file: Path) -> None:
        search, hive = planned(LR, trials=2, settings=(f"corpus.source={text_file}",))
        flown(search, hive)
        text_file.write_text("abcabd" * 500)
        with pytest.raises(DataError, match="has changed"):
            search_of_plan(hive, None, None, None, Places.from_environment())


class TestShared:
    @pytest.mark.parametrize("storage", ["shared.log", "sqlite:///shared.db"])
    def test_two_hives_divide_the_trials(self, storage: str, lab: Lab) -> None:
        together = threading.Barrier(2, timeout=60)
        met = threading.Event()

        def meet() -> None:
            if not met.is_set():  # the first bee of each waits for that of the other
                together.wait()
                met.set()

        lab.before = meet
        pairs = [planned(LR, trials=9, seeds=1, storage=storage, out=out) for out in "ab"]
        with ThreadPoolExecutor(2) as threads:
            both = list(threads.map(lambda pair: flown(*pair), pairs))
        results = [result for result, _ in both]
        memory = pairs[0][0].memory(pairs[0][1])
        rows = memory.rows()
        assert [one["state"] for one in rows] == ["complete"] * 9
        assert len({one["settings"]["training.lr"] for one in rows}) == 9
        trained = [len(ledger.new) for _, ledger in both]
        assert sum(trained) == len(lab.flown) == 9
        assert min(trained) > 0
        assert max(len(result["trials"]) for result in results) == 9

    def test_two_that_ask_at_once(self, monkeypatch: pytest.MonkeyPatch, lab: Lab) -> None:
        """For the last trial: the slower one hears that there is none."""
        pairs = [planned(LR, trials=1, seeds=1, storage="shared.log", out=out) for out in "ab"]
        slow, fast = (search.memory(hive) for search, hive in pairs)
        groups = pairs[0][0].groups
        ask, asked = slow._study.ask, []

        def overtaken() -> optuna.Trial:
            asked.append(fast.ask(groups, 1))
            return ask()

        monkeypatch.setattr(slow._study, "ask", overtaken)
        assert slow.ask(groups, 1) is None
        assert asked[0] is not None
        assert slow.count == 1

    def test_what_is_being_asked_for_is_no_combination_yet(self, lab: Lab) -> None:
        """Another machine's, between its question and the answer."""
        search, hive = planned(LR, trials=2, seeds=1)
        flown(search, hive)
        memory = search.memory(hive)
        memory._study.ask()
        assert memory.count == 3
        assert [row["number"] for row in memory.rows()] == [0, 1]

    def test_other_seeds_or_settings_are_another_search(self) -> None:
        name = planned(LR)[0].name
        assert planned(LR, trials=99, out="other")[0].name == name
        for one in (
            planned(LR, seeds=3),
            planned(SIZE),
            planned(LR, prune=True),
            planned(LR, settings=("model.cell=gru",)),
            planned(LR, settings=("corpus.split=[0.8,0.1,0.1]",)),
        ):
            assert one[0].name != name

    def test_a_text_may_lie_elsewhere(self) -> None:
        Path("other.txt").write_text(TEXT)
        assert planned(LR, out="a")[0].name == planned(LR, out="b", settings=("corpus.source=other.txt",))[0].name

    def test_a_database_keeps_its_password_to_itself(self) -> None:
        search, _ = planned(LR, storage="postgresql://me:secret@host/db", out="a")
        assert search.plan["search"]["storage"] == "postgresql://me@host/db"

    def test_what_goes_on_is_told_that_it_wants_the_password_again(self) -> None:
        assert password_again("postgresql://me:secret@host/db") == (
            " --storage postgresql://me@host/db, with its password, which is not kept"
        )
        for storage in (None, "shared.log", "sqlite:///shared.db", "postgresql://me@host/db"):
            assert password_again(storage) == ""

    @pytest.mark.parametrize(
        ("storage", "shown"),
        [
            ("mysql+pymysql://me:a:b@c@host:33/db?x=1:2@3", "mysql+pymysql://me@host:33/db?x=1:2@3"),
            ("postgresql://me@server:secret@host/db", "postgresql://me@server@host/db"),
            ("postgresql://me:s/e?c#r:et@host/db", "postgresql://me@host/db"),
            ("postgresql://:secret@host/db", "postgresql://@host/db"),
        ],
    )
    def test_what_is_shown_of_a_storage(self, storage: str, shown: str) -> None:
        assert without_password(storage) == shown

    @pytest.mark.parametrize(
        "storage",
        ["postgresql://me@host/db", "mysql://host:33/a:b", "sqlite:///a:b@c.db", "a:b@c.log", "//a:b@c.log"],
    )
    def test_without_a_password_all_is_shown(self, storage: str) -> None:
        assert without_password(storage) == storage


class TestPruning:
    def searched(self) -> tuple[dict[str, Any], Ledger]:
        return flown(*planned(LR, trials=20, seeds=4, prune=True))

    def test_by_the_rule(self, lab: Lab) -> None:
        """The median rule, computed here again: worse than half of the finished ones were after as many bees."""
        results, ledger = self.searched()
        finished: list[list[float]] = []
        pruned = 0
        for one in results["trials"]:
            config = make_config("cat.txt", *TINY, f"training.lr={one['settings']['training.lr']!r}")
            losses = [
                by_rate(config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})}))
                for seed in range(1, 5)
            ]
            running = [median(losses[: count + 1]) for count in range(4)]
            stop = next(
                (
                    count
                    for count in range(1, 4)
                    if len(finished) >= 5 and min(running[:count]) > median(before[count - 1] for before in finished)
                ),
                None,
            )
            assert one["state"] == ("complete" if stop is None else "pruned")
            assert one["bees"] == (stop or 4)
            assert one["median"] == pytest.approx(running[one["bees"] - 1])
            if stop is None:
                finished.append(running)
            pruned += stop is not None
        assert 3 <= pruned <= 15
        assert len(lab.flown) == sum(one["bees"] for one in results["trials"])
        assert ledger.total == 80
        assert results["trials"][results["best"]]["state"] == "complete"

    def test_never_unless_asked_for(self, lab: Lab) -> None:
        results, _ = flown(*planned(LR, trials=12, seeds=3))
        assert {one["state"] for one in results["trials"]} == {"complete"}
        assert len(lab.flown) == 36

    def test_seeds_one_after_the_other_trials_side_by_side(self, lab: Lab) -> None:
        """Two bees meet at a time, and never two of one combination: that takes two combinations in flight."""
        pairs: list[list[str]] = [[]]
        meeting = threading.Barrier(2, timeout=60)

        def loss(config: Config) -> float:
            pairs[-1].append(config.run.out)
            if meeting.wait() == 0:
                pairs.append([])
            meeting.wait()
            return 1.0

        lab.loss = loss
        with ThreadPoolExecutor(2) as executor:
            results, _ = flown(*planned(LR, trials=4, seeds=3, prune=True), jobs=2, executor=executor)
        assert len(results["trials"]) == 4
        assert [len(set(pair)) for pair in pairs[:-1]] == [2] * 6


class TestAllProcesses:
    def test_are_busy(self, lab: Lab) -> None:
        """Every bee waits for another one: with three to a combination, the next one is begun before the last ends."""
        meeting = threading.Barrier(2, timeout=60)
        lab.before = meeting.wait
        with ThreadPoolExecutor(2) as executor:
            results, _ = flown(*planned(LR, trials=4, seeds=3), jobs=2, executor=executor)
        assert [one["state"] for one in results["trials"]] == ["complete"] * 4
        assert [one["diverged"] for one in results["trials"]] == [0] * 4

    def test_bees_of_a_combination_are_stacked(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        units: list[int] = []

        def count(parcel: object, tasks: tuple[Task, ...], keep: bool) -> list[Landed]:
            units.append(len(tasks))
            return lab(parcel, tasks, keep)

        monkeypatch.setattr(work, "train_bees", count)
        alike = ("training.random_seq_len=false", "training.state_reset=0", "model.dropout=0")
        flown(*planned(LR, trials=3, seeds=3, settings=alike), together=64)
        assert units == [3, 3, 3]


class TestWhatCannotBeTrained:
    def test_a_precision_that_is_not_there_fails_its_own_combinations(self, lab: Lab) -> None:
        """Of a batch, too, where it is found out before any bee flies."""
        found = planned("training.precision=fp32,fp16", LR, settings=("training.device=cpu",))
        results, _ = flown(*found, together=2)
        for one in results["trials"]:
            lost = one["settings"]["training.precision"] == "fp16"
            assert one["state"] == ("failed" if lost else "complete")
            assert not lost or "float16 is fast on GPUs only" in one["reason"]
        assert len({one["state"] for one in results["trials"]}) == 2

    def test_is_told_and_passed_over(self, lab: Lab) -> None:
        """Tied weights need equal sizes; a window longer than the text cannot be filled."""
        vary = ("model.hidden_size=4,8", "model.tie_weights=true,false", "training.seq_len=5,900000")
        search, hive = planned(*vary, trials=40, seeds=1)
        results, ledger = flown(search, hive)
        states: Counter[str] = Counter()
        for one in results["trials"]:
            settings = one["settings"]
            tied = settings["model.tie_weights"] and settings["model.hidden_size"] != 4
            long = settings["training.seq_len"] != 5
            assert one["state"] == ("failed" if tied or long else "complete")
            states[one["state"]] += 1
            assert bool(one["reason"]) == (tied or long)
            assert not tied or "tie_weights" in one["reason"]
            assert one["median"] is None or one["bees"] == 1
        assert len(results["trials"]) == 40
        assert min(states.values()) > 3
        assert all("900000" not in place for place in lab.flown)
        assert ledger.total == 40
        trials = optuna.load_study(study_name=search.name, storage=storage_of(hive)).trials
        assert Counter(trial.state.name for trial in trials) == {
            "FAIL": states["failed"],
            "COMPLETE": states["complete"],
        }

    def test_when_nothing_can_be(self) -> None:
        with pytest.raises(ConfigError, match="hidden_sice"):
            planned("model.hidden_sice=1,2", LR)
        with pytest.raises(DataError, match="900000"):
            planned("training.seq_len=900000,1000000")

    def test_an_error_on_the_way_gives_up_what_is_under_way(self, lab: Lab) -> None:
        search, hive = planned(LR, trials=4)

        def full(*_: object) -> None:
            raise CharRNNError("the disk is full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Hive, "keep", full)
            with pytest.raises(CharRNNError, match="full"):
                flown(search, hive)
        trials = optuna.load_study(study_name=search.name, storage=storage_of(hive)).trials
        assert [trial.state.name for trial in trials] == ["FAIL"]
        assert search.memory(hive).count == 0


def storage_of(hive: Hive) -> optuna.storages.JournalStorage:
    backend = optuna.storages.journal.JournalFileBackend(str(hive.path / "search.log"))
    return optuna.storages.JournalStorage(backend)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command works in this process, and its pictures are not drawn."""
    Path("x.yaml").write_text(CONFIG)
    monkeypatch.setattr("charrnn.studies.swarm.arrange.LocalWorkplace", Inside)
    monkeypatch.setattr("charrnn.plots.figures.save_figure", lambda _, path: path.write_bytes(b"picture"))


WORDS = ("swarm", "--config", "x.yaml", "--search", "--jobs", "1", "--batched", "no")


def searched(*words: str) -> str:
    """What the command prints when all is well."""
    result = run(*WORDS, *words)
    assert result.code == 0, result.err
    return result.out


@pytest.mark.usefixtures("command")
class TestCommand:
    def test_the_command_it_ends_with_trains_the_best_bee(self) -> None:
        """The first bee is bit for bit the run that ``charrnn train`` makes."""
        out = searched(
            "--trials", "4", "--seeds", "1", "--vary", "training.lr=3e-3..3e-2:log", "--set", "model.cell=gru"
        )
        assert not optuna.logging.get_verbosity() > optuna.logging.WARNING
        found = json.loads(Path("runs/x-swarm/search.json").read_text())
        best = found["trials"][found["best"]]
        assert f"Best: lr={best['settings']['training.lr']:g}, median" in out
        words = shlex.split(re.findall(r"Train it: (charrnn .*)", out)[0])
        assert run(*words[1:]).code == 0
        losses = [row["val_loss"] for row in read_metrics(Path("runs/x/metrics.jsonl")) if "val_loss" in row]
        assert losses[-1] == best["median"]
        folder = Path("runs/x-swarm")
        assert (folder / best["swarm"] / "bee-1" / "metrics.jsonl").exists()
        made = {path.name for path in folder.iterdir() if path.is_file()}
        assert made == {"hive.yaml", "search.json", "search.log", "search.png", "search.svg"}

    def test_that_command_is_true_in_another_folder(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("my words.txt").write_text(TEXT)
        out = searched("--trials", "1", "--seeds", "1", "--vary", LR, "--data", "my words.txt")
        words = shlex.split(re.findall(r"Train it: (charrnn .*)", out)[0])
        assert str(Path("my words.txt").absolute()) in words
        assert str(Path("x.yaml").absolute()) in words

    def test_table_best_first(self, lab: Lab) -> None:
        out = searched(
            "--trials", "12", "--vary", SIZE.replace("2,4", "2,4,6"), "--vary", "model.tie_weights=true,false"
        )
        rows = [line for line in out.splitlines() if "hidden_size=" in line and "median" not in line]
        rows = rows[: len([line for line in rows if not line.startswith("Train")])]
        medians = [re.findall(r"\d\.\d{4}", line)[0] for line in rows if "failed" not in line]
        assert medians == sorted(medians)
        assert len(rows) == len(set(rows)) <= 10
        assert re.search(r"12 combinations tried(, \d of them again)?\n", out)
        assert all("failed" in line for line in rows[len(medians) :])

    def test_twenty_lines_and_how_many_more(self, lab: Lab) -> None:
        out = searched("--trials", "23", "--seeds", "1", "--vary", LR)
        assert sum(" lr=" in line and "Best" not in line for line in out.splitlines()) == 20
        assert "... and 3 more" in out

    def test_json_and_defaults(self, lab: Lab) -> None:
        out = searched("--vary", LR, "--json")
        results = json.loads(out)
        assert results == json.loads(Path("runs/x-swarm/search.json").read_text())
        assert (len(results["trials"]), len(results["seeds"])) == (30, 3)

    def test_resume(self, lab: Lab) -> None:
        searched("--trials", "3", "--vary", LR)
        result = run("swarm", "--resume", "runs/x-swarm", "--jobs", "1", "--trials", "5", "--json")
        assert result.code == 0, result.err
        assert len(json.loads(result.out)["trials"]) == 5
        assert "3 tried before" in result.err
        assert len(lab.flown) == 15
        result = run("swarm", "--resume", "runs/x-swarm", "--jobs", "1")
        assert "5 combinations tried" in result.out
        assert len(lab.flown) == 15

    def test_a_moved_text(self, lab: Lab) -> None:
        Path("words.txt").write_text(TEXT)
        searched("--trials", "2", "--vary", LR, "--data", "words.txt", "--set", "model.cell=gru")
        Path("words.txt").rename("moved.txt")
        resume = ("swarm", "--resume", "runs/x-swarm", "--jobs", "1")
        assert "runs/x-swarm --data PATH" in run(*resume).err
        Path("other.txt").write_text(TEXT + TEXT)
        assert "other.txt: is not the text" in run(*resume, "--data", "other.txt").err
        assert "2 tried before" in run(*resume, "--data", "moved.txt").err
        result = run(*resume, "--trials", "3")
        assert (result.code, len(lab.flown)) == (0, 9), result.err
        words = shlex.split(re.findall(r"Train it: (charrnn .*)", result.out)[0])
        assert words.count("--data") == 1
        assert words[words.index("--data") + 1] == str(Path("moved.txt").absolute())
        assert "model.cell=gru" in words

    def test_a_text_that_nobody_reads_may_be_missing(self, lab: Lab) -> None:
        Path("words.txt").write_text(TEXT)
        searched("--trials", "2", "--vary", "corpus.source=words.txt", "--vary", LR, "--data", "none.txt")
        assert len(lab.flown) == 6

    @pytest.mark.parametrize("gone", ["cat.txt", "words.txt"])
    def test_one_of_several_texts_that_is_gone_fails_its_own_combinations(self, gone: str, lab: Lab) -> None:
        Path("words.txt").write_text(TEXT + "!")
        vary = ("--vary", "corpus.source=cat.txt,words.txt", "--vary", LR)
        searched("--trials", "2", *vary)
        plan = Path("runs/x-swarm/hive.yaml").read_text()
        Path(gone).unlink()
        flown = len(lab.flown)
        resume = ("swarm", "--resume", "runs/x-swarm", "--jobs", "1", "--trials")
        result = run(*resume, "12", "--json")
        assert result.code == 0, result.err
        assert "2 tried before" in result.err
        later = json.loads(result.out)["trials"][2:]
        assert len(later) == 10
        for one in later:
            lost = Path(one["settings"]["corpus.source"]).name == gone
            assert one["state"] == ("failed" if lost else "complete")
            assert (f"{gone}: cannot read the text" in (one["reason"] or "")) == lost
        assert {one["state"] for one in later} == {"failed", "complete"}
        assert len(lab.flown) - flown == 3 * sum(one["state"] == "complete" for one in later)
        assert Path("runs/x-swarm/hive.yaml").read_text() == plan.replace("trials: 2", "trials: 12")
        Path(gone).write_text(TEXT if gone == "cat.txt" else TEXT + "!")
        assert run(*resume, "13").code == 0
        Path("cat.txt").write_text(TEXT + "?")
        assert "the text has changed since it began" in run(*resume, "14").err
        Path("cat.txt").unlink()
        Path("words.txt").unlink()
        assert "cat.txt: cannot read the text" in run(*resume, "14").err

    def test_several_texts(self, lab: Lab) -> None:
        Path("words.txt").write_text(TEXT + "!")
        result = run(*WORDS, "--trials", "2", "--vary", "corpus.source=cat.txt,words.txt", "--json")
        assert " x 3 seeds on cat.txt and 1 more, 0 tried before" in result.err
        assert json.loads(result.out)["text"] == "cat.txt and 1 more"

    def test_texts_that_are_searched_cannot_be_moved(self) -> None:
        searched("--trials", "2", "--vary", LR, "--vary", f"corpus.source={Path('cat.txt').absolute()}")
        result = run("swarm", "--resume", "runs/x-swarm", "--data", "cat.txt")
        assert (result.code, "its texts are what it varies" in result.err) == (2, True), result.err

    @pytest.mark.parametrize("which", ["--set corpus.vocabulary=bytes", "--vary corpus.vocabulary=bytes"])
    def test_bytes(self, which: str, lab: Lab) -> None:
        out = searched("--trials", "1", "--vary", LR, *which.split())
        assert out.startswith("Median final validation loss, nats per byte:")

    @pytest.mark.parametrize("vary", ["corpus.source=cat.txt,words.txt", "run.eval_characters=100,200"])
    def test_what_does_not_compare_has_no_best(self, vary: str, lab: Lab) -> None:
        Path("words.txt").write_text(TEXT + "!")
        result = run(*WORDS, "--trials", "2", "--vary", LR, "--vary", vary)
        why = "losses on different texts, over different parts or of different symbols do not compare"
        assert (result.code, result.err.count(f"warning: {why}: ")) == (0, 1), result.err
        assert result.out.splitlines()[-1] == f"No best: {why}"
        found = json.loads(Path("runs/x-swarm/search.json").read_text())
        assert (found["best"], found["train"]) == (None, None)

    def test_one_of_each(self, lab: Lab) -> None:
        result = run(*WORDS, "--trials", "1", "--seeds", "1", "--vary", LR)
        assert "runs/x-swarm: 1 combination x 1 seed on cat.txt, 0 tried before" in result.err
        assert "\n1 combination tried\n" in result.out

    def test_what_to_know_of_the_text_is_said(self, lab: Lab) -> None:
        Path("short.txt").write_text(TEXT[:1050])
        err = run(*WORDS, "--vary", LR, "--trials", "2", "--data", "short.txt").err
        assert err.count("warning: short.txt: 945 characters to train on are soon known by heart") == 1

    def test_started_again_it_goes_on(self, lab: Lab) -> None:
        searched("--trials", "3", "--vary", LR)
        out = searched("--trials", "5", "--vary", LR)
        assert "5 combinations tried" in out
        assert json.loads(run("swarm", "--resume", "runs/x-swarm", "--json").out)["wanted"] == 5
        assert len(lab.flown) == 15
        assert {path.name for path in Path("runs").iterdir()} == {"x-swarm"}

    def test_ctrl_c(self, lab: Lab) -> None:
        lab.before = lambda: os.kill(os.getpid(), signal.SIGINT) if len(lab.flown) == 4 else None
        result = run(*WORDS, "--trials", "5", "--vary", LR)
        assert (result.code, result.out) == (130, "")
        assert "charrnn swarm --resume runs/x-swarm" in result.err
        assert "Traceback" not in result.err
        lab.before = lambda: None
        result = run("swarm", "--resume", "runs/x-swarm", "--jobs", "1")
        assert "5 combinations tried" in result.out
        assert max(Counter(lab.flown).values()) == 1

    def test_storage_and_prune(self, lab: Lab) -> None:
        searched("--trials", "12", "--vary", LR, "--storage", "shared.log", "--prune")
        out = searched("--trials", "14", "--vary", LR, "--storage", "shared.log", "--prune", "--name", "other")
        assert "14 combinations tried" in out
        assert "pruned" in out
        assert not Path("runs/x-swarm/search.log").exists()

    def test_optuna_says_nothing_itself(self, lab: Lab) -> None:
        result = run(*WORDS, "--trials", "3", "--vary", LR)
        assert [line.split(":")[0] for line in result.err.splitlines()] == ["Hive", "Bees", "Picture"]

    def test_nothing_comes_to_its_end(self) -> None:
        result = run(
            *WORDS,
            "--trials",
            "2",
            "--seeds",
            "1",
            "--vary",
            "training.lr=900,1000",
            "--set",
            "training.optimizer=sgd",
            "--set",
            "training.grad_clip=null",
        )
        assert result.code == 1
        assert "diverged" in result.out
        assert "Best" not in result.out
        assert "no combination finished successfully; the first one: it diverged" in result.err
        found = json.loads(Path("runs/x-swarm/search.json").read_text())
        assert (found["best"], found["train"]) == (None, None)

    def test_a_database_is_found_from_anywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run(*WORDS, "--trials", "2", "--vary", LR, "--storage", "sqlite:///x.db").code == 0
        hive = Path("runs/x-swarm").absolute()
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        assert "2 tried before" in run("swarm", "--resume", str(hive)).err
        assert not Path("x.db").exists()

    @cases(
        ("--search", "--vary training.lr=1e-4..1e-1:log"),
        ("--search --vary training.lr=1", "pip install"),
        ("--trials 3 --vary training.lr=1,2", "--trials", "--search"),
        ("--prune --vary training.lr=1,2", "--prune", "--search"),
        ("--storage a --vary training.lr=1,2", "--storage", "--search"),
        ("--search --animate --vary training.lr=1,2", "--animate"),
        ("--search --prune --batched yes --vary training.lr=1,2", "--batched"),
        ("--search --vary model.hidden=1,2", "'model.hidden'"),
        ("--vary training.lr=1e-4..1e-1:log", "--search"),
    )
    def test_bad_usage(self, words: str, says: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        if "pip install" in says:
            monkeypatch.setitem(sys.modules, "optuna", None)
        refused(f"swarm --config x.yaml {words}", *says)

    @pytest.mark.parametrize("storage", ["x.yaml/search.log", "none/search.log", "postgres://nowhere/x", "notes.txt"])
    def test_bad_storage(self, storage: str) -> None:
        Path("notes.txt").write_text("not a journal")
        result = run(*WORDS, "--vary", LR, "--storage", storage)
        assert result.code == 2
        assert storage in result.err
        assert "Traceback" not in result.err
        assert Path("notes.txt").read_text() == "not a journal"
        assert not Path("runs").exists()

    def test_an_error_does_not_tell_a_password(self) -> None:
        result = run(*WORDS, "--vary", LR, "--storage", "nothing://me:secret@host/db")
        assert (result.code, "nothing://me@host/db: cannot be used" in result.err) == (2, True), result.err
        assert "secret" not in result.err

    def test_a_grid_is_no_search(self, lab: Lab) -> None:
        assert run("swarm", "--config", "x.yaml", "--vary", SIZE, "--jobs", "1", "--batched", "no").code == 0
        refused("swarm --resume runs/x-swarm --search", "runs/x-swarm", "grid")
        refused("swarm --resume runs/x-swarm --trials 3", "--search")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("low: 0.0001", "low: 1.0"),
            ("low: 0.0001", "low: -1.0"),
            ("low: 0.0001", "low: {}"),
            ("trials: 1\n", "trials: many\n"),
            ("trials: 1\n", ""),
            ("prune: false", "prune: [1]"),
            ("command:", "commando:"),
            ("training.lr:", "training.lt:"),
        ],
    )
    def test_a_damaged_plan(self, old: str, new: str, lab: Lab) -> None:
        searched("--trials", "1", "--seeds", "1", "--vary", LR)
        plan = Path("runs/x-swarm/hive.yaml")
        assert plan.read_text().count(old) == 1
        plan.write_text(plan.read_text().replace(old, new))
        refused("swarm --resume runs/x-swarm", "training.lt" if "lt" in new else "hive.yaml")

    def test_a_search_goes_on_as_it_was_planned(self, lab: Lab) -> None:
        searched("--trials", "1", "--vary", LR)
        refused("swarm --resume runs/x-swarm --prune", "--prune")
        refused("swarm --resume runs/x-swarm --vary training.lr=1,2", "as it was planned")

    def test_another_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A real one."""
        from charrnn.studies.swarm.local import LocalWorkplace

        monkeypatch.setattr("charrnn.studies.swarm.arrange.LocalWorkplace", LocalWorkplace)
        result = run(
            "swarm",
            "--config",
            "x.yaml",
            "--search",
            "--jobs",
            "1",
            "--batched",
            "no",
            "--trials",
            "2",
            "--seeds",
            "1",
            "--vary",
            LR,
            "--json",
        )
        assert result.code == 0, result.err
        assert [one["state"] for one in json.loads(result.out)["trials"]] == ["complete"] * 2


def test_train_takes_every_kind_of_value() -> None:
    settings: dict[str, Any] = {"training.betas": [0.9, 0.5], "training.grad_clip": None, "model.tie_weights": True}
    settings |= {"training.lr": 1e-05, "corpus.source": "a file.txt"}
    words = shlex.split(training_command(["--config", "x.yaml"], settings))
    assert words[:4] == ["charrnn", "train", "--config", "x.yaml"]
    Path("a file.txt").write_text(TEXT)
    config = make_config("cat.txt", "model.embedding_size=8", *words[5::2])
    assert config.training.betas == [0.9, 0.5]
    assert (config.training.grad_clip, config.training.lr, config.model.tie_weights) == (None, 1e-5, True)
    assert config.corpus.source == "a file.txt"


@pytest.mark.parametrize("name", ["a #1.txt", "1e-3", "null", "2020-99-99", "a: b", "'a", "- ü\U0001f600", "*.txt"])
def test_train_takes_every_name_of_a_text(name: str) -> None:
    Path(name).write_text(TEXT)
    words = shlex.split(training_command(["--config", "x.yaml"], {"corpus.source": name}))
    assert make_config("cat.txt", *words[5::2]).corpus.source == name


def test_train_leaves_out_options_that_would_win() -> None:
    begun = ["--config", "x.yaml", "--data", "cat.txt", "--device", "cpu", "--seed", "2", "--data", "dog.txt"]
    command = training_command(begun, {"corpus.source": "cow.txt", "training.device": "cuda"})
    told = "--set corpus.source=cow.txt --set training.device=cuda"
    assert command == f"charrnn train --config x.yaml --seed 2 {told}"
    assert training_command(begun, {}) == f"charrnn train {' '.join(begun)}"


class TestPicture:
    def results(self) -> dict[str, Any]:
        settings = [
            {"names": ["training.lr"], "low": 1e-4, "high": 1e-1, "log": True, "choices": None},
            {"names": ["a", "b"], "low": None, "high": None, "log": False, "choices": [[1, "x"], [2, None]]},
            {"names": ["training.momentum"], "low": 0.0, "high": 0.9, "log": False, "choices": None},
        ]
        rows = [
            ("complete", 1.5, 0.0, 1e-3, 1, "x", 0.1),
            ("complete", 1.2, 0.34, 1e-2, 2, None, 0.2),
            ("complete", 2.8, 0.67, 5e-2, 1, "x", 0.3),
            ("pruned", 1.9, 0.0, 2e-4, 2, None, 0.4),
            ("failed", None, None, 9e-2, 1, "x", 0.5),
            ("running", None, None, 8e-2, 1, "x", 0.6),
        ]
        trials = [
            {
                "number": number,
                "state": state,
                "median": loss,
                "diverged": diverged,
                "settings": {"training.lr": lr, "a": a, "b": b, "training.momentum": m},
            }
            for number, (state, loss, diverged, lr, a, b, m) in enumerate(rows)
        ]
        return {
            "name": "x-swarm", "text": "x.txt", "uniform": 1.4, "seeds": [1, 2, 3],
            "settings": settings, "trials": trials, "best": 1,
        }  # fmt: skip

    def marks(self, axis: Axes) -> dict[str, list[list[float]]]:
        """Places of the marks, by the kind of mark; the ring around the best one is the large one."""
        found = {}
        for line in axis.get_lines():
            kind = "ring" if line.get_markersize() > 8 else str(line.get_marker())
            found[kind] = np.column_stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())]).tolist()
        return found

    def test_what_is_where(self, tmp_path: Path) -> None:
        figure = draw_search(self.results())
        rate, pair, momentum = figure.axes
        assert (rate.get_xscale(), pair.get_xscale(), momentum.get_xscale()) == ("log", "linear", "linear")
        assert [axis.get_xlabel() for axis in figure.axes] == ["training.lr", "a, b", "training.momentum"]
        for axis, x in ((rate, (1e-3, 1e-2, 5e-2, 2e-4, 9e-2)), (momentum, (0.1, 0.2, 0.3, 0.4, 0.5))):
            marks = self.marks(axis)
            assert marks["o"] == [[x[0], 1.5], [x[1], 1.2]]
            assert marks["v"] == [[x[3], 1.9]]
            assert marks["ring"] == [[x[1], 1.2]]
            assert [mark[0] for mark in marks["x"] + marks["s"]] == [x[2], x[4]]
            bottom, top = axis.get_ylim()
            assert all(1.9 < mark[1] < top for mark in marks["x"] + marks["s"])
            assert bottom < 1.2
        assert [label.get_text() for label in pair.get_xticklabels()] == ["1, x", "2, null"]
        assert [round(mark[0]) for mark in self.marks(pair)["o"]] == [0, 1]
        low, high = rate.get_xlim()
        assert 5e-5 < low < 1e-4
        assert 1e-1 < high < 2e-1
        [legend] = figure.legends
        told = [text.get_text() for text in legend.get_texts()]
        assert len(told) == 5
        assert "best: 1.200" in told
        save_figure(figure, tmp_path / "a.png")

    @pytest.mark.parametrize(("more", "unit"), [({}, "character"), ({"vocabularies": ["bytes"]}, "byte")])
    def test_what_a_loss_is_per(self, more: dict[str, Any], unit: str) -> None:
        """A search that does not say what it read is of before there was a difference."""
        figure = draw_search(self.results() | more)
        assert figure.get_supylabel() == f"median final validation loss, nats per {unit}"

    def test_losses_far_apart(self) -> None:
        results = self.results()
        results["trials"][1]["median"] = 1e-4
        figure = draw_search(results)
        assert all(axis.get_yscale() == "log" for axis in figure.axes)

    @pytest.mark.parametrize("states", [(), ("running",), ("failed",)])
    def test_without_a_loss(self, states: tuple[str, ...], tmp_path: Path) -> None:
        results = self.results()
        results["trials"] = [one for one in results["trials"] if one["state"] in states]
        results["best"] = None
        save_figure(draw_search(results), tmp_path / "a.svg")

    def test_many_settings(self, tmp_path: Path) -> None:
        results = self.results()
        results["settings"] = [results["settings"][0]] * 14
        figure = draw_search(results)
        assert len([axis for axis in figure.axes if axis.get_visible()]) == 12
        assert "(12 of the 14 settings are drawn)" in figure.get_suptitle()
