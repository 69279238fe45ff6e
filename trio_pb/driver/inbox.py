"""What is ready for the replica: frames, completions and the alarm, taken all at once.

Clients feel backpressure: who reads their connections waits while too many of their requests are
unprocessed. Messages of peers are dropped when the inbox is full, since the protocol resends.

Who puts may ask for a turn `now`, in its own task, instead of waking the taker: a task switch less on
the way of an order. That is for those whose chunk is all the batch that is to be had; from many
connections, batches form by waiting for the taker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from trio_pb.core.ports import FromClient, FromPeer, Input

__all__ = ["Inbox"]

CLIENT_REQUESTS_MAX = 1024  # Per turn: four full batches; what one step can chew in some 10 ms.
PEER_MESSAGES_MAX = 4096
PEER_BYTES_MAX = 32 << 20


class Inbox:
    """The one queue in front of the replica. Putting never waits; one task takes."""

    def __init__(self) -> None:
        self._inputs: list[Input] = []
        self._rung = False
        self._failure: BaseException | None = None
        self._client_requests = 0  # In _inputs.
        self._peer_messages = 0  # In _inputs.
        self._peer_bytes = 0  # Their frames' bytes.
        self._taker = trio.lowlevel.ParkingLot()
        self._turn_now: Callable[[list[Input]], None] | None = None
        self._readers = trio.lowlevel.ParkingLot()  # Of client connections, waiting for room.
        self.peer_messages_dropped = 0

    def offer_turns(self, turn_now: Callable[[list[Input]], None] | None) -> None:
        """From now on, give what is ready to `turn_now` when somebody asks for that; None: to nobody.

        It must not raise: the task that it would raise in belongs to a stranger.
        """
        self._turn_now = turn_now

    def is_crowded(self) -> bool:
        """Whether readers of client connections should `wait_for_room` before they read on."""
        return self._client_requests >= CLIENT_REQUESTS_MAX

    def put(self, inputs: Sequence[Input]) -> None:
        """Queue completions and events of our own world: few, bounded by what was asked for."""
        self._inputs += inputs
        self._wake()

    def put_clients(self, inputs: Sequence[FromClient], *, now: bool = False) -> None:
        """Queue what was read from a client; then look at `is_crowded` before reading more."""
        self._inputs += inputs
        self._client_requests += len(inputs)
        self._wake(now=now)

    def put_peer(self, inputs: Sequence[FromPeer], size: int, *, now: bool = False) -> None:
        """Queue messages of a peer that came in `size` bytes, or drop them all when full."""
        if self._peer_messages + len(inputs) > PEER_MESSAGES_MAX or self._peer_bytes + size > PEER_BYTES_MAX:
            self.peer_messages_dropped += len(inputs)
            return
        self._inputs += inputs
        self._peer_messages += len(inputs)
        self._peer_bytes += size
        self._wake(now=now)

    def ring(self) -> None:
        """Let the taker have a turn although nothing came: time passed."""
        self._rung = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Make the taker raise `error`: something beside it cannot go on (R-IOERR)."""
        self._failure = error
        self._wake()

    async def wait_for_room(self) -> None:
        """Return when the taker emptied the inbox."""
        while self.is_crowded():
            await self._readers.park()

    async def take_all(self) -> list[Input]:
        """Wait until something is ready and return all of it, in order of arrival; empty when rung.

        Raises:
            BaseException: what `fail` was given.
        """
        while not self._inputs and not self._rung and self._failure is None:
            await self._taker.park()
        if self._failure is not None:
            raise self._failure
        return self._take()

    def _take(self) -> list[Input]:
        inputs, self._inputs = self._inputs, []
        self._rung = False
        self._client_requests = self._peer_messages = self._peer_bytes = 0
        self._readers.unpark_all()
        return inputs

    def _wake(self, *, now: bool = False) -> None:
        if now and self._turn_now is not None and self._failure is None:
            self._turn_now(self._take())
        else:
            self._taker.unpark_all()
