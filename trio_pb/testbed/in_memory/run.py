"""Run one seed of the driver from its first event to its last check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from time import process_time

import attrs
import trio
from trio.testing import MockClock

from sim.choices import Choices, Key
from sim.frames import telling_frames
from sim.oracles.facts import Violation, violate
from sim.oracles.linearizability import check_linearizability
from sim.oracles.op_order import check_history
from sim.run import Failure
from sim.shape import address_of
from sim.workload import Operation, Workload
from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.codec.wire import WIRE_VERSION, Message, encode_client
from trio_pb.core.messages import Greet, StatusGet, StatusReport
from trio_pb.driver.incoming import Incoming
from trio_pb.driver.recording import first_difference
from trio_pb.testbed.in_memory.cluster import MemoryCluster, first_leaf
from trio_pb.testbed.in_memory.faults import STRANGER_SECONDS, Faults
from trio_pb.testbed.in_memory.receipts import check_receipts
from trio_pb.testbed.in_memory.repeatable import run_repeatably
from trio_pb.testbed.in_memory.shape import DriverShape, draw_driver_shape
from trio_pb.testbed.in_memory.streams import KEEPALIVE_US
from trio_pb.testbed.in_memory.timeline import SECOND

__all__ = ["DriverReport", "run_driver", "run_driver_seed"]

FAULT_PHASE_US = 20 * SECOND
CONVERGE_US = 60 * SECOND
END_US = 20 * SECOND
GHOST_CUSTOMER = 900_000  # Of the last orders, one customer per client.


@attrs.frozen(kw_only=True)
class DriverReport:
    """One run in numbers."""

    seed: int
    replicas: int
    events: int
    committed: int
    virtual_us: int
    cpu_seconds: float
    trace_digest: int
    counts: Counter[str]
    failure: Failure | None

    @property
    def command(self) -> str:
        """The command that replays this run."""
        return f"trio-pb sim driver --seeds 1 --first-seed {self.seed}"


def run_driver_seed(seed: int, recorded: Mapping[Key, int] | None = None) -> DriverReport:
    """Run one seed to the end."""
    choices = Choices(seed, recorded)
    return run_driver(choices, draw_driver_shape(choices))


def run_driver(choices: Choices, plan: DriverShape) -> DriverReport:
    """Run a world of a given shape to the end."""
    began = process_time()
    clock = MockClock()
    clusters: list[MemoryCluster] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            cluster = MemoryCluster(choices, plan, clock, nursery)
            clusters.append(cluster)
            nursery.start_soon(cluster.timeline.run)
            try:
                await _run(cluster)
                _demand_nothing_left(cluster)
            except Violation as violation:
                cluster.fail(violation)
            nursery.cancel_scope.cancel()

    error: BaseException | None = None
    try:
        run_repeatably(choices.seed, clock, main)
    except Exception as raised:
        error = first_leaf(raised)
    (cluster,) = clusters
    error = cluster.failure or error
    if error is None:
        error = _check(cluster)
    counts = Counter(cluster.counts)
    counts.update(cluster.network.counts)
    counts["jobs in the loop"] = sum(_counter(cluster, "storage_jobs_in_loop"))
    return DriverReport(
        seed=choices.seed,
        replicas=plan.sizes.replicas,
        events=cluster.timeline.executed,
        committed=cluster.facts.committed_op,
        virtual_us=cluster.virtual_us,
        cpu_seconds=process_time() - began,
        trace_digest=cluster.digest,
        counts=counts,
        failure=None if error is None else _failure(cluster, error),
    )


async def _run(cluster: MemoryCluster) -> None:
    plan = cluster.shape.workload
    workloads = [
        Workload(client, index, plan, cluster.choices, cluster.timeline) for index, client in enumerate(cluster.clients)
    ]
    faults = Faults(cluster)
    faults.schedule()
    for replica in cluster.replicas:
        replica.start()
    for client in cluster.clients:
        cluster.nursery.start_soon(client.run)
    for workload in workloads:
        workload.start()

    def is_done() -> bool:
        return all(workload.is_done for workload in workloads)

    await cluster.wait_until(is_done, min(FAULT_PHASE_US, 10 * cluster.plan.patience))
    faults.heal()
    await _demand_answers(cluster, is_done)
    await _demand_last_orders(cluster)
    await _demand_convergence(cluster)
    await _demand_few_connections(cluster)
    faults.end()
    await _end(cluster)


async def _demand_answers(cluster: MemoryCluster, is_done: Callable[[], bool]) -> None:
    while not await cluster.wait_until(is_done, cluster.timeline.now + cluster.plan.patience):
        ended = cluster.history.ended
        limit = cluster.timeline.now + cluster.plan.patience
        if not await cluster.wait_until(lambda: cluster.history.ended > ended or is_done(), limit):  # noqa: B023
            violate("INV-33", f"operations without an answer\n{cluster.describe()}")


async def _demand_last_orders(cluster: MemoryCluster) -> None:
    """Whatever happened before: each client can place an order now."""
    cluster.cancellations = 0.0
    limit = cluster.timeline.now + cluster.plan.patience
    number = 0
    for index, client in enumerate(cluster.clients):
        client.on_completed = lambda _operation: None
        while True:
            number += 1
            token = (index << 24) + (1 << 20) + number
            order = PlaceOrder(GHOST_CUSTOMER + index, number, f"laptop {token}")
            operation = Operation(
                token, client.name, PLACE, encode_place(order), is_read=False, deadline_ms=cluster.plan.patience // 1000
            )
            client.submit(operation)
            if not await cluster.wait_until(lambda: operation.ended is not None, limit):  # noqa: B023
                violate("INV-33", f"{client.name} gets no answer without faults\n{cluster.describe()}")
            if operation.succeeded:
                break


async def _demand_convergence(cluster: MemoryCluster) -> None:
    def has_converged() -> bool:
        cores = [replica.core for replica in cluster.replicas]
        states = [core.state for core in cores if core is not None]
        return len(states) == len(cores) and all(
            state.applied == state.commit_max == states[0].applied and not state.is_untrusted for state in states
        )

    if not await cluster.wait_until(has_converged, cluster.timeline.now + CONVERGE_US):
        violate("INV-33", f"the replicas do not converge\n{cluster.describe()}")
    digests = {await _ask_for_digest(cluster, replica.number) for replica in cluster.replicas}
    if len(digests) != 1:
        violate("INV-20", f"equal applied op, {len(digests)} different states\n{cluster.describe()}")


async def _ask_for_digest(cluster: MemoryCluster, number: int) -> bytes:
    """What a replica says of its state, over a connection like everybody's."""
    answers: list[Message] = []
    with trio.move_on_after(cluster.plan.patience / SECOND):
        async with await cluster.network.dialler("auditor")(address_of(number)) as stream:
            greeting = encode_client(cluster.cluster_id, Greet((WIRE_VERSION,), cluster.cluster_id))
            await stream.send_all(greeting + encode_client(cluster.cluster_id, StatusGet()))
            incoming = Incoming(stream)
            while len(answers) < 2 and (decoded := await incoming.receive()):
                answers += [message for _, message in decoded]
    if len(answers) != 2 or not isinstance(answers[1], StatusReport):
        violate("status", f"R{number} answers a status request with {[type(answer).__name__ for answer in answers]}")
    return answers[1].state_digest


