"""The laptop orders: who ordered which laptop last, and every recent order exactly once.

State is one packed record per customer, and a ring of the most recent orders with their idempotency
keys. It grows with the number of customers, never with the number of orders. docs/reference/orders.md
tells the rules as a user sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import attrs

from trio_pb.app.customers import RECORD, Customers, CustomersPin, record_fields
from trio_pb.app.machine import Page, Question, RejectedError, StateMachine, command, encode_value, query
from trio_pb.app.order_messages import (
    COUNT_MAX,
    ID_MAX,
    IDEMPOTENCY_KEY_SIZE_MAX,
    LAPTOP_TYPE_SIZE_MAX,
    NO_ORDER,
    PLACE,
    READ,
    RECENT,
    SCAN,
    CustomerRecord,
    OrderReceipt,
    PlaceOrder,
    ReadCustomer,
    ReadRecent,
    RecentOrder,
    RecentPage,
    ScanCustomers,
    ScanPage,
    decode_place,
    decode_read,
    decode_receipt,
    decode_recent,
    decode_recent_page,
    decode_record,
    decode_scan,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_receipt,
    encode_recent,
    encode_scan,
    place_fields,
)
from trio_pb.app.parts import Part
from trio_pb.app.recent_orders import RECENT as RECENT_ORDER
from trio_pb.app.recent_orders import RecentOrders, recent_fields
from trio_pb.app.ring import RingPin
from trio_pb.app.snapshots import Snapshot, Snapshots
from trio_pb.errors import ConfigError, SnapshotGoneError

__all__ = [
    "COUNT_MAX",
    "IDEMPOTENCY_KEY_SIZE_MAX",
    "ID_MAX",
    "LAPTOP_TYPE_SIZE_MAX",
    "NO_ORDER",
    "PLACE",
    "READ",
    "RECENT",
    "RECENT_ORDERS_MAX",
    "SCAN",
    "CustomerRecord",
    "OrderReceipt",
    "Orders",
    "PlaceOrder",
    "ReadCustomer",
    "ReadRecent",
    "RecentOrder",
    "RecentPage",
    "ScanCustomers",
    "ScanPage",
    "decode_place",
    "decode_read",
    "decode_receipt",
    "decode_recent",
    "decode_recent_page",
    "decode_record",
    "decode_scan",
    "decode_scan_page",
    "encode_place",
    "encode_read",
    "encode_recent",
    "encode_scan",
]

RECENT_ORDERS_MAX = 100_000


class _Known(NamedTuple):
    """The order that an idempotency key stands for."""

    op: int
    order_number: int
    laptop_type: bytes


@attrs.frozen(eq=False)
class _Version:
    """The whole state at one op."""

    customers: CustomersPin
    recent: RingPin

    def release(self) -> None:
        self.customers.release()
        self.recent.release()


PageReader: TypeAlias = Callable[[_Version, int, int], tuple[object, int | None]]


class Orders(StateMachine):
    """The laptop orders. `recent_orders_max` is part of the state: all replicas must run with the same."""

    def __init__(self, *, recent_orders_max: int = RECENT_ORDERS_MAX) -> None:
        if type(recent_orders_max) is not int or recent_orders_max < 1:
            raise ConfigError(f"recent_orders_max: {recent_orders_max!r} is not a positive whole number")
        super().__init__()
        self._customers = Customers()
        self._recent = RecentOrders(recent_orders_max)
        self._snapshots: Snapshots[_Version] = Snapshots()

    @property
    def snapshots(self) -> int:
        """Versions of the state that are pinned: one per scan under way."""
        return self._customers.pinned

    def parts(self) -> Sequence[Part]:
        """Return customers and recent orders."""
        return (self._customers, self._recent)

    def adopted(self) -> None:
        """Drop the snapshots: their scans go on in a state that is no more."""
        self._snapshots.clear()

    # --- Commands -----------------------------------------------------------------------------

    @command(PLACE)
    def place(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Place one order, once.

        Raises:
            RejectedError: malformed body, bad field, `order_number_not_above_last` or
                `idempotency_key_reused`; nothing changed.
        """
        customer_id, order_number, laptop_text, overwrite, key = place_fields(body)
        laptop_type = laptop_text.encode()
        record = self._customers.get(customer_id)
        last_order, orders = RECORD.unpack_from(record)[:2] if record is not None else (NO_ORDER, 0)
        if key is not None:
            known = self._known(customer_id, record, key)
            if known is not None:
                if (known.order_number, known.laptop_type) != (order_number, laptop_type):
                    raise RejectedError(
                        "idempotency_key_reused",
                        "idempotency_key",
                        f"customer {customer_id} used this key for order {known.order_number}"
                        f" of {known.laptop_type.decode()!r}, op {known.op}",
                    )
                return encode_receipt(customer_id, order_number, laptop_text, True, known.op)
        if order_number <= last_order and not overwrite:
            raise RejectedError(
                "order_number_not_above_last",
                "order_number",
                f"{order_number} is not above customer {customer_id}'s last order, {last_order}",
            )
        # Nothing was changed above this line, nothing is refused below it.
        size = len(laptop_type)
        tail = laptop_type + (key or b"")
        packed = RECORD.pack(order_number, orders + 1, self.op, timestamp, size)
        self._customers.put(customer_id, packed + tail, is_new=record is None)
        self._recent.append(RECENT_ORDER.pack(self.op, self.index, customer_id, order_number, size) + tail)
        return encode_receipt(customer_id, order_number, laptop_text, False, self.op)

    def _known(self, customer_id: int, record: bytes | None, key: bytes) -> _Known | None:
        """Return the order that the customer gave `key`, if the ring or the customer's record still has it."""
        if record is None:
            return None  # Without a record there is nothing in the ring either.
        number, _, op, _, size = RECORD.unpack_from(record)
        end = RECORD.size + size
        if record[end:] == key:
            return _Known(op, number, record[RECORD.size : end])
        order = self._recent.find(customer_id, key)
        if order is None:
            return None
        op, _, _, number, size = RECENT_ORDER.unpack_from(order)
        return _Known(op, number, order[RECENT_ORDER.size : RECENT_ORDER.size + size])

    # --- Queries ------------------------------------------------------------------------------

    def expire(self, now_tick: int) -> None:
        """Drop the snapshots of scans that nobody goes on with."""
        self._snapshots.expire(now_tick)

    @query(READ)
    def read(self, question: Question) -> Page:
        """Answer one customer's record; a customer without orders has last order -1."""
        if question.cursor:
            raise SnapshotGoneError("a read has one page only")
        customer_id = decode_read(question.body).customer_id
        record = self._customers.get(customer_id)
        if record is None:
            return Page(encode_value([customer_id, NO_ORDER, 0, "", 0, 0]))
        return Page(encode_value(record_fields(customer_id, record)))

    @query(SCAN)
    def scan(self, question: Question) -> Page:
        """Answer a page of records in ascending order of customer id."""
        request = decode_scan(question.body)

        def page(version: _Version, op: int, start: int) -> tuple[object, int | None]:
            # One more than the page holds tells whether there is a next page.
            ids = version.customers.at_or_after(start, request.count + 1)
            records: list[object] = []
            for customer_id in ids[: request.count]:
                record = version.customers.get(customer_id)
                assert record is not None, "ordered ids and buckets are pinned together"
                records.append(record_fields(customer_id, record))
            return [op, records], ids[request.count - 1] if len(ids) > request.count else None

        return self._paged(question, SCAN, request.start, page)

    @query(RECENT)
    def recent(self, question: Question) -> Page:
        """Answer a page of the most recent orders, in the order in which they were placed."""
        request = decode_recent(question.body)

        def page(version: _Version, op: int, start: int) -> tuple[object, int | None]:
            ring = version.recent
            first = min(max(start, ring.oldest), ring.count)
            end = min(first + request.count, ring.count)
            orders = [recent_fields(ring.get(position)) for position in range(first, end)]
            return [op, ring.count, first, orders], end - 1 if end < ring.count else None

        return self._paged(question, RECENT, request.position, page)

    def _paged(self, question: Question, purpose: int, start: int, page: PageReader) -> Page:
        """Answer one page of the version that the cursor names, or a first page of the present one.

        `page` is given a version, its op and the key to start at; it returns the page and the last
        key in it, None if it is the final page. Only a scan with more pages keeps its version.
        """
        snapshot: Snapshot[_Version] | None = None
        if question.cursor:
            snapshot, last_key = self._snapshots.resume(question.cursor, purpose=purpose, now_tick=question.now_tick)
            version, op, start = snapshot.version, snapshot.op, last_key + 1
        else:
            version, op = _Version(self._customers.pin(), self._recent.pin()), question.op
        value, next_after = page(version, op, start)
        if next_after is None:
            if snapshot is None:
                version.release()
            else:
                self._snapshots.close(snapshot)
            return Page(encode_value(value))
        if snapshot is None:
            snapshot = self._snapshots.open(op=op, purpose=purpose, now_tick=question.now_tick, version=version)
        return Page(encode_value(value), self._snapshots.cursor(snapshot, next_after))
