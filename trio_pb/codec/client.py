"""What clients and replicas say to one another: an encoder and a decoder per message (PROTOCOL 3.2).

Request and read bodies and the results of replies travel as the body of their frame, opaque: the
codec never looks into them, and nobody but the state machine does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trio_pb.codec.fields import (
    MEMBERS_MAX,
    Fields,
    as_bool,
    as_bytes,
    as_checksum,
    as_digest,
    as_enum,
    as_list,
    as_optional_checksum,
    as_optional_replica,
    as_replica,
    as_row,
    as_text,
    as_u16,
    as_u32,
    as_u64,
)
from trio_pb.codec.kinds import Kind
from trio_pb.core.messages import (
    ClientMessage,
    Greet,
    Greeted,
    Member,
    Read,
    ReadMode,
    Reject,
    RejectCode,
    Reply,
    Request,
    ServerMessage,
    Status,
    StatusGet,
    StatusReport,
)

__all__ = ["ADDRESS_SIZE_MAX", "COUNTERS_MAX", "CURSOR_SIZE_MAX", "OPAQUE", "PLAIN", "WIRE_VERSIONS_MAX"]

ADDRESS_SIZE_MAX = 512  # Characters of host:port.
COUNTERS_MAX = 256  # In a status.
COUNTER_NAME_SIZE_MAX = 64  # Characters.
CURSOR_SIZE_MAX = 16 << 10  # Bytes; it travels in the header.
WIRE_VERSIONS_MAX = 16  # In a greet.


# --- Greeting -----------------------------------------------------------------------------------


def _encode_greet(message: Greet) -> Fields:
    return {16: message.wire_versions, 17: message.cluster}


def _decode_greet(fields: Fields) -> Greet:
    versions = as_list(fields.get(16), "wire_versions", WIRE_VERSIONS_MAX)
    return Greet(
        tuple([as_u16(version, "wire_versions") for version in versions]),
        as_optional_checksum(fields.get(17), "cluster"),
    )


def _encode_greeted(message: Greeted) -> Fields:
    return {
        16: message.wire_version,
        17: message.cluster,
        18: message.replica,
        19: [(member.replica, member.address) for member in message.members],
        20: message.view,
        21: message.primary,
        22: message.connection,
        23: message.request_size_max,
        24: message.window,
        25: message.release,
    }


def _decode_greeted(fields: Fields) -> Greeted:
    return Greeted(
        wire_version=as_u16(fields.get(16), "wire_version"),
        cluster=as_checksum(fields.get(17), "cluster"),
        replica=as_replica(fields.get(18), "replica"),
        members=tuple([_member(item) for item in as_list(fields.get(19), "members", MEMBERS_MAX)]),
        view=as_u64(fields.get(20), "view"),
        primary=as_optional_replica(fields.get(21), "primary"),
        connection=as_u64(fields.get(22), "connection"),
        request_size_max=as_u32(fields.get(23), "request_size_max"),
        window=as_u16(fields.get(24), "window"),
        release=as_u32(fields.get(25), "release"),
    )


def _member(item: object) -> Member:
    replica, address = as_row(item, "members", 2)
    return Member(as_replica(replica, "members"), as_text(address, "members", ADDRESS_SIZE_MAX))


# --- Requests and reads -------------------------------------------------------------------------


def _encode_request(message: Request) -> tuple[Fields, bytes]:
    return {16: message.client, 17: message.session, 18: message.number, 19: message.code}, message.body


def _decode_request(fields: Fields, body: bytes) -> Request:
    return Request(
        as_checksum(fields.get(16), "client"),
        as_u64(fields.get(17), "session"),
        as_u64(fields.get(18), "number"),
        as_u16(fields.get(19), "code"),
        body,
    )


def _encode_read(message: Read) -> tuple[Fields, bytes]:
    fields: Fields = {
        16: message.client,
        17: message.number,
        18: message.code,
        19: int(message.mode),
        20: message.min_op,
        21: message.cursor,
    }
    return fields, message.body


def _decode_read(fields: Fields, body: bytes) -> Read:
    return Read(
        as_checksum(fields.get(16), "client"),
        as_u64(fields.get(17), "number"),
        as_u16(fields.get(18), "code"),
        body,
        as_enum(fields.get(19), "mode", ReadMode),
        as_u64(fields.get(20), "min_op"),
        as_bytes(fields.get(21), "cursor", CURSOR_SIZE_MAX),
    )


def _encode_reply(message: Reply) -> tuple[Fields, bytes]:
    fields: Fields = {
        16: message.client,
        17: message.session,
        18: message.number,
        19: message.op,
        20: message.view,
        21: message.timestamp,
        22: message.replayed,
        23: message.cursor,
    }
    return fields, message.result


def _decode_reply(fields: Fields, body: bytes) -> Reply:
    return Reply(
        as_checksum(fields.get(16), "client"),
        as_u64(fields.get(17), "session"),
        as_u64(fields.get(18), "number"),
        as_u64(fields.get(19), "op"),
        as_u64(fields.get(20), "view"),
        as_u64(fields.get(21), "timestamp"),
        as_bool(fields.get(22), "replayed"),
        body,
        as_bytes(fields.get(23), "cursor", CURSOR_SIZE_MAX),
    )


def _encode_reject(message: Reject) -> Fields:
    return {
        16: message.client,
        17: message.session,
        18: message.number,
        19: int(message.code),
        20: message.primary,
        21: message.primary_address,
        22: message.retry_ms,
    }


def _decode_reject(fields: Fields) -> Reject:
    return Reject(
        as_checksum(fields.get(16), "client"),
        as_u64(fields.get(17), "session"),
        as_u64(fields.get(18), "number"),
        as_enum(fields.get(19), "code", RejectCode),
        as_optional_replica(fields.get(20), "primary"),
        as_text(fields.get(21), "primary_address", ADDRESS_SIZE_MAX),
        as_u32(fields.get(22), "retry_ms"),
    )


# --- Status -------------------------------------------------------------------------------------


def _encode_status_get(message: StatusGet) -> Fields:
    del message  # It says nothing but its kind.
    return {}


def _decode_status_get(fields: Fields) -> StatusGet:
    del fields
    return StatusGet()


def _encode_status(message: StatusReport) -> Fields:
    return {
        16: message.replica,
        17: int(message.status),
        18: message.is_primary,
        19: message.view,
        20: message.log_view,
        21: message.head,
        22: message.commit,
        23: message.applied,
        24: message.state_op,
        25: message.state_digest,
        26: message.peers,
        27: message.counters,
    }


def _decode_status(fields: Fields) -> StatusReport:
    return StatusReport(
        replica=as_replica(fields.get(16), "replica"),
        status=as_enum(fields.get(17), "status", Status),
        is_primary=as_bool(fields.get(18), "is_primary"),
        view=as_u64(fields.get(19), "view"),
        log_view=as_u64(fields.get(20), "log_view"),
        head=as_u64(fields.get(21), "head"),
        commit=as_u64(fields.get(22), "commit"),
        applied=as_u64(fields.get(23), "applied"),
        state_op=as_u64(fields.get(24), "state_op"),
        state_digest=as_digest(fields.get(25), "state_digest"),
        peers=tuple([_peer(item) for item in as_list(fields.get(26), "peers", MEMBERS_MAX)]),
        counters=tuple([_counter(item) for item in as_list(fields.get(27), "counters", COUNTERS_MAX)]),
    )


def _peer(item: object) -> tuple[int, bool, int]:
    replica, alive, applied = as_row(item, "peers", 3)
    return as_replica(replica, "peers"), as_bool(alive, "peers"), as_u64(applied, "peers")


def _counter(item: object) -> tuple[str, int]:
    name, count = as_row(item, "counters", 2)
    return as_text(name, "counters", COUNTER_NAME_SIZE_MAX), as_u64(count, "counters")


# --- Tables -------------------------------------------------------------------------------------

# An encoder takes the one class of its row, which the type of a table cannot say: hence Any.
Message: TypeAlias = ClientMessage | ServerMessage
Row: TypeAlias = tuple[Kind, type[Message], Callable[[Any], Fields], Callable[[Fields], Message]]
OpaqueRow: TypeAlias = tuple[
    Kind, type[Message], Callable[[Any], tuple[Fields, bytes]], Callable[[Fields, bytes], Message]
]

PLAIN: tuple[Row, ...] = (
    (Kind.GREET, Greet, _encode_greet, _decode_greet),
    (Kind.GREETED, Greeted, _encode_greeted, _decode_greeted),
    (Kind.STATUS_GET, StatusGet, _encode_status_get, _decode_status_get),
    (Kind.STATUS, StatusReport, _encode_status, _decode_status),
    (Kind.REJECT, Reject, _encode_reject, _decode_reject),
)

OPAQUE: tuple[OpaqueRow, ...] = (
    (Kind.REQUEST, Request, _encode_request, _decode_request),
    (Kind.READ, Read, _encode_read, _decode_read),
    (Kind.REPLY, Reply, _encode_reply, _decode_reply),
)
