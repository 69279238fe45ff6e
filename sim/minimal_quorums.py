"""An adversary: each prepare reaches in time as many backups as it needs to commit, and no more.

It does only what a network and slow machines may do by themselves (PROTOCOL 1). With it, what commits is held by
a bare quorum, so that a rule about quorums that is broken shows at the next view change: with one voter too few
in a view change, 9 runs of 30 fail, and 3 without it.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.network import Payload
from sim.replica import SimReplica
from trio_pb.core.messages import PrepareCopy, PrepareMessage

__all__ = ["MINIMAL_QUORUMS", "MinimalQuorums"]

MS = 1000  # Microseconds.
MINIMAL_QUORUMS = ("minimal quorum", "slow quorum")  # As counted.
SLOW = 30  # Times the usual, of the disk that a quorum waits for.


class MinimalQuorums:
    """Lets prepares be late for all backups but a few, as the plan of a run says."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._fed: Callable[[int], set[int]] | None = None  # Op -> backups that get its prepare in time.

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        return (("minimal", self._cluster.shape.faults.minimal_quorums, self._starve),)

    def heal(self) -> None:
        """Everybody gets everything."""
        self._fed = None

    def _lateness(self, _: int, destination: int, payload: Payload) -> int:
        message = payload.message
        if self._fed is None or not isinstance(message, PrepareMessage | PrepareCopy):
            return 0
        if destination in self._fed(message.prepare.op):
            return 0
        return self._choices.latency(("starved", destination, message.prepare.op), 20 * MS, 100 * MS)

    def _starve(self, index: int) -> None:
        """For a while each prepare reaches in time as many backups as it needs to commit, and no more.

        They are others for every op; or one and the same each time, the slowest of all.
        """
        if self._is_over():
            return
        key: Key = ("minimal", index)
        numbers = [replica.number for replica in self._cluster.replicas]
        needed = self._cluster.facts.quorums.replication - 1
        turn = self._choices.number((*key, "turn"), 0, len(numbers) - 1, 0)
        is_fixed = self._choices.flag((*key, "the same"), 0.5)

        def fed(op: int) -> set[int]:
            first = turn if is_fixed else turn + op
            backups = [number for number in numbers if not self._cluster.replicas[number].is_primary]
            return {backups[(first + more) % len(backups)] for more in range(needed)} if backups else set()

        self._fed = fed
        if self._lateness not in self._cluster.network.taps:
            self._cluster.network.taps.append(self._lateness)
        self._note("slow quorum" if is_fixed else "minimal quorum")
        slowed = [self._cluster.replicas[number] for number in sorted(fed(0))] if is_fixed else []
        for replica in slowed:
            replica.slowness = SLOW
        duration = self._choices.latency((*key, "long"), 100 * MS, self._cluster.shape.faults.partition_mean)
        self._cluster.scheduler.after(duration, self._feed, slowed)

    def _feed(self, slowed: list[SimReplica]) -> None:
        self._fed = None
        for replica in slowed:
            replica.slowness = 1
