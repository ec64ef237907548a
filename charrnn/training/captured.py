"""The step as a CUDA graph: captured once, then replayed with one launch instead of hundreds.

A GPU takes a small network's step faster than Python can ask for it, kernel by kernel. Source:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

A replay does again what was captured, in the same places of memory: what is new in a step is copied there first. It is
not trusted blindly: one step is taken both ways, from the same state. Where the two differ, or the capture fails,
every step is taken plainly.

No GPU was at hand when this was written (.github/CONTRIBUTING.md): ``tests/replaying.py`` stands in for the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from charrnn.model.hidden import Hidden
from charrnn.training.process import kept_generators

WARM_UP = 3  # plain steps first: the optimizer's state and the libraries' workspaces are made in them
TOLERANCE = 0.01  # of what a step changes: Adam divides by small numbers, and sums may be added up in another order

# Inputs and targets, (B, T) each, and the state before; loss and gradient norm, () each, and the state after.
Window = tuple[Tensor, Tensor, Hidden]
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
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Graphs``."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=self._stream):
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
        self._steps = self._in_order()
        next(self._steps)
        self.obstacle: str | None = None  # why it is not replayed, once that is known

    def __call__(self, x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        """One step. The state after it is good until the next one."""
        if self._length != x.shape[1]:
            return self._learn(x, y, hidden)
        return self._steps.send((x, y, hidden))

    def _in_order(self) -> Generator[Taken, Window, None]:
        """What happens to one step after the other: each is sent, and yielded once it is taken."""
        window = yield  # type: ignore[misc]  # what ``next`` begins with
        for _ in range(WARM_UP):
            with self._graphs.warm_up():
                taken = self._learn(*window)
            window = yield taken
        try:
            self._capture(*window)
        except RuntimeError as error:
            self.obstacle = str(error).partition("\n")[0]
        window = yield self._learn(*window)
        if self.obstacle is None:
            taken, equal = self._take_both_ways(*window)
            self.obstacle = None if equal else "a replayed step was not equal to a plain one"
            window = yield taken
        while True:
            window = yield (self._learn if self.obstacle else self._replay)(*window)

    def _capture(self, x: Tensor, y: Tensor, hidden: Hidden) -> None:
        """Make the step's places in memory, and capture it there."""
        self._x, self._y, self._hidden = x.clone(), y.clone(), tuple(tensor.clone() for tensor in hidden)
        self._loss, self._norm = hidden[0].new_zeros(2).unbind()

        def work() -> None:
            loss, norm, after = self._learn(self._x, self._y, self._hidden)
            _write((self._loss, self._norm, *self._hidden), (loss, norm, *after))

        self._again = self._graphs.capture(work)

    def _replay(self, x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        _write((self._x, self._y, *self._hidden), (x, y, *hidden))
        self._again()
        return self._loss.clone(), self._norm.clone(), self._hidden

    def _take_both_ways(self, x: Tensor, y: Tensor, hidden: Hidden) -> tuple[Taken, bool]:
        """Replay a step, go back, take it plainly; and whether both changed the same. Waits for the device."""
        changed = self._changed()
        before = [tensor.clone() for tensor in changed]
        effects = []
        with kept_generators(self._graphs.device):
            taken = self._replay(x, y, hidden)
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
