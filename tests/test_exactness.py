"""Resuming is exact: from every step of a run, whatever is random in it, and only because all that is saved is used."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from charrnn.config.loader import revise_config
from charrnn.config.schema import Config
from charrnn.errors import CharRNNError
from charrnn.runs.checkpoint import State, pack, read_checkpoint, unpack
from charrnn.runs.directory import RunFolder
from charrnn.runs.keeping import newest_whole
from charrnn.runs.metrics import Row
from charrnn.text.places import Places
from charrnn.training.loop import Outcome
from charrnn.training.score import Score
from charrnn.training.session import Session, config_in, resume_session
from tests.conftest import TEXT, make_config
from tests.helpers import (
    begin,
    comparable_rows,
    differences,
    needs_bf16_lstm,
    resumed,
    stop_at,
    train,
    write_checkpoint,
)

STEPS = 40
TWO_EPOCHS = TEXT[:858]  # so long that 40 steps of about 10 characters in 4 streams pass over it twice
CLOCK = ("seconds", "logged_at", "metrics_length", "samples_length")  # lines hold seconds, whose digits vary
SAVES = ["run.save_every=15", "run.keep=1"]  # what the golden run has; the run that saves every step differs in these
Path_ = tuple[str, ...]


def comparable(state: State) -> State:
    """A checkpoint's content without what the clock decides, and without how often one is saved."""
    state = unpack(pack(state))  # a copy; and JSON makes lists of tuples
    state["score"] = {name: value for name, value in state["score"].items() if name not in CLOCK}
    for name in ("save_every", "keep"):
        del state["config"]["run"][name]
    return state


def rows_until(run: RunFolder, step: int) -> list[Row]:
    return [row for row in comparable_rows(run.metrics) if row["step"] <= step]


@dataclass(frozen=True)
class Golden:
    """A run that was never interrupted, and one that was saved after every step."""

    config: Config
    places: Places
    run: RunFolder
    saved: RunFolder

    def state_at(self, step: int) -> State:
        file = self.saved.last if step == STEPS else self.saved.older(step)
        return read_checkpoint(file)

    def crashed(self, path: Path, state: State) -> RunFolder:
        """A run folder as a crash leaves it: a checkpoint of some step, and logs that already know what came after."""
        run = RunFolder(path)
        run.checkpoints.mkdir(parents=True)
        shutil.copy(self.saved.metrics, run.metrics)
        shutil.copy(self.saved.samples, run.samples)
        write_checkpoint(run.last, state)
        return run

    def resume(self, run: RunFolder) -> Session:
        found = newest_whole(run)
        return resume_session(run, found, revise_config(config_in(found), SAVES), self.places)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    base = tmp_path_factory.mktemp("golden")
    (base / "cat.txt").write_text(TWO_EPOCHS)
    places = Places(data=(), cache=base / "cache")
    config = make_config(str(base / "cat.txt"), f"run.out={base}", *SAVES)
    assert config.model.dropout.between and config.training.random_seq_len and config.training.state_reset
    whole = begin(config, places, "whole")
    assert train(whole) is Outcome.LIMIT
    assert 1.9 < whole.trainer.streams.epochs_done < 2.4
    saved = begin(revise_config(config, ["run.save_every=1", f"run.keep={STEPS + 1}"]), places, "saved")
    train(saved)
    assert whole.folder is not None and saved.folder is not None
    return Golden(config, places, whole.folder, saved.folder)


def equals_golden(session: Session, golden: Golden) -> bool:
    """Whether a finished session, its log and its samples are those of the golden run; what differs is printed."""
    run = session.folder
    assert run is not None
    different = differences(comparable(session.state_dict()), comparable(read_checkpoint(golden.run.last)))
    rows = [list(comparable_rows(file)) for file in (run.metrics, golden.run.metrics)]
    texts = [file.read_text() for file in (run.samples, golden.run.samples)]
    print(*different, *(pair for pair in zip_longest(*rows) if pair[0] != pair[1]))
    return not different and rows[0] == rows[1] and texts[0] == texts[1]


