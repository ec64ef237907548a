"""A run in memory: trainer, text, log interval and score, begun anew or read back from a run folder."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charrnn.config.loader import dump_config
from charrnn.config.schema import MOST_THREADS, Config
from charrnn.errors import CheckpointError
from charrnn.runs.checkpoint import State
from charrnn.runs.directory import RunFolder
from charrnn.runs.environment import describe_environment
from charrnn.runs.keeping import Found
from charrnn.runs.metrics import Row, read_metrics
from charrnn.runs.saved import saved_config, understanding
from charrnn.text.baselines import baselines, refuse_monotony
from charrnn.text.corpus import settled
from charrnn.text.encoded import EncodedText, load_text, shortness
from charrnn.text.places import Places
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.memory import refuse_what_cannot_fit
from charrnn.training.meter import Meter
from charrnn.training.optimizers import much_decay
from charrnn.training.rank_trainer import make_trainer, naming, ranks_in
from charrnn.training.ranks import Ranks
from charrnn.training.schedules import learning_rate
from charrnn.training.score import Score, score_from
from charrnn.training.threads import ThreadChoice, choose_threads
from charrnn.training.trainer import Trainer

# What may differ from the checkpoint on resume: how long, how fast and how often, not what is trained on what.
FREE_ON_RESUME: dict[str, bool | set[str]] = {
    "training": {
        *("lr", "min_lr", "schedule", "warmup_steps", "step_drops", "step_gamma", "cycles"),
        *("max_steps", "epochs", "max_time", "patience", "device", "threads", "grad_clip", "state_reset"),
        *("on_divergence", "rollback_factor", "max_rollbacks"),
    },
    "corpus": {"source"},  # where the text is by now: that it is the same, its SHA-256 says
    "run": True,
    "sampling": True,
}


@dataclass
class Session:
    """Everything of a run. ``folder`` is None for a dry run, ``thread_choice`` where nothing was measured; ``origin``
    is where the settings come from, for ``environment.json``: ``config`` (see ``name_of_config``), or of chosen ones
    ``chosen``, why, and ``given``, which were not; ``revised``: resumed with other settings than its checkpoint has."""

    config: Config
    text: EncodedText
    baselines: dict[str, float]
    trainer: Trainer
    meter: Meter
    folder: RunFolder | None = None
    score: Score = field(default_factory=Score)
    origin: dict[str, Any] = field(default_factory=dict)
    thread_choice: ThreadChoice | None = None
    revised: bool = False

    @property
    def notes(self) -> list[str]:
        """What to know of text and settings before it begins."""
        return [*self.text.notes, *shortness(self.text), *much_decay(self.config.training)]

    @property
    def rows(self) -> list[Row]:
        """What the log of this run holds so far, without what a crash left behind its checkpoint; nothing where
        somebody has removed it.

        Raises:
            CheckpointError: a line of it is damaged.
            OSError: it cannot be read.
        """
        length = self.score.metrics_length
        if self.folder is None or not length or not self.folder.metrics.exists():
            return []
        return list(read_metrics(self.folder.metrics, length))

    @property
    def learning_rate(self) -> float:
        """The rate of the next step: the schedule's, less what rollbacks took from it."""
        return self.score.lr_factor * learning_rate(self.config.training, self.trainer.steps, self.progress)

    @property
    def progress(self) -> float:
        """How far training is, 0 to 1: the limit that is nearest decides. 0 where only patience ends it."""
        return min(max(self._shares().values(), default=0.0), 1.0)

    def _shares(self) -> dict[str, float]:
        """How much of each limit is used up."""
        limits = self.config.training
        used = {
            "max_steps": (self.trainer.steps, limits.max_steps),
            "epochs": (self.trainer.streams.epochs_done, limits.epochs),
            "max_time": (self.score.seconds, limits.max_time),
        }
        return {name: done / limit for name, (done, limit) in used.items() if limit is not None}

    @property
    def reached(self) -> list[str]:
        """The limits that are reached, by dotted name: what must be raised to go on."""
        reached = [name for name, share in self._shares().items() if share >= 1]
        return [f"training.{name}" for name in (*reached, *(["patience"] if self.is_out_of_patience else []))]

    def planned_steps(self, seconds_per_step: float) -> int | None:
        """Steps that the limits allow, as far as they can be foretold: whichever is reached first. None if patience
        alone decides."""
        limits, streams = self.config.training, self.trainer.streams
        counts = [
            limits.max_steps,
            limits.epochs and streams.windows_in(limits.epochs),
            limits.max_time and limits.max_time / seconds_per_step,
        ]
        return min((max(round(count), 1) for count in counts if count is not None), default=None)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for ``patience`` evaluations."""
        patience = self.config.training.patience
        return patience is not None and self.score.evaluations_since_best >= patience

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
            "precision": self.trainer.precision.kind,
        }

    def load_state_dict(self, state: State) -> None:
        """Go back, or on, to where a checkpoint of the same text and model was."""
        self.trainer.load_state_dict(state["trainer"])
        self.meter.load_state_dict(state["meter"], self.trainer.device)
        self.score = score_from(state["score"])


def new_session(config: Config, places: Places, measure_threads: bool = False, ranks: Ranks | None = None) -> Session:
    """Read the text and build the model, on all ``ranks`` if there are several; nothing is written but the cache of
    encoded texts.

    With ``measure_threads`` a number of threads that the config leaves open is chosen by a short trial.

    Raises:
        DataError, UsageError: the text or the device cannot be used.
    """
    text = load_text(config.corpus, places)
    entropies = baselines(text.ids, len(text.vocabulary))
    return session_on(config, text, entropies, measure_threads=measure_threads, ranks=ranks)


def session_on(
    config: Config,
    text: EncodedText,
    entropies: dict[str, float],
    trainer: Trainer | None = None,
    measure_threads: bool = False,
    ranks: Ranks | None = None,
) -> Session:
    """A new session on a text that was read before, with its ``baselines``, and with a trainer of its own unless one is
    given; the rest as above."""
    config = _naming_source(config, text)
    choice = _measured_threads(config, text) if measure_threads and ranks is None else None
    trainer = trainer or make_trainer(text, config, choice.threads if choice else config.training.threads, ranks)
    refuse_monotony(text.name, entropies)
    return Session(config, text, entropies, trainer, Meter(config.training.grad_clip), thread_choice=choice)


def _naming_source(config: Config, text: EncodedText) -> Config:
    """A config that says which text was really used, so that the run can be resumed from anywhere."""
    return config.model_copy(update={"corpus": settled(config.corpus, text.source)})


def _measured_threads(config: Config, text: EncodedText) -> ThreadChoice | None:
    refuse_what_cannot_fit(len(text.vocabulary), config)
    with naming(text):
        return choose_threads(text.train_ids, len(text.vocabulary), config)


def start_run(session: Session, name: str, out: Path | None = None) -> RunFolder:
    """Give a new session its run folder, in ``out`` instead of the config's folder of runs."""
    surroundings = describe_environment(session.trainer.device)
    environment = {**surroundings, "corpus": session.text.describe(), **session.origin}
    session.folder = RunFolder.create(
        out or Path(session.config.run.out),
        session.config.run.name or name,
        dump_config(session.config),
        environment,
    )
    return session.folder


