"""Takes down a run as it happens; any world in virtual time can tell its own through it.

    builder = take_teller().builder  # sim.telling: asked for when the world is made, if anybody wants its story.
    builder.now = lambda: scheduler.now
    r0, r1 = builder.add_lane("R0"), builder.add_lane("R1")
    c0 = builder.add_lane("C0", LaneKind.CLIENT)
    ...
    builder.note(r0, Kind.PREPARE, "R0 makes op 7 of C0's order 3", about=("op 7",), view=2)
    (message,) = builder.send(r0, (r1,), "prepare", "R0 sends op 7 to R1", about=("op 7",), view=2)
    ...
    builder.arrive(message, "R1 gets op 7 from R0")           # or lose(message), or block(message)
    builder.note(r1, Kind.DURABLE, "R1's disk holds op 7", about=("op 7",))
    builder.state(r1, {"status": "normal", "view": 2, "head": 7}, log=[LogCell(7, 2, "9f3c", Held.DURABLE, False)])

The end is whoever's who asked for the story: it finds lanes and names again in the text of the failure, so
that one should name them in the same way ("R1 executes another op 7 than R0"). A test may do it by itself:

    story = builder.finish(Verdict("INV-2", "R0 and R1 commit two things at op 7"), lanes=(r0, r1), about=("op 7",))

`about` names what an event is about ("op 7", "view 3", "C0's order 3"): few, exact names. From them the
builder finds out what caused what, so that a story can be cut to what led to its end:

- a message's arrival is caused by its sending;
- what a lane does is caused by what it heard last (its *triggers*: by default its last arrival; a world
  that hears several things at once calls `trigger`), by those of them that are about the same, if any;
- and by the last event of the same lane about the same;
- the lane's last milestone (a start, a crash, another view) is *context*: worth telling, not followed as far.

A world that knows more names further `causes` itself. Times are virtual microseconds; a text is a whole
sentence that a newcomer understands, and names its lane. `is_idle` marks the talk that goes on when
nothing happens (heartbeats, pings): it is told only where it caused something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sim.explain.model import (
    MILESTONES,
    NO_FACTS,
    Event,
    Fate,
    Kind,
    Lane,
    LaneKind,
    LogCell,
    Message,
    StateChange,
    Story,
    Value,
    Verdict,
)

__all__ = ["StoryBuilder"]


class StoryBuilder:
    """Takes down a run as it happens, and works out what caused what."""

    def __init__(self, title: str, command: str = "", now: Callable[[], int] = lambda: 0) -> None:
        self.title = title
        self.command = command
        self.now = now  # Virtual microseconds; the world that is told of sets it.
        self.notes: list[str] = []
        self.lanes: list[Lane] = []
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.states: list[StateChange] = []
        self._triggers: dict[int, tuple[int, ...]] = {}  # By lane.
        self._last_about: dict[tuple[int, str], int] = {}  # (lane, name) -> event.
        self._milestones: dict[int, int] = {}  # By lane.
        self._latest: dict[int, int] = {}  # By lane: its last event.
        self._states: dict[int, StateChange] = {}  # The latest of each lane.
        self.world = self.add_lane("world", LaneKind.WORLD)

    def add_lane(self, name: str, kind: LaneKind = LaneKind.REPLICA) -> int:
        """Add a line to the diagram and return its index."""
        self.lanes.append(Lane(name, kind))
        return len(self.lanes) - 1

    @property
    def names(self) -> list[str]:
        """Everything that events were about, in the order of its first mention."""
        return list(dict.fromkeys(name for _, name in self._last_about))

    # --- What happens ---------------------------------------------------------------------------

    def note(
        self,
        lane: int,
        kind: Kind,
        text: str,
        *,
        about: tuple[str, ...] = (),
        view: int | None = None,
        is_idle: bool = False,
        facts: Mapping[str, Value] = NO_FACTS,
        causes: Iterable[int] = (),
        context: Iterable[int] = (),
    ) -> int:
        """Something happens at a lane; return its event."""
        number = len(self.events)
        found = set(causes)
        found.update(self._triggers_of(lane, about))
        for name in about:
            last = self._last_about.get((lane, name))
            if last is not None:
                found.add(last)
            self._last_about[lane, name] = number
        around = set(context)
        milestone = self._milestones.get(lane)
        if milestone is not None:
            around.add(milestone)
        if kind in MILESTONES:
            self._milestones[lane] = number
        self._latest[lane] = number
        self.events.append(
            Event(
                id=number,
                time=self.now(),
                lane=lane,
                kind=kind,
                text=text,
                about=about,
                view=view,
                is_idle=is_idle,
                facts=facts,
                causes=tuple(sorted(found)),
                context=tuple(sorted(around - found)),
            )
        )
        return number

    def trigger(self, lane: int, events: Sequence[int]) -> None:
        """From now on what the lane does is caused by these events; by none: by time that passed."""
        self._triggers[lane] = tuple(events)

    def state(self, lane: int, fields: Mapping[str, Value], log: Iterable[LogCell] = ()) -> None:
        """How a replica stands after its latest event; noted if anything changed."""
        change = StateChange(max(len(self.events) - 1, 0), lane, dict(fields), tuple(log))
        last = self._states.get(lane)
        if last is None or last.fields != change.fields or last.log != change.log:
            self._states[lane] = change
            self.states.append(change)

    def retell(self, event: int, kind: Kind, text: str) -> None:
        """Say better what happened, now that more of it is known."""
        told = self.events[event]
        told.kind, told.text = kind, text
        if kind in MILESTONES:
            self._milestones[told.lane] = event

    # --- Messages -------------------------------------------------------------------------------

    def send(
        self,
        source: int,
        destinations: Sequence[int],
        kind: str,
        text: str,
        *,
        about: tuple[str, ...] = (),
        view: int | None = None,
        is_idle: bool = False,
        facts: Mapping[str, Value] = NO_FACTS,
        causes: Iterable[int] = (),
    ) -> list[Message]:
        """A message leaves; return what is on its way, one for each destination."""
        event = self.note(source, Kind.SEND, text, about=about, view=view, is_idle=is_idle, facts=facts, causes=causes)
        return [self.post(event, destination, kind) for destination in destinations]

    def post(self, event: int, destination: int, kind: str) -> Message:
        """One more message leaves with an event that was noted already."""
        sending = self.events[event]
        message = Message(
            id=len(self.messages),
            kind=kind,
            source=sending.lane,
            destination=destination,
            sent=event,
            view=sending.view,
            is_idle=sending.is_idle,
        )
        self.messages.append(message)
        return message

    def repeat(self, message: Message) -> Message:
        """The network makes a copy of a message."""
        copy = self.post(message.sent, message.destination, message.kind)
        copy.is_copy = True
        return copy

    def arrive(self, message: Message, text: str, *, about: tuple[str, ...] | None = None, heard: bool = True) -> int:
        """A message is here; `about` is what its sending was about unless told. Unless `heard`, nobody listens."""
        sending = self.events[message.sent]
        self._triggers[message.destination] = ()  # It causes things; nothing here caused it.
        event = self.note(
            message.destination,
            Kind.ARRIVE,
            text,
            about=(sending.about if about is None else about) if heard else (),
            view=message.view,
            is_idle=message.is_idle,
            causes=(message.sent,),
        )
        message.ended = event
        self._end(message, Fate.ARRIVED if heard else Fate.UNHEARD)
        if heard:
            self._triggers[message.destination] = (event,)
        return event

    def lose(self, message: Message) -> None:
        """The network loses a message."""
        self._end(message, Fate.LOST)

    def block(self, message: Message) -> None:
        """A partition stops a message."""
        self._end(message, Fate.BLOCKED)

    # --- The end --------------------------------------------------------------------------------

    def finish(
        self,
        verdict: Verdict | None = None,
        *,
        lanes: Sequence[int] = (),
        about: tuple[str, ...] = (),
        causes: Iterable[int] = (),
    ) -> Story:
        """The run is over; a verdict says what was violated, at which lanes, and what it is about."""
        violation: int | None = None
        if verdict is not None:
            found = set(causes)
            for name in about:
                found.update(self._last_about[lane, name] for lane in lanes if (lane, name) in self._last_about)
            # A lane of which nothing is known that fits was caught in what it did last.
            found.update(
                self._latest[lane]
                for lane in lanes
                if lane in self._latest and not any((lane, name) in self._last_about for name in about)
            )
            lane = lanes[0] if lanes else self.world
            text, decided = f"{verdict.rule}: {verdict.text}", self._decided(about)
            violation = self.note(lane, Kind.VIOLATION, text, about=about, causes=found, context=decided)
        return Story(
            title=self.title,
            command=self.command,
            lanes=tuple(self.lanes),
            events=tuple(self.events),
            messages=tuple(self.messages),
            states=tuple(self.states),
            verdict=verdict,
            violation=violation,
            notes=tuple(self.notes),
        )

    # --- Inside ---------------------------------------------------------------------------------

    def _decided(self, about: tuple[str, ...]) -> list[int]:
        """Where each of these was first committed, or last heard of."""
        decided: list[int] = []
        for name in about:
            events = [event for event in self.events if name in event.about]
            commits = [event.id for event in events if event.kind is Kind.COMMIT]
            decided += commits[:1] or [event.id for event in events[-1:]]
        return decided

    def _triggers_of(self, lane: int, about: tuple[str, ...]) -> list[int]:
        """Those that are about the same, else those that are no idle talk, else all."""
        heard = [self.events[trigger] for trigger in self._triggers.get(lane, ())]
        same = [event.id for event in heard if not set(about).isdisjoint(event.about)]
        return same or [event.id for event in heard if not event.is_idle] or [event.id for event in heard]

    def _end(self, message: Message, fate: Fate) -> None:
        message.fate = fate
        message.ended_time = self.now()
