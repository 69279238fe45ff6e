"""A copy-on-write list of mutable chunks: the ground that all application state stands on.

State is cut into chunks. A pinned version shares every chunk with the present until the present
writes to it; only then is that one chunk copied. Digests and checkpoints encode anew only the chunks
written since the last one (ARCHITECTURE, large state; PROTOCOL 9, 10.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import compress
from typing import Generic, TypeAlias, TypeVar

__all__ = ["DIGEST_SIZE", "ChunkDigests", "Chunks", "FrozenChunks", "Pin", "Record", "record_of"]

T = TypeVar("T")

DIGEST_SIZE = 32  # blake2b-256.

Record: TypeAlias = tuple[bytes, int]  # Digest (blake2b-256) and size of a chunk's bytes.


def record_of(data: bytes | bytearray) -> Record:
    """Return the record of a chunk whose bytes are `data`."""
    return blake2b(data, digest_size=DIGEST_SIZE).digest(), len(data)


class Pin(Generic[T]):
    """One immutable version: the chunks as they were when it was pinned. Read them, never write."""

    __slots__ = ("_owner", "chunks", "number")

    def __init__(self, owner: Chunks[T], number: int, chunks: tuple[T, ...]) -> None:
        self._owner = owner
        self.number = number
        self.chunks = chunks

    def release(self) -> None:
        """Let go: writers need not spare this version any more. Its chunks must not be read after."""
        self._owner.unpin(self)
        self.chunks = ()


class Chunks(Generic[T]):
    """Chunks that can be pinned all at once and are copied one by one.

    Each chunk knows how many pins had ever been made when it came into being (its birth). A pin is
    numbered likewise, from 1. So a live pin shares the present chunk exactly if its number is above
    the chunk's birth, and looking at the newest live pin is enough.

    Each chunk also has a record of its bytes, until it is written: a frozen version leaves it there.
    """

    __slots__ = ("_births", "_chunks", "_copy", "_live", "_newest_pin", "_pins", "_records")

    def __init__(
        self, chunks: Iterable[T], copy: Callable[[T], T], records: Sequence[Record | None] | None = None
    ) -> None:
        self._chunks = list(chunks)
        self._births = [0] * len(self._chunks)
        # None: written since it was encoded, or never encoded.
        self._records: list[Record | None] = list(records) if records is not None else [None] * len(self._chunks)
        self._copy = copy
        self._pins = 0  # Ever made.
        self._live: set[int] = set()
        self._newest_pin = 0  # Greatest number in _live, 0 when there is none.

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> T:
        """Return chunk `index` for reading only."""
        return self._chunks[index]

    def all(self) -> list[T]:
        """Return all chunks, for reading only."""
        return list(self._chunks)

    @property
    def pinned(self) -> int:
        """Live pins."""
        return len(self._live)

    def writable(self, index: int) -> T:
        """Return chunk `index` for writing: the caller may change it in place until the next pin."""
        if self._births[index] < self._newest_pin:
            self._chunks[index] = self._copy(self._chunks[index])
            self._births[index] = self._pins
        self._records[index] = None
        return self._chunks[index]

    def replace(self, index: int, chunk: T) -> None:
        """Put a new chunk in the place of another; pinned versions keep theirs."""
        self._chunks[index] = chunk
        self._births[index] = self._pins
        self._records[index] = None

    def insert(self, index: int, chunk: T) -> None:
        """Put a new chunk, that nobody else holds, before chunk `index`."""
        self._chunks.insert(index, chunk)
        self._births.insert(index, self._pins)
        self._records.insert(index, None)

    def pin(self) -> Pin[T]:
        """Return the present version. Costs one pointer per chunk, whatever the chunks hold."""
        self._pins += 1
        self._live.add(self._pins)
        self._newest_pin = self._pins
        return Pin(self, self._pins, tuple(self._chunks))

    def unpin(self, pin: Pin[T]) -> None:
        """Forget `pin`; a second time changes nothing."""
        self._live.discard(pin.number)
        self._newest_pin = max(self._live, default=0)

    def record(self, index: int) -> Record | None:
        """Return the record of chunk `index`, None if it was written since it was encoded."""
        return self._records[index]

    def remember(self, index: int, record: Record) -> None:
        """Note the record of chunk `index` as it is now."""
        self._records[index] = record

    def freeze(self, content: Callable[[T], object], encode: Callable[[T], bytes]) -> FrozenChunks[T]:
        """Return the present version, to be encoded chunk by chunk while this one changes.

        What `content` returns of a chunk is true exactly if that is not empty.
        """
        return FrozenChunks(self, list(self._records), content, encode)


class FrozenChunks(Generic[T]):
    """One version of Chunks as the chunks of a checkpoint: those that are not empty."""

    __slots__ = ("_content", "_encode", "_indexes", "_owner", "_pin", "_records")

    def __init__(
        self,
        owner: Chunks[T],
        records: list[Record | None],
        content: Callable[[T], object],
        encode: Callable[[T], bytes],
    ) -> None:
        self._owner = owner
        self._pin = owner.pin()
        self._records = records
        self._content = content
        self._encode = encode
        self._indexes: tuple[int, ...] | None = None

    @property
    def indexes(self) -> Sequence[int]:
        """The chunks that are not empty, rising."""
        if self._indexes is None:
            # At the speed of C: a nearly empty machine has thousands of chunks too.
            chunks = self._pin.chunks
            self._indexes = tuple(compress(range(len(chunks)), map(self._content, chunks)))
        return self._indexes

    def known(self, index: int) -> Record | None:
        """Return the record of a chunk that was encoded or restored before and is still the same, else None."""
        return self._records[index]

    def encode(self, index: int) -> bytes:
        """Return the bytes of one chunk as it was; leave its record with the present chunk if that is the same."""
        chunk = self._pin.chunks[index]
        data = self._encode(chunk)
        record = self._records[index] = record_of(data)
        # A live pin's chunks are never written in place: the present chunk is this very object exactly
        # if it did not change since.
        if self._owner[index] is chunk:
            self._owner.remember(index, record)
        return data

    def release(self) -> None:
        """Let go; a second time changes nothing. Nothing can be encoded after."""
        self._pin.release()


class ChunkDigests:
    """The digest of a list of chunks, kept up chunk by chunk: blake2b-256 over the chunks' digests.

    `fresh` is the encoding that each of the `count` chunks has at the start: a new machine costs nothing.
    """

    __slots__ = ("_digest", "_digests", "dirty")

    def __init__(self, count: int, fresh: bytes) -> None:
        self._digests = bytearray(blake2b(fresh, digest_size=DIGEST_SIZE).digest() * count)
        self._digest = b""  # Not taken since a chunk changed.
        self.dirty: set[int] = set()  # Chunks written since the last digest.

    def put(self, index: int, digest: bytes) -> None:
        """Set the digest of chunk `index`, which is not dirty any more."""
        self._digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = digest
        self.dirty.discard(index)
        self._digest = b""

    def prepare(self, pieces: int, digest_of: Callable[[int], bytes]) -> int:
        """Ask `digest_of(index)` for the digests of at most `pieces` dirty chunks; return how many."""
        indexes = sorted(self.dirty)[:pieces]
        for index in indexes:
            self.put(index, digest_of(index))
        return len(indexes)

    def refresh(self, digest_of: Callable[[int], bytes]) -> bytes:
        """Return the digest of all, after preparing whatever is dirty."""
        self.prepare(len(self.dirty), digest_of)
        if not self._digest:
            self._digest = blake2b(self._digests, digest_size=DIGEST_SIZE).digest()
        return self._digest
