"""Every message round trips; any other bytes are dropped or refused, never anything else."""

from __future__ import annotations

import tracemalloc
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec import samples
from tests.codec.strategies import CLIENT_MESSAGES, PEER_MESSAGES, QUICK, SERVER_MESSAGES, binary16, envelopes
from tests.codec.test_canonical import HOSTILE, NOT_CANONICAL
from trio_pb import canonical
from trio_pb.codec import wire
from trio_pb.codec.frames import HEADER_SIZE_MAX, Frame, FrameReader, encode_frame
from trio_pb.codec.kinds import Kind
from trio_pb.core.messages import (
    CLIENT_REPLICA,
    ClientMessage,
    Envelope,
    GetChunk,
    PeerMessage,
    PrepareCopy,
    PrepareMessage,
    Request,
    ServerMessage,
)
from trio_pb.core.prepare import checksum_of
from trio_pb.errors import LocalProtocolError, RemoteProtocolError

ALL_FRAMES = samples.frames()
WRONG_TYPES: list[object] = [-1, 1.5, "text", b"bytes", {}, {0: 0}, [[[]]], [b""] * 5]
OUT_OF_RANGE: list[tuple[str, int, object, str]] = [
    ("Commit", 3, 1024, "from"),
    ("Commit", 3, CLIENT_REPLICA, "from"),
    ("Request", 3, 0, "from"),
    ("Request", 5, 1, "boot"),
    ("Request", 4, b"incarnat", "inc"),
    ("Commit", 2, bytes(15), "cluster"),
    ("Commit", 4, bytes(16), "inc"),
    ("Commit", 5, 2**32, "boot"),
    ("Commit", 6, 2**32, "epoch"),
    ("Commit", 8, 2**32, "release"),
    ("Commit", 11, bytes(16), "body"),
    ("Commit", 1, 256, "kind"),
    ("Commit", 16, bytes(17), "head_checksum"),
    ("Commit", 19, [1, bytes(31)], "certified"),
    ("Ping", 19, 6, "status"),
    ("Ping", 19, True, "status"),
    ("Ping", 27, 1, "fit"),
    ("Ping", 28, 2**16, "reach"),
    ("Ping", 32, [1, [], []], "configuration"),
    ("Ping", 32, [1, [0, 0], []], "configuration"),
    ("Ping", 32, [1, [1, 0], []], "configuration"),
    ("Ping", 32, [1, [1024], []], "configuration"),
    ("Ping", 32, [1, list(range(8)), []], "configuration"),
    ("Ping", 32, [1, [0], list(range(65))], "configuration"),
    ("DoViewChange", 19, [[1, None, 0]] * 1025, "entries"),
    ("DoViewChange", 19, [[1, None, 3]], "entries"),
    ("DoViewChange", 19, [[1, None]], "entries"),
    ("StartView", 17, bytes(4097 * 16), "checksums"),
    ("StartView", 17, bytes(17), "checksums"),
    ("Ids", 17, bytes(4097 * 16), "checksums"),
    ("GetPrepares", 16, [[1, None]] * 33, "wanted"),
    ("GetChunk", 16, bytes(31), "digest"),
    ("GetChunk", 18, 2**32, "size"),
    ("ChunkPiece", 16, b"", "digest"),
    ("Gone", 16, bytes(33), "digest"),
    ("Ping", 34, [1, bytes(15)], "probe"),
    ("Greet", 16, list(range(17)), "wire_versions"),
    ("Greeted", 19, [[0, ""]] * 65, "members"),
    ("Greeted", 19, [[0, "a" * 513]], "members"),
    ("Request", 19, 2**16, "code"),
    ("Read", 19, 2, "mode"),
    ("Read", 21, bytes((16 << 10) + 1), "cursor"),
    ("Reject", 19, 12, "code"),
    ("Reject", 21, "a" * 513, "primary_address"),
    ("StatusReport", 26, [[0, True, 0]] * 65, "peers"),
    ("StatusReport", 27, [["a", 0]] * 257, "counters"),
    ("StatusReport", 27, [["a" * 65, 0]], "counters"),
]
OPTIONAL = {
    ("CommitOk", 17),
    ("Commit", 17),
    ("DoViewChange", 17),
    ("DoViewChange", 25),
    ("Greet", 17),
    ("Greeted", 21),
    ("Ping", 22),
    ("Ping", 33),
    ("Pong", 22),
    ("Pong", 33),
    ("PrepareMessage", 17),
    ("Reject", 20),
    ("StartView", 21),
}


