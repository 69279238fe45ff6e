"""Runs of the driver in virtual time: repeatable to the byte, and clean."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from trio_pb.testbed.in_memory.run import run_driver_seed

SEED = 3  # Crashes, resets and a view change.


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What servers say under faults is no news here."""
    caplog.set_level(logging.CRITICAL, logger="trio_pb")


@pytest.mark.parametrize("seed", [1, 3, 4, 5, 13])
def test_every_promise_is_kept(seed: int) -> None:
    """A few of the seeds of `trio-pb sim driver`."""
    report = run_driver_seed(seed)
    assert report.failure is None, f"{report.failure}\nreplay: {report.command}"
    assert report.committed


def test_equal_seeds_give_equal_runs_also_in_another_process() -> None:
    """Twice here, and once in a process whose sets are ordered otherwise."""
    here = [run_driver_seed(SEED).trace_digest for _ in range(2)]
    assert here[0] == here[1]
    code = f"from trio_pb.testbed.in_memory.run import run_driver_seed\nprint(run_driver_seed({SEED}).trace_digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(here[0])
