"""The doctor's visit: collect the evidence, ask every rule, put the answers in order."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from charrnn.config.schema import Config
from charrnn.errors import UsageError
from charrnn.model.device import kept_generators
from charrnn.runs.directory import RunFolder
from charrnn.runs.history import History, read_history
from charrnn.runs.keeping import newest_whole
from charrnn.runs.metrics import read_metrics, without_nan
from charrnn.studies import Advanced
from charrnn.studies.doctor.brief_run import brief_run
from charrnn.studies.doctor.evidence import Evidence
from charrnn.studies.doctor.finding import Finding
from charrnn.studies.doctor.probes.activity import watch
from charrnn.studies.doctor.probes.numerics import replay
from charrnn.studies.doctor.probes.pieces import unseen_span
from charrnn.studies.doctor.probes.reading import AHEAD, Reading, read, read_on
from charrnn.studies.doctor.probes.texts import compare_parts
from charrnn.studies.doctor.probes.through_time import Profile, gradient_through_time
from charrnn.studies.doctor.rules import RULES, ask_rules
from charrnn.studies.doctor.trials import Lab, memorise, run_trials, untrained
from charrnn.studies.trials import quick_loss
from charrnn.text.baselines import conditional_entropy
from charrnn.text.places import Places
from charrnn.training.session import Session, config_in, restore_session

FEWEST_CHARACTERS = 8
PIECE = 512  # characters that a probe reads at once, about
BRIEF_SHARE = 0.4  # of the whole visit


@dataclass(frozen=True)
class Examination:
    """``problems``, the one to mend first in front, and what is ``healthy``; ``profile`` and ``reading`` to be shown;
    ``subject`` says what was examined, ``unit`` what it reads (character or byte), ``details`` has every other number
    as plain values."""

    subject: str
    problems: list[Finding]
    healthy: list[Finding]
    profile: Profile
    reading: Reading
    seq_len: int
    unit: str
    details: dict[str, Any]
    is_unseen: bool = True  # the text of ``reading``: else the validation part is too short, and training's was read

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``; None for NaN and inf."""
        values: dict[str, Any] = without_nan(
            {
                "subject": self.subject,
                "problems": [asdict(finding) for finding in self.problems],
                "healthy": [asdict(finding) for finding in self.healthy],
                "gradient_through_time": asdict(self.profile),
                "reading": {**asdict(self.reading), "unseen": self.is_unseen},
                **self.details,
                "seq_len": self.seq_len,
            }
        )
        return values


def examine_folder(path: Path, places: Places, advanced: Advanced = lambda stage, share: None) -> Examination:
    """Examine a run, also while it trains: nothing in the folder is touched.

    Raises:
        CheckpointError, DataError: there is no such run, or its text is not there any more.
    """
    folder = RunFolder.open(path)
    return examine(*open_run(folder, places), shlex.quote(str(folder.config)), advanced)


def open_run(folder: RunFolder, places: Places) -> tuple[Session, History]:
    """The newest whole state of a run, and what it wrote down."""
    found = newest_whole(folder)
    session = restore_session(found.file, found.state, config_in(found), places)
    return session, read_history(read_metrics(folder.metrics) if folder.metrics.exists() else [])


def gradient_of(path: Path, places: Places) -> tuple[Profile, int, int]:
    """The gradient through time of a run's newest state, the length of its windows, the step it was saved at; errors as
    above."""
    session, _ = open_run(RunFolder.open(path), places)
    span = unseen_span(session.text, PIECE)
    profile = gradient_through_time(session.trainer.model.eval(), session.text.ids, span)
    return profile, session.config.training.seq_len, session.trainer.steps


