"""What a checkpoint consists of: the core's own state, and a manifest that names every chunk (PROTOCOL 9).

A checkpoint is state frozen after one op. Its bytes are chunks named by digest: some hold sessions, the
rest is the application's. The manifest lists them, and its own digest is the identity of the whole
checkpoint. It holds nothing that differs between replicas, so equal states have equal identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple, cast

import attrs

from trio_pb import canonical
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.core.prepare import CHECKSUM_SIZE, PrepareId
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
    match fields:
        case [
            1,
            bytes(cluster),
            int(op),
            bytes(checksum),
            int(last_timestamp),
            int(release),
            [int(epoch), list(voters), list(standbys)],
            bytes(probe),
            list(sessions),
            list(application),
        ] if (
            len(cluster) == len(checksum) == len(probe) == CHECKSUM_SIZE
            and min(op, last_timestamp, release, epoch) >= 0
        ):
            state = CoreState(
                op=op,
                checksum=checksum,
                last_timestamp=last_timestamp,
                release=release,
                configuration=Configuration(epoch, _replicas(voters), _replicas(standbys)),
                probe=probe,
                sessions=(),
            )
            return Manifest(cluster=cluster, state=state, sessions=_chunks(sessions), application=_chunks(application))
        case _:
            raise RemoteProtocolError("manifest: not the fields of one, or of a newer format")


def _replicas(values: Iterable[object]) -> tuple[int, ...]:
    given = list(values)
    replicas = tuple(value for value in given if type(value) is int)
    if len(replicas) != len(given) or list(replicas) != sorted(set(replicas)):
        raise RemoteProtocolError("manifest: replicas are not rising whole numbers")
    return replicas


def _chunks(values: Iterable[object]) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    for value in values:
        match value:
            case [int(place), bytes(digest), int(size)] if (
                place > (chunks[-1].place if chunks else -1)
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
    if not isinstance(values, list):
        raise RemoteProtocolError("session chunk: not a list")
    return tuple(_row(value) for value in values)


def _row(value: canonical.Value) -> SessionRow:
    match value:
        case [bytes(client), int(session), int(last_number), int(last_op), list(registered), list(replies)]:
            kept = tuple(_reply(reply) for reply in cast("list[object]", replies))
            return SessionRow(client, session, last_number, last_op, _reply(cast("object", registered)), kept)
        case _:
            raise RemoteProtocolError("session chunk: not the fields of a session")


def _reply(value: object) -> KeptReply:
    match value:
        case [int(number), int(op), int(timestamp), bytes(result)]:
            return KeptReply(number, op, timestamp, result)
        case _:
            raise RemoteProtocolError("session chunk: not the fields of a kept reply")
