"""A mistake that is found amid noise becomes a recording like any failure, and a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.naive.experiment import NaiveScript
from sim.naive.scripts import SCRIPTS, Script
from sim.recording import Recording, read, record
from sim.shrink import shrink

EVENTS_MAX = 40
SEEDS_MAX = 10


def found_in_noise(script: Script) -> Recording:
    """The first seed in noise that breaks the rule that the script is for."""
    for seed in range(1, SEEDS_MAX):
        recording = record("test", NaiveScript(script.name, noisy=True), seed)
        if recording.failure is not None and recording.failure.rule == script.oracle:
            return recording
    raise AssertionError(f"{script.name} is not found in {SEEDS_MAX} seeds")


@pytest.mark.parametrize("script", [pytest.param(it, id=it.name) for it in SCRIPTS.values()])
def test_mistake_in_noise_is_made_small(script: Script, tmp_path: Path) -> None:
    """Of the noise nothing is left: what remains are steps of the script, and a run that a person can follow."""
    found = found_in_noise(script)
    found.write(tmp_path / "found.choices")
    small = shrink(read(tmp_path / "found.choices")).recording
    assert small.failure is not None
    assert small.failure.rule == script.oracle
    assert small.events <= EVENTS_MAX
    assert {key[0] for key in small.choices} == {"script"}
