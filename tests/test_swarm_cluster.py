"""A hive on a real Dask cluster: a scheduler and two workers on this machine that share nothing with us but a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from charrnn.errors import CharRNNError, ClusterLost, UsageError
from charrnn.studies.swarm import cluster
from charrnn.studies.swarm.cluster import Cluster
from charrnn.studies.swarm.hive import find_or_make_hive
from charrnn.studies.swarm.speed import Arrangement
from charrnn.studies.swarm.study import fly
from charrnn.text.places import Places
from tests.helpers import differences, never
from tests.hives import Seen, bee_config, colony_of, comparable, eventually, flown

pytest.importorskip("distributed")
# Dask's own: a worker that is killed leaves sockets that only the collector closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed.*"),
]
ROOT = Path(__file__).parent.parent
SEEDS = 4  # of two rates: eight bees


class Dask:
    """A scheduler and its workers, each in an empty folder of its own without a way to our texts. A context manager."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._ending = ExitStack()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start(
            "scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"
        )

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """One with a single thread and no nanny, which would start it again."""
        words = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name)
        return self._start(name, "dask_worker", self.address, *words, "--death-timeout", "60")

    def _start(self, name: str, module: str, *words: str) -> subprocess.Popen[bytes]:
        folder = self._base / name
        folder.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CHARRNN_")}
        own = {"CHARRNN_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}  # what a killed one leaves, too
        environment = {**kept, **own, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *words],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._ending.callback(process.wait)
        self._ending.callback(process.kill)
        return process

    def __enter__(self) -> Dask:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    base = tmp_path / "dask"
    base.mkdir()
    with Dask(base) as one:
        yield one


def connected(dask: Dask, workers: int) -> Cluster:
    """A cluster of so many workers, once they are there."""

    def complete() -> Cluster | None:
        try:
            one = Cluster(dask.address)
        except CharRNNError:
            return None
        if one.jobs == workers:
            return one
        one.__exit__()
        return None

    found: list[Cluster] = []

    def ready() -> bool:
        found.extend(one for one in [complete()] if one is not None)
        return bool(found)

    assert eventually(ready)
    return found[0]


def test_a_worker_is_killed_half_way(dask: Dask, text_file: Path, places: Places) -> None:
    """Every bee comes back exactly once, and as it would have been here."""
    # As long as takes a moment, so that both workers are at work when the first bee has landed.
    config = bee_config(text_file, "training.max_steps=60", "model.dropout=0.2")
    colony = colony_of(config, places, SEEDS)
    hive = find_or_make_hive(Path("far"), "far", colony.plan)
    workers = [dask.worker("one"), dask.worker("two")]

    def kill_one(_: object) -> None:
        workers[0].kill()

    seen = Seen(kill_one)
    with connected(dask, 2) as place:
        fly(colony, Arrangement(place.jobs, 1), hive, place, seen, never, keep_checkpoints=True)
    expected = [task.place for task, _ in colony.tasks(hive, 1)]
    assert Counter(seen.anew) == Counter(expected)
    assert {result["status"] for result in seen.results.values()} == {"ended"}
    assert workers[0].wait() == -9
    near = find_or_make_hive(Path("near"), "far", colony.plan)
    flown(colony, near)
    assert differences(comparable(near), comparable(hive)) == []


def test_the_scheduler_is_killed_half_way(dask: Dask, text_file: Path, places: Places) -> None:
    """What has landed is kept, no bee is said to have failed, and the hive can go on here."""
    colony = colony_of(bee_config(text_file, "training.max_steps=60"), places, SEEDS)
    hive = find_or_make_hive(Path("far"), "far", colony.plan)
    dask.worker("one")

    def kill_it(_: object) -> None:
        dask.scheduler.kill()

    seen = Seen(kill_it)
    with connected(dask, 1) as place, pytest.raises(ClusterLost, match="the cluster is gone"):
        fly(colony, Arrangement(place.jobs, 1), hive, place, seen, never, keep_checkpoints=True)
    assert 0 < len(seen.anew) < 2 * SEEDS
    assert {result["status"] for result in seen.results.values()} == {"ended"}
    assert sum(hive.has_landed(task) for task, _ in colony.tasks(hive, 1)) == len(seen.anew)
    again = flown(colony, hive)
    assert {result["status"] for result in again.results.values()} == {"ended"}


def test_no_workers(dask: Dask) -> None:
    with pytest.raises(CharRNNError, match="the cluster has no workers; start some: dask worker") as caught:
        Cluster(dask.address)
    assert not isinstance(caught.value, UsageError)


# No more of them: each leaves a loop of Dask's behind, and many at once keep the next client from starting.
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x:1"])
def test_no_scheduler(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        Cluster(address)


@pytest.mark.parametrize("address", ["", "foo", "tcp://foo", "foo:", "tcp://:", "tcp://foo:80/x", "a b:80"])
def test_no_address(address: str) -> None:
    with pytest.raises(UsageError, match=r"no address of a Dask scheduler; write it as tcp://HOST:PORT"):
        Cluster(address)


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'charrnn\[dask\]'"):
        Cluster("tcp://127.0.0.1:1")
