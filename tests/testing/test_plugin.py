"""The pytest plugin, as a project of its own sees it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.docs.pages import blocks

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "machines" / "planted.py"

TESTS = """
import pytest
from hypothesis import strategies as st
from examples.counter import Counter, workload
from trio_pb import canonical
from trio_pb.testing import Command, assert_deterministic

additions = st.integers(1, 9).map(lambda amount: Command(2, canonical.encode([amount])))

@pytest.mark.sim(seeds=2, first_seed=3)
def test_good(sim_cluster):
    report = sim_cluster.run(Counter, workload)
    assert report.seed == sim_cluster.seed
    assert report.committed

@pytest.mark.sim(seeds=1)
def test_strategy(sim_cluster):
    sim_cluster.run("examples.counter:Counter", additions)

@pytest.mark.sim(seeds=1)
def test_local(sim_cluster):
    sim_cluster.run(lambda: Counter(), lambda turn: Command(2, canonical.encode([1])))

def test_deterministic():
    assert_deterministic(Counter, additions, requests=20)
"""

BAD = f"""
import pytest
from trio_pb.testing import assert_deterministic

@pytest.mark.sim(seeds=1)
def test_bad(sim_cluster):
    sim_cluster.run({str(PLANTED) + ":Fragile"!r})

def test_clock():
    assert_deterministic({str(PLANTED) + ":Clock"!r}, requests=20)

def test_local():
    assert_deterministic(lambda: None)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Somebody's project, in which trio-pb is installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def _run(project: pytest.Pytester, tests: str, *words: str) -> pytest.RunResult:
    (project.path / "test_machines.py").write_text(tests, encoding="utf-8")
    return project.runpytest_subprocess("-p", "trio_pb.testing.plugin", "-v", "--strict-markers", *words)


def test_each_seed_is_a_test(project: pytest.Pytester) -> None:
    """With machines and workloads by name and by hand."""
    result = _run(project, TESTS)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*test_good?seed3? PASSED*", "*test_good?seed4? PASSED*"])


def test_seeds_from_the_command_line(project: pytest.Pytester) -> None:
    """They take the place of what the mark says."""
    result = _run(project, TESTS, "-k", "test_good", "--sim-seeds", "1", "--sim-first-seed", "8")
    result.assert_outcomes(passed=1, deselected=3)
    result.stdout.fnmatch_lines(["*test_good?seed8? PASSED*"])


def test_a_failure_says_how_to_see_it_again(project: pytest.Pytester) -> None:
    """As a command of the simulator, and as a test; and a divergence names its command."""
    result = _run(project, BAD)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*seed 1: ZeroDivisionError: *",
            "*replay: trio-pb sim run --seeds 1 --first-seed 1 *planted.py:Fragile",
            "*replay: pytest 'test_machines.py::test_bad?seed1?' --sim-first-seed 1 --sim-seeds 1",
            "*Not deterministic: command 2 (put), number *",
            "*other processes cannot import it; give it a name at the top of its module*",
        ]
    )


def test_the_documented_test_passes(project: pytest.Pytester) -> None:
    """The page shows the file of the examples, and it does what it says."""
    written = (ROOT / "examples" / "test_examples.py").read_text(encoding="utf-8")
    assert written in blocks(ROOT / "docs" / "how-to" / "test-your-machine.md", "py")
    result = _run(project, written, "--sim-seeds", "1")
    result.assert_outcomes(passed=3)


def test_a_mark_that_makes_no_sense(project: pytest.Pytester) -> None:
    """The error names what the mark takes."""
    result = _run(project, TESTS.replace("first_seed=3", "start=3"))
    result.stdout.fnmatch_lines(["*@pytest.mark.sim takes first_seed, profile, seeds*"])
    assert result.ret != 0


def test_the_printed_command_runs_the_seed(project: pytest.Pytester) -> None:
    """Also where the seed is of the command line, not of the mark."""
    result = _run(project, BAD, "-k", "test_bad", "--sim-first-seed", "700")
    line = next(line for line in result.outlines if "replay: pytest" in line)  # Said again in a summary under CI.
    _, *words = shlex.split(line.partition("replay: ")[2])
    again = project.runpytest_subprocess("-p", "trio_pb.testing.plugin", *words)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*seed 700: ZeroDivisionError: *"])


@pytest.mark.parametrize(("mark", "words"), [("seeds=0", ()), ("seeds=2", ("--sim-seeds", "0"))])
def test_no_seeds_at_all_are_refused(project: pytest.Pytester, mark: str, words: tuple[str, ...]) -> None:
    """A test that runs nothing would be green."""
    result = _run(project, TESTS.replace("seeds=2", mark), "-k", "test_good", *words)
    result.stdout.fnmatch_lines(["*test_good: 0 seeds: it takes 1 or more*"])
    assert result.ret != 0


def test_the_mark_is_described(project: pytest.Pytester) -> None:
    """In pytest --markers."""
    result = project.runpytest_subprocess("-p", "trio_pb.testing.plugin", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.sim(seeds=10, first_seed=1, profile='all')*"])
