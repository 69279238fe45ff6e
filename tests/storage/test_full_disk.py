"""A full disk costs time, never data: what finds no room waits or gives up, and goes on when there is some."""

from __future__ import annotations

import pytest

from tests.storage.application import Host, State, core_state
from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import append, chain, formatted, image, opened
from trio_pb.core.manifest import chunk_digest
from trio_pb.core.ports import (
    CheckpointDone,
    CheckpointFailed,
    CheckpointRetry,
    ChunkPut,
    ChunkStored,
    Collect,
    Space,
    SpaceCheck,
    SuperblockWrite,
    SyncState,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.errors import DiskFullError, StorageError
from trio_pb.storage.disk import Allocate, run
from trio_pb.storage.journal import Segment
from trio_pb.storage.store import SPACE_FILE

from .test_transfer import Source

PREPARES = chain(30)


def growths_of(count: int) -> int:
    """Return how many steps need room while this many records are appended."""
    host = Host(formatted())
    before = host.disk.growths
    for prepare in PREPARES[:count]:
        host.put(append(prepare))
    return host.disk.growths - before


def test_appends_wait_for_room_wherever_the_disk_is_full() -> None:
    """Full from any step that needs room: nothing is acknowledged and lost, nothing fatal, and all is done at last."""
    growths = growths_of(30)
    assert growths >= 27
    for room in range(growths):
        host = Host(formatted())
        host.disk.full_from = host.disk.growths + room
        for prepare in PREPARES:
            host.put(append(prepare))
        assert Space(is_full=True) in host.told, "while the next segment was filled, if not before"
        acknowledged = max([it.sequence for it in host.told if isinstance(it, WalDone)], default=0)
        _, start = opened(host.disk.after_power_cut(lambda _: False))
        assert {record.op for record in start.scan.records} >= set(range(1, acknowledged + 1))
        for prepare in PREPARES[:acknowledged]:
            assert host.put(WalRead(prepare.id)) == [WalReadDone(prepare.id, prepare)]

        assert host.put(SpaceCheck()) == [Space(is_full=True)]
        host.disk.full_from = None
        done = [WalDone(30)] if acknowledged < 30 else []
        assert host.put(SpaceCheck()) == [Space(is_full=False), *done]
        _, start = opened(host.disk.after_power_cut(lambda _: False))
        assert {record.op for record in start.scan.records} == set(range(1, 31))
        assert start.scan.proof is not None
        assert start.scan.proof.acked == 30


def test_append_that_waits_is_tried_again_with_the_next_one() -> None:
    """New work is a reason to look for room too; until then nothing spins."""
    host = Host(formatted())
    host.disk.full_from = host.disk.growths
    for prepare in PREPARES[:10]:
        host.put(append(prepare))
    assert host.told[-1] != WalDone(10)
    assert host.store.take() is None, "nothing is tried over and over"
    host.disk.full_from = None
    assert host.put(append(PREPARES[10])) == [WalDone(11)]


def test_superblock_is_written_while_appends_wait() -> None:
    """What needs no room goes on."""
    host = Host(formatted())
    host.disk.full_from = host.disk.growths
    for prepare in PREPARES[:10]:
        host.put(append(prepare))
    told = host.put(SuperblockWrite(1, image(1)))
    assert [type(it).__name__ for it in told] == ["SuperblockDone"]
    assert opened(host.disk)[1].superblock == image(1)


def test_full_disk_at_opening_is_no_reason_to_stay_down() -> None:
    """There is no room for a segment of this boot: everything can be read, appends wait."""
    host = Host(formatted())
    for prepare in PREPARES[:3]:
        host.put(append(prepare))
    disk = host.disk.copy()
    disk.full_from = 0
    again = Host(disk)
    assert [record.op for record in again.start.scan.records] == [1, 2, 3]
    assert again.put(append(PREPARES[3])) == [Space(is_full=True)]
    disk.full_from = None
    assert again.put(SpaceCheck()) == [Space(is_full=False), WalDone(4)]
    assert [record.op for record in opened(disk)[1].scan.records] == [1, 2, 3, 4]


def test_lost_log_is_not_made_by_a_look_for_space() -> None:
    """SpaceCheck must not hide that all segments are gone (PROTOCOL 7.1, step 2)."""
    disk = formatted()
    del disk.cache[Segment(1, 0).file]
    host = Host(disk)
    assert host.put(SpaceCheck()) == [Space(is_full=False)]
    assert not Host(disk).start.scan.has_log


def test_look_for_space_leaves_nothing_behind() -> None:
    """Its file is gone afterwards, and after a crash in the middle it goes with the next opening."""
    host = Host(formatted())
    host.put(SpaceCheck())
    assert SPACE_FILE not in host.disk.cache
    host.disk.do(Allocate(SPACE_FILE, 4096))
    assert SPACE_FILE not in Host(host.disk).disk.cache


def frozen_host(disk: CrashDisk) -> tuple[Host, State]:
    """Return a host with a live checkpoint of op 1 and a changed state."""
    host = Host(disk)
    for op in (1, 2):
        for place in range(30):
            host.shelf.put(place, bytes([place, op]) * 300)
        if op == 1:
            host.make_live(host.checkpoint(1))
    return host, dict(host.shelf.state)


def test_checkpoint_fails_and_succeeds_later_wherever_the_disk_is_full() -> None:
    """Its partial packs are removed, the old one stays whole, and the same frozen state is written on a retry."""
    room = 0
    for room in range(40):
        host, state = frozen_host(formatted())
        packs = host.packs
        host.disk.full_from = host.disk.growths + room
        host.begin(2)
        told = host.settle()
        if isinstance(told[-1], CheckpointDone):
            break
        assert told == [CheckpointFailed(2)]
        assert host.packs == packs
        assert host.shelf.frozen == 1
        assert Host(host.disk.copy()).start.checkpoint == core_state(1)

        host.shelf.put(3, b"later")
        host.disk.full_from = None
        host.checkpointer.retry(CheckpointRetry(2))
        [done] = host.settle()
        assert isinstance(done, CheckpointDone)
        assert host.shelf.frozen == 0
        host.make_live(done.id)
        again = Host(host.disk)
        assert again.start.checkpoint == core_state(2)
        assert again.shelf.state == state
    assert room > 5


def test_later_checkpoint_replaces_one_that_failed() -> None:
    """The core may also give the failed one up."""
    host, _ = frozen_host(formatted())
    host.disk.full_from = host.disk.growths
    host.begin(2)
    assert host.settle() == [CheckpointFailed(2)]
    host.disk.full_from = None
    checkpoint = host.checkpoint(3)
    assert checkpoint.op == 3
    assert host.shelf.frozen == 0


def test_chunk_waits_for_room() -> None:
    """A transfer stands still on a full disk and goes on by itself afterwards."""
    source = Source()
    host = Host(formatted())
    host.disk.full_from = host.disk.growths
    assert host.put(source.begin) == [Space(is_full=True)]
    host.disk.full_from = None
    [space, state] = host.put(SpaceCheck())
    assert space == Space(is_full=False)
    assert isinstance(state, SyncState)
    assert state.missing is not None
    data = source.chunk(state.missing[0].digest)
    host.disk.full_from = host.disk.growths
    assert host.put(ChunkPut(chunk_digest(data), data)) == [Space(is_full=True)]
    assert host.put(SpaceCheck()) == [Space(is_full=True)]
    host.disk.full_from = None
    assert host.put(SpaceCheck()) == [Space(is_full=False), ChunkStored(chunk_digest(data))]


def test_compaction_gives_up_without_room() -> None:
    """There is no room to rewrite anything: nothing is lost, and the next time it succeeds."""
    for room in range(6):
        host = Host(formatted(), pack_size=64 << 10)
        for op, places in ((1, range(60)), (2, range(50))):
            for place in places:
                host.shelf.put(place, bytes([place, op]) * 300)
            last = host.checkpoint(op)
        state = dict(host.shelf.state)
        host.put(SuperblockWrite(1, image(1, last)))
        host.disk.full_from = host.disk.growths + room
        assert host.put(Collect(0, (last,))) == []
        assert Host(host.disk.copy()).shelf.state == state
        size = sum(len(host.disk.cache[name]) for name in host.packs)
        host.disk.full_from = None
        host.put(Collect(0, (last,)))
        assert sum(len(host.disk.cache[name]) for name in host.packs) <= size
        assert sum(len(host.disk.cache[name]) for name in host.packs) < 2 * 60 * 768 + 8192
        assert Host(host.disk.copy()).shelf.state == state


@pytest.mark.parametrize("file", ["superblock", "proofs"])
def test_no_room_where_room_was_made_before_is_fatal(file: str) -> None:
    """A file that was made at its full size cannot be out of room: that disk is not to be trusted (R-IOERR)."""
    host = Host(formatted())
    host.disk.full_from = host.disk.growths
    del host.disk.cache[file][100:]
    work = SuperblockWrite(1, image(1)) if file == "superblock" else append(PREPARES[0])
    with pytest.raises(DiskFullError):
        host.put(work)
    with pytest.raises(AssertionError, match="R-IOERR"):
        host.store.take()
    assert issubclass(DiskFullError, StorageError)


def test_job_without_a_plan_for_it_ends() -> None:
    """A full disk is thrown into the job; one that does not know better ends with it."""
    disk = CrashDisk()
    disk.full_from = 0

    def job() -> object:
        yield Allocate("a", 10)

    with pytest.raises(DiskFullError):
        run(disk, job())  # type: ignore[arg-type]
