"""Properties: Orders against a naive model, replicas of one log against each other, any bytes at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_pb import canonical
from trio_pb.app.machine import RejectedError, decode_result
from trio_pb.app.orders import (
    ID_MAX,
    PLACE,
    READ,
    RECENT,
    SCAN,
    CustomerRecord,
    OrderReceipt,
    Orders,
    PlaceOrder,
    ReadCustomer,
    ReadRecent,
    RecentOrder,
    ScanCustomers,
    decode_receipt,
    decode_recent_page,
    decode_record,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_recent,
    encode_scan,
)

CLIENT = b"c" * 16
ROOT = Path(__file__).resolve().parents[2]

# Few values, so that orders collide; the greatest ones, so that packing is put to the test.
customers = st.sampled_from([0, 1, 2, 300, ID_MAX])
numbers = st.one_of(st.integers(0, 6), st.just(ID_MAX))
laptops = st.sampled_from(["a", "b", "\u20ac" * 21])
keys = st.sampled_from([None, b"k", b"l", b"\x00" * 64])
places = st.builds(PlaceOrder, customers, numbers, laptops, st.booleans(), keys)


@attrs.define
class Placed:
    """One order as the model remembers it: whole, and for ever."""

    op: int
    index: int
    timestamp: int
    order: PlaceOrder


class Model:
    """What the laptop orders mean, with no thought of speed or memory."""

    def __init__(self, ring_size: int) -> None:
        self.ring_size = ring_size
        self.placed: list[Placed] = []

    def of_customer(self, customer: int) -> list[Placed]:
        """Return the customer's orders."""
        return [placed for placed in self.placed if placed.order.customer_id == customer]

    def place(self, op: int, index: int, timestamp: int, order: PlaceOrder) -> OrderReceipt | str:
        """Return the receipt, or the name of the rejection."""
        earlier = self.of_customer(order.customer_id)
        remembered = [placed for placed in self.placed[-self.ring_size :] if placed in earlier] + earlier[-1:]
        for placed in remembered:
            if order.idempotency_key is not None and placed.order.idempotency_key == order.idempotency_key:
                first = placed.order
                if (first.order_number, first.laptop_type) != (order.order_number, order.laptop_type):
                    return "idempotency_key_reused"
                return OrderReceipt(first.customer_id, first.order_number, first.laptop_type, True, placed.op)
        if earlier and order.order_number <= earlier[-1].order.order_number and not order.overwrite:
            return "order_number_not_above_last"
        self.placed.append(Placed(op, index, timestamp, order))
        return OrderReceipt(order.customer_id, order.order_number, order.laptop_type, False, op)

    def record(self, customer: int) -> CustomerRecord:
        """Return the customer's record."""
        orders = self.of_customer(customer)
        if not orders:
            return CustomerRecord(customer, -1, 0, "", 0, 0)
        last = orders[-1]
        return CustomerRecord(
            customer, last.order.order_number, len(orders), last.order.laptop_type, last.op, last.timestamp
        )

    def records(self, start: int) -> list[CustomerRecord]:
        """Return the records from customer `start` on, in order."""
        known = {placed.order.customer_id for placed in self.placed}
        return [self.record(customer) for customer in sorted(known) if customer >= start]

    def recent(self) -> list[RecentOrder]:
        """Return the orders that the ring still holds."""
        return [
            RecentOrder(p.op, p.index, p.order.customer_id, p.order.order_number, p.order.laptop_type)
            for p in self.placed[-self.ring_size :]
        ]


@attrs.define
class Scan:
    """A scan under way: what it must give in the end, and what it gave so far."""

    op: int
    expected: list[CustomerRecord]
    seen: list[CustomerRecord]
    cursor: bytes


