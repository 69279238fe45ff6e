"""Canonical CBOR: one value, one encoding, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.strategies import QUICK
from trio_pb.canonical import (
    DEPTH_MAX,
    CanonicalError,
    Value,
    array_head,
    decode,
    decode_relaxed,
    encode,
    encode_ordered,
)

integers = st.integers(-(2**64), 2**64 - 1)
leaves = st.none() | st.booleans() | integers | st.binary(max_size=40) | st.text(max_size=20)
values: st.SearchStrategy[Value] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(integers, inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=15,
)

# What no reader of ours takes, in either strictness.
HOSTILE = {
    "nothing": "",
    "trailing byte": "0000",
    "trailing map": "a0a0",
    "truncated list": "8201",
    "list of 2^64 - 1": "9bffffffffffffffff",
    "map of 2^64 - 1": "bbffffffffffffffff",
    "bytes of 2^64 - 1": "5bffffffffffffffff",
    "text of 2^31 - 1": "7a7fffffff",
    "indefinite list": "9f01ff",
    "indefinite bytes": "5f4100ff",
    "indefinite map": "bf0102ff",
    "break alone": "ff",
    "reserved length": "1c",
    "text that is not UTF-8": "61ff",
    "duplicate key": "a201000100",
    "too deep": "81" * (DEPTH_MAX + 1) + "00",
    "far too deep": "81" * 100_000 + "00",
    "deep maps": "a100" * 100_000 + "00",
    "date": "c11a00000000",
    "big integer": "c249ffffffffffffffffff",
    "decimal": "c4820a01",
    "bigfloat that asks for gigabytes": "c5821a7fffffff01",
    "rational": "d81e820102",
    "regular expression": "d8236161",
    "list within itself": "d81c81d81d00",
    "shared reference to nothing": "d81d00",
    "string reference": "d9010081d81900",
    "set": "d901028101",
    "self-described": "d9d9f700",
    "unknown tag": "d87b00",
    "unknown tag around a key": "a1d87b0000",
}

# CBOR, but not the one encoding of a value of ours.
NOT_CANONICAL = {
    "padded integer": "1800",
    "padded negative": "3800",
    "padded length": "5801ff",
    "padded list": "980101",
    "unsorted keys": "a202000100",
    "float": "fb3ff0000000000000",
    "short float": "f93c00",
    "not a number": "f97e00",
    "float within a list": "81f93c00",
    "undefined": "f7",
    "simple value": "e5",
    "simple value as a key": "a1e500",
    "boolean as a key": "a1f500",
    "list as a key": "a1810000",
    "map as a key": "a1a000",
}


@QUICK
@given(values)
def test_every_value_round_trips(value: Value) -> None:
    """Decoding gives the value, and encoding it again the same bytes."""
    encoded = encode(value)
    assert decode(encoded) == value
    assert encode(decode(encoded)) == encoded
    assert decode_relaxed(encoded) == value


def test_the_order_of_insertion_leaves_no_trace() -> None:
    """Equal maps have equal bytes."""
    assert encode({2: "b", 1: "a"}) == encode({1: "a", 2: "b"})


@QUICK
@given(values)
def test_the_ordered_encoding_of_sorted_keys_is_canonical(value: Value) -> None:
    """A decoded map stands sorted, so both encoders agree on it."""
    assert encode_ordered(decode(encode(value))) == encode(value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(name: str) -> None:
    """By both decoders, with our own exception."""
    for decoder in (decode, decode_relaxed):
        with pytest.raises(CanonicalError):
            decoder(bytes.fromhex(HOSTILE[name]))


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_other_encodings_are_refused(name: str) -> None:
    """Only the strict decoder cares; the relaxed one reads them."""
    data = bytes.fromhex(NOT_CANONICAL[name])
    with pytest.raises(CanonicalError):
        decode(data)
    decode_relaxed(data)


def test_no_tag_is_acted_upon() -> None:
    """Known to the library or not, on a plausible content or not."""
    for tag in (*range(300), 1004, 43000, 55799, 65535, 2**32, 2**64 - 1):
        for content in ("00", "4100", "6130", "820101", "81d81d00"):
            with pytest.raises(CanonicalError, match="tag"):
                decode_relaxed(b"\xdb" + tag.to_bytes(8, "big") + bytes.fromhex(content))


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    """Totality, and what the strict decoder takes is canonical."""
    try:
        decode_relaxed(data)
    except CanonicalError:
        with pytest.raises(CanonicalError):
            decode(data)
        return
    try:
        value = decode(data)
    except CanonicalError:
        return
    assert encode(value) == data


@given(st.lists(st.integers(0, 300), max_size=300))
def test_an_array_is_its_head_and_its_items(items: list[int]) -> None:
    """What is encoded piece by piece is the encoding of the whole."""
    assert array_head(len(items)) + b"".join(map(encode, items)) == encode(items)


@pytest.mark.parametrize("count", [0, 23, 24, 255, 256, 65535, 65536])
def test_an_array_head_has_the_shortest_form(count: int) -> None:
    """At each length at which the head grows by a byte or more."""
    assert encode([None] * count) == array_head(count) + encode(None) * count
