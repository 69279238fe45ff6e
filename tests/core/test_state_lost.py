"""What a replica does, and may not do, without a state of its own (PROTOCOL 7.1, 8.2)."""

from __future__ import annotations

import attrs

from tests.core.bench import (
    GENESIS,
    Bench,
    DiskImage,
    checkpoint_at,
    disk_of,
    id_at,
    statement,
)
from tests.core.lagging import LIMITS, LOG, backup, is_syncing, kept_at, lag
from trio_pb.core.durable import Install
from trio_pb.core.messages import (
    CommitOk,
    DoViewChange,
    GetIds,
    GetPrepares,
    Ids,
    Reject,
    RejectCode,
    StartViewChange,
    Status,
    ViewChangeReason,
)
from trio_pb.core.ports import (
    Apply,
    Fatal,
    Trace,
    WalAppend,
)

# --- While syncing --------------------------------------------------------------------------------------------


def test_8_2_a_syncing_replica_votes() -> None:
    """Its log promises are intact: it states its log for a new view, and says that it is not fit."""
    b = backup(ops=4)
    lag(b, kept_at(16))
    assert is_syncing(b)
    b.hear_wish(0, 1026)
    b.hear_wish(2, 1026)
    said = b.sent(DoViewChange, to=2)
    assert [(message.log_view, message.head) for message in said] == [(1024, id_at(LOG, 4))]
    assert not b.is_fit()


def test_6_4_a_syncing_primary_forfeits() -> None:
    """T-27: it wishes for the next view instead, and does not stand for a while."""
    b = backup(ops=4)
    lag(b, kept_at(16))
    b.hear_wish(0, 1025)
    b.hear_wish(2, 1025)
    b.hear_statement(2, statement(LOG[:40], log_view=1024, commit=40))
    assert b.is_in(Status.VIEW_CHANGE)
    wish = b.sent(StartViewChange)[-1]
    assert (wish.target, wish.reason) == (1026, ViewChangeReason.FORFEIT)
    assert b.replica.report().unfit == ("forfeit", "syncing")
    assert b.traced("forfeited") == 1
    b.run(30)
    assert b.traced("forfeited") == 1
    b.hear_start_view(LOG[:40], view=1026, base=40, certified=kept_at(16).id)
    b.serve(kept_at(16))
    assert b.replica.report().unfit == ("forfeit",)
    b.run(480)
    assert b.is_fit()


def test_6_4_a_primary_that_needs_a_freed_op_forfeits() -> None:
    """Below every wal_low stated it would need a state transfer; one that has it is enough not to."""
    for low, forfeits in ((6, True), (5, False)):
        b = Bench(disk_of(1, view=1025, log_view=1024, log=LOG[:4], commit=4), limits=LIMITS)
        said = attrs.evolve(statement(LOG[:30], log_view=1024, commit=28), wal_low=low)
        b.hear_statement(2, said)
        assert (b.traced("forfeited") == 1) is forfeits


def test_10_2_a_syncing_backup_refuses_reads() -> None:
    """Its state is old, and will jump."""
    b = backup(ops=4)
    lag(b, kept_at(16))
    b.clear()
    b.read(1, here=True)
    assert [answer.code for answer in b.told() if isinstance(answer, Reject)] == [RejectCode.BUSY]


def test_8_1_identities_are_asked_of_those_who_have_them() -> None:
    """R-IDS: a peer whose log begins above them cannot tell; after the transfer nothing below is needed."""
    b = backup(ops=4)
    b.tell(0, 2, checkpoint=kept_at(16).id, wal_low=17, commit=40)
    b.hear_start_view(LOG[:40], view=1026, base=30, certified=kept_at(16).id)
    assert b.sent(GetIds) == [GetIds(5, 30)]
    b.hear(asked_peer(b), ids_of(17, 30), commit=40)
    b.run(30)
    assert all(message.high > 17 for message in b.sent(GetIds))
    b.tell(0, 2, checkpoint=kept_at(16).id, wal_low=17, commit=40)
    b.serve(kept_at(16))
    assert (b.applied, b.head) == (16, 40)


def asked_peer(b: Bench) -> int:
    """Whom it asked for identities last."""
    return b.given_to(GetIds)[-1]


def ids_of(low: int, high: int) -> Ids:
    """The identities of low..high of LOG."""
    return Ids(low, tuple(prepare.checksum for prepare in LOG[low - 1 : high]))


