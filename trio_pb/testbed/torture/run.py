"""The whole torture: a cluster, its proxies, its customers and its adversary; then the judges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import trio

from sim.linearizability import write_history
from trio_pb.core.client_ports import ClientOptions
from trio_pb.core.messages import ReadMode
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.driver.read_only_disk import ReadOnlyDisk
from trio_pb.errors import ConfigError, TrioPbError
from trio_pb.storage.disk import run
from trio_pb.storage.inspect import Survey, survey
from trio_pb.testbed.cluster import CLEAN_UP_SECONDS_MAX, LocalCluster
from trio_pb.testbed.ports import free_ports
from trio_pb.testbed.torture import judge
from trio_pb.testbed.torture.deck import Pace, uses_needed
from trio_pb.testbed.torture.judge import Held, Verdict
from trio_pb.testbed.torture.nemesis import Action, Calm, Nemesis, Watcher
from trio_pb.testbed.torture.proxy import Network
from trio_pb.testbed.torture.recording import Attempt, Customers, calls_of

__all__ = ["Result", "torture"]

REPLICAS = 3
CHECKPOINT_INTERVAL = 128  # Ops: checkpoints every second or so, and who is away for a few copies state.
MODULE = "trio_pb.testbed.torture.replica"
CLIENT_COUNT = 6
TASKS_PER_CLIENT = 8
SETTLE_SECONDS = 1.0  # Of load before the first fault.
FINISH_SECONDS_MAX = 60.0  # For orders that have begun.
NEVER_SAID = ("Traceback", "AssertionError", "DIVERGED")  # By a sound replica, whatever happens to its machine.


@attrs.frozen(kw_only=True)
class Result:
    """What was done, and what came of it. Times in seconds since the load began."""

    seed: int
    seconds: float
    verdicts: Sequence[Verdict]
    actions: Sequence[Action]
    calms: Sequence[Calm]
    attempts: Sequence[Attempt]
    began_ns: int  # Of the monotonic clock, as the times of attempts.
    placed: int  # Orders that were acknowledged.
    asked: int  # Orders in all.
    checked_seconds: float  # Judging took so long.

    @property
    def ok(self) -> bool:
        """Whether all holds."""
        return all(verdict.holds for verdict in self.verdicts)


async def torture(
    directory: Path, *, seed: int, seconds: float, rate: float, customers: int, pace: Pace, watcher: Watcher
) -> Result:
    """Torture a new cluster in `directory` and judge it. What replicas and clients said stays there.

    Raises:
        ConfigError: the numbers make no sense.
        TrioPbError: there was no cluster to begin with.
    """
    if seconds <= 0 or rate <= 0 or customers < 1:
        raise ConfigError("a torture needs time, a rate of orders, and a customer")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(REPLICAS)]
    network = Network(addresses, seed)

    def flags_of(replica: int) -> list[str]:
        routes = [f"{peer}=127.0.0.1:{network.link(replica, peer).port}" for peer in range(REPLICAS) if peer != replica]
        return ["--checkpoint-interval", str(CHECKPOINT_INTERVAL), "--route", *routes]

    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        cluster = LocalCluster(directory, REPLICAS, "torture", flags=flags_of, module=MODULE, addresses=addresses)
        try:
            result = await _Torture(cluster, network, seed, customers, rate, pace, watcher).run(seconds)
        finally:
            with trio.move_on_after(CLEAN_UP_SECONDS_MAX, shield=True):
                await cluster.clean_up()
        nursery.cancel_scope.cancel()
    return result


class _Torture:
    """One run."""

    def __init__(
        self,
        cluster: LocalCluster,
        network: Network,
        seed: int,
        customers: int,
        rate: float,
        pace: Pace,
        watcher: Watcher,
    ) -> None:
        self._cluster = cluster
        self._network = network
        self._seed = seed
        self._watcher = watcher
        self._customers = Customers(customers=customers, rate=rate, seed=seed)
        self._nemesis = Nemesis(cluster, network, self._customers, seed, pace, watcher)

    async def run(self, seconds: float) -> Result:
        """Everything."""
        cluster, customers, nemesis = self._cluster, self._customers, self._nemesis
        await cluster.format()
        await nemesis.start_all()
        await cluster.wait_born()
        await cluster.wait_primary()
        self._watcher.on_round(f"{REPLICAS} replicas are up; seed {self._seed}")
        began_ns = time.monotonic_ns()
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    connect(
                        cluster.addresses,
                        options=ClientOptions(read_from=cluster.addresses[number % REPLICAS], seed=self._seed),
                        open_stream=self._network.dial_as_client,
                    )
                )
                for number in range(CLIENT_COUNT)
            ]
            with trio.CancelScope() as patience:
                async with trio.open_nursery() as nursery:
                    for number, client in enumerate(clients):
                        for task in range(TASKS_PER_CLIENT):
                            nursery.start_soon(customers.work, client, f"client {number}.{task}")
                        nursery.start_soon(customers.scan, client, f"client {number}.scan")
                    await trio.sleep(SETTLE_SECONDS)
                    await nemesis.run(began_ns, seconds)
                    customers.is_over = True
                    patience.deadline = trio.current_time() + FINISH_SECONDS_MAX
        ended = (time.monotonic_ns() - began_ns) / 1e9
        self._watcher.on_round(f"the faults are over; {customers.acknowledged} orders are acknowledged; judging")
        return await self._judge(ended, began_ns, uses_needed(seconds))

    async def _judge(self, seconds: float, began_ns: int, uses: int) -> Result:
        cluster, customers, nemesis = self._cluster, self._customers, self._nemesis
        orders = customers.orders
        held: list[Held] = []
        troubles: list[str] = []
        try:
            statuses = await cluster.wait_agreed()
        except TrioPbError as error:
            troubles.append(str(error))
            statuses = await cluster.statuses()
        for replica in statuses:
            try:
                held.append(await self._ask(replica))
            except TrioPbError as error:
                troubles.append(f"replica {replica} does not tell what it has: {error}")
        for replica in cluster.running:
            code = await cluster.stop(replica)
            if code:
                troubles.append(f"replica {replica} stopped with exit code {code} when it was asked to")
        troubles += [said for replica in cluster.replicas for said in _never_said(cluster, replica)]
        surveys = {replica: await self._survey(replica) for replica in cluster.replicas}
        calls = calls_of(customers.attempts, began_ns)
        write_history(cluster.directory / "history.jsonl", calls)
        judged = time.monotonic()
        history = await trio.to_thread.run_sync(judge.judge_history, calls)
        checked_seconds = time.monotonic() - judged
        verdicts = (
            history,
            judge.judge_losses(orders, held, REPLICAS),
            judge.judge_duplicates(orders, held, REPLICAS),
            judge.judge_receipts(orders, held, REPLICAS),
            judge.judge_states(statuses, REPLICAS),
            judge.judge_logs(surveys),
            judge.judge_progress(nemesis.calms),
            judge.judge_processes(nemesis.stopped, troubles),
            judge.judge_faults(nemesis.actions, uses),
        )
        return Result(
            seed=self._seed,
            seconds=seconds,
            verdicts=verdicts,
            actions=nemesis.actions,
            calms=nemesis.calms,
            attempts=customers.attempts,
            began_ns=began_ns,
            placed=sum(order.receipt is not None for order in orders.values()),
            asked=len(orders),
            checked_seconds=checked_seconds,
        )

    async def _ask(self, replica: int) -> Held:
        """Ask this replica, and no other, for all that it has."""
        address = self._cluster.addresses[replica]
        async with connect([address], options=ClientOptions(read_from=address)) as client:
            orders = OrderClient(client)
            here = ReadMode.LINEARIZABLE_HERE
            records = [record async for record in orders.scan(mode=here)]
            pages = [page async for page in orders.recent(mode=here)]
        return Held(
            replica=replica,
            records=records,
            recent=[order for page in pages for order in page.orders],
            orders=pages[-1].total,
        )

    async def _survey(self, replica: int) -> Survey:
        disk = ReadOnlyDisk(self._cluster.data(replica))
        return await trio.to_thread.run_sync(run, disk, survey())


def _never_said(cluster: LocalCluster, replica: int) -> list[str]:
    """Lines of its log that no sound replica says."""
    lines = cluster.process(replica).log.read_text(errors="replace").splitlines()
    return [f"replica {replica} said: {line}" for line in lines if any(word in line for word in NEVER_SAID)]