def cut(encoded: bytes) -> Frame:
    """The one frame in these bytes."""
    (frame,) = FrameReader().feed(encoded)
    return frame


def fields_of(name: str) -> dict[int, object]:
    """The header of a sample as a map that a test may change."""
    return samples.header_fields(cut(ALL_FRAMES[name]).header)


def decode_changed(name: str, changes: dict[int, object], body: bytes | None = None) -> wire.Decoded | None:
    """Decode a sample with some header fields replaced."""
    header = canonical.encode({**fields_of(name), **changes})
    return wire.decode(Frame(header, cut(ALL_FRAMES[name]).body if body is None else body))


def decode_any(frame: Frame) -> wire.Decoded | None:
    """Decode, counting a protocol error as dropped; any other exception fails the test."""
    try:
        return wire.decode(frame)
    except RemoteProtocolError:
        return None


# --- Round trips --------------------------------------------------------------------------------


def test_every_message_class_has_a_strategy() -> None:
    """A new message without a round trip fails here."""
    assert set(PEER_MESSAGES) == set(get_args(PeerMessage))
    assert set(CLIENT_MESSAGES) == set(get_args(ClientMessage))
    assert set(SERVER_MESSAGES) == set(get_args(ServerMessage))


@pytest.mark.parametrize("cls", PEER_MESSAGES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data(), envelope=envelopes)
def test_messages_between_replicas_round_trip(cls: type[PeerMessage], data: st.DataObject, envelope: Envelope) -> None:
    """Envelope and message come out as they went in."""
    message = data.draw(PEER_MESSAGES[cls])
    assert wire.decode(cut(wire.encode_peer(envelope, message))) == (envelope, message)


@pytest.mark.parametrize("cls", SERVER_MESSAGES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data(), envelope=envelopes)
def test_messages_to_clients_round_trip(cls: type[ServerMessage], data: st.DataObject, envelope: Envelope) -> None:
    """Envelope and message come out as they went in."""
    message = data.draw(SERVER_MESSAGES[cls])
    assert wire.decode(cut(wire.encode_server(envelope, message))) == (envelope, message)


@pytest.mark.parametrize("cls", CLIENT_MESSAGES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data(), cluster=st.none() | binary16)
def test_messages_of_clients_round_trip(cls: type[ClientMessage], data: st.DataObject, cluster: bytes | None) -> None:
    """A client has no envelope of its own: all but the cluster is fixed (PROTOCOL 3.2, greet)."""
    message = data.draw(CLIENT_MESSAGES[cls])
    decoded = wire.decode(cut(wire.encode_client(cluster, message)))
    assert decoded is not None
    assert decoded.message == message
    assert decoded.envelope.cluster == (wire.NO_CLUSTER if cluster is None else cluster)
    assert decoded.envelope.replica == CLIENT_REPLICA
    assert (decoded.envelope.incarnation, decoded.envelope.boot) == (bytes(8), 0)


@pytest.mark.parametrize("name", ALL_FRAMES)
def test_headers_are_canonical(name: str) -> None:
    """The header put together from parts is what the whole map encodes to."""
    header = cut(ALL_FRAMES[name]).header
    assert canonical.encode(canonical.decode(header)) == header


@pytest.mark.parametrize("name", ["PrepareMessage", "PrepareCopy"])
def test_a_prepare_travels_as_its_own_bytes(name: str) -> None:
    """Header and payload are not encoded again, and the payload's digest is the body's (PROTOCOL 3.1)."""
    frame = cut(ALL_FRAMES[name])
    assert frame.body == samples.PREPARE.payload
    assert samples.PREPARE.header in frame.header
    assert fields_of(name)[11] == samples.PREPARE.payload_digest


# --- What is dropped and what is refused ----------------------------------------------------------


def test_unknown_kinds_are_dropped() -> None:
    """All numbers that no kind has, those kept free among them (PROTOCOL 3.1)."""
    unknown = sorted(set(range(256)) - set(Kind))
    assert {17, 18, 24} <= set(unknown)
    for number in unknown:
        assert decode_changed("Commit", {1: number}) is None


def test_unknown_keys_are_ignored() -> None:
    """A newer peer may say more than we understand."""
    changed = decode_changed("Commit", {15: b"later", 99: [1, {2: 3}], 2**40: None})
    assert changed == wire.decode(cut(ALL_FRAMES["Commit"]))


