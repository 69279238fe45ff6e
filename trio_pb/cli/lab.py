"""`trio-pb lab`: the classic course assignment's command lines, over the real thing.

trio-pb lab server PORT ID NUM_PEERS [PEER_ID PEER_HOST PEER_PORT]...
trio-pb lab client HOST PORT NUM_CUSTOMERS NUM_ORDERS REQUEST_TYPE
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable
from pathlib import Path
from time import perf_counter
from typing import Annotated

import attrs
import trio
from cyclopts import App, Parameter

from trio_pb.app.orders import CustomerRecord
from trio_pb.cli.output import Flag, print_json
from trio_pb.cli.replica import run_replica
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.messages import ReadMode
from trio_pb.driver.addresses import format_address
from trio_pb.driver.client import connect
from trio_pb.driver.file_disk import FileDisk
from trio_pb.driver.order_client import OrderClient
from trio_pb.errors import ConfigError, DataDirectoryError
from trio_pb.storage.disk import run
from trio_pb.storage.identity import IDENTITY_FILE, read_identity
from trio_pb.testbed.formatting import cluster_id, format_replica

__all__ = ["app"]

app = App(name="lab", help="Run the classic course assignment's server and client.")

ID_MAX = 1023
PORT_MAX = 65535
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LAPTOP_TYPE = "laptop"  # The assignment's orders do not say.
SEGMENT_MIB = 16


# --- Server -----------------------------------------------------------------------------------------


@app.command
async def server(
    port: int,
    id: int,  # noqa: A002 -- the assignment's word; it is positional only.
    num_peers: int,
    /,
    *peers: Annotated[str, Parameter(name="PEER_ID PEER_HOST PEER_PORT")],
    data: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    listen: Annotated[str | None, Parameter(metavar="HOST")] = None,
    advertise: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None,
    json: Flag = False,
) -> None:
    """Run one server of a cluster.

    Servers that name the same set of ids form a cluster. The first start makes the data directory. A
    server that was killed is started again by the same command line, rejoins and catches up.

    Args:
        port: TCP port to listen on, 1 to 65535.
        id: Number of this server, 0 to 1023, different from all others.
        num_peers: How many other servers there are.
        peers: Three words for each other server.
        data: Data directory. By default .trio-pb/lab-PORT-ID.
        listen: Host to listen on. By default 127.0.0.1 if all peers are on this machine, else all interfaces.
        advertise: Where clients reach this server. By default its host name if peers are on other machines.
        json: Print one JSON object when it is ready.
    """
    _check_port(port)
    others = parse_peers(id, num_peers, peers)
    members = sorted({id, *others})
    directory = data if data is not None else Path(".trio-pb") / f"lab-{port}-{id}"
    # The set of ids is all that the servers know alike.
    cluster = cluster_id("lab " + " ".join(map(str, members)))
    await trio.to_thread.run_sync(open_directory, directory, cluster, id, members)
    local = all(host in LOOPBACK for host, _ in others.values())
    addresses = {peer: format_address(host, peer_port) for peer, (host, peer_port) in others.items()}
    await run_replica(
        directory,
        listen=format_address(listen or ("127.0.0.1" if local else "0.0.0.0"), port),
        advertise=advertise or format_address("127.0.0.1" if local else socket.gethostname(), port),
        peers=addresses,
        segment_mib=SEGMENT_MIB,
        json=json,
    )


def parse_peers(own: int, count: int, words: tuple[str, ...]) -> dict[int, tuple[str, int]]:
    """Read PEER_ID PEER_HOST PEER_PORT triples.

    Raises:
        ConfigError: their number, an id or a port is wrong.
    """
    if len(words) != 3 * count:
        raise ConfigError(
            f"NUM_PEERS is {count}: {3 * count} words must follow (PEER_ID PEER_HOST PEER_PORT), not {len(words)}"
        )
    peers: dict[int, tuple[str, int]] = {}
    for number, host, port in zip(words[::3], words[1::3], words[2::3], strict=True):
        peer = _number("PEER_ID", number, ID_MAX)
        if peer == own or peer in peers:
            raise ConfigError(f"PEER_ID {peer}: each server has an id of its own")
        peers[peer] = (host, _number("PEER_PORT", port, PORT_MAX))
    if not 0 <= own <= ID_MAX:
        raise ConfigError(f"ID {own}: must be 0 to {ID_MAX}")
    return peers


def _check_port(port: int) -> None:
    if not 1 <= port <= PORT_MAX:
        raise ConfigError(f"PORT {port}: must be 1 to {PORT_MAX}")


def _number(name: str, text: str, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > largest:
        raise ConfigError(f"{name} {text!r}: must be a number from 0 to {largest}")
    return int(text)


def open_directory(directory: Path, cluster: bytes, replica: int, members: list[int]) -> None:
    """Make the data directory, unless it is there; then it must be that of this server and cluster.

    Raises:
        ConfigError: too many members.
        DataDirectoryError: it belongs to another server or cluster.
    """
    if not (directory / IDENTITY_FILE).exists():
        format_replica(directory, cluster=cluster, replica=replica, members=members, segment_size=SEGMENT_MIB << 20)
        return
    disk = FileDisk(directory)
    try:
        identity = run(disk, read_identity())
    finally:
        disk.close()
    if (identity.cluster, identity.replica) != (cluster, replica):
        raise DataDirectoryError(
            f"{directory}: belongs to server {identity.replica} of another set of ids; name another one with --data"
        )


# --- Client -----------------------------------------------------------------------------------------


@attrs.define
class Figures:
    """What the assignment's client prints: microseconds and requests per second."""

    latencies: list[float] = attrs.Factory(list[float])  # Seconds.
    began: float = attrs.Factory(perf_counter)
    seconds: float = 0.0

    async def time(self, request: Awaitable[object]) -> None:
        """Carry out one request and note how long it took."""
        began = perf_counter()
        await request
        self.latencies.append(perf_counter() - began)

    def stop(self) -> None:
        """All requests are done."""
        self.seconds = perf_counter() - self.began

    def numbers(self) -> tuple[float, float, float, float]:
        """Mean, minimum and maximum latency in microseconds, requests per second; zeros without requests."""
        if not self.latencies:
            return 0.0, 0.0, 0.0, 0.0
        mean = sum(self.latencies) / len(self.latencies)
        return 1e6 * mean, 1e6 * min(self.latencies), 1e6 * max(self.latencies), len(self.latencies) / self.seconds