def config_in(found: Found) -> Config:
    """The config that a checkpoint was saved with.

    Raises:
        CheckpointError: it is not one of a run.
    """
    with understanding(found.file):
        return saved_config(found.state)


def resume_session(
    folder: RunFolder,
    found: Found,
    config: Config,
    places: Places,
    inexact: bool = False,
    ranks: Ranks | None = None,
) -> Session:
    """Go on with a run where a checkpoint left it.

    ``config`` is the saved one, or that with limits changed. Another number of ``ranks`` is no reason to refuse.

    Raises:
        CheckpointError: the model is not the one it was made with, or (unless ``inexact``) going on would not
            equal a run that was never interrupted.
        DataError: the text has changed, or cannot be used with this model.
    """
    session = restore_session(found.file, found.state, config, places, same_text=not inexact, ranks=ranks)
    if not inexact:
        _refuse_other_machine(found, session.state_dict())
    # A raised limit makes a finished run unfinished.
    session.score.finished &= session.progress >= 1 or session.is_out_of_patience
    session.folder, session.revised = folder, session.config != config_in(found)
    return session


def restore_session(
    file: Path,
    state: State,
    config: Config,
    places: Places,
    same_text: bool = True,
    ranks: Ranks | None = None,
) -> Session:
    """The session that was saved as ``state`` in ``file``, without its folder; the rest as above.

    The number of threads, on which rounding depends, is that of the run unless the config says another, or the number
    of ranks has changed.
    """
    with understanding(file):
        saved, vocabulary, recorded = saved_config(state), Vocabulary.from_dict(state["vocabulary"]), state["corpus"]
        threads = config.training.threads or operator.index(state["environment"]["threads"])
        same_ranks = ranks_in(state["trainer"]) == (ranks.size if ranks else 1)
        if not 0 < threads <= MOST_THREADS or not isinstance(recorded["sha256"], str):
            raise ValueError("not the surroundings of a run")
        if "optimizer" not in state["trainer"]:
            raise CheckpointError(f"{file}: holds no optimizer: sample from it, but go on from another checkpoint")
    _refuse_other_model(saved, config)
    text = load_text(config.corpus, places, vocabulary, recorded if same_text else None)
    trainer = make_trainer(text, config, threads if same_ranks else config.training.threads, ranks)
    entropies = baselines(text.ids, len(text.vocabulary))
    session = Session(_naming_source(config, text), text, entropies, trainer, Meter(config.training.grad_clip))
    with understanding(file):
        session.load_state_dict(state)
    if text.sha256 != recorded["sha256"]:
        session.score.forget_best()
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


def _refuse_other_machine(found: Found, now: State) -> None:
    """What rounding depends on must be as it was: or the run that goes on is another one, bit for bit."""
    with understanding(found.file):
        then, here = (
            {"threads": state["environment"]["threads"], "device": state["environment"]["device"]}
            | {"precision": state["precision"]}
            for state in (found.state, now)
        )
        if ranks_in(found.state["trainer"]) != ranks_in(now["trainer"]):
            del then["threads"]  # rounding is another one anyway, and one process of several has fewer threads
    different = [f"{key}: {value} in the run, {here[key]} here" for key, value in then.items() if here[key] != value]
    if different:
        raise CheckpointError(
            f"{found.file}: the resumed run would not equal an uninterrupted one; --inexact goes on all the same\n  "
            + "\n  ".join(different)
        )