def test_saving_changes_nothing(golden: Golden) -> None:
    saved, whole = (comparable(read_checkpoint(run.last)) for run in (golden.saved, golden.run))
    assert differences(saved, whole) == []
    assert comparable_rows(golden.saved.metrics) == comparable_rows(golden.run.metrics)
    assert [golden.state_at(step)["trainer"]["steps"] for step in range(STEPS + 1)] == list(range(STEPS + 1))


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_resumed_from_every_step(step: int, golden: Golden, tmp_path: Path) -> None:
    run = golden.crashed(tmp_path / "run", golden.state_at(step))
    torch.manual_seed(step)  # what happens to be in the process must not matter
    session = golden.resume(run)
    assert session.trainer.steps == step
    assert train(session) is Outcome.LIMIT
    assert equals_golden(session, golden)


@pytest.mark.parametrize("step", [20, 40])
def test_interrupted_at_every_look_of_an_evaluation(step: int, golden: Golden) -> None:
    """An evaluation asks now and then whether to stop; wherever that is, the resumed run makes it up."""
    interruptions = 0
    for look in range(1, 100):
        looks = iter(range(1, 100))
        session = begin(golden.config, golden.places, f"look-{step}")
        train(session, lambda s=session, n=look, i=looks: s.trainer.steps == step and next(i) >= n)  # type: ignore[misc]
        if session.score.last_evaluation == step:
            break
        interruptions += 1
        assert session.folder is not None
        again = resumed(session.folder.path, golden.places, golden.config)
        assert (again.trainer.steps, train(again)) == (step, Outcome.LIMIT)
        assert equals_golden(again, golden)
    assert interruptions >= 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(["model.cell=lstm", "training.precision=bf16"], marks=needs_bf16_lstm),
        ["model.tie_weights=true", "model.embedding_size=8", "model.skip_connections=true"],
        ["training.optimizer=sgd", "training.schedule=triangular2", "training.warmup_steps=5"],
        ["corpus.vocabulary=bytes", "model.embedding_size=0", "training.grad_clip=null"],
    ],
    ids=" ".join,
)
def test_other_kinds_of_runs(changes: list[str], golden: Golden) -> None:
    config = revise_config(golden.config, changes)
    whole = begin(config, golden.places, "whole")
    train(whole)
    expected = comparable(whole.state_dict())
    session = begin(config, golden.places, "stopped")
    for stop in (3, 23, 24):
        train(session, stop_at(session, stop))
        assert session.folder is not None
        session = resumed(session.folder.path, golden.places, config)
    train(session)
    assert differences(comparable(session.state_dict()), expected) == []


# --- The comparison can fail: every item of a checkpoint, left out or altered, makes another run.

FROM, UNTIL = 26, 29  # behind an evaluation and inside a log interval; on the way there is a line of the log

# What may be altered without a trace, and why that is right.
MAY_BE_ALTERED = {
    "environment": "says who saved it; of this only threads and device decide anything, and they are compared",
    "baselines": "counted anew from the text",
    "corpus/name": "only shown; the text's SHA-256 decides which one it is",
    "corpus/source": "as the name: the config says where the text is",
    "corpus/bytes": "as the name",
    "corpus/characters": "as the name",
    "trainer/optimizer/param_groups": "the settings of the optimizer are those of the config",
    "score/lr": "only logged, where a run stopped at its last step: test_resumed_from_every_step sees it there",
    "score/finished": "made anew from the limits, unless they are reached: see the test below",
    "score/seconds": "the clock; only training.max_time looks at it",
    "score/logged_at": "the clock; only chars_per_sec looks at it",
    "config/run/save_every": "decides only which checkpoints there are; this comparison leaves it out",
    "config/run/keep": "as save_every",
}
# What may be missing: all that may be altered, but for parts that are asked for by name ...
ASKED_FOR = {"environment/threads", "environment/device"}
READ_WITHOUT_EFFECT = {"trainer/optimizer/param_groups/0/lr"}  # set at every step, but a file without it is not ours
# ... and what then gets its default, which it has here: settings and scores, see below.


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths of all that is neither a dict nor a list of dicts."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, dict):
        yield path
        return
    for key, inner in value.items():
        yield from leaves(inner, (*path, key))


