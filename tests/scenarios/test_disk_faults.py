"""Disks that decay, fail, fill up or hang: what a replica does about it (PROTOCOL 7)."""

from __future__ import annotations

import attrs
import pytest

from sim.scenario import Cluster
from sim.shape import Shape
from trio_pb.core.config import Limits, Timeouts
from trio_pb.core.messages import Status

ONE_BY_ONE = Shape(limits=Limits(batch_requests_max=1))
SCRUBBING = attrs.evolve(ONE_BY_ONE, timeouts=Timeouts(scrub_ticks=2))
SHORT_LOG = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=8, wal_ops=16, pipeline_max=4),
    timeouts=Timeouts(checkpoint_retry_ticks=20, space_ticks=20),
)

LONG_LOG = attrs.evolve(SHORT_LOG, limits=attrs.evolve(SHORT_LOG.limits, wal_ops=32), segment_size=1 << 20)


def _rounds(c: Cluster, name: str, count: int) -> None:
    """Let scrubbing of a replica come round `count` times."""
    until = c.replica(name).counted("scrub_rounds") + count
    c.run_until(lambda: c.replica(name).counted("scrub_rounds") >= until, "scrubbing to come round")


# --- 7.1: the table of verdicts ---------------------------------------------------------------------


def test_7_1_damaged_acknowledged_record_is_fetched_from_a_peer() -> None:
    """At or below the watermark and unreadable: a fault; the backup fetches it, and acknowledges on."""
    c = Cluster(shape=ONE_BY_ONE)
    b = c.names[1]
    c.orders(5)
    op = c.replica(b).head - 2
    c.crash(b)
    c.disk(b).rot_record(op)
    repaired = c.count("repaired")
    c.restart(b)
    c.expect_same_state()
    assert c.count("repaired") > repaired
    assert op in {record.header.op for record in c.disk(b).found.records.values()}
    assert c.order("laptop").expect_reply()
    c.run_until(lambda: c.replica(b).state.acked == c.replica(b).head, "acknowledgements to go on")


@pytest.mark.parametrize(("steps", "survives"), [(1, False), (2, True)])
def test_7_1_unacknowledged_record_is_kept_if_it_is_whole(steps: int, survives: bool) -> None:
    """Above the watermark: with the record durable and no proof it is present, without the record it is forgotten."""
    c = Cluster(shape=ONE_BY_ONE)
    a, b, other = c.names
    c.order("laptop first").expect_reply()
    head = c.replica(b).head
    c.isolate(other)
    c.crash_in_disk_work(b, steps, power=False)  # Write, flush, then the proof.
    c.order("laptop torn")
    c.run_until(lambda: not c.is_up(b), "the crash")
    c.replica(b).replica.disk = c.replica(b).replica.disk.after_power_cut()
    c.isolate(a)
    c.restart(b)
    assert c.replica(b).head == head + survives
    assert c.count("record_lost") == 0
    c.heal()
    c.expect_same_state()


def test_a_4_damaged_committed_op_waits_for_its_last_copy() -> None:
    """A.4: B and A acknowledged it, C never got it; B's copy rots while A is away: B and C must not drop it."""
    c = Cluster(shape=ONE_BY_ONE)
    a, b, other = c.names
    c.order("laptop-1", customer=1).expect_reply()
    c.isolate(other)
    c.order("laptop-2", customer=2).expect_reply()
    c.order("laptop-3", customer=3).expect_reply()
    op = c.replica(b).head - 1
    c.crash(a, b)
    c.disk(b).rot_record(op)
    c.restart(b)
    c.heal()
    c.run_for(600)
    assert c.primaries() == []
    c.restart(a)
    assert c.read(2).expect_reply().record.laptop_type == "laptop-2"
    c.expect_same_state()
    assert c.replica(other).head >= op


