"""Linearizable reads (PROTOCOL 10.1, 10.2, 10.5): what a read waits for, and that many share one round."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench, chain, disk_of, echo, primary, register_order, statement
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    NO_PROBE,
    Commit,
    CommitOk,
    PrepareMessage,
    ReadIndex,
    ReadIndexOk,
    Reject,
    RejectCode,
    Reply,
)
from trio_pb.core.ports import Link, Query, SuperblockWrite, WalRead


def answers(bench: Bench, connection: int | None = None) -> list[tuple[int, int]]:
    """(number, op) of each answered read."""
    return [(answer.number, answer.op) for answer in bench.told(connection) if isinstance(answer, Reply)]


def codes(bench: Bench) -> list[RejectCode]:
    """The refusals that were given."""
    return [answer.code for answer in bench.told() if isinstance(answer, Reject)]


# --- 10.1 At the primary ---------------------------------------------------------------------------------


def test_10_1_c_waits_for_a_round_that_began_after_it() -> None:
    """The read starts a round; a read quorum's echo answers it, without any disk write."""
    a = primary(auto_disk=False)
    a.read(1)
    assert a.sent(Commit)[-1].round == 1
    assert not a.told()
    a.answer_heartbeat(1, round_=1)
    assert answers(a) == [(1, 0)]
    assert not a.pending


def test_10_1_c_an_older_round_confirms_nothing() -> None:
    """A read that arrives while a round is under way waits for the next."""
    a = primary()
    a.read(1)
    a.read(2)
    a.answer_heartbeat(1, round_=1)
    assert answers(a) == [(1, 0)]
    a.answer_heartbeat(1, round_=2)
    assert answers(a) == [(1, 0), (2, 0)]


def test_10_1_c_rounds_are_shared() -> None:
    """At most one round is under way; a hundred reads that arrive meanwhile share the next one."""
    a = primary()
    a.read(0)
    a.clear()
    for number in range(1, 101):
        a.read(number)
    assert not a.sent(Commit)
    a.answer_heartbeat(1, round_=1)
    assert [message.round for message in a.sent(Commit)] == [2]
    a.answer_heartbeat(1, round_=2)
    assert len(answers(a)) == 101


def test_10_1_c_a_round_travels_with_prepares_too() -> None:
    """A prepare carries the newest round, and prepare_ok echoes it."""
    a = primary()
    session = a.register()
    a.read(1)
    a.clear()
    a.request(1, session=session)
    assert a.sent(PrepareMessage)[0].round == 1
    a.ack(1, op=1, round_=1)
    assert answers(a) == [(1, 1)]


def test_10_1_c_an_echo_of_another_view_confirms_nothing() -> None:
    """Who echoed in an older view may have promised a newer one since."""
    a = primary(view=2048)
    a.read(1)
    a.hear(1, CommitOk(1, None, GENESIS_CHECKPOINT, NO_PROBE, fit=True), view=1024)
    assert not a.told()
    a.answer_heartbeat(1, round_=1)
    assert answers(a)


def test_10_1_c_a_read_quorum_is_needed() -> None:
    """Of five, two others must echo."""
    a = primary(voters=5)
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    a.answer_heartbeat(1, round_=1)
    assert not a.told()
    a.answer_heartbeat(4, round_=1)
    assert answers(a)


def test_10_1_c_an_echo_of_a_standby_is_none() -> None:
    """INV-26: read quorums are made of voters."""
    a = primary(standbys=(3,))
    a.read(1)
    a.answer_heartbeat(3, round_=1)
    assert not a.told()


def test_10_1_a_single_replica_confirms_by_itself() -> None:
    """A cluster of one: at once."""
    a = primary(voters=1)
    a.read(1)
    assert answers(a) == [(1, 0)]


def test_10_1_b_waits_for_what_was_committed_when_it_arrived() -> None:
    """The state must show every write that was answered before the read began, though it is applied later."""
    a = unapplied_primary()
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    assert not a.told()
    a.held_back = ()
    a.complete(WalRead)
    assert answers(a) == [(1, 2)]


def unapplied_primary() -> Bench:
    """A primary that knows two ops as committed and has yet to read them from its disk."""
    log = chain(2)
    a = Bench(disk_of(0, view=1024, log_view=0, log=log, commit=2), auto_disk=False)
    a.held_back = (WalRead,)
    a.auto_disk = True
    a.complete(SuperblockWrite)
    a.hear_statement(1, statement(log, log_view=0, commit=2))
    assert (a.commit, a.applied, a.leads()) == (2, 0, True)
    a.clear()
    return a


