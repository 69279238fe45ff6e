"""The causal cone: of everything that happened, what led to the end of a story."""

from __future__ import annotations

from heapq import heappop, heappush

from sim.explain.model import Kind, LaneKind, Story

__all__ = ["CONE_EVENTS", "cone_of"]

CONE_EVENTS = 64  # What a person reads at one go.
FAR = 1 << 30
# How far apart two events are in the telling: what a message says is where it was sent, context is far.
SENDING, CAUSE, CONTEXT = 0, 1, 3
LIVES = frozenset({Kind.CRASH, Kind.STOP, Kind.START, Kind.PAUSE, Kind.RESUME})
HARM = frozenset({Kind.FAULT, Kind.HEAL})


def cone_of(story: Story, size_max: int = CONE_EVENTS) -> frozenset[int]:
    """Return the events to tell, about `size_max`: the nearest to the violation along causes and context.

    Harm done by the world and the deaths of replicas, between the first and the last of them, are told as
    well: they cause nothing, they only keep things from happening. What was said again and again is told
    once. Without a violation there is no cone: no event.
    """
    if story.violation is None:
        return frozenset()
    distances = {story.violation: 0}
    waiting = [(0, -story.violation)]  # Of two equally near the later one first.
    chosen: set[int] = set()
    done: set[int] = set()
    said: set[tuple[int, str]] = set()
    while waiting and len(chosen) < size_max:
        distance, negated = heappop(waiting)
        event = story.events[-negated]
        if event.id in done:
            continue
        done.add(event.id)
        if (event.lane, event.text) not in said:
            said.add((event.lane, event.text))
            chosen.add(event.id)
        cause = SENDING if event.kind is Kind.ARRIVE else CAUSE
        for others, length in ((event.causes, cause), (event.context, CONTEXT)):
            for other in others:
                if distance + length < distances.get(other, FAR):
                    distances[other] = distance + length
                    heappush(waiting, (distance + length, -other))
    return frozenset(chosen | _around(story, min(chosen)))


def _around(story: Story, first: int) -> set[int]:
    """What kept things from happening, and what became of it."""
    replicas = {lane for lane, it in enumerate(story.lanes) if it.kind is LaneKind.REPLICA}
    return {
        event.id
        for event in story.events[first:]
        if (event.kind in HARM and event.lane == 0) or (event.kind in LIVES and event.lane in replicas)
    }
