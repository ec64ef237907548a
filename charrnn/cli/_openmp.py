"""How long OpenMP threads spin before they sleep: decided by whether other programs use the processor.

Threads that spin at barriers make two trainings on one machine hundreds of times slower; threads that sleep early make
a lone training slower, on a virtual machine with busy neighbours much slower (figures in .github/CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from charrnn.training.courtesy import spinning_is_open

SHORT_SPIN = "2000"
SAMPLES = 10
SAMPLE_SECONDS = 0.005


def tune_openmp() -> None:
    """Limit the spinning where others are at work. Call before torch is imported: OpenMP reads the setting then.

    For short work; a training looks again and again (``charrnn.training.courtesy``).
    """
    if spinning_is_open(os.environ) and _others_are_running():
        spin_briefly()


def spin_briefly() -> None:
    """The same without looking: for many trainings at once. A setting of the user's own is left as it is."""
    if spinning_is_open(os.environ):
        os.environ["GOMP_SPINCOUNT"] = SHORT_SPIN


def threads_are_open() -> bool:
    """Whether the user has left the number of threads to us."""
    return not os.environ.get("OMP_NUM_THREADS")


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