def test_10_1_a_waits_for_everything_its_view_began_with() -> None:
    """T-10: an op of an older view may be committed without the new primary knowing; it waits for its commit."""
    a = primary(log=chain(2), commit=1)
    assert (a.commit, a.head) == (1, 2)
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    assert not a.told()
    a.ack(1)
    assert answers(a) == [(1, 2)]


def test_10_1_does_not_wait_for_later_writes() -> None:
    """What is ordered after the read began need not be seen."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(1, session=session)
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    assert answers(a) == [(1, 1)]


def test_10_1_min_op_is_waited_for() -> None:
    """A client that saw op 2 elsewhere gets nothing older."""
    a = primary()
    session = a.register()
    a.clear()
    a.request(1, session=session)
    a.read(7, min_op=2)
    a.answer_heartbeat(1, round_=1)
    assert not a.told()
    a.commit_all()
    assert (7, 2) in answers(a)


def test_10_1_min_op_beyond_the_log_is_no_receipt_of_ours() -> None:
    """Nobody can have seen an op that the confirmed primary does not have."""
    a = primary()
    a.read(7, min_op=9)
    assert codes(a) == [RejectCode.BAD_REQUEST]
    b = Bench(disk_of(1))
    b.read(8, here=True, min_op=9)
    token = b.sent(ReadIndex)[-1]
    b.hear(0, ReadIndexOk(token.boot, token.counter, 0))
    assert codes(b) == [RejectCode.BAD_REQUEST]


def test_10_1_waiting_reads_are_no_stall() -> None:
    """A read that waits for its round does not depose the primary (T_STALL is about writes)."""
    a = primary()
    a.read(1)
    for _ in range(40):
        a.run(10)
        a.pong(1, 2)
    assert not a.has_abdicated()


def test_10_1_an_abdicated_primary_answers_no_reads() -> None:
    """It lets go of reads too, for the rest of the view."""
    a = primary()
    a.read(1)
    a.run(46)
    assert a.has_abdicated()
    a.clear()
    a.answer_heartbeat(1, 2, round_=1)
    assert not a.told()
    a.read(2)
    assert codes(a) == [RejectCode.NOT_PRIMARY]


def test_10_1_a_deposed_primary_answers_no_read_from_its_old_state() -> None:
    """With the view its waiting reads end: refused, never answered."""
    a = primary()
    a.read(1)
    a.ping(1, view=1025)
    assert codes(a) == [RejectCode.NOT_PRIMARY]
    a.answer_heartbeat(1, 2, round_=1)
    assert not answers(a)


def test_10_1_reads_are_bounded() -> None:
    """INV-30: so many may wait; more are told to come again."""
    a = primary(limits=Limits(reads_max=2))
    for number in (1, 2, 3):
        a.read(number)
    assert codes(a) == [RejectCode.BUSY]


def test_10_1_a_client_that_left_is_not_answered() -> None:
    """A closed connection takes its waiting reads along."""
    a = primary()
    a.read(1, connection=4)
    a.step(Link(peer=None, connection=4, up=False))
    a.clear()
    a.answer_heartbeat(1, round_=1)
    assert not a.given(Query)


# --- 10.2 At a backup --------------------------------------------------------------------------------------


def test_10_2_a_read_here_asks_for_an_index_and_waits_until_it_is_applied() -> None:
    """The primary tells the op; the backup answers from its own state once that is applied."""
    log = chain(2)
    b = Bench(disk_of(1, log=log, commit=1))
    b.read(5, here=True)
    token = b.sent(ReadIndex, to=0)[-1]
    b.hear(0, ReadIndexOk(token.boot, token.counter, 2))
    assert not b.told()
    b.hear_heartbeat(log[1].id, commit=2)
    assert answers(b) == [(5, 2)]


def test_10_2_one_question_for_all_who_wait() -> None:
    """Reads that arrive while a question is out share the next; the answer serves all that were waiting."""
    b = Bench(disk_of(1))
    b.read(1, here=True)
    b.read(2, here=True)
    b.read(3, here=True)
    first = b.sent(ReadIndex)
    assert len(first) == 1
    b.hear(0, ReadIndexOk(first[0].boot, first[0].counter, 0))
    assert answers(b) == [(1, 0)]
    second = b.sent(ReadIndex)[-1]
    assert second.counter > first[0].counter
    b.hear(0, ReadIndexOk(second.boot, second.counter, 0))
    assert answers(b) == [(1, 0), (2, 0), (3, 0)]


def test_10_2_an_unanswered_question_is_asked_again() -> None:
    """After T_SVC, with a new token that serves everybody."""
    b = Bench(disk_of(1))
    b.read(1, here=True)
    b.run(11)
    questions = b.sent(ReadIndex)
    assert len(questions) == 2
    b.hear(0, ReadIndexOk(questions[1].boot, questions[1].counter, 0))
    assert answers(b) == [(1, 0)]


def test_t_38_a_token_of_an_earlier_boot_answers_nothing() -> None:
    """(boot, counter) is never used again, so a late answer cannot serve a newer read."""
    b = Bench(disk_of(1))
    b.read(1, here=True)
    old = b.sent(ReadIndex)[-1]
    b.restart()
    b.read(2, here=True)
    new = b.sent(ReadIndex)[-1]
    assert (old.boot, old.counter) != (new.boot, new.counter)
    b.hear(0, ReadIndexOk(old.boot, old.counter, 0))
    assert not b.told()


def test_t_38_an_answer_to_an_earlier_question_does_not_serve_a_later_read() -> None:
    """The read began after the question: its answer may be too old for it."""
    b = Bench(disk_of(1))
    b.read(1, here=True)
    token = b.sent(ReadIndex)[-1]
    b.read(2, here=True)
    b.hear(0, ReadIndexOk(token.boot, token.counter, 0))
    assert answers(b) == [(1, 0)]


def test_10_2_the_primary_answers_after_a_round() -> None:
    """Index = at least everything committed when asked and everything the view began with (T-38)."""
    a = primary(log=chain(3), commit=1)
    a.hear(1, ReadIndex(4, 9))
    assert not a.sent(ReadIndexOk)
    a.answer_heartbeat(2, round_=1)
    assert a.sent(ReadIndexOk, to=1) == [ReadIndexOk(4, 9, 3)]


def test_10_2_a_primary_of_another_view_gives_no_index() -> None:
    """Asked from an older or newer view it keeps silent."""
    a = primary(view=2048)
    a.hear(1, ReadIndex(4, 9), view=1024)
    a.answer_heartbeat(1, 2, round_=1)
    assert not a.sent(ReadIndexOk)


def test_10_2_an_ordinary_read_at_a_backup_is_refused() -> None:
    """Only a read that asks for it is answered by a backup."""
    b = Bench(disk_of(1))
    b.read(1)
    assert codes(b) == [RejectCode.NOT_PRIMARY]


def test_10_2_no_read_in_a_view_change() -> None:
    """Who neither leads nor follows says: later. Those who wait are told so too."""
    b = Bench(disk_of(1))
    b.read(1, here=True)
    b.ping(2, view=1026)
    b.read(2, here=True)
    assert codes(b) == [RejectCode.BUSY, RejectCode.BUSY]


def test_10_2_a_primary_serves_a_read_here_like_any() -> None:
    """It needs no index from anybody."""
    a = primary()
    a.read(1, here=True)
    a.answer_heartbeat(1, round_=1)
    assert answers(a) == [(1, 0)]


# --- 10.5 Scans ----------------------------------------------------------------------------------------------


def scanning() -> tuple[Bench, bytes]:
    """A primary that has given a first page, and the cursor of the next."""
    a = primary(log=chain(1, requests=[register_order(1)]), commit=1)
    a.scan_cursor = b"next"
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    first = [answer for answer in a.told() if isinstance(answer, Reply)][-1]
    return a, first.cursor


def test_10_5_a_cursor_goes_on_at_the_pinned_op() -> None:
    """The next page needs no round: its state is pinned here."""
    a, cursor = scanning()
    session = 1 << 16
    a.request(1, session=session)
    a.commit_all()
    a.clear()
    a.read(2, cursor=cursor)
    assert answers(a) == [(2, 1)], "the op of the first page"
    assert a.given(Query)[0].items[0].cursor == b"next"


@pytest.mark.parametrize("how", ["garbage", "restart", "elsewhere"])
def test_10_5_a_cursor_of_another_place_or_boot_is_gone(how: str) -> None:
    """Pages of two states are never mixed: a lost snapshot is a named refusal."""
    a, cursor = scanning()
    bench = a
    if how == "restart":
        a.restart()
    elif how == "elsewhere":
        bench = Bench(disk_of(1))
    else:
        cursor = b"\xff"
    bench.clear()
    bench.read(2, cursor=cursor)
    assert codes(bench) == [RejectCode.SNAPSHOT_GONE]


@pytest.mark.parametrize(
    ("error", "code"),
    [("snapshot_gone", RejectCode.SNAPSHOT_GONE), ("bad_request", RejectCode.BAD_REQUEST)],
)
def test_10_5_the_state_machine_may_refuse(error: str, code: RejectCode) -> None:
    """What it refuses comes to the client by name."""
    a = primary(voters=1)
    a.query_error = error
    a.read(1)
    assert codes(a) == [code]


def test_10_1_echo_is_what_the_state_machine_said() -> None:
    """The answer carries the result as it is."""
    a = primary(voters=1)
    a.read(1, body=b"who")
    assert [answer.result for answer in a.told() if isinstance(answer, Reply)] == [echo(b"who")]
