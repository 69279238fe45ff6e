"""The page of the planted bugs has all of them, in the words of the catalogue."""

from __future__ import annotations

import sys

import pytest

from sim.mutants.catalogue import CATALOGUE, NOT_YET_APPLICABLE
from sim.mutants.mutant import Mutant
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "mutants.md"


def row_of(it: Mutant) -> str:
    """A line of the table of an area."""
    alone = f" Not noticed alone: {it.equivalent} (its pair: `{it.pair}`)." if it.equivalent else ""
    return f"| `{it.name}` | {it.what}{alone} | {it.breaks} | {', '.join(it.expects)} | {it.source} |"


def tables() -> str:
    """All areas, as the page has them."""
    lines: list[str] = []
    area = ""
    for it in CATALOGUE.values():
        if it.area != area:
            area = it.area
            lines += ["", f"### {area.capitalize()}", "", "| bug | what is done wrong | breaks | expected | seen in |"]
            lines.append("|---|---|---|---|---|")
        lines.append(row_of(it))
    return "\n".join(lines).strip()


@pytest.mark.parametrize("it", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_bug_has_its_row(it: Mutant) -> None:
    """As the catalogue tells it; `python -m tests.docs.test_mutants_page` prints the tables anew."""
    assert row_of(it) in PAGE.read_text(encoding="utf-8").splitlines()


def test_no_row_is_left_over() -> None:
    """Nor is a trap called inapplicable that has a bug by now."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("\n| `") == len(CATALOGUE)
    assert all(f"T-{trap}: {reason}" in text for trap, reason in NOT_YET_APPLICABLE.items())


if __name__ == "__main__":
    sys.stdout.write(tables() + "\n")
