"""What a benchmark of storage found: plain numbers with their units, and the targets that they are held against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

__all__ = [
    "CheckpointBytes",
    "FlushTimes",
    "LoadFigures",
    "MemoryFigures",
    "RestartFigures",
    "ServiceFigures",
    "StepTimes",
    "StorageFigures",
    "Target",
    "TransferFigures",
    "percentile",
    "targets_of",
]

RESTART_SECONDS_MAX = 10.0
STEP_MS_MAX = 10.0
CLUSTERED_RATIO_MAX = 0.05
MEMORY_MIB_MAX = 400.0
TRANSFER_RATIO_MAX = 0.03
MIB = 1 << 20


def percentile(rising: Sequence[float], share: float) -> float:
    """Return the smallest of `rising` that `share` (0 to 1) of them do not exceed; 0 of nothing."""
    if not rising:
        return 0.0
    return rising[max(0, math.ceil(share * len(rising)) - 1)]


@attrs.frozen
class FlushTimes:
    """4 KiB written into a zero-filled file and fdatasync, one after the other: what the disk itself takes."""

    count: int
    p50_ms: float
    p99_ms: float


@attrs.frozen
class StepTimes:
    """How long one kind of step held up the loop."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_max_ms: float  # Processor time of the thread; what exceeds it, it waited for a processor or another thread.

    @classmethod
    def of(cls, steps: Sequence[tuple[float, float]]) -> StepTimes:
        """Sum up (seconds by the clock, seconds of processor) of each step."""
        rising = sorted(wall * 1e3 for wall, _ in steps)
        return cls(
            count=len(steps),
            p50_ms=percentile(rising, 0.5),
            p99_ms=percentile(rising, 0.99),
            max_ms=percentile(rising, 1.0),
            cpu_max_ms=max((cpu * 1e3 for _, cpu in steps), default=0.0),
        )


@attrs.frozen
class LoadFigures:
    """Filling a new directory."""

    seconds: float
    orders: int
    head: int  # Last op.
    log_ops: int  # Above the checkpoint.
    log_orders: int  # In them.
    checkpoint_bytes: int  # Written for a checkpoint of which every chunk is new.


@attrs.frozen
class RestartFigures:
    """A replica that was stopped with a long log above its checkpoint, in a new process."""

    ready_seconds: float  # From opening the files until all of the log is executed.
    ready_cpu_seconds: float  # Of a processor, in all threads.
    open_seconds: float  # Of these: scan all files, load the checkpoint.
    open_cpu_seconds: float
    replay_seconds: float  # Of these: from the first step on.
    ops: int  # Replayed.
    orders: int  # In them.
    checkpoints: int  # Begun on the way: the last one that falls due does so with the head itself.


@attrs.frozen
class CheckpointBytes:
    """What one checkpoint wrote after `touched` customers had ordered."""

    touched: int
    bytes: int
    ratio: float  # To one with nothing but new chunks.


@attrs.frozen
class ServiceFigures:
    """Checkpoints that are written while orders go on."""

    uniform: CheckpointBytes
    clustered: CheckpointBytes
    steps: Mapping[str, StepTimes]  # By kind.


@attrs.frozen
class MemoryFigures:
    """Resident memory of a process."""

    before_mib: float  # With everything imported.
    loaded_mib: float  # With all customers loaded.
    peak_mib: float  # At any time until then.


@attrs.frozen
class TransferFigures:
    """A state transfer between two directories, and the installation of what came."""

    chunks: int
    lacking: int  # Of these; the receiver had the others.
    full_bytes: int  # Of all pieces and the manifest.
    moved_bytes: int  # Of the pieces that were lacking and the manifest.
    install_seconds: float
    steps: Mapping[str, StepTimes]  # By kind.


@attrs.frozen
class Target:
    """One figure and how high it may be."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        """Whether the figure is below its limit."""
        return self.value < self.limit


@attrs.frozen
class StorageFigures:
    """All of it."""

    customers: int
    interval_ops: int  # Of checkpoints.
    flush: FlushTimes
    load: LoadFigures
    restart: RestartFigures
    service: ServiceFigures
    memory: MemoryFigures
    transfer: TransferFigures


LOOP_STEPS = ("freeze", "sort", "encode", "manifest", "apply")  # Of a checkpoint.
INSTALL_STEPS = ("decode", "adopt", "apply_after_adopt")


def targets_of(found: StorageFigures) -> tuple[Target, ...]:
    """Hold the figures against the targets, which are meant for a million customers."""
    steps = [found.service.steps[kind] for kind in LOOP_STEPS if kind in found.service.steps]
    steps += [found.transfer.steps[kind] for kind in INSTALL_STEPS if kind in found.transfer.steps]
    transfer = found.transfer
    return (
        Target("restart", found.restart.ready_seconds, RESTART_SECONDS_MAX, "s"),
        Target("longest step of the loop", max((step.max_ms for step in steps), default=0.0), STEP_MS_MAX, "ms"),
        Target("checkpoint after 1 % clustered", 100 * found.service.clustered.ratio, 100 * CLUSTERED_RATIO_MAX, "%"),
        Target("memory", found.memory.loaded_mib, MEMORY_MIB_MAX, "MiB"),
        Target("transfer of 1 %", 100 * transfer.moved_bytes / transfer.full_bytes, 100 * TRANSFER_RATIO_MAX, "%"),
    )
