"""Checkpoints in a running cluster: certified, lost, fallen back from, and diverged from (PROTOCOL 7.1, 9)."""

from __future__ import annotations

import attrs
import pytest

from sim.scenario import Cluster
from sim.shape import Shape
from trio_pb.core.config import Limits, Timeouts
from trio_pb.core.marks import Mark, take_reached

INTERVAL = 8
SHAPE = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=INTERVAL, wal_ops=4 * INTERVAL, pipeline_max=4),
    timeouts=Timeouts(checkpoint_retry_ticks=20, space_ticks=20),
)


def _run_over_a_checkpoint(c: Cluster, name: str) -> int:
    """Place orders until a replica has a newer checkpoint of its own; return its op."""
    before = c.replica(name).state.checkpoint.op
    customer = 0
    while c.replica(name).state.checkpoint.op == before:
        customer += 1
        c.order(f"laptop {customer}", customer=customer).expect_reply()
        c.run_for(2)
    return c.replica(name).state.checkpoint.op


def test_9_equal_checkpoints_are_certified_everywhere() -> None:
    """9: every replica makes the checkpoint of the same op, and all hear that a quorum did."""
    c = Cluster(shape=SHAPE)
    a, b, other = c.names
    op = _run_over_a_checkpoint(c, b)
    assert op % INTERVAL == 0
    for name in (a, b, other):
        c.run_until(lambda name=name: c.replica(name).state.certified.op == op, "the certificate")  # type: ignore[misc]
    assert len({c.replica(name).state.certified for name in (a, b, other)}) == 1


def test_9_one_checkpoint_alone_is_not_certified() -> None:
    """9: while the others have no room for theirs, one that has is not believed; nothing is freed."""
    c = Cluster(shape=SHAPE)
    b, *others = c.names
    before = _run_over_a_checkpoint(c, b)
    c.run_for(50)
    for name in others:
        c.disk(name).fill()
    _run_over_a_checkpoint(c, b)
    c.run_for(30)
    assert c.replica(b).state.certified.op == before
    for name in others:
        c.disk(name).make_room()
    c.run_until(lambda: c.replica(b).state.certified == c.replica(b).state.checkpoint, "the certificate")
    c.expect_same_state()


@pytest.mark.parametrize("crashing", [2, 3])
def test_9_a_replay_that_passes_over_points_loses_no_certificate(crashing: int) -> None:
    """9: two had no room for long; after a restart each freezes the last point of its log only, and all agree."""
    c = Cluster(shape=attrs.evolve(SHAPE, segment_size=1 << 20))
    a, *others = c.names
    before = _run_over_a_checkpoint(c, a)
    c.run_for(50)
    for name in others:
        c.disk(name).fill()
    c.orders(3 * INTERVAL)
    assert c.replica(a).state.certified.op == before
    c.crash(*[*others, a][:crashing])
    for name in others:
        c.disk(name).make_room()
    take_reached()
    c.restart(*[*others, a][:crashing])
    c.run_until(lambda: all(c.replica(name).state.certified.op > before for name in (a, *others)), "a certificate")
    assert Mark.POINT_PASSED_OVER in take_reached()
    c.expect_same_state()
    _run_over_a_checkpoint(c, a)


def test_7_1_lost_checkpoint_is_copied_from_peers() -> None:
    """R-SCAN 1: nothing of it loads: the replica votes on, and copies the certified state."""
    c = Cluster(shape=SHAPE)
    b = c.names[1]
    _run_over_a_checkpoint(c, b)
    c.orders(10, customer=50)
    c.crash(b)
    c.disk(b).lose_checkpoints()
    c.restart(b)
    assert c.count("state_lost") == 1
    c.order("laptop").expect_reply()
    c.expect_same_state()
    assert c.count("state_transferred") == 1


def test_7_1_rotten_own_checkpoint_falls_back_to_the_certified_one() -> None:
    """R-SCAN 1: its newest checkpoint does not load; the older, certified one does, and the log brings the rest."""
    c = Cluster(shape=SHAPE)
    b, *others = c.names
    certified = _run_over_a_checkpoint(c, b)
    c.run_for(50)
    for name in others:
        c.disk(name).fill()
    newest = _run_over_a_checkpoint(c, b)
    c.crash(b)
    assert c.disk(b).checkpoint.op == newest > certified
    c.disk(b).rot_chunks(c.disk(b).checkpoint.digest)
    for name in others:
        c.disk(name).make_room()
    c.restart(b)
    assert c.count("state_lost") == 0
    c.expect_same_state()
    assert c.count("state_transferred") == 0


def test_9_diverged_primary_lets_another_lead() -> None:
    """9, mismatch: a primary with a wrong state abdicates, and comes back with the others' state."""
    c = Cluster(shape=SHAPE)
    a = c.names[0]
    c.orders(3)
    c.replica(a).replica.flip()
    for number in range(3 * INTERVAL):
        c.order(f"laptop {number}", customer=number).expect_reply()
    c.run_until(lambda: c.count("state_transferred") == 1, "the state to be replaced")
    assert c.primaries() != [a]
    c.expect_same_state()


def test_9_divergence_is_remembered_over_a_crash() -> None:
    """9, mismatch: it crashes as soon as it noticed; after the restart it is still not trusted until it rebuilt."""
    c = Cluster(shape=SHAPE)
    b = c.names[1]
    c.orders(3)
    c.replica(b).replica.flip()
    c.lose("ChunkPiece", dst=b)
    for number in range(3 * INTERVAL):
        c.order(f"laptop {number}", customer=number).expect_reply()
    c.run_until(lambda: c.replica(b).state.is_untrusted, "the divergence to be noticed")
    c.run_for(20)
    c.crash(b)
    c.restart(b)
    assert c.replica(b).state.is_untrusted
    c.heal()
    c.expect_same_state()
    assert not c.replica(b).state.is_untrusted
