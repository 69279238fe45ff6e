"""The disk of one replica among the rules: writes wait until somebody says that they are done.

Journal, proofs and superblock are those of the small worlds (`sim.exhaust.disk`). Beside them there are chunks and
manifests of checkpoints, and damage: records that rot, logs that are lost, chunks that cannot be read any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from sim.exhaust.disk import Disk, Kept
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.manifest import Chunk, CoreState, chunk_digest, decode_manifest, decode_sessions
from trio_pb.core.messages import CheckpointId
from trio_pb.core.ports import (
    CheckpointDone,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    Collect,
    InstallFailed,
    Scrub,
    Scrubbed,
    Space,
    SpaceCheck,
    Start,
    SuperblockWrite,
    SyncBegin,
    SyncState,
    WalAppend,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.storage.checkpoints import Restorable, with_sessions
from trio_pb.storage.work import (
    CheckpointClaim,
    CheckpointClaimed,
    CheckpointFinish,
    CheckpointWrite,
    CheckpointWritten,
    Completion,
    InstallRead,
    InstallReadDone,
    Work,
)

__all__ = ["Left", "Platter"]


class Left(NamedTuple):
    """What a crash leaves of the writes that were on their way."""

    log: Kept
    chunks: int  # The oldest so many jobs of the checkpoint store are complete.


class Platter:
    """What survives a crash, and what is on its way there."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.has_log = True  # At least one file of the journal exists.
        self.chunks: dict[bytes, bytes] = {}  # By digest; manifests among them.
        self.reads: list[WalRead] = []  # On their way, and those below.
        self.store: deque[Work] = deque()  # Everything about checkpoints and upkeep, in order.
        self.rotten: set[PrepareId] = set()  # Records that were here and cannot be read any more.
        self._claimed: set[bytes] = set()  # Chunks of the checkpoint that is being written.
        self._synced: bytes | None = None  # The manifest whose chunks are being copied.

    # --- Opening and crashing ---------------------------------------------------------------------

    def remains(self) -> tuple[Superblock, Scan]:
        """What opening it would find if all that is on its way were lost."""
        start = attrs.evolve(self.disk, appends=(), image=None).start()
        return start.superblock, attrs.evolve(start.scan, has_log=self.has_log)

    def start(self, machine: Restorable) -> Start:
        """What a boot is told; `machine` has the state of the checkpoint that loads."""
        superblock, scan = self.remains()
        for checkpoint in (superblock.checkpoint, superblock.certified):
            core = self._load(checkpoint, machine)
            if core is not None:
                return Start(superblock, scan, core)
        return Start(superblock, scan)

    def crash(self, left: Left) -> None:
        """The power fails."""
        for _ in range(left.chunks):
            self.complete_store()
        if left.log.appends:
            self.has_log = True
        self.disk = self.disk.crashed(left.log)
        self.rotten -= {record.id for record in self.disk.records}
        self.reads.clear()
        self.store.clear()
        self._claimed.clear()
        self._synced = None

    def _load(self, checkpoint: CheckpointId, machine: Restorable) -> CoreState | None:
        data = self.chunks.get(checkpoint.digest)
        if data is None or self._lacking(data):
            return None
        manifest = decode_manifest(data)
        restoring = machine.restoring()
        for chunk in manifest.application:
            restoring.put(chunk.place, self.chunks[chunk.digest])
        restoring.finish()
        machine.adopt(restoring, checkpoint.op)
        rows = [row for chunk in manifest.sessions for row in decode_sessions(self.chunks[chunk.digest])]
        return with_sessions(manifest, rows)

    def _lacking(self, manifest: bytes) -> tuple[Chunk, ...]:
        return tuple(chunk for chunk in decode_manifest(manifest).chunks if chunk.digest not in self.chunks)

    def holds_checkpoint(self) -> bool:
        """Whether the checkpoint that its superblock names would load."""
        checkpoint = self.disk.superblock.checkpoint
        data = self.chunks.get(checkpoint.digest)
        return not checkpoint.op or (data is not None and not self._lacking(data))

    # --- Damage -----------------------------------------------------------------------------------

    def rot(self, record: Prepare) -> None:
        """A record cannot be read any more."""
        self.disk = attrs.evolve(self.disk, records=self.disk.records - {record})
        self.rotten.add(record.id)

    def lose_log(self, *, proofs_only: bool) -> None:
        """All proofs are gone, or all of the journal with them."""
        records = self.disk.records if proofs_only else frozenset[Prepare]()
        self.has_log = proofs_only
        self.disk = attrs.evolve(self.disk, proof=None, records=records)

    # --- Writes -----------------------------------------------------------------------------------

    def append(self, append: WalAppend) -> None:
        """Records and a proof go to the journal."""
        self.disk = attrs.evolve(self.disk, appends=(*self.disk.appends, append))

    def write_image(self, write: SuperblockWrite) -> None:
        """A superblock image is to be written."""
        assert self.disk.image is None, "one image at a time"
        self.disk = attrs.evolve(self.disk, image=write)

    # --- Completions ------------------------------------------------------------------------------

    def read(self, wanted: WalRead) -> WalReadDone:
        """A record is read, or found to be bad; what is being written shows already."""
        self.reads.remove(wanted)
        under_way = [prepare for append in self.disk.appends for prepare in append.prepares]
        found = next((prepare for prepare in under_way if prepare.id == wanted.id), None)
        return WalReadDone(wanted.id, found or self.disk.read(wanted.id))

    def append_done(self) -> int:
        """The oldest append is durable; return its number."""
        append = self.disk.appends[0]
        self.disk = self.disk.append_done()
        self.has_log = True
        self.rotten -= {prepare.id for prepare in append.prepares}
        return append.sequence

    def image_done(self) -> int:
        """The superblock image is durable; return its number."""
        assert self.disk.image is not None
        sequence = self.disk.image.sequence
        self.disk = self.disk.image_done()
        return sequence

    def complete_store(self) -> list[Completion]:
        """The oldest job about checkpoints and upkeep comes to its end."""
        work = self.store.popleft()
        match work:
            case CheckpointClaim(serial, _, digests):
                self._claimed = set(digests)
                return [CheckpointClaimed(serial, digests - self.chunks.keys())]
            case CheckpointWrite(serial, chunks):
                self.chunks.update(chunks)
                self._claimed.update(digest for digest, _ in chunks)
                return [CheckpointWritten(serial, sum(len(data) for _, data in chunks))]
            case CheckpointFinish(serial, id_, manifest, contents):
                lacking = frozenset(chunk.digest for chunk in contents.chunks if chunk.digest not in self.chunks)
                if lacking:
                    return [CheckpointClaimed(serial, lacking)]
                self.chunks[id_.digest] = manifest
                self._claimed.add(id_.digest)
                return [CheckpointDone(id_)]
            case InstallRead(target, start, serial):
                data = self.chunks.get(target.digest)
                if data is None or self._lacking(data):
                    return [InstallFailed(target, serial)]
                whole = decode_manifest(data)
                read = tuple(self.chunks[chunk.digest] for chunk in whole.chunks[start:])
                return [InstallReadDone(target, whole, start, read, serial)]
            case SyncBegin(target, manifest):
                if chunk_digest(manifest) != target.digest:
                    return [SyncState(target, None)]
                self.chunks[target.digest] = manifest
                self._synced = target.digest
                return [SyncState(target, self._lacking(manifest))]
            case ChunkPut(digest, data):
                self.chunks[digest] = data
                return [ChunkStored(digest)]
            case ChunkRead(replica, digest, offset, size):
                data = self.chunks.get(digest)
                piece = data[offset : offset + size] if data is not None else None
                return [ChunkReadDone(replica, digest, offset, piece, len(data or b""))]
            case Collect(wal_low, keep):
                self._collect(wal_low, [it.digest for it in keep])
                return []
            case Scrub():
                return [self._scrubbed()]
            case SpaceCheck():
                return [Space(False)]
            case _:
                raise AssertionError(f"no work of the store: {work}")

    def _collect(self, wal_low: int, keep: Sequence[bytes]) -> None:
        records = frozenset([record for record in self.disk.records if record.op >= wal_low])
        self.disk = attrs.evolve(self.disk, records=records)
        self.rotten = {id_ for id_ in self.rotten if id_.op >= wal_low}
        manifests = [*keep, self._synced] if self._synced is not None else keep
        named = {
            chunk.digest for it in manifests if it in self.chunks for chunk in decode_manifest(self.chunks[it]).chunks
        }
        kept = {*manifests, *named, *self._claimed}
        self.chunks = {digest: data for digest, data in self.chunks.items() if digest in kept}

    def _scrubbed(self) -> Scrubbed:
        """Everything is looked at, in one round."""
        damaged: set[Chunk] = set()
        for checkpoint in {self.disk.superblock.checkpoint, self.disk.superblock.certified}:
            data = self.chunks.get(checkpoint.digest)
            if data is not None:
                damaged.update(self._lacking(data))
        return Scrubbed(
            records=tuple(sorted(self.rotten)),
            chunks=tuple(sorted(damaged)),
            proofs=self.disk.proof is None or not self.has_log,
            is_round_done=True,
        )
