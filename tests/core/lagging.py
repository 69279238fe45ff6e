"""Replicas that lag behind what the others froze: shared by the tests of state transfer."""

from __future__ import annotations

import attrs

from tests.core.bench import (
    Bench,
    Kept,
    chain,
    checkpoint_of,
    disk_of,
    id_at,
    state_at,
)
from trio_pb.core.config import Limits
from trio_pb.core.manifest import Chunk, KeptReply, Manifest, SessionRow, chunk_digest, encode_manifest, manifest_id
from trio_pb.core.messages import (
    GetChunk,
)
from trio_pb.core.prepare import Prepare

LIMITS = Limits(checkpoint_interval_ops=8, wal_ops=256, probe_interval_ops=4)
LOG = chain(60)
ROWS = (SessionRow(b"k" * 16, 7, 1, 3, KeptReply(0, 1, 5, b"\x07"), (KeptReply(1, 3, 6, b"did x"),)),)


def kept_at(op: int) -> Kept:
    """A checkpoint after `op` of LOG, in which somebody has a session."""
    return checkpoint_of(state_at(LOG, op, sessions=ROWS))


def backup(*, ops: int = 0, limits: Limits = LIMITS, held_back: tuple[type, ...] = ()) -> Bench:
    """A backup that has applied `ops`, and hears two living peers."""
    b = Bench(disk_of(1, log=LOG[:ops], commit=ops), limits=limits, held_back=held_back)
    b.tell(0, 2)
    return b


def lag(b: Bench, kept: Kept, *, commit: int = 40, wal_low: int = 17, log: list[Prepare] = LOG) -> None:
    """Both peers are far ahead and have `kept`; the primary says so in its heartbeat."""
    b.tell(0, 2, checkpoint=kept.id, wal_low=wal_low)
    b.hear_heartbeat(
        id_at(log, commit), commit=commit, commit_checksum=id_at(log, commit).checksum, certified=kept.id
    )  # fmt: skip


def is_syncing(b: Bench) -> bool:
    """Whether it copies state."""
    return "syncing" in b.replica.report().unfit


def first_chunk(b: Bench) -> GetChunk:
    """The last request for a chunk."""
    return b.sent(GetChunk)[-1]


def large(op: int, sizes: list[int]) -> Kept:
    """A checkpoint with application chunks of these sizes."""
    parts = [bytes([i]) * size for i, size in enumerate(sizes)]
    state = attrs.evolve(state_at(LOG, op), sessions=())
    chunks = tuple(Chunk(i, chunk_digest(part), len(part)) for i, part in enumerate(parts))
    data = encode_manifest(Manifest(cluster=b"c" * 16, state=state, sessions=(), application=chunks))
    return Kept(manifest_id(op, data), data, {chunk_digest(part): part for part in (*parts, data)})
