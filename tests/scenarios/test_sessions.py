"""Sessions: retries without double effect, windows, evictions, and what a deposed primary may say (PROTOCOL 5.4)."""

from __future__ import annotations

from sim.scenario import Cluster
from sim.shape import Shape
from sim.stage import Caller
from trio_pb.core.config import Limits
from trio_pb.core.messages import RejectCode


def registered(c: Cluster, to: str) -> Caller:
    """A client with a session."""
    caller = c.caller()
    caller.register(to)
    c.run_until(lambda: caller.session > 0, "a session")
    return caller


def await_replies(c: Cluster, caller: Caller, number: int, count: int = 1) -> None:
    """Wait for a receipt, or several."""
    c.run_until(lambda: len(caller.replies(number)) >= count, f"{count} receipts for number {number}")


def test_register_again_gives_the_same_session() -> None:
    """5.4: a registration that is repeated, also at the next primary, is one session."""
    c = Cluster()
    a, b, _ = c.names
    caller = registered(c, a)
    session = caller.session
    caller.register(a)
    await_replies(c, caller, 0, 2)
    c.crash(a)
    c.await_primary(b)
    caller.register(b)
    await_replies(c, caller, 0, 3)
    assert caller.session == session
    assert len({reply.op for reply in caller.replies(0)}) == 1
    c.restart(a)
    c.expect_same_state()


def test_registration_in_flight_is_repeated() -> None:
    """5.4: asked three times before the first answer: one op, one session."""
    c = Cluster()
    a = c.names[0]
    caller = c.caller()
    for _ in range(3):
        caller.register(a)
    await_replies(c, caller, 0)
    c.run_for(20)
    assert c.replica(a).head == 1
    c.expect_same_state()


def test_retry_while_the_first_is_in_the_inherited_log_is_not_ordered_again() -> None:
    """T-20: a new primary rebuilds from its log what is in flight, and waits with the retry for that op."""
    c = Cluster()
    a, b, _ = c.names
    caller = registered(c, a)
    c.lose("PrepareOk")
    c.lose("CommitOk")
    caller.order(1, to=a)
    c.run_for(5)
    head = c.replica(b).head
    c.crash(a)
    c.await_primary(b)
    caller.order(1, to=b)
    c.run_for(5)
    assert c.replica(b).head == head
    c.heal()
    await_replies(c, caller, 1)
    c.restart(a)
    c.expect_same_state()


def test_window_of_eight_in_any_order() -> None:
    """T-39: eight numbers arrive backwards and are executed forwards; the ninth waits for the first."""
    c = Cluster()
    a = c.names[0]
    caller = registered(c, a)
    caller.order(9, to=a)
    c.run_for(5)
    assert caller.refusals(9) == [RejectCode.WINDOW]
    for number in range(8, 1, -1):
        caller.order(number, to=a)
    c.run_for(20)
    assert not any(caller.replies(number) for number in range(2, 9))
    caller.order(1, to=a)
    await_replies(c, caller, 8)
    ops = [caller.replies(number)[0] for number in range(1, 9)]
    assert [(reply.op, reply.timestamp) for reply in ops] == sorted((reply.op, reply.timestamp) for reply in ops)
    c.expect_same_state()


def test_kept_replies_reach_as_far_back_as_the_window() -> None:
    """5.4: of twelve answered numbers the last eight are replayed; older ones are stale."""
    c = Cluster()
    a = c.names[0]
    caller = registered(c, a)
    for number in range(1, 13):
        caller.order(number, to=a)
        await_replies(c, caller, number)
    for number in range(1, 13):
        caller.order(number, to=a)
    c.run_for(10)
    assert [caller.refusals(number) for number in range(1, 5)] == [[RejectCode.STALE]] * 4
    assert all(len(caller.replies(number)) == 2 for number in range(5, 13))
    c.expect_same_state()


def test_evicted_client_registers_again() -> None:
    """5.4: an evicted client's next registration is a new session; its old number is not mistaken."""
    c = Cluster(shape=Shape(limits=Limits(sessions_max=4)))
    a = c.names[0]
    evicted = registered(c, a)
    old = evicted.session
    for _ in range(4):
        registered(c, a)
    evicted.register(a)
    await_replies(c, evicted, 0, 2)
    assert evicted.session > old
    evicted.order(1, to=a)
    await_replies(c, evicted, 1)
    c.expect_same_state()