def holder(state: State, path: Path_) -> Any:
    """The dict that holds the leaf at ``path``."""
    found: Any = state
    for key in path[:-1]:
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def altered(value: Any) -> Any:  # noqa: PLR0911 - one line per kind of value
    """Another value of the same kind: as little different as makes sense."""
    if isinstance(value, Tensor) and value.dtype == torch.uint8:
        return torch.Generator().manual_seed(99).get_state()
    if isinstance(value, Tensor):
        return torch.cat([value.flatten()[:-1], value.flatten()[-1:] + 1]).view_as(value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value[:-1], altered(value[-1])]
    if isinstance(value, float):
        return value * 0.75 + 0.01
    if isinstance(value, str):
        return value + "x"
    return 1 if value is None else value + 1


def is_noticed(golden: Golden, path: Path, state: State) -> bool:
    """Whether a run that goes on from ``state`` is refused, or is another one than the golden run."""
    try:
        session = golden.resume(golden.crashed(path, state))
        train(session, stop_at(session, UNTIL))
        assert session.folder is not None
        rows = rows_until(session.folder, STEPS)
    except CharRNNError:
        return True
    except (KeyError, RuntimeError, AssertionError):  # torch's optimizer, told to be another one
        return True
    except json.JSONDecodeError:  # half a line: metrics_length
        return True
    then = golden.state_at(UNTIL)
    samples = golden.saved.samples.read_bytes()[: then["score"]["samples_length"]]
    same = differences(comparable(session.state_dict()), comparable(then)) == []
    return not same or rows != rows_until(golden.saved, UNTIL) or samples != session.folder.samples.read_bytes()


def unnoticed(golden: Golden, tmp_path: Path, change: str) -> tuple[int, set[str]]:
    """How many items a checkpoint has, and those that can be ``altered`` or ``missing`` without a trace."""
    state = golden.state_at(FROM)
    paths, found = list(leaves(state)), set()
    for number, path in enumerate(paths):
        changed = copy.deepcopy(state)
        inner = holder(changed, path)
        if change == "missing":
            del inner[path[-1]]
        else:
            inner[path[-1]] = altered(inner[path[-1]])
        if not is_noticed(golden, tmp_path / f"{change}-{number}", changed):
            found.add("/".join(path))
    return len(paths), found


def allowed(golden: Golden) -> set[str]:
    """The full names of what ``MAY_BE_ALTERED``."""
    names = {"/".join(path): "/".join(key for key in path if key != "0") for path in leaves(golden.state_at(FROM))}
    return {name for name, short in names.items() if any(f"{short}/".startswith(f"{one}/") for one in MAY_BE_ALTERED)}


def defaults(golden: Golden) -> set[str]:
    """The full names of the settings and scores that have their default value, so that they need not be said."""
    values = golden.config.model_dump(mode="json")
    found = set()
    for path in leaves(values):
        less = copy.deepcopy(values)
        del holder(less, path)[path[-1]]
        with suppress(ValidationError):
            if Config.model_validate(less) == golden.config:
                found.add("/".join(("config", *path)))
    score = golden.state_at(FROM)["score"]
    return found | {f"score/{one.name}" for one in fields(Score) if score[one.name] == one.default}


def test_without_a_change_nothing_is_noticed(golden: Golden, tmp_path: Path) -> None:
    assert not is_noticed(golden, tmp_path / "run", golden.state_at(FROM))


def test_whatever_is_altered_is_noticed(golden: Golden, tmp_path: Path) -> None:
    count, found = unnoticed(golden, tmp_path, "altered")
    print(f"{count} items altered in turn, {count - len(found)} noticed")
    assert found == allowed(golden) - ASKED_FOR


def test_whatever_is_missing_is_noticed(golden: Golden, tmp_path: Path) -> None:
    count, found = unnoticed(golden, tmp_path, "missing")
    print(f"{count} items left out in turn, {count - len(found)} noticed")
    assert found == (allowed(golden) - ASKED_FOR - READ_WITHOUT_EFFECT) | defaults(golden)


def test_finished_matters_where_a_limit_is_reached(golden: Golden, tmp_path: Path) -> None:
    state = golden.state_at(STEPS)
    assert state["score"]["finished"]
    state["score"]["finished"] = False
    session = golden.resume(golden.crashed(tmp_path / "run", state))
    train(session)
    assert not equals_golden(session, golden)
