"""Measure points of load on one cluster: each several times, and never while the machine does something else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from trio_pb.errors import TrioPbError
from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.load.customers import REQUEST_SECONDS_MAX, Part
from trio_pb.testbed.load.plan import LoadPlan
from trio_pb.testbed.load.tally import Tally
from trio_pb.testbed.load.usage import Usage, UsageMeter

__processes_ = ["LoadError", "Measured", "measure", "measure_point"]

READY_SECONDS_MAX = 60.0
END_SECONDS_MAX = REQUEST_SECONDS_MAX + 20.0
ATTEMPTS_MAX = 4  # Of one run, while others use the machine.


class LoadError(TrioPbError):
    """A process of customers failed or hung; there are no figures."""

    code = "load"


@attrs.frozen(kw_only=True)
class Measured:
    """One run."""

    plan: LoadPlan
    tally: Tally
    usage: Usage
    primary: int
    views: int  # Changes of the view while it ran: none is to be, nobody died.
    thrown_away: int = 0  # Runs before it, because others used the machine.

    @property
    def per_second(self) -> float:
        """Answers."""
        return self.tally.count / self.plan.seconds

    @property
    def cpu_ms_per_1000(self) -> dict[str, float]:
        """Processor time in milliseconds for a thousand answers: of each replica, and of the customers."""
        thousands = self.tally.count / 1000
        return {name: 1e3 * spent / thousands if thousands else 0.0 for name, spent in self.usage.cpu_seconds.items()}


async def measure_point(
    cluster: LocalCluster, plan: LoadPlan, runs: int, told: Callable[[Measured], None]
) -> list[Measured]:
    """Run it `runs` times; return them, slowest first. `told` is called after each, those thrown away as well."""
    found: list[Measured] = []
    thrown_away = 0
    while len(found) < runs:
        measured = attrs.evolve(await measure(cluster, plan), thrown_away=thrown_away)
        told(measured)
        if measured.usage.is_quiet or thrown_away + 1 == ATTEMPTS_MAX:
            found.append(measured)
            thrown_away = 0
        else:
            thrown_away += 1
    return sorted(found, key=lambda run: run.per_second)


async def measure(cluster: LocalCluster, plan: LoadPlan) -> Measured:
    """Run it once.

    Raises:
        LoadError: a process of customers failed.
    """
    primary = await cluster.wait_primary()
    before = await cluster.status(primary)
    # The primary first: a client that is sent on has spent a round trip, and counts it in none of its requests.
    addresses = tuple(sorted(cluster.addresses, key=lambda address: address != cluster.addresses[primary]))
    tally = Tally()
    parts = [Part(plan=part, addresses=addresses, first_customer=at) for at, part in _split(plan)]
    async with _customers(parts) as processes:
        for process in processes:
            await process.begin()
        await trio.sleep(plan.warm_up_seconds)
        watched = [(f"replica {replica}", cluster.process(replica).pid) for replica in cluster.running]
        watched += [(f"customers {number}", process.pid) for number, process in enumerate(processes)]
        meter = UsageMeter(watched)
        await trio.sleep(plan.seconds)
        usage = meter.read()
        for process in processes:
            tally.add(await process.result())
    after = await cluster.status(await cluster.wait_primary())
    views = after.view - before.view if before is not None and after is not None else 0
    return Measured(plan=plan, tally=tally, usage=usage, primary=primary, views=views)


def _split(plan: LoadPlan) -> Iterator[tuple[int, LoadPlan]]:
    """The first customer, and the plan, of each process."""
    first = 0
    for process in range(plan.processes):
        connections = _share(plan.connections, plan.processes, process)
        customers = _share(plan.customers, plan.processes, process)
        rate = None if plan.rate is None else plan.rate / plan.processes
        yield first, attrs.evolve(plan, processes=1, connections=connections, customers=customers, rate=rate)
        first += customers


def _share(total: int, parts: int, part: int) -> int:
    return total * (part + 1) // parts - total * part // parts


# --- Processes of customers -----------------------------------------------------------------------


class _Customers:
    """One process."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._read = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line)

    async def hear(self, seconds_max: float) -> str:
        """The next line that it says.

        Raises:
            LoadError: it ended, or says nothing.
        """
        assert self._process.stdout is not None
        with trio.move_on_after(seconds_max):
            while b"\n" not in self._read:
                chunk = await self._process.stdout.receive_some()
                if not chunk:
                    raise LoadError(f"a process of customers ended with exit code {await self._process.wait()}")
                self._read += chunk
            line, _, self._read = self._read.partition(b"\n")
            return line.decode()
        raise LoadError(f"a process of customers said nothing for {seconds_max:.0f} s")

    async def begin(self) -> None:
        await self.say(b"go\n")

    async def result(self) -> Any:
        """What it saw, as `Tally.fields`."""
        return json.loads(await self.hear(END_SECONDS_MAX))


@asynccontextmanager
async def _customers(parts: list[Part]) -> AsyncGenerator[list[_Customers]]:
    """Processes that are connected and ready; none is left."""
    running: list[trio.Process] = []
    try:
        found: list[_Customers] = []
        for part in parts:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "trio_pb.testbed.load.customers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            running.append(process)
            customers = _Customers(process)
            await customers.say(part.encode())
            found.append(customers)
        for customers in found:
            await customers.hear(READY_SECONDS_MAX)
        yield found
    finally:
        with trio.CancelScope(shield=True):
            for process in running:
                if process.poll() is None:
                    process.kill()
                await process.wait()
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.aclose()
                await process.stdout.aclose()
