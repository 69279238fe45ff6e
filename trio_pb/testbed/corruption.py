"""Damage to a data directory, as a device would do it: rot, torn and misdirected writes, lost writes.

What is damaged follows from the bytes of the directory and the seed alone. The identity is never
touched: without it nothing else could be judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from random import Random

import attrs

from trio_pb.errors import ConfigError
from trio_pb.storage import proofs, superblock
from trio_pb.storage.disk import Disk, Read
from trio_pb.storage.extents import PageState
from trio_pb.storage.identity import IDENTITY_FILE
from trio_pb.storage.inspect import Survey
from trio_pb.storage.page import seal_page
from trio_pb.storage.proofs import PROOFS_FILE
from trio_pb.storage.superblock import SUPERBLOCK_FILE

__all__ = ["Damage", "Kind", "Where", "overwrite", "plan"]

SECTOR = 512


class Kind(StrEnum):
    """How devices lie."""

    ROT = "rot"
    TORN = "torn"
    MISDIRECT = "misdirect"
    LOST_WRITE = "lost-write"


class Where(StrEnum):
    """What is damaged."""

    LOG = "log"
    PROOF = "proof"
    SUPERBLOCK = "superblock"
    CHUNK = "chunk"


@attrs.frozen
class Place:
    """Something intact that was written as one."""

    file: str
    offset: int
    data: bytes
    what: str
    before: bytes  # What a device would still have there, had it lost the write: as long as `data`.


@attrs.frozen
class Damage:
    """Bytes to be written over others."""

    file: str
    offset: int
    data: bytes
    was: str  # What it was.
    now: str  # What it is now.


def plan(disk: Disk, found: Survey, kind: Kind, where: Where, random: Random, copies: int) -> tuple[Damage, ...]:
    """Return what to write where.

    Raises:
        ConfigError: there is nothing of the sort in this directory.
    """
    is_last_write = kind in (Kind.TORN, Kind.LOST_WRITE)
    if where is Where.LOG:
        places = tuple(_records(disk, found))
    elif where is Where.PROOF:
        places = tuple(_proof_copies(disk, found))
    elif where is Where.SUPERBLOCK:
        places = tuple(_superblock_copies(disk, found))
    else:
        places = tuple(_batches(disk, found) if is_last_write else _chunks(disk, found))
    if not places:
        raise ConfigError(f"--where {where}: nothing of it is intact in this directory, so there is nothing to damage")
    if where is Where.PROOF:
        # Copy 0 or 1 of a slot, by seed; the newest slot first, since the others hardly matter.
        swap = random.random() < 0.5
        order = [places[i ^ 1] if swap and i ^ 1 < len(places) else places[i] for i in range(len(places))]
        chosen = order[:copies]
    elif where is Where.SUPERBLOCK:
        chosen = sorted(random.sample(places, min(copies, len(places))), key=lambda place: place.offset)
    else:
        chosen = [places[0] if is_last_write else random.choice(places)]
    act = {Kind.ROT: _rot, Kind.TORN: _torn, Kind.MISDIRECT: _misdirect, Kind.LOST_WRITE: _lose}[kind]
    damages = tuple(act(place, places, random) for place in chosen)
    assert all(damage.file != IDENTITY_FILE for damage in damages), "the identity is never touched"
    return damages


# --- Kinds ----------------------------------------------------------------------------------------


def _rot(place: Place, _: tuple[Place, ...], random: Random) -> Damage:
    """Random bytes over one sector that means something: padding is under no checksum."""
    index = random.choice(_sectors_that_differ(place.data, bytes(len(place.data))))
    old = place.data[index * SECTOR : (index + 1) * SECTOR]
    data = random.randbytes(SECTOR)
    assert data != old, "2^-4096"
    return Damage(place.file, place.offset + index * SECTOR, data, f"sector {index} of {place.what}", "random bytes")


def _torn(place: Place, _: tuple[Place, ...], random: Random) -> Damage:
    """Some sectors of the write never arrived; one did, if there is more than one that matters."""
    before = bytes(len(place.data))
    sectors = _sectors_that_differ(place.data, before)
    lost = random.sample(sectors, random.randint(1, max(1, len(sectors) - 1)))
    data = bytearray(place.data)
    for index in lost:
        data[index * SECTOR : (index + 1) * SECTOR] = bytes(SECTOR)
    names = ("sector " if len(lost) == 1 else "sectors ") + ", ".join(map(str, sorted(lost)))
    return Damage(place.file, place.offset, bytes(data), place.what, f"torn: zeros in {names}")


def _misdirect(place: Place, places: tuple[Place, ...], random: Random) -> Damage:
    """The bytes of another place lie over it, and over what follows it if they are more."""
    others = [other for other in places if other is not place]
    if not others:
        raise ConfigError(f"--kind misdirect: needs two places, and this directory has only {place.what}")
    other = random.choice(others)
    return Damage(place.file, place.offset, other.data, place.what, f"bytes of {other.what}")


def _lose(place: Place, _: tuple[Place, ...], __: Random) -> Damage:
    """What was there before."""
    now = "what was there before: an older one" if any(place.before) else "what was there before: zeros"
    return Damage(place.file, place.offset, place.before, place.what, now)


def _sectors_that_differ(data: bytes, other: bytes) -> list[int]:
    sectors = range(0, len(data), SECTOR)
    return [at // SECTOR for at in sectors if data[at : at + SECTOR] != other[at : at + SECTOR]]


# --- Places ---------------------------------------------------------------------------------------


def _records(disk: Disk, found: Survey) -> Iterator[Place]:
    """The records of the log, the last written first; segments were zeros before."""
    for segment in reversed(found.segments):
        for record in reversed(segment.records):
            data = _read(disk, record.file, record.offset, record.size)
            yield Place(record.file, record.offset, data, f"the record of op {record.header.op}", bytes(len(data)))


def _proof_copies(disk: Disk, found: Survey) -> Iterator[Place]:
    """The proofs, the newest first; before each write its slot held an older proof, or zeros."""
    intact = [copy for copy in found.proofs if copy.proof is not None]
    ordered = sorted(intact, key=lambda it: (-it.proof.sequence if it.proof else 0, -it.slot, it.copy))
    for copy in ordered:
        assert copy.proof is not None
        oldest = ordered[-1].proof
        assert oldest is not None
        before = bytes(proofs.COPY_SIZE)
        if oldest.sequence < copy.proof.sequence:
            # Which one it was nobody knows any more: the oldest that is left, sealed for this place.
            before = seal_page(
                size=proofs.COPY_SIZE,
                magic=proofs.MAGIC,
                owner=found.identity.incarnation,
                place=copy.slot * proofs.COPIES + copy.copy,
                sequence=oldest.sequence,
                body=proofs.encode(oldest),
            )
        data = _read(disk, PROOFS_FILE, copy.offset, proofs.COPY_SIZE)
        what = f"proof {copy.proof.sequence}, slot {copy.slot} copy {copy.copy}"
        yield Place(PROOFS_FILE, copy.offset, data, what, before)


def _superblock_copies(disk: Disk, found: Survey) -> Iterator[Place]:
    """The copies of the image; before the write each held the image before it, or zeros."""
    for index, copy in enumerate(found.superblock):
        if copy.state is not PageState.INTACT or copy.image is None:
            continue
        before = bytes(superblock.COPY_SIZE)
        if copy.sequence > 0:
            # The image before is gone; all that matters of it is that its number was lower.
            before = seal_page(
                size=superblock.COPY_SIZE,
                magic=superblock.MAGIC,
                owner=found.identity.incarnation,
                place=index,
                sequence=copy.sequence - 1,
                body=superblock.encode(copy.image),
            )
        data = _read(disk, SUPERBLOCK_FILE, copy.offset, superblock.COPY_SIZE)
        yield Place(SUPERBLOCK_FILE, copy.offset, data, f"copy {index} of image {copy.sequence}", before)


def _chunks(disk: Disk, found: Survey) -> Iterator[Place]:
    """The chunks that are needed, in whole sectors, with whatever else of small chunks lies in the first and last."""
    checkpoints = found.checkpoints
    records = sorted(checkpoints.chunks.values(), key=lambda it: (it.file, it.offset))
    needed = [record for record in records if record.digest in checkpoints.live] or records
    for record in needed:
        start, size = _in_sectors(record.offset, record.offset + record.size)
        data = _read(disk, record.file, start, size)
        yield Place(record.file, start, data, f"chunk {record.digest.hex()[:12]}", bytes(len(data)))


def _batches(disk: Disk, found: Survey) -> Iterator[Place]:
    """The batch of chunks that was written last; a pack ended before it."""
    chunks = [chunk for pack in found.checkpoints.packs for chunk in pack.chunks]
    if not chunks:
        return
    newest = max(chunks, key=lambda it: (it.sequence, it.file))
    batch = [it for it in chunks if (it.sequence, it.file) == (newest.sequence, newest.file)]
    start, size = _in_sectors(min(it.offset for it in batch), max(it.offset + it.size for it in batch))
    data = _read(disk, newest.file, start, size)
    yield Place(newest.file, start, data, f"the last batch of {len(batch)} chunks", bytes(len(data)))


def _in_sectors(start: int, end: int) -> tuple[int, int]:
    """Offset and size of the whole sectors that cover these bytes."""
    first = start // SECTOR * SECTOR
    return first, -(-end // SECTOR) * SECTOR - first


def _read(disk: Disk, file: str, offset: int, size: int) -> bytes:
    data = disk.do(Read(file, offset, size))
    assert isinstance(data, bytes)
    return data


def overwrite(directory: Path, damage: Damage) -> None:
    """Carry out what was planned, durably."""
    descriptor = os.open(directory / damage.file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        # A file keeps its size: a device has no more blocks of it.
        data = damage.data[: max(0, size - damage.offset)]
        written = os.pwrite(descriptor, data, damage.offset)
        assert written == len(data), "a short write over existing blocks"
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
