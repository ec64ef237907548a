"""The checkpoint format: one safetensors file, no pickle, with a digest over everything in it.

A state is a nested dict of tensors and plain values. Tensors become safetensors entries named by their path
(``trainer/model/decoder.bias``); plain values become one JSON text in the header's metadata. This module knows
nothing of models or optimizers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError

from charrnn.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "charrnn-checkpoint"
FORMAT_VERSION = 1
NO_DIGEST = "0" * 64
MAX_HEADER_BYTES = 100_000_000
MAX_UNKNOWN_BYTES = 100_000_000
ADVICE = "give another checkpoint"
State = dict[str, Any]
Parser = Callable[[bytes], dict[str, Any]]  # of the bytes of a safetensors file


def as_tensors(raw: bytes) -> dict[str, Tensor]:
    """By name, on the CPU."""
    from safetensors.torch import load

    return load(raw)


class UnknownToNumpy(Exception):
    """Numbers of a type that torch has and numpy has not, as bfloat16."""


def as_arrays(raw: bytes) -> dict[str, Any]:
    """The same for numpy, without torch.

    Raises:
        UnknownToNumpy: it takes torch after all.
    """
    from safetensors.numpy import load

    try:
        return load(raw)
    except KeyError as error:
        raise UnknownToNumpy(*error.args) from error


def read_checkpoint(path: Path, parse: Parser = as_tensors) -> State:
    """The state in a checkpoint file.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or of a newer version.
    """
    try:
        with path.open("rb") as file:
            _refuse_other_size(file, path.stat().st_size)
            return unpack(file.read(), parse)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror}; {ADVICE}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; {ADVICE}") from error


def pack(state: State) -> bytes:
    """A state as the bytes of a checkpoint file."""
    tensors, values = _split(state)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "digest": NO_DIGEST,
        "values": json.dumps(values),
    }
    from safetensors.torch import save

    raw = save(tensors, metadata)
    # The digest is of the whole file with zeros in the digest's place: nothing in the file escapes it.
    return _replace_digest(raw, NO_DIGEST, hashlib.sha256(raw).hexdigest())


def unpack(raw: bytes, parse: Parser = as_tensors) -> State:
    """The inverse of ``pack``; the digest is checked before anything is used.

    Raises:
        CheckpointError: these are not the bytes of a whole checkpoint that this version can read.
    """
    metadata = _metadata(raw)
    if metadata.get("format") != FORMAT:
        raise CheckpointError("a safetensors file, but not a charrnn checkpoint")
    digest = str(metadata.get("digest"))
    blank = _replace_digest(raw, digest, NO_DIGEST)
    if len(digest) != len(NO_DIGEST) or hashlib.sha256(blank).hexdigest() != digest:
        raise CheckpointError("damaged: its content does not match its digest")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        version = metadata.get("format_version")
        raise CheckpointError(f"written in format version {version}, newer than {FORMAT_VERSION}: update charrnn")
    try:
        return _join(parse(raw), dict(json.loads(metadata["values"])))
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"damaged: {error}") from error


def _refuse_other_size(file: BinaryIO, size: int) -> None:
    """A file that claims gigabytes and holds none is found out before it is read."""
    head = file.read(8)
    try:
        header = json.loads(file.read(min(_header_size(head), MAX_HEADER_BYTES)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + _header_size(head) + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        expected = size if size < MAX_UNKNOWN_BYTES else 0  # nothing that we wrote; ``unpack`` says what is wrong
    file.seek(0)
    if size != expected and size >= MAX_UNKNOWN_BYTES:
        raise CheckpointError("not a checkpoint, or damaged: its size is not what its header says")


def _replace_digest(raw: bytes, old: str, new: str) -> bytes:
    end = 8 + _header_size(raw)
    return raw[:end].replace(f'"digest":"{old}"'.encode(), f'"digest":"{new}"'.encode(), 1) + raw[end:]


def _metadata(raw: bytes) -> dict[str, Any]:
    """The metadata in a safetensors header."""
    if raw[8:9] != b"{" and raw.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive, or pickle's first byte
        raise CheckpointError("a PyTorch pickle (.pt), which can run code when loaded: refused")
    size = _header_size(raw)
    if len(raw) < 8 or size > min(len(raw) - 8, MAX_HEADER_BYTES):
        raise CheckpointError("not a checkpoint, or cut short")
    try:
        metadata = json.loads(raw[8 : 8 + size])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError("not a checkpoint, or damaged") from error
    return metadata if isinstance(metadata, dict) else {}


def _header_size(raw: bytes) -> int:
    """Of the JSON of a safetensors header, which these 8 bytes precede."""
    return int.from_bytes(raw[:8], "little")


def _split(state: State, prefix: str = "") -> tuple[dict[str, Tensor], State]:
    """Separate the tensors, flat and named by path, from the plain values, nested as they were."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    values: State = {}
    for key, value in state.items():
        path = prefix + key
        if isinstance(value, Tensor):
            tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        elif isinstance(value, dict):
            inner, values[key] = _split(value, path + "/")
            tensors |= inner
        else:
            values[key] = value
    return tensors, values


def _join(tensors: dict[str, Any], values: State) -> State:
    for path, tensor in tensors.items():
        *sections, name = path.split("/")
        target = values
        for section in sections:
            target = target[section]
        target[name] = tensor
    return values
