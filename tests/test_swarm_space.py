"""What a swarm varies, as it is written on the command line and in a file."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn.config.settings import YamlLoader
from charrnn.errors import ConfigError
from charrnn.studies.swarm.space import Range, grid_values, parse_vary, read_groups, read_space

RATES = "training.lr=1e-4..1e-1:log:7"
ZIPPED = "training.seq_len=10,40 training.max_steps=4000,1000"


def points(text: str) -> list[dict[str, Any]]:
    return grid_values(parse_vary(text))


def column(text: str) -> list[Any]:
    """The values of the only setting."""
    return [value for point in points(text) for value in point.values()]


def problems(text: str) -> list[str]:
    """What is wrong with a ``--vary``; each problem tells its place."""
    with pytest.raises(ConfigError) as caught:
        points(text)
    for problem in caught.value.problems:
        assert problem.startswith("--vary ")
    return caught.value.problems


def space_problems(content: str | bytes) -> list[str]:
    file = Path("space.yaml")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        read_space(file)
    for problem in caught.value.problems:
        assert problem.startswith("space.yaml")
    return caught.value.problems


class TestVary:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("training.lr=0.002,0.01", [0.002, 0.01]),
            ("training.lr=2e-3,1e-2", [0.002, 0.01]),
            ("training.lr=1e-3", [0.001]),
            ("model.hidden_size=8, 16 ,32", [8, 16, 32]),
            ("model.cell=lstm,gru", ["lstm", "gru"]),
            ("model.tie_weights=true,false", [True, False]),
            ("training.grad_clip=null,1.0", [None, 1.0]),
            ("training.betas=[0.9, 0.99],[0.8, 0.9]", [[0.9, 0.99], [0.8, 0.9]]),
            ("model.dropout={input: 0.1, between: 0, output: 0},0.2", [{"input": 0.1, "between": 0, "output": 0}, 0.2]),
            ("corpus.source='a, b.txt',\"c d.txt\"", ["a, b.txt", "c d.txt"]),
            ("corpus.source=cat and dog.txt,x=y.txt", ["cat and dog.txt", "x=y.txt"]),
            ("training.max_time=60s,2m", ["60s", "2m"]),
            ("corpus.source='1..2'", ["1..2"]),
        ],
    )
    def test_values(self, text: str, values: list[Any]) -> None:
        name = text.partition("=")[0]
        if values == ["1..2"]:
            assert parse_vary(text) == {name: Range(1, 2, log=False, count=None, whole=True)}  # quoted or not
            return
        assert points(text) == [{name: value} for value in values]
        assert [type(value) for value in column(text)] == [type(value) for value in values]

    def test_zipped(self) -> None:
        expected = [
            {"training.seq_len": 10, "training.max_steps": 4000},
            {"training.seq_len": 40, "training.max_steps": 1000},
        ]
        assert points(ZIPPED) == expected
        assert points(f"  {ZIPPED.replace(' ', '   ')} ") == expected

    def test_of_zipped_ones_no_two_are_alike(self) -> None:
        found = points("training.lr=1,1,2 model.cell=lstm,gru,lstm")
        assert [tuple(point.values()) for point in found] == [(1, "lstm"), (1, "gru"), (2, "lstm")]

    def test_zipped_lists_and_quotes(self) -> None:
        found = points("training.betas=[0.9, 0.99],[0.8, 0.9] corpus.source='a b',c d model.cell=lstm,gru")
        assert found == [
            {"training.betas": [0.9, 0.99], "corpus.source": "a b", "model.cell": "lstm"},
            {"training.betas": [0.8, 0.9], "corpus.source": "c d", "model.cell": "gru"},
        ]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "section.key=value"),
            ("training.lr", "section.key=value"),
            ("training.lr=", "section.key=value"),
            ("lr=1,2", "section.key=value"),
            ("=1", "section.key=value"),
            ("training.lr=1 training.seq_len=", "section.key=value"),
            ("training.lr=1,,2", "not a YAML value"),
            ("training.lr=[1,2", "not a YAML value"),
            ("training.lr=1]", "not a YAML value"),
            ("training.lr=1], [2", "not a YAML value"),
            ("training.lr=1 # two", "not a YAML value"),
            ("training.lr=1]\n---\n[2", "not a YAML value"),
            ("training.lr={a: !!python/object:os.system b}", "the tag"),
            ("training.lr=&a 1, *a", "aliases"),
            ("training.lr={a: {b: !no c}}", "{a: {b: !no c}}: the tag !no is not supported"),
            ("training.lr=99999999999999999999", "too large"),
            ("training.lr=1,2,1", "has a value twice; give each once"),
            ("training.lr=0.1,1e-1", "has a value twice"),
            ("training.lr=1,2,1 training.seq_len=1,3,1", "training.lr with training.seq_len has a value twice"),
            ("training.betas=[0.9, 0.99],[0.9, 0.99]", "has a value twice"),
            (f"model.hidden_size={','.join(map(str, range(1, 1002)))}", "one value or more, 1000 at most"),
            ("training.seed=1,2", "training.seed is not varied; give --seeds N"),
            ("run.out=a,b", "run.out is not varied; give --out"),
            ("run.name=a,b", "run.name is not varied; give --name"),
            ("training.threads=1,2", "training.threads is not varied; give --set training.threads=N"),
            ("training.lr=1,2 training.seq_len=1,2,3", "as many values each: training.lr 2, training.seq_len 3"),
            ("training.lr=1e-3..1:log:3 training.seq_len=1,2,3", "as many values each: training.lr a range"),
            ("training.lr=1..2:3 training.seq_len=1..2:3", "as many values each"),
        ],
    )
    def test_problems(self, text: str, says: str) -> None:
        [problem] = problems(text)
        assert says in problem
        assert problem.startswith(f"--vary {text}: ")
        assert "values=" not in problem

    def test_all_problems_at_once(self) -> None:
        found = problems("training.seed=1,1 run.name=a,a,c")
        assert len(found) == 4


class TestRange:
    def test_logarithmic(self) -> None:
        values = column(RATES)
        assert values == pytest.approx(10.0 ** np.linspace(-4, -1, 7), rel=1e-3)
        assert (values[0], values[-1]) == (1e-4, 1e-1)
        assert all(float(f"{value:.4g}") == value for value in values)

    def test_linear(self) -> None:
        assert column("model.dropout=0..0.5:6") == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        assert column("model.forget_bias=-2.0..2:5") == [-2, -1, 0, 1, 2]

    @pytest.mark.parametrize(
        ("text", "values"), [("8..64:log:4", [8, 16, 32, 64]), ("1..4:4", [1, 2, 3, 4]), ("1..3:log:9", [1, 2, 3])]
    )
    def test_whole_numbers_stay_whole(self, text: str, values: list[int]) -> None:
        found = column(f"model.hidden_size={text}")
        assert found == values
        assert all(type(value) is int for value in found)

    @given(low=st.floats(1e-6, 1e3), factor=st.floats(1.5, 1e4), count=st.integers(2, 50), log=st.booleans())
    def test_any(self, low: float, factor: float, count: int, log: bool) -> None:
        found = column(f"training.lr={low!r}..{low * factor!r}{':log' if log else ''}:{count}")
        expected = np.exp(np.linspace(np.log(low), np.log(low * factor), count))
        if not log:
            expected = np.linspace(low, low * factor, count)
        assert found == sorted(set(found))
        if len(found) == count:
            assert found == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize(
        "text",
        [
            *("2..1:log:3", "1..1:3", "0..1:log:3", "-1..1:log:3", "1..2:1", "1..2:0", "1..2:1001"),
            *("1..1e999:3", "-1e999..1:3", "0.1..1:log:99999999"),
        ],
    )
    def test_ranges_that_are_none(self, text: str) -> None:
        [problem] = problems(f"training.lr={text}")
        assert "write a range as LOW..HIGH:log:N" in problem

    @pytest.mark.parametrize("text", ["1..", "..2", "a..b:3", "1..2:3:log", f"1..2:{'9' * 5000}"])
    def test_what_is_no_range_is_a_text(self, text: str) -> None:
        """Which the schema then refuses."""
        assert column(f"corpus.source={text}") == [text]

    def test_a_grid_needs_a_count(self) -> None:
        [problem] = problems("training.lr=1e-4..1e-1:log")
        assert "--vary training.lr: a grid needs a number of values: training.lr=0.0001..0.1:log:7" in problem


DOTTED = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8}){1,3}", fullmatch=True)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20),
)


def flow(value: Any) -> str:
    """A scalar as a person would write it in a YAML list."""
    text = yaml.dump([value], default_flow_style=True, allow_unicode=True, width=10**6)
    return text.strip()[1:-1]


@given(DOTTED, st.lists(SCALARS, min_size=1, max_size=4, unique_by=str))
@example("model.cell", ["\xa0"])
@example("model.cell", [None, "\u2003"])
def test_any_name_and_values_are_read_as_yaml_would(name: str, values: list[Any]) -> None:
    text = f"{name}={','.join(map(flow, values))}"
    expected = yaml.load(f"[{','.join(map(flow, values))}]", YamlLoader)
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(set(numbers)) < len(numbers):  # 1 and true, or 0.0 and -0.0
        return
    assert points(text) == [{name: value} for value in expected]


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for words in (text, f"training.lr={text}", f"training.lr=1 {text}"):
        try:
            group = parse_vary(words)
        except ConfigError as error:
            assert all(problem.startswith(f"--vary {words}: ") for problem in error.problems)
        else:
            assert group


class TestSpaceFile:
    def test_says_what_the_options_say(self) -> None:
        Path("space.yaml").write_text(
            "# rates\nvary:\n- training.lr: 1e-4..1e-1:log:7\n- training.seq_len: [10, 40]\n"
            "  training.max_steps: [4000, 1000]\n- {model.cell: lstm}\n- training.betas: [[0.9, 0.99], [0.8, 0.9]]\n"
        )
        words = [RATES, ZIPPED, "model.cell=lstm", "training.betas=[0.9, 0.99],[0.8, 0.9]"]
        assert read_space(Path("space.yaml")) == [parse_vary(text) for text in words]

    @pytest.mark.parametrize(
        ("content", "place", "says"),
        [
            ("", "space.yaml", "empty"),
            ("# nothing\n", "space.yaml", "empty"),
            ("- training.lr: [1]\n", "space.yaml:1:1", "mapping"),
            ("vary: []\n", "space.yaml", "as a list"),
            ("vary: null\n", "space.yaml", "as a list"),
            ("vary: {training.lr: [1, 2]}\n", "space.yaml", "as a list"),
            ("vary: [1, 2]\n", "space.yaml", "as a list"),
            ("vary:\n- {}\n", "space.yaml", "as a list"),
            ("vary:\n- training.lr: []\n", "space.yaml:2:3", "one value or more"),
            ("vary:\n- training.lr: [1, 1]\n", "space.yaml:2:3", "has a value twice"),
            ("vary:\n- training.seed: [1, 2]\n", "space.yaml:2:3", "--seeds"),
            ("vary:\n- training.lr: [1, 2]\n  training.seq_len: [1]\n", "space.yaml:2:3", "as many values each"),
            ("vary:\n- training.lr: 2..1:3\n", "space.yaml:2:3", "write a range as"),
            ("vary:\n- training.lr: &a [1, 2]\n- training.min_lr: *a\n", "space.yaml:3:3", "aliases"),
            ("vary:\n- training.lr: [1, 2]\n  training.lr: [3]\n", "space.yaml:3:3", "duplicate key"),
            ("vary:\n- training.lr: !!python/name:os.system [1]\n", "space.yaml:2:3", "the tag"),
            ("vari:\n- training.lr: [1, 2]\n", "space.yaml:1:1", "unknown key 'vari'"),
            ("vary:\n\t- training.lr: [1, 2]\n", "space.yaml:2:1", "use spaces"),
            ("vary: [" * 5000, "space.yaml", "not valid YAML"),
        ],
    )
    def test_problems(self, content: str, place: str, says: str) -> None:
        found = space_problems(content)
        assert any(says in problem for problem in found), found
        assert any(problem.startswith(f"{place}: ") for problem in found), found

    def test_bytes_that_are_no_text(self) -> None:
        assert "not UTF-8 at byte 7" in space_problems(b"vary: [\xff]")[0]

    def test_thousands_of_values(self) -> None:
        many = ", ".join(map(str, range(15_000)))
        [problem] = space_problems(f"vary:\n- model.hidden_size: [{many}]\n")
        assert "1000 at most" in problem
        [problem] = space_problems(f"vary:\n- model.hidden_size: [{many}, {many}]\n")
        assert "larger than" in problem

    @pytest.mark.parametrize("name", ["none.yaml", "/dev/zero", ".", "/dev/null", "a" * 5000])
    def test_paths_that_hold_none(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"cannot read|larger than|empty"):
            read_space(Path(name))

    def test_a_pipe(self) -> None:
        os.mkfifo("pipe")
        writer = threading.Thread(target=Path("pipe").write_text, args=(f"vary: [{{{RATES.replace('=', ': ')}}}]",))
        writer.start()
        assert read_space(Path("pipe")) == [parse_vary(RATES)]
        writer.join()


def test_twice() -> None:
    texts = ["training.lr=1,2", "model.cell=gru", "training.lr=3 model.cell=lstm"]
    assert read_groups(texts[:2], None) == [parse_vary(text) for text in texts[:2]]
    with pytest.raises(ConfigError) as caught:
        read_groups(texts, None)
    assert [problem.split(": ")[:2] for problem in caught.value.problems] == [
        ["--vary model.cell", "is varied twice; give all its values in one place"],
        ["--vary training.lr", "is varied twice; give all its values in one place"],
    ]
