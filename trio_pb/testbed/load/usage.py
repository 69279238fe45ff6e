"""Processor time of processes, and what else runs on the machine: a measurement that shared it says little."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import attrs
import psutil

__all__ = ["Usage", "UsageMeter"]

OTHERS_CORES_MAX = 0.25  # A quarter of one core: above it figures were off by up to seven times.


@attrs.frozen
class Usage:
    """Of one stretch of time."""

    seconds: float
    cpu_seconds: dict[str, float]  # By name of the process.
    memory_mib: dict[str, float]  # Resident, at its end.
    others_cores: float  # Cores that everybody else kept busy.

    @property
    def is_quiet(self) -> bool:
        """Whether the machine did little else."""
        return self.others_cores <= OTHERS_CORES_MAX


class UsageMeter:
    """Begins when it is made."""

    def __init__(self, processes: Iterable[tuple[str, int]]) -> None:
        """Watch these (name, pid), and all the machine."""
        self._processes = [(name, psutil.Process(pid)) for name, pid in processes]
        self._ourselves = psutil.Process()
        self._began = perf_counter()
        self._busy = _busy_seconds()
        self._own = _cpu_seconds(self._ourselves)
        self._before = [_cpu_seconds(process) for _, process in self._processes]

    def read(self) -> Usage:
        """What happened since the beginning.

        Raises:
            psutil.NoSuchProcess: one of them has ended.
        """
        seconds = perf_counter() - self._began
        busy = _busy_seconds() - self._busy
        own = _cpu_seconds(self._ourselves) - self._own
        spent: dict[str, float] = {}
        memory: dict[str, float] = {}
        for (name, process), before in zip(self._processes, self._before, strict=True):
            spent[name] = _cpu_seconds(process) - before
            memory[name] = process.memory_info().rss / (1 << 20)
        others = max(0.0, busy - own - sum(spent.values()))
        return Usage(seconds, spent, memory, others / seconds)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _busy_seconds() -> float:
    """Of the programs on all cores together, since the machine started.

    Interrupts are left out: on a loopback they are our own traffic, and no process is charged with them.
    """
    times = psutil.cpu_times()
    return times.user + times.system + float(getattr(times, "nice", 0.0))
