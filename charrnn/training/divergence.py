"""What is said of a training whose numbers are none any more."""

from __future__ import annotations

from charrnn.errors import DivergedError
from charrnn.training.schedules import lower_rate
from charrnn.training.session import Session


def diverged(session: Session, what: str) -> DivergedError:
    """The error for a session in which ``what`` is not a finite number, with a rate to try instead."""
    assert session.folder is not None
    score, training = session.score, session.config.training
    factor = 10 / score.lr_factor
    if session.trainer.steps <= training.warmup_steps and score.lr > 0:  # the rate had not got as high as it was to be
        factor = max(factor, 10 * training.lr / score.lr)
    lower = " --set ".join(lower_rate(training, factor))
    again = " in a new run" if score.rollbacks else ""  # one that goes on keeps the factor as well
    wider = ", or --set training.precision=fp32" if session.trainer.precision.kind == "fp16" else ""
    return DivergedError(
        f"{session.folder.path}: training diverged before step {session.trainer.steps}: {what} is not a finite number, "
        f"at learning rate {score.lr:.3g}; the saved checkpoints are intact. Try a lower rate{again}: "
        f"--set {lower}{wider}"
    )
