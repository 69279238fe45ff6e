"""The naive cluster behind memory streams, speaking the real codec."""

from __future__ import annotations

import trio
from trio.testing import memory_stream_pair

from tests.client.fake_cluster import FakeCluster, FakeReplica
from trio_pb.codec.wire import encode_server
from trio_pb.core.messages import Greet, Read, Request
from trio_pb.driver.incoming import Incoming


class StreamCluster:
    """Give `open_stream` to a client; each address serves one connection at a time."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.cluster = FakeCluster()
        self._nursery = nursery
        self._streams: dict[str, trio.abc.Stream] = {}
        self.opened: list[str] = []
        self.sends = 0  # Chunks received from clients.

    async def open_stream(self, address: str) -> trio.abc.Stream:
        """Connect to the replica at `address`."""
        await trio.lowlevel.checkpoint()
        replica = self.cluster.replica(address)
        self.opened.append(address)
        if not replica.is_alive:
            raise ConnectionRefusedError("nobody listens")
        ours, theirs = memory_stream_pair()
        replica.connection += 1
        self._nursery.start_soon(self._serve, replica, ours)
        return theirs

    async def kill(self, number: int, *, successor: int | None) -> None:
        """The process dies; another one leads, with all that was admitted."""
        replica = self.cluster.replicas[number]
        replica.is_alive = False
        self.cluster.lead(successor, keep_admitted=True)
        await trio.aclose_forcefully(self._streams[replica.address])

    async def order(self) -> None:
        """Order what is admitted and answer."""
        self.cluster.is_ordering = True
        self.cluster.order()
        for replica in self.cluster.replicas:
            await self._answer(replica)

    async def send_raw(self, number: int, data: bytes) -> None:
        """Have a replica send any bytes."""
        await self._streams[self.cluster.replicas[number].address].send_all(data)

    async def _serve(self, replica: FakeReplica, stream: trio.abc.Stream) -> None:
        self._streams[replica.address] = stream
        replica.is_up = True
        incoming = Incoming(stream)
        try:
            while messages := await incoming.receive():
                self.sends += 1
                for _, message in messages:
                    assert isinstance(message, Greet | Request | Read)
                    self.cluster.receive(replica, message)
                await self._answer(replica)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if self._streams.get(replica.address) is stream:
            replica.is_up = False
            replica.outbox.clear()

    async def _answer(self, replica: FakeReplica) -> None:
        stream = self._streams.get(replica.address)
        frames: list[bytes] = []
        while replica.outbox:
            frames.append(encode_server(self.cluster.envelope(replica), replica.outbox.popleft()))
        if frames and stream is not None:
            await stream.send_all(b"".join(frames))
