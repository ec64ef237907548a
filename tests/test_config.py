"""The YAML loader and the schema: what a config may say, and that a message leads to the very place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from charrnn.config.library import find_config, shipped_configs
from charrnn.config.loader import build_config, dump_config, load_config, revise_config
from charrnn.config.schema import (
    Config,
    CorpusConfig,
    DropoutConfig,
    ModelConfig,
    RunConfig,
    SamplingConfig,
    Section,
    TrainingConfig,
)
from charrnn.config.settings import NamedOverride, Settings, apply_override, read_settings
from charrnn.errors import ConfigError
from tests.conftest import make_config

SECTIONS: list[type[Section]] = [CorpusConfig, DropoutConfig, ModelConfig, TrainingConfig, SamplingConfig, RunConfig]
HEAD = "corpus:\n  source: play\ntraining:\n  max_steps: 5\n"  # four lines; what a test adds begins on line 5


def load(text: str, *assignments: str) -> Config:
    file = Path("c.yaml")
    file.write_text(text)
    return load_config(file, assignments)


def problems(text: str, *assignments: str) -> list[str]:
    """What is wrong with the config ``c.yaml`` of this text."""
    with pytest.raises(ConfigError) as caught:
        load(text, *assignments)
    return caught.value.problems


def problem(text: str, *assignments: str) -> str:
    """The one thing that is wrong."""
    found = problems(text, *assignments)
    assert len(found) == 1, found
    return found[0]


class TestPlaces:
    """Every message begins with ``file:line:column: ``."""

    @pytest.mark.parametrize(
        ("addition", "expected"),
        [
            ("  lrr: 3\n", "c.yaml:5:3: unknown key 'training.lrr'; did you mean 'lr'?"),
            ("modle:\n  cell: gru\n", "c.yaml:5:1: unknown key 'modle'; did you mean 'model'?"),
            (
                "model:\n  dropout: {input: 0.1, betwen: 0.1}\n",
                "c.yaml:6:25: unknown key 'model.dropout.betwen'; did you mean 'between'?",
            ),
            (
                "sampling:\n  xyzzy: 1\n",
                "c.yaml:6:3: unknown key 'sampling.xyzzy'; valid here: temperature, top_k, top_p, length",
            ),
        ],
    )
    def test_unknown_key(self, addition: str, expected: str) -> None:
        assert problem(HEAD + addition) == expected

    @pytest.mark.parametrize(
        ("key", "written", "home"),
        [
            ("temperature", "training", "sampling"),
            ("hidden_size", "training", "model"),
            ("lr", "model", "training"),
            ("batch_size", "model", "training"),
            ("out", "sampling", "run"),
            ("save_every", "training", "run"),
        ],
    )
    def test_key_in_the_wrong_section(self, key: str, written: str, home: str) -> None:
        """That it is a valid name elsewhere says more than which name here looks like it."""
        config: dict[str, dict[str, Any]] = {"corpus": {"source": "play"}, "training": {"max_steps": 5}}
        config.setdefault(written, {})[key] = 1
        assert problem(yaml.safe_dump(config)).endswith(f": unknown key '{written}.{key}'; it belongs under '{home}'")

    def test_duplicate_key(self) -> None:
        text = HEAD + "  lr: 1\n  seed: 1\n  lr: 2\n"
        assert problem(text) == "c.yaml:7:3: duplicate key 'lr', first given on line 5; give it once"

    def test_duplicate_section(self) -> None:
        expected = "c.yaml:5:1: duplicate key 'corpus', first given on line 1; give it once"
        assert problem(HEAD + "corpus:\n  source: python\n") == expected

    def test_value_in_a_list_has_its_own_place(self) -> None:
        assert (
            problem(HEAD + "  betas: [0.9, 1.5]\n") == "c.yaml:5:16: training.betas.1: should be less than 1, not 1.5"
        )

    def test_rule_between_fields_is_placed_at_the_section(self) -> None:
        assert load(HEAD + "  lr: 1e-3\n  min_lr: 1e-3\n").training.min_lr == 1e-3, "equal is in order"
        assert problem(HEAD + "  lr: 1e-3\n  min_lr: 0.1\n") == "c.yaml:3:1: training: min_lr (0.1) is above lr (0.001)"

    def test_missing_source_and_missing_section(self) -> None:
        found = problems("corpus: {}\n")
        assert found[0].startswith("c.yaml:1:1: corpus.source is missing: shakespeare, play")
        assert found[1].startswith("c.yaml:1:1: training is missing: ")

    def test_training_without_an_end(self) -> None:
        expected = "c.yaml:3:1: training: training has no end: set max_steps, epochs, max_time or patience"
        assert problem("corpus:\n  source: play\ntraining:\n  lr: 1\n") == expected

    def test_everything_at_once_in_file_order(self) -> None:
        text = (
            "modle:\n  x: 1\n"
            "training:\n  lr: -1\n  lr: 2\n  seed: true\n  max_steps: 1.5\n  betas: [0.5, 2]\n"
            "corpus:\n  sorce: x\n"
            "sampling: 3\n"
        )
        places = [re.match(r"c\.yaml:(\d+):(\d+): ", found) for found in problems(text)]
        found = [(int(place[1]), int(place[2])) for place in places if place]
        assert len(places) == len(found)
        assert found == [(1, 1), (4, 3), (5, 3), (6, 3), (7, 3), (8, 16), (9, 1), (10, 3), (11, 1)]


class TestValues:
    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            ("lr: fast", "training.lr: should be a valid number, not 'fast'"),
            ("lr: '0.1'", "training.lr: should be a valid number, not '0.1'"),
            ("batch_size: 1.5", "training.batch_size: should be a valid integer, not 1.5"),
            ("batch_size: [1]", "training.batch_size: should be a valid integer, not [1]"),
            ("seed: 2024-01-01", "'2024-01-01' cannot be read as a value; write a plain value"),
            ("optimizer: adma", "training.optimizer: should be 'adam', 'adamw' or 'sgd', not 'adma'"),
            ("random_seq_len: 1", "training.random_seq_len: should be a valid boolean, not 1"),
            ("betas: 0.9", "training.betas: should be a valid list, not 0.9"),
            ("betas: [0.9]", "training.betas: should be: Adam's two decay rates, not [0.9]"),
            ("lr: {a: 1}", "training.lr: should be a valid number"),
        ],
    )
    def test_wrong_type(self, line: str, cause: str) -> None:
        assert problem(f"{HEAD}  {line}\n").startswith(f"c.yaml:5:3: {cause}")

    @pytest.mark.parametrize("written", ["12", "1.5", "yes"])
    def test_text_that_yaml_takes_for_something_else(self, written: str) -> None:
        said = problem(f"{HEAD}run: {{name: {written}}}\n")
        assert re.fullmatch(r"c\.yaml:5:7: run\.name: should be a valid string, not \S+; put text in quotes", said)

    @pytest.mark.parametrize("written", ["50%", "[0.1, 0.2]", "null"])
    def test_a_dropout_that_is_neither_a_number_nor_a_section(self, written: str) -> None:
        wanted = "model.dropout: should be: a number for all places, or {input, between, output}, not "
        assert problem(f"{HEAD}model: {{dropout: {written}}}\n").startswith(f"c.yaml:5:9: {wanted}")

    @pytest.mark.parametrize("key", ["batch_size", "lr", "epochs", "max_time", "seed", "grad_clip"])
    def test_a_boolean_is_no_number(self, key: str) -> None:
        cause = rf"c\.yaml:5:3: training\.{key}: should be a valid (number|integer), not True"
        assert re.fullmatch(cause, problem(f"{HEAD}  {key}: true\n"))

    @pytest.mark.parametrize("section", ["model", "sampling", "run"])
    @pytest.mark.parametrize("value", ["3", "[]", "text"])
    def test_a_section_is_a_mapping(self, section: str, value: str) -> None:
        assert problem(f"{HEAD}{section}: {value}\n").startswith(f"c.yaml:5:1: {section} is a section: ")

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("1e-3", 1e-3),
            ("1E-3", 1e-3),
            ("+1e-3", 1e-3),
            ("1.e-3", 1e-3),
            (".1e-2", 1e-3),
            ("1.0e-3", 1e-3),
            ("1e+0", 1.0),
            ("2", 2.0),
            (".5", 0.5),
        ],
    )
    def test_numbers_as_people_write_them(self, written: str, value: float) -> None:
        assert load(f"{HEAD}  lr: {written}\n").training.lr == value
        assert load(HEAD, f"training.lr={written}").training.lr == value

    @pytest.mark.parametrize(
        ("written", "value"), [("010", 10), ("089", 89), ("+07", 7), ("0x10", 16), ("1_000", 1000)]
    )
    def test_zeros_before_a_number_mean_nothing(self, written: str, value: int) -> None:
        assert load(f"{HEAD}  seq_len: {written}\n").training.seq_len == value
        assert load(HEAD, f"training.seq_len={written}").training.seq_len == value
        assert load(HEAD, "run.name='010'").run.name == "010"

    @pytest.mark.parametrize("written", ["**/*.md", "*.md", "'*.md'"])
    def test_a_pattern_needs_no_quotes_of_its_own(self, written: str) -> None:
        """A star begins an alias in YAML: in a file it is quoted, on a command line the shell takes the quotes."""
        assert load(HEAD, f"corpus.glob={written}").corpus.glob == written.strip("'")

    @pytest.mark.parametrize("key", ["lr", "grad_clip", "epochs", "weight_decay", "momentum", "min_lr", "max_time"])
    @pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400"])
    def test_only_finite_numbers(self, key: str, value: str) -> None:
        found = problem(f"{HEAD}  {key}: {value}\n")
        assert found.startswith(f"c.yaml:5:3: training.{key}: should be a finite number, not ")

    @pytest.mark.parametrize(
        "line",
        [
            *("lr: 0", "lr: -1", "lr: 1001", "grad_clip: 0", "epochs: 0", "max_time: 0", "batch_size: 0"),
            *("batch_size: -1", "batch_size: 1000001", "seq_len: 0", "seed: -1", f"seed: {2**63}"),
            *("state_reset: -0.1", "state_reset: 1.1", "momentum: 1", "weight_decay: -1", "betas: [0.9]"),
            *("betas: [0.9, 0.9, 0.9]", "betas: [-0.1, 0.9]", "step_gamma: 0", "step_drops: 0", "cycles: 0"),
            *("patience: 0", "warmup_steps: -1", "threads: 0", "device: gpu", "device: 'cuda:'", "device: cuda:x"),
        ],
    )
    def test_out_of_range_in_training(self, line: str) -> None:
        key, value = line.split(": ", 1)
        found = problem(f"{HEAD}  {line}\n")
        assert re.match(rf"c\.yaml:5:\d+: training\.{key}", found)
        if not value.startswith("["):
            assert found.endswith(f"not {yaml.safe_load(value)!r}")

    @pytest.mark.parametrize(
        "assignment",
        [
            *("model.hidden_size=0", "model.hidden_size=65537", "model.num_layers=0", "model.num_layers=65"),
            *("model.embedding_size=-1", "model.forget_bias=11", "sampling.temperature=-1", "sampling.top_k=0"),
            *("sampling.top_p=0", "sampling.top_p=1.01", "sampling.length=-1", "run.log_every=0", "run.out=''"),
            *("run.name=a/b", "run.name=..", "run.name=''", "corpus.split=[0.5, 0.6]", "corpus.split=[1]"),
            *("corpus.split=[0.5, 0.5, 0.0]", "corpus.min_count=0", "corpus.encoding=utf-9", "corpus.source=''"),
            *("corpus.source=[]", "corpus.source=[a, '']"),
        ],
    )
    def test_out_of_range_elsewhere(self, assignment: str) -> None:
        name = assignment.partition("=")[0]
        assert problem(HEAD, assignment).startswith(f"--set {assignment}: {name}: ")

    def test_a_pattern_is_explained_in_words(self) -> None:
        for assignment in ("training.device=gpu", "run.name=a/b"):
            assert "^" not in problem(HEAD, assignment), "a regular expression is no explanation"

    @pytest.mark.parametrize(
        ("written", "seconds"),
        [("60", 60), ("0.5", 0.5), ("60s", 60), ("1.5m", 90), ("5min", 300), ("2h", 7200), ("' 10 s '", 10)],
    )
    def test_durations(self, written: str, seconds: float) -> None:
        assert load(f"{HEAD}  max_time: {written}\n").training.max_time == seconds

    @pytest.mark.parametrize("written", ["60x", "1d", "s", "''", "-5s", "1h30m", "1.5.0s", "one minute"])
    def test_durations_that_are_none(self, written: str) -> None:
        found = problem(f"{HEAD}  max_time: {written}\n")
        assert found.startswith("c.yaml:5:3: training.max_time: write a duration as 60s, 5m or 1h, not ")

    def test_a_duration_of_nothing(self) -> None:
        assert problem(HEAD + "  max_time: 0s\n").startswith("c.yaml:5:3: training.max_time: should be greater than 0")

    def test_dropout_as_a_number_is_for_all_places(self) -> None:
        expected = DropoutConfig(input=0.3, between=0.3, output=0.3)
        assert load(HEAD + "model:\n  dropout: 0.3\n").model.dropout == expected

    def test_dropout_by_place(self) -> None:
        expected = DropoutConfig(input=0.0, between=0.5, output=0.1)
        assert load(HEAD + "model:\n  dropout:\n    between: 0.5\n    output: 0.1\n").model.dropout == expected

    def test_one_place_of_dropout_by_assignment(self) -> None:
        expected = DropoutConfig(input=0.0, between=0.4, output=0.0)
        assert load(HEAD, "model.dropout.between=0.4").model.dropout == expected

    def test_a_number_stands_for_the_places_not_assigned(self) -> None:
        expected = DropoutConfig(input=0.1, between=0.3, output=0.2)
        text, places = HEAD + "model:\n  dropout: 0.3\n", ("model.dropout.input=0.1", "model.dropout.output=0.2")
        assert load(text, *places).model.dropout == expected
        assert load(HEAD, "model.dropout=0.3", *places).model.dropout == expected
        assert load(text, *places, "model.dropout=0.5").model.dropout == DropoutConfig(
            input=0.5, between=0.5, output=0.5
        )

    def test_a_number_with_a_place_assigned_is_refused_where_it_stands(self) -> None:
        found = problem(HEAD + "model:\n  dropout: 2\n", "model.dropout.input=0.1")
        assert found.startswith("c.yaml:6:3: model.dropout: should be less than 1, not 2")

    @pytest.mark.parametrize("value", ["1", "-0.1", "true", "'0.2'", "[0.1]", "{input: 1}", ".nan"])
    def test_dropout_refused_once(self, value: str) -> None:
        assert re.match(r"c\.yaml:6:\d+: model\.dropout", problem(f"{HEAD}model:\n  dropout: {value}\n"))

    def test_tied_weights_need_equal_sizes(self) -> None:
        text = HEAD + "model:\n  tie_weights: true\n  hidden_size: 32\n  embedding_size: {}\n"
        assert load(text.format(32)).model.tie_weights
        expected = "c.yaml:5:1: model: tie_weights needs embedding_size = hidden_size, here 16 and 32"
        assert problem(text.format(16)) == expected


class TestYaml:
    def test_alias_points_to_where_it_is_used(self) -> None:
        text = HEAD + "  lr: &rate 1.0\n  seed: 1\n  weight_decay: *rate\n"
        assert problems(text)[0].startswith("c.yaml:7:")

    @pytest.mark.parametrize(
        ("lines", "cause"),
        [
            ("  lr: &rate 1.0\n  weight_decay: *rate\n", "aliases"),
            ("  seed: !!python/name:os.system x\n", "the tag tag:yaml.org,2002:python/name:os.system"),
            ("  precision: !mine fp32\n", "the tag !mine"),
            ("  seed: =\n", "'=' cannot be read"),
        ],
    )
    def test_a_refused_value_is_reported_once(self, lines: str, cause: str) -> None:
        assert cause in problem(HEAD + lines)

    def test_no_tag_runs_code(self) -> None:
        text = HEAD + "  seed: !!python/object/apply:os.mkdir [made]\n  device: !!python/object/new:os.mkdir [made]\n"
        assert problems(text)
        assert not Path("made").exists()

    @pytest.mark.parametrize(
        "value", ['!!int ""', '!!float ""', "!!bool x", "!!timestamp x", "!!binary é", "2001-99-99"]
    )
    def test_values_that_yaml_itself_chokes_on(self, value: str) -> None:
        assert any(found.startswith("c.yaml:5:") for found in problems(f"{HEAD}  seed: {value}\n"))
        assert problem(HEAD, f"training.seed={value}").startswith(f"--set training.seed={value}: ")

    def test_ten_levels_of_tenfold_aliases_are_refused_at_once(self) -> None:
        levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
        assert any("aliases" in found for found in problems("a0: &a0 x\n" + levels))

    def test_an_alias_of_itself(self) -> None:
        assert any("aliases" in found for found in problems("corpus: &a [*a]\n"))

    @pytest.mark.parametrize("depth", [30, 5000])
    def test_deep_nesting(self, depth: int) -> None:
        assert problems("corpus: " + "[" * depth + "]" * depth)
        assert problems(HEAD, "corpus.source=" + "[" * depth + "]" * depth)

    def test_several_documents(self) -> None:
        expected = "c.yaml:5:1: not valid YAML: but found another document; put each in a file of its own"
        assert problem(HEAD + "---\nmodel: {}\n") == expected

    @pytest.mark.parametrize("text", ["- corpus\n- training\n", "just words\n", "42\n"])
    def test_root_is_no_mapping(self, text: str) -> None:
        assert problem(text).startswith("c.yaml:1:1: a config is a mapping of sections")

    def test_tab(self) -> None:
        assert problem("corpus:\n\tsource: play\n").startswith("c.yaml:2:1: not valid YAML: found character '\\t'")

    def test_unfinished_bracket(self) -> None:
        assert re.match(r"c\.yaml:\d+:\d+: not valid YAML: ", problem(HEAD + "  betas: [0.9,\n"))

    @pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
    def test_empty(self, text: str) -> None:
        found = problem(text)
        assert found.startswith("c.yaml") and re.search("empty|mapping", found)

    def test_control_character(self) -> None:
        assert problem(HEAD + "  seed: \0\n").startswith("c.yaml: not valid YAML: ")

    def test_keys_that_are_no_names(self) -> None:
        assert [found.split(": ")[0] for found in problems(HEAD + "1: 2\n? [a]\n: 3\n")] == ["c.yaml:5:1", "c.yaml:6:3"]

    def test_not_utf8(self) -> None:
        Path("c.yaml").write_bytes(b"corpus:\n  source: caf\xe9\n")
        with pytest.raises(ConfigError, match=r"^c\.yaml: not UTF-8 at byte 21: save the config as UTF-8$"):
            load_config(Path("c.yaml"))

    def test_byte_order_mark_is_no_text(self) -> None:
        Path("c.yaml").write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
        assert load_config(Path("c.yaml")).corpus.source == "play"

    def test_missing_file_and_folder(self) -> None:
        with pytest.raises(ConfigError, match=r"^none\.yaml: cannot read the config: No such file"):
            load_config(Path("none.yaml"))
        with pytest.raises(ConfigError, match=r"cannot read the config: Is a directory"):
            load_config(Path())

    def test_a_text_given_as_config_is_not_read_whole(self) -> None:
        assert "this is not a config" in problem("x" * 1_000_001)


class TestOverrides:
    def test_precedence(self) -> None:
        text = HEAD + "  lr: 2\n"
        assert load(HEAD).training.lr == TrainingConfig.model_fields["lr"].default
        assert load(text).training.lr == 2
        assert load(text, "training.lr=3").training.lr == 3
        assert load(text, "training.lr=3", "training.lr=4").training.lr == 4
        option = NamedOverride(("training", "lr"), 5, "--lr 5")
        assert load_config(Path("c.yaml"), ["training.lr=3"], [option]).training.lr == 5

    def test_an_override_replaces_a_bad_value(self) -> None:
        assert load(HEAD + "  lr: -1\n", "training.lr=1").training.lr == 1

    def test_an_override_makes_a_section(self) -> None:
        assert load(HEAD, "model.cell=gru").model.cell == "gru"
        assert load_config(None, ["corpus.source=play", "training.max_steps=1"]).training.max_steps == 1

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("[a, b]", ["a", "b"]), ("a=b", "a=b"), ("'x: y'", "x: y"), ("C:/texts", "C:/texts"), ("'-'", "-")],
    )
    def test_the_value_is_yaml(self, value: str, expected: object) -> None:
        assert load(HEAD, f"corpus.source={value}").corpus.source == expected

    @pytest.mark.parametrize("written", ["1:30", "1:30:00", "1:30.5"])
    def test_a_time_with_colons_is_no_number_in_sixties(self, written: str) -> None:
        expected = f"--set training.max_time={written}: training.max_time: write a duration as 60s, 5m or 1h"
        assert problem(HEAD, f"training.max_time={written}") == f"{expected}, not {written!r}"
        assert problem(HEAD, f"training.seed={written}").endswith(f"should be a valid integer, not {written!r}")
        assert load(HEAD, f"run.note={written}").run.note == written

    def test_null_takes_a_limit_away(self) -> None:
        assert load(HEAD, "training.max_steps=null", "training.epochs=1").training.max_steps is None

    @pytest.mark.parametrize(
        ("assignment", "cause"),
        [
            ("training.lr", "write it as section.key=value, such as training.lr=2e-3"),
            ("=3", "write it as section.key=value, such as training.lr=2e-3"),
            ("training..lr=3", "write it as section.key=value, such as training.lr=2e-3"),
            ("training.lr=-1", "training.lr: should be greater than 0, not -1"),
            ("training.lr=", "training.lr: should be a valid number, not None"),
            (
                "training.lr=[",
                "not a YAML value: expected the node content, but found '<stream end>'; put text in quotes",
            ),
            ("training.lrr=3", "unknown key 'training.lrr'; did you mean 'lr'?"),
            ("lr=3", "unknown key 'lr'; it belongs under 'training'"),
            ("model=3", "model is a section: write its settings below it as 'key: value', not 3"),
        ],
    )
    def test_message(self, assignment: str, cause: str) -> None:
        assert problem(HEAD, assignment) == f"--set {assignment}: {cause}"

    def test_unknown_section(self) -> None:
        expected = "--set modell.cell=gru: unknown key 'modell'; did you mean 'model'?"
        assert problem(HEAD, "modell.cell=gru") == expected

    def test_below_a_plain_value_the_option_is_named(self) -> None:
        assert problem(HEAD + "  lr: 1\n", "training.lr.x=3").startswith("--set training.lr.x=3: ")

    def test_an_option_is_named_as_it_was_typed(self) -> None:
        option = NamedOverride(("training", "seed"), -1, "--seed -1")
        with pytest.raises(ConfigError, match=r"^--seed -1: training\.seed: should be greater than or equal to 0"):
            load_config(None, ["corpus.source=play", "training.max_steps=1"], [option])

    def test_file_and_overrides_are_reported_together(self) -> None:
        found = problems(HEAD + "  seed: x\n", "training.lr=-1", "run.log_every=0")
        assert sorted(p.split(": ")[0] for p in found) == [
            "--set run.log_every=0",
            "--set training.lr=-1",
            "c.yaml:5:3",
        ]

    def test_revise_leaves_the_rest(self) -> None:
        before = make_config("play")
        after = revise_config(before, ["training.lr=0.5"])
        assert after.training.lr == 0.5
        assert after == before.model_copy(update={"training": before.training.model_copy(update={"lr": 0.5})})


class TestFinding:
    def test_order(self) -> None:
        assert find_config("quickstart.yaml") in shipped_configs()
        Path("configs").mkdir()
        Path("configs/quickstart.yaml").write_text(HEAD)
        assert find_config("quickstart.yaml") == Path("configs/quickstart.yaml")
        Path("quickstart.yaml").write_text(HEAD)
        assert find_config("quickstart.yaml") == Path("quickstart.yaml")

    def test_the_ending_may_be_left_out(self) -> None:
        assert find_config("quickstart") == find_config("quickstart.yaml")

    def test_a_path(self, tmp_path: Path) -> None:
        file = tmp_path / "elsewhere.yaml"
        file.write_text(HEAD)
        assert find_config(str(file)) == file

    def test_a_folder_is_no_config(self) -> None:
        Path("quickstart.yaml").mkdir()
        assert find_config("quickstart.yaml") in shipped_configs()

    def test_advice(self) -> None:
        with pytest.raises(ConfigError, match=r"^shakespear: no such config .*; did you mean shakespeare\.yaml\?$"):
            find_config("shakespear")
        with pytest.raises(ConfigError, match=r"^zzz: no such config .*; shipped ones: counting\.yaml, .*quickstart"):
            find_config("zzz")

    def test_the_ending_that_all_share_is_no_likeness(self) -> None:
        with pytest.raises(ConfigError, match="; shipped ones: "):
            find_config("none.yaml")

    def test_a_name_too_long_for_a_file(self) -> None:
        with pytest.raises(ConfigError):
            find_config("x" * 300)


def value_lines(file: Path) -> Iterator[tuple[int, str, str]]:
    """Number, key and text of the lines that set a value whose reason is not obvious.

    Limits (how long) and the section ``run`` (how often to report) explain themselves.
    """
    section = ""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if match := re.match(r"(\s*)(\w+):\s*(.*)", line):
            section = section if match[1] else match[2]
            is_limit = match[2] in ("max_steps", "epochs", "max_time", "patience")
            if match[1] and not is_limit and section != "run":
                yield number, match[2], line


class TestShipped:
    def test_there_are_some(self) -> None:
        assert {"counting.yaml", "quickstart.yaml", "shakespeare.yaml"} <= {file.name for file in shipped_configs()}

    @pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
    def test_it_loads_and_says_what_it_is(self, file: Path) -> None:
        assert load_config(file).training.lr > 0
        assert file.read_text().startswith("# ")

    @pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
    def test_every_value_has_a_reason_beside_it(self, file: Path) -> None:
        bare = [f"{file.name}:{number}: {key}" for number, key, line in value_lines(file) if "  # " not in line]
        assert not bare


class TestRoundTrip:
    @pytest.mark.parametrize("file", shipped_configs(), ids=lambda file: file.name)
    def test_shipped(self, file: Path) -> None:
        config = load_config(file)
        assert load(dump_config(config)) == config

    @pytest.mark.parametrize(
        "assignments",
        [
            ("training.lr=1e-5", "training.min_lr=1e-300", f"training.seed={2**63 - 1}"),
            ("corpus.source=[a b, 'null', 'yes', '1e-3', '- x', 'é: #']", "training.grad_clip=null"),
            ("model.dropout={input: 0.1, between: 0.2, output: 0.3}", "training.max_time=1.5h", "run.name=été"),
        ],
    )
    def test_awkward_values(self, assignments: tuple[str, ...]) -> None:
        config = make_config("play", *assignments)
        assert load(dump_config(config)) == config

    def test_every_default_is_written_down(self) -> None:
        written = yaml.safe_load(dump_config(load(HEAD)))
        assert {name: set(values) for name, values in written.items()} == {
            name: set(section_of(name).model_fields) for name in Config.model_fields
        }


def section_of(name: str) -> type[BaseModel]:
    section = Config.model_fields[name].annotation
    assert isinstance(section, type) and issubclass(section, BaseModel)
    return section


class TestSchema:
    @pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
    def test_every_field_is_listed_with_a_description(self, section: type[Section]) -> None:
        properties = Config.model_json_schema()["$defs"][section.__name__]["properties"]
        assert set(properties) == set(section.model_fields)
        assert [name for name, field in properties.items() if not field.get("description")] == []

    def test_no_section_is_forgotten(self) -> None:
        schema = Config.model_json_schema()
        assert set(schema["$defs"]) == {section.__name__ for section in SECTIONS}
        assert set(schema["properties"]) == set(Config.model_fields)
        assert all(definition["description"] for definition in schema["$defs"].values())


# Scraps that YAML and the schema give a meaning to: strung together they reach further than letters at random.
SCRAPS = st.sampled_from(
    [
        *("corpus", "source", "model", "dropout", "training", "lr", "seed", "betas", "max_time", "run", "name", "<<"),
        *(": ", ": ", ":\n  ", "\n", "\n  ", "- ", ", ", "[", "]", "{", "}", "'", '"', "#", "|", ">", "? ", "---\n"),
        *("&a ", "*a", "!", "!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!set ", "!!python/name:os "),
        *("1", "-1", "1e-3", "0x", "0b", "1:30", "_", ".", ".nan", "true", "null", "~", "2001-13-01", "60s", "é", "\t"),
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(SCRAPS, max_size=25).map("".join))
VALUES = st.one_of(TEXTS, st.lists(SCRAPS, min_size=1, max_size=3).map("".join))
LINES = st.builds("  {}: {}\n".format, st.sampled_from(["lr", "seed", "betas", "max_time", "device"]), VALUES)


class TestAnyText:
    """Whatever is written, the only thing raised is ``ConfigError``, and it says something."""

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(text=st.one_of(TEXTS, LINES.map(lambda line: HEAD + line)))
    def test_as_a_config(self, text: str) -> None:
        try:
            build_config(read_settings(text, "c.yaml"))
        except ConfigError as error:
            assert all(found.startswith("c.yaml") for found in error.problems)
            assert error.problems

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(assignment=st.one_of(TEXTS, VALUES.map("training.lr={}".format), VALUES.map("corpus.source={}".format)))
    def test_as_an_assignment(self, assignment: str) -> None:
        given = Settings({"corpus": {"source": "play"}, "training": {"max_steps": 1}})
        try:
            apply_override(given, assignment)
            build_config(given)
        except ConfigError as error:
            assert error.problems


def test_home_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves it alone in ``--out=~/runs``, and a folder called ``~`` is a trap."""
    monkeypatch.setenv("HOME", "/home/anna")
    assert make_config("cat.txt", "run.out=~/runs").run.out == "/home/anna/runs"
    assert make_config("cat.txt", "run.out=a~/runs").run.out == "a~/runs"
    assert make_config("~/cat.txt").corpus.source == "/home/anna/cat.txt"
    assert make_config("[~/cat.txt, dog.txt]").corpus.source == ["/home/anna/cat.txt", "dog.txt"]