@app.command
async def client(
    host: str,
    port: int,
    num_customers: int,
    num_orders: int,
    request_type: int,
    /,
    *,
    json: Flag = False,
) -> None:
    """Send requests and print how fast they were.

    The last line has mean, minimum and maximum latency in microseconds and requests per second, tab separated.

    Args:
        host: Host of any server; reads and scans are answered by this one.
        port: Port of that server.
        num_customers: Customers who send at the same time.
        num_orders: Requests of each customer, one after the other.
        request_type: 1 places orders 0 to NUM_ORDERS - 1 for customers 0 to NUM_CUSTOMERS - 1. 2 has each of the
            customers read the records of customers 0 to NUM_ORDERS - 1. 3 is one scan of NUM_ORDERS records.
        json: Print one JSON object.
    """
    _check_port(port)
    if num_customers < 0 or num_orders < 0:
        raise ConfigError("NUM_CUSTOMERS and NUM_ORDERS must not be negative")
    if request_type not in (1, 2, 3):
        raise ConfigError(f"REQUEST_TYPE {request_type}: must be 1 (order), 2 (read) or 3 (scan)")
    address = format_address(host, port)
    records: list[CustomerRecord] = []
    async with connect([address], options=ClientOptions(read_from=address)) as connection:
        orders = OrderClient(connection)
        figures = Figures()
        if request_type == 3:
            await figures.time(_scan(orders, num_orders, records))
        else:
            async with trio.open_nursery() as nursery:
                for customer in range(num_customers):
                    work = _place_all if request_type == 1 else _read_all
                    nursery.start_soon(work, orders, customer, num_orders, figures)
        figures.stop()
    mean, least, most, rate = figures.numbers()
    if json:
        fields: dict[str, object] = {"mean_us": mean, "min_us": least, "max_us": most, "requests_per_s": rate}
        if request_type == 3:
            fields["records"] = [[record.customer_id, record.last_order] for record in records]
        print_json(fields)
        return
    for record in records:
        print(f"{record.customer_id}\t{record.last_order}")
    print(f"{mean:.3f}\t{least:.3f}\t{most:.3f}\t{rate:.3f}")


async def _place_all(orders: OrderClient, customer: int, count: int, figures: Figures) -> None:
    # A key of this run: should an answer be lost, the order is not placed a second time.
    run_key = secrets.token_bytes(12)
    for number in range(count):
        key = run_key + number.to_bytes(8, "big")
        await figures.time(orders.place(customer, number, LAPTOP_TYPE, overwrite=True, idempotency_key=key))


async def _read_all(orders: OrderClient, _customer: int, count: int, figures: Figures) -> None:
    for customer in range(count):
        await figures.time(orders.read(customer, mode=ReadMode.LINEARIZABLE_HERE))


async def _scan(orders: OrderClient, count: int, records: list[CustomerRecord]) -> None:
    records.extend([record async for record in orders.scan(limit=count, mode=ReadMode.LINEARIZABLE_HERE)])
