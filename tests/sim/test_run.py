"""Whole runs: deterministic, replayable, reported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sim.choices import Choices
from sim.expected import OUTSIDE
from sim.experiment import Swarm, replay_command, run_seed
from sim.farm import sweep
from sim.profiles import draw_shape
from sim.run import IMPOSSIBLE, RunReport
from trio_pb.core.marks import Mark, reach
from trio_pb.core.normal import Normal

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (3, 4)
PRINT_DIGESTS = (
    f"from sim.experiment import run_seed; print([(r.trace_digest, r.events) for r in map(run_seed, {SEEDS})])"
)


def _digests_elsewhere(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_DIGESTS], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_same_seed_same_run_in_any_process_and_hash_seed() -> None:
    """A run depends on its seed alone."""
    assert _digests_elsewhere("1") == _digests_elsewhere("2")


def test_sweep_adds_up_and_names_the_replay_command() -> None:
    """Totals are those of the runs."""
    told: list[int] = []
    report = sweep(3, 2, progress=lambda total: told.append(total.seeds))
    runs = [run_seed(3), run_seed(4)]
    assert report.seeds == told[-1] == 2
    assert report.events == sum(run.events for run in runs)
    assert report.committed == [run.committed for run in runs]
    assert runs[0].marks
    assert report.marks == Counter([mark for run in runs for mark in run.marks])
    assert set(report.marks_never_reached) == set(Mark) - runs[0].marks - runs[1].marks - set(OUTSIDE)
    assert replay_command(Swarm(), 3) == "trio-pb sim run --seeds 1 --first-seed 3"
    assert replay_command(Swarm("ambush"), 3) == "trio-pb sim run --seeds 1 --first-seed 3 --profile ambush"


def test_a_branch_for_what_cannot_be_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that makes the best of what the fault model excludes hides a bug from all who look from outside."""
    start = Normal.start_as_primary

    def taken(self: Normal) -> None:
        reach(Mark.BLOCKED)
        start(self)

    monkeypatch.setattr(Normal, "start_as_primary", taken)
    failure = run_seed(3).failure
    assert failure is not None
    assert failure.rule == IMPOSSIBLE
    assert "undecided although everybody spoke; but" in failure.text
    beyond = run_seed(3, Swarm("beyond")).failure
    assert beyond is None or beyond.rule != IMPOSSIBLE


def test_swarm_draws_every_kind_of_world() -> None:
    """Over some hundred seeds each size and each fault occurs, and each is absent somewhere."""
    shapes = [draw_shape(Choices(seed)) for seed in range(300)]
    assert {shape.replicas for shape in shapes} == {1, 2, 3, 4, 5, 6, 7}
    assert {shape.clients for shape in shapes} == {1, 2, 3, 4, 5}
    for name in ("crashes", "power_cuts", "pauses", "partitions", "ambushes"):
        assert len({getattr(shape.faults, name) > 0 for shape in shapes}) == 2
    for name in ("loss", "duplication", "spike"):
        assert len({getattr(shape.network, name) > 0 for shape in shapes}) == 2
    assert len({shape.codec for shape in shapes}) == len({shape.record for shape in shapes}) == 2


def _healthy(report: RunReport) -> str:
    failure = report.failure
    return (
        ""
        if failure is None
        else f"{replay_command(Swarm(), report.seed)}\n{failure.rule} at {failure.where}: {failure.text}"
    )


@pytest.mark.parametrize("seed", range(4))
def test_seed_passes(seed: int) -> None:
    """A few seeds in every test run; the sweep has many."""
    report = run_seed(seed)
    assert not _healthy(report)
    assert report.committed > 0
