"""Makes the faults of a run happen, each when a drawn number of operations has ended, and heals them all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import trio
from trio.testing import MockClock

from sim.choices import Choices, Key
from sim.shape import address_of
from sim.workload import History
from trio_pb.codec.wire import encode_client, encode_peer
from trio_pb.core.messages import (
    CODE_REGISTER,
    GENESIS_CHECKPOINT,
    Commit,
    Envelope,
    Greet,
    Request,
    StatusGet,
)
from trio_pb.testbed.in_memory.client import MemoryClient
from trio_pb.testbed.in_memory.network import MemoryNetwork
from trio_pb.testbed.in_memory.replica import MemoryReplica
from trio_pb.testbed.in_memory.shape import DriverShape
from trio_pb.testbed.in_memory.timeline import SECOND, Timeline

__all__ = ["STRANGER_SECONDS", "Faults"]

T = TypeVar("T")

MS = 1000  # Microseconds.
AIMED = 0.5  # Share of the faults of replicas that are aimed at the primary.
STRANGER_SECONDS = 2.0


class World(Protocol):
    """What faults happen to."""

    timeline: Timeline
    choices: Choices
    network: MemoryNetwork
    history: History
    replicas: list[MemoryReplica]
    clients: list[MemoryClient]
    plan: DriverShape
    clock: MockClock
    cluster_id: bytes
    nursery: trio.Nursery

    def trace(self, *event: object) -> None:
        """Note an event."""
        ...

    def count(self, event: str) -> None:
        """Count an event."""
        ...


class Faults:
    """The faults of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_healed = False
        self._is_over = False
        self._choices = world.choices
        self._due: list[tuple[int, int, Callable[[Key], None], Key]] = []  # (operations ended, ...), next one last.
        world.history.on_end = self._follow_work

    def schedule(self) -> None:
        """Decide when each fault happens."""
        counts = self.world.plan.faults
        acts: dict[str, Callable[[Key], None]] = {
            "crashes": self._crash,
            "power_cuts": self._cut_power,
            "stops": self._stop,
            "pauses": self._pause,
            "resets": self._reset,
            "stalls": self._stall,
            "partitions": self._partition,
            "refusals": self._refuse,
            "strangers": self._stranger,
            "io_errors": self._io_error,
            "disk_stalls": self._stall_disk,
            "full_disks": self._fill_disk,
            "client_deaths": self._kill_client,
        }
        sizes = self.world.plan.sizes
        work = max(1, sizes.workload.operations * sizes.clients)
        for field in attrs.fields(type(counts)):
            for index in range(getattr(counts, field.name)):
                key: Key = ("fault", field.name, index)
                if self._choices.flag(key, 1.0):  # A replayed run may leave out any one of them.
                    ended = self._choices.number((*key, "ended"), 0, work - 1, work // 2)
                    self._due.append((ended, len(self._due), acts[field.name], key))
        self._due.sort(key=lambda due: due[:2], reverse=True)
        self._follow_work()

    def _follow_work(self) -> None:
        while self._due and self._due[-1][0] <= self.world.history.ended:
            _, _, act, key = self._due.pop()
            self.world.timeline.after(self._choices.latency((*key, "after"), 0, 10 * MS), self._act, act, key)

    def _act(self, act: Callable[[Key], None], key: Key) -> None:
        if not self.is_healed:
            self.world.count(str(key[1]))
            act(key)

    def end(self) -> None:
        """From now on nobody is started again."""
        self._is_over = True

    def heal(self) -> None:
        """End every fault: from now on everybody runs and everything arrives."""
        world = self.world
        self.is_healed = True
        world.network.refusals = 0.0
        world.network.faults = attrs.evolve(world.network.faults, corruption=0.0)
        hosts = [replica.host for replica in world.replicas] + [client.name for client in world.clients]
        for source in hosts:
            for destination in hosts:
                if world.network.is_blocked(source, destination):
                    world.network.unblock(source, destination)
        for connection in world.network.open_connections():
            for direction in connection.directions:
                direction.resume()
        for replica in world.replicas:
            device = replica.device
            device.medium.is_full = False
            device.medium.fail_after = None
            device.stalled_until = 0
        self._supervise()
        world.trace("healed")

    def _supervise(self) -> None:
        """Who ends, of a fault of before, is started again until the run is over."""
        if not self._is_over:
            for replica in self.world.replicas:
                replica.start()
            self.world.timeline.after(50 * MS, self._supervise)

    # --- Draws ----------------------------------------------------------------------------------

    def _one_of(self, key: Key, values: Sequence[T]) -> T:
        return values[self._choices.number((*key, "which"), 0, len(values) - 1, 0)]

    def _span(self, key: Key) -> int:
        return self._choices.latency((*key, "span"), 1 * MS, self.world.plan.span_mean)

    def _replica(self, key: Key) -> MemoryReplica:
        leading = [
            replica for replica in self.world.replicas if replica.core is not None and replica.core.state.is_primary
        ]
        if leading and self._choices.flag((*key, "aimed"), AIMED):
            return leading[0]
        return self._one_of(key, self.world.replicas)

    # --- Processes ------------------------------------------------------------------------------

    def _crash(self, key: Key) -> None:
        replica = self._replica(key)
        replica.crash(power=self._choices.flag((*key, "power"), 0.5))
        self._restart_later(replica, key)

    def _cut_power(self, key: Key) -> None:
        for replica in self.world.replicas:
            replica.crash(power=True)
            self._restart_later(replica, (*key, replica.number))

    def _stop(self, key: Key) -> None:
        replica = self._replica(key)
        replica.stop()
        self._restart_later(replica, key)

    def _restart_later(self, replica: MemoryReplica, key: Key) -> None:
        delay = self._choices.latency((*key, "down"), 1 * MS, self.world.plan.down_mean)
        self.world.timeline.after(delay, self._restart, replica, delay)

    def _restart(self, replica: MemoryReplica, patience: int) -> None:
        if self._is_over:
            return
        if replica.boot is not None and replica.boot.is_stopping:
            self.world.timeline.after(max(patience, 10 * MS), self._restart, replica, patience)
        else:
            replica.start()

    def _kill_client(self, key: Key) -> None:
        self._one_of(key, self.world.clients).die()

    def _pause(self, key: Key) -> None:
        span = self._span(key)
        self.world.trace("pause", span)
        self.world.clock.jump(span / SECOND)

    # --- Network --------------------------------------------------------------------------------

    def _reset(self, key: Key) -> None:
        connections = self.world.network.open_connections()
        if connections:
            self._one_of(key, connections).reset()

    def _stall(self, key: Key) -> None:
        connections = self.world.network.open_connections()
        if connections:
            direction = self._one_of(key, connections).directions[self._choices.flag((*key, "answers"), 0.5)]
            direction.is_stalled = True
            self.world.timeline.after(self._span(key), direction.resume)

    def _partition(self, key: Key) -> None:
        network = self.world.network
        one = self._replica(key).host
        others = [host for host in self._hosts() if host != one]
        if self._choices.flag((*key, "one pair"), 0.5):
            others = [self._one_of((*key, "other"), others)]
        one_way = self._choices.number((*key, "one way"), 0, 3, 0)
        pairs = [(one, other) for other in others if one_way != 1] + [(other, one) for other in others if one_way != 2]
        for pair in pairs:
            network.block(*pair)
            self.world.trace("blocked", *pair)
        self.world.timeline.after(self._span(key), self._unblock, pairs)

    def _unblock(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self.world.network.unblock(*pair)

    def _hosts(self) -> list[str]:
        world = self.world
        return [replica.host for replica in world.replicas] + [client.name for client in world.clients]

    def _refuse(self, key: Key) -> None:
        self.world.network.refusals = 0.5
        self.world.timeline.after(self._span(key), self._accept)

    def _accept(self) -> None:
        self.world.network.refusals = 0.0

    def _stranger(self, key: Key) -> None:
        target = self._replica(key)
        self.world.nursery.start_soon(self._be_strange, target.number, key)

    async def _be_strange(self, target: int, key: Key) -> None:
        """Send what is no conversation of ours, then wait for the end, or not."""
        with trio.move_on_after(STRANGER_SECONDS):
            try:
                async with await self.world.network.dialler("stranger")(address_of(target)) as stream:
                    await stream.send_all(self._strange_bytes(key))
                    if self._choices.flag((*key, "stays"), 0.5):
                        while await stream.receive_some():
                            pass
            except (OSError, trio.BrokenResourceError):
                return

    def _strange_bytes(self, key: Key) -> bytes:
        noise = b"".join(self._choices.bits((*key, "noise", part)).to_bytes(8, "big") for part in range(64))
        greeting = encode_client(self.world.cluster_id, Greet((1,), self.world.cluster_id))
        request = encode_client(self.world.cluster_id, Request(b"stranger" * 2, 0, 0, CODE_REGISTER, b""))
        damaged = bytearray(greeting + request)
        damaged[self._choices.bits((*key, "where")) % len(damaged)] ^= 0x10
        return self._one_of(
            (*key, "bytes"),
            (
                noise,
                b"GET / HTTP/1.1\r\nHost: replica\r\n\r\n",
                greeting[:-3],
                greeting[:40] + noise,
                request,  # Before a greeting.
                bytes(damaged),
                greeting + greeting + b"\xff" * 200,
                greeting + encode_client(self.world.cluster_id, StatusGet()),
                _foreign_heartbeat(),
            ),
        )

    # --- Disks ----------------------------------------------------------------------------------

    def _io_error(self, key: Key) -> None:
        replica = self._replica(key)
        replica.storage_may_fail = True
        replica.device.medium.fail_after = self._choices.number((*key, "later"), 0, 12, 0)
        self.world.trace("disk will fail", replica.number, errno.errorcode[errno.EIO])
        self._restart_later(replica, key)

    def _stall_disk(self, key: Key) -> None:
        device = self._replica(key).device
        device.stalled_until = self.world.timeline.now + self._span(key)

    def _fill_disk(self, key: Key) -> None:
        replica = self._replica(key)
        replica.storage_may_fail = True
        replica.device.medium.is_full = True
        self.world.timeline.after(self._span(key), self._free_disk, replica, key)

    def _free_disk(self, replica: MemoryReplica, key: Key) -> None:
        replica.device.medium.is_full = False
        self._restart_later(replica, key)


def _foreign_heartbeat() -> bytes:
    """A peer of another cluster, by a wrong address: a valid frame that must change nothing."""
    far = 1 << 20
    envelope = Envelope(
        cluster=b"another cluster!",
        replica=0,
        incarnation=b"stranger",
        boot=far,
        epoch=0,
        view=far,
        op=far,
        commit=far,
        release=1,
    )
    return encode_peer(envelope, Commit(b"checksum" * 2, b"checksum" * 2, 1, GENESIS_CHECKPOINT))
