"""Lists of byte strings as bytes: one encoding each, and a decoder that takes any bytes whatever."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from trio_pb.app.parts import MalformedStateError

__all__ = ["COUNT_SIZE", "pack_values", "unpack_count", "unpack_values"]

_COUNT = struct.Struct(">I")
COUNT_SIZE = _COUNT.size


def pack_values(values: Sequence[bytes]) -> bytes:
    """Return the one encoding of a list: how many, the size of each (4 bytes each), then all of them."""
    sizes = struct.pack(f">{len(values) + 1}I", len(values), *map(len, values))
    return sizes + b"".join(values)


def unpack_count(data: bytes, start: int, item_size: int) -> int:
    """Return the count at `start`, after which as many items of at least `item_size` bytes must fit.

    Raises:
        MalformedStateError: they do not, or there is no count.
    """
    after = start + COUNT_SIZE
    # The count is checked before anything is made of that many items.
    if after > len(data) or after + (count := int(_COUNT.unpack_from(data, start)[0])) * item_size > len(data):
        raise MalformedStateError("the bytes end before what they announce")
    return count


def unpack_values(data: bytes, start: int) -> tuple[list[bytes], int]:
    """Return the list whose encoding begins at `start`, and where that ends.

    Raises:
        MalformedStateError: no list begins there.
    """
    count = unpack_count(data, start, COUNT_SIZE)
    end = start + COUNT_SIZE * (count + 1)
    values: list[bytes] = []
    for size in struct.unpack_from(f">{count}I", data, start + COUNT_SIZE):
        begin, end = end, end + size
        values.append(data[begin:end])
    if end > len(data):
        raise MalformedStateError("the bytes end before what they announce")
    return values, end
