"""`trio-pb bench failover` in short."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from trio_pb.cli.main import call
from trio_pb.core.messages import Status, StatusReport
from trio_pb.testbed.cluster import LocalCluster
from trio_pb.testbed.load.failover import Failovers, now_leading


def test_gaps_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each kill, of orders that went on after it; nothing stays behind."""
    words = ["bench", "failover", "--kills", "2", "--customers", "3", "--directory", str(tmp_path), "--json"]
    assert call(words) == 0
    assert not list(tmp_path.iterdir())
    said = json.loads(capsys.readouterr().out)
    assert len(said["gaps_ms"]) == said["kills"] == 2
    # Nobody is suspected before its time: a gap shorter than that would not be one.
    assert 100 < said["shortest_ms"] <= said["p50_ms"] <= said["longest_ms"]
    assert said["orders"] > 100
    assert [target["name"] for target in said["targets"]] == ["median gap", "longest gap"]
    assert said["quiet"] == (said["others_cores"] <= 0.25)


def test_the_99th_of_fewer_than_a_hundred_is_the_longest() -> None:
    """And is called so."""
    for kills, name, value in ((99, "longest gap", 98), (100, "99th percentile of the gaps", 98)):
        high = Failovers(tuple(map(float, range(kills))), 0, 0, 0.0).targets[1]
        assert (high.name, high.value) == (name, value)


@pytest.mark.parametrize("others", [0.1, 0.6])
def test_others_on_the_machine_are_told(
    others: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, when they took more than a quarter of a core."""

    async def found(*_: object) -> Failovers:
        return Failovers((200.0, 300.0), 100, 0, others)

    @asynccontextmanager
    async def nothing(*_: object, **__: object) -> AsyncGenerator[None]:
        yield

    monkeypatch.setattr("trio_pb.testbed.load.failover.measure_failovers", found)
    monkeypatch.setattr("trio_pb.cli.failover.local_cluster", nothing)
    assert call(["bench", "failover"]) == 0
    assert ("other programs kept 0.60 cores busy" in capsys.readouterr().out) == (others > 0.25)


REPORT = StatusReport(
    replica=0,
    status=Status.NORMAL,
    is_primary=False,
    view=0,
    log_view=0,
    head=0,
    commit=0,
    applied=0,
    state_op=0,
    state_digest=b"",
    peers=(),
    counters=(),
)


class _Restless(LocalCluster):
    """A cluster whose view changes right after it was asked who leads, once."""

    asked = 0

    async def wait_primary(self, *, besides: int | None = None) -> int:
        self.asked += 1
        return self.asked

    async def status(self, replica: int) -> StatusReport | None:
        return attrs.evolve(REPORT, replica=replica, view=10 + self.asked, is_primary=self.asked > 1)


async def test_who_is_killed_leads(tmp_path: Path) -> None:
    """In the view whose end is waited for, though another one led when somebody asked first."""
    leading = await now_leading(_Restless(tmp_path, 3, "restless"))
    assert (leading.replica, leading.view) == (2, 12)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("--kills 0", "--kills 0: must be 1 to 10000"),
        ("--customers 0", "--customers 0: must be 1 to 1000"),
        ("--replicas 2", "--replicas 2: must be 3 to 7, for one of them is killed"),
        ("--directory nowhere", "there is no such directory"),
    ],
)
def test_nonsense_is_named(words: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    assert call(["bench", "failover", *words.split()]) == 2
    assert wrong in capsys.readouterr().err
