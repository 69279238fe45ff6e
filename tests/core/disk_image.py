"""Log entries, checkpoints and disks for the bench: what a replica may find when it starts.

The logs are chains of requests by a client that never registered, so they change no state: what a checkpoint
of such a log must be can be computed here without a replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from trio_pb.core.durable import Install as InstallRecord
from trio_pb.core.durable import Proof, RecordHeader, Scan, Superblock
from trio_pb.core.manifest import (
    Chunk,
    CoreState,
    Manifest,
    SessionRow,
    chunk_digest,
    decode_manifest,
    decode_sessions,
    encode_manifest,
    encode_sessions,
    manifest_id,
)
from trio_pb.core.messages import CODE_REGISTER, GENESIS_CHECKPOINT, NO_PROBE, CheckpointId, Configuration, Probe
from trio_pb.core.ports import (
    CheckpointBegin,
    CheckpointDone,
    CheckpointRetry,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    Collect,
    Input,
    Install,
    Installed,
    InstallFailed,
    Start,
    SuperblockDone,
    SuperblockWrite,
    SyncBegin,
    SyncState,
    WalAppend,
    WalDone,
    WalRead,
    WalReadDone,
)
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId, build, checksum_of, genesis

__all__ = [
    "CLUSTER",
    "FIRST_VIEW",
    "GENESIS",
    "DiskImage",
    "Kept",
    "Written",
    "chain",
    "checkpoint_at",
    "checkpoint_of",
    "client",
    "disk_of",
    "id_at",
    "incarnation",
    "ordered",
    "probe_at",
    "register_order",
    "state_at",
]

CLUSTER = b"c" * 16
GENESIS = genesis(CLUSTER).id
FIRST_VIEW = 1024  # The first view that replica 0 may lead.

Written: TypeAlias = (
    WalAppend
    | SuperblockWrite
    | WalRead
    | CheckpointBegin
    | CheckpointRetry
    | SyncBegin
    | ChunkPut
    | ChunkRead
    | Install
    | Collect
)


def incarnation(replica: int) -> bytes:
    """The identity that `replica` got at format."""
    return bytes([replica + 1]) * 16


def client(number: int) -> bytes:
    """The id of a client."""
    return bytes([number]) * 16


# --- Log entries ------------------------------------------------------------------------------------


def ordered(number: int, *, by: int = 9, session: int = 1, body: bytes = b"x") -> OrderedRequest:
    """One request as it stands in a prepare."""
    return OrderedRequest(client(by), session, number, 2, body)


def register_order(by: int) -> OrderedRequest:
    """One registration as it stands in a prepare."""
    return OrderedRequest(client(by), 0, 0, CODE_REGISTER, b"")


def chain(
    count: int,
    *,
    after: Prepare | None = None,
    view: int = FIRST_VIEW,
    commit: int = 0,
    tag: bytes = b"x",
    requests: Sequence[OrderedRequest] = (),
    timestamp: int = 1000,
    release: int = 1,
) -> list[Prepare]:
    """Return `count` linked prepares made in `view`; another `tag` makes other prepares of the same ops."""
    prepares: list[Prepare] = []
    last = after or genesis(CLUSTER)
    for _ in range(count):
        op = last.op + 1
        last = build(
            cluster=CLUSTER,
            epoch=0,
            view=view,
            op=op,
            parent=last.checksum,
            commit=commit,
            timestamp=timestamp + op,
            requests=list(requests) or [ordered(op, body=tag)],
            release=release,
        )
        prepares.append(last)
    return prepares


def id_at(log: Sequence[Prepare], op: int) -> PrepareId:
    """The identity of `op` in a log that starts at op 1."""
    return log[op - 1].id if op else GENESIS


# --- Checkpoints ------------------------------------------------------------------------------------


@attrs.frozen
class Kept:
    """One checkpoint as a disk keeps it: all its chunks, and its manifest, by digest."""

    id: CheckpointId
    manifest: bytes
    chunks: dict[bytes, bytes]


def probe_at(log: Sequence[Prepare], op: int) -> Probe:
    """The rolling digest of all results up to `op`: no request of such a log has one."""
    digest = NO_PROBE.digest
    for prepare in log[:op]:
        digest = checksum_of(digest + prepare.checksum)
    return Probe(op, digest)


def state_at(log: Sequence[Prepare], op: int, *, sessions: tuple[SessionRow, ...] = (), voters: int = 3) -> CoreState:
    """What a replica must freeze of itself after `op`."""
    return CoreState(
        op=op,
        checksum=id_at(log, op).checksum,
        last_timestamp=log[op - 1].timestamp + log[op - 1].count - 1,
        release=1,
        configuration=Configuration(0, tuple(range(voters))),
        probe=probe_at(log, op).digest,
        sessions=sessions,
    )


def checkpoint_of(state: CoreState) -> Kept:
    """The checkpoint of `state`: one chunk of sessions, one of the application."""
    parts = (encode_sessions(state.sessions), b"application after op %d" % state.op)
    sessions, application = (Chunk(0, chunk_digest(part), len(part)) for part in parts)
    frozen = attrs.evolve(state, sessions=())
    manifest = Manifest(cluster=CLUSTER, state=frozen, sessions=(sessions,), application=(application,))
    encoded = encode_manifest(manifest)
    chunks = {chunk_digest(part): part for part in (*parts, encoded)}
    return Kept(manifest_id(state.op, encoded), encoded, chunks)


def checkpoint_at(log: Sequence[Prepare], op: int) -> Kept:
    """The checkpoint that every replica makes of `log` after `op`."""
    return checkpoint_of(state_at(log, op))


# --- The disk ---------------------------------------------------------------------------------------


@attrs.define(eq=False)
class DiskImage:
    """What survives a crash."""

    superblock: Superblock
    proof: Proof | None
    records: dict[PrepareId, Prepare]
    has_log: bool = True
    chunks: dict[bytes, bytes] = attrs.field(factory=dict[bytes, bytes])  # Manifests among them.
    frozen: CoreState | None = None  # The last that was to become a checkpoint.

    def start(self) -> Start:
        """What opening the storage finds."""
        headers = [RecordHeader(p.op, p.checksum, p.parent, p.view, p.commit) for p in self.records.values()]
        scan = Scan(self.proof, self.has_log, tuple(headers))
        return Start(
            self.superblock, scan, self.load(self.superblock.checkpoint) or self.load(self.superblock.certified)
        )

    def load(self, checkpoint: CheckpointId) -> CoreState | None:
        """What a checkpoint holds of the core, if all of it is here."""
        if checkpoint.digest not in self.chunks or self.lacks(self.chunks[checkpoint.digest]):
            return None
        manifest = decode_manifest(self.chunks[checkpoint.digest])
        rows = [row for chunk in manifest.sessions for row in decode_sessions(self.chunks[chunk.digest])]
        return attrs.evolve(manifest.state, sessions=tuple(rows))

    def lacks(self, manifest: bytes) -> tuple[Chunk, ...]:
        """Chunks of a manifest that are not here."""
        return tuple(chunk for chunk in decode_manifest(manifest).chunks if chunk.digest not in self.chunks)

    def complete(self, written: Written) -> list[Input]:
        """A job comes to its end."""
        match written:
            case SuperblockWrite():
                self.superblock = written.image
                return [SuperblockDone(written.sequence)]
            case WalRead():
                return [WalReadDone(written.id, self.records.get(written.id))]
            case WalAppend():
                self.records.update({prepare.id: prepare for prepare in written.prepares})
                self.proof = written.proof or self.proof
                return [WalDone(written.sequence)]
            case CheckpointBegin() | CheckpointRetry():
                self.frozen = written.state if isinstance(written, CheckpointBegin) else self.frozen
                assert self.frozen is not None
                kept = checkpoint_of(self.frozen)
                self.chunks.update(kept.chunks)
                return [CheckpointDone(kept.id)]
            case Collect():
                self.collect(written.wal_low, written.keep)
                return []
            case SyncBegin():
                self.chunks[chunk_digest(written.manifest)] = written.manifest
                return [SyncState(written.target, self.lacks(written.manifest))]
            case ChunkPut():
                self.chunks[written.digest] = written.data
                return [ChunkStored(written.digest)]
            case ChunkRead():
                data = self.chunks.get(written.digest)
                piece = data[written.offset : written.offset + written.size] if data is not None else None
                return [ChunkReadDone(written.replica, written.digest, written.offset, piece, len(data or b""))]
            case Install():
                state = self.load(written.target)
                return [
                    Installed(written.target, state, written.serial)
                    if state is not None
                    else InstallFailed(written.target, written.serial)
                ]

    def collect(self, wal_low: int, keep: tuple[CheckpointId, ...]) -> None:
        """Free what the core says nobody needs."""
        self.records = {id_: record for id_, record in self.records.items() if id_.op >= wal_low}
        manifests = [it.digest for it in keep if it.digest in self.chunks]
        named = [chunk.digest for digest in manifests for chunk in decode_manifest(self.chunks[digest]).chunks]
        self.chunks = {digest: data for digest, data in self.chunks.items() if digest in {*manifests, *named}}


def disk_of(
    replica: int,
    *,
    voters: int | tuple[int, ...] = 3,
    standbys: tuple[int, ...] = (),
    view: int = FIRST_VIEW,
    log_view: int | None = None,
    log: Sequence[Prepare] = (),
    acked: int | None = None,
    commit: int = 0,
    installed: int = 0,
    floor: int = 0,
    proof_base: int = 0,
    born: bool = True,
    boot: int = 1,
    checkpoint: int = 0,
    certified: int = 0,
    freed: int = 0,
    untrusted: bool = False,
) -> DiskImage:
    """Return a disk whose journal has `log`, proven up to `acked` (all of it unless told).

    The identities of ops up to `installed` stand in the superblock; `floor` is what an install left binding.
    Our newest checkpoint is that after `checkpoint`, `certified` the newest certified one; both are on the
    disk, and the records up to `freed` are not.
    """
    ids = tuple(range(voters)) if isinstance(voters, int) else voters
    log_view = view if log_view is None else log_view
    kept = {op: checkpoint_at(log, op) for op in (checkpoint, certified) if op}
    acked = len(log) if acked is None else acked
    superblock = Superblock(
        cluster=CLUSTER,
        replica=replica,
        incarnation=incarnation(replica),
        boot=boot,
        born=born,
        view=view,
        log_view=log_view,
        install=InstallRecord(
            base=GENESIS,
            checksums=tuple(prepare.checksum for prepare in log[:installed]),
            ack_floor=floor,
            proof_base=proof_base,
        ),
        commit=id_at(log, commit),
        configuration=Configuration(0, ids, standbys),
        pinned=tuple((other, incarnation(other)) for other in (*ids, *standbys) if other != replica) if born else (),
        checkpoint=kept[checkpoint].id if checkpoint else GENESIS_CHECKPOINT,
        anchor=id_at(log, checkpoint) if checkpoint else None,
        certified=kept[certified].id if certified else GENESIS_CHECKPOINT,
        untrusted=untrusted,
    )
    joined = b"".join(prepare.checksum for prepare in log[max(0, acked - 64) : acked])
    proof = Proof((boot << 32) + 1, log_view, acked, joined, id_at(log, min(commit, acked)))
    records = {prepare.id: prepare for prepare in log[freed:]}
    chunks = {digest: data for it in kept.values() for digest, data in it.chunks.items()}
    return DiskImage(superblock, proof, records, chunks=chunks)
