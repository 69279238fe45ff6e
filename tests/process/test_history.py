"""What customers of a real cluster saw while its primary was killed is linearizable."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import trio

from sim.linearizability import UNKNOWN, Call, Verdict, check, read_history, write_history
from sim.linearizability.models.orders import DUPLICATE, PLACED, Orders
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient, OrderRejectedError
from trio_pb.errors import DeadlineError, NotAppliedError, NotSentError, SessionLostError, UnknownOutcomeError
from trio_pb.testbed.cluster import local_cluster

pytestmark = pytest.mark.process

CUSTOMERS = 3  # Few, so that those who order meet each other.
CLIENTS = 6
CALLS = 40  # Of each client.
SECONDS_MAX = 90


class _Recorder:
    """Writes down every call of every client."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.under_way = trio.Event()  # A third of the calls were made.

    async def call(self, process: str, asked: tuple[object, ...], ask: Callable[[], Awaitable[object]]) -> None:
        """Make a call and note what is certain about it."""
        begin = time.monotonic_ns()
        end: int | None = None
        answer: object = UNKNOWN
        try:
            answer = await ask()
            end = time.monotonic_ns()
        except OrderRejectedError as rejection:
            answer, end = ("rejected", rejection.reason), time.monotonic_ns()
        except (NotSentError, NotAppliedError):
            return  # No effect.
        except (DeadlineError, SessionLostError, UnknownOutcomeError):
            pass
        self.calls.append(Call(process=process, begin=begin, end=end, input=asked, output=answer))
        if len(self.calls) >= CLIENTS * CALLS // 3:
            self.under_way.set()


async def _customer(recorder: _Recorder, name: str, addresses: list[str], numbers: itertools.count[int]) -> None:
    """Order, read and scan, for customers that others order for as well."""
    random = Random(name)
    async with connect(addresses) as client:
        orders = OrderClient(client)
        for _ in range(CALLS):
            customer, kind = random.randrange(CUSTOMERS), random.random()
            if kind < 0.5:
                number, overwrite = next(numbers), random.random() < 0.3

                async def place(customer: int = customer, number: int = number, overwrite: bool = overwrite) -> object:
                    receipt = await orders.place(customer, number, f"laptop {number}", overwrite=overwrite, timeout_s=5)
                    return DUPLICATE if receipt.duplicate else PLACED

                await recorder.call(name, ("place", customer, number, f"laptop {number}", overwrite, None), place)
            elif kind < 0.9:

                async def read(customer: int = customer) -> object:
                    record = await orders.read(customer, timeout_s=5)
                    return record.last_order, record.orders, record.laptop_type

                await recorder.call(name, ("read", customer), read)
            else:

                async def scan() -> object:
                    records = [record async for record in orders.scan(timeout_s=5)]
                    return tuple((r.customer_id, r.last_order, r.orders, r.laptop_type) for r in records), None

                await recorder.call(name, ("scan", 0), scan)


async def test_a_killed_primary_leaves_a_linearizable_history(tmp_path: Path) -> None:
    """The calls of all clients, from before the kill to after the failover, as a file for the checker."""
    recorder = _Recorder()
    numbers = itertools.count(1)
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            primary = await cluster.wait_primary()
            async with trio.open_nursery() as nursery:
                for client in range(CLIENTS):
                    nursery.start_soon(_customer, recorder, f"client {client}", list(cluster.addresses), numbers)
                await recorder.under_way.wait()
                await cluster.kill(primary)
    path = tmp_path / "history.jsonl"
    write_history(path, recorder.calls)
    calls = read_history(path, Orders())
    assert calls == recorder.calls
    report = check(Orders(), calls)
    assert report.verdict is Verdict.LINEARIZABLE, report.text
    assert len(calls) > CLIENTS * CALLS // 2
