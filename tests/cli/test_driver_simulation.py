"""`trio-pb sim driver`: what it says of a sweep, and what it refuses."""

from __future__ import annotations

import json

import attrs
import pytest

from sim.run import Failure
from trio_pb.cli import driver_simulation
from trio_pb.cli.main import call
from trio_pb.testbed.in_memory.run import DriverReport, run_driver_seed

ONE = ["sim", "driver", "--seeds", "1", "--first-seed", "3", "--jobs", "1"]


def test_a_clean_seed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """How many, how much, and what happened."""
    assert call([*ONE, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["first_seed"], said["seeds"], said["failed"], said["failures"]) == (3, 1, 0, [])
    assert said["committed"] > 0
    assert said["counts"]["connections"] > 0


def test_a_failed_seed_is_told_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, with exit code 1."""
    clean = run_driver_seed(3)

    def fail(seed: int) -> DriverReport:
        return attrs.evolve(clean, seed=seed, failure=Failure("INV-8", "a record is not durable", "here", "a story"))

    monkeypatch.setattr(driver_simulation, "run_driver_seed", fail)
    assert call(["sim", "driver", "--seeds", "20", "--first-seed", "5", "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "seed 5 FAILED: INV-8: a record is not durable" in out
    assert "replay: trio-pb sim driver --seeds 1 --first-seed 5" in out
    assert "10 of 10 seeds FAILED" in out  # It stops there.


@pytest.mark.parametrize(
    "words", [["--seeds", "0"], ["--first-seed", "-1"], ["--first-seed", "9" * 38], ["--jobs", "0"]]
)
def test_senseless_numbers_are_refused_by_name(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the flag."""
    assert call(["sim", "driver", *words]) == 2
    assert words[0] in capsys.readouterr().err
