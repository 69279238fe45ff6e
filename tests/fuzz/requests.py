"""What clients ask and replicas answer: bodies, results and cursors of the laptop orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

from tests.fuzz.harness import Harness
from tests.fuzz.tree import change_tree
from trio_pb import canonical
from trio_pb.app import orders
from trio_pb.app.machine import RejectedError, encode_rejection, encode_value
from trio_pb.app.order_messages import encode_receipt
from trio_pb.app.orders import PLACE, READ, RECENT, SCAN, Orders, PlaceOrder
from trio_pb.errors import RemoteProtocolError, SnapshotGoneError

__all__ = ["HARNESSES"]

CUSTOMERS = 5
OP = 100
CLIENT = bytes(16)

Decode = Callable[[bytes], object]


# --- Requests -------------------------------------------------------------------------------------

QUERIES = (READ, SCAN, RECENT, 5)


def check_requests(data: bytes) -> None:
    """The first byte says what is asked: a command, a query, or the next page of one. Whatever it is, it is answered.

    Two machines that are asked the same have the same state after, and one that refused has the state from before.
    """
    if not data:
        return
    kind, body = data[0], data[1:]
    machine, twin = new_machine(), new_machine()
    before = machine.digest()
    if kind < 8:
        asked = [(0, CLIENT, PLACE if kind < 7 else 3, body), (1, CLIENT, PLACE, body)]
        results = machine.apply(OP, 1, asked)
        assert twin.apply(OP, 1, asked) == results
        assert machine.digest() == twin.digest()
        assert all(map(is_refusal, results)) == (machine.digest() == before)
        for result in results:
            read_result(orders.decode_receipt, result)
        return
    code, is_next = QUERIES[kind % 4], kind % 8 >= 4
    cursor = b""
    if is_next:
        # An open scan of each kind: its snapshot has the number 1 or 2.
        opening = [(number, 0, code_, canonical.encode([0, 1]), b"") for number, code_ in ((1, SCAN), (2, RECENT))]
        machine.query(OP, 0, opening)
        cursor, body = body, canonical.encode([0, 1])
    ((_, result, _, error),) = machine.query(OP, 0, [(3, 0, code, body, cursor)])
    assert error in ("", SnapshotGoneError.code)
    if not error:
        decode = {READ: orders.decode_record, SCAN: orders.decode_scan_page}.get(code, orders.decode_recent_page)
        read_result(decode, result)
    assert machine.digest() == before, "a query that changed something"


def new_machine() -> Orders:
    """A machine with a few customers and orders."""
    machine = Orders(recent_orders_max=4)
    for op in range(1, CUSTOMERS + 1):
        order = PlaceOrder(op, 10, "x1", idempotency_key=bytes([op]))
        machine.apply(op, op * 1000, [(0, CLIENT, PLACE, orders.encode_place(order))])
    return machine


def is_refusal(result: bytes) -> bool:
    """Whether the machine said no, or that it knows the order already: then nothing changed."""
    try:
        return orders.decode_receipt(result).duplicate
    except RejectedError:
        return True


def read_result(decode: Decode, result: bytes) -> None:
    """A client understands the result of a machine."""
    with suppress(RejectedError):
        decode(result)


def request_seeds() -> Iterator[bytes]:
    """One of each kind."""
    for order in (
        PlaceOrder(1, 11, "x1"),
        PlaceOrder(1, 10, "x1", idempotency_key=b"\x01"),
        PlaceOrder(9, 0, "\u00e9" * 32, overwrite=True, idempotency_key=bytes(64)),
    ):
        yield b"\0" + orders.encode_place(order)
    yield bytes([8]) + orders.encode_read(orders.ReadCustomer(1))
    yield bytes([9]) + orders.encode_scan(orders.ScanCustomers(2, 2))
    yield bytes([10]) + orders.encode_recent(orders.ReadRecent(0, 2000))
    yield bytes([13]) + canonical.encode([1, OP, 1])
    yield bytes([14]) + canonical.encode([2, OP, 1])
    yield bytes([11]) + canonical.encode([])


def change_request(data: bytes, random: Random) -> bytes:
    """Change an item of the body."""
    return data[:1] + change_tree(data[1:], random)


# --- Results --------------------------------------------------------------------------------------

RESULT_READERS: tuple[Decode, ...] = (
    orders.decode_receipt,
    orders.decode_record,
    orders.decode_scan_page,
    orders.decode_recent_page,
)


def check_results(data: bytes) -> None:
    """The first byte says which result a client expects; it reads that, or says that it is none."""
    if not data:
        return
    rejection: RejectedError | None = None
    try:
        RESULT_READERS[data[0] % len(RESULT_READERS)](data[1:])
    except RejectedError as error:
        rejection = error
    except RemoteProtocolError:
        return
    assert rejection is None or encode_rejection(rejection) == data[1:]


def result_seeds() -> Iterator[bytes]:
    """One of each kind, and a rejection."""
    record = [7, 3, 2, "x1", 99, 1_700_000_000_000_000_000]
    yield b"\0" + encode_receipt(7, 3, "x1", False, 99)
    yield b"\1" + encode_value(record)
    yield b"\2" + encode_value([99, [record, record]])
    yield b"\3" + encode_value([99, 5, 4, [[99, 0, 7, 3, "x1"]]])
    yield b"\0" + encode_rejection(RejectedError("bad_field", "customer_id", "must be a whole number"))


HARNESSES = (
    Harness(
        name="requests",
        about="bodies and cursors that clients send to the laptop orders",
        check=check_requests,
        seeds=request_seeds,
        mutate=change_request,
    ),
    Harness(
        name="results",
        about="results that clients get from the laptop orders",
        check=check_results,
        seeds=result_seeds,
        mutate=change_request,
    ),
)
