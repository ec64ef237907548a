"""Damaged and malformed files: a checkpoint or config is refused by an error of ours, or usable; never anything else.

Inputs are made from a seed, in a child with little memory to spare; each may take a few seconds of the processor. What
kills the child counts against the input that did it, and the next child goes on behind it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from charrnn.config.library import shipped_configs
from charrnn.config.loader import dump_config, load_config
from charrnn.errors import CharRNNError, CheckpointError, ConfigError
from charrnn.runs.checkpoint import NO_DIGEST, State, pack, read_checkpoint, unpack
from charrnn.runs.directory import RunFolder
from charrnn.runs.export import write_hub
from charrnn.runs.keeping import newest_whole
from charrnn.runs.saved import load_model
from charrnn.sampling.sampler import sample_text
from charrnn.text.places import Places
from charrnn.training.session import config_in, resume_session
from tests.children import Child
from tests.conftest import TEXT, make_config
from tests.helpers import begin, differences, train

MEMORY_TO_SPARE = 3 << 30
SECONDS_EACH = 5.0  # of the processor, so that a busy machine makes no difference
Input = tuple[str, Callable[[], None]]
Inputs = Callable[[Path, int, int], Iterator[Input]]


# --- The child, and what it reports.


class TookTooLong(BaseException):
    """Not an ``Exception``: nobody may mistake it for an error in a file."""


@dataclass
class Report:
    """How many inputs there were, and what went wrong: kind of failure -> how often, and one input that shows it."""

    count: int
    seconds: float  # of the processor
    failures: dict[str, tuple[int, str]]

    def __str__(self) -> str:
        failures = sorted((kind, times, " ".join(name.split())) for kind, (times, name) in self.failures.items())
        lines = [f"  {times} x {kind}; such as: {name}" for kind, times, name in failures]
        return "\n".join([f"{self.count} inputs in {self.seconds:.1f} s of the processor", *lines])


def fuzz(folder: Path, inputs: Inputs, seed: int, size: int, seconds: float = 600) -> Report:
    """Try all inputs, in children; ``seconds`` is how long one of them may live."""
    failures: list[tuple[str, str]] = []
    first, spent = 0, 0.0
    while True:
        with Child(folder, _try_all, inputs, folder, seed, size, first) as child:
            code = child.wait(seconds)
        lines = [json.loads(line) for line in child.out.read_text().splitlines()]
        failures += [(line["kind"], line["name"]) for line in lines if "kind" in line]
        first, spent = lines[-1]["number"] + 1, spent + lines[-1]["spent"]
        if code == 0:
            count = Counter(kind for kind, _ in failures)
            return Report(first, spent, {kind: (count[kind], name) for kind, name in reversed(failures)})
        failures.append((f"the process ended with {code}", lines[-1]["name"]))


def _try_all(inputs: Inputs, folder: Path, seed: int, size: int, first: int) -> None:
    def give_up(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, give_up)
    _limit_memory()
    for number, (name, attempt) in enumerate(inputs(folder, seed, size)):
        if number < first:
            continue
        line = {"number": number, "name": name[:200], "spent": time.process_time()}
        print(json.dumps(line), flush=True)
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS_EACH)
            attempt()
            signal.setitimer(signal.ITIMER_PROF, 0)
        except (Exception, TookTooLong) as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            found = {"kind": _kind(error), "name": f"{name[:100]}: {str(error)[:100]}"}
            print(json.dumps(line | found), flush=True)


def _limit_memory() -> None:
    """Three gigabytes more than there are now; where the system does not tell, or know such limits, none."""
    with suppress(OSError, ValueError):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_TO_SPARE, now + MEMORY_TO_SPARE))


def _kind(error: BaseException) -> str:
    """What an error is, where it came up and by which way of ours it got there."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/charrnn/" in f.filename]
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]
    return f"{type(error).__name__} in {' < '.join(reversed(places)) or 'the test'}"


# --- Checkpoints whose bytes are damaged: the digest must tell.


def tiny_run(base: Path) -> RunFolder:
    """A run that is as small as can be and has everything in it."""
    (base / "cat.txt").write_text(TEXT[:858])
    places = Places(data=(), cache=base / "cache")
    sizes = ("model.num_layers=1", "model.hidden_size=2", "model.embedding_size=1", "training.max_steps=6")
    often = ("run.log_every=4", "run.eval_every=3", "run.save_every=3", f"run.out={base}")
    session = begin(make_config(str(base / "cat.txt"), *sizes, *often), places)
    train(session)
    assert session.folder is not None
    return session.folder


