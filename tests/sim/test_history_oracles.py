"""Each oracle on executions, answers, replays and liveness fires on its violation, and only then."""

from __future__ import annotations

import attrs
import pytest

from sim.oracles.facts import Violation
from sim.oracles.liveness import demand_completion, demand_convergence, demand_service, refused
from sim.oracles.op_order import check_real_time
from sim.oracles.reference import ExecutedOnce
from sim.scenario import Cluster
from sim.shape import Shape
from sim.workload import Operation
from tests.sim.oracle_world import (
    GENESIS,
    VIEW,
    World,
    apply_of,
    prepare_at,
    violates,
)
from trio_pb.app.orders import SCAN, ScanCustomers, encode_scan
from trio_pb.core import messages as m
from trio_pb.core.client_ports import Failure, OutcomeKind, Success
from trio_pb.core.ports import ApplyItem, ToClient
from trio_pb.core.prepare import OrderedRequest


def test_inv_18_number_executed_twice() -> None:
    """A replica executes a number that the model refuses."""
    w = World(lambda facts: ExecutedOnce(facts, 8))
    client = bytes(16)
    first = prepare_at(1, GENESIS, requests=[OrderedRequest(client, 0, 0, m.CODE_REGISTER, b"")])
    session = 1 << 16
    order = OrderedRequest(client, session, 1, 2, b"order")
    second = prepare_at(2, first, requests=[order])
    third = prepare_at(3, second, requests=[order])
    for prepare in (first, second, third):
        w.facts.register(prepare)
    w.commit(1, third)
    item = (ApplyItem(0, client, 2, b"order"),)
    w.watch.apply(1, apply_of(1))
    w.watch.apply(1, apply_of(2, items=item))
    with violates("INV-18"):
        w.watch.apply(1, apply_of(3, items=item))
    with violates("INV-19"):
        w.watch.to_client(1, ToClient(1, m.Reply(client, session, 1, 2, VIEW, 1, False, b"wrong")))


def _answered(floor: int, op: int, *, is_read: bool) -> Operation:
    operation = Operation(1, "C0", 2, b"", is_read=is_read, floor=floor)
    operation.outcome = Success(m.Reply(bytes(16), 0, 1, op, VIEW, 0, False, b""), 0, 1)
    return operation


def test_inv_22_and_23_answers_against_real_time() -> None:
    """A read may stand at what was known, a write must stand above it."""
    check_real_time([_answered(5, 5, is_read=True), _answered(5, 6, is_read=False)])
    with violates("INV-23"):
        check_real_time([_answered(5, 4, is_read=True)])
    with violates("INV-22"):
        check_real_time([_answered(5, 5, is_read=False)])


def test_inv_22_wrong_read_and_lost_order() -> None:
    """A read with another customer's record, and an order that was answered but never executed."""
    c = Cluster()
    c.order("laptop-1", customer=1).expect_reply()
    right = c.read(1).expect_reply().operation
    wrong = c.read(2).expect_reply().operation
    c.expect_same_state()
    wrong.outcome, true_outcome = right.outcome, wrong.outcome
    with violates("INV-22"):
        c.expect_same_state()
    wrong.outcome = true_outcome
    c.sim.executed.model.executed.clear()
    with violates("INV-22"):
        c.expect_same_state()


def test_inv_24_pages_of_two_states() -> None:
    """A scan goes on at another op than it began, or leaves a customer out."""
    c = Cluster()
    for customer in (1, 2, 3):
        c.order(f"laptop-{customer}", customer=customer).expect_reply()
    client = c.sim.clients[0]
    first = Operation(1 << 20, client.name, SCAN, encode_scan(ScanCustomers(0, 2)), is_read=True)
    client.submit(first)
    c.run_until(lambda: first.succeeded)
    assert isinstance(first.outcome, Success)
    second = attrs.evolve(
        first, token=first.token + 1, cursor=first.outcome.reply.cursor, scan=first.token, ended=None, outcome=None
    )
    client.submit(second)
    c.run_until(lambda: second.succeeded)
    c.expect_same_state()
    assert isinstance(second.outcome, Success)
    true_reply = second.outcome.reply
    for wrong in (attrs.evolve(true_reply, op=true_reply.op - 1), attrs.evolve(true_reply, result=_no_records(first))):
        second.outcome = attrs.evolve(second.outcome, reply=wrong)
        with violates("INV-24"):
            c.expect_same_state()


def _no_records(page: Operation) -> bytes:
    """A scan page like the one given, but the same records again."""
    assert isinstance(page.outcome, Success)
    return page.outcome.reply.result


def test_inv_32_other_outputs_on_replay() -> None:
    """A recorded run replays; a doctored record does not."""
    c = Cluster(shape=Shape(record=True))
    c.order("laptop-1").expect_reply()
    c.sim.replay_recorded()
    _, steps = c.sim.replicas[0].recorded[0]
    steps[-1] = steps[-1]._replace(outputs=(*steps[-1].outputs, apply_of(99)))
    with violates("INV-32"):
        c.sim.replay_recorded()


def test_inv_33_operation_without_an_answer() -> None:
    """Liveness is demanded with what everybody waits for."""
    c = Cluster()
    c.crash("R0", "R1")
    c.order("laptop-1").expect_no_reply(10)
    with pytest.raises(Violation, match=r"INV-33.*\n.*R0: down"):
        demand_completion(c.sim.clients, c.sim.replicas)
    with pytest.raises(Violation, match="INV-33"):
        demand_convergence(c.sim.clients, c.sim.replicas)


def test_inv_33_refused_by_a_whole_cluster() -> None:
    """Nobody is refused once all is well, unless others used up the sessions."""

    def refused_for(reason: str) -> Operation:
        outcome = Failure(OutcomeKind.NOT_APPLIED, reason, "no")
        return Operation(1, "C0", SCAN, b"", is_read=True, outcome=outcome)

    full = refused_for("disk_full")
    assert refused([refused_for("session_lost"), full, refused_for("no_session")]) == [full]
    demand_service([])
    with violates("INV-33"):
        demand_service([full])
