"""``find_lr``: it changes nothing, measures what training would do, and says so when there is no answer."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config, TrainingConfig
from charrnn.errors import UsageError
from charrnn.model.charrnn import cross_entropy
from charrnn.runs.metrics import without_nan
from charrnn.studies.lr_find import Finding, Plan, find_lr, make_plan
from charrnn.studies.recommendation import MOST_RATES, bracket_centre, rate_range
from charrnn.studies.sweep import Sweep, band, exponential_rates, sweep
from charrnn.studies.trials import EVAL_CHARACTERS, Trial, trial, trial_config
from charrnn.text.places import Places
from charrnn.training.evaluation import evaluate
from charrnn.training.schedules import learning_rate
from charrnn.training.session import Session, new_session
from charrnn.training.trainer import Trainer
from tests.conftest import make_config
from tests.helpers import begin, comparable_rows, differences, train
from tests.test_resume import full_state

PLAN = Plan(1e-3, 10.0, seeds=2, sweep_steps=30, trial_steps=10)
SWEPT, TRIED = 2 * 30, 2 * 10  # steps of all sweeps, and of the trials at one rate
# Nothing random after the start: what a step gives can be worked out beside it.
PLAIN = ("model.num_layers=1", "model.dropout=0", "training.random_seq_len=false", "training.state_reset=0")
# With these, PLAN has an answer: the best of its rates lies in the middle of them, by far.
ANSWERED = (*PLAIN, "training.batch_size=16")


class Watcher:
    """Keeps what it is told; at the step ``fails_at`` (from 1) it raises ``Stop``."""

    class Stop(Exception):
        """Not one that any code of charrnn knows."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.stages: list[str] = []
        self.shares: list[float] = []
        self._fails_at = fails_at

    def __call__(self, stage: str, share: float) -> None:
        self.stages.append(stage)
        self.shares.append(share)
        if len(self.stages) == self._fails_at:
            raise self.Stop


@pytest.fixture
def answered_config(text_file: Path) -> Config:
    """A config for which PLAN finds a rate."""
    return make_config(str(text_file), *ANSWERED)


@pytest.fixture
def answered(answered_config: Config, places: Places) -> Finding:
    return find_lr(new_session(answered_config, places), PLAN, Watcher())


def look(session: Session, plan: Plan = PLAN, fails_at: int | None = None) -> Finding | None:
    """``find_lr``; None if the watcher ended it."""
    try:
        return find_lr(session, plan, Watcher(fails_at))
    except Watcher.Stop:
        return None


def looking_at(session: Session, step: int, fails_at: int | None) -> Callable[[], bool]:
    """A training's question whether to stop: looks at this step, and never stops."""

    def look_and_go_on() -> bool:
        if session.trainer.steps == step:
            look(session, fails_at=fails_at)
        return False

    return look_and_go_on


def changes(session: Session, act: Callable[[], object]) -> list[str]:
    """What ``act`` changes: the paths in the session's state that differ afterwards, and torch's random state."""
    before = copy.deepcopy(full_state(session))
    random_state = torch.get_rng_state()
    act()
    after = {"session": full_state(session), "random": torch.get_rng_state()}
    return differences({"session": before, "random": random_state}, after)


