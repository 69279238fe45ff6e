"""What customers write down of a cluster of one replica, and of one that does not answer any more."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from sim.linearizability import UNKNOWN, Verdict, check
from sim.linearizability.models.orders import Orders
from trio_pb.driver.client import connect
from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.torture.recording import Customers, calls_of

pytestmark = pytest.mark.process

SECONDS_MAX = 60
SILENT_SECONDS = 0.05


async def test_every_call_is_written_down_also_one_that_nobody_waits_for() -> None:
    """Orders, reads and scans make a history that holds; a call that is cancelled has an unknown outcome."""
    customers = Customers(customers=3, rate=500.0, seed=1)
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(1) as cluster, connect(cluster.addresses) as client, trio.open_nursery() as nursery:
            for task in range(4):
                nursery.start_soon(customers.work, client, f"client {task}")
            nursery.start_soon(customers.scan, client, "scan")
            for _ in range(100):
                await customers.wait_acknowledged(time.monotonic_ns())
            await cluster.kill(0)
            seen = len(customers.attempts)
            await trio.testing.wait_all_tasks_blocked(SILENT_SECONDS)  # All wait for an answer that never comes.
            nursery.cancel_scope.cancel()
    kinds = {attempt.input[0] for attempt in customers.attempts}
    assert kinds == {"place", "read", "scan"}
    late = customers.attempts[seen:]
    assert any(attempt.output is UNKNOWN and attempt.told == "cancelled" for attempt in late)
    assert all(attempt.op is not None for attempt in customers.attempts if attempt.output == ("placed",))
    acknowledged = [order for order in customers.orders.values() if order.receipt is not None]
    assert customers.acknowledged == len(acknowledged)
    assert len(acknowledged) >= 100
    report = check(Orders(), calls_of(customers.attempts, began_ns=0))
    assert report.verdict is Verdict.LINEARIZABLE, report.text
