"""Paired experiments: the interval against tables and numpy, what is compared, and the same starts for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.schema import Config, TrainingConfig
from charrnn.errors import UsageError
from charrnn.studies.doctor import questions, trials
from charrnn.studies.doctor.questions import FEWEST_STEPS, MOST_STEPS, QUESTIONS, SEEDS, ask, compare
from charrnn.studies.doctor.trials import Lab, Trials, memorise, run_trials, untrained
from charrnn.studies.recommendation import LENGTH_EXPONENT
from charrnn.studies.trials import Trial
from charrnn.text.places import Places
from charrnn.training.evaluation import evaluate
from charrnn.training.session import Session, new_session
from charrnn.training.trainer import Trainer
from tests.conftest import make_config
from tests.helpers import differences

INF = math.inf
PLAIN = ("training.random_seq_len=false", "training.state_reset=0.02", "model.dropout=0")


class TestCompare:
    def test_by_hand(self) -> None:
        """Differences of 0.1 to 0.5: mean 0.3, standard deviation 0.158114, over sqrt 5 0.0707107, times 2.776 (the
        tables' t for four degrees of freedom and 95 %)."""
        answer = compare("q", "new", [1.1, 1.2, 1.3, 1.4, 1.5], "old", [1.0] * 5, 60)
        assert answer.effect == pytest.approx(0.3)
        assert (answer.low, answer.high) == pytest.approx((0.103707, 0.496293), abs=2e-6)
        assert answer.verdict == "hurts"
        assert (answer.question, answer.label, answer.against) == ("q", "new", "old")
        assert (answer.losses, answer.losses_against) == ([1.1, 1.2, 1.3, 1.4, 1.5], [1.0] * 5)

    @given(*[st.lists(st.floats(0.5, 5), min_size=SEEDS, max_size=SEEDS)] * 2)
    def test_against_numpy(self, losses: list[float], others: list[float]) -> None:
        answer = compare("q", "new", losses, "old", others, 60)
        differences = np.subtract(losses, others)
        half = 2.776 * np.sqrt(np.var(differences, ddof=1) / 5)
        assert answer.effect == pytest.approx(differences.mean())
        assert answer.low == pytest.approx(differences.mean() - half, abs=1e-9)
        assert answer.high == pytest.approx(differences.mean() + half, abs=1e-9)

    @pytest.mark.parametrize(
        ("losses", "verdict"),
        [
            ([1.9, 1.8, 1.9, 1.8, 1.9], "helps"),
            ([2.1, 2.2, 2.1, 2.2, 2.1], "hurts"),
            ([1.9, 2.2, 1.9, 2.2, 1.9], "cannot be told at this budget"),
            ([1.9, 1.9, 1.9, 1.9, 2.0], "helps"),  # -0.08 with 0.056 on either side
            ([1.9, 1.9, 1.9, 2.0, 2.0], "cannot be told at this budget"),  # -0.06 and 0.068
            ([2.0] * 5, "cannot be told at this budget: it changed nothing in trainings as short as these"),
        ],
    )
    def test_verdict(self, losses: list[float], verdict: str) -> None:
        assert compare("q", "new", losses, "old", [2.0] * 5, 60).verdict == verdict

    def test_pairs_not_averages(self) -> None:
        """Seeds that differ by far more than the setting does."""
        starts = [1.0, 2.0, 3.0, 4.0, 5.0]
        assert compare("q", "new", [one - 0.01 for one in starts], "old", starts, 60).verdict == "helps"

    @pytest.mark.parametrize(
        ("losses", "against", "verdict"),
        [
            ([2.0] * 5, [2.0, 2.0, INF, INF, 2.0], "helps: 0 of 5 trainings diverged, 2 without it"),
            ([INF] * 5, [2.0] * 5, "hurts: 5 of 5 trainings diverged, 0 without it"),
            ([INF] + [1.0] * 4, [2.0] * 4 + [INF], "cannot be told at this budget: 1 of 5 trainings diverged, 1"),
            ([INF] * 5, [INF] * 5, "cannot be told at this budget: 5 of 5"),
        ],
    )
    def test_trainings_that_diverged(self, losses: list[float], against: list[float], verdict: str) -> None:
        answer = compare("q", "new", losses, "old", against, 60)
        assert answer.verdict.startswith(verdict)
        assert all(map(math.isnan, (answer.effect, answer.low, answer.high)))


def settings_of(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{key}": value for section, values in config.model_dump().items() for key, value in values.items()
    }


CONFIGS = [
    (),
    ("training.optimizer=sgd", "training.momentum=0", "training.grad_clip=null", "training.state_reset=0"),
    ("training.optimizer=adamw", "training.betas=[0.5,0.9]", "training.grad_clip=0.3", "training.precision=bf16"),
    ("training.betas=[0,0.9]", "training.state_reset=0.5", "training.random_seq_len=true"),
]


class TestVariants:
    @pytest.mark.parametrize("settings", CONFIGS)
    @pytest.mark.parametrize("name", list(QUESTIONS))
    def test_they_differ_in_what_is_asked_about(self, name: str, settings: tuple[str, ...]) -> None:
        """And each from the config itself in nothing else."""
        config = make_config("x", "training.seq_len=16", *settings)
        keys = {
            "clipping": "grad_clip",
            "seq-len": "seq_len",
            "random-length": "random_seq_len",
            "momentum": "momentum" if config.training.optimizer == "sgd" else "betas",
            "precision": "precision",
            "reset": "state_reset",
        }
        variants = QUESTIONS[name].variants(config)
        assert len({variant.label for variant in variants}) == len(variants) > 1
        key = f"training.{keys[name]}"
        values = []
        for variant in variants:
            settings_here = settings_of(variant.config)
            values.append(settings_here.pop(key))
            assert settings_here == {k: v for k, v in settings_of(config).items() if k != key}
        assert all(values.count(value) == 1 for value in values)

    @pytest.mark.parametrize("settings", CONFIGS)
    def test_with_and_without(self, settings: tuple[str, ...]) -> None:
        """Last stands what is asked about, as the config has it where it has it."""
        config = make_config("x", *settings)
        before = config.training

        def both(name: str) -> tuple[Any, Any]:
            without, with_it = QUESTIONS[name].variants(config)
            return without.config.training, with_it.config.training

        without, with_it = both("clipping")
        assert (without.grad_clip, with_it.grad_clip) == (None, before.grad_clip or 1.0)
        without, with_it = both("reset")
        assert (without.state_reset, with_it.state_reset) == (0, before.state_reset or 0.02)
        without, with_it = both("momentum")
        if before.optimizer == "sgd":
            assert (without.momentum, with_it.momentum) == (0, before.momentum or 0.9)
        else:
            assert without.betas == [0, before.betas[1]]
            assert with_it.betas == [before.betas[0] or 0.9, before.betas[1]]
        without, with_it = both("random-length")
        assert (without.random_seq_len, with_it.random_seq_len) == (False, True)
        without, with_it = both("precision")
        assert (without.precision, with_it.precision) == ("fp32", "bf16")

    @pytest.mark.parametrize(
        ("seq_len", "lengths"), [(16, [16, 4, 64]), (6, [6, 1, 24]), (3, [3, 12]), (1, [1, 4]), (100, [100, 25, 400])]
    )
    def test_as_many_characters_whatever_the_window(self, seq_len: int, lengths: list[int]) -> None:
        variants = QUESTIONS["seq-len"].variants(make_config("x", f"training.seq_len={seq_len}"))
        assert [variant.config.training.seq_len for variant in variants] == lengths
        for variant in variants:
            assert variant.length * variant.config.training.seq_len == pytest.approx(seq_len)

    def test_only_a_cold_start_is_scored_from_a_cold_state(self) -> None:
        assert [name for name, question in QUESTIONS.items() if question.cold] == ["reset"]


@dataclass
class StubLab:
    """Trains nothing: notes what it is asked for, and hands out losses."""

    session: Any
    fits: Callable[[Config], bool] = lambda _: True
    asked: list[tuple[Config, int, int, bool, float]] = field(default_factory=list)

    def has_text_for(self, config: Config) -> bool:
        return self.fits(config)

    def steps_within(self, seconds: float, trainings: float, fewest: int, most: int) -> int:
        assert (fewest, most) == (FEWEST_STEPS, MOST_STEPS)
        self.trainings = trainings
        return 48

    def train(
        self,
        config: Config,
        steps: int,
        seed: int,
        after_step: Callable[[], None],
        *,
        carried: bool = True,
        length: float = 1.0,
    ) -> Trial:
        self.asked.append((config, steps, seed, carried, length))
        torch.manual_seed(seed)  # as trainers do
        for _ in range(round(steps * length)):
            after_step()
        return Trial(0.1, seed, 2.0 + seed + 0.1 * len({id(one[0]) for one in self.asked}), None, 9.9)


def stub(config: Config, fits: Callable[[Config], bool] = lambda _: True) -> Any:
    device = torch.device("cpu")
    return StubLab(SimpleNamespace(config=config, trainer=SimpleNamespace(device=device)), fits)


class TestAsk:
    def test_with_nothing_to_compare_nothing_is_trained(self) -> None:
        lab = stub(make_config("x", "training.seq_len=1"), lambda config: config.training.seq_len == 1)
        with pytest.raises(UsageError, match="--ask seq-len: nothing to compare with"):
            ask("seq-len", cast(Lab, lab), lambda *_: None)
        assert lab.asked == []

    @pytest.mark.parametrize("name", list(QUESTIONS))
    def test_every_variant_from_every_seed(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("charrnn.training.precision.has_bf16_lstm", lambda: True)
        lab, shares = stub(make_config("x", "training.seq_len=16", "training.betas=[0.8,0.9]")), []

        def advanced(stage: str, share: float) -> None:
            assert stage == name
            shares.append(share)

        torch.manual_seed(99)
        before = torch.get_rng_state()
        answers = ask(name, cast(Lab, lab), advanced)
        assert torch.equal(torch.get_rng_state(), before), "as if nothing had been trained"
        variants = QUESTIONS[name].variants(lab.session.config)
        assert [one[0] for one in lab.asked] == [variant.config for variant in variants for _ in range(SEEDS)]
        assert [one[2] for one in lab.asked] == list(range(SEEDS)) * len(variants)
        assert {one[1] for one in lab.asked} == {48}
        assert {one[3] for one in lab.asked} == {name != "reset"}
        assert [one[4] for one in lab.asked] == [variant.length for variant in variants for _ in range(SEEDS)]
        assert lab.trainings == SEEDS * sum(variant.length for variant in variants)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1, abs=0.01)
        assert [(answer.against, answer.label) for answer in answers] == [
            (variants[0].label, variant.label) for variant in variants[1:]
        ]
        for number, answer in enumerate(answers, start=2):
            assert answer.losses_against == pytest.approx([2.1 + seed for seed in range(SEEDS)])
            assert answer.losses == pytest.approx([2 + 0.1 * number + seed for seed in range(SEEDS)])

    def test_what_this_processor_cannot_do_is_refused_before_anything_is_trained(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("charrnn.training.precision.has_bf16_lstm", lambda: False)
        lab = stub(make_config("x"))
        with pytest.raises(UsageError, match="bf16: this processor cannot"):
            ask("precision", lab, lambda *_: None)
        assert lab.asked == []

    def test_windows_longer_than_the_text_are_not_tried(self) -> None:
        """Rather than refused after the others have been trained for a minute."""
        config = make_config("x", "training.seq_len=16")
        lab = stub(config, lambda one: one.training.seq_len < 64)
        [answer] = ask("seq-len", lab, lambda *_: None)
        assert (answer.against, answer.label) == ("seq_len 16", "seq_len 4")


@pytest.fixture
def session(text_file: Path, places: Places) -> Session:
    return new_session(make_config(str(text_file), "training.max_steps=500"), places)


class TestLab:
    @pytest.mark.parametrize(("carried", "length"), [(True, 1.0), (False, 2.5)])
    def test_a_training(self, session: Session, carried: bool, length: float) -> None:
        """Against the same written out: linear decay, and the rate that ``lr-find`` would give one of 60 steps."""
        config = session.config.with_training(lr=0.01)
        steps: list[None] = []
        result = Lab(session, 500, 0.01).train(config, 8, 2, lambda: steps.append(None), carried=carried, length=length)
        lr, count = 0.01 * (500 / trials.SHORTEST_SCALED) ** LENGTH_EXPONENT, round(8 * length)
        assert len(steps) == count
        training = config.training.model_copy(update={"seed": config.training.seed + 2})
        text = session.text
        trainer = Trainer(text.train_ids, len(text.vocabulary), config.model, training)
        losses = []
        for step in range(count):
            losses.append(trainer.step(lr * (1 - step / count)).loss.item())
        expected = evaluate(trainer.model, text.ids, text.spans["val"], trainer.precision, carried=carried)
        assert expected is not None
        assert result.val_loss == pytest.approx(expected.nats_per_char, rel=1e-5)
        assert result.train_loss == pytest.approx(float(np.mean(losses[-(count // 4) :])), rel=1e-5)

    def test_one_that_diverges(self, session: Session) -> None:
        config = session.config.with_training(optimizer="sgd", lr=1000.0, grad_clip=None)
        result = Lab(session, 500, 0.01).train(config, 20, 0, lambda: None)
        assert (result.val_loss, result.train_loss) == (None, None)

    @pytest.mark.parametrize(("seconds", "steps"), [(10, 50), (1, 20), (1000, 60)])
    def test_steps_within(self, session: Session, seconds: float, steps: int) -> None:
        assert Lab(session, 500, 0.1).steps_within(seconds, 2, 20, 60) == steps

    @pytest.mark.parametrize(
        ("settings", "planned"),
        [
            ({"max_steps": 70}, 70),
            ({"max_steps": 8_640}, trials.LONGEST_SCALED),
            ({"max_steps": None, "max_time": 30.0}, 300),
            ({"max_steps": None}, trials.STEPS),
        ],
    )
    def test_planned_steps(self, session: Session, settings: dict[str, Any], planned: int) -> None:
        session.config = session.config.with_training(patience=3, **settings)
        assert Lab.of(session, 0.1).planned_steps == planned

    @pytest.mark.parametrize(
        ("steps", "factor"), [(20, 0.5), (trials.STEPS, 0.5), (240, 0.5 * 4 ** (1 / 3)), (480, 1.0)]
    )
    def test_scaled_as_far_as_the_law_was_measured(self, steps: int, factor: float, session: Session) -> None:
        assert Lab(session, 480, 0.1).length_factor(steps) == pytest.approx(factor)

    def test_text_for(self, session: Session) -> None:
        length = len(session.text.train_ids)
        lab = Lab.of(session, 0.1)
        for batch_size in (1, 4):
            longest = length // batch_size - 1
            config = session.config.with_training(batch_size=batch_size, seq_len=longest)
            assert lab.has_text_for(config)
            Trainer(session.text.train_ids, len(session.text.vocabulary), config.model, config.training)
            assert not lab.has_text_for(config.with_training(seq_len=longest + 1))


class TestTrials:
    def test_gain(self) -> None:
        seen = Trials(60, {"same": [2.0, 3.0], "lower rate": [2.0, 2.0], "higher rate": [1.0, INF]})
        assert seen.loss("same") == 2.5
        assert seen.gain("lower rate") == 0.5
        assert seen.gain("higher rate") == 1.5, "a seed that diverged does not count"
        assert seen.gain("less momentum") == 0
        assert math.isnan(seen.loss("less momentum"))
        assert Trials(60, {"same": [INF, 2.0], "lower rate": [2.0, 2.0]}).gain("lower rate") == 0
        assert Trials(60, {"same": [INF, INF], "lower rate": [2.0, INF]}).gain("lower rate") == INF
        assert Trials(60, {"same": [2.0, 2.0], "lower rate": [INF, INF]}).gain("lower rate") == 0

    @pytest.mark.parametrize(
        ("settings", "less"),
        [
            ({}, None),
            ({"betas": [0.98, 0.9]}, {"betas": [0.9, 0.9]}),
            ({"optimizer": "sgd", "momentum": 0.99}, {"momentum": 0.9}),
            ({"optimizer": "sgd", "momentum": 0.9, "betas": [0.99, 0.9]}, None),
            ({"momentum": 0.99}, None),
        ],
    )
    def test_what_is_tried(
        self,
        session: Session,
        settings: dict[str, Any],
        less: dict[str, Any] | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session.config = session.config.with_training(**settings)
        asked: list[tuple[Config, int]] = []

        def train(_: Lab, config: Config, steps: int, seed: int, after_step: Callable[[], None]) -> Trial:
            asked.append((config, seed))
            after_step()
            return Trial(0.1, seed, 5.0, None, 1.0 + seed)

        monkeypatch.setattr(Lab, "train", train)
        shares: list[float] = []
        seen = run_trials(Lab(session, 500, 0.1), shares.append)
        lr = session.config.training.lr
        wanted = [session.config, session.config.with_training(lr=lr / 8), session.config.with_training(lr=lr * 8)]
        wanted += [] if less is None else [session.config.with_training(**less)]
        assert asked == [(config, seed) for config in wanted for seed in (0, 1)]
        assert all(losses == [1, 2] for losses in seen.losses.values()), "of training"
        assert seen.scaled
        assert list(seen.losses) == ["same", "lower rate", "higher rate", "less momentum"][: len(wanted)]
        assert shares == sorted(shares)
        assert shares[-1] <= 1

    @pytest.mark.parametrize(
        ("settings", "seconds_per_step", "steps"),
        [
            ({}, 1e-3, 60),
            ({"betas": [0.98, 0.9]}, 1e-3, 200),
            ({"optimizer": "sgd", "momentum": 0.99}, 1e-3, 200),
            ({"optimizer": "sgd", "momentum": 0.99}, 0.02, 100),
            ({"optimizer": "sgd", "momentum": 0.99}, 1.0, 20),
        ],
    )
    def test_how_long(
        self,
        session: Session,
        settings: dict[str, Any],
        seconds_per_step: float,
        steps: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Momentum takes its time to do harm; 16 seconds are shared by eight trainings."""
        session.config = session.config.with_training(**settings)
        asked: list[int] = []

        def train(_: Lab, config: Config, steps: int, seed: int, after_step: Callable[[], None]) -> Trial:
            asked.append(steps)
            return Trial(0.1, seed, 5.0, None, 1.0)

        monkeypatch.setattr(Lab, "train", train)
        seen = run_trials(Lab(session, 500, seconds_per_step), lambda share: None)
        assert set(asked) == {seen.steps} == {steps}

    @pytest.mark.parametrize(
        ("learns_from", "same", "factor"),
        [(0, 0.98, 8), (60, 0.98, 64), (500, 0.98, 512), (1000, 0.98, 512), (60, 0.96, 8), (60, INF, 8)],
    )
    def test_higher_and_higher(
        self, session: Session, learns_from: float, same: float, factor: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a network begins with letter counts and no rate teaches it more, a rate still higher is tried."""
        own, unigram = session.config.training.lr, session.baselines["unigram"]

        def train(_: Lab, config: Config, steps: int, seed: int, after_step: Callable[[], None]) -> Trial:
            times = config.training.lr / own
            share = 0.5 if times > max(learns_from, 1) else same if times == 1 else 0.98
            return Trial(0.1, seed, 5.0, None, None if share == INF else share * unigram)

        monkeypatch.setattr(Lab, "train", train)
        seen = run_trials(Lab(session, 60, 1e-3), lambda share: None)
        assert seen.higher_factor == factor
        assert seen.loss("higher rate") == pytest.approx((0.5 if factor > learns_from else 0.98) * unigram)
        if factor > learns_from:
            assert seen.best_factor == factor

    @pytest.mark.parametrize(
        ("losses", "factor"),
        [([2.0, 3.0, 3.0], 1), ([3.0, 2.0, 3.0], 1 / 8), ([3.0, 3.0, 2.0], 8), ([INF, 3.0, INF], 1 / 8)],
    )
    def test_best_factor(self, losses: list[float], factor: float) -> None:
        names = ("same", "lower rate", "higher rate")
        assert Trials(60, {name: [loss] for name, loss in zip(names, losses, strict=True)}).best_factor == factor

    def test_unscaled_where_scaling_is_too_much(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rates for so few steps are higher than the config's own, which may be all that the network can bear."""
        planned: list[int] = []

        def train(lab: Lab, config: Config, steps: int, seed: int, after_step: Callable[[], None]) -> Trial:
            planned.append(lab.planned_steps)
            after_step()
            loss = None if lab.planned_steps > steps else 2.0
            return Trial(0.1, seed, loss, None, loss)

        monkeypatch.setattr(Lab, "train", train)
        shares: list[float] = []
        seen = run_trials(Lab(session, 500, 0.1), shares.append)
        assert planned == [500] * 6 + [seen.steps] * 6
        assert not seen.scaled
        assert seen.loss("same") == 2
        assert shares == sorted(shares)

    def test_memorise(self, text_file: Path, places: Places) -> None:
        """The same window again and again, from a new network, for as long as there is time."""
        session = new_session(make_config(str(text_file), *PLAIN, "training.max_steps=100"), places)
        shares: list[float] = []
        lab, own = Lab.of(session, 1e6), Trials(60, {"same": [1.0], "lower rate": [2.0], "higher rate": [2.0]}, False)
        losses = memorise(lab, own, shares.append)
        assert len(losses) == len(shares) == trials.FEWEST_MEMORY_STEPS
        assert shares[-1] == 1
        still = session.config.training.model_copy(update={"state_reset": 0.0})
        model = untrained(session)
        window = torch.from_numpy(session.text.train_ids.astype(np.int64))
        streams = torch.stack([window[row * 10 : row * 10 + 11] for row in range(4)])
        logits = model(streams[:, :-1], model.zero_hidden(4))[0]
        first = torch.nn.functional.cross_entropy(logits.flatten(0, 1), streams[:, 1:].flatten()).item()
        assert losses[0] == pytest.approx(first, rel=1e-5)
        trainer = self.on_one_window(session, still)
        assert losses == pytest.approx([trainer.step(0.01).loss.item() for _ in losses], rel=1e-4)
        higher = memorise(
            lab, Trials(60, {"same": [INF], "lower rate": [INF], "higher rate": [1.0]}, False), shares.append
        )
        trainer = self.on_one_window(session, still)
        assert higher[:5] == pytest.approx([trainer.step(0.08).loss.item() for _ in range(5)], rel=1e-4)

    @staticmethod
    def on_one_window(session: Session, config: TrainingConfig) -> Trainer:
        """A trainer of the text's first window that starts as the whole text's would: its bias is the text's."""
        trainer = Trainer(session.text.train_ids[:44], len(session.text.vocabulary), session.config.model, config)
        own = session.trainer.model.decoder.bias
        assert not torch.equal(trainer.model.decoder.bias, own)
        trainer.model.decoder.bias.data.copy_(own.data)
        return trainer

    def test_a_new_network(self, session: Session) -> None:
        before = {name: value.clone() for name, value in session.trainer.model.state_dict().items()}
        session.trainer.step(0.1)
        assert differences(before, dict(untrained(session).state_dict())) == []


def test_one_real_question(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is never as large as this limit: with and without it are the same training, seed by seed."""
    monkeypatch.setattr(questions, "FEWEST_STEPS", 5)
    session.config = session.config.with_training(grad_clip=1e6)
    [answer] = ask("clipping", Lab(session, 500, 1e6), lambda *_: None)
    assert answer.label == "grad_clip 1e+06"
    assert answer.losses == answer.losses_against
    assert len(set(answer.losses)) == SEEDS
    told = "cannot be told at this budget: it changed nothing in trainings as short as these"
    assert (answer.effect, answer.verdict) == (0, told)
