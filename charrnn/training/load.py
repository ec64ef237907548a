"""Who uses the processor: this process, other programs, or the host of a virtual machine. Linux tells."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, fields
from pathlib import Path

# Columns of a "cpuN" line of /proc/stat (proc_stat(5)): idle and iowait are no work, guest time is in user already.
WORK = ("user", "nice", "system", "irq", "softirq")
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Load:
    """Seconds since some moment in the past, so that only the difference of two means something.

    ``busy`` and ``stolen`` are sums over the cores that this process may use.
    """

    wall: float
    own: float  # processor time of this process, all its threads
    busy: float  # the same of all programs, this one among them
    stolen: float  # time that the host of this virtual machine gave to others
    throttled: float  # time that a container was held back because its share was used up
    page_reads: float  # pages (a count) that had to be read back from the disk

    def since(self, earlier: Load) -> Load:
        """What happened between the two."""
        return Load(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})

    @property
    def others(self) -> float:
        """Cores that other programs kept busy, on average."""
        return max(self.busy - self.own, 0.0) / self.wall if self.wall > 0 else 0.0


def usable_cores() -> set[int]:
    """The cores that this process may run on."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def read_load() -> Load:
    """The load until now. What the system does not tell is as if it were nothing."""
    times = os.times()
    own = times.user + times.system
    busy, stolen = core_seconds(read_text("/proc/stat"), usable_cores()) or (own, 0.0)
    return Load(
        wall=time.monotonic(),
        own=own,
        busy=busy,
        stolen=stolen,
        throttled=throttled_seconds(read_text("/sys/fs/cgroup/cpu.stat")),
        page_reads=float(resource.getrusage(resource.RUSAGE_SELF).ru_majflt),
    )


def core_seconds(stat: str, cores: set[int]) -> tuple[float, float] | None:
    """Work and steal in seconds, from the text of /proc/stat; None if it has no line for any of ``cores``."""
    work = stolen = 0
    found = False
    for line in stat.splitlines():
        name, *numbers = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks = dict(zip(COLUMNS, map(int, numbers), strict=False))
            work += sum(ticks.get(column, 0) for column in WORK)
            stolen += ticks.get("steal", 0)
            found = True
    per_second = os.sysconf("SC_CLK_TCK")
    return (work / per_second, stolen / per_second) if found else None


def throttled_seconds(cpu_stat: str) -> float:
    """Seconds from the text of a cgroup's cpu.stat, summed over cores; 0 where there is no limit."""
    lines = dict(line.split(maxsplit=1) for line in cpu_stat.splitlines() if " " in line)
    return int(lines.get("throttled_usec", 0)) / 1e6


def read_text(path: str) -> str:
    """A file of the system; nothing where it is not there."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