@pytest.mark.parametrize("version", [0, 2, 255, -1, None, True, b"1"])
def test_other_wire_versions_are_refused(version: object) -> None:
    """Before anything else of the message is read."""
    with pytest.raises(RemoteProtocolError, match="this program speaks version 1 only"):
        decode_changed("Commit", {0: version, 1: 200})


def keys_read(name: str) -> list[int]:
    """The keys of a sample that its decoder reads; most of a client's envelope says nothing."""
    fields = fields_of(name)
    return [key for key in fields if not (fields[3] == CLIENT_REPLICA and 6 <= key <= 10)]


@pytest.mark.parametrize("name", ALL_FRAMES)
def test_each_field_is_needed(name: str) -> None:
    """A header without it is refused, unless the field may be absent."""
    for key in keys_read(name):
        fields = fields_of(name)
        del fields[key]
        frame = Frame(canonical.encode(fields), cut(ALL_FRAMES[name]).body)
        if (name, key) in OPTIONAL:
            assert wire.decode(frame) is not None
        else:
            with pytest.raises(RemoteProtocolError):
                wire.decode(frame)


@pytest.mark.parametrize("name", ALL_FRAMES)
def test_each_field_has_one_type(name: str) -> None:
    """No field takes a value of another type or a negative number."""
    for key in keys_read(name):
        original = fields_of(name)[key]
        for value in WRONG_TYPES:
            if type(value) is type(original) and value != -1:
                continue
            with pytest.raises(RemoteProtocolError):
                decode_changed(name, {key: value})


@pytest.mark.parametrize(("name", "key", "value", "field"), OUT_OF_RANGE)
def test_the_error_names_the_field(name: str, key: int, value: object, field: str) -> None:
    """Values of the right type out of their range, and lists over their bound."""
    with pytest.raises(RemoteProtocolError, match=field):
        decode_changed(name, {key: value})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("DoViewChange", {19: [[1, bytes(16), 0]] * 1024}),
        ("StartView", {17: bytes(4096 * 16)}),
        ("GetPrepares", {16: [[1, bytes(16)]] * 32}),
        ("StatusReport", {27: [["a" * 64, 2**64 - 1]] * 256}),
        ("Greeted", {19: [[0, "a" * 512]] * 64}),
    ],
)
def test_lists_at_their_bound_pass(name: str, changes: dict[int, object]) -> None:
    """And such a header still fits into a frame."""
    assert decode_changed(name, changes) is not None
    encode_frame(canonical.encode({**fields_of(name), **changes}))


@pytest.mark.parametrize("name", ["Request", "Read", "Reply", "PrepareMessage", "PrepareCopy", "ChunkPiece"])
def test_a_body_that_does_not_match_its_digest_is_refused(name: str) -> None:
    """A flipped bit, a missing body, or a wrong digest over the right body."""
    body = cut(ALL_FRAMES[name]).body
    flipped = bytes([body[0] ^ 1]) + body[1:]
    for changed in (flipped, b"", body + b"\0"):
        with pytest.raises(RemoteProtocolError, match="match"):
            decode_changed(name, {}, changed)
    with pytest.raises(RemoteProtocolError, match="body: does not match"):
        decode_changed(name, {11: bytes(16)})


def test_a_body_where_none_belongs_is_refused() -> None:
    """Even with a digest that matches it."""
    with pytest.raises(RemoteProtocolError, match="body: expected none"):
        decode_changed("Commit", {11: checksum_of(b"extra")}, b"extra")


def test_a_prepare_with_the_digest_of_another_body_is_refused() -> None:
    """The prepare's own header decides what its payload is, whatever the frame's digest says."""
    body = b"not the payload"
    with pytest.raises(RemoteProtocolError, match="payload does not match"):
        decode_changed("PrepareMessage", {11: checksum_of(body)}, body)


def test_a_piece_larger_than_any_that_is_asked_for_is_refused() -> None:
    """One megabyte at most; and nobody can ask for more at once (PROTOCOL 8.2)."""
    body = bytes((1 << 20) + 1)
    with pytest.raises(RemoteProtocolError, match="body"):
        decode_changed("ChunkPiece", {11: checksum_of(body)}, body)
    asked = decode_changed("GetChunk", {18: 2**32 - 1})
    assert asked is not None
    assert asked.message == GetChunk(fields_digest("GetChunk"), 262_144, 1 << 20)


def fields_digest(name: str) -> bytes:
    """The chunk that a sample names."""
    digest = fields_of(name)[16]
    assert isinstance(digest, bytes)
    return digest


