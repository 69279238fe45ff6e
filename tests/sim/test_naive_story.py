"""The twelve mistakes, told: what went wrong is in each story, and the run does not notice."""

from __future__ import annotations

import re

import pytest

from sim.choices import Choices
from sim.explain.model import Kind
from sim.explain.outline import select
from sim.explain.teller import StoryTeller
from sim.explain.text import tell
from sim.naive.experiment import NaiveScript
from sim.naive.scripts import SCRIPTS
from sim.telling import telling

STORY_LINES_MAX = 80


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_mistake_is_told(name: str) -> None:
    """It ends with the judge's words, and nothing of the run changes."""
    experiment = NaiveScript(name)
    teller = StoryTeller(name)
    with telling(teller):
        report = experiment.run(Choices(1))
    assert report == experiment.run(Choices(1))
    assert report.failure is not None
    story = teller.finish(report.failure)
    lines = tell(story, select(story))
    assert len(lines) <= STORY_LINES_MAX
    assert lines[1].startswith(f"FAILED {report.failure.rule}: ")
    assert story.events[-1].kind is Kind.VIOLATION
    told = [story.events[event] for event in select(story).events]
    for laptop in re.findall(r"laptop-\d+", report.failure.text):
        assert any(laptop in event.text and event.kind is not Kind.VIOLATION for event in told)


def test_noise_is_told_as_well() -> None:
    """Losses and copies of the network, and the orders of bystanders."""
    teller = StoryTeller("noise")
    with telling(teller):
        NaiveScript("one-behind", noisy=True).run(Choices(3))
    fates = {message.fate.value for message in teller.builder.messages}
    assert {"arrived", "lost"} <= fates
    assert [lane for lane in teller.builder.lanes if lane.name.startswith("bystander")]
