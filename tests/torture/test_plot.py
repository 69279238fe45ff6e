"""The picture is an image, shows every fault, and what callers waited."""

from __future__ import annotations

from xml.etree import ElementTree

import attrs

from trio_pb.testbed.torture.deck import Kind
from trio_pb.testbed.torture.nemesis import Action, Calm
from trio_pb.testbed.torture.plot import COLOURS, UNKNOWN, Sample, draw

SVG = "{http://www.w3.org/2000/svg}"
ACTIONS = [
    Action(kind=kind, begin=number, end=number + 2.5, target="replica 1", what="<a & b>", round=1, is_done=True)
    for number, kind in enumerate(Kind)
]
SAMPLES = [Sample(number / 10, number / 10 + 0.005, number % 2 == 0, number != 50) for number in range(300)]
CALMS = [
    Calm(round=1, begin=10.0, progress=0.2, whole=1.0),
    Calm(round=2, begin=20.0, progress=None, whole=None, told="replica 1 is down"),
]


def drawn(samples: list[Sample], actions: list[Action], calms: list[Calm]) -> ElementTree.Element:
    """The picture, read again."""
    return ElementTree.fromstring(draw("a <title>", 30.0, samples, actions, calms))


def titles(picture: ElementTree.Element) -> list[str]:
    """What one is told who points at something."""
    return [title.text or "" for title in picture.iter(f"{SVG}title")]


def test_every_fault_is_a_bar_that_says_what_it_was() -> None:
    """In the colour of its family, as wide as it was long."""
    picture = drawn(SAMPLES, ACTIONS, CALMS)
    bars: dict[str, ElementTree.Element] = {}
    for rect in picture.iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None and title.text and "<a & b>" in title.text:
            bars[title.text.partition(",")[0]] = rect
    assert set(bars) == set(Kind)
    assert {rect.get("fill") for rect in bars.values()} == set(COLOURS.values())
    assert len({rect.get("width") for rect in bars.values()}) == 1
    assert "delay, replica 1: <a & b> (0.0 to 2.5 s)" in titles(picture)
    assert any(text.text == "half-open, 1" for text in picture.iter(f"{SVG}text"))


def test_calls_without_an_answer_and_slow_recoveries_are_seen() -> None:
    """Where they began."""
    picture = drawn(SAMPLES, ACTIONS, CALMS)
    assert "1 calls that began here got no answer in time" in titles(picture)
    assert [rect.get("fill") for rect in picture.iter(f"{SVG}rect")].count(UNKNOWN) == 2  # One in the legend.
    assert any("round 2: orders again after too long" in title for title in titles(picture))


def test_nothing_is_drawn_outside_of_the_picture() -> None:
    """Times before the beginning, after the end, and of no call at all."""
    late = [Sample(-1.0, 40.0, True, True), Sample(29.99, 60.0, True, True), Sample(40.0, 41.0, True, False)]
    for samples in ([], late):
        overdue = attrs.evolve(ACTIONS[0], begin=29.0, end=45.0)
        picture = drawn(samples, [*ACTIONS, overdue], [Calm(round=1, begin=29.5, progress=1.0, whole=9.0)])
        width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
        for rect in picture.iter(f"{SVG}rect"):
            x, y = float(rect.get("x", "0")), float(rect.get("y", "0"))
            assert 0 <= x <= x + float(rect.get("width", "0")) <= width
            assert 0 <= y <= y + float(rect.get("height", "0")) <= height
