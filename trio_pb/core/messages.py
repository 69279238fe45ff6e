"""Everything that replicas and clients say to one another, as data (PROTOCOL 3).

A message carries no behaviour. What each peer message has in common is its `Envelope`; who sent a
client message is the connection that it came over. docs/protocol.md has the tables.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import attrs

from trio_pb.core.prepare import NO_CHECKSUM, Prepare, PrepareId

__all__ = [
    "CLIENT_REPLICA",
    "CODE_EMPTY",
    "CODE_REGISTER",
    "GENESIS_CHECKPOINT",
    "NO_PROBE",
    "CheckpointId",
    "ChunkPiece",
    "ClientMessage",
    "Commit",
    "CommitOk",
    "Configuration",
    "DoViewChange",
    "EntryState",
    "Envelope",
    "GetChunk",
    "GetIds",
    "GetPrepares",
    "GetStartView",
    "Gone",
    "Greet",
    "Greeted",
    "Hello",
    "HelloAck",
    "Ids",
    "LogEntry",
    "Member",
    "PeerMessage",
    "Ping",
    "Pong",
    "Position",
    "PrepareCopy",
    "PrepareMessage",
    "PrepareOk",
    "Probe",
    "Read",
    "ReadIndex",
    "ReadIndexOk",
    "ReadMode",
    "Reject",
    "RejectCode",
    "Reply",
    "Request",
    "ServerMessage",
    "StartView",
    "StartViewChange",
    "Status",
    "StatusGet",
    "StatusReport",
    "ViewChangeReason",
]

CLIENT_REPLICA = 65535  # The envelope's `replica` in frames of clients.
CODE_EMPTY = 0  # A request that changes nothing: it fills a number that failed for good (PROTOCOL 5.4).
CODE_REGISTER = 1  # Open a session; session 0, number 0. Codes from 2 on belong to the application.


class Status(IntEnum):
    """What a replica is doing (PROTOCOL 2.4)."""

    UNBORN = 0
    NORMAL = 1
    VIEW_CHANGE = 2
    EX_PRIMARY = 3
    AMNESIAC = 4
    RETIRED = 5


class ViewChangeReason(IntEnum):
    """Why a replica wishes for another view; for people and metrics only."""

    PRIMARY_SILENT = 0
    NO_PROGRESS = 1
    EX_PRIMARY = 2
    ABDICATED = 3
    SANCTIONED = 4
    FORFEIT = 5


class EntryState(IntEnum):
    """What a do_view_change claims about one op (PROTOCOL 6.3)."""

    PRESENT = 0
    FAULT = 1
    NACK = 2


class RejectCode(IntEnum):
    """Why a request was refused (PROTOCOL 5.4)."""

    NOT_PRIMARY = 0
    BUSY = 1
    TOO_LARGE = 2
    BAD_REQUEST = 3
    NO_SESSION = 4
    WINDOW = 5
    WRONG_CLUSTER = 6
    RELEASE = 7
    STALE = 8
    SNAPSHOT_GONE = 9
    RETIRED = 10
    DISK_FULL = 11


class ReadMode(IntEnum):
    """Where a read is answered and how fresh it is (PROTOCOL 10)."""

    LINEARIZABLE = 0  # At the primary, confirmed by a round.
    LINEARIZABLE_HERE = 1  # At the replica asked, which gets a read index from the primary.


@attrs.frozen
class CheckpointId:
    """A checkpoint: the op after which state was frozen and the digest of its manifest."""

    op: int
    digest: bytes


GENESIS_CHECKPOINT = CheckpointId(0, b"")


@attrs.frozen
class Probe:
    """A rolling digest of all results up to `op`; equal ops must have equal probes (PROTOCOL 9)."""

    op: int
    digest: bytes


NO_PROBE = Probe(0, NO_CHECKSUM)


@attrs.frozen
class Configuration:
    """Who replicates and who votes, as of `epoch`. Ids are sorted."""

    epoch: int
    voters: tuple[int, ...]
    standbys: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Envelope:
    """What every frame says of its sender (PROTOCOL 3.1)."""

    cluster: bytes
    replica: int
    incarnation: bytes  # First 8 bytes of the sender's incarnation.
    boot: int
    epoch: int
    view: int  # Never above the sender's durable view (R-ENV).
    op: int  # The sender's head.
    commit: int  # The sender's commit_max.
    release: int


# --- Birth and liveness -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Hello:
    """Replica to replica: this is my whole incarnation; pin it (PROTOCOL 7.6)."""

    incarnation: bytes  # 16 bytes.
    members_digest: bytes  # Of the cluster and the bootstrap members; must equal the receiver's.
    fresh: bool  # The sender is unborn.


@attrs.frozen(kw_only=True)
class HelloAck:
    """Replica to replica: I durably pinned this incarnation of yours (PROTOCOL 7.6)."""

    incarnation: bytes  # The sender's own, so that one exchange pins both ways.
    members_digest: bytes
    fresh: bool
    pinned: bytes  # The receiver's incarnation as the sender pinned it.


@attrs.frozen(kw_only=True)
class Position:
    """How far a replica is and how well it does; the body of ping and pong."""

    sequence: int  # Of the ping; a pong echoes it.
    sent_tick: int  # The pinging replica's clock; a pong echoes it.
    wall_ns: int  # The sender's wall clock: advice, never safety.
    status: Status
    log_view: int
    applied: int
    commit_checksum: bytes | None  # Of the prepare at the envelope's commit; None when not known.
    acked: int
    wal_low: int  # Lowest op whose record was not freed.
    checkpoint: CheckpointId
    certified: CheckpointId
    probe: Probe
    fit: bool
    reach: int  # Voters it exchanges pongs with, itself included.
    progress: int  # Grows while a new primary repairs its log (PROTOCOL 6.4).
    release_min: int
    release_max: int
    configuration: Configuration
    pending: Configuration | None


@attrs.frozen
class Ping:
    """Replica to replica, every T_PING: here is my position, tell me yours."""

    position: Position


@attrs.frozen
class Pong:
    """The answer to a ping."""

    position: Position


# --- Normal case ------------------------------------------------------------------------------


@attrs.frozen
class PrepareMessage:
    """Primary to backup: append this (VRR 4.1, PROTOCOL 5.2)."""

    prepare: Prepare
    commit_checksum: bytes | None  # Of the prepare at the envelope's commit.
    round: int  # Read round (PROTOCOL 10.1).


@attrs.frozen
class PrepareOk:
    """Backup to primary: everything up to `acked` is durable here (R-ACK). Cumulative."""

    acked: PrepareId
    round: int
    checkpoint: CheckpointId
    probe: Probe


@attrs.frozen
class Commit:
    """Primary to backup: heartbeat; the envelope has commit and head (PROTOCOL 5.5)."""

    head_checksum: bytes
    commit_checksum: bytes | None
    round: int
    certified: CheckpointId


@attrs.frozen
class CommitOk:
    """Backup to primary, at once, without waiting for storage."""

    round: int
    acked: PrepareId | None  # The largest that R-ACK allows now.
    checkpoint: CheckpointId
    probe: Probe
    fit: bool


# --- View change ------------------------------------------------------------------------------


@attrs.frozen
class StartViewChange:
    """Replica to voters: I wish for `target`; binds nobody (PROTOCOL 6.2)."""

    target: int
    reason: ViewChangeReason
    sanctioned: bool  # The primary of the receiver's view itself asks for it.


@attrs.frozen
class LogEntry:
    """One op in a do_view_change."""

    op: int
    checksum: bytes | None  # None: position known, identity not.
    state: EntryState


@attrs.frozen(kw_only=True)
class DoViewChange:
    """Replica to the primary of the envelope's view: my log as of log_view (PROTOCOL 6.3)."""

    log_view: int
    head: PrepareId | None  # None: the head's identity is not known. The envelope has its op.
    commit: PrepareId
    entries: tuple[LogEntry, ...]  # Ops (commit.op, head], at most the highest 256, ascending.
    last_timestamp: int
    checkpoint: CheckpointId
    certified: CheckpointId
    wal_low: int
    configuration: Configuration
    pending: Configuration | None


