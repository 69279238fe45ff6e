"""Customers who do the least: plain sockets, no retries, one loop for all of them.

The client that ships takes as much of a processor for an order as a replica does. On a machine with few cores that is
what a load measures then; these customers leave the cores to the replicas, as the load generators of other systems
do. They can because nothing goes wrong: whatever is not an answer ends the load.
"""

from __future__ import annotations

import random
import secrets
import selectors
import socket
from itertools import count
from time import perf_counter

import attrs

from trio_pb.app.orders import (
    PLACE,
    READ,
    SCAN,
    PlaceOrder,
    ReadCustomer,
    ScanCustomers,
    encode_place,
    encode_read,
    encode_scan,
)
from trio_pb.codec.frames import FrameReader
from trio_pb.codec.wire import WIRE_VERSION, decode, encode_client
from trio_pb.core.messages import (
    CODE_REGISTER,
    ClientMessage,
    Greet,
    Greeted,
    Read,
    ReadMode,
    Reply,
    Request,
    ServerMessage,
)
from trio_pb.driver.addresses import parse_address
from trio_pb.errors import TrioPbError
from trio_pb.testbed.load.plan import LoadPlan
from trio_pb.testbed.load.tally import Tally, Window

__all__ = ["LeanLoad"]

CHUNK_SIZE = 256 << 10
ANSWER_SECONDS_MAX = 10.0
LAPTOP = "framework-13"
SCAN_RECORDS = 100


class LeanError(TrioPbError):
    """Something else than answers came."""

    code = "lean"


@attrs.frozen
class _Session:
    """Of so many customers as its window has room for."""

    client: bytes
    number: int
    numbers: count[int] = attrs.Factory(lambda: count(1))


class _Connection:
    """One connection with its customers; each has one request under way."""

    def __init__(self, address: str, customers: int) -> None:
        self._reader = FrameReader()
        self.socket = socket.create_connection(parse_address(address), ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(encode_client(None, Greet((WIRE_VERSION,), None)))
        (greeted,) = self.receive()
        if type(greeted) is not Greeted:
            raise LeanError(f"{address} greets with {greeted}")
        self._cluster = greeted.cluster
        self.window = greeted.window
        self.sessions = [self._register() for _ in range(-(-customers // self.window))]
        self.under_way: dict[tuple[int, int], tuple[int, str, float]] = {}  # (session, number) -> customer, kind, when.

    def _register(self) -> _Session:
        client = secrets.token_bytes(16)
        self.socket.sendall(self.encode(Request(client, 0, 0, CODE_REGISTER, b"")))
        (registered,) = self.receive()
        if type(registered) is not Reply:
            raise LeanError(f"a registration is answered with {registered}")
        return _Session(client, registered.session)

    def encode(self, message: ClientMessage) -> bytes:
        return encode_client(self._cluster, message)

    def receive(self) -> list[ServerMessage]:
        """Wait for at least one message."""
        messages: list[ServerMessage] = []
        while not messages:
            data = self.socket.recv(CHUNK_SIZE)
            if not data:
                raise LeanError("a replica closed a connection")
            for frame in self._reader.feed(data):
                decoded = decode(frame)
                if decoded is not None:
                    messages.append(decoded.message)  # type: ignore[arg-type]
        return messages


@attrs.define
class LeanLoad:
    """The customers of one process."""

    plan: LoadPlan
    addresses: tuple[str, ...]
    first_customer: int
    _connections: list[_Connection] = attrs.Factory(list[_Connection])
    _kinds: tuple[str, ...] = ()
    _random: random.Random = attrs.Factory(random.Random)
    _numbers: count[int] = attrs.Factory(lambda: count(int(perf_counter() * 1e6)))

    def connect(self) -> None:
        """Open all connections, to the first address: that of the primary.

        Raises:
            LeanError: it does not answer as it should.
        """
        self._random = random.Random(self.first_customer)
        self._kinds = self.plan.mix.kinds
        each = -(-self.plan.customers // self.plan.connections)
        self._connections = [_Connection(self.addresses[0], each) for _ in range(self.plan.connections)]

    def run(self) -> Tally:
        """Make the load, and wait for what is under way.

        Raises:
            LeanError: something else than answers came, or none.
        """
        window = Window(perf_counter() + self.plan.warm_up_seconds, self.plan.seconds, False, Tally())
        end = window.end
        connections = self._connections
        for customer in range(self.plan.customers):
            connection = connections[customer % len(connections)]
            connection.socket.sendall(self._ask(connection, customer))
        waiting = self.plan.customers
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            while waiting:
                ready = selector.select(ANSWER_SECONDS_MAX)
                if not ready:
                    raise LeanError(f"no answer for {ANSWER_SECONDS_MAX:.0f} s")
                for key, _ in ready:
                    connection = key.data
                    requests: list[bytes] = []
                    messages = connection.receive()
                    now = perf_counter()
                    for message in messages:
                        if type(message) is not Reply:
                            raise LeanError(f"a replica says {message}")
                        customer, kind, asked = connection.under_way.pop((message.session, message.number))
                        window.answered(kind, asked, now)
                        if now < end:
                            requests.append(self._ask(connection, customer))
                        else:
                            waiting -= 1
                    if requests:
                        connection.socket.sendall(b"".join(requests))
        for connection in connections:
            connection.socket.close()
        return window.tally

    def _ask(self, connection: _Connection, customer: int) -> bytes:
        kind = self._random.choice(self._kinds)
        number = next(self._numbers)
        who = self.first_customer + customer
        now = perf_counter()
        if kind == "place":
            session = connection.sessions[customer // len(self._connections) // connection.window]
            body = encode_place(PlaceOrder(who, number, LAPTOP, False, None))
            request = Request(session.client, session.number, next(session.numbers), PLACE, body)
            connection.under_way[session.number, request.number] = (customer, kind, now)
            return connection.encode(request)
        if kind == "read":
            code, body = READ, encode_read(ReadCustomer(who))
        else:
            code, body = SCAN, encode_scan(ScanCustomers(who, SCAN_RECORDS))
        connection.under_way[0, number] = (customer, kind, now)
        client = connection.sessions[0].client
        return connection.encode(Read(client, number, code, body, ReadMode.LINEARIZABLE, 0, b""))
