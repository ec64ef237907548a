"""A run in memory: trainer, text, log interval and score, begun anew or read back from a run folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from charrnn.config.loader import dump_config
from charrnn.config.schema import Config
from charrnn.errors import CheckpointError, DataError
from charrnn.runs.checkpoint import State, read_checkpoint, write_checkpoint
from charrnn.runs.directory import RunFolder
from charrnn.runs.environment import describe_environment
from charrnn.runs.saved import saved_config, understanding
from charrnn.text.baselines import baselines
from charrnn.text.corpus import find_corpus
from charrnn.text.encoded import EncodedText, encode_corpus
from charrnn.text.places import Places
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.meter import Meter
from charrnn.training.process import prepare_process
from charrnn.training.trainer import Trainer

# What may differ from the checkpoint on resume: how long, how fast and how often, not what is trained on what.
FREE_ON_RESUME: dict[str, bool | set[str]] = {
    "training": {
        *("lr", "min_lr", "schedule", "warmup_steps", "step_drops", "step_gamma", "cycles"),
        *("max_steps", "epochs", "max_time", "patience", "device", "threads", "grad_clip", "state_reset"),
    },
    "run": True,
    "sampling": True,
}


@dataclass
class Score:
    """Where a run stands; saved with it. ``seconds`` counts everything since the run began, over all sessions."""

    seconds: float = 0.0
    best_val_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    last_evaluation: int = 0  # the step it was made at
    metrics_length: int = 0  # bytes of metrics.jsonl that belong to this state
    samples_length: int = 0
    logged_at: float = 0.0  # ``seconds`` at the last log line, moved on by whatever was not training since
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass
class Session:
    """Everything of a run. ``folder`` is None for a dry run."""

    config: Config
    text: EncodedText
    baselines: dict[str, float]
    trainer: Trainer
    meter: Meter
    folder: RunFolder | None = None
    score: Score = field(default_factory=Score)

    @property
    def progress(self) -> float:
        """How far training is, 0 to 1: the limit that is nearest decides. 0 where only patience ends it."""
        limits = self.config.training
        shares = [0.0]
        if limits.max_steps is not None:
            shares.append(self.trainer.steps / limits.max_steps)
        if limits.epochs is not None:
            shares.append(self.trainer.streams.epochs_done / limits.epochs)
        if limits.max_time is not None:
            shares.append(self.score.seconds / limits.max_time)
        return min(max(shares), 1.0)

    def planned_steps(self, seconds_per_step: float) -> int | None:
        """Steps that the limits allow, as far as they can be foretold: whichever is reached first. None if patience
        alone decides."""
        limits, streams = self.config.training, self.trainer.streams
        counts = [
            limits.max_steps,
            limits.epochs and limits.epochs * streams.length / limits.seq_len,
            limits.max_time and limits.max_time / seconds_per_step,
        ]
        return min((max(round(count), 1) for count in counts if count is not None), default=None)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for ``patience`` evaluations."""
        patience = self.config.training.patience
        return patience is not None and self.score.evaluations_since_best >= patience

    def record_validation(self, val_loss: float) -> bool:
        """Take in a validation loss; whether it is the best so far."""
        self.score.last_evaluation = self.trainer.steps
        best = self.score.best_val_loss
        if math.isfinite(val_loss) and (best is None or val_loss < best):
            self.score.best_val_loss = val_loss
            self.score.best_step = self.trainer.steps
            self.score.evaluations_since_best = 0
            return True
        self.score.evaluations_since_best += 1
        return False

    def state_dict(self) -> State:
        """The content of a checkpoint."""
        return {
            "trainer": self.trainer.state_dict(),
            "meter": self.meter.state_dict(),
            "score": self.score.to_dict(),
            "config": self.config.model_dump(mode="json"),
            "vocabulary": self.text.vocabulary.to_dict(),
            "corpus": self.text.describe(),
            "baselines": self.baselines,
            "environment": describe_environment(self.trainer.device),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint; all or nothing."""
        write_checkpoint(path, self.state_dict())


def new_session(config: Config, places: Places) -> Session:
    """Read the text and build the model; nothing is written but the cache of encoded texts.

    Raises:
        DataError, UsageError: the text or the device cannot be used.
    """
    corpus = find_corpus(config.corpus, places)
    text = encode_corpus(corpus, config.corpus, places)
    # From here on the config says which text was really used, so that the run can be resumed from anywhere.
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"source": text.source})})
    return _build(config, text)


def _build(config: Config, text: EncodedText) -> Session:
    prepare_process(config.training.threads)
    try:
        trainer = Trainer(text.train_ids, len(text.vocabulary), config.model, config.training)
    except DataError as error:
        raise DataError(f"{text.name}: {error}") from error
    return Session(config, text, baselines(text.ids, len(text.vocabulary)), trainer, Meter(config.training.grad_clip))


def start_run(session: Session, name: str) -> None:
    """Give a new session its run folder."""
    environment = {**describe_environment(session.trainer.device), "corpus": session.text.describe()}
    session.folder = RunFolder.create(
        Path(session.config.run.out),
        session.config.run.name or name,
        dump_config(session.config),
        environment,
    )


def saved_run_config(folder: RunFolder) -> Config:
    """The config that a run was last saved with.

    Raises:
        CheckpointError: the run cannot be read.
    """
    file, state = _read_last(folder)
    with understanding(file):
        return saved_config(state)


def _read_last(folder: RunFolder) -> tuple[Path, State]:
    """The checkpoint to go on from, and its content."""
    file, other = (folder.last, folder.best) if folder.last.exists() else (folder.best, folder.last)
    advice = f"remove it to go on from {other.name}" if other.exists() else "the run has no other: start a new one"
    return file, read_checkpoint(file, advice)


def resume_session(folder: RunFolder, config: Config, places: Places) -> Session:
    """Go on with a run where its last checkpoint left it.

    ``config`` is the saved one, or that with limits changed.

    Raises:
        CheckpointError: the checkpoint is damaged, or the model is not the one it was made with.
        DataError: the text has changed.
    """
    session = restore_session(*_read_last(folder), config, places)
    session.score.finished &= session.progress >= 1  # a raised limit makes a finished run unfinished
    session.folder = folder
    return session


def restore_session(file: Path, state: State, config: Config, places: Places) -> Session:
    """The session that was saved as ``state`` in ``file``, without its folder; ``config`` and errors as above."""
    with understanding(file):
        saved, vocabulary, recorded = saved_config(state), Vocabulary.from_dict(state["vocabulary"]), state["corpus"]
    _refuse_other_model(saved, config)
    text = encode_corpus(find_corpus(config.corpus, places), config.corpus, places, vocabulary, recorded)
    session = _build(config, text)
    with understanding(file):
        session.trainer.load_state_dict(state["trainer"])
        session.meter.load_state_dict(state["meter"])
        session.score = Score(**state["score"])
    return session


def _refuse_other_model(saved: Config, wanted: Config) -> None:
    fixed = [c.model_dump(exclude=FREE_ON_RESUME) for c in (saved, wanted)]
    different = [
        f"{section}.{key}: {value!r} in the run, {fixed[1][section][key]!r} asked for"
        for section, values in fixed[0].items()
        for key, value in values.items()
        if fixed[1][section][key] != value
    ]
    if different:
        raise CheckpointError(
            "a resumed run keeps its text, model and optimizer; start a new run to change\n  " + "\n  ".join(different)
        )
