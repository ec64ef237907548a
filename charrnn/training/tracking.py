"""What the loop tells, also as TensorBoard event files in the run folder (``run.tracker``).

A reporter around another one, as ``pace.py`` has it: the loop knows nothing of it. ``metrics.jsonl`` stays the only
source: a session begins with the rows that it holds already, and so does a rollback.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from charrnn.config.loader import dump_config
from charrnn.config.settings import flat
from charrnn.errors import CharRNNError
from charrnn.runs.event_file import PREFIX, EventFile
from charrnn.runs.metrics import Row
from charrnn.training.loop import Reporter
from charrnn.training.session import Session


def tracked(reporter: Reporter, session: Session) -> AbstractContextManager[Reporter]:
    """The reporter, with what the run's tracker wants around it."""
    if session.config.run.tracker == "none":
        return nullcontext(reporter)
    return TrackedReporter(reporter, session)


class TrackedReporter:
    """Passes on what the loop tells, and writes it down for TensorBoard. A context manager.

    Whatever goes wrong with that is a warning, once, and training goes on.
    """

    def __init__(self, reporter: Reporter, session: Session) -> None:
        assert session.folder is not None
        self._reporter, self._session = reporter, session
        self._folder = session.folder.tensorboard
        self._file: EventFile | None = None
        self._troubled = False

    def __enter__(self) -> TrackedReporter:
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def logged(self, row: Row, progress: float) -> None:
        """A line of metrics was written."""
        self._reporter.logged(row, progress)
        self._add(row)

    def evaluated(self, row: Row) -> None:
        """An evaluation was made."""
        self._reporter.evaluated(row)
        self._add(row)

    def warned(self, text: str) -> None:
        """Something went wrong; after a rollback the events of the steps that are gone are taken back."""
        self._reporter.warned(text)
        if self._session.score.rollbacks > self._rollbacks:
            self._begin()

    def _begin(self) -> None:
        """A new file, from the step on where the session stands; with the whole log where there is no file yet."""
        self._close()
        self._rollbacks = self._session.score.rollbacks
        self._attempt(self._open)

    def _open(self) -> None:
        session = self._session
        step = session.trainer.steps if any(self._folder.glob(f"{PREFIX}*")) else 0
        self._file = EventFile(self._folder, step)
        settings = flat(session.config.model_dump(mode="json"))
        self._file.add_config(dump_config(session.config), settings, self._folder.parent.name, step)
        for row in session.rows:
            if row["step"] >= step:
                self._file.add_row(row)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, row: Row) -> None:
        file = self._file
        if file is not None:
            self._attempt(lambda: file.add_row(row))

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
            self._troubled = False
        except (OSError, CharRNNError) as error:
            if not self._troubled:
                cause = getattr(error, "strerror", None) or error
                self._reporter.warned(f"{self._folder}: cannot write for TensorBoard: {cause}; training goes on")
            self._troubled = True