class OrdersMatchTheModel(RuleBasedStateMachine):
    """Two replicas apply one log: one digests, reads and scans all the time, the other never."""

    @initialize(ring_size=st.integers(1, 8))
    def start(self, ring_size: int) -> None:
        """Start a busy replica, a quiet one and the model."""
        self.busy = Orders(recent_orders_max=ring_size)
        self.quiet = Orders(recent_orders_max=ring_size)
        self.model = Model(ring_size)
        self.op = 0
        self.scans: list[Scan] = []

    @rule(orders=st.lists(places, max_size=6), gap=st.integers(1, 3))
    def apply(self, orders: list[PlaceOrder], gap: int) -> None:
        """One op with a batch of orders answers as the model does."""
        self.op += gap
        timestamp = 1000 * self.op
        items = [(index, CLIENT, PLACE, encode_place(order)) for index, order in enumerate(orders)]
        results = self.busy.apply(self.op, timestamp, items)
        assert self.quiet.apply(self.op, timestamp, items) == results
        for index, (order, result) in enumerate(zip(orders, results, strict=True)):
            try:
                answer: OrderReceipt | str = decode_receipt(result)
            except RejectedError as rejection:
                answer = rejection.name
            assert answer == self.model.place(self.op, index, timestamp + index, order)

    @rule(customer=customers)
    def read(self, customer: int) -> None:
        """A read answers the model's record."""
        result, _ = self.ask(READ, encode_read(ReadCustomer(customer)))
        assert decode_record(result) == self.model.record(customer)

    @rule(start=customers)
    @precondition(lambda self: len(self.scans) < 8)
    def open_scan(self, start: int) -> None:
        """Read the first page, of one record, of a scan."""
        result, cursor = self.ask(SCAN, encode_scan(ScanCustomers(start, 1)))
        page = decode_scan_page(result)
        scan = Scan(page.op, self.model.records(start), list(page.records), cursor)
        assert scan.op == self.op
        self.finish_or_keep(scan)

    @rule(data=st.data())
    @precondition(lambda self: self.scans)
    def next_page(self, data: st.DataObject) -> None:
        """Read the next page of any scan, or the same one twice."""
        scan = self.scans.pop(data.draw(st.integers(0, len(self.scans) - 1)))
        body = encode_scan(ScanCustomers(0, data.draw(st.integers(1, 3))))
        result, cursor = self.ask(SCAN, body, scan.cursor)
        if cursor:
            assert self.ask(SCAN, body, scan.cursor) == (result, cursor)
        page = decode_scan_page(result)
        assert page.op == scan.op
        self.finish_or_keep(Scan(scan.op, scan.expected, [*scan.seen, *page.records], cursor))

    def finish_or_keep(self, scan: Scan) -> None:
        """A finished scan gave exactly what there was when it began."""
        if scan.cursor:
            self.scans.append(scan)
            assert scan.seen == scan.expected[: len(scan.seen)]
        else:
            assert scan.seen == scan.expected

    @rule(count=st.integers(1, 9))
    def recent(self, count: int) -> None:
        """The recent orders, page by page, are the model's last ones."""
        if len(self.scans) == 8:
            return  # A ninth snapshot would drop one of ours.
        body, cursor, seen = encode_recent(ReadRecent(0, count)), b"", list[RecentOrder]()
        while True:
            result, cursor = self.ask(RECENT, body, cursor)
            page = decode_recent_page(result)
            assert page.total == len(self.model.placed)
            assert page.first + len(page.orders) <= page.total
            seen += page.orders
            if not cursor:
                break
        assert seen == self.model.recent()

    @rule()
    def compare(self) -> None:
        """The replica that was never read is in the same state."""
        assert self.busy.digest() == self.quiet.digest()

    @invariant()
    def digest_all_the_time(self) -> None:
        """Taking a digest twice gives the same, and open snapshots are those of open scans."""
        if self.op or self.scans:
            assert self.busy.digest() == self.busy.digest()
            assert self.busy.snapshots == len(self.scans)

    def ask(self, code: int, body: bytes, cursor: bytes = b"") -> tuple[bytes, bytes]:
        """Ask the busy replica."""
        ((_, result, next_cursor, error),) = self.busy.query(self.op, 0, [(1, 1, code, body, cursor)])
        assert error == ""
        return result, next_cursor


