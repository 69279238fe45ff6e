"""State transfer: when the copied state may become ours (PROTOCOL 8.2, 4; T-28)."""

from __future__ import annotations

import attrs

from tests.core.bench import (
    Bench,
    DiskImage,
    Kept,
    chain,
    checkpoint_at,
    disk_of,
    id_at,
)
from tests.core.lagging import LIMITS, LOG, backup, kept_at, lag
from trio_pb.core.durable import Install as InstallRecord
from trio_pb.core.messages import (
    DoViewChange,
    Status,
)
from trio_pb.core.ports import (
    Adopt,
    Applied,
    Apply,
    CheckpointBegin,
    CheckpointFailed,
    CheckpointRetry,
    Install,
    SuperblockWrite,
    WalAppend,
)
from trio_pb.core.prepare import Prepare

# --- Installing ---------------------------------------------------------------------------------------------


def test_8_2_normal_installs_only_what_its_primary_committed() -> None:
    """8.2, 4: a certificate above any commit heard in this view may belong to a later one: wait for either."""
    kept = kept_at(16)
    b = backup()
    lag(b, kept, commit=15, wal_low=9)
    b.serve(kept)
    assert b.given(Install)
    assert not b.given(Adopt)
    b.hear_heartbeat(id_at(LOG, 16), commit=16, commit_checksum=id_at(LOG, 16).checksum)
    assert b.applied == 16


def untrusted_in(view: int, *, log: list[Prepare] = LOG, checkpoint: int = 8, ops: int = 20) -> DiskImage:
    """A replica whose state is wrong, between views: it may install whatever is certified."""
    log = list(log[:ops])
    return disk_of(1, view=view, log_view=1024, log=log, commit=9, checkpoint=checkpoint, untrusted=True)


def test_8_2_a_view_install_under_way_comes_first() -> None:
    """Two images that replace the log are never under way at once."""
    kept = kept_at(16)
    b = Bench(untrusted_in(1026), limits=LIMITS, held_back=(Install,))
    b.tell(0, 2, checkpoint=kept.id, certified=kept.id)
    b.serve(kept)
    b.held_back = (Install, SuperblockWrite)
    b.hear_start_view(LOG[:20], view=1026, base=18)
    assert b.replica.view_change.is_installing
    b.complete(Install)
    assert not b.replica.state.is_switching
    b.held_back = ()
    b.complete()
    assert (b.status, b.head, b.applied) == (Status.NORMAL, 20, 18)
    assert b.disk.superblock.install.base == id_at(LOG, 18)


def test_8_2_a_view_install_waits_for_a_switch_under_way() -> None:
    """A start_view that comes meanwhile is not taken; it is said again."""
    kept = kept_at(16)
    b = Bench(untrusted_in(1026), limits=LIMITS)
    b.held_back = (SuperblockWrite,)
    b.tell(0, 2, checkpoint=kept.id, certified=kept.id)
    b.complete(SuperblockWrite)  # The certificate.
    b.serve(kept)
    assert not b.given(Adopt)
    b.hear_start_view(LOG[:20], view=1026, base=18)
    assert not b.replica.view_change.is_installing
    b.complete(SuperblockWrite)
    assert b.applied == 16
    b.held_back = ()
    b.complete()
    b.hear_start_view(LOG[:20], view=1026, base=18)
    assert (b.status, b.applied, b.head) == (Status.NORMAL, 18, 20)


