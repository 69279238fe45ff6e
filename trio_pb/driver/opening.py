"""A look at the copies that every start writes again, before it does: afterwards damage could not be told."""

from __future__ import annotations

import attrs

from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import Job, Read
from trio_pb.storage.identity import read_identity
from trio_pb.storage.inspect import proof_offset
from trio_pb.storage.page import open_page

__all__ = ["CopiesDamaged", "look_at_copies"]


@attrs.frozen
class CopiesDamaged:
    """How many copies cannot be read. A power cut may have torn a few, without any fault of the disk."""

    superblock: int = 0
    proofs: int = 0


def look_at_copies() -> Job[CopiesDamaged]:
    """Read all copies of superblock and proofs; changes nothing.

    Raises:
        DataDirectoryError, StorageError: as `Store.open`, which would raise the same.
    """
    identity = yield from read_identity()
    owner = identity.incarnation
    superblocks = damaged = 0
    for index in range(superblock.COPIES):
        data: bytes = yield Read(superblock.SUPERBLOCK_FILE, index * superblock.COPY_SIZE, superblock.COPY_SIZE)
        superblocks += open_page(data, magic=superblock.MAGIC, owner=owner, place=index) is None
    for slot in range(proofs.SLOTS):
        for copy in range(proofs.COPIES):
            data = yield Read(proofs.PROOFS_FILE, proof_offset(slot, copy), proofs.COPY_SIZE)
            place = slot * proofs.COPIES + copy
            if any(data) and open_page(data, magic=proofs.MAGIC, owner=owner, place=place) is None:
                damaged += 1
    return CopiesDamaged(superblocks, damaged)
