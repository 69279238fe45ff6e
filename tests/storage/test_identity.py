"""A directory that is not ours, or newer than us, is refused and stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.crash_disk import CrashDisk, survivals
from tests.storage.fixtures import CLUSTER, INCARNATION, SEGMENT_SIZE, formatted, opened
from trio_pb.errors import DataDirectoryError, StorageError
from trio_pb.storage.disk import Job, run
from trio_pb.storage.identity import COPY_OFFSETS, COPY_SIZE, IDENTITY_FILE, Identity, decode, encode, read_identity
from trio_pb.storage.store import format_directory
from trio_pb.storage.superblock import SUPERBLOCK_FILE

IDENTITY = Identity(cluster=CLUSTER, replica=7, incarnation=INCARNATION)


def a_format(incarnation: bytes = b"j" * 16) -> Job[None]:
    """Return the job of formatting for another replica."""
    return format_directory(
        cluster=CLUSTER, replica=1, incarnation=incarnation, voters=(0, 1, 2), segment_size=SEGMENT_SIZE
    )


def test_identity_is_text_that_people_can_read() -> None:
    """`cat identity` answers whose directory this is."""
    lines = encode(IDENTITY).decode().split("\n")
    assert lines[:3] == ["trio_pb data directory, format 1", f"cluster {CLUSTER.hex()}", "replica 7"]
    assert decode(encode(IDENTITY)) == IDENTITY


def test_newer_format_is_refused_untouched() -> None:
    """A directory of a newer program: a clear error, and not one step that writes."""
    disk = formatted()
    newer = encode(IDENTITY).replace(b"format 1", b"format 2")
    disk.cache[IDENTITY_FILE][:COPY_SIZE] = newer
    before = disk.copy()
    with pytest.raises(DataDirectoryError, match="format 2 is newer than 1"):
        opened(disk)
    assert disk.cache == before.cache


def test_foreign_identity_is_refused_untouched() -> None:
    """Somebody else's file of that name: refused, nothing written."""
    disk = formatted()
    disk.cache[IDENTITY_FILE][:] = b"{'kind': 'photo album'}\n" * 300
    before = disk.copy()
    with pytest.raises(DataDirectoryError, match="not the identity"):
        opened(disk)
    assert disk.cache == before.cache


def test_directory_without_identity_is_refused() -> None:
    """An empty directory is told to be formatted."""
    disk = CrashDisk()
    with pytest.raises(DataDirectoryError, match="format"):
        opened(disk)
    assert disk.cache == {}


def test_one_damaged_copy_is_harmless() -> None:
    """Two copies in sectors of their own: either is enough."""
    for offset in COPY_OFFSETS:
        disk = formatted()
        disk.cache[IDENTITY_FILE][offset + 40] ^= 1
        assert run(disk, read_identity()).incarnation == INCARNATION


def test_formatting_twice_is_refused() -> None:
    """A replica's directory is never formatted over (T-16)."""
    disk = formatted()
    before = disk.copy()
    with pytest.raises(DataDirectoryError, match="belongs to a replica already"):
        run(disk, a_format())
    assert disk.cache == before.cache


def test_formatting_over_a_lost_identity_is_refused() -> None:
    """The promises in the other files count even when the identity is gone (T-16)."""
    for kept in (SUPERBLOCK_FILE, "proofs", "log/00000001-00000000"):
        disk = formatted()
        disk.cache = {kept: disk.cache[kept]}
        with pytest.raises(DataDirectoryError, match="not empty"):
            run(disk, a_format())
        assert list(disk.cache) == [kept]


def test_format_cut_by_a_crash_never_opens() -> None:
    """Half a format is no replica: either it opens as formatted, or it is refused."""
    for cut in range(30):
        for survives in survivals():
            disk = CrashDisk()
            disk.run_until_cut(a_format(), cut)
            whole = disk.cut_at is None and len(disk.steps) < cut
            disk = disk.after_power_cut(survives)
            try:
                _, start = opened(disk)
            except DataDirectoryError:
                assert not whole
            else:
                assert start.superblock.replica == 1
                assert start.scan.proof is not None
                assert start.scan.has_log


def test_files_of_two_replicas_do_not_mix() -> None:
    """A superblock copied from another replica's directory is not this one's."""
    disk = formatted()
    other = CrashDisk()
    run(other, a_format())
    disk.cache[SUPERBLOCK_FILE] = other.cache[SUPERBLOCK_FILE]
    with pytest.raises(StorageError, match="disk lost"):
        opened(disk)


@given(st.binary(max_size=COPY_SIZE))
def test_decoder_takes_any_bytes(data: bytes) -> None:
    """Random bytes are no identity, and no exception."""
    assert decode(data) is None


@given(st.integers(min_value=0, max_value=COPY_SIZE - 1), st.integers(min_value=0, max_value=255))
def test_decoder_takes_any_damage(position: int, value: int) -> None:
    """One changed byte is noticed, wherever it is."""
    data = bytearray(encode(IDENTITY))
    data[position] = value
    try:
        found = decode(bytes(data))
    except DataDirectoryError:
        assert b"format 1\n" not in data
    else:
        assert (found == IDENTITY) == (bytes(data) == encode(IDENTITY))
