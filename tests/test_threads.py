"""The number of threads: which is chosen from which speeds, and that measuring leaves no trace in the training.

``scripts/test`` sets OMP_NUM_THREADS=1, where nothing is measured: runs of tests are the same on every machine. Here
torch is given two threads where that matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from charrnn.config.schema import Config
from charrnn.errors import DataError
from charrnn.text.places import Places
from charrnn.training import threads
from charrnn.training.courtesy import SecondTeam
from charrnn.training.load import usable_cores
from charrnn.training.session import new_session, start_run
from charrnn.training.threads import ThreadChoice, candidates, choose_threads, fastest, measure
from tests.command_line import run
from tests.conftest import TEXT, make_config
from tests.helpers import differences, train

SMALL = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 5}
run: {sample_length: 20}
"""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """That do not spin, or a busy machine would need a minute for some of this."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    team = SecondTeam(len(usable_cores()) + 1)
    yield
    team.close()
    torch.set_num_threads(before)


class Machine:
    """A clock, and steps that take the time they are said to take with each number of threads."""

    def __init__(self, seconds: dict[int, float], warm_up: float = 0.0) -> None:
        self.seconds, self.warm_up = seconds, warm_up
        self.now = 0.0
        self.steps: list[int] = []

    def step(self) -> int:
        number = torch.get_num_threads()
        self.now += self.seconds[number] + (self.warm_up if number not in self.steps else 0.0)
        self.steps.append(number)
        return 100

    def measured(self, *numbers: int) -> dict[int, float]:
        return measure(self.step, numbers, lambda: self.now)


def test_candidates() -> None:
    assert [candidates(most) for most in (1, 2, 3, 4, 16)] == [[1], [1, 2], [1, 3], [1, 2, 4], [1, 8, 16]]


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({1: 100.0, 2: 180.0}, 2),
        ({1: 200.0, 2: 100.0}, 1),
        ({1: 104.9, 2: 100.0}, 2),  # as good as level: the default
        ({1: 105.1, 2: 100.0}, 1),
        ({1: 100.0, 4: 300.0, 8: 200.0}, 4),
        ({1: 10.0, 4: 205.0, 8: 200.0}, 8),
    ],
)
def test_fastest(speeds: dict[int, float], chosen: int) -> None:
    assert fastest(speeds, max(speeds)) == chosen


class TestMeasure:
    def test_speeds_without_the_warm_up(self) -> None:
        machine = Machine({1: 0.02, 2: 0.01}, warm_up=0.1)
        assert machine.measured(1, 2) == pytest.approx({1: 100 / 0.02, 2: 100 / 0.01})

    def test_in_turns_for_little_more_than_the_budget(self) -> None:
        machine = Machine({1: 0.03, 2: 0.025})
        machine.measured(1, 2)
        assert 0.3 <= machine.now < 0.36
        assert machine.steps[:8] == [1, 2, 1, 2, 1, 2, 1, 2]

    def test_less_for_tiny_ones(self) -> None:
        machine = Machine({1: 0.0001, 2: 0.0001})
        machine.measured(1, 2)
        assert machine.now == pytest.approx(2 * 6 * 0.02, rel=0.02)

    def test_a_long_step_is_taken_once(self) -> None:
        machine = Machine({1: 3.0, 2: 2.0})
        assert machine.measured(1, 2) == pytest.approx({1: 100 / 3, 2: 50})
        assert machine.steps == [1, 2]

    def test_a_number_that_is_hopeless_here(self) -> None:
        machine = Machine({1: 0.02, 2: 1.0}, warm_up=0.1)
        assert machine.measured(1, 2) == pytest.approx({1: 5000, 2: 100 / 1.1})
        assert machine.steps == [1, 2, 1]

    def test_one_hiccup_does_not_count(self) -> None:
        machine = Machine({1: 0.02, 2: 0.021})
        original = machine.step

        def step() -> int:
            if len(machine.steps) == 8:
                machine.now += 0.1
            return original()

        assert measure(step, [1, 2], lambda: machine.now) == pytest.approx({1: 100 / 0.02, 2: 100 / 0.021}, rel=1e-6)


class TestChoose:
    def test_nothing_to_choose(self, text_file: Path) -> None:
        ids = torch.zeros(1000, dtype=torch.uint8).numpy()
        assert choose_threads(ids, 5, make_config(str(text_file), "training.threads=2")) is None
        torch.set_num_threads(1)
        assert choose_threads(ids, 5, make_config(str(text_file))) is None

    def test_speeds_of_this_machine(self, small_config: Config, places: Places) -> None:
        session = new_session(small_config, places, measure_threads=True)
        choice = session.thread_choice
        assert choice is not None
        assert set(choice.speeds) == {1, 2}
        assert all(speed > 0 for speed in choice.speeds.values())
        assert choice.threads == fastest(choice.speeds, 2) == torch.get_num_threads()

    def test_only_when_asked(self, small_config: Config, places: Places) -> None:
        assert new_session(small_config, places).thread_choice is None
        assert torch.get_num_threads() == 2

    def test_nothing_is_left_of_it(self, small_config: Config) -> None:
        ids = torch.randint(5, (1000,), dtype=torch.uint8).numpy()
        before = torch.get_rng_state()
        choose_threads(ids, 5, small_config)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(("seq_len", "trial"), [(5, 5), (40, 12)])
    def test_on_short_windows(self, seq_len: int, trial: int, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def one_step(step: Callable[[], int], numbers: Sequence[int]) -> dict[int, float]:
            return dict.fromkeys(numbers, float(step()))

        monkeypatch.setattr(threads, "measure", one_step)
        config = make_config(str(text_file), f"training.seq_len={seq_len}", "training.batch_size=4")
        choice = choose_threads(torch.randint(5, (1000,), dtype=torch.uint8).numpy(), 5, config)
        assert choice is not None
        assert choice.speeds == {1: 4 * trial, 2: 4 * trial}

    def test_it_leaves_the_default(self, small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        def ends_with_one(*_: object) -> dict[int, float]:
            torch.set_num_threads(1)
            return {1: 1.0, 2: 1.0}

        monkeypatch.setattr(threads, "measure", ends_with_one)
        choose_threads(torch.randint(5, (1000,), dtype=torch.uint8).numpy(), 5, small_config)
        assert torch.get_num_threads() == 2

    def test_a_text_too_short(self, places: Places, in_own_folder: Path) -> None:
        (in_own_folder / "short.txt").write_text("ab" * 20)
        with pytest.raises(DataError, match=r"short\.txt: the training text has 36 characters"):
            new_session(make_config("short.txt"), places, measure_threads=True)

    @pytest.mark.parametrize("chosen", [1, 2])
    def test_same_run_as_with_that_number_in_the_config(
        self, chosen: int, text_file: Path, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Weights of 96 x 96 and more: small ones are the same with any number of threads, and would show nothing."""
        sizes = ("model.hidden_size=96", "training.batch_size=16", "training.max_steps=6", "run.eval_every=5")
        monkeypatch.setattr(threads, "fastest", lambda speeds, default: chosen)
        measured = new_session(make_config(str(text_file), *sizes), places, measure_threads=True)
        start_run(measured, "measured")
        train(measured)
        torch.set_num_threads(2)
        told = new_session(make_config(str(text_file), *sizes, f"training.threads={chosen}"), places)
        start_run(told, "told")
        train(told)
        states = [session.state_dict() for session in (measured, told)]
        assert [state["environment"]["threads"] for state in states] == [chosen, chosen]
        assert differences(states[0]["trainer"], states[1]["trainer"]) == []


