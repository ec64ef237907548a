"""A bee: an ordinary run, made in a folder that goes away; what lands is the content of its files.

This is what runs in other processes and on other machines, so it shares no disk with whoever sent it. Several bees
that were sent together train as one batched computation, in lockstep; each has a loop and a folder of its own all the
same.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from charrnn.config.loader import dump_config
from charrnn.config.schema import Config
from charrnn.config.wording import symbol
from charrnn.errors import CharRNNError, DivergedError
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import Row, without_nan
from charrnn.studies.compared import RESULT
from charrnn.studies.swarm.plan import bee_name
from charrnn.studies.swarm.texts import Parcel, open_parcel
from charrnn.training.loop import Loop, Outcome, Steps
from charrnn.training.process import prepare_process
from charrnn.training.score import Score
from charrnn.training.session import Session, session_on, start_run
from charrnn.training.stacked import StackedBee, StackedTrainer
from charrnn.training.trainer import Trainer

# Weights and dropout draw from torch's one generator of the process: a Dask worker with several threads must not mix
# the draws of two bees.
ONE_AT_A_TIME = threading.Lock()
LOSSES = ("train_loss", "val_loss", "val_loss_cold", "best_val_loss")  # nats per character, in a result
REPORT = ("status", "message", "steps", "seconds", *LOSSES)  # what a result holds
WORSE_THAN_GUESSING = 1.1  # times the loss of a uniform guess: a bee that ends above it has diverged, finite or not


@dataclass(frozen=True)
class Task:
    """One bee to train. ``place`` is its folder in the hive: swarm and bee."""

    swarm: str
    config: Config

    @property
    def seed(self) -> int:
        """The bee's number."""
        return self.config.training.seed

    @property
    def place(self) -> str:
        """Its folder, below that of the hive."""
        return f"{self.swarm}/{bee_name(self.seed)}"


@dataclass(frozen=True)
class Landed:
    """A bee that has come to its end, well or badly: its files by name, ``result.json`` among them."""

    task: Task
    files: dict[str, bytes]

    @property
    def result(self) -> dict[str, Any]:
        """status (ended, diverged, failed), message, steps, seconds, losses."""
        found: dict[str, Any] = json.loads(self.files[RESULT])
        return found


def fallen(task: Task, message: str) -> Landed:
    """A bee of which nothing came back."""
    result = {"status": "failed", "message": message, "steps": 0, "seconds": 0.0, **dict.fromkeys(LOSSES)}
    files = {RunFolder(Path()).config.name: dump_config(task.config).encode(), RESULT: _as_json(result)}
    return Landed(task, files)


def _as_json(result: dict[str, Any]) -> bytes:
    return json.dumps(without_nan(result), indent=2).encode() + b"\n"


@dataclass
class Surroundings:
    """What the process around a bee gives it: whether to stop, and whom to tell how far it is (shares of a bee)."""

    should_stop: Callable[[], object] = lambda: False
    advanced: Callable[[float], None] = lambda share: None


HERE = Surroundings()


def train_bees(parcel: Parcel, tasks: tuple[Task, ...], keep_checkpoints: bool) -> list[Landed]:
    """Train bees to their ends: one alone, several stacked. Those that were stopped are missing from the answer."""
    with ONE_AT_A_TIME, TemporaryDirectory(prefix="charrnn-bees-") as scratch:
        flights = [_Flight(task, Path(scratch) / str(index)) for index, task in enumerate(tasks)]
        if len(flights) == 1:
            flights[0].alone(parcel)
        else:
            _fly_stacked(flights, parcel)
        landed = [flight.landed(parcel, keep_checkpoints) for flight in flights]
    return [one for one in landed if one is not None]


