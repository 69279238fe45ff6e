"""How fast runs go: what a second of a processor buys, and what a second processor adds."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import attrs

from sim.crews import Processes
from sim.experiment import DEFAULT_EXPERIMENT, Experiment
from sim.farm import SweepReport, sweep

__all__ = ["Goal", "SpeedFigures", "goals_of", "measure"]


@attrs.frozen(kw_only=True)
class SpeedFigures:
    """One sweep, run by one process and then again by two; the figures per processor time are of the first."""

    first_seed: int
    seeds: int
    failed: int
    cpu_seconds: float
    events: int
    commits: int
    seeds_per_cpu_minute: float
    events_per_cpu_second: float
    commits_per_cpu_second: float
    commits_median: float  # Of a run, like the following.
    crashes_median: float
    view_changes_median: float
    one_job_seconds: float
    two_jobs_seconds: float  # With the start of two processes.

    @property
    def speedup(self) -> float:
        """How much sooner two jobs are done than one."""
        return self.one_job_seconds / self.two_jobs_seconds


@attrs.frozen
class Goal:
    """One figure and what it should be at least."""

    name: str
    value: float
    at_least: float

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value >= self.at_least


def goals_of(found: SpeedFigures) -> tuple[Goal, ...]:
    """Return what was found beside what is wanted of the profile `all` on one core of an idle machine."""
    return (
        Goal("seeds per minute of processor time", found.seeds_per_cpu_minute, 1500),
        Goal("events per second of processor time", found.events_per_cpu_second, 150_000),
        Goal("commits per second of processor time", found.commits_per_cpu_second, 2000),
        Goal("commits of the median seed", found.commits_median, 50),
        Goal("crashes of the median seed", found.crashes_median, 3),
        Goal("view changes of the median seed", found.view_changes_median, 2),
        Goal("two jobs over one", found.speedup, 1.8),
    )


def measure(
    first_seed: int,
    seeds: int,
    experiment: Experiment = DEFAULT_EXPERIMENT,
    progress: Callable[[str, int, int], None] | None = None,
) -> SpeedFigures:
    """Run the seeds twice; `progress(phase, done, total)` is told after each block."""

    def told(phase: str) -> Callable[[SweepReport], None]:
        def tell(report: SweepReport) -> None:
            if progress is not None:
                progress(phase, report.seeds, seeds)

        return tell

    one = sweep(first_seed, seeds, Processes(1), told("one job"), experiment=experiment)
    two = sweep(first_seed, seeds, Processes(2), told("two jobs"), experiment=experiment)
    commits = sum(one.committed)
    return SpeedFigures(
        first_seed=first_seed,
        seeds=one.seeds,
        failed=one.failed,
        cpu_seconds=one.cpu_seconds,
        events=one.events,
        commits=commits,
        seeds_per_cpu_minute=one.seeds_per_cpu_minute,
        events_per_cpu_second=one.events / one.cpu_seconds,
        commits_per_cpu_second=commits / one.cpu_seconds,
        commits_median=median(one.committed),
        crashes_median=median(one.crashes),
        view_changes_median=median(one.view_changes),
        one_job_seconds=one.wall_seconds,
        two_jobs_seconds=two.wall_seconds,
    )
