"""Several processes that train one network: how they talk, and how the loss of one is noticed.

Rank 0 decides everything: it alone reads the command line, the clock and the run folder. It *says* an order, which the
other ranks *hear*, and then all do the same (``rank_trainer.py``). An order is one small all-reduce, in which each of
the others also tells whether somebody asked it to stop. So nobody can disagree about what comes next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from charrnn.errors import CharRNNError, UsageError

# How long a rank waits for the others. One that was killed is noticed at once, by its closed connections; this is for a
# machine that lost power or network. Reading, on one rank, a text that the others must wait for has to fit in.
TIMEOUT = timedelta(minutes=10)
QUIET_SECONDS = 5.0  # the longest that rank 0 says nothing while it evaluates


class Order(IntEnum):
    """What all ranks do next."""

    WAIT = 1
    BUILD = 2
    STEP = 3
    CHECK = 4
    SAVE = 5
    LOAD = 6
    END = 7


class Ranks:
    """This process among the ``size`` that train together; all methods but the first three are for all at once."""

    def __init__(self, rank: int, size: int, local_rank: int, store: Store) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank  # among those of its machine
        self.asked_to_stop = 0  # the number of the signal that some rank has got
        self.broken = False
        self.is_waiting = False  # for others, or working with them
        self._store = store
        self._last_said = time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that are this rank's.

        Raises:
            UsageError: they cannot be split evenly; then a mean over ranks would not be the mean over rows.
        """
        if batch_size % self.size:
            near = max(batch_size // self.size, 1) * self.size
            raise UsageError(
                f"training.batch_size {batch_size} cannot be split evenly over {self.size} processes; "
                f"for example --set training.batch_size={near}"
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def say(self, order: Order, lr: float = 0.0, observe: bool = False) -> None:
        """Rank 0: tell the others what all do next. On other ranks nothing: they have heard it."""
        if self.leads:
            self._exchange([order, lr, observe, 0])
            self._last_said = time.monotonic()

    def hear(self, signal_number: int = 0) -> tuple[Order, float, bool]:
        """Other ranks: the next order, the rate and whether to observe; tells rank 0 of a signal, if there was one."""
        order, lr, observe = self._exchange([0, 0, 0, signal_number])
        return Order(int(order)), lr, bool(observe)

    def _exchange(self, numbers: list[float]) -> list[float]:
        """Rank 0 contributes the order, the others zeros; the signal may come from anywhere."""
        with self.together():
            both = torch.tensor(numbers, dtype=torch.float64)  # the rate must arrive bit for bit
            dist.all_reduce(both, dist.ReduceOp.MAX)
            *order, signal_number = both.tolist()
        self.asked_to_stop = int(signal_number) or self.asked_to_stop
        return order

    def keep_in_touch(self) -> None:
        """Rank 0, while it works alone: let the others know, and hear of their signals, every few seconds."""
        if time.monotonic() - self._last_said > QUIET_SECONDS:
            self.say(Order.WAIT)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, with its gradient averaged over the ranks as it is computed."""
        return DistributedDataParallel(model)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over ranks."""
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.size

    def largest(self, tensor: Tensor) -> Tensor:
        """The largest over ranks, number by number."""
        most = tensor.clone()
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return most

    def share(self, value: Any = None) -> Any:
        """Rank 0's value."""
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, by rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around whatever all ranks do at once: one that fails in it takes the others with it, and only it says why.

        Raises:
            CharRNNError: another rank is gone, and this one was the first to notice.
            SystemExit: another rank is gone, and why has been said.
        """
        self.is_waiting = True
        try:
            yield
        except BaseException as error:
            is_first = self._is_first_to_fail()
            self.broken = True
            if not _is_about_another_rank(error):
                raise
            raise self.loss_of_another() if is_first else SystemExit(CharRNNError.exit_code) from error
        finally:
            self.is_waiting = False

    def loss_of_another(self) -> CharRNNError:
        """What to say where this rank cannot go on without another one."""
        return CharRNNError(
            f"rank {self.rank} lost another process of this training: it was killed, or its machine is gone; "
            "the saved checkpoints are intact; go on with --resume RUN and as many processes as you like"
        )

    def _is_first_to_fail(self) -> bool:
        with suppress(RuntimeError):  # whoever kept the store may be gone as well
            return bool(self._store.add("failures", 1) == 1)
        return True


def _is_about_another_rank(error: BaseException) -> bool:
    """Gloo tells of lost connections and of timeouts by plain ``RuntimeError``."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


@contextmanager
def joined(rank: int, size: int, local_rank: int) -> Iterator[Ranks]:
    """Be one of ``size`` processes that find each other by torch's own environment variables.

    Leaving, rank 0 lets the others go: also when it fails, on which it alone has to say something.
    """
    try:
        store = PrefixStore("charrnn", next(rendezvous("env://", rank, size, timeout=TIMEOUT))[0])
    except dist.DistError as error:
        cause = str(error).partition("\n")[0]
        raise CharRNNError(f"MASTER_ADDR, MASTER_PORT: the processes cannot meet there: {cause}") from error
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    ranks = Ranks(rank, size, local_rank, store)
    try:
        yield ranks
    finally:
        if not ranks.broken:
            ranks.say(Order.END)
            dist.destroy_process_group()
