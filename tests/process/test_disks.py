"""Real processes on disks that forget, fill up or are gone: nothing acknowledged is lost, nobody lies.

`TRIO_PB_POWER_CUTS=50` makes the power cuts the long rehearsal.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trio_pb.core.messages import Status, StatusReport
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import NotAppliedError, NotSentError, UnknownOutcomeError
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.disk_demo import run_disk_demo
from trio_pb.testbed.formatting import cluster_id, format_replica
from trio_pb.testbed.proof import Placed, prove

pytestmark = pytest.mark.process

POWER_CUTS = int(os.environ.get("TRIO_PB_POWER_CUTS", "3"))
CUSTOMERS = 20
FAULTY = "trio_pb.testbed.faulty_replica"
INTERVAL = ("--checkpoint-interval", "32")
WAL_OPS = 4 * 32
SECONDS_MAX = 60


class Customers:
    """Customers who order one after the other until told to stop, whatever becomes of the cluster."""

    def __init__(self) -> None:
        self.placed: Placed = {}
        self.is_over = False
        self._more = trio.Event()

    @asynccontextmanager
    async def ordering(self, cluster: LocalCluster) -> AsyncGenerator[None, None]:
        """Let them order for the length of the block, and then finish what they began."""
        async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
            for customer in range(CUSTOMERS):
                nursery.start_soon(self._order, OrderClient(client), customer)
            yield
            self.is_over = True

    async def acknowledged(self, more: int) -> None:
        """Wait for so many more orders."""
        target = len(self.placed) + more
        while len(self.placed) < target:
            await self._more.wait()

    async def _order(self, client: OrderClient, customer: int) -> None:
        number = 0
        while not self.is_over:
            key = f"{customer}/{number}".encode()
            try:
                placed = await client.place(customer, number, "laptop", idempotency_key=key, timeout_s=10)
            except (NotAppliedError, NotSentError, UnknownOutcomeError):
                continue  # With its key it is safe to try again.
            self.placed[customer, number] = placed.op
            number += 1
            self._more.set()
            self._more = trio.Event()

    async def check(self, cluster: LocalCluster) -> dict[int, StatusReport]:
        """Every order is on every replica exactly once, and all states are equal."""
        statuses = await cluster.wait_agreed()
        assert len({status.state_digest for status in statuses.values()}) == 1, cluster.describe(statuses)
        last = [
            max((number for it, number in self.placed if it == customer), default=-1) for customer in range(CUSTOMERS)
        ]
        for replica in cluster.replicas:
            proof = await prove(replica, cluster.addresses[replica], self.placed, customers=CUSTOMERS, orders=0)
            assert proof.orders == sum(number + 1 for number in last) == len(self.placed), proof
            assert proof.misplaced == 0, proof
        return statuses


@asynccontextmanager
async def three_replicas(*flags: str, module: str = "trio_pb") -> AsyncGenerator[LocalCluster, None]:
    """A cluster of three that makes checkpoints often, and an end to waiting."""
    with trio.fail_after(SECONDS_MAX + 20 * POWER_CUTS):
        async with local_cluster(3, flags=[*INTERVAL, *flags], module=module) as cluster:
            await cluster.wait_primary()
            yield cluster


def counters_of(status: StatusReport) -> dict[str, int]:
    """By name."""
    return dict(status.counters)


# --- Power ----------------------------------------------------------------------------------------


async def cut_power(cluster: LocalCluster) -> float:
    """Kill all three at the same moment, as a fuse does; the seconds between the first and the last."""
    began = trio.current_time()
    for replica in cluster.replicas:
        cluster.process(replica).send(signal.SIGKILL)
    seconds = trio.current_time() - began
    for replica in cluster.replicas:
        await cluster.kill(replica)  # Until it is gone.
    return seconds


async def test_power_cuts_of_all_three_lose_nothing_that_was_acknowledged() -> None:
    """What was not flushed is gone at every cut; what a customer was told is there after each."""
    async with three_replicas("--disk", "volatile", module=FAULTY) as cluster:
        customers = Customers()
        spans: list[float] = []
        async with customers.ordering(cluster):
            for _ in range(POWER_CUTS):
                await customers.acknowledged(20 * CUSTOMERS)
                spans.append(await cut_power(cluster))
                await cluster.start()
                await cluster.wait_primary()
            await customers.acknowledged(CUSTOMERS)
        statuses = await customers.check(cluster)
    checkpoints = [counters_of(status)["checkpoint_op"] for status in statuses.values()]
    middle, worst = 1000 * sorted(spans)[len(spans) // 2], 1000 * max(spans)
    print(
        f"{POWER_CUTS} power cuts: {len(customers.placed)} orders, none lost, none twice; checkpoints {checkpoints}; "
        f"the last process was killed {middle:.2f} ms after the first, at most {worst:.2f} ms"
    )


# --- A directory that is gone ---------------------------------------------------------------------


async def test_a_lost_directory_is_not_started_and_never_votes_when_formatted_again() -> None:
    """`start` refuses an empty directory; a format under the old id is found out, and the message says what remains."""
    async with three_replicas() as cluster:
        customers = Customers()
        async with customers.ordering(cluster):
            await customers.acknowledged(CUSTOMERS)
            leader = await cluster.wait_primary()
            lost = (leader + 1) % 3
            await cluster.kill(lost)
            shutil.rmtree(cluster.data(lost))
            cluster.data(lost).mkdir()

            assert await end_of(cluster, lost) == 2
            assert "not a data directory of trio_pb" in said_by(cluster, lost) or "identity" in said_by(cluster, lost)

            format_again(cluster, lost)
            assert await end_of(cluster, lost) == 4
            said = said_by(cluster, lost)
            assert "identity_refused" in said
            assert f"knows replica {lost} under another identity" in said
            assert "What remains: restore the old directory, or run on with the other replicas" in said
            await customers.acknowledged(CUSTOMERS)  # The others go on.
        told = [cluster.process(replica).tail() for replica in cluster.running]
        assert any(f"replica {lost} came with another identity" in it for it in told)
        assert all(status.status is Status.NORMAL for status in (await cluster.statuses(cluster.running)).values())


def format_again(cluster: LocalCluster, replica: int) -> None:
    """What the manual forbids."""
    identity = cluster_id(cluster.name)
    format_replica(
        cluster.data(replica), cluster=identity, replica=replica, members=cluster.replicas, segment_size=4 << 20
    )


async def end_of(cluster: LocalCluster, replica: int) -> int:
    """Start a replica that ends by itself; its exit code."""
    process = cluster.process(replica)
    await process.start()
    return await process.wait()


def said_by(cluster: LocalCluster, replica: int) -> str:
    """On stderr, the end of it."""
    return cluster.process(replica).tail()


# --- A disk that is full --------------------------------------------------------------------------


async def test_a_full_disk_refuses_orders_by_name_answers_reads_and_goes_on_by_itself(tmp_path: Path) -> None:
    """NotAppliedError disk_full for orders, also of a client without a session; then there is space again."""
    full = tmp_path / "full"
    async with three_replicas("--disk", f"full-while:{full}", module=FAULTY) as cluster:
        customers = Customers()
        async with customers.ordering(cluster):
            await customers.acknowledged(CUSTOMERS)
            full.touch()
            async with connect(cluster.addresses) as client:
                orders = OrderClient(client)
                assert await refusal_of(orders) == "disk_full"
                assert (await orders.read(0)).orders > 0
                async with connect(cluster.addresses) as stranger:
                    assert await refusal_of(OrderClient(stranger)) == "disk_full"
                full.unlink()
                await customers.acknowledged(5 * CUSTOMERS)
        await customers.check(cluster)
        told = "\n".join(cluster.process(replica).tail() for replica in cluster.replicas)
    assert "new orders are refused with disk_full" in told


async def refusal_of(orders: OrderClient) -> str:
    """Order until it is refused for good; the reason."""
    while True:
        try:
            # An order that was placed before: no customer gets one more by this.
            await orders.place(0, 0, "laptop", idempotency_key=b"0/0", timeout_s=5)
        except NotAppliedError as error:
            if error.reason != "busy":
                return error.reason
        except (UnknownOutcomeError, NotSentError):
            continue


# --- A replica that was away for long -------------------------------------------------------------


async def test_a_replica_that_was_away_for_longer_than_the_log_copies_a_checkpoint() -> None:
    """The others have freed the records that it misses; it copies state and takes part again."""
    async with three_replicas() as cluster:
        customers = Customers()
        async with customers.ordering(cluster):
            await customers.acknowledged(CUSTOMERS)
            leader = await cluster.wait_primary()
            away = (leader + 1) % 3
            await cluster.kill(away)
            left_at = min(status.applied for status in (await cluster.statuses(cluster.running)).values())
            while (
                min(status.applied for status in (await cluster.statuses(cluster.running)).values()) < left_at + WAL_OPS
            ):
                await customers.acknowledged(CUSTOMERS)
            await cluster.restart(away)
            back = await cluster.wait_normal(away)
            assert counters_of(back)["state_transferred"] >= 1
        statuses = await customers.check(cluster)
        assert counters_of(statuses[away])["chunk_bytes_received"] > 0
        assert counters_of(statuses[leader])["log_low"] > left_at
        assert "state transfer done: has the state after op" in said_by(cluster, away)


# --- The demo -------------------------------------------------------------------------------------


class Nobody:
    """Does not look."""

    def on_progress(self, acked: int, total: int) -> None:
        """Nothing."""

    def on_event(self, text: str) -> None:
        """Nothing."""


async def test_a_ruined_disk_repairs_itself() -> None:
    """All that the demo shows, with fewer customers."""
    with trio.fail_after(2 * SECONDS_MAX):
        result = await run_disk_demo(customers=CUSTOMERS, orders=100, watcher=Nobody())
    assert result.ok, result
    assert result.decay.records > 0
    assert result.repairs["chunks_stored"] >= 1
