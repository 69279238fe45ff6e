"""The normal case under delay, loss, repetition and reordering (PROTOCOL 5)."""

from __future__ import annotations

import pytest

from sim.client import SimClient
from sim.scenario import Cluster
from sim.shape import Shape
from sim.workload import Operation
from trio_pb.app.orders import PLACE, READ, PlaceOrder, ReadCustomer, encode_place, encode_read
from trio_pb.core.config import Timeouts


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


@pytest.mark.parametrize("kind", ["PrepareMessage", "PrepareOk", "Commit", "CommitOk"])
def test_one_class_of_messages_is_late(kind: str) -> None:
    """A class of messages that takes 200 ms slows the cluster and moves no primary."""
    c = Cluster()
    before = c.view_changes
    c.delay(20, kind)
    c.orders(10)
    assert c.view_changes == before
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