async def _demand_few_connections(cluster: MemoryCluster) -> None:
    """Of connections whose other end died, none is kept for ever; of live ones, no more than there should be."""
    replicas, clients = len(cluster.replicas), len(cluster.clients)
    most = 4 * (replicas - 1) + clients

    def too_many() -> list[str]:
        return [
            f"R{replica.number} has {count} connections, {most} would do"
            for replica in cluster.replicas
            if (count := len(list(cluster.network.ends_of(replica.host)))) > most
        ]

    if not await cluster.wait_until(lambda: not too_many(), cluster.timeline.now + 2 * KEEPALIVE_US):
        violate("leak", "; ".join(too_many()))


async def _end(cluster: MemoryCluster) -> None:
    """Everybody leaves politely."""
    for client in cluster.clients:
        client.leave()
    await cluster.wait_until(lambda: all(client.has_left for client in cluster.clients), cluster.timeline.now + SECOND)
    for replica in cluster.replicas:
        replica.stop()
    limit = cluster.timeline.now + END_US
    if not await cluster.wait_until(lambda: not any(replica.is_up for replica in cluster.replicas), limit):
        violate("stop", f"a server does not end\n{cluster.describe()}")
    await cluster.timeline.sleep(round(2 * STRANGER_SECONDS * SECOND))  # The last of them loses its patience.


def _demand_nothing_left(cluster: MemoryCluster) -> None:
    left = sorted(task.name for task in cluster.nursery.child_tasks)
    if len(left) > 1:  # The timeline.
        violate("leak", f"tasks that nobody ended: {', '.join(left)}")
    open_ends = [str(connection.key) for connection in cluster.network.connections if not all(connection.closed)]
    if open_ends:
        violate("leak", f"connections that nobody closed: {', '.join(open_ends[:4])}")


def _check(cluster: MemoryCluster) -> BaseException | None:
    """Judge the whole run, once it is over."""
    try:
        cluster.watch.end()
        check_history(cluster.facts, cluster.history, cluster.executed.model)
        if not check_linearizability(cluster.history):
            cluster.count("undecided histories")
        check_receipts(cluster.facts, cluster.history)
        for replica in cluster.replicas:
            for boot in replica.boots:
                if boot.core is None or not boot.steps:
                    continue
                index = first_difference(boot.core.state.options, boot.steps)
                if index is not None:
                    violate("INV-32", f"R{replica.number}: step {index} of boot {boot.number} gives other outputs")
    except Violation as violation:
        return violation
    return None


def _counter(cluster: MemoryCluster, name: str) -> list[int]:
    infos = [boot.info for replica in cluster.replicas for boot in replica.boots]
    return [info.counters()[name] for info in infos if info is not None]


def _failure(cluster: MemoryCluster, error: BaseException) -> Failure:
    error = first_leaf(error)
    rule = error.rule if isinstance(error, Violation) else type(error).__name__
    where = ", ".join(f"{file}:{name}" for file, name in reversed(telling_frames(error)[:2]))
    return Failure(rule, str(error), where, "\n".join(" ".join(map(str, event)) for event in cluster.events[-40:]))
