"""Runs of our own cluster, told: what the recorder hears, and that the run does not notice it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.choices import Choices
from sim.experiment import Swarm
from sim.explain.cone import cone_of
from sim.explain.model import Fate, Held, Kind, Story
from sim.explain.outline import select
from sim.explain.teller import StoryTeller
from sim.explain.text import tell
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.network import NetworkFaults
from sim.run import RunReport, run_shape
from sim.scenario import Cluster
from sim.scheduler import SECOND
from sim.shape import FaultPlan, Shape, WorkloadPlan
from sim.telling import telling

STORY_LINES_MAX = 100


def told(run: Callable[[], RunReport]) -> tuple[Story, RunReport]:
    """Run something, and have it told."""
    teller = StoryTeller("a run")
    with telling(teller):
        report = run()
    return teller.finish(report.failure), report


def texts(story: Story) -> list[str]:
    """All that happened."""
    return [event.text for event in story.events]


def run_small(network: NetworkFaults, *, codec: bool = False) -> RunReport:
    """Run a cluster with a little work."""
    workload = WorkloadPlan(operations=5, think_mean=1000)
    return run_shape(
        Choices(1), Shape(network=network, workload=workload, faults=FaultPlan(duration=SECOND), codec=codec)
    )


# --- The run does not notice ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 4, 12])
def test_telling_changes_nothing(seed: int) -> None:
    """Every event is the same with and without, whatever faults there are."""
    story, report = told(lambda: Swarm().run(Choices(seed)))
    assert report == Swarm().run(Choices(seed))
    assert story.verdict is None
    assert len(story.events) > 500


def test_messages_that_travel_as_bytes_are_told_as_well() -> None:
    """Where the codec is on, what arrives is another object than what left."""
    story, report = told(lambda: run_small(NetworkFaults(), codec=True))
    assert report == run_small(NetworkFaults(), codec=True)
    arrived = [message for message in story.messages if message.ended is not None]
    assert len(arrived) > 100
    assert any(text.startswith("R1 commits op 1: ") for text in texts(story))


def test_only_the_first_world_is_told_of() -> None:
    """A second cluster made in the same breath has a life of its own."""
    teller = StoryTeller("two")
    with telling(teller):
        run_small(NetworkFaults())
        lanes = len(teller.builder.lanes)
        run_small(NetworkFaults())
    assert len(teller.builder.lanes) == lanes


# --- What is heard --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failover() -> Story:
    """The primary is cut off with an order that nobody else has, and another takes over."""
    teller = StoryTeller("failover")
    with telling(teller):
        c = Cluster(replicas=3)
        c.order("laptop-1").expect_reply()
        old, *others = c.names
        c.isolate(old)
        c.order("laptop-2", via=old)
        c.order("laptop-3", via=c.await_primary(*others)).expect_reply()
        c.heal()
        c.expect_same_state()
    return teller.finish(None)


def test_the_way_of_an_order(failover: Story) -> None:
    """From the client's wish to its answer, in the order in which it happens."""
    way = iter(texts(failover))
    for words in ("wants to place", " makes op ", " sends op ", " takes op ", " acknowledges op ", " commits op "):
        assert any(words in text for text in way), words
    assert any("has its answer: it is op" in text for text in way)


def test_acknowledgements_say_what_the_disk_holds(failover: Story) -> None:
    """As shipped, every one is durable when it leaves."""
    acknowledged = [text for text in texts(failover) if " acknowledges op " in text and "hears" not in text]
    assert acknowledged
    assert all(text.endswith("'s disk") and ": durable on R" in text for text in acknowledged)


def test_partitions_are_told_with_what_they_stop(failover: Story) -> None:
    """The cut, the messages that do not get through, the end of it."""
    world = [event.text for event in failover.events if event.lane == 0]
    assert any(text.startswith("the network is cut: R") for text in world)
    assert any(text.startswith("the network is mended: R") for text in world)
    blocked = [message for message in failover.messages if message.fate is Fate.BLOCKED]
    assert blocked
    assert all(message.ended is None for message in blocked)


def test_logs_show_where_they_differ(failover: Story) -> None:
    """Two replicas hold different ops in one place, until the deposed one has what the others have."""
    labels: dict[int, set[str]] = {}
    for state in failover.states:
        for cell in state.log:
            labels.setdefault(cell.op, set()).update({cell.label} - {"?"})
    assert any(len(found) == 2 for found in labels.values())
    last = [next(state for state in reversed(failover.states) if state.lane == lane) for lane in (1, 2, 3)]
    assert len({state.log for state in last}) == 1
    assert all(cell.held is Held.DURABLE and cell.is_committed for cell in last[0].log)


def test_crashes_say_what_was_at_stake() -> None:
    """Losing power loses what no flush covered; the restart says what was found."""
    teller = StoryTeller("crash")
    with telling(teller):
        c = Cluster(replicas=3)
        c.order("laptop-1").expect_reply()
        name = c.names[1]
        c.crash(name)
        c.restart(name)
        c.expect_same_state()
    story = teller.finish(None)
    life = [it.text for it in story.events if it.kind in (Kind.CRASH, Kind.START) and it.text.startswith(name)]
    assert [text.split(":")[0].split(";")[0].split(" (")[0] for text in life] == [
        f"{name} is up",
        f"{name} loses its power",
        f"{name} starts and opens its disk",
        f"{name} is up",
    ]
    assert "records of ops 1 to" in life[-1]
    assert "it may have acknowledged up to op" in life[-1]


def test_copies_made_by_the_network_arrive_as_such() -> None:
    """A message that comes twice is one sending and two arrivals."""
    network = NetworkFaults(duplication=0.3, spike=0.1, spike_max=5000)
    story, _ = told(lambda: run_small(network))
    copies = [message for message in story.messages if message.is_copy]
    assert copies
    assert all(story.messages[copy.id].sent < (copy.ended or 0) for copy in copies)
    assert any(text.endswith("once more: the network made a copy") for text in texts(story))
    assert any(message.is_late for message in story.messages)


# --- Failures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        ("acknowledge-before-durable", "NOT durable on R"),
        ("view-not-durable", "is NOT on R"),
        ("no-duplicate-check", " makes op "),
    ],
)
def test_the_story_of_a_broken_rule(mutant: str, words: str) -> None:
    """It ends with the violation, is short enough to read, and shows the moment in which the rule was broken."""
    with planted(CATALOGUE[mutant]):
        runs = (told(lambda seed=seed: Swarm().run(Choices(seed))) for seed in range(20))  # type: ignore[misc]
        story, report = next((story, report) for story, report in runs if report.failure is not None)
    assert report.failure is not None
    assert story.verdict is not None
    assert story.verdict.rule == report.failure.rule
    assert story.violation == len(story.events) - 1
    lines = tell(story, select(story))
    assert len(lines) <= STORY_LINES_MAX
    assert any(words in story.events[event].text for event in cone_of(story))
