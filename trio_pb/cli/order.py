"""`trio-pb order`: place, read, scan and import laptop orders."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import attrs
from cyclopts import App, Parameter

from trio_pb.cli.output import new_table, print_json, screen
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient

__all__ = ["ADDRESSES", "Addresses", "app"]

ADDRESSES = ("127.0.0.1:7400",)

app = App(name="order", help="Place, read, scan and import laptop orders.", help_format="plaintext")
app.command("trio_pb.cli.order_import:import_orders", name="import", help="Place the orders of a file.")

Addresses: TypeAlias = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]


@app.command
async def place(
    customer: int,
    order: int,
    laptop: str,
    /,
    *,
    key: str | None = None,
    overwrite: bool = False,
    addresses: Addresses = ADDRESSES,
    timeout: float = 10.0,
    json: bool = False,
) -> None:
    """Place one order.

    Args:
        customer: number of the customer, from 0.
        order: number of the order, above the customer's last one.
        laptop: which laptop, 1 to 64 bytes.
        key: idempotency key: a second order with it gets the receipt of the first and changes nothing.
        overwrite: accept any order number; it replaces the customer's last one.
        addresses: HOST:PORT of one or more replicas.
        timeout: seconds to wait for the receipt.
        json: print one JSON object.
    """
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
    customer: int, /, *, addresses: Addresses = ADDRESSES, timeout: float = 10.0, json: bool = False
) -> None:
    """Read the record of one customer.

    Args:
        customer: number of the customer; the last order of one without orders is -1.
        addresses: HOST:PORT of one or more replicas.
        timeout: seconds to wait for the answer.
        json: print one JSON object.
    """
    async with connect(addresses, timeout_s=timeout) as client:
        record = await OrderClient(client).read(customer)
    if json:
        print_json(attrs.asdict(record))
        return
    laptop = f", {record.laptop_type} at op {record.op}" if record.orders else ""
    print(f"customer {record.customer_id}: last order {record.last_order} of {record.orders}{laptop}")


@app.command
async def scan(
    *,
    start: int = 0,
    limit: int | None = None,
    addresses: Addresses = ADDRESSES,
    timeout: float = 10.0,
    json: bool = False,
) -> None:
    """List the records of many customers, all of them as of one moment.

    Args:
        start: first customer.
        limit: at most so many records.
        addresses: HOST:PORT of one or more replicas.
        timeout: seconds to wait for each page of the answer.
        json: print one JSON object per record, one on each line.
    """
    table = new_table("customer", "last order", "orders", "laptop", "op")
    async with connect(addresses, timeout_s=timeout) as client:
        async for record in OrderClient(client).scan(start, limit=limit):
            if json:
                print_json(attrs.asdict(record))
            else:
                fields = (record.customer_id, record.last_order, record.orders, record.laptop_type, record.op)
                table.add_row(*map(str, fields))
    if not json:
        screen().print(table)
