"""The times of orders follow the clocks of the majority: one wild clock cannot drag them away (PROTOCOL 5.1, T-23)."""

from __future__ import annotations

from collections.abc import Callable

from sim.oracles.facts import Facts, violate
from sim.oracles.watch import Oracle

__all__ = ["SLACK_NS", "SaneTime"]

# The clamp (5 s), and half a round trip of the ping that measured a clock: a process may stand still for long.
SLACK_NS = 60_000_000_000


class SaneTime(Oracle):
    """Is what commits dated later than any right clock says? Earlier is allowed: it must only rise (INV-17)."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._wild: set[int] = set()
        # What the clock of a replica shows; set by the cluster.
        self.clock_of: Callable[[int], int] = lambda _replica: 0

    def distrust(self, replica: int) -> None:
        """Its clock went wrong: it may be no witness any more."""
        self._wild.add(replica)

    def on_committed(self, replica: int, first: int, last: int) -> None:
        """Compare with the latest of the right clocks."""
        facts = self.facts
        if len(self._wild) != 1 or len(facts.disks) < 3:
            return  # None is wrong, or the wrong ones may be the majority of those that could be asked.
        latest = max(self.clock_of(number) for number in facts.disks if number not in self._wild)
        for op in range(first, last + 1):
            ahead = facts.prepares[facts.committed[op]].timestamp - latest
            if ahead > SLACK_NS:
                violate(
                    "sane time",
                    f"R{replica} commits op {op}, dated {ahead // 1_000_000_000} s later than any clock but the"
                    f" wrong one of {', '.join(f'R{number}' for number in sorted(self._wild))}",
                )
