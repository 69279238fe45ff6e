"""Run seeds: one at a time, or many over all cores; a failure names the command that replays it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping

import attrs

from sim.ambushes import AMBUSHES
from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.disk_faults import DISK_FAULTS
from sim.faults import FaultInjector, draw_shape
from sim.oracles.facts import Violation
from sim.oracles.linearizability import check_history
from sim.oracles.liveness import (
    CONVERGENCE_TICKS,
    N_LIVE_TICKS,
    demand_completion,
    demand_convergence,
    has_converged,
)
from sim.oracles.repaired import Repaired
from sim.scheduler import TICK_US
from sim.shape import Shape
from sim.workload import Workload

__all__ = ["Failure", "RunReport", "SweepReport", "replay_command", "run_seed", "sweep"]

BLOCK_SEEDS = 50  # Seeds that a worker takes at once.
SEEDS_PER_COLLECTION = 1  # Sixteen MB a run: more at once would not stay in the cache of a processor.

# What a sweep of a few hundred seeds must have seen, as counted.
EVENTS = (
    *("messages lost", "messages duplicated", "messages spiked", "messages blocked"),
    *("crashes", "power cut", "pause", "partition", "flip", "diverged", *AMBUSHES, *DISK_FAULTS),
    *("became_primary", "ex_primary", "abdicated", "view_timeout", "truncated", "suffixes dropped", "repaired"),
)


@attrs.frozen
class Failure:
    """What went wrong in a run."""

    rule: str  # INV-n, the name of an oracle, or the class of an unexpected exception.
    text: str
    where: str  # Innermost frame of our code: failures of one cause share rule and frame.
    story: str  # The last events before it.


@attrs.frozen(kw_only=True)
class RunReport:
    """One run in numbers."""

    seed: int
    replicas: int
    events: int
    steps: int
    committed: int
    virtual_us: int
    trace_digest: int
    counts: Counter[str]
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

    @property
    def command(self) -> str:
        """The command that replays this run."""
        return replay_command(self.seed)


@attrs.define
class SweepReport:
    """Many runs in numbers."""

    first_seed: int
    seeds: int = 0
    events: int = 0
    steps: int = 0
    committed: list[int] = attrs.field(factory=list[int])
    counts: Counter[str] = attrs.field(factory=Counter[str])
    failures: list[RunReport] = attrs.field(factory=list[RunReport])
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def add(self, report: RunReport) -> None:
        """Take in one run."""
        self.seeds += 1
        self.events += report.events
        self.steps += report.steps
        self.committed.append(report.committed)
        self.counts.update(report.counts)
        if report.failure is not None:
            self.failures.append(report)

    @property
    def committed_median(self) -> int:
        """Median of the commits of a run."""
        return sorted(self.committed)[len(self.committed) // 2] if self.committed else 0

    @property
    def never_happened(self) -> list[str]:
        """What a sweep is for and this one never saw: it proves nothing about that."""
        return [event for event in EVENTS if not self.counts[event]]

    @property
    def seeds_per_cpu_minute(self) -> float:
        """Speed."""
        return 60 * self.seeds / self.cpu_seconds if self.cpu_seconds else 0.0


def replay_command(seed: int) -> str:
    """The command that runs one seed again."""
    return f"trio-pb sim run --seeds 1 --first-seed {seed}"


def run_seed(
    seed: int, recorded: Mapping[Key, int] | None = None, draw: Callable[[Choices], Shape] = draw_shape
) -> RunReport:
    """Run one seed, or its recorded choices, to the end; `draw` decides the circumstances."""
    choices = Choices(seed, recorded)
    cluster = SimCluster(choices, draw(choices))
    failure: Failure | None = None
    try:
        _run(cluster)
    except Violation as violation:
        failure = _failure(cluster, violation, violation.rule)
    except Exception as error:
        failure = _failure(cluster, error, type(error).__name__)
    counts = Counter(cluster.counts)
    counts["suffixes dropped"] = cluster.watch.suffixes_dropped
    counts.update({f"messages {name}": count for name, count in cluster.network.counts.items()})
    return RunReport(
        seed=seed,
        replicas=cluster.shape.replicas,
        events=cluster.scheduler.executed,
        steps=sum(replica.steps for replica in cluster.replicas),
        committed=cluster.facts.committed_op,
        virtual_us=cluster.scheduler.now,
        trace_digest=cluster.trace_digest,
        counts=counts,
        choices=len(choices.made),
        failure=failure,
    )


def _run(cluster: SimCluster) -> None:
    shape, scheduler = cluster.shape, cluster.scheduler
    workloads = [
        Workload(client, index, shape.workload, cluster.choices, scheduler)
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

    cluster.run_until(is_done, shape.faults.duration)
    injector.heal()
    cluster.trace("healed")
    # What a client still has to ask takes its own time, beside that of a cluster that comes back.
    limit = scheduler.now + N_LIVE_TICKS * TICK_US
    while not cluster.run_until(is_done, limit):
        answered = cluster.history.succeeded
        limit = scheduler.now + N_LIVE_TICKS * TICK_US
        if not cluster.run_until(lambda: cluster.history.succeeded > answered, limit):  # noqa: B023 -- called here
            demand_completion(cluster.clients, cluster.replicas)
    limit = scheduler.now + CONVERGENCE_TICKS * TICK_US
    # Who lost its disk for good does not come back: it is to be replaced (PROTOCOL 7.6).
    replicas = [replica for replica in cluster.replicas if not replica.is_stopped]
    cluster.run_until(lambda: has_converged(replicas), limit)
    demand_convergence(cluster.clients, replicas)
    repaired = Repaired(cluster.facts, replicas)
    cluster.run_until(repaired.is_done, scheduler.now + CONVERGENCE_TICKS * TICK_US)
    repaired.demand()
    cluster.watch.end()
    check_history(cluster.facts, cluster.history, cluster.executed.model)
    cluster.replay_recorded()


def _failure(cluster: SimCluster, error: BaseException, rule: str) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "trio_pb" in frame.filename or f"{os.sep}sim{os.sep}" in frame.filename]
    where = ", ".join(f"{os.path.basename(frame.filename)}:{frame.name}" for frame in ours[-1:])
    events = [" ".join(map(str, event)) for event in cluster.events[-40:]]
    return Failure(rule, str(error), where, "\n".join(events))


def _run_block(block: tuple[int, int]) -> tuple[list[RunReport], float]:
    """Worker: run seeds first..first+count-1."""
    first, count = block
    began = time.process_time()
    # The cycles of a run are its whole world, to be collected between runs; what was there before them
    # (modules, mostly) stays, so it need not be walked through each time.
    gc.disable()
    gc.freeze()
    reports: list[RunReport] = []
    for seed in range(first, first + count):
        reports.append(run_seed(seed))
        if len(reports) % SEEDS_PER_COLLECTION == 0:
            gc.collect()
    gc.unfreeze()
    gc.enable()
    return reports, time.process_time() - began


def sweep(
    first_seed: int,
    seeds: int,
    jobs: int = 2,
    progress: Callable[[SweepReport], None] | None = None,
    stop_after_failures: int | None = None,
) -> SweepReport:
    """Run `seeds` seeds from `first_seed` on over `jobs` processes; `progress` is told after each block."""
    total = SweepReport(first_seed)
    began = time.monotonic()
    end = first_seed + seeds
    block_size = max(1, min(BLOCK_SEEDS, seeds // max(1, jobs)))
    blocks = [(first, min(block_size, end - first)) for first in range(first_seed, end, block_size)]

    def note(reports: list[RunReport], cpu_seconds: float) -> bool:
        for report in reports:
            total.add(report)
        total.cpu_seconds += cpu_seconds
        total.wall_seconds = time.monotonic() - began
        if progress is not None:
            progress(total)
        return stop_after_failures is not None and len(total.failures) >= stop_after_failures

    if jobs <= 1:
        for block in blocks:
            if note(*_run_block(block)):
                break
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            for reports, cpu_seconds in pool.imap(_run_block, blocks):  # In order: reports are reproducible.
                if note(reports, cpu_seconds):
                    pool.terminate()
                    break
    return total
