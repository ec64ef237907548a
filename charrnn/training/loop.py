"""The loop around the step: when to log, evaluate, save and stop. It owns the I/O of a run.

The step itself is asked for, not taken: ``run`` takes it with the session's own trainer, a swarm takes one step for
many loops at once.

What a person sees is the reporter's business, and whether somebody pressed Ctrl-C is ``should_stop``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import Enum
from typing import Protocol

from charrnn.config.wording import symbol
from charrnn.errors import CharRNNError, DivergedError
from charrnn.runs import files
from charrnn.runs.checkpoint import State
from charrnn.runs.directory import RunFolder
from charrnn.runs.files import GrowingFile, remove_unfinished
from charrnn.runs.keeping import Keeper, newest_before, newest_whole
from charrnn.runs.metrics import Row, json_line
from charrnn.training.clock import clock
from charrnn.training.divergence import diverged
from charrnn.training.look import sample_of, validation_loss
from charrnn.training.session import Session
from charrnn.training.trainer import StepStats


class Outcome(Enum):
    """Why training ended."""

    LIMIT = "reached its limit"
    PATIENCE = "stopped early: the validation loss no longer improves"
    INTERRUPTED = "interrupted"


class Reporter(Protocol):
    """What the loop tells, as it happens."""

    def logged(self, row: Row, progress: float) -> None:
        """A line of metrics was written; ``progress`` is 0 to 1."""

    def evaluated(self, row: Row) -> None:
        """An evaluation was made; ``row`` has a ``sample`` of what the model then writes, if one was asked for."""

    def warned(self, text: str) -> None:
        """Something went wrong, and training goes on."""


# What the loop asks for, the rate of a step and whether it is to be observed; what it is given; what it ends with.
Steps = Generator[tuple[float, bool], StepStats, Outcome]


class Loop:
    """Trains a session to its end. The session's folder must be there, and nobody else may be writing in it."""

    def __init__(self, session: Session, reporter: Reporter, should_stop: Callable[[], object]) -> None:
        assert session.folder is not None
        self.session = session
        self.folder: RunFolder = session.folder
        self.reporter = reporter
        self.should_stop = should_stop
        self.keeper = Keeper(session.folder, session.config.run.keep, self._sync_logs)
        self._trouble: OSError | None = None  # what the disk said, until it takes everything again

    def run(self) -> Outcome:
        """Train until a limit, patience or ``should_stop`` ends it, and save.

        Raises:
            DivergedError: loss or gradient are not finite; the last good checkpoint is intact.
            CharRNNError: the state at the end could not be saved.
        """
        with closing(self.steps()) as steps:
            try:
                lr, observe = next(steps)
                while True:
                    lr, observe = steps.send(self.session.trainer.step(lr, observe=observe))
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome

    def steps(self) -> Steps:
        """The same, with every step taken by whoever iterates."""
        with ExitStack() as stack:
            self._open_logs(stack)
            self.keeper.taken_back(self.session.trainer.steps, self.session.score.best_step)
            self._clock = clock.now()
            if self.session.revised or self.keeper.step_of_last != self.session.trainer.steps:
                self._save()  # so that what is gone back to, or resumed, is this run from its first step here
            outcome = yield from self._train()
            if self._trouble is not None:
                raise CharRNNError(self._unsaved(self._trouble))
        return outcome

    def _open_logs(self, stack: ExitStack) -> None:
        score = self.session.score
        try:
            remove_unfinished(self.folder.checkpoints)
            self.metrics = stack.enter_context(GrowingFile(self.folder.metrics, score.metrics_length))
            self.samples = stack.enter_context(GrowingFile(self.folder.samples, score.samples_length))
            files.disk.sync_folder(self.folder.path)  # their names must last as long as the checkpoints
        except OSError as error:
            raise CharRNNError(self._unsaved(error)) from error

    def _train(self) -> Steps:
        """Step after step to the end, going back where training diverges and the config says so."""
        while True:
            try:
                self._log_and_evaluate()  # a run stopped just before its evaluation makes it up
                while (outcome := self._ending()) is None:
                    yield from self._step()
                if outcome is not Outcome.INTERRUPTED and not self._finish():
                    outcome = Outcome.INTERRUPTED
                self._save()
                if outcome is Outcome.INTERRUPTED:  # for whoever reads the log: the checkpoint does not know of it
                    self._append(self.metrics, json_line({**self._position(), "interrupted": True}))
                return outcome
            except DivergedError as error:
                self._roll_back(error)
            except OSError:  # from the reporter: its terminal or pipe is gone
                self._save()
                raise

    def _ending(self) -> Outcome | None:
        if self.should_stop():
            return Outcome.INTERRUPTED
        if self.session.progress >= 1:
            return Outcome.LIMIT
        return Outcome.PATIENCE if self.session.is_out_of_patience else None

    def _step(self) -> Generator[tuple[float, bool], StepStats, None]:
        """One step of training, and whatever is due after it."""
        session = self.session
        session.score.lr = session.learning_rate
        ends_a_log_line = (session.trainer.steps + 1) % session.config.run.log_every == 0
        session.meter.add((yield session.score.lr, ends_a_log_line))
        self._read_clock()
        self._log_and_evaluate()
        if session.trainer.steps % session.config.run.save_every == 0:
            self._save()

    def _log_and_evaluate(self) -> None:
        """Do what is due at this step and not done yet. The end of training brings an evaluation of its own."""
        session, run, steps = self.session, self.session.config.run, self.session.trainer.steps
        if steps % run.log_every == 0 and session.meter.characters:
            self._log()
        evaluated = session.score.last_evaluation == steps
        if steps % run.eval_every == 0 and not evaluated and session.progress < 1:
            self._evaluate(final=False)

    def _read_clock(self, training: bool = True) -> None:
        """Count the time since the last call; what was no ``training`` does not make characters per second fewer."""
        score, now = self.session.score, clock.now()
        score.seconds += now - self._clock
        score.logged_at += 0.0 if training else now - self._clock
        self._clock = now

    @contextmanager
    def _not_training(self) -> Iterator[None]:
        """Keep what is done inside out of the characters per second."""
        self._read_clock()
        yield
        self._read_clock(training=False)

    def _log(self) -> None:
        """Write the statistics of the interval that ends here, and start the next."""
        self._refuse_non_finite()
        score, meter = self.session.score, self.session.meter
        elapsed = score.seconds - score.logged_at
        speed = round(meter.characters / elapsed, 1) if elapsed > 0 else 0.0
        row = {**self._position(), **meter.summary(), "lr": score.lr, "chars_per_sec": speed}
        meter.clear()
        score.logged_at = score.seconds
        self._append(self.metrics, json_line(row))
        self.reporter.logged(row, self.session.progress)

    def _position(self) -> Row:
        session = self.session
        epoch, seconds = session.trainer.streams.epochs_done, session.score.seconds
        return {"step": session.trainer.steps, "epoch": round(epoch, 4), "seconds": round(seconds, 3)}

    def _evaluate(self, final: bool) -> None:
        """Score the validation text, keep the best model, write a sample. The final one reads it cold as well."""
        self._refuse_non_finite(whole_state=True)
        with self._not_training():
            known = self.session.score.val_loss_at(self.session.trainer.steps)  # time or patience ends at an evaluation
            losses = {"val_loss": known or validation_loss(self.session, True, self.should_stop)}
            if final:
                losses["val_loss_cold"] = validation_loss(self.session, False, self.should_stop)
            val_loss = losses["val_loss"]
            if val_loss is None or None in losses.values():
                return  # interrupted: as if it had not been begun
            self._read_clock(training=False)  # also in the checkpoint that may be written below
            sample = sample_of(self.session) if math.isfinite(val_loss) else None
            if sample is None:
                self._append(self.metrics, json_line({**self._position(), "val_loss": None}))
                raise diverged(self.session, "a logit on unseen text")
            row = {**self._position(), **losses, **({"sample": sample} if sample else {})}
            self._append(self.metrics, json_line(row))
            per = f"nats/{symbol([self.session.config.corpus.vocabulary])[:4]}"
            self._append(self.samples, f"--- step {row['step']}, validation {val_loss:.4g} {per}\n{sample}\n\n")
            is_best = self.session.score.record(self.session.trainer.steps, val_loss)
            self.session.score.finished = final
            if is_best:
                self._write_checkpoint(self.keeper.save_best)
            self.reporter.evaluated(row)

    def _finish(self) -> bool:
        """The last log line and the last evaluation, if they are not written already; False if interrupted in it."""
        if self.session.meter.characters:
            self._log()
        if not self.session.score.finished:
            self._evaluate(final=True)
        return self.session.score.finished

    def _refuse_non_finite(self, whole_state: bool = False) -> None:
        """Raise ``DivergedError`` for any loss or norm, or with ``whole_state`` any weight, that is not a number."""
        session = self.session
        if session.meter.is_finite and (session.trainer.is_finite or not whole_state):
            return
        if not session.meter.is_finite:
            row = {**self._position(), "steps_not_finite": session.meter.steps_not_finite}
            self._append(self.metrics, json_line(row))
        raise diverged(session, "loss or gradient norm")

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last good checkpoint with a lower rate; the log says so. Raises ``error`` if that is over."""
        session, training = self.session, self.session.config.training
        before = session.score
        if training.on_divergence == "stop" or before.rollbacks >= training.max_rollbacks:
            raise error
        diverged_at = session.trainer.steps
        found = newest_whole(self.folder, before.best_step)
        if before.rollbacks and (found.step == before.went_back_to or diverged_at <= before.diverged_at):
            # What it went back to was finite, but past saving: a lower rate was no help.
            found = newest_before(self.folder, before.went_back_to) or found
        self._read_clock()  # neither the sample that showed it is training, nor the reading of checkpoints
        session.load_state_dict(found.state)
        score = session.score
        score.go_on_after(before, diverged_at, found.step, training.rollback_factor)
        self.keeper.taken_back(session.trainer.steps, score.best_step)
        self.metrics.cut(score.metrics_length)
        self.samples.cut(score.samples_length)
        went_back = {"rollback": score.rollbacks, "lr_factor": score.lr_factor}
        self._append(self.metrics, json_line({**self._position(), **went_back}))
        self.reporter.warned(
            f"training diverged at learning rate {before.lr:.3g}: back to step {session.trainer.steps:,}, "
            f"with the rate times {score.lr_factor:g} (rollback {score.rollbacks} of {training.max_rollbacks})"
        )
        self._save()

    def _append(self, file: GrowingFile, text: str) -> None:
        try:
            file.append(text)
        except OSError as error:
            self._complain(error)

    def _save(self) -> None:
        """Write the last checkpoint; where the disk refuses, say so: the next save is another try."""
        steps = self.session.trainer.steps
        with self._not_training():
            self._write_checkpoint(lambda state: self.keeper.save_last(state, steps))

    def _write_checkpoint(self, write: Callable[[State], None]) -> None:
        self._refuse_non_finite(whole_state=True)
        score = self.session.score
        score.metrics_length, score.samples_length = self.metrics.length, self.samples.length
        try:
            write(self.session.state_dict())
            self._trouble = None
        except OSError as error:
            self._complain(error)

    def _sync_logs(self) -> None:
        self.metrics.sync()
        self.samples.sync()

    def _complain(self, error: OSError) -> None:
        if self._trouble is None:
            self.reporter.warned(f"{self._unsaved(error)}; training goes on, and will try again")
        self._trouble = error

    def _unsaved(self, error: OSError) -> str:
        state = "the checkpoints saved before are intact; make room on the disk, or check the folder's permissions"
        if not self.folder.checkpoints.is_dir():
            state = "the folder was removed or renamed; go on with it under its new name, or start a new run"
        return f"{self.folder.path}: cannot save: {error.strerror or error}; {state}"
