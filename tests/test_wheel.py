"""The wheel holds what charrnn needs outside its repository, and works from an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import charrnn

PACKAGE = Path(charrnn.__file__).parent
ROOT = PACKAGE.parent


def call(*words: str | Path, where: Path | None = None) -> str:
    """Run a program to its good end, without what would lead it back to the repository; its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CHARRNN"))}
    environment |= {"CHARRNN_CACHE": str(where / "cache")} if where else {}
    done = subprocess.run(words, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # The backend is at hand (extra dev): nothing is to be downloaded.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    call(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a new environment: charrnn from its wheel, all else borrowed from this one."""
    home = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", home)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "bin" / "python")
    call(*pip, "install", "--no-deps", "--no-index", wheel)
    inside = {"base": str(home), "platbase": str(home)}
    borrowed = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    # Searched after the environment's own packages; .pth files in there, an editable charrnn's for one, are not read.
    Path(sysconfig.get_path("purelib", vars=inside), "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return home / "bin"


def test_the_wheel_holds_all_that_is_needed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        contents = {name: archive.read(name) for name in names}
        metadata = next(archive.read(n).decode() for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        licenses = [name for name in archive.namelist() if name.endswith("LICENSE")]
    expected = {str(p.relative_to(ROOT)): p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    expected |= {f"charrnn/shipped/configs/{p.name}": p for p in (ROOT / "configs").iterdir()}
    expected["charrnn/shipped/data/play.txt"] = ROOT / "data" / "play.txt"
    assert names == set(expected)
    assert {"charrnn/py.typed", "charrnn/api.py", "charrnn/shipped/configs/counting.yaml"} <= names
    assert all(contents[name] == path.read_bytes() for name, path in expected.items())
    assert "Requires-Dist: torch>=" in metadata and "Provides-Extra: onnx" in metadata and licenses


def test_it_works_outside_the_repository(programs: Path, tmp_path: Path) -> None:
    def charrnn_says(*words: str | Path) -> str:
        return call(programs / "charrnn", *words, where=tmp_path)

    home = call(programs / "python", "-c", "import charrnn; print(charrnn.__file__)", where=tmp_path)
    assert Path(home.strip()).is_relative_to(programs.parent)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert charrnn_says("--version").rstrip().endswith(f" {version}")
    assert "shakespeare.yaml" in charrnn_says("config", "ls")
    assert "The Tide-Bell" in charrnn_says("corpus", "ls")
    assert json.loads(charrnn_says("corpus", "stats", "play", "--json"))["characters"] > 100_000
    (tmp_path / "mine.txt").write_text("a text of my own, again and again. " * 300)
    settings = ("--set", "training.max_steps=5", "--set", "sampling.length=20")
    charrnn_says("train", "--config", "counting.yaml", "--data", "mine.txt", *settings)
    assert (tmp_path / "runs" / "counting" / "config.yaml").is_file()
    assert len(charrnn_says("sample", "--checkpoint", "runs/counting")) >= 20
