"""Files that grow, and files of the cache: what is left when their writer goes."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from charrnn.runs import files
from charrnn.runs.files import Disk, GrowingFile
from charrnn.text.places import CacheFile


@pytest.mark.parametrize("written", [0, 3, None])
def test_an_interruption_within_a_write_leaves_each_line_once(
    written: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come before anything is on the disk, in the middle, and when all is there and nobody has counted it."""

    class Interrupting(Disk):
        def write(self, descriptor: int, content: bytes | memoryview) -> int:
            super().write(descriptor, content[:written])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), GrowingFile(Path("log")) as file:
        file.append("one\n")
        with monkeypatch.context() as patch:
            patch.setattr(files, "disk", Interrupting())
            file.append("two\n")
    assert Path("log").read_text() == "one\ntwo\n"


def write_for_ever(folder: str, begun: str) -> None:
    with CacheFile(Path(folder)) as file:
        file.write(b"half")
        Path(begun).touch()
        signal.pause()


def test_what_a_killed_process_left_in_the_cache_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    folder = tmp_path / "cache"
    writers = []
    for number in (1, 2):
        begun = tmp_path / f"begun-{number}"
        writers.append(context.Process(target=write_for_ever, args=(str(folder), str(begun))))
        writers[-1].start()
        while not begun.exists():
            assert writers[-1].is_alive()
    try:
        first, second = sorted(folder.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        with CacheFile(folder) as file:
            assert {first, second} < set(folder.iterdir()), "both still write"
            writers[0].kill()
            writers[0].join()
            with CacheFile(folder) as other:
                assert (first.exists(), second.exists()) == (False, True)
                other.keep_as("other")
            file.keep_as("kept")
        assert {path.name for path in folder.iterdir()} == {"kept", "other", second.name}
    finally:
        for writer in writers:
            writer.kill()
            writer.join()
