"""Liveness (INV-33): after the heal everything completes in time; if not, who waits for what."""

from __future__ import annotations

from collections.abc import Sequence

from sim.client import SimClient
from sim.oracles.facts import violate
from sim.oracles.waiting import waits_for
from sim.replica import SimReplica
from sim.workload import Operation
from trio_pb.core.client_ports import Failure

__all__ = [
    "CONVERGENCE_TICKS",
    "N_LIVE_TICKS",
    "demand_completion",
    "demand_convergence",
    "demand_service",
    "describe",
    "has_converged",
    "refused",
]

N_LIVE_TICKS = 3000
CONVERGENCE_TICKS = 10 * N_LIVE_TICKS

# Others may have used the session table in the meantime, which is no fault of the cluster.
EXCUSES = ("no_session", "session_lost")


def has_converged(replicas: Sequence[SimReplica]) -> bool:
    """Whether all replicas run and have applied the same ops."""
    states = [replica.core.state if replica.core is not None else None for replica in replicas]
    first = states[0]
    if first is None:
        return False
    return not _should_notice(replicas) and all(
        state is not None and state.applied == state.commit_max == first.applied and not state.is_untrusted
        for state in states
    )


def _should_notice(replicas: Sequence[SimReplica]) -> list[str]:
    """Replicas whose state went wrong so long ago that two checkpoints were certified since."""
    known = max((replica.core.state.certified.op for replica in replicas if replica.core is not None), default=0)
    return [
        replica.name
        for replica in replicas
        for disk in (replica.world.watch.facts.disks[replica.number],)
        if disk.is_flipped and known >= disk.flipped_op + 2 * replica.options.limits.checkpoint_interval_ops
    ]


def demand_completion(clients: Sequence[SimClient], replicas: Sequence[SimReplica]) -> None:
    """Every operation was answered.

    Raises:
        Violation: INV-33, with what each replica and client waits for.
    """
    if any(client.pending for client in clients):
        waiting = ", ".join(f"{client.name}: {len(client.pending)}" for client in clients if client.pending)
        violate("INV-33", f"operations without an answer ({waiting})\n{describe(replicas, clients)}")


def demand_convergence(clients: Sequence[SimClient], replicas: Sequence[SimReplica]) -> None:
    """All replicas are at one op, in one state.

    Raises:
        Violation: INV-33 or INV-20.
    """
    unaware = _should_notice(replicas)
    if unaware:
        violate("INV-20", f"{', '.join(unaware)}: a wrong state goes unnoticed\n{describe(replicas, clients)}")
    if not has_converged(replicas):
        violate("INV-33", f"the replicas do not converge\n{describe(replicas, clients)}")
    facts = replicas[0].world.watch.facts
    digests = {replica.machine.digest() for replica in replicas if not facts.disks[replica.number].is_flipped}
    if len(digests) != 1:
        violate("INV-20", f"equal applied op, {len(digests)} different states\n{describe(replicas, clients)}")


def refused(operations: Sequence[Operation]) -> list[Operation]:
    """Those that failed, for another reason than that the sessions were used up by others."""
    return [it for it in operations if isinstance(it.outcome, Failure) and it.outcome.reason not in EXCUSES]


def demand_service(refusals: Sequence[Operation]) -> None:
    """A cluster that is whole refuses nobody for long.

    Raises:
        Violation: INV-33: it did.
    """
    for operation in refusals:
        outcome = operation.outcome
        assert isinstance(outcome, Failure)
        violate("INV-33", f"{operation.client}: refused by a cluster that is whole: {outcome.reason}: {outcome.text}")


def describe(replicas: Sequence[SimReplica], clients: Sequence[SimClient]) -> str:
    """Where everybody stands, a line each."""
    lines = [f"  {_replica_line(replica)}" for replica in replicas]
    for client in clients:
        if client.pending:
            tokens = ", ".join(str(token) for token in list(client.pending)[:4])
            lines.append(
                f"  {client.name}: waits for {tokens}; primary {client.machine.primary}; {client.machine.explain()}"
            )
    return "\n".join(lines)


def _replica_line(replica: SimReplica) -> str:
    if replica.core is None:
        if replica.is_stopped:
            return f"{replica.name}: stopped for good"
        return f"{replica.name}: {'opening its storage' if replica.is_up else 'down'}"
    state = replica.core.state
    role = "primary" if state.is_primary else state.status.name.lower()
    unfit = f" unfit ({', '.join(sorted(state.unfit))})" if state.unfit else ""
    abdicated = " abdicated" if state.abdicated else ""
    reasons = "".join(f"\n      waits for {reason}" for reason in waits_for(replica.core))
    paused = " (paused)" if replica.is_paused else ""
    return (
        f"{replica.name}{paused}: {role}{abdicated}{unfit} view {state.view} (durable {state.durable_view})"
        f" log_view {state.log_view} head {state.log.head} commit {state.commit_max} applied {state.applied}"
        f" acked {state.acked} durable {state.log.durable_prefix} disk {'busy' if replica.is_disk_busy else 'idle'}"
        f"{reasons}"
    )
