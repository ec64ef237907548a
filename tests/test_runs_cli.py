"""``charrnn runs``, ``--note``: the list against what was put there by hand, and nothing deleted that should stay."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from charrnn.cli._table import columns, cut, table
from charrnn.config.loader import dump_config, load_config
from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, UsageError
from charrnn.runs import files
from charrnn.runs.checkpoint import read_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import FolderLock
from charrnn.runs.metrics import Row
from charrnn.runs.run import glance_at_run, read_run
from charrnn.runs.shelf import find_entry, remove
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT

command = importlib.import_module("charrnn.cli.runs")  # the name itself is that of the command
LOG = {"train_loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "chars_per_sec": 9.0, "tensors": {"x": {"grad_norm": 1.0}}}
DONE: list[Row] = [
    {"step": 10, "seconds": 5.0, **LOG},
    {"step": 10, "seconds": 6.0, "val_loss": 1.25, "sample": "a"},
    {"step": 20, "seconds": 70.0, "val_loss": 1.5, "val_loss_cold": 1.75, "sample": '"val_loss'},
]
STOPPED: list[Row] = [*DONE[:2], {"step": 15, "seconds": 9.0, **LOG}]
DIVERGED: list[Row] = [*DONE[:2], {"step": 12, "seconds": 7.0, "steps_not_finite": 2}]
CONFIG = """
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, lr: 1e-2, max_steps: 20}
run: {log_every: 5, eval_every: 10, save_every: 10, sample_length: 5}
"""


def a_run(
    path: str | Path, *settings: str, rows: Sequence[Row] = DONE, base: str = "counting.yaml", **environment: Any
) -> Path:
    """A run folder as ``train`` leaves it, with these rows; its config is a shipped one with settings changed."""
    from charrnn.config.library import find_config

    folder = RunFolder(Path(path))
    folder.checkpoints.mkdir(parents=True)
    folder.config.write_text(dump_config(load_config(find_config(base), settings)))
    folder.environment.write_text(json.dumps({"charrnn": "0", **environment}))
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.path


def listed(*words: str) -> dict[str, dict[str, Any]]:
    """What ``runs ls --json`` says, by name, in order."""
    result = run("runs", "ls", "--json", *words)
    assert (result.code, result.err) == (0, "")
    return {one["name"]: one for one in json.loads(result.out)["runs"]}


def aged(path: Path, seconds: float) -> None:
    """Training wrote there last at this time."""
    os.utime(path / "metrics.jsonl", (seconds, seconds))


class TestList:
    def test_a_row_says_what_was_tried_and_how_it_went(self) -> None:
        a_run("runs/x", "training.lr=0.5", "model.dropout.input=0.25", "run.note=why", "run.log_every=7")
        head, row = run("runs", "ls").out.splitlines()
        assert head == "run  state  best val  steps  time  differs from the shipped config" + " " * 20 + "note"
        assert row.split("  ")[-2:] == ["counting: dropout.input=0.25, lr=0.5, log_every=7", "why"]
        assert row.split()[:5] == ["x", "done", "1.2500", "20", "1:10"]

    @pytest.mark.parametrize(
        ("rows", "state", "steps"),
        [(DONE, "done", 20), (STOPPED, "interrupted", 15), (DIVERGED, "diverged", 12), ([], "interrupted", 0)],
    )
    def test_states(self, rows: list[Row], state: str, steps: int) -> None:
        path = a_run("runs/x", rows=rows)
        one = listed()["x"]
        assert (one["state"], one["steps"]) == (state, steps)
        assert (one["best_val_loss"], one["best_step"]) == ((1.25, 10) if rows else (None, None))
        with FolderLock(RunFolder(path)):
            assert listed()["x"]["state"] == "running"

    @pytest.mark.parametrize(
        ("rows", "status", "state"),
        [
            (DONE, "ended", "done"),
            (DONE, "diverged", "diverged"),
            (STOPPED, "failed", "failed"),
            ([], "failed", "failed"),
        ],
    )
    def test_a_bee_has_a_result(self, rows: list[Row], status: str, state: str) -> None:
        result = {"status": status, "val_loss": 1.25}
        bee = a_run("runs/h-swarm/lr=1/bee-1", rows=rows)
        (bee / "result.json").write_text(json.dumps(result))
        assert listed("runs/h-swarm/lr=1")["bee-1"]["state"] == state
        with FolderLock(RunFolder(bee)):
            assert listed("runs/h-swarm/lr=1")["bee-1"]["state"] == "running"

    @pytest.mark.parametrize("rows", [DONE, STOPPED, DIVERGED, [], DONE[:1], [*DIVERGED, *STOPPED[2:]]])
    def test_a_glance_sees_what_reading_all_of_it_sees(self, rows: list[Row]) -> None:
        path = a_run("runs/x", rows=rows)
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 99, "val_')  # being written
        whole, glance = read_run(path), glance_at_run(path)
        for name in ("state", "seconds", "best", "settings", "environment"):
            assert getattr(glance, name) == getattr(whole, name), name
        assert len(glance.metrics) < len(whole.metrics) or len(rows) < 2

    def test_rows_of_no_use_to_a_list_are_not_parsed(self) -> None:
        path = a_run("runs/x")
        text = (path / "metrics.jsonl").read_text()
        (path / "metrics.jsonl").write_text('{"step": not json}\n' + text)
        assert listed()["x"]["state"] == "done"

    def test_newest_first_or_by_loss_or_by_name(self) -> None:
        for name, when, loss in (("b", 100, 3.0), ("a", 300, 2.0), ("c", 200, None)):
            rows = [{**row, "val_loss": loss} for row in DONE[1:]] if loss else DONE[:1]
            aged(a_run(f"runs/{name}", rows=rows), when)
        assert list(listed()) == ["a", "c", "b"]
        assert list(listed("--sort", "loss")) == ["a", "b", "c"]
        assert list(listed("--sort", "name")) == ["a", "b", "c"]

    def test_what_a_run_is_compared_with(self) -> None:
        changed = ("training.lr=0.125", "training.seed=5")
        a_run("runs/one", *changed, base="shakespeare.yaml", config="quickstart.yaml")
        a_run("runs/python-12", *changed, base="shakespeare.yaml")
        a_run("runs/mine", *changed, base="shakespeare.yaml", config="/home/me/mine.yaml")
        a_run("runs/chosen", *changed, chosen=["lstm"])
        given = ["corpus.source", "training.lr", "model.dropout", "training.device", 3]
        a_run("runs/given", *changed, chosen=["lstm"], given=given)
        found = listed()
        assert {name: one["base"] for name, one in found.items()} == {
            "one": "quickstart.yaml",
            "python-12": "python.yaml",
            "mine": "shakespeare.yaml",
            "chosen": None,
            "given": None,
        }
        assert found["mine"]["differing"] == {"training.lr": 0.125, "training.seed": 5}
        assert found["one"]["differing"]["model.hidden_size"] == 384
        assert found["chosen"]["remark"] == "all chosen for the text: lstm 1 x 32"
        assert found["given"]["differing"].keys() == {
            "training.lr",
            *(f"model.dropout.{place}" for place in ("input", "between", "output")),
        }
        assert re.search(r"chosen for the text \(lstm 1 x 32\): .*lr=0\.125", run("runs", "ls").out)

    def test_where_it_is_kept_and_computed_is_no_difference(self) -> None:
        settings = ("run.name=x", "run.out=y", "run.note=z", "training.threads=1", "training.device=cpu")
        a_run("runs/x", *settings)
        assert listed()["x"]["differing"] == {}
        assert run("runs", "ls").out.splitlines()[1].split()[-2:] == ["counting", "z"]

    def test_a_text_of_ones_own_is_named(self) -> None:
        a_run("runs/x", "corpus.source=/far/away/my.txt")
        assert "counting: source=my.txt" in run("runs", "ls").out
        assert listed()["x"]["differing"] == {"corpus.source": "/far/away/my.txt"}

    def test_nothing_steers_the_terminal(self) -> None:
        a_run("runs/x\x1b[31m", 'run.note="one\\ntwo\\e[0m\\tthree"')
        row = run("runs", "ls").out.splitlines()
        assert len(row) == 2
        assert row[1].startswith("x\\x1b[31m")
        assert row[1].endswith("one two\\x1b[0m three")

    def test_what_is_no_whole_run_is_one_line_or_counted(self) -> None:
        a_run("runs/good")
        (a_run("runs/bad-config") / "config.yaml").write_text("training: [")
        (a_run("runs/bad-environment") / "environment.json").write_text("[]")
        (a_run("runs/bad-metrics") / "metrics.jsonl").write_text("[1]\n")
        (a_run("runs/bad-row") / "metrics.jsonl").write_text('{"step": "x", "val_loss": 1.0}\n')
        for bee in (1, 2):
            a_run(f"runs/h-swarm/lr=1/bee-{bee}")
        (a_run("runs/h-swarm/lr=2/bee-1") / "result.json").write_text("{}")
        Path("runs/h-swarm/lr=1/bee-1/result.json").write_text("{}")
        Path("runs/h-swarm/hive.yaml").write_text("")
        Path("runs/h-swarm/lr=2/swarm.json").write_text("{}")
        for folder in ("y-lr-find", "half/checkpoints", "mine/src", "thesis/checkpoints", ".hidden"):
            Path("runs", folder).mkdir(parents=True)
        Path("runs/y-lr-find/lr-find.json").write_text("{")
        Path("runs/thesis/checkpoints/model.pt").write_text("")
        Path("runs/thesis/config.yaml").write_text("")
        Path("runs/a file").write_text("")
        result = run("runs", "ls", "--sort", "name")
        assert result.code == 0
        assert result.err == "2 other folders in runs left out: not charrnn's, or not to be read\n"
        rows = {line.split()[0]: line for line in result.out.splitlines()[1:]}
        assert {name: row.split()[1] for name, row in rows.items()} == {
            **dict.fromkeys(["bad-config", "bad-environment", "bad-metrics", "bad-row"], "damaged"),
            **{"good": "done", "h-swarm": "hive", "half": "half-made", "y-lr-find": "lr-find"},
        }
        assert rows["h-swarm"].endswith("  hive, 2 bees landed")
        assert "  environment.json: not a JSON object" in rows["bad-environment"]
        assert list(listed("runs/h-swarm")) == ["lr=2"]
        assert listed("runs/h-swarm")["lr=2"]["remark"] == "swarm, 1 bees landed"
        with FolderLock(RunFolder(Path("runs/h-swarm"))):
            assert listed()["h-swarm"]["state"] == "running"

    def test_what_goes_away_in_the_meantime_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("goes", "stays"):
            a_run(f"runs/{name}")
        listing = importlib.import_module("charrnn.studies.listing")

        def gone(path: Path) -> Any:
            if path.name == "goes":
                shutil.rmtree(path)
            return glance_at_run(path)

        monkeypatch.setattr(listing, "glance_at_run", gone)
        assert list(listed()) == ["stays"]

    def test_no_runs(self) -> None:
        assert run("runs", "ls").code == 0
        assert run("runs", "ls").err.startswith("runs: no runs yet; 'charrnn train")
        Path("empty").mkdir()
        assert run("runs", "ls", "empty").code == 0
        assert listed("empty") == {}
        a_run("runs/x")
        for folder, cause in (("nowhere", "no such folder"), ("runs/x", "charrnn runs ls runs")):
            result = run("runs", "ls", folder)
            assert (result.code, result.out) == (2, "")
            assert cause in result.err


class TestTable:
    ROWS = (["name", "7", "a note"], ["other name", "1,000", "日本語" * 20])

    def test_aligned_and_whole_in_a_pipe(self) -> None:
        assert table(self.ROWS, None, right=[1]) == [
            "name            7  a note",
            f"other name  1,000  {'日本語' * 20}",
        ]

    @pytest.mark.parametrize("width", [1, 2, 10, 25, 40, 60, 100, 138, 139, 200])
    def test_it_fits_and_cuts_what_may_be_cut(self, width: int) -> None:
        lines = table(self.ROWS, width, right=[1], yielding=[2])
        assert max(map(columns, lines)) <= width
        assert lines[1].endswith("…") == (width < 139)
        assert lines[1].startswith("other name  1,000") == (width >= 25)

    @pytest.mark.parametrize(
        ("text", "room", "short"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本", 3, "日…"), ("ab cd", 4, "ab…")]
    )
    def test_cut(self, text: str, room: int, short: str) -> None:
        assert cut(text, room) == short

    def test_a_terminal_is_kept_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        a_run("runs/x", f"run.note={'why ' * 100}")
        monkeypatch.setenv("COLUMNS", "90")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        from charrnn.studies.listing import list_runs

        assert max(map(columns, command._table(list_runs(Path("runs"))[0]))) == 90
        assert len(run("runs", "ls").out.splitlines()[1]) > 400  # that one is a pipe


class TestPath:
    def test_by_name_or_the_newest(self, in_own_folder: Path) -> None:
        for name, when in (("a", 100), ("b", 300), ("c", 200)):
            aged(a_run(f"runs/{name}"), when)
        Path("runs/z-lr-find").mkdir()
        Path("runs/z-lr-find/lr-find.json").write_text("{}")
        assert run("runs", "path").out == f"{in_own_folder}/runs/b\n"
        assert run("runs", "path", "c").out == f"{in_own_folder}/runs/c\n"
        assert run("runs", "path", "runs/c/").out == f"{in_own_folder}/runs/c\n"
        a_run("far/d")
        assert run("runs", "path", "--out", "far").out == f"{in_own_folder}/far/d\n"

    def test_there_is_none(self) -> None:
        result = run("runs", "path")
        assert (result.code, result.out) == (2, "")
        a_run("runs/shakespeare")
        result = run("runs", "path", "shakespear")
        assert (result.code, result.out) == (2, "")
        assert result.err == "error: runs/shakespear: no such run; did you mean shakespeare?\n"


class TestRemove:
    @pytest.fixture(autouse=True)
    def some(self) -> None:
        a_run("runs/a")
        a_run("runs/b")
        Path("runs/h/lr=1").mkdir(parents=True)
        Path("runs/h/hive.yaml").write_text("")

    def _asked(self, answer: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
        """``runs rm`` on a terminal whose user answers so."""
        monkeypatch.setattr(command, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
        return run("runs", "rm", *words, stdin=answer.encode())

    def test_what_is_named_goes_and_the_rest_stays(self) -> None:
        before = {name: content for name, content in snapshot().items() if not name.startswith(("runs/a", "runs/h"))}
        result = run("runs", "rm", "a", "runs/h", "a", "--yes")
        assert (result.code, result.out, result.err) == (0, "", "Deleted: runs/a\nDeleted: runs/h\n")
        assert snapshot() == before

    def test_it_asks_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = snapshot()
        result = self._asked("n\n", monkeypatch, "a", "h")
        assert (result.code, snapshot()) == (1, before)
        size = sum(len(content) for name, content in before.items() if content and name.startswith("runs/a/"))
        assert f"runs/a: run, 3 files, {size / 1000:.1f} kB" in result.err
        assert "runs/h: hive, 1 files, 0 bytes" in result.err
        assert self._asked("y\n", monkeypatch, "a", "h").code == 0
        assert [path.name for path in Path("runs").iterdir()] == ["b"]

    def test_nobody_there_to_ask(self) -> None:
        before = snapshot()
        result = run("runs", "rm", "a")
        assert (result.code, snapshot()) == (2, before)
        assert "give --yes" in result.err

    def test_nothing_outside_and_nothing_that_is_not_ours(self, in_own_folder: Path) -> None:
        a_run("outside")
        a_run("runs/b/inner")
        for path in ("runs/thesis/checkpoints", "runs/mine", "runs/.git"):
            Path(path).mkdir(parents=True)
        for path in ("runs/thesis/config.yaml", "runs/thesis/checkpoints/model.pt", "runs/mine/x", "runs/file"):
            Path(path).write_text("")
        before = snapshot()
        names = ["..", ".", "", "/", "../outside", "runs/../outside", str(in_own_folder / "outside"), "b/inner", "b/.."]
        for name in [*names, "../b", "far/b", "runs/..", "thesis", "mine", "file", ".git", "nothing", "x\0y"]:
            result = run("runs", "rm", "--yes", "a", name)
            assert (result.code, snapshot()) == (2, before), name
            assert "Traceback" not in result.err
            assert "internal" not in result.err

    @pytest.mark.parametrize(
        "others",
        [
            {"config.yaml": "x: 1", "checkpoints": None, "thesis.tex": "years of work", "src/main.py": ""},
            {"config.yaml": "x: 1"},
            {"config.yaml": "x: 1", "checkpoints/model.safetensors": "", "environment.json": '{"name": "conda"}'},
            {"checkpoints/model.safetensors": ""},
            {"environment.json": "{}"},
        ],
    )
    def test_other_programs_have_files_of_these_names_too(self, others: dict[str, str | None]) -> None:
        for name, content in others.items():
            path = Path("runs/other", name)
            (path.parent if content is not None else path).mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_text(content)
        before = snapshot()
        result = run("runs", "rm", "other", "--yes")
        assert (result.code, snapshot()) == (2, before)
        assert "it stays as it is" in result.err

    def test_named_in_full(self, in_own_folder: Path) -> None:
        a_run("a")
        assert run("runs", "rm", in_own_folder / "a", "--yes").code == 2
        assert run("runs", "rm", in_own_folder / "runs" / "a", "--yes").code == 0
        assert (Path("a").is_dir(), sorted(listed())) == (True, ["b", "h"])

    def test_a_run_without_its_environment_is_one(self) -> None:
        Path("runs/a/environment.json").unlink()
        assert run("runs", "rm", "a", "--yes").code == 0

    def test_a_long_name(self) -> None:
        name = "n" * 250
        a_run(f"runs/{name}")
        assert run("runs", "rm", name, "--yes").code == 0
        assert sorted(listed()) == ["a", "b", "h"]

    def test_a_protected_run_stays_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As root may delete anything, the question is answered for it."""
        protected = Path("runs/a/checkpoints")
        monkeypatch.setattr("charrnn.runs.shelf.os.access", lambda path, mode: path != protected)
        before = snapshot()
        result = run("runs", "rm", "a", "--yes")
        assert (result.code, snapshot()) == (1, before)
        assert f"{protected}: is write-protected" in result.err

    def test_what_another_removal_left_and_cannot_go_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("runs/.removing-0123").mkdir()
        real = shutil.rmtree

        def rmtree(path: Path) -> None:
            if path.name == ".removing-0123":
                raise PermissionError(13, "Permission denied", str(path))
            real(path)

        with monkeypatch.context() as patched:
            patched.setattr("charrnn.runs.shelf.shutil.rmtree", rmtree)
            assert run("runs", "rm", "a", "--yes").code == 0
        assert sorted(listed()) == ["b", "h"]

    def test_of_a_link_the_link_alone(self) -> None:
        target = a_run("far/x").absolute()
        before = snapshot(target)
        Path("runs/link").symlink_to(target)
        assert run("runs", "rm", "link", "--yes").code == 0
        assert not os.path.lexists("runs/link")
        (Path("runs/a/checkpoints") / "elsewhere").symlink_to(target)
        assert run("runs", "rm", "a", "--yes").code == 0
        assert snapshot(target) == before

    @pytest.mark.parametrize("busy", ["runs/b", "runs/h", "runs/h/lr=1/bee-1"])
    def test_nothing_where_somebody_trains(self, busy: str) -> None:
        Path("runs/h/lr=1/bee-1").mkdir()
        with FolderLock(RunFolder(Path(busy))):
            before = snapshot()
            result = run("runs", "rm", "a", "b", "h", "--yes")
            assert (result.code, snapshot()) == (2, before)
            assert f"{busy}: somebody is training in it" in result.err
        assert run("runs", "rm", "a", "b", "h", "--yes").code == 0

    def test_interrupted_it_never_leaves_half_a_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def killed(path: Path) -> None:
            (path / "metrics.jsonl").unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("charrnn.runs.shelf.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                remove(find_entry(Path("runs"), "a"))
        assert sorted(listed()) == ["b", "h"]
        assert [path.name.startswith(".removing-") for path in Path("runs").iterdir()].count(True) == 1
        remove(find_entry(Path("runs"), "b"))
        assert [path.name for path in Path("runs").iterdir()] == ["h"]

    def test_a_disk_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Refusing(files.Disk):
            def replace(self, source: Path, target: Path) -> None:
                raise PermissionError(13, "Permission denied", str(source))

        monkeypatch.setattr(files, "disk", Refusing())
        before = snapshot()
        with pytest.raises(CharRNNError, match=r"runs/a: cannot be deleted: Permission denied; check"):
            remove(find_entry(Path("runs"), "a"))
        assert snapshot() == before

    def test_hidden_names_are_not_found(self) -> None:
        a_run("runs/.removing-a")
        with pytest.raises(UsageError):
            find_entry(Path("runs"), ".removing-a")


class TestNote:
    @pytest.fixture(autouse=True)
    def small(self) -> None:
        Path("cat.txt").write_text(TEXT)
        Path("small.yaml").write_text(CONFIG)

    def _kept(self) -> tuple[str | None, str | None]:
        """In the run's config, and in its last checkpoint."""
        folder = RunFolder(Path("runs/small"))
        return load_config(folder.config).run.note, read_checkpoint(folder.last)["config"]["run"]["note"]

    def test_kept_shown_and_changed(self) -> None:
        result = run("train", "--config", "small.yaml", "--note", "is 10 enough?")
        assert (result.code, self._kept()) == (0, ("is 10 enough?", "is 10 enough?"))
        assert "\nNote:   is 10 enough?\n" in result.err
        assert listed()["small"]["note"] == "is 10 enough?"
        assert run("runs", "note", "runs/small", "it is").code == 0
        assert self._kept() == ("it is", "is 10 enough?")
        result = run("train", "--resume", "runs/small", "--set", "training.max_steps=25")
        assert result.code == 0, result.err
        assert "\nNote:   it is\n" in result.err
        assert self._kept() == ("it is", "it is")
        assert run("runs", "note", "small", "by name").code == 0
        assert self._kept() == ("by name", "it is")
        result = run("train", "--resume", "runs/small", "--set", "training.max_steps=30", "--note", "or not?")
        assert result.code == 0, result.err
        assert "\nNote:   or not?\n" in result.err
        assert self._kept() == ("or not?", "or not?")
        for words, note in (((), None), (("--note", "new"), "new"), (("--set", "run.note=set"), "set")):
            assert run("train", "--config", "runs/small/config.yaml", "--name", "other", *words).code == 0
            assert load_config(max(Path("runs").glob("other*"), key=os.path.getmtime) / "config.yaml").run.note == note

    def test_only_the_note_is_changed_or_taken_away(self) -> None:
        path = a_run("runs/x", "run.note=old", "training.lr=0.5")
        before = snapshot()
        config = load_config(path / "config.yaml").model_dump()
        assert run("runs", "note", "runs/x", "").code == 0
        config["run"]["note"] = None
        assert load_config(path / "config.yaml") == Config.model_validate(config)
        assert snapshot().keys() == before.keys()
        assert "Note:" not in run("runs", "ls").out

    def test_refused(self) -> None:
        path = a_run("runs/x")
        with FolderLock(RunFolder(path)):
            before = snapshot()
            assert "is training in it" in run("runs", "note", "runs/x", "new").err
        for words in (("runs/x", "n" * 1001), ("runs", "new"), ("nowhere", "new")):
            result = run("runs", "note", *words)
            assert result.code == 2
            assert "Traceback" not in result.err
        assert {**snapshot(), "runs/x/lock": None} == {**before, "runs/x/lock": None}

    def test_a_run_goes_on_without_its_config_file(self) -> None:
        assert run("train", "--config", "small.yaml", "--note", "kept").code == 0
        Path("runs/small/config.yaml").unlink()
        result = run("train", "--resume", "runs/small", "--set", "training.max_steps=25")
        assert result.code == 0, result.err
        assert "Note:   kept" in result.err

    def test_its_config_file_says_with_what_it_went_on(self) -> None:
        assert run("train", "--config", "small.yaml").code == 0
        before = load_config(Path("runs/small/config.yaml"))
        assert run("train", "--resume", "runs/small", "--set", "training.max_steps=25", "--set", "run.keep=3").code == 0
        expected = before.model_dump()
        expected["training"]["max_steps"], expected["run"]["keep"] = 25, 3
        assert load_config(Path("runs/small/config.yaml")) == Config.model_validate(expected)
        assert listed()["small"]["differing"].items() >= {"training.max_steps": 25, "run.keep": 3}.items()

    def test_also_where_an_older_checkpoint_knew_another_end(self) -> None:
        """What it trains with is what the file says: here the first limit again."""
        assert run("train", "--config", "small.yaml", "--set", "run.keep=5", "--set", "run.save_every=5").code == 0
        before = load_config(Path("runs/small/config.yaml"))
        assert run("train", "--resume", "runs/small", "--set", "training.max_steps=25").code == 0
        older = min(Path("runs/small/checkpoints").glob("step-*"))
        assert run("train", "--resume", older).code == 0
        assert load_config(Path("runs/small/config.yaml")) == before

    def test_what_it_went_on_with_is_saved_before_the_first_step(self) -> None:
        """Or a run that is killed then would go back to its old settings, which its config does not tell any more."""
        assert run("train", "--config", "small.yaml").code == 0
        with patch("charrnn.training.loop.Loop._train", side_effect=KeyboardInterrupt):
            assert run("train", "--resume", "runs/small", "--set", "training.max_steps=25").code == 130
        assert read_checkpoint(Path("runs/small/checkpoints/last.safetensors"))["config"]["training"]["max_steps"] == 25

    @pytest.mark.parametrize("option", [("--name", "other"), ("--out", "elsewhere")])
    def test_it_stays_in_its_folder(self, option: tuple[str, str]) -> None:
        assert run("train", "--config", "small.yaml").code == 0
        before = snapshot()
        result = run("train", "--resume", "runs/small", "--set", "training.max_steps=25", *option)
        assert (result.code, snapshot()) == (2, before)
        assert "leave them out" in result.err

    def test_with_its_text_in_another_place(self) -> None:
        assert run("train", "--config", "small.yaml").code == 0
        moved = Path("cat.txt").rename("moved.txt").absolute()
        more = ("train", "--resume", "runs/small", "--set", "training.max_steps=25")
        assert run(*more).code == 2
        assert run(*more, "--data", "moved.txt").code == 0
        assert load_config(Path("runs/small/config.yaml")).corpus.source == str(moved)
        moved.write_text(moved.read_text().replace("cat", "dog"))
        result = run("train", "--resume", "runs/small", "--set", "training.max_steps=30", "--data", "moved.txt")
        assert result.code == 2
        assert "the text has changed" in result.err

    @pytest.mark.parametrize("refused", ["model.hidden_size=9", "training.max_steps=0"])
    def test_a_refused_change_is_not_written(self, refused: str) -> None:
        assert run("train", "--config", "small.yaml").code == 0
        before = snapshot()
        assert run("train", "--resume", "runs/small", "--set", refused).code == 2
        assert {**snapshot(), "runs/small/lock": None} == {**before, "runs/small/lock": None}

    def test_a_run_remembers_its_config(self, in_own_folder: Path) -> None:
        def remembered(name: str) -> str:
            content = json.loads(Path("runs", name, "environment.json").read_text())
            return str(content["config"])

        words = ["--set", "training.max_steps=2", "--set", "run.sample_length=0"]
        assert run("train", "--config", "small", *words).code == 0
        assert run("train", "--config", "counting", "--name", "other", *words).code == 0
        assert remembered("small") == str(in_own_folder / "small.yaml")
        assert remembered("other") == "counting.yaml"


def test_a_list_brings_no_torch() -> None:
    a_run("runs/x")
    code = "import sys; from charrnn.cli import cli; cli(['runs', 'ls'], standalone_mode=False); "
    code += "print(set(sys.modules) & {'torch'})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"