def truncations(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """A checkpoint cut off behind every byte."""
    raw = RunFolder(folder / "run").last.read_bytes()
    for length in range(len(raw)):
        yield f"first {length} bytes", partial(_is_refused, raw[:length])


def _is_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointError):
        unpack(raw)


def mutate(raw: bytes, chance: random.Random) -> bytes:
    """Some damage: bits, bytes, slices removed, repeated, overwritten, inserted; sometimes several."""
    start, length = chance.randrange(len(raw)), min(int(chance.expovariate(0.05)) + 1, len(raw))
    if chance.random() < 0.3:
        start %= min(len(raw), 9000)  # the header
    before, piece, after = raw[:start], raw[start : start + length], raw[start + length :]
    mutated = chance.choice(
        [
            before + bytes([raw[start] ^ 1 << chance.randrange(8)]) + raw[start + 1 :],
            before + chance.randbytes(1) + raw[start + 1 :],
            before + after,
            before + piece + piece + after,
            before + chance.randbytes(length) + after,
            before + bytes(len(piece)) + after,
            before + chance.randbytes(length) + piece + after,
            chance.randbytes(8) + raw[8:],
            (int.from_bytes(raw[:8], "little") + chance.randint(-9, 9)).to_bytes(8, "little") + raw[8:],
            raw + chance.randbytes(length),
        ]
    )
    return mutate(mutated, chance) if chance.random() < 0.2 else mutated


def mutations(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """Damaged bytes; every twentieth as a file that is asked for as a model and as a run."""
    run = RunFolder(folder / "run")
    raw = run.last.read_bytes()
    state, chance = unpack(raw), random.Random(seed)
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        yield "64 GB of nothing behind a good header", partial(_larger_than_memory, folder, raw)
    for number in range(size):
        damaged = mutate(raw, chance)
        yield f"mutation {number} of seed {seed}", partial(_unpacks_to, state, damaged)
        if number % 20 == 0 and damaged != raw:
            yield f"file, mutation {number} of seed {seed}", partial(_damaged_file, folder, damaged)


def _unpacks_to(state: State, raw: bytes) -> None:
    with suppress(CheckpointError):
        assert differences(unpack(raw), state) == []


def _damaged_file(folder: Path, raw: bytes) -> None:
    run = _run_of(folder, raw)
    with pytest.raises(CheckpointError):
        load_model(run.last, torch.device("cpu"))
    with pytest.raises(CheckpointError):
        newest_whole(run)


def _larger_than_memory(folder: Path, raw: bytes) -> None:
    run = _run_of(folder, raw)
    os.truncate(run.last, 64 << 30)
    with pytest.raises(CheckpointError):
        load_model(run.last, torch.device("cpu"))


def _run_of(folder: Path, raw: bytes) -> RunFolder:
    """A run folder whose only checkpoint has these bytes."""
    run = RunFolder(folder / "malformed")
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    run.last.write_bytes(raw)
    return run


# --- Checkpoints with a right digest and a wrong content: whoever made them knew how.


NASTY: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        6000,
        2**16,
        2**31,
        2**63,
        -(2**70),
        10**400,
        0.5,
        -2.5,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *("", "x", "\ud800", "a\0b", "9" * 5000, "../../x", [], [[]], {}, {"x": 1}, [None], [0.1, 0.2, 0.3], ["x"] * 3),
    *([-1], [2**40], [1.5], [float("nan")], torch.zeros(0), torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)),
    *(torch.tensor(float("nan")), torch.zeros(5056, dtype=torch.uint8), torch.zeros(1, dtype=torch.bool)),
]


def with_digest(header: dict[str, Any], body: bytes) -> bytes:
    """A safetensors file of this header and body, whose digest is right."""

    def file(digest: str) -> bytes:
        if isinstance(header.get("__metadata__"), dict):
            header["__metadata__"]["digest"] = digest
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + body

    return file(hashlib.sha256(file(NO_DIGEST)).hexdigest())


