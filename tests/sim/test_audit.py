"""The audit: equal where nothing but the choices decides, and the first difference named where something does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sim.audit import Child, audit, events_of
from sim.experiment import Experiment, Swarm
from sim.naive.experiment import NaiveScript
from trio_pb.errors import ConfigError

CHILDREN = [Child(sys.executable, 1), Child(sys.executable, 2)]

# What a child runs before anything else: the order of a set of strings decides when the third message arrives.
MISTAKE = """
from sim.network import Network
arrive = Network._deliver
count = 0
def deliver(self, source, destination, payload):
    global count
    count += 1
    if count == 3:
        self._scheduler.after(1 + list({"to be", "or not", "that is", "the question"}).index("to be"),
            arrive, self, source, destination, payload)
    else:
        arrive(self, source, destination, payload)
Network._deliver = deliver
"""


def test_runs_are_decided_by_their_seeds() -> None:
    """Two processes with different hash seeds agree in every event."""
    ran: list[int] = []
    outcomes, difference = audit(Swarm(), 1, 1, CHILDREN, 2, ran.append)
    assert difference is None
    assert outcomes[0].version == outcomes[1].version == sys.version.split()[0]
    assert outcomes[0].digests == outcomes[1].digests
    assert ran == [1, 1]


def test_first_difference_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By seed, by the number of equal events before it, and by both events."""
    (tmp_path / "sitecustomize.py").write_text(MISTAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _, difference = audit(Swarm(), 3, 1, CHILDREN, 2)
    assert difference is not None
    assert difference.seed == 3
    assert difference.index > 0
    assert difference.one_event is not None
    assert difference.other_event is not None
    assert difference.one_event != difference.other_event
    assert "arrives" in difference.one_event + difference.other_event


@pytest.mark.parametrize("experiment", [Swarm(), NaiveScript("one-behind", noisy=True)], ids=["ours", "naive"])
def test_every_kind_of_world_is_heard(experiment: Experiment) -> None:
    """Event by event, not only by its choices and its end."""
    heard: list[str] = []
    events_of(experiment, 1, heard.append)
    assert len(heard) > 20


def test_python_without_the_requirements(tmp_path: Path) -> None:
    """It is named, with what it lacks."""
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I -c "import trio_pb"\n')
    os.chmod(bare, 0o700)
    with pytest.raises(ConfigError, match="bare-python cannot run simulations: ModuleNotFoundError: No module named"):
        audit(Swarm(), 1, 1, [Child(str(bare), 0)])