@attrs.frozen(kw_only=True)
class StartView:
    """Primary to replicas: the log of the envelope's view (PROTOCOL 6.5)."""

    base: PrepareId  # The commit point.
    checksums: tuple[bytes, ...]  # Of the ops base.op + 1 .. head.
    last_timestamp: int
    certified: CheckpointId
    configuration: Configuration
    pending: Configuration | None
    nonce: int  # Echo of a get_start_view, else 0.


@attrs.frozen
class GetStartView:
    """Replica to primary: send me the log of your view."""

    nonce: int


# --- Repair -----------------------------------------------------------------------------------


@attrs.frozen
class GetIds:
    """Ask which prepares stand at `low`..`high`, both included (R-IDS)."""

    low: int
    high: int


@attrs.frozen
class Ids:
    """Committed prepares from `low` on, chain-linked to the sender's commit point (R-IDS)."""

    low: int
    checksums: tuple[bytes, ...]


@attrs.frozen
class GetPrepares:
    """Send me these bodies; a checksum of None asks the primary for what it has there."""

    wanted: tuple[tuple[int, bytes | None], ...]  # (op, checksum), at most 32.


@attrs.frozen
class PrepareCopy:
    """The answer to a wanted prepare, on the bulk channel.

    `is_current` is set when the sender led the envelope's view and had exactly this prepare in its
    log when it answered: only then may the copy extend a log of that view (T-37).
    """

    prepare: Prepare
    is_current: bool


