"""The page on trust names only what there is: scenarios, faults, planted bugs, tests, judges, and the score."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from sim.expected import expected_of
from sim.mutants.catalogue import CATALOGUE
from sim.scenarios.catalogue import SCENARIOS
from tests.docs.pages import ROOT, prose
from trio_pb.testbed.torture.deck import Kind

PAGE = ROOT / "docs" / "trust.md"
TEXT = prose(PAGE)
TABLES, _, _FRANK = TEXT.partition("## What is not promised")
NOT_YET = _FRANK.partition("## What is not tested well")[2]
BUGS = " ".join((ROOT / "docs" / "reference" / "mutants.md").read_text(encoding="utf-8").split())

# A name, where its link leads, and what it says to who points at it.
NAMED = re.compile(r'\[`([^`]+)`\]\(([^)\s]+)(?: "([^"]*)")?\)')
BUG = re.compile(r"\[`([^`]+)`\]\(reference/mutants\.md#")
ROW = re.compile(r"^\| \*\*.*\|$", re.MULTILINE)
INVARIANT = re.compile(r"INV-\d+")
PROMISES = ("never lost", "never twice", "all see the same", "it goes on", "mended, or told")
_JUDGES, _, _MATRIX = TABLES.partition("## Processes and clients")
JUDGES = ROW.findall(_JUDGES)  # A promise in each, and who judges it.
ROWS = ROW.findall(_MATRIX)  # A failure in each, and a cell for each promise.
JUDGED = {row.split("**")[1]: frozenset(INVARIANT.findall(row)) for row in JUDGES}
FAULTS = frozenset((*expected_of("all"), *expected_of("beyond")))
# What need not link to anything: why is said above the tables, or in the cell.
PLAIN = ("—", "*random*", "nothing tells you")


def source(path: str) -> str:
    """The text of a file that the page links to."""
    return (PAGE.parent / path).read_text(encoding="utf-8")


def is_scenario(name: str, path: str) -> bool:
    """It can be played, and it is told in that file."""
    return name in SCENARIOS and f"def {name.replace('-', '_')}(" in source(path)


def is_fault(name: str, path: str) -> bool:
    """A sweep must have met it, and that file counts it, where the kind of count may come from elsewhere."""
    words = (name, name.removeprefix("messages "), name.removeprefix("fatal "))
    return name in FAULTS and any(f'"{word}"' in source(path) for word in words)


def is_drawn(name: str, path: str) -> bool:
    """Profiles draw it."""
    return f"{name}=" in source(path)


def is_bug(name: str, path: str) -> bool:
    """It is in the catalogue, in that area."""
    return name in CATALOGUE and path.partition("#")[2] == CATALOGUE[name].area.replace(" ", "-")


def is_file(name: str, path: str) -> bool:
    """The file is called so."""
    return path.endswith(f"/{name}.py") and bool(source(path))


def is_test(name: str, path: str) -> bool:
    """A file of tests is called so."""
    return name.startswith("test_") and is_file(name, path)


def is_action(name: str, _: str) -> bool:
    """Torture does it."""
    return name in tuple(Kind)


def is_command(name: str, path: str) -> bool:
    """That page is about it."""
    return f"trio-pb {name}" in source(path)


# Where a link leads says what it names; the first that fits.
KINDS: Mapping[str, Callable[[str, str], bool]] = {
    "../sim/scenarios/": is_scenario,
    "../sim/naive/scripts.py": is_scenario,
    "../sim/oracles/": is_file,
    "../sim/profiles.py": is_drawn,
    "../sim/": is_fault,
    "../tests/": is_test,
    "reference/mutants.md#": is_bug,
    "how-to/torture-a-cluster.md": is_action,
    "how-to/exhaust-a-small-world.md": is_command,
}


def not_noticed() -> frozenset[str]:
    """The planted bugs that their own page says were missed."""
    _, *rest = re.split(r"ha(?:s|ve) not been noticed yet", BUGS, maxsplit=1)
    return frozenset(re.findall(r"`([\w-]+)`", rest[0].partition("## The catalogue")[0])) if rest else frozenset()


@pytest.mark.parametrize(("name", "path", "test"), sorted(set(NAMED.findall(TEXT))))
def test_what_is_named_exists(name: str, path: str, test: str) -> None:
    """Under that name, and in that place; of a file of tests it is one of them that counts."""
    check = next((check for begins, check in KINDS.items() if path.startswith(begins)), None)
    assert check is not None, f"{path}: nothing is known of what stands there"
    assert check(name, path), f"{path} has no `{name}` any more"
    assert bool(test) == (check is is_test), f"{name}: which test of it?"
    assert not test or f"def {test}(" in source(path), f"{path} has no {test} any more"


def test_every_name_is_a_link() -> None:
    """A name in the tables that leads nowhere is a name that nothing checks."""
    for row in ROW.findall(TEXT):
        assert row.count("`") == 2 * len(NAMED.findall(row)), row


def test_every_cell_says_what_tests_it() -> None:
    """Or, in words, that nothing does."""
    assert ROWS
    for row in ROWS:
        failure, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == len(PROMISES), failure
        for cell in cells:
            assert "](" in cell or cell in PLAIN, f"{failure}: {cell}"


def test_judges_judge_what_is_said_of_them() -> None:
    """Each invariant is told by one of the judges in its row."""
    assert len(JUDGED) == len(PROMISES)
    for row in JUDGES:
        told = "".join(source(path) for _, path, _ in NAMED.findall(row))
        for invariant in INVARIANT.findall(row):
            assert re.search(rf'violate\(\s*"{invariant}"', told), f"{invariant}: {row}"


def test_a_bug_breaks_the_promise_of_its_column() -> None:
    """What should notice it judges that promise."""
    cells = [pair for row in ROWS for pair in zip(PROMISES, row.strip("|").split("|")[1:], strict=True)]
    missed = re.findall(r"^\| ([a-z, ]+) \|(.*)\|$", NOT_YET, re.MULTILINE)[1:]
    assert tuple(promise for promise, _ in missed) == PROMISES
    for promise, cell in (*cells, *missed):
        for bug in BUG.findall(cell):
            assert JUDGED[promise] & set(CATALOGUE[bug].expects), f"{bug} does not break: {promise}"


def test_every_action_of_torture_is_on_the_page() -> None:
    """None was added behind its back."""
    assert [kind for kind in Kind if f"[`{kind}`](how-to/torture-a-cluster.md)" not in TABLES] == []


def test_no_bug_that_was_missed_passes_for_evidence() -> None:
    """And none that was noticed since is still told as missed."""
    assert not_noticed() & set(BUG.findall(TABLES)) == set(), "not noticed: no evidence"
    assert set(BUG.findall(NOT_YET)) - not_noticed() == set(), "noticed by now: take it off the last table"


def test_the_score_is_that_of_the_planted_bugs() -> None:
    """The figures are those of their own page."""
    planted = re.search(r"(\d+) bugs are planted", BUGS)
    noticed = re.search(r"Of the other (\d+), (\d+) were noticed", BUGS)
    missed = re.search(r"(\d+) ha(?:s|ve) not been noticed yet", BUGS)
    assert planted, "the page of the planted bugs says it in other words"
    assert noticed, "the page of the planted bugs says it in other words"
    assert missed, "the page of the planted bugs says it in other words"
    text = " ".join(TEXT.split())
    assert f"of {noticed[1]} that can show, {noticed[2]} were noticed, and {missed[1]} not yet" in text
    assert re.search(f"Of {planted[1]} planted bugs, {missed[1]} w(as|ere) not noticed so far", text)
