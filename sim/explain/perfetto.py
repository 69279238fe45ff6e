"""A story in the Trace Event Format: for ui.perfetto.dev and chrome://tracing.

Every lane is a process with two tracks: what it is (view and role, as slices) and what it does (events, with
flow arrows for messages). Commit points are counters. Times are the virtual microseconds of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from sim.explain.model import Event, Kind, LaneKind, Message, StateChange, Story

__all__ = ["trace_file"]

IS, DOES = 1, 2  # Tracks of a lane.
INSTANT_US = 1  # Arrows need a slice to begin and end at; every event is one, as short as can be.

Record = dict[str, object]


def trace_file(story: Story) -> str:
    """Return the trace file of a story."""
    records = [*_names(story), *_states(story), *(_event(event) for event in story.events), *_flows(story)]
    if story.violation is not None and story.verdict is not None:
        end = story.events[story.violation]
        mark = {"ph": "i", "s": "g", "cat": "violation", "args": {"text": story.verdict.text}}
        records.append({**mark, "name": f"violated: {story.verdict.rule}", **_where(end.lane, DOES), "ts": end.time})
    about = {"title": story.title, "command": story.command}
    return json.dumps({"displayTimeUnit": "ms", "otherData": about, "traceEvents": records}, separators=(",", ":"))


def _where(lane: int, track: int) -> Record:
    return {"pid": lane + 1, "tid": track}  # Process 0 has a meaning of its own to the viewers.


def _names(story: Story) -> Iterator[Record]:
    for index, lane in enumerate(story.lanes):
        yield {"ph": "M", "name": "process_name", **_where(index, IS), "args": {"name": lane.name}}
        yield {"ph": "M", "name": "process_sort_index", **_where(index, IS), "args": {"sort_index": index}}
        for track, name in ((IS, "state"), (DOES, "events")):
            yield {"ph": "M", "name": "thread_name", **_where(index, track), "args": {"name": name}}


def _states(story: Story) -> Iterator[Record]:
    """One slice for as long as view, status and role stay the same; a counter for the commit point."""
    for lane, it in enumerate(story.lanes):
        if it.kind is not LaneKind.REPLICA:
            continue
        changes = [change for change in story.states if change.lane == lane]
        begun: tuple[str, int, Mapping[str, object]] | None = None
        committed: object = None
        for change in changes:
            time, name = story.events[change.event].time, _state_name(change)
            if begun is None or begun[0] != name:
                if begun is not None:
                    yield _slice(lane, begun, time)
                begun = (name, time, change.fields)
            if change.fields.get("committed") not in (committed, None):
                committed = change.fields["committed"]
                yield {"ph": "C", "name": "committed", **_where(lane, IS), "ts": time, "args": {"op": committed}}
        if begun is not None:
            yield _slice(lane, begun, story.end_time)


def _state_name(change: StateChange) -> str:
    fields = change.fields
    what = fields.get("role") or fields.get("status") or "up"
    return f"view {fields['view']}: {what}" if "view" in fields else str(what)


def _slice(lane: int, begun: tuple[str, int, Mapping[str, object]], end: int) -> Record:
    name, start, fields = begun
    length = max(end - start, INSTANT_US)
    return {"ph": "X", "name": name, **_where(lane, IS), "ts": start, "dur": length, "args": dict(fields)}


def _event(event: Event) -> Record:
    return {
        "ph": "X",
        "name": event.text,
        "cat": "idle" if event.is_idle else event.kind.value,
        **_where(event.lane, DOES),
        "ts": event.time,
        "dur": INSTANT_US,
        "args": {"event": event.id, **event.facts},
    }


def _flows(story: Story) -> Iterator[Record]:
    for message in story.messages:
        if message.ended is None:
            continue
        begin, end = story.events[message.sent], story.events[message.ended]
        yield _arrow(message, begin, "s")
        yield {**_arrow(message, end, "f"), "bp": "e"}


def _arrow(message: Message, event: Event, phase: str) -> Record:
    return {
        "ph": phase,
        "id": message.id,
        "name": message.kind,
        "cat": Kind.SEND.value,
        **_where(event.lane, DOES),
        "ts": event.time,
    }
