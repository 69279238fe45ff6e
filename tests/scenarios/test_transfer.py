"""Handing over leadership: under load, without a candidate, and when it fails (PROTOCOL 11)."""

from __future__ import annotations

from sim.scenario import Cluster
from sim.workload import Operation
from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.core.ports import Transfer


def handed_over(c: Cluster) -> list[bool]:
    """The answers to every request to hand over."""
    return [bool(event[3]) for event in c.sim.events if event[1] == "transfer done"]


def test_transfer_of_an_idle_cluster_takes_milliseconds() -> None:
    """11: the successor leads within a few ticks; nobody suspected anybody."""
    c = Cluster()
    a, b, _ = c.names
    c.order("laptop").expect_reply()
    c.run_for(10)
    since = c.now
    c.transfer()
    c.await_primary(b)
    assert c.now - since < 20
    assert c.primaries() == [b]
    c.run_for(20)
    assert handed_over(c) == [True]
    assert all(c.replica(name).counted("suspected") == 0 for name in (a, b))
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


def test_transfer_under_load_loses_nothing_and_pauses_shortly() -> None:
    """11: two clients order without a pause over three hand-overs; none waits for long, none fails."""
    c = Cluster()
    done: list[Operation] = []
    token = 0
    is_open = True

    def place(customer: int) -> None:
        nonlocal token
        token += 1
        body = encode_place(PlaceOrder(customer, token, f"laptop {token}"))
        client = clients[customer]
        client.submit(Operation(token, client.name, PLACE, body, is_read=False, customer=customer))

    def on_completed(operation: Operation) -> None:
        done.append(operation)
        if is_open:
            place(operation.customer)

    clients = [c.sim.add_client() for _ in range(2)]
    for customer, client in enumerate(clients):
        client.on_completed = on_completed
        place(customer)
    for _ in range(3):
        c.run_for(12)
        c.transfer()
        c.run_for(12)
    is_open = False
    c.run_until(lambda: len(done) == token, "the last answers")
    assert all(operation.succeeded for operation in done)
    longest = max((operation.ended or 0) - operation.begun for operation in done)
    assert longest < 250_000
    assert handed_over(c) == [True] * 3
    c.expect_same_state()


def test_transfer_without_a_candidate_is_refused() -> None:
    """11: with nobody fit beside it, whose disks hang, the primary keeps its place and says so."""
    c = Cluster(replicas=4)
    a, b, d, e = c.names
    c.order("laptop-1").expect_reply()
    c.cut(a, b)  # Reached by others, not by the primary: no candidate of its.
    c.hang_disk(d, e)
    c.order("laptop-2")
    c.run_for(130)
    assert all("disk" in c.replica(name).state.unfit for name in (d, e))
    assert c.replica(a).is_primary
    c.sim.replicas[int(a[1:])].take(Transfer())
    c.run_for(1)
    assert handed_over(c) == [False]
    c.free_disk(d, e)
    c.heal()
    c.order("laptop-3").expect_reply()
    assert c.primaries() == [a]
    c.expect_same_state()


def test_single_replica_cannot_hand_over() -> None:
    """11, n = 1: there is nobody; the hand-over is refused at once, orders go on."""
    c = Cluster(replicas=1)
    c.order("laptop-1").expect_reply()
    c.transfer()
    c.run_for(5)
    assert handed_over(c) == [False]
    c.order("laptop-2").expect_reply()
    assert c.primaries() == ["R0"]


def test_transfer_at_a_backup_changes_nothing() -> None:
    """11: who does not lead has nothing to hand over."""
    c = Cluster()
    a, b, _ = c.names
    c.sim.replicas[int(b[1:])].take(Transfer())
    c.run_for(5)
    assert handed_over(c) == [False]
    assert c.primaries() == [a]


def test_transfer_that_nobody_can_take_ends_after_its_time() -> None:
    """11: nothing commits for 100 ticks: the primary says that it failed, and goes on leading."""
    c = Cluster()
    a = c.names[0]
    c.order("laptop-0").expect_reply()
    lost = [c.lose(kind, dst=name) for kind in ("PrepareMessage", "PrepareCopy") for name in c.names[1:]]
    answer = c.order("laptop-1")
    c.run_for(2)
    c.transfer()
    c.run_for(110)
    assert handed_over(c) == [False]
    for kind in lost:
        kind.stop()
    answer.expect_reply()
    assert c.primaries() == [a]
    c.expect_same_state()


def test_old_primary_dies_right_after_it_handed_over() -> None:
    """11: what it acknowledged is with its successor, which needs nobody's patience to lead."""
    c = Cluster()
    a, b, _ = c.names
    c.order("laptop-1").expect_reply()
    c.run_for(10)
    c.transfer()
    c.run_until(lambda: c.replica(a).state.abdicated or not c.replica(a).is_primary)
    c.crash(a)
    c.await_primary(b)
    assert c.read().expect_reply().record.laptop_type == "laptop-1"
    c.restart(a)
    c.expect_same_state()


def test_successor_dies_before_it_leads() -> None:
    """11: a hand-over that fails half-way is an ordinary view change."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.run_for(10)
    lost = c.lose("DoViewChange", dst=b)
    c.transfer()
    c.run_until(lambda: not c.replica(a).is_primary)
    c.crash(b)
    lost.stop()
    c.await_primary(a, other)
    c.order("laptop-2").expect_reply()
    c.restart(b)
    c.expect_same_state()
