"""`trio-pb sim explain`: text, page and trace of a seed or of a recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.experiment import Swarm
from sim.recording import record
from trio_pb.cli.main import call

SEED = ["sim", "explain", "--seed", "12"]


def test_a_seed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A clean run is told in outline, with the command that runs it again."""
    assert call(SEED) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "swarm all, seed 12"
    assert any(" leads view 1: " in line for line in lines)
    assert lines[-1] == "again: trio-pb sim run --seeds 1 --first-seed 12"


def test_everything_and_a_stretch(capsys: pytest.CaptureFixture[str]) -> None:
    """A stretch of time is told without idle talk, unless everything is asked for."""
    lengths: list[int] = []
    for more in ([], ["--all"]):
        assert call([*SEED, "--from-ms", "200", "--to-ms", "300", *more]) == 0
        lengths.append(len(capsys.readouterr().out.splitlines()))
    assert 10 < lengths[0] < lengths[1]


def test_a_recording_as_page_and_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both files at once; what is printed says how to look at them."""
    file = tmp_path / "seed-12.choices"
    record("0", Swarm(), 12).write(file)
    html, trace = tmp_path / "out" / "run.html", tmp_path / "run.json"
    assert call(["sim", "explain", str(file), "--html", str(html), "--perfetto", str(trace)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "seed-12.choices: swarm all, seed 12",
        f"wrote {html}: open it in a browser",
        f"wrote {trace}: open it in ui.perfetto.dev",
    ]
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]) > 100


def test_a_seed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole story as data."""
    assert call([*SEED, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["title"], said["verdict"], said["selection"]["name"]) == ("swarm all, seed 12", None, "the outline")
    assert len(said["events"]) > len(said["selection"]["events"]) > 5


@pytest.mark.parametrize("protocol", ["vsr", "naive"])
def test_a_scenario(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same script on both protocols: one survives it."""
    assert call(["sim", "explain", "--scenario", "one-behind", "--protocol", protocol]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"one-behind, {protocol}\n")
    assert ("FAILED stale-read: " in out) == (protocol == "naive")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "name a recording, or --seed N, or --scenario NAME"),
        (["x.choices", "--seed", "3"], "name a recording, or --seed N, or --scenario NAME"),
        (["--scenario", "none"], "none"),
        (["--scenario", "one-behind", "--protocol", "raft"], "--protocol raft: there is no such protocol"),
        (["--seed", "3", "--protocol", "naive"], "--protocol naive: it goes with --scenario NAME"),
        (["--scenario", "one-behind", "--profile", "calm"], "--profile calm: it goes with --seed N"),
        (["--seed", "-1"], "--seed -1: must not be negative"),
        (["--seed", "3", "--profile", "none"], "there is no profile 'none'"),
        (["--seed", "3", "--from-ms", "20", "--to-ms", "10"], "nothing lies between 20 ms and 10 ms"),
        (["missing.choices"], "missing.choices: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2, and nothing printed."""
    assert call(["sim", "explain", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert error in said.err
