"""The seam: every input that a replica takes and every output that it gives (PROTOCOL 4.1).

`step(now_tick, inputs) -> outputs` is the whole interface. Nothing here acts. An output whose safety
needs something durable first is not given before the completion came in as an input (R-OUT1).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import attrs

from trio_pb.core.durable import Proof, Scan, Superblock
from trio_pb.core.manifest import Chunk, CoreState
from trio_pb.core.messages import (
    CheckpointId,
    Configuration,
    Envelope,
    PeerMessage,
    Read,
    Reject,
    Reply,
    Request,
    Status,
)
from trio_pb.core.prepare import Prepare, PrepareId

__all__ = [
    "Adopt",
    "Answer",
    "Applied",
    "Apply",
    "ApplyItem",
    "CheckpointBegin",
    "CheckpointDone",
    "CheckpointFailed",
    "CheckpointRetry",
    "ChunkPut",
    "ChunkRead",
    "ChunkReadDone",
    "ChunkStored",
    "Collect",
    "Fatal",
    "FromClient",
    "FromPeer",
    "Input",
    "Install",
    "InstallFailed",
    "Installed",
    "Link",
    "Output",
    "Queried",
    "Query",
    "QueryItem",
    "Report",
    "Requires",
    "Scrub",
    "Scrubbed",
    "Send",
    "Space",
    "SpaceCheck",
    "Start",
    "SuperblockDone",
    "SuperblockWrite",
    "SyncBegin",
    "SyncState",
    "Tick",
    "ToClient",
    "Trace",
    "Transfer",
    "TransferDone",
    "WalAppend",
    "WalDone",
    "WalRead",
    "WalReadDone",
]


# --- Inputs -----------------------------------------------------------------------------------


@attrs.frozen
class Start:
    """First input of a boot: what opening the storage found."""

    superblock: Superblock
    scan: Scan
    # Of the checkpoint that the application was loaded from: the superblock's `checkpoint`, else its
    # `certified`; None when neither loads (or there is none yet), and the application is empty.
    checkpoint: CoreState | None = None


@attrs.frozen
class FromPeer:
    """A decoded, digest-checked frame of a peer."""

    envelope: Envelope
    message: PeerMessage


@attrs.frozen
class FromClient:
    """A request or read that came over client connection `connection`.

    Greetings and status requests are answered by the world around the core, from
    `Replica.report()`: they touch nothing.
    """

    connection: int
    message: Request | Read


@attrs.frozen
class Tick:
    """`ticks` of 10 ms passed since the last Tick; last input of its step."""

    ticks: int
    wall_ns: int


@attrs.frozen
class WalDone:
    """Records and proofs of all appends up to `sequence` are durable."""

    sequence: int


@attrs.frozen
class SuperblockDone:
    """Superblock image `sequence` is durable."""

    sequence: int


@attrs.frozen
class WalReadDone:
    """The record asked for, or None when it is missing or damaged."""

    id: PrepareId
    prepare: Prepare | None


@attrs.frozen
class Applied:
    """The state machine executed op `op`; one result per item of its Apply."""

    op: int
    results: tuple[bytes, ...]


class Answer(NamedTuple):
    """Result of one query. `error` names a refusal ('snapshot_gone', 'bad_request'), else empty."""

    token: int
    result: bytes
    cursor: bytes
    error: str


@attrs.frozen
class Queried:
    """Answers to the items of a Query."""

    answers: tuple[Answer, ...]


@attrs.frozen
class Link:
    """A client connection closed, or a peer connection came up or went down."""

    peer: int | None
    connection: int | None
    up: bool


@attrs.frozen
class Transfer:
    """Operator: hand leadership to the fittest other voter (PROTOCOL 11)."""


@attrs.frozen
class CheckpointDone:
    """The checkpoint begun last is durable; it becomes live through a superblock image."""

    id: CheckpointId


@attrs.frozen
class CheckpointFailed:
    """The checkpoint of `op` could not be written: the disk is full. What was frozen stays so."""

    op: int


@attrs.frozen
class SyncState:
    """Chunks of the checkpoint `target` that this disk lacks; None: the bytes were not a manifest of it."""

    target: CheckpointId
    missing: tuple[Chunk, ...] | None


@attrs.frozen
class ChunkStored:
    """A chunk is durable here."""

    digest: bytes


@attrs.frozen
class ChunkReadDone:
    """What ChunkRead asked for: a piece of a chunk, or None when it is missing or damaged."""

    replica: int
    digest: bytes
    offset: int
    data: bytes | None
    total: int  # Bytes of the whole chunk; 0 when it is missing.


@attrs.frozen
class Installed:
    """All of the checkpoint `target` is durable, verified and decoded; `Adopt` makes it the application."""

    target: CheckpointId
    state: CoreState
    serial: int = 0  # Of the Install that it answers.


@attrs.frozen
class InstallFailed:
    """Chunks of `target` are missing or damaged after all: begin again with SyncBegin."""

    target: CheckpointId
    serial: int = 0  # Likewise.


@attrs.frozen(kw_only=True)
class Scrubbed:
    """What one slice of scrubbing found damaged; everything empty or False when all was well."""

    records: tuple[PrepareId, ...] = ()  # Records that the journal had and that cannot be read any more.
    chunks: tuple[Chunk, ...] = ()  # Of checkpoints that are kept. A manifest comes as a chunk of place 0.
    proofs: bool = False  # Some copy of a proof, or all of the log: a fresh proof heals it.
    superblock: bool = False  # Some copy of the superblock: writing the image again heals it.
    is_round_done: bool = False  # All files were looked at once more.


@attrs.frozen
class Space:
    """Whether the disk is full: from a SpaceCheck, or by itself when an append found no room."""

    is_full: bool


Input: TypeAlias = (
    Start
    | FromPeer
    | FromClient
    | Tick
    | WalDone
    | SuperblockDone
    | WalReadDone
    | Applied
    | Queried
    | Link
    | Transfer
    | CheckpointDone
    | CheckpointFailed
    | SyncState
    | ChunkStored
    | ChunkReadDone
    | Installed
    | InstallFailed
    | Scrubbed
    | Space
)


# --- Outputs ----------------------------------------------------------------------------------


class Requires(NamedTuple):
    """What must already be durable when a Send leaves; a check, never a wait (R-OUT2)."""

    view: int
    log_view: int
    acked: int


@attrs.frozen
class Send:
    """Fire and forget: one frame, encoded once, to each of `replicas`."""

    replicas: tuple[int, ...]
    envelope: Envelope
    message: PeerMessage
    requires: Requires


@attrs.frozen
class ToClient:
    """Fire and forget: one message to a client connection."""

    connection: int
    message: Reply | Reject


@attrs.frozen
class WalAppend:
    """Append durably; completion is WalDone(sequence). Order of work: R-STORE."""

    sequence: int
    prepares: tuple[Prepare, ...]
    proof: Proof | None


@attrs.frozen
class SuperblockWrite:
    """Write this image durably; one in flight at a time."""

    sequence: int
    image: Superblock


@attrs.frozen
class WalRead:
    """Read one record; completion is WalReadDone."""

    id: PrepareId


class ApplyItem(NamedTuple):
    """One request to execute; already known to be the first with its number."""

    position: int  # Within the batch; its timestamp is the op's plus this.
    client: bytes
    code: int
    body: bytes


@attrs.frozen
class Apply:
    """Execute in order; completion is Applied(op). Ops come in order without gaps."""

    op: int
    timestamp: int
    release: int
    items: tuple[ApplyItem, ...]


class QueryItem(NamedTuple):
    """One read to evaluate."""

    token: int
    connection: int
    code: int
    body: bytes
    cursor: bytes


@attrs.frozen
class Query:
    """Evaluate reads on the state after the Applies given before; completion is Queried."""

    op: int  # Highest op of those Applies.
    now_tick: int
    items: tuple[QueryItem, ...]


@attrs.frozen
class CheckpointBegin:
    """Freeze the application's state now, before any later Apply, and make it durable with `state`.

    Completion is CheckpointDone or CheckpointFailed; one at a time.
    """

    cluster: bytes
    state: CoreState


@attrs.frozen
class CheckpointRetry:
    """Write what was frozen after `op`, and failed for want of space, once more."""

    op: int


@attrs.frozen
class SyncBegin:
    """Keep this manifest and every chunk that it names; completion is SyncState. Replaces an earlier one."""

    target: CheckpointId
    manifest: bytes


@attrs.frozen
class ChunkPut:
    """Keep this chunk, whose digest was verified; completion is ChunkStored."""

    digest: bytes
    data: bytes


@attrs.frozen
class ChunkRead:
    """Read a piece of a chunk or manifest for `replica`; completion is ChunkReadDone."""

    replica: int
    digest: bytes
    offset: int
    size: int  # At most.


@attrs.frozen
class Install:
    """Verify all of `target` and decode it beside the present state; completion is Installed or InstallFailed.

    Replaces an earlier one: an answer to that one, late, means nothing any more.
    """

    target: CheckpointId
    serial: int = 0  # Tells one attempt from the next, for the same target too.


@attrs.frozen
class Adopt:
    """Make what Installed told of the application's state, before any later Apply or Query of this step."""

    target: CheckpointId


