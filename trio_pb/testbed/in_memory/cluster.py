"""The world that servers and clients live in: network, disks, time, and the judges of the simulator."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import cast

import trio
from trio.testing import MockClock

from sim.choices import Choices
from sim.cluster import all_oracles
from sim.disk import FakeDisk
from sim.oracles.facts import Facts
from sim.oracles.reference import ExecutedOnce
from sim.oracles.watch import Watch
from sim.wall_clock import WallClock
from sim.workload import History
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store, format_directory
from trio_pb.testbed.in_memory.client import MemoryClient
from trio_pb.testbed.in_memory.disk import MemoryDevice
from trio_pb.testbed.in_memory.network import MemoryNetwork
from trio_pb.testbed.in_memory.replica import MemoryReplica
from trio_pb.testbed.in_memory.shape import DriverShape
from trio_pb.testbed.in_memory.timeline import Timeline

__all__ = ["MemoryCluster", "first_leaf"]

TRACE_KEPT = 400  # Newest events kept for a failure's story.


def first_leaf(error: BaseException) -> BaseException:
    """The first exception in a group that is no mere cancellation, if there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    _, rest = group.split(trio.Cancelled)
    return first_leaf((rest or group).exceptions[0])


class MemoryCluster:
    """Everything in one Trio run; must be made inside it."""

    def __init__(self, choices: Choices, plan: DriverShape, clock: MockClock, nursery: trio.Nursery) -> None:
        self.choices = choices
        self.plan = plan
        self.shape = plan.sizes
        self.cancellations = plan.cancellations
        self.clock = clock
        self.nursery = nursery
        self.timeline = Timeline(plan.grain)
        self.history = History()
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[object, ...]] = []
        self.digest = 0  # A checksum over every event: equal for equal runs.
        self.failure: BaseException | None = None
        self.virtual_us = 0  # When the last event was noted.
        self.cluster_id = self._bytes16("cluster")
        self.network = MemoryNetwork(self.timeline, choices, plan.streams, self.trace, self.note_bytes)
        mediums = [self._formatted_disk(number) for number in range(self.shape.replicas)]
        images = [run(medium.after_power_cut(), self._store().open()).superblock for medium in mediums]
        facts = Facts(self.cluster_id, images)
        self.executed = ExecutedOnce(facts, self.shape.limits.sessions_max)
        self.watch = Watch(facts, all_oracles(facts, self.shape, self.executed))
        self.replicas = [
            MemoryReplica(self, number, MemoryDevice(medium, self.shape.disk, self.timeline, choices, clock))
            for number, medium in enumerate(mediums)
        ]
        for replica in self.replicas:
            facts.disks[replica.number].examine = replica.examine
            spread = self.shape.clock_spread_ms
            bits = choices.bits(("wall clock", replica.number))
            replica.clock = WallClock((bits % (2 * spread + 1) - spread) * 1_000_000 if spread else 0)
        self.clients = [MemoryClient(self, index) for index in range(self.shape.clients)]

    @property
    def facts(self) -> Facts:
        """What the oracles know."""
        return self.watch.facts

    def trace(self, *event: object) -> None:
        """Note an event."""
        self.virtual_us = self.timeline.now
        entry = (self.virtual_us, *event)
        self.digest = zlib.crc32(repr(entry).encode(), self.digest)
        self.events.append(entry)
        if len(self.events) > 2 * TRACE_KEPT:
            del self.events[:TRACE_KEPT]

    def note_bytes(self, data: bytes) -> None:
        """Let delivered bytes count for the run's checksum."""
        self.digest = zlib.crc32(data, self.digest)

    def count(self, event: str) -> None:
        """Count an event."""
        self.counts[event] += 1

    def fail(self, error: BaseException) -> None:
        """End the run with what went wrong first."""
        error = first_leaf(error)
        if isinstance(error, trio.Cancelled):
            return
        if self.failure is None:
            self.failure = error
        self.nursery.cancel_scope.cancel()

    async def wait_until(self, condition: Callable[[], bool], limit: int) -> bool:
        """Wait until `condition` holds, looked at every ten milliseconds, at most up to virtual time `limit`."""
        while not condition():
            if self.timeline.now >= limit:
                return False
            await self.timeline.sleep(10_000)
        return True

    def describe(self) -> str:
        """Where everybody stands, a line each."""
        lines: list[str] = []
        for replica in self.replicas:
            core = replica.core
            if core is None:
                lines.append(f"  R{replica.number}: {'opening' if replica.is_up else 'down'}")
            else:
                state = core.state
                role = "primary" if state.is_primary else state.status.name.lower()
                lines.append(
                    f"  R{replica.number}: {role} view {state.view} (durable {state.durable_view})"
                    f" head {state.log.head} commit {state.commit_max} applied {state.applied}"
                    f" unfit {sorted(state.unfit)}"
                )
        for client in self.clients:
            state_of = "up" if client.client is not None else "connecting"
            lines.append(f"  {client.name}: {state_of}, waits for {list(client.pending)[:4]}")
        return "\n".join(lines)

    def _store(self) -> Store:
        return Store(segment_size=self.shape.segment_size)

    def _bytes16(self, *what: str | int) -> bytes:
        return blake2b(repr((self.choices.seed, *what)).encode(), digest_size=16).digest()

    def _formatted_disk(self, number: int) -> FakeDisk:
        medium = FakeDisk(number, self.choices)
        job = format_directory(
            cluster=self.cluster_id,
            replica=number,
            incarnation=self._bytes16("incarnation", number),
            voters=tuple(range(self.shape.replicas)),
            segment_size=self.shape.segment_size,
        )
        run(medium, job)
        return medium
