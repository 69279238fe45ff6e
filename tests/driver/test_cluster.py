"""Three real servers commit orders over loopback, and outlive any one of them."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.driver.local_cluster import Customer, local_cluster
from trio_pb.app.order_messages import decode_receipt
from trio_pb.core.messages import Reply


async def test_three_servers_commit_orders_and_agree(tmp_path: Path) -> None:
    """Each customer gets receipts for its own orders; all replicas reach one state."""
    with trio.fail_after(20):
        async with local_cluster(tmp_path) as cluster:
            await cluster.start(0, 1, 2)
            customers = [Customer(cluster, number) for number in (1, 2, 3)]
            replies: list[Reply] = []
            for _ in range(3):
                replies = [await customer.order("X1 Carbon") for customer in customers]
            receipts = [decode_receipt(reply.result) for reply in replies]
            assert [(receipt.customer_id, receipt.order_number) for receipt in receipts] == [(1, 3), (2, 3), (3, 3)]
            await cluster.wait_until_applied(replies[-1].op)
            assert len(await cluster.digests()) == 1


async def test_a_killed_primary_is_replaced_and_catches_up_when_it_is_back(tmp_path: Path) -> None:
    """No acknowledged order is lost: the numbers of a customer go on without a gap."""
    with trio.fail_after(30):
        async with local_cluster(tmp_path) as cluster:
            await cluster.start(0, 1, 2)
            customer = Customer(cluster, 1)
            await customer.order("before")
            primary = await cluster.wait_for_primary()
            await cluster.kill(primary)
            reply = await customer.order("without it")
            assert not reply.replayed
            await cluster.start(primary)
            reply = await customer.order("with it again")
            await cluster.wait_until_applied(reply.op)
            assert len(await cluster.digests()) == 1


async def test_all_killed_and_started_again_remember(tmp_path: Path) -> None:
    """Only files are left, and they are enough."""
    with trio.fail_after(30):
        async with local_cluster(tmp_path) as cluster:
            await cluster.start(0, 1, 2)
            customer = Customer(cluster, 1)
            for _ in range(5):
                await customer.order("XPS")
            for replica in cluster.replicas:
                await cluster.kill(replica)
            await cluster.start(0, 1, 2)
            reply = await customer.order("after")
            await cluster.wait_until_applied(reply.op)
            assert len(await cluster.digests()) == 1


async def test_a_primary_that_is_stopped_hands_over_first(tmp_path: Path) -> None:
    """A graceful stop costs clients no suspicion time-out: another leads when it ends."""
    with trio.fail_after(30):
        async with local_cluster(tmp_path) as cluster:
            await cluster.start(0, 1, 2)
            customer = Customer(cluster, 1)
            await customer.order("before")
            # A cluster a few pings old may not know yet that somebody else is fit to lead.
            while True:
                primary = await cluster.wait_for_primary()
                await cluster.stop(primary)
                if cluster.primary() is not None:
                    break
                await cluster.start(primary)
                await customer.order("between")
            assert not (await customer.order("after")).replayed