class TestChangesNothing:
    """Dropout draws from torch's global generator: a training notices when that was touched."""

    @pytest.fixture
    def session(self, text_file: Path, places: Places) -> Session:
        """In the middle of an epoch, with a carried state and moments in the optimizer; windows large enough for an
        answer."""
        session = new_session(make_config(str(text_file), "training.batch_size=16"), places)
        for _ in range(7):
            session.trainer.step(0.01)
        return session

    @pytest.mark.parametrize(
        "fails_at", [None, 1, 30, 31, 45, SWEPT, SWEPT + 1, SWEPT + 10, SWEPT + 11, SWEPT + 3 * TRIED - 1]
    )
    def test_of_the_session_and_of_torch(self, fails_at: int | None, session: Session) -> None:
        """Also when it is ended by force: in a sweep, between two, in a trial and at the last step of one."""
        found: list[Finding | None] = []
        assert changes(session, lambda: found.append(look(session, fails_at=fails_at))) == []
        assert (found[0] is None) == (fails_at is not None), "the watcher was not asked so often"

    def test_of_the_config(self, session: Session) -> None:
        before = session.config.model_dump()
        look(session)
        assert session.config.model_dump() == before

    @pytest.mark.parametrize("fails_at", [None, SWEPT + 15])
    def test_of_a_training_around_it(self, fails_at: int | None, small_config: Config, places: Places) -> None:
        without = begin(small_config, places, "without")
        train(without)
        around = begin(small_config, places, "around")
        look(around, fails_at=fails_at)
        train(around, looking_at(around, 17, fails_at))
        assert without.folder is not None
        assert around.folder is not None
        assert differences(full_state(around), full_state(without)) == []
        assert comparable_rows(around.folder.metrics) == comparable_rows(without.folder.metrics)
        assert around.folder.samples.read_text() == without.folder.samples.read_text()

    @pytest.mark.parametrize("fails_at", [None, 45])
    def test_if_it_did_it_would_show(
        self,
        fails_at: int | None,
        session: Session,
        small_config: Config,
        places: Places,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The comparisons above can fail: without the fork of the random state they do."""
        monkeypatch.setattr(torch.random, "fork_rng", lambda _: contextlib.nullcontext())
        assert sorted(changes(session, lambda: look(session, fails_at=fails_at))) == [
            "/random",
            "/session/trainer/generators/cpu",
        ]
        without = begin(small_config, places, "without")
        train(without)
        around = begin(small_config, places, "around")
        train(around, looking_at(around, 17, fails_at))
        assert differences(full_state(around), full_state(without)) != []

    def test_a_session_that_takes_a_step_would_show(self, session: Session) -> None:
        assert "/session/trainer/steps" in changes(session, lambda: session.trainer.step(1e-9))


class TestWhatItMeasures:
    def test_the_same_again(self, answered: Finding, answered_config: Config, places: Places) -> None:
        """Whatever state torch's generator and the session are in: all trainings start from their own seeds."""
        session = new_session(answered_config, places)
        for _ in range(3):
            session.trainer.step(0.1)
        torch.manual_seed(99)
        again = find_lr(session, PLAN, Watcher())
        assert again.to_dict() == answered.to_dict()
        assert again.lr is not None

    def test_sweeps_are_steps_of_new_trainers(self, small_config: Config, places: Places) -> None:
        session = new_session(small_config, places)
        found = find_lr(session, Plan(1e-3, 10.0, 2, 30, 0), Watcher())
        for seed, one in enumerate(found.sweeps, start=1):
            trainer = new_session(revise_config(small_config, [f"training.seed={seed}"]), places).trainer
            assert one == sweep(trainer, seed, exponential_rates(1e-3, 10, 30), found.unigram, lambda: None)
        assert found.band is not None
        assert found.band.median.tolist() == band(found.sweeps).median.tolist()

    def test_trials_are_short_trainings(self, text_file: Path, places: Places) -> None:
        """Beside a loop written out here, with a schedule, a warm-up that is cut to a tenth, and all that is random."""
        config = make_config(
            str(text_file),
            "training.batch_size=16",
            "training.schedule=cosine",
            "training.warmup_steps=50",
            "training.min_lr=0.02",
            "training.lr=1",
            "training.seed=5",
        )
        session = new_session(config, places)
        found = find_lr(session, Plan(0.02, 10, 2, 30, 30), Watcher())
        rates = sorted({one.lr for one in found.trials})
        assert len(found.trials) == 2 * len(rates) >= 10
        text = session.text
        for one in [one for one in found.trials if one.lr in rates[1:3]]:
            values = {"seed": one.seed, "lr": one.lr, "warmup_steps": 3}
            training = config.training.model_copy(update=values)
            trainer = Trainer(text.train_ids, len(text.vocabulary), config.model, training)
            losses = [trainer.step(learning_rate(training, step, step / 30)).loss.item() for step in range(30)]
            span = text.spans["val"]
            score = evaluate(trainer.model, text.ids, span, trainer.precision, max_characters=EVAL_CHARACTERS)
            assert score is not None
            assert (one.val_loss, one.diverged) == (score.nats_per_char, None)
            assert one.train_loss == pytest.approx(sum(losses[-7:]) / 7), "over its last quarter"
        assert {one.seed for one in found.trials} == {5, 6}

    def test_the_trials_are_around_a_tenth_of_where_the_sweep_is_best(self, answered: Finding) -> None:
        assert answered.band is not None
        rates = sorted({one.lr for one in answered.trials})
        centre = bracket_centre(answered.band)
        assert rates == pytest.approx([centre * factor for factor in (0.25, 0.5, 1, 2, 4)])

    def test_the_answer_comes_from_the_trials(self, answered: Finding) -> None:
        losses: dict[float, list[float]] = {}
        for one in answered.trials:
            assert one.val_loss is not None
            losses.setdefault(one.lr, []).append(one.val_loss)
        means = {lr: float(np.mean(values)) for lr, values in losses.items()}
        best = min(means, key=lambda lr: means[lr])
        assert answered.proven is not None
        assert answered.proven == rate_range(answered.trials, 10)
        assert best / 2 <= answered.proven.best <= best * 2

        assert answered.planned_steps == 40
        assert answered.wanted is not None
        assert answered.wanted.best == pytest.approx(answered.proven.best * 4 ** (-1 / 3))
        assert answered.lr == pytest.approx(answered.wanted.best, rel=0.05), "two digits of it"
        assert answered.lr == float(f"{answered.lr:.1e}")
        assert answered.problem is None

    def test_quick_has_no_trials(self, answered_config: Config, places: Places) -> None:
        found = find_lr(new_session(answered_config, places), Plan(1e-3, 10.0, 2, 30, 0), Watcher())
        assert found.band is not None
        assert (found.trials, found.proven, found.wanted, found.problem) == ([], None, None, None)
        assert found.lr == float(f"{bracket_centre(found.band) * (30 / 40) ** (1 / 3):.1e}")

    def test_the_config_takes_the_answer(self, text_file: Path, places: Places) -> None:
        """The rate for a training a thousand times as long is a tenth: still not below ``training.min_lr``."""
        config = make_config(
            str(text_file), *ANSWERED, "training.min_lr=0.1", "training.lr=1", "training.max_steps=10000"
        )
        plan = make_plan(config.training, None, 10, 2, 10, quick=False)
        found = find_lr(new_session(config, places), plan, Watcher())
        assert found.lr is not None
        assert revise_config(config, [f"training.lr={found.lr}"]).training.lr == found.lr

    def test_the_watcher_sees_every_step(self, answered_config: Config, places: Places) -> None:
        watcher = Watcher()
        found = find_lr(new_session(answered_config, places), PLAN, watcher)
        swept, rates = sum(len(one.lrs) for one in found.sweeps), len({one.lr for one in found.trials})
        assert watcher.stages == ["sweep"] * swept + ["trials"] * rates * TRIED
        assert all(0 < share <= 1 for share in watcher.shares)
        assert watcher.shares == sorted(watcher.shares)
        most = 2 * (PLAN.sweep_steps + MOST_RATES * PLAN.trial_steps)  # what the share is of
        assert watcher.shares[-1] == pytest.approx(1 - (MOST_RATES - rates) * TRIED / most)

    def test_the_share_of_the_work_counts_what_was_added_and_what_ended_early(
        self, answered_config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One trial diverges, and two rates are added because the highest is the best of the first five, and of six."""

        def instead(trainer: Trainer, config: TrainingConfig, steps: int, *rest: Any) -> Trial:
            diverges = tried.count(config.lr) == 1 and len(tried) == 5
            for _ in range(3 if diverges else steps):
                rest[-1]()
            tried.append(config.lr)
            return Trial(config.lr, config.seed, None if diverges else 2 - len(tried) / 20, "why" if diverges else None)

        tried: list[float] = []
        monkeypatch.setattr("charrnn.studies.lr_find.trial", instead)
        watcher = Watcher()
        find_lr(new_session(answered_config, places), PLAN, watcher)
        assert len(tried) == 7 * 2
        assert watcher.shares[-TRIED:].index(1) == TRIED - 1

    def test_a_trial_that_diverges_ends(self, answered_config: Config, places: Places) -> None:
        session = new_session(answered_config, places)
        config = trial_config(session.config.training, 1000.0, 30)
        told: list[int] = []
        found = trial(session.trainer, config, 30, session.text, math.inf, lambda: told.append(1))
        assert (found.lr, found.seed, found.val_loss) == (1000, 1, None)
        assert "4 times" in str(found.diverged)
        assert session.trainer.steps == len(told) < 30


class TestWarm:
    """The same from a trained state; the session that it came from trains on beside it, as an oracle."""

    @pytest.fixture
    def session(self, answered_config: Config, places: Places) -> Session:
        session = new_session(answered_config, places)
        for _ in range(11):
            session.trainer.step(0.1)
        return session

    @pytest.fixture
    def warm(self, session: Session) -> dict[str, Any]:
        return copy.deepcopy(session.trainer.state_dict())

    def _sweeps(self, session: Session, warm: dict[str, Any], seeds: int) -> list[Sweep]:
        return find_lr(session, Plan(1e-3, 10.0, seeds, 30, 0), Watcher(), warm).sweeps

    def test_the_first_loss_is_that_of_the_model(self, session: Session, warm: dict[str, Any]) -> None:
        sweeps = self._sweeps(session, warm, 3)
        trainer = session.trainer
        length, position = trainer.streams.length, trainer.streams.position
        starts = [position, (position + length // 3) % length, (position + 2 * length // 3) % length]
        assert len({one.losses[0] for one in sweeps}) == 3
        for index, (one, start) in enumerate(zip(sweeps, starts, strict=True)):
            trainer.streams.position = start
            x, y = trainer.streams.next(trainer.generator)
            hidden = trainer.model.zero_hidden(16) if index else trainer.hidden
            assert one.losses[0] == cross_entropy(trainer.model(x, hidden)[0], y).item()

    def test_the_first_sweep_goes_on_where_the_session_is(self, session: Session, warm: dict[str, Any]) -> None:
        found = self._sweeps(session, warm, 1)[0]
        assert found.losses == [session.trainer.step(lr).loss.item() for lr in found.lrs]

    def test_the_state_is_not_changed(self, session: Session, warm: dict[str, Any]) -> None:
        before = copy.deepcopy(warm)
        find_lr(session, PLAN, Watcher(), warm)
        assert differences(warm, before) == []
        assert changes(session, lambda: find_lr(session, PLAN, Watcher(), warm)) == []

    def test_trials_start_from_it_too(self, session: Session, warm: dict[str, Any]) -> None:
        """At the first seed, which goes on in the same place: beside the session itself, trained on."""
        found = find_lr(session, Plan(1e-3, 10.0, 1, 30, 10), Watcher(), warm)
        assert len(found.trials) >= 5
        training = session.config.training
        for one in found.trials:
            session.trainer.load_state_dict(copy.deepcopy(warm))  # the trainer goes on in the tensors it is given
            config = training.model_copy(update={"lr": one.lr})
            for step in range(10):
                session.trainer.step(learning_rate(config, step, step / 10))
            text, trainer = session.text, session.trainer
            score = evaluate(trainer.model, text.ids, text.spans["val"], trainer.precision)
            assert score is not None
            assert one.val_loss in (None, score.nats_per_char)
        assert sum(one.val_loss is not None for one in found.trials) >= 3

    @pytest.mark.parametrize("randomness", ["model.dropout=0.3", "training.state_reset=0.3"])
    def test_seeds_differ_in_dropout_and_resets(self, randomness: str, answered_config: Config, places: Places) -> None:
        """Also where they begin in the same place; what is drawn does not depend on what the state has drawn before."""
        losses = []
        for seed, drawn in ((1, 0), (1, 5), (2, 0)):
            config = revise_config(answered_config, [randomness, f"training.seed={seed}"])
            session = new_session(config, places)
            trainer = new_session(revise_config(answered_config, [randomness]), places).trainer
            for _ in range(drawn):
                torch.rand(())
                torch.rand((), generator=trainer.generator)
            losses.append(self._sweeps(session, copy.deepcopy(trainer.state_dict()), 1)[0].losses)
        assert losses[0] == losses[1] != losses[2]

    def test_a_ruined_model_is_a_problem_and_no_crash(self, session: Session, warm: dict[str, Any]) -> None:
        """Weights so large that the first loss is infinite: no sweep has a point."""
        warm["model"]["decoder.weight"].fill_(3e38)
        found = find_lr(session, PLAN, Watcher(), warm)
        assert found.lr is None
        assert found.problem is not None
        json.dumps(found.to_dict(), allow_nan=False)


class TestHopeless:
    def _problem(self, config: Config, places: Places, *range_asked: float) -> str:
        low, high = range_asked or (1e-3, 10.0)
        found = find_lr(new_session(config, places), Plan(low, high, 2, 30, 10), Watcher())
        assert (found.lr, found.wanted, found.proven) == (None, None, None)
        assert found.problem is not None
        assert re.search("try .*--", found.problem)
        json.dumps(found.to_dict(), allow_nan=False)
        return found.problem

    def test_rates_far_too_high(self, small_config: Config, places: Places) -> None:
        assert "--min-lr" in self._problem(small_config, places, 10, 1e4)

    def test_rates_far_too_low(self, small_config: Config, places: Places) -> None:
        assert "--max-lr" in self._problem(small_config, places, 1e-9, 1e-7)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_random_bytes(self, seed: int, in_own_folder: Path, places: Places) -> None:
        Path("noise").write_bytes(random.Random(seed).randbytes(6000))
        config = make_config("noise", *PLAIN, "corpus.vocabulary=bytes")
        assert "nothing to learn" in self._problem(config, places)

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_letters_drawn_at_random_without_trials(self, seed: int, in_own_folder: Path, places: Places) -> None:
        """Of a hundred windows the easiest are more than 1 % below the first ones."""
        Path("noise").write_text("".join(random.Random(seed).choices("aaaaabcd\n", k=5000)))
        session = new_session(make_config("noise", *PLAIN, "training.batch_size=12"), places)
        found = find_lr(session, Plan(1e-4, 1.0, 3, 100, 0), Watcher())
        assert found.lr is None
        assert "nothing to learn" in str(found.problem)
        assert found.band is not None
        assert found.band.median.min() < 0.99 * found.band.median[9]

    def test_every_trial_too_short(self, text_file: Path, places: Places) -> None:
        """Two layers that start at ln V do not even know how often each character occurs after ten steps."""
        config = make_config(str(text_file), "model.dropout=0", "model.decoder_bias=uniform")
        assert "--trial-steps" in self._problem(config, places, 1e-4, 1)


class TestPlannedSteps:
    """4,212 characters to train on: 4 streams of 1,052 characters, 105 windows of 10 and one of 2."""

    @pytest.fixture
    def session(self, small_config: Config, places: Places) -> Session:
        return new_session(small_config, places)

    @pytest.mark.parametrize(
        ("limits", "steps"),
        [
            (("max_steps=40",), 40),
            (("epochs=1",), 106),
            (("epochs=2.5",), 265),
            (("epochs=1e-6",), 1),
            (("max_time=30s",), 120),
            (("max_time=1m", "max_steps=239"), 239),
            (("max_time=1m", "max_steps=241"), 240),
            (("epochs=1", "max_time=30s", "max_steps=1000"), 106),
            (("epochs=1", "patience=3"), 106),
            (("patience=3",), None),
        ],
    )
    def test_the_nearest_limit_decides(self, limits: tuple[str, ...], steps: int | None, session: Session) -> None:
        """At a quarter of a second per step."""
        assignments = ["training.max_steps=null", *(f"training.{limit}" for limit in limits)]
        session.config = revise_config(session.config, assignments)
        assert session.planned_steps(0.25) == steps

    def test_epochs_as_they_are_trained(self, session: Session) -> None:
        session.config = revise_config(session.config, ["training.max_steps=null", "training.epochs=0.5"])
        foretold = session.planned_steps(1.0)
        while session.progress < 1:
            session.trainer.step(1e-3)
        assert session.trainer.steps == pytest.approx(foretold, rel=0.1)

    def test_it_is_what_the_answer_is_for(self, answered: Finding, answered_config: Config, places: Places) -> None:
        config = revise_config(answered_config, ["training.max_steps=null", "training.patience=2"])
        found = find_lr(new_session(config, places), PLAN, Watcher())
        assert (found.planned_steps, found.wanted) == (None, found.proven)
        assert found.proven == answered.proven


class TestPlan:
    CONFIG = TrainingConfig(max_steps=10)

    @pytest.mark.parametrize(("optimizer", "low", "high"), [("adam", 1e-4, 1), ("adamw", 1e-4, 1), ("sgd", 1e-2, 100)])
    def test_defaults(self, optimizer: str, low: float, high: float) -> None:
        config = self.CONFIG.model_copy(update={"optimizer": optimizer})
        assert make_plan(config, None, None, 3, 100, quick=False) == Plan(low, high, 3, 100, 100)
        assert make_plan(config, None, None, 3, 100, quick=True) == Plan(low, high, 3, 100, 0)

    def test_a_range_of_ones_own(self) -> None:
        assert make_plan(self.CONFIG, 1e-7, 1e-5, 1, 50, quick=False) == Plan(1e-7, 1e-5, 1, 100, 50)

    @pytest.mark.parametrize("power", range(-10, 2))
    def test_the_narrowest_range(self, power: int) -> None:
        """A factor of a hundred is enough, also where a float's last digit is in the way: 1e-9 * 100 > 1e-7."""
        low, high = float(f"1e{power}"), float(f"1e{power + 2}")
        assert make_plan(self.CONFIG, low, high, 1, 50, quick=False).max_lr == high

    def test_no_rate_below_the_end_of_the_schedule(self) -> None:
        config = self.CONFIG.model_copy(update={"min_lr": 1e-3})
        assert make_plan(config, None, None, 3, 100, quick=False).min_lr == 1e-3
        assert make_plan(config, 1e-6, None, 3, 100, quick=False).min_lr == 1e-3

    @pytest.mark.parametrize("low", [0.0, -1.0, math.nan, math.inf, -math.inf])
    def test_a_lowest_rate_that_is_none(self, low: float) -> None:
        with pytest.raises(UsageError, match="--min-lr"):
            make_plan(self.CONFIG, low, None, 3, 100, quick=False)

    @pytest.mark.parametrize("high", [0.0, -1.0, 1e-5, 0.0099, math.nan, math.inf])
    def test_a_range_too_narrow(self, high: float) -> None:
        with pytest.raises(UsageError, match="--max-lr"):
            make_plan(self.CONFIG, None, high, 3, 100, quick=False)

    def test_a_range_turned_round(self) -> None:
        with pytest.raises(UsageError, match="100"):
            make_plan(self.CONFIG, 1.0, 1e-2, 3, 100, quick=False)

    @pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (99, 9), (5, 0), (1000, 40)])
    def test_a_trial_is_a_short_version_of_the_training(self, steps: int, warmup: int) -> None:
        config = self.CONFIG.model_copy(update={"warmup_steps": 40, "min_lr": 1e-3, "grad_clip": None})
        made = trial_config(config, 5e-4, steps)
        assert made == config.model_copy(update={"lr": 5e-4, "min_lr": 5e-4, "warmup_steps": warmup})
        assert trial_config(config, 5e-2, steps).min_lr == 1e-3


