"""Manifests and session chunks: round trips, one identity per state, and any bytes refused (PROTOCOL 9)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.bench import chain, checkpoint_of, state_at
from trio_pb import canonical
from trio_pb.core.manifest import (
    CHUNKS_PER_PIECE,
    Chunk,
    KeptReply,
    Manifest,
    SessionRow,
    chunk_digest,
    decode_manifest,
    decode_sessions,
    encode_manifest,
    encode_sessions,
    manifest_id,
    manifest_pieces,
)
from trio_pb.core.messages import CheckpointId, Configuration
from trio_pb.errors import RemoteProtocolError

QUICK = settings(deadline=None, max_examples=100)
STATE = state_at(chain(8), 8)
MANIFEST = Manifest(
    cluster=b"c" * 16,
    state=attrs.evolve(STATE, configuration=Configuration(3, (0, 1, 2), (7,))),
    sessions=(Chunk(0, b"s" * 32, 10), Chunk(5, b"t" * 32, 0)),
    application=(Chunk(0, b"a" * 32, 64 << 20),),
)
ROWS = (
    SessionRow(b"b" * 16, 7, 1, 3, KeptReply(0, 1, 5, b"\x07"), (KeptReply(1, 3, 6, b"did"),)),
    SessionRow(b"a" * 16, 8, 0, 2, KeptReply(0, 2, 6, b"\x08"), ()),
)

wild = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.binary(max_size=33) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)


def test_a_manifest_is_what_was_encoded() -> None:
    """And its identity is the digest of its bytes."""
    data = encode_manifest(MANIFEST)
    assert decode_manifest(data) == MANIFEST
    assert decode_manifest(data).chunks == MANIFEST.sessions + MANIFEST.application
    assert manifest_id(8, data) == CheckpointId(8, chunk_digest(data))


def test_a_manifest_of_many_pieces_is_one_encoding() -> None:
    """What is joined is the canonical encoding of the whole, however many chunks there are."""
    for count in (0, 1, 23, 24, CHUNKS_PER_PIECE, CHUNKS_PER_PIECE + 1, 3 * CHUNKS_PER_PIECE - 1):
        manifest = attrs.evolve(MANIFEST, application=tuple(Chunk(n, b"a" * 32, n) for n in range(count)))
        assert len(list(manifest_pieces(manifest))) == 1 + -(-count // CHUNKS_PER_PIECE)
        data = encode_manifest(manifest)
        assert canonical.encode(canonical.decode(data)) == data
        assert decode_manifest(data) == manifest


def test_sessions_are_one_encoding_in_any_order() -> None:
    """Equal tables have equal chunks."""
    assert encode_sessions(ROWS) == encode_sessions(reversed(ROWS))
    assert decode_sessions(encode_sessions(ROWS)) == tuple(sorted(ROWS))


def test_equal_states_have_equal_identities_and_others_have_not() -> None:
    """INV-20: each part of the core's state is in the identity."""
    ids = {checkpoint_of(STATE).id}
    assert ids == {checkpoint_of(attrs.evolve(STATE)).id}
    for changed in (
        attrs.evolve(STATE, checksum=b"z" * 16),
        attrs.evolve(STATE, last_timestamp=STATE.last_timestamp + 1),
        attrs.evolve(STATE, release=2),
        attrs.evolve(STATE, configuration=Configuration(1, (0, 1, 2))),
        attrs.evolve(STATE, probe=b"z" * 16),
        attrs.evolve(STATE, sessions=ROWS),
    ):
        ids.add(checkpoint_of(changed).id)
    assert len(ids) == 7


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    """As a manifest and as sessions."""
    with pytest.raises(RemoteProtocolError):
        decode_manifest(data)
    with contextlib.suppress(RemoteProtocolError):
        decode_sessions(data)  # An empty list is one.


@QUICK
@given(at=st.lists(st.integers(0, 9), max_size=3), inner=st.integers(0, 3), value=wild)
def test_any_field_is_taken_or_refused(at: list[int], inner: int, value: object) -> None:
    """Wrong types at every depth: a protocol error, never another exception."""
    encodings: list[tuple[bytes, Callable[[bytes], object]]] = [
        (encode_manifest(MANIFEST), decode_manifest),
        (encode_sessions(ROWS), decode_sessions),
    ]
    for data, decode in encodings:
        root = cast("list[object]", canonical.decode(data))
        holder = root
        for index in at:
            nested = holder[index % len(holder)]
            if not isinstance(nested, list) or not nested:
                break
            holder = cast("list[object]", nested)
        holder[inner % len(holder)] = value
        with contextlib.suppress(RemoteProtocolError):
            decode(canonical.encode(root))


def test_a_chunk_larger_than_the_bound_is_refused() -> None:
    """Nobody can be made to gather more than 64 MiB in memory."""
    too_large = attrs.evolve(MANIFEST, application=(Chunk(0, b"a" * 32, (64 << 20) + 1),))
    with pytest.raises(RemoteProtocolError, match="chunks"):
        decode_manifest(encode_manifest(too_large))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ((0,), True),  # Equal to 1, and encodes otherwise: two identities of one checkpoint.
        ((2,), True),
        ((2,), -1),
        ((4,), False),
        ((6, 1), []),
        ((6, 1), list(range(8))),
        ((6, 1), [1, 0]),
        ((6, 2), [-1]),
        ((6, 2), [1024]),
        ((8, 0, 0), False),
        ((9, 0, 2), True),
    ],
)
def test_a_manifest_has_numbers_within_their_bounds(at: tuple[int, ...], value: object) -> None:
    """Of the format, of ops and of replicas; and as many voters as there are quorums for."""
    with pytest.raises(RemoteProtocolError):
        decode_manifest(changed(encode_manifest(MANIFEST), at, value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ((0, 0), b"a" * 15),
        ((0, 0), b"c" * 16),  # Behind the second row.
        ((0, 0), b"b" * 16),  # Twice the same.
        ((0, 1), -1),
        ((0, 2), False),
        ((1, 3), True),
        ((1, 4, 0), -1),
        ((1, 5, 0, 2), False),
    ],
)
def test_sessions_have_one_encoding(at: tuple[int, ...], value: object) -> None:
    """Rows rise by client, and their numbers are numbers."""
    with pytest.raises(RemoteProtocolError):
        decode_sessions(changed(encode_sessions(ROWS), at, value))


def changed(data: bytes, at: tuple[int, ...], value: object) -> bytes:
    """Return an encoding with another value at one place."""
    root = cast("list[object]", canonical.decode(data))
    holder = root
    for index in at[:-1]:
        holder = cast("list[object]", holder[index])
    holder[at[-1]] = value
    return canonical.encode(root)


def test_places_rise() -> None:
    """No part of the state twice."""
    twice = attrs.evolve(MANIFEST, sessions=(Chunk(1, b"s" * 32, 1), Chunk(1, b"t" * 32, 1)))
    with pytest.raises(RemoteProtocolError, match="rising"):
        decode_manifest(encode_manifest(twice))
