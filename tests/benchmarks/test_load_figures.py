"""What becomes a figure of a load: what came in time, what was due, who makes it, and whose processor time it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.load.disk import Disk
from trio_pb.testbed.load.plan import LoadPlan
from trio_pb.testbed.load.run import Measured, place_one_each
from trio_pb.testbed.load.tally import Tally, Window, columns_of
from trio_pb.testbed.load.usage import OthersMeter, Usage

BEGIN, SECONDS = 100.0, 2.0


def _window(*, has_rate: bool) -> Window:
    return Window(BEGIN, SECONDS, has_rate, Tally())


def test_an_overloaded_cluster_bears_what_it_answers_in_time() -> None:
    """Of 200 requests that were due in two seconds a quarter is answered in time; all the others come later."""
    window = _window(has_rate=True)
    for number in range(200):
        window.answered("place", BEGIN + number / 100, BEGIN + number / 25)
    tally = window.tally
    plan = LoadPlan(customers=1, connections=1, rate=100, seconds=SECONDS)
    usage = Usage(seconds=SECONDS, cpu_seconds={"replica 0": 0.1}, memory_mib={}, others_cores=0.0)
    measured = Measured(plan=plan, tally=tally, usage=usage, primary=0, views=0)
    assert (measured.per_second, measured.is_borne) == (25, False)
    assert measured.cpu_ms_per_1000 == {"replica 0": 2000}
    assert (tally.answers, tally.late, tally.unanswered) == (50, 150, 150)
    assert tally.latencies["place"].count == 200  # All waited, and how long is told of all.
    assert tally.latencies["place"].longest_ms == pytest.approx(5970, rel=0.01)
    assert tally.oldest_seconds == pytest.approx(1.5)
    assert sum(tally.columns[column] for column in range(columns_of(SECONDS))) == 50


def test_with_a_rate_latency_is_of_what_was_due_in_the_window() -> None:
    """An answer to an earlier request is borne, and says nothing of how long those of the window waited."""
    window = _window(has_rate=True)
    window.answered("read", BEGIN - 1, BEGIN + 0.5)
    assert (window.tally.answers, window.tally.latencies["read"].count) == (1, 0)
    window.answered("read", BEGIN - 1, BEGIN - 0.5)
    assert (window.tally.answers, window.tally.late) == (1, 0)
    window.unsent(BEGIN - 0.1)
    window.unsent(BEGIN)
    window.unsent(BEGIN + SECONDS)
    assert window.tally.unsent == 1


def test_what_is_open_at_the_end_of_a_closed_loop_is_told() -> None:
    """A stall that lasts until the end, or a refusal after it, hides nowhere."""
    window = _window(has_rate=False)
    window.answered("place", BEGIN - 0.2, BEGIN + 0.1)
    window.answered("place", BEGIN + 0.5, BEGIN + SECONDS + 3)
    window.refused("timeout", BEGIN + 0.8, BEGIN + SECONDS + 8)
    window.refused("timeout", BEGIN - 9, BEGIN - 1)
    window.refused("overloaded", BEGIN + 1, BEGIN + 1.1)
    tally = window.tally
    assert (tally.answers, tally.latencies["place"].count) == (1, 1)
    assert (tally.unanswered, tally.late) == (2, 1)
    assert tally.oldest_seconds == pytest.approx(1.5)
    assert (dict(tally.failed), tally.refusals.count) == ({"timeout": 1, "overloaded": 1}, 2)


def test_processes_add_up() -> None:
    """Counts are added; the oldest request is the oldest of all."""
    both = Tally()
    for due in (BEGIN + 0.5, BEGIN + 1.5):
        window = _window(has_rate=False)
        window.answered("place", due, BEGIN + SECONDS + 1)
        window.answered("place", BEGIN, BEGIN + 0.15)
        both.add(window.tally.fields())
    assert (both.unanswered, both.late, both.oldest_seconds, both.columns) == (2, 2, 1.5, {1: 2})


@given(st.floats(0.01, 100), st.floats(0, 1, exclude_max=True))
@example(1.1000000001, 0.99999999999)
def test_columns_are_of_the_window(seconds: float, share: float) -> None:
    """Also with the last of the digits."""
    window = Window(BEGIN, seconds, True, Tally())
    now = BEGIN + share * seconds
    window.answered("place", now, now)
    assert all(0 <= column < columns_of(seconds) for column in window.tally.columns)
    assert columns_of(seconds) == pytest.approx(seconds * 10, abs=1.01)


@given(st.data(), st.integers(1, 2000))
def test_each_connection_has_a_customer(data: st.DataObject, customers: int) -> None:
    """However few there are for so many processes; and nobody is forgotten, or there twice."""
    connections = data.draw(st.integers(1, customers), "connections")
    processes = data.draw(st.integers(1, min(connections, 64)), "processes")
    plan = LoadPlan(customers=customers, connections=connections, processes=processes, rate=100)
    parts = plan.split()  # Each is a plan, which refuses more connections than customers.
    assert len(parts) == processes
    assert [first for first, _ in parts] == [sum(part.customers for _, part in parts[:it]) for it in range(processes)]
    assert sum(part.customers for _, part in parts) == customers
    assert sum(part.connections for _, part in parts) == connections
    assert sum(part.rate or 0 for _, part in parts) == pytest.approx(100)
    shares = {part.connections for _, part in parts}
    assert max(shares) - min(shares) <= 1


def _cpu(monkeypatch: pytest.MonkeyPatch, *moments: tuple[float, float, float]) -> None:
    """At each look: seconds of programs, seconds that the host took away, and seconds of our children that ended."""
    machine, ours = iter(moments), iter(moments)

    def cpu_times() -> SimpleNamespace:
        busy, steal, _ = next(machine)
        return SimpleNamespace(user=busy, system=0.0, nice=0.0, steal=steal)

    def times() -> SimpleNamespace:
        _, _, children = next(ours)
        return SimpleNamespace(user=0.0, system=0.0, children_user=children, children_system=0.0)

    monkeypatch.setattr("psutil.cpu_times", cpu_times)
    monkeypatch.setattr("os.times", times)
    clock = iter((10.0, 20.0))
    monkeypatch.setattr("trio_pb.testbed.load.usage.perf_counter", lambda: next(clock))


@pytest.mark.parametrize(
    ("after", "others"),
    [
        ((105.0, 7.0, 3.0), 0.5),  # Others worked for five seconds of ten.
        ((100.0, 9.0, 3.0), 0.2),  # The host gave two of ours to somebody else.
        ((105.0, 7.0, 8.0), 0.0),  # It was a child of ours, which has ended.
    ],
)
def test_whose_processor_time_it_was(
    after: tuple[float, float, float], others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everybody else: other programs, and other guests of the host."""
    _cpu(monkeypatch, (100.0, 7.0, 3.0), after)
    assert OthersMeter([]).cores([]) == pytest.approx(others)


