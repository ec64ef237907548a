"""The note of a run, ``run.note``: what its ``config.yaml`` says counts, also beside an older checkpoint."""

from __future__ import annotations

from charrnn.config.loader import dump_config, load_config, revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import NamedOverride
from charrnn.errors import CharRNNError, ConfigError
from charrnn.runs.directory import RunFolder
from charrnn.runs.files import write_atomically


def with_kept_note(config: Config, folder: RunFolder) -> Config:
    """A checkpoint's ``config`` with the note that the run has by now; unchanged where its file cannot be read."""
    try:
        note = load_config(folder.config).run.note
    except ConfigError:
        return config
    return config.model_copy(update={"run": config.run.model_copy(update={"note": note})})


def keep_note(folder: RunFolder, note: str | None) -> None:
    """Change the note in a run's ``config.yaml``, all or nothing; None or "" takes it away. The run's lock is held.

    Raises:
        ConfigError: the note is too long, or the file is no config of this version.
        CharRNNError: it cannot be written.
    """
    before = load_config(folder.config)
    after = revise_config(before, (), [NamedOverride(("run", "note"), note or None, "the note")])
    if after.run.note == before.run.note:
        return
    try:
        write_atomically(folder.config, dump_config(after).encode())
    except OSError as error:
        raise CharRNNError(f"{folder.config}: cannot write the note: {error.strerror}; it is as it was") from error
