"""Run folders for reports, written by hand: no training, so every number in them is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from charrnn.config.loader import dump_config
from charrnn.plots.report import Examined, ThroughTime
from charrnn.runs.directory import RunFolder
from charrnn.runs.metrics import Row
from tests.conftest import make_config

EVIL = "</script><img src=x onerror=alert(1)>"
SHA = "0123456789abcdef" * 4
ENVIRONMENT = {
    "charrnn": "0.1.0",
    "processor": "A processor",
    "threads": 2,
    "command": ["charrnn", "train", "--set", "run.note=two words"],
    "corpus": {"name": "cat.txt", "sha256": SHA, "characters": 12345},
}
SHARES = [0.5**k for k in range(20)]
NO_PROBLEM = Examined([], [], ThroughTime(SHARES, None, 10, "character", "It halves with every character."))


def log(step: int, loss: float, **more: Any) -> Row:
    """A log line that looked inside."""
    tensors = {
        "decoder.weight": {"grad_norm": loss / 10, "update_ratio": 1e-3},
        "decoder.bias": {"grad_norm": loss / 20, "update_ratio": 2e-3},
    }
    norms = {"grad_norm": loss / 10, "grad_norm_p99": loss / 5, "clipped": 0.25}
    speed = {"lr": 0.01, "chars_per_sec": 5000.0, "seconds": step / 10}
    return {"step": step, "train_loss": loss, **norms, **speed, "tensors": tensors, **more}


def evaluation(step: int, loss: float, sample: str = "", **more: Any) -> Row:
    """A line of an evaluation; the last one of a run that ended has ``val_loss_cold`` too."""
    return {"step": step, "seconds": step / 10, "val_loss": loss, "sample": sample or f"Sample {step}", **more}


ROWS = [row for step in range(10, 61, 10) for row in (log(step, 4 - step / 20), evaluation(step, 3 - step / 50))]
ROWS[-1]["val_loss_cold"] = 2.0


def run_folder(
    name: str, *assignments: str, rows: Iterable[Row] = ROWS, environment: dict[str, Any] | None = None
) -> Path:
    """The folder ``runs/NAME`` of a run with these rows: by default one that came to its end after 60 steps."""
    path = Path("runs") / name
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.config.write_text(dump_config(make_config("cat.txt", f"run.name={path.name}", *assignments)))
    folder.environment.write_text(json.dumps(ENVIRONMENT | (environment or {})))
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
