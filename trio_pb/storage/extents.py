"""Telling what is the matter with sealed pages and with files of records: intact, blank, torn, elsewhere's.

A replica skips what it cannot use. For people each stretch of a file keeps its place and its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Generic, TypeVar

import attrs

from trio_pb.storage.page import PAGE_HEAD_SIZE, Page, open_page, padded

__all__ = ["Extent", "Layout", "PageState", "extents", "judge_page"]

R = TypeVar("R")

HEAD_SIZE = 512  # At most, of any kind of record.
PAGE = 4096  # No two batches of records share one: zeros up to its end are padding.
OWNER = slice(32, 48)  # Of a sealed page (docs/reference/disk-format.md, Pages).
PLACE = slice(48, 56)


class PageState(StrEnum):
    """What is the matter with a sealed page."""

    INTACT = "intact"
    BLANK = "blank"  # Zeros only: never written, or the write was lost.
    CUT_OFF = "cut off"  # The file ends before it does.
    FOREIGN = "foreign"  # Intact, but of another file, replica or life of this disk.
    MISPLACED = "misplaced"  # Intact, but written for another place.
    DAMAGED = "damaged"


_HEADS = (PageState.INTACT, PageState.MISPLACED, PageState.FOREIGN)


@attrs.frozen
class Layout(Generic[R]):
    """How records lie in a file."""

    magic: bytes
    owner: bytes  # Nonce of the file.
    alignment: int  # Bytes; each record begins at a multiple of it.
    read: Callable[[int], tuple[R, int] | None]  # The intact record at an offset, and its padded size.
    size_of: Callable[[Page], int | None]  # Padded size of the record that has this head.


@attrs.frozen
class Extent(Generic[R]):
    """A stretch of a file: an intact record, or the lack of one."""

    offset: int
    size: int  # Bytes.
    state: PageState
    record: R | None = None  # If intact.
    head: Page | None = None  # Of a damaged record whose head is intact.
    owner: bytes = b""  # File and offset that a foreign or misplaced record was written for.
    place: int = 0


def judge_page(data: bytes, *, size: int, magic: bytes, owner: bytes, place: int) -> PageState:
    """Return the state of the page that `data` should hold. Takes any bytes whatever."""
    if len(data) < size:
        return PageState.CUT_OFF
    if data.count(0) == len(data):
        return PageState.BLANK
    if open_page(data, magic=magic, owner=owner, place=place) is not None:
        return PageState.INTACT
    its_owner, its_place = _claims(data)
    if open_page(data, magic=magic, owner=its_owner, place=its_place) is None:
        return PageState.DAMAGED
    return PageState.MISPLACED if its_owner == owner else PageState.FOREIGN


def extents(data: bytes, layout: Layout[R]) -> Iterator[Extent[R]]:
    """Yield every record and every gap of a file, up to the last byte that was written."""
    end = min(len(data), padded(len(data.rstrip(b"\0")), layout.alignment))
    offset = 0
    while offset < end:
        found = layout.read(offset)
        padding = min(padded(offset, PAGE), end) - offset
        if found is not None:
            record, size = found
            yield Extent(offset, size, PageState.INTACT, record)
            offset += size
        elif padding and data.count(0, offset, offset + padding) == padding:
            offset += padding
        else:
            gap: Extent[R] = _gap_at(data, layout, offset, end)
            yield gap
            offset += gap.size


def _gap_at(data: bytes, layout: Layout[R], offset: int, end: int) -> Extent[R]:
    """The gap at `offset`: one record's worth where a head tells its size, else up to the next head."""
    state = _judge_head(data, layout, offset)
    owner, place = _claims(data[offset : offset + PAGE_HEAD_SIZE])
    head = _open_head(data, layout, offset, owner, place)
    size = None if head is None else layout.size_of(head)
    stop = min(offset + layout.alignment, end)
    limit = end if size is None else min(end, offset + size)
    while stop < limit and layout.read(stop) is None:
        if size is None and _judge_head(data, layout, stop) in _HEADS:
            break
        stop = min(stop + layout.alignment, limit)
    length = stop - offset
    if state is PageState.INTACT:
        return Extent(offset, length, PageState.DAMAGED, head=head)
    if state in _HEADS:
        return Extent(offset, length, state, owner=owner, place=place)
    is_blank = data.count(0, offset, stop) == length
    return Extent(offset, length, PageState.BLANK if is_blank else PageState.DAMAGED)


def _judge_head(data: bytes, layout: Layout[R], offset: int) -> PageState:
    if not data.startswith(layout.magic, offset + 16):
        return PageState.DAMAGED  # Or blank: as a head it is none. Most of what is damaged ends here, quickly.
    head = data[offset : offset + HEAD_SIZE]
    return judge_page(head, size=PAGE_HEAD_SIZE, magic=layout.magic, owner=layout.owner, place=offset)


def _open_head(data: bytes, layout: Layout[R], offset: int, owner: bytes, place: int) -> Page | None:
    return open_page(data[offset : offset + HEAD_SIZE], magic=layout.magic, owner=owner, place=place)


def _claims(data: bytes) -> tuple[bytes, int]:
    """Owner and place as a page states them, true or not."""
    return data[OWNER], int.from_bytes(data[PLACE], "little")
