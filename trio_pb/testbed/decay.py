"""Damage to a whole data directory at once: random bytes over log, proofs, a superblock copy and a chunk.

What a dying device does over years, done to a replica that is down, to show what becomes of it.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import attrs

from trio_pb.driver.file_disk import FileDisk
from trio_pb.errors import DataDirectoryError
from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import Job, Write, run
from trio_pb.storage.inspect import Survey, survey

__all__ = ["Decay", "decay"]


@attrs.frozen(kw_only=True)
class Decay:
    """How much was overwritten."""

    records: int  # Of the log: all that there were.
    record_bytes: int
    proof_copies: int  # All of them: what it acknowledged, it cannot tell any more.
    superblock_copies: int  # One of four.
    chunks: int  # One, of the checkpoint that it would load.
    chunk_bytes: int


def decay(directory: Path, seed: int) -> Decay:
    """Overwrite what a replica that is down keeps in `directory`, with random bytes. Its identity stays.

    Raises:
        DataDirectoryError: it runs, it is no data directory, or it has no checkpoint yet.
    """
    with FileDisk(directory) as disk:
        return run(disk, _overwrite(directory, Random(seed)))


def _overwrite(directory: Path, random: Random) -> Job[Decay]:
    found = yield from survey()
    file, offset, size = _chunk_to_lose(directory, found, random)
    yield Write(file, offset, random.randbytes(size))
    for copy in found.proofs:
        yield Write(proofs.PROOFS_FILE, copy.offset, random.randbytes(proofs.COPY_SIZE))
    lost = random.choice(found.superblock)
    yield Write(superblock.SUPERBLOCK_FILE, lost.offset, random.randbytes(superblock.COPY_SIZE))
    records = [record for segment in found.segments for record in segment.records]
    for record in records:
        yield Write(record.file, record.offset, random.randbytes(record.size))
    return Decay(
        records=len(records),
        record_bytes=sum(record.size for record in records),
        proof_copies=len(found.proofs),
        superblock_copies=1,
        chunks=1,
        chunk_bytes=size,
    )


def _chunk_to_lose(directory: Path, found: Survey, random: Random) -> tuple[str, int, int]:
    """File, offset and size of one chunk of the newest checkpoint."""
    own = None if found.image is None else found.checkpoints.manifest(found.image.checkpoint)
    if own is None:
        raise DataDirectoryError(f"{directory}: it has no checkpoint yet that could be damaged")
    located = found.checkpoints.chunks
    chunk = located[random.choice(own.manifest.application).digest]
    return chunk.file, chunk.offset, chunk.size
