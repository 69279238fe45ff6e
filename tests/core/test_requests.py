"""What a primary makes of its clients' requests (PROTOCOL 5.4): numbers, duplicates, refusals, new views."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench, chain, client, disk_of, echo, ordered, primary, register_order, statement
from trio_pb.core.config import Limits
from trio_pb.core.messages import CODE_EMPTY, CODE_REGISTER, PrepareMessage, Reject, RejectCode, Reply, Status
from trio_pb.core.ports import Apply, Link, SuperblockWrite, WalRead
from trio_pb.core.prepare import OrderedRequest, Prepare


def codes(bench: Bench, connection: int | None = None) -> list[RejectCode]:
    """The refusals that were given."""
    return [answer.code for answer in bench.told(connection) if isinstance(answer, Reject)]


def replies(bench: Bench, connection: int | None = None) -> list[Reply]:
    """The receipts that were given."""
    return [answer for answer in bench.told(connection) if isinstance(answer, Reply)]


def test_5_4_a_request_is_answered_after_commit_and_apply() -> None:
    """The receipt has op, view, timestamp and result, and comes when a quorum holds the op, not before."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(1, session=session, body=b"order")
    assert not a.told()
    a.ack(1)
    prepare = a.sent(PrepareMessage)[0].prepare
    assert replies(a) == [Reply(client(1), session, 1, 2, 1024, prepare.timestamp, False, echo(b"order"))]


def test_5_4_registering_twice_while_in_flight_orders_once() -> None:
    """The second registration waits for the first; the newest connection hears of it."""
    a = primary()
    a.request(0, code=CODE_REGISTER, connection=1)
    a.request(0, code=CODE_REGISTER, connection=2)
    a.commit_all()
    assert len(a.sent(PrepareMessage)) == 1
    assert (len(replies(a, 1)), len(replies(a, 2))) == (0, 1)


def test_5_4_registering_again_later_gives_the_same_session() -> None:
    """A registration that was answered is answered again from the table, as replayed."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(0, code=CODE_REGISTER, connection=7)
    assert [(reply.session, reply.replayed) for reply in replies(a, 7)] == [(session, True)]
    assert not a.sent(PrepareMessage)


def test_5_4_a_duplicate_in_flight_is_not_ordered_again() -> None:
    """A retry while the first is in flight moves the reply to the newest connection."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(1, session=session, connection=1)
    a.request(1, session=session, connection=2)
    a.commit_all()
    assert len(a.sent(PrepareMessage)) == 1
    assert (len(replies(a, 1)), len(replies(a, 2))) == (0, 1)


def test_5_4_duplicates_in_flight_take_no_place_in_the_queue() -> None:
    """However often a client repeats itself, another one still gets in, even ahead of its turn."""
    a = primary(limits=Limits(queue_requests_max=1))
    sessions = [a.register(by=by) for by in (1, 2)]
    a.request(1, by=1, session=sessions[0])
    for connection in range(5):
        a.request(1, by=1, session=sessions[0], connection=connection)
    a.clear()
    for number in (2, 1):
        a.request(number, by=2, session=sessions[1])
    assert not codes(a)
    a.commit_all()
    assert len(replies(a)) == 3


def test_5_4_a_duplicate_later_gets_the_kept_reply() -> None:
    """A retry after the answer is answered at once, word for word, marked as replayed."""
    a = primary()
    session = a.register()
    a.request(1, session=session)
    a.commit_all()
    first = replies(a)[-1]
    a.clear()
    a.request(1, session=session, body=b"something else")
    again = replies(a)[0]
    assert (again.op, again.result, again.timestamp) == (first.op, first.result, first.timestamp)
    assert again.replayed
    assert not a.sent(PrepareMessage)


def test_5_4_numbers_enter_in_order() -> None:
    """A number ahead of its turn is held; when the gap closes all go, in order, in one batch."""
    a = primary()
    session = a.register()
    a.clear()
    for number in (3, 2):
        a.request(number, session=session)
    assert not a.sent(PrepareMessage)
    a.request(1, session=session)
    ordered_now = [request.number for message in a.sent(PrepareMessage) for request in message.prepare.requests()]
    assert ordered_now == [1, 2, 3]
    a.commit_all()
    assert [reply.number for reply in replies(a)] == [1, 2, 3]


def test_5_4_window_bounds_what_is_held() -> None:
    """Up to W numbers ahead are held, one more is refused; number 0 is no request."""
    a = primary(limits=Limits(session_window=4))
    session = a.register()
    a.clear()
    a.request(4, session=session)
    assert not codes(a)
    a.request(5, session=session)
    a.request(0, session=session)
    assert codes(a) == [RejectCode.WINDOW, RejectCode.WINDOW]


