"""A clock that can be put wrong while it runs: the date jumps, time runs fast or slow.

It is Trio's clock of a replica process, so every timer of the replica goes by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

__all__ = ["WrongClock"]

SECOND_NS = 1_000_000_000


class WrongClock(trio.abc.Clock):
    """Right until `go_wrong`. A clock never runs back; a date may."""

    def __init__(
        self, seconds: Callable[[], float] = time.perf_counter, date_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._seconds = seconds  # The true time, since some moment.
        self._date_ns = date_ns  # The true date, since 1970.
        self._rate = 1.0
        self._ahead_seconds = 0.0
        self._true = self._own = seconds()  # At the last change of the rate: the true time, and ours.
        self._drift = 0.0  # Seconds that our date has gained by its rate, up to that change.

    def start_clock(self) -> None:
        """It runs already."""

    def current_time(self) -> float:
        """Our time in seconds."""
        return self._own + (self._seconds() - self._true) * self._rate

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """True seconds until `deadline` of our time."""
        return (deadline - self.current_time()) / self._rate

    def wall_ns(self) -> int:
        """Our date: the true one, and what it is ahead."""
        gained = self._drift + (self._seconds() - self._true) * (self._rate - 1.0)
        return self._date_ns() + round((self._ahead_seconds + gained) * SECOND_NS)

    def go_wrong(self, *, ahead_seconds: float, rate: float) -> None:
        """Be so much ahead from now on, and run at this rate; a right clock has 0 and 1, and gets its date set."""
        assert rate > 0, "time does not stand still: that is what SIGSTOP is for"
        true = self._seconds()
        passed = true - self._true
        self._drift = self._drift + passed * (self._rate - 1.0) if rate != 1.0 else 0.0
        self._own += passed * self._rate
        self._true = true
        self._rate = rate
        self._ahead_seconds = ahead_seconds
