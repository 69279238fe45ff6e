"""Messages to frames and back (PROTOCOL 3.1): the envelope that all have in common, and the dispatch.

A header is a CBOR map with integer keys. Keys below 16 are the envelope, keys from 16 on belong to the
kind. A reader ignores keys that it does not know.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias, cast

from trio_pb import canonical
from trio_pb.codec import client, peer
from trio_pb.codec.fields import Fields, as_bytes, as_checksum, as_replica, as_u32, as_u64, bad
from trio_pb.codec.frames import Frame, encode_frame
from trio_pb.codec.kinds import Kind
from trio_pb.core.messages import (
    CLIENT_REPLICA,
    ClientMessage,
    Envelope,
    PeerMessage,
    PrepareCopy,
    PrepareMessage,
    ServerMessage,
)
from trio_pb.core.prepare import checksum_of
from trio_pb.errors import RemoteProtocolError

__all__ = ["NO_CLUSTER", "WIRE_VERSION", "Decoded", "decode", "encode_client", "encode_peer", "encode_server"]

WIRE_VERSION = 1
NO_CLUSTER = bytes(16)  # In the envelope of a client that does not know its cluster yet.
INCARNATION_PREFIX_SIZE = 8

Message: TypeAlias = PeerMessage | ClientMessage | ServerMessage


class Decoded(NamedTuple):
    """A message and what its frame says of the sender."""

    envelope: Envelope
    message: Message


def encode_peer(envelope: Envelope, message: PeerMessage) -> bytes:
    """Return the frame of a message from replica to replica.

    Raises:
        LocalProtocolError: the message is larger than a frame may be.
    """
    if type(message) is PrepareMessage or type(message) is PrepareCopy:
        kind, encode_prepare = _ENCODE_PREPARE[type(message)]
        prepare = message.prepare
        # The payload was hashed when the prepare was built; its header has the digest.
        return _encode(kind, envelope, encode_prepare(message), prepare.payload, prepare.payload_digest)
    return _encode_other(envelope, message)


def encode_client(cluster: bytes | None, message: ClientMessage) -> bytes:
    """Return the frame of a message from client to replica; `cluster` is None while it is not known.

    Raises:
        LocalProtocolError: the message is larger than a frame may be.
    """
    return encode_server(_client_envelope(NO_CLUSTER if cluster is None else cluster), message)


def encode_server(envelope: Envelope, message: ServerMessage | ClientMessage) -> bytes:
    """Return the frame of a message from replica to client.

    Raises:
        LocalProtocolError: the message is larger than a frame may be.
    """
    return _encode_other(envelope, message)


def _encode_other(envelope: Envelope, message: Message) -> bytes:
    opaque = _ENCODE_OPAQUE.get(type(message))
    if opaque is not None:
        kind, encode_opaque = opaque
        fields, body = encode_opaque(message)
        return _encode(kind, envelope, fields, body, checksum_of(body))
    kind, encode = _ENCODE_PLAIN[type(message)]
    return _encode(kind, envelope, encode(message), b"", _EMPTY_DIGEST)


def decode(frame: Frame) -> Decoded | None:
    """Return the message in a frame, or None when its kind is not known: drop and count it.

    Total: any bytes give a message, None or the error below.

    Raises:
        RemoteProtocolError: not a header, a wire version that we do not speak, a field that is
            missing, of the wrong type or out of range, or a body that does not match its digest.
    """
    try:
        fields = canonical.decode_relaxed(frame.header)
    except canonical.CanonicalError as error:
        raise RemoteProtocolError(f"frame header: {error}") from error
    if type(fields) is not dict:
        raise RemoteProtocolError("frame header: not a map")
    fields = cast(Fields, fields)
    wire = fields.get(0)
    if type(wire) is not int or wire != WIRE_VERSION:
        raise RemoteProtocolError(
            f"a frame of wire version {wire!r}; this program speaks version {WIRE_VERSION} only: use programs of one "
            "version of trio-pb"
        )
    number = fields.get(1)
    if type(number) is not int or not 0 <= number <= 255:
        raise bad("kind", "an unsigned integer of 8 bits", number)
    kind = _KINDS.get(number)
    if kind is None:
        return None
    try:
        return Decoded(_decode_envelope(kind, fields), _decode_message(kind, fields, frame.body))
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"{kind.name.lower()}: {error}") from error


# --- Envelope -------------------------------------------------------------------------------------


def _encode(kind: Kind, envelope: Envelope, own: Fields, body: bytes, digest: bytes) -> bytes:
    """Join the envelope and a message's own keys; of the envelope only op and commit are encoded anew."""
    constant = _encode_constant(
        envelope.cluster,
        envelope.replica,
        envelope.incarnation,
        envelope.boot,
        envelope.epoch,
        envelope.view,
        envelope.release,
    )
    rest = canonical.encode_ordered({9: envelope.op, 10: envelope.commit, 11: digest, **own})
    count = 3 + len(own)
    assert count < 24, "the size of a larger map takes more than its first byte"
    header = _MAP_HEADS[9 + count] + _KIND_KEYS[kind] + constant + rest[1:]
    return encode_frame(header, body)


