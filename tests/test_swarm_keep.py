"""Bees are kept all or nothing, and only one swarm at a time keeps any in a hive."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from charrnn.errors import CharRNNError, UsageError
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import FolderLock
from charrnn.studies.swarm.bee import Landed, fallen
from charrnn.studies.swarm.colony import Colony
from charrnn.studies.swarm.hive import Hive
from charrnn.text.places import Places
from tests.command_line import snapshot
from tests.fault_disk import FailingDisk, Killed, KillingDisk, RecordingDisk
from tests.hives import bee_config, colony_of, disk_of, files_of, make


@pytest.fixture
def colony(text_file: Path, places: Places) -> Colony:
    return colony_of(bee_config(text_file), places)


def some_bee(colony: Colony, hive: Hive) -> Landed:
    """Not a trained one."""
    task = colony.tasks(hive, 1)[0][0]
    result = {"status": "ended", "message": None, "steps": 3, "seconds": 0.5}
    losses = {"train_loss": 1.0, "val_loss": 2.0, "val_loss_cold": 2.5, "best_val_loss": 1.5}
    contents = {"config.yaml": b"config", "checkpoints/last.safetensors": b"x" * 1000, "metrics.jsonl": b""}
    return Landed(task, {"result.json": json.dumps({**result, **losses}).encode(), **contents})


class TestKeep:
    @pytest.mark.parametrize("how", ["before", "middle", "after"])
    def test_killed_at_any_operation(self, colony: Colony, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The bee is wholly there or not at all, and the next try keeps it and nothing else."""
        hive = make(colony)
        hive.add_swarm(colony.swarms[0][0])
        empty = snapshot(hive.path)
        landed = some_bee(colony, hive)
        with disk_of(counting := RecordingDisk()):
            hive.keep(landed)
        complete = snapshot(hive.path)
        assert len(counting.operations) > 15
        for at in range(1, len(counting.operations) + 1):
            shutil.rmtree(hive.path / landed.task.place)
            with disk_of(KillingDisk(at, how)), monkeypatch.context() as dead, pytest.raises(Killed):
                dead.setattr("shutil.rmtree", lambda *_, **__: None)  # the dead do not tidy up
                hive.keep(landed)
            left = {name: content for name, content in snapshot(hive.path).items() if ".unfinished" not in name}
            assert left in (empty, complete)
            assert hive.has_landed(landed.task) == (left == complete)
            hive.tidy()
            assert snapshot(hive.path) == left
            hive.keep(landed)
            assert snapshot(hive.path) == complete

    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
    def test_failed_at_any_operation(self, colony: Colony, error: int) -> None:
        hive = make(colony)
        hive.add_swarm(colony.swarms[0][0])
        before, landed = snapshot(hive.path), some_bee(colony, hive)
        at, refused = 0, 1
        while refused:
            at += 1
            with disk_of(failing := FailingDisk(at, error, None)):
                try:
                    hive.keep(landed)
                except CharRNNError as problem:
                    assert str(problem).startswith(f"{hive.path}: cannot write: {os.strerror(error)}; ")
                    assert f"charrnn swarm --resume {hive.path}" in str(problem)
            refused = failing.refused
            if not hive.has_landed(landed.task):
                assert snapshot(hive.path) == before
        assert at > 15
        assert files_of(hive.path / landed.task.place) == landed.files

    def test_one_that_failed_is_replaced(self, colony: Colony) -> None:
        hive = make(colony)
        hive.add_swarm(colony.swarms[0][0])
        landed = some_bee(colony, hive)
        hive.keep(fallen(landed.task, "an eagle"))
        assert not hive.has_landed(landed.task)
        assert hive.result(landed.task) == fallen(landed.task, "an eagle").result
        hive.keep(landed)
        assert hive.has_landed(landed.task)
        assert files_of(hive.path / landed.task.place) == landed.files

    @pytest.mark.parametrize(
        "content",
        [
            *(
                b"",
                b"{",
                b"[]",
                b"null",
                b"{}",
                b"\xff",
                b'{"status": "ended"',
                b'{"status": "failed"}',
                b"[" * 100_000,
            ),
            *(b'{"status": ["ended"]}', b'{"status": "ended"}', b'{"status": "diverged", "val_loss": null}'),
        ],
    )
    def test_a_damaged_result_is_no_result(self, colony: Colony, content: bytes) -> None:
        hive = make(colony)
        hive.add_swarm(colony.swarms[0][0])
        landed = some_bee(colony, hive)
        hive.keep(landed)
        (hive.path / landed.task.place / "result.json").write_bytes(content)
        assert not hive.has_landed(landed.task)
        hive.keep(landed)
        assert hive.has_landed(landed.task)


def test_two_at_once(colony: Colony) -> None:
    hive = make(colony)
    with FolderLock(RunFolder(hive.path)), pytest.raises(UsageError, match="is training in it"):
        FolderLock(RunFolder(hive.path)).__enter__()
