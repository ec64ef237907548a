"""``charrnn eval``: how well a network predicts a text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import (
    checkpoint_option,
    data_option,
    device_option,
    on_unknown_option,
    refuse_other_settings,
    set_option,
)
from charrnn.cli._terminal import format_loss, warn
from charrnn.errors import Interrupted

if TYPE_CHECKING:
    from charrnn.text.vocabulary import OnUnknown
    from charrnn.training.scoring import Report

HOW_TO_READ = ("corpus.encoding", "corpus.glob", "corpus.split")


@click.command(name="eval", short_help="Loss on a text, from a carried and from a cold state.")
@checkpoint_option
@data_option("Score this file or folder instead of the model's own text")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    help="Which part; default: val, or all of --data.",
)
@on_unknown_option("--data")
@set_option("How --data is read: corpus.encoding=latin-1 (also corpus.glob, corpus.split).")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    checkpoint: Path,
    data: str | list[str] | None,
    split: str | None,
    on_unknown: OnUnknown,
    assignments: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Loss over a whole part of the text, from a carried and from a cold state.

    \b
    Examples:
      charrnn eval --checkpoint runs/shakespeare
      charrnn eval --checkpoint runs/shakespeare --data sonnets.txt --json
      charrnn eval --checkpoint runs/shakespeare --data old.txt --set corpus.encoding=latin-1
    """
    refuse_other_settings(assignments, HOW_TO_READ, data, "--data")
    tune_openmp()
    from charrnn.cli._interrupts import Interrupts
    from charrnn.runs.metrics import without_nan
    from charrnn.runs.saved import load_model
    from charrnn.text.places import Places
    from charrnn.training.precision import choose_device
    from charrnn.training.scoring import score_model

    saved = load_model(checkpoint, choose_device(device or "auto"))
    with Interrupts() as interrupts:
        report = score_model(saved, Places.from_environment(), data, assignments, split, on_unknown, interrupts)
    if report is None:
        raise Interrupted("interrupted", interrupts.received or 0)
    for note in report.notes:
        warn(note)
    click.echo(json.dumps(without_nan(report.to_dict())) if as_json else _table(report))


def _table(report: Report) -> str:
    from charrnn.training.evaluation import perplexity

    of_bytes = report.symbol == "byte"
    lines = [
        f"{report.text_name}, {report.split}: {report.carried.characters:,} {'bytes' if of_bytes else 'characters'}",
        f"{'':9} {f'nats/{report.symbol}':>9} {'bits' if of_bytes else 'bpc':>8} {'perplexity':>11}",
    ]
    measured: dict[str, Any] = {"carried": report.carried.nats_per_char, "cold": report.cold.nats_per_char}
    for name, nats in {**measured, **report.baselines}.items():
        bits, choices = format_loss(nats / math.log(2)), perplexity(nats)
        many = f"{choices:.3f}" if choices < 1e6 else f"{choices:.1e}"
        lines.append(f"{name:9} {format_loss(nats):>9} {bits:>8} {many:>11}")
    return "\n".join(lines)
