"""The ids of all records in ascending order, for scans: sorted blocks of packed integers.

A bucketed map has no order by key. This index keeps one: blocks of at most 2,048 ids (8 bytes each),
found by bisecting the blocks' greatest ids. Adding an id moves at most 16 KiB, whatever the number of
records, and a pinned version costs one pointer per block. It is derived from the records, so it is
no part of their digest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from trio_pb.app.chunks import Chunks, Pin

__all__ = ["BLOCK_SIZE_MAX", "OrderedIds", "OrderedIdsPin"]

BLOCK_SIZE_MAX = 2048  # Ids in a block; one more splits it in two.


def _copy(block: array[int]) -> array[int]:
    return block[:]


class OrderedIdsPin:
    """One immutable version of OrderedIds."""

    __slots__ = ("_greatest", "_pin")

    def __init__(self, pin: Pin[array[int]], greatest: tuple[int, ...]) -> None:
        self._pin = pin
        self._greatest = greatest

    def at_or_after(self, start: int, count: int) -> list[int]:
        """Return the first `count` ids that are not below `start`, ascending."""
        found: list[int] = []
        blocks = self._pin.chunks
        for index in range(bisect_left(self._greatest, start), len(blocks)):
            block = blocks[index]
            first = 0 if found else bisect_left(block, start)
            found += block[first : first + count - len(found)]
            if len(found) == count:
                break
        return found

    def release(self) -> None:
        """Let go of this version."""
        self._pin.release()


class OrderedIds:
    """A set of integers (0..2^63-1) that can be read in order. Ids are added, never removed."""

    __slots__ = ("_blocks", "_greatest")

    def __init__(self) -> None:
        self._blocks: Chunks[array[int]] = Chunks([], _copy)
        self._greatest: list[int] = []  # Of each block.

    def add(self, new_ids: Iterable[int]) -> None:
        """Add ids that are not there yet."""
        blocks, greatest = self._blocks, self._greatest
        for new in new_ids:
            index = bisect_left(greatest, new)
            if index == len(greatest):  # An id above all others goes into the last block.
                if not greatest:
                    blocks.insert(0, array("q"))
                    greatest.append(new)
                    index = 1
                index -= 1
                greatest[index] = new
            block = blocks.writable(index)
            insort(block, new)
            if len(block) > BLOCK_SIZE_MAX:
                half = len(block) // 2
                blocks.insert(index + 1, block[half:])
                greatest.insert(index + 1, block[-1])
                del block[half:]
                greatest[index] = block[-1]

    def __contains__(self, wanted: int) -> bool:
        index = bisect_left(self._greatest, wanted)
        if index == len(self._greatest):
            return False
        block = self._blocks[index]
        return block[bisect_right(block, wanted) - 1] == wanted

    def pin(self) -> OrderedIdsPin:
        """Return the present version, immutable."""
        return OrderedIdsPin(self._blocks.pin(), tuple(self._greatest))
