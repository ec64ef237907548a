"""The step as a CUDA graph: captured once, then replayed with one launch instead of hundreds.

A GPU takes a small network's step faster than Python can ask for it, kernel by kernel. Source:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

A replay does again what was captured, in the same places of memory: what is new in a step is copied there first. It is
not trusted blindly: one step is taken both ways, from the same state. Where the two differ, or the capture fails,
every step is taken plainly.

No GPU was at hand when this was written (.github/CONTRIBUTING.md): ``tests/replaying.py`` stands in for the graphs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from charrnn.model.hidden import Hidden
from charrnn.training.process import kept_generators

WARM_UP = 3  # plain steps first: the optimizer's state and the libraries' workspaces are made in them
TOLERANCE = 0.01  # of what a step changes: Adam divides by small numbers, and sums may be added up in another order

# Loss and gradient norm, () each, and the state after; of inputs and targets, (B, T) each, and the state before.
Taken = tuple[Tensor, Tensor, Hidden]
Learn = Callable[[Tensor, Tensor, Hidden], Taken]


class Graphs(Protocol):
    """What captures on a device."""

    device: torch.device

    def warm_up(self) -> AbstractContextManager[None]:
        """Where steps before the capture are taken."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
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
        finally:  # also of a step that failed: what it asked for is still being done
            usual.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
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


class CapturedStep:
    """Takes a trainer's steps on windows of one length, after the first few by replaying one.

    Args:
        learn: the plain step. Its rate must be a tensor, and no tensor's value may be asked for in it.
        changed: what a step changes in place, the weights and what the optimizer keeps, detached.
        length: T of the windows; others are stepped plainly.
    """

    def __init__(self, learn: Learn, changed: Callable[[], list[Tensor]], length: int, graphs: Graphs) -> None:
        self._learn = learn
        self._changed = changed
        self._length = length
        self._graphs = graphs
        self._warmed_up = 0
        self._again: Callable[[], None] | None = None
        self.obstacle: str | None = None  # why it is not replayed, once that is known

    def __call__(self, x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        """One step. The state after it is good until the next one."""
        if self.obstacle or x.shape[1] != self._length:
            return self._learn(x, y, hidden)
        if self._warmed_up < WARM_UP:
            self._warmed_up += 1
            with self._graphs.warm_up():
                return self._learn(x, y, hidden)
        if self._again is None:
            return self._begin(x, y, hidden)
        return self._replay(self._again, x, y, hidden)

    def _begin(self, x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        """Capture a step, and take it both ways; plainly, where it cannot be captured."""
        try:
            again = self._capture(x, y, hidden)
        except RuntimeError as error:
            first = error.__context__ or error  # of a capture that failed, its end complains as well
            self.obstacle = str(first).partition("\n")[0]
            return self._learn(x, y, hidden)
        taken, equal = self._take_both_ways(again, x, y, hidden)
        if equal:
            self._again = again
        else:
            self.obstacle = "a replayed step was not equal to a plain one"
        return taken

    def _capture(self, x: Tensor, y: Tensor, hidden: Hidden) -> Callable[[], None]:
        """Make the step's places in memory, and capture it there; see ``Graphs.capture``."""
        self._x, self._y, self._hidden = x.clone(), y.clone(), tuple(tensor.clone() for tensor in hidden)
        self._loss, self._norm = hidden[0].new_zeros(2).unbind()

        def work() -> None:
            loss, norm, after = self._learn(self._x, self._y, self._hidden)
            _write((self._loss, self._norm, *self._hidden), (loss, norm, *after))

        return self._graphs.capture(work)

    def _replay(self, again: Callable[[], None], x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        _write((self._x, self._y, *self._hidden), (x, y, *hidden))
        again()
        return self._loss.clone(), self._norm.clone(), self._hidden

    def _take_both_ways(self, again: Callable[[], None], x: Tensor, y: Tensor, hidden: Hidden) -> tuple[Taken, bool]:
        """Replay a step, go back, take it plainly; and whether both changed the same. Waits for the device."""
        changed = self._changed()
        before = [tensor.clone() for tensor in changed]
        effects = []
        with kept_generators(self._graphs.device):
            taken = self._replay(again, x, y, hidden)
            effects.append(_effect(changed, before, taken))
        _write(changed, before)
        taken = self._learn(x, y, hidden)
        effects.append(_effect(changed, before, taken))
        return taken, all(_alike(one, other) for one, other in zip(*effects, strict=True))


def _write(places: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for place, tensor in zip(places, tensors, strict=True):
        place.copy_(tensor)


def _effect(changed: Sequence[Tensor], before: Sequence[Tensor], taken: Taken) -> list[Tensor]:
    """By how much each tensor was changed, and what else a step has for a result."""
    loss, norm, after = taken
    moved = [tensor - old for tensor, old in zip(changed, before, strict=True)]
    return [*moved, loss, norm, *(tensor.clone() for tensor in after)]


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= TOLERANCE * other.norm())