def test_we_do_not_send_what_nobody_would_take() -> None:
    """A body of two megabytes is our own caller's mistake."""
    with pytest.raises(LocalProtocolError, match="at most"):
        wire.encode_client(samples.CLUSTER, Request(bytes(16), 1, 1, 2, bytes(2 << 20)))


# --- Totality -------------------------------------------------------------------------------------


@QUICK
@given(st.binary(max_size=300), st.binary(max_size=50))
def test_any_header_is_a_message_or_refused(header: bytes, body: bytes) -> None:
    """Random bytes, whose digest may well be right."""
    decode_any(Frame(header, body))


_wild = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(2**64), 2**64)
    | st.binary(max_size=40)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 40) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)


@QUICK
@given(st.sampled_from(sorted(ALL_FRAMES)), st.dictionaries(st.integers(1, 35), _wild, max_size=6))
def test_any_values_in_the_fields_are_a_message_or_refused(name: str, changes: dict[int, object]) -> None:
    """Well-formed CBOR with a valid start: this reaches every reader of a field."""
    frame = cut(ALL_FRAMES[name])
    decode_any(Frame(canonical.encode({**fields_of(name), **changes}), frame.body))


@QUICK
@given(st.sampled_from(sorted(ALL_FRAMES)), st.data())
def test_mutated_headers_are_a_message_or_refused(name: str, data: st.DataObject) -> None:
    """Bit flips, truncation, and splices with other messages, below the reach of the digest."""
    frame = cut(ALL_FRAMES[name])
    header = bytearray(frame.header)
    for at in data.draw(st.lists(st.integers(0, 8 * len(header) - 1), max_size=4)):
        header[at // 8] ^= 1 << at % 8
    other = cut(ALL_FRAMES[data.draw(st.sampled_from(sorted(ALL_FRAMES)))]).header
    end = data.draw(st.integers(0, len(header)))
    start = data.draw(st.integers(0, len(other)))
    decode_any(Frame(bytes(header), frame.body))
    decode_any(Frame(bytes(header[:end]), frame.body))
    decode_any(Frame(bytes(header[:end]) + other[start:], frame.body))


@pytest.mark.parametrize("name", ALL_FRAMES)
def test_no_single_bit_flip_of_a_frame_goes_unseen(name: str) -> None:
    """Preamble, header and body: each bit is covered by a check or makes the frame incomplete."""
    encoded = ALL_FRAMES[name]
    for at in range(0, 8 * len(encoded), 3):
        flipped = bytearray(encoded)
        flipped[at // 8] ^= 1 << at % 8
        try:
            for frame in FrameReader().feed(bytes(flipped)):
                assert wire.decode(frame) is None
                pytest.fail(f"bit {at} of {name} flipped and nothing noticed")
        except RemoteProtocolError:
            continue


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cbor_is_refused(name: str) -> None:
    """As a whole header, and as the value of a key that nobody reads."""
    hostile = bytes.fromhex(HOSTILE[name])
    with pytest.raises(RemoteProtocolError):
        wire.decode(Frame(hostile, b""))
    header = cut(ALL_FRAMES["Commit"]).header
    with pytest.raises(RemoteProtocolError):
        wire.decode(Frame(bytes([header[0] + 1]) + header[1:] + b"\x18\x63" + hostile, b""))


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_odd_cbor_is_a_message_or_refused(name: str) -> None:
    """Floats and their like are refused where a field is read, and may stand where none is."""
    odd = bytes.fromhex(NOT_CANONICAL[name])
    header = cut(ALL_FRAMES["GetStartView"]).header
    assert decode_any(Frame(odd, b"")) is None
    ignored = bytes([header[0] + 1]) + header[1:] + b"\x18\x63" + odd
    assert wire.decode(Frame(ignored, b"")) == wire.decode(cut(ALL_FRAMES["GetStartView"]))


def test_the_memory_of_a_decode_is_bounded() -> None:
    """The costliest header: as many empty containers as fit, in a list that is over its bound."""
    fields = fields_of("GetPrepares")
    fields[16] = [()] * (HEADER_SIZE_MAX - 300)
    header = canonical.encode(fields)
    assert len(header) <= HEADER_SIZE_MAX
    tracemalloc.start()
    try:
        assert decode_any(Frame(header, b"")) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_prepare_messages_are_the_only_ones_with_a_prepare() -> None:
    """The two classes share their body rule; a third would need it too."""
    carriers = {type(message) for message in samples.PEER if hasattr(message, "prepare")}
    assert carriers == {PrepareMessage, PrepareCopy}
