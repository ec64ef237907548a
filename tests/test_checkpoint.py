"""The checkpoint format: what goes in comes out, and damage never gets through."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save as save_safetensors

from charrnn.errors import CheckpointError
from charrnn.runs.checkpoint import pack, read_checkpoint, unpack
from charrnn.runs.files import write_atomically
from tests.helpers import differences, write_checkpoint

STATE: dict[str, Any] = {
    "model": {"a.weight": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)},
    "generators": {"cpu": torch.arange(7, dtype=torch.uint8)},
    "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "betas": [0.9, 0.99], "fused": True, "x": None}]},
    "empty": torch.zeros(0),
    "steps": 12345678901,
    "tiny": 5e-324,
    "text": 'quotes " and \u2028 and \x00',
}
PACKED = pack(STATE)


def test_round_trip() -> None:
    assert differences(unpack(PACKED), STATE) == []


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text("abc.", min_size=1), plain | st.dictionaries(st.text("xyz", min_size=1), plain)))
def test_any_plain_values_survive(values: dict[str, Any]) -> None:
    assert unpack(pack(values)) == values


def test_other_tools_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, STATE)
    with safe_open(str(path), "pt") as file:
        assert torch.equal(file.get_tensor("model/a.weight"), STATE["model"]["a.weight"])
        assert file.metadata()["format"] == "charrnn-checkpoint"


def test_no_header_length_looks_like_a_pickle() -> None:
    """A safetensors file begins with its header's length, which may begin with any byte: also those of pickles."""
    first_bytes = set()
    for length in range(600):
        raw = pack({"text": "x" * length})
        first_bytes.add(raw[0])
        assert unpack(raw) == {"text": "x" * length}
    assert 0x80 in first_bytes


@pytest.mark.parametrize("size", range(0, len(PACKED), 7))
def test_no_truncation_gets_through(size: int) -> None:
    with pytest.raises(CheckpointError):
        unpack(PACKED[:size])


@settings(max_examples=300)
@given(st.integers(0, len(PACKED) * 8 - 1))
def test_no_flipped_bit_gets_through(bit: int) -> None:
    damaged = bytearray(PACKED)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CheckpointError):
        unpack(bytes(damaged))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointError):
        unpack(raw)


class Bomb:
    """Unpickling this would raise."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was executed')",))


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="pickle"):
        read_checkpoint(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="pickle"):
        read_checkpoint(path)


def test_foreign_safetensors_and_newer_versions_are_named() -> None:
    with pytest.raises(CheckpointError, match="not a charrnn checkpoint"):
        unpack(save_safetensors({"a": torch.zeros(1)}, {"format": "pt"}))
    with pytest.raises(CheckpointError, match="update charrnn"):
        unpack(newer_version())


def newer_version() -> bytes:
    """A checkpoint of format version 2 with a right digest."""
    import hashlib

    from charrnn.runs import checkpoint

    metadata = {
        "format": checkpoint.FORMAT,
        "format_version": "2",
        "digest": checkpoint.NO_DIGEST,
        "values": json.dumps({}),
    }
    raw = save_safetensors({}, metadata)
    return raw.replace(checkpoint.NO_DIGEST.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        read_checkpoint(tmp_path / "nothing.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "a"
    path.parent.mkdir()
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("charrnn.runs.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
