"""Connections in memory that behave as TCP does when it misbehaves.

Bytes arrive late, in pieces of any size, or not at all. A connection may be reset with a frame half
delivered, stall in one direction, or lose one of its ends without a word (a machine without power), which
the other end learns only when it sends, or from keep-alive probes. Bounded: a sender waits for its reader.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Protocol

import attrs
import trio

from sim.choices import Choices, Key
from trio_pb.testbed.in_memory.timeline import Timeline

__all__ = ["Connection", "DirectMemoryStream", "MemoryStream", "StreamFaults"]

UNACKNOWLEDGED_US_MAX = 3_000_000  # As `driver.tcp` asks the kernel for.
KEEPALIVE_US = 5_000_000  # Shorter than the kernel's, so that a run need not wait for a minute.


@attrs.frozen(kw_only=True)
class StreamFaults:
    """How the connections of a run behave; times in microseconds."""

    latency_min: int = 50
    latency_mean: int = 200
    short_reads: float = 0.0  # Probability for each read.
    short_writes: float = 0.0
    corruption: float = 0.0  # For each segment: one byte changes.
    capacity: int = 1 << 20  # Bytes sent and not yet read, per direction.
    direct: float = 1.0  # Connections on which reads and writes can be tried.


class World(Protocol):
    """What a connection needs to know of the world around it."""

    timeline: Timeline
    choices: Choices
    faults: StreamFaults

    def is_blocked(self, source: str, destination: str) -> bool:
        """Whether nothing of one host gets to another now."""
        ...

    def trace(self, *event: object) -> None:
        """Note an event."""
        ...

    def note_bytes(self, data: bytes, /) -> None:
        """Let delivered bytes count for the run's checksum."""
        ...

    def is_up(self, host: str) -> bool:
        """Whether the machine of a host runs."""
        ...


