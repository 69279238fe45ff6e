"""A client without a protocol of its own: it dies and comes back with an old session, or says nonsense.

The *returning* client keeps on its disk what a careful program would: its client id, its session, and the number
and the body of the request that it sent last. After each of its deaths it registers again under the same id, sends
that request again, and goes on with the next number; but where another session comes of it, its own was evicted,
and it does not send again what may have been executed (PROTOCOL 5.4). The *odd* client sends frames that are well
formed and make no sense, and bytes that are no frames at all.
"""

from __future__ import annotations

from typing import cast

from sim.choices import Choices, Key
from sim.client import ClientWorld, SimClient
from sim.network import Payload
from sim.workload import Operation
from trio_pb import canonical
from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.codec.frames import PREAMBLE_SIZE, FrameReader, encode_frame
from trio_pb.codec.wire import decode, encode_client
from trio_pb.core.messages import (
    CODE_REGISTER,
    ClientMessage,
    Read,
    ReadMode,
    Reject,
    Reply,
    Request,
)
from trio_pb.errors import RemoteProtocolError

__all__ = ["HereReader", "OddClient", "ReturningClient"]

ODD_NUMBERS = (0, 1, 2, 9, 1 << 32, (1 << 64) - 1)
CUSTOMER = 1 << 30  # Orders of these clients are nobody else's.


