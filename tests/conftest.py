"""Fixtures for all tests: no test touches the user's cache, the network, or another test's folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from charrnn.config.loader import load_config
from charrnn.config.schema import Config
from charrnn.text.places import Places

# Shared machines stall: neither a slow example nor slow generation says anything about the code. The same examples
# every time: what is red was made so by a change. "scripts/test --hypothesis-profile=default" draws others.
settings.register_profile(
    "charrnn", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("charrnn")

# A fifth to a fortieth of all the time each: they begin first, so that no process is left with one of them at the end.
LONGEST_FILES = (
    "doctor_planted",
    "faults",
    "malice",
    "fuzz",
    "torchrun",
    "kills",
    "swarm_cli",
    "exactness",
    "swarm_search",
)

TEXT = "the cat sat on the mat, and the dog sat on the log; then the cat saw the dog.\n" * 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def denormals_again() -> Iterator[None]:
    """Training flushes them to zero, for the whole process; hypothesis needs them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def no_nohup() -> Iterator[None]:
    """Processes that a test starts do not ignore a hang-up, whatever the tests themselves were started by."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a cache of its own and no corpora but the shipped ones."""
    monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHARRNN_DATA", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.from_environment()


@pytest.fixture
def text_file(in_own_folder: Path) -> Path:
    path = in_own_folder / "cat.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def small_config(text_file: Path) -> Config:
    """A network that trains in a blink, with everything random switched on."""
    return make_config(str(text_file))


def make_config(source: str, *assignments: str) -> Config:
    """A tiny config on ``source``, changed by ``section.key=value``."""
    return load_config(
        None,
        [
            f"corpus.source={source}",
            "model.hidden_size=8",
            "model.embedding_size=4",
            "model.num_layers=2",
            "model.dropout=0.2",
            "training.batch_size=4",
            "training.seq_len=10",
            "training.random_seq_len=true",
            "training.state_reset=0.2",
            "training.lr=1e-2",
            "training.precision=fp32",  # auto would be bf16 on some machines: no oracle, and no stacking
            "training.max_steps=40",
            "run.log_every=7",
            "run.eval_every=20",
            "run.save_every=15",
            "run.sample_length=20",
            *assignments,
        ],
    )
