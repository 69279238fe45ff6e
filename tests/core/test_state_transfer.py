"""State transfer: when it begins, how chunks are fetched and served (PROTOCOL 8.2)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.bench import (
    GENESIS,
    Bench,
    checkpoint_at,
    disk_of,
    id_at,
    primary,
    probe_at,
)
from tests.core.lagging import LIMITS, LOG, ROWS, backup, first_chunk, is_syncing, kept_at, lag, large
from trio_pb.core.config import Timeouts
from trio_pb.core.manifest import Chunk, chunk_digest
from trio_pb.core.messages import (
    CheckpointId,
    ChunkPiece,
    CommitOk,
    GetChunk,
    GetPrepares,
    Gone,
    PrepareOk,
    Probe,
)
from trio_pb.core.ports import (
    Adopt,
    ChunkPut,
    ChunkRead,
    Collect,
    Install,
    Scrubbed,
    Send,
    SuperblockWrite,
    SyncBegin,
)

# --- Triggers ---------------------------------------------------------------------------------------------


def test_8_2_an_op_that_nobody_has_any_more() -> None:
    """The first op that we need is below wal_low of every living peer."""
    b = backup(ops=4)
    lag(b, kept_at(16), commit=20, wal_low=9)
    assert is_syncing(b)
    assert first_chunk(b) == GetChunk(kept_at(16).id.digest, 0, LIMITS.chunk_piece_max)


def test_8_2_an_op_that_somebody_has_is_pulled() -> None:
    """One peer still serves it: the log will do."""
    b = backup(ops=4)
    b.tell(0, checkpoint=kept_at(16).id, wal_low=5)
    b.tell(2, checkpoint=kept_at(16).id, wal_low=9)
    b.hear_heartbeat(id_at(LOG, 20), commit=20, certified=kept_at(16).id)
    assert not is_syncing(b)
    assert b.sent(GetPrepares)


def test_8_2_whoever_lacks_an_op_itself_does_not_have_it() -> None:
    """Its log may go far back: what it has not executed it does not hold for us."""
    b = backup(ops=4)
    b.hear_heartbeat(id_at(LOG, 20), commit=20, certified=kept_at(16).id)
    b.tell(0, checkpoint=kept_at(16).id, wal_low=9, applied=20)
    b.tell(2, checkpoint=kept_at(16).id, wal_low=1, applied=4)
    assert is_syncing(b)


def test_8_2_an_op_that_the_primary_cannot_name_any_more() -> None:
    """Above our head only the primary names ops; that another still has the record helps nobody."""
    b = backup(ops=4)
    kept = kept_at(16)
    b.tell(0, checkpoint=kept.id, wal_low=9)
    b.tell(2, checkpoint=kept.id, wal_low=1)
    b.hear_heartbeat(id_at(LOG, 20), commit=20, commit_checksum=id_at(LOG, 20).checksum, certified=kept.id)
    assert is_syncing(b)


def test_8_2_the_dead_do_not_count_as_sources() -> None:
    """Who has not answered for long serves nobody."""
    b = backup(ops=4)
    b.tell(0, checkpoint=kept_at(16).id, wal_low=5)
    b.run(51)
    b.tell(2, checkpoint=kept_at(16).id, wal_low=9, applied=20)
    b.hear_heartbeat(id_at(LOG, 20), commit=20, certified=kept_at(16).id)
    assert is_syncing(b)


def test_8_2_a_lag_of_more_than_two_intervals() -> None:
    """Even though the log could be pulled; unless the certified state is no newer than ours."""
    b = backup(ops=4)
    lag(b, kept_at(16), commit=20, wal_low=1)
    assert not is_syncing(b)
    lag(b, kept_at(16), commit=21, wal_low=1)
    assert is_syncing(b)
    b = backup(ops=17)
    lag(b, checkpoint_at(LOG, 16), commit=40, wal_low=1)
    assert not is_syncing(b)


def test_8_2_without_a_certificate_there_is_nothing_to_copy() -> None:
    """However far behind we are."""
    b = backup()
    b.hear_heartbeat(id_at(LOG, 40), commit=40)
    assert not is_syncing(b)
    assert not b.sent(GetChunk)


def test_8_2_state_that_diverged_is_replaced() -> None:
    """Whatever the log could tell."""
    b = backup(ops=9)
    b.tell(0, 2, checkpoint=CheckpointId(8, b"w" * 32))
    assert is_syncing(b)
    assert first_chunk(b).digest == b"w" * 32


def test_8_2_the_log_may_get_there_first() -> None:
    """When what was missing arrives after all, the transfer ends and nothing of it is adopted."""
    b = backup(ops=4)
    lag(b, checkpoint_at(LOG, 16), commit=21, wal_low=1)
    assert is_syncing(b)
    for prepare in LOG[4:21]:
        b.hear_copy(0, prepare, is_current=True)
    assert (b.applied, is_syncing(b)) == (21, False)
    assert b.is_fit()
    b.serve(checkpoint_at(LOG, 16))
    assert not b.given(Adopt)


# --- Fetching ---------------------------------------------------------------------------------------------


def test_8_2_a_lagging_replica_takes_over_the_certified_state() -> None:
    """Appendix A.5: manifest, chunks, install, one image, adopt; then the log goes on from there."""
    b = backup(ops=4)
    kept = kept_at(16)
    lag(b, kept)
    assert b.replica.report().unfit == ("syncing",)
    b.serve(kept)
    order = [type(it) for it in b.outputs if isinstance(it, SyncBegin | ChunkPut | Install | Adopt)]
    assert order == [SyncBegin, ChunkPut, ChunkPut, Install, Adopt]
    assert (b.applied, b.head, b.acked, b.commit) == (16, 16, 16, 40)
    assert b.replica.report().wal_low == 17
    superblock = b.disk.superblock
    assert (superblock.checkpoint, superblock.certified, superblock.anchor) == (kept.id, kept.id, id_at(LOG, 16))
    assert superblock.install.base == GENESIS
    assert b.replica.execution.sessions.rows() == ROWS
    assert b.is_fit()
    b.clear()
    b.hear_heartbeat(id_at(LOG, 40), commit=40, certified=kept.id)
    assert b.sent(CommitOk)[-1].acked == id_at(LOG, 16)
    assert b.sent(CommitOk)[-1].checkpoint == kept.id
    for prepare in LOG[16:40]:
        b.hear_copy(0, prepare, is_current=True)
    assert (b.applied, b.replica.execution.rolling_probe) == (40, probe_at(LOG, 40))
    assert b.sent(PrepareOk)[-1].acked == id_at(LOG, 40)


def test_8_2_what_was_copied_survives_a_restart() -> None:
    """The image made it ours: log, state and acknowledgements go on from it."""
    b = backup(ops=4)
    kept = kept_at(16)
    lag(b, kept)
    b.serve(kept)
    b.restart()
    assert (b.applied, b.head, b.acked) == (16, 16, 16)
    assert b.replica.execution.sessions.rows() == ROWS


def test_8_2_at_most_four_requests_of_256_kib_are_outstanding() -> None:
    """Chunks come piece by piece, from all peers that have them."""
    kept = large(16, [300_000] * 6)
    b = backup()
    lag(b, kept)
    b.hear_chunk(0, first_chunk(b), kept.manifest)
    asked = b.sent(GetChunk)[1:]
    assert len(asked) == 4
    assert {(it.offset, it.size) for it in asked} == {(0, 256 * 1024)}
    b.hear_chunk(0, asked[0], kept.chunks[asked[0].digest])
    assert b.sent(GetChunk)[5:] == [GetChunk(asked[0].digest, 256 * 1024, 256 * 1024)]
    peers = set(b.serve(kept))
    assert peers == {0, 2}
    assert b.applied == 16
    assert b.counter("chunks_refused") == 0


def test_8_2_a_lost_request_is_sent_again_where_it_stopped() -> None:
    """After a while, to another peer."""
    kept = large(16, [300_000])
    b = backup()
    lag(b, kept)
    b.hear_chunk(0, first_chunk(b), kept.manifest)
    b.hear_chunk(0, first_chunk(b), kept.chunks[first_chunk(b).digest])
    half = first_chunk(b)
    assert half.offset == 256 * 1024
    before = len(b.sent(GetChunk))
    for _ in range(2):
        lag(b, kept)
        b.run(10)
    assert b.sent(GetChunk)[before:] == [half]


def test_8_2_wrong_bytes_are_refused_and_asked_for_elsewhere() -> None:
    """Each chunk is verified by its digest, the manifest as well; who sent wrong ones is not asked again."""
    kept = kept_at(16)
    b = backup()
    lag(b, kept)
    asked = b.given_to(GetChunk)
    assert len(asked) == 1
    b.hear_chunk(asked[0], first_chunk(b), b"x" * 50)
    assert not b.given(SyncBegin)
    assert b.given_to(GetChunk)[-1] == 2 - asked[0]
    b.serve(kept)
    assert (b.applied, b.counter("chunks_refused")) == (16, 1)


def test_8_2_pieces_that_were_not_asked_for_change_nothing() -> None:
    """Another chunk, another offset, an empty piece, an impossible size."""
    kept = kept_at(16)
    b = backup()
    lag(b, kept)
    digest = kept.id.digest
    for piece in (
        ChunkPiece(b"o" * 32, 0, 5, b"other"),
        ChunkPiece(digest, 7, len(kept.manifest), kept.manifest[7:]),
        ChunkPiece(digest, 0, len(kept.manifest), b""),
        ChunkPiece(digest, 0, 1 << 40, kept.manifest),
    ):
        b.hear(0, piece)
    assert not b.given(SyncBegin)
    b.serve(kept)
    assert b.applied == 16


def test_8_2_gone_means_another_peer_then_a_newer_certificate() -> None:
    """Who refused is not asked again; when all refused, the newest certificate is the target."""
    b = backup()
    lag(b, kept_at(16))
    b.tell(0, 2, checkpoint=kept_at(24).id, certified=kept_at(24).id, wal_low=17)
    old, new = kept_at(16), kept_at(24)
    asked = b.serve(new)
    assert set(asked[:2]) == {0, 2}
    assert (b.applied, b.disk.superblock.checkpoint) == (24, new.id)
    assert not b.disk.load(old.id)


def test_8_2_gone_without_a_newer_certificate_is_asked_for_again_later() -> None:
    """Those who refused may have it later."""
    b = backup()
    kept = kept_at(16)
    lag(b, kept)
    assert set(b.serve()) == {0, 2}
    b.clear()
    for _ in range(17):
        lag(b, kept)
        b.run(10)
    b.serve(kept)
    assert b.applied == 16


def test_8_2_a_peer_without_such_a_checkpoint_is_not_asked() -> None:
    """And its silence does not keep us from a newer certificate."""
    b = backup()
    b.tell(0, checkpoint=kept_at(16).id, wal_low=17)
    b.tell(2, checkpoint=kept_at(8).id, wal_low=17)
    b.hear_heartbeat(
        id_at(LOG, 40), commit=40, commit_checksum=id_at(LOG, 40).checksum, certified=kept_at(16).id
    )  # fmt: skip
    assert b.serve() == [0]
    b.tell(0, checkpoint=kept_at(24).id, certified=kept_at(24).id, wal_low=17)
    b.tick(20)
    assert set(b.serve(kept_at(24))) == {0}
    assert b.applied == 24


def test_8_2_chunks_that_are_here_are_not_fetched() -> None:
    """Resumable and incremental: a crash keeps what was stored."""
    kept = large(16, [1000] * 6)
    b = backup()
    lag(b, kept)
    b.hear_chunk(0, first_chunk(b), kept.manifest)
    for asked in b.sent(GetChunk)[1:4]:
        b.hear_chunk(0, asked, kept.chunks[asked.digest])
    here = set(b.disk.chunks)
    assert len(here) == 4
    b.restart()
    b.tell(0, 2)
    lag(b, kept)
    b.serve(kept)
    assert b.applied == 16
    assert {asked.digest for asked in b.sent(GetChunk)} == (set(kept.chunks) - here) | {kept.id.digest}


def test_8_2_nothing_of_a_transfer_is_collected_while_it_runs() -> None:
    """Newer certificates arrive meanwhile; what was fetched for the older one stays."""
    b = backup()
    lag(b, kept_at(16))
    for op in (24, 32):
        b.tell(0, 2, checkpoint=kept_at(op).id, certified=kept_at(op).id, wal_low=17)
    assert not b.given(Collect)
    b.serve(kept_at(16))
    assert b.applied == 16
    assert [it.wal_low for it in b.given(Collect)] == [17]


def test_8_2_an_install_that_fails_begins_again() -> None:
    """A chunk on our own disk was damaged after all: it is fetched anew."""
    kept = kept_at(16)
    b = backup(held_back=(Install,))
    lag(b, kept)
    b.serve(kept)
    damaged = kept.chunks.keys() - {kept.id.digest}
    del b.disk.chunks[min(damaged)]
    b.complete(Install)
    assert not b.given(Adopt)
    b.serve(kept)
    b.complete(Install)
    assert b.applied == 16


def test_8_2_a_failure_at_any_step_leaves_the_old_checkpoint_live() -> None:
    """T-28: only the superblock image makes the switch."""
    old = disk_of(1, log=LOG[:10], commit=10, checkpoint=8)
    for held in (ChunkPut, Install, SuperblockWrite):
        b = Bench(attrs.evolve(old, chunks=dict(old.chunks), records=dict(old.records)), limits=LIMITS)
        b.tell(0, 2)
        b.held_back = (held,)
        lag(b, kept_at(32))
        b.serve(kept_at(32))
        assert not b.given(Adopt)
        b.held_back = ()
        b.restart()
        assert (b.applied, b.head, b.disk.superblock.checkpoint) == (10, 10, checkpoint_at(LOG, 8).id)


# --- Serving -------------------------------------------------------------------------------------------------


def test_8_2_serves_pieces_and_says_what_is_gone() -> None:
    """A piece with the size of the whole; gone for what it does not have."""
    b = Bench(disk_of(1, log=LOG[:9], commit=9, checkpoint=8, certified=8), limits=LIMITS)
    kept = checkpoint_at(LOG, 8)
    b.hear(2, GetChunk(kept.id.digest, 10, 20))
    piece = b.sent(ChunkPiece, to=2)[-1]
    assert piece == ChunkPiece(kept.id.digest, 10, len(kept.manifest), kept.manifest[10:30])
    b.hear(2, GetChunk(b"n" * 32, 0, 20))
    assert b.sent(Gone, to=2) == [Gone(b"n" * 32)]


def test_8_2_serving_is_bounded() -> None:
    """INV-30: eight reads at a time, 256 KiB each, 2 MiB per peer and 10 ticks."""
    kept = large(8, [3_000_000])
    disk = disk_of(1, log=LOG[:9], commit=9, checkpoint=8, certified=8)
    disk.chunks.update(kept.chunks)
    b = Bench(disk, limits=LIMITS, held_back=(ChunkRead,))
    digest = chunk_digest(b"\x00" * 3_000_000)
    for _ in range(10):
        b.hear(2, GetChunk(digest, 0, 1 << 20))
    reads = b.given(ChunkRead)
    assert [read.size for read in reads] == [256 * 1024] * 8
    b.complete(ChunkRead)
    assert len(b.sent(ChunkPiece)) == 8
    b.hear(2, GetChunk(digest, 0, 1 << 20))
    b.complete(ChunkRead)
    assert len(b.sent(ChunkPiece)) == 8
    b.run(10)
    b.hear(2, GetChunk(digest, 0, 1 << 20))
    b.complete(ChunkRead)
    assert len(b.sent(ChunkPiece)) == 9
    assert b.counter("repair_throttled") == 3


@pytest.mark.parametrize("timeouts", [Timeouts()])
def test_8_2_an_untrusted_primary_rebuilds_behind_its_successor(timeouts: Timeouts) -> None:
    """It let go of the view; its log's promises held all the while."""
    a = primary(log=LOG[:20], commit=20, limits=LIMITS, timeouts=timeouts)
    a.tell(1, 2, probe=Probe(20, b"w" * 16))
    assert a.has_abdicated()
    kept = kept_at(16)
    a.tell(1, 2, checkpoint=kept.id, certified=kept.id)
    a.serve(kept)
    assert (a.applied, a.disk.superblock.untrusted) == (20, False)
    assert a.has_abdicated()


