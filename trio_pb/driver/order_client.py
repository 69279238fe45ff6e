"""The laptop orders as calls: what a program that orders laptops needs, and nothing of the protocol.

Engineer and admin are tags of the work at the replica that answered, never part of the replicated
state: the connection that served the order, and the replica.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import attrs

from trio_pb.app.machine import RejectedError
from trio_pb.app.order_messages import (
    PLACE,
    READ,
    RECENT,
    SCAN,
    CustomerRecord,
    PlaceOrder,
    ReadCustomer,
    ReadRecent,
    RecentPage,
    ScanCustomers,
    ScanPage,
    decode_receipt,
    decode_recent_page,
    decode_record,
    decode_scan_page,
    encode_place,
    encode_read,
    encode_recent,
    encode_scan,
)
from trio_pb.core.messages import ReadMode
from trio_pb.driver.client import Client
from trio_pb.errors import RemoteProtocolError, TrioPbError

__all__ = ["OrderClient", "OrderRejectedError", "PlacedOrder"]

PAGE_RECORDS = 1000

T = TypeVar("T")
P = TypeVar("P", bound="ScanPage | RecentPage")


class OrderRejectedError(TrioPbError):
    """The order service understood the request and refused it; nothing changed.

    `reason` is its stable name (such as `bad_field`), `field` the field at fault.
    """

    code = "order_rejected"

    def __init__(self, reason: str, field: str, text: str) -> None:
        super().__init__(f"{reason} ({field}): {text}")
        self.reason = reason
        self.field = field


@attrs.frozen(kw_only=True)
class PlacedOrder:
    """The laptop info of the classic assignment, and the receipt."""

    customer_id: int
    order_number: int
    laptop_type: str
    engineer_id: int  # Tag of the connection that served it.
    admin_id: int  # Replica that answered.
    op: int  # Where the order stands in the one order of all: for a duplicate, that of the first time.
    view: int
    timestamp: int  # Nanoseconds since 1970.
    replayed: bool  # A repetition by this client found it done.
    duplicate: bool  # Its idempotency key was known: it had been placed before.


class OrderClient:
    """Laptop orders over a `Client`. All times in seconds; errors as those of `Client`, and rejections."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def place(
        self,
        customer_id: int,
        order_number: int,
        laptop_type: str,
        *,
        idempotency_key: bytes | None = None,
        overwrite: bool = False,
        lane: int | None = None,
        timeout_s: float | None = None,
    ) -> PlacedOrder:
        """Place an order. With an idempotency key it is safe to try again after any error.

        Orders with the same `lane` are placed in the order of their calls.

        Raises:
            OrderRejectedError: refused, for example because the customer has a later order already.
        """
        order = PlaceOrder(customer_id, order_number, laptop_type, overwrite, idempotency_key)
        receipt = await self.client.command(PLACE, _encode(encode_place, order), lane=lane, timeout_s=timeout_s)
        placed = _decode(decode_receipt, receipt.result)
        return PlacedOrder(
            customer_id=placed.customer_id,
            order_number=placed.order_number,
            laptop_type=placed.laptop_type,
            engineer_id=receipt.connection,
            admin_id=receipt.replica,
            op=placed.op,
            view=receipt.view,
            timestamp=receipt.timestamp,
            replayed=receipt.replayed,
            duplicate=placed.duplicate,
        )

    async def read(
        self,
        customer_id: int,
        *,
        min_op: int = 0,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> CustomerRecord:
        """Return a customer's record; without any order its `last_order` is NO_ORDER (-1).

        Raises:
            OrderRejectedError: no such customer id is possible.
        """
        body = _encode(encode_read, ReadCustomer(customer_id))
        answer = await self.client.query(READ, body, min_op=min_op, mode=mode, timeout_s=timeout_s)
        return _decode(decode_record, answer.result)

    def scan(
        self,
        start: int = 0,
        *,
        limit: int | None = None,
        page_records: int = PAGE_RECORDS,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncIterator[CustomerRecord]:
        """Iterate over the records of customers from `start` on, at most `limit`, all as of one op.

        `timeout_s` bounds each page. The errors are raised by the iteration.

        Raises:
            OrderRejectedError: no such start or page size is possible.
            SnapshotGoneError: the scan took so long that its snapshot was dropped; start again.
        """
        if limit is not None:
            page_records = max(1, min(page_records, limit))
        pages = self.scan_pages(start, page_records=page_records, mode=mode, timeout_s=timeout_s)
        return _Records(pages, limit)

    def scan_pages(
        self,
        start: int = 0,
        *,
        page_records: int = PAGE_RECORDS,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncIterator[ScanPage]:
        """Iterate over the pages of a scan, with the op that all of them show; errors as for `scan`."""
        body = _encode(encode_scan, ScanCustomers(start, page_records))
        return _Pages(self.client, SCAN, body, decode_scan_page, mode, timeout_s)

    def recent(
        self,
        position: int = 0,
        *,
        page_orders: int = PAGE_RECORDS,
        mode: ReadMode = ReadMode.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncIterator[RecentPage]:
        """Iterate over pages of the most recent orders from `position` on, in the order of their placing.

        All are as of one op; errors as for `scan`.
        """
        body = _encode(encode_recent, ReadRecent(position, page_orders))
        return _Pages(self.client, RECENT, body, decode_recent_page, mode, timeout_s)


class _Pages(Generic[P]):
    """The pages of one scan, asked for one by one.

    A class, since a generator that is left before its end would want to be closed by its caller.
    """

    def __init__(
        self,
        client: Client,
        code: int,
        body: bytes,
        decode: Callable[[bytes], P],
        mode: ReadMode,
        timeout_s: float | None,
    ) -> None:
        self._client = client
        self._code = code
        self._body = body
        self._decode = decode
        self._mode = mode
        self._timeout_s = timeout_s
        self._cursor: bytes | None = b""  # None: the last page was given.
        self._op: int | None = None

    def __aiter__(self) -> _Pages[P]:
        return self

    async def __anext__(self) -> P:
        if self._cursor is None:
            raise StopAsyncIteration
        answer = await self._client.query(
            self._code, self._body, mode=self._mode, cursor=self._cursor, timeout_s=self._timeout_s
        )
        page = _decode(self._decode, answer.result)
        if self._op not in (None, page.op):
            raise RemoteProtocolError(f"a page of op {page.op} in a scan of op {self._op}")
        self._op = page.op
        self._cursor = answer.cursor or None
        return page


class _Records:
    """The records of a scan, without the bounds of its pages."""

    def __init__(self, pages: AsyncIterator[ScanPage], limit: int | None) -> None:
        self._pages = pages
        self._left = limit
        self._records: deque[CustomerRecord] = deque()

    def __aiter__(self) -> _Records:
        return self

    async def __anext__(self) -> CustomerRecord:
        if self._left == 0:
            raise StopAsyncIteration
        while not self._records:
            page = await anext(self._pages)
            self._records.extend(page.records)
        if self._left is not None:
            self._left -= 1
        return self._records.popleft()


def _encode(encode: Callable[[T], bytes], request: T) -> bytes:
    """Encode a request; what no encoding exists for is refused here as the service would."""
    try:
        return encode(request)
    except (TypeError, ValueError, OverflowError) as error:
        raise OrderRejectedError("bad_field", "body", str(error)) from error


def _decode(decode: Callable[[bytes], T], result: bytes) -> T:
    try:
        return decode(result)
    except RejectedError as rejection:
        raise OrderRejectedError(rejection.name, rejection.field, rejection.text) from rejection
