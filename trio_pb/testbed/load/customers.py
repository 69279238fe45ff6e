"""`python -m trio_pb.testbed.load.customers`: a process of customers, who use the client that ships.

It reads its part of the plan from the first line of its input, connects, says "ready", waits for a line, makes the
load, says what it saw, and stays until its input ends. Latency of a load with a rate counts from the moment at which a
request was due, not from that at which there was time for it: else a cluster that stops for a second would be asked
nothing meanwhile, and would have one slow answer in place of thousands (coordinated omission).
"""

from __future__ import annotations

import gc
import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count, cycle
from time import perf_counter
from typing import Any

import attrs
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import TrioPbError
from trio_pb.testbed.load.lean import LeanLoad
from trio_pb.testbed.load.plan import LoadPlan, Mix
from trio_pb.testbed.load.tally import Tally, Window

__all__ = ["Part", "main"]

CONNECT_SECONDS = 20.0
REQUEST_SECONDS_MAX = 10.0
LAPTOPS = ("thinkpad-x1", "macbook-pro-14", "framework-13", "xps-15", "surface-7")
SCAN_RECORDS = 100
WAITING_MAX = 20_000  # Requests of a rate that nobody has answered: more would only measure our memory.


@attrs.frozen(kw_only=True)
class Part:
    """What one process does."""

    plan: LoadPlan  # Of the whole load, with the customers, connections and rate of this process.
    addresses: tuple[str, ...]
    first_customer: int

    def encode(self) -> bytes:
        """As a line."""
        return json.dumps(attrs.asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: str) -> Part:
        """Read what `encode` wrote."""
        fields: Any = json.loads(line)
        plan: Any = fields["plan"]
        return cls(
            plan=LoadPlan(**(plan | {"mix": Mix(**plan["mix"])})),
            addresses=tuple(fields["addresses"]),
            first_customer=fields["first_customer"],
        )


class _Load:
    """The customers of one process."""

    def __init__(self, part: Part, clients: list[OrderClient]) -> None:
        self._plan = part.plan
        self._first = part.first_customer
        self._clients = clients
        self._kinds = part.plan.mix.kinds
        # Order numbers rise with each load on a cluster, as orders of a customer must.
        self._numbers = count(int(perf_counter() * 1e6))
        self._calls: dict[str, Callable[[OrderClient, int], Awaitable[None]]] = {
            "place": self._place,
            "read": self._read,
            "scan": self._scan,
        }
        self._waiting = 0

    async def run(self) -> Tally:
        """Make the load, and wait for what is due."""
        began = perf_counter()
        rate = self._plan.rate
        window = Window(began + self._plan.warm_up_seconds, self._plan.seconds, rate is not None, Tally())
        async with trio.open_nursery() as nursery:
            if rate is not None:
                await self._at_a_rate(rate, began, window, nursery)
            else:
                for customer in range(self._plan.customers):
                    nursery.start_soon(self._one_by_one, customer, window)
        return window.tally

    async def _one_by_one(self, customer: int, window: Window) -> None:
        """A closed loop: ask, wait for the answer, ask again."""
        kinds = random.Random(self._first + customer)
        while (now := perf_counter()) < window.end:
            await self._ask(customer, kinds.choice(self._kinds), now, window)

    async def _at_a_rate(self, rate: float, began: float, window: Window, nursery: trio.Nursery) -> None:
        """An open loop: requests are due at their time, whatever became of those before."""
        kinds = random.Random(self._first)
        customers = cycle(range(self._plan.customers))
        due = began
        while due < window.end:
            now = perf_counter()
            while due <= now and due < window.end:
                if self._waiting < WAITING_MAX:
                    self._waiting += 1
                    nursery.start_soon(self._once, next(customers), kinds.choice(self._kinds), due, window)
                else:
                    window.unsent(due)
                due += 1 / rate
            await trio.sleep(max(0.0, due - perf_counter()))

    async def _once(self, customer: int, kind: str, due: float, window: Window) -> None:
        try:
            await self._ask(customer, kind, due, window)
        finally:
            self._waiting -= 1

    async def _ask(self, customer: int, kind: str, due: float, window: Window) -> None:
        client = self._clients[customer % len(self._clients)]
        try:
            await self._calls[kind](client, self._first + customer)
        except TrioPbError as error:
            window.refused(error.code, due, perf_counter())
        else:
            window.answered(kind, due, perf_counter())

    async def _place(self, client: OrderClient, customer: int) -> None:
        number = next(self._numbers)
        await client.place(
            customer, number, LAPTOPS[number % len(LAPTOPS)], lane=customer, timeout_s=REQUEST_SECONDS_MAX
        )

    async def _read(self, client: OrderClient, customer: int) -> None:
        await client.read(customer, timeout_s=REQUEST_SECONDS_MAX)

    async def _scan(self, client: OrderClient, customer: int) -> None:
        async for _ in client.scan(
            customer, limit=SCAN_RECORDS, page_records=SCAN_RECORDS, timeout_s=REQUEST_SECONDS_MAX
        ):
            pass


async def _run(part: Part) -> None:
    async with AsyncExitStack() as stack:
        clients: list[OrderClient] = []
        for _ in range(part.plan.connections):
            client = await stack.enter_async_context(connect(part.addresses, timeout_s=CONNECT_SECONDS))
            clients.append(OrderClient(client))
        load = _Load(part, clients)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        _leave_the_collector()
        tally = await load.run()
        print(json.dumps(tally.fields()), flush=True)


def _run_lean(part: Part) -> None:
    load = LeanLoad(part.plan, part.addresses, part.first_customer)
    load.connect()
    print("ready", flush=True)
    sys.stdin.readline()
    _leave_the_collector()
    print(json.dumps(load.run().fields()), flush=True)


def _leave_the_collector() -> None:
    """What is there stays, so it need not be walked through."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Make a load."""
    part = Part.decode(sys.stdin.readline())
    if part.plan.is_lean:
        _run_lean(part)
    else:
        trio.run(_run, part)
    sys.stdin.read()  # Its processor time and memory are read before it goes.


if __name__ == "__main__":
    main()
