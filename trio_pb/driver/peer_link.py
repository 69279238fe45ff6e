"""Our sending side of one peer: two connections that we dial, and dial again when they break.

Each replica dials every peer for what it has to say itself, and only reads on connections that it
accepted. So no rule must pick who dials, no connection has two owners, and whoever has something to
send is the one who notices that it cannot. The price is four sockets per pair instead of two. A
control and a bulk connection keep large copies from delaying small messages (R-CHAN).

What does not fit the bounded queue, or finds no connection, is dropped and counted: the protocol
sends again whatever still matters, and old news would only delay it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeAlias

import trio

from trio_pb.driver.addresses import parse_address
from trio_pb.driver.outgoing import Outgoing

__all__ = ["Dial", "PeerChannel", "PeerLink", "dial_tcp"]

logger = logging.getLogger(__name__)

CONTROL_BYTES_MAX = 32 << 20  # Two full pipelines (PROTOCOL 5.1).
BULK_BYTES_MAX = 8 << 20
DIAL_SECONDS_MAX = 2.0
BACKOFF_SECONDS_MIN = 0.02
BACKOFF_SECONDS_MAX = 1.0
STEADY_SECONDS = 1.0  # A connection that lived this long starts the back-off anew.
UNACKNOWLEDGED_MS_MAX = 3000  # Then the kernel gives the connection up, and we dial again.
UNSENT_BYTES_LOW = 1 << 20

Dial: TypeAlias = Callable[[str], Awaitable[trio.abc.Stream]]  # Given "host:port"; raises OSError.


async def dial_tcp(address: str) -> trio.abc.Stream:
    """Connect to `address`, resolving its name anew (it may have moved).

    Trio sets TCP_NODELAY by itself. Without a bound on unacknowledged time, a connection that
    stalled for a minute of partition would resend only a minute after the partition healed. Trio's
    low-water mark of 16 KiB for unsent bytes suits streams that compete with one another; ours
    would fall back to the writer task with every large prepare.

    Raises:
        OSError: nobody is there.
    """
    host, port = parse_address(address)
    stream = await trio.open_tcp_stream(host, port)
    try:
        _prepare(stream, address)
    except OSError:  # We reached ourselves, or the other side is gone already.
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _prepare(stream: trio.SocketStream, address: str) -> None:
    if stream.socket.getsockname() == stream.socket.getpeername():
        # Dialling a free port that happens to be ours by chance connects a socket to itself, and
        # would keep whom we look for from ever listening there.
        raise ConnectionRefusedError(f"{address}: nobody listens there, we reached ourselves")
    for option, value in (("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS_MAX), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES_LOW)):
        if hasattr(socket, option):  # Linux has both.
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class PeerChannel:
    """One of the two connections to a peer; sends while it is up, drops while it is not."""

    def __init__(self, name: str, address: str, dial: Dial, bytes_max: int, notify: Callable[[bool], None]) -> None:
        self._name = name
        self._address = address
        self._dial = dial
        self._bytes_max = bytes_max
        self._notify = notify
        self._outgoing: Outgoing | None = None
        self._random = Random()
        self.frames_dropped = 0
        self.connections_made = 0

    @property
    def is_up(self) -> bool:
        """Whether frames leave at the moment, as far as we can tell."""
        return self._outgoing is not None

    def put(self, frame: bytes) -> None:
        """Queue `frame` for the next flush, or drop it."""
        if self._outgoing is None or not self._outgoing.put(frame):
            self.frames_dropped += 1

    def flush(self) -> None:
        """Send what was put since the last flush, in one write."""
        if self._outgoing is not None:
            self._outgoing.flush()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        backoff = BACKOFF_SECONDS_MIN
        while True:
            try:
                with trio.fail_after(DIAL_SECONDS_MAX):
                    stream = await self._dial(self._address)
            except (OSError, trio.TooSlowError) as error:
                logger.debug("%s at %s does not answer: %s", self._name, self._address, error)
            else:
                started = trio.current_time()
                await self._use(stream)
                if trio.current_time() - started >= STEADY_SECONDS:
                    backoff = BACKOFF_SECONDS_MIN
            # Jitter, or replicas that lost one another in the same instant would also meet again so.
            await trio.sleep(backoff * self._random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, BACKOFF_SECONDS_MAX)

    async def _use(self, stream: trio.abc.Stream) -> None:
        """Send over `stream` until it breaks. Nothing comes in on it; its end is what we read for."""
        outgoing = Outgoing(stream, self._bytes_max)
        self._outgoing = outgoing
        self.connections_made += 1
        self._notify(True)
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(_write, outgoing, nursery.cancel_scope)
                try:
                    while await stream.receive_some(1024):
                        pass  # The peer has no reason to answer here; ignore it all the same.
                except trio.BrokenResourceError:
                    pass  # As good as an end.
                nursery.cancel_scope.cancel()
        finally:
            # A frame may be cut in the middle, so what was queued behind it goes with it.
            self._outgoing = None
            self._notify(False)


async def _write(outgoing: Outgoing, scope: trio.CancelScope) -> None:
    try:
        await outgoing.run()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        scope.cancel()


class PeerLink:
    """Both channels to one peer."""

    def __init__(self, replica: int, address: str, dial: Dial, notify: Callable[[int, bool], None]) -> None:
        self.control = PeerChannel(
            f"replica {replica}", address, dial, CONTROL_BYTES_MAX, lambda up: notify(replica, up)
        )
        self.bulk = PeerChannel(f"replica {replica} (bulk)", address, dial, BULK_BYTES_MAX, lambda _up: None)

    @property
    def frames_dropped(self) -> int:
        """Frames that found no room or no connection."""
        return self.control.frames_dropped + self.bulk.frames_dropped

    def flush(self) -> None:
        """Send what was put, in at most one write per channel."""
        self.control.flush()
        self.bulk.flush()

    async def run(self) -> None:
        """Keep both channels up until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.control.run)
            nursery.start_soon(self.bulk.run)
