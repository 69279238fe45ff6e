"""What a whole data directory may look like: any of its pages damaged, lost, doubled, or left from before."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

import attrs

from tests.fuzz.harness import Harness
from tests.fuzz.pages import body_of, change_pages, lay_out, pieces, reseal
from tests.storage.application import Shelf, core_state, encode_place
from tests.storage.crash_disk import CrashDisk
from tests.storage.fixtures import CLUSTER, GENESIS, INCARNATION, SEGMENT_SIZE, chain, formatted, image, proof_for
from trio_pb.core.durable import Install, Superblock
from trio_pb.core.manifest import (
    Chunk,
    Manifest,
    chunk_digest,
    encode_manifest,
    encode_sessions,
    manifest_id,
    session_place,
)
from trio_pb.core.prepare import Prepare, checksum_of
from trio_pb.core.recovery import Recovered, recover
from trio_pb.errors import DataDirectoryError, StorageError
from trio_pb.storage import journal, packs, proofs, superblock
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import survey
from trio_pb.storage.page import PAGE_HEAD_SIZE, padded, seal_page
from trio_pb.storage.store import Store

__all__ = ["HARNESSES"]

MAGICS = (superblock.MAGIC, proofs.MAGIC, journal.MAGIC, packs.MAGIC)
SEGMENT = journal.Segment(1, 1)
PACK = packs.Pack(1)
SEGMENT_NONCE = SEGMENT.nonce(INCARNATION)
PACK_NONCE = PACK.nonce(INCARNATION)


def check_directory(data: bytes) -> None:
    """Whoever inspects a directory tells what a start makes of it; a start that succeeds once does so again."""
    disk = directory_of(data)
    seen = run(disk.copy(), survey())
    assert not disk.unflushed, "a survey writes nothing"
    found, refusal = start(disk)
    assert (seen.recovered is None) == (found is None), f"survey: {seen.refusal or 'starts'}; start: {refusal}"
    if found is None or seen.recovered is None:
        assert seen.refusal
        return
    assert telling(seen.recovered) == telling(found)
    again, refusal = start(disk)
    assert again is not None, f"it started once, and not again: {refusal}"
    assert (again.acked, again.log.head, again.status) == (found.acked, found.log.head, found.status)


def start(disk: CrashDisk) -> tuple[Recovered | None, str]:
    """Open the store as a replica does, and see what its core would make of that; or why it refuses."""
    try:
        began = run(disk, Store(segment_size=SEGMENT_SIZE).open(Shelf()))
        return recover(began.superblock, began.scan, began.checkpoint), ""
    except (DataDirectoryError, StorageError) as error:
        return None, str(error)


def telling(recovered: Recovered) -> tuple[object, ...]:
    """What two of them must have alike."""
    log = recovered.log
    ids = [log.checksum(op) for op in range(log.base.op, log.head + 1)]
    rest = attrs.asdict(recovered, recurse=False, filter=lambda field, _: field.name != "log")
    return rest, log.base, ids


def directory_of(data: bytes) -> CrashDisk:
    """Lay an input out as the files of a replica: each page in the next place for its kind."""
    disk = base().copy()
    cut: dict[bytes, list[bytes]] = {magic: [] for magic in MAGICS}
    for piece in pieces(data, *MAGICS):
        magic = piece[16:24]
        if magic in cut:
            cut[magic].append(piece)
    images = [piece[: superblock.COPY_SIZE] for piece in cut[superblock.MAGIC][: superblock.COPIES]]
    put(disk, superblock.SUPERBLOCK_FILE, lay_out(images, superblock.COPY_SIZE))
    content = bytearray(proofs.FILE_SIZE)
    for place, piece in enumerate(cut[proofs.MAGIC][: proofs.SLOTS * proofs.COPIES]):
        slot, copy = divmod(place, proofs.COPIES)
        offset = copy * proofs.COPY_DISTANCE + slot * proofs.COPY_SIZE
        content[offset : offset + len(piece)] = piece[: proofs.COPY_SIZE]
    put(disk, proofs.PROOFS_FILE, bytes(content))
    if cut[journal.MAGIC]:
        put(disk, SEGMENT.file, lay_out(cut[journal.MAGIC], journal.RECORD_ALIGNMENT))
    if cut[packs.MAGIC]:
        put(disk, PACK.file, lay_out(cut[packs.MAGIC], packs.RECORD_ALIGNMENT))
    return disk


@cache
def base() -> CrashDisk:
    """A directory with an identity, and nothing else."""
    disk = formatted()
    for name in [name for name in disk.cache if name != "identity"]:
        del disk.cache[name], disk.device[name]
    return disk


def put(disk: CrashDisk, file: str, content: bytes) -> None:
    """Make a file, durable."""
    disk.cache[file] = bytearray(content)
    disk.device[file] = bytearray(content)


# --- A history of one replica ---------------------------------------------------------------------


@cache
def prepares() -> list[Prepare]:
    """The log."""
    return chain(6, body_size=8)


@cache
def chunks() -> list[bytes]:
    """Two checkpoints, after ops 2 and 4: two places of a shelf; the sessions and the manifest of each."""
    return [encode_place(b"one"), encode_place(b"two"), *checkpoint_at(2), *checkpoint_at(4)]


def checkpoint_at(op: int) -> list[bytes]:
    """The sessions and the manifest of a checkpoint."""
    state = attrs.evolve(core_state(op, sessions=1), checksum=prepares()[op - 1].checksum)
    sessions = encode_sessions(state.sessions)
    places = [encode_place(b"one"), encode_place(b"two")]
    manifest = Manifest(
        cluster=CLUSTER,
        state=attrs.evolve(state, sessions=()),
        sessions=(Chunk(session_place(state.sessions[0].client), chunk_digest(sessions), len(sessions)),),
        application=tuple(Chunk(place, chunk_digest(data), len(data)) for place, data in enumerate(places)),
    )
    return [sessions, encode_manifest(manifest)]


@cache
def images() -> list[Superblock]:
    """Born; after the checkpoint; in a later view, whose log it took from op 4 on."""
    ids = [prepare.id for prepare in prepares()]
    born = attrs.evolve(image(0), install=Install(base=GENESIS))
    certified, newest = manifest_id(2, chunks()[3]), manifest_id(4, chunks()[5])
    later = attrs.evolve(born, checkpoint=newest, certified=certified, anchor=ids[3], commit=ids[3])
    install = Install(base=ids[3], checksums=(ids[4].checksum,), ack_floor=5, proof_base=(1 << 32) + 5)
    return [born, later, attrs.evolve(later, view=1, log_view=1, install=install)]


def image_page(sequence: int) -> bytes:
    """A copy of an image; where it lies is filled in later."""
    return _page(superblock.MAGIC, sequence, superblock.encode(images()[sequence]))


def proof_page(op: int) -> bytes:
    """A copy of the proof of an op, likewise."""
    proof = proof_for(prepares()[op - 1])
    return _page(proofs.MAGIC, proof.sequence, proofs.encode(proof))


def _page(magic: bytes, sequence: int, body: bytes) -> bytes:
    size = PAGE_HEAD_SIZE + len(body)
    return seal_page(size=size, magic=magic, owner=INCARNATION, place=0, sequence=sequence, body=body)


def record(op: int) -> bytes:
    """The record of an op, likewise."""
    prepare = prepares()[op - 1]
    return journal.encode_record(prepare, SEGMENT_NONCE, 0)[: journal.RECORD_HEAD_SIZE + len(prepare.payload)]


def chunk_record(number: int) -> bytes:
    """The record of a chunk, likewise."""
    data = chunks()[number]
    written = packs.encode_record(chunk_digest(data), data, nonce=PACK_NONCE, offset=0, sequence=1 + number // 4)
    return written[: packs.RECORD_HEAD_SIZE + len(data)]


def directory_seeds() -> Iterator[bytes]:
    """As it was at several times; and with images of two times."""
    records = b"".join(map(record, range(1, 7)))
    checkpoint = b"".join(map(chunk_record, range(len(chunks()))))
    yield place_pages(image_page(0) * 4 + proof_page(2) * 2 + record(1) + record(2))
    yield place_pages(image_page(1) * 4 + proof_page(5) * 2 + proof_page(6) * 2 + records + checkpoint)
    yield place_pages(image_page(2) * 4 + proof_page(6) * 2 + record(4) + record(5) + checkpoint)
    yield place_pages(image_page(1) * 2 + image_page(0) * 2 + proof_page(4) * 2 + records + checkpoint)


def place_pages(data: bytes) -> bytes:
    """Seal each page of this history for the place where it will lie; what is none of them stays as it is.

    So a page that was moved counts, and one that was damaged is damaged.
    """
    placed: list[bytes] = []
    next_place = dict.fromkeys(MAGICS, 0)
    for piece in pieces(data, *MAGICS):
        magic = piece[16:24]
        if magic not in next_place:
            placed.append(piece)
            continue
        place = next_place[magic]
        is_record = magic in (journal.MAGIC, packs.MAGIC)
        head_size, alignment, owner = {
            journal.MAGIC: (journal.RECORD_HEAD_SIZE, journal.RECORD_ALIGNMENT, SEGMENT_NONCE),
            packs.MAGIC: (packs.RECORD_HEAD_SIZE, packs.RECORD_ALIGNMENT, PACK_NONCE),
        }.get(magic, (None, 1, INCARNATION))
        next_place[magic] += padded(len(piece), alignment) if is_record else 1
        if checksum_of(body_of(piece[:head_size])) in known():
            piece = reseal(piece, magic=magic, owner=owner, place=place, head_size=head_size)
        placed.append(piece)
    return b"".join(placed)


@cache
def known() -> frozenset[bytes]:
    """Of all bodies of pages that this replica ever wrote."""
    bodies = [superblock.encode(it) for it in images()]
    bodies += [proofs.encode(proof_for(prepare)) for prepare in prepares()]
    bodies += [prepare.header for prepare in prepares()]
    bodies += [chunk_digest(data) + len(data).to_bytes(8, "little") for data in chunks()]
    return frozenset(map(checksum_of, bodies))


def change_directory(data: bytes, random: Random) -> bytes:
    """Change a few pages as wholes, or take one more of the history."""
    for _ in range(random.randrange(1, 4)):
        data = change_pages(data, random, *MAGICS)
    page = random.choice(every_page())
    return random.choice((data, data + page, page + data))


@cache
def every_page() -> list[bytes]:
    """One of each that the history has."""
    ops = range(1, len(prepares()) + 1)
    numbers = range(len(images())), range(len(chunks()))
    return [*map(image_page, numbers[0]), *map(proof_page, ops), *map(record, ops), *map(chunk_record, numbers[1])]


HARNESSES = (
    Harness(
        name="directory",
        about="whole data directories: what a start makes of one, and what inspection says of it",
        check=check_directory,
        seeds=directory_seeds,
        mutate=change_directory,
        repair=place_pages,
        size_max=12288,
    ),
)
