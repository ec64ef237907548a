"""Runs ``charrnn`` in this process, as a shell would: exit code, stdout and stderr. Knows no command."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from charrnn.cli import main

PROGRAM = Path(sys.executable).with_name("charrnn")


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


class _Stream(io.TextIOWrapper):
    """A captured standard stream that may claim to be a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        """All that was written."""
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def run(*words: str | Path, stdin: bytes = b"", terminal: bool = False) -> Result:
    """``charrnn`` with these words; ``terminal`` makes stderr one. The environment is restored afterwards."""
    out, err = _Stream(terminal=False), _Stream(terminal)
    with (
        patch.object(sys, "argv", ["charrnn", *map(str, words)]),
        # Else click calls the program by the name of what runs the tests.
        patch.object(sys.modules["__main__"], "__package__", None),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        patch.dict(os.environ),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    assert isinstance(code, int)
    return Result(code, out.text(), err.text())


def snapshot(folder: Path | None = None) -> dict[str, bytes | None]:
    """Every file under a folder (default: this one) with its content; a folder has None."""
    root = folder or Path()
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }
