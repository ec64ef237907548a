"""Hostile files and names at every entry: nothing is executed, imported or sent; each is refused in one message.

A child watches itself with an audit hook, which no code can take away again, while it is given one after another.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

from charrnn.runs.checkpoint import FORMAT, NO_DIGEST, pack, read_checkpoint
from charrnn.text.places import Places
from tests.children import Child
from tests.command_line import run
from tests.conftest import TEXT, make_config
from tests.helpers import begin, train
from tests.test_fuzz import with_digest

EXPLODE = "touch exploded"
CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 300, max_steps: 20, device: cpu, threads: 1}
"""


# --- The watch.


CANARY = re.compile(r"pwned|exploded")
NEVER = {
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn"),
    *(
        "pickle.find_class",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.bind",
        "code.__new__",
        "os.chmod",
        "os.chown",
    ),
    *("webbrowser.open", "urllib.Request", "ftplib.connect", "smtplib.connect", "http.client.connect"),
}


class Watch:
    """Notes, and stops, what no hostile input may bring about; from ``begin`` on, for good."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and self._is_hostile(event, arguments):
            self.seen.append(f"{event} {arguments!r:.200}")
            raise RuntimeError(f"the audit hook does not allow {event}")

    def _is_hostile(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "import":  # "".encode(name) looks for encodings.name, and there only
            return bool(CANARY.search(str(arguments[0]))) and not str(arguments[0]).startswith("encodings.")
        if event == "exec":
            code = arguments[0]
            return isinstance(code, CodeType) and bool(CANARY.search(f"{code.co_names} {code.co_consts}"))
        if event == "compile":
            return bool(CANARY.search(f"{arguments[0]!r}"))
        return event in NEVER


def files() -> set[tuple[str, int, int]]:
    """All files here: name, size, and when it was changed."""
    there = [path for path in Path().rglob("*") if not path.is_dir()]  # a lock comes and goes, which a folder remembers
    return {(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in there}


def watched(cases: list[list[str]]) -> None:
    """In a child: run each command, and print what came of it as a line of JSON."""
    report, watch = os.fdopen(os.dup(1), "w"), Watch()
    platform.platform()  # asks uname, once per process
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - an import of the pwned would work
    for words in cases:
        before = files()
        watch.on = True
        result = run(*words)
        watch.on = False
        changed = sorted({name for name, *_ in before ^ files()})
        found = {"words": words, "code": result.code, "out": result.out, "err": result.err}
        print(json.dumps(found | {"seen": watch.seen, "changed": changed}), file=report, flush=True)
        watch.seen.clear()


def alarms() -> None:
    """In a child: do what must not be done; the watch has to notice each, and to stop it."""
    watch = Watch()
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    deeds: list[Callable[[], object]] = [
        lambda: os.system("touch exploded"),
        lambda: subprocess.run(["touch", "exploded"], check=False),
        lambda: os.posix_spawn("/bin/touch", ["touch", "exploded"], {}),
        lambda: os.execv("/bin/touch", ["touch", "exploded"]),
        lambda: pickle.loads(pickle.dumps(Bomb(os.system, EXPLODE))),
        lambda: torch.load(io.BytesIO(torch_pickle(True)), weights_only=False),
        lambda: __import__("pwned"),
        lambda: exec("pwned = 1"),
        lambda: eval(compile("__import__('pwned')", "<string>", "eval")),
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    ]
    watch.on = True
    for number, deed in enumerate(deeds):
        with suppress(RuntimeError):
            deed()
        watch.seen.append(f"deed {number}")
    watch.on = False
    print(json.dumps(watch.seen))


def test_the_watch_notices(tmp_path: Path) -> None:
    (tmp_path / "pwned.py").write_text("open('exploded', 'w')\n")
    with Child(tmp_path, alarms) as child:
        assert child.wait() == 0, child.err.read_text()
    seen = json.loads(child.out.read_text())
    assert [line for line in seen if line.startswith("deed")] == [f"deed {number}" for number in range(10)]
    assert all(not line.startswith("deed") for line in seen[::2]), seen
    assert not (tmp_path / "exploded").exists()


# --- What is hostile.


class Bomb:
    """Unpickled, it calls ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def torch_pickle(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"model": Bomb(os.system, EXPLODE)}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles in every protocol, with every kind of charge, bare and wrapped."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"protocol-{protocol}", pickle.dumps(Bomb(os.system, EXPLODE), protocol)
    charge = pickle.dumps({"trainer": Bomb(os.system, EXPLODE)})
    yield "exec", pickle.dumps(Bomb(exec, "open('exploded', 'w')"))
    yield "import", pickle.dumps(Bomb(__import__, "pwned"))
    yield "process", pickle.dumps(Bomb(subprocess.Popen, ["touch", "exploded"]))
    yield "torch-zip", torch_pickle(True)
    yield "torch-legacy", torch_pickle(False)
    array = io.BytesIO()
    np.save(array, np.array([Bomb(os.system, EXPLODE)], dtype=object), allow_pickle=True)
    yield "numpy", array.getvalue()
    yield "gzip", gzip.compress(charge)
    yield "behind-a-length", len(charge).to_bytes(8, "little") + charge
    yield "behind-a-brace", (len(charge) + 1).to_bytes(8, "little") + b"{" + charge
    yield "behind-a-header", b"\x02\0\0\0\0\0\0\0{}" + charge


