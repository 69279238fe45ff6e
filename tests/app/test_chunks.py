"""Chunked state: pins see one version, digests follow what changed, order is kept."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pb.app.buckets import Buckets, leaf_of
from trio_pb.app.chunks import Chunks, Pin
from trio_pb.app.ordered import BLOCK_SIZE_MAX, RUN_SIZE, OrderedIds, RestoringIds
from trio_pb.app.packing import pack_values
from trio_pb.app.ring import PAGE_SLOTS, Ring


def list_chunks(count: int) -> tuple[Chunks[list[int]], list[list[int]]]:
    """Return chunks and the list of those that were copied so far."""
    copied: list[list[int]] = []

    def copy(chunk: list[int]) -> list[int]:
        copied.append(chunk)
        return chunk[:]

    return Chunks([[] for _ in range(count)], copy), copied


def test_a_chunk_is_copied_once_per_pin_and_only_when_written() -> None:
    """Of a thousand writes to one chunk under one pin, the first one copies, and no other chunk is."""
    chunks, copied = list_chunks(3)
    chunks.writable(0).append(1)
    assert not copied

    pin = chunks.pin()
    for number in range(1000):
        chunks.writable(1).append(number)
    assert copied == [[]]
    assert list(pin.chunks) == [[1], [], []]
    assert next(iter(pin.chunks)) is chunks[0]


def test_nothing_is_copied_for_a_released_pin() -> None:
    """When the only version that shared a chunk is gone, writers change it in place."""
    chunks, copied = list_chunks(1)
    chunks.pin().release()
    chunks.writable(0).append(1)
    assert not copied
    assert chunks.pinned == 0


def test_an_older_pin_that_has_its_own_copy_costs_nothing_more() -> None:
    """A chunk copied for an old pin is not copied again when a newer pin, that shared it, is gone."""
    chunks, copied = list_chunks(1)
    old = chunks.pin()
    chunks.writable(0).append(1)
    chunks.pin().release()
    chunks.writable(0).append(2)
    assert len(copied) == 1
    assert old.chunks == ([],)


def test_each_pin_keeps_its_own_version_whatever_order_they_go_in() -> None:
    """Three versions live side by side; releasing the newest leaves the others as they were."""
    chunks, _ = list_chunks(1)
    pins: list[Pin[list[int]]] = []
    for number in range(3):
        pins.append(chunks.pin())
        chunks.writable(0).append(number)
    pins[2].release()
    chunks.writable(0).append(3)
    assert pins[0].chunks == ([],)
    assert pins[1].chunks == ([0],)
    pins[2].release()  # Again: changes nothing.
    chunks.writable(0).append(4)
    assert pins[1].chunks == ([0],)


def test_an_old_pin_is_spared_when_a_newer_one_of_the_same_version_goes() -> None:
    """Two pins share a chunk; releasing the newer does not expose the older to writers."""
    chunks, _ = list_chunks(1)
    older, newer = chunks.pin(), chunks.pin()
    newer.release()
    chunks.writable(0).append(1)
    assert older.chunks == ([],)
    assert chunks.pinned == 1


def test_a_bucket_does_not_depend_on_the_hash_of_python() -> None:
    """Bucket and leaf of known keys are known numbers: blake2b, the same in each process and release."""
    assert [leaf_of(key) for key in (0, 1, 2**63 - 1, b"", b"laptop")] == [
        (1253, 6),
        (2829, 7),
        (480, 8),
        (2847, 14),
        (3931, 4),
    ]


def test_equal_contents_have_equal_digests_whatever_their_history() -> None:
    """Insertion order, overwritten values and removed keys leave no trace in the digest."""
    one: Buckets[int] = Buckets(int)
    other: Buckets[int] = Buckets(int)
    keys = list(range(5000))
    for key in keys:
        one.put(key, b"%d" % key)
    random.Random(7).shuffle(keys)
    other.put(9999, b"gone later")
    other.digest()
    for key in keys:
        other.put(key, b"first")
        other.put(key, b"%d" % key)
    other.remove(9999)
    assert other.digest() == one.digest()
    assert len(other) == len(one) == 5000
    assert other.get(9999) is None


def test_a_digest_encodes_only_what_changed() -> None:
    """After a digest nothing is dirty; one write makes one leaf dirty, and changes the digest."""
    buckets: Buckets[bytes] = Buckets(bytes)
    before = buckets.digest()
    assert buckets.dirty == 0
    buckets.put(b"customer", b"laptop")
    assert buckets.dirty == 1
    after = buckets.digest()
    assert after != before
    buckets.remove(b"customer")
    assert buckets.digest() == before


def test_a_write_through_a_copy_reaches_the_digest() -> None:
    """A bucket copied because of a pin is still digested as it is now, not as it was pinned."""
    plain: Buckets[int] = Buckets(int)
    pinned: Buckets[int] = Buckets(int)
    for buckets in (plain, pinned):
        buckets.put(1, b"old")
        buckets.digest()
    pin = pinned.pin()
    for buckets in (plain, pinned):
        buckets.put(1, b"new")
    assert pinned.digest() == plain.digest()
    assert pin.get(1) == b"old"


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_packed_values_tell_different_lists_apart(one: list[bytes], other: list[bytes]) -> None:
    """["ab", "c"] and ["a", "bc"] are not the same bytes."""
    assert (pack_values(one) == pack_values(other)) == (one == other)


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_ids_come_out_in_order_however_they_went_in(order: str) -> None:
    """Enough ids to split blocks many times are read back sorted, from any start."""
    ids = [number * 3 for number in range(4 * BLOCK_SIZE_MAX)]
    arrival = ids[::-1] if order == "descending" else ids[:]
    if order == "shuffled":
        random.Random(3).shuffle(arrival)
    ordered = OrderedIds()
    ordered.add(arrival)

    pin = ordered.pin()
    assert pin.at_or_after(0, len(ids) + 1) == ids
    for start in (0, 1, 3, ids[BLOCK_SIZE_MAX] - 1, ids[-1], ids[-1] + 1):
        assert pin.at_or_after(start, 5) == [number for number in ids if number >= start][:5]


def test_pinned_ids_do_not_see_later_ones() -> None:
    """A pinned order stays as it was while blocks are written and split under it."""
    ordered = OrderedIds()
    ordered.add(range(0, 3000, 2))
    pin = ordered.pin()
    ordered.add(range(1, 9000, 2))
    assert pin.at_or_after(0, 10_000) == list(range(0, 3000, 2))
    assert ordered.pin().at_or_after(0, 10_000) == sorted([*range(0, 3000, 2), *range(1, 9000, 2)])


def test_no_ids_are_an_empty_page() -> None:
    """Reading an empty order gives nothing."""
    assert OrderedIds().pin().at_or_after(0, 10) == []
    assert RestoringIds().finish().pin().at_or_after(0, 10) == []


def test_restored_and_added_ids_are_one_order() -> None:
    """Runs that overlap, and ids added between, below and above them, are read as one; a pin sees its own time."""
    chance = random.Random(5)
    ids = list(range(100, 100 + 7 * 3 * RUN_SIZE, 7))
    chance.shuffle(ids)
    restoring = RestoringIds()
    for first in range(0, len(ids), 15):
        restoring.add(sorted(ids[first : first + 15]))
    ordered = restoring.finish()
    before = ordered.pin()
    added = [1, 99, 101, 7 * RUN_SIZE + 3, 10 * 7 * RUN_SIZE, (1 << 63) - 1]
    ordered.add(added)
    pin, expected = ordered.pin(), sorted(ids + added)
    assert before.at_or_after(0, len(ids) + 1) == sorted(ids)
    assert pin.at_or_after(0, len(expected) + 1) == expected
    for start in (0, 1, 2, 100, 101, 102, expected[RUN_SIZE], ids[0] + 1, (1 << 63) - 1):
        assert pin.at_or_after(start, 50) == [number for number in expected if number >= start][:50]


@given(st.integers(1, 3 * PAGE_SLOTS), st.integers(0, 2000), st.integers(0, 2000))
def test_a_ring_holds_the_last_values(capacity: int, before: int, after: int) -> None:
    """Present and pinned version each hold the last `capacity` values as of their own time."""
    ring = Ring(capacity)
    replaced = [ring.append(b"%d" % number) for number in range(before)]
    pin = ring.pin()
    for number in range(before, before + after):
        ring.append(b"%d" % number)

    assert replaced == [b"%d" % (n - capacity) if n >= capacity else b"" for n in range(before)]
    assert pin.oldest == max(0, before - capacity)
    assert [pin.get(n) for n in range(pin.oldest, pin.count)] == [b"%d" % n for n in range(pin.oldest, before)]
    oldest = max(0, ring.count - capacity)
    assert [ring.get(n) for n in range(oldest, ring.count)] == [b"%d" % n for n in range(oldest, ring.count)]


def test_a_thousand_appends_dirty_a_handful_of_pages() -> None:
    """The ring is not encoded whole at each digest."""
    ring = Ring(100_000)
    ring.digest()
    for _ in range(1000):
        ring.append(b"order")
    assert ring.dirty == 4
    ring.digest()
    assert ring.dirty == 0
