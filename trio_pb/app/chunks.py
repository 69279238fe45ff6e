"""A copy-on-write list of mutable chunks: the ground that all application state stands on.

State is cut into chunks. A pinned version shares every chunk with the present until the present
writes to it; only then is that one chunk copied. A digest encodes anew only the chunks written since
the last one (ARCHITECTURE, large state; PROTOCOL 9, 10.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Generic, TypeVar

__all__ = ["DIGEST_SIZE", "ChunkDigests", "Chunks", "Pin"]

T = TypeVar("T")

DIGEST_SIZE = 32  # blake2b-256.


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
    """

    __slots__ = ("_births", "_chunks", "_copy", "_live", "_newest_pin", "_pins")

    def __init__(self, chunks: Iterable[T], copy: Callable[[T], T]) -> None:
        self._chunks = list(chunks)
        self._births = [0] * len(self._chunks)
        self._copy = copy
        self._pins = 0  # Ever made.
        self._live: set[int] = set()
        self._newest_pin = 0  # Greatest number in _live, 0 when there is none.

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> T:
        """Return chunk `index` for reading only."""
        return self._chunks[index]

    @property
    def pinned(self) -> int:
        """Live pins."""
        return len(self._live)

    def writable(self, index: int) -> T:
        """Return chunk `index` for writing: the caller may change it in place until the next pin."""
        if self._births[index] < self._newest_pin:
            self._chunks[index] = self._copy(self._chunks[index])
            self._births[index] = self._pins
        return self._chunks[index]

    def replace(self, index: int, chunk: T) -> None:
        """Put a new chunk, that nobody else holds, in the place of a chunk that is `writable`."""
        assert self._births[index] >= self._newest_pin, "a pinned version holds this place's chunk"
        self._chunks[index] = chunk

    def insert(self, index: int, chunk: T) -> None:
        """Put a new chunk, that nobody else holds, before chunk `index`."""
        self._chunks.insert(index, chunk)
        self._births.insert(index, self._pins)

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


class ChunkDigests:
    """The digest of a list of chunks, kept up chunk by chunk: blake2b-256 over the chunks' digests.

    `fresh` is the encoding that each of the `count` chunks has at the start: a new machine costs nothing.
    """

    __slots__ = ("_digest", "_digests", "dirty")

    def __init__(self, count: int, fresh: bytes) -> None:
        self._digests = bytearray(blake2b(fresh, digest_size=DIGEST_SIZE).digest() * count)
        self._digest = b""  # Not taken yet.
        self.dirty: set[int] = set()  # Chunks written since the last digest.

    def refresh(self, encode: Callable[[int], bytes | bytearray]) -> bytes:
        """Return the digest; `encode(index)` is asked for the bytes of each dirty chunk.

        Two chunks must encode equally only if they hold the same.
        """
        if self.dirty or not self._digest:
            for index in sorted(self.dirty):
                start = index * DIGEST_SIZE
                digest = blake2b(encode(index), digest_size=DIGEST_SIZE).digest()
                self._digests[start : start + DIGEST_SIZE] = digest
            self.dirty.clear()
            self._digest = blake2b(self._digests, digest_size=DIGEST_SIZE).digest()
        return self._digest
