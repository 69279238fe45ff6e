"""Keyed state in 4,096 buckets of 16 leaves by key hash: cheap to pin, and to digest after few changes.

A bucket is what is copied for a pinned version, and one chunk of a checkpoint; a leaf is what is
encoded anew for a digest. At a million keys a leaf holds 15 of them, so a digest after a thousand
changes reads 15,000 values, which lie all over memory, where whole buckets would make it read 220,000:
25 ms against 200 when measured.

The place of a key comes from blake2b, never from `hash()`, which differs between processes. Values are
packed bytes: dictionaries of integers and bytes cost least memory and the garbage collector does not
walk through them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from operator import lt
from typing import Generic, TypeAlias, TypeVar, cast

from trio_pb.app.chunks import DIGEST_SIZE, ChunkDigests, Chunks, FrozenChunks, Pin, Record, record_of
from trio_pb.app.packing import COUNT_SIZE, pack_values, unpack_count, unpack_values
from trio_pb.app.parts import MalformedStateError

__all__ = [
    "BUCKET_COUNT",
    "LEAVES",
    "Buckets",
    "BucketsPin",
    "RestoringBuckets",
    "encode_leaf",
    "key_bytes",
    "leaf_of",
]

K = TypeVar("K", int, bytes)

BUCKET_COUNT = 4096  # PROTOCOL 9.
LEAVES = 16  # In each bucket; together they use up two bytes of hash.
_PLACE_SIZE = 2  # Bytes of that hash.
_KEY_SIZE = 8  # Bytes of a packed integer.


def key_bytes(key: int | bytes) -> bytes:
    """Return the bytes that stand for `key`: an integer (0..2^64-1) is 8 bytes, big-endian."""
    return key if isinstance(key, bytes) else key.to_bytes(8, "big")


def leaf_of(key: int | bytes) -> tuple[int, int]:
    """Return the bucket of `key` and its leaf in there."""
    return divmod(int.from_bytes(blake2b(key_bytes(key), digest_size=_PLACE_SIZE).digest(), "big"), LEAVES)


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


def _unpack_keys(data: bytes, start: int, kind: type[K]) -> tuple[tuple[K, ...], list[bytes], int]:
    """Return the keys whose encoding begins at `start`, each as bytes too, and where that ends."""
    if kind is int:
        count = unpack_count(data, start, _KEY_SIZE)
        keys = struct.unpack_from(f">{count}Q", data, start + COUNT_SIZE)
        end = start + COUNT_SIZE + count * _KEY_SIZE
        packed = [data[at : at + _KEY_SIZE] for at in range(start + COUNT_SIZE, end, _KEY_SIZE)]
        return cast("tuple[K, ...]", keys), packed, end
    packed, end = unpack_values(data, start)
    return cast("tuple[K, ...]", tuple(packed)), packed, end


def _decode_leaf(data: bytes, start: int, kind: type[K], place: bytes) -> tuple[dict[K, bytes], int]:
    """Return the leaf whose encoding begins at `start`, and where that ends; `place` is the hash of its keys."""
    keys, packed, end = _unpack_keys(data, start, kind)
    values, end = unpack_values(data, end)
    if len(keys) != len(values):
        raise MalformedStateError(f"a leaf with {len(keys)} keys and {len(values)} values")
    # Only what `encode_leaf` makes is a leaf: then equal chunks and equal contents are the same.
    if not all(map(lt, packed, packed[1:])):  # Whole numbers, big-endian, are in order as bytes are.
        raise MalformedStateError("the keys of a leaf do not rise")
    for key in packed:
        if blake2b(key, digest_size=_PLACE_SIZE).digest() != place:
            raise MalformedStateError("a key that belongs elsewhere")
    return dict(zip(keys, values, strict=True)), end


# A bucket: its leaves, or no leaf at all before the first write to it. All unwritten ones are one object:
# 4,096 of their own took 0.2 ms and 230 KB of each new machine.
Bucket: TypeAlias = Sequence[dict[K, bytes]]


def _copy(bucket: Bucket[K]) -> Bucket[K]:
    return [leaf.copy() for leaf in bucket]


def _encode(bucket: Bucket[K]) -> bytes:
    return b"".join(map(encode_leaf, bucket))


def _is_empty(bucket: Bucket[K]) -> bool:
    return not any(bucket)


def _get(buckets: Chunks[Bucket[K]] | tuple[Bucket[K], ...], key: K) -> bytes | None:
    index, leaf = leaf_of(key)
    bucket = buckets[index]
    return bucket[leaf].get(key) if bucket else None


_EMPTY_LEAF_DIGEST = blake2b(encode_leaf({}), digest_size=DIGEST_SIZE).digest()


def _fresh_digests() -> ChunkDigests:
    return ChunkDigests(BUCKET_COUNT, _EMPTY_LEAF_DIGEST * LEAVES)


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
    """A map of keys to bytes: `Buckets(int)` has integers of 0..2^64-1 as keys, `Buckets(bytes)` bytes."""

    __slots__ = ("_buckets", "_digests", "_dirty", "_kind", "_leaf_digests")

    def __init__(self, kind: type[K]) -> None:
        self._kind: type[K] = kind
        self._buckets: Chunks[Bucket[K]] = Chunks([()] * BUCKET_COUNT, _copy)
        self._dirty: set[tuple[int, int]] = set()  # Bucket and leaf, written since the last digest.
        # Of the buckets written so far, by bucket: a new map, of which tests make very many, costs little.
        self._leaf_digests: dict[int, bytearray] = {}
        self._digests = _fresh_digests()

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

    def freeze(self) -> FrozenChunks[Bucket[K]]:
        """Pin the present contents for a checkpoint; each bucket is a chunk."""
        return self._buckets.freeze(_is_empty, _encode)

    def restoring(self, accept: Callable[[Mapping[K, bytes]], None] | None = None) -> RestoringBuckets[K]:
        """Begin to restore. `accept` is given each leaf; it may refuse it with MalformedStateError."""
        return RestoringBuckets(self._kind, accept, self._replace)

    def prepare_digest(self, pieces: int) -> int:
        """Digest at most `pieces` dirty leaves, 20 us each at a million keys, then buckets; return how many."""
        count = min(pieces, len(self._dirty))
        for _ in range(count):
            index, leaf = self._dirty.pop()  # In any order: each digest has a place of its own.
            digest = record_of(encode_leaf(self._buckets[index][leaf]))[0]
            leaves = self._leaf_digests.get(index)
            if leaves is None:
                leaves = self._leaf_digests[index] = bytearray(_EMPTY_LEAF_DIGEST * LEAVES)
            leaves[leaf * DIGEST_SIZE : (leaf + 1) * DIGEST_SIZE] = digest
            self._digests.dirty.add(index)
        return count + self._digests.prepare(pieces - count, self._bucket_digest)

    def digest(self) -> bytes:
        """Return blake2b-256 over the digests of the buckets, each over those of its leaves."""
        self.prepare_digest(len(self._dirty))
        return self._digests.refresh(self._bucket_digest)

    def _bucket_digest(self, index: int) -> bytes:
        return record_of(self._leaf_digests[index])[0]

    def _replace(self, restored: RestoringBuckets[K]) -> Sequence[object]:
        old: list[object] = [self._buckets[index] for index in range(BUCKET_COUNT)]
        old += [self._leaf_digests, self._dirty]
        self._buckets = Chunks(restored.buckets, _copy, restored.records)
        self._dirty = set()
        self._leaf_digests = restored.leaf_digests
        self._digests = restored.digests
        return old

    def _writable(self, key: K) -> dict[K, bytes]:
        place = leaf_of(key)
        self._dirty.add(place)
        index, leaf = place
        bucket = self._buckets.writable(index)
        if not bucket:
            fresh: list[dict[K, bytes]] = [{} for _ in range(LEAVES)]
            self._buckets.replace(index, fresh)
            bucket = fresh
        return bucket[leaf]


class RestoringBuckets(Generic[K]):
    """The contents of Buckets, chunk by chunk."""

    __slots__ = ("_accept", "_kind", "_replace", "buckets", "digests", "leaf_digests", "records")

    def __init__(
        self,
        kind: type[K],
        accept: Callable[[Mapping[K, bytes]], None] | None,
        replace: Callable[[RestoringBuckets[K]], Sequence[object]],
    ) -> None:
        self._kind: type[K] = kind
        self._accept: Callable[[Mapping[K, bytes]], None] | None = accept
        self._replace: Callable[[RestoringBuckets[K]], Sequence[object]] = replace
        self.buckets: list[Bucket[K]] = [()] * BUCKET_COUNT
        self.records: list[Record | None] = [None] * BUCKET_COUNT
        self.leaf_digests: dict[int, bytearray] = {}
        self.digests = _fresh_digests()

    def put(self, index: int, data: bytes) -> None:
        """Decode one bucket. Its leaves are digested on the way: their bytes are at hand."""
        if index >= BUCKET_COUNT:
            raise MalformedStateError(f"bucket {index} of {BUCKET_COUNT}")
        bucket: list[dict[K, bytes]] = []
        digests = bytearray()
        end = 0
        for number in range(LEAVES):
            start = end
            place = (index * LEAVES + number).to_bytes(_PLACE_SIZE, "big")
            leaf, end = _decode_leaf(data, start, self._kind, place)
            if self._accept is not None:
                self._accept(leaf)
            bucket.append(leaf)
            digests += record_of(data[start:end])[0]
        if end != len(data):
            raise MalformedStateError(f"{len(data) - end} bytes after the end of a bucket")
        if _is_empty(bucket):
            raise MalformedStateError("a chunk for a bucket that holds nothing")
        self.buckets[index] = bucket
        self.records[index] = record_of(data)
        self.leaf_digests[index] = digests
        self.digests.put(index, record_of(digests)[0])

    def finish(self) -> None:
        """Any set of buckets is a whole."""

    def adopt(self) -> Sequence[object]:
        """Replace the contents; what is left are the old buckets."""
        return self._replace(self)
