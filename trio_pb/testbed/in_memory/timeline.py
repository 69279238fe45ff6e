"""What happens when in the world around the driver: a heap of calls, made by one Trio task.

Deliveries, faults and think times are calls here, not tasks: a call costs a microsecond, and calls of the
same moment are made in the order in which they were asked for. With a coarse grain many things happen in one
moment, and which of the tasks that they wake runs first is the scheduler's choice: there races live.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import trio

__all__ = ["SECOND", "Timeline"]

SECOND = 1_000_000  # Microseconds.


class Timeline:
    """Calls ordered by virtual time in whole microseconds since it was made. Must be made inside a Trio run."""

    def __init__(self, grain: int = 1) -> None:
        self._grain = grain  # Every time is a multiple of it.
        self._started = trio.current_time()
        # (time, sequence, call, arguments), as in `sim.scheduler`: hence Any.
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._scope = trio.CancelScope()
        self.executed = 0

    @property
    def now(self) -> int:
        """Microseconds."""
        return round((trio.current_time() - self._started) * SECOND)

    def at(self, time: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make `call(*arguments)` at `time`, or soon if that has passed."""
        self._sequence += 1
        time = self._coarse(time)
        heappush(self._heap, (time, self._sequence, call, arguments))
        if self._heap[0][1] == self._sequence:
            self._scope.deadline = self.seconds_of(time)

    def after(self, delay: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make `call(*arguments)` when `delay` microseconds have passed."""
        self.at(self.now + delay, call, *arguments)

    def seconds_of(self, time: int) -> float:
        """The same moment on Trio's clock."""
        return self._started + time / SECOND

    async def sleep(self, delay: int) -> None:
        """Return when `delay` microseconds have passed."""
        await trio.sleep_until(self.seconds_of(self._coarse(self.now + delay)))

    def _coarse(self, time: int) -> int:
        return -(-time // self._grain) * self._grain

    async def run(self) -> None:
        """Make the calls until cancelled."""
        heap = self._heap
        while True:
            now = self.now
            while heap and heap[0][0] <= now:
                _, _, call, arguments = heappop(heap)
                self.executed += 1
                call(*arguments)
            deadline = self.seconds_of(heap[0][0]) if heap else math.inf
            with trio.CancelScope(deadline=deadline) as self._scope:
                await trio.sleep_forever()
