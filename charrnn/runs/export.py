"""A trained model for others: a folder for the Hugging Face hub, or an ONNX file that was checked before it is there.

Nothing that exists is written over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charrnn.errors import CharRNNError, UsageError
from charrnn.model.charrnn import CharRNN
from charrnn.runs.files import write_folder
from charrnn.runs.hub import WEIGHTS, hub_files, hub_json
from charrnn.runs.output import refuse_place, write_output, writing
from charrnn.runs.saved import SavedModel, understanding

SHAPES = ((1, 7), (3, 20))  # streams and characters of the check: two of each
TOLERANCE = 1e-4
MOST_PARAMETERS = 500_000_000  # of 4 bytes: a protocol buffer holds 2 GB


@dataclass(frozen=True)
class OnnxFile:
    """What was written. ``difference``: see ``largest_difference``."""

    bytes: int
    opset: int
    difference: float


def default_name(file: Path) -> str:
    """The name of the model in this file: that of its run or exported folder, else the file's own."""
    file = file.resolve()
    if file.name == WEIGHTS:
        return file.parent.name
    return file.parent.parent.name if file.parent.name == "checkpoints" else file.stem


def refuse_taken(path: Path) -> None:
    """Find out before the work whether something can be written at ``path``.

    Raises:
        UsageError: there is something already, or no folder to put it in.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: already exists and is left untouched; choose another name with -o")
    refuse_place(path)


def refuse_without_onnx() -> None:
    """Find out before the work whether the packages are there.

    Raises:
        UsageError: they are not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--format onnx needs the packages onnx and onnxruntime ({error}): pip install 'charrnn[onnx]'"
        ) from error


def write_hub(saved: SavedModel, path: Path) -> None:
    """Make the folder ``path`` (see ``hub.py``), all or nothing.

    Raises:
        CheckpointError: what the checkpoint says of its training makes no sense.
        UsageError: it is there already, or cannot be made.
    """
    refuse_taken(path)
    with understanding(saved.path):
        content = hub_files(saved, path.absolute().name)
    with writing(path):
        write_folder(path, content)


def write_onnx(saved: SavedModel, path: Path) -> OnnxFile:
    """Write the model as ONNX once onnxruntime computes the same as torch; its metadata are the hub's JSON files.

    Raises:
        UsageError: ``path`` is there already, or cannot be written; or a package is missing.
        CharRNNError: the model is too large for the format, or what it computes differs. Nothing was written.
    """
    refuse_taken(path)
    refuse_without_onnx()
    if saved.model.num_parameters > MOST_PARAMETERS:
        raise CharRNNError(f"{saved.path}: an ONNX file holds 2 GB at most; use --format safetensors")
    import onnx

    from charrnn.model.onnx_graph import OPSET, onnx_model

    graph = onnx_model(saved.model, {name: json.dumps(values) for name, values in hub_json(saved).items()})
    onnx.checker.check_model(graph, full_check=True)
    raw = graph.SerializeToString()
    difference = largest_difference(saved.model, raw)
    if not difference < TOLERANCE:
        raise CharRNNError(
            f"{path}: not written: onnxruntime differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}; "
            "use --format safetensors, and report this"
        )
    write_output(path, raw)
    return OnnxFile(len(raw), OPSET, difference)


def largest_difference(model: CharRNN, raw: bytes) -> float:
    """Between onnxruntime and torch, in logits or state, on random characters from random states, for all ``SHAPES``.

    In units of the largest number that torch computes, or of 1 where that is larger.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    runtime = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    return max(_difference(model, runtime, shape, generator) for shape in SHAPES)


@torch.inference_mode()
def _difference(model: CharRNN, runtime: Any, shape: tuple[int, int], generator: torch.Generator) -> float:
    from charrnn.model.onnx_graph import state_names

    ids = torch.randint(model.vocab_size, shape, generator=generator)
    hidden = tuple(torch.rand(part.shape, generator=generator) * 2 - 1 for part in model.zero_hidden(shape[0]))
    logits, after = model(ids, hidden)
    given = dict(zip(["ids", *state_names(model, 0)], [ids, *hidden], strict=True))
    computed = runtime.run(["logits", *state_names(model, 1)], {name: part.numpy() for name, part in given.items()})
    expected = [logits, *after]
    apart = [(torch.from_numpy(ours) - theirs).abs().max() for ours, theirs in zip(computed, expected, strict=True)]
    unit = torch.stack([part.abs().max() for part in expected]).max().clamp(min=1)
    return float(torch.stack(apart).max() / unit)
