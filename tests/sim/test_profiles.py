"""Profiles: each draws its own families of faults and no other, and calm is calm."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pytest

from sim.choices import Choices
from sim.expected import expected_of
from sim.experiment import Swarm, run_seed
from sim.profiles import FAMILIES, PROFILES, Family
from sim.shape import FaultPlan, Shape

SEEDS = range(150)
BENIGN = FaultPlan()
NETWORK = ("loss", "duplication", "spike")
PROCESS = ("crashes", "power_cuts", "pauses")
CLIENT = ("client_crashes", "client_returns", "odd_requests")
DISK = ("rots", "unreadable", "misdirected", "lost_writes", "lost_files", "io_errors", "full_disks", "stalls")


def test_whoever_is_right_is_told_by_a_majority() -> None:
    """A replica that computes wrongly and one that is gone for good exist together only where three others are."""
    shapes = [PROFILES["all"](Choices(seed)) for seed in range(2000)]
    few = [shape.faults for shape in shapes if shape.replicas <= 4]
    assert any(faults.flips for faults in few)
    assert any(faults.wipes for faults in few)
    assert not any(faults.flips and faults.wipes for faults in few)


def _exists(values: Iterable[object]) -> bool:
    return any(values)


def _families_of(shape: Shape) -> set[Family]:
    """The families of which a fault exists in a world."""
    faults, disks = shape.faults, shape.faults.disks
    found = {
        Family.NETWORK: _exists([faults.partitions, *(getattr(shape.network, name) for name in NETWORK)]),
        Family.PROCESS: _exists(getattr(faults, name) for name in PROCESS),
        Family.DISK: _exists([disks.decaying, *(getattr(disks, name) for name in DISK)]),
        Family.CLOCK: shape.clock_spread_ms > 0 or faults.sets_clocks,
        Family.CLIENT: _exists([shape.network.lateness, *(getattr(faults, name) for name in CLIENT)]),
        Family.MEMORY: faults.flips > 0,
        Family.ADVERSARY: faults.minimal_quorums > 0,
        Family.AMBUSH: faults.ambushes > 0,
    }
    return {family for family, exists in found.items() if exists}


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"calm"}))
def test_profile_draws_its_families_and_no_other(profile: str) -> None:
    """Over some seeds every family of a profile occurs, and no other does."""
    draw = PROFILES[profile]
    met = set[Family]().union(*(_families_of(draw(Choices(seed))) for seed in SEEDS))
    assert met == FAMILIES[profile]


def test_sizes_from_one_to_seven() -> None:
    """Six and seven are rarer: they cost most."""
    sizes = [PROFILES["all"](Choices(seed)).replicas for seed in range(400)]
    assert set(sizes) == {1, 2, 3, 4, 5, 6, 7}
    assert sizes.count(6) + sizes.count(7) < sizes.count(3) / 3


def test_calm_has_no_faults() -> None:
    """Nothing exists in it but an isolation of one replica in some of the runs, and clocks that differ."""
    shapes = [PROFILES["calm"](Choices(seed)) for seed in SEEDS]
    assert all(_families_of(shape) <= {Family.CLOCK} for shape in shapes)
    assert {shape.faults.isolations for shape in shapes} == {0, 1}
    kept = ("duration", "settling", "isolations")
    for shape in shapes:
        assert attrs.evolve(shape.faults, **{name: getattr(BENIGN, name) for name in kept}) == BENIGN


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_expects_something(profile: str) -> None:
    """A sweep that met nothing says so, whatever its profile."""
    expected = expected_of(profile)
    assert expected
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"all"}))
def test_a_seed_of_each_profile_passes(profile: str) -> None:
    """One of each, whole runs; sweeps have many."""
    report = run_seed(2, Swarm(profile))
    assert report.failure is None, report.failure
