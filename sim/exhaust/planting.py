"""A small world of the shipped code with a bug from the catalogue in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sim.exhaust.beginning import begin
from sim.exhaust.world import Size, World
from sim.mutants.catalogue import find
from sim.mutants.mutant import planted
from sim.oracles.facts import Violation

__all__ = ["planted_world"]


@contextmanager
def planted_world(size: Size, mutant: str | None) -> Generator[World]:
    """Make a world and have a bug, or none, in the code meanwhile.

    A bug that shows before anything can go wrong is planted when that is over: what it does then is of more interest.

    Raises:
        ConfigError: there is no such bug.
    """
    if mutant is None:
        yield World(size)
        return
    bug = find(mutant)
    try:
        with planted(bug):
            given = begin(size.replicas, size.requests)
    except (Violation, AssertionError):
        given = begin(size.replicas, size.requests)
    with planted(bug):
        yield World(size, given)