def test_evictions_leave_nothing_behind_at_the_primary() -> None:
    """INV-30: forty clients come and are evicted; what admission remembers stays within its bound."""
    c = Cluster(shape=Shape(limits=Limits(sessions_max=5)))
    a = c.names[0]
    for _ in range(40):
        registered(c, a)
    core = c.replica(a).replica.core
    assert core is not None
    assert len(core.execution.sessions) == 5
    assert not core.execution.waiting
    c.expect_same_state()


def test_real_client_whose_session_was_evicted_is_told_the_truth() -> None:
    """5.4: order, eviction, order: the client library opens another session, nothing happens twice."""
    c = Cluster(shape=Shape(limits=Limits(sessions_max=2)))
    a = c.names[0]
    c.order("laptop-1").expect_reply()
    for _ in range(3):
        registered(c, a)
    c.order("laptop-2")
    c.run_for(200)
    c.order("laptop-3").expect_reply()
    c.expect_same_state()


def test_deposed_primary_refuses_what_is_queued_and_is_silent_about_what_is_ordered() -> None:
    """5.4: what is in its log may commit yet; what is not certainly did nothing."""
    c = Cluster(shape=Shape(limits=Limits(pipeline_max=1, pipeline_eager_max=1)))
    a, b, other = c.names
    callers = [registered(c, a) for _ in range(3)]
    c.isolate(a)
    for caller in callers:
        caller.order(1, to=a)
    c.await_primary(b, other)
    c.heal()
    c.run_for(50)
    refused = [caller.refusals(1) for caller in callers]
    assert refused == [[], [RejectCode.NOT_PRIMARY], [RejectCode.NOT_PRIMARY]]
    assert not any(caller.replies(1) for caller in callers)
    for caller in callers:
        caller.order(1, to=c.names[0])
        await_replies(c, caller, 1)
    c.expect_same_state()


def test_deposed_primary_s_ordered_request_commits_in_the_next_view() -> None:
    """5.4: the other half: one backup has it, so the new view keeps it, and the retry finds the receipt."""
    c = Cluster()
    a, b, other = c.names
    caller = registered(c, a)
    for name in (b, other):
        c.cut(name, a, one_way=True)
    caller.order(1, to=a)
    c.await_primary(b, other)
    c.run_for(10)
    c.heal()
    c.run_for(50)
    assert caller.refusals(1) == []
    caller.order(1, to=c.names[0])
    await_replies(c, caller, 1)
    assert caller.replies(1)[0].replayed
    c.expect_same_state()


def test_reply_goes_to_the_newest_connection() -> None:
    """5.4: a client that lost its connection and asks again hears the one reply on the new one."""
    c = Cluster()
    a = c.names[0]
    caller = registered(c, a)
    c.lose("PrepareOk")
    c.lose("CommitOk")
    caller.order(1, to=a)
    c.run_for(5)
    caller.hang_up(a)
    caller.order(1, to=a)
    c.run_for(5)
    c.heal()
    await_replies(c, caller, 1)
    c.run_for(20)
    assert len(caller.replies(1)) == 1
    c.expect_same_state()


def test_client_that_leaves_its_held_numbers_behind() -> None:
    """INV-30: numbers that wait for an earlier one go with the connection that brought them."""
    c = Cluster()
    a = c.names[0]
    caller = registered(c, a)
    for number in range(2, 9):
        caller.order(number, to=a)
    c.run_for(5)
    caller.hang_up(a)
    caller.order(1, to=a)
    await_replies(c, caller, 1)
    c.run_for(20)
    core = c.replica(a).replica.core
    assert core is not None
    assert core.execution.sessions.last_number(caller.client) == 1
    caller.order(2, to=a)
    await_replies(c, caller, 2)
    c.expect_same_state()


def test_backup_sends_clients_to_the_primary() -> None:
    """5.4: a request at a backup is refused, with the address of who leads."""
    c = Cluster()
    a, b, _ = c.names
    caller = c.caller()
    caller.register(b)
    c.run_until(lambda: len(caller.refusals(0)) > 0)
    assert caller.refusals(0) == [RejectCode.NOT_PRIMARY]
    assert getattr(caller.answers(0)[0], "primary", None) == int(a[1:])


def test_full_queue_says_busy_and_loses_nothing() -> None:
    """5.1: more requests than the queue takes are refused as busy, and come through when asked again.

    Numbers that wait for an earlier one fill the queue too; the earlier one must not be kept out by them.
    """
    c = Cluster(shape=Shape(limits=Limits(queue_requests_max=4, batch_requests_max=2, pipeline_max=1)))
    c.orders(40)
    assert c.replica("A0").counted("rejected_busy") > 0
    c.expect_same_state()
