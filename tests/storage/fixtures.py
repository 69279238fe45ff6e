"""A small replica's worth of durable things: a chain of prepares, images, proofs, a formatted disk."""

from __future__ import annotations

from tests.storage.crash_disk import CrashDisk
from trio_pb.core.durable import Install, Proof, RecordHeader, Superblock
from trio_pb.core.messages import GENESIS_CHECKPOINT, CheckpointId, Configuration
from trio_pb.core.ports import Start, WalAppend
from trio_pb.core.prepare import OrderedRequest, Prepare, build, genesis
from trio_pb.storage.disk import Disk, Job, run
from trio_pb.storage.journal import Journal
from trio_pb.storage.proofs import ProofFile
from trio_pb.storage.store import Store, format_directory
from trio_pb.storage.superblock import SuperblockFile

CLUSTER = b"c" * 16
INCARNATION = b"i" * 16
SEGMENT_SIZE = 32 * 1024  # Seven small records, so that sequences of a dozen cross segments.
GENESIS = genesis(CLUSTER).id


def chain(count: int, *, body_size: int = 100, view: int = 0, after: Prepare | None = None) -> list[Prepare]:
    """Return `count` linked prepares."""
    prepares: list[Prepare] = []
    parent = after or genesis(CLUSTER)
    for _ in range(count):
        op = parent.op + 1
        request = OrderedRequest(b"p" * 16, 1, op, 2, bytes([op % 255 + 1]) * body_size)
        parent = build(
            cluster=CLUSTER,
            epoch=0,
            view=view,
            op=op,
            parent=parent.checksum,
            commit=op - 1,
            timestamp=op * 1000,
            requests=[request],
            release=1,
        )
        prepares.append(parent)
    return prepares


def image(view: int, checkpoint: CheckpointId = GENESIS_CHECKPOINT) -> Superblock:
    """Return a superblock that is recognised by its view, in each of the several sectors that it fills."""
    install = Install(base=GENESIS, checksums=(bytes([view]) * 16,) * 100, ack_floor=2, proof_base=7)
    return Superblock(
        cluster=CLUSTER,
        replica=0,
        incarnation=INCARNATION,
        boot=1,
        born=True,
        view=view,
        log_view=0,
        install=install,
        commit=GENESIS,
        configuration=Configuration(0, (0, 1, 2)),
        pinned=((1, b"1" * 16), (2, b"2" * 16)),
        checkpoint=checkpoint,
    )


def proof_for(prepare: Prepare, boot: int = 1) -> Proof:
    """Return the proof that `prepare` and all before it are durable."""
    return Proof((boot << 32) + prepare.op, 0, prepare.op, prepare.checksum, GENESIS)


def append(prepare: Prepare, *, proven: bool = True) -> WalAppend:
    """Return an append of one prepare, numbered by its op."""
    return WalAppend(prepare.op, (prepare,), proof_for(prepare) if proven else None)


def formatted() -> CrashDisk:
    """Return a disk with the data directory of replica 0 of three."""
    disk = CrashDisk()
    job = format_directory(
        cluster=CLUSTER, replica=0, incarnation=INCARNATION, voters=(0, 1, 2), segment_size=SEGMENT_SIZE
    )
    run(disk, job)
    return disk


def opened(disk: Disk) -> tuple[Store, Start]:
    """Return an open store on any disk, and what it found."""
    store = Store(segment_size=SEGMENT_SIZE)
    return store, run(disk, store.open())


def open_superblock(file: SuperblockFile) -> Job[Superblock]:
    """Read and heal, as opening a store does."""
    found = yield from file.read()
    yield from file.heal()
    return found


def open_proofs(file: ProofFile) -> Job[Proof | None]:
    """Read and heal, as opening a store does."""
    found = yield from file.read()
    yield from file.heal()
    return found


def open_journal(journal: Journal, boot: int) -> Job[tuple[bool, tuple[RecordHeader, ...]]]:
    """Scan and begin a boot, as opening a store does."""
    found = yield from journal.scan()
    yield from journal.begin(boot)
    return found
