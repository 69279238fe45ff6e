"""The laptop orders as the subject of a run.

Customers place orders with rising numbers and read what they placed. Every order's text is unique, so that
the history can tell how often each was executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from sim.subject import Asked
from trio_pb.app.machine import StateMachine
from trio_pb.app.orders import (
    PLACE,
    READ,
    SCAN,
    Orders,
    PlaceOrder,
    ReadCustomer,
    ScanCustomers,
    encode_place,
    encode_read,
    encode_scan,
)

if TYPE_CHECKING:
    from sim.shape import WorkloadPlan

__all__ = ["ORDERS", "RECENT_ORDERS_MAX", "OrdersSubject"]

RECENT_ORDERS_MAX = 64  # Few, so that a run sees the oldest make room.
GHOST = 1 << 31  # A customer whom nobody asks about.


class _Customers:
    """The customers that one client speaks for."""

    def __init__(self, client: int, plan: WorkloadPlan) -> None:
        self._client = client
        self._plan = plan
        self._orders: dict[int, int] = {}  # Customer -> last order number used.

    def ask(self, token: int, bits: int) -> Asked:
        """Order, read or scan."""
        plan = self._plan
        kind = (bits & 0xFFFF) / 0x10000
        if kind < plan.scans:
            return Asked(SCAN, encode_scan(ScanCustomers(0, 1 + (bits >> 24) % 4)), is_read=True)
        chosen = (bits >> 16) % plan.customers
        customer = chosen if plan.shared else chosen + 1000 * (self._client + 1)
        if kind < plan.scans + plan.reads:
            here = (bits >> 32 & 0xFF) < plan.reads_here * 256
            return Asked(READ, encode_read(ReadCustomer(customer)), is_read=True, customer=customer, here=here)
        return self._order(token, customer, bits >> 32)

    def _order(self, token: int, customer: int, bits: int) -> Asked:
        number = self._orders.get(customer, 0) + 1
        self._orders[customer] = number
        overwrite = (bits & 0xFF) < self._plan.overwrites * 256
        key = token.to_bytes(8, "big") if (bits >> 8 & 0xFF) < self._plan.keys * 256 else None
        order = PlaceOrder(customer, number, f"laptop {token}", overwrite, key)
        return Asked(PLACE, encode_place(order), is_read=False, customer=customer)


@attrs.frozen
class OrdersSubject:
    """The shipped machine (`Subject`)."""

    scan_code: int | None = SCAN

    def new_machine(self) -> StateMachine:
        """No orders yet."""
        return Orders(recent_orders_max=RECENT_ORDERS_MAX)

    def asker(self, client: int, plan: WorkloadPlan) -> _Customers:
        """Return customers who order, read and scan as the plan says."""
        return _Customers(client, plan)

    def probe(self) -> Asked:
        """Read a customer."""
        return Asked(READ, encode_read(ReadCustomer(0)), is_read=True)

    def corrupt(self, machine: StateMachine) -> None:
        """Place an order that nobody made."""
        assert isinstance(machine, Orders)
        machine.place(encode_place(PlaceOrder(GHOST, 1, "ghost")), b"", 1)


ORDERS = OrdersSubject()
