"""Kill the primary again and again under load: how long until an order is acknowledged by the next one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import attrs
import trio

from trio_pb.core.messages import StatusReport
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient, PlacedOrder
from trio_pb.errors import TrioPbError
from trio_pb.testbed.bench.figures import Target, percentile
from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.load.usage import OthersMeter, is_quiet

__all__ = ["Failovers", "NoFailoverError", "measure_failovers", "now_leading"]

ORDER_SECONDS_MAX = 30.0
FAILOVER_SECONDS_MAX = 30.0
ORDERS_BETWEEN = 50  # Acknowledged before each kill, so that it falls into a cluster at work.
MEDIAN_MS_MAX, P99_MS_MAX = 800.0, 1500.0
P99_GAPS_MIN = 100  # Of fewer the 99th percentile is the longest.


class NoFailoverError(TrioPbError):
    """Nobody leads for long enough to be killed, or no order was acknowledged after that."""

    code = "no_failover"


@attrs.frozen
class Failovers:
    """What customers saw of the kills."""

    gaps_ms: tuple[float, ...]  # From each kill to the first order that the next primary acknowledged.
    orders: int  # Acknowledged in all.
    unknown: int  # Orders that ended without an answer.
    others_cores: float  # That other programs kept busy all the while.

    @property
    def is_quiet(self) -> bool:
        """Whether the machine did little else."""
        return is_quiet(self.others_cores)

    @property
    def rising(self) -> list[float]:
        """The gaps, shortest first."""
        return sorted(self.gaps_ms)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is asked of them at default settings, on an idle machine."""
        high = "longest gap" if len(self.gaps_ms) < P99_GAPS_MIN else "99th percentile of the gaps"
        return (
            Target("median gap", percentile(self.rising, 0.5), MEDIAN_MS_MAX, "ms"),
            Target(high, percentile(self.rising, 0.99), P99_MS_MAX, "ms"),
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
    others = OthersMeter(_pids(cluster))
    async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
        for customer in range(customers):
            nursery.start_soon(seen.order, OrderClient(client), customer)
        for kill in range(kills):
            await seen.wait_orders(ORDERS_BETWEEN)
            leading = await now_leading(cluster)  # Only now: the view may have changed meanwhile.
            killed_at = trio.current_time()
            await cluster.kill(leading.replica)
            await seen.wait_view_after(leading.view)
            gaps.append(1e3 * (seen.newest_at - killed_at))
            told(kill + 1, gaps[-1])
            await cluster.restart(leading.replica)
            await cluster.wait_normal(leading.replica)
        nursery.cancel_scope.cancel()
    return Failovers(tuple(gaps), seen.orders, seen.unknown, others.cores(_pids(cluster)))


async def now_leading(cluster: LocalCluster) -> StatusReport:
    """Where the replica that leads stands.

    Raises:
        NoFailoverError: whoever leads has lost that again before it is asked, all the time.
        NotReachedError: nobody leads.
    """
    with trio.move_on_after(FAILOVER_SECONDS_MAX):
        while True:
            status = await cluster.status(await cluster.wait_primary())
            if status is not None and status.is_primary:
                return status
    raise NoFailoverError(f"no replica led for long enough to be killed within {FAILOVER_SECONDS_MAX:.0f} s")


def _pids(cluster: LocalCluster) -> list[int]:
    return [cluster.process(replica).pid for replica in cluster.running]
