"""The bag of chunks: what was written is found by its digest, and nothing else is (PROTOCOL 2.3, T-13, T-17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import INCARNATION
from trio_pb.core.manifest import chunk_digest
from trio_pb.errors import StorageError
from trio_pb.storage.disk import Read, run
from trio_pb.storage.packs import Pack, Packs, PackWriter, encode_record, read_record, scan_pack

NONCE = Pack(1).nonce(INCARNATION)


def chunk(number: int, size: int = 500) -> bytes:
    """Return a chunk that is recognised by its number."""
    return (b"%08d" % number) * (size // 8)


def named(*chunks: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return chunks with their digests."""
    return tuple((chunk_digest(data), data) for data in chunks)


def packed(*chunks: bytes, nonce: bytes = NONCE) -> bytearray:
    """Return a pack that holds these chunks from its start."""
    data = bytearray()
    for digest, piece in named(*chunks):
        data += encode_record(digest, piece, nonce=nonce, offset=len(data), sequence=1)
    return data


def found_in(data: bytearray) -> list[bytes]:
    """Return the chunks found in a pack."""
    return [record.chunk for _, record in scan_pack(bytes(data), NONCE)]


def reopened(disk: CrashDisk) -> Packs:
    """Return what the next boot finds."""
    packs = Packs(INCARNATION, 8192)
    run(disk, packs.scan())
    run(disk, packs.begin())
    return packs


def test_chunks_are_found_after_a_restart() -> None:
    """Empty, small and large ones, over several packs, one of which is larger than the rest."""
    disk = CrashDisk()
    chunks = [b"", b"x", chunk(1), chunk(2, 5000), chunk(3, 40_000), chunk(4)]
    writer = PackWriter(Packs(INCARNATION, 8192))
    for data in chunks:
        run(disk, writer.write(named(data)))
    assert len(disk.cache) == 5
    packs = reopened(disk)
    for digest, data in named(*chunks):
        assert digest in packs
        assert packs.size_of(digest) == len(data)
        assert run(disk, packs.get(digest)) == data
    assert run(disk, packs.get(b"?" * 32)) is None


def test_batch_is_one_write_on_pages_of_its_own() -> None:
    """No later write shares a page with a chunk that was flushed."""
    disk = CrashDisk()
    writer = PackWriter(Packs(INCARNATION, 1 << 20))
    run(disk, writer.write(named(chunk(1), chunk(2))))
    run(disk, writer.write(named(chunk(3))))
    assert [(type(step).__name__, getattr(step, "offset", None)) for step in disk.steps] == [
        ("Write", 0),
        ("Flush", None),
        ("Write", 4096),
        ("Flush", None),
    ]


def test_newest_batch_is_written_again_by_opening_and_no_other() -> None:
    """Restarts of an idle replica neither collect files nor read everything twice."""
    disk = CrashDisk()
    writer = PackWriter(Packs(INCARNATION, 8192))
    for number in range(4):
        run(disk, writer.write(named(chunk(number, 3000))))
    names = sorted(disk.cache)
    assert len(names) == 4 // 2
    for _ in range(5):
        disk.steps.clear()
        packs = reopened(disk)
        assert sum(isinstance(step, Read) for step in disk.steps) <= 2 * len(disk.cache) + 1
        assert len(disk.cache) == 3
        assert [run(disk, packs.get(digest)) for digest, _ in named(*map(chunk, range(4), [3000] * 4))] == [
            chunk(number, 3000) for number in range(4)
        ]


@given(st.data())
def test_damage_hides_only_the_chunks_that_it_hits(data: st.DataObject) -> None:
    """Whatever bytes are flipped, every chunk that was not hit is found, before and after (T-13)."""
    chunks = [chunk(1), b"", chunk(2, 9000), chunk(3), chunk(4, 70_000), chunk(5), b"tail"]
    pack = packed(*chunks)
    records = list(scan_pack(bytes(pack), NONCE))
    assert [record.chunk for _, record in records] == chunks
    hits = data.draw(st.lists(st.integers(0, len(pack) - 1), max_size=6))
    for position in hits:
        pack[position] ^= 0x55
    untouched = [
        record.chunk
        for offset, record in records
        if not any(offset <= hit < offset + 128 + len(record.chunk) for hit in hits)
    ]
    found = found_in(pack)
    assert [it for it in chunks if it in found] == found, "nothing is found that was not written"
    assert [it for it in untouched if it not in found] == []


def test_zeroed_stretch_does_not_end_the_scan() -> None:
    """A lost write in the middle reads as zeros; chunks after it are found (T-13)."""
    chunks = [chunk(number, 3968) for number in range(60)]
    pack = packed(*chunks)
    pack[4096 * 3 : 4096 * 40] = bytes(4096 * 37)
    assert found_in(pack) == chunks[:3] + chunks[40:]


