"""Laptop orders as calls, against the real order service behind the naive cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.client.stream_cluster import StreamCluster
from trio_pb.app.order_messages import NO_ORDER
from trio_pb.app.orders import Orders
from trio_pb.core.messages import Read, Request
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient, OrderRejectedError


@asynccontextmanager
async def ordering() -> AsyncGenerator[tuple[OrderClient, StreamCluster], None]:
    """A client of laptop orders."""
    orders = Orders()

    def execute(op: int, request: Request) -> bytes:
        return orders.apply(op, 1000 * op, [(0, request.client, request.code, request.body)])[0]

    def answer(op: int, read: Read) -> tuple[bytes, bytes]:
        ((_, result, cursor, error),) = orders.query(op, 0, [(0, 1, read.code, read.body, read.cursor)])
        assert not error
        return result, cursor

    async with trio.open_nursery() as nursery:
        servers = StreamCluster(nursery)
        servers.cluster.execute, servers.cluster.answer = execute, answer
        async with connect("r0,r1,r2", open_stream=servers.open_stream) as client:
            yield OrderClient(client), servers
        nursery.cancel_scope.cancel()


async def test_an_order_is_placed_and_read(autojump_clock: MockClock) -> None:
    """The laptop info has the tags of who served it; the record is that of the order."""
    async with ordering() as (client, servers):
        placed = await client.place(7, 1, "ThinkPad")
        assert (placed.customer_id, placed.order_number, placed.laptop_type) == (7, 1, "ThinkPad")
        assert (placed.engineer_id, placed.admin_id) == (servers.cluster.replicas[0].connection, 0)
        assert not placed.replayed
        assert not placed.duplicate
        record = await client.read(7, min_op=placed.op)
        assert (record.last_order, record.orders, record.op) == (1, 1, placed.op)
        assert (await client.read(8)).last_order == NO_ORDER


async def test_the_same_order_again_is_a_duplicate(autojump_clock: MockClock) -> None:
    """With its idempotency key an order is placed once; the receipt is that of the first time."""
    async with ordering() as (client, _):
        first = await client.place(7, 1, "ThinkPad", idempotency_key=b"key")
        again = await client.place(7, 1, "ThinkPad", idempotency_key=b"key")
        assert again.duplicate
        assert again.op == first.op
        assert (await client.read(7)).orders == 1


async def test_rejections_have_names(autojump_clock: MockClock) -> None:
    """Refused by the service, or not even possible to encode: the same class, the field at fault."""
    async with ordering() as (client, _):
        await client.place(7, 5, "ThinkPad")
        with pytest.raises(OrderRejectedError) as rejected:
            await client.place(7, 4, "ThinkPad")
        assert (rejected.value.reason, rejected.value.field) == ("order_number_not_above_last", "order_number")
        assert (await client.place(7, 4, "ThinkPad", overwrite=True)).order_number == 4
        with pytest.raises(OrderRejectedError, match="bad_field"):
            await client.read(-1)
        with pytest.raises(OrderRejectedError, match="bad_field"):
            await client.place(1, 1, "\ud800")


async def test_a_scan_is_paged_and_of_one_op(autojump_clock: MockClock) -> None:
    """What is placed while a scan goes on is not in it."""
    async with ordering() as (client, _):
        for customer in range(10):
            await client.place(customer, 1, "ThinkPad")
        seen: list[tuple[int, int]] = []
        async for record in client.scan(page_records=3):
            seen.append((record.customer_id, record.last_order))
            await client.place(9, 10 + len(seen), "MacBook")
        assert seen == [(customer, 1) for customer in range(10)]
        assert [record.customer_id async for record in client.scan(4, limit=3, page_records=2)] == [4, 5, 6]
        assert [record.customer_id async for record in client.scan(limit=0)] == []
        pages = [page async for page in client.recent(page_orders=8)]
        assert [len(page.orders) for page in pages] == [8, 8, 4]
