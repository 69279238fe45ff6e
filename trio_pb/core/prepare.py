"""A prepare: one immutable log entry, named by the checksum of its header (PROTOCOL 2.2).

The header holds the digest of the payload and the checksum of the entry before it, so that one
16-byte checksum vouches for an entry and for the whole log below it.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple, cast

import attrs

from trio_pb import canonical
from trio_pb.errors import RemoteProtocolError

__all__ = [
    "CHECKSUM_SIZE",
    "HEADER_SIZE_MAX",
    "NO_CHECKSUM",
    "OrderedRequest",
    "Prepare",
    "PrepareId",
    "PrepareKind",
    "build",
    "checksum_of",
    "genesis",
    "parse",
    "parse_header",
]

CHECKSUM_SIZE = 16
NO_CHECKSUM = bytes(CHECKSUM_SIZE)
HEADER_SIZE_MAX = 320  # Encoded bytes; 12 fields of known width stay below 200.


class PrepareKind(IntEnum):
    """What a prepare orders."""

    BATCH = 0
    RECONFIGURATION = 1
    UPGRADE = 2


class PrepareId(NamedTuple):
    """A log position and the checksum of the one prepare meant there."""

    op: int
    checksum: bytes


class OrderedRequest(NamedTuple):
    """One client request inside a batch, in the order of its encoding."""

    client: bytes  # 16 bytes.
    session: int
    number: int
    code: int
    body: bytes


@attrs.frozen
class Prepare:
    """One log entry. `header` and `payload` are the exact bytes; the rest is read from the header."""

    header: bytes
    payload: bytes
    checksum: bytes  # blake2b-128 of `header`.
    cluster: bytes
    epoch: int
    view: int  # The view that created it.
    op: int
    parent: bytes  # Checksum of op - 1.
    commit: int  # Its creator's commit_max when it was made.
    timestamp: int  # Nanoseconds; request i of the batch has timestamp + i.
    count: int  # Requests in the batch.
    kind: PrepareKind
    release: int
    # What `payload` decodes to, when somebody did already; derived, so no part of the identity.
    decoded: tuple[OrderedRequest, ...] | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def id(self) -> PrepareId:
        """Position and checksum."""
        return PrepareId(self.op, self.checksum)

    @property
    def payload_digest(self) -> bytes:
        """blake2b-128 of the payload: the last field of the header, and of known width."""
        return self.header[-CHECKSUM_SIZE:]

    def with_payload(self, payload: bytes) -> Prepare:
        """The same entry with the payload that its header vouches for; the caller has compared the two."""
        return Prepare(
            self.header,
            payload,
            self.checksum,
            self.cluster,
            self.epoch,
            self.view,
            self.op,
            self.parent,
            self.commit,
            self.timestamp,
            self.count,
            self.kind,
            self.release,
        )

    def requests(self) -> tuple[OrderedRequest, ...]:
        """The requests of a batch.

        Raises:
            RemoteProtocolError: the payload is not an array of requests.
        """
        if self.decoded is not None:
            return self.decoded
        try:
            items = canonical.decode_relaxed(self.payload)
        except canonical.CanonicalError as error:
            raise RemoteProtocolError(f"prepare {self.op}: payload: {error}") from error
        if not isinstance(items, list) or len(cast("list[object]", items)) != self.count:
            raise RemoteProtocolError(f"prepare {self.op}: payload is not an array of {self.count} requests")
        requests = tuple([_request(self.op, item) for item in cast("list[object]", items)])
        # Lists of integers and bytes, as these now are, have one encoding but for padded integers.
        if canonical.encode_ordered(requests) != self.payload:
            raise RemoteProtocolError(f"prepare {self.op}: payload is not canonical")
        return requests


def checksum_of(data: bytes) -> bytes:
    """blake2b-128, the identity of headers, payloads and frames."""
    return blake2b(data, digest_size=CHECKSUM_SIZE).digest()


def build(
    *,
    cluster: bytes,
    epoch: int,
    view: int,
    op: int,
    parent: bytes,
    commit: int,
    timestamp: int,
    requests: list[OrderedRequest],
    release: int,
    kind: PrepareKind = PrepareKind.BATCH,
) -> Prepare:
    """Make a new log entry from its parts; the payload is encoded here, once for all its uses."""
    payload = canonical.encode_ordered(requests)  # No map in it, so no order of keys: canonical.
    count = len(requests)
    digest = checksum_of(payload)
    header = _encode_header(
        cluster, epoch, view, op, parent, commit, timestamp, count, int(kind), release, len(payload), digest
    )
    return Prepare(
        header,
        payload,
        checksum_of(header),
        cluster,
        epoch,
        view,
        op,
        parent,
        commit,
        timestamp,
        count,
        kind,
        release,
        tuple(requests),
    )


def genesis(cluster: bytes) -> Prepare:
    """Op 0, the same for all replicas of a cluster: the anchor of the hash chain (PROTOCOL 2.1)."""
    return build(
        cluster=cluster, epoch=0, view=0, op=0, parent=NO_CHECKSUM, commit=0, timestamp=0, requests=[], release=0
    )


def parse_header(header: bytes) -> tuple[Prepare, int, bytes]:
    """Read a header alone: the prepare with an empty payload, the payload's size and its digest.

    Raises:
        RemoteProtocolError: the bytes are not a prepare header.
    """
    return _parse(header, b"")


def parse(header: bytes, payload: bytes) -> Prepare:
    """Read a prepare and verify that its header vouches for its payload (PROTOCOL 5.2).

    The payload of a batch is decoded here, so that whoever takes a prepare can also execute it.

    Raises:
        RemoteProtocolError: malformed header, a payload that is not the one named in it, or no batch.
    """
    prepare, size, digest = _parse(header, payload)
    if len(payload) != size or checksum_of(payload) != digest:
        raise RemoteProtocolError(f"prepare {prepare.op}: payload does not match its header")
    if prepare.kind is not PrepareKind.BATCH:
        return prepare
    return attrs.evolve(prepare, decoded=prepare.requests())


def _parse(header: bytes, payload: bytes) -> tuple[Prepare, int, bytes]:
    """Read a header, believe the payload: the prepare, and the size and digest its payload must have."""
    if len(header) > HEADER_SIZE_MAX:
        raise RemoteProtocolError(f"prepare header: {len(header)} bytes, at most {HEADER_SIZE_MAX}")
    try:
        fields = canonical.decode_relaxed(header)
    except canonical.CanonicalError as error:
        raise RemoteProtocolError(f"prepare header: {error}") from error
    if not isinstance(fields, dict) or list(cast("dict[object, object]", fields)) != _KEYS:
        raise RemoteProtocolError("prepare header: not a map of the keys 0 to 11")
    cluster, epoch, view, op, parent, commit, timestamp, count, kind, release, size, digest = (
        cast("dict[object, object]", fields).values()
    )  # fmt: skip
    cluster, parent, digest = _bytes16(cluster), _bytes16(parent), _bytes16(digest)
    epoch, view, op, commit, timestamp = _u64(epoch), _u64(view), _u64(op), _u64(commit), _u64(timestamp)
    count, kind, release, size = _u64(count), _u64(kind), _u64(release), _u64(size)
    if kind not in _KINDS:
        raise RemoteProtocolError(f"prepare header: unknown kind {kind}")
    again = _encode_header(cluster, epoch, view, op, parent, commit, timestamp, count, kind, release, size, digest)
    if again != header:
        raise RemoteProtocolError("prepare header: not canonical")
    prepare = Prepare(
        header=header,
        payload=payload,
        checksum=checksum_of(header),
        cluster=cluster,
        epoch=epoch,
        view=view,
        op=op,
        parent=parent,
        commit=commit,
        timestamp=timestamp,
        count=count,
        kind=_KINDS[kind],
        release=release,
    )
    return prepare, size, digest


def _encode_header(*values: bytes | int) -> bytes:
    """Encode the twelve fields of a header; their keys are their places."""
    return canonical.encode_ordered(dict(enumerate(values)))


_KEYS = list(range(12))
_KINDS = {int(kind): kind for kind in PrepareKind}


def _bytes16(value: object) -> bytes:
    if type(value) is bytes and len(value) == CHECKSUM_SIZE:
        return value
    raise RemoteProtocolError("prepare header: cluster, parent and digest must be 16 bytes each")


def _u64(value: object) -> int:
    if type(value) is int and 0 <= value < 1 << 64:
        return value
    raise RemoteProtocolError("prepare header: a number is not an unsigned integer of 64 bits")


def _request(op: int, item: object) -> OrderedRequest:
    if isinstance(item, list) and len(cast("list[object]", item)) == 5:
        client, session, number, code, body = cast("list[object]", item)
        if (
            type(client) is bytes
            and len(client) == CHECKSUM_SIZE
            and type(session) is int
            and session >= 0
            and type(number) is int
            and number >= 0
            and type(code) is int
            and code >= 0
            and type(body) is bytes
        ):
            return OrderedRequest(client, session, number, code, body)
    raise RemoteProtocolError(f"prepare {op}: a request is not [client, session, number, code, body]")
