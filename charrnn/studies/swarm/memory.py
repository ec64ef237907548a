"""What a search keeps in Optuna's storage, and what Optuna proposes from it. The only module that knows Optuna.

The storage is the memory of a search: a hive's folder can be started again, and several hives (on several machines) can
share one. A trial is one proposed combination. Those that were given up on the way (interrupted, or beyond the number
wanted because two machines asked at once) are told as failed without a reason, and do not count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.errors import CharRNNError, UsageError
from charrnn.studies.swarm.plan import labels_of
from charrnn.studies.swarm.space import Group, Range

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

DIGITS = 4  # of a searched number, as in a grid's range: what a folder's name shows is then all there is
PATIENCE_SECONDS = 3  # with a database that cannot be used yet
# As sqlalchemy reads it, where a user's name may have an @ and a password anything else; and one with an @ in it.
PASSWORD = re.compile(r"(?<=://)([^:/]*):[^@]*@(?:[^/?#]*@)?")
JOURNAL_START = b'{"op_code":'  # of every journal of Optuna's


@dataclass(frozen=True)
class Proposal:
    """A combination to try: the settings of each group, as a point of a grid has them."""

    trial: Trial
    point: list[dict[str, Any]]


def require_optuna() -> None:
    """Raises UsageError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError("--search needs Optuna; try: pip install 'charrnn[search]'") from error


class Memory:
    """The trials of one search.

    Args:
        storage: a file (Optuna's journal, which several machines can write) or the URL of a database.
        search: names the search in the storage; equal for those who share it.
        owner: names this hive: trials that it left unfinished before are given up.
        prune: whether ``hopeless`` may ever be true (Optuna's MedianPruner).

    Raises:
        UsageError: the storage cannot be used.
    """

    def __init__(self, storage: str, search: str, seed: int, owner: str, prune: bool) -> None:
        import optuna

        optuna.logging.disable_default_handler()
        self._seed = seed
        self._owner = owner
        self._storage = storage
        pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()
        with self._explaining():
            self._study: Study = optuna.create_study(
                storage=open_storage(storage), study_name=search, pruner=pruner, load_if_exists=True
            )
            self._give_up_what_was_left()

    def _give_up_what_was_left(self) -> None:
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and trial.user_attrs.get("hive") == self._owner:
                self._fail(trial.number)

    def _fail(self, number: int) -> None:
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL)

    def _counted(self) -> list[FrozenTrial]:
        """All trials but those given up, in order."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if _counts(trial)]

    @property
    def count(self) -> int:
        """Combinations that were tried or are being tried, here or elsewhere."""
        with self._explaining():
            return len(self._counted())

    def ask(self, groups: list[Group], limit: int) -> Proposal | None:
        """The next combination; None if there are ``limit`` already.

        What is proposed depends on the seed and on the trials before it alone: a search with one process that was
        interrupted goes on as if it had not been.
        """
        from optuna.samplers import TPESampler

        with self._explaining():
            if len(self._counted()) >= limit:
                return None
            trial = self._study.ask()
            trial.set_user_attr("hive", self._owner)
            rank = [one.number for one in self._counted()].index(trial.number)
            if rank >= limit:  # another machine was faster
                self._fail(trial.number)
                return None
            self._study.sampler = TPESampler(seed=int(np.random.SeedSequence([self._seed, rank]).generate_state(1)[0]))
            point = [_suggest(trial, group) for group in groups]
            trial.set_user_attr("labels", labels_of(point))
            trial.set_user_attr("settings", {name: value for part in point for name, value in part.items()})
            return Proposal(trial, point)

    def refuse(self, proposal: Proposal, reason: str) -> None:
        """The combination cannot be trained."""
        with self._explaining():
            proposal.trial.set_user_attr("reason", reason)
            self._fail(proposal.trial.number)

    def give_up(self, proposal: Proposal) -> None:
        """The combination was not tried to its end."""
        with self._explaining():
            self._fail(proposal.trial.number)

    def hopeless(self, proposal: Proposal, bees: int, median: float) -> bool:
        """Whether to stop after so many bees, whose median is so (nats per character)."""
        with self._explaining():
            proposal.trial.report(median, bees)
            return proposal.trial.should_prune()

    def finish(self, proposal: Proposal, median: float | None, **known: Any) -> None:
        """The combination was tried; ``median`` None: it was pruned, and counts with what was last reported."""
        from optuna.trial import TrialState

        with self._explaining():
            for name, value in known.items():
                proposal.trial.set_user_attr(name, value)
            state = TrialState.PRUNED if median is None else TrialState.COMPLETE
            self._study.tell(proposal.trial.number, median, state=state)

    def rows(self) -> list[dict[str, Any]]:
        """Every trial that counts: number, state (complete, pruned, failed, running), median, what else is known.

        One that another machine is just asking for has no settings yet, and may be given up for being too many.
        """
        names = {"FAIL": "failed"}
        with self._explaining():
            return [
                {
                    "number": number,
                    "state": names.get(trial.state.name, trial.state.name.lower()),
                    "median": trial.value,
                    **{name: trial.user_attrs.get(name) for name in ("labels", "settings", "swarm", "diverged")},
                    "bees": trial.user_attrs.get("bees", 0),
                    "reason": trial.user_attrs.get("reason"),
                }
                for number, trial in enumerate(self._counted())
                if "settings" in trial.user_attrs
            ]

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        from optuna.exceptions import OptunaError

        try:
            yield
        except (OSError, OptunaError) as error:
            raise CharRNNError(
                f"--storage {without_password(self._storage)}: {error}; what has landed is kept; start again to go on"
            ) from error


def without_password(storage: str) -> str:
    """What may be shown and written down of a database's URL."""
    return PASSWORD.sub(r"\1@", storage)