def test_6_5_a_start_view_that_begins_below_our_log() -> None:
    """Its base was let go of here: both agree about it, and what comes after is taken."""
    disk = disk_of(1, view=1026, log_view=1024, log=LOG[:20], commit=20, checkpoint=16, certified=16, freed=16)
    b = Bench(disk, limits=LIMITS)
    assert b.replica.report().wal_low == 17
    b.hear_start_view(LOG[:30], view=1026, base=5)
    assert (b.status, b.head, b.commit) == (Status.NORMAL, 30, 20)
    assert b.log_ids_above() == [prepare.id for prepare in LOG[16:30]]
    b.restart()
    assert (b.head, b.replica.report().wal_low) == (30, 17)


def test_6_5_a_start_view_that_ends_below_our_state_came_to_nothing() -> None:
    """A later view has committed beyond it: what it says is not taken."""
    disk = disk_of(1, view=1026, log_view=1024, log=LOG[:16], commit=16, checkpoint=16, certified=16, freed=16)
    b = Bench(disk, limits=LIMITS)
    b.hear_start_view(LOG[:10], view=1026, base=5)
    assert (b.status, b.head) == (Status.VIEW_CHANGE, 16)


def test_6_3_nothing_below_the_log_is_stated() -> None:
    """A freed op is committed: it is neither denied nor called a fault, whatever the commit point known."""
    disk = disk_of(1, log=LOG[:20], commit=20, checkpoint=16, certified=8)
    b = Bench(disk, limits=LIMITS)
    b.hear_heartbeat(id_at(LOG, 20), commit=20)
    b.tell(0, 2, checkpoint=checkpoint_at(LOG, 16).id)
    assert b.replica.report().wal_low == 9
    b.hear_wish(0, 1026)
    b.hear_wish(2, 1026)
    said = b.sent(DoViewChange, to=2)[-1]
    assert said.wal_low == 9
    assert said.commit == id_at(LOG, 20)
    assert said.entries == ()


def test_6_3_a_commit_point_without_identity_hides_nothing_that_was_freed() -> None:
    """Known to be far ahead, but not which prepare it is: what was freed is the commit point stated then."""
    b = Bench(disk_of(1), limits=LIMITS)
    b.hear_heartbeat(GENESIS, commit=60)
    for prepare in LOG[:17]:
        b.hear_prepare(prepare)
    b.tell(2, checkpoint=checkpoint_at(LOG, 8).id)
    b.tell(2, checkpoint=checkpoint_at(LOG, 16).id)
    assert (b.applied, b.replica.report().wal_low) == (17, 9)
    b.hear_wish(0, 1026)
    b.hear_wish(2, 1026)
    said = b.sent(DoViewChange, to=2)[-1]
    assert said.commit == id_at(LOG, 8)
    assert [entry.op for entry in said.entries] == list(range(9, 18))


# --- Lost state ----------------------------------------------------------------------------------------------


def lost(*, certified: int = 16, checkpoint: int = 16, voters: int = 3) -> DiskImage:
    """A disk whose checkpoints do not load."""
    disk = disk_of(
        1 if voters > 1 else 0,
        voters=voters,
        log=LOG[:20],
        commit=20,
        checkpoint=checkpoint,
        certified=certified,
        freed=8,
    )  # fmt: skip
    disk.chunks.clear()
    return disk


def test_7_1_lost_state_is_copied() -> None:
    """R-SCAN 1: no checkpoint loads: log voting still allowed, nothing applied, not fit to lead."""
    b = Bench(lost(), limits=LIMITS)
    assert b.traced("state_lost") == 1
    assert (b.head, b.acked, b.applied, b.is_fit()) == (20, 20, 0, False)
    b.hear_heartbeat(id_at(LOG, 20), commit=20)
    assert b.sent(CommitOk)[-1].acked == id_at(LOG, 20)
    assert b.sent(CommitOk)[-1].checkpoint.op == 0
    assert not b.given(Apply)
    b.tell(0, 2, checkpoint=checkpoint_at(LOG, 16).id)
    b.tick(20)
    b.serve(checkpoint_at(LOG, 16))
    assert (b.applied, b.head, b.acked, b.is_fit()) == (20, 20, 20, True)


def test_7_1_the_certified_checkpoint_is_the_second_choice() -> None:
    """Our own newest does not load, the certified one does: the log is replayed from there."""
    disk = lost(checkpoint=16, certified=8)
    disk.chunks.update(checkpoint_at(LOG, 8).chunks)
    b = Bench(disk, limits=LIMITS)
    assert (b.applied, b.head, b.acked) == (20, 20, 20)
    assert b.given(Apply)[0].op == 9
    assert b.is_fit()
    superblock = b.disk.superblock
    assert superblock.checkpoint.op == 16  # Made again on the way, the same as before.
    assert superblock.checkpoint == checkpoint_at(LOG, 16).id


