"""Repair: replicas that are behind, far behind, or damaged, and new primaries that are (PROTOCOL 8.1)."""

from __future__ import annotations

import pytest

from sim.scenario import Cluster
from sim.shape import Shape
from trio_pb.core.config import Limits
from trio_pb.core.messages import GetPrepares

ONE_BY_ONE = Shape(limits=Limits(batch_requests_max=1))
SMALL_CACHE = Shape(limits=Limits(batch_requests_max=1, body_cache_ops=32))


def test_a_4_backup_that_missed_a_record_fetches_it() -> None:
    """A.4 without damage: A and C committed 5 and 6, B never got 5; it pulls it and acknowledges all."""
    c = Cluster(shape=ONE_BY_ONE)
    a, b, _ = c.names
    c.order("laptop-4").expect_reply()
    missed = c.lose("PrepareMessage", dst=b)
    copies = c.lose("PrepareCopy", dst=b)
    c.order("laptop-5").expect_reply()
    missed.stop()
    c.order("laptop-6").expect_reply()
    c.run_for(2)
    assert c.replica(b).head < c.replica(a).head
    copies.stop()
    c.run_until(lambda: c.replica(b).state.acked == c.replica(a).head)
    c.expect_same_state()


def test_a_4_damaged_record_under_a_living_primary_is_pulled_in_the_background() -> None:
    """A.4, last line: the backup boots with a hole below its watermark, and fills it without a view change."""
    c = Cluster()
    _, b, _ = c.names
    c.order("laptop-5").expect_reply()
    c.order("laptop-6").expect_reply()
    c.crash(b)
    c.rot(b, "laptop-5")
    before = c.view_changes
    c.restart(b)
    c.order("laptop-7").expect_reply()
    c.expect_same_state()
    assert c.view_changes == before
    assert c.replica(b).state.acked == c.replica(b).head


def test_damaged_record_at_the_one_who_serves_is_fetched_by_it_as_well() -> None:
    """R-IOERR: the primary reads for a peer what it applied long ago, finds it damaged, and repairs it too."""
    c = Cluster(shape=SMALL_CACHE)
    a, b, _ = c.names
    c.isolate(b)
    c.order("laptop rotten").expect_reply()
    c.orders(100)
    c.rot(a, "laptop rotten")
    c.heal()
    c.expect_same_state()
    c.run_for(100)
    assert c.replica(a).state.log.durable_prefix == c.replica(a).head


def test_replica_whose_disk_hangs_does_not_pull_the_whole_log_into_memory() -> None:
    """INV-30: what was fetched and is not durable yet is part of the repair budget."""
    c = Cluster(shape=SMALL_CACHE)
    b = c.names[1]
    c.isolate(b)
    c.orders(600)
    c.hang_disk(b)
    c.heal()
    c.run_for(100)
    assert c.replica(b).state.log.bodies_in_memory <= 400
    c.free_disk(b)
    c.expect_same_state()


def test_a_5_replica_with_an_old_disk_catches_up() -> None:
    """A.5: the same for one that was down, and loses power twice on the way."""
    c = Cluster(shape=SMALL_CACHE)
    b = c.names[1]
    c.orders(20)
    c.crash(b)
    c.orders(400)
    for steps in (4, 9):
        c.restart(b)
        c.crash_in_disk_work(b, steps)
        c.run_until(lambda: not c.is_up(b))
    c.restart(b)
    c.expect_same_state()


def test_served_bodies_do_not_pile_up_in_memory() -> None:
    """INV-30: what is read from disk for a lagging peer is not kept by those who are ahead."""
    c = Cluster(shape=SMALL_CACHE)
    a, b, other = c.names
    c.isolate(b)
    c.orders(300)
    c.heal()
    c.expect_same_state()
    c.run_for(50)
    for name in (a, other):
        assert c.replica(name).state.log.bodies_in_memory <= 2 * 32 + 1


