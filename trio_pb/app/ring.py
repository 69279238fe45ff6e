"""The most recent values by position, in a ring of fixed capacity cut into pages.

Position p (0, 1, 2, ...) lives in slot p modulo capacity until position p + capacity takes its place.
Pages are copied on write and digested like buckets, so a thousand appends dirty a handful of pages.

In a checkpoint chunk 0 is the header, capacity and count, and chunk n + 1 is page n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TypeAlias

from trio_pb import canonical
from trio_pb.app.blob import Blob, FrozenBlob, RestoringBlob
from trio_pb.app.chunks import ChunkDigests, Chunks, FrozenChunks, Pin, Record, record_of
from trio_pb.app.packing import pack_values, unpack_values
from trio_pb.app.parts import MalformedStateError

__all__ = ["COUNT_MAX", "PAGE_SLOTS", "FrozenRing", "RestoringRing", "Ring", "RingPin"]

PAGE_SLOTS = 256
COUNT_MAX = (1 << 63) - 1

Page: TypeAlias = list[bytes]  # PAGE_SLOTS values, b"" where nothing was written yet.


def _copy(page: Page) -> Page:
    return page[:]


_content = itemgetter(0)  # Of a page, empty if that is: slots are filled in order.


def _page_count(slots: int) -> int:
    return -(-slots // PAGE_SLOTS)


def _empty_pages(capacity: int) -> list[Page]:
    return [[b""] * PAGE_SLOTS for _ in range(_page_count(capacity))]


def _fresh_digests(capacity: int) -> ChunkDigests:
    return ChunkDigests(_page_count(capacity), pack_values([b""] * PAGE_SLOTS))


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

    __slots__ = ("_digests", "_header", "_pages", "capacity", "count")

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1
        self.capacity = capacity
        self.count = 0  # Values ever appended; the next one's position.
        self._pages: Chunks[Page] = Chunks(_empty_pages(capacity), _copy)
        self._digests = _fresh_digests(capacity)
        self._header = Blob(encode=self._encode_header, decode=self._decode_header, adopt=self._set_count)

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

    def freeze(self) -> FrozenRing:
        """Pin the present contents for a checkpoint."""
        return FrozenRing(self._header.freeze(), self._pages.freeze(_content, pack_values))

    def restoring(self, accept: Callable[[int, bytes], None] | None = None) -> RestoringRing:
        """Begin to restore. `accept` is given each position and value; it may refuse with MalformedStateError."""
        return RestoringRing(self.capacity, self._header.restoring(), accept, self._replace)

    def prepare_digest(self, pieces: int) -> int:
        """Digest at most `pieces` dirty pages, 0.2 ms each; return how many."""
        return self._digests.prepare(pieces, self._page_digest)

    def digest(self) -> bytes:
        """Return blake2b-256 over the digests of header and pages."""
        return record_of(self._header.digest() + self._digests.refresh(self._page_digest))[0]

    def _page_digest(self, index: int) -> bytes:
        record = self._pages.record(index)  # A page is digested and frozen as the same bytes.
        return (record or record_of(pack_values(self._pages[index])))[0]

    def _encode_header(self) -> bytes:
        return canonical.encode([self.capacity, self.count])

    def _decode_header(self, data: bytes) -> int:
        match canonical.decode(data):
            case [int(capacity), int(count)] if type(capacity) is type(count) is int and 0 <= count <= COUNT_MAX:
                if capacity != self.capacity:
                    raise MalformedStateError(f"a ring of {capacity} values; here it has {self.capacity}")
                return count
            case _:
                raise MalformedStateError("not the capacity and count of a ring")

    def _set_count(self, count: int) -> None:
        self.count = count

    def _replace(self, restored: RestoringRing) -> Sequence[object]:
        old = self._pages.all()
        self._pages = Chunks(restored.pages, _copy, restored.records)
        self._digests = restored.digests
        return old


class FrozenRing:
    """One version of a Ring as the chunks of a checkpoint."""

    __slots__ = ("_header", "_pages")

    def __init__(self, header: FrozenBlob, pages: FrozenChunks[Page]) -> None:
        self._header = header
        self._pages = pages

    @property
    def indexes(self) -> Sequence[int]:
        """The header and the pages that hold anything."""
        return (0, *(index + 1 for index in self._pages.indexes))

    def known(self, index: int) -> Record | None:
        """Return digest and size of a chunk that was encoded or restored before and is still the same, else None."""
        return self._pages.known(index - 1) if index else self._header.known(0)

    def encode(self, index: int) -> bytes:
        """Return the bytes of one chunk."""
        return self._pages.encode(index - 1) if index else self._header.encode(0)

    def release(self) -> None:
        """Let go; a second time changes nothing."""
        self._pages.release()


class RestoringRing:
    """The contents of a Ring, chunk by chunk; the header comes first."""

    __slots__ = ("_accept", "_capacity", "_header", "_put_pages", "_replace", "digests", "pages", "records")

    def __init__(
        self,
        capacity: int,
        header: RestoringBlob[int],
        accept: Callable[[int, bytes], None] | None,
        replace: Callable[[RestoringRing], Sequence[object]],
    ) -> None:
        self._capacity = capacity
        self._header = header
        self._accept = accept
        self._replace = replace
        self._put_pages = 0
        self.pages = _empty_pages(capacity)
        self.records: list[Record | None] = [None] * len(self.pages)
        self.digests = _fresh_digests(capacity)

    def put(self, index: int, data: bytes) -> None:
        """Decode the header or a page."""
        if index == 0:
            self._header.put(0, data)
            return
        index -= 1
        count = self._header.value
        # Slots were filled in order, so how many there are in this page follows from the count.
        first_slot = index * PAGE_SLOTS
        filled = min(self._held - first_slot, PAGE_SLOTS)
        values, end = unpack_values(data, 0)
        if filled < 1 or end != len(data) or len(values) != PAGE_SLOTS:
            raise MalformedStateError(f"not page {index} of a ring with {count} values in {self._capacity} slots")
        if not all(values[:filled]) or any(values[filled:]):
            raise MalformedStateError(f"page {index} of a ring does not hold {filled} values")
        if self._accept is not None:
            for slot, value in enumerate(values[:filled], first_slot):
                # The last value that came into this slot.
                self._accept(count - 1 - (count - 1 - slot) % self._capacity, value)
        record = record_of(data)
        self.pages[index] = values
        self.records[index] = record
        self.digests.put(index, record[0])
        self._put_pages += 1

    def finish(self) -> None:
        """Check that header and all pages that hold anything were put."""
        if self._put_pages != _page_count(self._held):
            raise MalformedStateError(f"{self._put_pages} pages of a ring with {self._held} values")

    def adopt(self) -> Sequence[object]:
        """Replace the contents; what is left are the old pages."""
        self._header.adopt()
        return self._replace(self)

    @property
    def _held(self) -> int:
        return min(self._header.value, self._capacity)
