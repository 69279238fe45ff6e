"""Run one world from its first event to its last check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs

from sim.choices import Choices
from sim.cluster import SimCluster
from sim.cores import choose_core
from sim.expected import OUTSIDE
from sim.faults import FaultInjector
from sim.frames import telling_frames
from sim.oracles.facts import Violation, violate
from sim.oracles.honesty import demand_honesty
from sim.oracles.linearizability import check_linearizability
from sim.oracles.liveness import (
    CONVERGENCE_TICKS,
    N_LIVE_TICKS,
    demand_completion,
    demand_convergence,
    demand_service,
    has_converged,
    refused,
)
from sim.oracles.op_order import check_history
from sim.oracles.repaired import Repaired
from sim.orders import ORDERS
from sim.replica import SimReplica
from sim.scheduler import TICK_US
from sim.shape import Shape
from sim.workload import Operation, Workload
from trio_pb.core.marks import Mark, take_reached

__all__ = ["IMPOSSIBLE", "Failure", "RunReport", "run_shape"]

REPAIR_TICKS = 2 * N_LIVE_TICKS  # In which damage that decay left at rest is found and healed.
BEYOND_TICKS = 1000  # In which a cluster shows whether it gets on after all.
CORE_OPERATIONS = 2  # That every client asks of a core.
LAST_ROUNDS = 3  # In which every client asks something of a cluster that is whole again.
IMPOSSIBLE = "impossible"  # The rule of a branch that no run of this kind may take: the core itself tells.
FRAMES = 3  # Of a failure: what noticed it, and on what occasion.


@attrs.frozen
class Failure:
    """What went wrong in a run."""

    rule: str  # INV-n, the name of an oracle, or the class of an unexpected exception.
    text: str
    where: str  # "file:function" of our code and the user's, the innermost first.
    story: str  # The last events before it.

    @property
    def signature(self) -> str:
        """What failures of one cause have in common: the rule, and the way to where it was noticed."""
        return f"{self.rule} at {self.where}"

    @property
    def is_by_oracle(self) -> bool:
        """Whether a check noticed it; else the program itself did, by raising something."""
        return self.rule.startswith("INV-") or not self.rule[:1].isupper()

    def is_like(self, other: Failure) -> bool:
        """Whether both broke the same rule in the same place; the way there may differ."""
        return self.rule == other.rule and self.where.partition(" < ")[0] == other.where.partition(" < ")[0]


@attrs.frozen(kw_only=True)
class RunReport:
    """One run in numbers."""

    seed: int
    replicas: int
    events: int  # Calls that reached a replica, a disk, the network or a client.
    steps: int
    committed: int
    virtual_us: int
    trace_digest: int
    counts: Counter[str]
    marks: frozenset[Mark]  # Rare branches of the protocol that were taken.
    choices: int  # Recorded deviations from the benign defaults.
    failure: Failure | None

    @property
    def view_changes(self) -> int:
        """Views that some replica began to lead."""
        return self.counts["became_primary"]

    @property
    def crashes(self) -> int:
        """Replicas that died."""
        return self.counts["crashes"]

    @property
    def truncations(self) -> int:
        """Suffixes that a new log left out."""
        return self.counts["truncated"]

    @property
    def repairs(self) -> int:
        """Prepares fetched from a peer."""
        return self.counts["repaired"]


def run_shape(choices: Choices, shape: Shape) -> RunReport:
    """Run a world of a given shape to its end, or to its first failure."""
    take_reached()  # What others in this process reached is not of this run.
    cluster = SimCluster(choices, shape)
    failure: Failure | None = None
    marks: frozenset[Mark] = frozenset()
    try:
        try:
            _run(cluster)
        finally:
            marks = take_reached()
        if not shape.faults.is_beyond:
            _demand_possible(marks)
    except Violation as violation:
        failure = _failure(cluster, violation, violation.rule)
    except Exception as error:
        failure = _failure(cluster, error, type(error).__name__)
    counts = Counter(cluster.counts)
    counts["suffixes dropped"] = cluster.watch.suffixes_dropped
    network = cluster.network
    carried = network.counts | (network.links.counts if network.links is not None else {})
    counts.update({f"messages {name}": count for name, count in carried.items()})
    return RunReport(
        seed=choices.seed,
        replicas=cluster.shape.replicas,
        events=cluster.scheduler.executed - cluster.scheduler.idle,
        steps=sum(replica.steps for replica in cluster.replicas),
        committed=cluster.facts.committed_op,
        virtual_us=cluster.scheduler.now,
        trace_digest=cluster.trace_digest,
        counts=counts,
        marks=marks,
        choices=len(choices.made),
        failure=failure,
    )


def _demand_possible(marks: frozenset[Mark]) -> None:
    """Nobody took a branch that is there for what lies beyond the fault model.

    Raises:
        Violation: somebody did, and made the best of it.
    """
    for mark in sorted(OUTSIDE.keys() & marks):
        violate(IMPOSSIBLE, f"{mark}; but {OUTSIDE[mark]}")


def _run(cluster: SimCluster) -> None:
    shape, scheduler = cluster.shape, cluster.scheduler
    workloads = [
        Workload(client, index, shape.workload, cluster.choices, scheduler, shape.subject)
        for index, client in enumerate(cluster.clients)
    ]
    injector = FaultInjector(cluster)
    injector.schedule()
    cluster.start()
    for workload in workloads:
        workload.start()

    # The fault phase ends early when there is nothing left to ask: idle time finds little.
    def is_done() -> bool:
        # The clients of ambushes have no share of the work, only an answer to wait for.
        return all(workload.is_done for workload in workloads) and not any(c.pending for c in cluster.clients)

    if shape.faults.settling is None:
        cluster.run_until(is_done, shape.faults.duration)
    else:  # Quiet is to last, with and without work.
        scheduler.run_until(shape.faults.duration)
    injector.heal()
    if shape.faults.is_beyond:
        _demand_honesty(cluster, is_done)
        return
    core = choose_core(cluster, shape.faults.core_share, lambda replica: not (replica.is_stopped or replica.is_wiped))
    if core is not None:
        core.hold_the_rest()
        cluster.trace("core healed", *(replica.number for replica in core.healthy))
        for workload in workloads:
            workload.more(CORE_OPERATIONS)
        _demand_progress(cluster, is_done, core.healthy)
        core.release()
        injector.heal()
    cluster.trace("healed")
    # Who lost its disk for good does not come back: it is to be replaced (PROTOCOL 7.6).
    replicas = [replica for replica in cluster.replicas if not (replica.is_stopped or replica.is_wiped)]
    _demand_progress(cluster, is_done, replicas)
    injector.wound()
    repaired = Repaired(cluster.facts, replicas)
    cluster.run_until(repaired.is_done, scheduler.now + REPAIR_TICKS * TICK_US)
    repaired.demand()
    _demand_service(cluster, is_done, replicas, workloads)
    cluster.watch.end()
    check_history(cluster.facts, cluster.history, cluster.executed.model)
    if shape.subject is ORDERS and not check_linearizability(cluster.history):
        cluster.count("undecided histories")
    cluster.replay_recorded()


def _demand_service(
    cluster: SimCluster, is_done: Callable[[], bool], replicas: list[SimReplica], workloads: list[Workload]
) -> None:
    """Who asks something new gets it, in the end: a refusal of long ago may still have been on its way.

    Raises:
        Violation: somebody was refused again and again.
    """
    operations = cluster.history.operations
    refusals: list[Operation] = []
    for _ in range(LAST_ROUNDS):
        begun = len(operations)
        for workload in workloads:
            workload.more(1)
        _demand_progress(cluster, is_done, replicas)
        refusals = refused(operations[begun:])
        if not refusals:
            return
    demand_service(refusals)


def _demand_honesty(cluster: SimCluster, is_done: Callable[[], bool]) -> None:
    """Beyond the model nobody owes an answer: leave them some time, and judge what was heard (G6).

    Raises:
        Violation: a client heard what is wrong.
    """
    facts, testimony = cluster.facts, cluster.watch.testimony
    cluster.run_until(is_done, cluster.scheduler.now + BEYOND_TICKS * TICK_US)
    cluster.count("all answered" if is_done() else "answers withheld")
    if testimony.is_lost:
        cluster.count("testimony lost")
    if testimony.fork is not None:
        cluster.count("promise broken")
    cluster.watch.end()
    limits = cluster.shape.limits
    if not demand_honesty(facts, testimony.fork, cluster.history, limits.sessions_max, cluster.shape.subject):
        cluster.count("undecided histories")
    cluster.replay_recorded()


def _demand_progress(cluster: SimCluster, is_done: Callable[[], bool], replicas: list[SimReplica]) -> None:
    """With `replicas` healthy and connected, everything is answered, and they come to one state (INV-33).

    Raises:
        Violation: not in time.
    """
    scheduler = cluster.scheduler
    # What a client still has to ask takes its own time, beside that of a cluster that comes back.
    limit = scheduler.now + N_LIVE_TICKS * TICK_US
    while not cluster.run_until(is_done, limit):
        answered = cluster.history.succeeded
        limit = scheduler.now + N_LIVE_TICKS * TICK_US
        if not cluster.run_until(lambda: cluster.history.succeeded > answered, limit):  # noqa: B023 -- called here
            demand_completion(cluster.clients, cluster.replicas)
    limit = scheduler.now + CONVERGENCE_TICKS * TICK_US
    cluster.run_until(lambda: has_converged(replicas), limit)
    demand_convergence(cluster.clients, replicas)


def _failure(cluster: SimCluster, error: BaseException, rule: str) -> Failure:
    telling = [f"{file}:{name}" for file, name in telling_frames(error) if name != "violate" and file != "watch.py"]
    where = " < ".join(telling[:FRAMES])
    events = [" ".join(map(str, event)) for event in cluster.events[-40:]]
    return Failure(rule, str(error).removeprefix(f"{rule}: "), where, "\n".join(events))
