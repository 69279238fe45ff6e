"""The examples in simulated clusters, one test for each seed."""

import pytest

from examples.counter import Counter, workload
from examples.lock_requests import requests
from examples.locks import Locks
from trio_pb.testing import SimulatedCluster, assert_deterministic


@pytest.mark.sim(seeds=20)
def test_counter(sim_cluster: SimulatedCluster) -> None:
    """No addition is lost or counted twice, whatever fails."""
    report = sim_cluster.run(Counter, workload)
    assert report.committed > 0


@pytest.mark.sim(seeds=20, profile="storage")
def test_locks_on_bad_disks(sim_cluster: SimulatedCluster) -> None:
    """Nor is a lock, on disks that decay."""
    sim_cluster.run(Locks, requests)


def test_deterministic() -> None:
    """Every replica gives the same answers, in whatever process."""
    assert_deterministic(Counter, workload)
    assert_deterministic(Locks, requests)
