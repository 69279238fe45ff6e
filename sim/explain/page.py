"""A story as one HTML page: self-contained, to be opened from the disk, without a network."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files

from sim.explain.model import Story
from sim.explain.outline import Selection

__all__ = ["fields_of", "page"]


def fields_of(story: Story, selection: Selection) -> dict[str, object]:
    """Return the data of the page, as what `json` can write."""
    return story.fields() | {"selection": {"name": selection.name, "events": sorted(selection.events)}}


def page(story: Story, selection: Selection) -> str:
    """Return the page that draws `story`, and shows first what is selected."""
    parts = {
        "TITLE": escape(story.title),
        "STYLE": _part("page.css"),
        # Nothing in the data may end the element that it stands in.
        "STORY": json.dumps(fields_of(story, selection), separators=(",", ":")).replace("<", "\\u003c"),
        "SCRIPT": _part("page.js"),
    }
    return re.sub(r"@@([A-Z]+)@@", lambda found: parts[found[1]], _part("page.html"))


def _part(name: str) -> str:
    return files("sim.explain").joinpath(name).read_text(encoding="utf-8")
