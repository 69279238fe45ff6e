"""The log of the next view, rule by rule (PROTOCOL 6.3 to 6.5): stating, selecting, installing."""

from __future__ import annotations

import pytest

from tests.core.bench import GENESIS, WALL_NS, Bench, chain, disk_of, primary, statement
from tests.core.between_views import in_view_change
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    DoViewChange,
    EntryState,
    GetIds,
    GetPrepares,
    PrepareMessage,
    PrepareOk,
    StartView,
    Status,
)
from trio_pb.core.ports import SuperblockWrite, WalAppend

FAULT, NACK, PRESENT = EntryState.FAULT, EntryState.NACK, EntryState.PRESENT


# --- 6.3 Stating the log ------------------------------------------------------------------------------------


def stated(bench: Bench) -> DoViewChange:
    """The last do_view_change that it sent."""
    return bench.sent(DoViewChange)[-1]


def test_6_3_a_statement_lists_what_is_above_the_commit_point() -> None:
    """Log view, head, commit point, and each op above it."""
    log = chain(4)
    b = in_view_change(0, view=1025, log=log, commit=2)
    message = stated(b)
    assert (message.log_view, message.head, message.commit) == (1024, log[3].id, log[1].id)
    assert [(e.op, e.checksum, e.state) for e in message.entries] == [
        (3, log[2].checksum, PRESENT),
        (4, log[3].checksum, PRESENT),
    ]


def test_6_3_a_statement_is_bounded() -> None:
    """At most so many of the highest ops are listed."""
    log = chain(5)
    disk = disk_of(0, view=1025, log_view=1024, log=log)
    b = Bench(disk, limits=Limits(pipeline_max=2, entries_max=3))
    assert [entry.op for entry in stated(b).entries] == [3, 4, 5]


def test_r_nack_an_acknowledged_op_is_never_denied() -> None:
    """T-15: at or below the watermark an unreadable body is a fault, whatever the disk shows."""
    log = chain(3)
    disk = disk_of(0, view=1025, log_view=1024, log=log)
    del disk.records[log[1].id]
    assert [e.state for e in stated(Bench(disk)).entries] == [PRESENT, FAULT, PRESENT]


def test_r_nack_what_was_never_acknowledged_is_denied() -> None:
    """Above the watermark a missing body is denied; its identity is known from the install."""
    log = chain(3)
    disk = disk_of(0, view=1025, log_view=1024, log=log, installed=3, acked=1)
    del disk.records[log[1].id]
    assert [e.state for e in stated(Bench(disk)).entries] == [PRESENT, NACK, PRESENT]


def test_r_nack_the_floor_of_an_install_binds() -> None:
    """What was acknowledged before the install still is: a floor is a watermark."""
    log = chain(3)
    disk = disk_of(0, view=1025, log_view=1024, log=log, installed=3, acked=0, floor=2)
    disk.records.clear()
    assert [e.state for e in stated(Bench(disk)).entries] == [FAULT, FAULT, NACK]


def test_r_nack_a_void_proof_does_not_bind() -> None:
    """A proof of an older lineage says nothing about this log."""
    log = chain(3)
    disk = disk_of(0, view=1025, log_view=1024, log=log, installed=3, acked=3, proof_base=1 << 40)
    disk.records.clear()
    assert [e.state for e in stated(Bench(disk)).entries] == [NACK, NACK, NACK]


def test_t_34_the_watermark_does_not_fall_after_rot() -> None:
    """R-PROOF: a fault below it leaves the watermark where it is; later proofs keep it."""
    log = chain(3)
    disk = disk_of(1, log=log)
    del disk.records[log[1].id]
    b = Bench(disk)
    assert b.acked == 3
    assert {append.proof.acked for append in b.given(WalAppend) if append.proof is not None} == {3}
    assert [message.acked.op for message in b.sent(PrepareOk)] == [1], "and R-ACK waits for the repair"
    b.hear_copy(0, log[1])
    assert [message.acked.op for message in b.sent(PrepareOk)][-1] == 3


# --- 6.4 Selecting ----------------------------------------------------------------------------------------