OrdersMatchTheModel.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOrdersMatchTheModel = OrdersMatchTheModel.TestCase


@settings(max_examples=30, deadline=None)
@given(st.lists(places, min_size=1, max_size=12), st.data())
def test_one_changed_order_changes_the_digest(orders: list[PlaceOrder], data: st.DataObject) -> None:
    """Two logs that differ in one placed order lead to different digests."""
    position = data.draw(st.integers(0, len(orders) - 1))
    changed = orders[:]
    changed[position] = attrs.evolve(orders[position], laptop_type="another")

    def run(log: list[PlaceOrder]) -> tuple[bytes, bytes]:
        machine = Orders()
        results = [machine.apply(op, op, [(0, CLIENT, PLACE, encode_place(o))])[0] for op, o in enumerate(log, 1)]
        return results[position], machine.digest()

    (result, digest), (changed_result, changed_digest) = run(orders), run(changed)
    placed = canonical.decode(result) == [0, [*attrs.astuple(orders[position])[:3], False, position + 1]]
    if placed and b"another" in changed_result:
        assert digest != changed_digest


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)))
def test_customers_of_one_op_in_any_order(order: list[int]) -> None:
    """Whatever order customers come to be in, scans and records are the same (the ring tells them apart)."""
    machine = Orders()
    for customer in order:
        machine.apply(customer + 1 + machine.op, 5, [(0, CLIENT, PLACE, encode_place(PlaceOrder(customer, 1, "a")))])
    ((_, result, _, _),) = machine.query(machine.op, 0, [(1, 1, SCAN, encode_scan(ScanCustomers(0, 100)), b"")])
    assert [record.customer_id for record in decode_scan_page(result).records] == list(range(8))


@given(st.binary(max_size=40), st.integers(0, 6), st.binary(max_size=20))
def test_any_bytes_get_an_answer(body: bytes, code: int, cursor: bytes) -> None:
    """No body, code or cursor makes the machine raise, and a refused one changes nothing."""
    machine = Orders()
    before = machine.digest()
    (result,) = machine.apply(1, 1, [(0, CLIENT, code, body)])
    try:
        decode_result(result)
    except RejectedError:
        assert machine.digest() == before
    ((_, _, _, error),) = machine.query(1, 0, [(1, 1, code, body, cursor)])
    assert error in ("", "snapshot_gone")


DETERMINISM = """
from hashlib import blake2b
from trio_pb.app.orders import PLACE, Orders, PlaceOrder, encode_place
machine = Orders(recent_orders_max=100)
for op in range(1, 300):
    bodies = [encode_place(PlaceOrder(op * 37 % 91, op, "x%d" % op, i == 1, b"key-%d" % op)) for i in range(2)]
    machine.apply(op, op * 1000, [(i, b"c" * 16, PLACE, body) for i, body in enumerate(bodies)])
    if op % 50 == 0:
        machine.digest()
print(machine.digest().hex())
frozen = machine.freeze()
chunks = blake2b(digest_size=16)
for place in frozen.places:
    chunks.update(place.to_bytes(8, "big") + frozen.encode(place))
print(chunks.hexdigest())
"""


def test_digest_and_chunks_do_not_depend_on_the_hash_seed() -> None:
    """Two processes with different hash seeds reach what is known since this layout exists."""
    outcomes = [
        subprocess.run(
            [sys.executable, "-c", DETERMINISM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "4242")
    ]
    assert (
        outcomes
        == [["ae31715ac39a55711e5530b82466a5257e5ecea72c1a85def10970da0eb035b6", "8e71765f2f79a9b695a87b5025a34ee6"]]
        * 2
    )
