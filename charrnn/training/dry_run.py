"""A look before a run: sizes, speed and time, from a few real steps. Writes nothing."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from charrnn.training.memory import parameter_bytes
from charrnn.training.schedules import learning_rate
from charrnn.training.session import Session

TIMED_STEPS = 5


def dry_run(session: Session) -> dict[str, Any]:
    """Take one step to warm up and a few more against the clock; changes the session's model."""
    trainer, limits = session.trainer, session.config.training
    loss = trainer.step(learning_rate(limits, 0, 0.0)).loss.item()
    start = time.perf_counter()
    characters = 0
    for step in range(TIMED_STEPS):
        stats = trainer.step(learning_rate(limits, step + 1, 0.0))
        characters += stats.characters
        stats.loss.item()  # wait for the device
    per_step = (time.perf_counter() - start) / TIMED_STEPS
    characters_per_step = characters / TIMED_STEPS
    parameters = trainer.model.num_parameters
    steps = session.planned_steps(per_step)
    return {
        "parameters": parameters,
        "model_and_optimizer_bytes": parameter_bytes(len(session.text.vocabulary), session.config),
        "process_bytes": _peak_memory(),
        "characters_per_step": characters_per_step,
        "chars_per_sec": characters_per_step / per_step,
        "estimated_seconds": None if steps is None else steps * per_step,
        "first_loss": loss,
    }


def _peak_memory() -> int:
    """Most memory this process has had in bytes; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
