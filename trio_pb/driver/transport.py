"""Everything that has a connection: links to peers, and whoever connects to us.

One listener serves peers and clients; the first frame tells which it is (clients come from 65535).
Whatever an outsider does costs at most its own connection: bytes that are no frames, frames that
break the protocol, requests before a greeting, reading too slowly, or silence before the first frame.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import get_args

import trio

from trio_pb.codec.wire import WIRE_VERSION, Decoded
from trio_pb.core.messages import (
    CLIENT_REPLICA,
    ChunkPiece,
    ClientMessage,
    Greet,
    PeerMessage,
    PrepareCopy,
    Read,
    RejectCode,
    Request,
    ServerMessage,
    StatusGet,
)
from trio_pb.core.ports import FromClient, FromPeer, Link
from trio_pb.driver.inbox import Inbox
from trio_pb.driver.incoming import Incoming
from trio_pb.driver.outgoing import Outgoing
from trio_pb.driver.peer_link import PeerLink
from trio_pb.driver.reception import Reception
from trio_pb.driver.tcp import Dial, dial_tcp
from trio_pb.errors import RemoteProtocolError

__all__ = ["Transport"]

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 4096
CLIENT_BYTES_MAX = 8 << 20  # Replies that a client has not read yet.
FIRST_FRAME_SECONDS_MAX = 10.0
REFUSAL_SECONDS_MAX = 1.0
FIRST_TAG = 2  # Small numbers are easily taken for ids of replicas in a log.

BULK_MESSAGES = frozenset({PrepareCopy, ChunkPiece})  # R-CHAN
PEER_MESSAGES = frozenset(get_args(PeerMessage))


class ClientConnection:
    """A client's connection from its first frame on."""

    def __init__(self, tag: int, stream: trio.abc.Stream) -> None:
        self.tag = tag
        self.outgoing = Outgoing(stream, CLIENT_BYTES_MAX)
        self.scope = trio.CancelScope()
        self.greeted = False


