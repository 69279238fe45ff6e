"""Calls that concern several partitions at once: do the partitions agree on when they happened?

Each partition alone has an order of its calls. All of them together are one order if each joining call can
be given one point in time that fits everywhere: what comes before it anywhere has begun by then, and what
comes after it anywhere has not ended yet. Two scans of which one sees only Ann's order and the other only
Bob's show why it must be asked: for Ann and for Bob alone all is well.

Points are looked for from the earliest on: where a partition must put something that began later before
the call, the call's point moves up, and the partition is searched anew. When no point moves any more, that
is the proof. When it does not work out, all joined partitions are searched as one machine, which decides
it but may take long.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias

import attrs

from sim.linearizability.history import UNKNOWN
from sim.linearizability.model import AnyModel, Model, Part
from sim.linearizability.search import Verdict, search

__all__ = ["JointModel", "agree", "joined_calls", "joint_parts"]

Partitions: TypeAlias = "Mapping[Hashable, Sequence[Part]]"
Orders: TypeAlias = "Mapping[Hashable, Sequence[int]]"


def joined_calls(partitions: Partitions) -> set[int]:
    """Return the calls that have a part in more than one partition."""
    seen: set[int] = set()
    joined: set[int] = set()
    for parts in partitions.values():
        for part in parts:
            (joined if part.call in seen else seen).add(part.call)
    return joined


def agree(model: AnyModel, partitions: Partitions, orders: Orders, joined: set[int], budget_steps: int) -> bool:
    """Whether points for all joining calls were found; False proves nothing.

    `orders` has an order of each partition that fits.
    """
    partitions, orders = dict(partitions), dict(orders)
    points = {part.call: part.begin for parts in partitions.values() for part in parts if part.call in joined}
    if any(part.end is None and part.call in joined for parts in partitions.values() for part in parts):
        return False  # It took effect everywhere or nowhere, which the partitions do not tell.
    while True:
        moved = False
        for key, parts in partitions.items():
            for part, floor in _floors(model, parts, orders[key], points, joined):
                # Past its end only because another point has just moved: then this order is found anew.
                if points[part.call] < floor <= _end(part):
                    points[part.call] = floor
                    moved = True
        if not moved:
            return _is_one_order(model, partitions, orders, joined)
        for key, parts in partitions.items():
            if any(points.get(part.call, part.begin) != part.begin for part in parts):
                partitions[key] = [part._replace(begin=points.get(part.call, part.begin)) for part in parts]
                found = search(model, partitions[key], budget_steps)
                budget_steps -= found.steps
                if found.verdict is not Verdict.LINEARIZABLE:
                    return False
                orders[key] = found.order


def _floors(
    model: AnyModel, parts: Sequence[Part], order: Sequence[int], points: Mapping[int, int], joined: set[int]
) -> Iterator[tuple[Part, int]]:
    """Yield the joining calls in their order, each with the earliest moment that the calls before it leave for it.

    A call that only reads may stand anywhere between two that write, so those that read beside it do not force it to
    be later. Nor does an earlier one that may as well stand behind the next call that writes, as may an order that is
    rejected before and after it. `points` may be raised between two calls.
    """
    state = model.initial()
    floor = min((part.begin for part in parts), default=0)
    beside: list[Part] = []  # What reads, since the last call that writes.
    for i in order:
        part = parts[i]
        if model.is_read(part.input, part.output):
            if part.call in joined:
                yield part, floor
            beside.append(part)
            continue
        state = model.step(state, part.input, part.output)
        floor = max(floor, points.get(part.call, part.begin))
        free: list[Part] = []
        for it in beside:
            if it.call not in joined and model.step(state, it.input, it.output) is not None:
                free.append(it)
            else:
                floor = max(floor, points.get(it.call, it.begin))
        beside = [it for it in free if it.begin > floor]
        if part.call in joined:
            yield part, floor


def _end(part: Part) -> int:
    assert part.end is not None
    return part.end


def _is_one_order(model: AnyModel, partitions: Partitions, orders: Orders, joined: set[int]) -> bool:
    """Whether the joining calls can stand in one order everywhere.

    Those between which a partition has no call that writes may stand there either way. Points are never lower behind
    such a call than before it, so only calls of equal points can contradict each other.
    """
    sorter: TopologicalSorter[object] = TopologicalSorter()
    for key, parts in partitions.items():
        before: list[object] = []  # What comes before all calls from here on.
        beside: list[object] = []  # Joining calls since the last call that writes.
        for number, i in enumerate(orders[key]):
            part = parts[i]
            if not model.is_read(part.input, part.output):
                if beside:
                    wall = (key, number)
                    sorter.add(wall, *before, *beside)
                    before, beside = [wall], []
                if part.call in joined:
                    sorter.add(part.call, *before)
                    before = [part.call]
            elif part.call in joined:
                sorter.add(part.call, *before)
                beside.append(part.call)
    try:
        sorter.prepare()
    except CycleError:
        return False
    return True


@attrs.frozen
class JointModel(Model[tuple[Any, ...]]):
    """Several partitions as one machine; an input is what a call asks of each, by the partition's number."""

    model: AnyModel
    keys: tuple[Hashable, ...]
    name: str = "joint"

    def initial(self) -> tuple[Any, ...]:
        """Return the initial state of each."""
        return (self.model.initial(),) * len(self.keys)

    def step(self, state: tuple[Any, ...], asked: Any, answered: Any) -> tuple[Any, ...] | None:
        """Let each partition that the call concerns take its step."""
        states = list(state)
        for number, part_asked, part_answered in asked:
            following = self.model.step(states[number], part_asked, UNKNOWN if answered is UNKNOWN else part_answered)
            if following is None:
                return None
            states[number] = following
        return tuple(states)

    def is_read(self, asked: Any, answered: Any) -> bool:
        """Whether it is a read in each."""
        return all(
            self.model.is_read(part_asked, UNKNOWN if answered is UNKNOWN else part_answered)
            for _, part_asked, part_answered in asked
        )

    def describe(self, asked: Any, answered: Any) -> str:
        """Say what it is in each partition."""
        return "; ".join(
            f"{self.model.describe_key(self.keys[number])}: "
            + self.model.describe(part_asked, UNKNOWN if answered is UNKNOWN else part_answered)
            for number, part_asked, part_answered in asked
        )

    def describe_state(self, state: tuple[Any, ...]) -> str:
        """Say the state of each partition."""
        return "; ".join(
            f"{self.model.describe_key(key)}: {self.model.describe_state(part)}"
            for key, part in zip(self.keys, state, strict=True)
        )

    def describe_key(self, key: Hashable) -> str:
        """Say which they are."""
        return f"{len(self.keys)} objects together"


def joint_parts(model: AnyModel, partitions: Partitions, joined: set[int]) -> tuple[JointModel, list[Part]]:
    """Return all partitions that joining calls touch as one model, and its calls."""
    keys = tuple(key for key, parts in partitions.items() if any(part.call in joined for part in parts))
    asked: dict[int, list[tuple[int, object, object]]] = {}
    times: dict[int, tuple[int, int | None, int | None]] = {}
    for number, key in enumerate(keys):
        for part in partitions[key]:
            asked.setdefault(part.call, []).append((number, part.input, part.output))
            times[part.call] = (part.begin, part.end, part.hint)
    parts = [
        Part(call, begin, end, tuple(asked[call]), UNKNOWN if end is None else None, hint)
        for call, (begin, end, hint) in sorted(times.items())
    ]
    return JointModel(model, keys), parts
