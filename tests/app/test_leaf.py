"""A leaf against a plain dictionary: same contents, and one encoding for them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pb.app import leaf as leaves
from trio_pb.app.leaf import EMPTY_LEAF, PLACE_SIZE, key_bytes
from trio_pb.app.parts import MalformedStateError

values = st.binary(max_size=5)
integers = st.integers(0, 9) | st.integers(0, (1 << 64) - 1)
names = st.binary(max_size=3)


def build(contents: Mapping[int, bytes] | Mapping[bytes, bytes]) -> bytes:
    """Return the leaf with these contents, put in their order."""
    leaf = EMPTY_LEAF
    for key, value in contents.items():
        leaf = leaves.put(leaf, key, value)
    return leaf


def check(changes: list[tuple[int, bytes | None]] | list[tuple[bytes, bytes | None]]) -> None:
    """Make changes, None for a removal, to a leaf and to a dictionary."""
    leaf, model = EMPTY_LEAF, dict[Any, bytes]()  # Any: keys of one kind, whichever.
    for key, value in changes:
        if value is not None:
            model[key] = value
            leaf = leaves.put(leaf, key, value)
        elif key in model:
            del model[key]
            leaf = leaves.remove(leaf, key)
        assert leaves.length(leaf) == len(model)
        for known in {key, *model}:
            assert leaves.find(leaf, known) == model.get(known)
    assert leaf == build({key: model[key] for key in sorted(model, reverse=True)})


@given(st.lists(st.tuples(integers, st.none() | values), max_size=12))
def test_a_leaf_of_numbers_is_a_dictionary(changes: list[tuple[int, bytes | None]]) -> None:
    """It finds, replaces, adds and removes as one, and no history leaves a trace."""
    check(changes)


@given(st.lists(st.tuples(names, st.none() | values), max_size=12))
def test_a_leaf_of_names_is_a_dictionary(changes: list[tuple[bytes, bytes | None]]) -> None:
    """The same with keys of any length, the empty one too."""
    check(changes)


@given(st.lists(st.dictionaries(names, values, max_size=4), min_size=2, max_size=2))
def test_a_leaf_tells_different_contents_apart(pair: list[dict[bytes, bytes]]) -> None:
    """Two leaves are equal exactly if they hold the same, wherever bytes could be moved to."""
    one, other = pair
    assert (build(one) == build(other)) == (one == other)


@given(st.dictionaries(integers, values, min_size=1, max_size=6), st.binary(max_size=3), st.binary(max_size=3))
def test_what_was_put_is_read(contents: dict[int, bytes], before: bytes, after: bytes) -> None:
    """Keys and values come back in order, wherever the leaf stands, if all keys belong to its place."""
    leaf = build(contents)
    places = {blake2b(key_bytes(key), digest_size=PLACE_SIZE).digest() for key in contents}
    try:
        read = leaves.read(before + leaf + after, len(before), int, next(iter(places)))
    except MalformedStateError:
        assert len(places) > 1
        return
    assert len(places) == 1
    assert list(read.keys) == sorted(contents)
    assert list(read.values) == [contents[key] for key in sorted(contents)]
    assert read.end == len(before) + len(leaf)


@given(st.binary(max_size=40), st.sampled_from([int, bytes]))
def test_any_bytes_are_refused_or_are_a_leaf(data: bytes, kind: type[int] | type[bytes]) -> None:
    """Nothing is raised but MalformedStateError; what is taken is what `put` would have made."""
    place = blake2b(bytes(8), digest_size=PLACE_SIZE).digest()
    try:
        keys, found, end = leaves.read(data, 0, kind, place)
    except MalformedStateError:
        return
    assert build(dict(zip(keys, found, strict=True))) == data[:end]


def test_the_keys_of_a_leaf_belong_to_its_place() -> None:
    """A whole leaf in the place of another is refused, as each of its keys would be looked for elsewhere."""
    leaf = build({0: b"x"})
    place = blake2b(bytes(8), digest_size=PLACE_SIZE).digest()
    assert list(leaves.read(leaf, 0, int, place).keys) == [0]
    with pytest.raises(MalformedStateError, match="elsewhere"):
        leaves.read(leaf, 0, int, bytes([place[0], place[1] ^ 1]))