@attrs.frozen
class GetChunk:
    """Send me `size` bytes from `offset` of the chunk, or manifest, with this digest (PROTOCOL 8.2)."""

    digest: bytes
    offset: int
    size: int  # At most 256 KiB.


@attrs.frozen
class ChunkPiece:
    """The answer to get_chunk, on the bulk channel."""

    digest: bytes
    offset: int
    total: int  # Bytes of the whole chunk.
    data: bytes


@attrs.frozen
class Gone:
    """The answer to get_chunk when there is no such chunk here, or not any more."""

    digest: bytes


# --- Reads at backups ---------------------------------------------------------------------------


@attrs.frozen
class ReadIndex:
    """Backup to primary: ask which op must be applied to answer a read (PROTOCOL 10.2)."""

    boot: int
    counter: int  # (boot, counter) is never used again, not even after a restart.


@attrs.frozen
class ReadIndexOk:
    """Primary to backup: `op` was the commit point when your read_index arrived, and I led then."""

    boot: int
    counter: int
    op: int


PeerMessage: TypeAlias = (
    Hello
    | HelloAck
    | Ping
    | Pong
    | PrepareMessage
    | PrepareOk
    | Commit
    | CommitOk
    | StartViewChange
    | DoViewChange
    | StartView
    | GetStartView
    | GetIds
    | Ids
    | GetPrepares
    | PrepareCopy
    | GetChunk
    | ChunkPiece
    | Gone
    | ReadIndex
    | ReadIndexOk
)


# --- Clients ----------------------------------------------------------------------------------


@attrs.frozen
class Greet:
    """Client to replica, first frame of a connection: who are you?"""

    wire_versions: tuple[int, ...]
    cluster: bytes | None  # None: not known yet.


@attrs.frozen
class Member:
    """A replica and the address that it advertises (host:port, empty when not known)."""

    replica: int
    address: str


@attrs.frozen(kw_only=True)
class Greeted:
    """The answer to greet."""

    wire_version: int
    cluster: bytes
    replica: int
    members: tuple[Member, ...]
    view: int
    primary: int | None  # The replica that leads `view`, as far as the sender knows.
    connection: int  # Tag of this connection at the sender.
    request_size_max: int  # Bytes of a request body.
    window: int  # Numbers of one session in flight at once.
    release: int


@attrs.frozen
class Request:
    """Client to primary: order this. (session, number) is executed at most once (PROTOCOL 5.4)."""

    client: bytes  # 16 random bytes per client process and session.
    session: int
    number: int
    code: int
    body: bytes


@attrs.frozen
class Read:
    """Client to replica: answer from applied state; `number` only correlates (PROTOCOL 10)."""

    client: bytes
    number: int
    code: int
    body: bytes
    mode: ReadMode
    min_op: int  # Answer from a state at or after this op.
    cursor: bytes  # Empty, or where an earlier page of this scan left off.


@attrs.frozen
class Reply:
    """The receipt of a request or the answer of a read (session 0 for reads)."""

    client: bytes
    session: int
    number: int
    op: int
    view: int
    timestamp: int  # Nanoseconds; 0 for reads.
    replayed: bool  # This number had been executed before.
    result: bytes
    cursor: bytes = b""  # Of a scan with more pages.


@attrs.frozen
class Reject:
    """A refusal: the request with this number had no effect through this transmission."""

    client: bytes
    session: int  # 0 for reads.
    number: int
    code: RejectCode
    primary: int | None
    primary_address: str
    retry_ms: int


@attrs.frozen
class StatusGet:
    """Client to replica: tell me your positions."""


@attrs.frozen(kw_only=True)
class StatusReport:
    """Positions, and the digest of the application state together with the op it belongs to."""

    replica: int
    status: Status
    is_primary: bool
    view: int
    log_view: int
    head: int
    commit: int
    applied: int
    state_op: int
    state_digest: bytes
    peers: tuple[tuple[int, bool, int], ...]  # (replica, alive, applied).
    counters: tuple[tuple[str, int], ...]  # Sorted by name.


ClientMessage: TypeAlias = Greet | Request | Read | StatusGet
ServerMessage: TypeAlias = Greeted | Reply | Reject | StatusReport
