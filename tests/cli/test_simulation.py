"""`trio-pb sim run`: what it says of a sweep, for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from sim.experiment import run_seed
from sim.farm import SweepReport
from tests.docs.pages import ROOT
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


COUNTER = ["sim", "run", "examples.counter:Counter", "--seeds", "1", "--jobs", "1"]
PLANTED = ROOT / "tests" / "machines" / "planted.py"


def test_a_machine_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs, in another Python as well, and is called deterministic."""
    assert call([*COUNTER, "--python", sys.executable, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["seeds"], said["failed"], said["deterministic"]) == (1, 0, True)
    assert call(COUNTER) == 0
    out = capsys.readouterr().out
    assert "Every invariant held in seed 1." in out
    assert "Deterministic: one log gave the same answers and the same states with" in out


def test_a_machine_with_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the command that differs is named."""
    run = ["sim", "run", f"{PLANTED}:SetOfText", "--seeds", "1", "--jobs", "1"]
    assert call([*run, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    # A run may find it as well, if the order of a set differs where a replica restored its state: by the hash seed.
    assert said["deterministic"] is False
    assert (said["divergence"]["handler"], said["divergence"]["what"]) == ("put", "answer")
    assert call(run) == 1
    assert "Not deterministic: command 2 (put), number " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["examples.counter:Other"], "there is no Other in examples.counter"),
        (["--workload", "examples.lock_requests:requests"], "--workload and --python go with a machine"),
        (["examples.counter:Counter", "--profile", "none"], "there is no profile"),
        (["examples.counter:Counter", "--scenario", "orders-in-order"], "only --protocol and --json go with it"),
        (["--scenario", "one-behind", "--profile", "calm"], "only --protocol and --json go with it"),
        (["--scenario", "one-behind", "--protocol", "naive", "--seeds", "2", "--profile", "calm"], "no --profile"),
    ],
)
def test_machines_that_make_no_sense(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    """Exit code 2, and what was wrong."""
    assert call(["sim", "run", *words]) == 2
    assert told in capsys.readouterr().err
