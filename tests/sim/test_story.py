"""Stories of runs: what caused what, what is told of it, and how it reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sim.explain.builder import StoryBuilder
from sim.explain.cone import cone_of
from sim.explain.model import Fate, Kind, Story, Verdict
from sim.explain.outline import everything, select, stretch
from sim.explain.perfetto import trace_file
from sim.explain.text import tell
from tests.sim.small_story import small_story

GOLDEN = Path(__file__).parent / "stories"


@pytest.fixture(scope="module")
def story() -> Story:
    """Two replicas and a lost promise."""
    return small_story()


def texts(story: Story, events: frozenset[int]) -> list[str]:
    """What is told."""
    return [story.events[event].text for event in sorted(events)]


def event_of(story: Story, text: str) -> int:
    """The first event with this text."""
    return next(event.id for event in story.events if event.text == text)


# --- What caused what ---------------------------------------------------------------------------------


def test_arrivals_are_caused_by_their_sending(story: Story) -> None:
    """A message's arrival has one cause, wherever the receiver was before."""
    for message in story.messages:
        if message.ended is not None:
            assert message.sent in story.events[message.ended].causes


def test_what_one_does_is_caused_by_what_it_heard(story: Story) -> None:
    """R0 commits since it heard the acknowledgement, and since it made the op."""
    causes = story.events[event_of(story, "R0 commits op 1")].causes
    assert event_of(story, "R0 hears that R1 acknowledges op 1") in causes


def test_same_names_beat_what_was_heard_last() -> None:
    """Of several things heard at once, the one that it is about is the cause."""
    b = StoryBuilder("names")
    r0, r1 = b.add_lane("R0"), b.add_lane("R1")
    heard = [b.note(r0, Kind.DURABLE, f"op {op} is durable", about=(f"op {op}",)) for op in (1, 2)]
    b.trigger(r0, heard)
    assert b.events[b.note(r0, Kind.COMMIT, "op 2", about=("op 2",))].causes == (heard[1],)
    assert b.events[b.note(r0, Kind.NOTE, "anything")].causes == tuple(heard)
    assert b.events[b.note(r1, Kind.NOTE, "elsewhere")].causes == ()


def test_time_that_passes_has_no_cause() -> None:
    """After a trigger of nothing, what was heard before causes nothing any more."""
    b = StoryBuilder("timers")
    r0 = b.add_lane("R0")
    b.trigger(r0, [b.note(r0, Kind.NOTE, "hears something")])
    b.trigger(r0, ())
    assert b.events[b.note(r0, Kind.VIEW, "has waited long enough")].causes == ()


def test_the_end_finds_where_a_name_was_decided() -> None:
    """A violation about an op that its lane never had to do with points to the first commit of it."""
    b = StoryBuilder("elsewhere")
    r0, r1 = b.add_lane("R0"), b.add_lane("R1")
    first = b.note(r0, Kind.COMMIT, "R0 commits op 1", about=("op 1",))
    b.note(r0, Kind.APPLY, "R0 executes op 1", about=("op 1",))
    b.note(r1, Kind.NOTE, "R1 does something")
    story = b.finish(Verdict("durable", "R1 lost op 1"), lanes=(r1,), about=("op 1",))
    assert story.violation is not None
    assert story.events[story.violation].context == (first,)


# --- What is told ------------------------------------------------------------------------------------


def test_the_cone_holds_what_led_to_the_end(story: Story) -> None:
    """The acknowledgement, the power cut: yes. Heartbeats: no."""
    told = texts(story, cone_of(story))
    assert told[-1].startswith("held by a quorum")
    assert {"R0 makes op 1 of it", "R1 gets op 1 from R0", "the power fails", "R1 loses its power"} <= set(told)
    assert not [text for text in told if "how far" in text]


def test_a_small_cone_is_the_nearest_part(story: Story) -> None:
    """Asked for few events, it leaves out the farthest."""
    few = cone_of(story, size_max=3)
    assert few < cone_of(story)
    assert story.violation in few
    assert event_of(story, "C0 wants to place order 1") not in few


