"""Upkeep of the disk: scrubbing, space, and what a damaged record or chunk leads to (PROTOCOL 7.5)."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench, chain, checkpoint_at, disk_of, primary
from trio_pb.core.config import Limits
from trio_pb.core.manifest import Chunk
from trio_pb.core.messages import (
    CODE_REGISTER,
    GetChunk,
    GetPrepares,
    PrepareOk,
    Reject,
    RejectCode,
    Reply,
)
from trio_pb.core.ports import (
    ChunkPut,
    Fatal,
    Scrub,
    Scrubbed,
    Space,
    SpaceCheck,
    SuperblockWrite,
    WalAppend,
)

LIMITS = Limits(checkpoint_interval_ops=8, wal_ops=32, probe_interval_ops=4)
LOG = chain(30)


def backup(*, checkpoint: int = 0, certified: int = 0) -> Bench:
    """A backup that holds 20 ops, and hears two living peers."""
    b = Bench(disk_of(1, log=LOG[:20], commit=20, checkpoint=checkpoint, certified=certified), limits=LIMITS)
    b.tell(0, 2)
    b.clear()
    return b


def forget_bodies(b: Bench) -> None:
    """Hold on disk alone what is durable."""
    b.replica.state.log.drop_bodies(b.head)


# --- Scrubbing --------------------------------------------------------------------------------------------


def test_7_5_a_slice_at_a_time() -> None:
    """Once a second, and never a second slice before the first was read."""
    b = backup()
    b.run(99)
    assert not b.given(Scrub)
    b.run(101)
    assert len(b.given(Scrub)) == 1
    b.step(Scrubbed(is_round_done=True))
    b.run(100)
    assert len(b.given(Scrub)) == 2
    assert b.counter("scrub_rounds") == 1


def test_7_5_a_damaged_record_is_fetched_from_peers() -> None:
    """A fault like any other: the watermark stays (T-34), acks wait, and the body is written anew."""
    b = backup()
    forget_bodies(b)
    b.disk.records.pop(LOG[17].id)
    b.step(Scrubbed(records=(LOG[17].id,)))
    assert b.acked == 20
    assert b.sent(GetPrepares)[-1].wanted == ((18, LOG[17].checksum),)
    b.hear_copy(0, LOG[17])
    assert LOG[17].id in b.disk.records


@pytest.mark.parametrize("voters", [1, 3])
def test_7_5_a_record_that_is_still_in_memory_is_written_again(voters: int) -> None:
    """Nobody else needs to have it: a single replica goes on as well."""
    b = Bench(disk_of(0 if voters == 1 else 1, voters=voters, log=LOG[:20], commit=20), limits=LIMITS)
    b.disk.records.pop(LOG[17].id)
    b.clear()
    b.step(Scrubbed(records=(LOG[17].id,)))
    assert not b.given(Fatal)
    assert not b.sent(GetPrepares)
    assert LOG[17].id in b.disk.records
    assert b.acked == 20


def test_8_1_a_record_below_the_checkpoint_is_not_needed() -> None:
    """Needs are ops above the checkpoint: what stands below a damaged one is not served any more, that is all."""
    b = backup(checkpoint=16, certified=16)
    assert b.replica.report().wal_low == 1
    b.step(Scrubbed(records=(LOG[9].id,)))
    assert b.replica.report().wal_low == 11
    assert not b.sent(GetPrepares)
    assert b.traced("record_lost") == 0
    b.hear_prepare(LOG[20])
    assert b.acked == 21


def test_8_1_a_record_above_the_certified_checkpoint_is_needed() -> None:
    """Our own checkpoint may yet turn out wrong or be lost: the replay would begin at the certified one."""
    b = backup(checkpoint=16, certified=8)
    b.step(Scrubbed(records=(LOG[11].id,)))
    assert b.sent(GetPrepares)[-1].wanted == ((12, LOG[11].checksum),)


def test_7_5_a_freed_record_is_not_lost() -> None:
    """Scrubbing may report what was collected meanwhile: nobody asks for it, and alone it is no disaster."""
    b = backup(checkpoint=16, certified=16)
    b.step(Scrubbed(records=(LOG[15].id,)))
    b.clear()
    b.step(Scrubbed(records=(LOG[9].id,)))
    assert not b.sent(GetPrepares)
    a = Bench(disk_of(0, voters=1, log=LOG[:20], commit=20, checkpoint=16, certified=16, freed=12), limits=LIMITS)
    a.step(Scrubbed(records=(LOG[9].id, LOG[14].id)))
    assert not a.given(Fatal)
    forget_bodies(a)
    a.step(Scrubbed(records=(LOG[17].id,)))
    assert [it.code for it in a.given(Fatal)] == ["unrecoverable"]


def test_7_5_a_damaged_chunk_is_fetched_from_peers() -> None:
    """By the way of state transfer, its digest verified; nothing else is disturbed."""
    b = backup(checkpoint=16, certified=16)
    kept = checkpoint_at(LOG, 16)
    b.tell(0, 2, checkpoint=kept.id)
    digest, data = max(kept.chunks.items(), key=lambda it: len(it[1]))
    del b.disk.chunks[digest]
    b.step(Scrubbed(chunks=(Chunk(0, digest, len(data)),)))
    assert b.sent(GetChunk)[-1].digest == digest
    b.serve(kept)
    assert b.disk.chunks[digest] == data
    assert [put.digest for put in b.given(ChunkPut)] == [digest]
    assert b.is_fit()


def test_8_2_a_damaged_chunk_that_nobody_has_delays_no_transfer() -> None:
    """It waits until the transfer is done."""
    b = backup()
    kept = checkpoint_at(LOG, 24)
    b.tell(0, 2, checkpoint=kept.id, certified=kept.id, wal_low=25)
    b.hear_heartbeat(LOG[29].id, commit=30, commit_checksum=LOG[29].checksum)
    b.step(Scrubbed(chunks=(Chunk(3, b"n" * 32, 50),)))
    for _ in range(3):
        b.serve(kept)
        b.tick(20)
    assert b.applied == 24


def test_7_5_damaged_copies_of_proof_and_superblock_are_written_again() -> None:
    """The watermark stays, the image stays; only their copies are made good."""
    b = backup()
    b.step(Scrubbed(proofs=True))
    (append,) = b.given(WalAppend)
    assert append.proof is not None
    assert (append.prepares, append.proof.acked) == ((), 20)
    before = b.disk.superblock
    b.step(Scrubbed(superblock=True))
    assert [write.image for write in b.given(SuperblockWrite)] == [before]


# --- Space ------------------------------------------------------------------------------------------------


def full_primary() -> tuple[Bench, int]:
    """A primary whose disk is full, and the session of a client with one kept reply."""
    a = primary()
    session = a.register()
    a.request(1, session=session)
    a.commit_all()
    a.clear()
    a.step(Space(is_full=True))
    return a, session


def test_7_5_a_full_disk_refuses_what_is_new() -> None:
    """disk_full is a definite refusal; what was executed is answered as ever."""
    a, session = full_primary()
    a.request(2, session=session)
    (refused,) = a.told()
    assert isinstance(refused, Reject)
    assert (refused.code, refused.number) == (RejectCode.DISK_FULL, 2)
    a.clear()
    a.request(1, session=session)
    (kept,) = a.told()
    assert isinstance(kept, Reply)
    assert (kept.number, kept.replayed) == (1, True)
    head = a.head
    a.request(0, by=5, code=CODE_REGISTER)
    assert a.head == head


def test_7_5_a_full_disk_makes_unfit_and_is_looked_at_again() -> None:
    """Every second; space makes all well."""
    a, session = full_primary()
    assert not a.is_fit()
    a.answer_heartbeat(1, 2)
    a.run(99)
    assert not a.given(SpaceCheck)
    a.tick()
    assert len(a.given(SpaceCheck)) == 1
    a.step(Space(is_full=True))
    a.run(30)
    a.step(Space(is_full=True))  # An append found no room either: no reason to look later.
    a.run(70)
    assert len(a.given(SpaceCheck)) == 2
    a.step(Space(is_full=False))
    assert a.is_fit()
    a.clear()
    a.run(300)
    assert not a.given(SpaceCheck)
    assert session


def test_7_5_space_makes_a_primary_take_requests_again() -> None:
    """It did not have to let go."""
    a, session = full_primary()
    a.step(Space(is_full=False))
    a.request(2, session=session)
    a.commit_all()
    assert isinstance(a.told()[-1], Reply)


def test_6_1_a_primary_that_stays_full_lets_a_fit_one_lead() -> None:
    """T-40: as long as somebody else could; else it stays."""
    for has_others in (True, False):
        a, _ = full_primary()
        for _ in range(15):
            if has_others:
                a.pong(1, 2)
            a.answer_heartbeat(1, 2)
            a.run(10)
        assert a.has_abdicated() is has_others


def test_7_5_a_full_backup_acknowledges_what_it_has_room_for() -> None:
    """Segments are there before they are needed: no space is no reason to fall silent."""
    b = backup()
    b.step(Space(is_full=True))
    b.hear_prepare(LOG[20])
    assert b.acked == 21
    assert b.sent(PrepareOk)[-1].acked == LOG[20].id