def tensors() -> Iterator[tuple[str, bytes]]:
    """Files of safetensors with hostile metadata, some with a right digest."""
    metadata = {"format": FORMAT, "format_version": "1", "digest": NO_DIGEST}
    charge = "__import__('os').system('touch exploded')"
    values = [charge, json.dumps(charge), json.dumps({"trainer": charge}), "!!python/object/apply:os.system [x]"]
    values += [pickle.dumps(Bomb(os.system, EXPLODE), 0).decode(), '{"__class__": "pwned", "__reduce__": ["pwned"]}']
    for number, value in enumerate(values):
        yield f"values-{number}", with_digest({"__metadata__": {**metadata, "values": value}}, b"")
        yield f"no-digest-{number}", save_safetensors({"a": torch.zeros(1)}, {**metadata, "values": value})
    for number, name in enumerate(("__class__", "__reduce__", "trainer/__init__/__globals__/pwned", "../../exploded")):
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        yield f"name-{number}", with_digest({"__metadata__": {**metadata, "values": "{}"}, name: entry}, bytes(4))
    yield "foreign", save_safetensors({"a": torch.zeros(1)}, {"format": "pt", "code": charge})
    yield "newer", with_digest({"__metadata__": {**metadata, "format_version": charge, "values": "{}"}}, b"")
    yield "pickle-format", save_safetensors({}, {"format": "pickle", "digest": charge, "values": charge})


YAML_TAGS = {
    "apply": "!!python/object/apply:os.system ['touch exploded']",
    "apply-mapping": "!!python/object/apply:os.system {args: ['touch exploded']}",
    "new": "!!python/object/new:os.system ['touch exploded']",
    "object": "!!python/object:pwned.Pwned {a: 1}",
    "name": "!!python/name:os.system ''",
    "module": "!!python/module:pwned ''",
    "tuple": "!!python/tuple [cat.txt]",
    "popen": "!!python/object/apply:subprocess.Popen [[touch, exploded]]",
    "eval": "!!python/object/apply:eval [\"__import__('pwned')\"]",
    "verbatim": "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch exploded']",
    "own": "!pwned 'cat.txt'",
    "binary": "!!binary Y2F0LnR4dA==",
    "alias": "&a [*a]",
    "merge": "{<<: {a: b}}",
    "surrogate": '"\\ud800"',
    "nul": '"cat.txt\\0"',
    "shell": "'$(touch exploded)'",
    "backquotes": "'`touch exploded`; touch exploded | touch exploded'",
    "jinja": "\"{{ cycler.__init__.__globals__.os.system('touch exploded') }}\"",
    "url": "http://127.0.0.1:9/pwned",
    "file-url": "file:///etc/passwd",
}


