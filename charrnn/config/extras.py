"""Packages that charrnn can do without: what asks for one, and is it there?"""

from __future__ import annotations

from importlib.util import find_spec

from charrnn.config.schema import Config
from charrnn.errors import UsageError


def require(module: str, asked_for: str, extra: str) -> None:
    """Find out before the work whether a package of an optional extra is there; imports nothing.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec(module) is None:
        raise UsageError(f"{asked_for} needs {module}, which is not installed; try: pip install 'charrnn[{extra}]'")


def require_tracker(config: Config) -> None:
    """The same for the package that ``run.tracker`` asks for."""
    if config.run.tracker == "tensorboard":
        require("tensorboard", "run.tracker: tensorboard", "tensorboard")
