"""One client process: the shipped client on Trio, callers that lose patience, and its death and return."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import attrs
import trio

from sim.choices import Choices
from sim.oracles.facts import violate
from sim.shape import Shape, address_of
from sim.workload import History, Operation
from trio_pb.core.client_ports import Failure, OutcomeKind, Success
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import ReadMode, Reply
from trio_pb.driver.client import Client, open_client
from trio_pb.errors import NotAppliedError, NotSentError, SnapshotGoneError, UnknownOutcomeError
from trio_pb.testbed.in_memory.network import MemoryNetwork
from trio_pb.testbed.in_memory.shape import DriverShape
from trio_pb.testbed.in_memory.timeline import Timeline

__all__ = ["MemoryClient"]

CONNECT_SECONDS = 10.0
PATIENCE_MEAN = 2000  # Microseconds of a caller who has little: about as long as an order takes.


class World(Protocol):
    """What a client needs of the cluster that it lives in."""

    timeline: Timeline
    choices: Choices
    network: MemoryNetwork
    history: History
    shape: Shape
    plan: DriverShape
    cluster_id: bytes
    nursery: trio.Nursery
    cancellations: float

    def trace(self, *event: object) -> None:
        """Note an event."""
        ...

    def count(self, event: str) -> None:
        """Count an event."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the run with what went wrong."""
        ...


class MemoryClient:
    """Carries a workload (`sim.workload.Caller`)."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.name = f"client-{index}"
        self.pending: dict[int, Operation] = {}
        self.on_completed: Callable[[Operation], None] = lambda _operation: None
        # Never called: whoever waits for a process that dies hears that the outcome is unknown.
        self.on_abandoned: Callable[[Operation], None] = lambda _operation: None
        self.client: Client | None = None
        self._lives = 0
        self._life = trio.CancelScope()
        self._up = trio.lowlevel.ParkingLot()
        self._is_over = False
        self.has_left = False

    def submit(self, operation: Operation) -> None:
        """Begin an operation."""
        self.world.history.begin(operation, self.world.timeline.now)
        self.pending[operation.token] = operation
        self.world.nursery.start_soon(self._perform, operation)

    def die(self) -> None:
        """The process ends, with whatever is in flight; another takes its place."""
        self.world.trace("client dies", self.name)
        self.world.count("clients died")
        self._life.cancel()

    def leave(self) -> None:
        """End for good."""
        self._is_over = True
        self._life.cancel()

    async def run(self) -> None:
        """Be a client, one process after the other."""
        while not self._is_over:
            with trio.CancelScope() as self._life:
                try:
                    await self._live()
                except NotSentError:
                    self.world.count("clients found nobody")
            left = self.world.network.free(self.name)
            if left:
                violate("leak", f"{self.name} ended and left open: {', '.join(left[:3])}")
        self.has_left = True

    async def _live(self) -> None:
        world = self.world
        self._lives += 1
        identity = blake2b(repr((world.choices.seed, self.name, self._lives)).encode(), digest_size=16).digest()
        options = attrs.evolve(world.shape.client_options, cluster=world.cluster_id, seed=world.choices.seed & 0xFFFF)
        addresses = [address_of(number) for number in range(world.shape.replicas)]
        machine = ClusterClient(addresses, identity, options)
        dial = world.network.dialler(self.name)
        async with open_client(machine, dial, timeout_s=CONNECT_SECONDS, in_flight_max=world.plan.calls_max) as client:
            self.client = client
            self._up.unpark_all()
            try:
                await trio.sleep_forever()
            finally:
                self.client = None

    async def _perform(self, operation: Operation) -> None:
        try:
            outcome = await self._ask(operation)
        except Exception as error:
            self.world.fail(error)
            return
        now = self.world.timeline.now
        said = operation.op if isinstance(outcome, Success) else outcome.reason
        del self.pending[operation.token]
        self.world.history.end(operation, outcome, now)
        self.world.trace("outcome", self.name, operation.token, type(outcome).__name__, operation.op or said)
        self.on_completed(operation)

    async def _ask(self, operation: Operation) -> Success | Failure:
        world = self.world
        while self.client is None:
            await self._up.park()
        client = self.client
        key = ("cancel", self.name, operation.token)
        patience = trio.CancelScope()
        if world.choices.flag(key, world.cancellations):
            delay = world.choices.latency((*key, "after"), 0, PATIENCE_MEAN)
            patience.deadline = world.timeline.seconds_of(world.timeline.now + delay)
        with patience:
            try:
                return await self._call(client, operation)
            except UnknownOutcomeError as error:
                return Failure(OutcomeKind.UNKNOWN, error.code, str(error))
            except NotAppliedError as error:
                return Failure(OutcomeKind.NOT_APPLIED, error.reason, str(error))
            except SnapshotGoneError as error:
                return Failure(OutcomeKind.NOT_APPLIED, "snapshot_gone", str(error))
            except NotSentError as error:
                return Failure(OutcomeKind.NOT_SENT, error.code, str(error))
        world.count("calls cancelled")
        return Failure(OutcomeKind.UNKNOWN, "cancelled", "nobody waits any more")

    async def _call(self, client: Client, operation: Operation) -> Success:
        timeout_s = operation.deadline_ms / 1000
        if not operation.is_read:
            receipt = await client.command(operation.code, operation.body, timeout_s=timeout_s)
            reply = Reply(b"", 0, 1, receipt.op, receipt.view, receipt.timestamp, receipt.replayed, receipt.result)
            return Success(reply, receipt.replica, receipt.connection)
        mode = ReadMode.LINEARIZABLE_HERE if operation.here else ReadMode.LINEARIZABLE
        answer = await client.query(
            operation.code, operation.body, mode=mode, cursor=operation.cursor, timeout_s=timeout_s
        )
        reply = Reply(b"", 0, 0, answer.op, answer.view, 0, replayed=False, result=answer.result, cursor=answer.cursor)
        return Success(reply, answer.replica, answer.connection)
