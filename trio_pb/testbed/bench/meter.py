"""Clocks around the shipped parts: how long each kind of step holds up the loop, how much goes to the disk."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from time import perf_counter, thread_time

import trio

from trio_pb.app.orders import Orders
from trio_pb.core.ports import Adopt, CheckpointBegin, CheckpointDone, Input, Install
from trio_pb.driver.file_disk import FileDisk
from trio_pb.storage.checkpointer import Advance, Checkpointer
from trio_pb.storage.disk import Step, Write
from trio_pb.storage.packs import CHECKPOINT_FOLDER
from trio_pb.storage.work import CheckpointFinish, CheckpointWrite, Completion, Work
from trio_pb.testbed.bench.figures import StepTimes

__all__ = ["CountingDisk", "LoopWatch", "Meter", "TimedCheckpointer", "TimedOrders", "watched_collector"]

FULL = 2  # The oldest generation.

_KINDS: dict[type[Work], str] = {CheckpointWrite: "encode", CheckpointFinish: "manifest"}


class Meter:
    """Times of steps by kind: (seconds by the clock, seconds of processor) each."""

    def __init__(self) -> None:
        self.is_frozen = False  # A checkpoint is being written: state is copied on write.
        self._steps: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def step(self, kind: str) -> Generator[None, None, None]:
        """Time what is done inside."""
        wall, cpu = perf_counter(), thread_time()
        yield
        self.add(kind, perf_counter() - wall, thread_time() - cpu)

    def add(self, kind: str, wall: float, cpu: float) -> None:
        """Take one step into account."""
        self._steps.setdefault(kind, []).append((wall, cpu))

    def clear(self) -> None:
        """Forget what was measured so far."""
        self._steps.clear()

    def sums(self) -> dict[str, StepTimes]:
        """Return what was measured, by kind."""
        return {kind: StepTimes.of(steps) for kind, steps in sorted(self._steps.items())}


class TimedOrders(Orders):
    """The laptop orders; each op that is applied while a checkpoint is being written is timed."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def apply(self, op: int, timestamp: int, items: Sequence[tuple[int, bytes, int, bytes]]) -> tuple[bytes, ...]:
        """Execute one op."""
        if not self._meter.is_frozen:
            return super().apply(op, timestamp, items)
        with self._meter.step("apply"):
            return super().apply(op, timestamp, items)


class CountingDisk(FileDisk):
    """A disk that counts what it writes for checkpoints."""

    checkpoint_bytes: int = 0  # So far; padding and what is moved to free space included.

    def __enter__(self) -> CountingDisk:
        """Return itself; `close` runs at the end of the block."""
        return self

    def do(self, step: Step) -> object:
        """Carry out `step`."""
        if type(step) is Write and step.file.startswith(CHECKPOINT_FOLDER):
            self.checkpoint_bytes += len(step.data)
        return super().do(step)


class TimedCheckpointer(Checkpointer):
    """The checkpointer; each of its steps is timed, and what each checkpoint writes is counted."""

    def __init__(self, machine: Orders, meter: Meter, disk: CountingDisk) -> None:
        super().__init__(machine)
        self._meter = meter
        self._disk = disk
        self._bytes_before = 0
        self._other = "sort"  # What a slice did that gave no chunk: sort out what changed, or decode.
        self.begun = 0
        self.written: dict[int, int] = {}  # Op of a checkpoint -> bytes written for it.

    def begin(self, output: CheckpointBegin) -> None:
        """Freeze."""
        self.begun += 1
        self._bytes_before = self._disk.checkpoint_bytes
        with self._meter.step("freeze"):
            super().begin(output)
        self._meter.is_frozen = True

    def install(self, output: Install) -> None:
        """Begin to decode."""
        self._other = "decode"
        super().install(output)

    def advance(self, budget_bytes: int) -> Advance:
        """Encode or decode a slice."""
        wall, cpu = perf_counter(), thread_time()
        advance = super().advance(budget_bytes)
        kind = next((_KINDS[type(work)] for work in advance.work if type(work) in _KINDS), self._other)
        self._meter.add(kind, perf_counter() - wall, thread_time() - cpu)
        return advance

    def adopt(self, output: Adopt) -> None:
        """Replace the state."""
        with self._meter.step("adopt"):
            super().adopt(output)

    def sift(self, completions: Iterable[Completion]) -> list[Input]:
        """Note when a checkpoint is complete: only then its garbage is moved, on the same disk."""
        inputs = super().sift(completions)
        for done in inputs:
            if type(done) is CheckpointDone:
                self._meter.is_frozen = False
                self.written[done.id.op] = self._disk.checkpoint_bytes - self._bytes_before
        return inputs


@contextmanager
def watched_collector(meter: Meter) -> Generator[None]:
    """Time every full garbage collection inside: whatever step it falls into takes so much longer."""
    began = (0.0, 0.0)

    def on_collection(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if info["generation"] != FULL:
            return
        if phase == "start":
            began = (perf_counter(), thread_time())
        else:
            meter.add("collection", perf_counter() - began[0], thread_time() - began[1])

    gc.callbacks.append(on_collection)
    try:
        yield
    finally:
        gc.callbacks.remove(on_collection)


class LoopWatch(trio.abc.Instrument):
    """Times every step of every task of the loop while a checkpoint is being written."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._began = (0.0, 0.0)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task goes on."""
        del task
        self._began = (perf_counter(), thread_time())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits again."""
        del task
        if self._meter.is_frozen:
            wall, cpu = self._began
            self._meter.add("loop", perf_counter() - wall, thread_time() - cpu)