class Transport:
    """Sends to peers and clients by number; puts what it reads into the inbox."""

    def __init__(
        self,
        *,
        cluster: bytes,
        replica: int,
        peers: Mapping[int, str],
        inbox: Inbox,
        reception: Reception,
        dial: Dial = dial_tcp,
        jitter: Random | None = None,
    ) -> None:
        assert replica not in peers, "a replica is no peer of its own"
        self._cluster = cluster
        self._inbox = inbox
        self._reception = reception
        jitter = jitter or Random()
        self._links = {
            peer: PeerLink(peer, address, dial, self._on_link, jitter) for peer, address in sorted(peers.items())
        }
        self._clients: dict[int, ClientConnection] = {}
        self._touched: dict[int, ClientConnection] = {}  # Clients with something put since the last flush.
        self._tags = count(FIRST_TAG)
        self._connections = 0
        self._closing = False
        self.counters = {
            "client_connections_too_slow": 0,
            "client_messages_dropped": 0,
            "connections_broken": 0,
            "connections_refused": 0,
            "frames_unknown": 0,
            "protocol_errors": 0,
        }

    @property
    def peer_frames_dropped(self) -> int:
        """Frames to peers that found no room or no connection."""
        return sum(link.frames_dropped for link in self._links.values())

    # --- Sending: called by the host, never waits ---------------------------------------------

    def put_peers(self, replicas: Iterable[int], frame: bytes, message: type[PeerMessage]) -> None:
        """Queue one frame for each of `replicas` until the next flush."""
        bulk = message in BULK_MESSAGES
        for replica in replicas:
            link = self._links.get(replica)
            if link is not None:
                (link.bulk if bulk else link.control).put(frame)

    def put_client(self, tag: int, frame: bytes) -> None:
        """Queue a frame for a client until the next flush; a client that reads too slowly loses its connection."""
        connection = self._clients.get(tag)
        if connection is None:
            self.counters["client_messages_dropped"] += 1
        elif connection.outgoing.put(frame):
            self._touched[tag] = connection
        else:
            self.counters["client_connections_too_slow"] += 1
            connection.scope.cancel()

    def flush_peers(self) -> None:
        """Send what was put for peers: at most one write per channel."""
        for link in self._links.values():
            link.flush()

    def flush_clients(self) -> None:
        """Send what was put for clients: one write per connection."""
        for connection in self._touched.values():
            connection.outgoing.flush()
        self._touched.clear()

    # --- Lifetime -----------------------------------------------------------------------------

    async def run_links(self) -> None:
        """Keep the connections to all peers up until cancelled."""
        async with trio.open_nursery() as nursery:
            for link in self._links.values():
                nursery.start_soon(link.run)

    def ignore_clients(self) -> None:
        """Take no more requests: we are stopping. Replies still leave."""
        self._closing = True

    async def drain_clients(self) -> None:
        """Return when every reply that was put has left."""
        for connection in list(self._clients.values()):
            await connection.outgoing.drain()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one accepted connection to its end; returns whatever the other side does."""
        incoming = Incoming(stream)
        async with stream:
            if self._connections >= CONNECTIONS_MAX or self._closing:
                self.counters["connections_refused"] += 1
                return
            self._connections += 1
            try:
                first: list[Decoded] = []
                with self._outsiders_fault(), trio.move_on_after(FIRST_FRAME_SECONDS_MAX):
                    first = await incoming.receive()
                if first and first[0].envelope.replica == CLIENT_REPLICA:
                    await self._serve_client(stream, incoming, first)
                elif first:
                    await self._serve_peer(incoming, first)
            finally:
                self._connections -= 1
                self.counters["frames_unknown"] += incoming.frames_unknown

    # --- Peers --------------------------------------------------------------------------------

    async def _serve_peer(self, incoming: Incoming, messages: list[Decoded]) -> None:
        peer = messages[0].envelope.replica
        taken = 0
        with self._outsiders_fault():
            if peer not in self._links:
                raise RemoteProtocolError(f"replica {peer} is not a peer of ours")
            while messages:
                inputs: list[FromPeer] = []
                for envelope, message in messages:
                    if envelope.replica != peer or type(message) not in PEER_MESSAGES:
                        raise RemoteProtocolError(f"replica {peer} sent what is not its own to send")
                    inputs.append(FromPeer(envelope, message))  # type: ignore[arg-type] # Told by the set above.
                # A backup hears of one peer only, and to a primary the first answer matters most.
                self._inbox.put_peer(inputs, incoming.bytes_received - taken, now=True)
                taken = incoming.bytes_received
                messages = await incoming.receive()

    def _on_link(self, peer: int, up: bool) -> None:
        logger.debug("connection to replica %d is %s", peer, "up" if up else "down")
        self._inbox.put([Link(peer=peer, connection=None, up=up)])

    # --- Clients ------------------------------------------------------------------------------

    async def _serve_client(self, stream: trio.abc.Stream, incoming: Incoming, messages: list[Decoded]) -> None:
        connection = ClientConnection(next(self._tags), stream)
        self._clients[connection.tag] = connection
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_client, connection)
                with connection.scope:
                    await self._read_client(connection, incoming, messages)
                nursery.cancel_scope.cancel()
        finally:
            del self._clients[connection.tag]
            self._touched.pop(connection.tag, None)
            self._inbox.put([Link(peer=None, connection=connection.tag, up=False)])

    async def _write_client(self, connection: ClientConnection) -> None:
        with self._outsiders_fault():
            await connection.outgoing.run()
        connection.scope.cancel()

    async def _read_client(self, connection: ClientConnection, incoming: Incoming, messages: list[Decoded]) -> None:
        with self._outsiders_fault():
            while messages:
                inputs: list[FromClient] = []
                for envelope, message in messages:
                    if envelope.cluster != self._cluster and type(message) is not Greet:
                        await self._refuse(connection, RejectCode.WRONG_CLUSTER)
                        return
                    if type(message) is Request or type(message) is Read:
                        if not connection.greeted:
                            raise RemoteProtocolError("a request before the greeting")
                        inputs.append(FromClient(connection.tag, message))
                    elif (refusal := await self._answer(connection, message)) is not None:
                        await self._refuse(connection, refusal)
                        return
                if inputs and not self._closing:
                    self._inbox.put_clients(inputs, now=len(self._clients) == 1)
                    if self._inbox.is_crowded():
                        await self._inbox.wait_for_room()
                messages = await incoming.receive()

    async def _answer(
        self, connection: ClientConnection, message: ClientMessage | PeerMessage | ServerMessage
    ) -> RejectCode | None:
        """Answer what needs no turn of the replica; otherwise return why this client is refused."""
        if type(message) is Greet:
            if message.cluster not in (None, self._cluster):
                return RejectCode.WRONG_CLUSTER
            if WIRE_VERSION not in message.wire_versions:
                return RejectCode.RELEASE
            connection.greeted = True
            frame = self._reception.greeted(connection.tag)
        elif type(message) is StatusGet and connection.greeted:
            frame = await self._reception.status()
        else:
            raise RemoteProtocolError(f"a client sent a {type(message).__name__} where it may not")
        self.put_client(connection.tag, frame)
        connection.outgoing.flush()
        return None

    async def _refuse(self, connection: ClientConnection, code: RejectCode) -> None:
        self.put_client(connection.tag, self._reception.refusal(code))
        connection.outgoing.flush()
        with trio.move_on_after(REFUSAL_SECONDS_MAX):
            await connection.outgoing.drain()

    @contextmanager
    def _outsiders_fault(self) -> Generator[None, None, None]:
        """What an outsider or the network did ends its connection, is counted, and goes no further."""
        try:
            yield
        except RemoteProtocolError as error:
            self.counters["protocol_errors"] += 1
            logger.info("connection dropped: %s", error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.counters["connections_broken"] += 1