def test_6_4_selection_needs_a_quorum_of_statements() -> None:
    """Of five, three logs are needed, our own included."""
    a = in_view_change(1, voters=5)
    a.hear_statement(0, statement([], log_view=1024))
    assert a.is_in(Status.VIEW_CHANGE)
    a.hear_statement(0, statement([], log_view=1024))
    assert a.is_in(Status.VIEW_CHANGE), "the same voter twice is one voice"
    a.hear_statement(2, statement([], log_view=1024))
    assert a.is_in(Status.NORMAL)


def test_6_4_selection_counts_no_standby_into_the_quorum() -> None:
    """INV-26: a standby's statement does not complete a quorum."""
    a = in_view_change(1, standbys=(3,))
    a.hear_statement(3, statement([], log_view=1024))
    assert a.is_in(Status.VIEW_CHANGE)


def test_6_4_selection_takes_statements_for_its_own_view_only() -> None:
    """A statement for a view that somebody else leads is none for us."""
    a = in_view_change(1, view=1025)
    a.hear_statement(0, statement([], log_view=1024), view=1024)
    assert a.is_in(Status.VIEW_CHANGE)


def test_6_4_selection_newer_statement_of_a_boot_replaces() -> None:
    """The latest statement by boot counts: an older boot's late words do not."""
    log = chain(1)
    a = in_view_change(1, voters=5)
    a.hear_statement(0, statement(log, log_view=1024), boot=7)
    a.hear_statement(0, statement([], log_view=1024), boot=6)
    a.hear_statement(2, statement([], log_view=1024))
    assert a.sent(GetPrepares, to=0)[-1].wanted == ((1, log[0].checksum),)


def test_6_4_selection_repairs_before_it_leads() -> None:
    """INV-10, T-4: every body is fetched and durable, then the image, and only then start_view."""
    log = chain(2)
    a = in_view_change(1, auto_disk=False)
    a.hear_statement(2, statement(log, log_view=1024))
    wanted = [want for message in a.sent(GetPrepares, to=2) for want in message.wanted]
    assert wanted == [(1, log[0].checksum), (2, log[1].checksum)]
    for prepare in log:
        a.hear_copy(2, prepare)
    assert not a.given(SuperblockWrite)[1:]
    assert {append.proof for append in a.given(WalAppend)} == {None}, "the old lineage's proof must not cover them"
    a.complete(WalAppend)
    assert a.is_in(Status.VIEW_CHANGE)
    a.complete(SuperblockWrite)
    assert a.is_in(Status.NORMAL)
    assert a.sent(StartView, to=2)[0].checksums == (log[0].checksum, log[1].checksum)
    assert a.replica.report().counters


def test_6_4_selection_waits_while_undecided() -> None:
    """Appendix A.4: a rotten acknowledged op with one denial waits for the third voice, then keeps it."""
    log = chain(2)
    a = in_view_change(1)
    a.hear_statement(2, statement(log, log_view=1024, states={1: FAULT}), head=2)
    assert a.counter("selection_undecided") == 1
    a.hear_statement(0, statement(log, log_view=1024))
    a.hear_copy(0, log[0])
    a.hear_copy(0, log[1])
    a.hear_copy(2, log[1])
    assert a.is_in(Status.NORMAL)
    assert a.log_ids() == [prepare.id for prepare in log]


def test_6_4_selection_all_heard_and_undecided_is_an_alarm() -> None:
    """The fault model is exceeded: it says so and waits, it does not guess."""
    log = chain(1)
    a = in_view_change(1)
    for voter in (0, 2):
        a.hear_statement(voter, statement(log, log_view=1024, states={1: FAULT}))
    assert a.counter("selection_blocked") == 1
    assert a.is_in(Status.VIEW_CHANGE)


def test_6_4_selection_a_new_statement_may_change_the_decision() -> None:
    """While it repairs, a longer log of the same log view is still taken in."""
    log = chain(2)
    a = in_view_change(1, voters=5)
    a.hear_statement(2, statement(log[:1], log_view=1024))
    a.hear_statement(3, statement(log[:1], log_view=1024))
    a.hear_statement(4, statement(log, log_view=1024))
    a.hear_copy(4, log[0])
    assert a.is_in(Status.VIEW_CHANGE)
    a.hear_copy(4, log[1])
    assert a.head == 2
    assert a.is_in(Status.NORMAL)


