"""Does a replica hold every acknowledged order exactly once? Asked of that replica, compared here."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import TypeAlias

import attrs

from trio_pb.app.orders import (
    RECENT,
    RECENT_ORDERS_MAX,
    SCAN,
    CustomerRecord,
    ReadRecent,
    RecentOrder,
    ScanCustomers,
    decode_recent_page,
    decode_scan_page,
    encode_recent,
    encode_scan,
)
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.messages import ReadMode
from trio_pb.driver.client import Client, connect
from trio_pb.errors import RemoteProtocolError

__all__ = ["Placed", "ReplicaProof", "judge", "prove"]

PAGE_RECORDS = 1000

Placed: TypeAlias = dict[tuple[int, int], int]  # (customer, order number) -> op of the receipt.


@attrs.frozen(kw_only=True)
class ReplicaProof:
    """What one replica holds, against what was acknowledged."""

    replica: int
    customers: int  # Records that it has.
    orders: int  # Orders that its records count.
    lost: int  # Acknowledged, and not there.
    duplicated: int  # There more than once, or never acknowledged.
    last_orders_wrong: int  # Customers whose last order is not the last one acknowledged.
    misplaced: int  # Orders held at another op than their receipt said.


async def prove(replica: int, address: str, placed: Placed, *, customers: int, orders: int) -> ReplicaProof:
    """Ask the replica at `address`, and no other, for all that it holds; linearizable reads at that replica.

    Raises:
        RemoteProtocolError: another replica answered.
    """
    async with connect([address], options=ClientOptions(read_from=address)) as client:
        pages = [decode_scan_page(page) async for page in _pages(client, replica, SCAN, _SCAN_ALL)]
        records = [record for page in pages for record in page.records]
        recent = None
        if len(placed) <= RECENT_ORDERS_MAX:  # The ring of recent orders has them all, one by one.
            found = [decode_recent_page(page) async for page in _pages(client, replica, RECENT, _RECENT_ALL)]
            recent = [order for page in found for order in page.orders]
    return judge(replica, records, recent, placed, customers=customers, orders=orders)


_SCAN_ALL = encode_scan(ScanCustomers(0, PAGE_RECORDS))
_RECENT_ALL = encode_recent(ReadRecent(0, PAGE_RECORDS))


async def _pages(client: Client, replica: int, code: int, body: bytes) -> AsyncIterator[bytes]:
    """The results of all pages of a query, each answered by `replica` itself."""
    cursor = b""
    while True:
        answer = await client.query(code, body, mode=ReadMode.LINEARIZABLE_HERE, cursor=cursor)
        if answer.replica != replica:
            raise RemoteProtocolError(f"replica {answer.replica} answered for replica {replica}")
        yield answer.result
        cursor = answer.cursor
        if not cursor:
            return


def judge(
    replica: int,
    records: list[CustomerRecord],
    recent: list[RecentOrder] | None,
    placed: Placed,
    *,
    customers: int,
    orders: int,
) -> ReplicaProof:
    """Compare. Each customer was to place the orders 0..orders-1; `recent` is None when it cannot have them all."""
    counts = {record.customer_id: record.orders for record in records}
    lost = sum(max(0, orders - counts.get(customer, 0)) for customer in range(customers))
    duplicated = sum(
        max(0, count - (orders if customer in range(customers) else 0)) for customer, count in counts.items()
    )
    last_orders = {record.customer_id: record.last_order for record in records}
    misplaced = 0
    if recent is not None:
        held = Counter((order.customer_id, order.order_number) for order in recent)
        lost = max(lost, sum(order not in held for order in placed))
        duplicated = max(duplicated, sum(count - (order in placed) for order, count in held.items()))
        ops = {(order.customer_id, order.order_number): order.op for order in recent}
        misplaced = sum(ops.get(order, op) != op for order, op in placed.items())
    return ReplicaProof(
        replica=replica,
        customers=len(records),
        orders=sum(counts.values()),
        lost=lost,
        duplicated=duplicated,
        last_orders_wrong=sum(last_orders.get(customer) != orders - 1 for customer in range(customers)),
        misplaced=misplaced,
    )
