"""Every named scenario holds, under all oracles, and tells its story."""

from __future__ import annotations

import pytest

from sim.scenarios.catalogue import SCENARIOS
from sim.scenarios.scenario import Scenario
from trio_pb.core.marks import Mark, take_reached


@pytest.mark.parametrize("scenario", [pytest.param(it, id=it.name) for it in SCENARIOS.values()])
def test_scenario(scenario: Scenario) -> None:
    """What it expects is so; the story begins with the cluster and has at least one thing that came true."""
    cluster = scenario.cluster()
    scenario.play(cluster)
    lines = cluster.narration.lines
    assert "replicas" in lines[0].text
    assert any(line.is_check for line in lines)
    assert not cluster.sim.choices.made, "nothing happens in a scenario that it does not say"


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("dead-log-begins-afresh", {Mark.TRANSFER_NEW_LOG, Mark.START_VIEW_TOO_SHORT}),
        ("one-wrong-answer-shows-in-a-probe", {Mark.DIVERGED_BY_PROBE}),
    ],
)
def test_branches_that_chance_does_not_find(name: str, marks: set[Mark]) -> None:
    """These are taken in no run of thousands: more than one rare thing must happen, one after the other."""
    take_reached()
    SCENARIOS[name].play(SCENARIOS[name].cluster())
    assert marks <= take_reached()


def test_titles_are_sentences_that_fit_a_line() -> None:
    """A title is the first line of a docstring, and ends with a full stop."""
    for scenario in SCENARIOS.values():
        assert scenario.title.endswith("."), scenario.name
        assert len(scenario.title) <= 120, scenario.name


def test_every_subject_has_scenarios() -> None:
    """The rooms of the catalogue are the subjects that people look for."""
    assert {it.subject for it in SCENARIOS.values()} == {
        "mistakes",
        "normal case",
        "view change",
        "partitions",
        "restarts",
        "repair",
        "state transfer",
        "reads",
        "sessions",
        "disks",
    }