def test_7_1_the_second_choice_binds_no_less() -> None:
    """INV-29, INV-4: what rested on the newer checkpoint stays committed and acknowledged."""
    disk = disk_of(1, log=LOG[:20], acked=0, checkpoint=16, certified=8)
    disk.chunks = dict(checkpoint_at(LOG, 8).chunks)
    b = Bench(disk, limits=LIMITS, held_back=(WalAppend,))
    assert (b.acked, b.commit, b.disk.superblock.install.ack_floor) == (16, 16, 16)


def test_7_1_what_the_checkpoint_holds_is_not_written_again() -> None:
    """R-SCAN 6 is about ops that it does not cover."""
    b = Bench(disk_of(1, log=LOG[:20], acked=10, commit=16, checkpoint=16, certified=16), limits=LIMITS)
    assert [prepare.op for append in b.given(WalAppend) for prepare in append.prepares] == [17, 18, 19, 20]


def test_7_1_alone_with_a_lost_checkpoint_is_fatal() -> None:
    """N = 1: nobody has it."""
    b = Bench(lost(voters=1), limits=LIMITS)
    assert [it.code for it in b.given(Fatal)] == ["unrecoverable"]


def faults(b: Bench) -> int:
    """How many faults its restart found."""
    (found,) = [output for output in b.given(Trace) if output.event == "recovered"]
    return dict(found.fields)["faults"]


def test_7_1_below_the_checkpoint_a_hole_ends_what_we_serve() -> None:
    """Not a fault: only ops above the checkpoint are needed."""
    disk = disk_of(1, log=LOG[:20], commit=20, checkpoint=16, certified=16)
    del disk.records[id_at(LOG, 5)]
    b = Bench(disk, limits=LIMITS)
    assert b.replica.report().wal_low == 6
    assert faults(b) == 0
    del disk.records[id_at(LOG, 18)]
    b = Bench(disk, limits=LIMITS)
    assert faults(b) == 1
    b.tell(0, 2)
    assert b.sent(GetPrepares)[-1].wanted == ((18, LOG[17].checksum),)


def test_7_1_the_second_choice_survives_another_restart() -> None:
    """Own checkpoint, proofs and newest records gone; the process dies again before anybody was heard."""
    disk = disk_of(1, log=LOG[:30], commit=20, checkpoint=16, certified=8)
    disk.proof = None
    del disk.chunks[checkpoint_at(LOG, 16).id.digest]
    for op in range(12, 31):
        disk.records.pop(id_at(LOG, op), None)
    b = Bench(disk, limits=LIMITS)
    b.restart()
    assert (b.status, b.head) == (Status.AMNESIAC, 16)


def test_8_1_an_older_checkpoint_leaves_what_a_view_began_with() -> None:
    """The view began above the newest checkpoint, which is damaged: its identities stay those of their ops."""
    disk = disk_of(1, log=LOG[:24], commit=24, checkpoint=16, certified=8)
    checksums = tuple(prepare.checksum for prepare in LOG[20:24])
    install = Install(base=id_at(LOG, 20), checksums=checksums)
    disk.superblock = attrs.evolve(disk.superblock, install=install)
    del disk.chunks[checkpoint_at(LOG, 16).id.digest]
    b = Bench(disk, limits=LIMITS)
    assert b.traced("checkpoint_lost") == 1
    assert b.disk.superblock.install == attrs.evolve(install, ack_floor=16)
    b.restart()
    assert b.log_ids_above()[-4:] == [prepare.id for prepare in LOG[20:24]]


# --- Before the first certificate -----------------------------------------------------------------------------


def test_7_1_a_checkpoint_that_nobody_certified_is_not_missed() -> None:
    """We have freed nothing yet: the log is executed once more, and the promises stay."""
    disk = disk_of(1, log=LOG[:20], commit=20, checkpoint=16)
    disk.chunks.clear()
    b = Bench(disk, limits=LIMITS)
    assert b.applied == b.acked == 20
    assert b.is_fit()
    assert b.traced("checkpoint_lost") == 1
    assert [apply.op for apply in b.given(Apply)] == list(range(1, 21))
    b.disk.proof = None  # Should it be lost as well, what the checkpoint bound us to binds us still.
    assert b.disk.superblock.install.ack_floor == 16
    gone = disk_of(1, log=LOG[:20], commit=20, checkpoint=16, certified=8)
    gone.chunks.clear()
    assert not Bench(gone, limits=LIMITS).is_fit()
