"""Runs of the driver in virtual time: repeatable to the byte, and clean."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from trio_pb.testbed.in_memory.run import run_driver_seed

REPEATED = (3, 11)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What servers say under faults is no news here."""
    caplog.set_level(logging.CRITICAL, logger="trio_pb")


@pytest.mark.parametrize("seed", range(1, 9))
def test_every_promise_is_kept(seed: int) -> None:
    """A few of the seeds of `trio-pb sim driver`."""
    report = run_driver_seed(seed)
    assert report.failure is None, f"{report.failure}\nreplay: {report.command}"
    assert report.committed


def test_equal_seeds_give_equal_runs_also_in_other_processes() -> None:
    """Twice here, and in two processes whose sets and dicts are ordered otherwise."""
    here = [run_driver_seed(seed).trace_digest for seed in REPEATED]
    assert [run_driver_seed(seed).trace_digest for seed in REPEATED] == here
    for hash_seed in ("1", "77"):
        code = (
            "from trio_pb.testbed.in_memory.run import run_driver_seed\n"
            f"print([run_driver_seed(seed).trace_digest for seed in {REPEATED}])"
        )
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.strip() == str(here)
