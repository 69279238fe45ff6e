"""The most recent values by position, in a ring of fixed capacity cut into pages.

Position p (0, 1, 2, ...) lives in slot p modulo capacity until position p + capacity takes its place.
Pages are copied on write and digested like buckets, so a thousand appends dirty a handful of pages.
"""

from __future__ import annotations

from typing import TypeAlias

from trio_pb.app.buckets import pack_values
from trio_pb.app.chunks import ChunkDigests, Chunks, Pin

__all__ = ["PAGE_SLOTS", "Ring", "RingPin"]

PAGE_SLOTS = 256

Page: TypeAlias = list[bytes]  # PAGE_SLOTS values, b"" where nothing was written yet.


def _copy(page: Page) -> Page:
    return page[:]


class RingPin:
    """One immutable version of a Ring."""

    __slots__ = ("_capacity", "_pin", "count")

    def __init__(self, pin: Pin[Page], capacity: int, count: int) -> None:
        self._pin = pin
        self._capacity = capacity
        self.count = count  # Values ever appended as of this version.

    @property
    def oldest(self) -> int:
        """The lowest position still held; equals `count` when the ring is empty."""
        return max(0, self.count - self._capacity)

    def get(self, position: int) -> bytes:
        """Return the value at `position` (oldest..count-1)."""
        assert self.oldest <= position < self.count
        page, slot = divmod(position % self._capacity, PAGE_SLOTS)
        return self._pin.chunks[page][slot]

    def release(self) -> None:
        """Let go of this version."""
        self._pin.release()


class Ring:
    """The last `capacity` of `count` values. A value is never empty."""

    __slots__ = ("_digests", "_pages", "capacity", "count")

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1
        page_count = -(-capacity // PAGE_SLOTS)
        self.capacity = capacity
        self.count = 0  # Values ever appended; the next one's position.
        self._pages: Chunks[Page] = Chunks(([b""] * PAGE_SLOTS for _ in range(page_count)), _copy)
        self._digests = ChunkDigests(page_count, pack_values([b""] * PAGE_SLOTS))

    @property
    def dirty(self) -> int:
        """Pages that the next digest has to encode."""
        return len(self._digests.dirty)

    def get(self, position: int) -> bytes:
        """Return the value at `position`, which the ring must still hold."""
        assert max(0, self.count - self.capacity) <= position < self.count
        page, slot = divmod(position % self.capacity, PAGE_SLOTS)
        return self._pages[page][slot]

    def append(self, value: bytes) -> bytes:
        """Put `value` at position `count`; return the value that it replaced, b"" if none."""
        assert value
        page, slot = divmod(self.count % self.capacity, PAGE_SLOTS)
        values = self._pages.writable(page)
        replaced = values[slot]
        values[slot] = value
        self._digests.dirty.add(page)
        self.count += 1
        return replaced

    def pin(self) -> RingPin:
        """Return the present version, immutable."""
        return RingPin(self._pages.pin(), self.capacity, self.count)

    def digest(self) -> bytes:
        """Return blake2b-256 over the digests of the pages; the caller adds `count` and `capacity`."""
        return self._digests.refresh(lambda index: pack_values(self._pages[index]))
