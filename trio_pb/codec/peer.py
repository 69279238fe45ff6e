"""What replicas say to one another: an encoder and a decoder per message (PROTOCOL 3.2).

An encoder returns the message's own keys, which start at 16; the envelope has the keys below.
Prepares and pieces of chunks alone have a frame body, so that it is never copied into a header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trio_pb.codec.fields import (
    Fields,
    as_bool,
    as_bytes,
    as_checkpoint,
    as_checksum,
    as_checksums,
    as_configuration,
    as_enum,
    as_list,
    as_optional_checksum,
    as_optional_configuration,
    as_optional_prepare_id,
    as_prepare_id,
    as_probe,
    as_row,
    as_u16,
    as_u32,
    as_u64,
    configuration_row,
)
from trio_pb.codec.kinds import Kind
from trio_pb.core.manifest import CHUNK_DIGEST_SIZE
from trio_pb.core.messages import (
    ChunkPiece,
    Commit,
    CommitOk,
    DoViewChange,
    EntryState,
    GetChunk,
    GetIds,
    GetPrepares,
    GetStartView,
    Gone,
    Hello,
    HelloAck,
    Ids,
    LogEntry,
    PeerMessage,
    Ping,
    Pong,
    Position,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    ReadIndex,
    ReadIndexOk,
    StartView,
    StartViewChange,
    Status,
    ViewChangeReason,
)
from trio_pb.core.prepare import HEADER_SIZE_MAX, parse

__all__ = ["ENTRIES_MAX", "OPAQUE", "PLAIN", "PREPARES", "WANTED_MAX"]

ENTRIES_MAX = 1024  # In a do_view_change.
WANTED_MAX = 32  # In a get_prepares.
PIECE_SIZE_MAX = 1 << 20  # Bytes of a chunk in one frame.


# --- Birth and liveness -------------------------------------------------------------------------


def _encode_hello(message: Hello) -> Fields:
    return {16: message.incarnation, 17: message.members_digest, 18: message.fresh}


def _decode_hello(fields: Fields) -> Hello:
    return Hello(
        incarnation=as_checksum(fields.get(16), "incarnation"),
        members_digest=as_checksum(fields.get(17), "members_digest"),
        fresh=as_bool(fields.get(18), "fresh"),
    )


def _encode_hello_ack(message: HelloAck) -> Fields:
    return {16: message.incarnation, 17: message.members_digest, 18: message.fresh, 19: message.pinned}


def _decode_hello_ack(fields: Fields) -> HelloAck:
    return HelloAck(
        incarnation=as_checksum(fields.get(16), "incarnation"),
        members_digest=as_checksum(fields.get(17), "members_digest"),
        fresh=as_bool(fields.get(18), "fresh"),
        pinned=as_checksum(fields.get(19), "pinned"),
    )


def _encode_position(message: Ping | Pong) -> Fields:
    position = message.position
    return {
        16: position.sequence,
        17: position.sent_tick,
        18: position.wall_ns,
        19: int(position.status),
        20: position.log_view,
        21: position.applied,
        22: position.commit_checksum,
        23: position.acked,
        24: position.wal_low,
        25: (position.checkpoint.op, position.checkpoint.digest),
        26: (position.certified.op, position.certified.digest),
        27: position.fit,
        28: position.reach,
        29: position.progress,
        30: position.release_min,
        31: position.release_max,
        32: configuration_row(position.configuration),
        33: configuration_row(position.pending),
        34: (position.probe.op, position.probe.digest),
    }


def _decode_position(fields: Fields) -> Position:
    return Position(
        sequence=as_u64(fields.get(16), "sequence"),
        sent_tick=as_u64(fields.get(17), "sent_tick"),
        wall_ns=as_u64(fields.get(18), "wall_ns"),
        status=as_enum(fields.get(19), "status", Status),
        log_view=as_u64(fields.get(20), "log_view"),
        applied=as_u64(fields.get(21), "applied"),
        commit_checksum=as_optional_checksum(fields.get(22), "commit_checksum"),
        acked=as_u64(fields.get(23), "acked"),
        wal_low=as_u64(fields.get(24), "wal_low"),
        checkpoint=as_checkpoint(fields.get(25), "checkpoint"),
        certified=as_checkpoint(fields.get(26), "certified"),
        probe=as_probe(fields.get(34), "probe"),
        fit=as_bool(fields.get(27), "fit"),
        reach=as_u16(fields.get(28), "reach"),
        progress=as_u64(fields.get(29), "progress"),
        release_min=as_u32(fields.get(30), "release_min"),
        release_max=as_u32(fields.get(31), "release_max"),
        configuration=as_configuration(fields.get(32), "configuration"),
        pending=as_optional_configuration(fields.get(33), "pending"),
    )


def _decode_ping(fields: Fields) -> Ping:
    return Ping(_decode_position(fields))


def _decode_pong(fields: Fields) -> Pong:
    return Pong(_decode_position(fields))


# --- Normal case --------------------------------------------------------------------------------


def _encode_prepare(message: PrepareMessage) -> Fields:
    return {16: message.prepare.header, 17: message.commit_checksum, 18: message.round}


def _decode_prepare(fields: Fields, body: bytes) -> PrepareMessage:
    return PrepareMessage(
        parse(as_bytes(fields.get(16), "header", HEADER_SIZE_MAX), body),
        as_optional_checksum(fields.get(17), "commit_checksum"),
        as_u64(fields.get(18), "round"),
    )


def _encode_prepare_ok(message: PrepareOk) -> Fields:
    acked, checkpoint, probe = message.acked, message.checkpoint, message.probe
    return {
        16: (acked.op, acked.checksum),
        17: message.round,
        18: (checkpoint.op, checkpoint.digest),
        19: (probe.op, probe.digest),
    }


def _decode_prepare_ok(fields: Fields) -> PrepareOk:
    return PrepareOk(
        as_prepare_id(fields.get(16), "acked"),
        as_u64(fields.get(17), "round"),
        as_checkpoint(fields.get(18), "checkpoint"),
        as_probe(fields.get(19), "probe"),
    )


def _encode_commit(message: Commit) -> Fields:
    certified = message.certified
    return {
        16: message.head_checksum,
        17: message.commit_checksum,
        18: message.round,
        19: (certified.op, certified.digest),
    }


def _decode_commit(fields: Fields) -> Commit:
    return Commit(
        as_checksum(fields.get(16), "head_checksum"),
        as_optional_checksum(fields.get(17), "commit_checksum"),
        as_u64(fields.get(18), "round"),
        as_checkpoint(fields.get(19), "certified"),
    )


def _encode_commit_ok(message: CommitOk) -> Fields:
    acked, checkpoint, probe = message.acked, message.checkpoint, message.probe
    return {
        16: message.round,
        17: None if acked is None else (acked.op, acked.checksum),
        18: (checkpoint.op, checkpoint.digest),
        19: (probe.op, probe.digest),
        20: message.fit,
    }


def _decode_commit_ok(fields: Fields) -> CommitOk:
    return CommitOk(
        as_u64(fields.get(16), "round"),
        as_optional_prepare_id(fields.get(17), "acked"),
        as_checkpoint(fields.get(18), "checkpoint"),
        as_probe(fields.get(19), "probe"),
        as_bool(fields.get(20), "fit"),
    )


# --- View change --------------------------------------------------------------------------------


def _encode_start_view_change(message: StartViewChange) -> Fields:
    return {16: message.target, 17: int(message.reason), 18: message.sanctioned}


def _decode_start_view_change(fields: Fields) -> StartViewChange:
    return StartViewChange(
        as_u64(fields.get(16), "target"),
        as_enum(fields.get(17), "reason", ViewChangeReason),
        as_bool(fields.get(18), "sanctioned"),
    )


def _encode_do_view_change(message: DoViewChange) -> Fields:
    return {
        16: message.log_view,
        17: None if message.head is None else tuple(message.head),
        18: tuple(message.commit),
        19: [(entry.op, entry.checksum, int(entry.state)) for entry in message.entries],
        20: message.last_timestamp,
        21: (message.checkpoint.op, message.checkpoint.digest),
        22: (message.certified.op, message.certified.digest),
        23: message.wal_low,
        24: configuration_row(message.configuration),
        25: configuration_row(message.pending),
    }


def _decode_do_view_change(fields: Fields) -> DoViewChange:
    return DoViewChange(
        log_view=as_u64(fields.get(16), "log_view"),
        head=as_optional_prepare_id(fields.get(17), "head"),
        commit=as_prepare_id(fields.get(18), "commit"),
        entries=tuple([_log_entry(item) for item in as_list(fields.get(19), "entries", ENTRIES_MAX)]),
        last_timestamp=as_u64(fields.get(20), "last_timestamp"),
        checkpoint=as_checkpoint(fields.get(21), "checkpoint"),
        certified=as_checkpoint(fields.get(22), "certified"),
        wal_low=as_u64(fields.get(23), "wal_low"),
        configuration=as_configuration(fields.get(24), "configuration"),
        pending=as_optional_configuration(fields.get(25), "pending"),
    )


def _log_entry(item: object) -> LogEntry:
    op, checksum, state = as_row(item, "entries", 3)
    return LogEntry(
        as_u64(op, "entries"), as_optional_checksum(checksum, "entries"), as_enum(state, "entries", EntryState)
    )


def _encode_start_view(message: StartView) -> Fields:
    return {
        16: tuple(message.base),
        17: b"".join(message.checksums),
        18: message.last_timestamp,
        19: (message.certified.op, message.certified.digest),
        20: configuration_row(message.configuration),
        21: configuration_row(message.pending),
        22: message.nonce,
    }


def _decode_start_view(fields: Fields) -> StartView:
    return StartView(
        base=as_prepare_id(fields.get(16), "base"),
        checksums=as_checksums(fields.get(17), "checksums"),
        last_timestamp=as_u64(fields.get(18), "last_timestamp"),
        certified=as_checkpoint(fields.get(19), "certified"),
        configuration=as_configuration(fields.get(20), "configuration"),
        pending=as_optional_configuration(fields.get(21), "pending"),
        nonce=as_u64(fields.get(22), "nonce"),
    )


def _encode_get_start_view(message: GetStartView) -> Fields:
    return {16: message.nonce}


def _decode_get_start_view(fields: Fields) -> GetStartView:
    return GetStartView(as_u64(fields.get(16), "nonce"))


# --- Repair -------------------------------------------------------------------------------------


def _encode_get_ids(message: GetIds) -> Fields:
    return {16: message.low, 17: message.high}


def _decode_get_ids(fields: Fields) -> GetIds:
    return GetIds(as_u64(fields.get(16), "low"), as_u64(fields.get(17), "high"))


def _encode_ids(message: Ids) -> Fields:
    return {16: message.low, 17: b"".join(message.checksums)}


def _decode_ids(fields: Fields) -> Ids:
    return Ids(as_u64(fields.get(16), "low"), as_checksums(fields.get(17), "checksums"))


def _encode_get_prepares(message: GetPrepares) -> Fields:
    return {16: message.wanted}


def _decode_get_prepares(fields: Fields) -> GetPrepares:
    return GetPrepares(tuple([_wanted(item) for item in as_list(fields.get(16), "wanted", WANTED_MAX)]))


def _wanted(item: object) -> tuple[int, bytes | None]:
    op, checksum = as_row(item, "wanted", 2)
    return as_u64(op, "wanted"), as_optional_checksum(checksum, "wanted")


def _encode_prepare_copy(message: PrepareCopy) -> Fields:
    return {16: message.prepare.header, 17: message.is_current}


def _decode_prepare_copy(fields: Fields, body: bytes) -> PrepareCopy:
    return PrepareCopy(
        parse(as_bytes(fields.get(16), "header", HEADER_SIZE_MAX), body), as_bool(fields.get(17), "is_current")
    )


# --- State transfer -----------------------------------------------------------------------------


def _encode_get_chunk(message: GetChunk) -> Fields:
    return {16: message.digest, 17: message.offset, 18: message.size}


def _decode_get_chunk(fields: Fields) -> GetChunk:
    size = as_u32(fields.get(18), "size")
    return GetChunk(_digest(fields), as_u64(fields.get(17), "offset"), min(size, PIECE_SIZE_MAX))


def _encode_chunk_piece(message: ChunkPiece) -> tuple[Fields, bytes]:
    return {16: message.digest, 17: message.offset, 18: message.total}, message.data


def _decode_chunk_piece(fields: Fields, body: bytes) -> ChunkPiece:
    return ChunkPiece(
        _digest(fields),
        as_u64(fields.get(17), "offset"),
        as_u64(fields.get(18), "total"),
        as_bytes(body, "body", PIECE_SIZE_MAX),
    )


def _encode_gone(message: Gone) -> Fields:
    return {16: message.digest}


def _decode_gone(fields: Fields) -> Gone:
    return Gone(_digest(fields))


def _digest(fields: Fields) -> bytes:
    return as_bytes(fields.get(16), "digest", CHUNK_DIGEST_SIZE, CHUNK_DIGEST_SIZE)


# --- Reads at backups -----------------------------------------------------------------------------


def _encode_read_index(message: ReadIndex) -> Fields:
    return {16: message.boot, 17: message.counter}


def _decode_read_index(fields: Fields) -> ReadIndex:
    return ReadIndex(as_u32(fields.get(16), "boot"), as_u64(fields.get(17), "counter"))


def _encode_read_index_ok(message: ReadIndexOk) -> Fields:
    return {16: message.boot, 17: message.counter, 18: message.op}


def _decode_read_index_ok(fields: Fields) -> ReadIndexOk:
    return ReadIndexOk(as_u32(fields.get(16), "boot"), as_u64(fields.get(17), "counter"), as_u64(fields.get(18), "op"))


# --- Tables ---------------------------------------------------------------------------------------

# An encoder takes the one class of its row, which the type of a table cannot say: hence Any.
Row: TypeAlias = tuple[Kind, type[PeerMessage], Callable[[Any], Fields], Callable[[Fields], PeerMessage]]
PrepareRow: TypeAlias = tuple[
    Kind, type[PeerMessage], Callable[[Any], Fields], Callable[[Fields, bytes], PrepareMessage | PrepareCopy]
]

OpaqueRow: TypeAlias = tuple[
    Kind, type[PeerMessage], Callable[[Any], tuple[Fields, bytes]], Callable[[Fields, bytes], PeerMessage]
]

PLAIN: tuple[Row, ...] = (
    (Kind.HELLO, Hello, _encode_hello, _decode_hello),
    (Kind.HELLO_ACK, HelloAck, _encode_hello_ack, _decode_hello_ack),
    (Kind.PING, Ping, _encode_position, _decode_ping),
    (Kind.PONG, Pong, _encode_position, _decode_pong),
    (Kind.PREPARE_OK, PrepareOk, _encode_prepare_ok, _decode_prepare_ok),
    (Kind.COMMIT, Commit, _encode_commit, _decode_commit),
    (Kind.COMMIT_OK, CommitOk, _encode_commit_ok, _decode_commit_ok),
    (Kind.START_VIEW_CHANGE, StartViewChange, _encode_start_view_change, _decode_start_view_change),
    (Kind.DO_VIEW_CHANGE, DoViewChange, _encode_do_view_change, _decode_do_view_change),
    (Kind.START_VIEW, StartView, _encode_start_view, _decode_start_view),
    (Kind.GET_START_VIEW, GetStartView, _encode_get_start_view, _decode_get_start_view),
    (Kind.GET_IDS, GetIds, _encode_get_ids, _decode_get_ids),
    (Kind.IDS, Ids, _encode_ids, _decode_ids),
    (Kind.GET_PREPARES, GetPrepares, _encode_get_prepares, _decode_get_prepares),
    (Kind.GET_CHUNK, GetChunk, _encode_get_chunk, _decode_get_chunk),
    (Kind.GONE, Gone, _encode_gone, _decode_gone),
    (Kind.READ_INDEX, ReadIndex, _encode_read_index, _decode_read_index),
    (Kind.READ_INDEX_OK, ReadIndexOk, _encode_read_index_ok, _decode_read_index_ok),
)

PREPARES: tuple[PrepareRow, ...] = (
    (Kind.PREPARE, PrepareMessage, _encode_prepare, _decode_prepare),
    (Kind.PREPARE_COPY, PrepareCopy, _encode_prepare_copy, _decode_prepare_copy),
)

OPAQUE: tuple[OpaqueRow, ...] = ((Kind.CHUNK_PIECE, ChunkPiece, _encode_chunk_piece, _decode_chunk_piece),)
