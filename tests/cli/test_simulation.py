"""`trio-pb sim run`: what it says of a sweep, for people and for scripts."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from sim.experiment import run_seed
from sim.farm import SweepReport
from trio_pb.cli.main import call
from trio_pb.cli.sweep_report import unseen

SEED = 3
EVENTS = SweepReport(SEED).never_happened  # Of no seeds at all: everything.
RUN = ["sim", "run", "--seeds", "1", "--first-seed", str(SEED), "--jobs", "1"]


@pytest.fixture(scope="module")
def missed() -> list[str]:
    """What one seed does not meet, among all that a sweep is for."""
    counts = run_seed(SEED).counts
    return [event for event in EVENTS if not counts[event]]


def test_sim_run_as_json(capsys: pytest.CaptureFixture[str], missed: list[str]) -> None:
    """A sweep says how many seeds it ran, how many failed, and what it never met."""
    assert call([*RUN, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["first_seed"], said["seeds"], said["failed"]) == (SEED, 1, 0)
    assert missed
    assert said["never_happened"] == missed


def test_sim_run_names_what_it_never_met(capsys: pytest.CaptureFixture[str], missed: list[str]) -> None:
    """A small sweep says that it is small, and what it therefore tells nothing about."""
    assert call(RUN) == 0
    out = " ".join(capsys.readouterr().out.split())
    _, _, told = out.partition("did not happen in so few seeds: ")
    events, _, rest = told.partition("; ")
    assert events.split(", ") == [event.replace("_", " ") for event in missed]
    assert rest.endswith(f"Every invariant held in seed {SEED}.")


def test_what_a_large_sweep_never_met_is_an_alarm() -> None:
    """With seeds enough a thing that never happened means that the sweep no longer brings it about."""
    counts = Counter(dict.fromkeys(EVENTS, 1))
    del counts["power cut"]
    assert unseen(SweepReport(1, seeds=300, counts=counts)).startswith("NEVER HAPPENED")
    assert unseen(SweepReport(1, seeds=300, counts=counts)).endswith("power cut")
    assert unseen(SweepReport(1, seeds=299, counts=counts)).startswith("did not happen in so few seeds: power cut;")
