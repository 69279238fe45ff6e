"""One replica over its boots: the whole server, and an observer before its core that hears what the oracles judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import trio

from sim.choices import Choices
from sim.oracles.facts import Violation, violate
from sim.oracles.watch import Watch
from sim.orders import ORDERS
from sim.shape import Shape, address_of
from sim.wall_clock import WallClock
from trio_pb.app.machine import StateMachine
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.ports import (
    Adopt,
    Applied,
    Apply,
    Collect,
    Fatal,
    Input,
    Output,
    Report,
    Send,
    Start,
    SuperblockDone,
    SuperblockWrite,
    ToClient,
    Trace,
    WalAppend,
    WalDone,
)
from trio_pb.core.replica import Replica
from trio_pb.driver.disk_work import Runner
from trio_pb.driver.platform import OpenedDisk, Platform
from trio_pb.driver.recording import RecordedStep
from trio_pb.driver.server import ServerInfo, serve
from trio_pb.errors import ReplicaStoppedError, StorageError
from trio_pb.storage.disk import Disk, Job, run
from trio_pb.storage.store import Store
from trio_pb.testbed.in_memory.disk import BootDisk, MemoryDevice, TaskRunner
from trio_pb.testbed.in_memory.disk_truth import DiskTruth
from trio_pb.testbed.in_memory.network import MemoryNetwork
from trio_pb.testbed.in_memory.timeline import Timeline

__all__ = ["MemoryReplica"]

T = TypeVar("T")

STEPS_PER_LOOK = 16  # Between two looks at all that a replica keeps (INV-30).
OPS_PER_DIGEST = 32
END_SECONDS_MAX = 15.0  # Of a server that was asked to stop, all of its own patience used up.


class World(Protocol):
    """What a replica needs of the cluster that it lives in."""

    timeline: Timeline
    choices: Choices
    network: MemoryNetwork
    watch: Watch
    shape: Shape
    nursery: trio.Nursery

    def trace(self, *event: object) -> None:
        """Note an event."""
        ...

    def count(self, event: str) -> None:
        """Count an event."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the run with what went wrong."""
        ...


@attrs.define(eq=False)
class Boot:
    """One life of the process."""

    number: int
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)  # Of all its tasks but the next.
    disk_scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    ended: trio.Event = attrs.Factory(trio.Event)
    is_stopping: bool = False  # It was asked to stop.
    is_dead: bool = False  # Killed: whatever its tasks still do, nobody sees.
    info: ServerInfo | None = None
    core: Replica | None = None
    machine: StateMachine = attrs.Factory(ORDERS.new_machine)
    disk: BootDisk | None = None
    steps: list[RecordedStep] = attrs.Factory(list[RecordedStep])

    def started(self, value: ServerInfo | None = None) -> None:
        """It is ready (`trio.TaskStatus`)."""
        self.info = value


