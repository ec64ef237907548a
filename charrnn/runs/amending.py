"""A run's ``config.yaml`` after its beginning: its note, and the settings with which it went on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from charrnn.config.loader import dump_config, load_config, revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import NamedOverride
from charrnn.errors import CharRNNError, CheckpointError, ConfigError, UsageError
from charrnn.runs.directory import RunFolder, environment_json
from charrnn.runs.files import write_atomically
from charrnn.runs.run import SINCE, read_json

STAYS = "are for a new run; one that goes on stays in its folder: leave them out"


def with_kept_note(config: Config, folder: RunFolder) -> Config:
    """A checkpoint's ``config`` with the note that the run has by now: the file's counts, also beside an older
    checkpoint. Unchanged where the file cannot be read."""
    try:
        note = load_config(folder.config).run.note
    except ConfigError:
        return config
    return _with_note(config, note)


def refuse_moving(kept: Config, asked: Config) -> None:
    """Raises UsageError where a run that goes on would be put elsewhere."""
    if (kept.run.name, kept.run.out) != (asked.run.name, asked.run.out):
        raise UsageError(f"run.name and run.out {STAYS}")


def amend(folder: RunFolder, options: Iterable[NamedOverride]) -> None:
    """Change settings in a run's ``config.yaml``, all or nothing; the others stay. The run's lock is held.

    Raises:
        ConfigError: a setting is out of range, or the file is no config of this version.
        CharRNNError: it cannot be written.
    """
    before = load_config(folder.config)
    _replace(folder, before, revise_config(before, options=options))


def amend_resumed(folder: RunFolder, config: Config, goes_on: bool) -> None:
    """Let ``config.yaml`` say with which ``config`` a run goes on; of one that has finished its note alone changes.

    A file that is no config stays as it is: the checkpoints say it all the same. Raises CharRNNError as above.
    """
    with suppress(ConfigError):
        before = load_config(folder.config)
        _replace(folder, before, config if goes_on else _with_note(before, config.run.note))


def amend_text(folder: RunFolder, text: dict[str, Any], step: int) -> None:
    """Let ``environment.json`` say which ``text`` (see ``EncodedText.describe``) a run goes on with, and if that is
    another one, since which step: losses up to there do not compare.

    Raises:
        CharRNNError: it cannot be written.
    """
    with suppress(CheckpointError, FileNotFoundError):
        environment = read_json(folder.environment)
        known = environment.get("corpus")
        if not isinstance(known, dict) or known.get("sha256") == text["sha256"]:
            return
        _write(folder.environment, environment_json({**environment, "corpus": {**text, SINCE: step}}))


def _with_note(config: Config, note: str | None) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update={"note": note})})


def _replace(folder: RunFolder, before: Config, after: Config) -> None:
    if after == before:
        return
    _write(folder.config, dump_config(after).encode())


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CharRNNError(f"{path}: cannot be changed: {error.strerror}; it is as it was") from error
