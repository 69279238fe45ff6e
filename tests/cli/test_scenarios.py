"""`trio-pb sim scenarios` and `trio-pb sim run --scenario`."""

from __future__ import annotations

import json

import pytest

from sim.naive.scripts import SCRIPTS
from sim.scenarios.catalogue import SCENARIOS
from sim.scenarios.scenario import Scenario
from trio_pb.cli import scenarios
from trio_pb.cli.main import call

RUN = ["sim", "run", "--scenario"]


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """At least thirty, under their subjects, the mistakes first."""
    assert call(["sim", "scenarios"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mistakes")
    named = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert named == list(SCENARIOS)
    assert len(named) >= 30


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its subject, its title and the protocols that it runs on."""
    assert call(["sim", "scenarios", "--json"]) == 0
    listed = {it["name"]: it for it in json.loads(capsys.readouterr().out)["scenarios"]}
    assert listed["one-behind"]["protocols"] == ["vsr", "naive"]
    assert listed["clock-jumps"]["protocols"] == ["vsr"]
    assert listed["clock-jumps"]["subject"] == "normal case"


def test_scenario_tells_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    """What is done, what came true, and that it held."""
    assert call([*RUN, "restart-forgets"]) == 0
    out = capsys.readouterr().out
    assert "R1 and R2 lose power\n" in out
    assert "ok  all replicas have executed the same" in out
    assert out.endswith("It held, under every oracle of the simulator.\n")


def test_mistake_fails_with_the_judge_s_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the mistake in three sentences, the story, the judge."""
    assert call([*RUN, "restart-forgets", "--protocol", "naive"]) == 1
    out = capsys.readouterr().out
    assert "The log is in memory; a replica that restarts begins with nothing" in out
    assert "R1 starts again\n" in out
    assert "\nFAILED acknowledged-order-lost: R0 acknowledged laptop-1 to C0; " in out


@pytest.mark.parametrize("protocol", ["naive", "vsr"])
def test_scenario_as_json(capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    """The same for scripts."""
    code = call([*RUN, "deposed-reads", "--protocol", protocol, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["scenario"], said["protocol"]) == ("deposed-reads", protocol)
    assert said["rule"] == ("stale-read" if protocol == "naive" else None)
    assert code == (protocol == "naive")
    assert said["story"][0]["time_us"] >= 0


def test_all_mistakes_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Each found by its judge, by none once mended, and made by trio-pb in no case."""
    assert call([*RUN, "all", "--protocol", "naive"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:13]]
    assert [(row[0], row[1]) for row in rows] == [(name, it.oracle) for name, it in SCRIPTS.items()]
    assert {tuple(row[3:]) for row in rows} == {("held", "held")}


def test_all_scenarios_in_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, and the sum; one that fails is told, with exit code 1."""
    few: dict[str, Scenario] = {name: SCENARIOS[name] for name in ("one-behind", "lost-prepare-is-pulled")}
    monkeypatch.setattr(scenarios, "SCENARIOS", few)
    assert call([*RUN, "all"]) == 0
    assert "All 2 scenarios held." in capsys.readouterr().out
    few["broken"] = Scenario(
        name="broken", subject="reads", title="Fails.", play=lambda c: c.expect(holds=False, text="so")
    )
    assert call([*RUN, "all", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["failed"] == 1
    assert said["scenarios"][-1]["text"] == "not so: so"
    assert call([*RUN, "broken"]) == 1
    assert "FAILED expectation: not so: so" in capsys.readouterr().out


def test_mistake_in_noise_is_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    """With seeds the script runs amid losses and other clients; the command that replays one is told."""
    assert call([*RUN, "write-promotes", "--protocol", "naive", "--seeds", "2", "--jobs", "1", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["experiment"], said["seeds"], said["failed"]) == ("naive write-promotes in noise", 2, 2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--scenario", "on-behind"], "did you mean one-behind?"),
        (["--protocol", "naive"], "it needs --scenario NAME"),
        (["--protocol", "paxos"], "choose one of vsr, naive"),
        (["--protocol", "naive", "--scenario", "clock-jumps"], "not for --protocol naive, which has reply-before-"),
        (["--scenario", "clock-jumps", "--seeds", "3"], "nothing is left to chance"),
    ],
)
def test_words_that_make_no_sense(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    """Exit code 2, and what to write instead."""
    assert call(["sim", "run", *words]) == 2
    assert text in capsys.readouterr().err
