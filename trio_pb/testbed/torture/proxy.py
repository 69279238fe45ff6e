"""A TCP proxy that does to connections what networks do: between every two replicas, and before each for clients.

There is one listener for each directed link: whoever sits at its source dials there, and is led to the
target. What passes is cut into frames, so that single messages can be lost or damaged while the stream
goes on: what a protocol over TCP sees when its own queues overflow, and a harder case than loss of
packets, which TCP itself repairs.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from random import Random
from typing import Final

import attrs
import trio

from trio_pb.codec.frames import FRAME_SIZE_MAX, MAGIC, PREAMBLE_SIZE
from trio_pb.driver.addresses import parse_address

__all__ = ["CALM", "CLIENTS", "Link", "Network", "Weather"]

CLIENTS: Final = -1  # The source of links that clients take.

CHUNK_SIZE = 65536
CHUNKS_MAX = 256  # On their way in one direction of a connection.
DIAL_SECONDS_MAX = 2.0
THROTTLE_SECONDS = 0.1  # Grain in which a throttled link sends.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, and drop what is not sent.
_PREAMBLE = struct.Struct(">4sII")


@attrs.frozen(kw_only=True)
class Weather:
    """What one direction of a link does to what passes. The default: nothing."""

    delay_seconds: float = 0.0  # Added to everything, the order kept.
    jitter_seconds: float = 0.0  # Added at most, besides.
    drop_share: float = 0.0  # Of whole frames.
    is_closed: bool = False  # No frame passes: with the other direction open, a one-way street.
    corrupt_share: float = 0.0  # Of frames, in which a bit is turned.
    bytes_per_second: int | None = None  # None: as many as will.


CALM: Final = Weather()


class _Frames:
    """Cuts a stream into the bytes of whole frames, unread; what is no frame passes as it comes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the frames that are complete now."""
        data = self._rest + data
        frames: list[bytes] = []
        start = 0
        while len(data) - start >= PREAMBLE_SIZE:
            magic, header_size, body_size = _PREAMBLE.unpack_from(data, start)
            size = PREAMBLE_SIZE + header_size + body_size
            if magic != MAGIC or size > FRAME_SIZE_MAX:
                size = len(data) - start
            if len(data) - start < size:
                break
            frames.append(data[start : start + size])
            start += size
        self._rest = data[start:]
        return frames


@attrs.define(eq=False)
class _Connection:
    """One connection through a link: the dialler's end, and ours to the target unless it was never made."""

    near: trio.SocketStream
    far: trio.SocketStream | None = None
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    is_dead: bool = False  # Half open: whatever comes is swallowed.
    over: trio.Event = attrs.Factory(trio.Event)  # What was half open is known to be gone: who sends is told.
    ended_well: bool = False  # One end said that it has no more to say, and the other got all of it.

    def reset(self) -> None:
        """End it at once, with a reset at both ends."""
        self.ended_well = False
        self.scope.cancel()

    async def close(self) -> None:
        """Close both ends; with a reset, as when a cable is cut, unless all was said."""
        with trio.CancelScope(shield=True):  # Else being cancelled would end it with the first.
            for stream in (self.near, self.far):
                if stream is not None:
                    if not self.ended_well:
                        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                    await trio.aclose_forcefully(stream)


