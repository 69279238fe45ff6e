"""What happened in a run, as data: lanes, events, messages and the states of the replicas.

Nothing here knows a protocol. A world tells its run to a `StoryBuilder` (`sim.explain.builder` says how); the
text, the page and the trace file are made from the `Story` alone. Times are virtual microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import attrs

__all__ = [
    "MILESTONES",
    "NO_FACTS",
    "Event",
    "Fate",
    "Held",
    "Kind",
    "Lane",
    "LaneKind",
    "LogCell",
    "Message",
    "StateChange",
    "Story",
    "Value",
    "Verdict",
]

Value: TypeAlias = "str | int | bool | None"
NO_FACTS: Mapping[str, Value] = MappingProxyType({})


class LaneKind(StrEnum):
    """Whose line it is."""

    WORLD = "world"  # The network and whoever does harm; always the first lane.
    REPLICA = "replica"
    CLIENT = "client"


class Kind(StrEnum):
    """What an event is; the page has a mark for each."""

    SEND = "send"
    ARRIVE = "arrive"
    START = "start"  # A process starts, or is ready.
    CRASH = "crash"
    STOP = "stop"  # For good, by its own decision.
    PAUSE = "pause"
    RESUME = "resume"
    VIEW = "view"  # A replica leaves its view for another, or wishes to.
    PRIMARY = "primary"  # A replica begins to lead.
    BACKUP = "backup"  # A replica begins to follow.
    INSTALL = "install"  # A log of a new view takes the place of the old.
    TRUNCATE = "truncate"  # Ops leave a log.
    PREPARE = "prepare"  # A primary gives a request its number.
    APPEND = "append"  # Handed to the disk.
    DURABLE = "durable"  # The disk has it.
    COMMIT = "commit"
    APPLY = "apply"
    REPAIR = "repair"
    CHECKPOINT = "checkpoint"
    ASK = "ask"  # A client begins an operation.
    ANSWER = "answer"  # A client knows the outcome.
    FAULT = "fault"  # Harm done by the world: to the network, a disk, memory.
    HEAL = "heal"  # The end of some harm.
    NOTE = "note"  # Anything else.
    VIOLATION = "violation"


MILESTONES = frozenset(
    {Kind.START, Kind.CRASH, Kind.STOP, Kind.PAUSE, Kind.RESUME, Kind.PRIMARY, Kind.BACKUP, Kind.INSTALL}
)


class Fate(StrEnum):
    """What became of a message."""

    FLYING = "flying"  # Still on its way when the story ends.
    ARRIVED = "arrived"
    LOST = "lost"
    BLOCKED = "blocked"  # By a partition.
    UNHEARD = "unheard"  # It came, and nobody listened: the receiver was down.


class Held(StrEnum):
    """How well a replica holds an op."""

    MISSING = "missing"  # It knows which op stands there, and does not have it.
    MEMORY = "memory"  # A power cut would take it.
    DURABLE = "durable"


@attrs.frozen
class Lane:
    """A line of the diagram."""

    name: str
    kind: LaneKind


@attrs.define(kw_only=True)
class Event:
    """Something that happened at one place in one moment."""

    id: int  # Its place in `Story.events`, which is the order in which things happened.
    time: int
    lane: int  # Index in `Story.lanes`.
    kind: Kind
    text: str
    about: tuple[str, ...] = ()
    view: int | None = None  # The view that it is part of, for its colour.
    is_idle: bool = False
    facts: Mapping[str, Value] = NO_FACTS  # What else there is to know, for a closer look.
    causes: tuple[int, ...] = ()  # Earlier events without which it would not have happened; sorted.
    context: tuple[int, ...] = ()  # Earlier events that one should know of to understand it; sorted.


@attrs.define(kw_only=True)
class Message:
    """A message on its way from one lane to another. A copy made by the network is a message of its own.

    What it says stands in the facts of the event of its sending.
    """

    id: int  # Its place in `Story.messages`.
    kind: str
    source: int  # Index in `Story.lanes`, like `destination`.
    destination: int
    sent: int  # The event of its sending; those of a broadcast share it.
    ended: int | None = None  # The event of its arrival, if it had one.
    ended_time: int | None = None  # Of whatever became of it; None while it flies.
    fate: Fate = Fate.FLYING
    is_copy: bool = False
    is_late: bool = False  # The network held it back.
    view: int | None = None
    is_idle: bool = False


class LogCell(NamedTuple):
    """One op in a replica's log: equal ops of equal content have equal labels, others do not."""

    op: int
    view: int  # The view in which it was made, for its colour.
    label: str  # A few characters.
    held: Held
    is_committed: bool  # As far as the replica knows.


@attrs.frozen
class StateChange:
    """How a replica stands from event `event` on."""

    event: int
    lane: int
    fields: Mapping[str, Value]  # In the order in which they are shown; "view" and "status" give the lane's colour.
    log: tuple[LogCell, ...] = ()  # The newest part of it.


@attrs.frozen
class Verdict:
    """What was violated, or that nothing was."""

    rule: str
    text: str


@attrs.frozen(kw_only=True)
class Story:
    """A whole run."""

    title: str
    command: str  # That runs it again.
    lanes: tuple[Lane, ...]
    events: tuple[Event, ...]
    messages: tuple[Message, ...]
    states: tuple[StateChange, ...]
    verdict: Verdict | None  # None: nothing went wrong.
    violation: int | None  # Its event, the last one.
    notes: tuple[str, ...] = ()  # What the whole run was like: shape, faults.

    @property
    def end_time(self) -> int:
        """Virtual time of the last event."""
        return self.events[-1].time if self.events else 0

    def fields(self) -> dict[str, object]:
        """Return everything as what `json` can write; what is the same for most is left out."""
        return {
            "title": self.title,
            "command": self.command,
            "notes": list(self.notes),
            "lanes": [attrs.asdict(lane) for lane in self.lanes],
            "events": [_sparse(event) for event in self.events],
            "messages": [_sparse(message) for message in self.messages],
            "states": [
                {"event": it.event, "lane": it.lane, "fields": dict(it.fields), "log": [list(cell) for cell in it.log]}
                for it in self.states
            ],
            "verdict": None if self.verdict is None else attrs.asdict(self.verdict),
            "violation": self.violation,
        }


def _sparse(item: Event | Message) -> dict[str, object]:
    values: dict[str, object] = {}
    for field in attrs.fields(type(item)):
        value: object = getattr(item, field.name)
        if value is not None and value is not False and value != () and value != NO_FACTS:
            values[field.name] = value
    if isinstance(item, Event) and item.facts:
        values["facts"] = dict(item.facts)
    return values