class TestToDict:
    def test_what_is_not_finite_is_null(self) -> None:
        sweeps = [
            Sweep(1, [1.0, 2.0, 3.0], [3.0, 2.0, math.inf], [1.0, math.nan, math.inf], "why"),
            Sweep(2, [1.0, 2.0], [3.0, math.nan], [1.0, 1.0], "why"),
        ]
        found = Finding(Plan(1.0, 3.0), 2.5, sweeps, band(sweeps), trials=[Trial(1.0, 1, None, "why")])
        values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert values["sweeps"][0]["losses"] == [3.0, 2.0, None]
        assert values["sweeps"][0]["grad_norms"] == [1.0, None, None]
        assert values["sweeps"][1]["losses"] == [3.0, None]
        assert values["band"]["median"] == pytest.approx([3.0, band(sweeps).median[1]])
        assert values["trials"] == [{"lr": 1.0, "seed": 1, "val_loss": None, "diverged": "why", "train_loss": None}]
        assert values["lr"] is None

    def test_nothing_is_lost(self, answered: Finding) -> None:
        values = json.loads(json.dumps(answered.to_dict(), allow_nan=False))
        assert values == answered.to_dict()
        assert [one["losses"] for one in values["sweeps"]] == [without_nan(one.losses) for one in answered.sweeps]
        assert values["plan"] == {"min_lr": 1e-3, "max_lr": 10.0, "seeds": 2, "sweep_steps": 30, "trial_steps": 10}

    @given(
        st.recursive(
            st.none() | st.integers() | st.floats(allow_subnormal=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_without_nan(self, value: Any) -> None:
        """As the standard library reads its own NaN and Infinity when told that they are null."""
        expected = json.loads(json.dumps(value), parse_constant=lambda _: None)
        assert without_nan(value) == expected
