"""`trio-pb sim mutants`: what it tells of a bug that is found, and of one that is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.mutants.catalogue import CATALOGUE
from trio_pb.cli.main import call

QUICK = ["sim", "mutants", "--seeds", "3", "--budget-s", "60"]


def test_a_bug_that_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """A line tells by whom, how soon and how small; the score follows."""
    assert call([*QUICK, "--only", "acknowledge-before-durable"]) == 0
    out = capsys.readouterr().out
    line = out.splitlines()[1].split()
    assert line[:4] == ["acknowledge-before-durable", "found", "INV-31", "INV-31"]
    assert "1 of 1 found from outside, with the core's asserts off as well; median " in out
    assert "NOT FOUND" not in out


def test_a_bug_that_is_missed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is named, with whoever should have noticed it; the exit code says so."""
    file = tmp_path / "own.py"
    file.write_text(
        "from sim.mutants.mutant import Patch, mutant\n"
        "from trio_pb.core.normal import Normal\n\n\n"
        '@mutant(breaks="nothing", source="a test", expects=("INV-1",))\n'
        "def as_before(patch: Patch) -> None:\n"
        '    """Nothing changes."""\n'
        '    patch.set(Normal, "heartbeat", Normal.heartbeat)\n'
    )
    assert call([*QUICK, "--from", str(file), "--only", "as-before"]) == 1
    out = capsys.readouterr().out
    assert "0 of 1 found from outside" in out
    assert "missed, changes nothing" in out
    assert "NOT FOUND: as-before: missed. Expected: INV-1." in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for scripts: of each mutant both hunts, and what is known of it."""
    assert call([*QUICK, "--only", "small-replication-quorum", "--shrink-s", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["mutants"], told["to_be_found"], told["found"], told["score"]) == (1, 1, 1, 1.0)
    (verdict,) = told["verdicts"]
    assert verdict["status"] == "found"
    assert verdict["is_by_expected"]
    assert verdict["shipped"]["rule"] == verdict["without_asserts"]["rule"] == "INV-11"
    assert told["traps"]["7"] == "voters do not change yet"
    assert told["traps"]["3"] == ["longest-log-wins", "own-log-wins"]


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Every mutant with what is known of it, and nothing is run."""
    assert call(["sim", "mutants", "--list"]) == 0
    out = capsys.readouterr().out
    for it in CATALOGUE.values():
        assert f"{it.name} ({it.area})\n  {it.what}\n  breaks: {it.breaks}; " in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "nobody"], "there is no mutant 'nobody'"),
        (["--budget-s", "0"], "--budget-s 0: must be above 0"),
        (["--shrink-s", "-1"], "--shrink-s -1: must not be negative"),
        (["--seeds", "0"], "--seeds 0: must be at least 1"),
        (["--from", "nowhere.py"], "nowhere.py: there is no such file"),
    ],
)
def test_what_makes_no_sense(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    """It is refused before anything is planted."""
    assert call(["sim", "mutants", *arguments]) == 2
    assert told in capsys.readouterr().err
