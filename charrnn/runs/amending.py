"""A run's ``config.yaml`` after its beginning: its note, and the settings with which it went on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from charrnn.config.loader import dump_config, load_config, revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import NamedOverride
from charrnn.errors import CharRNNError, ConfigError
from charrnn.runs.directory import RunFolder
from charrnn.runs.files import write_atomically


def with_kept_note(config: Config, folder: RunFolder) -> Config:
    """A checkpoint's ``config`` with the note that the run has by now: the file's counts, also beside an older
    checkpoint. Unchanged where the file cannot be read."""
    try:
        note = load_config(folder.config).run.note
    except ConfigError:
        return config
    return _with_note(config, note)


def amend(folder: RunFolder, assignments: Iterable[str] = (), options: Iterable[NamedOverride] = ()) -> None:
    """Change settings in a run's ``config.yaml``, all or nothing; the others stay. The run's lock is held.

    Raises:
        ConfigError: a setting is out of range, or the file is no config of this version.
        CharRNNError: it cannot be written.
    """
    before = load_config(folder.config)
    _replace(folder, before, revise_config(before, assignments, options))


def amend_resumed(
    folder: RunFolder, goes_on: bool, assignments: Iterable[str] = (), options: Iterable[NamedOverride] = ()
) -> None:
    """The same for a run that was resumed. Where it does not go on, having finished, its note alone is changed. A file
    that is no config stays as it is: the checkpoints say it all the same."""
    with suppress(ConfigError):
        before = load_config(folder.config)
        after = revise_config(before, assignments, options)
        _replace(folder, before, after if goes_on else _with_note(before, after.run.note))


def _with_note(config: Config, note: str | None) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update={"note": note})})


def _replace(folder: RunFolder, before: Config, after: Config) -> None:
    if after == before:
        return
    try:
        write_atomically(folder.config, dump_config(after).encode())
    except OSError as error:
        raise CharRNNError(f"{folder.config}: cannot be changed: {error.strerror}; it is as it was") from error
