"""Importing a file while the import itself is killed: run again it goes on and places nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import cast

import pytest
import trio

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import LocalCluster, local_cluster
from trio_pb.testbed.process import replica_command

pytestmark = pytest.mark.process

SECONDS_MAX = 60
CUSTOMERS = 20
ORDERS = 30


def write_orders(path: Path) -> None:
    """A file of CUSTOMERS x ORDERS orders, customers interleaved."""
    lines = ["customer_id,order_number,laptop_type"]
    lines += [f"{customer},{number},thinkpad" for number in range(ORDERS) for customer in range(CUSTOMERS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


async def import_file(cluster: LocalCluster, path: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Import to the end; exit code and what --json says."""
    command = replica_command("order", "import", str(path), *options, "--json", "--addresses", *cluster.addresses)
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, json.loads(done.stdout)


async def expect_all_placed_once(cluster: LocalCluster) -> None:
    """Each customer has every order once."""
    async with connect(cluster.addresses) as client:
        records = [record async for record in OrderClient(client).scan()]
    assert [(record.customer_id, record.orders, record.last_order) for record in records] == [
        (customer, ORDERS, ORDERS - 1) for customer in range(CUSTOMERS)
    ]


async def wait_placed(cluster: LocalCluster, count: int) -> None:
    """Wait until so many orders are there."""
    async with connect(cluster.addresses) as client:
        orders = OrderClient(client)
        while sum([record.orders async for record in orders.scan()]) < count:  # noqa: ASYNC110 -- Only asking tells.
            await trio.sleep(0.01)


def _heed_interrupts() -> None:
    """Where the tests run in the background of a shell, children would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
async def test_interrupted_import_goes_on(tmp_path: Path, end: signal.Signals) -> None:
    """The import is ended in the middle; the second run finishes it, the third finds nothing to do."""
    path = tmp_path / "orders.csv"
    write_orders(path)
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            command = replica_command("order", "import", str(path), "--rate", "100", "--addresses", *cluster.addresses)
            process = await trio.lowlevel.open_process(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_heed_interrupts
            )
            await wait_placed(cluster, 50)
            process.send_signal(end)
            assert await process.wait() == (-signal.SIGKILL if end is signal.SIGKILL else 130)

            code, counts = await import_file(cluster, path)
            assert code == 0, counts
            assert counts["rejected"] == counts["superseded"] == 0
            await expect_all_placed_once(cluster)

            code, counts = await import_file(cluster, path)
            assert (code, counts["placed"], counts["done_before"]) == (0, 0, 1 + CUSTOMERS * ORDERS)

            (tmp_path / "orders.csv.progress").unlink()
            code, counts = await import_file(cluster, path)
            assert (code, counts["placed"], counts["already_placed"]) == (0, 0, CUSTOMERS * ORDERS)
            await expect_all_placed_once(cluster)


async def test_bad_lines_are_named_and_the_rest_is_placed(tmp_path: Path) -> None:
    """Each line that is no order, and each that comes too late, is reported with its number."""
    path = tmp_path / "orders.jsonl"
    lines = [
        '{"customer_id": 1, "order_number": 5, "laptop_type": "xps"}',
        '{"customer_id": 1, "order_number": "6", "laptop_type": "xps"}',
        "not an order",
        "",
        '{"customer_id": 1, "order_number": 3, "laptop_type": "xps"}',
        '{"customer_id": -1, "order_number": 3, "laptop_type": "xps"}',
        '{"customer_id": 1, "order_number": 7, "laptop_type": "xps"}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    with trio.fail_after(SECONDS_MAX):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            code, counts = await import_file(cluster, path)
            async with connect(cluster.addresses) as client:
                record = await OrderClient(client).read(1)
    assert code == 1
    assert (counts["placed"], counts["superseded"], counts["rejected"]) == (2, 1, 3)
    problems = counts["problems"]
    assert isinstance(problems, list)
    found = [(problem["line"], problem["kind"]) for problem in cast("list[dict[str, object]]", problems)]
    # Lanes run side by side: the order of the reports is not that of the lines.
    assert sorted(found, key=str) == [
        (2, "rejected"),
        (3, "rejected"),
        (5, "superseded"),
        (6, "rejected"),
    ]
    assert (record.last_order, record.orders) == (7, 2)
