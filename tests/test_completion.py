"""Completion: what is offered for a line, that it is quick and silent, and (in bash) what the shell makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from click.shell_completion import get_completion_class

from charrnn.cli import cli
from charrnn.config.library import shipped_configs
from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.config.settings import flat
from charrnn.text.named import NAMED
from tests.command_line import PROGRAM, run

SHIPPED = [path.name for path in shipped_configs()]


def folder(path: str, **contents: str) -> None:
    """A folder with files, by name with ``_`` for the dot."""
    Path(path).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        Path(path, name.replace("_", ".")).write_text(content)


@pytest.fixture(autouse=True)
def here(in_own_folder: Path) -> None:
    """Two runs, a hive of one swarm, configs of one's own, and a name that a shell would run."""
    for path in ("runs/one", "runs/two", "runs/h-swarm/lr=1,seed=2/bee-1", "runs/x;rm", "far/three"):
        folder(path, config_yaml="", environment_json='{"charrnn": "0"}')
    folder("runs/one/checkpoints", last_safetensors="")
    folder("runs/h-swarm", hive_yaml="")
    folder("runs/h-swarm/lr=1,seed=2", swarm_json="")
    folder("runs/other", notes_txt="")
    folder("runs/two-lr-find", **{"lr-find_json": ""})
    folder("configs", own_yaml="# Mine.\n")
    folder(".", my_yaml="a: 1", text_txt="")


def offered(line: str) -> list[str]:
    """What is offered at the end of a line, as zsh and fish get it: whole words."""
    words = line.split(" ")
    complete = get_completion_class("zsh")
    assert complete is not None
    with patch.dict(os.environ, COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)):
        completion = complete(cli, {}, "charrnn", "_CHARRNN_COMPLETE")
        found = completion.get_completions(*completion.get_completion_args())
    return [item.value for item in found]


class TestOffers:
    @pytest.mark.parametrize(
        "line",
        [*(f"charrnn {name} --config " for name in ("train", "swarm", "lr-find", "doctor")), "charrnn config show "],
    )
    def test_configs(self, line: str) -> None:
        assert offered(line) == ["my.yaml", "own.yaml", *SHIPPED, "configs/", "far/", "runs/"]
        assert offered(f"{line}sh") == ["shakespeare.yaml"]
        assert offered(f"{line}configs/") == ["configs/own.yaml"]

    def test_a_config_says_what_it_is(self) -> None:
        complete = get_completion_class("zsh")
        assert complete is not None
        found = complete(cli, {}, "charrnn", "_").get_completions(["train", "--config"], "")
        helps = {item.value: item.help for item in found}
        assert helps["shakespeare.yaml"] == "Tiny Shakespeare, a minute on two CPU cores."
        assert (helps["own.yaml"], helps["my.yaml"]) == ("Mine.", None)

    @pytest.mark.parametrize("line", ["charrnn doctor ", "charrnn runs note ", "charrnn eval --checkpoint "])
    def test_runs(self, line: str) -> None:
        found = offered(line)
        assert [name for name in found if name.startswith("runs/") and name != "runs/"] == ["runs/one", "runs/two"]
        assert offered(f"{line}on") == ["runs/one"]
        assert "runs/one" in offered(f"{line}runs/o")
        assert "far/three" in offered(f"{line}far/")

    def test_resume_looks_where_the_runs_are_kept(self) -> None:
        assert "far/three" in offered("charrnn train --out far --resume th")

    def test_pictures_are_of_runs_or_of_a_schedule(self) -> None:
        assert offered("charrnn plot ") == ["schedule", "runs/one", "runs/two"]
        assert "runs/one" in offered("charrnn plot runs/o")
        assert {"--average", "--parameters", "--help"} <= set(offered("charrnn plot --"))
        assert "runs/two" in offered("charrnn plot runs/one ")

    def test_swarms(self) -> None:
        assert offered("charrnn compare ") == ["runs/one", "runs/two"]
        assert "runs/h-swarm/" in offered("charrnn compare runs/one runs/")
        assert offered("charrnn compare runs/h-swarm/") == ["runs/h-swarm/lr=1,seed=2"]
        assert offered("charrnn swarm --resume ") == ["runs/h-swarm"]

    def test_checkpoints(self) -> None:
        assert offered("charrnn sample --checkpoint runs/one/") == ["runs/one/checkpoints/"]
        assert offered("charrnn sample --checkpoint runs/one/checkpoints/l") == [
            "runs/one/checkpoints/last.safetensors"
        ]
        assert offered("charrnn sample --checkpoint runs/on") == ["runs/one"]

    def test_names_of_runs(self) -> None:
        assert offered("charrnn runs rm ") == ["h-swarm", "one", "two", "two-lr-find"]
        assert offered("charrnn runs rm one two") == ["two", "two-lr-find"]
        assert offered("charrnn runs rm one ") == ["h-swarm", "two", "two-lr-find"]
        assert offered("charrnn runs path --out far ") == ["three"]
        assert offered("charrnn runs ls f") == ["far/"]

    def test_texts(self) -> None:
        files = ["configs/", "far/", "my.yaml", "runs/", "text.txt"]
        assert offered("charrnn corpus stats ") == [*NAMED, *files]
        assert offered("charrnn train --data te") == ["text.txt"]
        assert offered("charrnn corpus fetch ") == list(NAMED)

    def test_settings_are_those_of_the_schema(self) -> None:
        config = load_config(None, ["corpus.source=x", "training.epochs=1"])
        names = {name.removesuffix("=") for name in offered("charrnn train --set ")}
        assert names == {*flat(config.model_dump()), "model.dropout"}
        assert offered("charrnn train --set training.opt") == ["training.optimizer="]
        assert offered("charrnn swarm --vary training.opt") == ["training.optimizer="]

    def test_every_value_offered_is_one_that_is_taken(self) -> None:
        least = ["corpus.source=x", "training.epochs=1", "model.embedding_size=256"]  # so that weights can be tied
        for section, info in Config.model_fields.items():
            assert info.annotation is not None
            for key in getattr(info.annotation, "model_fields", {}):
                for assignment in offered(f"charrnn train --set {section}.{key}="):
                    load_config(None, [*least, assignment] if assignment != "training.epochs=null" else [*least])
        assert offered("charrnn train --set model.cell=rnn") == ["model.cell=rnn_tanh", "model.cell=rnn_relu"]
        assert offered("charrnn train --set=model.tie_weights=") == [
            "model.tie_weights=true",
            "model.tie_weights=false",
        ]
        assert offered("charrnn train --set training.max_steps=") == ["training.max_steps=null"]

    def test_commands_and_options(self) -> None:
        assert offered("charrnn runs ") == ["ls", "note", "path", "rm"]
        assert offered("charrnn train --no") == ["--note"]
        assert offered("charrnn completion ") == ["bash", "zsh", "fish"]