def examine(session: Session, history: History, config_name: str, advanced: Advanced) -> Examination:
    """Examine a session by probes on copies of its state; torch's random state is put back at the end.

    Raises:
        UsageError: the run is too young, or its text too short, to tell anything.
    """
    if len(session.text.train_ids) < FEWEST_CHARACTERS:
        raise UsageError(f"{session.text.name}: is too short to be examined; give a text of a thousand characters")
    if not history.logs and history.diverged is None:
        raise UsageError(f"{config_name}: the run has no log line yet; wait for one, or lower run.log_every")
    probed = session.trainer.steps
    with kept_generators(session.trainer.device):
        evidence = collect(session, history, config_name, advanced)
    findings = ask_rules(RULES, evidence)
    train_loss = f"{evidence.train_loss:.3g}" if history.logs else "not logged"
    subject = (
        f"{config_name}: {session.config.model.shape} on {session.text.name}, "
        f"{evidence.history.steps:,} steps (probed as saved at step {probed:,}), training loss {train_loss}, "
        f"validation loss {evidence.val_loss:.3g} nats per {evidence.unit}"
    )
    return Examination(
        subject,
        problems=[finding for finding in findings if finding.problem],
        healthy=[finding for finding in findings if not finding.problem],
        profile=evidence.profile,
        reading=evidence.reading,
        seq_len=session.config.training.seq_len,
        unit=evidence.unit,
        details=evidence.details(),
        is_unseen=unseen_span(session.text, PIECE) == session.text.spans["val"],
    )


def collect(session: Session, history: History, config_name: str, advanced: Advanced) -> Evidence:
    """All probes and trials. The session's trainer is used up: its carried state moves on by one window."""
    trainer, text, config = session.trainer, session.text, session.config
    advanced("reading the text", 0.0)
    texts, span = compare_parts(text), unseen_span(text, PIECE)
    model = trainer.model.eval()
    advanced("gradient through time", 0.05)
    profile, activity = gradient_through_time(model, text.ids, span), watch(model, text.ids, span)
    new = untrained(session)
    new_profile, new_activity = gradient_through_time(new, text.ids, span), watch(new, text.ids, span)
    advanced("carried and cold state", 0.15)
    reading = read(model, text.ids, span)
    continuation = read_on(model, trainer.streams.ahead(AHEAD).to(trainer.device), trainer.hidden)
    val_loss, val_loss_cold = (quick_loss(model, text, "val", trainer.precision, carried=one) for one in (True, False))
    start_loss = quick_loss(new, text, "train", trainer.precision, carried=False)
    advanced("float64", 0.25)
    x, y = trainer.streams.next(trainer.generator)
    numerics = replay(model, trainer.precision, x.to(trainer.device), y.to(trainer.device), trainer.hidden)
    lab = Lab.of(session, seconds_per_step(session, history))
    trials = run_trials(lab, lambda share: advanced("short trainings", 0.3 + 0.6 * share))
    memorised = memorise(lab, trials, lambda share: advanced("one batch", 0.9 + 0.1 * share))
    return Evidence(
        config_name=config_name,
        config=config,
        history=history,
        characters=len(text.train_ids),
        entropies=session.baselines,
        texts=texts,
        profile=profile,
        activity=activity,
        new_profile=new_profile,
        new_activity=new_activity,
        reading=reading,
        continuation=continuation,
        numerics=numerics,
        val_loss=val_loss,
        val_loss_cold=val_loss_cold,
        start_loss=start_loss,
        memorised=memorised,
        batch_unigram=conditional_entropy(lab.batch, len(text.vocabulary), order=1),
        trials=trials,
    )


def seconds_per_step(session: Session, history: History) -> float:
    """Of the run; of one step taken now where it has no log line yet, or none that took any time."""
    speed, training = history.chars_per_sec, session.config.training
    if speed:
        return training.batch_size * training.seq_len / speed
    begun = time.perf_counter()
    session.trainer.step(0.0)
    return time.perf_counter() - begun


def examine_config(config: Config, name: str, places: Places, advanced: Advanced) -> Examination:
    """Train a config briefly in a folder that is thrown away, then examine that run; ``name`` is for commands.

    Raises:
        DataError, UsageError: the text or the device cannot be used.
    """
    later = 1 - BRIEF_SHARE
    with TemporaryDirectory(prefix="charrnn-doctor-") as scratch:
        folder = brief_run(config, Path(scratch), places, lambda share: advanced("training", BRIEF_SHARE * share))
        session, history = open_run(folder, places)
        # The limits of the real training: rates are scaled to its length.
        session.config = config.model_copy(update={"corpus": session.config.corpus})
        return examine(session, history, name, lambda stage, share: advanced(stage, BRIEF_SHARE + later * share))