def open_storage(storage: str) -> BaseStorage:
    """A journal file or a database, made if it is not there.

    Raises:
        UsageError: it cannot be used.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        if "://" in storage:
            return _connect(storage)
        _mend(Path(storage))
        return JournalStorage(JournalFileBackend(storage))
    except Exception as error:  # files, JSON, sqlalchemy, drivers of databases: each has errors of its own
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"--storage {without_password(storage)}: cannot be used: {cause}; give a file for a journal, or the URL "
            "of a database such as sqlite:///search.db"
        ) from error


def _connect(url: str) -> BaseStorage:
    """A database. Another machine may be making the tables of a new one at this moment: then once more."""
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DatabaseError

    for _ in range(PATIENCE_SECONDS):
        with suppress(DatabaseError, StorageInternalError):
            return RDBStorage(url)
        time.sleep(1.0)
    return RDBStorage(url)


def _mend(journal: Path) -> None:
    """Refuse a file that is no journal; cut off half a line at its end.

    A full disk leaves one, and it would make the next line unreadable. Who holds the lock writes whole
    lines, so half a line that is seen while holding it is nobody's work in progress.
    """
    from optuna.storages.journal import JournalFileSymlinkLock

    journal.touch()
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.startswith(JOURNAL_START[: len(content)]):
            raise ValueError("it holds something else")
        if not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rindex(b"\n") + 1 if b"\n" in content else 0)
    finally:
        lock.release()


def _counts(trial: FrozenTrial) -> bool:
    return trial.state.name != "FAIL" or "reason" in trial.user_attrs


def _suggest(trial: Trial, group: Group) -> dict[str, Any]:
    """What Optuna chooses for a group: a number of a range, or one of its points by its index."""
    title = " ".join(group)
    for name, values in group.items():
        if isinstance(values, Range) and values.whole:
            return {name: trial.suggest_int(title, int(values.low), int(values.high), log=values.log)}
        if isinstance(values, Range):
            chosen = trial.suggest_float(title, values.low, values.high, log=values.log)
            return {name: min(max(float(f"{chosen:.{DIGITS}g}"), values.low), values.high)}
    choices = {name: list(values) for name, values in group.items() if not isinstance(values, Range)}
    index = trial.suggest_categorical(title, range(len(next(iter(choices.values())))))
    return {name: values[index] for name, values in choices.items()}
