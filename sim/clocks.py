"""Wall clocks that are wrong: apart from the start, drifting, jumping, standing still.

The core counts ticks, which are right everywhere; what it hears of a wall clock is advice for the times
that orders get (PROTOCOL 5.1). Clients have no wall clock at all.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.choices import Key
from sim.cluster import SimCluster
from sim.fault_family import FaultFamily, Planned
from sim.replica import SimReplica

__all__ = ["CLOCKS", "Clocks"]

MS = 1000  # Microseconds.
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
JUMPS_NS = (HOUR_NS, SECOND_NS, 60 * SECOND_NS, 50 * 8766 * HOUR_NS)  # The last: a battery that was empty, or a typo.
DRIFTS = (1010, 990, 1500, 500, 3000)  # Nanoseconds that the clock shows in a microsecond.
CLOCKS = ("clock jump", "clock drift", "clock freeze")  # As counted.


class Clocks(FaultFamily):
    """Sets the wall clocks of a run wrong as its plan says."""

    def __init__(
        self,
        cluster: SimCluster,
        note: Callable[[str], None],
        is_over: Callable[[], bool],
        victim: Callable[[Key], SimReplica],
    ) -> None:
        """As for every family."""
        super().__init__(cluster, note, is_over, victim)
        # In most runs the others are right, and may be asked what the time is.
        self._one_only = not self._choices.flag(("clocks", "any"), 0.3)

    def plan(self) -> Planned:
        """What is to happen: name, how often, and how."""
        plan = self._cluster.shape.faults
        return (
            ("clock jump", plan.clock_jumps, self._jump),
            ("clock drift", plan.clock_drifts, self._drift),
            ("clock freeze", plan.clock_freezes, self._freeze),
        )

    def heal(self) -> None:
        """Clocks run on as they should, from where they are."""
        for replica in self._cluster.replicas:
            replica.clock.run(self._cluster.scheduler.now)

    def _jump(self, index: int) -> None:
        """A clock is set, forward or back."""
        key: Key = ("clock jump", index)
        replica = self._whose(key)
        if replica is not None:
            far = JUMPS_NS[self._choices.number((*key, "far"), 0, len(JUMPS_NS) - 1, 0)]
            replica.clock.jump(-far if self._choices.flag((*key, "back"), 0.5) else far)
            self._note("clock jump")

    def _drift(self, index: int) -> None:
        """A clock is too fast or too slow until the end."""
        key: Key = ("clock drift", index)
        replica = self._whose(key)
        if replica is not None:
            rate = DRIFTS[self._choices.number((*key, "rate"), 0, len(DRIFTS) - 1, 0)]
            replica.clock.run(self._cluster.scheduler.now, rate)
            self._note("clock drift")

    def _freeze(self, index: int) -> None:
        """A clock stands still for a while, and goes on from there."""
        key: Key = ("clock freeze", index)
        replica = self._whose(key)
        if replica is not None:
            scheduler = self._cluster.scheduler
            replica.clock.run(scheduler.now, 0)
            self._note("clock freeze")
            duration = self._choices.latency((*key, "long"), 100 * MS, 4 * self._cluster.shape.faults.pause_mean)
            scheduler.after(duration, self._thaw, replica)

    def _thaw(self, replica: SimReplica) -> None:
        replica.clock.run(self._cluster.scheduler.now)

    def _whose(self, key: Key) -> SimReplica | None:
        """Whose clock goes wrong; in most runs that of one replica only."""
        if self._is_over():
            return None
        if not self._one_only:
            replica = self._victim((*key, "who"))
        else:
            replicas = self._cluster.replicas
            replica = replicas[self._choices.number(("clocks", "whose"), 0, len(replicas) - 1, 0)]
        self._cluster.sane_time.distrust(replica.number)
        return replica
