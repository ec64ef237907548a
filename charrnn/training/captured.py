"""The step as a CUDA graph, see ``model/device.py``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from charrnn.model.device import Graphs, Replayed, write
from charrnn.model.hidden import Hidden

# Loss and gradient norm, () each, and the state after; of inputs and targets, (B, T) each, and the state before.
Taken = tuple[Tensor, Tensor, Hidden]
Learn = Callable[[Tensor, Tensor, Hidden], Taken]


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
        self._given: list[Tensor] = []  # the places of a step's window and state
        self._result: list[Tensor] = []  # and of its loss and gradient norm
        self._replayed = Replayed(self._work, self._all_changed, graphs)

    @property
    def obstacle(self) -> str | None:
        """Why steps are not replayed, once that is known."""
        return self._replayed.obstacle

    def __call__(self, x: Tensor, y: Tensor, hidden: Hidden) -> Taken:
        """One step. The state after it is good until the next one."""
        if self.obstacle or x.shape[1] != self._length:
            return self._learn(x, y, hidden)
        given = (x, y, *hidden)
        if not self._given:
            self._given = [tensor.clone() for tensor in given]
            self._result = [hidden[0].new_zeros(()) for _ in range(2)]
        write(self._given, given)
        self._replayed()
        loss, norm = (place.clone() for place in self._result)
        return loss, norm, tuple(self._given[2:])

    def _work(self) -> None:
        """The step, from these places to these places."""
        x, y, *hidden = self._given
        loss, norm, after = self._learn(x, y, tuple(hidden))
        write([*self._result, *hidden], [loss, norm, *after])

    def _all_changed(self) -> list[Tensor]:
        return [*self._changed(), *self._result, *self._given[2:]]
