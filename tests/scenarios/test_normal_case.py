"""The normal case under delay, loss, repetition and reordering (PROTOCOL 5)."""

from __future__ import annotations

import pytest

from sim.client import SimClient
from sim.scenario import Cluster
from sim.shape import Shape
from sim.workload import Operation
from trio_pb.app.orders import PLACE, READ, PlaceOrder, ReadCustomer, encode_place, encode_read
from trio_pb.core.config import Limits, Timeouts


def test_a_1_order_commits_with_the_faster_backup() -> None:
    """A.1: one backup's disk hangs; the order commits with the other, and the slow one acknowledges later."""
    c = Cluster()
    a, _, slow = c.names
    c.hang_disk(slow)
    c.order("laptop").expect_reply()
    op = c.replica(a).commit
    assert c.replica(slow).state.acked < op
    c.free_disk(slow)
    c.run_until(lambda: c.replica(slow).state.acked == op, "the late acknowledgement")
    c.expect_same_state()


def test_a_1_backups_may_be_ahead_of_the_primary_s_own_disk() -> None:
    """A.1: the primary commits on its backups' word before its own disk is done."""
    c = Cluster()
    a = c.names[0]
    c.hang_disk(a)
    c.order("laptop").expect_reply()
    assert c.replica(a).state.acked < c.replica(a).commit
    c.free_disk(a)
    c.expect_same_state()


def test_lost_prepare_ok_is_healed_by_commit_ok() -> None:
    """5.3: without a single prepare_ok the answers to heartbeats carry the acknowledgement."""
    c = Cluster()
    c.order("laptop-1").expect_reply()
    c.lose("PrepareOk")
    assert c.order("laptop-2").expect_reply().ticks < 10


def test_lost_commit_is_healed_by_the_next_heartbeat() -> None:
    """5.5: backups learn the commit point from any later frame of the primary."""
    c = Cluster()
    a = c.names[0]
    lost = c.lose("Commit")
    c.order("laptop").expect_reply()
    lost.stop()
    c.run_for(10)
    assert {c.replica(name).applied for name in c.names} == {c.replica(a).commit}


def test_lost_prepare_is_pulled_from_the_primary() -> None:
    """5.2: a heartbeat shows a backup that it lacks the newest op; it asks the primary by position."""
    c = Cluster()
    a, b, _ = c.names
    lost = c.lose("PrepareMessage", dst=b)
    c.order("laptop").expect_reply()
    lost.stop()
    assert c.replica(b).head < c.replica(a).head
    c.run_for(30)
    assert c.replica(b).head == c.replica(a).head
    c.expect_same_state()


def test_prepares_out_of_order_wait_for_the_gap_to_close() -> None:
    """5.2: what comes above a gap is buffered; when the gap closes nothing needs to be fetched."""
    c = Cluster(shape=Shape(limits=Limits(batch_requests_max=1)))
    a, b, _ = c.names
    first = c.hold("PrepareMessage", dst=b)
    c.orders(4)
    head = c.replica(b).head
    copies = c.lose("PrepareCopy", dst=b)
    first.release(backwards=True)
    c.run_for(2)
    assert c.replica(b).head == c.replica(a).head > head
    assert not copies.letters
    assert c.replica(b).counted("repaired") == 0
    c.expect_same_state()


def test_everything_arrives_twice() -> None:
    """T-30: the repetition of every message of replicas changes nothing, in a view change neither."""
    c = Cluster()
    c.repeat(7)
    for number in range(5):
        c.order(f"laptop-{number}").expect_reply()
    old = c.names[0]
    c.crash(old)
    c.order("laptop-5").expect_reply()
    c.restart(old)
    c.orders(20)
    c.expect_same_state()


@pytest.mark.parametrize("kind", ["PrepareMessage", "PrepareOk", "Commit", "CommitOk"])
def test_one_class_of_messages_is_late(kind: str) -> None:
    """A class of messages that takes 200 ms slows the cluster and moves no primary."""
    c = Cluster()
    before = c.view_changes
    c.delay(20, kind)
    c.orders(10)
    assert c.view_changes == before
    c.expect_same_state()


