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
from collections.abc import Callable
from random import Random

import trio

from trio_pb.driver.outgoing import Outgoing
from trio_pb.driver.tcp import Dial

__all__ = ["PeerChannel", "PeerLink"]

logger = logging.getLogger(__name__)

CONTROL_BYTES_MAX = 32 << 20  # Two full pipelines (PROTOCOL 5.1).
BULK_BYTES_MAX = 8 << 20
DIAL_SECONDS_MAX = 2.0
BACKOFF_SECONDS_MIN = 0.02
BACKOFF_SECONDS_MAX = 1.0
STEADY_SECONDS = 1.0  # A connection that lived this long starts the back-off anew.


class PeerChannel:
    """One of the two connections to a peer; sends while it is up, drops while it is not."""

    def __init__(
        self, name: str, address: str, dial: Dial, bytes_max: int, notify: Callable[[bool], None], jitter: Random
    ) -> None:
        self._name = name
        self._address = address
        self._dial = dial
        self._bytes_max = bytes_max
        self._notify = notify
        self._outgoing: Outgoing | None = None
        self._jitter = jitter
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
            await trio.sleep(backoff * self._jitter.uniform(0.5, 1.0))
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

    def __init__(
        self, replica: int, address: str, dial: Dial, notify: Callable[[int, bool], None], jitter: Random
    ) -> None:
        self.control = PeerChannel(
            f"replica {replica}", address, dial, CONTROL_BYTES_MAX, lambda up: notify(replica, up), jitter
        )
        self.bulk = PeerChannel(f"replica {replica} (bulk)", address, dial, BULK_BYTES_MAX, lambda _up: None, jitter)

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
