"""The course assignment's command lines, as its hand-out would use them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trio_pb.testbed.ports import free_ports
from trio_pb.testbed.process import ReplicaProcess, replica_command
from trio_pb.testbed.status import ask_status

pytestmark = pytest.mark.process

SECONDS_MAX = 60
IDS: tuple[int, ...] = (7, 1023, 0)  # In no order, with gaps, up to the largest.


class Lab:
    """Three servers started by hand, each with a command line of its own."""

    def __init__(self, directory: Path) -> None:
        self.ports = dict(zip(IDS, free_ports(len(IDS)), strict=True))
        self.servers: dict[int, ReplicaProcess] = {}
        for own in IDS:
            words = [str(self.ports[own]), str(own), str(len(IDS) - 1)]
            for peer in IDS:
                if peer != own:
                    words += [str(peer), "127.0.0.1", str(self.ports[peer])]
            command = replica_command("lab", "server", *words, "--data", str(directory / f"server-{own}"))
            self.servers[own] = ReplicaProcess(f"server {own}", command, directory / f"server-{own}.log")

    async def start(self, server: int) -> None:
        """Start one server and wait until it answers."""
        await self.servers[server].start()
        while await ask_status(f"127.0.0.1:{self.ports[server]}", 1) is None:
            self.servers[server].check()
            await trio.sleep(0.02)

    async def client(self, server: int, customers: int, orders: int, request_type: int) -> list[list[str]]:
        """Run the client against one server and return the words of each line."""
        words = ["127.0.0.1", str(self.ports[server]), str(customers), str(orders), str(request_type)]
        done = await trio.run_process(replica_command("lab", "client", *words), capture_stdout=True)
        return [line.split("\t") for line in done.stdout.decode().splitlines()]

    async def digests_at_one_op(self) -> set[bytes]:
        """The state digests of all servers, once they stand at the same op."""
        while True:
            statuses = [await ask_status(f"127.0.0.1:{port}", 5) for port in self.ports.values()]
            found = [status for status in statuses if status is not None]
            if len(found) == len(IDS) and len({status.state_op for status in found}) == 1:
                return {status.state_digest for status in found}
            await trio.sleep(0.02)


@asynccontextmanager
async def lab(directory: Path) -> AsyncGenerator[Lab, None]:
    """Three servers that are up; killed at the end."""
    servers = Lab(directory)
    with trio.fail_after(SECONDS_MAX):
        try:
            async with trio.open_nursery() as nursery:
                for server in IDS:
                    nursery.start_soon(servers.start, server)
            yield servers
        finally:
            with trio.CancelScope(shield=True):
                for process in servers.servers.values():
                    if process.running:
                        await process.kill()


def expect_figures(words: list[str]) -> None:
    """Mean, minimum and maximum latency and the throughput, three decimals each."""
    assert [word.partition(".")[2].isdigit() and len(word.partition(".")[2]) for word in words] == [3, 3, 3, 3]
    mean, least, most, rate = map(float, words)
    assert 0 < least <= mean <= most
    assert rate > 0


async def test_orders_reads_and_scans_survive_a_killed_server(tmp_path: Path) -> None:
    """Orders, a server killed and started again by the same command line, then reads and scans at each server."""
    async with lab(tmp_path) as servers:
        (figures,) = await servers.client(7, 20, 5, 1)
        expect_figures(figures)

        await servers.servers[1023].kill()
        (figures,) = await servers.client(7, 20, 10, 1)  # Lower numbers again: they overwrite.
        expect_figures(figures)
        await servers.start(1023)

        (figures,) = await servers.client(1023, 2, 20, 2)
        expect_figures(figures)
        for server in IDS:
            *records, figures = await servers.client(server, 1, 20, 3)
            assert records == [[str(customer), "9"] for customer in range(20)]
            expect_figures(figures)
        assert len(await servers.digests_at_one_op()) == 1
