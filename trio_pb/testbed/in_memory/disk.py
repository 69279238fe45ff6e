"""A replica's disk in virtual time, and who works with it beside the loop.

The bytes are those of `sim.disk`: what was not flushed is lost, kept or torn at a power cut. Here its steps take
time: beside the loop while everybody goes on, in the loop while everybody waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio
from trio.testing import MockClock

from sim.choices import Choices, latency_of
from sim.disk import FakeDisk
from sim.oracles.facts import Violation, violate
from sim.shape import DiskSpeed
from trio_pb.driver.disk_work import Jobs, StorageJob
from trio_pb.errors import DiskFullError
from trio_pb.storage.disk import Disk, Flush, Job, Step, Write
from trio_pb.testbed.in_memory.timeline import SECOND, Timeline

__all__ = ["BootDisk", "MemoryDevice", "TaskRunner"]

T = TypeVar("T")


@attrs.define
class MemoryDevice:
    """The disk of one replica over all its boots."""

    medium: FakeDisk
    speed: DiskSpeed
    timeline: Timeline
    choices: Choices
    clock: MockClock
    stalled_until: int = 0  # Virtual microseconds, before which no step ends.
    steps: int = 0

    def delay(self, step: Step) -> int:
        """Microseconds that the next step takes."""
        self.steps += 1
        bits = self.choices.bits(("disk", self.medium.owner, self.steps))
        speed = self.speed
        if type(step) is Flush:
            delay = latency_of(bits, speed.flush_min, speed.flush_mean)
        elif type(step) is Write:
            delay = latency_of(bits, speed.step_min, speed.step_mean) // 4
        else:
            delay = latency_of(bits, speed.step_min, speed.step_mean)
        return max(delay, self.stalled_until - self.timeline.now)


class BootDisk:
    """What one boot of a replica opened (`driver.platform.OpenedDisk`). Dead once its process is."""

    def __init__(self, device: MemoryDevice) -> None:
        self.device = device
        self.is_dead = False
        self.is_closed = False

    def do(self, step: Step) -> object:
        """Carry out a step while everything waits: the clock jumps over it."""
        assert not self.is_closed, "the disk is closed"
        device = self.device
        if self.is_dead:
            return None  # Nobody is there any more to see that nothing happened.
        device.medium.begin(step)
        device.clock.jump(device.delay(step) / SECOND)
        return device.medium.finish()

    async def run(self, job: Job[T]) -> T:
        """Run a job while others go on."""
        device = self.device
        result: object = None
        full: DiskFullError | None = None
        while True:
            try:
                step = job.send(result) if full is None else job.throw(full)
            except StopIteration as ended:
                value: T = ended.value
                return value
            full = None
            assert not self.is_closed, "the disk is closed"
            await self._stay_dead()
            device.medium.begin(step)
            await device.timeline.sleep(device.delay(step))
            await self._stay_dead()
            try:
                result = device.medium.finish()
            except DiskFullError as error:
                full = error

    async def _stay_dead(self) -> None:
        """Go no further in a process that was killed in this very moment: its step was settled."""
        if self.is_dead:
            await trio.sleep_forever()

    def close(self) -> None:
        """Nothing more is asked of it in this boot."""
        self.is_closed = True


class TaskRunner:
    """Works beside the loop as the disk thread does, in a task (`driver.disk_work.Runner`)."""

    def __init__(self, nursery: trio.Nursery, scope: trio.CancelScope, fail: Callable[[BaseException], None]) -> None:
        self._nursery = nursery
        self._scope = scope  # Of the process that it belongs to.
        self._fail = fail  # Takes what an oracle says.
        self._is_called = False
        self._wait = trio.lowlevel.ParkingLot()
        self._ended = trio.Event()
        self._is_started = False

    def start(self, disk: Disk, jobs: Jobs) -> None:
        """Start the task."""
        assert isinstance(disk, BootDisk)
        self._is_started = True
        self._nursery.start_soon(self._work, disk, jobs)

    def call(self) -> None:
        """Look at the jobs again."""
        self._is_called = True
        self._wait.unpark_all()

    async def join(self, timeout_seconds: float) -> bool:
        """Wait for the task to end."""
        if not self._is_started:
            return True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout_seconds):
            await self._ended.wait()
        return self._ended.is_set()

    async def _work(self, disk: BootDisk, jobs: Jobs) -> None:
        try:
            with self._scope:
                while not jobs.is_closed:
                    job = jobs.take()
                    if job is not None:
                        await self._run(disk, jobs, job)
                        continue
                    while not self._is_called:
                        await self._wait.park()
                    self._is_called = False
        except Violation as violation:
            self._fail(violation)
        except Exception as error:
            jobs.failed(error)
        finally:
            self._ended.set()

    async def _run(self, disk: BootDisk, jobs: Jobs, job: StorageJob) -> None:
        medium = disk.device.medium
        first = medium.writes
        done = await disk.run(job)
        if done and medium.has_unflushed_since(first):
            violate("INV-8", f"R{medium.owner}: storage reports work as durable that a power cut would undo")
        jobs.ended(done)