@dataclass
class _Flight:
    """A bee on its way: its session and loop once they are there, and how it ended. Also the loop's reporter."""

    task: Task
    scratch: Path
    session: Session | None = None
    folder: RunFolder | None = None
    outcome: Outcome | None = None
    error: Exception | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    progress: float = 0.0
    steps: int = 0  # at its end: those of a stack go on where others are not there yet

    def begin(self, session: Session) -> Loop:
        """The loop of a session, in a folder of its own."""
        self.session = session
        self.folder = start_run(session, bee_name(self.task.seed), self.scratch)
        return Loop(session, self, HERE.should_stop)

    def alone(self, parcel: Parcel) -> None:
        """From start to end with a trainer of its own."""
        try:
            session = session_on(self.task.config, open_parcel(parcel), parcel.entropies)
            self._end(self.begin(session).run())
        except (CharRNNError, RuntimeError, MemoryError) as error:
            self._end(None, error)

    def ask(self, go_on: Callable[[], tuple[float, bool]]) -> float | None:
        """The rate of the step that its loop wants next; None if it has come to its end."""
        try:
            return go_on()[0]
        except StopIteration as end:
            self._end(end.value)
        except CharRNNError as error:
            self._end(None, error)
        return None

    def _end(self, outcome: Outcome | None, error: Exception | None = None) -> None:
        self.outcome, self.error = outcome, error
        self.steps = self.session.trainer.steps if self.session else 0
        self._advance(1.0)

    def logged(self, row: Row, progress: float) -> None:
        """A line of metrics."""
        self.rows["log"] = row
        self._advance(progress)

    def evaluated(self, row: Row) -> None:
        """An evaluation."""
        self.rows["evaluation"] = row

    def warned(self, text: str) -> None:
        """A rollback, or a disk that refuses: the metrics tell of the one, the end of training of the other."""

    def _advance(self, progress: float) -> None:
        HERE.advanced(progress - self.progress)
        self.progress = progress

    def landed(self, parcel: Parcel, keep_checkpoints: bool) -> Landed | None:
        """What is to be kept; None if it was stopped."""
        if self.outcome is Outcome.INTERRUPTED:
            return None
        files = {RESULT: _as_json(self._result(parcel))}
        if self.folder is not None:
            for path in self._kept(self.folder, keep_checkpoints):
                files[str(path.relative_to(self.folder.path))] = path.read_bytes()
        return Landed(self.task, files)

    def _kept(self, folder: RunFolder, keep_checkpoints: bool) -> list[Path]:
        kept = [folder.config, folder.metrics, folder.samples, folder.environment]
        if keep_checkpoints and self.session is not None:
            best_is_last = self.session.score.best_step == self.steps
            kept += [folder.last] if best_is_last else [folder.last, folder.best]
        return [path for path in kept if path.exists()]

    def _result(self, parcel: Parcel) -> dict[str, Any]:
        log, evaluation = self.rows.get("log", {}), self.rows.get("evaluation", {})
        status, message = "ended", None
        guess = math.log(len(parcel.text.vocabulary))
        if self.error is not None:
            status = "diverged" if isinstance(self.error, DivergedError) else "failed"
            message = str(self.error).replace(f"{self.folder.path}: " if self.folder else "", "") or repr(self.error)
        elif not -math.inf < evaluation["val_loss"] <= WORSE_THAN_GUESSING * guess:  # or no number at all
            unit = symbol([parcel.text.vocabulary.kind])
            status, message = "diverged", f"ended above a uniform guess ({guess:.3f} nats per {unit})"
        score = self.session.score if self.session else Score()
        final = evaluation if status == "ended" else {}
        losses = (log.get("train_loss"), final.get("val_loss"), final.get("val_loss_cold"), score.best_val_loss)
        return {
            "status": status,
            "message": message,
            "steps": self.steps,
            "seconds": round(score.seconds, 3),
            **dict(zip(LOSSES, losses, strict=True)),
        }


def _fly_stacked(flights: list[_Flight], parcel: Parcel) -> None:
    """All of them in lockstep: each loop asks for a step, one batched step answers them all."""
    text = open_parcel(parcel)
    configs = [flight.task.config for flight in flights]
    prepare_process(configs[0].training.threads)
    pairs = [(config.model, config.training) for config in configs]
    stack = StackedTrainer(text.train_ids, len(text.vocabulary), pairs)
    with ExitStack() as ending:
        loops: list[Steps] = []
        for index, flight in enumerate(flights):
            trainer = cast(Trainer, StackedBee(stack, index))
            loops.append(flight.begin(session_on(configs[index], text, parcel.entropies, trainer)).steps())
            ending.callback(loops[-1].close)
        rates = [flight.ask(partial(next, loop)) for flight, loop in zip(flights, loops, strict=True)]
        while any(rate is not None for rate in rates):
            stats = stack.step([rate or 0.0 for rate in rates])
            for index, flight in enumerate(flights):
                if rates[index] is not None:
                    rates[index] = flight.ask(partial(loops[index].send, stats.of(index)))
