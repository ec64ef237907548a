"""Settings of the whole process that decide how fast torch can be on a CPU. Set before training."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Numbers of options from glibc's <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30


def prepare_process(threads: int | None) -> None:
    """Set the number of CPU threads (None: torch's choice), flush denormals, keep freed memory for the next step.

    Denormals: where a high rate saturates the gates, gradients become too small for a normal float32, which the
    processor then handles 15 times slower (LSTM 1 x 384 at a rate of 0.2: 0.6 seconds a step instead of 0.04).
    Before any thread is made: they inherit it.
    """
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    _keep_freed_memory()


@contextmanager
def lent_process() -> Iterator[None]:
    """Leave a process as it was, for those who have other things to do in it: threads, denormals, random numbers."""
    threads, flushed = torch.get_num_threads(), bool((torch.tensor([1e-40]) * 1 == 0).item())
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def _keep_freed_memory() -> None:
    """Stop glibc from giving memory back to the system after every step.

    An LSTM's workspace is a few megabytes: by default glibc returns it at the end of a step and takes it again at the
    next, one page fault for every 4 KiB of it. Measured on two cores, LSTM 1 x 384: up to 2,700 faults and 6 ms of
    system time in a step of 20 ms, and 14 % more characters per second without them.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries than glibc may lack it
        if mallopt is not None:
            mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
            mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
