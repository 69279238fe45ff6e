"""Processor time of processes, and what else runs on the machine: a measurement that shared it says little."""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import perf_counter

import attrs
import psutil

__all__ = ["OthersMeter", "Usage", "UsageMeter", "is_quiet"]

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
        return is_quiet(self.others_cores)


class OthersMeter:
    """What everybody besides us uses; begins when it is made."""

    def __init__(self, pids: Iterable[int]) -> None:
        """Of us are this process and `pids`, its children."""
        self._began = perf_counter()
        self._others = _others_seconds(pids)

    def cores(self, pids: Iterable[int]) -> float:
        """Cores that others kept busy until now; `pids` are our children that live now, others may have come and gone.

        Raises:
            psutil.NoSuchProcess: one of them has ended.
        """
        return max(0.0, _others_seconds(pids) - self._others) / (perf_counter() - self._began)


def is_quiet(others_cores: float) -> bool:
    """Whether a machine on which others kept so many cores busy did little else."""
    return others_cores <= OTHERS_CORES_MAX


class UsageMeter:
    """Begins when it is made."""

    def __init__(self, processes: Iterable[tuple[str, int]]) -> None:
        """Watch these (name, pid), and all the machine."""
        self._processes = [(name, psutil.Process(pid)) for name, pid in processes]
        self._began = perf_counter()
        self._others = OthersMeter(process.pid for _, process in self._processes)
        self._before = [_cpu_seconds(process) for _, process in self._processes]

    def read(self) -> Usage:
        """What happened since the beginning.

        Raises:
            psutil.NoSuchProcess: one of them has ended.
        """
        seconds = perf_counter() - self._began
        others = self._others.cores(process.pid for _, process in self._processes)
        spent: dict[str, float] = {}
        memory: dict[str, float] = {}
        for (name, process), before in zip(self._processes, self._before, strict=True):
            spent[name] = _cpu_seconds(process) - before
            memory[name] = process.memory_info().rss / (1 << 20)
        return Usage(seconds, spent, memory, others)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _others_seconds(pids: Iterable[int]) -> float:
    """All that was used, without us: this process, the children that it has waited for, and those that live."""
    ourselves = os.times()
    ours = ourselves.user + ourselves.system + ourselves.children_user + ourselves.children_system
    return _busy_seconds() - ours - sum(_cpu_seconds(psutil.Process(pid)) for pid in pids)


def _busy_seconds() -> float:
    """Of the programs on all cores together, since the machine started; and what its host gave to somebody else.

    Interrupts are left out: on a loopback they are our own traffic, and no process is charged with them.
    """
    times = psutil.cpu_times()
    return times.user + times.system + sum(float(getattr(times, name, 0.0)) for name in ("nice", "steal"))
