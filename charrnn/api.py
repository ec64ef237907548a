"""charrnn in a notebook or a script: train, go on, load, sample, score. The command line does the same.

    >>> import charrnn
    >>> run = charrnn.train("counting", settings={"training.max_steps": 200, "run.eval_every": 100}, progress=False)
    >>> print(run.path, run.state)
    runs/counting done
    >>> [row["step"] for row in run.metrics if "val_loss" in row]
    [100, 200]
    >>> model = charrnn.load(run)
    >>> model.sample("1 2 3 ", length=12, temperature=0)
    '1 2 3 1 2 3 '

The same run, with more time:

    >>> run = charrnn.resume(run, settings={"training.max_steps": 300}, progress=False)
    >>> run.best["step"], run.best["val_loss"] < 0.01
    (300, True)

Errors are ``charrnn.CharRNNError`` with a message that says what to do; warnings are Python's own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from charrnn.config.extras import require_tracker
from charrnn.config.library import find_config, is_of_run, name_from, name_of_config, stem_of_config
from charrnn.config.loader import load_config, revise_config
from charrnn.config.schema import Config
from charrnn.config.settings import LARGEST_NUMBER, NamedOverride, flat
from charrnn.config.wording import symbol
from charrnn.errors import DataError, UsageError
from charrnn.runs.amending import amend_resumed, amend_text, refuse_moving, with_kept_note
from charrnn.runs.directory import folder_of, refuse_unwritable
from charrnn.runs.keeping import find_state
from charrnn.runs.lock import FolderLock
from charrnn.runs.run import Run, read_run
from charrnn.runs.saved import SavedModel, load_model
from charrnn.sampling.sampler import generate
from charrnn.text.places import Places
from charrnn.text.vocabulary import OnUnknown
from charrnn.training.courtesy import courtesy
from charrnn.training.evaluation import evaluate
from charrnn.training.loop import Loop
from charrnn.training.notebook import NotebookReporter, StopButton
from charrnn.training.pace import paced
from charrnn.training.precision import choose_device, choose_precision
from charrnn.training.process import lent_process
from charrnn.training.session import Session, config_in, new_session, resume_session, start_run
from charrnn.training.tracking import tracked


def train(
    config: Config | str | Path | Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Run:
    """Train a network to the end that its config sets, and keep it in a run folder.

    Args:
        config: a ``Config``; the path of a config file, or the name of a shipped one; or settings, by section or by
            dotted name: ``{"corpus": {"source": "play"}, "training.max_time": "60s"}``.
        settings: these override it, by section or dotted name: ``{"training.lr": 2e-3}``.
        data: a text file or folder (``corpus.source``).
        out: the folder of run folders (``run.out``), ``runs`` unless the config says another.
        name: of the run folder (``run.name``); by default that of the config's file, or of the text. Where it exists
            a number is put behind it.
        progress: show a bar, and a line after each evaluation.

    Returns:
        the run as its folder tells it: ``metrics``, a list of rows, each a dict (``pandas.DataFrame(run.metrics)`` is a
        table); ``history``, ``best``, ``samples``, ``settings``, ``path``; ``load(run)`` is its model.

    Raises:
        ConfigError, DataError, UsageError: at once, where something cannot be used.
        DivergedError: loss or gradient are not finite; the last good checkpoint is intact.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button, after the step is finished and the run saved; a second
            one does not wait for that.

    >>> import charrnn
    >>> text = Path("abc.txt")
    >>> _ = text.write_text("abcabcabd" * 500)
    >>> run = charrnn.train({"training.max_steps": 20, "model": {"hidden_size": 16}}, data=text, progress=False)
    >>> run.path.name, run.settings["model.hidden_size"], run.metrics[-1]["step"]
    ('abc', 16, 20)
    """
    stem, origin, options = None, {}, [*_overrides(settings or {}), *_named(data=data, out=out, name=name)]
    if isinstance(config, Config):
        checked = revise_config(config, options=options)
    elif isinstance(config, Mapping):
        checked = load_config(None, options=[*_overrides(config), *options])
    else:
        file = find_config(str(config))
        stem, origin = stem_of_config(file), {"config": name_of_config(file)}
        no_note = ["run.note=null"] if is_of_run(file) else []  # why that run was made is not why this one is
        checked = load_config(file, no_note, options)
    require_tracker(checked)
    refuse_unwritable(Path(checked.run.out))
    with ExitStack() as stack:
        stack.enter_context(lent_process())
        stack.enter_context(courtesy(os.environ))
        session = new_session(checked, Places.from_environment())
        session.origin = origin
        folder = start_run(session, stem or name_from(session.text.name))
        stack.enter_context(FolderLock(folder))
        _train(session, progress)
    return read_run(folder.path)


def resume(
    run: Run | str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    inexact: bool = False,
    progress: bool = True,
) -> Run:
    """Go on with a run where it stopped, exactly as if it had not; with ``settings`` that may change, such as limits.

    Args:
        run: what ``train`` returned, a run folder, or one of its checkpoints.
        settings, progress: as for ``train``.
        inexact: go on although it will not be bit for bit the same run (other threads or text): ``--inexact``.

    Returns:
        the run, which is the same folder; at once if there is nothing left to do.

    Raises:
        CheckpointError: there is no such run, or going on would not be exact.
        ConfigError, DataError, UsageError, DivergedError, KeyboardInterrupt: as ``train``.
    """
    path = _path(run)
    folder = folder_of(path)
    with FolderLock(folder), lent_process(), courtesy(os.environ):
        found = find_state(folder, path)
        for problem in found.damaged:
            warnings.warn(f"{problem}; going on from {found.file.name}", stacklevel=2)
        changes = _overrides(settings or {})
        config = revise_config(with_kept_note(config_in(found), folder), options=changes)
        refuse_moving(config_in(found), config)
        require_tracker(config)
        session = resume_session(folder, found, config, Places.from_environment(), inexact)
        amend_resumed(folder, session.config, goes_on=not session.score.finished)
        amend_text(folder, session.text.describe(), session.trainer.steps)
        if not session.score.finished:
            _train(session, progress)
    return read_run(folder.path)


def load(checkpoint: Run | str | Path, device: str = "cpu") -> TrainedModel:
    """A trained network, ready to sample from.

    Args:
        checkpoint: a run or its folder (its best checkpoint), a checkpoint file, or a folder of ``charrnn export``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Raises:
        CheckpointError: there is none, or it is damaged.
        UsageError: there is no such device.
    """
    with lent_process():
        return TrainedModel(**vars(load_model(_path(checkpoint), choose_device(device))))


class TrainedModel(SavedModel):
    """A network from a checkpoint: ``model``, a torch module in evaluation mode, ``vocabulary``, ``config``, ``path``,
    ``steps``, ``val_loss`` and what ``SavedModel`` has besides.

    >>> import charrnn, torch
    >>> model = charrnn.load(charrnn.train("counting", settings={"training.max_steps": 5}, progress=False))
    >>> len(model.vocabulary), model.config.model.cell, model.steps
    (4, 'lstm', 5)
    >>> ids = torch.from_numpy(model.vocabulary.encode("1 2 3")).long()[None]
    >>> logits, (h, c) = model.model(ids, model.model.zero_hidden(1))
    >>> logits.shape, h.shape
    (torch.Size([1, 5, 4]), torch.Size([1, 1, 32]))
    """

    def sample(
        self,
        prompt: str = "",
        *,
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 1,
        on_unknown: OnUnknown = "error",
    ) -> str:
        """What the network writes after ``prompt``, without the prompt itself.

        Args:
            prompt: read first; ``on_unknown="skip"`` leaves out its characters that the network does not know.
            length: characters to write.
            temperature: 0 takes the likeliest, 1 is the network's own distribution.
            top_k, top_p: choose among the k likeliest, or the likeliest that add up to p.
            seed: the same seed gives the same text.

        What is not given is as ``sampling`` in the config says.

        Raises:
            ConfigError: a number is out of range.
            DataError: the prompt has characters that the network does not know.
        """
        given = _named(length=length, temperature=temperature, top_k=top_k, top_p=top_p)
        config = revise_config(self.config, options=given).sampling
        _refuse_other(on_unknown)
        if not isinstance(seed, int) or not 0 <= seed < LARGEST_NUMBER:
            raise UsageError(f"seed={seed!r}: give a whole number from 0 to {LARGEST_NUMBER - 1}")
        pieces = generate(self.model, self.vocabulary, config, prompt=prompt, seed=seed, on_unknown=on_unknown)
        return "".join(piece for (piece,) in pieces)

    def loss(self, text: str, on_unknown: OnUnknown = "error") -> float:
        """How badly the network predicts ``text``: nats per character, each given all before it, from a state of zeros.

        A text of several thousand characters is read in pieces side by side, each after 1,000 characters of the one
        before. The first character, which nothing precedes, does not count.

        Raises:
            DataError: the text is shorter than two characters, or has some that the network does not know.
        """
        _refuse_other(on_unknown)
        ids = self.vocabulary.encode(text, on_unknown).astype(self.vocabulary.dtype)
        if len(ids) < 2:
            raise DataError("the text is too short to predict a character of; give two or more")
        precision = choose_precision("fp32", self.config.model, self.model.decoder.bias.device)
        found = evaluate(self.model, ids, (0, len(ids)), precision)
        assert found is not None, "nobody asks it to stop"
        return found.nats_per_char


def _refuse_other(on_unknown: str) -> None:
    if on_unknown not in get_args(OnUnknown):
        raise UsageError(f"on_unknown={on_unknown!r}: give one of {', '.join(get_args(OnUnknown))}")


def _path(run: Run | str | Path) -> Path:
    return run.path if isinstance(run, Run) else Path(run)


def _overrides(settings: Mapping[str, Any]) -> list[NamedOverride]:
    """Settings, by section or dotted name, as overrides that messages call by their dotted names."""
    return [
        NamedOverride(tuple(name.split(".")), value, f"{name}={value!r}")
        for name, value in flat(dict(settings)).items()
    ]


NAMES = {"data": "corpus.source", "out": "run.out", "name": "run.name"}


def _named(**options: Any) -> list[NamedOverride]:
    """The arguments that were given, as overrides."""
    given = {name: value for name, value in options.items() if value is not None}
    return [
        NamedOverride(
            tuple(NAMES.get(name, f"sampling.{name}").split(".")),
            str(value) if isinstance(value, Path) else value,
            f"{name}={value!r}",
        )
        for name, value in given.items()
    ]


def _train(session: Session, progress: bool) -> None:
    """The loop, with what a notebook sees of it and its stop button.

    Raises:
        KeyboardInterrupt: somebody pressed it; everything is saved.
    """
    assert session.folder is not None
    for note in session.notes:
        warnings.warn(note, stacklevel=3)
    notebook = NotebookReporter(progress, symbol([session.config.corpus.vocabulary]))
    with StopButton() as interrupt, notebook as shown, tracked(shown, session) as reporter:
        Loop(session, paced(reporter, session), interrupt).run()
    if interrupt() and not session.score.finished:
        path = str(session.folder.path)
        raise KeyboardInterrupt(
            f"at step {session.trainer.steps:,}, saved in {path}; to go on: charrnn.resume({path!r})"
        )
