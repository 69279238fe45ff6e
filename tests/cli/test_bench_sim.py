"""`trio-pb bench sim` over few seeds: what it measures, and what it says of it."""

from __future__ import annotations

import json

import pytest

from sim.experiment import Swarm, run_seed
from sim.speed import SpeedFigures, goals_of
from trio_pb.cli.main import call

RUN = ["bench", "sim", "--seeds", "2", "--first-seed", "3", "--profile", "calm"]


def test_figures_are_those_of_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts are exact, whatever the machine; rates are counts by processor time."""
    assert call([*RUN, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    runs = [run_seed(seed, Swarm("calm")) for seed in (3, 4)]
    assert (said["profile"], said["first_seed"], said["seeds"], said["failed"]) == ("calm", 3, 2, 0)
    assert said["events"] == sum(run.events for run in runs)
    assert said["commits"] == sum(run.committed for run in runs)
    assert said["commits_median"] == said["commits"] / 2
    assert (said["crashes_median"], said["view_changes_median"]) == (0, sum(run.view_changes for run in runs) / 2)
    assert said["seeds_per_cpu_minute"] == pytest.approx(120 / said["cpu_seconds"], rel=0.01)
    assert said["events_per_cpu_second"] == pytest.approx(said["events"] / said["cpu_seconds"], rel=0.01)
    assert said["speedup"] == pytest.approx(said["one_job_seconds"] / said["two_jobs_seconds"], rel=0.01)
    assert len(said["goals"]) == 7


def test_a_missed_goal_is_told() -> None:
    """A figure at its goal reached it; one below did not."""
    found = SpeedFigures(
        first_seed=1,
        seeds=100,
        failed=0,
        cpu_seconds=4.0,
        events=700_000,
        commits=7999,
        seeds_per_cpu_minute=1500.0,
        events_per_cpu_second=175_000.0,
        commits_per_cpu_second=1999.75,
        commits_median=50.0,
        crashes_median=2.5,
        view_changes_median=2.0,
        one_job_seconds=4.5,
        two_jobs_seconds=2.5,
    )
    missed = [goal.name for goal in goals_of(found) if not goal.reached]
    assert missed == ["commits per second of processor time", "crashes of the median seed"]


def test_no_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to measure."""
    assert call(["bench", "sim", "--seeds", "0"]) == 2
    assert capsys.readouterr().err == "trio-pb: --seeds 0: must be at least 1\n"