def header_edits(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """What safetensors would have to notice: types, shapes, offsets and names that do not fit the bytes."""
    raw = RunFolder(folder / "run").last.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    chance = random.Random(seed)
    for _ in range(size):
        edited, name = copy.deepcopy(header), ""
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            name += _edit_header(edited, chance)
        yield name, partial(_unpacks_and_loads, folder, with_digest(edited, body))


def _edit_header(header: dict[str, Any], chance: random.Random) -> str:
    key = chance.choice(list(header))
    entry, what = header[key], chance.randrange(6)
    plain = [value for value in NASTY if not isinstance(value, torch.Tensor)]
    value = chance.choice(plain)
    if what == 0:
        del header[key]
        return f"without {key}; "
    if what == 1 or not isinstance(entry, dict) or not entry:
        header[key] = value
        return f"{key} = {value!r}; "
    if what == 2:
        new = chance.choice([key + "/x", "trainer", "", "/", "a//b", "trainer/steps/x", "score", "\ud800", "é" * 9000])
        header[new] = header.pop(key)
        return f"{key} -> {new[:30]!r}; "
    field = chance.choice(list(entry))
    if what == 3:
        entry[field] = value
        return f"{key} {field} = {value!r}; "
    return _edit_entry(key, entry, chance)


def _edit_entry(key: str, entry: dict[str, Any], chance: random.Random) -> str:
    """Nasty in the way of the field."""
    number = chance.choice([0, 1, -1, 2, 3, 7, 2**20, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**30])
    if "values" in entry:
        entry["values"] = chance.choice(["[" * 100_000, '{"a":' * 5000, "1" * 5000, "[]", "1", "null", '"x"', "", "{}"])
        return f"values = {entry['values'][:20]}; "
    field = chance.choice(list(entry))
    if field == "dtype":
        types = "BOOL U8 I8 F8_E5M2 F8_E4M3 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64 F4 F6_E2M3 C64 F128 f32 object"
        entry["dtype"] = chance.choice(types.split())
    elif isinstance(entry.get(field), list):
        place = chance.randrange(len(entry[field]) + 1)
        entry[field][place : place + chance.randrange(2)] = [number] * chance.randint(0, 2)
    return f"{key} {field} = {entry.get(field)!r}; "


def state_edits(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """Every item of the state made nasty, or taken away, or put under another name; ``size`` of these, at random."""
    state = read_checkpoint(RunFolder(folder / "run").last)
    chance = random.Random(seed)
    paths = list(_paths(state))
    edits = [(path, number) for path in paths for number in range(-2, len(NASTY))]
    for path, number in chance.sample(edits, min(size, len(edits))):
        name, raw = _edited(state, path, number)
        yield name, partial(_unpacks_and_loads, folder, raw)


def _paths(state: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all items, sections too."""
    items: Any = ()
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list):
        items = list(enumerate(state))[:2]
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _edited(state: State, path: tuple[str | int, ...], number: int) -> tuple[str, bytes]:
    """A packed state with the item at ``path`` made ``NASTY[number]``; -1: taken away, -2: misnamed."""
    edited: Any = copy.deepcopy(state)
    inner = edited
    for key in path[:-1]:
        inner = inner[key]
    key, name = path[-1], "/".join(map(str, path))
    if number >= 0:
        inner[key] = NASTY[number]
        name += f" = {NASTY[number]!r}"
    else:
        value = inner.pop(key)
        if number == -2 and isinstance(inner, dict):
            inner[f"{key}s"] = value
        name += f" {'taken away' if number == -1 else 'misnamed'}"
    with suppress(TypeError):  # a tensor inside of a list cannot be written at all
        return name, pack(edited)
    return name, b""


def _unpacks_and_loads(folder: Path, raw: bytes) -> None:
    """Whatever is not refused can be sampled from and trained on."""
    torch.set_num_threads(1)
    with suppress(CheckpointError):
        unpack(raw)
    run = _run_of(folder, raw)
    with suppress(CharRNNError):
        saved = load_model(run.last, torch.device("cpu"))
        sampling = saved.config.sampling.model_copy(update={"length": 3})
        sample_text(saved.model, saved.vocabulary, sampling, seed=1)
        write_hub(saved, folder / "exported")
        shutil.rmtree(folder / "exported")
    with suppress(CharRNNError):
        found = newest_whole(run)
        places, inexact = Places(data=(), cache=folder / "cache"), len(raw) % 16 == 0
        session = resume_session(run, found, config_in(found), places, inexact)
        assert 0 <= session.progress <= 1
        session.trainer.step(session.learning_rate)
        session.meter.summary()
        session.state_dict()
    with suppress(CharRNNError):  # where the newest has to be found among others
        run.last.replace(run.best)
        newest_whole(run)
    run.best.unlink()


# --- Configs.


NASTY_YAML = [
    *("", "\0", "\ufeff", "---", "...", "--- a\n--- b", "%YAML 1.1\n---\n", "%YAML 9.9\n--- {}", "%TAG ! x:\n--- !a b"),
    *("%YAML 1." + "9" * 5000 + "\n--- {}", "[" * 2000, "{" * 2000, "{a: " * 2000, "- " * 2000, "? " * 2000),
    *("[" * 15 + "]" * 15, "a: " + "[" * 40 + "]" * 40, "&a [*a]", "a: &a {b: *a}", "*a", "a: *a", "a: &a 1\nb: *a"),
    *("<<: {a: 1}", "a: {<<: *b}", "? [a]\n: b", "? {a: b}\n: c", "{[]: 1, {}: 2}", "a: {a, a}", "!!map {a: b}"),
    *("!!python/object/apply:os.system [x]", "a: !!python/name:os.system", "a: !!binary x", "a: !!set {x}", "!x y"),
    *("a: !!int ''", "a: !!float x", "a: !!bool 7", "a: !!timestamp x", "a: 2001-01-01", "a: !!omap [x: y]"),
    *('a: "\\U00110000"', 'a: "\\UFFFFFFFF"', 'a: "\\ud800"', 'a: "\\x00"', 'a: "\\q"', '"\\ud800": 1', '"\\0": 1'),
    *("a: 0x" + "f" * 5000, "a: 0b" + "1" * 20_000, "a: " + "9" * 5000, "a: 1e9999", "a: 1:" * 2000, "a: 9:9:9:9:9"),
    *("a: 'x", 'a: "x', "a: |x", "a: >\n\tb", "a:\n\t- b", "a: b: c", "- a\nb: c", "a: @x", "a: `x`", "a: %x"),
    *("x" * 100_000, "x: " * 3000, "a: b\n" * 500, "".join(f"k{i}: {i}\n" for i in range(500)), "#" * 99_000),
    *(
        "a: '" + "x\n\n" * 9000 + "'",
        "a: " + "&x " * 3000,
        "a: " + "!x " * 3000,
        "a: [" + "1," * 3000 + "]",
        " " * 99_000,
    ),
    *("a: |\n" + " x\n" * 3000, "!<" + "x" * 9000 + "> a", "!%ff%fe a", "a: !%zz b", "!<tag:yaml.org,2002:int> x"),
    *("\x85: \u2028", "a: !!null x"),
]
LARGE_YAML = [f"a: [{'1,' * 490_000}]", f"a: {{{'a,' * 490_000}}}"]  # just below the largest that is read at all
NASTY_VALUES = [
    *("null", "~", "true", "-1", "0", "1e999", ".inf", "-.inf", ".nan", "1_000", "0o7", "010", "0x" + "f" * 5000),
    *("[]", "{}", "[[]]", "{a: b}", "[1, 2]", "[0.5, 0.5]", "[.nan, 1]", "''", "' '", '"\\ud800"', '"a\\0b"', "'1'"),
    *("-0x" + "f" * 5000, "9" * 4000, "-" + "9" * 4000, "1e400", "1:1", "12:30:45", "y", "on", "=", "<<", "2001-01-01"),
    *("!!str 1", "!!int '1'", "!!float 1", "!!bool x", "!!python/tuple [1, 2]", "!x 1", "&a 1", "*a", "|\n  x"),
    *('"\\UFFFFFFFF"', '"\\U00110000"', "9" * 5000, "60s", "1h", "-1s", "1" + "0" * 400 + "h", "idna", "punycode"),
    *("unicode_escape", "hex", "undefined", "cuda:" + "9" * 30, "cuda", "'cpu\n'", "x" * 5000, "[" * 200, "'../..'"),
    *("1e-400", "5e-324", "[1e308, 1e308]"),
]


def config_edits(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """Shipped configs with damaged bytes, and with nasty values in sound places; nasty texts alone and in sections."""
    texts = [file.read_text() for file in shipped_configs()]
    chance = random.Random(seed)
    file = folder / "c.yaml"
    for text in NASTY_YAML:
        for whole in (text, f"corpus:\n  source: {text}\ntraining: {{max_steps: 1}}\n", texts[0] + "\n" + text):
            yield f"{whole[:60]!r}", partial(_loads_config, file, whole.encode(errors="surrogatepass"))
    for text in LARGE_YAML:
        yield f"{text[:20]!r}, {len(text)} bytes", partial(_loads_config, file, text.encode())
    for number in range(size):
        text = chance.choice(texts)
        if number % 3 == 0:
            raw = mutate(text.encode(), chance)
            yield f"mutation {raw[:5000]!r}", partial(_loads_config, file, raw)
        elif number % 3 == 1:
            mixed = _mix_lines(text, texts, chance)
            yield f"mixture {mixed!r}", partial(_loads_config, file, mixed.encode())
        else:
            key, value = _any_setting(text, chance), chance.choice(NASTY_VALUES)
            before, _, after = re.split(rf"(?m)^\s+{key}:([^#\n]*)", text, maxsplit=1)
            changed = f"{before}  {key}: {value} {after}"
            yield f"{key}: {value[:40]}", partial(_loads_config, file, changed.encode())


def overrides(folder: Path, seed: int, size: int) -> Iterator[Input]:
    """``--set`` with nasty values, for settings that there are and for some that are not."""
    file = next(file for file in shipped_configs() if file.stem == "counting")
    values = load_config(file).model_dump(mode="json")
    names = [".".join(map(str, path)) for path in _paths(values) if len(path) > 1]
    names += ["corpus", "training", "x", "training.x", "run.name.x", "", ".", "corpus.split.0", "\ud800", "a\0.b"]
    chance = random.Random(seed)
    more = ["{lr, lr}", "{a: 1, a: 2}", "{max_steps}", "[a, a]", "{? [x]}", *NASTY_YAML[:60]]
    for _ in range(size):
        assignment = f"{chance.choice(names)}={chance.choice([*NASTY_VALUES, *more])}"
        yield f"--set {assignment[:80]!r}", partial(_is_config, file, [assignment])


def _any_setting(text: str, chance: random.Random) -> str:
    names: list[str] = re.findall(r"(?m)^\s+(\w+):", text)
    return chance.choice(names)


def _mix_lines(text: str, texts: list[str], chance: random.Random) -> str:
    """Lines left out, repeated, indented, taken from elsewhere; words swapped for nasty ones."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(lines))
        other = chance.choice(chance.choice(texts).splitlines())
        line, nasty = lines[place], chance.choice(NASTY_VALUES)[:200]
        lines[place : place + 1] = chance.choice(
            [
                *([], [line, line], ["  " + line], [line.lstrip()], [other], [line, other], [line.replace(":", "", 1)]),
                *([line.replace(":", f": {nasty}", 1)], [nasty]),
            ]
        )
        lines = lines or [""]
    return "\n".join(lines)


def _loads_config(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)
    _is_config(file, [])


def _is_config(file: Path, assignments: list[str]) -> None:
    """Refused with problems that each are a line to show; or a config that a run folder can keep."""
    try:
        config = load_config(file, assignments)
    except ConfigError as error:
        assert error.problems and all(error.problems)
        str(error).encode(errors="backslashreplace")
        return
    kept = Path("kept.yaml")
    kept.write_bytes(dump_config(config).encode())
    assert load_config(kept) == config


# --- The tests.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("fuzz")
    tiny_run(base)
    return base


SIZES: dict[Inputs, int] = {
    truncations: 0,
    mutations: 10_000,
    header_edits: 1000,
    state_edits: 600,
    config_edits: 400,
    overrides: 300,
}


@pytest.mark.parametrize("inputs", SIZES, ids=lambda inputs: inputs.__name__)
def test_refused_or_usable(inputs: Inputs, folder: Path, record_property: Any) -> None:
    report = fuzz(folder, inputs, seed=1, size=SIZES[inputs])
    print(f"{inputs.__name__}: {report}")
    record_property(inputs.__name__, report.count)
    assert report.count >= SIZES[inputs]
    assert not report.failures, str(report)
