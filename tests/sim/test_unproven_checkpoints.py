"""The adversary that takes a checkpoint while it is all that says how far a log was durable."""

from __future__ import annotations

from sim.choices import Choices
from sim.experiment import Swarm, run_seed
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.profiles import PROFILES

SEED = 2  # Of the storage profile: the adversary gets so far that it strikes.


def test_whoever_falls_back_stays_bound() -> None:
    """An older checkpoint that loads in place of the newest one takes no promise back."""
    report = run_seed(SEED, Swarm("storage"))
    assert report.failure is None, report.failure
    assert report.counts["unproven checkpoint"] > 0


def test_whoever_is_unbound_is_noticed() -> None:
    """The watermark falls when the older checkpoint is written down, before anything is denied."""
    with planted(CATALOGUE["lower-checkpoint-unbinds"]):
        report = run_seed(SEED, Swarm("storage"))
    assert report.failure is not None
    assert report.failure.rule == "INV-29"


def test_only_where_a_disk_decays() -> None:
    """There is nothing to take where no disk decays, and without the family of disks there is none at all."""
    shapes = [PROFILES["all"](Choices(seed)) for seed in range(60)]
    assert any(shape.faults.unproven_checkpoints for shape in shapes)
    assert not any(shape.faults.unproven_checkpoints for shape in shapes if not shape.faults.disks.decaying)
    assert not any(PROFILES["ambush"](Choices(seed)).faults.unproven_checkpoints for seed in range(20))
