"""Every link in the documentation leads somewhere, down to the heading; every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name_of, prose

LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)(?: "[^"]*")?\)')
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE_FILE = re.compile(r"`((?:core|app|codec|storage|driver|testbed|cli|sim|tests|trio_pb)/[\w/]*\.py)`")


def anchors(page: Path) -> set[str]:
    """The names that headings of a page can be linked by."""
    headings = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page))]
    return {heading.strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Where a page links to, within the repository."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    """File and heading are there."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_code_exist(page: Path) -> None:
    """What a page says about where to look is true."""
    for name in CODE_FILE.findall(prose(page)):
        assert (ROOT / name).exists() or (ROOT / "trio_pb" / name).exists(), f"{name_of(page)}: {name}"


def test_every_page_is_in_the_index() -> None:
    """Nobody finds a page that nothing leads to."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert [name_of(page) for page in PAGES if page not in linked | {index}] == []
