"""A cluster of one replica without a network: all of a server but its listeners, fed by us.

Core, storage, state machine, turns and the disk thread are those of `driver.server`; requests enter where
those of a connection would, and replies are dropped where that connection's would leave.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time

import attrs
import trio

from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.core.config import Limits, Options
from trio_pb.core.messages import CODE_REGISTER, Request
from trio_pb.core.ports import FromClient, Input
from trio_pb.core.replica import Replica
from trio_pb.driver.clock import Clock
from trio_pb.driver.collector import spare_the_loop
from trio_pb.driver.disk_thread import DiskThread
from trio_pb.driver.disk_work import DiskWork
from trio_pb.driver.durability import Durability
from trio_pb.driver.events import EventLog
from trio_pb.driver.host import ReplicaHost
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.opening import CopiesDamaged
from trio_pb.driver.reception import Reception
from trio_pb.driver.transport import Transport
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store
from trio_pb.storage.work import Completion
from trio_pb.testbed.bench.meter import (
    CountingDisk,
    LoopWatch,
    Meter,
    TimedCheckpointer,
    TimedOrders,
    watched_collector,
)

__all__ = ["CLIENTS", "Headless", "headless"]

CLIENTS = 256  # Sessions; each has at most one request in an op.
IN_FLIGHT_MAX = 4  # Ops; below it each batch that we put becomes an op of its own.
STALL_SECONDS_MAX = 120.0
DISK_SECONDS_MAX = 10.0
NOBODY = 0  # The connection that our requests come over.
LAPTOP_TYPES = 64
KEY_SIZE = 16


@attrs.define
class Headless:
    """A running replica, and the clients that order from it."""

    core: Replica
    machine: TimedOrders
    checkpointer: TimedCheckpointer
    meter: Meter
    opened: tuple[float, float]  # Seconds by the clock and of processor, for all that is on disk.
    ready: tuple[float, float]  # The same, until all that was in the log is executed.
    replayed_ops: int
    _host: ReplicaHost
    _inbox: Inbox
    _ordered: int = 0  # The op of the last batch that was put.
    _numbers: list[int] = attrs.field(factory=list[int])  # Of each client's last request.
    _sessions: list[int] = attrs.field(factory=list[int])

    async def register(self) -> None:
        """Give every client a session, all in one op, unless they have theirs from an earlier life."""
        table = self.core.execution.sessions
        clients = [_client(index) for index in range(CLIENTS)]
        self._ordered = self.core.state.log.head
        if table.session_of(clients[0]) is None:
            self._put([Request(client, 0, 0, CODE_REGISTER, b"") for client in clients])
            await self.settle()
        for client in clients:
            session = table.session_of(client)
            assert session is not None
            self._sessions.append(session)
            self._numbers.append(table.last_number(client))

    async def order(self, batches: Iterable[Sequence[int]], tell: Callable[[int], object]) -> int:
        """Place one order for each customer of a batch, a batch per op; return the number of orders.

        `tell` is given the number of ops put so far, now and then.
        """
        orders = 0
        for count, customers in enumerate(batches):
            assert 0 < len(customers) <= CLIENTS
            await self._wait(lambda: self._may_put)
            self._put([self._request(index, customer) for index, customer in enumerate(customers)])
            orders += len(customers)
            if count % 64 == 0:
                tell(count)
        return orders

    async def settle(self) -> None:
        """Wait until all that was ordered is executed."""
        await self._wait(lambda: self.core.state.applied >= self._ordered)
        assert self.core.state.log.head == self._ordered, "a batch was cut in two, or two became one"

    async def wait_for_checkpoint(self) -> int:
        """Wait until the checkpoint of the head is live; return its bytes."""
        await self.settle()
        await self._wait(lambda: self.core.state.checkpoint.op >= self._ordered)
        return self.checkpointer.written[self._ordered]

    @property
    def _may_put(self) -> bool:
        """Whether a batch put now becomes an op of its own: those before it must be ops already."""
        state = self.core.state
        return state.log.head == self._ordered and self._ordered - state.commit_max < IN_FLIGHT_MAX

    async def _wait(self, condition: Callable[[], bool]) -> None:
        if not condition():
            with trio.fail_after(STALL_SECONDS_MAX):
                await self._host.wait_until(condition)

    def _put(self, requests: Sequence[Request]) -> None:
        self._ordered += 1
        self._inbox.put_clients([FromClient(NOBODY, request) for request in requests])

    def _request(self, index: int, customer: int) -> Request:
        self._numbers[index] += 1
        number = ((self._ordered + 1) << 8) + index  # Above all numbers before.
        laptop = f"laptop-{customer % LAPTOP_TYPES}"
        body = encode_place(
            PlaceOrder(customer, number, laptop, idempotency_key=number.to_bytes(KEY_SIZE, "big"))
        )  # fmt: skip
        return Request(_client(index), self._sessions[index], self._numbers[index], PLACE, body)


@asynccontextmanager
async def headless(directory: Path, limits: Limits) -> AsyncGenerator[Headless]:
    """Start the replica of `directory`; it has executed all of its log, and leads, when this yields.

    Raises:
        DataDirectoryError, StorageError: the directory does not open.
        ReplicaStoppedError: the replica refused to go on; it comes in an exception group.
    """
    meter = Meter()
    with CountingDisk(directory) as disk:
        wall, cpu = perf_counter(), process_time()
        store = Store()
        machine = TimedOrders(meter)
        start = run(disk, store.open(machine))
        opened = perf_counter() - wall, process_time() - cpu
        core = Replica(Options(limits=limits))
        inbox = Inbox()
        events = EventLog(start, CopiesDamaged(), counters=lambda: core.report().counters)
        checkpointer = TimedCheckpointer(machine, meter, disk)

        def sift(done: Sequence[Completion]) -> list[Input]:
            inputs = checkpointer.sift(done)
            events.on_completions(inputs)
            return inputs

        disk_work = DiskWork(store, disk, inbox, DiskThread(), sift=sift)
        durability = Durability(start)
        host = ReplicaHost(
            core=core,
            start=start,
            machine=machine,
            clock=Clock(),
            inbox=inbox,
            disk=disk_work,
            checkpointer=checkpointer,
            events=events,
            transport=Transport(
                cluster=start.superblock.cluster,
                replica=start.superblock.replica,
                peers={},
                inbox=inbox,
                reception=Reception(
                    report=core.report,
                    durable_view=lambda: durability.superblock.view,
                    machine=machine,
                    limits=limits,
                    addresses={},
                    counters=dict[str, int],
                ),
            ),
            durability=durability,
        )
        async with trio.open_nursery() as nursery:
            spare_the_loop()
            disk_work.start()
            host.take_first_turn()
            first, head = core.state.applied, core.state.log.head
            nursery.start_soon(host.run)
            try:
                with trio.fail_after(STALL_SECONDS_MAX):
                    await host.wait_until(lambda: core.state.is_leading and core.state.applied >= head)
                ready = perf_counter() - wall, process_time() - cpu
                trio.lowlevel.add_instrument(LoopWatch(meter))
                replica = Headless(
                    core, machine, checkpointer, meter, opened, ready, head - first, host, inbox
                )  # fmt: skip
                await replica.register()
                with watched_collector(meter):
                    yield replica
            finally:
                await disk_work.close(DISK_SECONDS_MAX)
            nursery.cancel_scope.cancel()


def _client(index: int) -> bytes:
    """Spread over all chunks of the session table, as random ids would be."""
    return bytes([index]) * 16
