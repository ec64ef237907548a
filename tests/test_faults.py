"""Whatever happens to the disk or the process, nothing that was saved is lost.

A tiny run is killed at every operation on the disk, its record is cut off where a power loss could cut it, and every
operation is refused. Each time what is left must load, and going on from it must end exactly where the run that nothing
happened to ended. Three runs: one from its start, one that goes on with what a crash left, one that does so and then
has to roll back.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, CheckpointError, UsageError
from charrnn.runs import files
from charrnn.runs.checkpoint import State, read_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.runs.environment import describe_environment
from charrnn.runs.files import TEMPORARY
from charrnn.runs.keeping import Keeper, newest_whole
from charrnn.text.places import Places
from charrnn.training.loop import Loop
from charrnn.training.session import Session
from charrnn.training.trainer import StepStats, Trainer
from tests.command_line import PROGRAM, run, snapshot
from tests.conftest import make_config
from tests.fault_disk import (
    GROWING,
    OPERATIONS,
    FailingDisk,
    Killed,
    KillingDisk,
    Mark,
    Operation,
    PowerModel,
    RecordingDisk,
    ShortDisk,
    Tree,
    WatchedDisk,
)
from tests.helpers import Silent, begin, differences, never, resumed
from tests.test_resume import full_state

OUT = Path("runs")
FOLDER = RunFolder(OUT / "run")
SCENARIOS = ["fresh", "resumed", "rollback"]
FIGURES: Counter[str] = Counter()  # what was tried, for the README

TINY = [
    *("model.hidden_size=4", "model.embedding_size=2", "model.num_layers=1"),
    *("training.batch_size=2", "training.seq_len=5", "training.max_steps=8", "training.on_divergence=rollback"),
    *("run.log_every=2", "run.eval_every=4", "run.save_every=3", "run.keep=1", "run.sample_length=5"),
]
# The schedule's rate at that step is 0.005, and half of that after a rollback: the run rolls back once, to step 3, and
# loses an evaluation with it.
DIVERGES_AT, DIVERGES_ABOVE = 5, 0.004

Saves = dict[str, Mark]  # how far the acknowledged "last" and "best" checkpoints are


@dataclass(frozen=True)
class Golden:
    """The run that nothing happens to."""

    start: Tree  # what was in ``runs`` before
    acknowledged: Saves  # and which saves had been acknowledged there
    state: State
    tree: Tree  # what was there afterwards
    record: list[Operation]
    begun: int  # operations before the loop
    opened: int  # operations until the logs are open

    @property
    def operations(self) -> list[Operation]:
        """Without acknowledgements: number N is ``operations[N - 1]``."""
        return [operation for operation in self.record if operation.name != "acknowledge"]

    @property
    def last_save(self) -> int:
        """The number of the operation that the last save, for which there is no second try, begins with."""
        return max(n for n, op in enumerate(self.operations, 1) if str(op) == "sync metrics.jsonl")


@dataclass
class Attempt:
    """How a run under a faulty disk ended."""

    reporter: Silent = field(default_factory=Silent)
    session: Session | None = None
    error: BaseException | None = None

    @property
    def warnings(self) -> list[str]:
        """About the disk, that is."""
        return [text for text in self.reporter.warnings if not text.startswith("training diverged")]


@dataclass
class World:
    """One scenario, and what has been found out about it."""

    name: str
    config: Config
    places: Places
    monkeypatch: pytest.MonkeyPatch
    golden: Golden | None = None
    seen: dict[Any, tuple[Saves, list[str]]] = field(default_factory=dict)

    def reset(self, tree: Tree) -> None:
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir()
        for name, content in sorted(tree.items()):
            if content is None:
                (OUT / name).mkdir()
            else:
                (OUT / name).write_bytes(content)

    def use(self, disk: WatchedDisk) -> None:
        self.monkeypatch.setattr(files, "disk", disk)

    def start(self) -> Session:
        if self.name == "fresh":
            return begin(self.config, self.places)
        return resumed(FOLDER.path, self.places, self.config)

    def attempt(self, disk: WatchedDisk, golden: Golden) -> Attempt:
        """The whole scenario, on this disk."""
        self.reset(golden.start)
        disk.acknowledged |= golden.acknowledged
        self.use(disk)
        attempt = Attempt()
        try:
            attempt.session = self.start()
            Loop(attempt.session, attempt.reporter, never).run()
        except (Exception, Killed) as error:
            attempt.error = error
        disk.bury()
        self.use(WatchedDisk())
        return attempt

    def survives(self, saves: Saves, older: bool = True) -> list[str]:
        """Go on from what is in ``runs``: what is wrong with where that begins and ends. Equal trees do so once.

        ``older`` as in ``compare``.
        """
        key = _key(snapshot(OUT)), older
        if key not in self.seen:
            self.seen[key] = _saves(), self._go_on(older)
        found, problems = self.seen[key]
        return [*problems, *lost(saves, found)]

    def _go_on(self, older: bool) -> list[str]:
        existed = FOLDER.path.exists()
        try:
            session = resumed(FOLDER.path, self.places, self.config)
        except CheckpointError:
            begun = begin(self.config, self.places).folder
            assert begun is not None
            return ["a new run wrote into the old one's folder"] if existed and begun.path == FOLDER.path else []
        if session.score.finished:  # then the command does nothing: an older checkpoint too many may stay
            return self.compare(session, older=False) + temporaries()
        Loop(session, Silent(), never).run()
        return self.compare(session, older) + temporaries()

    def compare(self, session: Session, older: bool = True) -> list[str]:
        """In what a finished run differs from the golden one; ``older`` includes the older checkpoints."""
        assert self.golden is not None
        problems = [f"differs: {path}" for path in differences(full_state(session), self.golden.state)]
        trees = [
            {name: canonical(content) for name, content in tree.items() if older or "step-" not in name}
            for tree in (snapshot(OUT), self.golden.tree)
        ]
        names = sorted(trees[0].keys() | trees[1].keys())
        return problems + [f"differs: {name}" for name in names if trees[0].get(name) != trees[1].get(name)]


def mark(state: State) -> Mark:
    """How far a saved run is."""
    return state["score"]["rollbacks"], state["trainer"]["steps"]


def _saves() -> Saves:
    """What can be read in the run folder: the newest checkpoint that is whole, and the best one if it is."""
    saves = {}
    with suppress(CheckpointError):
        saves["last"] = mark(newest_whole(FOLDER).state)
    with suppress(CheckpointError):
        saves["best"] = mark(read_checkpoint(FOLDER.best))
    return saves


def lost(saves: Saves, found: Saves) -> list[str]:
    """What was acknowledged and is not there any more, or is there in an older state only."""
    return [
        f"lost: the {name} checkpoint {wanted} was acknowledged, {found.get(name)} was found"
        for name, wanted in saves.items()
        if name not in found or found[name] < wanted
    ]


def canonical(content: bytes | None) -> bytes | None:
    """A checkpoint's bytes with its header in one order (safetensors chooses it at random); others as they are."""
    try:
        size = 8 + int.from_bytes((content or b"")[:8], "little")
        header = json.loads((content or b"")[8:size])
        del header["__metadata__"]["digest"]
        return json.dumps(header, sort_keys=True).encode() + (content or b"")[size:]
    except (ValueError, KeyError, TypeError):
        return content


