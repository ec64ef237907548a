"""What the shell offers when TAB is pressed: configs, runs, texts, settings. Nothing here brings torch.

Each public function is a ``shell_complete`` of click. None ever fails: an error would be written into the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

Found = Iterator[tuple[str, str | None]]  # what can be put in, and what is said of it
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SAFE = "@%+=:,./-_~"
DEFAULT_OUT = "runs"


def _completer(find: Callable[[click.Context, str], Found]) -> Completer:
    """What is found, once each; names that a shell would read as more than a name are left out."""

    @wraps(find)
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = dict(find(context, incomplete))
        except Exception:
            return []
        safe = [name for name in found if name and all(one.isalnum() or one in SAFE for one in name)]
        return [CompletionItem(name, help=found[name]) for name in safe]

    return complete


@_completer
def configs(_: click.Context, incomplete: str) -> Found:
    """Shipped configs, and YAML files here, in ``configs/`` and where the path leads."""
    from charrnn.config.library import shipped_configs

    for path in (*sorted(Path().glob("*.yaml")), *sorted(Path("configs").glob("*.yaml")), *shipped_configs()):
        if path.name.startswith(incomplete):
            yield path.name, _first_comment(path)
    yield from _paths(incomplete, lambda path: path.suffix in (".yaml", ".yml"))


def _first_comment(path: Path) -> str | None:
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline(200).strip()
    return line.lstrip("# ") if line.startswith("#") else None


@_completer
def runs_in(context: click.Context, incomplete: str) -> Found:
    """Run folders: those below ``--out`` or ``runs`` by name or path, others where the path leads."""
    yield from _entries(context, incomplete, {"run"})


@_completer
def swarms_and_runs(context: click.Context, incomplete: str) -> Found:
    """Run folders, and the swarms of a hive once the path leads into it."""
    yield from _entries(context, incomplete, {"run", "swarm"})


@_completer
def hives(context: click.Context, incomplete: str) -> Found:
    """The folders of hives."""
    yield from _entries(context, incomplete, {"hive"})


@_completer
def checkpoints(context: click.Context, incomplete: str) -> Found:
    """Run folders, and below each the checkpoints in it."""
    runs = dict(_entries(context, incomplete, {"run"}))
    yield from runs.items()
    files = _paths(incomplete, lambda path: path.suffix == ".safetensors")
    yield from ((name, help_) for name, help_ in files if name.removesuffix("/") not in runs)


def _entries(context: click.Context, incomplete: str, kinds: set[str]) -> Found:
    from charrnn.runs.shelf import entries, kind_of

    out = Path(context.params.get("out") or DEFAULT_OUT)
    for entry in entries(out)[0] if out.is_dir() else []:
        if entry.kind in kinds and (entry.name.startswith(incomplete) or str(entry.path).startswith(incomplete)):
            yield str(entry.path), None
    for path in _children(incomplete) if "/" in incomplete else []:
        if path.is_dir():
            yield str(path) if kind_of(path) in kinds else f"{path}/", None


@_completer
def run_names(context: click.Context, incomplete: str) -> Found:
    """Names of what lies below ``--out`` or ``runs``, but those given already."""
    from charrnn.runs.shelf import entries

    given = context.params.get("names") or ()
    for entry in entries(Path(context.params.get("out") or DEFAULT_OUT))[0]:
        if entry.name.startswith(incomplete) and entry.name not in given:
            yield entry.name, entry.kind


@_completer
def corpora(_: click.Context, incomplete: str) -> Found:
    """Texts: named ones, files and folders."""
    from charrnn.text.named import NAMED

    yield from ((name, known.description) for name, known in NAMED.items() if name.startswith(incomplete))
    yield from _paths(incomplete, lambda path: True)


@_completer
def corpus_names(_: click.Context, incomplete: str) -> Found:
    """Named texts."""
    from charrnn.text.named import NAMED

    yield from ((name, known.description) for name, known in NAMED.items() if name.startswith(incomplete))


@_completer
def folders(_: click.Context, incomplete: str) -> Found:
    """Folders."""
    yield from _paths(incomplete, lambda path: False)


def _paths(incomplete: str, keep: Callable[[Path], bool]) -> Found:
    """Files to ``keep``, and folders, which end in ``/``, below which there may be more."""
    for path in _children(incomplete):
        if path.is_dir():
            yield f"{path}/", None
        elif keep(path):
            yield str(path), None


def _children(incomplete: str) -> list[Path]:
    """What an unfinished path may become, without what is hidden unless that is asked for."""
    folder, _, begun = incomplete.rpartition("/")
    place = Path(f"{folder}/" if "/" in incomplete else "").expanduser()
    hidden = begun.startswith(".")
    names = [path for path in place.iterdir() if path.name.startswith(begun) and path.name.startswith(".") == hidden]
    return sorted(names)


@_completer
def settings(_: click.Context, incomplete: str) -> Found:
    """``section.key=``, and behind it the values that a setting of few values can have."""
    known = _settings()
    name, equals, value = incomplete.partition("=")
    if not equals:
        yield from ((f"{one}=", help_) for one, (help_, _) in known.items() if one.startswith(name))
    elif name in known:
        yield from ((f"{name}={one}", None) for one in known[name][1] if one.startswith(value))


def _settings() -> dict[str, tuple[str | None, list[str]]]:
    """Every setting by dotted name: what it is, and its values if they are few."""
    from charrnn.config.schema import Config

    return dict(_fields(Config, ""))


def _fields(section: Any, prefix: str) -> Iterator[tuple[str, tuple[str | None, list[str]]]]:
    for key, info in section.model_fields.items():
        if hasattr(info.annotation, "model_fields"):
            yield from _fields(info.annotation, f"{prefix}{key}.")
        if prefix and not (hasattr(info.annotation, "model_fields") and info.description is None):
            yield f"{prefix}{key}", (info.description, _values(info.annotation))


def _values(annotation: Any) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    found = [one for one in get_args(annotation) if isinstance(one, str)]
    return [*found, "null"] if type(None) in get_args(annotation) else found
