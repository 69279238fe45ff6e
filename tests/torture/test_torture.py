"""A whole torture, short: every kind of fault once, on real processes; and what becomes of it when it is interrupted.

`TRIO_PB_TORTURE_MINUTES=10` and `TRIO_PB_TORTURE_SEED=7` make it the long one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio

from trio_pb.testbed.process import replica_command

pytestmark = pytest.mark.process

MINUTES = os.environ.get("TRIO_PB_TORTURE_MINUTES", "0.05")  # One deck, whatever the time.
SEED = os.environ.get("TRIO_PB_TORTURE_SEED", "1")
SECONDS_MAX = 240
OUTCOME_MAX = 4000  # Characters of what it said.


def alive(directory: Path) -> list[int]:
    """Processes that have the directory among their words."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in words:
                found.append(int(entry.name))
    return found


async def test_every_promise_is_kept_while_everything_goes_wrong(tmp_path: Path) -> None:
    """Exit code 0: linearizable, nothing lost, nothing twice, and all kinds of faults were used."""
    directory = tmp_path / "torture"
    command = replica_command("torture", "--minutes", MINUTES, "--seed", SEED, "--directory", str(directory), "--json")
    with trio.fail_after(SECONDS_MAX + 120 * float(MINUTES)):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, "COLUMNS": "200"}
        )
    told = done.stderr.decode()[-OUTCOME_MAX:]
    assert done.returncode == 0, done.stdout.decode()[-OUTCOME_MAX:] + told
    report = json.loads(done.stdout)
    assert report == json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert report["ok"], told
    assert all(count >= 1 for count in report["faults"].values()), report["faults"]
    assert len(report["actions"]) == sum(report["faults"].values())
    assert report["orders"]["acknowledged"] > 100
    assert (directory / "history.jsonl").exists()
    assert ElementTree.parse(directory / "latency.svg").getroot().tag.endswith("svg")
    assert not (directory / "replica-0").exists()
    assert not alive(directory)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
async def test_an_interrupted_torture_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit code 130, everything that it started is gone."""
    directory = tmp_path / "torture"
    command = replica_command("torture", "--minutes", "5", "--seed", "2", "--directory", str(directory))
    with trio.fail_after(SECONDS_MAX):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        told = b""
        async with process.stdout:
            while b"replicas are up" not in told:
                piece = await process.stdout.receive_some()
                assert piece, told
                told += piece
            assert len(alive(directory)) == 4
            process.send_signal(signal.SIGINT)
            async for _ in process.stdout:
                pass
        assert await process.wait() == 130
    assert not alive(directory)
