"""The world around one client: its connections, its clock, and the workload that it carries."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import attrs

from sim.choices import Choices
from sim.network import Network, Payload
from sim.scheduler import Scheduler
from sim.shape import Shape
from sim.workload import History, Operation
from trio_pb.core.client_ports import (
    ClientInput,
    ClientOutput,
    Completed,
    Connect,
    Connected,
    Disconnect,
    Disconnected,
    Received,
    Submit,
    SubmitRead,
    Transmit,
)
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.core.messages import ReadMode, ServerMessage

__all__ = ["ClientWorld", "SimClient"]


class ClientWorld(Protocol):
    """What a client needs of the cluster that it lives in."""

    scheduler: Scheduler
    network: Network
    choices: Choices
    history: History
    shape: Shape
    cluster_id: bytes

    def replica_at(self, address: str) -> int:
        """Which replica listens at an address."""
        ...

    def open_stream(self, client: int, replica: int, connection: int) -> None:
        """Ask a replica for a connection."""
        ...

    def close_stream(self, client: int, replica: int, connection: int) -> None:
        """Let a replica hear that a connection is closed."""
        ...

    def next_connection(self, client: int, replica: int) -> int:
        """A number that no connection had before, the same whatever others connect."""
        ...


class SimClient:
    """One client process. It never dies; its connections do."""

    def __init__(self, world: ClientWorld, node: int, name: str, addresses: tuple[str, ...]) -> None:
        self.world = world
        self.node = node
        self.name = name
        identity = blake2b(repr((world.choices.seed, name)).encode(), digest_size=16).digest()
        options = attrs.evolve(world.shape.client_options, cluster=world.cluster_id, seed=world.choices.seed & 0xFFFF)
        self.machine = ClusterClient(addresses, identity, options)
        self.on_completed: Callable[[Operation], None] = lambda _operation: None
        self.pending: dict[int, Operation] = {}
        self._connections: dict[str, int] = {}  # Address -> connection, asked for or up.
        self._addresses: dict[int, str] = {}  # The other way round.
        self._wake_at: int | None = None

    # --- The application's side -----------------------------------------------------------------

    def submit(self, operation: Operation) -> None:
        """Begin an operation."""
        self.world.history.begin(operation, self.world.scheduler.now)
        self.pending[operation.token] = operation
        deadline_ms = self.world.scheduler.now // 1000 + operation.deadline_ms
        if operation.is_read:
            mode = ReadMode.LINEARIZABLE_HERE if operation.here else ReadMode.LINEARIZABLE
            self._step(
                SubmitRead(operation.token, operation.code, operation.body, deadline_ms, mode, 0, operation.cursor)
            )
        else:
            self._step(Submit(operation.token, operation.code, operation.body, deadline_ms))

    # --- The network's side ---------------------------------------------------------------------

    def connected(self, connection: int) -> None:
        """A replica took the connection."""
        address = self._addresses.get(connection)
        if address is not None:
            self._step(Connected(address))

    def disconnected(self, connection: int) -> None:
        """A connection ended."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            del self._connections[address]
            self._step(Disconnected(address, "connection lost"))

    def hear(self, payload: Payload) -> None:
        """A frame of a replica arrived."""
        address = self._addresses.get(payload.connection)
        if address is not None:
            assert payload.envelope is not None
            message = payload.message
            assert isinstance(message, ServerMessage)
            self._step(Received(address, payload.envelope, message))

    # --- Inside ---------------------------------------------------------------------------------

    def _wake(self, time: int) -> None:
        if self._wake_at == time:
            self._wake_at = None
            deadline_ms = self.machine.next_deadline_ms
            if deadline_ms is not None and deadline_ms * 1000 > time:
                self._wake_at = deadline_ms * 1000  # What was due is done: nothing to do before.
                self.world.scheduler.at(self._wake_at, self._wake, self._wake_at)
            else:
                self._step()

    def _step(self, *inputs: ClientInput) -> None:
        scheduler = self.world.scheduler
        completed: list[Completed] = []
        for output in self.machine.step(scheduler.now // 1000, inputs):
            if type(output) is Completed:
                completed.append(output)
            else:
                self._carry_out(output)
        deadline_ms = self.machine.next_deadline_ms
        if deadline_ms is not None:
            wake = max(deadline_ms * 1000, scheduler.now + 1000)
            if self._wake_at is None or wake < self._wake_at:
                self._wake_at = wake
                scheduler.at(wake, self._wake, wake)
        # Last: whoever hears of an outcome may submit at once.
        for item in completed:
            operation = self.pending.pop(item.token)
            self.world.history.end(operation, item.outcome, scheduler.now)
            self.on_completed(operation)

    def _carry_out(self, output: ClientOutput) -> None:
        world = self.world
        if type(output) is Transmit:
            connection = self._connections.get(output.address)
            if connection is not None:
                payload = Payload(output.message, None, connection)
                world.network.send_on_stream(self.node, world.replica_at(output.address), payload)
        elif type(output) is Connect:
            replica = world.replica_at(output.address)
            connection = world.next_connection(self.node, replica)
            self._connections[output.address] = connection
            self._addresses[connection] = output.address
            world.open_stream(self.node, replica, connection)
        elif type(output) is Disconnect:
            connection = self._connections.pop(output.address, None)
            if connection is not None:
                del self._addresses[connection]
                world.close_stream(self.node, world.replica_at(output.address), connection)
