"""What comes from a disk in several copies: superblock, proofs and identity."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import attrs

from tests.fuzz.harness import Harness
from tests.fuzz.pages import SEQUENCE, body_of, change_bodies, lay_out, of_newer_format, pieces, reseal
from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import CLUSTER, GENESIS, INCARNATION, chain, image, proof_for
from trio_pb.core.durable import Proof
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.core.prepare import PrepareId, checksum_of
from trio_pb.errors import DataDirectoryError, StorageError
from trio_pb.storage import identity, proofs, superblock
from trio_pb.storage.disk import run
from trio_pb.storage.identity import Identity
from trio_pb.storage.page import PAGE_HEAD_SIZE, seal_page

__all__ = ["HARNESSES"]


# --- Superblock -----------------------------------------------------------------------------------


def check_superblock(data: bytes) -> None:
    """An image that two copies hold is read, healed, and then read by the next boot; else the disk is lost."""
    cut = pieces(data, superblock.MAGIC)
    for piece in cut:
        body = body_of(piece)
        found = superblock.decode(body)
        assert found is None or superblock.encode(found) == body, "read from what is not its encoding"
    disk = CrashDisk()
    disk.cache[superblock.SUPERBLOCK_FILE] = bytearray(lay_out(cut[: superblock.COPIES], superblock.COPY_SIZE))
    file = superblock.SuperblockFile(INCARNATION)
    try:
        found = run(disk, file.read())
    except (StorageError, DataDirectoryError):
        return
    run(disk, file.heal())
    assert run(disk, file.is_whole())
    assert run(disk, superblock.SuperblockFile(INCARNATION).read()) == found
    if any(piece[SEQUENCE] == b"\xff" * 8 for piece in cut):
        return  # The last there is: whoever counts from 0 never writes it.
    run(disk, file.write(image(7)))
    assert run(disk, superblock.SuperblockFile(INCARNATION).read()) == image(7)


def superblock_seeds() -> Iterator[bytes]:
    """Four copies, copies of two images, one image with everything in it."""
    plain = attrs.evolve(image(1), install=attrs.evolve(image(1).install, checksums=(b"1" * 16,)))
    full = attrs.evolve(
        plain,
        certified=CheckpointId(9, b"d" * 32),
        pending=Configuration(1, (0, 1), (5,)),
        anchor=PrepareId(8, b"a" * 16),
    )
    old = superblock.encode(plain)
    new = superblock.encode(full)
    yield b"".join(_copy(place, 1, old) for place in range(4))
    yield b"".join((_copy(0, 2, new), _copy(1, 2, new), _copy(2, 1, old), _copy(3, 1, old)))
    yield b"".join((_copy(0, 2, new), b"\0" * 70, _copy(2, 2, new)))
    yield of_newer_format(_copy(0, 2, new), PAGE_HEAD_SIZE + len(new))


def _copy(place: int, sequence: int, body: bytes) -> bytes:
    size = PAGE_HEAD_SIZE + len(body)
    return seal_page(size=size, magic=superblock.MAGIC, owner=INCARNATION, place=place, sequence=sequence, body=body)


def change_superblock(data: bytes, random: Random) -> bytes:
    """Change copies as wholes, or an item of an image; half the time all copies become that one."""
    changed = change_bodies(data, random, superblock.MAGIC, None)
    cut = pieces(changed, superblock.MAGIC)
    return random.choice(cut) * 2 if cut and random.randrange(2) else changed


def repair_superblock(data: bytes) -> bytes:
    """Seal each copy for its place."""
    cut = pieces(data, superblock.MAGIC)
    return b"".join(
        reseal(piece, magic=superblock.MAGIC, owner=INCARNATION, place=place) for place, piece in enumerate(cut)
    )


# --- Proofs ---------------------------------------------------------------------------------------

PROOF_COPIES = proofs.SLOTS * proofs.COPIES


def check_proofs(data: bytes) -> None:
    """The newest intact proof is read, healed, and then read by the next boot."""
    cut = pieces(data, proofs.MAGIC)
    for piece in cut:
        body = body_of(piece)
        found = proofs.decode(body)
        assert found is None or proofs.encode(found) == body, "read from what is not its encoding"
    disk = CrashDisk()
    content = bytearray(proofs.FILE_SIZE)
    for place, piece in enumerate(cut[:PROOF_COPIES]):
        slot, copy = divmod(place, proofs.COPIES)
        offset = copy * proofs.COPY_DISTANCE + slot * proofs.COPY_SIZE
        content[offset : offset + proofs.COPY_SIZE] = piece[: proofs.COPY_SIZE].ljust(proofs.COPY_SIZE, b"\0")
    disk.cache[proofs.PROOFS_FILE] = content
    file = proofs.ProofFile(INCARNATION)
    try:
        found = run(disk, file.read())
    except DataDirectoryError:
        return
    run(disk, file.heal())
    assert run(disk, proofs.ProofFile(INCARNATION).read()) == found
    if found is not None:
        assert run(disk, file.is_whole())
        if found.sequence < 2**64 - 1:
            newer = attrs.evolve(found, sequence=found.sequence + 1)
            run(disk, file.write(newer))
            assert run(disk, proofs.ProofFile(INCARNATION).read()) == newer


def proof_seeds() -> Iterator[bytes]:
    """Both copies of one proof, eight copies of four, one of a newer format."""
    found = [proof_for(prepare) for prepare in chain(4)]
    yield b"".join(_proof(place, found[0]) for place in range(2))
    yield b"".join(_proof(place, found[place // proofs.COPIES]) for place in range(PROOF_COPIES))
    yield _proof(0, Proof(1, 1, 3, b"1" * 48, GENESIS))
    yield of_newer_format(_proof(0, found[0]), len(_proof(0, found[0])))


def _proof(place: int, proof: Proof) -> bytes:
    body = proofs.encode(proof)
    size = PAGE_HEAD_SIZE + len(body)
    return seal_page(size=size, magic=proofs.MAGIC, owner=INCARNATION, place=place, sequence=proof.sequence, body=body)


def change_proofs(data: bytes, random: Random) -> bytes:
    """Change copies as wholes, or an item of a proof."""
    return change_bodies(data, random, proofs.MAGIC, None)


def repair_proofs(data: bytes) -> bytes:
    """Seal each copy for its place."""
    cut = pieces(data, proofs.MAGIC)
    return b"".join(
        reseal(piece, magic=proofs.MAGIC, owner=INCARNATION, place=place) for place, piece in enumerate(cut)
    )


# --- Identity -------------------------------------------------------------------------------------


def check_identity(data: bytes) -> None:
    """An identity that was read is the one that is written: one text for each."""
    padded_text = data.ljust(identity.COPY_SIZE, b"\n")
    try:
        found = identity.decode(padded_text)
    except DataDirectoryError:
        return
    assert found is None or identity.encode(found) == padded_text


def identity_seeds() -> Iterator[bytes]:
    """Two identities, and one of a newer format."""
    for replica in (0, 1023):
        text = identity.encode(Identity(cluster=CLUSTER, replica=replica, incarnation=INCARNATION))
        yield text.rstrip(b"\n")
    yield text.replace(b"format 1", b"format 2").rstrip(b"\n")


def repair_identity(data: bytes) -> bytes:
    """Make the checksum that of the lines before it."""
    text, word, _ = data.partition(b"checksum ")
    return text + word + checksum_of(text).hex().encode() if word else data


HARNESSES = (
    Harness(
        name="superblock",
        about="the copies of a superblock and the image in them",
        check=check_superblock,
        seeds=superblock_seeds,
        mutate=change_superblock,
        repair=repair_superblock,
    ),
    Harness(
        name="proofs",
        about="the copies of the proofs",
        check=check_proofs,
        seeds=proof_seeds,
        mutate=change_proofs,
        repair=repair_proofs,
    ),
    Harness(
        name="identity",
        about="the identity of a data directory",
        check=check_identity,
        seeds=identity_seeds,
        repair=repair_identity,
    ),
)