def test_6_4_selection_truncates_its_own_suffix() -> None:
    """The older log loses: what only we hold of log view 1023 leaves the log of the new view."""
    ours, theirs = chain(3, view=1023), chain(1, view=1024)
    a = in_view_change(1, log=ours, log_view=1023)
    a.hear_statement(2, statement(theirs, log_view=1024))
    a.hear_copy(2, theirs[0])
    assert a.log_ids() == [theirs[0].id]
    assert a.counter("truncated") == 1
    a.restart()
    assert a.log_ids() == [theirs[0].id], "and stays gone (T-19)"


def test_6_2_a_leading_primary_answers_a_statement_with_its_log() -> None:
    """Who comes late to a view that has begun gets start_view at once."""
    a = primary(log=chain(2))
    a.hear_statement(2, statement([], log_view=0))
    assert len(a.sent(StartView, to=2)) == 1


# --- 6.5 Installing ----------------------------------------------------------------------------------------


def test_6_5_install_is_one_image() -> None:
    """T-2: view, log view, log and floor become durable together; before that nothing has changed."""
    ours = chain(3)
    theirs = [*ours[:2], *chain(1, after=ours[1], view=1026, tag=b"new")]
    b = Bench(disk_of(1, log=ours))
    b.auto_disk = False
    b.hear_start_view(theirs, view=1026)
    assert (b.status, b.head) == (Status.VIEW_CHANGE, 3)
    assert b.log_ids() == [prepare.id for prepare in ours]
    image = b.given(SuperblockWrite)[-1].image
    assert (image.view, image.log_view, image.install.ack_floor, image.install.head) == (1026, 1026, 2, 3)
    b.complete(SuperblockWrite)
    assert b.is_in(Status.NORMAL)
    assert b.log_ids() == [prepare.id for prepare in theirs]


@pytest.mark.parametrize(("equal", "acked", "floor"), [(0, 3, 0), (2, 3, 2), (3, 3, 3), (3, 2, 2)])
def test_6_5_install_ack_floor_is_the_common_prefix(equal: int, acked: int, floor: int) -> None:
    """ack_floor = min(acked, common prefix): what was promised of the log that stays, no more, no less."""
    ours = chain(3, view=1024)
    after = ours[equal - 1] if equal else None
    theirs = [*ours[:equal], *chain(2, after=after, view=1026, tag=b"new")]
    b = Bench(disk_of(1, view=1026, log_view=1024, log=ours, acked=acked))
    b.hear_start_view(theirs, view=1026)
    assert b.disk.superblock.install.ack_floor == floor


def test_6_5_install_keeps_what_was_acknowledged() -> None:
    """R-ACK: the floor covers the common prefix, so it is acknowledged again in the new view without a write."""
    log = chain(2)
    b = in_view_change(0, view=1025, log=log)
    b.auto_disk = False
    b.hear_start_view(log, view=1025)
    b.complete(SuperblockWrite)
    assert [message.acked.op for message in b.sent(PrepareOk, to=1)] == [2]


