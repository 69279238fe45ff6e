"""Run many seeds, and add up what they met; a sweep that was cut short goes on where it was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import attrs

from sim.crews import ONE_PROCESS, Block, Crew
from sim.expected import expected_of, is_outside
from sim.experiment import DEFAULT_EXPERIMENT, Experiment, Swarm
from sim.profiles import DEFAULT_PROFILE
from sim.run import Failure, RunReport
from trio_pb.core.marks import Mark

__all__ = ["Cause", "SweepReport", "sweep"]

BLOCK_SEEDS = 10  # Seeds that a worker takes at once: about a second, so that a bar moves and Ctrl-C loses little.
SEEDS_NAMED = 3  # Of each cause.


@attrs.define
class Cause:
    """Failures that have their signature in common, and so most likely their cause."""

    failure: Failure  # That of the smallest seed.
    count: int = 0
    seeds: list[int] = attrs.field(factory=list[int])  # The smallest.

    def add(self, seed: int) -> None:
        """One more, of a seed above all others."""
        self.count += 1
        if len(self.seeds) < SEEDS_NAMED:
            self.seeds.append(seed)


@attrs.define
class SweepReport:
    """Many runs in numbers."""

    first_seed: int
    experiment: Experiment = DEFAULT_EXPERIMENT
    seeds: int = 0
    events: int = 0
    steps: int = 0
    virtual_us: int = 0
    committed: list[int] = attrs.field(factory=list[int])
    crashes: list[int] = attrs.field(factory=list[int])  # Per run, like the following.
    view_changes: list[int] = attrs.field(factory=list[int])
    counts: Counter[str] = attrs.field(factory=Counter[str])
    marks: Counter[Mark] = attrs.field(factory=Counter[Mark])  # Runs that reached each.
    causes: dict[str, Cause] = attrs.field(factory=dict[str, Cause])  # By signature.
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def add(self, report: RunReport) -> None:
        """Take in one run."""
        self.seeds += 1
        self.events += report.events
        self.steps += report.steps
        self.virtual_us += report.virtual_us
        self.committed.append(report.committed)
        self.crashes.append(report.crashes)
        self.view_changes.append(report.view_changes)
        self.counts.update(report.counts)
        self.marks.update(report.marks)
        failure = report.failure
        if failure is not None:
            self.causes.setdefault(failure.signature, Cause(failure)).add(report.seed)

    @property
    def failed(self) -> int:
        """Seeds that failed."""
        return sum(cause.count for cause in self.causes.values())

    @property
    def committed_median(self) -> int:
        """Median of the commits of a run."""
        return sorted(self.committed)[len(self.committed) // 2] if self.committed else 0

    @property
    def never_happened(self) -> list[str]:
        """What a sweep is for and this one never saw: it proves nothing about that."""
        if not isinstance(self.experiment, Swarm):
            return []
        return [event for event in expected_of(self.experiment.profile) if not self.counts[event]]

    @property
    def marks_never_reached(self) -> list[Mark]:
        """Rare branches of the protocol that no run took: holes in what the runs try."""
        profile = self.experiment.profile if isinstance(self.experiment, Swarm) else DEFAULT_PROFILE
        return [mark for mark in Mark if not (self.marks[mark] or is_outside(mark, profile))]

    @property
    def seeds_per_cpu_minute(self) -> float:
        """Speed."""
        return 60 * self.seeds / self.cpu_seconds if self.cpu_seconds else 0.0


def sweep(
    first_seed: int,
    seeds: int,
    crew: Crew = ONE_PROCESS,
    progress: Callable[[SweepReport], None] | None = None,
    stop_after_failures: int | None = None,
    experiment: Experiment = DEFAULT_EXPERIMENT,
    so_far: SweepReport | None = None,
) -> SweepReport:
    """Have `crew` run `seeds` seeds from `first_seed` on; `progress` is told after each block.

    With `so_far`, the report of an earlier sweep over the first of them, only the others are run.
    """
    total = so_far if so_far is not None else SweepReport(first_seed, experiment)
    began = time.monotonic() - total.wall_seconds
    end = first_seed + seeds
    first_seed += total.seeds
    block_size = max(1, min(BLOCK_SEEDS, seeds // crew.size))
    blocks = [Block(experiment, first, min(block_size, end - first)) for first in range(first_seed, end, block_size)]
    with closing(crew.run(blocks)) as done:
        for reports, cpu_seconds, _ in done:
            for report in reports:
                total.add(report)
            total.cpu_seconds += cpu_seconds
            total.wall_seconds = time.monotonic() - began
            if progress is not None:
                progress(total)
            if stop_after_failures is not None and total.failed >= stop_after_failures:
                break
    return total
