"""The rule that chooses settings: it follows text, processor and time, says true numbers, and what was asked stands."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charrnn.config.library import name_from
from charrnn.config.loader import build_config
from charrnn.config.schema import Config, ModelConfig
from charrnn.config.settings import Settings, filled
from charrnn.model.charrnn import CharRNN
from charrnn.studies.choice import (
    DROPOUT,
    EVALUATION_SECONDS,
    EVALUATION_SHARE,
    EVALUATION_SPEED,
    SIZES,
    WINDOWS_PER_STREAM,
    Asked,
    Choice,
    Facts,
    Size,
    choose,
    sizes_to_measure,
    window_shape,
)
from charrnn.studies.speeds import SECONDS, fitted, measure_speeds
from charrnn.text.baselines import baselines
from charrnn.text.corpus import find_corpus
from charrnn.text.encoded import encode_corpus
from charrnn.text.places import Places
from charrnn.training.trainer import Trainer

HIDDEN = [size.hidden for size in SIZES]
# Two cores without AMX, about: characters per second at 384 units, the rest by the square of the size.
SPEED = 36_000.0

characters = st.integers(200, 10**10)
symbols = st.integers(2, 5000)
speeds = st.floats(10, 1e9)
seconds = st.floats(1, 1e6)


def machine(speed: float = SPEED, sizes: list[int] = HIDDEN) -> dict[int, float]:
    """Speeds by size of a machine that does so many characters per second at 384 units."""
    return {size: speed * (384 / size) ** 2 for size in sizes}


def facts(characters: int = 1_000_000, speed: float = SPEED, symbols: int = 65) -> Facts:
    return Facts(characters, min(characters // 9, 200_000), symbols, machine(speed))


def asked(seconds: float = 60.0, **more: Any) -> Asked:
    """What was asked; a key is written with two underscores for the dot."""
    return {"training.max_time": seconds} | {key.replace("__", "."): value for key, value in more.items()}


def whole(choice: Choice, asked: Asked) -> Config:
    """The config that comes of a choice and what was asked."""
    values: dict[str, Any] = {"corpus": {"source": "a.txt"}}
    for name, value in asked.items():
        section, key = name.split(".")
        values.setdefault(section, {})[key] = value
    return build_config(filled(Settings(values), choice.values))


def chosen(facts: Facts, asked: Asked) -> Config:
    return whole(choose(facts, asked), asked)


def hidden(facts: Facts, asked: Asked) -> int:
    return chosen(facts, asked).model.hidden_size


class TestWhatIsChosen:
    def test_a_minute_of_shakespeare_is_what_was_measured_to_be_best(self) -> None:
        """The shipped config, found by experiments (.github/CONTRIBUTING.md)."""
        config = chosen(facts(1_003_854), asked())
        assert (config.model.hidden_size, config.model.num_layers, config.model.embedding_size) == (384, 1, 64)
        assert (config.training.batch_size, config.training.seq_len, config.training.lr) == (96, 24, 1.4e-2)
        assert (config.training.optimizer, config.training.weight_decay) == ("adamw", 0.1)
        assert (config.training.schedule, config.training.warmup_steps) == ("linear", 50)
        assert config.model.dropout.input == config.model.dropout.output == 0

    @given(characters, symbols, speeds, seconds)
    def test_any_choice_is_a_config(self, characters: int, symbols: int, speed: float, seconds: float) -> None:
        given = facts(characters, speed, symbols)
        config = chosen(given, asked(seconds))
        assert config.model.hidden_size in HIDDEN
        assert config.training.batch_size * (config.training.seq_len + 1) <= characters or characters < 49

    @pytest.mark.parametrize(("below", "row"), list(itertools.pairwise(SIZES)), ids=str)
    def test_each_size_begins_where_the_table_says(self, below: Size, row: Size) -> None:
        enough = row.reads / 60 / machine(1.0)[row.hidden] * 1.001
        text = max(int(row.text), 200)
        assert hidden(facts(text, enough), asked()) == row.hidden
        assert hidden(facts(text - 1, enough), asked()) == below.hidden
        assert hidden(facts(text, enough * 0.99), asked()) == below.hidden

    @given(characters, speeds, seconds, st.floats(1, 100))
    def test_more_time_speed_or_text_never_make_it_smaller(
        self, characters: int, speed: float, seconds: float, more: float
    ) -> None:
        least = hidden(facts(characters, speed), asked(seconds))
        assert hidden(facts(characters, speed), asked(seconds * more)) >= least
        assert hidden(facts(characters, speed * more), asked(seconds)) >= least
        assert hidden(facts(int(characters * more), speed), asked(seconds)) >= least

    @given(characters, speeds, seconds)
    def test_dropout_follows_passes_and_weights(self, characters: int, speed: float, seconds: float) -> None:
        given = facts(characters, speed)
        config = chosen(given, asked(seconds))
        size = config.model.hidden_size
        by_heart = seconds * given.speeds[size] / characters * (4 * size * (64 + size)) / characters
        expected = max(shares for least, *shares in DROPOUT if by_heart >= least)
        assert [config.model.dropout.input, config.model.dropout.output] == expected
        assert config.model.dropout.between == 0

    @pytest.mark.parametrize(("below", "row"), list(itertools.pairwise(DROPOUT)), ids=str)
    def test_dropout_begins_where_the_table_says(self, below: tuple[float, ...], row: tuple[float, ...]) -> None:
        """512 units: 4 x 512 x (64 + 512) = 1,179,648 weights, one per character."""
        for factor, expected in ((0.999, below), (1.001, row)):
            given = {"training.epochs": row[0] * factor, "model.hidden_size": 512}
            found = chosen(Facts(1_179_648, 10**5, 65, machine(sizes=[512])), given).model.dropout
            assert (found.input, found.output) == expected[1:]

    @pytest.mark.parametrize(
        "shape",
        [
            {"cell": "gru"},
            {"cell": "rnn_tanh", "embedding_size": 0},
            {"num_layers": 3, "embedding_size": 7},
            {"tie_weights": True, "cell": "gru", "num_layers": 2},
        ],
        ids=str,
    )
    def test_the_weights_counted_are_those_of_the_recurrent_layers(self, shape: dict[str, Any]) -> None:
        sizes = {"hidden_size": 512, "embedding_size": 512 if shape.get("tie_weights") else 64}
        layers = CharRNN(65, ModelConfig.model_validate({**sizes, **shape})).recurrent_layers
        weights = sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() == 2)
        given = {"model.hidden_size": 512, "training.epochs": 1.0, **{f"model.{k}": v for k, v in shape.items()}}
        [reason] = [
            reason
            for reason in choose(Facts(weights // 7, 10**5, 65, machine(sizes=[512])), given).reasons
            if reason.startswith("dropout")
        ]
        assert " with 7.0 weights per character " in reason

    def test_two_layers_have_dropout_between(self) -> None:
        config = chosen(facts(50_000), asked(600.0, model__num_layers=2))
        assert config.model.dropout.between == config.model.dropout.output > 0

    @pytest.mark.parametrize(("characters", "batch"), [(200, 1), (720, 3), (23_039, 48), (23_040, 96), (10**9, 96)])
    def test_streams_are_long_enough(self, characters: int, batch: int) -> None:
        config = chosen(facts(characters), asked())
        assert config.training.batch_size == batch
        assert characters / batch >= WINDOWS_PER_STREAM * 24 or batch == 1

    @pytest.mark.parametrize(("size", "lr"), [(32, 0.02), (256, 0.017), (384, 0.014), (1024, 0.0086), (65536, 0.002)])
    def test_larger_networks_learn_slower(self, size: int, lr: float) -> None:
        given = Facts(10**6, 10**5, 65, machine(sizes=[size]))
        assert chosen(given, asked(model__hidden_size=size)).training.lr == lr

    @pytest.mark.parametrize(("streams", "lr"), [(96, 0.014), (24, 0.007), (192, 0.02), (1, 0.002)])
    def test_fewer_streams_learn_slower(self, streams: int, lr: float) -> None:
        given = Facts(10**6, 10**5, 65, machine(sizes=[384]))
        assert chosen(given, asked(model__hidden_size=384, training__batch_size=streams)).training.lr == lr

    @pytest.mark.parametrize(("optimizer", "decay"), [("adamw", 0.1), ("adam", 0.0), ("sgd", 0.0)])
    def test_weight_decay_is_adamw_s(self, optimizer: str, decay: float) -> None:
        assert chosen(facts(), asked(training__optimizer=optimizer)).training.weight_decay == decay

    @pytest.mark.parametrize(("size", "lr"), [(32, 4.8), (64, 3.4), (384, 1.4), (1024, 0.86), (65536, 0.2)])
    def test_sgd_wants_a_hundred_times_adam_s_rate(self, size: int, lr: float) -> None:
        given = Facts(10**6, 10**5, 65, machine(sizes=[size]))
        choice = choose(given, asked(model__hidden_size=size, training__optimizer="sgd"))
        assert choice.values["training"]["lr"] == lr
        assert any(f"lr {lr:g} (1.4 at 384 units and 96 streams with sgd)" in reason for reason in choice.reasons)

    def test_no_rate_is_below_its_end(self) -> None:
        choice = choose(facts(), asked(training__min_lr=0.05))
        assert choice.values["training"]["lr"] == 0.05
        assert any("lr 0.05 (min_lr, where it is to end)" in reason for reason in choice.reasons)

    def test_many_symbols_have_longer_vectors(self) -> None:
        assert [chosen(facts(symbols=n), asked()).model.embedding_size for n in (256, 257)] == [64, 128]

    @given(characters, speeds, seconds)
    def test_evaluations_take_a_twentieth_of_the_time(self, characters: int, speed: float, seconds: float) -> None:
        given = facts(characters, speed)
        config = chosen(given, asked(seconds))
        speed = given.speeds[config.model.hidden_size]
        steps = seconds * speed / (config.training.batch_size * config.training.seq_len)
        cost = given.validation / speed / EVALUATION_SPEED + EVALUATION_SECONDS
        between = math.ceil(steps / config.run.eval_every) - 1
        assert between * cost <= EVALUATION_SHARE * seconds
        assert between <= 20
        a_second = config.run.log_every / (steps / seconds)
        assert config.run.log_every == 1 or 0.5 <= a_second <= 1 + 1e-12  # rounding

    def test_a_short_training_warms_up_for_a_tenth(self) -> None:
        assert chosen(facts(), {"training.max_steps": 200}).training.warmup_steps == 20
        assert chosen(facts(), {"training.max_steps": 5000}).training.warmup_steps == 50


class TestTheTimeGiven:
    def test_a_minute_where_nothing_is_said(self) -> None:
        choice = choose(facts(), {})
        assert choice.values["training"]["max_time"] == 60
        assert "in 60 s (unless --max-time says otherwise)" in choice.reasons[0]
        assert {**choice.values, "training": {**choice.values["training"], "max_time": 0}} == {
            **choose(facts(), asked()).values,
            "training": {**choose(facts(), asked()).values["training"], "max_time": 0},
        }

    @pytest.mark.parametrize("end", [{"training.max_steps": 20}, {"training.epochs": 2.0}, {"training.max_time": 5.0}])
    def test_no_time_is_added_to_an_end(self, end: Asked) -> None:
        assert "max_time" not in choose(facts(), end).values["training"]

    def test_patience_gets_a_minute_unless_that_is_refused(self) -> None:
        assert choose(facts(), {"training.patience": 3}).values["training"]["max_time"] == 60
        endless = {"training.patience": 3, "training.max_time": None}
        choice = choose(facts(), endless)
        assert "max_time" not in choice.values["training"]
        assert "in 60 s (a guess: patience alone ends it) this" in choice.reasons[0]

    @pytest.mark.parametrize(
        ("end", "reads", "says"),  # what is read by the size chosen
        [
            ({"training.max_steps": 500}, 500 * 96 * 24, "in 500 steps "),
            ({"training.epochs": 3.0}, 3 * 10**6, "in 3 epochs "),
            ({"training.max_time": 600.0}, 36_000 * 600 * (384 / 512) ** 2, "in 10 min "),
            ({"training.max_time": 7200.0, "training.max_steps": 500}, 500 * 96 * 24, "in 500 steps "),
            ({"training.max_time": 1.0, "training.max_steps": 5000}, 36_000 * (384 / 128) ** 2, "in 1 s "),
        ],
    )
    def test_the_nearest_limit_decides(self, end: Asked, reads: float, says: str) -> None:
        choice = choose(facts(), end)
        assert says in choice.reasons[0]
        assert choice.values["model"]["hidden_size"] == max(size.hidden for size in SIZES if size.reads <= reads)
        passes = re.search(r"([\d.]+) times$", choice.reasons[0])[1]  # type: ignore[index]
        assert float(passes) == pytest.approx(reads / 1e6, rel=0.06)


class TestWhatIsAsked:
    """Any setting that was given stands, is left out of the choice, and has no reason."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("model.hidden_size", 256),
            ("model.embedding_size", 3),
            ("model.dropout", {"input": 0.5, "between": 0.0, "output": 0.5}),
            ("training.batch_size", 5),
            ("training.seq_len", 7),
            ("training.optimizer", "adam"),
            ("training.lr", 0.123),
            ("training.weight_decay", 0.3),
            ("training.schedule", "cosine"),
            ("training.warmup_steps", 3),
            ("training.state_reset", 0.5),
            ("run.log_every", 3),
            ("run.eval_every", 3),
        ],
    )
    def test_it_stands(self, name: str, value: Any) -> None:
        section, key = name.split(".")
        choice = choose(facts(), {**asked(), name: value})
        assert key not in choice.values[section]
        assert key in choose(facts(), asked()).values[section]
        assert whole(choice, {**asked(), name: value}).model_dump()[section][key] == value

    def test_the_rest_follows_from_a_size(self) -> None:
        given = Facts(10**6, 10**5, 65, machine(sizes=[100]))
        choice = choose(given, asked(model__hidden_size=100))
        assert choice.values["training"]["lr"] == 0.02
        assert choice.reasons[0].startswith("lstm 1 x 100 (as asked): ")
        assert not any(reason.startswith("not ") for reason in choice.reasons)
        assert sizes_to_measure({"model.hidden_size": 100}) == [100]

    def test_tied_sizes_are_one(self) -> None:
        tied = asked(model__tie_weights=True)
        assert sizes_to_measure(tied) == HIDDEN
        assert chosen(facts(), tied).model.embedding_size == hidden(facts(), tied) == hidden(facts(), asked())
        as_embedding = {**tied, "model.embedding_size": 100}
        assert sizes_to_measure(as_embedding) == [100]
        choice = choose(Facts(10**6, 10**5, 65, machine(sizes=[100])), as_embedding)
        assert choice.values["model"]["hidden_size"] == 100
        assert choice.reasons[0].startswith("lstm 1 x 100 (as asked): ")

    @pytest.mark.parametrize("place", ["input", "between", "output"])
    def test_one_dropout_stands_alone(self, place: str) -> None:
        """The others follow as they would without it."""
        free = choose(facts(50_000), asked(600.0, model__num_layers=2))
        choice = choose(facts(50_000), {**asked(600.0, model__num_layers=2), f"model.dropout.{place}": 0.01})
        expected = dict(free.values["model"]["dropout"])
        del expected[place]
        assert choice.values["model"]["dropout"] == expected
        [line] = [reason for reason in choice.reasons if reason.startswith("dropout ")]
        assert f"on the {place}" not in line

    def test_windows_follow_from_what_is_asked(self) -> None:
        assert window_shape(10**6, {"training.seq_len": 10}) == (96, 10)
        assert window_shape(5_000, {"training.seq_len": 100}) == (3, 100)
        assert window_shape(5_000, {}, processes=5) == (10, 24), "12, but split evenly"
        assert window_shape(500, {}, processes=2) == (2, 24), "one each at least"
        assert window_shape(5_000, {"training.batch_size": 7}, processes=2) == (7, 24)
        assert window_shape(200, {"training.batch_size": 50}) == (50, 24)

    def test_what_is_asked_is_not_explained(self) -> None:
        free, bound = (
            " ".join(choose(facts(), asked(**more)).reasons)
            for more in (
                {},
                {"model__dropout": 0.1, "training__lr": 1e-3, "training__batch_size": 16, "run__eval_every": 9}
                | {"training__weight_decay": 0.0},
            )
        )
        for word in ("dropout", "lr ", "batch_size", "weight_decay", "evaluated"):
            assert word in free
            assert word not in bound


