"""Hosts that dial one another by address: listeners, connections, and what the network does to them."""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator

import trio

from sim.choices import Choices
from trio_pb.driver.tcp import Listening
from trio_pb.testbed.in_memory.streams import Connection, MemoryStream, StreamFaults
from trio_pb.testbed.in_memory.timeline import Timeline

__all__ = ["MemoryNetwork"]

BACKLOG = 512
PORT = 7400
PASSES_MAX = 4  # Of the scheduler, which dialling takes at its end: looking up names and racing addresses needs some.


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Accepts what was dialled."""

    def __init__(self) -> None:
        self.is_closed = False
        self._queue: deque[MemoryStream] = deque()
        self._acceptors = trio.lowlevel.ParkingLot()

    def offer(self, stream: MemoryStream) -> bool:
        """Queue a new connection; False when nobody will ever take it."""
        if self.is_closed or len(self._queue) >= BACKLOG:
            return False
        self._queue.append(stream)
        self._acceptors.unpark()
        return True

    async def accept(self) -> MemoryStream:
        """Wait for a connection."""
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self.is_closed:
                raise trio.ClosedResourceError("this listener was closed")
            await self._acceptors.park()
        return self._queue.popleft()

    async def aclose(self) -> None:
        """Close; what nobody accepted is reset."""
        self.is_closed = True
        for stream in self._queue:
            stream.connection.close(stream.end)
            stream.connection.reset()
        self._queue.clear()
        self._acceptors.unpark_all()
        await trio.lowlevel.checkpoint()


class MemoryNetwork:
    """All hosts by name; a replica's address is its name and the port."""

    def __init__(
        self,
        timeline: Timeline,
        choices: Choices,
        faults: StreamFaults,
        trace: Callable[..., None],
        note_bytes: Callable[[bytes], None],
    ) -> None:
        self.timeline = timeline
        self.choices = choices
        self.faults = faults
        self.trace = trace
        self.note_bytes = note_bytes
        self.counts: Counter[str] = Counter()
        self.refusals = 0.0  # Probability that a dial is refused.
        self._listeners: dict[str, MemoryListener] = {}
        self._bound: dict[str, list[MemoryListener]] = {}  # Also those that died with their program.
        self._down: set[str] = set()  # Machines without power.
        self._blocked: set[tuple[str, str]] = set()
        self._dials: Counter[tuple[str, str]] = Counter()
        self.connections: list[Connection] = []

    # --- For the driver -------------------------------------------------------------------------

    async def listen(self, address: str) -> Listening:
        """Bind a host's port (`driver.tcp.listen_tcp`)."""
        await trio.lowlevel.checkpoint()
        host = address.partition(":")[0]
        assert host not in self._listeners, f"{address} is in use: a server left its listener open"
        bound = [MemoryListener(), MemoryListener()]  # A host may have two addresses; nobody dials the second.
        self._listeners[host], self._bound[host] = bound[0], bound
        return Listening(bound, host, PORT)

    def dialler(self, source: str) -> Callable[[str], Awaitable[trio.abc.Stream]]:
        """Return what dials from `source`."""

        async def dial(address: str) -> trio.abc.Stream:
            return await self._dial(source, address.partition(":")[0])

        return dial

    async def _dial(self, source: str, target: str) -> MemoryStream:
        self._dials[source, target] += 1
        key = (source, target, self._dials[source, target])
        faults = self.faults
        await self.timeline.sleep(self.choices.latency(("dial", *key), faults.latency_min, faults.latency_mean))
        while self.is_blocked(source, target) or target in self._down:
            await self.timeline.sleep(100_000)  # Whoever dials loses patience first, or it is over.
        listener = self._listeners.get(target)
        refused = self.choices.flag(("refuse", *key), self.refusals)
        connection = Connection(self, key, (source, target))
        if listener is None or refused or not listener.offer(connection.ends[1]):
            self.counts["refused"] += 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{target}: connection refused")
        self.counts["connections"] += 1
        self.connections.append(connection)
        try:
            made = trio.lowlevel.ParkingLot()
            delay = self.choices.latency(("dialled", *key), faults.latency_min, faults.latency_mean)
            passes = self.choices.number(("passes", *key), 0, PASSES_MAX, 0)
            self.timeline.after(delay, self._made, made, passes)
            await made.park()
        except trio.Cancelled:
            connection.close(0)
            raise
        return connection.ends[0]

    def _made(self, made: trio.lowlevel.ParkingLot, passes: int) -> None:
        """Let a dial end, some passes of the scheduler later in the same moment."""
        if passes:
            self.timeline.after(0, self._made, made, passes - 1)
        else:
            made.unpark_all()

    # --- For faults -----------------------------------------------------------------------------

    def is_blocked(self, source: str, destination: str) -> bool:
        """Whether nothing gets from one host to another."""
        return (source, destination) in self._blocked

    def is_up(self, host: str) -> bool:
        """Whether a machine has power."""
        return host not in self._down

    def block(self, source: str, destination: str) -> None:
        """Let nothing through in one direction."""
        self._blocked.add((source, destination))

    def unblock(self, source: str, destination: str) -> None:
        """Let through what waited."""
        self._blocked.discard((source, destination))
        for connection in self.open_connections():
            for direction in connection.directions:
                ends = connection.hosts if direction.source == 0 else connection.hosts[::-1]
                if ends == (source, destination):
                    direction.resume()

    def kill(self, host: str, *, power: bool) -> None:
        """The program on a host ends; without power, nobody is told."""
        self._listeners.pop(host, None)
        for connection in self.open_connections():
            for end, name in enumerate(connection.hosts):
                if name == host and power:
                    connection.vanish(end)
                elif name == host:
                    connection.reset()
        if power:
            self._down.add(host)

    def power_on(self, host: str) -> None:
        """The machine runs again; it knows of no connection."""
        self._down.discard(host)

    def free(self, host: str) -> list[str]:
        """A program on `host` ended: forget its listeners; return what it left open."""
        self._listeners.pop(host, None)
        left = [f"a listener of {host}" for listener in self._bound.pop(host, ()) if not listener.is_closed]
        left += [
            f"a connection {connection.key} of {host}"
            for connection in self.connections
            for end, name in enumerate(connection.hosts)
            if name == host and not connection.closed[end]
        ]
        # Of what both ends closed nothing is left to say.
        self.connections = [connection for connection in self.connections if not all(connection.closed)]
        return left

    def open_connections(self) -> list[Connection]:
        """Connections over which something may still come."""
        return [connection for connection in self.connections if not connection.is_over]

    def ends_of(self, host: str) -> Iterator[MemoryStream]:
        """Ends that a program on `host` has not closed."""
        for connection in self.connections:
            for end, name in enumerate(connection.hosts):
                if name == host and not connection.closed[end]:
                    yield connection.ends[end]