def test_8_2_another_prepare_at_the_target_begins_a_fresh_log() -> None:
    """What we hold above chains to a dead op: new install record, no Ids, acknowledged up to the target."""
    dead = [*LOG[:10], *chain(20, after=LOG[9], tag=b"dead")]
    kept = kept_at(16)
    b = Bench(disk_of(1, view=1026, log_view=1024, log=dead, commit=9), limits=LIMITS)
    assert (b.head, b.acked) == (30, 30)
    b.tell(0, 2, checkpoint=kept.id, certified=kept.id, wal_low=17)
    b.hear_heartbeat(id_at(LOG, 40), commit=40)
    force_transfer(b, kept)
    assert (b.applied, b.head, b.acked) == (16, 16, 16)
    proof = b.disk.proof
    assert proof is not None
    install = b.disk.superblock.install
    assert install == InstallRecord(base=id_at(LOG, 16), ack_floor=16, proof_base=install.proof_base)
    assert install.proof_base >= proof.sequence
    b.restart()
    assert (b.applied, b.head, b.acked) == (16, 16, 16)
    assert b.sent(DoViewChange, to=2)[-1].head == id_at(LOG, 16)


def force_transfer(b: Bench, kept: Kept) -> None:
    """Its state is found wrong, so it copies `kept`, whose op its commit point has not reached."""
    b.replica.state.is_untrusted = True
    b.tell(0, 2, checkpoint=kept.id, certified=kept.id, wal_low=17)
    b.serve(kept)


def test_8_2_acks_above_the_target_stay_valid() -> None:
    """INV-29: state that diverged is replaced; what was acknowledged above it remains so."""
    kept = checkpoint_at(LOG, 16)
    b = Bench(disk_of(1, log=LOG[:30], commit=30, checkpoint=24, certified=16, untrusted=True), limits=LIMITS)
    assert (b.acked, b.applied) == (30, 24)
    b.hear_heartbeat(id_at(LOG, 30), commit=30)
    b.tell(0, 2, checkpoint=kept.id)
    b.tick(20)
    b.serve(kept)
    assert b.given(Adopt)
    assert (b.acked, b.applied, b.head) == (30, 30, 30)
    assert [apply.op for apply in b.given(Apply)] == list(range(17, 31))
    assert not b.disk.superblock.untrusted
    b.restart()
    assert (b.acked, b.applied) == (30, 30)


def test_8_2_a_view_that_began_at_the_target_is_no_fresh_log() -> None:
    """R-PROOF: an install record with the same base and floor is not ours to void."""
    disk = disk_of(1, log=LOG[:30], commit=30, checkpoint=24, certified=16, untrusted=True)
    install = InstallRecord(base=id_at(LOG, 16), checksums=(), ack_floor=16)
    disk.superblock = attrs.evolve(disk.superblock, install=install)
    b = Bench(disk, limits=LIMITS, held_back=(WalAppend,))
    assert b.acked == 30
    b.hear_heartbeat(id_at(LOG, 30), commit=30)
    b.tell(0, 2, checkpoint=checkpoint_at(LOG, 16).id)
    b.tick(20)
    b.serve(checkpoint_at(LOG, 16))
    assert b.given(Adopt)
    assert (b.acked, b.disk.superblock.install) == (30, attrs.evolve(install, base=id_at(LOG, 24), ack_floor=24))


def test_8_2_a_lower_anchor_binds_no_less() -> None:
    """INV-29: acknowledgements that rested on a checkpoint of ours are kept when an older one replaces it."""
    disk = disk_of(1, log=LOG[:30], acked=0, commit=30, checkpoint=24, certified=16, untrusted=True)
    b = Bench(disk, limits=LIMITS, held_back=(WalAppend,))
    assert b.acked == 24
    b.hear_heartbeat(id_at(LOG, 30), commit=30)
    b.tell(0, 2, checkpoint=checkpoint_at(LOG, 16).id)
    b.tick(20)
    b.serve(checkpoint_at(LOG, 16))
    assert (b.acked, b.disk.superblock.install.ack_floor) == (24, 24)


def test_8_2_nothing_applied_is_ever_undone() -> None:
    """INV-14: the log overtook the target while it was copied; a newer certificate is the target then."""
    b = backup(ops=4, held_back=(Install,))
    lag(b, checkpoint_at(LOG, 8), commit=60)
    b.serve(checkpoint_at(LOG, 8))
    b.tell(0, 2, checkpoint=checkpoint_at(LOG, 40).id, certified=checkpoint_at(LOG, 40).id)
    for prepare in LOG[4:20]:
        b.hear_copy(0, prepare, is_current=True)
    assert b.applied == 20
    b.complete(Install)
    assert not b.given(Adopt)
    b.held_back = ()
    b.serve(checkpoint_at(LOG, 40))
    assert [it.target.op for it in b.given(Adopt)] == [40]


