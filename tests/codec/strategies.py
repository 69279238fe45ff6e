"""Hypothesis strategies for every message class, within the limits of the wire."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

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
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId, PrepareKind, build

__all__ = ["CLIENT_MESSAGES", "PEER_MESSAGES", "QUICK", "SERVER_MESSAGES", "envelopes", "prepares"]

# No deadline: a busy machine is no failure. Fifty examples for each of many message classes.
QUICK = settings(deadline=None, max_examples=50)

# The sizes at which CBOR changes the width of an integer are as likely as all others together.
_EDGES = (0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1)


def _unsigned(bits: int) -> st.SearchStrategy[int]:
    limit = (1 << bits) - 1
    return st.sampled_from([edge for edge in _EDGES if edge <= limit] + [limit]) | st.integers(0, limit)


u16, u32, u64 = _unsigned(16), _unsigned(32), _unsigned(64)
binary16 = st.binary(min_size=16, max_size=16)
digests32 = st.binary(min_size=32, max_size=32)
digests = st.just(b"") | digests32
opaque = st.binary(max_size=300)
replicas = st.integers(0, 1023)
prepare_ids = st.builds(PrepareId, u64, binary16)
checkpoints = st.builds(CheckpointId, u64, digests)
probes = st.builds(Probe, u64, binary16)
checksum_tuples = st.lists(binary16, max_size=20).map(tuple)


def _replica_tuples(min_size: int, max_size: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(replicas, unique=True, min_size=min_size, max_size=max_size).map(lambda ids: tuple(sorted(ids)))


configurations = st.builds(Configuration, u32, _replica_tuples(1, 7), _replica_tuples(0, 5))
pendings = st.none() | configurations


@st.composite
def prepares(draw: st.DrawFn) -> Prepare:
    """A prepare of zero to three requests; its checksums are true, its numbers arbitrary."""
    requests = draw(st.lists(st.builds(OrderedRequest, binary16, u64, u64, u16, opaque), max_size=3))
    return build(
        cluster=draw(binary16),
        epoch=draw(u32),
        view=draw(u64),
        op=draw(u64),
        parent=draw(binary16),
        commit=draw(u64),
        timestamp=draw(u64),
        requests=requests,
        release=draw(u32),
        kind=draw(st.sampled_from(PrepareKind)),
    )


envelopes = st.builds(
    Envelope,
    cluster=binary16,
    replica=replicas,
    incarnation=st.binary(min_size=8, max_size=8),
    boot=u32,
    epoch=u32,
    view=u64,
    op=u64,
    commit=u64,
    release=u32,
)

_positions = st.builds(
    Position,
    sequence=u64,
    sent_tick=u64,
    wall_ns=u64,
    status=st.sampled_from(Status),
    log_view=u64,
    applied=u64,
    commit_checksum=st.none() | binary16,
    acked=u64,
    wal_low=u64,
    checkpoint=checkpoints,
    certified=checkpoints,
    probe=probes,
    fit=st.booleans(),
    reach=u16,
    progress=u64,
    release_min=u32,
    release_max=u32,
    configuration=configurations,
    pending=pendings,
)

PEER_MESSAGES: dict[type[PeerMessage], st.SearchStrategy[PeerMessage]] = {
    Hello: st.builds(Hello, incarnation=binary16, members_digest=binary16, fresh=st.booleans()),
    HelloAck: st.builds(HelloAck, incarnation=binary16, members_digest=binary16, fresh=st.booleans(), pinned=binary16),
    Ping: st.builds(Ping, _positions),
    Pong: st.builds(Pong, _positions),
    PrepareMessage: st.builds(PrepareMessage, prepares(), st.none() | binary16, u64),
    PrepareOk: st.builds(PrepareOk, prepare_ids, u64, checkpoints, probes),
    Commit: st.builds(Commit, binary16, st.none() | binary16, u64, checkpoints),
    CommitOk: st.builds(CommitOk, u64, st.none() | prepare_ids, checkpoints, probes, st.booleans()),
    StartViewChange: st.builds(StartViewChange, u64, st.sampled_from(ViewChangeReason), st.booleans()),
    DoViewChange: st.builds(
        DoViewChange,
        log_view=u64,
        head=st.none() | prepare_ids,
        commit=prepare_ids,
        entries=st.lists(st.builds(LogEntry, u64, st.none() | binary16, st.sampled_from(EntryState)), max_size=10).map(
            tuple
        ),
        last_timestamp=u64,
        checkpoint=checkpoints,
        certified=checkpoints,
        wal_low=u64,
        configuration=configurations,
        pending=pendings,
    ),
    StartView: st.builds(
        StartView,
        base=prepare_ids,
        checksums=checksum_tuples,
        last_timestamp=u64,
        certified=checkpoints,
        configuration=configurations,
        pending=pendings,
        nonce=u64,
    ),
    GetStartView: st.builds(GetStartView, u64),
    GetIds: st.builds(GetIds, u64, u64),
    Ids: st.builds(Ids, u64, checksum_tuples),
    GetPrepares: st.builds(GetPrepares, st.lists(st.tuples(u64, st.none() | binary16), max_size=32).map(tuple)),
    PrepareCopy: st.builds(PrepareCopy, prepares(), st.booleans()),
    GetChunk: st.builds(GetChunk, digests32, u64, st.integers(0, 1 << 20)),
    ChunkPiece: st.builds(ChunkPiece, digests32, u64, u64, opaque),
    Gone: st.builds(Gone, digests32),
    ReadIndex: st.builds(ReadIndex, u32, u64),
    ReadIndexOk: st.builds(ReadIndexOk, u32, u64, u64),
}

CLIENT_MESSAGES: dict[type[ClientMessage], st.SearchStrategy[ClientMessage]] = {
    Greet: st.builds(Greet, st.lists(u16, max_size=16).map(tuple), st.none() | binary16),
    Request: st.builds(Request, binary16, u64, u64, u16, opaque),
    Read: st.builds(Read, binary16, u64, u16, opaque, st.sampled_from(ReadMode), u64, opaque),
    StatusGet: st.builds(StatusGet),
}

SERVER_MESSAGES: dict[type[ServerMessage], st.SearchStrategy[ServerMessage]] = {
    Greeted: st.builds(
        Greeted,
        wire_version=u16,
        cluster=binary16,
        replica=replicas,
        members=st.lists(st.builds(Member, replicas, st.text(max_size=30)), max_size=7).map(tuple),
        view=u64,
        primary=st.none() | replicas,
        connection=u64,
        request_size_max=u32,
        window=u16,
        release=u32,
    ),
    Reply: st.builds(Reply, binary16, u64, u64, u64, u64, u64, st.booleans(), opaque, opaque),
    Reject: st.builds(
        Reject, binary16, u64, u64, st.sampled_from(RejectCode), st.none() | replicas, st.text(max_size=30), u32
    ),
    StatusReport: st.builds(
        StatusReport,
        replica=replicas,
        status=st.sampled_from(Status),
        is_primary=st.booleans(),
        view=u64,
        log_view=u64,
        head=u64,
        commit=u64,
        applied=u64,
        state_op=u64,
        state_digest=digests,
        peers=st.lists(st.tuples(replicas, st.booleans(), u64), max_size=7).map(tuple),
        counters=st.lists(st.tuples(st.text(max_size=20), u64), max_size=7).map(tuple),
    ),
}
