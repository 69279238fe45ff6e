"""Paces a load by events: how many orders may have begun, and who waits for how many to be done."""

from __future__ import annotations

import heapq
from itertools import count

import trio

__all__ = ["Gate"]


class Gate:
    """Lets orders begin up to a limit that only rises, and tells when so many are acknowledged.

    Also knows for how long at least one order was under way: time spent waiting for an event of the
    scenario is no time of the cluster.
    """

    def __init__(self, limit: int) -> None:
        self.begun = 0
        self.acked = 0
        self.busy_seconds = 0.0
        self._limit = limit
        self._raised = trio.Event()
        self._waiters: list[tuple[int, int, trio.Event]] = []  # Heap by count; the number breaks ties.
        self._numbers = count()
        self._busy_since = 0.0

    async def begin(self) -> None:
        """Wait until one more order may begin."""
        while self.begun >= self._limit:
            await self._raised.wait()
        if self.begun == self.acked:
            self._busy_since = trio.current_time()
        self.begun += 1

    def ack(self) -> None:
        """Note that an order was acknowledged."""
        self.acked += 1
        assert self.acked <= self.begun
        if self.begun == self.acked:
            self.busy_seconds += trio.current_time() - self._busy_since
        while self._waiters and self._waiters[0][0] <= self.acked:
            heapq.heappop(self._waiters)[2].set()

    def open_to(self, limit: int) -> None:
        """Let `limit` orders begin, all in all."""
        assert limit >= self._limit
        self._limit = limit
        self._raised.set()
        self._raised = trio.Event()

    async def wait_acked(self, acked: int) -> None:
        """Wait until `acked` orders are acknowledged; the limit must allow for them."""
        assert acked <= self._limit
        if self.acked < acked:
            event = trio.Event()
            heapq.heappush(self._waiters, (acked, next(self._numbers), event))
            await event.wait()