def test_5_4_a_reply_no_longer_kept_is_stale() -> None:
    """T-39: a number more than W below the last has lost its reply, and is told so."""
    a = primary(limits=Limits(session_window=2))
    session = a.register()
    for number in (1, 2, 3):
        a.request(number, session=session)
        a.commit_all()
    a.clear()
    a.request(1, session=session)
    a.request(2, session=session)
    assert codes(a) == [RejectCode.STALE]
    assert [reply.number for reply in replies(a)] == [2]


def test_5_4_too_large_is_refused() -> None:
    """A body above the limit never enters."""
    a = primary(limits=Limits(request_size_max=10))
    session = a.register()
    a.request(1, session=session, body=b"x" * 11)
    assert codes(a) == [RejectCode.TOO_LARGE]


def test_5_4_a_full_queue_is_busy() -> None:
    """INV-30: the queue is bounded; the refusal says when to try again."""
    a = primary(limits=Limits(queue_requests_max=2, pipeline_max=1))
    sessions = [a.register(by=by) for by in range(1, 5)]
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session)
    assert codes(a) == [RejectCode.BUSY]
    assert [answer.retry_ms > 0 for answer in a.told() if isinstance(answer, Reject)] == [True]


def test_5_4_a_full_queue_by_bytes_is_busy() -> None:
    """The queue is bounded in bytes too."""
    a = primary(limits=Limits(queue_bytes_max=500, pipeline_max=1))
    sessions = [a.register(by=by) for by in range(1, 4)]
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session, body=b"x" * 250)
    assert codes(a) == [RejectCode.BUSY]


def test_5_4_a_backup_names_the_primary() -> None:
    """Who does not lead refuses and says who does."""
    b = Bench(disk_of(1))
    b.request(1)
    refusal = b.told()[0]
    assert isinstance(refusal, Reject)
    assert (refusal.code, refusal.primary) == (RejectCode.NOT_PRIMARY, 0)


def test_5_4_nothing_is_admitted_before_the_boot_is_durable() -> None:
    """A replica that has only just started refuses."""
    b = Bench(disk_of(1), auto_disk=False)
    b.request(1)
    b.read(1)
    assert codes(b) == [RejectCode.NOT_PRIMARY] * 2