class _RawClient(SimClient):
    """One connection at a time, and messages as they are."""

    def __init__(self, world: ClientWorld, node: int, name: str, addresses: tuple[str, ...]) -> None:
        super().__init__(world, node, name, addresses)
        self._connection: int | None = None
        self._replica = 0
        self._is_up = False
        self._wait: list[ClientMessage] = []  # For the connection to come up.
        self._placed = 0

    def call(self, replica: int, *messages: ClientMessage) -> None:
        """Open a new connection to a replica, and send as soon as it is there; hang up on the one before."""
        self.hang_up()
        self._connection = self.world.next_connection(self.node, replica)
        self._replica, self._is_up, self._wait = replica, False, list(messages)
        self.world.open_stream(self.node, replica, self._connection)

    def hang_up(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self.world.close_stream(self.node, self._replica, self._connection)
            self._connection = None

    def connected(self, connection: int) -> None:
        """Say what waits."""
        if connection == self._connection:
            self._is_up = True
            waiting, self._wait = self._wait, []
            for message in waiting:
                self._send(message)

    def disconnected(self, connection: int) -> None:
        """It is gone; the next call makes another."""
        if connection == self._connection:
            self._connection = None

    def hear(self, payload: Payload) -> None:
        """An answer came."""
        message = payload.message
        if payload.connection == self._connection and isinstance(message, Reply | Reject):
            self._on_answer(message)

    def _on_answer(self, answer: Reply | Reject) -> None:
        """Nobody waits for it."""

    def _send(self, message: ClientMessage) -> None:
        if self._connection is not None:
            self.world.network.send_on_stream(self.node, self._replica, Payload(message, None, self._connection))

    def _new_order(self) -> bytes:
        """The body of an order that nobody made before; whether it was executed nobody will know."""
        self._placed += 1
        body = encode_place(PlaceOrder(CUSTOMER + self.node, self._placed, f"{self.name} {self._placed}"))
        token = (self.node << 24) + self._placed
        self.world.history.begin(Operation(token, self.name, PLACE, body, is_read=False), self.world.scheduler.now)
        return body


class HereReader(_RawClient):
    """Reads at whatever replica it is told to, and waits for nothing."""

    def __init__(self, world: ClientWorld, node: int, name: str, addresses: tuple[str, ...]) -> None:
        super().__init__(world, node, name, addresses)
        self._asked = 0

    def ask(self, replica: int) -> None:
        """Ask what the subject of the run can be asked, on a new connection."""
        probe = self.world.shape.subject.probe()
        if probe is not None:
            self._asked += 1
            client = self.node.to_bytes(16, "little")
            self.call(replica, Read(client, self._asked, probe.code, probe.body, ReadMode.LINEARIZABLE_HERE, 0, b""))


class ReturningClient(_RawClient):
    """Dies after every request, and comes back with the same session."""

    def __init__(self, world: ClientWorld, node: int, name: str, addresses: tuple[str, ...]) -> None:
        super().__init__(world, node, name, addresses)
        self._client = node.to_bytes(16, "little")
        self._session = 0
        self._number = 0  # Of the request sent last.
        self._body = b""
        self._is_answered = True
        self._is_registered = False  # In this life; the rest survives.

    def come_back(self, replica: int) -> None:
        """Forget everything but what is on the disk, and begin with the session."""
        self._is_registered = False
        self.call(replica, Request(self._client, 0, 0, CODE_REGISTER, b""))

    def _on_answer(self, answer: Reply | Reject) -> None:
        if isinstance(answer, Reject) or answer.client != self._client:
            return
        if answer.number == 0 and not self._is_registered:
            named = canonical.decode(answer.result)
            assert isinstance(named, int)
            if named != self._session:
                self._session, self._number, self._is_answered = named, 0, True
            self._is_registered = True
            self._ask()
        elif answer.number == self._number:
            self._is_answered = True

    def _ask(self) -> None:
        """The last request again if it was not answered, else the next one."""
        if self._is_answered:
            self._number, self._body, self._is_answered = self._number + 1, self._new_order(), False
        self._send(Request(self._client, self._session, self._number, PLACE, self._body))


class OddClient(_RawClient):
    """Says what no client of ours would say."""

    def babble(self, key: Key, replica: int) -> None:
        """Send well formed requests and reads that make no sense."""
        choices: Choices = self.world.choices
        messages: list[ClientMessage] = []
        for position in range(4):
            bits = choices.bits((*key, "message", position))
            number = ODD_NUMBERS[(bits >> 8) % len(ODD_NUMBERS)]
            session = ODD_NUMBERS[(bits >> 16) % len(ODD_NUMBERS)]
            client = (self.node << 8 | bits >> 60).to_bytes(16, "little")
            code = (0, CODE_REGISTER, PLACE, 77, (1 << 16) - 1)[(bits >> 24) % 5]
            body = (b"", b"\xff" * 9, self._new_order())[(bits >> 32) % 3]
            if bits & 3 == 0:
                messages.append(Read(client, number, code, body, ReadMode(bits >> 40 & 1), number, b"\x00" * 3))
            else:
                messages.append(Request(client, session, number, code, body))
        self.call(replica, *messages)

    def garble(self, key: Key) -> bool:
        """Let a server's codec read bytes that are no message; whether it refuses them, as it must or may.

        What it does take is a message like any other, which a client may send.
        """
        choices = self.world.choices
        bits = choices.bits((*key, "how"))
        data = bytearray(encode_client(self.world.cluster_id, Request(bytes(16), 1, 1, PLACE, b"body")))
        noise = b"".join(choices.bits((*key, "noise", position)).to_bytes(8, "big") for position in range(24))
        if bits & 3 == 0:  # Noise,
            data = bytearray(noise)
        elif bits & 3 == 1:  # a preamble of ours and noise,
            data[PREAMBLE_SIZE:] = noise
        else:  # or a header with a right digest, in which a value is of another kind.
            data = bytearray(encode_frame(_with_another(bytes(data), bits, noise), b"body"))
        try:
            for frame in FrameReader().feed(bytes(data)):
                decode(frame)
        except RemoteProtocolError:
            return True
        return False


def _with_another(frame: bytes, bits: int, noise: bytes) -> bytes:
    """The header of a frame with one of its values replaced, or noise in its place."""
    (whole,) = FrameReader().feed(frame)
    fields = canonical.decode_relaxed(whole.header)
    assert isinstance(fields, dict)
    changed = cast("dict[int, object]", fields).copy()
    others: tuple[object, ...] = (None, -1, 1 << 63, b"", noise, "text", (), (1, (2,)), {}, {1: {}}, True)
    changed[sorted(changed)[(bits >> 8) % len(changed)]] = others[(bits >> 16) % len(others)]
    return noise if bits >> 24 & 7 == 0 else canonical.encode(changed)
