"""What a checkpoint consists of: the core's own state, and a manifest that names every chunk (PROTOCOL 9).

A checkpoint is state frozen after one op. Its bytes are chunks named by digest: some hold sessions, the
rest is the application's. The manifest lists them, and its own digest is the identity of the whole
checkpoint. It holds nothing that differs between replicas, so equal states have equal identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple, cast

import attrs

from trio_pb import canonical
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareId
from trio_pb.core.quorum import REPLICA_MAX, VOTERS_MAX
from trio_pb.errors import RemoteProtocolError

__all__ = [
    "CHUNKS_PER_PIECE",
    "CHUNK_DIGEST_SIZE",
    "CHUNK_SIZE_MAX",
    "SESSION_PLACES",
    "Chunk",
    "CoreState",
    "KeptReply",
    "Manifest",
    "SessionRow",
    "chunk_digest",
    "decode_manifest",
    "decode_sessions",
    "encode_manifest",
    "encode_sessions",
    "manifest_id",
    "manifest_pieces",
    "session_place",
]

CHUNK_DIGEST_SIZE = 32
CHUNK_SIZE_MAX = 64 << 20  # Bytes of one chunk; a manifest that names a larger one is refused.
SESSION_PLACES = 64
CHUNKS_PER_PIECE = 256
FORMAT = 1


class Chunk(NamedTuple):
    """One chunk as a manifest names it."""

    place: int  # Which part of the state it holds; unique among the sessions', or the application's, chunks.
    digest: bytes  # blake2b-256 of its bytes.
    size: int  # Bytes.


class KeptReply(NamedTuple):
    """A reply as it was first given."""

    number: int
    op: int
    timestamp: int  # Nanoseconds.
    result: bytes


class SessionRow(NamedTuple):
    """One session of the session table, as a checkpoint keeps it."""

    client: bytes
    session: int
    last_number: int
    last_op: int
    registered: KeptReply
    replies: tuple[KeptReply, ...]  # Oldest first, at most one window.


@attrs.frozen(kw_only=True)
class CoreState:
    """What the core itself keeps of all ops up to `op`: equal on all replicas that applied `op`."""

    op: int
    checksum: bytes  # Of the prepare at `op`.
    last_timestamp: int  # Nanoseconds; of the last request in it.
    release: int
    configuration: Configuration
    probe: bytes  # Rolling digest of all results up to `op`, 16 bytes.
    sessions: tuple[SessionRow, ...]  # Least recently used first.

    @property
    def id(self) -> PrepareId:
        """The prepare after which the state was frozen."""
        return PrepareId(self.op, self.checksum)


@attrs.frozen(kw_only=True)
class Manifest:
    """A whole checkpoint by the digests of its parts; `state.sessions` is empty here."""

    cluster: bytes
    state: CoreState
    sessions: tuple[Chunk, ...]  # By rising place.
    application: tuple[Chunk, ...]  # By rising place.

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Everything that must be present for the checkpoint to load."""
        return self.sessions + self.application


def chunk_digest(data: bytes) -> bytes:
    """Return the name of a chunk or manifest."""
    return blake2b(data, digest_size=CHUNK_DIGEST_SIZE).digest()


def manifest_id(op: int, data: bytes) -> CheckpointId:
    """Return the identity of the checkpoint whose manifest is `data`."""
    return CheckpointId(op, chunk_digest(data))


# --- Manifest -----------------------------------------------------------------------------------


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of `manifest`."""
    return b"".join(manifest_pieces(manifest))


def manifest_pieces(manifest: Manifest) -> Iterator[bytes]:
    """Yield the canonical bytes of `manifest` bit by bit, 0.3 ms each: with thousands of chunks they take a while."""
    state = manifest.state
    assert not state.sessions, "a manifest names session chunks, it does not hold sessions"
    configuration = state.configuration
    fields = [
        FORMAT,
        manifest.cluster,
        state.op,
        state.checksum,
        state.last_timestamp,
        state.release,
        [configuration.epoch, configuration.voters, configuration.standbys],
        state.probe,
        manifest.sessions,  # SESSION_PLACES of them at most.
    ]
    application = manifest.application
    yield b"".join(
        (
            canonical.array_head(len(fields) + 1),
            *map(canonical.encode, fields),
            canonical.array_head(len(application)),
        )
    )
    for first in range(0, len(application), CHUNKS_PER_PIECE):
        chunks = application[first : first + CHUNKS_PER_PIECE]
        yield canonical.encode(chunks)[len(canonical.array_head(len(chunks))) :]


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest whose encoding is `data`. Takes any bytes whatever.

    Raises:
        RemoteProtocolError: it is not the encoding of one.
    """
    try:
        fields = canonical.decode(data)
    except canonical.CanonicalError as error:
        raise RemoteProtocolError(f"manifest: {error}") from error
    number, cluster, op, checksum, last_timestamp, release, configuration, probe, sessions, application = (
        _list(fields, 10)
    )  # fmt: skip
    if _unsigned(number) != FORMAT:
        raise RemoteProtocolError("manifest: of another format")
    state = CoreState(
        op=_unsigned(op),
        checksum=_checksum(checksum),
        last_timestamp=_unsigned(last_timestamp),
        release=_unsigned(release),
        configuration=_configuration(configuration),
        probe=_checksum(probe),
        sessions=(),
    )
    return Manifest(
        cluster=_checksum(cluster), state=state, sessions=_chunks(sessions), application=_chunks(application)
    )


