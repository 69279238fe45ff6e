"""Sealed pages as input: cut apart at their magic bytes, changed as wholes, and sealed anew.

Files are large because pages are padded and lie at fixed offsets. An input is its pages without padding, one after
the other; whoever takes it lays each out where it belongs.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from tests.fuzz.sequence import rearrange
from tests.fuzz.tree import change_tree
from trio_pb.core.prepare import checksum_of
from trio_pb.storage.page import DATA_FORMAT, PAGE_HEAD_SIZE, padded, seal_page

__all__ = ["SEQUENCE", "body_of", "change_bodies", "change_pages", "lay_out", "of_newer_format", "pieces", "reseal"]

MAGIC_AT = 16  # Bytes into a page, behind the seal (docs/reference/disk-format.md, Pages).
_BODY_SIZE = slice(28, 32)
_OWNER = slice(32, 48)
_PLACE = slice(48, 56)
SEQUENCE = slice(56, 64)


def pieces(data: bytes, *magics: bytes) -> list[bytes]:
    """Cut an input before each page; what precedes the first page is a piece too."""
    starts = {0}
    for magic in magics:
        at = data.find(magic)
        while at >= 0:
            starts.add(max(0, at - MAGIC_AT))
            at = data.find(magic, at + 1)
    cuts = [*sorted(starts), len(data)]
    return [data[low:high] for low, high in pairwise(cuts) if low < high]


def reseal(
    piece: bytes,
    *,
    magic: bytes,
    owner: bytes | None = None,
    place: int | None = None,
    head_size: int | None = None,
    body: bytes | None = None,
) -> bytes:
    """Return the page with another owner, place or body if given, and a true seal; what is no page stays as it is.

    A page of a record is its first `head_size` bytes, and what follows them is left alone; None: all of it.
    """
    if len(piece) < PAGE_HEAD_SIZE or not piece.startswith(magic, MAGIC_AT):
        return piece
    size = len(piece) if head_size is None else min(len(piece), head_size)
    if body is None:
        body = body_of(piece[:size])
    if PAGE_HEAD_SIZE + len(body) > size:
        if head_size is not None and PAGE_HEAD_SIZE + len(body) > head_size:
            return piece
        size = PAGE_HEAD_SIZE + len(body)
    owner = piece[_OWNER] if owner is None else owner
    place = int.from_bytes(piece[_PLACE], "little") if place is None else place
    sequence = int.from_bytes(piece[SEQUENCE], "little")
    page = seal_page(size=size, magic=magic, owner=owner, place=place, sequence=sequence, body=body)
    return page + piece[size:]


def body_of(piece: bytes) -> bytes:
    """Return the body as far as it is there."""
    size = int.from_bytes(piece[_BODY_SIZE], "little")
    return piece[PAGE_HEAD_SIZE : PAGE_HEAD_SIZE + size]


def change_pages(data: bytes, random: Random, *magics: bytes) -> bytes:
    """Drop, double or move a page, or damage a byte of one."""
    cut = pieces(data, *magics)
    if not cut:
        return data
    if random.randrange(4):
        rearrange(cut, random)
    else:
        at = random.randrange(len(cut))
        piece = bytearray(cut[at])
        piece[random.randrange(len(piece))] ^= 1 << random.randrange(8)
        cut[at] = bytes(piece)
    return b"".join(cut)


def lay_out(parts: list[bytes], alignment: int) -> bytes:
    """Return a file in which each part begins at a multiple of `alignment`, and that is cut off behind the last."""
    return b"".join([part.ljust(padded(len(part), alignment), b"\0") for part in parts[:-1]] + parts[-1:])


def change_bodies(data: bytes, random: Random, magic: bytes, head_size: int | None) -> bytes:
    """Change whole pages, or an item of the CBOR in the body of one or behind its head."""
    cut = pieces(data, magic)
    if not cut or random.randrange(3) == 0:
        return change_pages(data, random, magic)
    at = random.randrange(len(cut))
    piece = cut[at]
    if head_size is not None and random.randrange(3) == 0:
        cut[at] = piece[:head_size] + change_tree(piece[head_size:], random)
    else:
        head = piece[:head_size]
        body = change_tree(body_of(head), random)
        cut[at] = reseal(piece, magic=magic, head_size=head_size, body=body)
    return b"".join(cut)


def of_newer_format(page: bytes, end: int) -> bytes:
    """Return the page, whose body ends at `end`, as a later program might write it."""
    rest = page[16:24] + (DATA_FORMAT + 1).to_bytes(4, "little") + page[28:end]
    return checksum_of(rest) + rest + page[end:]