def test_the_nearest_mount_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one where there are several; a name that only begins alike is another directory."""
    place = tmp_path.resolve()
    mounts = [("/", "ext4"), (f"{place}/a", "ext4"), (f"{place}/a", "tmpfs"), (f"{place}/a/b", "xfs")]
    found = [SimpleNamespace(mountpoint=mountpoint, fstype=fstype) for mountpoint, fstype in mounts]

    def disk_partitions(**_: object) -> list[SimpleNamespace]:
        return found

    monkeypatch.setattr("psutil.disk_partitions", disk_partitions)
    asked = ("", "a", "a/c", "a/b", "aa")
    assert [Disk.of(place / it).filesystem for it in asked] == ["ext4", "tmpfs", "tmpfs", "xfs", "ext4"]
    assert [Disk.of(place / it).is_in_memory for it in asked] == [False, True, True, False, False]


@pytest.mark.process
async def test_who_reads_has_ordered(tmp_path: Path) -> None:
    """All of them, before the measurement begins; and orders of a load come after that."""
    async with local_cluster(1, name="bench", parent=tmp_path) as cluster:
        for _ in range(2):
            await place_one_each(cluster, 7)
        async with connect(cluster.addresses) as client:
            records = [await OrderClient(client).read(customer) for customer in range(8)]
    assert [record.last_order >= 0 for record in records] == [True] * 7 + [False]
