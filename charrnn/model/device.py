"""A device that is asked for much and waited for little: copies, and work as a CUDA graph.

A GPU does a small network's work faster than Python can ask for it, kernel by kernel. A graph is captured once, then
replayed with one launch instead of hundreds. Source:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

A replay does again what was captured, in the same places of memory: what is new is copied there first. It is not
trusted blindly: once, the work is done both ways, from the same state. Where the two differ, or the capture fails, it
is always done plainly.

No GPU was at hand when this was written (.github/CONTRIBUTING.md): ``tests/replaying.py`` stands in for the graphs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3  # plain rounds first: an optimizer's state and the libraries' workspaces are made in them
TOLERANCE = 0.01  # of what a round changes: Adam divides by small numbers, and sums may be added up in another order
ROUNDING = 1e-6  # of what is there, where a round changes next to nothing

Work = Callable[[], None]


class Graphs(Protocol):
    """What captures on a device."""

    device: torch.device

    def warm_up(self) -> AbstractContextManager[None]:
        """Where work before the capture is done."""

    def capture(self, work: Work) -> Work:
        """Note what ``work`` asks of the device, which does none of it; what is returned has it done.

        Raises:
            RuntimeError: something in it cannot be captured.
        """


class CudaGraphs:
    """torch's own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """See ``Graphs``: on another stream than the usual one, as torch's notes ask for."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:  # also of work that failed: what it asked for is still being done
            usual.wait_stream(self._stream)

    def capture(self, work: Work) -> Work:
        """See ``Graphs``: other threads may use the device meanwhile."""
        gc.collect()  # a trainer and its graph are a cycle: one that is done with keeps its memory of the device
        graph = torch.cuda.CUDAGraph()
        # The usual stream around it: after a capture that failed, torch (cuda/graphs.py) stays on the other one.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self.device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay


def graphs_of(device: torch.device) -> Graphs | None:
    """What captures there; None where nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None


class Replayed:
    """Does ``work`` at every call, after the first few by replaying it.

    Args:
        work: must ask for no tensor's value, and read and write in the same places of memory each time.
        changed: all that it changes, asked for after the first rounds.
    """

    def __init__(self, work: Work, changed: Callable[[], Sequence[Tensor]], graphs: Graphs) -> None:
        self._work = work
        self._changed = changed
        self._graphs = graphs
        self._warmed_up = 0
        self._again: Work | None = None
        self.obstacle: str | None = None  # why it is not replayed, once that is known

    def __call__(self) -> None:
        """Once more."""
        if self._again is not None:
            self._again()
        elif self.obstacle:
            self._work()
        elif self._warmed_up < WARM_UP:
            self._warmed_up += 1
            with self._graphs.warm_up():
                self._work()
        else:
            self._begin()

    def _begin(self) -> None:
        """Capture the work, and do it both ways; plainly, where it cannot be captured."""
        try:
            again = self._graphs.capture(self._work)
        except RuntimeError as error:
            first = error.__context__ or error  # of a capture that failed, its end complains as well
            self.obstacle = str(first).partition("\n")[0]
            self._work()
            return
        if self._does_the_same(again):
            self._again = again
        else:
            self.obstacle = "what was replayed was not equal to what was done plainly"

    def _does_the_same(self, again: Work) -> bool:
        """Replay the work, go back, do it plainly; and whether both came to the same. Waits for the device."""
        changed = self._changed()
        before = _copies(changed)
        with kept_generators(self._graphs.device):
            again()
            replayed = _copies(changed)
        write(changed, before)
        self._work()
        return all(map(_alike, before, replayed, changed))


def kept_generators(device: torch.device) -> AbstractContextManager[None]:
    """Within it torch may draw what it likes: afterwards its generators are as they were, on the CPU and the device."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what the device was asked before: from pinned memory, and in
    one piece, or torch would first copy it to memory that is not pinned (aten/src/ATen/native/cuda/Copy.cu)."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def write(places: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copy each tensor to its place."""
    for place, tensor in zip(places, tensors, strict=True):
        place.copy_(tensor)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _alike(before: Tensor, replayed: Tensor, done: Tensor) -> bool:
    """Whether a tensor was ``replayed`` to what it is when the work is ``done`` plainly; what is not finite is not."""
    before, replayed, done = before.double(), replayed.double(), done.double()
    return bool((replayed - done).norm() <= TOLERANCE * (done - before).norm() + ROUNDING * done.norm())