def test_8_2_a_checkpoint_in_progress_is_void_after_a_switch() -> None:
    """One at a time in the world; what comes of the old one is not ours any more."""
    b = Bench(disk_of(1, log=LOG[:9], commit=9), limits=LIMITS, held_back=(CheckpointBegin,))
    assert [it.state.op for it in b.given(CheckpointBegin)] == [8]
    kept = kept_at(32)
    b.tell(0, 2)
    lag(b, kept)
    b.serve(kept)
    assert (b.applied, b.disk.superblock.checkpoint) == (32, kept.id)
    for prepare in LOG[32:50]:
        b.hear_copy(0, prepare, is_current=True)
    b.hear_heartbeat(id_at(LOG, 50), commit=50)
    assert [it.state.op for it in b.given(CheckpointBegin)] == [8]
    assert b.applied == 40
    b.complete(CheckpointBegin)
    assert b.disk.superblock.checkpoint == kept.id
    assert [it.state.op for it in b.given(CheckpointBegin)] == [8, 40]
    b.complete(CheckpointBegin)
    assert b.disk.superblock.checkpoint.op == 40


def test_8_2_a_checkpoint_that_fails_after_a_switch_is_not_missed() -> None:
    """Nothing is tried again, and nobody is unfit for it."""
    b = Bench(disk_of(1, log=LOG[:9], commit=9), limits=LIMITS, held_back=(CheckpointBegin,))
    b.tell(0, 2)
    lag(b, kept_at(32))
    b.serve(kept_at(32))
    b.step(CheckpointFailed(8))
    assert b.is_fit()
    b.tick(500)
    assert not b.given(CheckpointRetry)


def test_8_2_in_a_new_view_only_what_its_primary_told_counts() -> None:
    """The base of its start_view, then its commit points."""
    kept = kept_at(16)
    b = Bench(untrusted_in(1026), limits=LIMITS)
    b.hear_start_view(LOG[:20], view=1026, base=10, certified=kept.id)
    b.tell(0, 2, checkpoint=kept.id)
    b.tick(20)
    b.serve(kept)
    assert b.given(Install)
    assert not b.given(Adopt)
    b.hear_heartbeat(id_at(LOG, 20), commit=16)
    assert b.given(Adopt)


def test_8_2_a_checkpoint_that_ends_while_a_switch_is_written_does_not_undo_it() -> None:
    """The image of the switch is the last word."""
    b = Bench(disk_of(1, log=LOG[:9], commit=9), limits=LIMITS, held_back=(CheckpointBegin,))
    kept = kept_at(32)
    b.tell(0, 2)
    lag(b, kept)
    b.held_back = (CheckpointBegin, SuperblockWrite)
    b.serve(kept)
    b.complete(CheckpointBegin)
    b.held_back = ()
    b.complete()
    assert (b.applied, b.disk.superblock.checkpoint) == (32, kept.id)


def test_8_2_adopt_waits_for_results_that_are_due() -> None:
    """Ops given to the old state are computed before it is replaced."""
    kept = kept_at(32)
    b = Bench(disk_of(1, log=LOG[:4], commit=3), limits=LIMITS, held_back=(SuperblockWrite,))
    b.complete(SuperblockWrite)
    b.tell(0, 2)
    b.late_results = True
    b.hear_heartbeat(id_at(LOG, 4), commit=4)
    assert b.replica.state.applying == 4
    lag(b, kept)
    b.serve(kept)
    b.complete(SuperblockWrite)
    b.complete(SuperblockWrite)
    assert not b.given(Adopt)
    b.late_results = False
    b.step(Applied(4, ()))
    assert b.given(Adopt)
    assert b.applied == 32
