"""The adversary that leaves an acknowledged op with somebody who cannot read it."""

from __future__ import annotations

import attrs
import pytest

from sim.choices import Choices
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.profiles import PROFILES
from sim.run import RunReport, run_shape

SEEDS = (3, 9, 18)


def _witnessed(seed: int, witnesses: int = 3) -> RunReport:
    choices = Choices(seed)
    shape = PROFILES["storage"](choices)
    faults = attrs.evolve(shape.faults, rotten_witnesses=witnesses)
    return run_shape(choices, attrs.evolve(shape, replicas=max(3, shape.replicas), faults=faults))


@pytest.mark.parametrize("name", ["small-denial-quorum", "faults-count-as-denials"])
def test_a_rule_about_denials_shows(name: str) -> None:
    """A new log that drops what one cannot read, and others never had, is noticed."""
    with planted(CATALOGUE[name]):
        reports = [_witnessed(seed) for seed in SEEDS]
    assert {report.failure.rule for report in reports if report.failure is not None} == {"new log"}


def test_the_right_code_waits_for_who_is_away() -> None:
    """It may stand still for a while, and goes on when the one that died is back."""
    for seed in SEEDS:
        report = _witnessed(seed)
        assert report.failure is None, report.failure
        assert report.counts["rotten witness"] > 0