@pytest.mark.parametrize("behind", [10, 200])
def test_lagging_replica_becomes_primary_and_repairs_first(behind: int) -> None:
    """6.4: the next primary lacks bodies below the floor; it fetches each once, then leads, in one view."""
    c = Cluster(shape=ONE_BY_ONE)
    a, lagging, other = c.names
    c.order("laptop first").expect_reply()
    c.isolate(lagging)
    c.orders(behind)
    c.run_for(10)
    c.crash(a)
    c.heal()
    entered = c.view_changes
    since = c.now
    c.await_primary(lagging)
    assert c.now - since < 120
    assert c.view_changes - entered == 2
    asked = c.replica(lagging).counted("repair_requests")
    assert asked <= 3 + behind // 16
    c.order("laptop").expect_reply()
    c.restart(a)
    assert c.replica(other).view == c.replica(lagging).view
    c.expect_same_state()


def test_lagging_new_primary_keeps_what_it_learned_when_it_selects_again() -> None:
    """6.4: a slow repair outlives several statements of the logs; each body is still fetched once."""
    limits = Limits(batch_requests_max=1, repair_requests_max=1, repair_wanted_max=8)
    c = Cluster(shape=Shape(limits=limits))
    a, lagging, _ = c.names
    c.isolate(lagging)
    c.orders(100)
    c.run_for(10)
    c.crash(a)
    c.heal()
    c.delay(5, "PrepareCopy")
    entered = c.view_changes
    c.await_primary(lagging)
    assert c.view_changes - entered == 2
    assert c.replica(lagging).counted("repair_requests") <= 20
    c.restart(a)
    c.expect_same_state()


@pytest.mark.parametrize("requests_max", [1, 8])
def test_new_primary_asks_for_an_uncommitted_suffix_within_its_budget(requests_max: int) -> None:
    """8.1, INV-30: it selected a dozen ops that only one voter has; no more requests are out than may be."""
    limits = Limits(batch_requests_max=1, session_window=32, repair_requests_max=requests_max, repair_wanted_max=8)
    c = Cluster(shape=Shape(limits=limits))
    a, lagging, _ = c.names
    c.order("laptop first").expect_reply()
    c.isolate(lagging)
    for kind in ("PrepareOk", "CommitOk"):
        c.lose(kind, dst=a)
    for number in range(40):
        c.order(f"laptop {number}")
    c.run_for(5)
    uncommitted = c.replica(a).head - c.replica(a).commit
    assert uncommitted > 8
    c.crash(a)
    c.heal()
    asked = c.copy("GetPrepares", src=lagging)
    answers = c.hold("PrepareCopy", dst=lagging)
    c.run_until(lambda: bool(answers.letters))
    c.run_for(5)  # Less than a request is waited for.
    wanted = [letter.message.wanted for letter in asked.letters if isinstance(letter.message, GetPrepares)]
    assert len(wanted) <= requests_max
    assert sum(map(len, wanted)) == min(uncommitted, 8 * requests_max)
    answers.release()
    c.await_primary(lagging)
    assert c.replica(lagging).commit >= uncommitted
    c.restart(a)
    c.expect_same_state()


def test_new_primary_that_cannot_be_repaired_gives_way() -> None:
    """T-27: its repair gets nowhere; the view comes to nothing and another, which has everything, leads."""
    c = Cluster(shape=ONE_BY_ONE)
    a, lagging, other = c.names
    c.isolate(lagging)
    c.orders(30)
    c.run_for(10)
    c.crash(a)
    c.heal()
    lost = c.lose("PrepareCopy", dst=lagging)
    c.await_primary(other)
    lost.stop()
    c.order("laptop").expect_reply()
    c.restart(a)
    c.expect_same_state()


def test_copies_and_identities_arrive_twice_and_backwards() -> None:
    """8.1: repair under repetition and reordering takes each body once."""
    c = Cluster(shape=ONE_BY_ONE)
    b = c.names[1]
    c.isolate(b)
    c.orders(60)
    held = c.hold("PrepareCopy", dst=b)
    c.heal_partitions()
    c.run_for(5)
    c.repeat(3)
    held.release(backwards=True)
    c.expect_same_state()


def test_slow_backup_is_not_pushed_beyond_the_send_window() -> None:
    """T-24, 5.1: a backup whose disk hangs gets no more prepares than the window; nobody waits for it."""
    c = Cluster(shape=Shape(limits=Limits(batch_requests_max=1, send_window_ops=16)))
    b = c.names[1]
    c.hang_disk(b)
    pushed = c.copy("PrepareMessage", dst=b)
    c.orders(60)
    assert len(pushed.letters) <= 16 + 1
    assert c.order("laptop").expect_reply().ticks < 5
    c.free_disk(b)
    c.expect_same_state()
