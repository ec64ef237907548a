"""``torchrun -m charrnn train ...``: which of several processes this one is, as the environment says.

Only rank 0 reads the command line and speaks; see ``charrnn/training/ranks.py``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from charrnn.cli._interrupts import Interrupts
from charrnn.cli._terminal import show_error
from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.training.ranks import Ranks

# What torchrun sets, and whoever starts the processes in another way has to.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
STUCK_SECONDS = 15.0  # of waiting for another process, after a signal; torchrun kills after 30
_met_others = threading.Event()


def size() -> int:
    """How many processes there are; 1 where nobody says that there are more.

    Raises:
        UsageError: what the environment says makes no sense.
    """
    if not all(os.environ.get(name) for name in VARIABLES):
        return 1
    count = _number("WORLD_SIZE", range(1, sys.maxsize))
    if count > 1:
        for name, allowed in (("RANK", range(count)), ("LOCAL_RANK", range(count)), ("MASTER_PORT", range(1 << 16))):
            _number(name, allowed)
    return count


def _number(name: str, allowed: range) -> int:
    text = os.environ[name]
    if not text.isdecimal() or int(text) not in allowed:
        raise UsageError(f"{name}={text}: is not a number that torchrun sets; unset it to train in one process")
    return int(text)


def is_first() -> bool:
    """Whether this is rank 0, or the only process: also where that cannot be told, so that somebody speaks."""
    try:
        return size() == 1 or int(os.environ["RANK"]) == 0
    except UsageError:
        return True


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One that has met others ends at once: gloo's threads outlive the process group, and now and then Python, taking
    itself apart around them, aborts (exit code -6 of a training that was done).
    """
    if not _met_others.is_set():
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads
            stream.flush()
    os._exit(code)


@contextmanager
def leading() -> Iterator[Ranks | None]:
    """The processes that this one leads; None where it is alone. In the others this trains to the end, and exits."""
    if size() == 1:
        yield None
        return
    from charrnn.text.places import Places
    from charrnn.training.rank_trainer import follow
    from charrnn.training.ranks import joined

    _share_cores()
    with joined(int(os.environ["RANK"]), size(), int(os.environ["LOCAL_RANK"])) as ranks:
        _met_others.set()
        if ranks.leads:
            yield ranks
        else:
            with SharedInterrupts(ranks) as interrupts:
                follow(ranks, Places.from_environment(), interrupts.poll)
            raise SystemExit(0)  # rank 0 alone says how it ended


def _share_cores() -> None:
    """The processes of one machine share its cores; torchrun has its own answer (one thread each) in the variable."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(torch.get_num_threads() // processes, 1))


def other_ranks(state: dict[str, Any], ranks: Ranks | None) -> str | None:
    """What to know about a run that goes on from this checkpoint with another number of processes; None if the number
    is the same."""
    from charrnn.training.rank_trainer import ranks_in

    then, now = ranks_in(state["trainer"]), ranks.size if ranks else 1
    if then == now:
        return None
    return f"saved by {then} process(es), going on with {now}: rounding and the draws of dropout will differ, no more"


class SharedInterrupts(Interrupts):
    """As ``Interrupts``, for a signal to any of the processes; and a way out where they wait for one that is gone.

    Mostly that is an error at once. But nobody tells of a machine that has lost its power; and gloo may miss that a
    connection was closed, if it was just about to send (``Pair::signalException`` forgets what waits in its queue).
    Then Python's handlers do not run either, for all that Ctrl-C or torchrun may send: a thread has to look.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks
        self._moves = threading.Event()

    def __call__(self) -> bool:
        """Whether to stop; lets the other processes know that this one is alive."""
        self._ranks.keep_in_touch()
        return self.poll() != 0

    def poll(self) -> int:
        """The number of the signal that any process has got, 0 while there is none."""
        self._moves.set()
        self.received = self.received or self._ranks.asked_to_stop or None
        return self.received or 0

    def __enter__(self) -> SharedInterrupts:
        super().__enter__()
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="way out", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        if any(error):
            # torchrun ends whoever is left of a failed job, a moment later; but first it is to be said what failed.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _watch(self) -> None:
        """Leave if the main thread, after a signal, waits for others and does not get on; it may wait for a disk."""
        with self._signals as signals:
            while number := signals.recv(1):
                if number[0] == signal.SIGTSTP:  # Ctrl-Z: nothing is asked to end
                    continue
                self._moves.clear()
                if not self._moves.wait(STUCK_SECONDS) and self._ranks.is_waiting:
                    os._exit(show_error(self._ranks.loss_of_another()))