@lru_cache(maxsize=64)
def _encode_constant(
    cluster: bytes, replica: int, incarnation: bytes, boot: int, epoch: int, view: int, release: int
) -> bytes:
    """Encode the keys of the envelope that stay the same for a whole view, without the map's head."""
    fields = {2: cluster, 3: replica, 4: incarnation, 5: boot, 6: epoch, 7: view, 8: release}
    return canonical.encode_ordered(fields)[1:]


@lru_cache(maxsize=64)
def _client_envelope(cluster: bytes) -> Envelope:
    return Envelope(
        cluster=cluster,
        replica=CLIENT_REPLICA,
        incarnation=bytes(INCARNATION_PREFIX_SIZE),
        boot=0,
        epoch=0,
        view=0,
        op=0,
        commit=0,
        release=0,
    )


def _decode_envelope(kind: Kind, fields: Fields) -> Envelope:
    cluster = as_checksum(fields.get(2), "cluster")
    incarnation = as_bytes(fields.get(4), "inc", INCARNATION_PREFIX_SIZE, INCARNATION_PREFIX_SIZE)
    boot = as_u32(fields.get(5), "boot")
    if kind in _FROM_CLIENTS:
        if fields.get(3) != CLIENT_REPLICA:
            raise bad("from", f"{CLIENT_REPLICA}, the mark of a client", fields.get(3))
        if boot or any(incarnation):
            raise RemoteProtocolError("inc, boot: expected zero from a client")
        # The rest of a client's envelope says nothing; one object serves them all.
        return _client_envelope(cluster)
    return Envelope(
        cluster=cluster,
        replica=as_replica(fields.get(3), "from"),
        incarnation=incarnation,
        boot=boot,
        epoch=as_u32(fields.get(6), "epoch"),
        view=as_u64(fields.get(7), "view"),
        release=as_u32(fields.get(8), "release"),
        op=as_u64(fields.get(9), "op"),
        commit=as_u64(fields.get(10), "commit"),
    )


# --- Message --------------------------------------------------------------------------------------


def _decode_message(kind: Kind, fields: Fields, body: bytes) -> Message:
    digest = as_checksum(fields.get(11), "bdig")
    plain = _DECODE_PLAIN.get(kind)
    if plain is not None:
        if body or digest != _EMPTY_DIGEST:
            raise RemoteProtocolError("body: expected none")
        return plain(fields)
    opaque = _DECODE_OPAQUE.get(kind)
    if opaque is not None:
        if checksum_of(body) != digest:
            raise RemoteProtocolError("body: does not match its digest")
        return opaque(fields, body)
    # The prepare's own header has a digest of the same bytes, so they are hashed once, by its parser.
    message = _DECODE_PREPARE[kind](fields, body)
    if message.prepare.payload_digest != digest:
        raise RemoteProtocolError("body: does not match its digest")
    return message


_EMPTY_DIGEST = checksum_of(b"")
_MAP_HEADS = [bytes((0xA0 + size,)) if size < 24 else bytes((0xB8, size)) for size in range(64)]
_KINDS = {int(kind): kind for kind in Kind}
_KIND_KEYS = {kind: canonical.encode_ordered({0: WIRE_VERSION, 1: int(kind)})[1:] for kind in Kind}
_FROM_CLIENTS = frozenset({Kind.GREET, Kind.STATUS_GET, Kind.REQUEST, Kind.READ})

_ENCODE_PLAIN = {cls: (kind, encode) for kind, cls, encode, _ in (*peer.PLAIN, *client.PLAIN)}
_ENCODE_PREPARE = {cls: (kind, encode) for kind, cls, encode, _ in peer.PREPARES}
_ENCODE_OPAQUE = {cls: (kind, encode) for kind, cls, encode, _ in (*peer.OPAQUE, *client.OPAQUE)}
_DECODE_PLAIN = {kind: decode_ for kind, _, _, decode_ in (*peer.PLAIN, *client.PLAIN)}
_DECODE_PREPARE = {kind: decode_ for kind, _, _, decode_ in peer.PREPARES}
_DECODE_OPAQUE = {kind: decode_ for kind, _, _, decode_ in (*peer.OPAQUE, *client.OPAQUE)}
