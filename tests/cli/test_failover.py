"""`trio-pb bench failover` in short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trio_pb.cli.main import call


def test_gaps_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each kill, of orders that went on after it; nothing stays behind."""
    words = ["bench", "failover", "--kills", "2", "--customers", "3", "--directory", str(tmp_path), "--json"]
    assert call(words) == 0
    assert not list(tmp_path.iterdir())
    said = json.loads(capsys.readouterr().out)
    assert len(said["gaps_ms"]) == said["kills"] == 2
    # Nobody is suspected before its time: a gap shorter than that would not be one.
    assert 100 < said["shortest_ms"] <= said["p50_ms"] <= said["longest_ms"]
    assert said["orders"] > 100
    assert [target["name"] for target in said["targets"]] == ["median gap", "99th of a hundred gaps"]


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("--kills 0", "--kills 0: must be 1 to 10000"),
        ("--customers 0", "--customers 0: must be 1 to 1000"),
        ("--replicas 2", "--replicas 2: must be 3 to 7, for one of them is killed"),
        ("--directory nowhere", "there is no such directory"),
    ],
)
def test_nonsense_is_named(words: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    assert call(["bench", "failover", *words.split()]) == 2
    assert wrong in capsys.readouterr().err
