"""What a machine takes for the time of day."""

from __future__ import annotations

__all__ = ["EPOCH_NS", "WallClock"]

EPOCH_NS = 1_700_000_000_000_000_000  # A right clock at virtual time zero.
TRUE_RATE = 1000  # Nanoseconds in a microsecond.


class WallClock:
    """A clock that shows what it was set to, and how much it ran since then."""

    __slots__ = ("_base_ns", "_base_us", "_rate")

    def __init__(self, offset_ns: int = 0) -> None:
        self._base_ns = EPOCH_NS + offset_ns
        self._base_us = 0
        self._rate = TRUE_RATE

    def read(self, now_us: int) -> int:
        """Nanoseconds since 1970 that it shows at virtual time `now_us`."""
        return self._base_ns + (now_us - self._base_us) * self._rate

    def jump(self, by_ns: int) -> None:
        """Be set forward or back."""
        self._base_ns = max(self._base_ns + by_ns, 0)

    def run(self, now_us: int, rate: int = TRUE_RATE) -> None:
        """Run on from what it shows now, so many nanoseconds in a microsecond; 0: stand still."""
        self._base_ns, self._base_us = self.read(now_us), now_us
        self._rate = rate