def _unsigned(value: object) -> int:
    if type(value) is int and value >= 0:  # A truth value would be equal to a number, and encode otherwise.
        return value
    raise RemoteProtocolError("checkpoint: a number is not an unsigned integer")


def _checksum(value: object) -> bytes:
    if type(value) is bytes and len(value) == CHECKSUM_SIZE:
        return value
    raise RemoteProtocolError(f"checkpoint: an id or checksum is not {CHECKSUM_SIZE} bytes")


def _list(value: object, count: int | None = None) -> list[object]:
    if isinstance(value, list):
        items = cast("list[object]", value)
        if count is None or len(items) == count:
            return items
    raise RemoteProtocolError("checkpoint: not a list" if count is None else f"checkpoint: not a list of {count}")


def _configuration(value: object) -> Configuration:
    epoch, voters, standbys = _list(value, 3)
    voting = _replicas(voters)
    if not 1 <= len(voting) <= VOTERS_MAX:
        raise RemoteProtocolError(f"manifest: {len(voting)} voters, a cluster has 1 to {VOTERS_MAX}")
    return Configuration(_unsigned(epoch), voting, _replicas(standbys))


def _replicas(values: object) -> tuple[int, ...]:
    replicas = tuple(_unsigned(value) for value in _list(values))
    if list(replicas) != sorted(set(replicas)) or (replicas and replicas[-1] > REPLICA_MAX):
        raise RemoteProtocolError(f"manifest: replicas are not rising whole numbers up to {REPLICA_MAX}")
    return replicas


def _chunks(values: object) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    for value in _list(values):
        match value:
            case [int(place), bytes(digest), int(size)] if (
                type(place) is type(size) is int
                and place > (chunks[-1].place if chunks else -1)
                and len(digest) == CHUNK_DIGEST_SIZE
                and 0 <= size <= CHUNK_SIZE_MAX
            ):
                chunks.append(Chunk(place, digest, size))
            case _:
                raise RemoteProtocolError("manifest: chunks are not rising places with digests and sizes")
    return tuple(chunks)


# --- Sessions -------------------------------------------------------------------------------------


def session_place(client: bytes) -> int:
    """Return the place of the chunk that holds the session of `client`."""
    return client[0] % SESSION_PLACES if client else 0


def encode_sessions(rows: Iterable[SessionRow]) -> bytes:
    """Return the bytes of one session chunk: its rows by rising client."""
    return canonical.encode(sorted(rows, key=lambda row: row.client))


def decode_sessions(data: bytes) -> tuple[SessionRow, ...]:
    """Return the rows of one session chunk. Takes any bytes whatever.

    Raises:
        RemoteProtocolError: it is not the encoding of one.
    """
    try:
        values = canonical.decode(data)
    except canonical.CanonicalError as error:
        raise RemoteProtocolError(f"session chunk: {error}") from error
    rows = tuple(_row(value) for value in _list(values))
    if any(left.client >= right.client for left, right in pairwise(rows)):
        raise RemoteProtocolError("session chunk: clients do not rise")
    return rows


def _row(value: object) -> SessionRow:
    client, session, last_number, last_op, registered, replies = _list(value, 6)
    return SessionRow(
        _checksum(client),
        _unsigned(session),
        _unsigned(last_number),
        _unsigned(last_op),
        _reply(registered),
        tuple(_reply(reply) for reply in _list(replies)),
    )


def _reply(value: object) -> KeptReply:
    number, op, timestamp, result = _list(value, 4)
    if type(result) is not bytes:
        raise RemoteProtocolError("session chunk: a result is not bytes")
    return KeptReply(_unsigned(number), _unsigned(op), _unsigned(timestamp), result)
