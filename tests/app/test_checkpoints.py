"""Freezing and restoring, as scenarios: what is encoded, what is known, what is refused, what is replaced."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.buckets import BUCKET_COUNT, LEAVES, Buckets, leaf_of
from trio_pb.app.customers import RECORD
from trio_pb.app.leaf import EMPTY_LEAF
from trio_pb.app.machine import (
    LEFTOVERS_PER_OP,
    Page,
    Question,
    RejectedError,
    StateMachine,
    command,
    decode_result,
    encode_value,
    query,
)
from trio_pb.app.orders import (
    ID_MAX,
    PLACE,
    RECENT,
    SCAN,
    Orders,
    PlaceOrder,
    ReadRecent,
    ScanCustomers,
    decode_recent_page,
    decode_scan_page,
    encode_place,
    encode_recent,
    encode_scan,
)
from trio_pb.app.packing import pack_values
from trio_pb.app.parts import PART_PLACES, Frozen, MalformedStateError, Part
from trio_pb.app.recent_orders import RECENT as RECENT_ORDER
from trio_pb.app.ring import PAGE_SLOTS, RestoringRing, Ring

CLIENT = b"c" * 16


def place(machine: Orders, customer: int, number: int, laptop: str = "x1", key: bytes | None = None) -> bytes:
    """Place one order in the next op; return the result."""
    op = machine.op + 1
    body = encode_place(PlaceOrder(customer, number, laptop, idempotency_key=key))
    return machine.apply(op, op * 1000, [(0, CLIENT, PLACE, body)])[0]


def checkpoint(machine: StateMachine) -> dict[int, bytes]:
    """Freeze and encode everything; return the chunks by place."""
    frozen = machine.freeze()
    chunks = {place: frozen.encode(place) for place in frozen.places}
    frozen.release()
    return chunks


def restore(machine: StateMachine, chunks: dict[int, bytes], op: int) -> None:
    """Make `chunks` the state of `machine`."""
    restoring = machine.restoring()
    for place, data in chunks.items():
        restoring.put(place, data)
    machine.adopt(restoring, op)


def unknown(frozen: Frozen) -> list[int]:
    """Return the places that have to be encoded."""
    return [place for place in frozen.places if frozen.known(place) is None]


def bucket_place(customer: int) -> int:
    """Return the place of the chunk with a customer's record: the customers are part 1."""
    return PART_PLACES + leaf_of(customer)[0]


RING_HEADER = 2 * PART_PLACES  # Part 2 are the recent orders.


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


def scan_ids(orders: Orders) -> list[int]:
    """Return the ids of all customers."""
    ((_, result, _, _),) = orders.query(orders.op, 0, [(1, 1, SCAN, encode_scan(ScanCustomers(0, 2000)), b"")])
    return [record.customer_id for record in decode_scan_page(result).records]


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


# --- Machines of one's own --------------------------------------------------------------------


class Pantry(StateMachine):
    """A map with keys of bytes, a ring and a number: every kind of part."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Buckets(bytes)
        self.last = Ring(3)
        self.total = 0

    def parts(self) -> Sequence[Part]:
        """Return all three."""
        total = Blob(encode=lambda: canonical.encode(self.total), decode=decode_total, adopt=self.set_total)
        return (self.stock, self.last, total)

    def set_total(self, total: int) -> None:
        """Take a restored total."""
        self.total = total

    @command(2)
    def store(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Store a thing under its own first byte."""
        self.stock.put(body[:1], body)
        self.last.append(body)
        self.total += len(body)
        return encode_value(self.total)

    @query(2)
    def get(self, question: Question) -> Page:
        """Answer the thing under a byte."""
        return Page(encode_value(self.stock.get(question.body)))


def decode_total(data: bytes) -> int:
    """Return the total that `data` encodes; ValueError for any other bytes."""
    total = canonical.decode(data)
    if type(total) is not int or total < 0:
        raise ValueError("not a total")
    return total


def test_a_machine_of_parts_gets_checkpoints_and_digests_without_more_code() -> None:
    """It freezes, restores, goes on alike, and names what is wrong with other bytes."""
    one, other = Pantry(), Pantry()
    for op, body in enumerate((b"apple", b"bread", b"avocado", b"cheese", b""), 1):
        one.apply(op, 0, [(0, CLIENT, 2, body)] if body else [])
    chunks = checkpoint(one)
    restore(other, chunks, 5)
    assert other.digest() == one.digest() != Pantry().digest()
    assert other.query(5, 0, [(1, 1, 2, b"a", b"")]) == one.query(5, 0, [(1, 1, 2, b"a", b"")])
    assert other.apply(6, 0, [(0, CLIENT, 2, b"dates")]) == one.apply(6, 0, [(0, CLIENT, 2, b"dates")])
    assert checkpoint(other) == checkpoint(one)
    frozen = one.freeze()
    one.apply(7, 0, [(0, CLIENT, 2, b"eggs")])
    assert unknown(frozen) == []
    assert 3 * PART_PLACES in unknown(one.freeze())
    for bad in (b"\xff", canonical.encode("total")):
        with pytest.raises(MalformedStateError):
            restore(other, {**chunks, 3 * PART_PLACES: bad}, 5)
    assert other.total == one.total - 4


def test_a_machine_that_names_no_parts_cannot_be_made() -> None:
    """Whoever forgot them learns the name of the method when the machine is made, not at the first checkpoint."""

    class Forgetful(StateMachine):
        pass

    with pytest.raises(TypeError, match=r"Forgetful.*parts"):
        Forgetful()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]


class Piece(list[int]):
    """Something that can be watched, which a plain list cannot."""


class Hoard(Ring):
    """A ring that leaves more pieces than one op frees."""

    def __init__(self) -> None:
        super().__init__(1)
        self.pieces = [Piece() for _ in range(2 * LEFTOVERS_PER_OP)]

    def restoring(self, accept: Callable[[int, bytes], None] | None = None) -> RestoringRing:
        """Begin to restore."""
        return RestoringRing(1, self._header.restoring(), accept, self._hand_over)

    def _hand_over(self, restored: RestoringRing) -> Sequence[object]:
        pieces, self.pieces = self.pieces, []
        return pieces


class Hoarder(StateMachine):
    """A machine with a hoard."""

    def __init__(self) -> None:
        super().__init__()
        self.hoard = Hoard()

    def parts(self) -> Sequence[Part]:
        """Return the hoard."""
        return [self.hoard]


def test_the_old_state_is_freed_bit_by_bit() -> None:
    """Freeing a million records at once would stop the replica: some go with each op that follows."""
    hoarder = Hoarder()
    watched = [weakref.ref(piece) for piece in hoarder.hoard.pieces]

    def left() -> int:
        return sum(reference() is not None for reference in watched)

    restore(hoarder, checkpoint(hoarder), 1)
    assert left() == 2 * LEFTOVERS_PER_OP
    hoarder.apply(2, 0, [])
    assert left() == LEFTOVERS_PER_OP
    hoarder.apply(3, 0, [])
    assert left() == 0


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
