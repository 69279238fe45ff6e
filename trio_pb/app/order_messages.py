"""What is said to the laptop orders and what they answer: data and its canonical CBOR.

Requests are arrays, results are `[0, value]` or `[1, name, field, text]` (see `machine`). Encoding a
request checks nothing: the state machine names the field at fault, the same for every client.
"""

from __future__ import annotations

from typing import TypeVar

import attrs

from trio_pb import canonical
from trio_pb.app.machine import RejectedError, decode_array, decode_result, encode_value
from trio_pb.errors import RemoteProtocolError

__all__ = [
    "COUNT_MAX",
    "IDEMPOTENCY_KEY_SIZE_MAX",
    "ID_MAX",
    "LAPTOP_TYPE_SIZE_MAX",
    "NO_ORDER",
    "PLACE",
    "READ",
    "RECENT",
    "SCAN",
    "CustomerRecord",
    "OrderReceipt",
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
    "encode_receipt",
    "encode_recent",
    "encode_scan",
    "place_fields",
]

PLACE = 2  # Command code.
READ = 2  # Query codes, a space of their own.
SCAN = 3
RECENT = 4

ID_MAX = (1 << 63) - 1  # Of customer ids and order numbers.
LAPTOP_TYPE_SIZE_MAX = 64  # Bytes of UTF-8.
IDEMPOTENCY_KEY_SIZE_MAX = 64
COUNT_MAX = 2000  # Records in one page: at most 112 bytes each, so far below 1 MiB (PROTOCOL 10.5), in 10 ms.
NO_ORDER = -1  # The last order of a customer without orders.

T = TypeVar("T")


# --- Requests ---------------------------------------------------------------------------------


@attrs.frozen
class PlaceOrder:
    """Place an order: command PLACE, `[customer_id, order_number, laptop_type, overwrite, idempotency_key]`."""

    customer_id: int  # 0..ID_MAX
    order_number: int  # 0..ID_MAX, above the customer's last one unless `overwrite`.
    laptop_type: str  # 1..64 bytes of UTF-8.
    overwrite: bool = False  # Lab mode: the order number replaces the last one, whatever it was.
    idempotency_key: bytes | None = None  # 1..64 bytes; the customer's name for this very order.


@attrs.frozen
class ReadCustomer:
    """Read one customer's record: query READ, `[customer_id]`."""

    customer_id: int


@attrs.frozen
class ScanCustomers:
    """Read the records from customer `start` on: query SCAN, `[start, count]`."""

    start: int = 0
    count: int = 1000  # Records per page, 1..COUNT_MAX.


@attrs.frozen
class ReadRecent:
    """Read the most recent orders from `position` on: query RECENT, `[position, count]`."""

    position: int = 0  # Orders are counted from 0; what is older than the oldest kept starts there.
    count: int = 1000  # Orders per page, 1..COUNT_MAX.


def encode_place(order: PlaceOrder) -> bytes:
    """Return the body of a PLACE command."""
    return canonical.encode(
        [order.customer_id, order.order_number, order.laptop_type, order.overwrite, order.idempotency_key]
    )


def encode_read(request: ReadCustomer) -> bytes:
    """Return the body of a READ query."""
    return canonical.encode([request.customer_id])


def encode_scan(request: ScanCustomers) -> bytes:
    """Return the body of a SCAN query; the same for each page of a scan."""
    return canonical.encode([request.start, request.count])


def encode_recent(request: ReadRecent) -> bytes:
    """Return the body of a RECENT query; the same for each page."""
    return canonical.encode([request.position, request.count])


def place_fields(body: bytes) -> tuple[int, int, str, bool, bytes | None]:
    """Return the fields of a PLACE body as a bare tuple: half a microsecond less than an object.

    Raises:
        RejectedError: malformed body or bad field; it names the field.
    """
    customer_id, order_number, laptop_type, overwrite, key = decode_array(
        body, "customer_id, order_number, laptop_type, overwrite, idempotency_key", 5
    )
    # Written out: with a call for each field a place takes a microsecond more.
    if type(customer_id) is not int or not 0 <= customer_id <= ID_MAX:
        raise _bad_id("customer_id")
    if type(order_number) is not int or not 0 <= order_number <= ID_MAX:
        raise _bad_id("order_number")
    if type(laptop_type) is not str or not 1 <= len(laptop_type.encode()) <= LAPTOP_TYPE_SIZE_MAX:
        raise RejectedError("bad_field", "laptop_type", f"must be text of 1 to {LAPTOP_TYPE_SIZE_MAX} bytes in UTF-8")
    if type(overwrite) is not bool:
        raise RejectedError("bad_field", "overwrite", "must be true or false")
    if key is not None and (type(key) is not bytes or not 1 <= len(key) <= IDEMPOTENCY_KEY_SIZE_MAX):
        raise RejectedError("bad_field", "idempotency_key", f"must be null or 1 to {IDEMPOTENCY_KEY_SIZE_MAX} bytes")
    return customer_id, order_number, laptop_type, overwrite, key


def decode_place(body: bytes) -> PlaceOrder:
    """Return the order in the body of a PLACE command.

    Raises:
        RejectedError: malformed body or bad field; it names the field.
    """
    return PlaceOrder(*place_fields(body))


