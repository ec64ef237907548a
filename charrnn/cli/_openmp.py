"""How long OpenMP threads spin before they sleep: decided by whether other programs use the processor.

Threads that spin at barriers make two trainings on one machine hundreds of times slower; threads that sleep early make
a lone training slower, on a virtual machine with busy neighbours much slower (figures in .github/CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

SHORT_SPIN = "2000"
SAMPLES = 10
SAMPLE_SECONDS = 0.005


def tune_openmp() -> None:
    """Limit the spinning where others are at work. Call before torch is imported: OpenMP reads the setting then."""
    if _is_left_to_us() and _others_are_running():
        spin_briefly()


def spin_briefly() -> None:
    """The same without looking: for many trainings at once. A setting of the user's own is left as it is."""
    if _is_left_to_us():
        os.environ["GOMP_SPINCOUNT"] = SHORT_SPIN


def courtesy() -> AbstractContextManager[object]:
    """Spin only while no other program wants the cores, whenever it comes; instead of ``tune_openmp`` for long work.

    Enter it once torch is imported. A setting of the user's own is left as it is.
    """
    from charrnn.training.courtesy import Courtesy

    return Courtesy() if _is_left_to_us() else nullcontext()


def threads_are_open() -> bool:
    """Whether the user has left the number of threads to us."""
    return not os.environ.get("OMP_NUM_THREADS")


def _is_left_to_us() -> bool:
    return "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ


def _others_are_running() -> bool:
    """Whether another program is running in most of a few looks at the scheduler; False where Linux does not tell."""
    looks = []
    for _ in range(SAMPLES):
        looks.append(_running() > 1)  # one is this program itself
        time.sleep(SAMPLE_SECONDS)
    return sum(looks) > SAMPLES / 2


def _running() -> int:
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 0
