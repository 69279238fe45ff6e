"""Measure points of load on one cluster: each several times, and never while the machine does something else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import attrs
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.load.customers import LAPTOPS, REQUEST_SECONDS_MAX, Part
from trio_pb.testbed.load.plan import LoadPlan
from trio_pb.testbed.load.process import load_processes
from trio_pb.testbed.load.tally import Tally
from trio_pb.testbed.load.usage import Usage, UsageMeter

__all__ = ["Measured", "measure", "measure_point", "place_one_each"]

END_SECONDS_MAX = REQUEST_SECONDS_MAX + 20.0
ATTEMPTS_MAX = 4  # Of one run, while others use the machine.
BORNE_SHARE = 0.98  # Of a rate, in answers that came in time.
EDGE = 3  # Requests of a process that were due in the window and answered after it though nothing was amiss.
PLACING_MAX = 100  # Customers at a time who order before anything is measured.


@attrs.frozen(kw_only=True)
class Measured:
    """One run."""

    plan: LoadPlan
    tally: Tally
    usage: Usage
    primary: int
    views: int  # Changes of the view while it ran: none is to be, nobody died.
    thrown_away: int = 0  # Runs before it, because others used the machine.

    @property
    def per_second(self) -> float:
        """Answers that came while it was measured."""
        return self.tally.answers / self.plan.seconds

    @property
    def is_borne(self) -> bool:
        """Whether as much was answered in time as was asked for; without a rate it always is."""
        if self.plan.rate is None:
            return True
        asked = self.plan.rate * self.plan.seconds
        return asked - self.tally.answers <= max((1 - BORNE_SHARE) * asked, EDGE * self.plan.processes)

    @property
    def cpu_ms_per_1000(self) -> dict[str, float]:
        """Processor time in milliseconds for a thousand answers: of each replica, and of the customers."""
        thousands = self.tally.answers / 1000
        return {name: 1e3 * spent / thousands if thousands else 0.0 for name, spent in self.usage.cpu_seconds.items()}


async def measure_point(
    cluster: LocalCluster, plan: LoadPlan, runs: int, told: Callable[[Measured], None]
) -> list[Measured]:
    """Run it `runs` times; return them, slowest first. `told` is called after each, those thrown away as well.

    Customers who read have ordered before.
    """
    if plan.mix.place < 100:
        await place_one_each(cluster, plan.customers)
    found: list[Measured] = []
    thrown_away = 0
    while len(found) < runs:
        measured = attrs.evolve(await measure(cluster, plan), thrown_away=thrown_away)
        told(measured)
        if measured.usage.is_quiet or thrown_away + 1 == ATTEMPTS_MAX:
            found.append(measured)
            thrown_away = 0
        else:
            thrown_away += 1
    return sorted(found, key=lambda run: run.per_second)


async def measure(cluster: LocalCluster, plan: LoadPlan) -> Measured:
    """Run it once.

    Raises:
        LoadError: a process of customers failed.
    """
    primary = await cluster.wait_primary()
    before = await cluster.status(primary)
    # The primary first: a client that is sent on has spent a round trip, and counts it in none of its requests.
    addresses = tuple(sorted(cluster.addresses, key=lambda address: address != cluster.addresses[primary]))
    tally = Tally()
    parts = [Part(plan=part, addresses=addresses, first_customer=at) for at, part in plan.split()]
    customers = [sys.executable, "-m", "trio_pb.testbed.load.customers"]
    async with load_processes(customers, [part.encode() for part in parts]) as processes:
        for process in processes:
            await process.begin()
        await trio.sleep(plan.warm_up_seconds)
        watched = [(f"replica {replica}", cluster.process(replica).pid) for replica in cluster.running]
        watched += [(f"customers {number}", process.pid) for number, process in enumerate(processes)]
        meter = UsageMeter(watched)
        await trio.sleep(plan.seconds)
        usage = meter.read()
        for process in processes:
            tally.add(await process.result(END_SECONDS_MAX))
    after = await cluster.status(await cluster.wait_primary())
    views = after.view - before.view if before is not None and after is not None else 0
    return Measured(plan=plan, tally=tally, usage=usage, primary=primary, views=views)


async def place_one_each(cluster: LocalCluster, customers: int) -> None:
    """An order of each, so that there is a record to read."""
    waiting = iter(range(customers))
    number = int(perf_counter() * 1e6)  # Below those of the loads that follow: see `customers`.

    async def place(client: OrderClient) -> None:
        for customer in waiting:
            await client.place(customer, number, LAPTOPS[0], lane=customer, timeout_s=REQUEST_SECONDS_MAX)

    async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
        for _ in range(min(PLACING_MAX, customers)):
            nursery.start_soon(place, OrderClient(client))
