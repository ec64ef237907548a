"""TensorBoard's event files: rows of ``metrics.jsonl`` as events, and the file that they are appended to.

The format is TFRecord (length, checksum, content, checksum) with an ``Event`` protocol buffer in each record
(https://github.com/tensorflow/tensorboard, ``compat/proto/event.proto``). TensorBoard's own writer works in a thread,
which a full disk ends for good with a traceback; this one is a ``GrowingFile`` like all logs of a run.

The package ``tensorboard`` is imported where it is needed: it takes 0.2 s.
"""

from __future__ import annotations

import math
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.runs import files
from charrnn.runs.files import GrowingFile
from charrnn.runs.metrics import Row

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

PREFIX, SUFFIX = "events.out.tfevents.", ".charrnn"  # TensorBoard knows its files by the former
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "val_loss_cold": "loss/val_cold",
    "lr": "lr",
    "grad_norm": "grad_norm",
    "grad_norm_p99": "grad_norm/p99",
    "clipped": "clipped",
    "chars_per_sec": "chars_per_sec",
}
TAGS_OF_TENSORS = ("grad_norm", "update_ratio")  # these numbers of every parameter


def scalars(row: Row) -> dict[str, float]:
    """The numbers of a row by TensorBoard's tags; losses in nats per character but ``bpc/val``, in bits."""
    named = {tag: row.get(key) for key, tag in TAGS.items()}
    if row.get("val_loss") is not None:
        named["bpc/val"] = row["val_loss"] / math.log(2)
    for name, seen in (row.get("tensors") or {}).items():
        named |= {f"{key}/{name}": seen.get(key) for key in TAGS_OF_TENSORS}
    return {tag: float(value) for tag, value in named.items() if value is not None}


class EventFile:
    """A new event file in ``folder``, which is made if it is not there.

    TensorBoard reads the files of a folder in the order of their names, and this one comes last: it begins by taking
    back whatever earlier ones say of ``first_step`` and later.

    Raises:
        OSError: it cannot be made. Later failures come from ``add_row`` and ``add_text``; what was not written then is
            written before whatever comes next.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        if not folder.is_dir():
            files.disk.make_folder(folder)
        self._file = GrowingFile(folder / f"{PREFIX}{time.time_ns()}{SUFFIX}")
        self._append(Event(file_version="brain.Event:2"))
        self._append(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add_row(self, row: Row) -> None:
        """A row's numbers, and its sample if it has one."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row).items()]
        if isinstance(row.get("sample"), str):
            values.append(_text("sample", row["sample"]))
        self._add(Summary(value=values), row["step"])

    def add_config(self, config_yaml: str, settings: dict[str, Any], name: str, step: int) -> None:
        """A run's config as text, and its settings by dotted names for the page that compares runs by them."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in settings.items()}
        self._add(Summary(value=[_text("config", config_yaml)]), step)
        self._add(hparams_pb(plain, trial_id=name), step)

    def _add(self, summary: Summary, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._append(Event(step=step, summary=summary))

    def _append(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.append(record(event.SerializeToString()))

    def close(self) -> None:
        """Write what still waits, where that can be, and close the file."""
        self._file.close()


def record(content: bytes) -> bytes:
    """A TFRecord: the length as little-endian uint64, its masked CRC-32C, the content, its masked CRC-32C."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(content))
    return b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), content, struct.pack("<I", masked_crc32c(content)))
    )


def _text(tag: str, text: str) -> Summary.Value:
    """A text shown as it is: TensorBoard takes it for Markdown, in which indented lines are code."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    code = "\n".join(f"    {line}" for line in text.split("\n"))
    return Summary.Value(
        tag=tag,
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            string_val=[code.encode(errors="backslashreplace")],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        ),
    )
