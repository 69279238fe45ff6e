"""Real processes, real sockets, real files, real kills: what was acknowledged is there exactly once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trio_pb.core.messages import Status
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import TrioPbError
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.demo import run_demo
from trio_pb.testbed.process import replica_command
from trio_pb.testbed.proof import Placed, prove

pytestmark = pytest.mark.process

SECONDS_MAX = 40  # Each takes a few seconds; a machine shared with others may need more.


@asynccontextmanager
async def three_replicas() -> AsyncGenerator[LocalCluster, None]:
    """A cluster of three with a primary, and an end to waiting."""
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            yield cluster


class Customers:
    """Customers who order one after the other, each its own task, and note every receipt."""

    def __init__(self, customers: int, orders: int) -> None:
        self.customers = customers
        self.orders = orders
        self.placed: Placed = {}
        self._more = trio.Event()

    async def run(self, cluster: LocalCluster) -> None:
        """Place all orders, whatever happens to the cluster meanwhile."""
        async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
            for customer in range(self.customers):
                nursery.start_soon(self._order, OrderClient(client), customer)

    async def _order(self, client: OrderClient, customer: int) -> None:
        for number in range(self.orders):
            key = f"{customer}/{number}".encode()
            placed = await client.place(customer, number, "laptop", idempotency_key=key, timeout_s=SECONDS_MAX)
            self.placed[customer, number] = placed.op
            self._more.set()
            self._more = trio.Event()

    async def wait_placed(self, count: int) -> None:
        """Wait for so many receipts."""
        while len(self.placed) < count:
            await self._more.wait()

    async def expect_on_every_replica(self, cluster: LocalCluster) -> None:
        """Every order is on every replica once, at the op of its receipt, and the states are equal."""
        statuses = await cluster.wait_agreed()
        assert len({status.state_digest for status in statuses.values()}) == 1, cluster.describe(statuses)
        assert len(self.placed) == self.customers * self.orders
        for replica in cluster.replicas:
            proof = await prove(
                replica, cluster.addresses[replica], self.placed, customers=self.customers, orders=self.orders
            )
            assert proof.orders == len(self.placed)
            assert (proof.lost, proof.duplicated, proof.last_orders_wrong, proof.misplaced) == (0, 0, 0, 0), proof


async def test_killed_primary_loses_nothing() -> None:
    """The primary is killed under load and comes back; the customers only notice a pause."""
    customers = Customers(20, 20)
    async with three_replicas() as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(customers.run, cluster)
        await customers.wait_placed(50)
        primary = await cluster.wait_primary()
        await cluster.kill(primary)
        assert await cluster.wait_primary(besides=primary) != primary
        await cluster.restart(primary)
        await customers.wait_placed(400)
        await customers.expect_on_every_replica(cluster)


async def test_power_cut_of_all_loses_nothing() -> None:
    """All replicas are killed at once under load: what was acknowledged was on disk."""
    customers = Customers(20, 20)
    async with three_replicas() as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(customers.run, cluster)
        await customers.wait_placed(50)
        for replica in cluster.replicas:
            cluster.process(replica).send(signal.SIGKILL)
        for replica in cluster.replicas:
            await cluster.kill(replica)
        await cluster.start()
        await customers.wait_placed(400)
        await customers.expect_on_every_replica(cluster)


async def test_stopped_primary_hands_over() -> None:
    """SIGTERM: the primary hands over, exits 0, and nobody waits for a time-out."""
    customers = Customers(10, 20)
    async with three_replicas() as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(customers.run, cluster)
        await customers.wait_placed(20)
        primary = await cluster.wait_primary()
        assert await cluster.stop(primary) == 0, cluster.process(primary).tail()
        assert await cluster.wait_primary(besides=primary) != primary
        await cluster.restart(primary)
        await customers.wait_placed(200)
        await customers.expect_on_every_replica(cluster)


async def test_frozen_primary_is_replaced_and_follows() -> None:
    """A primary that was frozen believes it leads when it wakes; it finds out and follows."""
    customers = Customers(10, 10)
    async with three_replicas() as cluster:
        frozen = await cluster.wait_primary()
        cluster.process(frozen).send(signal.SIGSTOP)
        await cluster.wait_primary(besides=frozen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(customers.run, cluster)
            await customers.wait_placed(20)
            cluster.process(frozen).send(signal.SIGCONT)
        await customers.expect_on_every_replica(cluster)


async def test_minority_acknowledges_nothing() -> None:
    """One replica of three answers, but acknowledges nothing and reads nothing."""
    async with three_replicas() as cluster:
        alone = await cluster.wait_primary()
        for replica in cluster.replicas:
            if replica != alone:
                await cluster.kill(replica)
        async with connect([cluster.addresses[alone]]) as client:
            orders = OrderClient(client)
            with pytest.raises(TrioPbError):
                await orders.place(1, 1, "laptop", timeout_s=1)
            with pytest.raises(TrioPbError):
                await orders.read(1, timeout_s=1)
        await cluster.start(*(replica for replica in cluster.replicas if replica != alone))
        statuses = await cluster.wait_agreed()
        assert {status.status for status in statuses.values()} == {Status.NORMAL}


class Silent:
    """Watches a demo and says nothing."""

    def on_progress(self, acked: int, total: int) -> None:
        """Say nothing."""

    def on_event(self, text: str) -> None:
        """Say nothing."""


async def test_small_demo_holds() -> None:
    """The demo's whole story at a hundredth of its size: orders fall between all of its events."""
    with trio.fail_after(SECONDS_MAX):
        result = await run_demo(replicas=3, customers=10, orders=10, watcher=Silent())
    assert result.ok, result
    assert [kind for kind, _ in result.kills] == ["primary", "backup"]
    assert all(acked > 0 for _, acked in result.kills)
    assert result.acked == 100


async def test_cancelled_cluster_leaves_nothing() -> None:
    """However the block ends, no process and no file of it is left."""
    seen: list[LocalCluster] = []
    with trio.CancelScope() as scope:
        async with three_replicas() as cluster:
            seen.append(cluster)
            assert cluster.running == [0, 1, 2]
            assert cluster.data(0).exists()
            scope.cancel()
            await trio.sleep_forever()
    (cluster,) = seen
    assert cluster.running == []
    assert not cluster.directory.exists()


async def test_replica_does_not_outlive_its_starter(tmp_path: Path) -> None:
    """A starter killed with SIGKILL cannot clean up; its replica stops at the end of its input."""
    data = str(tmp_path / "data")
    size = ("--segment-mib", "1")
    begin = replica_command("format", data, "--cluster", "c", "--replica", "0", "--replicas", "1", *size)
    await trio.run_process(begin, capture_stdout=True)
    address = ("--listen", "127.0.0.1:0", "--peers", "0=127.0.0.1:1")
    with trio.fail_after(SECONDS_MAX):
        process = await trio.lowlevel.open_process(
            replica_command("start", data, *address, *size, "--stop-with-parent"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with process.stdout:
            assert b"replica 0 listens" in await process.stdout.receive_some()
            await process.stdin.aclose()
            assert await process.wait() == 0


def test_optimised_python_is_refused(tmp_path: Path) -> None:
    """Without its asserts a replica must not run."""
    directory = tmp_path / "data"
    words = ["format", str(directory), "--cluster", "c", "--replica", "0", "--replicas", "1"]
    done = subprocess.run([sys.executable, "-O", "-m", "trio_pb", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "safety checks" in done.stderr
    assert not directory.exists()
