"""`trio-pb sim check-history`: verdicts, exit codes and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from trio_pb.cli.main import call

PAGE = ROOT / "docs" / "reference" / "histories.md"
CHECK = ["sim", "check-history"]


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """The history that the documentation shows."""
    (lines,) = blocks(PAGE, "json")
    path = tmp_path / "history.jsonl"
    path.write_text(lines, encoding="utf-8")
    return path


def test_the_documented_history_gives_the_documented_answer(
    documented: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the very text."""
    (told,) = blocks(PAGE, "text")
    assert call([*CHECK, str(documented)]) == 1
    assert capsys.readouterr().out.strip() == told.strip()


def test_the_counterexample_as_json(documented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get the calls that contradict each other."""
    assert call([*CHECK, str(documented), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["calls"], said["objects"]) == ("violation", 4, 1)
    assert said["counterexample"]["numbers"] == [2, 3]
    assert said["counterexample"]["calls"][1]["output"] == [1, 1, "x1"]
    assert [one["end"] for one in said["counterexample"]["either_way"]] == [None]


def test_a_good_history_and_a_small_budget(documented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and 3 where nothing was decided."""
    lines = documented.read_text(encoding="utf-8").splitlines()
    documented.write_text("\n".join(lines[:2]), encoding="utf-8")
    assert call([*CHECK, str(documented)]) == 0
    assert capsys.readouterr().out == "Linearizable (2 calls on 1 object, 2 steps).\n"
    reads = [f'{{"begin": 0, "end": 9, "input": ["write", "x", {value}], "output": null}}' for value in range(9)]
    documented.write_text("\n".join([*reads, '{"begin": 10, "end": 11, "input": ["read", "x"], "output": 99}']))
    assert call([*CHECK, str(documented), "--model", "register", "--budget", "10"]) == 3
    assert "budget was spent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["{file}", "--model", "bank"], "--model bank: there is no such model; choose one of orders, register"),
        (["{file}", "--budget", "0"], "--budget 0: must be at least 1"),
        (["{file}", "--model", "register"], "line 1: input place 7 1 'x1' False None: must be one of"),
    ],
)
def test_what_makes_no_sense(documented: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    """Exit code 2, and what to do."""
    assert call([*CHECK, *(word.format(file=documented) for word in words)]) == 2
    assert told in capsys.readouterr().err
