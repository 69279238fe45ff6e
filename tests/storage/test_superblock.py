"""The superblock is old or new after any crash, and never goes back once it was opened (PROTOCOL 2.3)."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.crash_disk import CrashDisk, survivals
from tests.storage.fixtures import GENESIS, INCARNATION, image, open_superblock
from trio_pb.core.durable import Install
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.errors import StorageError
from trio_pb.storage.disk import run
from trio_pb.storage.page import PAGE_HEAD_SIZE, padded
from trio_pb.storage.superblock import (
    COPY_SIZE,
    IMAGE_SIZE_MAX,
    PAGE_SIZE,
    SUPERBLOCK_FILE,
    SuperblockFile,
    decode,
    encode,
)

CUTS = range(7)  # Four writes and two flushes; cut at 6 is no cut.


def disk_with(*views: int) -> CrashDisk:
    """Return a disk after complete writes of these images."""
    disk = CrashDisk()
    superblock = SuperblockFile(INCARNATION)
    for view in views:
        run(disk, superblock.write(image(view)))
    return disk


def open_view(disk: CrashDisk) -> int:
    """Open and return the view of the image found."""
    return run(disk, open_superblock(SuperblockFile(INCARNATION))).view


def test_crash_at_every_step_leaves_old_or_new() -> None:
    """A write cut anywhere, torn in any way, leaves the old or the new image; a finished one the new."""
    for cut in CUTS:
        for survives in survivals():
            disk = disk_with(1)
            superblock = SuperblockFile(INCARNATION)
            run(disk, open_superblock(superblock))
            disk.run_until_cut(superblock.write(image(2)), cut)
            view = open_view(disk.after_power_cut(survives))
            assert view in (1, 2)
            assert view == 2 or cut < 6, "a finished write is durable"


def test_second_crash_never_takes_back_what_was_opened() -> None:
    """Crash in a write, restart, crash in the next write: what the restart opened stays (T-35)."""
    for first_cut in CUTS:
        for first in survivals():
            disk = disk_with(1)
            superblock = SuperblockFile(INCARNATION)
            run(disk, open_superblock(superblock))
            disk.run_until_cut(superblock.write(image(2)), first_cut)
            disk = disk.after_power_cut(first)

            superblock = SuperblockFile(INCARNATION)
            opened = run(disk, open_superblock(superblock)).view
            for second_cut in CUTS:
                for second in survivals():
                    again = disk.copy()
                    again.run_until_cut(_copy(superblock).write(image(3)), second_cut)
                    assert open_view(again.after_power_cut(second)) in (opened, 3)


def test_crash_while_opening_never_loses_the_superblock() -> None:
    """Opening repairs copies; cut anywhere, the next opening finds what this one found, or the image promised last.

    Once opening ended what it found is promised.
    """
    for write_cut in (1, 3, 4, 5):
        for torn in survivals():
            disk = disk_with(1)
            superblock = SuperblockFile(INCARNATION)
            run(disk, open_superblock(superblock))
            disk.run_until_cut(superblock.write(image(2)), write_cut)
            torn_disk = disk.after_power_cut(torn)
            promised = open_view(torn_disk.copy())
            for open_cut in range(16):
                for survives in survivals()[:5]:
                    again = torn_disk.copy()
                    opened = again.run_until_cut(open_superblock(SuperblockFile(INCARNATION)), open_cut)
                    found = open_view(again.after_power_cut(survives))
                    assert found == promised or (found == 1 and opened is None)


def test_power_cut_while_opening_after_a_process_died() -> None:
    """Opening finds what a dead process wrote and did not flush: a power cut then leaves an image all the same."""
    for write_cut in CUTS:
        disk = disk_with(1)
        superblock = SuperblockFile(INCARNATION)
        run(disk, open_superblock(superblock))
        disk.run_until_cut(superblock.write(image(2)), write_cut)
        for open_cut in range(16):
            for survives in survivals():
                again = disk.copy()
                again.run_until_cut(open_superblock(SuperblockFile(INCARNATION)), open_cut)
                assert open_view(again.after_power_cut(survives)) in (1, 2)


@pytest.mark.parametrize("flush", [4, 7])
def test_image_that_only_the_cache_has_is_made_durable_by_opening(flush: int) -> None:
    """After a failed flush the restarted process reads what the device never got; opening writes it again (T-12)."""
    disk = disk_with(1)
    superblock = SuperblockFile(INCARNATION)
    run(disk, open_superblock(superblock))
    disk.steps.clear()
    disk.fail_flush_at = {4: 2, 7: 5}[flush]  # The first or the second phase of the write.
    with pytest.raises(StorageError):
        run(disk, superblock.write(image(2)))
    disk.fail_flush_at = None

    restarted = disk.copy()
    superblock = SuperblockFile(INCARNATION)
    assert run(restarted, open_superblock(superblock)).view == 2
    for cut in CUTS:
        for survives in survivals():
            again = restarted.copy()
            again.run_until_cut(_copy(superblock).write(image(3)), cut)
            assert open_view(again.after_power_cut(survives)) in (2, 3)


def test_two_intact_copies_are_enough_and_one_is_not() -> None:
    """Any two copies may rot; with one left the disk is lost, and said to be."""
    for first in range(4):
        for second in range(4):
            disk = disk_with(1, 2)
            disk.cache[SUPERBLOCK_FILE][first * COPY_SIZE + 100] ^= 1
            if second != first:
                disk.cache[SUPERBLOCK_FILE][second * COPY_SIZE + 1000] ^= 1
            assert open_view(disk) == 2
            assert open_view(disk) == 2, "and all four are whole again"
    disk = disk_with(1, 2)
    for index in range(3):
        disk.cache[SUPERBLOCK_FILE][index * COPY_SIZE] ^= 1
    with pytest.raises(StorageError, match="disk lost"):
        open_view(disk)


def test_copy_in_the_place_of_another_does_not_count() -> None:
    """A misdirected write of a copy is not a second copy (T-17)."""
    disk = disk_with(1)
    data = disk.cache[SUPERBLOCK_FILE]
    data[COPY_SIZE:] = bytes(data[:COPY_SIZE]) * 3
    with pytest.raises(StorageError, match="disk lost"):
        open_view(disk)


def test_opening_writes_whole_copies() -> None:
    """A file that was cut has its length again, and nothing of a longer image stands behind a shorter one."""
    disk = CrashDisk()
    superblock = SuperblockFile(INCARNATION)
    pinned = tuple((number, bytes([number]) * 16) for number in range(255))
    run(disk, superblock.write(attrs.evolve(image(1), pinned=pinned)))
    run(disk, superblock.write(image(2)))
    assert pinned[-1][1] in disk.cache[SUPERBLOCK_FILE]
    for files in (disk.cache, disk.device):
        del files[SUPERBLOCK_FILE][2 * COPY_SIZE + PAGE_SIZE :]
    assert open_view(disk) == 2
    assert len(disk.device[SUPERBLOCK_FILE]) == 4 * COPY_SIZE
    assert pinned[-1][1] not in disk.device[SUPERBLOCK_FILE]


def test_sequence_passes_a_torn_newer_image() -> None:
    """A lone copy of an image that never counted must not pair with a later one."""
    disk = disk_with(1)
    superblock = SuperblockFile(INCARNATION)
    run(disk, open_superblock(superblock))
    disk.run_until_cut(superblock.write(image(2)), 1)  # Within the write of copy 1.
    keep_copy_0 = range(padded(PAGE_HEAD_SIZE + len(encode(image(2))), PAGE_SIZE) // 512)
    disk = disk.after_power_cut(lambda sector: sector in keep_copy_0)

    superblock = SuperblockFile(INCARNATION)
    assert run(disk, open_superblock(superblock)).view == 1
    run(disk, superblock.write(image(3)))
    sequences = {disk.cache[SUPERBLOCK_FILE][index * COPY_SIZE + 56] for index in range(4)}
    assert sequences == {2}, "0 was image 1, 1 the torn one"


def test_every_field_survives() -> None:
    """What is encoded comes back equal, with all the optional parts filled."""
    full = attrs.evolve(
        image(9),
        checkpoint=CheckpointId(5, b"d" * 32),
        pending=Configuration(1, (0, 1, 3), (4,)),
        untrusted=True,
        retired=True,
    )
    assert decode(encode(full)) == full
    assert decode(encode(image(0))) == image(0)


@pytest.mark.parametrize("voters", [(), tuple(range(8))])
def test_image_without_quorums_is_no_image(voters: tuple[int, ...]) -> None:
    """For none and for more than seven voters there are no quorums, and no replica could start from it."""
    assert decode(encode(attrs.evolve(image(0), configuration=Configuration(0, voters)))) is None


def test_image_over_the_limit_is_refused_by_name() -> None:
    """An install with too many ops cannot be written, and says so instead of being cut."""
    fits = attrs.evolve(image(0), install=Install(base=GENESIS, checksums=(b"s" * 16,) * 850))
    assert len(encode(fits)) <= IMAGE_SIZE_MAX
    with pytest.raises(StorageError, match="over the limit"):
        encode(attrs.evolve(image(0), install=Install(base=GENESIS, checksums=(b"s" * 16,) * 1000)))


@given(st.binary(max_size=400))
def test_decoder_takes_any_bytes(data: bytes) -> None:
    """Random bytes are no image, and no exception."""
    assert decode(data) is None


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_decoder_takes_any_damage(position: int, value: int) -> None:
    """One changed byte gives another valid image or none; never an exception."""
    data = bytearray(encode(image(1)))
    data[position % len(data)] = value
    found = decode(bytes(data))
    assert found is None or encode(found) == bytes(data)


def _copy(superblock: SuperblockFile) -> SuperblockFile:
    """Another handle in the same state: a write moves the sequence on."""
    other = SuperblockFile(INCARNATION)
    other.__dict__.update(superblock.__dict__)
    return other
