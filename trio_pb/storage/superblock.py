"""The superblock file: four sealed copies of one image, replaced two by two (PROTOCOL 2.3).

Whatever a crash leaves, two equal copies of the old or of the new image are intact. Opening brings
all four to the chosen image before any other write of any file, so that a later torn write cannot
undo an image that somebody already acted upon (T-35).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trio_pb import canonical
from trio_pb.core.durable import Install, Superblock
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.errors import StorageError
from trio_pb.storage.disk import Flush, Job, Read, Write
from trio_pb.storage.fields import (
    REPLICAS_MAX,
    MalformedError,
    read_bytes16,
    read_configuration,
    read_flag,
    read_list,
    read_map,
    read_prepare_id,
    read_unsigned,
)
from trio_pb.storage.page import PAGE_HEAD_SIZE, open_page, padded, seal_page

__all__ = ["IMAGE_SIZE_MAX", "PAGE_SIZE", "SUPERBLOCK_FILE", "SuperblockFile", "decode", "encode"]

SUPERBLOCK_FILE = "superblock"

MAGIC = b"TPBSUPER"
COPIES = 4
COPY_SIZE = 16 * 1024
PAGE_SIZE = 4096
IMAGE_SIZE_MAX = COPY_SIZE - PAGE_HEAD_SIZE  # About 850 checksums of an install; entries_max is 256.


class Copy(NamedTuple):
    """What an intact copy holds; two copies of one image are equal."""

    sequence: int
    image: bytes


class SuperblockFile:
    """The four copies on disk. Read and heal, or begin with a first write; then write."""

    def __init__(self, incarnation: bytes) -> None:
        self._incarnation = incarnation
        self._next_sequence = 0
        self._found: list[Copy | None] = []  # By `read`, for `heal`.
        self._copy: Copy | None = None  # What all four hold.

    def read(self) -> Job[Superblock]:
        """Return the newest image that two copies hold; nothing may rest on it before `heal`.

        Raises:
            StorageError: no image has two intact copies: this disk is lost (PROTOCOL 7.6).
            DataDirectoryError: a newer program wrote one of them.
        """
        found = yield from self._read_copies()
        chosen = choose(found)
        image = None if chosen is None else decode(chosen.image)
        if chosen is None or image is None:
            damaged = ", ".join(str(index * COPY_SIZE) for index, copy in enumerate(found) if copy is None)
            raise StorageError(
                f"disk lost: {SUPERBLOCK_FILE}: no two of its {COPIES} copies are intact and agree (damaged at "
                f"offsets: {damaged or 'none'}); replace this replica by one with a new id, never by a format"
            )
        self._found = found
        self._copy = chosen
        return image

    def heal(self) -> Job[None]:
        """Make the image that was read the only one on disk; before any other write of any file (T-35)."""
        chosen = self._copy
        assert chosen is not None, "read comes first"
        # Copies that differ go first, while the two that carry the image stay as they are: it is durable, or none of
        # the others would have been touched. If these are a pair still, it may be in the cache only, and a power cut
        # must find theirs: then ours go first. After that all are written as if new: after a failed flush, what we
        # just read may never have reached the device.
        others = [copy for copy in self._found if copy != chosen]
        is_pair = len(others) == COPIES // 2 and choose(others) is not None
        for index, copy in enumerate(self._found):
            if (copy == chosen) == is_pair:
                yield self._write_copy(index, chosen, is_whole=True)
        yield Flush(SUPERBLOCK_FILE)
        yield from self._write_phases(chosen, is_whole=True)
        # Past a torn newer image as well: its sequence number is never used for another one.
        self._next_sequence = max(copy.sequence for copy in self._found if copy is not None) + 1

    def is_whole(self) -> Job[bool]:
        """Read all four copies again; return whether each holds the present image (scrub)."""
        found = yield from self._read_copies()
        return all(copy == self._copy for copy in found)

    def write(self, image: Superblock) -> Job[None]:
        """Replace the image; durable when the job ends."""
        copy = Copy(self._next_sequence, encode(image))
        self._next_sequence += 1
        self._copy = copy
        yield from self._write_phases(copy, is_whole=copy.sequence == 0)

    def _read_copies(self) -> Job[list[Copy | None]]:
        found: list[Copy | None] = []
        for index in range(COPIES):
            data: bytes = yield Read(SUPERBLOCK_FILE, index * COPY_SIZE, COPY_SIZE)
            page = open_page(data, magic=MAGIC, owner=self._incarnation, place=index)
            found.append(None if page is None else Copy(page.sequence, page.body))
        return found

    def _write_phases(self, copy: Copy, *, is_whole: bool) -> Job[None]:
        for pair in ((0, 1), (2, 3)):
            for index in pair:
                yield self._write_copy(index, copy, is_whole=is_whole)
            yield Flush(SUPERBLOCK_FILE)

    def _write_copy(self, index: int, copy: Copy, *, is_whole: bool) -> Write:
        # All of it once in a boot, to give the file its length and to reach every sector. Later the pages that an
        # image takes up: 16 KiB in all, mostly, instead of 64.
        data = seal_page(
            size=COPY_SIZE if is_whole else padded(PAGE_HEAD_SIZE + len(copy.image), PAGE_SIZE),
            magic=MAGIC,
            owner=self._incarnation,
            place=index,
            sequence=copy.sequence,
            body=copy.image,
        )
        return Write(SUPERBLOCK_FILE, index * COPY_SIZE, data)


def choose(found: Sequence[Copy | None]) -> Copy | None:
    """Return the copy with the highest sequence that at least two places hold, if any."""
    twice = [copy for copy in found if copy is not None and found.count(copy) >= 2]
    return max(twice, key=lambda copy: copy.sequence, default=None)


def encode(image: Superblock) -> bytes:
    """Return the canonical bytes of an image.

    Raises:
        StorageError: it does not fit a copy.
    """
    install = image.install
    fields: dict[int, object] = {
        0: image.cluster,
        1: image.replica,
        2: image.incarnation,
        3: image.boot,
        4: image.born,
        5: image.view,
        6: image.log_view,
        7: [install.base, install.checksums, install.ack_floor, install.proof_base],
        8: image.commit,
        9: _configuration_fields(image.configuration),
        10: image.pinned,
        11: [image.checkpoint.op, image.checkpoint.digest],
        12: [image.certified.op, image.certified.digest],
        13: None if image.pending is None else _configuration_fields(image.pending),
        14: image.untrusted,
        15: image.retired,
        16: image.anchor,
    }
    data = canonical.encode_ordered(fields)  # Its keys stand sorted: canonical.
    if len(data) > IMAGE_SIZE_MAX:
        raise StorageError(
            f"{SUPERBLOCK_FILE}: an image of {len(data)} bytes is over the limit of {IMAGE_SIZE_MAX}: "
            f"{len(install.checksums)} ops in its install, {len(image.pinned)} pinned peers"
        )
    return data


def decode(data: bytes) -> Superblock | None:
    """Return the image, or None when `data` is not the encoding of one. Takes any bytes whatever."""
    try:
        return _read_superblock(canonical.decode(data))
    except (canonical.CanonicalError, MalformedError):
        return None


def _configuration_fields(configuration: Configuration) -> list[object]:
    return [configuration.epoch, configuration.voters, configuration.standbys]


def _read_superblock(value: object) -> Superblock:
    fields = read_map(value, 17)
    pinned = [read_list(item, 2) for item in read_list(fields[10])]
    return Superblock(
        cluster=read_bytes16(fields[0]),
        replica=read_unsigned(fields[1], REPLICAS_MAX),
        incarnation=read_bytes16(fields[2]),
        boot=read_unsigned(fields[3], 1 << 32),
        born=read_flag(fields[4]),
        view=read_unsigned(fields[5]),
        log_view=read_unsigned(fields[6]),
        install=_read_install(fields[7]),
        commit=read_prepare_id(fields[8]),
        configuration=read_configuration(fields[9]),
        pinned=tuple((read_unsigned(replica, REPLICAS_MAX), read_bytes16(it)) for replica, it in pinned),
        checkpoint=_read_checkpoint_id(fields[11]),
        certified=_read_checkpoint_id(fields[12]),
        pending=None if fields[13] is None else read_configuration(fields[13]),
        untrusted=read_flag(fields[14]),
        retired=read_flag(fields[15]),
        anchor=None if fields[16] is None else read_prepare_id(fields[16]),
    )


def _read_install(value: object) -> Install:
    base, checksums, ack_floor, proof_base = read_list(value, 4)
    return Install(
        base=read_prepare_id(base),
        checksums=tuple(read_bytes16(checksum) for checksum in read_list(checksums)),
        ack_floor=read_unsigned(ack_floor),
        proof_base=read_unsigned(proof_base),
    )


def _read_checkpoint_id(value: object) -> CheckpointId:
    op, digest = read_list(value, 2)
    if type(digest) is not bytes or len(digest) > 64:
        raise MalformedError("a checkpoint's digest is not at most 64 bytes")
    return CheckpointId(read_unsigned(op), digest)