def configs() -> Iterator[tuple[str, bytes]]:
    """Each hostile value where a text, a list or a mapping would be fine, and as the whole config."""
    rest = "training: {max_steps: 5, device: cpu, threads: 1}\n"
    for name, value in YAML_TAGS.items():
        yield f"{name}-whole", f"{value}\n".encode()
        yield f"{name}-section", f"corpus: {value}\n{rest}".encode()
        yield f"{name}-source", f"corpus:\n  source: {value}\n{rest}".encode()
        yield f"{name}-key", f"corpus:\n  source: cat.txt\n  ? {value}\n  : x\n{rest}".encode()
        yield f"{name}-encoding", f"corpus:\n  source: cat.txt\n  encoding: {value}\n{rest}".encode()
    tagged = "!!python/object/apply:os.system"
    yield "list-in-place", f"corpus:\n  source: {tagged} [cat.txt]\n{rest}".encode()
    yield "mapping-in-place", f"corpus: {tagged} {{source: cat.txt}}\n{rest}".encode()
    yield "root-in-place", f"--- {tagged}\ncorpus: {{source: cat.txt}}\n{rest}".encode()
    yield "name-of-run", f"corpus: {{source: cat.txt}}\nrun: {{name: '../../exploded'}}\n{rest}".encode()
    yield "name-with-newline", f'corpus: {{source: cat.txt}}\nrun: {{name: "a\\n"}}\n{rest}'.encode()
    yield "nul-in-out", f'corpus: {{source: cat.txt}}\nrun: {{out: "a\\0"}}\n{rest}'.encode()
    yield "nul-in-glob", f'corpus: {{source: folder, glob: "a\\0*"}}\n{rest}'.encode()
    yield "python", b"import pwned\nimport os\nos.system('touch exploded')\n"
    yield "codec", f"corpus: {{source: cat.txt, encoding: pwned}}\n{rest}".encode()