class TestReasons:
    @given(characters, st.floats(1e3, 1e8), st.integers(1, 10**6))
    def test_the_first_numbers_are_the_facts(self, characters: int, speed: float, seconds: int) -> None:
        given = facts(characters, speed)
        choice = choose(given, asked(float(seconds)))
        size = choice.values["model"]["hidden_size"]
        said = choice.reasons[0].replace(" million", "e6")
        layers, shown_size, time, shown_speed, length, passes = (
            float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", said)
        )
        unit = {"s": 1, "min": 60, "h": 3600}[re.search(r"in \S+ (s|min|h) ", said)[1]]  # type: ignore[index]
        assert (layers, shown_size) == (1, size)
        assert time * unit == pytest.approx(seconds, rel=6e-3)
        assert shown_speed == pytest.approx(given.speeds[size], abs=0.6)
        assert length == pytest.approx(characters, rel=6e-3)
        exact = seconds * given.speeds[size] / characters
        assert passes == pytest.approx(exact, rel=0.06)

    @given(characters, speeds, seconds)
    def test_what_a_larger_one_lacks_is_true(self, characters: int, speed: float, seconds: float) -> None:
        given = facts(characters, speed)
        choice = choose(given, asked(seconds))
        larger = [size for size in SIZES if size.hidden > choice.values["model"]["hidden_size"]]
        lines = [reason for reason in choice.reasons if reason.startswith("not ")]
        assert len(lines) == bool(larger)
        if larger:
            assert lines[0].startswith(f"not {larger[0].hidden}: ")
            reads = seconds * given.speeds[larger[0].hidden]
            if "would read" in lines[0]:
                assert reads < larger[0].reads
            else:
                assert "needs a text of" in lines[0]
                assert characters < larger[0].text

    def test_in_full(self) -> None:
        assert choose(facts(1_003_854), {}).reasons == [
            "lstm 1 x 384: in 60 s (unless --max-time says otherwise) this machine (36,000 characters per second at "
            "this size) reads the 1 million characters 2.2 times",
            "not 512: it would read 1.22 million characters, and needs 4 million",
            "dropout 0 on the input, 0 on the output: 2.2 passes over the text with 0.69 weights per character do not "
            "learn it by heart",
            "batch_size 96 (more of them would leave too few steps), lr 0.014 (0.014 at 384 units and 96 streams), "
            "weight_decay 0.1",
            "evaluated every 500 steps: that takes 5% of the time at most",
        ]
        assert choose(facts(20_000, 10 * SPEED), asked(120.0)).reasons[1:3] == [
            "not 256: it needs a text of 30,000 characters; this one has 20,000",
            "dropout 0.4 on the input, 0.6 on the output: 8,640 passes over the text with 9.8 weights per character "
            "would learn it by heart",
        ]

    def test_short_texts_and_times(self) -> None:
        reasons = choose(facts(1_000), {"training.max_steps": 10}).reasons
        assert "batch_size 3 (more streams would be shorter than 10 windows)" in reasons[3]
        assert reasons[4] == "evaluated at the end only: another one would take more than 5% of the time"

    def test_at_the_end_only_also_where_it_goes_faster_than_measured(self) -> None:
        choice = choose(facts(180_000), asked(5.0))
        assert "evaluated at the end only" in choice.reasons[-1]
        steps = 5 * facts().speeds[choice.values["model"]["hidden_size"]] / (96 * 24)
        assert choice.values["run"]["eval_every"] >= 1.9 * steps