class TestSilence:
    @pytest.mark.parametrize(
        "line",
        [
            *("charrnn sample --checkpoint nowhere/x", "charrnn runs rm --out nowhere ", "charrnn train --set x.y="),
            *("charrnn compare text.txt/", "charrnn train --config nowhere/", "charrnn runs ls ~nobody/"),
        ],
    )
    def test_nothing_to_offer(self, line: str) -> None:
        assert offered(line) == []

    def test_hidden_files_only_when_asked_for(self) -> None:
        folder(".hidden")
        assert ".hidden/" not in offered("charrnn runs ls ")
        assert offered("charrnn runs ls .h") == [".hidden/"]

    @pytest.mark.parametrize(
        "line",
        [
            *("charrnn ", "charrnn train --config ", "charrnn train --set training.lr", "charrnn corpus stats "),
            *("charrnn sample --checkpoint ", "charrnn runs rm ", "charrnn swarm --resume "),
        ],
    )
    def test_no_torch(self, line: str) -> None:
        environment = os.environ | {"_CHARRNN_COMPLETE": "bash_complete", "COMP_LINE": line}
        command = [sys.executable, "-X", "importtime", str(PROGRAM)]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in found.stderr.splitlines()}
        assert "click" in imported
        assert not imported & {"torch", "numpy", "matplotlib", "safetensors"}
        assert found.stdout


class TestScripts:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_it_is_what_the_variable_prints_and_says_where_it_belongs(self, shell: str) -> None:
        result = run("completion", shell)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("#compdef charrnn\n# " if shell == "zsh" else "# ")
        assert f"charrnn completion {shell}" in result.out.split("\n\n")[0]
        environment = os.environ | {"_CHARRNN_COMPLETE": f"{shell}_source"}
        found = subprocess.run([str(PROGRAM)], env=environment, capture_output=True, text=True, check=True)
        assert found.stdout.rstrip() == result.out.rstrip()
        if program := shutil.which(shell):
            subprocess.run([program, "-n"], input=result.out, text=True, check=True)

    def test_another_shell(self) -> None:
        assert run("completion", "csh").code == 2

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("charrnn runs pa", ["path"]),
            ("charrnn train --set training.optimizer=", ["adam", "adamw", "sgd"]),
            ("charrnn train --set training.optimizer=s", ["sgd"]),
            ("charrnn train --set=training.optimizer=s", ["sgd"]),
            ("charrnn train --set training.optim", ["training.optimizer="]),
            ("charrnn compare runs/h-swarm/l", ["runs/h-swarm/lr=1,seed=2"]),
            ("charrnn compare runs/h-swarm/lr=1", ["1,seed=2"]),
            ("charrnn --debug train --config=sha", ["shakespeare.yaml"]),
            ('charrnn train --note "two words" --config sha', ["shakespeare.yaml"]),
        ],
    )
    def test_bash_gets_what_stands_behind_its_last_break(self, line: str, words: list[str]) -> None:
        script = run("completion", "bash").out
        script += 'COMP_LINE=$1 COMP_POINT=${#1}; compopt() { echo "$@" >&2; }; _charrnn_completion charrnn\n'
        script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
        environment = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
        found = subprocess.run(
            ["bash", "-c", script, "bash", line], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.splitlines() == words
        assert found.stderr.splitlines() == ["-o nospace"] * words[0].endswith("=")


def test_what_is_printed_is_plain() -> None:
    """The list of offers is read by shells line by line."""
    environment = os.environ | {
        "_CHARRNN_COMPLETE": "fish_complete",
        "COMP_WORDS": "charrnn runs rm ",
        "COMP_CWORD": "",
    }
    found = subprocess.run([str(PROGRAM)], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        f"plain,{name}\t{kind}"
        for name, kind in {"h-swarm": "hive", "one": "run", "two": "run", "two-lr-find": "lr-find"}.items()
    ]
    assert found.stderr == ""
