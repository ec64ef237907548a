"""What ``charrnn train`` says of a training: before it, after it, and instead of it (``--dry-run``)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from charrnn.cli._terminal import format_bytes, format_nats, format_seconds, say, warn

if TYPE_CHECKING:
    from charrnn.training.loop import Outcome
    from charrnn.training.session import Session


def describe(session: Session) -> None:
    """Say what will be trained on what, before it begins."""
    from charrnn.text.encoded import occurrences, unseen_in_training

    text, trainer = session.text, session.trainer
    for note in session.notes:
        warn(note)
    unseen = unseen_in_training(text)
    if unseen:
        warn(f"{len(unseen)} symbol(s) do not occur in the training text, {sum(unseen.values())} times in the rest")
    if returns := occurrences(text, "\r"):
        warn(f"{returns:,} carriage returns (line ends of Windows or old Macs) are kept as characters of the text")
    if nuls := occurrences(text, "\0"):
        warn(f"{nuls:,} NUL characters are kept; if the text is really UTF-16, set corpus.encoding: utf-16")
    of_bytes = text.vocabulary.kind == "bytes"
    symbols = "bytes" if of_bytes else f"characters, {len(text.vocabulary):,} different"
    say(f"Text:   {text.name}, {len(text):,} {symbols}, {len(text.train_ids):,} to train on")
    if of_bytes:
        say("        a byte is what 'char', 'character' and 'bpc' mean in what follows")
    say(
        f"Model:  {session.config.model.shape}, {trainer.model.num_parameters:,} parameters, {trainer.device}, "
        f"{trainer.precision.kind} ({trainer.precision.reason})"
    )
    if session.thread_choice:
        say(f"Threads: {session.thread_choice}")
    if session.config.run.note:
        say(f"Note:   {session.config.run.note}")


def conclude(session: Session, outcome: Outcome) -> None:
    """Say how it ended, where it is, and how to sample from it."""
    score = session.score
    assert session.folder is not None
    best = ""
    if score.best_val_loss is not None:
        best = f"; best validation loss {format_nats(score.best_val_loss)} at step {score.best_step:,}"
    say(f"Done:   {outcome.value}, {session.trainer.steps:,} steps in {format_seconds(score.seconds)}{best}")
    path = session.folder.path
    say(f"Run:    {path}    Sample: charrnn sample --checkpoint {shlex.quote(str(path))}")


def show_dry_run(session: Session) -> None:
    """Take a few steps, and say what the whole would need."""
    from charrnn.training.dry_run import dry_run

    describe(session)
    found = dry_run(session)
    estimate = found["estimated_seconds"]
    say(
        f"Memory: {format_bytes(found['model_and_optimizer_bytes'])} for weights, gradients and optimizer; "
        f"{format_bytes(found['process_bytes'])} for the whole process so far"
    )
    say(
        f"Speed:  {found['chars_per_sec']:,.0f} characters per second, {found['characters_per_step']:,.0f} per step; "
        f"loss of the first step {found['first_loss']:.3f}"
    )
    say(f"Time:   about {format_seconds(estimate)} to the end" if estimate else "Time:   until patience ends it")
    say("Dry run: nothing was written")
