"""`trio-pb sim run`, `replay` and `shrink` on failures: the way of a failing seed, from the sweep to a small file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.mutants.mutant import Patch
from sim.mutants.normal_case import acknowledge_before_durable
from trio_pb.cli.main import call

SWEEP = ["sim", "run", "--seeds", "3", "--first-seed", "5", "--jobs", "1", "--out"]


@pytest.fixture
def mistake() -> Iterator[Patch]:
    """The shipped code acknowledges before anything is durable, until this is undone."""
    patch = Patch()
    acknowledge_before_durable(patch)
    yield patch
    patch.undo()


def _said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_way_of_a_failing_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path, mistake: Patch) -> None:
    """A sweep records it, replay finds it again, shrink makes it small, and the repaired code is clean."""
    assert call([*SWEEP, str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "3 seeds (5, 6, 7) FAILED: INV-31: " in out
    assert "3 of 3 seeds FAILED, in one way" in out
    (line,) = [line for line in out.splitlines() if line.startswith("  replay: trio-pb ")]
    replay = shlex.split(line)[2:]
    assert call(replay) == 1
    out = capsys.readouterr().out
    assert "FAILED as recorded: INV-31: " in out
    assert out.endswith("It is the recorded run, event by event.\n")

    assert call(["sim", "shrink", replay[-1], "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    small = str(tmp_path / "swarm-all-5.shrunk.choices")
    assert out.startswith(Path(small).read_text())
    assert "Nothing more can be left out: " in out
    assert call(["sim", "replay", small, "--json"]) == 1
    assert _said(capsys)["result"] == "fails as recorded"

    mistake.undo()
    for file in (replay[-1], small):
        assert call(["sim", "replay", file]) == 0
        assert "It does NOT fail any more; recorded was INV-31: " in capsys.readouterr().out


def test_sweep_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, mistake: Patch) -> None:
    """One entry for each way to fail."""
    assert call([*SWEEP, str(tmp_path), "--json"]) == 1
    said = _said(capsys)
    assert said["failed"] == 3
    (cause,) = said["failures"]
    assert (cause["rule"], cause["count"], cause["seeds"]) == ("INV-31", 3, [5, 6, 7])
    assert cause["file"] == str(tmp_path / "swarm-all-5.choices")


@pytest.mark.usefixtures("mistake")
def test_failure_that_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A recording that fails in another way than it says is told from both others."""
    call([*SWEEP, str(tmp_path)])
    file = tmp_path / "swarm-all-5.choices"
    file.write_text(file.read_text().replace("rule: INV-31", "rule: INV-1").replace("after ", "after 1"))
    capsys.readouterr()
    assert call(["sim", "replay", str(file)]) == 5
    out = capsys.readouterr().out
    assert "FAILED, but not as recorded: INV-31: " in out
    assert "recorded: INV-1: " in out
    assert "Not the recorded run in every detail" in out
    assert call(["sim", "shrink", str(file), "--jobs", "1"]) == 2
    assert "fails otherwise than it says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay", "none.choices"], "none.choices: No such file or directory"),
        (["shrink", "none.choices"], "none.choices: No such file or directory"),
        (["shrink", "none.choices", "--jobs", "0"], "--jobs 0: must be at least 1"),
        (["shrink", "none.choices", "--budget-s", "0"], "--budget-s 0: must be above 0"),
        (["audit", "--seeds", "0"], "--seeds 0: must be at least 1"),
        (["audit", "--seeds", "1", "--python", "no-such-python"], "--python no-such-python: there is no such program"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    """Each is named."""
    assert call(["sim", *arguments]) == 2
    assert told in capsys.readouterr().err
