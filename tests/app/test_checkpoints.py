"""Freezing and restoring, as scenarios: what is encoded, what is known, what is refused, what is replaced."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from tests.app.states import RING_HEADER, bucket_place, checkpoint, place, restore, scan_ids, unknown
from trio_pb.app.buckets import BUCKET_COUNT, Buckets, leaf_of
from trio_pb.app.orders import (
    SCAN,
    Orders,
    ScanCustomers,
    encode_scan,
)
from trio_pb.app.parts import PART_PLACES, MalformedStateError
from trio_pb.app.ring import PAGE_SLOTS

# --- Freezing ---------------------------------------------------------------------------------


def test_places_tell_part_and_chunk() -> None:
    """The header is at 0; part n begins at n * PART_PLACES; only buckets and pages that hold something are there."""
    orders = Orders(recent_orders_max=1000)
    assert list(orders.freeze().places) == [0, RING_HEADER]
    for number in range(PAGE_SLOTS + 1):
        place(orders, 7, number)
    assert list(orders.freeze().places) == [0, bucket_place(7), RING_HEADER, RING_HEADER + 1, RING_HEADER + 2]


def test_one_order_leaves_three_chunks_to_encode() -> None:
    """Its customer's bucket, the ring's header and one page; all else is known from the checkpoint before."""
    orders = Orders(recent_orders_max=1000)
    for customer in range(300):
        place(orders, customer, 1)
    chunks = checkpoint(orders)
    assert unknown(orders.freeze()) == []

    place(orders, 7, 2)
    frozen = orders.freeze()
    assert unknown(frozen) == [bucket_place(7), RING_HEADER, RING_HEADER + 2]
    for known in set(frozen.places) - set(unknown(frozen)):
        assert frozen.known(known) == (blake2b(chunks[known], digest_size=32).digest(), len(chunks[known]))


def test_a_frozen_state_does_not_see_later_orders() -> None:
    """What is encoded after a hundred more orders is what would have been encoded at once."""
    one, other = Orders(recent_orders_max=5), Orders(recent_orders_max=5)
    for customer in range(20):
        assert place(one, customer, 1) == place(other, customer, 1)
    at_once = checkpoint(other)
    frozen = one.freeze()
    for number in range(100):
        place(one, number % 30, number + 2)
    assert {place: frozen.encode(place) for place in frozen.places} == at_once


def test_what_changed_after_the_freeze_is_unknown_to_the_next_one() -> None:
    """A chunk encoded late, when the present has moved on, must not lend its digest to the present."""
    orders = Orders()
    place(orders, 7, 1)
    frozen = orders.freeze()
    place(orders, 7, 2)
    old = frozen.encode(bucket_place(7))
    assert frozen.known(bucket_place(7)) == (blake2b(old, digest_size=32).digest(), len(old))
    frozen.release()

    later = orders.freeze()
    assert later.known(bucket_place(7)) is None
    assert later.encode(bucket_place(7)) != old


def test_what_is_written_after_the_freeze_stays_known_to_it() -> None:
    """A freeze knows the chunks of the checkpoint before it, whatever happens to the present."""
    orders = Orders()
    place(orders, 7, 1)
    checkpoint(orders)
    frozen = orders.freeze()
    place(orders, 7, 2)
    assert unknown(frozen) == []
    assert unknown(orders.freeze()) == [bucket_place(7), RING_HEADER, RING_HEADER + 1]


def test_a_write_after_the_release_is_unknown_too() -> None:
    """Without a live freeze a bucket is written in place: the same object, other contents."""
    orders = Orders()
    place(orders, 7, 1)
    before = checkpoint(orders)
    place(orders, 7, 2)
    assert checkpoint(orders)[bucket_place(7)] != before[bucket_place(7)]
    place(orders, 7, 3)
    assert bucket_place(7) in unknown(orders.freeze())


def test_a_bucket_whose_last_key_went_is_no_chunk() -> None:
    """A map that held something once is frozen as one that never did."""
    buckets: Buckets[int] = Buckets(int)
    empty = buckets.digest()
    buckets.put(7, b"x")
    buckets.digest()
    assert list(buckets.freeze().indexes) == [leaf_of(7)[0]]
    buckets.remove(7)
    assert list(buckets.freeze().indexes) == []
    assert buckets.digest() == empty
    assert len(buckets) == 0


def test_equal_contents_have_equal_chunks_whatever_their_history() -> None:
    """Insertion order, overwritten values, removed keys, digests and freezes leave no trace in any chunk."""
    one: Buckets[int] = Buckets(int)
    other: Buckets[int] = Buckets(int)
    for key in range(2000):
        one.put(key, b"%d" % key)
    for key in reversed(range(3000)):
        other.put(key, b"first")
        if key == 1500:
            other.digest()
            frozen = other.freeze()
            frozen.encode(leaf_of(2999)[0])
    for key in range(3000):
        if key < 2000:
            other.put(key, b"%d" % key)
        else:
            other.remove(key)
    frozen, expected = other.freeze(), one.freeze()
    assert list(frozen.indexes) == list(expected.indexes)
    assert [frozen.encode(index) for index in frozen.indexes] == [expected.encode(index) for index in expected.indexes]


# --- Restoring --------------------------------------------------------------------------------


def test_a_fresh_machine_restores_at_boot() -> None:
    """Records, scans, recent orders and known keys are back, and the next op is the one after the checkpoint."""
    orders = Orders(recent_orders_max=300)
    for number in range(700):
        place(orders, number % 50 * 3, number, key=b"key-%d" % number)
    chunks = checkpoint(orders)
    fresh = Orders(recent_orders_max=300)
    restore(fresh, chunks, orders.op)

    assert fresh.op == orders.op == 700
    assert fresh.digest() == orders.digest()
    assert scan_ids(fresh) == scan_ids(orders) == list(range(0, 150, 3))
    again, forgotten = (450 % 50 * 3, 450), (399 % 50 * 3, 399)
    for customer, number in (again, forgotten, (1, 1), (300, 1)):
        key = b"key-%d" % number
        assert place(fresh, customer, number, key=key) == place(orders, customer, number, key=key)
    assert fresh.digest() == orders.digest()


def test_what_was_restored_is_known() -> None:
    """The first checkpoint after a restart encodes only what changed since the one before."""
    orders = Orders()
    for customer in range(100):
        place(orders, customer, 1)
    chunks = checkpoint(orders)
    fresh = Orders()
    restore(fresh, chunks, orders.op)
    frozen = fresh.freeze()
    assert {place: frozen.known(place) for place in frozen.places} == {
        place: (blake2b(data, digest_size=32).digest(), len(data)) for place, data in chunks.items()
    }
    place(fresh, 7, 2)
    assert unknown(fresh.freeze()) == [bucket_place(7), RING_HEADER, RING_HEADER + 1]


def test_restoring_does_not_disturb_the_present_state() -> None:
    """Until it is adopted, and when it is dropped, the machine goes on as if nothing were restored."""
    orders, busy = Orders(), Orders()
    place(orders, 7, 1)
    chunks = checkpoint(orders)
    place(busy, 8, 1)
    before = busy.digest()
    restoring = busy.restoring()
    for chunk_place, data in chunks.items():
        restoring.put(chunk_place, data)
    restoring.finish()
    assert busy.digest() == before
    place(busy, 9, 1)
    assert scan_ids(busy) == [8, 9]
    busy.adopt(restoring, 1)
    assert busy.digest() == orders.digest()
    assert scan_ids(busy) == [7]


def test_a_freeze_taken_before_an_adoption_stays_as_it_was() -> None:
    """It encodes the old state to its end, and leaves nothing behind in the new one."""
    old, new = Orders(), Orders()
    place(old, 7, 1)
    place(new, 7, 1, "another")
    frozen, expected = old.freeze(), checkpoint(new)
    restore(old, expected, 1)
    assert frozen.encode(bucket_place(7)) != expected[bucket_place(7)]
    frozen.release()
    later = old.freeze()
    assert later.known(bucket_place(7)) == (
        blake2b(expected[bucket_place(7)], digest_size=32).digest(),
        len(expected[bucket_place(7)]),
    )


def test_open_scans_end_with_the_state_they_read() -> None:
    """Their cursors are gone after an adoption, also when the op and the number of scans are the same again."""
    orders = Orders()
    for customer in range(3):
        place(orders, customer, 1)
    chunks = checkpoint(orders)
    body = encode_scan(ScanCustomers(0, 1))
    ((_, _, cursor, _),) = orders.query(3, 0, [(1, 1, SCAN, body, b"")])
    restore(orders, chunks, 3)
    assert orders.snapshots == 0
    ((_, _, new_cursor, _),) = orders.query(3, 0, [(1, 1, SCAN, body, b"")])
    assert new_cursor
    assert orders.query(3, 0, [(2, 1, SCAN, body, cursor)]) == ((2, b"", b"", "snapshot_gone"),)


def test_an_adopted_state_can_be_older_than_the_present_one() -> None:
    """A replica whose state went wrong goes back to a checkpoint and replays what follows."""
    orders = Orders(recent_orders_max=3)
    for number in range(5):
        place(orders, 7, number, key=b"%d" % number)
    chunks = checkpoint(orders)
    results = [place(orders, 7, number, key=b"%d" % number) for number in range(3, 9)]
    digest = orders.digest()
    restore(orders, chunks, 5)
    assert orders.op == 5
    assert [place(orders, 7, number, key=b"%d" % number) for number in range(3, 9)] == results
    assert orders.digest() == digest


@pytest.mark.parametrize("missing", [0, RING_HEADER, RING_HEADER + 1, RING_HEADER + 2])
def test_a_missing_chunk_is_noticed_and_nothing_changes(missing: int) -> None:
    """Header, ring header and pages announce one another."""
    orders, fresh = Orders(recent_orders_max=400), Orders(recent_orders_max=400)
    for number in range(300):
        place(orders, 7, number)
    chunks = checkpoint(orders)
    del chunks[missing]
    place(fresh, 8, 1)
    before = fresh.digest()
    with pytest.raises(MalformedStateError):
        restore(fresh, chunks, 300)
    assert fresh.digest() == before
    assert fresh.op == 1


@pytest.mark.parametrize(
    "chunk_place",
    [1, PART_PLACES + BUCKET_COUNT, RING_HEADER + 3, 3 * PART_PLACES, -1, 1 << 64],
)
def test_a_place_that_the_machine_does_not_have_is_refused(chunk_place: int) -> None:
    """A manifest may name any place."""
    orders = Orders(recent_orders_max=400)
    for number in range(300):
        place(orders, 7, number)
    chunks = {at: data for at, data in checkpoint(orders).items() if at < chunk_place}
    restoring = orders.restoring()
    for at, data in chunks.items():
        restoring.put(at, data)
    with pytest.raises(MalformedStateError):
        restoring.put(chunk_place, checkpoint(orders)[RING_HEADER + 1])


def test_chunks_come_by_rising_place() -> None:
    """A place that comes twice would count its customers twice."""
    orders = Orders()
    place(orders, 7, 1)
    chunks = checkpoint(orders)
    restoring = orders.restoring()
    restoring.put(bucket_place(7), chunks[bucket_place(7)])
    with pytest.raises(MalformedStateError, match="place"):
        restoring.put(bucket_place(7), chunks[bucket_place(7)])


def test_a_state_with_another_number_of_recent_orders_is_refused_by_name() -> None:
    """All replicas run with the same; the message tells both numbers."""
    with pytest.raises(MalformedStateError, match="a ring of 5 values; here it has 6"):
        restore(Orders(recent_orders_max=6), checkpoint(Orders(recent_orders_max=5)), 1)


def test_a_state_of_another_version_is_refused_by_name() -> None:
    """The header is read before anything else."""

    class Later(Orders):
        state_version = 2

    with pytest.raises(MalformedStateError, match=r"parts \[2, 2\]; here it is \[1, 2\]"):
        restore(Orders(), checkpoint(Later()), 1)
    assert Later().digest() != Orders().digest()


def test_a_digest_can_be_prepared_in_slices() -> None:
    """However small the slices, and with writes in between, the digest is the same."""
    sliced, whole = Orders(), Orders()
    for machine in (sliced, whole):
        for customer in range(100):
            place(machine, customer, 1)
    assert not sliced.prepare_digest(30)
    for machine in (sliced, whole):
        place(machine, 5, 2)
    slices = 1
    while not sliced.prepare_digest(30):
        slices += 1
    assert slices > 3
    assert sliced.digest() == whole.digest()
