"""Customers at work while a cluster is tortured, and everything that they were told, with its times.

Several clients act for the same customers at once, so their calls overlap where it matters. An order that
got no definite answer is placed again, with its key, until it gets one: each attempt is a call of its own in
the history, and the key is what keeps it from being placed twice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import TypeAlias

import attrs
import trio

from sim.linearizability import UNKNOWN, Call
from sim.linearizability.models.orders import DUPLICATE, PLACED
from trio_pb.app.order_messages import READ, ReadCustomer, decode_record, encode_read
from trio_pb.core.messages import ReadMode
from trio_pb.driver.client import Client
from trio_pb.driver.order_client import OrderClient, OrderRejectedError, PlacedOrder
from trio_pb.errors import (
    DeadlineError,
    NotAppliedError,
    NotSentError,
    SessionLostError,
    SnapshotGoneError,
    UnknownOutcomeError,
)

__all__ = ["Attempt", "Customers", "Dated", "Order", "calls_of"]

LAPTOPS = ("thinkpad-x1", "macbook-pro-14", "framework-13", "xps-15", "surface-7")
ORDER_SHARE = 2 / 3  # Of the calls; the others read one customer.
OVERWRITE_SHARE = 0.2
HERE_SHARE = 0.4  # Of reads: at a replica that need not lead.
SCAN_SECONDS = 1.0  # Between two bulk reads of one client who does nothing else.
SCAN_PAGE_RECORDS = 16  # Few, so that a scan has several pages and must stay in one state.
TIMEOUT_SECONDS = (1.0, 6.0)
ATTEMPTS_MAX = 40  # Of one order; with its timeouts that is longer than any fault.
RETRY_SECONDS = 0.1  # After an attempt that certainly had no effect.
BEHIND_SECONDS_MAX = 0.5  # Load that nobody could take is not made up for.


@attrs.frozen(kw_only=True)
class Attempt:
    """One call, as its caller saw it. Times in nanoseconds of the monotonic clock."""

    process: str
    begin: int
    end: int  # When the caller went on.
    input: tuple[object, ...]
    output: object  # UNKNOWN: it may or may not have taken effect.
    has_effect: bool = True  # False: it certainly had none, and says nothing.
    op: int | None = None  # Where it stands, by the answer.
    timestamp: int = 0  # Of an order, by the answer; breaks ties of op.
    told: str = ""  # Why there was no answer.
    rejected: str = ""  # Why the order was refused, by the answer.


@attrs.frozen
class Dated:
    """When an order was placed, by its receipt."""

    op: int
    timestamp: int  # Nanoseconds since 1970.
    ahead_ns: int  # Later than the right clock showed when the receipt came.


@attrs.define
class Order:
    """What became of one order."""

    customer: int
    number: int
    laptop: str
    receipt: PlacedOrder | None = None  # The last; for a duplicate, with the op of the first time.
    refused: str = ""  # Why it was rejected.
    is_unknown: bool = False  # Some attempt had no definite answer.
    dated: list[Dated] = attrs.Factory(list["Dated"])  # By each receipt for its first placing.


Orders: TypeAlias = dict[tuple[int, int], Order]


class Customers:
    """Clients that order, read and scan at a bounded rate until told to stop."""

    def __init__(self, *, customers: int, rate: float, seed: int) -> None:
        self.customers = customers
        self.attempts: list[Attempt] = []
        self.orders: Orders = {}  # By customer and number.
        self.is_over = False
        self.acknowledged = 0
        self._seed = seed
        self._gap_seconds = ORDER_SHARE / rate  # Between two calls of any client.
        self._slot = 0.0  # When the next call may begin.
        self._numbers = [0] * customers
        self._newest_acknowledged = 0  # When the youngest acknowledged order began.
        self._news = trio.Event()

    async def wait_acknowledged(self, since_ns: int) -> None:
        """Wait until an order is acknowledged that began after `since_ns`."""
        while self._newest_acknowledged <= since_ns:
            await self._news.wait()

    async def work(self, client: Client, name: str) -> None:
        """Order and read, one call after the other, until it is over."""
        random = Random(f"{self._seed} {name}")
        while not self.is_over:
            self._slot = max(self._slot + self._gap_seconds, trio.current_time() - BEHIND_SECONDS_MAX)
            await trio.sleep_until(self._slot)
            customer = random.randrange(self.customers)
            if random.random() < ORDER_SHARE:
                await self._order(OrderClient(client), name, customer, random)
            else:
                await self._read(client, name, customer, random)

    async def scan(self, client: Client, name: str) -> None:
        """Read all customers again and again, until it is over."""
        orders = OrderClient(client)

        async def pages() -> tuple[object, int | None, int]:
            found: list[tuple[object, ...]] = []
            op = 0
            async for page in orders.scan_pages(
                page_records=SCAN_PAGE_RECORDS, mode=ReadMode.LINEARIZABLE_HERE, timeout_s=TIMEOUT_SECONDS[1]
            ):
                op = page.op
                found += [(it.customer_id, it.last_order, it.orders, it.laptop_type) for it in page.records]
            return (tuple(found), None), op, 0

        while not self.is_over:
            await self._call(name, ("scan", 0), pages)
            await trio.sleep(SCAN_SECONDS)

    async def _read(self, client: Client, name: str, customer: int, random: Random) -> None:
        mode = ReadMode.LINEARIZABLE_HERE if random.random() < HERE_SHARE else ReadMode.LINEARIZABLE
        timeout_seconds = random.uniform(*TIMEOUT_SECONDS)

        async def read() -> tuple[object, int | None, int]:
            body = encode_read(ReadCustomer(customer))
            answer = await client.query(READ, body, mode=mode, timeout_s=timeout_seconds)
            record = decode_record(answer.result)
            return (record.last_order, record.orders, record.laptop_type), answer.op, 0

        await self._call(name, ("read", customer), read)

    async def _order(self, client: OrderClient, name: str, customer: int, random: Random) -> None:
        self._numbers[customer] += 1
        number = self._numbers[customer]
        order = Order(customer, number, LAPTOPS[random.randrange(len(LAPTOPS))])
        self.orders[customer, number] = order
        overwrite = random.random() < OVERWRITE_SHARE
        for _ in range(ATTEMPTS_MAX):
            attempt = await self._place(client, name, order, overwrite, random.uniform(*TIMEOUT_SECONDS))
            if order.receipt is not None or order.refused:
                return
            if not attempt.has_effect:
                await trio.sleep(RETRY_SECONDS)

    async def _place(
        self, client: OrderClient, name: str, order: Order, overwrite: bool, timeout_seconds: float
    ) -> Attempt:
        key = f"{order.customer}/{order.number}"

        async def place() -> tuple[object, int | None, int]:
            receipt = await client.place(
                order.customer,
                order.number,
                order.laptop,
                idempotency_key=key.encode(),
                overwrite=overwrite,
                timeout_s=timeout_seconds,
            )
            order.receipt = receipt
            if (receipt.customer_id, receipt.order_number, receipt.laptop_type) != (
                order.customer,
                order.number,
                order.laptop,
            ):
                return ("placed", "another order"), None, 0
            if receipt.duplicate:
                return DUPLICATE, None, 0  # Its receipt names the op of the first time.
            ahead_ns = receipt.timestamp - time.time_ns()
            order.dated.append(Dated(receipt.op, receipt.timestamp, ahead_ns))
            return PLACED, receipt.op, receipt.timestamp

        asked = ("place", order.customer, order.number, order.laptop, overwrite, key)
        attempt = await self._call(name, asked, place)
        if attempt.output is UNKNOWN and attempt.has_effect:
            order.is_unknown = True
        order.refused = attempt.rejected
        if order.receipt is not None:
            self.acknowledged += 1
            self._newest_acknowledged = max(self._newest_acknowledged, attempt.begin)
            self._news.set()
            self._news = trio.Event()
        return attempt

    async def _call(
        self, name: str, asked: tuple[object, ...], ask: Callable[[], Awaitable[tuple[object, int | None, int]]]
    ) -> Attempt:
        """Make a call and note what is certain about it: nothing, should it be cancelled."""
        begin = time.monotonic_ns()
        output: object = UNKNOWN
        op: int | None = None
        timestamp, told, rejected, has_effect = 0, "cancelled", "", True
        try:
            output, op, timestamp = await ask()
            told = ""
        except OrderRejectedError as rejection:
            told, rejected = "", rejection.reason
            output = ("rejected", rejected)
        except (NotSentError, SnapshotGoneError) as error:
            told, has_effect = error.code, False
        except NotAppliedError as error:
            told, has_effect = error.reason, False
        except (DeadlineError, SessionLostError, UnknownOutcomeError) as error:
            told = error.code
        finally:
            self.attempts.append(
                Attempt(
                    process=name,
                    begin=begin,
                    end=time.monotonic_ns(),
                    input=asked,
                    output=output,
                    has_effect=has_effect,
                    op=op,
                    timestamp=timestamp,
                    told=told,
                    rejected=rejected,
                )
            )
        return self.attempts[-1]


def calls_of(attempts: Iterable[Attempt], began_ns: int) -> list[Call]:
    """The history for the checker: what may have had an effect, with the cluster's own order as a hint.

    Its times are nanoseconds since `began_ns`.
    """
    kept = [attempt for attempt in attempts if attempt.has_effect]
    told = [
        (attempt.op, attempt.input[0] != "place", attempt.timestamp, attempt.begin, index)
        for index, attempt in enumerate(kept)
        if attempt.op is not None
    ]
    hints = {index: place for place, (*_, index) in enumerate(sorted(told))}
    return [
        Call(
            process=attempt.process,
            begin=attempt.begin - began_ns,
            end=None if attempt.output is UNKNOWN else attempt.end - began_ns,
            input=attempt.input,
            output=attempt.output,
            hint=hints.get(index),
        )
        for index, attempt in enumerate(kept)
    ]
