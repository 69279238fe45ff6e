"""The primary is killed again and again under a paced import; nothing is lost and nothing comes twice.

`TRIO_PB_KILLS=100` makes it the long rehearsal; the import is paced to last as long as the kills do.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.process import replica_command
from trio_pb.testbed.proof import Placed, prove

pytestmark = pytest.mark.process

KILLS = int(os.environ.get("TRIO_PB_KILLS", "4"))
CUSTOMERS = 20
ORDERS_PER_SECOND = 20  # Bounded: each restart replays the whole log.
SECONDS_PER_KILL = 4  # How much input there is for each kill; what is left is imported without a pace.


def write_orders(path: Path, orders: int) -> None:
    """A file of CUSTOMERS x `orders` orders, customers interleaved."""
    lines = ["customer_id,order_number,laptop_type"]
    lines += [f"{customer},{number},thinkpad" for number in range(orders) for customer in range(CUSTOMERS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


async def kill_primary(cluster: LocalCluster, round_: int) -> float:
    """Kill the primary, wait until another serves an order, bring the old one back; seconds without service."""
    primary = await cluster.wait_primary()
    await cluster.kill(primary)
    began = time.monotonic()
    others = [cluster.addresses[replica] for replica in cluster.running]
    async with connect(others) as client:
        # A customer of its own: the first order after the kill that is acknowledged.
        await OrderClient(client).place(CUSTOMERS, round_, "probe", timeout_s=20)
    served = time.monotonic() - began
    await cluster.restart(primary)
    await cluster.wait_normal(primary)
    return served


async def test_primary_killed_again_and_again(tmp_path: Path) -> None:
    """After every kill the cluster serves; at the end each replica has every order once."""
    orders = max(1, KILLS * SECONDS_PER_KILL * ORDERS_PER_SECOND // CUSTOMERS)
    path = tmp_path / "orders.csv"
    write_orders(path, orders)
    with trio.fail_after(60 + KILLS * 30):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            options = ("--rate", str(ORDERS_PER_SECOND), "--json", "--addresses", *cluster.addresses)
            command = replica_command("order", "import", str(path), *options)
            importing = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            gaps = [await kill_primary(cluster, round_) for round_ in range(KILLS)]
            assert importing.stdout is not None
            counts = json.loads(b"".join([chunk async for chunk in importing.stdout]))
            assert await importing.wait() == 0, counts
            assert (counts["placed"] + counts["already_placed"], counts["rejected"]) == (CUSTOMERS * orders, 0), counts
            statuses = await cluster.wait_agreed()
            assert len({status.state_digest for status in statuses.values()}) == 1, cluster.describe(statuses)
            placed: Placed = {}
            for replica in cluster.replicas:
                address = cluster.addresses[replica]
                proof = await prove(replica, address, placed, customers=CUSTOMERS, orders=orders)
                # The probing customer's orders are the only ones beside the file's.
                assert (proof.lost, proof.last_orders_wrong) == (0, 0), proof
                assert proof.orders == CUSTOMERS * orders + KILLS, proof
    print(
        f"{KILLS} kills: {CUSTOMERS * orders} orders, none lost, none twice; "
        f"without service at most {max(gaps):.2f} s, median {sorted(gaps)[len(gaps) // 2]:.2f} s"
    )