class Direction:
    """Bytes on their way from one end to the other."""

    def __init__(self, connection: Connection, source: int) -> None:
        self.connection = connection
        self.world = connection.world
        self.key: Key = (*connection.key, source)
        self.source = source
        self.readable = bytearray()
        self.ended = False  # The reader sees the end behind what is readable.
        self.error: OSError | None = None  # What the reader sees instead.
        self.send_error: OSError | None = None  # What the sender sees.
        self.is_stalled = False
        self.readers = trio.lowlevel.ParkingLot()
        self.writers = trio.lowlevel.ParkingLot()
        self.reads = self.writes = 0
        self._segments: deque[bytes | None] = deque()  # On their way; None: the end.
        self._under_way = 0  # Bytes of them.
        self._arrivals = 0  # Segments that were sent, ever.
        self._last_arrival = 0
        self._watched = False  # Somebody counts the seconds without an acknowledgement.

    @property
    def room(self) -> int:
        """Bytes that the sender may send now."""
        return max(0, self.world.faults.capacity - self._under_way - len(self.readable))

    def send(self, data: bytes) -> None:
        """Take bytes from the sender."""
        self._under_way += len(data)
        self._dispatch(data)

    def finish(self) -> None:
        """The sender closed: the end follows what it sent."""
        self._dispatch(None)

    def _dispatch(self, segment: bytes | None) -> None:
        world, timeline = self.world, self.world.timeline
        self._segments.append(segment)
        self._arrivals += 1
        faults = world.faults
        delay = world.choices.latency(("segment", *self.key, self._arrivals), faults.latency_min, faults.latency_mean)
        self._last_arrival = max(self._last_arrival, timeline.now + delay)  # In order, as TCP does.
        timeline.at(self._last_arrival, self._arrive)
        self._watch()

    def _watch(self) -> None:
        """A kernel gives a connection up when nothing is acknowledged for long."""
        if not self._watched and self._segments:
            self._watched = True
            self.world.timeline.after(UNACKNOWLEDGED_US_MAX, self._give_up, self._arrivals - len(self._segments))

    def _give_up(self, acknowledged: int) -> None:
        self._watched = False
        if self.connection.is_over or not self._segments:
            return
        if self._arrivals - len(self._segments) == acknowledged:
            self.world.trace("timed out", *self.key)
            self.connection.lose(self.source, TimeoutError(errno.ETIMEDOUT, "nothing was acknowledged"))
        else:
            self._watch()

    def _arrive(self) -> None:
        """The oldest segment arrives, unless the way is blocked: then it does when it is free again."""
        connection = self.connection
        if connection.is_over or self.is_stalled or not self._segments or connection.is_cut(self.source):
            return
        if connection.gone[1 - self.source]:
            # No machine, or one that knows nothing of this connection any more.
            if self.world.is_up(connection.hosts[1 - self.source]):
                connection.lose(self.source, ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
            return
        segment = self._segments.popleft()
        if segment is None:
            self.ended = True
        else:
            self._under_way -= len(segment)
            if connection.closed[1 - self.source]:
                connection.lose(self.source, ConnectionResetError(errno.ECONNRESET, "the other side closed"))
                return
            segment = self._corrupted(segment)
            self.world.note_bytes(segment)
            self.readable += segment
        self.readers.unpark_all()

    def resume(self) -> None:
        """The way is free again."""
        self.is_stalled = False
        for _ in self._segments:
            self.world.timeline.after(self.world.faults.latency_min, self._arrive)

    def break_off(self, error: OSError, kept: int) -> None:
        """Lose what is under way, but for the first `kept` bytes; the reader sees the error behind them."""
        for segment in self._segments:
            if segment is None or kept <= 0:
                break
            self.readable += segment[:kept]
            kept -= len(segment)
        self.forget()
        self.error = error
        self.readers.unpark_all()

    def forget(self) -> None:
        """Nothing more arrives."""
        self._segments.clear()
        self._under_way = 0
        self.writers.unpark_all()

    def _corrupted(self, segment: bytes) -> bytes:
        world = self.world
        if not world.choices.flag(("corrupt", *self.key, self._arrivals), world.faults.corruption):
            return segment
        place = world.choices.bits(("corrupt where", *self.key, self._arrivals))
        changed = bytearray(segment)
        changed[place % len(changed)] ^= 1 << (place >> 40) % 8
        world.trace("corrupted", *self.key)
        return bytes(changed)


class Connection:
    """Two directions between the ends 0 (who dialled) and 1 (who accepted)."""

    def __init__(self, world: World, key: Key, hosts: tuple[str, str]) -> None:
        self.world = world
        self.key = key
        self.hosts = hosts
        self.is_over = False  # Nothing moves any more, in either direction.
        self.closed = [False, False]  # By the program that has this end.
        self.gone = [False, False]  # Its machine lost its power, or its kernel gave up.
        self.directions = (Direction(self, 0), Direction(self, 1))
        direct = world.choices.flag(("direct", *key), world.faults.direct)
        kind = DirectMemoryStream if direct else MemoryStream
        self.ends = (kind(self, 0), kind(self, 1))

    def is_cut(self, source: int) -> bool:
        """Whether the network lets nothing through in one direction."""
        return self.world.is_blocked(self.hosts[source], self.hosts[1 - source])

    def reset(self) -> None:
        """Both ends hear of a reset; of what was under way a first part may still arrive."""
        if self.is_over:
            return
        self.is_over = True
        for direction in self.directions:
            kept = self.world.choices.number(("kept at reset", *direction.key), 0, 600, 0)
            error = ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
            direction.break_off(error, kept)
            direction.send_error = error
            direction.writers.unpark_all()
        self.world.trace("reset", *self.key)

    def lose(self, end: int, error: OSError) -> None:
        """One end gives up; the other is not told, but a kernel that knows of nothing will tell it when it sends."""
        if self.is_over:
            return
        self.gone[end] = True
        self.directions[end].send_error = error
        self.directions[end].forget()
        self.directions[1 - end].break_off(error, 0)
        self._end_if_both_know()
        if not self.is_over:
            self.world.timeline.after(KEEPALIVE_US, self._probe, 1 - end)

    def vanish(self, end: int) -> None:
        """The machine at one end loses its power."""
        if not self.is_over:
            self.lose(end, ConnectionResetError(errno.ECONNRESET, "power cut"))

    def close(self, end: int) -> None:
        """The program at one end closed it, in both directions."""
        if self.closed[end]:
            return
        self.closed[end] = True
        incoming, outgoing = self.directions[1 - end], self.directions[end]
        incoming.readers.unpark_all()
        outgoing.writers.unpark_all()
        if self.is_over or self.gone[end]:
            return
        if incoming.readable and not self.is_cut(end):
            self.reset()  # Unread bytes: the kernel says so instead of a polite end.
        else:
            outgoing.finish()
        if all(self.closed):
            self.is_over = True

    def _probe(self, end: int) -> None:
        if not self.is_over and not self.closed[end]:
            self.lose(end, TimeoutError(errno.ETIMEDOUT, "no answer to keep-alive probes"))

    def _end_if_both_know(self) -> None:
        if all(gone or closed for gone, closed in zip(self.gone, self.closed, strict=True)):
            self.is_over = True


class MemoryStream(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, connection: Connection, end: int) -> None:
        self.connection = connection
        self.end = end
        self._outgoing = connection.directions[end]
        self._incoming = connection.directions[1 - end]
        self._sending = self._receiving = False

    @property
    def is_closed(self) -> bool:
        """Whether whoever has it closed it."""
        return self.connection.closed[self.end]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting for room; a cancelled call may have sent any first part."""
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self._write(rest) :]
                except BlockingIOError:
                    await self._outgoing.writers.park()
                except OSError as error:
                    raise trio.BrokenResourceError(f"connection broken: {error}") from error
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Return when there is room."""
        await trio.lowlevel.checkpoint()
        while not self._outgoing.room and not self.is_closed and self._outgoing.send_error is None:
            await self._outgoing.writers.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, or a part of it; b"" at the end."""
        if self._receiving:
            raise trio.BusyResourceError("another task receives on this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                try:
                    return self._read(max_bytes or 65536)
                except BlockingIOError:
                    await self._incoming.readers.park()
                except OSError as error:
                    raise trio.BrokenResourceError(f"connection broken: {error}") from error
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both directions."""
        self.connection.close(self.end)
        await trio.lowlevel.checkpoint()

    def _read(self, size: int) -> bytes:
        incoming = self._incoming
        if self.is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        count = min(size, len(incoming.readable))
        if not count:
            if incoming.error is not None:
                raise incoming.error
            if incoming.ended:
                return b""
            raise BlockingIOError
        incoming.reads += 1
        count = self._shortened("short read", incoming.key, incoming.reads, count, incoming.world.faults.short_reads)
        data = bytes(incoming.readable[:count])
        del incoming.readable[:count]
        incoming.writers.unpark_all()
        return data

    def _write(self, data: memoryview) -> int:
        outgoing = self._outgoing
        if self.is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if outgoing.send_error is not None:
            raise outgoing.send_error
        count = min(len(data), outgoing.room)
        if not count:
            raise BlockingIOError
        outgoing.writes += 1
        count = self._shortened("short write", outgoing.key, outgoing.writes, count, outgoing.world.faults.short_writes)
        outgoing.send(bytes(data[:count]))
        return count

    def _shortened(self, label: str, key: Key, use: int, count: int, probability: float) -> int:
        choices = self.connection.world.choices
        if count > 1 and choices.flag((label, *key, use), probability):
            return 1 + choices.bits((label, "by", *key, use)) % (count - 1)
        return count


class DirectMemoryStream(MemoryStream):
    """One that can be tried without waiting (`driver.direct`)."""

    async def wait_readable(self) -> None:
        """Return when a read would not block."""
        incoming = self._incoming
        await trio.lowlevel.checkpoint()
        while not (incoming.readable or incoming.ended or incoming.error is not None):
            if self.is_closed:
                raise trio.ClosedResourceError("this stream was closed")
            await incoming.readers.park()
        if self.is_closed:
            raise trio.ClosedResourceError("this stream was closed")

    def read_now(self, size: int) -> bytes:
        """Read what is there, or a part of it."""
        if self.is_closed:
            raise OSError(errno.EBADF, "bad file descriptor")
        return self._read(size)

    def write_now(self, data: bytes | memoryview) -> int:
        """Write what there is room for, or a part of it."""
        if self.is_closed:
            raise OSError(errno.EBADF, "bad file descriptor")
        return self._write(memoryview(data))