# --- Bounds ------------------------------------------------------------------------------------------------


def test_inv_30_a_full_or_slow_disk_is_not_flooded_with_chunks() -> None:
    """What the disk has not taken yet counts as outstanding."""
    kept = large(16, list(range(1000, 1100)))
    b = backup(held_back=(ChunkPut,))
    lag(b, kept)
    b.serve(kept)
    assert len([put for put in b.pending if isinstance(put, ChunkPut)]) <= LIMITS.chunk_requests_max


def test_8_2_an_install_is_not_begun_twice_for_one_target() -> None:
    """A peer whose log reaches further down comes and goes while the copied state is decoded."""
    kept = kept_at(16)
    b = Bench(disk_of(1, log=LOG[:4], commit=4), limits=LIMITS, held_back=(Install,))
    b.tell(0, 2)
    lag(b, kept, commit=20, wal_low=9)
    b.serve(kept)
    b.tell(2, checkpoint=kept.id, wal_low=1)
    b.tell(2, checkpoint=kept.id, wal_low=9)
    b.serve(kept)
    assert len(b.given(Install)) == 1
    b.complete(Install, 1)
    assert b.given(Adopt)


def test_8_1_damage_that_nobody_can_mend_keeps_out_nothing_else() -> None:
    """Four chunks that no peer has, and behind them one that all have."""
    b = backup(ops=20)
    lost = [Chunk(place, bytes([place]) * 32, 100) for place in range(4)]
    good = b"g" * 100
    b.step(Scrubbed(chunks=(*lost, Chunk(9, chunk_digest(good), 100))))
    answered = 0
    for _ in range(60):
        b.tell(0, 2)
        b.run(10)
        asked = [it for it in b.given(Send) if isinstance(it.message, GetChunk)]
        for send in asked[answered:]:
            wanted = send.message
            assert isinstance(wanted, GetChunk)
            if wanted.digest == chunk_digest(good):
                b.hear_chunk(send.replicas[0], wanted, good)
            else:
                b.hear(send.replicas[0], Gone(wanted.digest))
        answered = len(asked)
    assert [put.digest for put in b.given(ChunkPut)] == [chunk_digest(good)]
