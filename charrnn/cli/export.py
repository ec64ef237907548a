"""``charrnn export``: a trained network for the Hugging Face hub, or as ONNX."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import checkpoint_option, output_option
from charrnn.cli._terminal import format_bytes, format_loss, say

if TYPE_CHECKING:
    from charrnn.runs.saved import SavedModel


@click.command(short_help="Export for the Hugging Face hub or as ONNX.")
@checkpoint_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["safetensors", "onnx"]),
    required=True,
    help="safetensors: a folder as the Hugging Face hub expects it. onnx: one file, checked against torch.",
)
@output_option("Default: NAME-export, or NAME.onnx.", metavar="PATH")
def export(checkpoint: Path, kind: str, output: Path | None) -> None:
    """Write a trained network for other programs, and other people. The path goes to standard output.

    \b
    Examples:
      charrnn export --checkpoint runs/shakespeare --format safetensors
      charrnn export --checkpoint runs/shakespeare --format onnx -o shakespeare.onnx
    """
    tune_openmp()
    import torch

    from charrnn.runs.export import SHAPES, default_name, refuse_taken, refuse_without_onnx, write_hub, write_onnx
    from charrnn.runs.saved import load_model

    if kind == "onnx":
        refuse_without_onnx()
    saved = load_model(checkpoint, torch.device("cpu"))
    name = default_name(saved.path)
    path = output or Path(f"{name}.onnx" if kind == "onnx" else f"{name}-export")
    refuse_taken(path)
    _describe(saved)
    if kind == "onnx":
        written = write_onnx(saved, path)
        shapes = " and ".join(f"{streams} x {characters}" for streams, characters in SHAPES)
        say(f"Checked: onnxruntime equals torch up to {written.difference:.1e} at batch {shapes}")
        say(f"Wrote:   {format_bytes(written.bytes)}, opset {written.opset}; ids and state in, logits and state out")
    else:
        write_hub(saved, path)
        say(f"Wrote:   a folder for the Hugging Face hub; the license in its {path / 'README.md'} is yours to choose")
        say(f"Use it:  charrnn sample --checkpoint {shlex.quote(str(path))}")
    click.echo(path)


def _describe(saved: SavedModel) -> None:
    loss = (
        "" if saved.val_loss is None else f", validation loss {_in_both_units(saved.val_loss, saved.vocabulary.kind)}"
    )
    say(f"Model:   {saved.config.model.shape}, {len(saved.vocabulary)} symbols, step {saved.steps:,}{loss}")


def _in_both_units(nats: float, symbols: str) -> str:
    per_symbol, in_bits = ("nats/byte", "bits") if symbols == "bytes" else ("nats/char", "bpc")
    return f"{format_loss(nats)} {per_symbol} ({format_loss(nats / math.log(2))} {in_bits})"