class ObservedCore:
    """Stands in front of a core and tells the oracles of each step (`driver.host.Core`)."""

    def __init__(self, replica: MemoryReplica, boot: Boot, core: Replica) -> None:
        self._replica = replica
        self._boot = boot
        self._core = core
        self._watch = replica.world.watch
        self._number = replica.number
        self._truth = DiskTruth(replica.number, replica.device.medium, replica.examine)
        self._adopted: int | None = None
        self._steps = 0

    @property
    def next_deadline_tick(self) -> int:
        """That of the core."""
        return self._core.next_deadline_tick

    def report(self) -> Report:
        """That of the core."""
        return self._core.report()

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Judge what comes in, step, judge what comes out."""
        world, boot = self._replica.world, self._boot
        if boot.is_dead:
            return []
        try:
            self._hear(inputs)
            outputs = self._core.step(now_tick, inputs)
            self._steps += 1
            if world.shape.record:
                boot.steps.append(RecordedStep(now_tick, tuple(inputs), tuple(outputs)))
            world.trace("step", self._number, now_tick, len(inputs), len(outputs))
            self._watch.step(self._number, self._core.state)
            if self._steps % STEPS_PER_LOOK == 0:
                self._watch.core(self._number, self._core)
            for output in outputs:
                self._say(output)
        except Violation as violation:
            world.fail(violation)
            return []
        return outputs

    def _hear(self, inputs: Sequence[Input]) -> None:
        watch, number = self._watch, self._number
        # A turn may execute more at once: then the machine is past the op that we would look at.
        op = self._boot.machine.op
        if self._adopted is not None:
            if op == self._adopted:
                watch.state(number, op, self._boot.machine.digest())
            self._adopted = None
        for item in inputs:
            if type(item) is Start:
                watch.start(number, item, self._replica.durable_scan(item))
            elif type(item) is WalDone:
                self._truth.appended(item.sequence)
                watch.append_done(number, item.sequence)
            elif type(item) is SuperblockDone:
                self._truth.image_written(item.sequence)
                watch.image_done(number, item.sequence)
            elif type(item) is Applied and op == item.op and op % OPS_PER_DIGEST == 0:
                watch.state(number, op, self._boot.machine.digest())

    def _say(self, output: Output) -> None:
        watch, number = self._watch, self._number
        if type(output) is Send:
            watch.send(number, output)
        elif type(output) is ToClient:
            watch.to_client(number, output)
        elif type(output) is WalAppend:
            self._truth.appends.append(output)
            watch.append(number, output)
        elif type(output) is SuperblockWrite:
            self._truth.images.append(output)
            watch.image(number, output)
        elif type(output) is Apply:
            watch.apply(number, output)
        elif type(output) is Collect:
            watch.collect(number, output)
        elif type(output) is Adopt:
            watch.adopt(number, output.target.op)
            self._adopted = output.target.op
        elif type(output) is Trace:
            self._replica.world.count(output.event)
        elif type(output) is Fatal:
            violate("fatal", f"R{number} stopped by itself: {output.code}: {output.text}")


class MemoryReplica:
    """A machine with a disk on which a server runs, now and then."""

    def __init__(self, world: World, number: int, device: MemoryDevice) -> None:
        self.world = world
        self.number = number
        self.device = device
        self.host = address_of(number).partition(":")[0]
        self.clock = WallClock()
        self.boot: Boot | None = None  # The present one, ready or not.
        self.boots: list[Boot] = []
        self.storage_may_fail = False  # Since an injected error, until the next boot.
        self._lost_power = True  # In the end of the last boot.

    @property
    def core(self) -> Replica | None:
        """The core, once it runs."""
        return self.boot.core if self.boot is not None and self.boot.info is not None else None

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.boot is not None

    # --- Life and death -------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process, once the last one is gone."""
        if self.boot is None:
            self.boot = Boot(len(self.boots) + 1)
            self.boots.append(self.boot)
            self.world.nursery.start_soon(self._run, self.boot)

    def crash(self, *, power: bool) -> None:
        """Die at once; with `power` the machine dies, and unflushed writes are at stake."""
        boot = self.boot
        if boot is None:
            return
        self.world.trace("crash", self.number, power)
        self.world.count("replicas killed")
        boot.is_dead = True
        if boot.disk is not None:
            boot.disk.is_dead = True
        self.world.network.kill(self.host, power=power)
        boot.scope.cancel()
        boot.disk_scope.cancel()
        self.boot = None
        self._lost_power = power
        if power:
            self.device.medium.cut_power()
        else:
            self.device.medium.crash_process()

    def stop(self) -> None:
        """Ask the server to stop, as SIGTERM does."""
        boot = self.boot
        if boot is not None and boot.info is not None:
            self.world.trace("stop", self.number)
            self.world.count("graceful stops")
            boot.is_stopping = True
            boot.info.stop()
            self.world.timeline.after(round(END_SECONDS_MAX * 1_000_000), self._demand_end, boot)

    def _demand_end(self, boot: Boot) -> None:
        if not boot.ended.is_set():
            self.world.fail(Violation("stop", f"R{self.number} was asked to stop and goes on for ever"))

    async def _run(self, boot: Boot) -> None:
        for earlier in self.boots[: boot.number - 1]:
            await earlier.ended.wait()
        self.world.network.power_on(self.host)
        self.world.trace("start", self.number)
        try:
            with boot.scope:
                await self._serve(boot)
        except (ReplicaStoppedError, StorageError) as error:
            if not self.storage_may_fail:
                self.world.fail(error)
            self.world.trace("storage failed", self.number)
            self.world.count("storage failed")
        except BaseException as error:
            self.world.fail(error)
            raise
        finally:
            self._end(boot)

    async def _serve(self, boot: Boot) -> None:
        shape = self.world.shape
        peers = {number: address_of(number) for number in range(shape.replicas) if number != self.number}
        await serve(
            "",
            machine=boot.machine,
            listen=address_of(self.number),
            advertise=address_of(self.number),
            peers=peers,
            limits=shape.limits,
            timeouts=shape.timeouts,
            seed=self.world.choices.seed,
            segment_size=shape.segment_size,
            platform=self._platform(boot),
            observe=self._observe(boot),
            task_status=boot,
        )

    def _end(self, boot: Boot) -> None:
        """The process is gone, one way or another: it must have left nothing open."""
        if not boot.is_dead and boot.disk is not None:
            if not boot.disk.is_closed:
                self.world.trace("disk hangs", self.number)
            self.device.medium.crash_process()  # A thread that hangs dies with the process.
            self._lost_power = False
        boot.disk_scope.cancel()
        left = self.world.network.free(self.host)
        if left:
            self.world.fail(Violation("leak", f"R{self.number} ended and left open: {', '.join(left[:3])}"))
        if self.boot is boot:
            self.boot = None
        boot.ended.set()
        self.world.trace("ended", self.number)

    # --- The machine under it -------------------------------------------------------------------

    def _platform(self, boot: Boot) -> Platform:
        world = self.world

        async def open_disk(_: object) -> OpenedDisk:
            await world.timeline.sleep(100)
            boot.disk = BootDisk(self.device)
            return boot.disk

        return Platform(
            listen=world.network.listen,
            dial=world.network.dialler(self.host),
            open_disk=open_disk,
            run_job=_run_job,
            make_runner=lambda: self._make_runner(boot),
            storage_clock=trio.current_time,
            wall_ns=lambda: self.clock.read(world.timeline.now),
        )

    def _make_runner(self, boot: Boot) -> Runner:
        return TaskRunner(self.world.nursery, boot.disk_scope, self.world.fail)

    def _observe(self, boot: Boot) -> Callable[[Replica], ObservedCore]:
        def observe(core: Replica) -> ObservedCore:
            boot.core = core
            return ObservedCore(self, boot, core)

        return observe

    def durable_scan(self, start: Start) -> Scan:
        """What opening the storage would find after a power cut now."""
        medium = self.device.medium
        # Only after a crash of the process may the page cache show more than the medium holds.
        if self._lost_power or medium.is_clean:
            return start.scan
        return run(medium.after_power_cut(), Store(segment_size=self.world.shape.segment_size).open()).scan

    def examine(self) -> tuple[Superblock, Scan] | None:
        """What opening the disk would find after a power cut now; None when it would not open."""
        try:
            start = run(self.device.medium.after_power_cut(), Store(segment_size=self.world.shape.segment_size).open())
        except StorageError:
            return None
        return start.superblock, start.scan


async def _run_job(disk: Disk, job: Job[T]) -> T:
    assert isinstance(disk, BootDisk)
    return await disk.run(job)