class Clock:
    """Each step of a trainer takes what ``cost`` says of its hidden size; nothing else takes time."""

    def __init__(self, cost: Callable[[int], float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.steps: list[int] = []
        real = Trainer.step

        def step(trainer: Trainer, lr: float, observe: bool = False) -> Any:
            size = trainer.model.config.hidden_size
            self.steps.append(size)
            self.now += cost(size)
            return real(trainer, lr, observe)

        monkeypatch.setattr(Trainer, "step", step)

    def __call__(self) -> float:
        return self.now


class TestSpeeds:
    @staticmethod
    def measured(config: Config, places: Places, clock: Clock, sizes: list[int]) -> dict[int, float]:
        text = encode_corpus(find_corpus(config.corpus, places), config.corpus, places)
        return measure_speeds(config, text, baselines(text.ids, len(text.vocabulary)), sizes, clock)

    @pytest.fixture
    def config(self, small_config: Config) -> Config:
        """Windows of 4 x 10 characters."""
        training = small_config.training.model_copy(update={"random_seq_len": False})
        return small_config.model_copy(update={"training": training})

    def test_characters_over_seconds(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """Windows of 40 characters, and a machine whose steps take 20 ms and a ten thousandth of the square."""
        clock = Clock(lambda size: 0.02 + size**2 / 10_000, monkeypatch)
        found = self.measured(config, places, clock, [4, 8, 16, 32])
        assert found == pytest.approx({size: 40 / (0.02 + size**2 / 10_000) for size in (4, 8, 16, 32)})
        assert set(clock.steps) == {4, 16}

    def test_tied_weights_of_every_size(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        model = config.model.model_copy(update={"tie_weights": True, "embedding_size": 8, "hidden_size": 8})
        clock = Clock(lambda _: 2.0, monkeypatch)
        found = self.measured(config.model_copy(update={"model": model}), places, clock, [4, 8])
        assert found == {4: 20.0, 8: 20.0}

    def test_the_best_step_counts(self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        costs = iter([9.0, 0.02, 0.01, 0.03, 0.5])
        clock = Clock(lambda _: next(costs), monkeypatch)
        assert self.measured(config, places, clock, [4]) == pytest.approx({4: 4000})
        assert len(clock.steps) == 5

    @pytest.mark.parametrize("cost", [1e-4, 0.01, 0.04])
    def test_half_a_second_in_all(
        self, cost: float, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(lambda size: cost * size / 4, monkeypatch)
        self.measured(config, places, clock, [4, 8, 12])
        first = clock.steps.index(8)
        assert clock.steps == [4] * first + [8] * (len(clock.steps) - first)
        assert first <= 21
        assert clock.now - 100 - cost <= SECONDS + 2 * cost
        assert len(clock.steps) == 41 or clock.now - 100 - cost >= SECONDS - 2 * cost

    def test_one_step_is_enough_of_a_slow_one(
        self, config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(lambda _: 2.0, monkeypatch)
        assert self.measured(config, places, clock, [4, 8]) == {4: 20.0, 8: 20.0}
        assert clock.steps == [4, 4, 8]

    def test_fitted_through_what_was_measured(self) -> None:
        assert fitted({2: 1 / 5, 4: 1 / 17}, [2, 3, 4, 8]) == pytest.approx({2: 1 / 5, 3: 1 / 10, 4: 1 / 17, 8: 1 / 65})
        assert fitted({7: 3.0}, [7]) == {7: 3.0}

    @given(speeds, speeds)
    def test_any_measurement_gives_speeds(self, small: float, large: float) -> None:
        """Also one that was disturbed: none is negative, and larger networks are never faster."""
        found = [fitted({64: small, 384: large}, HIDDEN)[size] for size in HIDDEN]
        assert found[4] == pytest.approx(large)
        assert all(0 < after <= before * (1 + 1e-9) for before, after in itertools.pairwise(found))

    def test_the_weights_of_the_run_do_not_change(self, config: Config, places: Places) -> None:
        """Nothing of the measuring is left in torch's generator, or wherever else weights could come from."""
        text = encode_corpus(find_corpus(config.corpus, places), config.corpus, places)

        def weights() -> list[torch.Tensor]:
            return list(Trainer(text.train_ids, len(text.vocabulary), config.model, config.training).model.parameters())

        before = weights()
        measure_speeds(config, text, baselines(text.ids, len(text.vocabulary)), [4, 8])
        assert all(torch.equal(one, other) for one, other in zip(before, weights(), strict=True))


@given(st.text(max_size=300))
def test_any_text_names_a_run(name: str) -> None:
    values = {"corpus": {"source": "a"}, "training": {"max_steps": 1}, "run": {"name": name_from(name)}}
    assert build_config(Settings(values)).run.name == name_from(name)
    assert len(name_from(name)) <= 100


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("my.txt", "my"),
        ("my text (1).txt", "my-text-1"),
        ("standard input", "standard-input"),
        ("-x.txt", "x"),
        ("...", "text"),
        ("a\N{SUPERSCRIPT TWO}.b.txt", "a-.b"),
        ("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller_2.md", "M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller_2"),
    ],
)
def test_run_names(text: str, name: str) -> None:
    assert name_from(text) == name
