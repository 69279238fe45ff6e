"""Which events to tell: what led to a violation, an outline of a clean run, or a stretch of time."""

from __future__ import annotations

import attrs

from sim.explain.cone import cone_of
from sim.explain.model import Kind, Story

__all__ = ["Selection", "everything", "select", "stretch"]

# What a clean run is told by; the rest is counted.
OUTLINE = frozenset(
    {
        *(Kind.START, Kind.CRASH, Kind.STOP, Kind.PAUSE, Kind.RESUME, Kind.PRIMARY, Kind.BACKUP, Kind.TRUNCATE),
        *(Kind.FAULT, Kind.HEAL),
    }
)


@attrs.frozen
class Selection:
    """Events of a story."""

    name: str  # For people.
    events: frozenset[int]
    counts_rest: bool = False  # Say in between what is left out.


def select(story: Story) -> Selection:
    """The story as one wants to read it first."""
    if story.violation is not None:
        return Selection("what led to it", cone_of(story))
    outline = (event.id for event in story.events if event.kind in OUTLINE)
    return Selection("the outline", frozenset(outline), counts_rest=True)


def everything(story: Story) -> Selection:
    """All of it."""
    return Selection("everything", frozenset(range(len(story.events))))


def stretch(story: Story, from_us: int, to_us: int, *, idle: bool) -> Selection:
    """A stretch of virtual time, with or without idle talk."""
    events = (event.id for event in story.events if from_us <= event.time <= to_us and (idle or not event.is_idle))
    return Selection(f"{from_us / 1000:g} to {to_us / 1000:g} ms", frozenset(events))
