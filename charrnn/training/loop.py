"""The loop around the step: when to log, evaluate, save and stop. It owns the I/O of a run.

What a person sees is the reporter's business, and whether somebody pressed Ctrl-C is ``should_stop``'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Protocol

from charrnn.errors import DivergedError
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import GrowingFile, Row, json_line
from charrnn.sampling.sampler import sample_text
from charrnn.training.evaluation import evaluate
from charrnn.training.schedules import learning_rate
from charrnn.training.session import Session


class Outcome(Enum):
    """Why training ended."""

    LIMIT = "reached its limit"
    PATIENCE = "stopped early: the validation loss no longer improves"
    INTERRUPTED = "interrupted"


class Reporter(Protocol):
    """What the loop tells, as it happens."""

    def logged(self, row: Row, progress: float) -> None:
        """A line of metrics was written; ``progress`` is 0 to 1."""

    def evaluated(self, row: Row, sample: str) -> None:
        """An evaluation was made; ``sample`` is a text written by the model."""


class Loop:
    """Trains a session to its end. The session's folder must be there."""

    def __init__(self, session: Session, reporter: Reporter, should_stop: Callable[[], object]) -> None:
        assert session.folder is not None
        self.session = session
        self.folder: RunFolder = session.folder
        self.reporter = reporter
        self.should_stop = should_stop
        self.lr = 0.0

    def run(self) -> Outcome:
        """Train until a limit, patience or ``should_stop`` ends it, and save.

        Raises:
            DivergedError: loss or gradient are not finite; the last good checkpoint is intact.
        """
        with ExitStack() as stack:
            score = self.session.score
            self.metrics = stack.enter_context(GrowingFile(self.folder.metrics, score.metrics_length))
            self.samples = stack.enter_context(GrowingFile(self.folder.samples, score.samples_length))
            self._clock = time.monotonic()
            self._log_and_evaluate()  # a run stopped just before its evaluation makes it up
            while (outcome := self._ending()) is None:
                self._step()
            if outcome is not Outcome.INTERRUPTED:
                self._finish()
            self._save()
        return outcome if self.session.score.finished else Outcome.INTERRUPTED

    def _ending(self) -> Outcome | None:
        if self.should_stop():
            return Outcome.INTERRUPTED
        if self.session.progress >= 1:
            return Outcome.LIMIT
        return Outcome.PATIENCE if self.session.is_out_of_patience else None

    def _step(self) -> None:
        """One step of training, and whatever is due after it."""
        session = self.session
        self.lr = learning_rate(session.config.training, session.trainer.steps, session.progress)
        session.meter.add(session.trainer.step(self.lr))
        self._read_clock()
        self._log_and_evaluate()
        if session.trainer.steps % session.config.run.save_every == 0:
            self._save()

    def _log_and_evaluate(self) -> None:
        """Do what is due at this step and not done yet. The end of training brings an evaluation of its own."""
        session, run, steps = self.session, self.session.config.run, self.session.trainer.steps
        if session.meter.characters and steps % run.log_every == 0:
            self._log()
        evaluated = session.score.last_evaluation == steps
        if steps % run.eval_every == 0 and not evaluated and session.progress < 1:
            self._evaluate(final=False)

    def _read_clock(self) -> None:
        now = time.monotonic()
        self.session.score.seconds += now - self._clock
        self._clock = now

    @contextmanager
    def _not_training(self) -> Iterator[None]:
        """Keep what is done inside out of the characters per second."""
        score = self.session.score
        self._read_clock()
        before = score.seconds
        yield
        self._read_clock()
        score.logged_at += score.seconds - before

    def _log(self) -> None:
        """Write the statistics of the interval that ends here, and start the next."""
        self._refuse_non_finite()
        score, meter = self.session.score, self.session.meter
        elapsed = score.seconds - score.logged_at
        speed = round(meter.characters / elapsed, 1) if elapsed > 0 else 0.0
        row = {**self._position(), **meter.summary(), "lr": self.lr, "chars_per_sec": speed}
        meter.clear()
        score.logged_at = score.seconds
        self.metrics.append(json_line(row))
        self.reporter.logged(row, self.session.progress)

    def _position(self) -> Row:
        session = self.session
        epoch, seconds = session.trainer.streams.epochs_done, session.score.seconds
        return {"step": session.trainer.steps, "epoch": round(epoch, 4), "seconds": round(seconds, 3)}

    def _evaluate(self, final: bool) -> None:
        """Score the validation text, keep the best model, write a sample. The final one reads it cold as well."""
        with self._not_training():
            losses = {"val_loss": self._validation_loss(carried=True)}
            if final:
                losses["val_loss_cold"] = self._validation_loss(carried=False)
            val_loss = losses["val_loss"]
            if val_loss is None or None in losses.values():
                return  # interrupted: as if it had not been begun
            self._read_clock()
            row = {**self._position(), **losses}
            sample = self._sample()
            self.metrics.append(json_line(row))
            self.samples.append(f"--- step {row['step']}, validation {val_loss:.4f} nats/char\n{sample}\n\n")
            is_best = self.session.record_validation(val_loss)
            self.session.score.finished = final
            if is_best:
                self._write_checkpoint(self.folder.best)
            self.reporter.evaluated(row, sample)

    def _validation_loss(self, carried: bool) -> float | None:
        session = self.session
        trainer = session.trainer
        result = evaluate(
            trainer.model,
            session.text.ids,
            session.text.spans["val"],
            trainer.precision,
            carried=carried,
            max_characters=session.config.run.eval_characters,
            should_stop=self.should_stop,
        )
        return None if result is None else result.nats_per_char

    def _sample(self) -> str:
        session = self.session
        config = session.config.sampling.model_copy(update={"length": session.config.run.sample_length})
        return sample_text(session.trainer.model, session.text.vocabulary, config, seed=session.trainer.steps)

    def _finish(self) -> None:
        """The last log line and the last evaluation, if they are not written already."""
        if self.session.meter.characters:
            self._log()
        if not self.session.score.finished:
            self._evaluate(final=True)

    def _refuse_non_finite(self) -> None:
        session = self.session
        if session.meter.is_finite:
            return
        raise DivergedError(
            f"{self.folder.path}: training diverged before step {session.trainer.steps}: loss or gradient norm is not "
            f"a finite number, at learning rate {self.lr:.3g}; the saved checkpoints are intact. "
            f"Try a lower rate: --set training.lr={session.config.training.lr / 10:.2g}"
        )

    def _save(self) -> None:
        with self._not_training():
            self._write_checkpoint(self.folder.last)

    def _write_checkpoint(self, path: Path) -> None:
        self._refuse_non_finite()
        score = self.session.score
        # The logs first: a checkpoint must not promise lines that a power loss could take.
        score.metrics_length, score.samples_length = self.metrics.sync(), self.samples.sync()
        self.session.save(path)