class Link:
    """One way from `source` to `target`, with the weather in each direction."""

    def __init__(self, source: int, target: int, address: str, random: Random) -> None:
        self.source = source
        self.target = target
        self.forth = CALM  # From the source to the target.
        self.back = CALM
        self.is_cut = False  # Connections are reset, those that begin as well.
        self.is_half_open = False  # Connections are dead, and nobody is told.
        # By fault. Frames: "drop", "one-way", "corrupt"; pieces of them: "delay", "throttle"; connections: "cut",
        # "half-open".
        self.harmed: Counter[str] = Counter()
        self.port = 0  # Where to dial.
        self._address = address
        self._random = random
        self._connections: set[_Connection] = set()

    # --- Faults -----------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, and every new one, until `mend`."""
        self.is_cut = True
        for connection in list(self._connections):
            self.harmed["cut"] += 1
            connection.reset()

    def leave_half_open(self) -> None:
        """Let all connections die in silence, those too that begin until `revive`."""
        self.is_half_open = True
        for connection in self._connections:
            self._kill(connection)

    def mend(self) -> None:
        """Take connections again."""
        self.is_cut = False

    def revive(self) -> None:
        """Let new connections live. One that died in silence is reset when somebody sends over it."""
        self.is_half_open = False
        for connection in self._connections:
            if connection.is_dead:
                connection.over.set()

    def _kill(self, connection: _Connection) -> None:
        connection.is_dead = True
        self.harmed["half-open"] += 1

    # --- Passing on -------------------------------------------------------------------------------

    async def serve(self, stream: trio.SocketStream) -> None:
        """Lead one connection to the target, until one of both ends it."""
        connection = _Connection(stream)
        self._connections.add(connection)
        if self.is_half_open:
            self._kill(connection)
        try:
            with connection.scope:
                if self.is_cut:
                    self.harmed["cut"] += 1
                elif connection.is_dead or await self._dial(connection):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pass_on, connection, True, nursery.cancel_scope)
                        if connection.far is not None:
                            nursery.start_soon(self._pass_on, connection, False, nursery.cancel_scope)
        finally:
            self._connections.discard(connection)
            await connection.close()

    async def _dial(self, connection: _Connection) -> bool:
        host, port = parse_address(self._address)
        try:
            with trio.move_on_after(DIAL_SECONDS_MAX):
                connection.far = await trio.open_tcp_stream(host, port)
        except OSError:
            return False  # Nobody is there: our dialler hears of it by a reset.
        return connection.far is not None

    async def _pass_on(self, connection: _Connection, is_forth: bool, both: trio.CancelScope) -> None:
        """Read from one end and have it written to the other, until an end is gone."""
        source = connection.near if is_forth else connection.far
        target = connection.far if is_forth else connection.near
        assert source is not None
        put, get = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)
        async with trio.open_nursery() as nursery:
            if target is not None:
                nursery.start_soon(self._write, connection, is_forth, get, target, both)
            async with put:
                try:
                    await self._read(connection, is_forth, source, put)
                    if connection.is_dead:
                        await connection.over.wait()  # The other end is told nothing before.
                    else:
                        connection.ended_well = True
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    both.cancel()
        both.cancel()

    async def _read(
        self,
        connection: _Connection,
        is_forth: bool,
        source: trio.SocketStream,
        put: trio.MemorySendChannel[tuple[float, bytes]],
    ) -> None:
        """Return when the source says no more, or when somebody sends over what died in silence long ago."""
        frames = _Frames()
        while data := await source.receive_some(CHUNK_SIZE):
            if connection.over.is_set():
                return
            if connection.is_dead:
                continue
            weather = self.forth if is_forth else self.back
            kept = b"".join(self._fate(frame, weather) for frame in frames.feed(data))
            if kept:
                late = weather.delay_seconds + weather.jitter_seconds * self._random.random()
                self.harmed["delay"] += late > 0
                await put.send((trio.current_time() + late, kept))

    async def _write(
        self,
        connection: _Connection,
        is_forth: bool,
        get: trio.MemoryReceiveChannel[tuple[float, bytes]],
        target: trio.SocketStream,
        both: trio.CancelScope,
    ) -> None:
        try:
            async for due, data in get:
                await trio.sleep_until(due)
                start = 0
                while start < len(data) and not connection.is_dead:
                    rate = (self.forth if is_forth else self.back).bytes_per_second
                    size = len(data) - start if rate is None else max(1, int(rate * THROTTLE_SECONDS))
                    await target.send_all(data[start : start + size])
                    start += size
                    if rate is not None:
                        self.harmed["throttle"] += 1
                        await trio.sleep(THROTTLE_SECONDS)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            both.cancel()

    def _fate(self, frame: bytes, weather: Weather) -> bytes:
        if weather.is_closed:
            self.harmed["one-way"] += 1
            return b""
        if weather.drop_share and self._random.random() < weather.drop_share:
            self.harmed["drop"] += 1
            return b""
        if weather.corrupt_share and self._random.random() < weather.corrupt_share:
            self.harmed["corrupt"] += 1
            damaged = bytearray(frame)
            damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
            return bytes(damaged)
        return frame


class Network:
    """All links between some replicas, and from clients to each."""

    def __init__(self, addresses: list[str], seed: int) -> None:
        replicas = range(len(addresses))
        self._links = {
            (source, target): Link(source, target, addresses[target], Random(f"{seed} link {source} {target}"))
            for source in (*replicas, CLIENTS)
            for target in replicas
            if source != target
        }
        self._addresses = {address: replica for replica, address in enumerate(addresses)}

    @property
    def links(self) -> list[Link]:
        """All of them."""
        return list(self._links.values())

    def link(self, source: int, target: int) -> Link:
        """The way from one to another."""
        return self._links[source, target]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry connections until cancelled; started when every link has its port."""
        async with trio.open_nursery() as nursery:
            for link in self.links:
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                link.port = listeners[0].socket.getsockname()[1]
                nursery.start_soon(trio.serve_listeners, link.serve, listeners)
            task_status.started()

    async def dial_as_client(self, address: str) -> trio.abc.Stream:
        """Connect to the replica that lives at `address`, the way of clients.

        Raises:
            OSError: nobody is there.
        """
        return await trio.open_tcp_stream("127.0.0.1", self.link(CLIENTS, self._addresses[address]).port)
