"""Faults that are aimed at one rule: each happens, each shows who breaks its rule, and the right code bears it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from sim.choices import Choices
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.profiles import PROFILES
from sim.run import RunReport, run_shape
from sim.shape import FaultPlan, Shape


def _dead_disks(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, disks=attrs.evolve(plan.disks, dead_disks=2))


def _bit_flips(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, disks=attrs.evolve(plan.disks, decaying=1, bit_flips=6))


def _full_disks(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, disks=attrs.evolve(plan.disks, full_disks=3))


def _old_positions(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, old_positions=3)


def _last_restarts(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, last_restarts=1)


def _decay(plan: FaultPlan) -> FaultPlan:
    return attrs.evolve(plan, disks=attrs.evolve(plan.disks, decaying=1))


# Mutant -> where it is found, in which run, what the fault counts as, and which rule the mutant breaks.
CASES: dict[str, tuple[str, int, str, Callable[[FaultPlan], FaultPlan], str]] = {
    "lead-with-a-dead-disk": ("ambush", 4, "dead disk", _dead_disks, "dead disk"),
    "seals-are-not-checked": ("storage", 3, "bit flip", _bit_flips, "INV-29"),
    "checkpoint-is-given-up": ("network", 9, "checkpoint_failed", _full_disks, "INV-35"),
    "read-tokens-are-used-again": ("ambush", 2, "old position", _old_positions, "INV-23"),
    "no-proof-without-a-record": ("ambush", 2, "last restart", _last_restarts, "INV-35"),
    "wrong-place-and-wrong-record": ("network", 3, "stray record", _decay, "INV-35"),
    "proof-stays-single": ("network", 11, "lone proof", _decay, "INV-35"),
}


def _run(profile: str, seed: int, change: Callable[[FaultPlan], FaultPlan]) -> RunReport:
    choices = Choices(seed)
    shape: Shape = PROFILES[profile](choices)
    return run_shape(choices, attrs.evolve(shape, replicas=max(3, shape.replicas), faults=change(shape.faults)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_broken_rule_shows(name: str) -> None:
    """The fault finds the bug that it is aimed at; the right code passes the run that fails with it."""
    profile, seed, event, change, rule = CASES[name]
    with planted(CATALOGUE[name]):
        failed = _run(profile, seed, change)
    assert failed.failure is not None
    assert failed.failure.rule == rule
    right = _run(profile, seed, change)
    assert right.failure is None, right.failure
    assert right.counts[event] > 0
