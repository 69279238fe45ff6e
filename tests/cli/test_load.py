"""`trio-pb bench` in short: every figure is there, and nothing stays behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from trio_pb.cli.main import call
from trio_pb.testbed.bench.figures import FlushTimes
from trio_pb.testbed.load.calibration import Calibration
from trio_pb.testbed.load.disk import Disk
from trio_pb.testbed.load.plan import LoadPlan
from trio_pb.testbed.load.run import Measured
from trio_pb.testbed.load.tally import Tally
from trio_pb.testbed.load.usage import Usage

QUICK = ("--runs", "1", "--seconds", "0.3", "--warm-up", "0.1")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the machine need not be quiet, nor the figures be good."""
    monkeypatch.setattr("trio_pb.testbed.load.run.ATTEMPTS_MAX", 1)
    monkeypatch.setattr("trio_pb.testbed.load.calibration.ROUND_TRIPS", 50)
    monkeypatch.setattr("trio_pb.testbed.bench.storage.FLUSHES", 20)


def _measure(directory: Path, *words: str) -> dict[str, Any]:
    said = StringIO()
    with redirect_stdout(said):
        assert call(["bench", *QUICK, "--directory", str(directory), "--json", *words]) == 0
    assert not list(directory.iterdir())
    fields: dict[str, Any] = json.loads(said.getvalue())
    return fields


def test_customers_who_wait_for_their_answers(tmp_path: Path) -> None:
    """One point for each number of customers; whose processor time it was; what the machine takes by itself."""
    said = _measure(tmp_path, "--customers", "1", "6", "--mix", "place=60,read=30,scan=10")
    calibration = said["calibration"]
    assert calibration["limit_p50_ms"] > calibration["ping_p50_ms"] > 0
    assert [(point["customers"], point["connections"]) for point in said["points"]] == [(1, 1), (6, 6)]
    for point in said["points"]:
        assert set(point["latency_ms"]) <= {"place", "read", "scan"}
        place = point["latency_ms"]["place"]
        assert place["max"] >= place["p99"] >= place["p50"] > 0
        answers = sum(latency["count"] for latency in point["latency_ms"].values())
        assert answers == sum(point["per_column"]) == round(0.3 * point["per_second"])
        assert len(point["per_column"]) == 3
        assert (point["failed"], point["unsent"], point["views"]) == ({}, 0, 0)
        assert point["late"] == point["unanswered"] <= point["customers"]  # What each waits for in the end.
        assert point["oldest_ms"] <= 400
        assert set(point["cpu_ms_per_1000"]) == {"replica 0", "replica 1", "replica 2", "customers 0"}
        assert min(point["memory_mib"].values()) > 1
    assert {"place", "read", "scan"} == set(said["points"][1]["latency_ms"])


def test_a_rate_shared_by_processes_and_connections(tmp_path: Path) -> None:
    """So many a second were due, and each is counted once; a single replica on a slow disk has time for them."""
    words = ("--customers", "8", "--connections", "4", "--processes", "2", "--rate", "50", "--replicas", "1")
    said = _measure(tmp_path, *words, "--flush-ms", "2")
    (point,) = said["points"]
    assert point["connections"] == 4
    assert 12 <= point["latency_ms"]["place"]["count"] + point["unsent"] <= 18
    assert point["latency_ms"]["place"]["p50"] > 2
    assert set(point["cpu_ms_per_1000"]) == {"replica 0", "customers 0", "customers 1"}


def test_lean_customers(tmp_path: Path) -> None:
    """More of them on a connection than a session has room for, and all kinds of requests."""
    words = ("--lean", "--customers", "20", "--connections", "2", "--mix", "place=50,read=40,scan=10")
    (point,) = _measure(tmp_path, *words)["points"]
    assert point["lean"]
    assert set(point["latency_ms"]) == {"place", "read", "scan"}
    assert sum(latency["count"] for latency in point["latency_ms"].values()) == sum(point["per_column"])
    assert point["failed"] == {}
    assert point["late"] == point["unanswered"] == 20  # Each of them has asked again.