def test_what_is_said_again_and_again_is_told_once() -> None:
    """Retries that all led to the end are one line."""
    b = StoryBuilder("retries")
    r0, r1 = b.add_lane("R0"), b.add_lane("R1")
    for _ in range(5):
        b.send(r0, (r1,), "wish", "R0 wishes", about=("view 1",))
    story = b.finish(Verdict("view", "view 1 is bad"), lanes=(r0,), about=("view 1",))
    assert texts(story, cone_of(story)) == ["R0 wishes", "view: view 1 is bad"]


def test_a_clean_run_is_told_in_outline() -> None:
    """Starts and crashes; the rest is counted."""
    b = StoryBuilder("clean")
    r0, c0 = b.add_lane("R0"), b.add_lane("C0")
    b.note(r0, Kind.START, "R0 is up")
    for op in range(1, 4):
        b.note(r0, Kind.COMMIT, f"R0 commits op {op}", about=(f"op {op}",))
        b.note(c0, Kind.ANSWER, "C0 has its answer")
    b.note(r0, Kind.CRASH, "R0 dies")
    story = b.finish()
    selection = select(story)
    assert texts(story, selection.events) == ["R0 is up", "R0 dies"]
    assert any("... 6 events, 3 ops committed, 3 answers" in line for line in tell(story, selection))


def test_a_stretch_of_time(story: Story) -> None:
    """All between two times, with idle talk only if wanted."""
    assert texts(story, stretch(story, 1000, 5000, idle=False).events) == [
        "C0 wants to place order 1",
        "C0 sends its order to R0",
    ]
    assert len(stretch(story, 1000, 5000, idle=True).events) == 8


# --- How it reads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["what_led_to_it", "everything"])
def test_text_of_a_story(story: Story, name: str) -> None:
    """The whole text, as a person sees it. TRIO_PB_REWRITE=1 writes it anew; the diff is the review."""
    selection = everything(story) if name == "everything" else select(story)
    text = "\n".join(tell(story, selection, width=90)) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TRIO_PB_REWRITE") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_lines_are_no_wider_than_asked(story: Story) -> None:
    """Long sentences go on in the next line, and so does the legend."""
    assert max(map(len, tell(story, everything(story), width=64))) <= 64


# --- Data ---------------------------------------------------------------------------------------------


def test_data_is_json(story: Story) -> None:
    """Everything can be written as JSON, and every number in it names something."""
    data = json.loads(json.dumps(story.fields()))
    lanes, events = len(data["lanes"]), len(data["events"])
    assert [event["id"] for event in data["events"]] == list(range(events))
    assert all(event["lane"] < lanes for event in data["events"])
    assert all(cause < event["id"] for event in data["events"] for cause in event.get("causes", []))
    assert all(message["sent"] < events for message in data["messages"])
    assert data["violation"] == events - 1
    fates = [message["fate"] for message in data["messages"]]
    assert [fates.count(fate) for fate in (Fate.LOST, Fate.BLOCKED)] == [1, 1]


def test_trace_file_for_perfetto(story: Story) -> None:
    """Every lane is a named process; every arrow begins and ends at a slice."""
    trace = json.loads(trace_file(story))
    records = trace["traceEvents"]
    names = {it["pid"]: it["args"]["name"] for it in records if it["name"] == "process_name"}
    assert list(names.values()) == [lane.name for lane in story.lanes]
    slices = {(it["pid"], it["tid"], it["ts"]) for it in records if it["ph"] == "X"}
    arrows = [it for it in records if it["ph"] in ("s", "f")]
    assert {(it["pid"], it["tid"], it["ts"]) for it in arrows} <= slices
    assert len(arrows) == 2 * sum(1 for message in story.messages if message.ended is not None)
    assert [it["name"] for it in records if it["ph"] == "i"] == ["violated: held by a quorum"]
    states = [it["name"] for it in records if it["ph"] == "X" and it["tid"] == 1]
    assert states == ["view 1: primary", "view 1: backup", "view 1: down"]
