"""One sample of every message class, with recognisable bytes: the golden vectors and the mutations start here."""

from __future__ import annotations

from typing import cast

from trio_pb import canonical
from trio_pb.codec import wire
from trio_pb.core.messages import (
    CheckpointId,
    ChunkPiece,
    ClientMessage,
    Commit,
    CommitOk,
    Configuration,
    DoViewChange,
    EntryState,
    Envelope,
    GetChunk,
    GetIds,
    GetPrepares,
    GetStartView,
    Gone,
    Greet,
    Greeted,
    Hello,
    HelloAck,
    Ids,
    LogEntry,
    Member,
    PeerMessage,
    Ping,
    Pong,
    Position,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    Probe,
    Read,
    ReadIndex,
    ReadIndexOk,
    ReadMode,
    Reject,
    RejectCode,
    Reply,
    Request,
    ServerMessage,
    StartView,
    StartViewChange,
    Status,
    StatusGet,
    StatusReport,
    ViewChangeReason,
)
from trio_pb.core.prepare import OrderedRequest, PrepareId, build, genesis

__all__ = ["CLIENT", "CLUSTER", "ENVELOPE", "PEER", "PREPARE", "SERVER", "frames", "header_fields"]

CLUSTER = b"cluster-16-bytes"
CLIENT_ID = b"laptop-client-01"
ENVELOPE = Envelope(
    cluster=CLUSTER,
    replica=2,
    incarnation=b"incarnat",
    boot=3,
    epoch=1,
    view=1025,
    op=100_000,
    commit=99_990,
    release=1,
)
PREPARE = build(
    cluster=CLUSTER,
    epoch=1,
    view=1025,
    op=1,
    parent=genesis(CLUSTER).checksum,
    commit=0,
    timestamp=1_700_000_000_000_000_000,
    requests=[
        OrderedRequest(CLIENT_ID, 0, 0, 1, b""),
        OrderedRequest(CLIENT_ID, 65536, 1, 2, b"one laptop, please"),
    ],
    release=1,
)
_CHECKPOINT = CheckpointId(98_304, b"checkpoint-manifest-digest-32-by")
_CERTIFIED = CheckpointId(97_280, b"certified-manifest-digest-32-byt")
_PROBE = Probe(99_968, b"probe-of-results")
_ID = PrepareId(100_000, b"head-checksum-16")
_COMMIT = PrepareId(99_990, b"commit-checksum-")
_CONFIGURATION = Configuration(1, (0, 1, 2), (7,))
_PENDING = Configuration(2, (1, 2, 7))
_POSITION = Position(
    sequence=9,
    sent_tick=123_456,
    wall_ns=1_700_000_000_000_000_001,
    status=Status.NORMAL,
    log_view=1025,
    applied=99_980,
    commit_checksum=_COMMIT.checksum,
    acked=99_999,
    wal_low=90_000,
    checkpoint=_CHECKPOINT,
    certified=_CERTIFIED,
    probe=_PROBE,
    fit=True,
    reach=3,
    progress=0,
    release_min=1,
    release_max=2,
    configuration=_CONFIGURATION,
    pending=None,
)

PEER: tuple[PeerMessage, ...] = (
    Hello(incarnation=b"incarnation-of-2", members_digest=b"digest-of-member", fresh=True),
    HelloAck(
        incarnation=b"incarnation-of-2", members_digest=b"digest-of-member", fresh=False, pinned=b"incarnation-of-1"
    ),
    Ping(_POSITION),
    Pong(_POSITION),
    PrepareMessage(PREPARE, None, 77),
    PrepareOk(_ID, 77, _CHECKPOINT, _PROBE),
    Commit(_ID.checksum, _COMMIT.checksum, 78, _CERTIFIED),
    CommitOk(78, _ID, _CHECKPOINT, _PROBE, True),
    StartViewChange(1026, ViewChangeReason.NO_PROGRESS, False),
    DoViewChange(
        log_view=1025,
        head=_ID,
        commit=_COMMIT,
        entries=(
            LogEntry(99_991, b"entry-checksum-1", EntryState.PRESENT),
            LogEntry(99_992, None, EntryState.FAULT),
            LogEntry(99_993, b"entry-checksum-3", EntryState.NACK),
        ),
        last_timestamp=1_700_000_000_000_000_002,
        checkpoint=_CHECKPOINT,
        certified=_CERTIFIED,
        wal_low=90_000,
        configuration=_CONFIGURATION,
        pending=_PENDING,
    ),
    StartView(
        base=_COMMIT,
        checksums=(b"entry-checksum-1", b"entry-checksum-2"),
        last_timestamp=1_700_000_000_000_000_003,
        certified=_CERTIFIED,
        configuration=_CONFIGURATION,
        pending=None,
        nonce=42,
    ),
    GetStartView(42),
    GetIds(99_000, 99_100),
    Ids(99_000, (b"entry-checksum-1", b"entry-checksum-2", b"entry-checksum-3")),
    GetPrepares(((99_000, b"entry-checksum-1"), (99_001, None))),
    PrepareCopy(PREPARE, is_current=True),
    GetChunk(_CHECKPOINT.digest, 262_144, 262_144),
    ChunkPiece(_CHECKPOINT.digest, 262_144, 262_159, b"end of a chunk."),
    Gone(_CERTIFIED.digest),
    ReadIndex(3, 11),
    ReadIndexOk(3, 11, 99_990),
)

CLIENT: tuple[ClientMessage, ...] = (
    Greet((1,), None),
    Request(CLIENT_ID, 65536, 1, 2, b"one laptop, please"),
    Read(CLIENT_ID, 5, 3, b"which orders are mine?", ReadMode.LINEARIZABLE_HERE, 99_990, b"cursor"),
    StatusGet(),
)

SERVER: tuple[ServerMessage, ...] = (
    Greeted(
        wire_version=1,
        cluster=CLUSTER,
        replica=2,
        members=(Member(0, "127.0.0.1:7400"), Member(1, "")),
        view=1025,
        primary=1,
        connection=6,
        request_size_max=262_144,
        window=8,
        release=1,
    ),
    Reply(CLIENT_ID, 65536, 1, 99_990, 1025, 1_700_000_000_000_000_004, False, b"ordered", b""),
    Reject(CLIENT_ID, 65536, 1, RejectCode.NOT_PRIMARY, 1, "127.0.0.1:7400", 50),
    StatusReport(
        replica=2,
        status=Status.NORMAL,
        is_primary=False,
        view=1025,
        log_view=1025,
        head=100_000,
        commit=99_990,
        applied=99_980,
        state_op=99_980,
        state_digest=b"digest-of-the-state-in-32-bytes!",
        peers=((0, True, 99_970), (1, False, 0)),
        counters=(("commits", 12), ("dropped", 0)),
    ),
)


def frames() -> dict[str, bytes]:
    """Return the frame of every sample by the name of its class."""
    encoded = {type(message).__name__: wire.encode_peer(ENVELOPE, message) for message in PEER}
    encoded |= {type(message).__name__: wire.encode_client(CLUSTER, message) for message in CLIENT}
    encoded |= {type(message).__name__: wire.encode_server(ENVELOPE, message) for message in SERVER}
    return encoded


def header_fields(header: bytes) -> dict[int, object]:
    """Return the map that a header is, for a test to change."""
    fields = canonical.decode(header)
    assert isinstance(fields, dict)
    return cast("dict[int, object]", fields)