def test_7_4_one_copy_of_the_proofs_is_enough() -> None:
    """7.4: with one copy of every proof gone the other still tells what was acknowledged."""
    for copy in (0, 1):
        c = Cluster()
        b = c.names[1]
        c.orders(5)
        acked = c.replica(b).state.acked
        c.crash(b)
        c.disk(b).rot_proofs(copy)
        c.restart(b)
        assert c.replica(b).status is not Status.AMNESIAC
        assert c.replica(b).state.acked >= acked
        c.expect_same_state()


@pytest.mark.parametrize("copy", range(4))
def test_2_3_any_copy_of_the_superblock_may_decay(copy: int) -> None:
    """2.3: three others carry the image; opening writes the fourth again."""
    c = Cluster()
    b = c.names[1]
    c.orders(3)
    c.crash(b)
    c.disk(b).rot_superblock(copy)
    c.restart(b)
    c.expect_same_state()
    found = c.disk(b).found
    assert all(it.image == found.image for it in found.superblock)


# --- 7.3: amnesia -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["proofs", "log"])
def test_7_3_amnesiac_comes_back_through_a_primary(lost: str) -> None:
    """7.3: it forgot what it acknowledged: it asks the primary, installs what that tells, and votes again."""
    c = Cluster()
    b = c.names[1]
    c.orders(5)
    c.crash(b)
    (c.disk(b).lose_proofs if lost == "proofs" else c.disk(b).lose_log)()
    c.restart(b)
    assert c.replica(b).status is Status.AMNESIAC
    c.order("laptop").expect_reply()
    c.run_until(lambda: c.replica(b).status is Status.NORMAL, "the amnesiac to come back")
    c.expect_same_state()


@pytest.mark.parametrize("lost", ["proofs", "log"])
def test_7_3_amnesiac_of_an_idle_cluster_is_none_at_its_next_start(lost: str) -> None:
    """7.3: nothing is written any more, but what it is bound to now: a proof, and a log beside it."""
    c = Cluster(shape=Shape(limits=Limits(checkpoint_interval_ops=4, wal_ops=16)))
    b = c.names[1]
    c.orders(4)
    while c.replica(b).head % 4:
        c.order("laptop").expect_reply()
    c.run_until(lambda: c.replica(b).state.checkpoint.op == c.replica(b).head, "a checkpoint of all")
    c.crash(b)
    (c.disk(b).lose_proofs if lost == "proofs" else c.disk(b).lose_log)()
    c.restart(b)
    c.run_until(lambda: c.replica(b).status is Status.NORMAL, "the amnesiac to come back")
    c.run_for(10)
    c.crash(b)
    c.restart(b)
    assert c.replica(b).status is Status.NORMAL
    c.expect_same_state()


def test_7_6_lost_superblock_stops_for_good() -> None:
    """7.6: no image has two copies: the replica does not start, the others go on."""
    c = Cluster()
    a, b, other = c.names
    c.orders(3)
    c.crash(b)
    for copy in (0, 1, 2):
        c.disk(b).rot_superblock(copy)
    c.sim.replicas[int(b[1:])].start()
    c.run_until(lambda: c.is_stopped(b), "the replica to refuse its disk")
    c.order("laptop").expect_reply()
    c.expect_same_state(a, other)


# --- 7.5: while running -------------------------------------------------------------------------------


def test_7_5_scrubbing_renews_proofs_and_superblock() -> None:
    """7.5: damaged copies are written again from the intact ones."""
    c = Cluster(shape=SCRUBBING)
    b = c.names[1]
    c.orders(5)
    c.disk(b).rot_proofs(1)
    c.disk(b).rot_superblock(2)
    _rounds(c, b, 3)
    found = c.disk(b).found
    assert sum(copy.proof == found.proof for copy in found.proofs) == 2
    assert all(it.image == found.image for it in found.superblock)


