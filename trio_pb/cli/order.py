"""`trio-pb order`: place, read, scan and import laptop orders."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import attrs
from cyclopts import App, Parameter

from trio_pb.app.order_messages import ID_MAX
from trio_pb.cli.output import Flag, new_table, print_json, print_table
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import ConfigError

__all__ = ["ADDRESSES", "Addresses", "app"]

ADDRESSES = ("127.0.0.1:7400",)

app = App(name="order", help="Place, read, scan and import laptop orders.")
app.command("trio_pb.cli.order_import:import_orders", name="import")

Addresses: TypeAlias = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, metavar="HOST:PORT", show_default=lambda value: " ".join(value))
]
Seconds: TypeAlias = Annotated[float, Parameter(metavar="SECONDS")]

TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MAX = 86_400.0


@app.command
async def place(
    customer: int,
    order: int,
    laptop: str,
    /,
    *,
    key: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    overwrite: Flag = False,
    addresses: Addresses = ADDRESSES,
    timeout: Seconds = TIMEOUT_SECONDS,
    json: Flag = False,
) -> None:
    """Place one order.

    Prints the receipt. Exit code 1 if the order was refused: it was not placed. 3 if there was no answer:
    it may have been placed, and only with --key is it safe to try again.

    Args:
        customer: Number of the customer, from 0.
        order: Number of the order, above the customer's last one.
        laptop: Which laptop, 1 to 64 bytes.
        key: Idempotency key: a second order with it gets the receipt of the first and changes nothing.
        overwrite: Accept any order number; it replaces the customer's last one.
        addresses: One or more replicas; the client finds the primary.
        timeout: How long to wait for the receipt.
        json: Print one JSON object.
    """
    check_timeout(timeout)
    _check_number("CUSTOMER", customer)
    _check_number("ORDER", order)
    async with connect(addresses, timeout_s=timeout) as client:
        receipt = await OrderClient(client).place(
            customer,
            order,
            laptop,
            overwrite=overwrite,
            idempotency_key=key.encode() if key is not None else None,
        )
    if json:
        print_json(attrs.asdict(receipt))
        return
    what = "was placed already" if receipt.duplicate else "placed"
    print(
        f"order {receipt.order_number} of customer {receipt.customer_id}, {receipt.laptop_type}: {what} "
        f"at op {receipt.op} (view {receipt.view}, engineer {receipt.engineer_id}, admin {receipt.admin_id})"
    )


@app.command
async def read(
    customer: int, /, *, addresses: Addresses = ADDRESSES, timeout: Seconds = TIMEOUT_SECONDS, json: Flag = False
) -> None:
    """Read the record of one customer.

    Args:
        customer: Number of the customer; the last order of one without orders is -1.
        addresses: One or more replicas; the client finds the primary.
        timeout: How long to wait for the answer.
        json: Print one JSON object.
    """
    check_timeout(timeout)
    _check_number("CUSTOMER", customer)
    async with connect(addresses, timeout_s=timeout) as client:
        record = await OrderClient(client).read(customer)
    if json:
        print_json(attrs.asdict(record))
        return
    if not record.orders:
        print(f"customer {record.customer_id}: no orders (last order {record.last_order})")
        return
    count = "1 order" if record.orders == 1 else f"{record.orders} orders"
    print(
        f"customer {record.customer_id}: last order {record.last_order}, {record.laptop_type}, at op {record.op}; "
        f"{count} in all"
    )


@app.command
async def scan(
    *,
    start: int = 0,
    limit: int | None = None,
    addresses: Addresses = ADDRESSES,
    timeout: Seconds = TIMEOUT_SECONDS,
    json: Flag = False,
) -> None:
    """List the records of many customers.

    They are in the order of customer numbers, and all of them as of one moment.

    Args:
        start: First customer.
        limit: At most so many records; by default all.
        addresses: One or more replicas; the client finds the primary.
        timeout: How long to wait for each page of the answer.
        json: Print one JSON object per record, one on each line.
    """
    check_timeout(timeout)
    _check_number("--start", start)
    if limit is not None:
        _check_number("--limit", limit)
    table = new_table("customer", "last order", "orders", "laptop", "op")
    async with connect(addresses, timeout_s=timeout) as client:
        async for record in OrderClient(client).scan(start, limit=limit):
            if json:
                print_json(attrs.asdict(record))
            else:
                fields = (record.customer_id, record.last_order, record.orders, record.laptop_type, record.op)
                table.add_row(*map(str, fields))
    if not json:
        print_table(table)


def check_timeout(seconds: float) -> None:
    """Refuse a time-out that nothing can be waited for.

    Raises:
        ConfigError: it is one.
    """
    if not 0 < seconds <= TIMEOUT_SECONDS_MAX:  # Also false for "nan".
        raise ConfigError(f"--timeout {seconds:g}: must be above 0 and at most {TIMEOUT_SECONDS_MAX:g} seconds")


def _check_number(name: str, number: int) -> None:
    if not 0 <= number <= ID_MAX:
        raise ConfigError(f"{name} {number}: must be a whole number from 0 to 2^63-1")
