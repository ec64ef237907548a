"""A short but ordinary training of a config, for the doctor to look at: the same loop, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from charrnn.config.schema import Config
from charrnn.errors import DivergedError
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import Row
from charrnn.studies.trials import trial_config
from charrnn.text.places import Places
from charrnn.training.loop import Loop
from charrnn.training.session import new_session, start_run

SECONDS = 12.0
STEPS = 600  # at the most
LOG_EVERY = 10


class _Watcher:
    """A reporter that passes the progress on, and nothing else."""

    def __init__(self, advanced: Callable[[float], None]) -> None:
        self._advanced = advanced

    def logged(self, row: Row, progress: float) -> None:
        self._advanced(progress)

    def evaluated(self, row: Row) -> None:
        """Nobody reads it."""

    def warned(self, text: str) -> None:
        """The folder is thrown away: nothing can be lost in it."""


def brief_run(config: Config, out: Path, places: Places, advanced: Callable[[float], None]) -> RunFolder:
    """Train for a quarter of a minute, or less if the config itself says so. One that diverges ends there.

    Raises:
        DataError, UsageError: the text or the device cannot be used.
    """
    limits = config.training
    training = trial_config(limits, limits.lr, STEPS).model_copy(
        update={
            "max_steps": min(limits.max_steps or STEPS, STEPS),
            "max_time": min(limits.max_time or SECONDS, SECONDS),
            "on_divergence": "stop",
        }
    )
    run = config.run.model_copy(
        update={"out": str(out), "log_every": LOG_EVERY, "eval_every": STEPS, "save_every": STEPS, "sample_length": 0}
    )
    session = new_session(config.model_copy(update={"training": training, "run": run}), places)
    folder = start_run(session, "brief")
    with suppress(DivergedError):  # its last line of metrics says so
        Loop(session, _Watcher(advanced), lambda: False).run()
    return folder