def test_duplicate_acknowledgements_of_one_backup_are_no_quorum() -> None:
    """T-30, n = 5: three acknowledgements of one backup are one voice."""
    c = Cluster(replicas=5)
    _, b, *others = c.names
    for other in others:
        c.lose("PrepareMessage", dst=other)
        c.lose("PrepareCopy", dst=other)
    acknowledged = c.copy("PrepareOk", src=b)
    lost = c.order("laptop").expect_no_reply(20)
    for _ in range(3):
        acknowledged.release()
    lost.expect_no_reply(20)
    c.heal()
    lost.expect_reply()
    c.expect_same_state()


def test_acknowledgement_of_another_prepare_at_that_op_counts_for_nothing() -> None:
    """T-30: an old acknowledgement of a lost suffix, late, does not commit what stands there now."""
    c = Cluster()
    a, b, other = c.names
    c.lose("PrepareMessage", src=a, dst=other)
    c.lose("PrepareCopy", src=a, dst=other)
    acknowledged = c.hold("PrepareOk", src=b, dst=a)
    c.lose("CommitOk", src=b, dst=a)
    answer = c.order("laptop-1").expect_no_reply(10)
    assert acknowledged.letters
    c.crash(b, a)
    c.restart(a)
    c.await_primary(other, a)
    c.heal()
    c.restart(b)
    answer.expect_reply()
    acknowledged.release()
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


def test_three_hundred_clients_at_once() -> None:
    """Three hundred clients order in the same instant; batches keep the number of ops small."""
    c = Cluster()
    clients: list[SimClient] = [c.sim.add_client() for _ in range(300)]
    operations: list[Operation] = []
    for index, client in enumerate(clients):
        body = encode_place(PlaceOrder(index, 1, f"laptop {index}"))
        operation = Operation(index + 1, client.name, PLACE, body, is_read=False, customer=index)
        operations.append(operation)
        client.submit(operation)
    c.run_until(lambda: all(operation.succeeded for operation in operations), "300 answers")
    assert c.replica("A0").commit < 200
    c.expect_same_state()


def test_read_only_load_deposes_nobody() -> None:
    """6.1: T_STALL looks at what waits to be ordered; reads, of which one always waits, are not that."""
    c = Cluster(shape=Shape(timeouts=Timeouts(stall_ticks=40)))
    c.order("laptop").expect_reply()
    client = c.sim.add_client()
    read = 0

    def ask() -> None:
        nonlocal read
        read += 1
        client.submit(Operation(read, client.name, READ, encode_read(ReadCustomer(1)), is_read=True, customer=1))

    client.on_completed = lambda _: ask()
    for _ in range(8):
        ask()
    before = c.view_changes
    c.run_for(100)
    client.on_completed = lambda _: None
    assert read > 500
    assert c.view_changes == before
    c.expect_same_state()


def test_clock_jumps_leave_timestamps_rising() -> None:
    """T-23: the primary's clock jumps a day ahead and a day back; timestamps rise and stay near the median."""
    c = Cluster()
    a = c.names[0]
    before = c.order("laptop-0").expect_reply().timestamp
    stamps = [before]
    for seconds in (86_400, -86_400, 3, -3):
        c.set_clock(a, seconds)
        c.run_for(30)
        stamps.append(c.order(f"laptop at {seconds}").expect_reply().timestamp)
    assert stamps == sorted(set(stamps))
    assert stamps[-1] - before < 10 * 10**9
    c.expect_same_state()


def test_timestamps_rise_over_what_was_inherited_unapplied() -> None:
    """INV-17: a new primary with a slow clock orders after a suffix that its fast predecessor stamped."""
    c = Cluster()
    fast, _, lagging = c.names
    c.order("laptop-0").expect_reply()
    c.set_clock(fast, 4)
    c.run_for(100)
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, src=fast, dst=lagging)
    c.lose("PrepareOk")
    c.lose("CommitOk")
    inherited = c.order("laptop-1").expect_no_reply(10)
    c.crash(fast)
    new = c.await_primary()
    later = c.order("laptop-2")
    head = c.replica(new).head
    c.run_until(lambda: c.replica(new).head > head, "an op above the inherited one")
    c.heal()
    inherited.expect_reply()
    later.expect_reply()
    assert later.timestamp > inherited.timestamp
    c.restart(fast)
    c.expect_same_state()
