"""States of machines, taken apart into chunks and put together again."""

from __future__ import annotations

from trio_pb.app.buckets import leaf_of
from trio_pb.app.machine import (
    StateMachine,
)
from trio_pb.app.orders import (
    PLACE,
    SCAN,
    Orders,
    PlaceOrder,
    ScanCustomers,
    decode_scan_page,
    encode_place,
    encode_scan,
)
from trio_pb.app.parts import PART_PLACES, Frozen

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


def scan_ids(orders: Orders) -> list[int]:
    """Return the ids of all customers."""
    ((_, result, _, _),) = orders.query(orders.op, 0, [(1, 1, SCAN, encode_scan(ScanCustomers(0, 2000)), b"")])
    return [record.customer_id for record in decode_scan_page(result).records]
