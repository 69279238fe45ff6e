"""Reads: at the primary, at backups, over failovers, and scans of one pinned state (PROTOCOL 10)."""

from __future__ import annotations

from sim.scenario import Answer, Cluster
from trio_pb.app.orders import READ, ReadCustomer, decode_record, encode_read
from trio_pb.core.messages import RejectCode

BODY = encode_read(ReadCustomer(1))


def test_deposed_primary_alone_with_its_client_answers_no_read() -> None:
    """10.1 (c): it still believes to lead, its round is echoed by nobody, and the others have gone on."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop old").expect_reply()
    c.isolate(a)
    early = c.read(via=a)
    c.run_for(5)
    assert c.replica(a).is_primary
    c.await_primary(b, other)
    c.order("laptop new").expect_reply()
    late = c.read(via=a)
    late.expect_no_reply(300)
    assert not early.is_answered
    c.heal()
    assert late.expect_reply().record.laptop_type == "laptop new"
    c.expect_same_state()


def test_paused_primary_does_not_answer_a_read_with_what_it_knew() -> None:
    """10.1 (c): echoes of an earlier round, heard after a pause, do not confirm a later read."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop old").expect_reply()
    c.pause(a)
    c.await_primary(b, other)
    c.order("laptop new").expect_reply()
    caller = c.caller()
    caller.read(a, code=READ, body=BODY)
    c.run_for(5)
    c.resume(a)
    c.run_for(50)
    assert caller.refusals(1) == [RejectCode.NOT_PRIMARY]
    assert not caller.replies(1)
    c.expect_same_state()


def test_late_echoes_do_not_confirm_a_later_read() -> None:
    """10.1 (c): a round counts only if it began after the read arrived; old echoes, repeated, do not."""
    c = Cluster()
    a, b, other = c.names
    c.order("laptop old").expect_reply()
    echoes = [c.copy(kind, dst=a) for kind in ("CommitOk", "PrepareOk")]
    c.read().expect_reply()
    c.run_for(10)
    c.pause(b, other)
    read = c.read()
    c.run_for(2)
    for echo in echoes:
        echo.release()
    read.expect_no_reply(20)
    c.resume(b, other)
    read.expect_reply()
    c.expect_same_state()


def test_backup_behind_waits_until_it_has_applied_the_read_index() -> None:
    """10.2: a backup that lacks the newest order answers when it has it, not before."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop old").expect_reply()
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=b)
    c.order("laptop new").expect_reply()
    read = c.read(via=b, here=True)
    read.expect_no_reply(50)
    c.heal()
    assert read.expect_reply().record.laptop_type == "laptop new"
    c.expect_same_state()


def test_t_38_read_index_of_an_earlier_boot_answers_nothing() -> None:
    """T-38: a late read_index_ok meets the next boot of the backup, whose tokens are others."""
    c = Cluster()
    b = c.names[1]
    c.order("laptop old").expect_reply()
    late = c.hold("ReadIndexOk", dst=b)
    c.caller().read(b, code=READ, body=BODY, here=True)
    c.run_for(5)
    assert late.letters
    c.crash(b)
    late.stop()
    c.restart(b)
    c.run_for(20)
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=b)
    c.order("laptop new").expect_reply()
    c.lose("ReadIndex", src=b)
    caller = c.caller()
    caller.read(b, code=READ, body=BODY, here=True)
    c.run_for(2)
    late.release()
    c.run_for(5)
    assert not caller.heard
    c.heal()
    c.run_until(lambda: len(caller.heard) > 0)
    assert [decode_record(reply.result).laptop_type for reply in caller.replies(1)] == ["laptop new"]


def test_backup_reads_do_not_wait_for_the_retry_timer() -> None:
    """10.2: reads that arrive while an index is asked for are asked for next, at once."""
    c = Cluster()
    b = c.names[1]
    caller = c.caller()
    asked: dict[int, float] = {}
    slowest = 0.0
    answered = 0
    for number in range(1, 101):
        asked[number] = c.now
        caller.read(b, code=READ, body=BODY, number=number, here=True)
        c.sim.scheduler.run_until(c.sim.scheduler.now + 1000)
        while answered < len(caller.heard):
            _, answer = caller.heard[answered]
            slowest = max(slowest, c.now - asked[answer.number])
            answered += 1
    c.run_for(20)
    assert len(caller.heard) == 100
    assert slowest < 2


def test_lost_read_index_is_asked_for_again() -> None:
    """10.2: the first question is lost; the read is answered after a retry."""
    c = Cluster()
    b = c.names[1]
    lost = c.lose("ReadIndex", src=b)
    read = c.read(via=b, here=True)
    read.expect_no_reply(8)
    lost.stop()
    assert read.expect_reply().ticks < 40


def test_read_of_an_op_that_cannot_exist_is_refused() -> None:
    """10: nobody holds a receipt for an op beyond the log; the read neither waits nor deposes anybody."""
    c = Cluster()
    a, b, _ = c.names
    c.order("laptop").expect_reply()
    before = c.view_changes
    caller = c.caller()
    caller.read(a, code=READ, body=BODY, number=1, min_op=1 << 40)
    caller.read(b, code=READ, body=BODY, number=2, min_op=1 << 40, here=True)
    c.run_for(1000)
    assert caller.refusals(1) == [RejectCode.BAD_REQUEST]
    assert caller.refusals(2) == [RejectCode.BAD_REQUEST]
    assert c.view_changes == before


def test_read_at_a_backup_in_the_wrong_mode_is_redirected() -> None:
    """10: only LINEARIZABLE_HERE lets a backup answer."""
    c = Cluster()
    b = c.names[1]
    caller = c.caller()
    caller.read(b, code=READ, body=BODY)
    c.run_for(5)
    assert caller.refusals(1) == [RejectCode.NOT_PRIMARY]


# --- Scans --------------------------------------------------------------------------------------------


def customers(page: Answer) -> list[int]:
    """The customers on a page."""
    return [record.customer_id for record in page.page.records]


def test_scan_goes_on_at_the_deposed_primary_that_pinned_its_state() -> None:
    """10.5: after a transfer the old primary still serves the pages of its snapshot, at their op."""
    c = Cluster()
    for customer in range(4):
        c.order("laptop before", customer=customer).expect_reply()
    first = c.scan(2).expect_reply()
    c.transfer()
    c.order("laptop after", customer=3).expect_reply()
    second = c.scan(2, after=first).expect_reply()
    assert customers(first) + customers(second) == [0, 1, 2, 3]
    assert first.operation.op == second.operation.op
    c.expect_same_state()


def test_scan_over_a_crash_of_its_replica_is_a_named_error() -> None:
    """10.5: the state that the first page pinned is gone; the client is told so, and starts again."""
    c = Cluster()
    for customer in range(4):
        c.order("laptop", customer=customer).expect_reply()
    first = c.scan(2).expect_reply()
    a = c.names[0]
    c.crash(a)
    c.await_primary()
    c.restart(a)
    assert c.scan(2, after=first).expect_failure().reason == "snapshot_gone"
    assert customers(c.scan(10).expect_reply()) == [0, 1, 2, 3]
    c.expect_same_state()
