"""The error tree: what can go wrong for a user, and the exit code of each.

    CharRNNError            1  failed
    |-- UsageError          2  bad usage
    |   |-- ConfigError     2  a config that cannot be used; lists every problem found
    |   |-- DataError       2  a text that cannot be used
    |   |   `-- CorpusUnavailable  2  a named corpus that could not be downloaded
    |   `-- CheckpointError 2  a checkpoint or run folder that cannot be used
    |-- ClusterLost         1  what trains bees on other machines is gone
    |-- DivergedError       3  the loss or the gradient stopped being finite
    `-- Interrupted         128 and the number of one of INTERRUPTIONS, after saving

A message names the file, the cause and the next thing to try. ``assert`` is for our own bugs.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

# What asks the program to stop: Ctrl-C; a polite kill; a terminal that is closed, or a connection that is lost.
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CharRNNError(Exception):
    """Base of every error that charrnn raises on purpose."""

    exit_code = 1


class UsageError(CharRNNError):
    """The request cannot be carried out as it was written."""

    exit_code = 2


class ConfigError(UsageError):
    """A config with one or more problems, each already located (``file:line:column: cause``)."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(UsageError):
    """A text that cannot be trained on or evaluated."""


class CorpusUnavailable(DataError):
    """A named corpus that is neither on this machine nor to be downloaded."""


class CheckpointError(UsageError):
    """A checkpoint or run folder that is missing, damaged or of another kind."""


class DivergedError(CharRNNError):
    """Training stopped because the loss or the gradient norm is not finite."""

    exit_code = 3


class ClusterLost(CharRNNError):
    """The scheduler of a cluster is gone, or no longer knows us; what has landed is kept."""


class Interrupted(CharRNNError):
    """A signal asked the program to stop; whatever could be saved has been saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
