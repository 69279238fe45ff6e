"""A prepare is named by the hash of its header, which vouches for its payload and its whole past."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.samples import CLUSTER, PREPARE, header_fields
from tests.codec.strategies import QUICK, prepares
from trio_pb import canonical
from trio_pb.core.prepare import (
    CHECKSUM_SIZE,
    HEADER_SIZE_MAX,
    NO_CHECKSUM,
    OrderedRequest,
    Prepare,
    build,
    checksum_of,
    genesis,
    parse,
    parse_header,
)
from trio_pb.errors import RemoteProtocolError

U64_MAX = 2**64 - 1


def rebuilt(key: int, value: object) -> bytes:
    """The header of the sample with one field replaced."""
    return canonical.encode({**header_fields(PREPARE.header), key: value})


def next_prepare(before: Prepare, timestamp: int = 0) -> Prepare:
    """An empty prepare after `before`."""
    return build(
        cluster=before.cluster,
        epoch=0,
        view=1,
        op=before.op + 1,
        parent=before.checksum,
        commit=0,
        timestamp=timestamp,
        requests=[],
        release=1,
    )


@QUICK
@given(prepares())
def test_a_prepare_read_back_is_the_one_built(prepare: Prepare) -> None:
    """From exactly its two byte strings."""
    assert parse(prepare.header, prepare.payload) == prepare


@QUICK
@given(prepares())
def test_a_header_is_canonical(prepare: Prepare) -> None:
    """So that equal entries have equal checksums in every program."""
    fields = canonical.decode(prepare.header)
    assert canonical.encode(fields) == prepare.header
    assert prepare.checksum == checksum_of(prepare.header)
    assert prepare.payload_digest == checksum_of(prepare.payload)


def test_requests_come_back_in_order() -> None:
    """The payload is an array of [client, session, number, code, body]."""
    assert PREPARE.requests() == (
        OrderedRequest(b"laptop-client-01", 0, 0, 1, b""),
        OrderedRequest(b"laptop-client-01", 65536, 1, 2, b"one laptop, please"),
    )


def test_the_largest_header_fits_its_bound() -> None:
    """Every number at its end still leaves room below HEADER_SIZE_MAX."""
    largest = build(
        cluster=CLUSTER,
        epoch=U64_MAX,
        view=U64_MAX,
        op=U64_MAX,
        parent=NO_CHECKSUM,
        commit=U64_MAX,
        timestamp=U64_MAX,
        requests=[],
        release=U64_MAX,
    )
    assert len(largest.header) < 200 < HEADER_SIZE_MAX
    assert parse(largest.header, largest.payload) == largest


def test_genesis_is_the_same_for_all_of_a_cluster_and_differs_between_clusters() -> None:
    """The hash chain of one cluster never continues in another (PROTOCOL 2.1)."""
    assert genesis(CLUSTER) == genesis(CLUSTER)
    assert genesis(CLUSTER).op == 0
    assert genesis(CLUSTER).parent == NO_CHECKSUM
    assert genesis(CLUSTER).checksum != genesis(b"another-cluster!").checksum


def test_a_change_below_changes_every_checksum_above() -> None:
    """One checksum vouches for the whole log below it (PROTOCOL 2.1)."""
    start = genesis(CLUSTER)
    first, other = next_prepare(start), next_prepare(start, timestamp=1)
    assert first.checksum != other.checksum
    for _ in range(3):
        first, other = next_prepare(first), next_prepare(other)
        assert first.op == other.op
        assert first.checksum != other.checksum


@pytest.mark.parametrize("payload", [b"", PREPARE.payload[:-1], PREPARE.payload + b"\0", bytes(len(PREPARE.payload))])
def test_another_payload_is_refused(payload: bytes) -> None:
    """Shorter, longer, or of the same size (PROTOCOL 5.2)."""
    with pytest.raises(RemoteProtocolError, match="payload does not match"):
        parse(PREPARE.header, payload)


def test_a_header_tells_what_its_payload_must_be() -> None:
    """A reader of headers alone learns the size and the digest of the payload."""
    prepare, size, digest = parse_header(PREPARE.header)
    assert (prepare.id, prepare.payload) == (PREPARE.id, b"")
    assert (size, digest) == (len(PREPARE.payload), checksum_of(PREPARE.payload))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (0, CLUSTER[:-1]),
        (0, "cluster-16-bytes"),
        (4, None),
        (11, bytes(CHECKSUM_SIZE + 1)),
        *[(key, value) for key in (1, 2, 3, 5, 6, 7, 9, 10) for value in (-1, None, True, b"1")],
        (8, 3),
        (8, -1),
        (12, 0),
    ],
)
def test_a_header_with_a_wrong_field_is_refused(key: int, value: object) -> None:
    """Every field has one type and one range, and there are twelve."""
    with pytest.raises(RemoteProtocolError, match="prepare header"):
        parse_header(rebuilt(key, value))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x80",
        PREPARE.header[:-1],
        PREPARE.header + b"\0",
        bytes(HEADER_SIZE_MAX + 1),
        PREPARE.header.replace(b"\x01\x01", b"\x01\x18\x01", 1),  # Epoch 1 in two bytes.
        b"\xac\x01\x01" + PREPARE.header[1:19] + PREPARE.header[21:],  # Keys 1, 0, 2, ...
        PREPARE.header.replace(b"\x01\x01", b"\xf5\x01", 1),  # True for key 1, which Python holds for equal.
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    """Among them encodings of the same fields that are not the one canonical encoding."""
    with pytest.raises(RemoteProtocolError, match="prepare header"):
        parse_header(header)


def with_payload(payload: bytes, count: int) -> Prepare:
    """A prepare whose header vouches for an arbitrary payload."""
    changes = {7: count, 10: len(payload), 11: checksum_of(payload)}
    header = canonical.encode({**header_fields(PREPARE.header), **changes})
    return parse(header, payload)


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b"", 0),
        (b"\x80\0", 0),
        (b"\xa0", 0),
        (b"\x80", 1),
        (canonical.encode([[bytes(16), 1, 1, 1, b""]]), 2),
        (canonical.encode([[bytes(15), 1, 1, 1, b""]]), 1),
        (canonical.encode([[bytes(16), -1, 1, 1, b""]]), 1),
        (canonical.encode([[bytes(16), 1, True, 1, b""]]), 1),
        (canonical.encode([[bytes(16), 1, 1, None, b""]]), 1),
        (canonical.encode([[bytes(16), 1, 1, 1, "text"]]), 1),
        (canonical.encode([[bytes(16), 1, 1, 1]]), 1),
        (canonical.encode([7]), 1),
        (b"\x81\x85\x50" + bytes(16) + bytes.fromhex("18010101 40"), 1),
        (b"\x98\x01\x85\x50" + bytes(16) + bytes.fromhex("010101 40"), 1),
    ],
)
def test_a_payload_that_is_not_an_array_of_requests_is_refused(payload: bytes, count: int) -> None:
    """The last two are right but for a padded number."""
    with pytest.raises(RemoteProtocolError, match="prepare 1:"):
        with_payload(payload, count).requests()


@QUICK
@given(st.binary(max_size=250), st.binary(max_size=50))
def test_any_bytes_give_a_prepare_or_a_protocol_error(header: bytes, payload: bytes) -> None:
    """Totality of both parsers."""
    with pytest.raises(RemoteProtocolError):
        parse(header, payload)
    with pytest.raises(RemoteProtocolError):
        with_payload(payload, 1).requests()
