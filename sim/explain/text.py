"""A story for a terminal: one line an event, with a column for every replica and client."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from textwrap import wrap

from sim.explain.model import Event, Fate, Kind, LaneKind, Message, Story
from sim.explain.outline import Selection

__all__ = ["tell"]

MARKS = {
    Kind.SEND: ">",
    Kind.ARRIVE: "<",
    Kind.CRASH: "X",
    Kind.STOP: "X",
    Kind.FAULT: "!",
    Kind.VIOLATION: "#",
    Kind.DURABLE: "D",
    Kind.COMMIT: "C",
    Kind.PRIMARY: "P",
    Kind.VIEW: "V",
    Kind.ASK: "?",
    Kind.ANSWER: "A",
}
OTHER_MARK = "o"
LEGEND = (
    *("> sends", "< hears", "D durable", "C commits", "V view change", "P leads", "X dies", "? asks", "A is answered"),
    *("! harm", "# violation", "o anything else", ": is down"),
)
FATES = {Fate.LOST: "is lost", Fate.BLOCKED: "does not get through", Fate.FLYING: "is still on its way"}
TEXT_WIDTH_MIN = 40
COUNTED_MIN = 4  # Fewer events without any result are not worth a line.


def tell(story: Story, selection: Selection, width: int = 120) -> list[str]:
    """Return the lines of a story."""
    lines = [story.title, *story.notes]
    if story.verdict is not None:
        lines += wrap(f"FAILED {story.verdict.rule}: {story.verdict.text}", width)
    lines += ["", *_Teller(story, selection, width).lines(), "", *_legend(width)]
    if len(selection.events) < len(story.events):
        lines.append(f"told: {selection.name}, {len(selection.events)} of {len(story.events)} events")
    if story.command:
        lines.append(f"again: {story.command}")
    return lines


class _Teller:
    """Goes through a story, and knows who is down and what was left out so far."""

    def __init__(self, story: Story, selection: Selection, width: int) -> None:
        self._story = story
        self._selection = selection
        self._width = width
        self._columns = _columns(story, selection.events)
        self._names = [story.lanes[lane].name for lane in self._columns]
        self._is_down = {lane: story.lanes[lane].kind is LaneKind.REPLICA for lane in self._columns}
        self._sent: dict[int, list[Message]] = {}
        for message in story.messages:
            self._sent.setdefault(message.sent, []).append(message)
        self._time_width = len(f"{story.end_time / 1000:.3f}")
        self._skipped: list[Event] = []
        self._committed: set[str] = set()  # Ops told or counted as committed.

    def lines(self) -> Iterator[str]:
        yield f"{'ms':>{self._time_width}}  {' '.join(self._names)}"
        for event in self._story.events:
            is_told = event.id in self._selection.events
            if is_told:
                yield from self._rest()
            if event.lane in self._is_down and event.kind in (Kind.CRASH, Kind.STOP, Kind.START):
                self._is_down[event.lane] = event.kind is not Kind.START
            if is_told:
                yield from self._line(event)
            else:
                self._skipped.append(event)
        yield from self._rest()

    def _rest(self) -> Iterator[str]:
        """Count what was left out."""
        skipped, self._skipped = self._skipped, []
        ops = {name for event in skipped if event.kind is Kind.COMMIT for name in event.about} - self._committed
        self._committed |= ops
        answers = sum(1 for event in skipped if event.kind is Kind.ANSWER)
        if not self._selection.counts_rest or (len(skipped) < COUNTED_MIN and not ops and not answers):
            return
        counts = [(len(skipped), "event"), (len(ops), "op committed"), (answers, "answer")]
        told = ", ".join(_count(count, what) for count, what in counts if count)
        yield f"{'':>{self._time_width}}  {self._strip()}  ... {told}"

    def _line(self, event: Event) -> Iterator[str]:
        head = f"{event.time / 1000:>{self._time_width}.3f}  {self._strip(event)}  "
        text = event.text + _fates(self._story, event, self._sent.get(event.id, []))
        first, *rest = wrap(text, max(self._width - len(head), TEXT_WIDTH_MIN))
        yield head + first
        for line in rest:
            yield f"{'':>{self._time_width}}  {self._strip()}    {line}"

    def _strip(self, event: Event | None = None) -> str:
        """The lanes at one moment, with the mark of an event on its own; the world's goes across."""
        if event is not None and event.lane == 0:
            across = "!" if event.kind is Kind.FAULT else "#" if event.kind is Kind.VIOLATION else "-"
            return " ".join(across * len(name) for name in self._names)
        cells = [":" if self._is_down[lane] else "|" for lane in self._columns]
        if event is not None and event.lane in self._columns:
            cells[self._columns.index(event.lane)] = MARKS.get(event.kind, OTHER_MARK)
        return " ".join(cell.ljust(len(name)) for cell, name in zip(cells, self._names, strict=True))


def _legend(width: int) -> Iterator[str]:
    line = ""
    for entry in LEGEND:
        if line and len(line) + 2 + len(entry) > width:
            yield line
            line = ""
        line += f"  {entry}" if line else entry
    yield line


def _columns(story: Story, told: Collection[int]) -> list[int]:
    """All replicas, and the clients that are told of."""
    seen = {story.events[event].lane for event in told}
    kinds = [(index, lane.kind) for index, lane in enumerate(story.lanes)]
    replicas = [index for index, kind in kinds if kind is LaneKind.REPLICA]
    return replicas + [index for index, kind in kinds if kind is LaneKind.CLIENT and index in seen]


def _fates(story: Story, event: Event, sent: list[Message]) -> str:
    """What became of those messages that did not arrive."""
    parts: dict[Fate, list[str]] = {}
    for message in sent:
        if message.fate in FATES and not message.is_copy:
            parts.setdefault(message.fate, []).append(story.lanes[message.destination].name)
    if event.kind is not Kind.SEND or not parts:
        return ""
    words = [f"to {', '.join(names)} it {FATES[fate]}" for fate, names in parts.items()]
    return f" ({'; '.join(words)})"


def _count(count: int, what: str) -> str:
    """`1 event`, `3 ops committed`."""
    noun, _, rest = what.partition(" ")
    return f"{count} {noun}{'' if count == 1 else 's'} {rest}".rstrip()
