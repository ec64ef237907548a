"""The house keeps its shape: imports point down, files and functions stay short, help stays instant."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# From the top of the house down: a room may import the rooms after it, never those before it.
ROOMS = ["cli", "api", "studies", "plots", "training", "sampling", "runs", "model", "text", "config", "errors"]
LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "charrnn" and len(parts) > 1 else None


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (room for name in names if (room := room_of(name)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if relative.name in ("__init__.py", "__main__.py") and len(relative.parts) == 1:
        return  # the public names come from every room, the program from the top one
    own = ROOMS.index(relative.parts[0].removesuffix(".py"))
    upward = [room for room in imported_rooms(path) if ROOMS.index(room) < own]
    assert not upward, f"{relative} imports upwards: {upward}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            first = node.body[0].lineno
            length = (node.end_lineno or 0) - first + 1 - docstring
            assert length <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.name} does not say what it owns"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_public_names() -> None:
    assert charrnn.__all__ == [
        "CharRNN",
        "CharRNNError",
        "Config",
        "Run",
        "SavedModel",
        "TrainedModel",
        "Trainer",
        "Vocabulary",
        "evaluate",
        "generate",
        "load",
        "load_config",
        "load_model",
        "read_metrics",
        "read_run",
        "resume",
        "train",
    ]
    for name in charrnn.__all__:
        assert getattr(charrnn, name).__name__ == name


def test_only_the_command_line_knows_click_and_only_the_boundary_reads_the_environment() -> None:
    for path in SOURCES:
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0]
        text = path.read_text()
        if room != "cli":
            assert "import click" not in text, path
            assert "sys.stderr" not in text, path
        if room != "cli" and str(relative) not in ("api.py", "text/places.py"):
            assert "os.environ" not in text, path
