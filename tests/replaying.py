"""CUDA graphs on a CPU: what a step asks of torch is noted, undone, and done again in the same places of memory.

As with CUDA, numbers that Python read or made while capturing are fixed for ever, and so is which tensor is where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from charrnn.model.device import kept_generators

# A tensor's value becomes Python's: on a GPU the program waits for all that was asked of it before.
WAITING = {"aten._local_scalar_dense", "aten.equal", "aten.nonzero", "aten.masked_select", "aten._unique2"}
FORBIDDEN = WAITING | {"aten.lift_fresh"}  # the other way round: copied to the GPU from memory that is not pinned


def tensors_in(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Notes(TorchDispatchMode):
    """Every operation with its arguments and results; and how what was there before looked."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, ...]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: set[int] = set()  # storages made meanwhile

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func.overloadpacket) in FORBIDDEN:
            raise RuntimeError(f"{func.overloadpacket} is not permitted when stream is capturing\nand so on")
        kwargs = kwargs or {}
        given = [*zip(func._schema.arguments, args, strict=False)]
        given += [(argument, kwargs[argument.name]) for argument in func._schema.arguments if argument.name in kwargs]
        for argument, value in given:
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._remember(tensors_in(value))
        result = func(*args, **kwargs)
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
        self._own |= {tensor.untyped_storage().data_ptr() for tensor in tensors_in(result)} - known
        noted = tree_map_only(Tensor, Tensor.detach, (args, kwargs, result))
        self.operations.append((torch.is_grad_enabled(), func, *noted))
        return result

    def _remember(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            place = tensor.untyped_storage().data_ptr()
            if place not in self._own and place not in self._before:
                whole = tensor.detach()
                self._before[place] = (whole, whole.clone())

    def undo(self) -> None:
        for tensor, before in self._before.values():
            tensor.copy_(before)

    def again(self) -> None:
        for grad_enabled, func, args, kwargs, result in self.operations:
            with torch.set_grad_enabled(grad_enabled):  # an LSTM gives more back if there may be a way back
                again = func(*args, **kwargs)
            for place, tensor in zip(tensors_in(result), tensors_in(again), strict=True):
                if place.data_ptr() != tensor.data_ptr():
                    place.copy_(tensor)


class FakeGraphs:
    """``Graphs`` of a CPU."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.warmed_up = 0
        self.captured = 0
        self.replayed = 0

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        self.warmed_up += 1
        yield

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        notes = Notes()
        try:
            with kept_generators(self.device), notes:
                work()
        finally:
            notes.undo()
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            notes.again()

        return replay
