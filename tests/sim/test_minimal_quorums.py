"""The adversary feeds a bare quorum, slows the one that it waits for, and lets go."""

from __future__ import annotations

import pytest

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.minimal_quorums import SLOW, MinimalQuorums
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape, WorkloadPlan
from sim.workload import Workload


def _world(replicas: int, *, the_same: bool) -> tuple[SimCluster, MinimalQuorums, list[str]]:
    recorded: dict[Key, int] = {("minimal", 0, "the same"): int(the_same)}
    shape = Shape(replicas=replicas, faults=FaultPlan(minimal_quorums=1, partition_mean=30 * SECOND))
    cluster = SimCluster(Choices(1, recorded), shape)
    cluster.start()
    assert cluster.run_until(lambda: any(it.is_primary for it in cluster.replicas), 10 * SECOND)
    cluster.scheduler.run_until(cluster.scheduler.now + SECOND)
    noted: list[str] = []
    adversary = MinimalQuorums(cluster, noted.append, lambda: False)
    ((_, _, act),) = adversary.plan()
    act(0)
    return cluster, adversary, noted


@pytest.mark.parametrize("the_same", [False, True])
@pytest.mark.parametrize("replicas", [3, 5])
def test_a_bare_quorum_holds_what_commits(replicas: int, the_same: bool) -> None:
    """At its first commit an op is on no more disks than it needs; with one and the same backup, on its slow one."""
    cluster, adversary, noted = _world(replicas, the_same=the_same)
    plan = WorkloadPlan(operations=5, reads=0.0, scans=0.0, think_mean=1)
    workload = Workload(cluster.clients[0], 0, plan, cluster.choices, cluster.scheduler)
    workload.start()
    facts = cluster.facts
    assert cluster.run_until(lambda: facts.committed_op >= 2, cluster.scheduler.now + 10 * SECOND)
    holding = [disk for disk in facts.disks.values() if facts.committed[facts.committed_op] in disk.given]
    assert len(holding) == facts.quorums.replication
    assert noted == ["slow quorum" if the_same else "minimal quorum"]
    slowed = [it for it in cluster.replicas if it.slowness == SLOW]
    assert len(slowed) == (facts.quorums.replication - 1 if the_same else 0)
    adversary.heal()
    assert cluster.run_until(lambda: workload.is_done, cluster.scheduler.now + 10 * SECOND)
