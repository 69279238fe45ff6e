"""Kill the primary again and again under load: how long until an order is acknowledged by the next one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import attrs
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient, PlacedOrder
from trio_pb.errors import TrioPbError
from trio_pb.testbed.bench.figures import Target, percentile
from trio_pb.testbed.cluster import LocalCluster

__all__ = ["Failovers", "measure_failovers"]

ORDER_SECONDS_MAX = 30.0
FAILOVER_SECONDS_MAX = 30.0
ORDERS_BETWEEN = 50  # Acknowledged before each kill, so that it falls into a cluster at work.
MEDIAN_MS_MAX, P99_MS_MAX = 800.0, 1500.0


class NoFailoverError(TrioPbError):
    """No order was acknowledged after the primary was killed."""

    code = "no_failover"


@attrs.frozen
class Failovers:
    """What customers saw of the kills."""

    gaps_ms: tuple[float, ...]  # From each kill to the first order that the next primary acknowledged.
    orders: int  # Acknowledged in all.
    unknown: int  # Orders that ended without an answer.

    @property
    def rising(self) -> list[float]:
        """The gaps, shortest first."""
        return sorted(self.gaps_ms)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is asked of them at default settings, on an idle machine."""
        return (
            Target("median gap", percentile(self.rising, 0.5), MEDIAN_MS_MAX, "ms"),
            Target("99th of a hundred gaps", percentile(self.rising, 0.99), P99_MS_MAX, "ms"),
        )


class _Customers:
    """They order one after the other, and others may wait for something that they see."""

    def __init__(self) -> None:
        self.orders = 0
        self.unknown = 0
        self.newest_view = 0
        self.newest_at = 0.0  # When the first order of that view was acknowledged.
        self._seen = trio.lowlevel.ParkingLot()

    async def order(self, client: OrderClient, customer: int) -> None:
        """Place orders for ever."""
        for number in count():
            try:
                placed = await client.place(customer, number, "framework-13", timeout_s=ORDER_SECONDS_MAX)
            except TrioPbError:
                self.unknown += 1
            else:
                self._note(placed)

    def _note(self, placed: PlacedOrder) -> None:
        self.orders += 1
        if placed.view > self.newest_view:
            self.newest_view, self.newest_at = placed.view, trio.current_time()
        self._seen.unpark_all()

    async def wait_orders(self, more: int) -> None:
        """Return when so many more orders were acknowledged; raises as `wait_view_after`."""
        enough = self.orders + more
        await self._wait_until(lambda: self.orders >= enough)

    async def wait_view_after(self, view: int) -> None:
        """Return when an order of a later view was acknowledged.

        Raises:
            NoFailoverError: none was in time.
        """
        await self._wait_until(lambda: self.newest_view > view)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(FAILOVER_SECONDS_MAX):
            while not condition():
                await self._seen.park()
            return
        raise NoFailoverError(f"what customers wait for did not come within {FAILOVER_SECONDS_MAX:.0f} s")


async def measure_failovers(
    cluster: LocalCluster, kills: int, customers: int, told: Callable[[int, float], None]
) -> Failovers:
    """Kill the primary so many times, each time with all replicas up; `told(kills so far, gap in ms)` after each.

    Raises:
        NoFailoverError, NotReachedError, ReplicaProcessError: the cluster does not do what it should.
    """
    gaps: list[float] = []
    seen = _Customers()
    async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
        for customer in range(customers):
            nursery.start_soon(seen.order, OrderClient(client), customer)
        for kill in range(kills):
            primary = await cluster.wait_primary()
            await seen.wait_orders(ORDERS_BETWEEN)
            view = seen.newest_view
            killed_at = trio.current_time()
            await cluster.kill(primary)
            await seen.wait_view_after(view)
            gaps.append(1e3 * (seen.newest_at - killed_at))
            told(kill + 1, gaps[-1])
            await cluster.restart(primary)
            await cluster.wait_normal(primary)
        nursery.cancel_scope.cancel()
    return Failovers(tuple(gaps), seen.orders, seen.unknown)