def _key(tree: Tree) -> frozenset[Any]:
    """Equal for trees that differ only in what nobody reads: unfinished files, the random part of their names."""
    unfinished = re.compile(f"({re.escape(TEMPORARY)}.*)-.*")
    return frozenset(
        (found[1], None) if (found := unfinished.search(name)) else (name, canonical(content))
        for name, content in tree.items()
    )


def temporaries() -> list[str]:
    return [f"left behind: {path}" for path in OUT.rglob(f"{TEMPORARY}*")]


def none_of(problems: list[str]) -> None:
    """Fail with the first of them."""
    FIGURES["losses"] += len(problems)
    if problems:
        shown = list(dict.fromkeys(problems))
        pytest.fail("\n".join([*shown[:30], f"{len(shown)} problems in all"]), pytrace=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One text for all tests: its path is part of a run, and runs are compared across tests."""
    path = tmp_path_factory.mktemp("text") / "cat.txt"
    path.write_text("the cat sat on the mat; the dog saw the cat.\n" * 12)
    return str(path)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory, where the system has such a thing: making and removing files would take most of the time."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    return {}


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    source: str,
    memory: Path,
    worlds: dict[str, World],
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """The scenario that the test is parametrised with, and its golden run."""
    name = getattr(request, "param", "fresh")
    monkeypatch.chdir(memory)
    # A clock that stands still makes two equal runs equal in every byte, so that equal crashes need one look only.
    monkeypatch.setattr("charrnn.training.loop.clock", SimpleNamespace(now=lambda: 0.0))
    # These two take as long as all the steps of such a run.
    monkeypatch.setattr("charrnn.training.session.describe_environment", lru_cache(describe_environment))
    monkeypatch.setattr("charrnn.training.session.dump_config", lambda _: "tiny: true\n")
    for file in ("last", "best"):
        monkeypatch.setattr(Keeper, f"save_{file}", _acknowledging(file, getattr(Keeper, f"save_{file}")))
    if name == "rollback":
        monkeypatch.setattr(Trainer, "step", _diverging(Trainer.step))
    found = worlds.setdefault(name, World(name, make_config(source, *TINY), places, monkeypatch))
    found.places, found.monkeypatch = places, monkeypatch
    if found.golden is None:
        tree = {} if name == "fresh" else _crashed(found)
        found.golden = _golden(found, tree)
    yield found
    shutil.rmtree(OUT)


def _acknowledging(file: str, original: Callable[..., None]) -> Callable[..., None]:
    def save(self: Keeper, state: State, *step: int) -> None:
        original(self, state, *step)
        if isinstance(files.disk, WatchedDisk):
            files.disk.acknowledge(file, mark(state))

    return save


def _diverging(original: Callable[[Trainer, float, bool], StepStats]) -> Callable[[Trainer, float, bool], StepStats]:
    def step(self: Trainer, lr: float, observe: bool = False) -> StepStats:
        stats = original(self, lr, observe)
        diverges = self.steps == DIVERGES_AT and lr > DIVERGES_ABOVE
        return dataclasses.replace(stats, loss=stats.loss * torch.inf) if diverges else stats

    return step


def _golden(world: World, start: Tree) -> Golden:
    """Record the scenario with nothing happening to it."""
    world.reset(start)
    saves = _saves()
    disk = RecordingDisk()
    world.use(disk)
    session = world.start()
    begun = len(disk.operations)
    Loop(session, Silent(), never).run()
    world.use(WatchedDisk())
    first_sync = next(n for n, op in enumerate(disk.operations[begun:]) if op.name not in _OPENING)
    return Golden(start, saves, full_state(session), snapshot(OUT), disk.record, begun, begun + first_sync)


_OPENING = ("unlink", "open_to_append", "truncate", "sync_folder")


def _crashed(world: World) -> Tree:
    """What is left of a run that was killed in its third save, and whose logs end in half a line."""
    fresh = World("fresh", world.config, world.places, world.monkeypatch)
    golden = _golden(fresh, {})
    replaced = [n for n, op in enumerate(golden.operations, 1) if op.target == FOLDER.last]
    fresh.attempt(KillingDisk(replaced[2], "before"), golden)
    with FOLDER.metrics.open("a") as metrics, FOLDER.samples.open("a") as samples:
        metrics.write('{"step": 8, "epo')  # of a step that the log tells of, and the checkpoint does not
        samples.write("--- step")
    assert len(temporaries()) == 1
    return snapshot(OUT)


each_scenario = pytest.mark.parametrize("world", SCENARIOS, indirect=True)


@each_scenario
def test_the_record_holds_all_that_happens(world: World) -> None:
    """Played back it gives the same files: nothing goes to the disk another way, so nothing escapes these tests."""
    assert world.golden is not None
    model = PowerModel(OUT, world.golden.start)
    for operation in world.golden.record:
        model.apply(operation)
    assert model.tree() == world.golden.tree
    rollbacks = sum("rollback" in line for line in (world.golden.tree["run/metrics.jsonl"] or b"").decode().split())
    assert bool(rollbacks) == (world.name == "rollback")


def kill_points(golden: Golden, how: str) -> list[int]:
    """The numbers of the operations at which to kill; only a write has a middle."""
    return [n for n, op in enumerate(golden.operations, 1) if how != "middle" or op.name == "write"]


def kill_problems(world: World, how: str) -> list[str]:
    """What is wrong after a kill at each operation."""
    assert world.golden is not None
    problems = []
    for number in kill_points(world.golden, how):
        disk = KillingDisk(number, how)
        attempt = world.attempt(disk, world.golden)
        assert isinstance(attempt.error, Killed)
        operation = world.golden.operations[number - 1]
        problems += [f"{how} {number} ({operation}): {problem}" for problem in world.survives(disk.acknowledged)]
    return problems


# A kill after an operation leaves what one before the next leaves: once is enough to see that.
@pytest.mark.parametrize(
    ("how", "world"),
    [("after", "fresh"), *product(["before", "middle", "leaving"], SCENARIOS)],
    indirect=["world"],
)
def test_a_kill_at_any_operation_loses_nothing(how: str, world: World) -> None:
    assert world.golden is not None
    FIGURES["kill points"] += len(kill_points(world.golden, how))
    none_of(kill_problems(world, how))
    attempt = world.attempt(KillingDisk(len(world.golden.operations) + 1, how), world.golden)
    assert attempt.error is None, "every operation was tried"


def write_in_place(path: Path, content: bytes) -> None:
    """What ``write_atomically`` must not be."""
    descriptor = files.disk.open_to_append(path)
    files.disk.truncate(descriptor, 0)
    files.disk.write(descriptor, content)
    files.disk.sync(descriptor)
    files.disk.close(descriptor)
    files.disk.sync_folder(path.parent)


IN_PLACE = {f"charrnn.runs.{module}.write_atomically": write_in_place for module in ("checkpoint", "files", "keeping")}
BROKEN: dict[str, dict[str, Callable[..., None]]] = {
    "lost: ": IN_PLACE,
    "differs: run/metrics.jsonl": {"charrnn.runs.files.Disk.truncate": lambda *_: None},
    "left behind: ": {"charrnn.training.loop.remove_unfinished": lambda _: None},
}


@pytest.mark.parametrize("symptom", BROKEN)
def test_kills_show_what_is_broken(symptom: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    for target, broken in BROKEN[symptom].items():
        monkeypatch.setattr(target, broken, raising=False)  # not every module has the function
    problems = kill_problems(dataclasses.replace(world, golden=_golden(world, {}), seen={}), "middle")
    assert any(symptom in problem for problem in problems)


@dataclass(frozen=True)
class Loaded:
    """What the checkpoints of a crashed run say: how far they are, and how long the logs must be."""

    saves: Saves
    newest: bytes = b""
    lengths: dict[str, int] = field(default_factory=dict)


class Crashes:
    """Every state in which a power loss may leave a recorded run, and what is wrong with it."""

    def __init__(self, golden: Golden) -> None:
        self.trees: dict[frozenset[Any], tuple[Tree, Saves]] = {}  # each once, and what must be found in it
        self.problems: list[str] = []
        self._logs: dict[bytes, dict[str, bytes]] = {}  # what was in the logs when a checkpoint got its name
        self._loaded: dict[frozenset[Any], Loaded] = {}
        self._model = PowerModel(OUT, golden.start)
        for path in (FOLDER.last, FOLDER.best, FOLDER.older(0)):
            self._remember_logs(path)
        saves = dict(golden.acknowledged)
        for number, operation in enumerate(golden.record):
            if operation.name == "acknowledge":
                saves[operation.path.name] = operation.mark
            self._model.apply(operation)
            self._remember_logs(operation.target or operation.path)
            for tree in self._model.after_crash():
                self.trees[frozenset(tree.items())] = tree, dict(saves)
                self.problems += [f"{number} ({operation}): {problem}" for problem in self._problems(tree, saves)]

    def _remember_logs(self, checkpoint: Path) -> None:
        tree = self._model.tree()
        content = tree.get(str(checkpoint.relative_to(OUT))) if checkpoint.parent == FOLDER.checkpoints else None
        if content:
            self._logs.setdefault(content, {path.name: _file(tree, path) for path in (FOLDER.metrics, FOLDER.samples)})

    def _problems(self, tree: Tree, saves: Saves) -> list[str]:
        loaded = self._load(tree)
        problems = lost(saves, loaded.saves)
        for name, length in loaded.lengths.items():
            wanted = self._logs[loaded.newest][name][:length]
            if len(wanted) < length or _file(tree, FOLDER.path / name)[:length] != wanted:
                problems.append(f"log: {name} is not what it was before the checkpoint {loaded.saves['last']}")
        return problems

    def _load(self, tree: Tree) -> Loaded:
        """What the checkpoints in a tree say; equal ones are read once."""
        kept = {name: content for name, content in tree.items() if content and name.endswith(".safetensors")}
        key = frozenset(kept.items())
        if key not in self._loaded:
            FOLDER.checkpoints.mkdir(parents=True)
            for name, content in kept.items():
                (OUT / name).write_bytes(content)
            self._loaded[key] = _load()
            shutil.rmtree(FOLDER.path)
        return self._loaded[key]


def _file(tree: Tree, path: Path) -> bytes:
    return tree.get(str(path.relative_to(OUT))) or b""


def _load() -> Loaded:
    saves = _saves()
    if "last" not in saves:
        return Loaded(saves)
    found = newest_whole(FOLDER)
    score = found.state["score"]
    lengths = {FOLDER.metrics.name: score["metrics_length"], FOLDER.samples.name: score["samples_length"]}
    return Loaded(saves, found.file.read_bytes(), lengths)


@each_scenario
def test_a_power_loss_at_any_moment_loses_nothing(world: World) -> None:
    assert world.golden is not None
    world.reset({})
    crashes = Crashes(world.golden)
    FIGURES["crash states"] += len(crashes.trees)
    none_of(crashes.problems)
    trees = list(crashes.trees.values())
    for tree, saves in trees[:: len(trees) // 40]:
        world.reset(tree)
        # A lost link is no loss: the older checkpoint that was to go is still there instead.
        none_of(world.survives(saves, older=False))


def without(record: list[Operation], name: str, part_of_path: str) -> list[Operation]:
    """A record in which these operations did nothing."""
    return [op for op in record if op.name != name or part_of_path not in op.path.name]


@pytest.mark.parametrize("world", ["resumed"], indirect=True)
@pytest.mark.parametrize(
    ("name", "part_of_path", "symptom"),
    [
        ("sync", TEMPORARY, "lost: "),
        ("sync_folder", "checkpoints", "lost: "),
        ("sync", "metrics", "log: metrics"),
        ("sync", "samples", "log: samples"),
    ],
)
def test_power_losses_show_what_was_not_flushed(name: str, part_of_path: str, symptom: str, world: World) -> None:
    """The test above can fail."""
    assert world.golden is not None
    world.reset({})
    record = without(world.golden.record, name, part_of_path)
    problems = Crashes(dataclasses.replace(world.golden, record=record)).problems
    assert any(symptom in problem for problem in problems)


@pytest.mark.parametrize("world", ["resumed"], indirect=True)
def test_power_losses_show_what_is_written_in_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older checkpoint does not help there: as a link it is damaged with the last one."""
    assert world.golden is not None
    for target, broken in IN_PLACE.items():
        monkeypatch.setattr(target, broken, raising=False)
    record = _golden(world, world.golden.start)
    world.reset({})
    assert any("lost: " in problem for problem in Crashes(record).problems)


def after_errors(world: World, disk: FailingDisk, number: int, errors: int) -> list[str]:
    """What is wrong after a run in which ``errors`` operations failed, the first of them number ``number``."""
    golden = world.golden
    assert golden is not None
    attempt = world.attempt(disk, golden)
    FIGURES["injected errors"] += 1
    refused, until = golden.operations[number - 1], number + errors - 1
    cleaning = refused.name == "unlink" and TEMPORARY in refused.path.name
    problems = [] if cleaning else temporaries()
    if attempt.error is None:
        assert attempt.session is not None
        warned, due = len(attempt.warnings), int(disk.refused > 0)
        if warned != due and not (warned == 0 and (cleaning or refused.name == "close")):
            problems.append(f"{warned} warnings")
        older = [read_checkpoint(path) for path in FOLDER.all_older()]
        if len(older) != world.config.run.keep:
            problems.append(f"{len(older)} older checkpoints")
        return problems + world.compare(attempt.session, older=False)
    if isinstance(attempt.error, UsageError):
        problems += [] if number <= golden.begun else ["the run began, and is called bad usage"]
    elif not isinstance(attempt.error, CharRNNError):
        problems.append(f"ended with {attempt.error!r}")
    elif number > golden.opened and until < golden.last_save:
        problems.append(f"did not try again: {attempt.error}")
    return problems + world.survives(disk.acknowledged, older=False)


@pytest.mark.parametrize(
    ("world", "error"),
    [*product(["fresh"], [errno.ENOSPC, errno.EIO, errno.EROFS]), ("resumed", errno.EIO), ("rollback", errno.EROFS)],
    indirect=["world"],
)
def test_an_error_is_survived(error: int, world: World) -> None:
    """The run says so once, goes on and ends as if nothing had been; or says at once that it cannot."""
    assert world.golden is not None
    problems = []
    for number, operation in enumerate(world.golden.operations, 1):
        found = after_errors(world, FailingDisk(number, error, 1), number, 1)
        problems += [f"{number} ({operation}): {problem}" for problem in found]
    none_of(problems)


@each_scenario
@pytest.mark.parametrize("times", [1, 2])
def test_half_a_write_and_then_errors_are_survived(times: int, world: World) -> None:
    """A disk fills up in the middle of a file; it may also refuse the clean-up (two errors)."""
    assert world.golden is not None
    problems = []
    for number, operation in enumerate(world.golden.operations, 1):
        if operation.name == "write":
            disk = FailingDisk(number, errno.ENOSPC, times, halved=True)
            found = after_errors(world, disk, number, times + 1)
            problems += [f"{number} ({operation}): {problem}" for problem in found]
    none_of(problems)


@each_scenario
def test_short_writes_are_harmless(world: World) -> None:
    golden, problems = world.golden, []
    assert golden is not None
    numbers = [n for n, operation in enumerate(golden.operations, 1) if operation.name == "write"]
    for number in [None, *numbers]:
        attempt = world.attempt(ShortDisk(number), golden)
        FIGURES["injected errors"] += 1
        assert attempt.error is None
        assert attempt.session is not None
        found = [*attempt.warnings, *world.compare(attempt.session), *temporaries()]
        problems += [f"{number}: {problem}" for problem in found]
    none_of(problems)


@pytest.mark.parametrize(
    ("world", "error"),
    [*product(["fresh"], [errno.ENOSPC, errno.EIO, errno.EROFS]), ("resumed", errno.ENOSPC), ("rollback", errno.EIO)],
    indirect=["world"],
)
def test_a_disk_that_stays_broken_costs_nothing_saved(error: int, world: World) -> None:
    """The run ends with one error, and what it had saved is still there."""
    golden, problems = world.golden, []
    assert golden is not None
    only = {errno.ENOSPC: GROWING, errno.EIO: OPERATIONS, errno.EROFS: set(OPERATIONS) - {"close", "sync"}}[error]
    last_saved = max(n for n, op in enumerate(golden.operations, 1) if op.target == FOLDER.last)
    for number, operation in enumerate(golden.operations, 1):
        if operation.name not in only or (number > last_saved and operation.name == "close"):
            continue
        disk = FailingDisk(number, error, None, only)
        attempt = world.attempt(disk, golden)
        FIGURES["injected errors"] += 1
        found = temporaries() if "unlink" not in only else []
        expected = UsageError if number <= golden.begun else CharRNNError
        usage = isinstance(attempt.error, UsageError)
        if not isinstance(attempt.error, expected) or (usage and number > golden.opened):
            found.append(f"ended with {attempt.error!r}")
        warned = len(attempt.warnings)
        if warned > 1 or (warned == 0 and number > golden.opened):
            found.append(f"{warned} warnings")
        found += world.survives(disk.acknowledged, older=False)
        problems += [f"{number} ({operation}): {problem}" for problem in found]
    none_of(problems)


TINY_YAML = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 2, seq_len: 5, max_steps: 12}
run: {log_every: 3, eval_every: 6, save_every: 4, sample_length: 5}
"""


def limited(size: int, *words: str) -> subprocess.Popen[str]:
    """``charrnn`` in a process whose files cannot become larger than ``size``, as on a disk that fills up."""
    return subprocess.Popen(
        [PROGRAM, *words],
        stderr=subprocess.PIPE,
        text=True,
        # Python ignores SIGXFSZ already, so that the write fails instead of the process.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),  # noqa: PLW1509 - no threads yet
    )


def test_a_disk_that_is_really_full(in_own_folder: Path) -> None:
    """The kernel's own errors: one message, exit code 1, and the checkpoint of before goes on."""
    (in_own_folder / "cat.txt").write_text("the cat sat on the mat; the dog saw the cat.\n" * 26)
    (in_own_folder / "tiny.yaml").write_text(TINY_YAML)
    assert run("train", "--config", "tiny.yaml", "--name", "run").code == 0
    saved, logs = FOLDER.last.read_bytes(), FOLDER.metrics.read_bytes()
    size = len(saved) // 2
    assert max(path.stat().st_size for path in (FOLDER.metrics, FOLDER.config, FOLDER.environment)) < size
    resumed = limited(size, "train", "--resume", "runs/run", "--set", "training.max_steps=24")
    new = limited(size, "train", "--config", "tiny.yaml", "--name", "new")
    for process in (resumed, new):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.count("error:") == errors.count("warning:") == 1, errors
        assert errors.count("cannot save: File too large") == 2
        assert "Traceback" not in errors
    assert temporaries() == []
    assert FOLDER.last.read_bytes() == saved
    assert FOLDER.metrics.read_bytes().startswith(logs)
    assert newest_whole(FOLDER).damaged == []
    with pytest.raises(CheckpointError):
        newest_whole(RunFolder(OUT / "new"))
    again = run("train", "--resume", "runs/run", "--set", "training.max_steps=24")
    assert again.code == 0
    assert newest_whole(FOLDER).state["trainer"]["steps"] == 24
    FIGURES["full disks"] += 2


def test_figures(capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]) -> None:
    """What all of the above tried, for the README; after a part of the tests, of that part."""
    figures = {
        name: FIGURES[name] for name in ("kill points", "crash states", "injected errors", "full disks", "losses")
    }
    for name, count in figures.items():
        record_property(name, count)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {count:,}" for name, count in figures.items()), end=" ")