@attrs.frozen
class Collect:
    """Free records of ops below `wal_low`, and chunks that no manifest of `keep` names (R-GC)."""

    wal_low: int
    keep: tuple[CheckpointId, ...]


@attrs.frozen
class Scrub:
    """Read and verify the next slice of what the disk holds; completion is Scrubbed."""


@attrs.frozen
class SpaceCheck:
    """Try whether there is space again; completion is Space."""


@attrs.frozen
class TransferDone:
    """The answer to Transfer: we do not lead any more (or never did, or nobody could take over)."""

    handed_over: bool


@attrs.frozen
class Fatal:
    """Stop now. `code` is stable; `text` says what to do."""

    code: str
    text: str


@attrs.frozen
class Trace:
    """Something worth seeing: a protocol event with its numbers."""

    event: str
    fields: tuple[tuple[str, int], ...] = ()


Output: TypeAlias = (
    Send
    | ToClient
    | WalAppend
    | SuperblockWrite
    | WalRead
    | Apply
    | Query
    | CheckpointBegin
    | CheckpointRetry
    | SyncBegin
    | ChunkPut
    | ChunkRead
    | Install
    | Adopt
    | Collect
    | Scrub
    | SpaceCheck
    | TransferDone
    | Fatal
    | Trace
)


@attrs.frozen(kw_only=True)
class Report:
    """Where a replica stands, for status pages, greetings and tests; reading it changes nothing."""

    cluster: bytes
    replica: int
    incarnation: bytes
    boot: int
    status: Status
    is_primary: bool
    primary: int | None  # Who leads `view`, as far as this replica knows.
    view: int
    log_view: int
    head: int
    commit: int
    applied: int
    acked: int
    checkpoint: int  # Op of our newest one.
    certified: int  # Op of the newest that a quorum agrees on.
    wal_low: int  # Lowest op whose record was not freed.
    unfit: tuple[str, ...]  # Why it should not lead; sorted names.
    configuration: Configuration
    peers: tuple[tuple[int, bool, int], ...]  # (replica, alive, applied).
    counters: tuple[tuple[str, int], ...]  # Sorted by name.
    release: int
