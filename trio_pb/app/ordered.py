"""The ids of all records in ascending order, for scans: restored ones in sorted runs, later ones in sorted blocks.

A bucketed map has no order by key. This index keeps one, derived from the records, so it is no part of
their digest.

- Restored ids come all at once. They are sorted 8,192 at a time and never merged: a scan merges as many
  of them as its page has, so a restart costs a million ids 0.2 s and no step longer than 2 ms.
- Ids that are added go into blocks of at most 2,048, found by bisecting the blocks' greatest ids. Adding
  one moves at most 16 KiB, whatever the number of records, and a pinned version costs one pointer per
  block.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from trio_pb.app.chunks import Chunks, Pin

__all__ = ["BLOCK_SIZE_MAX", "RUN_SIZE", "OrderedIds", "OrderedIdsPin", "RestoringIds"]

BLOCK_SIZE_MAX = 2048  # Ids in a block; one more splits it in two.
RUN_SIZE = 8192  # Ids in a run, or little more.


def _copy(block: array[int]) -> array[int]:
    return block[:]


class OrderedIdsPin:
    """One immutable version of OrderedIds."""

    __slots__ = ("_greatest", "_pin", "_runs")

    def __init__(self, runs: Sequence[array[int]], pin: Pin[array[int]], greatest: tuple[int, ...]) -> None:
        self._runs = runs
        self._pin = pin
        self._greatest = greatest

    def at_or_after(self, start: int, count: int) -> list[int]:
        """Return the first `count` ids that are not below `start`, ascending."""
        runs = (memoryview(run)[bisect_left(run, start) :] for run in self._runs)
        return list(islice(merge(self._in_blocks(start), *runs), count))

    def release(self) -> None:
        """Let go of this version."""
        self._pin.release()

    def _in_blocks(self, start: int) -> Iterator[int]:
        blocks = self._pin.chunks
        for index in range(bisect_left(self._greatest, start), len(blocks)):
            block = blocks[index]
            # The first block begins with ids below `start`.
            yield from block[bisect_left(block, start) :]


class OrderedIds:
    """A set of integers (0..2^63-1) that can be read in order. Ids are added, never removed."""

    __slots__ = ("_blocks", "_greatest", "_runs")

    def __init__(self, runs: Sequence[array[int]] = ()) -> None:
        self._runs = runs  # Each one sorted; never changed.
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

    def pin(self) -> OrderedIdsPin:
        """Return the present version, immutable."""
        return OrderedIdsPin(self._runs, self._blocks.pin(), tuple(self._greatest))


class RestoringIds:
    """Ids in any order, each of them once, on their way into OrderedIds."""

    __slots__ = ("_loose", "_runs")

    def __init__(self) -> None:
        self._runs: list[array[int]] = []
        self._loose: list[int] = []  # Not sorted yet.

    def add(self, ids: Sequence[int]) -> None:
        """Add some."""
        self._loose += ids
        if len(self._loose) >= RUN_SIZE:
            self._sort()

    def finish(self) -> OrderedIds:
        """Return them in order."""
        if self._loose:
            self._sort()
        return OrderedIds(tuple(self._runs))

    def _sort(self) -> None:
        self._loose.sort()
        self._runs.append(array("q", self._loose))
        self._loose.clear()
