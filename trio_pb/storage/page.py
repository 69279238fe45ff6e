"""A sealed page: a block that says what it is, whose it is and where it belongs.

Superblock copies, proofs and the heads of journal and pack records all start with the same 64 bytes, in
every format there will be: so a page of a newer program is known as such, never taken for damage and
overwritten. The seal is a checksum over head and body. `owner` and `place` expose intact bytes that
lie in the wrong file, at the wrong offset, or stem from an earlier life of the same blocks (T-17).
docs/reference/disk-format.md has the offsets.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from trio_pb.core.prepare import CHECKSUM_SIZE, checksum_of
from trio_pb.errors import DataDirectoryError

__all__ = ["DATA_FORMAT", "PAGE_HEAD_SIZE", "Page", "open_page", "padded", "seal_page"]

DATA_FORMAT = 1  # Of the whole data directory; stated in its identity and in every page.

# Magic, format, body size, owner, place, sequence; the seal stands before them.
_HEAD = Struct("<8sII16sQQ")

PAGE_HEAD_SIZE = CHECKSUM_SIZE + _HEAD.size
assert PAGE_HEAD_SIZE == 64


class Page(NamedTuple):
    """What an intact page says."""

    sequence: int  # Superblock or proof sequence; the op of a record; the size of a chunk.
    body: bytes


def padded(size: int, alignment: int) -> int:
    """Return `size` bytes with what fills them up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def seal_page(*, size: int, magic: bytes, owner: bytes, place: int, sequence: int, body: bytes) -> bytes:
    """Return the `size` bytes of a page; the caller has checked that `body` fits."""
    assert len(body) <= size - PAGE_HEAD_SIZE, f"a body of {len(body)} bytes does not fit a page of {size}"
    head = _HEAD.pack(magic, DATA_FORMAT, len(body), owner, place, sequence)
    # Not over the padding: hashing 4 KiB twice took longer than all else that a proof costs in memory.
    return (checksum_of(head + body) + head + body).ljust(size, b"\0")


def open_page(data: bytes, *, magic: bytes, owner: bytes, place: int) -> Page | None:
    """Return what the page says, or None when it is damaged or is not the page that belongs here.

    Takes any bytes whatever.

    Raises:
        DataDirectoryError: a newer program wrote it.
    """
    if len(data) < PAGE_HEAD_SIZE or not data.startswith(magic, CHECKSUM_SIZE):
        return None
    _, data_format, body_size, its_owner, its_place, sequence = _HEAD.unpack_from(data, CHECKSUM_SIZE)
    if data_format < DATA_FORMAT or (its_owner, its_place) != (owner, place):
        return None
    end = PAGE_HEAD_SIZE + body_size
    if end > len(data) or checksum_of(data[CHECKSUM_SIZE:end]) != data[:CHECKSUM_SIZE]:
        return None
    if data_format > DATA_FORMAT:
        raise DataDirectoryError(
            f"a page {magic.decode()} (place {place}) has data format {data_format}, newer than {DATA_FORMAT}, the "
            "newest that this program knows; start the version of trio-pb that wrote this directory"
        )
    return Page(sequence, data[PAGE_HEAD_SIZE:end])
