"""Keyed state in 4,096 buckets of 16 leaves by key hash: cheap to pin, and to digest after few changes.

A bucket is what is copied for a pinned version; a leaf is what is encoded anew for a digest. At a
million keys a leaf holds 15 of them, so a digest after a thousand changes reads 15,000 values, which
lie all over memory, where whole buckets would make it read 220,000: 25 ms against 200 when measured.

The place of a key comes from blake2b, never from `hash()`, which differs between processes. Values are
packed bytes: dictionaries of integers and bytes cost least memory and the garbage collector does not
walk through them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Generic, TypeAlias, TypeVar

from trio_pb.app.chunks import DIGEST_SIZE, ChunkDigests, Chunks, Pin

__all__ = ["BUCKET_COUNT", "LEAVES", "Buckets", "BucketsPin", "encode_leaf", "key_bytes", "leaf_of", "pack_values"]

K = TypeVar("K", int, bytes)

BUCKET_COUNT = 4096  # PROTOCOL 9.
LEAVES = 16  # In each bucket; together they use up two bytes of hash.


def key_bytes(key: int | bytes) -> bytes:
    """Return the bytes that stand for `key`: an integer (0..2^64-1) is 8 bytes, big-endian."""
    return key if isinstance(key, bytes) else key.to_bytes(8, "big")


def leaf_of(key: int | bytes) -> tuple[int, int]:
    """Return the bucket of `key` and its leaf in there."""
    return divmod(int.from_bytes(blake2b(key_bytes(key), digest_size=2).digest(), "big"), LEAVES)


def pack_values(values: Sequence[bytes]) -> bytes:
    """Return the one encoding of a list: how many, the size of each (4 bytes each), then all of them."""
    sizes = struct.pack(f">{len(values) + 1}I", len(values), *map(len, values))
    return sizes + b"".join(values)


def encode_leaf(leaf: Mapping[K, bytes]) -> bytes:
    """Return the one encoding of a leaf, whatever order its keys came in: the keys, then the values."""
    ordered = sorted(leaf)
    return _pack_keys(ordered) + pack_values(list(map(leaf.__getitem__, ordered)))


def _pack_keys(keys: Sequence[int | bytes]) -> bytes:
    # Sorting went well, so the keys are all of one kind. Integers are packed in one call: key by key
    # they would cost half the time of a digest.
    if keys and isinstance(keys[0], int):
        return struct.pack(f">I{len(keys)}Q", len(keys), *keys)
    return pack_values(list(map(key_bytes, keys)))


# A bucket: its leaves, or no leaf at all before the first write to it.
Bucket: TypeAlias = list[dict[K, bytes]]


def _copy(bucket: Bucket[K]) -> Bucket[K]:
    return [leaf.copy() for leaf in bucket]


def _get(buckets: Chunks[Bucket[K]] | tuple[Bucket[K], ...], key: K) -> bytes | None:
    index, leaf = leaf_of(key)
    bucket = buckets[index]
    return bucket[leaf].get(key) if bucket else None


_EMPTY_LEAF_DIGEST = blake2b(encode_leaf({}), digest_size=DIGEST_SIZE).digest()


class BucketsPin(Generic[K]):
    """One immutable version of Buckets."""

    __slots__ = ("_pin",)

    def __init__(self, pin: Pin[Bucket[K]]) -> None:
        self._pin: Pin[Bucket[K]] = pin

    def get(self, key: K) -> bytes | None:
        """Return the value that `key` had, None if it had none."""
        return _get(self._pin.chunks, key)

    def release(self) -> None:
        """Let go of this version."""
        self._pin.release()


class Buckets(Generic[K]):
    """A map of keys (all integers of 0..2^64-1, or all bytes) to bytes."""

    __slots__ = ("_buckets", "_digests", "_dirty", "_leaf_digests")

    def __init__(self) -> None:
        unwritten: Bucket[K] = []  # One for all: it is replaced by the first write to its place.
        self._buckets: Chunks[Bucket[K]] = Chunks([unwritten] * BUCKET_COUNT, _copy)
        self._dirty: set[tuple[int, int]] = set()  # Bucket and leaf, written since the last digest.
        # Of the buckets written so far, by bucket: a new map, of which tests make very many, costs little.
        self._leaf_digests: dict[int, bytearray] = {}
        self._digests = ChunkDigests(BUCKET_COUNT, _EMPTY_LEAF_DIGEST * LEAVES)

    def __len__(self) -> int:
        return sum(len(leaf) for index in range(BUCKET_COUNT) for leaf in self._buckets[index])

    @property
    def dirty(self) -> int:
        """Leaves that the next digest has to encode."""
        return len(self._dirty)

    @property
    def pinned(self) -> int:
        """Live pins."""
        return self._buckets.pinned

    def get(self, key: K) -> bytes | None:
        """Return the value of `key`, None if it has none."""
        return _get(self._buckets, key)

    def put(self, key: K, value: bytes) -> None:
        """Set the value of `key`."""
        self._writable(key)[key] = value

    def remove(self, key: K) -> None:
        """Forget `key`, which must be there."""
        del self._writable(key)[key]

    def pin(self) -> BucketsPin[K]:
        """Return the present version, immutable, at a cost that does not grow with the keys."""
        return BucketsPin(self._buckets.pin())

    def digest(self) -> bytes:
        """Return blake2b-256 over the digests of the buckets, each over those of its leaves."""
        for index, leaf in sorted(self._dirty):
            digest = blake2b(encode_leaf(self._buckets[index][leaf]), digest_size=DIGEST_SIZE).digest()
            leaves = self._leaf_digests.get(index)
            if leaves is None:
                leaves = self._leaf_digests[index] = bytearray(_EMPTY_LEAF_DIGEST * LEAVES)
            leaves[leaf * DIGEST_SIZE : (leaf + 1) * DIGEST_SIZE] = digest
            self._digests.dirty.add(index)
        self._dirty.clear()
        return self._digests.refresh(self._leaf_digests.__getitem__)

    def _writable(self, key: K) -> dict[K, bytes]:
        place = leaf_of(key)
        self._dirty.add(place)
        index, leaf = place
        bucket = self._buckets.writable(index)
        if not bucket:
            fresh: Bucket[K] = [{} for _ in range(LEAVES)]
            self._buckets.replace(index, fresh)
            return fresh[leaf]
        return bucket[leaf]
