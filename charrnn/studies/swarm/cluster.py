"""A Dask cluster as the place where bees are trained: no disk is shared, texts travel with the bees.

Dask's executor is a ``concurrent.futures.Executor`` like any other; what a worker had to do when it died, the scheduler
gives to another one.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from charrnn.errors import CharRNNError, UsageError
from charrnn.studies.swarm.texts import Parcel

if TYPE_CHECKING:
    from concurrent.futures import Executor

CONNECT_SECONDS = 20
ADDRESS = re.compile(r"(?:[a-z]+://)?[^/\s]+:\d+")


class Cluster:
    """The cluster of the scheduler at ``address``. A context manager.

    Raises:
        UsageError: dask.distributed is not installed, the address is none, or nobody answers.
        CharRNNError: it has no workers.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            from distributed import Client
        except ImportError as error:
            raise UsageError("--scheduler needs Dask: pip install 'charrnn[dask]'") from error
        if not ADDRESS.fullmatch(address):  # which Dask would wait for, and then not come to an end with
            raise UsageError(f"--scheduler {address}: no address of a Dask scheduler; write it as tcp://HOST:PORT")
        # Of a scheduler that is gone it would log a page of traceback; that it is gone the crew says.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            self._client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"--scheduler {address}: no Dask scheduler answers ({error}); start one: dask scheduler"
            ) from error
        self.jobs = sum(self._client.nthreads().values())
        if not self.jobs:
            self._client.close()
            raise CharRNNError(f"--scheduler {address}: the cluster has no workers; start some: dask worker {address}")
        self.executor: Executor = self._client.get_executor(pure=False)
        self._sent: dict[Parcel, Any] = {}

    def share(self, parcel: Parcel) -> object:
        """The text as the result of a task, of which every worker has a copy; Dask puts it in the place of this future.

        A task's result, not data scattered to the workers: the scheduler can make it again for a worker that joins when
        all those that had it are gone.
        """
        if parcel not in self._sent:
            self._sent[parcel] = self._client.submit(_as_it_is, parcel.as_bytes(), pure=False)
            self._client.replicate([self._sent[parcel]])
        return self._sent[parcel]

    def stop(self) -> None:
        """What the workers are doing comes to its own end; nobody waits for it."""

    @property
    def progress(self) -> float:
        """Only what has landed is known."""
        return 0.0

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.shutdown(wait=False)
        self._client.close()


def _as_it_is(parcel: Parcel) -> Parcel:
    return parcel
