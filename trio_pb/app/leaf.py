"""A leaf: a small map from keys to byte strings, kept as the one encoding that its contents have.

What a checkpoint writes and a digest names is these bytes, so none of that has to be encoded or decoded:
a change makes new bytes, and whoever holds the old ones holds the old contents. For memory and for the
garbage collector a leaf is one byte string, however many keys it has. Looking up one of 15 keys takes
1 us, a change 2 us.

The encoding: how many keys, the keys rising, how many values, their sizes, the values in the order of
their keys. Keys are all integers (0..2^64-1, 8 bytes each, big-endian) or all byte strings (a list like
that of the values).
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import lt
from typing import Any, NamedTuple, TypeAlias

from trio_pb.app.packing import COUNT_SIZE, pack_values, unpack_count, unpack_values
from trio_pb.app.parts import MalformedStateError

__all__ = [
    "EMPTY_LEAF",
    "PLACE_SIZE",
    "Contents",
    "Key",
    "Keys",
    "find",
    "key_bytes",
    "length",
    "put",
    "read",
    "remove",
]

Key: TypeAlias = int | bytes

# All integers or all bytes, which a type cannot say without doubling every function: hence Any.
Keys: TypeAlias = Sequence[Any]

PLACE_SIZE = 2  # Bytes of a key's hash: its place among all leaves.
_KEY_SIZE = 8  # Bytes of a packed integer.

_COUNT = struct.Struct(">I")

EMPTY_LEAF = bytes(2 * COUNT_SIZE)


# Formats by count: to put one together and to look it up takes longer than to unpack.
@lru_cache(1024)
def _integers(count: int) -> struct.Struct:
    return struct.Struct(f">{count}Q")


@lru_cache(1024)
def _sizes(count: int) -> struct.Struct:
    return struct.Struct(f">{count}I")


class Contents(NamedTuple):
    """What a leaf holds, and where its encoding ends."""

    keys: Keys  # Rising.
    values: Sequence[bytes]  # In the order of the keys.
    end: int


def key_bytes(key: Key) -> bytes:
    """Return the bytes that stand for `key`: an integer (0..2^64-1) is 8 bytes, big-endian."""
    return key if isinstance(key, bytes) else key.to_bytes(_KEY_SIZE, "big")


def length(leaf: bytes) -> int:
    """Return how many keys a leaf has."""
    return unpack_count(leaf, 0, 0)


def find(leaf: bytes, key: Key) -> bytes | None:
    """Return the value of `key`, None if it has none."""
    keys, sizes_at = _keys_of(leaf, key)
    index = bisect_left(keys, key)
    count = len(keys)
    if index == count or keys[index] != key:
        return None
    start, size = _value_at(leaf, sizes_at, count, index)
    return leaf[start : start + size]


def put(leaf: bytes, key: Key, value: bytes) -> bytes:
    """Return a leaf like this one in which `key` has `value`."""
    keys, sizes_at = _keys_of(leaf, key)
    count = len(keys)
    index = bisect_left(keys, key)
    size_at = sizes_at + index * COUNT_SIZE
    if index < count and keys[index] == key:
        start, size = _value_at(leaf, sizes_at, count, index)
        packed_size = len(value).to_bytes(COUNT_SIZE, "big")
        pieces = (leaf[:size_at], packed_size, leaf[size_at + COUNT_SIZE : start], value, leaf[start + size :])
        return b"".join(pieces)
    start, _ = _value_at(leaf, sizes_at, count, index)
    return b"".join(
        (
            _pack_keys((*keys[:index], key, *keys[index:])),
            (count + 1).to_bytes(COUNT_SIZE, "big"),
            leaf[sizes_at:size_at],
            len(value).to_bytes(COUNT_SIZE, "big"),
            leaf[size_at:start],
            value,
            leaf[start:],
        )
    )


def remove(leaf: bytes, key: Key) -> bytes:
    """Return a leaf like this one without `key`, which must be there."""
    keys, sizes_at = _keys_of(leaf, key)
    count = len(keys)
    index = bisect_left(keys, key)
    assert index < count, "what is removed is there"
    assert keys[index] == key, "what is removed is there"
    size_at = sizes_at + index * COUNT_SIZE
    start, size = _value_at(leaf, sizes_at, count, index)
    return b"".join(
        (
            _pack_keys((*keys[:index], *keys[index + 1 :])),
            (count - 1).to_bytes(COUNT_SIZE, "big"),
            leaf[sizes_at:size_at],
            leaf[size_at + COUNT_SIZE : start],
            leaf[start + size :],
        )
    )


def read(data: bytes, start: int, kind: type[int] | type[bytes], place: bytes) -> Contents:
    """Return what the leaf at `start` of `data` holds; `place` is the hash of all its keys.

    Raises:
        MalformedStateError: no leaf begins there. Takes any bytes whatever.
    """
    keys: Keys
    if kind is int:
        keys, end = _unpack_integers(data, start)
        packed = [data[at : at + _KEY_SIZE] for at in range(start + COUNT_SIZE, end, _KEY_SIZE)]
    else:
        packed, end = unpack_values(data, start)
        keys = packed
    values, end = unpack_values(data, end)
    if len(keys) != len(values):
        raise MalformedStateError(f"a leaf with {len(keys)} keys and {len(values)} values")
    # Only what `put` makes is a leaf: then equal chunks and equal contents are the same.
    if not all(map(lt, packed, packed[1:])):  # Whole numbers, big-endian, are in order as bytes are.
        raise MalformedStateError("the keys of a leaf do not rise")
    for key in packed:
        if blake2b(key, digest_size=PLACE_SIZE).digest() != place:
            raise MalformedStateError("a key that belongs elsewhere")
    return Contents(keys, values, end)


def _keys_of(leaf: bytes, like: Key) -> tuple[Keys, int]:
    """Return the keys of a leaf, of the kind of `like`, and where the sizes of its values begin."""
    if isinstance(like, int):
        (count,) = _COUNT.unpack_from(leaf)
        return _integers(count).unpack_from(leaf, COUNT_SIZE), 2 * COUNT_SIZE + count * _KEY_SIZE
    packed, end = unpack_values(leaf, 0)
    return packed, end + COUNT_SIZE


def _value_at(leaf: bytes, sizes_at: int, count: int, index: int) -> tuple[int, int]:
    """Return where value `index` begins and its size; 0 for the place behind the last one."""
    sizes = _sizes(count).unpack_from(leaf, sizes_at)
    start = sizes_at + count * COUNT_SIZE + sum(sizes[:index])
    return start, sizes[index] if index < count else 0


def _unpack_integers(data: bytes, start: int) -> tuple[tuple[int, ...], int]:
    count = unpack_count(data, start, _KEY_SIZE)
    first = start + COUNT_SIZE
    return _integers(count).unpack_from(data, first), first + count * _KEY_SIZE


def _pack_keys(keys: Keys) -> bytes:
    if keys and isinstance(keys[0], int):
        return struct.pack(f">I{len(keys)}Q", len(keys), *keys)
    return pack_values(keys)