def test_what_is_told_on_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for the machine, one for the load, a table."""
    assert call(["bench", *QUICK, "--directory", str(tmp_path), "--customers", "2", "--unsafe-no-fsync"]) == 0
    said = capsys.readouterr().out
    assert "3 replicas, NEVER flushed; place=100; each customer asks again when he has his answer; 0.3 s" in said
    assert "customers  connections  answers/s  times plain" in said


def _measured(rate: float | None, answers: int, *, others_cores: float = 0.0) -> Measured:
    tally = Tally(columns=Counter({0: answers}), late=7)
    plan = LoadPlan(customers=4, connections=4, rate=rate, seconds=1.0)
    spent = {"replica 0": 0.1, "customers 0": 0.1}
    return Measured(plan=plan, tally=tally, usage=Usage(1.0, spent, {}, others_cores), primary=0, views=0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `trio-pb bench` on measurements that were made up; what it prints."""

    def run(*runs: Measured, filesystem: str = "ext4") -> str:
        async def found(*_: object) -> list[Measured]:
            return list(runs)

        @asynccontextmanager
        async def nothing(*_: object, **__: object) -> AsyncGenerator[None]:
            yield

        def calibrate(_: Path) -> Calibration:
            return Calibration(flush=FlushTimes(9, 0.1, 0.2), ping_p50_ms=0.02, limit_p50_ms=0.3, limit_per_s=1000)

        def disk_of(_: Path) -> Disk:
            return Disk(filesystem)

        monkeypatch.setattr("trio_pb.testbed.load.run.measure_point", found)
        monkeypatch.setattr("trio_pb.testbed.load.calibration.calibrate", calibrate)
        monkeypatch.setattr("trio_pb.testbed.load.disk.Disk.of", disk_of)
        monkeypatch.setattr("trio_pb.cli.load.local_cluster", nothing)
        assert call(["bench", "--customers", "4"]) == 0
        return capsys.readouterr().out

    return run


def test_the_middle_run_is_told_and_only_its_noise(told: Callable[..., str]) -> None:
    """Of an even number the slower one; a question mark is explained where there is one."""
    said = told(_measured(None, 111), _measured(None, 222), _measured(None, 333), _measured(None, 444, others_cores=1))
    assert " 222 " in said
    assert "?" not in said
    assert "?: other programs" in told(_measured(None, 222, others_cores=1))


def test_a_rate_that_is_not_borne_is_told(told: Callable[..., str]) -> None:
    """However many of the answers come in the end."""
    assert "NOT borne: of 1000 requests a second 900 were answered in time; 7" in told(_measured(1000, 900))
    assert "NOT borne" not in told(_measured(1000, 995))


def test_files_in_memory_are_told(told: Callable[..., str]) -> None:
    """What is measured there is not durable."""
    assert "files are IN MEMORY (tmpfs)" in told(_measured(None, 5), filesystem="tmpfs")
    assert "IN MEMORY" not in told(_measured(None, 5))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("--customers 0", "--customers 0: must be 1 to 1000000"),
        ("--customers 4 --connections 5", "--connections 5: there are only 4 customers"),
        ("--customers 4 --processes 5", "--processes 5: there are only 4 connections"),
        ("--mix place=50", "--mix place=50: the shares are 50 together; they must make 100"),
        ("--mix steal=100", "--mix steal=100: expected shares of a hundred"),
        ("--rate 0", "--rate 0: must be above 0"),
        ("--rate 5 --lean", "--lean and --rate: lean customers wait for their answers"),
        ("--rate nan", "--rate nan: must be above 0"),
        ("--seconds 0", "--seconds 0: must be above 0"),
        ("--warm-up -1", "--warm-up -1: must be 0 to 600 seconds"),
        ("--runs 0", "--runs 0: must be 1 to 100"),
        ("--replicas 8", "--replicas 8: must be 1 to 7"),
        ("--flush-ms 1 --unsafe-no-fsync", "choose one"),
        ("--flush-ms 0", "--flush-ms 0: must be above 0"),
        ("--directory nowhere", "--directory nowhere: there is no such directory"),
    ],
)
def test_nonsense_is_named(words: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    assert call(["bench", *words.split()]) == 2
    assert wrong in capsys.readouterr().err
