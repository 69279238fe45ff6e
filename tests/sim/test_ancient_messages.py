"""The adversary that lets old messages arrive again when a view begins, and not before."""

from __future__ import annotations

import attrs

from sim.ancient_messages import KINDS
from sim.choices import Choices
from sim.experiment import run_seed
from sim.mutants.mutant import planted
from sim.mutants.normal_case import deposed_primary_is_heard
from sim.profiles import draw_ambushed
from sim.run import RunReport, run_shape
from sim.shape import FaultPlan, Shape, WorkloadPlan

HEARD_SEEDS = (2, 4, 12)  # What a deposed primary said comes again, and is heard.


def _ambushed(seed: int, *, ancient: bool) -> RunReport:
    choices = Choices(seed)
    shape = draw_ambushed(choices)
    return run_shape(choices, attrs.evolve(shape, faults=attrs.evolve(shape.faults, ancient_messages=int(ancient))))


def test_a_rule_about_views_shows() -> None:
    """With them a backup that hears a deposed primary is noticed; without them it is not, and nor is the right code."""
    with planted(deposed_primary_is_heard):
        rules = {report.failure.rule for seed in HEARD_SEEDS if (report := _ambushed(seed, ancient=True)).failure}
        assert rules <= {"INV-7", "INV-23", "provenance"}
        assert rules
        assert all(_ambushed(seed, ancient=False).failure is None for seed in HEARD_SEEDS)
    assert all(_ambushed(seed, ancient=True).failure is None for seed in HEARD_SEEDS)


def test_nothing_is_repeated_within_a_view() -> None:
    """Where the view stays, everything arrives once."""
    choices = Choices(1, {("ancient", 0): 1, ("ancient", 0, "at"): 250_000})
    plan = FaultPlan(duration=2_000_000, ancient_messages=1)
    report = run_shape(choices, Shape(clients=1, workload=WorkloadPlan(operations=20), faults=plan))
    assert report.failure is None
    assert report.counts["ancient messages"] == 1
    assert report.counts["messages repeated"] == 0


def test_swarms_have_them() -> None:
    """Some runs do, and what comes twice is of a kind that is bound to its view or boot."""
    assert any(run_seed(seed).counts["messages repeated"] for seed in range(1, 12))
    assert "Ping" not in {kind.__name__ for kind in KINDS}
