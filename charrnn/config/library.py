"""Finding configs by name, and the files shipped with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

from charrnn.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent.parent
LONGEST_NAME = 100


def shipped(kind: str) -> Path:
    """The folder of shipped ``configs`` or ``data``: inside an installed package, or at a checkout's top level."""
    inside = PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def config_folders() -> list[Path]:
    """Where a config's name is looked up, in order."""
    return [Path(), Path("configs"), shipped("configs")]


def find_config(name: str) -> Path:
    """The file for ``--config NAME``: here, then ``configs/``, then the shipped ones; ``.yaml`` may be left out.

    Raises:
        ConfigError: there is none; names the nearest shipped one.
    """
    for folder in config_folders():
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if is_file(candidate):
                return candidate
    if is_folder(Path(name)):
        inside = Path(name) / "config.yaml"
        what = str(inside) if is_file(inside) else "a config file"
        raise ConfigError([f"{name}: no such config: it is a folder; give {what}"])
    known = [path.stem for path in shipped_configs()]
    near = difflib.get_close_matches(Path(name).stem, known, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}.yaml?" if near else f"shipped ones: {', '.join(f'{stem}.yaml' for stem in known)}"
    raise ConfigError([f"{name}: no such config here, in configs/ or among the shipped ones; {advice}"])


def name_of_config(file: Path) -> str:
    """What a run remembers of the config it was made from: a shipped one's name, else the whole path."""
    return file.name if file.parent == shipped("configs") else str(file.absolute())


def is_of_run(file: Path) -> bool:
    """Whether a config is the one that a run folder holds."""
    return file.name == "config.yaml" and is_folder(file.parent / "checkpoints")


def stem_of_config(file: Path) -> str:
    """What is made from a config is called after its file; from that of a run, after the run."""
    return file.absolute().parent.name if is_of_run(file) else file.stem


def name_from(text: str) -> str:
    """A name for the run folder from the name of a text: what ``run.name`` takes.

    ``my text (1).txt`` becomes ``my-text-1``.
    """
    stem = Path(text).stem
    kept = "".join(c if c.isalpha() or c.isdecimal() or c in "_.+" else " " for c in stem)
    return "-".join(kept.split()).lstrip(".+-")[:LONGEST_NAME] or "text"


def is_file(path: Path) -> bool:
    """Whether there is such a file; no for a name that the system finds too long or odd to ask about."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """As ``is_file``, for a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def shipped_configs() -> list[Path]:
    """The configs that come with charrnn, sorted by name."""
    return sorted(shipped("configs").glob("*.yaml"))
