"""The core of a cluster: a view change quorum that is healed first, while the rest stays as it fell (INV-33).

The protocol owes progress to any q_vc of healthy connected voters, not only to everybody. So in some runs
such a set is drawn, and nobody outside it takes part until the core has done what it owes.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sim.choices import Choices
from sim.cluster import SimCluster
from sim.replica import SimReplica

__all__ = ["CORES", "CoreOfCluster", "choose_core"]

CORES = ("core without the dead", "core without the frozen", "core without the cut off", "core without the deaf")


@attrs.frozen
class CoreOfCluster:
    """Who is healed, who is not, and what became of those."""

    cluster: SimCluster
    healthy: list[SimReplica]
    rest: list[SimReplica]
    how: int  # Index into CORES.

    def hold_the_rest(self) -> None:
        """Keep everybody else dead, frozen, cut off, or unable to hear, from now on."""
        inside = [node for node in self.cluster.nodes if node not in {replica.number for replica in self.rest}]
        for replica in self.rest:
            if self.how == 0:
                replica.crash(power=True)
            elif self.how == 1:
                replica.pause()
            else:
                self.cluster.network.block(inside, [replica.number], one_way=self.how == 3)
            replica.is_held = self.how < 2
        self.cluster.count(CORES[self.how])

    def release(self) -> None:
        """Nobody is held any more; whoever is frozen, dead or cut off is still to be healed."""
        for replica in self.rest:
            replica.is_held = False


def choose_core(cluster: SimCluster, share: float, can_vote: Callable[[SimReplica], bool]) -> CoreOfCluster | None:
    """Draw a core in `share` of the runs; None where everybody is to be healed at once.

    It is made of those that `can_vote` and whose disks keep what they were given: what was acknowledged by a
    quorum is then intact within it. Members that nobody knows yet, and wrong states, need everybody (7.6, 9).
    """
    choices: Choices = cluster.choices
    disks = cluster.facts.disks
    if not choices.flag(("core",), share) or any(not it.superblock.born or it.is_flipped for it in disks.values()):
        return None
    sound = [it for it in cluster.replicas if can_vote(it) and not disks[it.number].is_damaged]
    quorum = cluster.facts.quorums.view_change
    if len(sound) < quorum or quorum == len(cluster.replicas):
        return None
    # Everybody is worth a draw of his own, so that leaving one out of a recorded run moves nobody else.
    sound.sort(key=lambda replica: (choices.bits(("core", replica.number)), replica.number))
    healthy = sorted(sound[:quorum], key=lambda replica: replica.number)
    rest = [replica for replica in cluster.replicas if replica not in healthy]
    return CoreOfCluster(cluster, healthy, rest, choices.number(("core", "how"), 0, len(CORES) - 1, 0))