def decode_read(body: bytes) -> ReadCustomer:
    """Return the request in the body of a READ query.

    Raises:
        RejectedError: malformed body or bad field.
    """
    (customer_id,) = decode_array(body, "customer_id", 1)
    return ReadCustomer(_check_id("customer_id", customer_id))


def decode_scan(body: bytes) -> ScanCustomers:
    """Return the request in the body of a SCAN query.

    Raises:
        RejectedError: malformed body or bad field.
    """
    start, count = decode_array(body, "start, count", 2)
    return ScanCustomers(_check_id("start", start), _check_count(count))


def decode_recent(body: bytes) -> ReadRecent:
    """Return the request in the body of a RECENT query.

    Raises:
        RejectedError: malformed body or bad field.
    """
    position, count = decode_array(body, "position, count", 2)
    return ReadRecent(_check_id("position", position), _check_count(count))


def _check_id(field: str, value: object) -> int:
    # `type(...) is int`: True is an int to isinstance, and not to anyone who reads a log.
    if type(value) is not int or not 0 <= value <= ID_MAX:
        raise _bad_id(field)
    return value


def _bad_id(field: str) -> RejectedError:
    return RejectedError("bad_field", field, "must be a whole number from 0 to 2^63-1")


def _check_count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= COUNT_MAX:
        raise RejectedError("bad_field", "count", f"must be a whole number from 1 to {COUNT_MAX}")
    return value


# --- Results ----------------------------------------------------------------------------------


@attrs.frozen
class OrderReceipt:
    """An order was placed: `[customer_id, order_number, laptop_type, duplicate, op]`."""

    customer_id: int
    order_number: int
    laptop_type: str
    duplicate: bool  # The idempotency key was known: this is the receipt of the first time.
    op: int  # Of the one time that the order was placed.


@attrs.frozen
class CustomerRecord:
    """A customer: `[customer_id, last_order, orders, laptop_type, op, timestamp]`."""

    customer_id: int
    last_order: int  # NO_ORDER (-1) for a customer without orders; the rest is then zero and empty.
    orders: int  # Placed so far.
    laptop_type: str  # Of the last order, as are op and timestamp.
    op: int
    timestamp: int  # Nanoseconds since 1970, as the primary proposed it.


@attrs.frozen
class ScanPage:
    """Records in ascending order of customer id, all as of `op`: `[op, [record, ...]]`."""

    op: int
    records: tuple[CustomerRecord, ...]


@attrs.frozen
class RecentOrder:
    """One placed order: `[op, index, customer_id, order_number, laptop_type]`."""

    op: int
    index: int  # Of the request within the op.
    customer_id: int
    order_number: int
    laptop_type: str


@attrs.frozen
class RecentPage:
    """Placed orders in the order of their placing, as of `op`: `[op, total, first, [order, ...]]`."""

    op: int
    total: int  # Orders ever placed; positions run from 0 to total - 1.
    first: int  # Position of the page's first order.
    orders: tuple[RecentOrder, ...]


def encode_receipt(customer_id: int, order_number: int, laptop_type: str, duplicate: bool, op: int) -> bytes:
    """Return the result of a PLACE command."""
    return encode_value([customer_id, order_number, laptop_type, duplicate, op])


def decode_receipt(result: bytes) -> OrderReceipt:
    """Return the receipt in the result of a PLACE command.

    Raises:
        RejectedError: the order was refused; `name` says why.
        RemoteProtocolError: not such a result.
    """
    return _read("receipt", OrderReceipt, decode_result(result), (int, int, str, bool, int))


def decode_record(result: bytes) -> CustomerRecord:
    """Return the record in the result of a READ query.

    Raises:
        RejectedError: the read was refused.
        RemoteProtocolError: not such a result.
    """
    return _record(decode_result(result))


def decode_scan_page(result: bytes) -> ScanPage:
    """Return the page in the result of a SCAN query.

    Raises:
        RejectedError: the scan was refused.
        RemoteProtocolError: not such a result.
    """
    match decode_result(result):
        case [int(op), list(records)] if type(op) is int:
            return ScanPage(op, tuple(map(_record, records)))
        case _:
            raise RemoteProtocolError("result: not a page of records")


def decode_recent_page(result: bytes) -> RecentPage:
    """Return the page in the result of a RECENT query.

    Raises:
        RejectedError: the query was refused.
        RemoteProtocolError: not such a result.
    """
    match decode_result(result):
        case [int(op), int(total), int(first), list(orders)] if type(op) is type(total) is type(first) is int:
            return RecentPage(op, total, first, tuple(map(_recent_order, orders)))
        case _:
            raise RemoteProtocolError("result: not a page of recent orders")


def _record(value: canonical.Value) -> CustomerRecord:
    return _read("customer record", CustomerRecord, value, (int, int, int, str, int, int))


def _recent_order(value: canonical.Value) -> RecentOrder:
    return _read("recent order", RecentOrder, value, (int, int, int, int, str))


def _read(what: str, make: type[T], value: canonical.Value, types: tuple[type, ...]) -> T:
    if type(value) is list and tuple(map(type, value)) == types:
        return make(*value)
    raise RemoteProtocolError(f"result: not a {what}")
