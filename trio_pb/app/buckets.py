"""Keyed state in 4,096 buckets of 16 leaves by key hash: cheap to pin, to digest and to checkpoint after few changes.

A bucket is one chunk of a checkpoint; a leaf (`app.leaf`) is what a change makes anew. Both are held as
the bytes that a checkpoint writes: a bucket restored is its chunk cut in 16, and a bucket frozen is its
leaves joined. At a million keys a leaf holds 15 of them, a kilobyte, so a change, or the digest of one,
looks at no more than that.

The place of a key comes from blake2b, never from `hash()`, which differs between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Generic, TypeAlias, TypeVar

from trio_pb.app import leaf as leaves
from trio_pb.app.chunks import DIGEST_SIZE, ChunkDigests, Chunks, FrozenChunks, Pin, Record, record_of
from trio_pb.app.leaf import EMPTY_LEAF, PLACE_SIZE, Keys, key_bytes
from trio_pb.app.parts import MalformedStateError

__all__ = ["BUCKET_COUNT", "LEAVES", "Accept", "Buckets", "BucketsPin", "RestoringBuckets", "leaf_of"]

K = TypeVar("K", int, bytes)

BUCKET_COUNT = 4096  # PROTOCOL 9.
LEAVES = 16  # In each bucket; together they use up PLACE_SIZE bytes of hash.

# The leaves of a bucket, or nothing when all of them are empty. Never changed, only replaced.
Bucket: TypeAlias = tuple[bytes, ...]

# Looks at the keys, rising, and the values of a restored leaf; may raise MalformedStateError.
Accept: TypeAlias = Callable[[Keys, Sequence[bytes]], None]

_EMPTY_LEAVES: Bucket = (EMPTY_LEAF,) * LEAVES
_EMPTY_LEAF_DIGEST = record_of(EMPTY_LEAF)[0]


def leaf_of(key: int | bytes) -> tuple[int, int]:
    """Return the bucket of `key` and its leaf in there."""
    return divmod(int.from_bytes(blake2b(key_bytes(key), digest_size=PLACE_SIZE).digest(), "big"), LEAVES)


def _same(bucket: Bucket) -> Bucket:
    return bucket


def _fresh_digests() -> ChunkDigests:
    return ChunkDigests(BUCKET_COUNT, _EMPTY_LEAF_DIGEST * LEAVES)


class BucketsPin(Generic[K]):
    """One immutable version of Buckets."""

    __slots__ = ("_pin",)

    def __init__(self, pin: Pin[Bucket]) -> None:
        self._pin = pin

    def get(self, key: K) -> bytes | None:
        """Return the value that `key` had, None if it had none."""
        index, number = leaf_of(key)
        bucket = self._pin.chunks[index]
        return leaves.find(bucket[number], key) if bucket else None

    def release(self) -> None:
        """Let go of this version."""
        self._pin.release()


class Buckets(Generic[K]):
    """A map of keys to bytes: `Buckets(int)` has integers of 0..2^64-1 as keys, `Buckets(bytes)` bytes."""

    __slots__ = ("_asked", "_buckets", "_digests", "_dirty", "_kind", "_leaf_digests", "_place")

    def __init__(self, kind: type[K]) -> None:
        self._kind: type[K] = kind
        # One empty tuple for all: a new map, of which simulations make very many, costs little.
        self._buckets: Chunks[Bucket] = Chunks([()] * BUCKET_COUNT, _same)
        self._dirty: set[tuple[int, int]] = set()  # Bucket and leaf, written since the last digest.
        self._leaf_digests: dict[int, bytearray] = {}  # Of the buckets written so far, by bucket.
        self._digests = _fresh_digests()
        # Who writes a value has mostly read it just before: hashing its key once saves a tenth of that.
        self._asked: K | None = None
        self._place = (0, 0)  # Of that key.

    def __len__(self) -> int:
        return sum(leaves.length(leaf) for bucket in self._buckets.all() for leaf in bucket)

    @property
    def dirty(self) -> int:
        """Leaves that the next digest has to look at."""
        return len(self._dirty)

    @property
    def pinned(self) -> int:
        """Live pins."""
        return self._buckets.pinned

    def get(self, key: K) -> bytes | None:
        """Return the value of `key`, None if it has none."""
        index, number = self._place_of(key)
        bucket = self._buckets[index]
        return leaves.find(bucket[number], key) if bucket else None

    def put(self, key: K, value: bytes) -> None:
        """Set the value of `key`."""
        index, number = self._place_of(key)
        bucket = self._buckets[index] or _EMPTY_LEAVES
        self._replace_leaf(index, number, bucket, leaves.put(bucket[number], key, value))

    def remove(self, key: K) -> None:
        """Forget `key`, which must be there."""
        index, number = self._place_of(key)
        bucket = self._buckets[index] or _EMPTY_LEAVES
        self._replace_leaf(index, number, bucket, leaves.remove(bucket[number], key))

    def pin(self) -> BucketsPin[K]:
        """Return the present version, immutable, at a cost that does not grow with the keys."""
        return BucketsPin(self._buckets.pin())

    def freeze(self) -> FrozenChunks[Bucket]:
        """Pin the present contents for a checkpoint; each bucket is a chunk."""
        return self._buckets.freeze(bool, b"".join)

    def restoring(self, accept: Accept | None = None) -> RestoringBuckets[K]:
        """Begin to restore. `accept` is given what each leaf holds; it may refuse that."""
        return RestoringBuckets(self._kind, accept, self._replace)

    def prepare_digest(self, pieces: int) -> int:
        """Digest at most `pieces` dirty leaves, 3 us each at a million keys, then buckets; return how many."""
        count = min(pieces, len(self._dirty))
        for _ in range(count):
            index, leaf = self._dirty.pop()  # In any order: each digest has a place of its own.
            bucket = self._buckets[index]
            digest = record_of(bucket[leaf])[0] if bucket else _EMPTY_LEAF_DIGEST
            digests = self._leaf_digests.get(index)
            if digests is None:
                digests = self._leaf_digests[index] = bytearray(_EMPTY_LEAF_DIGEST * LEAVES)
            digests[leaf * DIGEST_SIZE : (leaf + 1) * DIGEST_SIZE] = digest
            self._digests.dirty.add(index)
        return count + self._digests.prepare(pieces - count, self._bucket_digest)

    def digest(self) -> bytes:
        """Return blake2b-256 over the digests of the buckets, each over those of its leaves."""
        self.prepare_digest(len(self._dirty))
        return self._digests.refresh(self._bucket_digest)

    def _bucket_digest(self, index: int) -> bytes:
        return record_of(self._leaf_digests[index])[0]

    def _replace(self, restored: RestoringBuckets[K]) -> Sequence[object]:
        old: list[object] = [*filter(None, self._buckets.all()), self._leaf_digests, self._dirty]
        self._buckets = Chunks(restored.buckets, _same, restored.records)
        self._dirty = set()
        self._leaf_digests = restored.leaf_digests
        self._digests = restored.digests
        return old

    def _place_of(self, key: K) -> tuple[int, int]:
        if key != self._asked:
            self._asked, self._place = key, leaf_of(key)
        return self._place

    def _replace_leaf(self, index: int, number: int, bucket: Bucket, leaf: bytes) -> None:
        """Let bucket `index` be `bucket` with another leaf `number`."""
        self._dirty.add((index, number))
        changed = (*bucket[:number], leaf, *bucket[number + 1 :])
        # A bucket that holds nothing is no chunk, whatever it held before.
        self._buckets.replace(index, () if leaf == EMPTY_LEAF and changed == _EMPTY_LEAVES else changed)


class RestoringBuckets(Generic[K]):
    """The contents of Buckets, chunk by chunk."""

    __slots__ = ("_accept", "_kind", "_replace", "buckets", "digests", "leaf_digests", "records")

    def __init__(
        self, kind: type[K], accept: Accept | None, replace: Callable[[RestoringBuckets[K]], Sequence[object]]
    ) -> None:
        self._kind: type[K] = kind
        self._accept = accept
        self._replace: Callable[[RestoringBuckets[K]], Sequence[object]] = replace
        self.buckets: list[Bucket] = [()] * BUCKET_COUNT
        self.records: list[Record | None] = [None] * BUCKET_COUNT
        self.leaf_digests: dict[int, bytearray] = {}
        self.digests = _fresh_digests()

    def put(self, index: int, data: bytes) -> None:
        """Check one bucket, and cut it into its leaves."""
        if index >= BUCKET_COUNT:
            raise MalformedStateError(f"bucket {index} of {BUCKET_COUNT}")
        bucket: list[bytes] = []
        digests = bytearray()
        end = 0
        for number in range(LEAVES):
            start = end
            place = (index * LEAVES + number).to_bytes(PLACE_SIZE, "big")
            keys, values, end = leaves.read(data, start, self._kind, place)
            if self._accept is not None:
                self._accept(keys, values)
            leaf = data[start:end]
            bucket.append(leaf)
            digests += record_of(leaf)[0]
        if end != len(data):
            raise MalformedStateError(f"{len(data) - end} bytes after the end of a bucket")
        self.buckets[index] = tuple(bucket)
        if self.buckets[index] == _EMPTY_LEAVES:
            raise MalformedStateError("a chunk for a bucket that holds nothing")
        self.records[index] = record_of(data)
        self.leaf_digests[index] = digests
        self.digests.put(index, record_of(digests)[0])

    def finish(self) -> None:
        """Any set of buckets is a whole."""

    def adopt(self) -> Sequence[object]:
        """Replace the contents; what is left are the old buckets."""
        return self._replace(self)
