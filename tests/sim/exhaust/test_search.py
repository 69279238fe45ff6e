"""A whole small world is explored, and a planted bug is met on a shortest way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.exhaust.planting import planted_world
from sim.exhaust.search import Report, search
from sim.exhaust.story import tell_trace
from sim.exhaust.trace import Trace, is_trace, read_trace
from sim.exhaust.world import Size, World
from trio_pb.errors import ConfigError

NO_CRASH = Size(requests=1, views=2, crashes=0)


def explore(size: Size, mutant: str | None = None, states_max: int | None = None) -> Report:
    """Search a world for as long as it takes."""
    with planted_world(size, mutant) as world:
        return search(world, states_max, lambda _: None)


def test_one_view_keeps_every_promise() -> None:
    """One request, one view, one crash: every state is looked at, and how many there are is known."""
    report = explore(Size(requests=1, views=1, crashes=1))
    assert report.is_complete
    assert report.trace is None
    assert (report.states, report.depth) == (1163, 15)


def test_clients_change_places() -> None:
    """Of two states that differ in who asked first, one is looked at."""
    world = World(Size(requests=2, views=1, crashes=0))
    asked = [step for step in world.steps(world.initial) if type(step.move).__name__ == "Ask"]
    first, second = [step.state for step in asked]
    assert first is not None
    assert second is not None
    assert first != second
    assert world.key(first) == world.key(second)


def test_a_search_stops_where_it_is_told_to() -> None:
    """A bound on the states is no proof of anything."""
    report = explore(NO_CRASH, states_max=100)
    assert report.trace is None
    assert not report.is_complete


# Bug of the view change -> the rule that notices it, and the fewest moves that it takes.
NEAREST = {
    "view-not-durable": ("INV-4", 1),
    "restarted-primary-resumes": ("INV-5", 1),
    "begin-before-the-image": ("INV-10", 4),
    "speak-before-repair": ("INV-10", 6),
    "log-view-moves-with-the-view": ("INV-11", 7),
    "small-view-change-quorum": ("new log", 8),
    "tail-cut-to-the-commit-point": ("new log", 10),
}


@pytest.mark.parametrize("name", NEAREST)
def test_a_planted_bug_is_met_on_a_shortest_way(name: str) -> None:
    """Breadth first: nothing shorter breaks a promise."""
    crashes = 1 if name == "restarted-primary-resumes" else 0
    report = explore(Size(requests=1, views=2, crashes=crashes), name)
    assert report.trace is not None
    assert (report.trace.rule, len(report.trace.moves)) == NEAREST[name]


def test_a_way_is_kept_in_a_file_and_told(tmp_path: Path) -> None:
    """In another process, with messages numbered otherwise, it is the same way."""
    found = explore(NO_CRASH, "small-view-change-quorum").trace
    assert found is not None
    path = tmp_path / "bug.world"
    trace = Trace(
        size=found.size, mutant="small-view-change-quorum", rule=found.rule, text=found.text, moves=found.moves
    )
    trace.write(path)
    assert is_trace(path)
    assert read_trace(path) == trace

    story = tell_trace(read_trace(path), "a bug", "")
    assert story.verdict is not None
    assert story.verdict.rule == "new log"
    told = [event.text for event in story.events]
    assert told[0] == "C0 asks R1 for its request 1"
    assert "C0 hears from R1 that its request 1 was executed, at op 2" in told
    assert "R2 leads view 2" in told


def test_a_way_that_does_not_fit_the_code_is_refused(tmp_path: Path) -> None:
    """The bug was mended: what is delivered was never sent."""
    path = tmp_path / "old.world"
    found = explore(NO_CRASH, "small-view-change-quorum").trace
    assert found is not None
    deliver = next(move for move in found.moves if move.kind == "deliver")
    Trace(size=found.size, rule=found.rule, text=found.text, moves=(deliver,)).write(path)
    with pytest.raises(ConfigError, match="what nobody sent"):
        tell_trace(read_trace(path), "", "")


@pytest.mark.parametrize(
    "line",
    [
        "[" * 50_000,
        '[0, "ask", 1e999]',
        '[3, "append", null]',
        '[true, "append", null]',
        '[0, "append", 1]',
        '[0, "jump", null]',
        '[0, "deliver", "no digits"]',
        '[0, "deliver", 7]',
        '[0, "wished", -1]',
        '[0, "crash", [0, [1], true]]',
        '[0, "crash", null]',
        "[0]",
        "7",
    ],
)
def test_a_move_that_there_is_not_is_refused(tmp_path: Path, line: str) -> None:
    """Before anything is told."""
    path = tmp_path / "bad.world"
    Trace(size=Size(), rule="INV-1", text="bad", moves=()).write(path)
    assert read_trace(path).moves == ()
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=r"bad\.world"):
        read_trace(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """The message names file and line."""
    path = tmp_path / "other.world"
    path.write_text("{}\nnothing\n")
    assert not is_trace(path)
    with pytest.raises(ConfigError, match="line 2"):
        read_trace(path)