def test_6_5_install_proof_base_voids_a_proof_in_flight() -> None:
    """A proof of the old lineage that arrives late proves nothing about the new log."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    old = chain(1, tag=b"old")[0]
    b.hear_prepare(old)
    late = b.given(WalAppend)[-1]
    assert late.proof is not None
    new = chain(1, view=1026, tag=b"new")
    b.hear_start_view(new, view=1026)
    b.complete(SuperblockWrite)
    assert b.is_in(Status.NORMAL)
    assert b.disk.superblock.install.proof_base >= late.proof.sequence
    b.complete(WalAppend, count=1)
    assert b.acked == 0
    b.complete(SuperblockWrite)
    b.hear_prepare(new[0])
    assert not b.sent(PrepareOk, to=2)
    b.complete()
    assert [message.acked for message in b.sent(PrepareOk, to=2)] == [new[0].id]


def test_6_5_install_new_proofs_pass_the_base() -> None:
    """The first proof of the new lineage has a higher sequence than any before."""
    log = chain(1)
    b = in_view_change(0, view=1025, log=log)
    b.hear_start_view([*log, *chain(1, after=log[0])], view=1025)
    b.hear_prepare(chain(2)[1])
    proofs = [append.proof for append in b.given(WalAppend) if append.proof is not None]
    assert proofs[-1].log_view == 1025
    assert proofs[-1].sequence > b.disk.superblock.install.proof_base


def test_6_5_install_raises_the_commit_point() -> None:
    """The base of start_view is committed, and applied where the bodies are at hand."""
    log = chain(3)
    b = in_view_change(0, view=1025, log=log)
    b.hear_start_view(log, view=1025, base=2)
    assert (b.commit, b.applied) == (2, 2)


def test_6_5_install_above_a_gap_asks_for_identities() -> None:
    """R-IDS: a base above our head leaves ops without identity; they are asked for from the top down."""
    log = chain(5)
    b = in_view_change(0, view=1025, log=log[:1], commit=1)
    b.pong(1, commit=4)
    b.clear()
    b.hear_start_view(log, view=1025, base=4)
    assert [b.checksum_at(op) for op in (2, 3)] == [None, None]
    assert b.sent(GetIds, to=1) == [GetIds(2, 4)]


def test_6_5_extend_only() -> None:
    """A start_view of the view whose log we have may add to it and never take away."""
    log = chain(3)
    b = Bench(disk_of(1, log=log[:2]))
    b.hear_start_view(log, view=1024)
    assert b.log_ids() == [prepare.id for prepare in log]
    b.hear_start_view(log[:1], view=1024)
    assert b.head == 3
    other = [log[0], *chain(4, after=log[0], tag=b"other")]
    b.hear_start_view(other, view=1024)
    assert b.log_ids() == [prepare.id for prepare in log]


def test_6_5_a_stale_or_foreign_start_view_is_ignored() -> None:
    """R-STALE; and only the primary of a view tells its log."""
    b = Bench(disk_of(1, view=1026, log_view=1024))
    b.hear_start_view(chain(1), view=1024)
    assert b.head == 0
    b.hear(0, StartView(
        base=GENESIS, checksums=(chain(1)[0].checksum,), last_timestamp=0,
        certified=statement([], log_view=0).certified,
        configuration=b.disk.superblock.configuration, pending=None, nonce=0,
    ), view=1026)  # fmt: skip
    assert b.is_in(Status.VIEW_CHANGE)


def test_6_2_an_install_in_flight_completes_beneath_a_newer_view() -> None:
    """A view entered meanwhile stays: the log is taken, its role is not, and its start_view stays unsaid."""
    log = chain(1)
    a = in_view_change(1, auto_disk=False, log=log)
    a.hear_statement(2, statement(log, log_view=1024))
    a.ping(2, view=1026)
    a.clear()
    a.complete(SuperblockWrite)
    assert (a.view, a.status) == (1026, Status.VIEW_CHANGE)
    assert a.replica.state.log_view == 1025
    assert not a.sent(StartView)
    a.complete(SuperblockWrite)
    assert stated(a).log_view == 1025


def test_inv_17_timestamps_rise_over_an_unapplied_suffix() -> None:
    """A new primary whose clock is behind goes on above the timestamps of ops that nobody has applied yet."""
    a = primary(log=chain(1, timestamp=WALL_NS + 4_000_000_000))
    a.pong(1, 2)
    a.request(0, code=1)
    made = a.sent(PrepareMessage)[-1].prepare
    assert a.applied == 0
    assert made.timestamp > WALL_NS + 4_000_000_001


def test_inv_17_a_backup_remembers_the_timestamps_that_it_appends() -> None:
    """It states them in a view change, applied or not."""
    b = Bench(disk_of(1))
    prepare = chain(1, timestamp=5000)[0]
    b.hear_prepare(prepare)
    b.ping(2, view=1026)
    assert stated(b).last_timestamp == prepare.timestamp


def test_6_4_selection_waits_for_an_older_install() -> None:
    """While the log of an earlier view is on its way into the superblock, the next view's is not chosen."""
    log = chain(1)
    b = in_view_change(1, view=1024, log_view=1023)
    b.auto_disk = False
    b.hear_start_view(log, view=1024)
    b.hear_wish(0, 1025, view=1025)
    b.hear_statement(0, statement(log, log_view=1024), view=1025)
    assert b.is_in(Status.VIEW_CHANGE)
    b.complete(SuperblockWrite, 1)
    assert b.replica.state.log_view == 1024
    b.complete()
    b.hear_copy(0, log[0])
    b.complete()
    b.complete()
    assert b.leads()
    assert b.log_ids() == [log[0].id]
