"""A rule taken out of the shipped code is noticed: the oracles can fail.

Each mutant runs over a few seeds that are known to catch it. When the generator or the core changes,
other seeds may catch it: `SEEDS` is found anew with `python -m tests.sim.test_sensitivity NAME...`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from sim.run import RunReport, run_seed
from tests.sim.mutants import MUTANTS

# Name of the mutant -> seeds, of which at least one must fail.
SEEDS: dict[str, tuple[int, ...]] = {}

# These need what the swarm does not make (yet).
UNCAUGHT: dict[str, str] = {}

SEARCHED = range(400)  # Where seeds are looked for.


def _first_failure(seeds: Iterable[int]) -> RunReport | None:
    return next((report for report in map(run_seed, seeds) if report.failure is not None), None)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_mutant_is_caught(name: str) -> None:
    """Some seed of the range fails with the rule taken out, and none with it in place."""
    assert _first_failure(SEEDS[name][:1]) is None, "the seed must pass with the rule in place"
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        assert _first_failure(SEEDS[name]) is not None


def test_every_mutant_is_run() -> None:
    """A mutant that no seed catches is named here, with the reason."""
    assert set(MUTANTS) == set(SEEDS) | set(UNCAUGHT)


def _search(names: Iterable[str]) -> None:
    for name in names:
        found: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            MUTANTS[name](patch)
            for seed in SEARCHED:
                failure = run_seed(seed).failure
                if failure is not None:
                    found.append(f"{seed} ({failure.rule})")
                if len(found) == 3:
                    break
        print(f"{name}: {', '.join(found) or 'none'}", flush=True)


if __name__ == "__main__":
    _search(sys.argv[1:] or list(MUTANTS))
