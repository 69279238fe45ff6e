"""A core must do without the rest; and whoever does not get on says why."""

from __future__ import annotations

import pytest

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.cores import CORES, choose_core
from sim.oracles.liveness import describe
from sim.oracles.waiting import waits_for
from sim.replica import SimReplica
from sim.scheduler import SECOND
from sim.shape import Shape, WorkloadPlan
from sim.workload import Workload

DEAD, FROZEN, CUT_OFF, DEAF = range(4)


def _anybody(_: SimReplica) -> bool:
    return True


def _settled(replicas: int = 3, **decisions: int) -> SimCluster:
    recorded: dict[Key, int] = {("core",): 1}
    recorded.update({("core", name): value for name, value in decisions.items()})
    cluster = SimCluster(Choices(1, recorded), Shape(replicas=replicas))
    cluster.start()
    limit = 10 * SECOND
    assert cluster.run_until(lambda: all(it.superblock.born for it in cluster.facts.disks.values()), limit)
    assert cluster.run_until(lambda: any(it.is_primary for it in cluster.replicas), limit)
    return cluster


@pytest.mark.parametrize("replicas", [3, 4, 5, 7])
@pytest.mark.parametrize("how", [DEAD, FROZEN, CUT_OFF, DEAF])
def test_a_core_works_without_the_rest(replicas: int, how: int) -> None:
    """A view change quorum answers its clients, whatever became of the others, and they come back afterwards."""
    cluster = _settled(replicas, how=how)
    core = choose_core(cluster, 1.0, _anybody)
    assert core is not None
    assert len(core.healthy) == cluster.facts.quorums.view_change
    core.hold_the_rest()
    assert cluster.counts[CORES[how]] == 1
    workload = Workload(
        cluster.clients[0], 0, WorkloadPlan(operations=5, reads_here=0.0), cluster.choices, cluster.scheduler
    )
    workload.start()
    assert cluster.run_until(lambda: workload.is_done, cluster.scheduler.now + 30 * SECOND)
    assert all(replica.is_up is not (how == DEAD) for replica in core.rest)
    core.release()
    assert not any(replica.is_held for replica in cluster.replicas)


def test_there_is_no_core_where_everybody_is_needed() -> None:
    """Of two, both are; disks that decayed do not count, nor does whoever may not vote."""
    assert choose_core(_settled(2), 1.0, _anybody) is None
    cluster = _settled()
    assert choose_core(cluster, 1.0, lambda replica: replica.number == 0) is None
    cluster.facts.disks[0].is_damaged = True
    core = choose_core(cluster, 1.0, _anybody)
    assert core is not None
    assert [replica.number for replica in core.healthy] == [1, 2]
    cluster.facts.disks[1].is_damaged = True
    assert choose_core(cluster, 1.0, _anybody) is None


def test_a_held_replica_stays_frozen() -> None:
    """Nothing that was planned before lets it go on."""
    cluster = _settled(how=FROZEN)
    core = choose_core(cluster, 1.0, _anybody)
    assert core is not None
    core.hold_the_rest()
    core.rest[0].resume()
    assert core.rest[0].is_paused
    core.release()
    core.rest[0].resume()
    assert not core.rest[0].is_paused


def _reasons(replica: SimReplica) -> str:
    assert replica.core is not None
    return "; ".join(waits_for(replica.core))


def _ask(cluster: SimCluster, operations: int = 3) -> None:
    plan = WorkloadPlan(operations=operations, in_flight=operations, reads=0.0, scans=0.0)
    Workload(cluster.clients[0], 0, plan, cluster.choices, cluster.scheduler).start()


def test_a_primary_without_backups_waits_for_a_replication_quorum() -> None:
    """It names the op, and who holds it."""
    cluster = _settled()
    primary = next(it for it in cluster.replicas if it.is_primary)
    assert _reasons(primary) == ""
    for other in cluster.replicas:
        if other is not primary:
            other.pause()
    _ask(cluster)
    assert cluster.run_until(lambda: "hold op" in _reasons(primary), cluster.scheduler.now + SECOND)
    assert f"a replication quorum of 2 to hold op 1; R{primary.number} hold it" in _reasons(primary)
    assert "waits for a replication quorum" in describe(cluster.replicas, cluster.clients)


def test_a_lonely_backup_waits_for_wishes() -> None:
    """Nobody else wants another view."""
    cluster = _settled()
    backup = next(it for it in cluster.replicas if not it.is_primary)
    others = [it.number for it in cluster.replicas if it is not backup]
    cluster.network.block([backup.number], others)
    assert cluster.run_until(lambda: "to wish for view" in _reasons(backup), cluster.scheduler.now + 5 * SECOND)
    assert "a view change quorum of 2" in _reasons(backup)
    assert "nobody did" in _reasons(backup)


def test_a_disk_that_does_not_answer_is_named() -> None:
    """What was received is not written yet."""
    cluster = _settled()
    backup = next(it for it in cluster.replicas if not it.is_primary)
    backup.stalled_until = cluster.scheduler.now + 60 * SECOND
    _ask(cluster)
    assert cluster.run_until(lambda: "its disk, to write op" in _reasons(backup), cluster.scheduler.now + SECOND)


def test_a_missing_prepare_is_named() -> None:
    """A backup that knows of an op and has no body of it."""
    cluster = _settled()
    backup = next(it for it in cluster.replicas if not it.is_primary)
    _ask(cluster)
    assert cluster.run_until(lambda: cluster.facts.committed_op >= 2, cluster.scheduler.now + 5 * SECOND)
    assert backup.core is not None
    state = backup.core.state
    assert cluster.run_until(lambda: state.applied >= 2, cluster.scheduler.now + SECOND)
    state.log.lose(state.log.head)
    assert f"the prepare of op {state.log.head}" in _reasons(backup)