class TestCommand:
    @pytest.fixture(autouse=True)
    def here(self, in_own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("cat.txt").write_text(TEXT)
        Path("small.yaml").write_text(SMALL)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(
            "charrnn.training.session.choose_threads", lambda *_: ThreadChoice(1, {1: 21000.4, 2: 16000.0})
        )

    def test_says_so_and_records_it(self) -> None:
        said = run("train", "--config", "small.yaml")
        assert said.code == 0
        assert "Threads: 1 of 2 (measured, characters per second: 1 21,000, 2 16,000)\n" in said.err
        assert json.loads(Path("runs/small/environment.json").read_text())["threads"] == 1

    def test_also_before_a_dry_run(self) -> None:
        assert "Threads: 1 of 2" in run("train", "--config", "small.yaml", "--dry-run").err

    def test_a_resumed_run_keeps_its_own(self) -> None:
        run("train", "--config", "small.yaml")
        torch.set_num_threads(2)
        said = run("train", "--resume", "runs/small", "--set", "training.max_steps=8")
        assert said.code == 0, said.err
        assert "Threads" not in said.err
        assert torch.get_num_threads() == 1

    def test_the_user_knows_better(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        said = run("train", "--config", "small.yaml")
        assert said.code == 0
        assert not re.search("Threads", said.err)