def test_r_ioerr_failed_flush_stops_a_backup_and_nothing_rests_on_it() -> None:
    """R-IOERR, T-12: the restart finds in the cache what the medium never got; a power cut must not take it."""
    for steps in range(5):
        c = Cluster(shape=ONE_BY_ONE)
        a, b, other = c.names
        c.order("laptop-1", customer=1).expect_reply()
        c.isolate(other)
        c.disk(b).fail_after(steps)
        answer = c.order("laptop-2", customer=2)
        c.run_until(lambda c=c, b=b: not c.is_up(b))  # type: ignore[misc]
        assert c.count("storage failed") == 1
        c.restart(b)
        answer.expect_reply()
        c.crash(a, b)
        c.replica(b).replica.disk = c.replica(b).replica.disk.after_power_cut()
        c.heal()
        c.restart(b)
        assert c.read(2).expect_reply().record.laptop_type == "laptop-2"
        c.restart(a)
        c.expect_same_state()


def test_r_ioerr_failed_flush_stops_the_primary() -> None:
    """R-IOERR: the primary stops at once; another leads."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.disk(a).fail_after(0)
    answer = c.order("laptop-2")
    c.run_until(lambda: not c.is_up(a), "the primary to stop")
    c.await_primary(b, other)
    answer.expect_reply()
    c.restart(a)
    c.expect_same_state()


def test_t_disk_hanging_disk_abdicates_and_does_not_stand() -> None:
    """T-26: a primary whose disk hangs lets go; it leads again only when its disk answers."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.hang_disk(a)
    answer = c.order("laptop-2")
    c.await_primary(b, other)
    answer.expect_reply()
    assert "disk" in c.replica(a).state.unfit
    c.run_for(300)
    assert not c.replica(a).is_primary
    c.free_disk(a)
    c.run_until(lambda: "disk" not in c.replica(a).state.unfit, "the disk to count as healthy")
    c.expect_same_state()


@pytest.mark.parametrize("full", [1, 0])
def test_7_5_full_disk_of_one_replica(full: int) -> None:
    """7.5: a full disk at a backup, or at the primary, which hands over; orders go on, and it comes back."""
    c = Cluster(shape=SHORT_LOG)
    name = c.names[full]
    c.orders(4)
    c.disk(name).fill()
    for number in range(20):
        c.order(f"laptop {number}", customer=number)  # A primary that has no room refuses it.
        c.run_for(10)
    assert c.count("checkpoint_failed") + c.count("disk_full") > 0
    c.run_until(lambda: any(it != name for it in c.primaries()), "a primary with room")
    for number in range(20, 40):
        c.order(f"laptop {number}", customer=number).expect_reply()
    assert c.is_up(name)
    assert not c.replica(name).is_primary
    c.disk(name).make_room()
    c.expect_same_state()
    c.run_until(lambda: not c.replica(name).state.unfit, "the replica to be fit again")


def test_7_5_a_checkpoint_that_fails_late_keeps_no_read_waiting() -> None:
    """7.5: orders come in while the primary's disk hangs; then it turns out to be full, and reads go on."""
    c = Cluster(shape=LONG_LOG)
    a, *others = c.names
    while c.replica(a).head % 8 != 6:
        c.order("laptop").expect_reply()
    c.run_for(20)
    before = c.replica(a).state.checkpoint.op
    c.disk(others[0]).fill()
    c.disk(others[1]).fill()
    c.hang_disk(a)
    answers = [c.order(f"laptop {number}", customer=number) for number in range(1, 25)]
    c.run_until(lambda: c.replica(a).applied == before + 16, "applying to wait for the checkpoint")
    c.run_for(40)
    c.disk(a).fill()
    c.free_disk(a)
    c.run_until(lambda: "checkpoint" in c.replica(a).state.unfit, "the checkpoint to fail")
    c.read(1).expect_reply()
    assert c.replica(a).state.checkpoint.op == before
    for name in c.names:
        c.disk(name).make_room()
    for answer in answers:
        answer.expect_reply()
    c.expect_same_state()
