"""Virtual time: a heap of events; the clock jumps from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["SECOND", "TICK_US", "Scheduler"]

SECOND = 1_000_000  # Microseconds.
TICK_US = 10_000


class Scheduler:
    """Calls to make, ordered by virtual time in whole microseconds, then by the order of scheduling."""

    __slots__ = ("_heap", "_sequence", "executed", "idle", "now")

    def __init__(self) -> None:
        self.now = 0
        self.executed = 0
        self.idle = 0  # Of those, calls that found nothing to do: timers started anew meanwhile, looks in vain.
        self._sequence = 0
        # (time, sequence, call, arguments): the sequence is unique, so a comparison never gets further.
        # The arguments belong to the call, whose signature a heap of all calls cannot name: hence Any.
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make `call(*arguments)` at `time`, or now if that has passed."""
        self._sequence += 1
        heappush(self._heap, (max(time, self.now), self._sequence, call, arguments))

    def after(self, delay: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make `call(*arguments)` when `delay` microseconds have passed."""
        self._sequence += 1
        heappush(self._heap, (self.now + delay, self._sequence, call, arguments))

    def step(self) -> bool:
        """Jump to the next event and execute it; return False when there is none."""
        if not self._heap:
            return False
        self.now, _, call, arguments = heappop(self._heap)
        self.executed += 1
        call(*arguments)
        return True

    @property
    def next_time(self) -> int | None:
        """When the next event is; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def run_until(self, time: int) -> None:
        """Execute every event up to `time` and leave the clock there."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, call, arguments = heappop(heap)
            self.executed += 1
            call(*arguments)
        self.now = max(self.now, time)

    def __len__(self) -> int:
        return len(self._heap)
