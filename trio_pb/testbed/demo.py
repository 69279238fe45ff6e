"""The demo: customers order laptops while replicas are killed; then every replica has to prove what it holds.

The load is paced by the events, not by the clock: orders are acknowledged before, between and after
them, on a fast machine and on a slow one.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from trio_pb.core.messages import StatusReport
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import ConfigError, NotAppliedError, NotSentError, UnknownOutcomeError
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.formatting import REPLICAS_MAX
from trio_pb.testbed.gate import Gate
from trio_pb.testbed.proof import Placed, ReplicaProof, prove

__all__ = ["DemoEvent", "DemoResult", "Load", "Watcher", "run_demo"]

REPLICAS_MIN = 3
ORDERS_MIN = 20  # All in all: enough for some of them to fall between any two events.
LAPTOPS = ("thinkpad-x1", "macbook-pro-14", "framework-13", "xps-15", "surface-7")
ORDER_SECONDS_MAX = 30.0  # Of one attempt; a customer tries again with the same key.
ORDER_ATTEMPTS_MAX = 5


class Watcher(Protocol):
    """Somebody who looks on."""

    def on_progress(self, acked: int, total: int) -> None:
        """So many orders are acknowledged."""
        ...

    def on_event(self, text: str) -> None:
        """Something happened."""
        ...


@attrs.frozen
class DemoEvent:
    """A replica was killed or came back."""

    kind: str  # "kill_primary", "restart_primary", "kill_backup" or "restart_backup".
    replica: int
    acked_before: int  # Orders acknowledged between this event and the one before.


@attrs.frozen(kw_only=True)
class DemoResult:
    """What the demo found."""

    acked: int
    expected: int
    lost: int
    duplicated: int
    last_orders_wrong: int
    misplaced: int  # Orders that a replica holds at another op than its receipt said.
    digests_equal: bool
    failover_max_ms: float  # Longest that a customer waited for an order begun before a new primary led.
    orders_per_s: float  # While at least one order was under way.
    p50_ms: float
    p99_ms: float
    events: tuple[DemoEvent, ...]
    acked_after: int  # After the last event.
    proofs: tuple[ReplicaProof, ...]
    statuses: tuple[StatusReport, ...]

    @property
    def kills(self) -> list[tuple[str, int]]:
        """Kind of each kill, and the orders acknowledged between it and the kill before."""
        found: list[tuple[str, int]] = []
        acked = 0
        for event in self.events:
            acked += event.acked_before
            if event.kind.startswith("kill"):
                found.append((event.kind.removeprefix("kill_"), acked))
                acked = 0
        return found

    @property
    def ok(self) -> bool:
        """Whether all that the demo is to show held."""
        return (
            self.acked == self.expected
            and self.lost == self.duplicated == self.last_orders_wrong == self.misplaced == 0
            and self.digests_equal
            and all(event.acked_before for event in self.events)
            and self.acked_after > 0
        )


@attrs.define
class Load:
    """The customers, and what they were told."""

    customers: int
    orders: int
    gate: Gate
    watcher: Watcher
    placed: Placed = attrs.Factory(dict[tuple[int, int], int])  # (customer, order number) -> the op of its receipt.
    spans: list[tuple[float, float]] = attrs.Factory(list[tuple[float, float]])  # (begun, acknowledged) of each order.

    async def run(self, client: OrderClient) -> None:
        """Let all customers order at once."""
        async with trio.open_nursery() as nursery:
            for customer in range(self.customers):
                nursery.start_soon(self._customer, client, customer)

    async def _customer(self, client: OrderClient, customer: int) -> None:
        for number in range(self.orders):
            await self.gate.begin()
            begun = trio.current_time()
            op = await self._place(client, customer, number)
            self.spans.append((begun, trio.current_time()))
            self.placed[customer, number] = op
            self.gate.ack()
            self.watcher.on_progress(self.gate.acked, self.customers * self.orders)

    async def _place(self, client: OrderClient, customer: int, number: int) -> int:
        """Place one order; with its key it is safe to try again when the outcome is not known."""
        key = f"demo-{customer}-{number}".encode()
        laptop = LAPTOPS[(customer + number) % len(LAPTOPS)]
        for attempt in range(1, ORDER_ATTEMPTS_MAX + 1):
            try:
                placed = await client.place(customer, number, laptop, idempotency_key=key, timeout_s=ORDER_SECONDS_MAX)
            except (NotAppliedError, NotSentError, UnknownOutcomeError):
                if attempt == ORDER_ATTEMPTS_MAX:
                    raise
            else:
                return placed.op
        raise AssertionError("the last attempt returns or raises")


@attrs.define
class _Story:
    """The events, each in the middle of the load."""

    cluster: LocalCluster
    gate: Gate
    total: int
    watcher: Watcher
    events: list[DemoEvent] = attrs.Factory(list[DemoEvent])
    failover: tuple[float, float] = (0.0, 0.0)  # From the kill of the primary until another led.
    _acked: int = 0  # At the last event.

    async def run(self) -> None:
        """Kill the primary, bring it back, kill a backup, bring it back."""
        cluster = self.cluster
        await self._reach(0.2)
        primary = await cluster.wait_primary()
        killed_at = trio.current_time()
        await cluster.kill(primary)
        self._note("kill_primary", primary, f"replica {primary}, the primary, killed with SIGKILL")
        leader = await cluster.wait_primary(besides=primary)
        self.failover = (killed_at, trio.current_time())
        self.watcher.on_event(f"replica {leader} leads")

        await self._reach(0.4)
        await cluster.restart(primary)
        self._note("restart_primary", primary, f"replica {primary} started again")

        await self._reach(0.6)
        # Without the one that came back there is no quorum now: it must have caught up to be of use.
        await cluster.wait_normal(primary)
        leader = await cluster.wait_primary()
        backup = min(replica for replica in cluster.replicas if replica not in (leader, primary))
        await cluster.kill(backup)
        self._note("kill_backup", backup, f"replica {backup}, a backup, killed with SIGKILL")

        await self._reach(0.8)
        await cluster.restart(backup)
        self._note("restart_backup", backup, f"replica {backup} started again")
        self.gate.open_to(self.total)

    async def _reach(self, share: float) -> None:
        """Wait until this share of all orders is acknowledged.

        From here the load goes on only to a mark half-way to the next event: however long the event
        takes, it falls into the load, and orders are left for after it.
        """
        self.gate.open_to(round(self.total * (share + 0.1)))
        await self.gate.wait_acked(round(self.total * share))

    def _note(self, kind: str, replica: int, text: str) -> None:
        acked = self.gate.acked
        self.events.append(DemoEvent(kind, replica, acked - self._acked))
        self._acked = acked
        self.watcher.on_event(f"{text} after {acked} orders")


async def run_demo(*, replicas: int, customers: int, orders: int, watcher: Watcher) -> DemoResult:
    """Run the whole demo on a cluster of its own.

    Raises:
        ConfigError: the numbers make no demo.
        TrioPbError: the cluster did not do what it should; nothing is left of it.
    """
    total = customers * orders
    if not REPLICAS_MIN <= replicas <= REPLICAS_MAX:
        raise ConfigError(f"--replicas {replicas}: must be {REPLICAS_MIN} to {REPLICAS_MAX}, for one of them is killed")
    if customers < 1 or orders < 1 or total < ORDERS_MIN:
        raise ConfigError(f"--customers {customers} --orders {orders}: must be at least {ORDERS_MIN} orders all in all")
    async with local_cluster(replicas, name="demo") as cluster:
        await cluster.wait_primary()
        watcher.on_event(f"{replicas} replicas are up")
        load = Load(customers, orders, Gate(0), watcher)
        story = _Story(cluster, load.gate, total, watcher)
        async with connect(cluster.addresses) as client, trio.open_nursery() as nursery:
            nursery.start_soon(story.run)
            await load.run(OrderClient(client))
        watcher.on_event("all orders acknowledged; each replica now proves what it holds")
        statuses = await cluster.wait_agreed()
        proofs = [
            await prove(replica, cluster.addresses[replica], load.placed, customers=customers, orders=orders)
            for replica in cluster.replicas
        ]
    latencies = sorted(end - begun for begun, end in load.spans)
    return DemoResult(
        acked=load.gate.acked,
        expected=total,
        lost=max(proof.lost for proof in proofs),
        duplicated=max(proof.duplicated for proof in proofs),
        last_orders_wrong=max(proof.last_orders_wrong for proof in proofs),
        misplaced=max(proof.misplaced for proof in proofs),
        digests_equal=len({status.state_digest for status in statuses.values()}) == 1,
        failover_max_ms=1000 * _longest(load.spans, *story.failover),
        orders_per_s=total / load.gate.busy_seconds,
        p50_ms=1000 * _quantile(latencies, 0.50),
        p99_ms=1000 * _quantile(latencies, 0.99),
        events=tuple(story.events),
        acked_after=load.gate.acked - sum(event.acked_before for event in story.events),
        proofs=tuple(proofs),
        statuses=tuple(statuses.values()),
    )


def _longest(spans: list[tuple[float, float]], start: float, end: float) -> float:
    """The longest of the spans that touch the time from `start` to `end`."""
    return max((done - begun for begun, done in spans if begun <= end and done >= start), default=0.0)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
