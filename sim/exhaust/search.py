"""Breadth first through all states of a small world: the first broken promise found is one of the nearest.

A state that is known is a key of 32 bytes in a set; of the way to it are kept the number of the state before and
which of its steps it was. The states of two levels are held, packed; all else is found again by going the way again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator
from contextlib import contextmanager
from gc import disable, enable, isenabled
from time import process_time

import attrs

from sim.exhaust.trace import Trace
from sim.exhaust.world import Size, State, Step, World
from sim.oracles.facts import Violation

__all__ = ["Progress", "Report", "search"]

REPORT_EVERY = 2_000  # States looked at between two reports.


@attrs.frozen
class Progress:
    """How far a search is."""

    states: int  # Distinct ones found.
    frontier: int  # Found and not yet looked at.
    depth: int  # Moves to those.
    cpu_seconds: float


@attrs.frozen(kw_only=True)
class Report:
    """What a search found."""

    size: Size
    states: int
    moves: int  # Steps from one state to the next that were looked at.
    core_moves: int  # Of them those that the core had to be asked about.
    depth: int  # Moves to the farthest state.
    is_complete: bool  # Nothing is left to look at.
    cpu_seconds: float
    trace: Trace | None  # A shortest way to a broken promise.


class _Found:
    """States by number, in the order in which they were found: how each was reached."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self._parents = array("I")
        self._places = array("H")

    def add(self, key: bytes, parent: int, place: int) -> None:
        self.keys.add(key)
        self._parents.append(parent)
        self._places.append(place)

    def way(self, number: int) -> list[int]:
        """Which of its steps was taken in each state on the way to this one."""
        places: list[int] = []
        while number:
            places.append(self._places[number])
            number = self._parents[number]
        places.reverse()
        return places


def search(world: World, states_max: int | None, note: Callable[[Progress], None]) -> Report:
    """Look at every state, or at so many, until a promise is broken."""
    began = process_time()
    found = _Found()
    found.add(world.key(world.initial), 0, 0)
    pack, unpack = world.packing.pack, world.packing.unpack
    level: list[bytes] = [pack(*world.initial)]
    first = depth = moves = 0  # `first` is the number of the level's first state.
    trace: Trace | None = None

    def report(*, is_complete: bool) -> Report:
        return Report(
            size=world.size,
            states=len(found.keys),
            moves=moves,
            core_moves=sum(machine.steps for machine in world.machines),
            depth=depth,
            is_complete=is_complete,
            cpu_seconds=process_time() - began,
            trace=trace,
        )

    with _uncollected():
        while level:
            following: list[bytes] = []
            for index, packed in enumerate(level):
                for place, step in enumerate(world.steps(unpack(packed))):
                    moves += 1
                    if step.violation is not None:
                        depth += 1
                        trace = _trace(world, found.way(first + index), step, step.violation)
                        return report(is_complete=False)
                    assert step.state is not None
                    key = world.key(step.state)
                    if key not in found.keys:
                        found.add(key, first + index, place)
                        following.append(pack(*step.state))
                if index % REPORT_EVERY == 0:
                    left = len(level) - index + len(following)
                    note(Progress(len(found.keys), left, depth, process_time() - began))
                    if states_max is not None and len(found.keys) >= states_max:
                        return report(is_complete=False)
            first += len(level)
            depth += bool(following)
            level = following
    return report(is_complete=True)


def _trace(world: World, places: list[int], last: Step, violation: Violation) -> Trace:
    state: State = world.initial
    steps: list[Step] = []
    for place in places:
        step = next(step for at, step in enumerate(world.steps(state)) if at == place)
        assert step.state is not None
        steps.append(step)
        state = step.state
    return Trace.of(world, [*steps, last], violation)


@contextmanager
def _uncollected() -> Generator[None]:
    """Millions of states hold no cycle, and looking for one in them takes longer than finding them."""
    was_enabled = isenabled()
    disable()
    try:
        yield
    finally:
        if was_enabled:
            enable()