NAMES = [
    *("$(touch exploded)", "`touch exploded`", "; touch exploded;", "| touch exploded", "&& touch exploded", "a\nb"),
    *(
        "-rf",
        "--help",
        "%s%n%d",
        "{0.__class__}",
        "'\"",
        "*",
        "~root",
        "\u202etxt.cat",
        "pwned:main",
        "\x1b]0;pwned\x07",
    ),
    *("http://127.0.0.1:9/pwned", "ftp://127.0.0.1/pwned", "file:///etc/passwd", "\\\\127.0.0.1\\pwned", "!touch"),
]
CHECKPOINT_ENTRIES = [
    ["sample", "--checkpoint"],
    ["eval", "--checkpoint"],
    ["lr-find", "--quick", "--checkpoint"],
    ["train", "--resume"],
    ["inspect", "--checkpoint"],
    ["export", "--format", "safetensors", "--checkpoint"],
]
CONFIG_ENTRIES = [["train", "--config"], ["lr-find", "--quick", "--seeds", "1", "--config"]]
TEXT_ENTRIES = [
    ["train", "--config", "ok.yaml", "--data"],
    ["lr-find", "--quick", "--config", "ok.yaml", "--data"],
    ["eval", "--checkpoint", "run", "--data"],
    ["sample", "--checkpoint", "run", "--prompt-file"],
    ["inspect", "--checkpoint", "run", "--text"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good run, a good config, a module to be lured by, and everything hostile."""
    base = tmp_path_factory.mktemp("malice")
    (base / "cat.txt").write_text(TEXT)
    (base / "ok.yaml").write_text(CONFIG)
    (base / "pwned.py").write_text("open('exploded', 'w')\n")
    sizes = ("training.max_steps=5", "model.num_layers=1", "training.threads=1", f"run.out={base}")
    train(begin(make_config(str(base / "cat.txt"), *sizes), Places(data=(), cache=base / "cache")))
    for kind, files in {"pickle": pickles(), "tensors": tensors(), "config": configs()}.items():
        for name, content in files:
            file = base / f"{kind}-{name}.{'yaml' if kind == 'config' else 'safetensors'}"
            file.write_bytes(content)
            if kind != "config":
                checkpoints = base / f"{kind}-{name}-run" / "checkpoints"
                checkpoints.mkdir(parents=True)
                for one in ("last", "best"):
                    shutil.copy(file, checkpoints / f"{one}.safetensors")
    return base


def cases(folder: Path) -> Iterator[list[str]]:
    """Every hostile file at every entry that takes one, and every hostile name."""
    entries = [*CHECKPOINT_ENTRIES, *CONFIG_ENTRIES, *TEXT_ENTRIES]
    files = {kind: sorted(file.name for file in folder.glob(f"{kind}-*")) for kind in ("pickle", "tensors", "config")}
    for file in (*files["pickle"], *files["tensors"]):
        yield from ([*words, file] for words in (CHECKPOINT_ENTRIES if file.endswith("-run") else entries))
    for file in files["config"]:
        whole = file.endswith("-whole.yaml")
        yield from ([*words, file] for words in (entries if whole else CONFIG_ENTRIES))
    for name in NAMES:
        yield from ([*words[:-1], f"{words[-1]}={name}"] for words in entries)


def what_is_wrong(found: dict[str, Any]) -> str | None:
    """Whether a hostile case was anything but refused, and how."""
    problems = [line for line in found["err"].splitlines() if re.match("(error|Error|internal error): ", line)]
    a_line_each = "config" in found["words"][-1] or "--config" in found["words"]
    wrong = {
        f"exit code {found['code']}": found["code"] != 2,
        "traceback": "Traceback" in found["err"],
        f"{len(problems)} messages": not problems or (len(problems) > 1 and not a_line_each),
        f"stdout {found['out']!r:.80}": found["out"],
        f"seen {found['seen']}": found["seen"],
        f"changed {found['changed']}": found["changed"],
    }
    said = [text for text, is_so in wrong.items() if is_so]
    return f"{' '.join(found['words'])}: {', '.join(said)}: {found['err'][-100:]!r}" if said else None


def run_watched(folder: Path, given: list[list[str]]) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(folder.parent / "cache"))  # not in the folder: that must stay as it is
        patch.setenv("GOMP_SPINCOUNT", "2000")  # else every command looks for a while who else is running
        with Child(folder.parent, in_folder, str(folder), given) as child:
            assert child.wait(600) == 0, child.err.read_text()
    found = [json.loads(line) for line in child.out.read_text().splitlines()]
    assert len(found) == len(given)
    return found


def in_folder(folder: str, given: list[list[str]]) -> None:
    os.chdir(folder)
    watched(given)


def test_the_folder_is_otherwise_sound(folder: Path) -> None:
    """What is refused below is refused for its malice: the same commands work with what is harmless."""
    words = [*CHECKPOINT_ENTRIES[:2], ["train", "--resume"]]
    found = run_watched(folder, [[*one, "run"] for one in words] + [["train", "--dry-run", "--config", "ok.yaml"]])
    assert [(one["code"], one["seen"], one["changed"]) for one in found] == [(0, [], [])] * 4


def test_hostile_files_and_names_are_refused(folder: Path, record_property: Any) -> None:
    given = list(cases(folder))
    hostile = {words[-1].partition("=")[2] or words[-1] for words in given}
    wrong = [text for found in run_watched(folder, given) if (text := what_is_wrong(found))]
    count = {"hostile files and names": len(hostile), "commands": len(given)}
    print(count)
    record_property("malice", count)
    assert not (folder / "exploded").exists()
    assert not wrong, "\n".join([f"{len(wrong)} of {len(given)}", *wrong])


def test_names_with_shell_characters_that_exist(tmp_path: Path) -> None:
    given = []
    (tmp_path / "ok.yaml").write_text(CONFIG)
    for name in NAMES:
        if "/" not in name:
            (tmp_path / name).write_text(TEXT)
            given.append(["train", "--dry-run", "--config", "ok.yaml", f"--data={name}"])
    for found in run_watched(tmp_path, given):
        assert (found["code"], found["seen"], found["changed"]) == (0, [], []), found
    assert not (tmp_path / "exploded").exists()


def test_whole_checkpoints_with_hostile_settings(folder: Path) -> None:
    """What a checkpoint says is never more than text: where it names a file, that is looked for, and not found."""
    state = read_checkpoint(folder / "run" / "checkpoints" / "last.safetensors")
    charges = ["$(touch exploded)", "`touch exploded`", "pwned", "http://127.0.0.1:9/pwned", "../../exploded"]
    given = []
    for number, charge in enumerate(charges):
        state["config"]["corpus"]["source"] = state["corpus"]["source"] = state["corpus"]["name"] = charge
        state["config"]["run"]["out"] = charge
        state["environment"] |= {"command": [charge], "python": charge}
        file = f"whole-{number}.safetensors"
        (folder / file).write_bytes(pack(state))
        given += [[*words, file] for words in CHECKPOINT_ENTRIES[1:3]]
    assert [text for found in run_watched(folder, given) if (text := what_is_wrong(found))] == []


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "samples.txt", "checkpoints/.unfinished-x"])
def test_a_run_folder_of_links_changes_nothing_elsewhere(name: str, folder: Path, tmp_path: Path) -> None:
    """Somebody else's run folder may name files of mine as its own: resuming it must leave these as they are."""
    run_folder, mine = tmp_path / "theirs", tmp_path / "mine.txt"
    shutil.copytree(folder / "run", run_folder)
    mine.write_text("precious\n" * 1000)
    (run_folder / name).unlink(missing_ok=True)
    (run_folder / name).symlink_to(mine)
    run("train", "--resume", run_folder, "--set", "training.max_steps=8")
    assert mine.read_text() == "precious\n" * 1000
