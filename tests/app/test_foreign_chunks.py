"""Chunks that no machine would write: refused by name, or the chunks of a state after all."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.app.states import RING_HEADER, bucket_place, checkpoint, place, scan_ids
from trio_pb import canonical
from trio_pb.app.buckets import LEAVES, leaf_of
from trio_pb.app.customers import RECORD
from trio_pb.app.leaf import EMPTY_LEAF
from trio_pb.app.machine import (
    RejectedError,
    decode_result,
)
from trio_pb.app.orders import (
    ID_MAX,
    RECENT,
    Orders,
    ReadRecent,
    decode_recent_page,
    encode_recent,
)
from trio_pb.app.packing import pack_values
from trio_pb.app.parts import PART_PLACES, MalformedStateError
from trio_pb.app.recent_orders import RECENT as RECENT_ORDER
from trio_pb.app.ring import PAGE_SLOTS


def sample() -> dict[int, bytes]:
    """Return the chunks of a small state."""
    orders = Orders(recent_orders_max=4)
    for number in range(6):
        place(orders, number % 2, number, "läptop", b"key-%d" % number)
    return checkpoint(orders)


SAMPLE = sample()


def use(orders: Orders) -> None:
    """Do everything that reads state: nothing of it may raise anything but rejections."""
    orders.digest()
    for customer in scan_ids(orders):
        for number, key in ((0, None), (3, b"key-3"), (ID_MAX, b"key-5"), (ID_MAX, b"new")):
            with suppress(RejectedError):
                decode_result(place(orders, customer, number, key=key))
    scan_ids(orders)
    ((_, result, _, _),) = orders.query(orders.op, 0, [(1, 1, RECENT, encode_recent(ReadRecent(0, 2000)), b"")])
    decode_recent_page(result)
    checkpoint(orders)


@given(st.sampled_from(sorted(SAMPLE)), st.data())
def test_damaged_chunks_are_refused_or_are_the_chunks_of_a_state(damaged: int, data: st.DataObject) -> None:
    """Whatever bytes come: MalformedStateError, or a state that works and whose chunks are those bytes."""
    good = SAMPLE[damaged]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 9)))
    chunks = {**SAMPLE, damaged: good[:start] + data.draw(st.binary(max_size=9)) + good[end:]}
    orders = Orders(recent_orders_max=4)
    restoring = orders.restoring()
    try:
        for chunk_place, chunk in chunks.items():
            restoring.put(chunk_place, chunk)
        restoring.finish()
    except MalformedStateError:
        return
    orders.adopt(restoring, 6)
    assert checkpoint(orders) == chunks
    use(orders)


@given(st.sampled_from([0, *range(PART_PLACES, PART_PLACES + 3), RING_HEADER, RING_HEADER + 1]), st.binary(max_size=80))
@example(bucket_place(0), b"\xff" * 80)
@example(RING_HEADER, canonical.encode([4, 1 << 63]))
@example(RING_HEADER, canonical.encode([4, True]))
@example(RING_HEADER + 1, pack_values([b""] * PAGE_SLOTS))
@example(RING_HEADER + 1, pack_values([b"x"] * 4 + [b""] * (PAGE_SLOTS - 4)))
def test_any_bytes_are_refused_or_kept(chunk_place: int, data: bytes) -> None:
    """Bytes out of nowhere raise nothing but MalformedStateError."""
    restoring = Orders(recent_orders_max=4).restoring()
    for before in (0, RING_HEADER):
        if before < chunk_place:
            restoring.put(before, SAMPLE[before])
    with pytest.raises(MalformedStateError):
        restoring.put(chunk_place, data)


def chunk_of(leaves: dict[int, bytes]) -> bytes:
    """Return a bucket's chunk with these encoded leaves, the others empty."""
    return b"".join(leaves.get(number, EMPTY_LEAF) for number in range(LEAVES))


def record(
    laptop: bytes = b"x1", *, last: int = 1, orders: int = 1, size: int | None = None, key: bytes = b""
) -> bytes:
    """Return the packed record of a customer."""
    return RECORD.pack(last, orders, 1, 1000, len(laptop) if size is None else size) + laptop + key