def test_5_4_no_reply_to_a_closed_connection() -> None:
    """Who hung up hears nothing; the op goes on."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(1, session=session, connection=5)
    a.step(Link(peer=None, connection=5, up=False))
    a.commit_all()
    assert a.applied == 2
    assert not a.told()


# --- no_session only after confirmation -------------------------------------------------------------------


def test_5_4_no_session_only_after_confirmation() -> None:
    """T-33: a session that the table does not know is declared dead only after a round of its own."""
    a = primary()
    a.request(1, session=99)
    assert not a.told()
    a.answer_heartbeat(1, round_=1)
    assert codes(a) == [RejectCode.NO_SESSION]


def test_t_33_a_deposed_primary_does_not_end_a_session() -> None:
    """It cannot confirm; when it learns of the newer view it refuses as not the primary, or says nothing."""
    a = primary()
    a.request(1, session=99)
    a.ping(1, view=1025)
    assert RejectCode.NO_SESSION not in codes(a)


def test_t_33_an_old_echo_confirms_nothing() -> None:
    """A round that began before the request does not confirm it."""
    a = primary()
    a.read(1)
    a.request(1, session=99)
    a.answer_heartbeat(1, round_=1)
    assert not codes(a)
    a.answer_heartbeat(1, round_=2)
    assert codes(a) == [RejectCode.NO_SESSION]


def test_5_4_a_session_that_appears_while_confirming_is_served() -> None:
    """The registration was in the log of the view, uncommitted when the request came: it counts."""
    log = chain(1, requests=[register_order(1)])
    a = primary(log=log)
    session = 1 << 16
    a.request(1, session=session)
    a.ack(1, round_=1)
    assert a.head == 2, "confirmed, and by then the session exists"
    a.ack(1)
    assert [reply.number for reply in replies(a)] == [1]


def test_5_1_a_batch_is_bounded_in_bytes() -> None:
    """What does not fit goes into the next prepare."""
    a = primary(limits=Limits(batch_bytes_full=400, pipeline_max=1, pipeline_eager_max=1))
    sessions = [a.register(by=by) for by in range(1, 5)]
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session, body=b"x" * 100)
    a.ack(1)
    a.ack(1)
    assert [message.prepare.count for message in a.sent(PrepareMessage)] == [1, 2, 1]


# --- The check at apply ---------------------------------------------------------------------------------

CASES = [
    ("executes", OrderedRequest(client(1), 65536, 1, 2, b"a"), Reply, None),
    ("empty", OrderedRequest(client(1), 65536, 1, CODE_EMPTY, b""), Reply, None),
    ("gap", OrderedRequest(client(1), 65536, 3, 2, b"a"), Reject, RejectCode.WINDOW),
    ("other session", OrderedRequest(client(1), 65537, 1, 2, b"a"), Reject, RejectCode.NO_SESSION),
    ("no session", OrderedRequest(client(2), 65536, 1, 2, b"a"), Reject, RejectCode.NO_SESSION),
]


@pytest.mark.parametrize(("name", "request_", "answer", "code"), CASES, ids=[case[0] for case in CASES])
def test_5_4_check_at_apply_is_the_authority(
    name: str, request_: OrderedRequest, answer: type[Reply] | type[Reject], code: RejectCode | None
) -> None:
    """Whatever stands in the log, only the next number of a living session executes; a retry hears the outcome."""
    log = chain(1, requests=[register_order(1)])
    log += chain(1, after=log[0], requests=[request_])
    a = primary(log=log)
    a.commit_all()
    assert a.applied == 2
    executed = [item.body for apply in a.given(Apply) for item in apply.items]
    assert executed == ([b"a"] if name == "executes" else [])
    session = a.replica.execution.sessions.session_of(client(1))
    assert session == 65536
    assert a.replica.execution.sessions.last_number(client(1)) == (1 if answer is Reply else 0)
    assert code is None or answer is Reject


@pytest.mark.parametrize(
    ("in_log", "expected"),
    [
        (ordered(3, by=1, session=65536), RejectCode.WINDOW),
        (ordered(1, by=1, session=7), RejectCode.NO_SESSION),
    ],
)
def test_5_4_who_waits_hears_what_the_check_at_apply_decided(in_log: OrderedRequest, expected: RejectCode) -> None:
    """A request that an older primary let through is refused when applied, to whoever waits for its number."""
    log = chain(1, requests=[register_order(1)])
    log += chain(1, after=log[0], requests=[in_log])
    a = primary(log=log, commit=1)
    a.request(in_log.number, session=65536, connection=3)
    a.commit_all()
    assert codes(a, 3) == [expected]


def test_5_4_a_number_replayed_at_apply_answers_with_the_kept_reply() -> None:
    """INV-18: the same number twice in the log executes once, and whoever waits gets the first result."""
    log = chain(1, requests=[register_order(1)])
    log += chain(1, after=log[0], requests=[ordered(1, by=1, session=65536, body=b"first")])
    log += chain(1, after=log[1], requests=[ordered(1, by=1, session=65536, body=b"second")])
    a = primary(log=log, commit=1)
    a.request(1, session=65536, connection=3)
    a.ack(1, op=3)
    assert [reply.result for reply in replies(a, 3)] == [echo(b"first")]
    assert sum(len(apply.items) for apply in a.given(Apply)) == 1


def test_t_21_eviction_goes_by_the_log() -> None:
    """With the table full the least recently used session goes, at every replica alike, and is told when it asks."""
    a = primary(limits=Limits(sessions_max=2))
    first = a.register(by=1)
    second = a.register(by=2)
    a.request(1, by=1, session=first)
    a.commit_all()
    a.register(by=3)
    a.clear()
    a.request(1, by=2, session=second, connection=2)
    a.answer_heartbeat(1, round_=a.replica.reads.round)
    assert codes(a, 2) == [RejectCode.NO_SESSION]
    a.request(2, by=1, session=first, connection=1)
    a.commit_all()
    assert [reply.number for reply in replies(a, 1)] == [2]


def test_5_4_an_evicted_client_may_register_again() -> None:
    """Its id is no longer in the table: it gets another session, and starts from number 1."""
    a = primary(limits=Limits(sessions_max=1))
    first = a.register(by=1)
    a.request(1, by=1, session=first)
    a.commit_all()
    a.register(by=2)
    second = a.register(by=1)
    assert second > first
    a.clear()
    a.request(1, by=1, session=second)
    a.commit_all()
    assert [(reply.number, reply.session) for reply in replies(a)] == [(1, second)]


def test_inv_30_numbers_held_for_a_client_that_left_are_dropped() -> None:
    """What waits for an earlier number of a client that is gone would fill the queue for ever."""
    a = primary(limits=Limits(queue_requests_max=2))
    sessions = [a.register(by=by) for by in (1, 2, 3)]
    for by in (1, 2):
        a.request(2, by=by, session=sessions[by - 1], connection=by)
        a.step(Link(peer=None, connection=by, up=False))
    a.clear()
    a.request(1, by=3, session=sessions[2], connection=3)
    a.commit_all()
    assert [reply.number for reply in replies(a, 3)] == [1]


def test_inv_30_strangers_are_bounded() -> None:
    """Checks of unknown sessions wait like reads, and no more of them than of reads."""
    a = primary(limits=Limits(reads_max=2))
    for by in (1, 2, 3):
        a.request(1, by=by, session=99)
    assert codes(a) == [RejectCode.BUSY]


# --- A new view -------------------------------------------------------------------------------------------


def unopened_primary(log: list[Prepare], commit: int) -> Bench:
    """A new primary that has not yet read from its disk what was committed before its view."""
    a = Bench(disk_of(0, view=1024, log_view=0, log=log, commit=commit), auto_disk=False)
    a.held_back = (WalRead,)
    a.auto_disk = True
    a.step()
    a.complete(SuperblockWrite)
    a.hear_statement(1, statement(log, log_view=0, commit=commit))
    assert a.is_in(Status.NORMAL)
    assert a.applied == 0
    a.clear()
    return a


def test_5_4_a_new_primary_admits_once_it_has_applied_its_start() -> None:
    """Until everything committed at its start is applied, requests wait; then they are judged by the table."""
    log = chain(1, requests=[register_order(1)])
    a = unopened_primary(log, commit=1)
    a.request(1, session=65536)
    assert not a.told()
    assert a.head == 1
    a.held_back = ()
    a.complete(WalRead)
    assert a.head == 2
    a.commit_all()
    assert [reply.number for reply in replies(a)] == [1]


def test_5_4_what_came_too_early_is_refused_when_the_view_ends() -> None:
    """Requests that waited for a primary that never opened are refused, not forgotten."""
    a = unopened_primary(chain(1, requests=[register_order(1)]), commit=1)
    a.request(1, session=65536)
    a.ping(1, view=1025)
    assert codes(a) == [RejectCode.NOT_PRIMARY]


def test_5_4_a_new_primary_knows_what_is_in_flight() -> None:
    """T-20: the log it begins with tells which numbers are ordered already; a retry orders nothing."""
    log = chain(1, requests=[register_order(1)])
    log += chain(1, after=log[0], requests=[ordered(1, by=1, session=65536)])
    a = primary(log=log, commit=1)
    a.request(1, session=65536, connection=4)
    assert a.head == 2
    a.request(2, session=65536, connection=4)
    assert a.head == 3
    a.commit_all()
    assert [reply.number for reply in replies(a, 4)] == [1, 2]


def test_5_4_a_new_primary_reads_its_suffix_from_disk() -> None:
    """T-20: what is in flight is known before anything is admitted, though its bodies are on disk only."""
    log = chain(1, requests=[register_order(1)])
    log += chain(1, after=log[0], requests=[ordered(1, by=1, session=65536)])
    a = unopened_primary(log, commit=0)
    a.request(1, session=65536)
    assert a.head == 2
    a.held_back = ()
    a.complete(WalRead)
    a.ack(1, round_=1)
    a.ack(1, round_=1)
    assert a.head == 2, "ordered already"
    assert [reply.number for reply in replies(a)] == [1]


def test_5_4_a_deposed_primary_refuses_only_what_is_not_in_its_log() -> None:
    """Queued and held requests certainly have no effect; about an op in the log it says nothing."""
    a = primary(limits=Limits(pipeline_max=1))
    sessions = [a.register(by=by) for by in (1, 2)]
    a.clear()
    a.request(1, by=1, session=sessions[0], connection=1)  # In the log.
    a.request(1, by=2, session=sessions[1], connection=2)  # Queued: the pipeline is full.
    a.request(3, by=1, session=sessions[0], connection=3)  # Held: number 2 is missing.
    a.ping(1, view=1025)
    assert codes(a, 1) == []
    assert codes(a, 2) == [RejectCode.NOT_PRIMARY]
    assert codes(a, 3) == [RejectCode.NOT_PRIMARY]


def test_5_4_an_op_of_a_deposed_primary_answers_nobody_there() -> None:
    """If it commits in the new view after all, the old primary does not answer for the new one."""
    a = primary()
    session = a.register()
    a.request(1, session=session, connection=9)
    log = [a.replica.state.log.body(op) for op in (1, 2)]
    a.clear()
    bodies = [body for body in log if body is not None]
    a.hear_start_view(bodies, view=1025, base=2)
    assert a.applied == 2
    assert not a.told(9)
