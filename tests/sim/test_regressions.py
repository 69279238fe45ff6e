"""Recordings of failures, replayed in every test run.

`regressions/fixed` holds what once failed: it must be clean. `regressions/planted` holds failures of the shipped
code with one rule taken out, shrunk, one file for a mutant: each must fail as recorded with the mutant planted and
be clean without. That the files still do so after other parts have changed is what keyed choices are for; one that
no longer does is made anew with `python -m tests.sim.test_regressions NAME...`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from sim.experiment import Swarm, run_seed
from sim.mutants.hunt import Planted
from sim.profiles import DEFAULT_PROFILE
from sim.recording import SUFFIX, read, record
from sim.shrink import shrink
from tests.sim.test_sensitivity import PROFILES, SEEDS
from trio_pb import __version__

FOLDER = Path(__file__).parent / "regressions"
FIXED = sorted((FOLDER / "fixed").glob(f"*{SUFFIX}"))
PLANTED = sorted((FOLDER / "planted").glob(f"*{SUFFIX}"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)


def test_what_was_fixed_stays_fixed() -> None:
    """The recorded choices are harmless now, in every file that is there."""
    for path in FIXED:
        report, _ = read(path).run()
        assert report.failure is None, f"{path}: {report.failure}"


@pytest.mark.parametrize("path", PLANTED, ids=_stem)
def test_planted_mistake_is_caught_and_only_that(path: Path) -> None:
    """The recorded choices fail with the rule taken out, and are harmless with the rule in place."""
    recording = read(path)
    assert recording.failure is not None
    planted = attrs.evolve(recording, experiment=Planted(_stem(path), recording.experiment))
    broken, _ = planted.run()
    assert broken.failure is not None
    assert broken.failure.is_like(recording.failure), broken.failure
    shipped, _ = recording.run()
    assert shipped.failure is None, shipped.failure


def _make(names: Iterable[str]) -> None:
    """Record and shrink the first failure of each mutant over the seeds that are known to catch it."""
    for name in names:
        base = Swarm(PROFILES.get(name, DEFAULT_PROFILE))
        experiment = Planted(name, base)
        seed = next(seed for seed in SEEDS[name] if run_seed(seed, experiment).failure is not None)
        shrunk = shrink(record(__version__, experiment, seed), jobs=2)
        path = FOLDER / "planted" / f"{name}{SUFFIX}"
        attrs.evolve(shrunk.recording, experiment=base).write(path)
        print(f"{path.name}: {len(shrunk.recording.choices)} choices instead of {shrunk.choices_before}", flush=True)


if __name__ == "__main__":
    _make(sys.argv[1:] or sorted(SEEDS))