BUCKET, LEAF = leaf_of(7)
NEIGHBOURS = [key for key in range(1_000_000) if leaf_of(key) == (BUCKET, LEAF)][:3]


def packed_leaf(keys: list[int], values: list[bytes]) -> bytes:
    """Return what would be a leaf if the keys were in order and as many as the values."""
    return struct.pack(f">I{len(keys)}Q", len(keys), *keys) + pack_values(values)


@pytest.mark.parametrize(
    "data",
    [
        chunk_of({}),
        chunk_of({LEAF: packed_leaf([7], [record()])}) + b"\0",
        chunk_of({LEAF: packed_leaf([7], [record()])})[:-1],
        chunk_of({LEAF: packed_leaf(NEIGHBOURS[::-1], [record()] * 3)}),
        chunk_of({LEAF: packed_leaf([7, 7], [record()] * 2)}),
        chunk_of({LEAF: packed_leaf([7], [record()] * 2)}),
        chunk_of({LEAF: packed_leaf([8], [record()])}),
        chunk_of({(LEAF + 1) % LEAVES: packed_leaf([7], [record()])}),
        *(
            chunk_of({LEAF: packed_leaf([7], [wrong])})
            for wrong in (
                b"",
                record()[:20],
                record(size=3),
                record(b""),
                record(b"x" * 65),
                record(key=b"k" * 65),
                record(b"\xff"),
                record(last=1 << 63),
                record(orders=0),
                record(orders=1 << 63),
            )
        ),
    ],
)
def test_a_bucket_that_no_machine_would_write_is_refused(data: bytes) -> None:
    """One bucket has one encoding, its keys belong there, and each record is one that orders can make."""
    restoring = Orders().restoring()
    restoring.put(0, SAMPLE[0])
    with pytest.raises(MalformedStateError):
        restoring.put(PART_PLACES + BUCKET, data)
    restoring = Orders().restoring()
    restoring.put(0, SAMPLE[0])
    restoring.put(PART_PLACES + BUCKET, chunk_of({LEAF: packed_leaf(NEIGHBOURS, [record()] * 3)}))


def test_a_customer_id_out_of_range_is_refused() -> None:
    """2^63 and above have no place in the order of ids."""
    bucket, leaf = leaf_of(ID_MAX + 1)
    restoring = Orders().restoring()
    with pytest.raises(MalformedStateError):
        restoring.put(PART_PLACES + bucket, chunk_of({leaf: packed_leaf([ID_MAX + 1], [record()])}))


def recent(laptop: bytes = b"x1", *, customer: int = 7, number: int = 1, key: bytes = b"") -> bytes:
    """Return a packed recent order."""
    return RECENT_ORDER.pack(1, 0, customer, number, len(laptop)) + laptop + key


@pytest.mark.parametrize(
    "values",
    [
        [],
        [recent()],
        [recent()] * 3,
        [recent(), b"", recent()],
        [recent(), b"x"],
        [recent(), recent(b"")],
        [recent(), recent(b"\xff")],
        [recent(), recent(key=b"k" * 65)],
        [recent(), recent(customer=1 << 63)],
        [recent(), recent(number=1 << 63)],
        [recent(key=b"k"), recent(key=b"k")],
    ],
)
def test_a_page_that_no_machine_would_write_is_refused(values: list[bytes]) -> None:
    """The header announces two orders: exactly those are there, each one possible, no key twice."""
    for page, is_good in ((values, False), ([recent(key=b"k"), recent(key=b"l")], True)):
        data = pack_values(page + [b""] * (PAGE_SLOTS - len(page)))
        for chunk in (data,) if is_good else (data, data + b"\0", pack_values(page)):
            restoring = Orders(recent_orders_max=4).restoring()
            restoring.put(RING_HEADER, canonical.encode([4, 2]))
            if is_good:
                restoring.put(RING_HEADER + 1, chunk)
            else:
                with pytest.raises(MalformedStateError):
                    restoring.put(RING_HEADER + 1, chunk)