def test_misdirected_record_is_not_accepted() -> None:
    """A valid record at another offset, or of another pack or another disk, does not count (T-17)."""
    pack = packed(chunk(1), chunk(2))
    size = len(pack) // 2
    assert found_in(pack[size:]) == []
    for nonce in (Pack(2).nonce(INCARNATION), Pack(1).nonce(b"another machine!")):
        assert found_in(packed(chunk(1), chunk(2), nonce=nonce)) == []


def test_record_inside_a_chunk_is_not_a_record() -> None:
    """A client that stores the bytes of a record cannot make the scanner take them for one."""
    trap = encode_record(chunk_digest(b"trap"), b"trap", nonce=Pack(2).nonce(INCARNATION), offset=256, sequence=1)
    pack = packed(bytes(128) + trap, chunk(7))
    pack[100] ^= 1
    assert found_in(pack) == [chunk(7)]


def test_digest_decides_whatever_the_head_says() -> None:
    """A sealed head over other bytes than it names is no record."""
    data = encode_record(chunk_digest(b"one"), b"two", nonce=NONCE, offset=0, sequence=1)
    assert read_record(data, NONCE, 0) is None


@given(st.binary(max_size=2000), st.integers(0, 1 << 40))
def test_reader_takes_any_bytes(data: bytes, offset: int) -> None:
    """Random bytes are no chunk, and no exception."""
    assert read_record(data, NONCE, offset) is None
    assert list(scan_pack(data, NONCE)) == []


def test_copy_of_the_latest_batch_is_the_one_that_counts() -> None:
    """A crash in a compaction leaves two copies: the later one is found, wherever it is; the other is garbage."""
    disk = CrashDisk()
    packs = Packs(INCARNATION, 1 << 20)
    first, second = PackWriter(packs), PackWriter(packs)
    run(disk, first.write(named(chunk(1))))
    run(disk, second.write(named(chunk(1))))
    for newest in (Pack(2), Pack(1)):
        again = Packs(INCARNATION, 1 << 20)
        run(disk, again.scan())
        assert [pack for pack in again.packs if again.chunks_in(pack)] == [newest]
        run(disk, first.write(named(chunk(1))))


def test_batch_that_no_room_is_left_to_write_again_counts_only_as_far_as_the_device_has_it() -> None:
    """Its flush failed and the disk is full: what only the cache shows is no chunk of ours (T-12)."""
    disk = CrashDisk()
    writer = PackWriter(Packs(INCARNATION, 1 << 20))
    kept, doubtful = named(chunk(1)), named(chunk(2), chunk(3))
    run(disk, writer.write(kept))
    disk.fail_flush_at = len(disk.steps) + 1
    with pytest.raises(StorageError):
        run(disk, writer.write(doubtful))
    disk = disk.copy()
    disk.full_from = 0
    packs = reopened(disk)
    assert [digest in packs for digest, _ in kept + doubtful] == [True, False, False]
    # A process that died between writing and flushing: the flush of the next one is enough.
    disk = CrashDisk()
    writer = PackWriter(Packs(INCARNATION, 1 << 20))
    assert disk.run_until_cut(writer.write(doubtful), 1) is None
    disk = disk.copy()
    disk.full_from = 0
    packs = reopened(disk)
    again = reopened(disk.after_power_cut(lambda _: False))
    assert all(digest in packs and digest in again for digest, _ in doubtful)


@pytest.mark.parametrize("failures", [1, 2])
def test_batch_outlives_the_failure_to_write_it_again(failures: int) -> None:
    """Starts died as they wrote a durable batch once more, and the next finds a full disk: the old place counts."""
    disk = CrashDisk()
    chunks = named(chunk(1), chunk(2))
    run(disk, PackWriter(Packs(INCARNATION, 1 << 20)).write(chunks))
    for _ in range(failures):
        packs = Packs(INCARNATION, 1 << 20)
        run(disk, packs.scan())
        disk.fail_flush_at = len(disk.steps) + 4  # Behind a flush of what was found, two reads and the write.
        with pytest.raises(StorageError):
            run(disk, packs.begin())
        disk = disk.copy()
    disk.full_from = 0
    packs = reopened(disk)
    assert all(digest in packs for digest, _ in chunks)
    again = reopened(disk.after_power_cut(lambda _: False))
    assert all(digest in again for digest, _ in chunks)


def test_second_failure_while_the_newest_batch_is_written_again() -> None:
    """Its flush failed, and the next process died halfway through writing it again: the third still doubts it all."""
    disk = CrashDisk()
    writer = PackWriter(Packs(INCARNATION, 1 << 20))
    chunks = named(chunk(1, 3000), chunk(2, 3000))
    disk.fail_flush_at = 1
    with pytest.raises(StorageError):
        run(disk, writer.write(chunks))
    disk = disk.copy()
    packs = Packs(INCARNATION, 1 << 20)
    run(disk, packs.scan())
    assert disk.run_until_cut(packs.begin(), 4) is None
    del disk.cache[Pack(2).file][4096:]
    disk = disk.copy()
    reopened(disk)
    found = reopened(disk.after_power_cut(lambda _: False))
    assert [digest in found for digest, _ in chunks] == [True, True]
