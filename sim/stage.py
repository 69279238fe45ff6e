"""The world of a scenario: a cluster in which single messages, single disks and single requests obey an author.

Nothing happens by chance here; `sim.scenario` has the words in which an author says what shall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from sim.choices import Choices
from sim.client import SimClient
from sim.cluster import SimCluster
from sim.network import Payload
from sim.replica import SimReplica
from sim.scheduler import TICK_US
from sim.shape import Shape, address_of
from sim.workload import Operation
from trio_pb import canonical
from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.core.client_ports import Success
from trio_pb.core.messages import (
    CODE_REGISTER,
    ClientMessage,
    Envelope,
    PeerMessage,
    Read,
    ReadMode,
    Reject,
    RejectCode,
    Reply,
    Request,
    ServerMessage,
)
from trio_pb.core.ports import Start

__all__ = ["AnyMessage", "Caller", "Interception", "Letter", "Stage", "StageReplica", "Test"]

AnyMessage: TypeAlias = "PeerMessage | ClientMessage | ServerMessage"
Test: TypeAlias = "Callable[[Envelope | None, AnyMessage], bool]"


@attrs.frozen
class Letter:
    """A message at the door of the one that it is for."""

    source: int
    destination: int
    payload: Payload

    @property
    def message(self) -> AnyMessage:
        """What it says."""
        return self.payload.message


@attrs.define(eq=False)
class Interception:
    """What a scenario does with messages of one kind; None matches everything."""

    stage: Stage
    kind: str | None  # Class name of a message.
    source: int | None
    destination: int | None
    when: Test | None
    act: Callable[[Letter], bool]  # Returns whether the letter goes no further.
    keeps: bool = False
    letters: list[Letter] = attrs.field(factory=list[Letter])  # Those that matched, if `keeps`.
    is_active: bool = True

    def takes(self, letter: Letter) -> bool:
        """Act on a letter that matches; whether it goes no further."""
        payload = letter.payload
        if (
            not self.is_active
            or self.kind not in (None, type(payload.message).__name__)
            or self.source not in (None, letter.source)
            or self.destination not in (None, letter.destination)
            or (self.when is not None and not self.when(payload.envelope, payload.message))
        ):
            return False
        if self.keeps:
            self.letters.append(letter)
        return self.act(letter)

    def stop(self) -> None:
        """Let everything pass from now on; what is kept stays kept."""
        self.is_active = False

    def release(self, *, backwards: bool = False) -> None:
        """Stop, and let everything arrive that was kept, oldest or newest first."""
        self.stop()
        letters, self.letters = self.letters, []
        for letter in reversed(letters) if backwards else letters:
            self.stage.deliver(letter)


class StageReplica(SimReplica):
    """A replica whose disk may hang: steps of disk work begin, and do not end."""

    after_scan: Callable[[], None] | None = None  # Done once, between the scan of a boot and its first step.
    _is_hanging = False
    _late: int | None = None  # The boot whose step waits.

    def hang_disk(self) -> None:
        """Let no step of disk work end."""
        self._is_hanging = True

    def free_disk(self) -> None:
        """Let the disk go on."""
        self._is_hanging = False
        life, self._late = self._late, None
        if life is not None:
            self._finish_step(life)

    def _on_opened(self, start: Start) -> None:
        act, self.after_scan = self.after_scan, None
        if act is not None:
            act()
        super()._on_opened(start)

    def _finish_step(self, life: int) -> None:
        if self._is_hanging:
            self._late = life
        else:
            super()._finish_step(life)


class Stage(SimCluster):
    """A cluster under direction."""

    def __init__(self, choices: Choices, shape: Shape) -> None:
        self.interceptions: list[Interception] = []
        super().__init__(choices, shape)
        self.actors = [StageReplica(self, made.number, made.disk, made.options) for made in self.replicas]
        self.replicas: list[SimReplica] = list(self.actors)

    def deliver(self, letter: Letter, after_ticks: int = 0) -> None:
        """Let a letter arrive, whatever is intercepted; a cut link still stops it."""
        self.scheduler.after(after_ticks * TICK_US, self._deliver, letter)

    def add_caller(self, resolve: Callable[[str], int]) -> Caller:
        """One more client, which does nothing by itself."""
        caller = Caller(self, len(self.clients), resolve)
        self.clients.append(caller)
        return caller

    def _deliver(self, letter: Letter) -> None:
        if (letter.source, letter.destination) not in self.network.blocked:
            super()._arrive(letter.source, letter.destination, letter.payload)

    def _arrive(self, source: int, destination: int, payload: Payload) -> None:
        letter = Letter(source, destination, payload)
        if not any(interception.takes(letter) for interception in self.interceptions):
            super()._arrive(source, destination, payload)


class Caller(SimClient):
    """A client without a protocol of its own: it sends exactly what it is told, where it is told.

    Numbers and retries are the scenario's. Orders are part of the clients' history like all others.
    """

    def __init__(self, stage: Stage, index: int, resolve: Callable[[str], int]) -> None:
        addresses = tuple(address_of(replica.number) for replica in stage.replicas)
        super().__init__(stage, 2048 + index, f"C{index}", addresses)
        self.stage = stage
        self.client = index.to_bytes(16, "big")
        self.session = 0
        self.heard: list[tuple[int, Reply | Reject]] = []  # (replica, answer), in order of arrival.
        self._resolve = resolve
        self._streams: dict[int, int] = {}  # Replica -> connection.
        self._sources: dict[int, int] = {}  # The other way round.
        self._orders: dict[int, Operation] = {}  # By number.

    # --- Asking ---------------------------------------------------------------------------------

    def register(self, to: str) -> None:
        """Ask for a session."""
        self._send(to, Request(self.client, 0, 0, CODE_REGISTER, b""))

    def order(self, number: int, to: str, *, laptop: str | None = None) -> None:
        """Send order `number`, or send it again: what it orders depends on the number alone."""
        operation = self._orders.get(number)
        if operation is None:
            body = encode_place(PlaceOrder(self.node, number, laptop or f"laptop {number}"))
            token = (self.node << 32) + number
            operation = Operation(token, self.name, PLACE, body, is_read=False, customer=self.node)
            self._orders[number] = operation
            self.stage.history.begin(operation, self.stage.scheduler.now)
        self._send(to, Request(self.client, self.session, number, PLACE, operation.body))

    def read(self, to: str, *, code: int, body: bytes, number: int = 1, min_op: int = 0, here: bool = False) -> None:
        """Send a read."""
        mode = ReadMode.LINEARIZABLE_HERE if here else ReadMode.LINEARIZABLE
        self._send(to, Read(self.client, number, code, body, mode, min_op, b""))

    def hang_up(self, to: str) -> None:
        """Close the connection to a replica."""
        replica = self._resolve(to)
        connection = self._streams.pop(replica)
        self._sources.pop(connection)
        self.stage.replicas[replica].lose_connection(connection)

    # --- Hearing --------------------------------------------------------------------------------

    def answers(self, number: int) -> list[Reply | Reject]:
        """What came for `number`; 0 is the registration."""
        return [answer for _, answer in self.heard if answer.number == number]

    def replies(self, number: int) -> list[Reply]:
        """The receipts among them."""
        return [answer for answer in self.answers(number) if isinstance(answer, Reply)]

    def refusals(self, number: int) -> list[RejectCode]:
        """The codes of the refusals among them."""
        return [answer.code for answer in self.answers(number) if isinstance(answer, Reject)]

    def hear(self, payload: Payload) -> None:
        """Keep an answer."""
        answer = payload.message
        replica = self._sources.get(payload.connection)
        if replica is None or not isinstance(answer, Reply | Reject):
            return
        self.heard.append((replica, answer))
        if isinstance(answer, Reject):
            return
        if answer.number == 0:
            named = canonical.decode(answer.result)
            assert isinstance(named, int)
            self.session = named
        operation = self._orders.get(answer.number)
        if operation is not None and answer.session == self.session and operation.ended is None:
            outcome = Success(answer, replica, payload.connection)
            self.stage.history.end(operation, outcome, self.stage.scheduler.now)

    def connected(self, connection: int) -> None:
        """Not asked for: connections come into being with the first request."""

    def disconnected(self, connection: int) -> None:
        """A connection is gone; the next request makes another."""
        replica = self._sources.pop(connection, None)
        if replica is not None:
            self._streams.pop(replica, None)

    def _send(self, to: str, message: Request | Read) -> None:
        replica = self._resolve(to)
        connection = self._streams.get(replica)
        if connection is None or connection not in self.stage.replicas[replica].connections:
            connection = self.stage.next_connection(self.node, replica)
            self._streams[replica] = connection
            self._sources[connection] = replica
            self.stage.replicas[replica].connections[connection] = self.node
        self.stage.network.send_on_stream(self.node, replica, Payload(message, None, connection))
