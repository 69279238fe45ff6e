"""The machine under a tortured replica: a clock and a disk that go wrong as they are told."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from trio_pb.errors import DiskFullError, StorageError
from trio_pb.storage.disk import Allocate, Flush, Read, Write
from trio_pb.testbed.torture.clock import WrongClock
from trio_pb.testbed.torture.disk import PAGE_SIZE, FailingDisk
from trio_pb.testbed.torture.troubles import Troubles

SECOND_NS = 1_000_000_000


def test_troubles_are_one_line() -> None:
    """Told and heard alike."""
    troubles = Troubles(clock_ahead_seconds=-3600.0, is_full=True, fails="flush", unreadable_share=0.2)
    line = troubles.to_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Troubles.from_line(line) == troubles


# --- The clock ------------------------------------------------------------------------------------


@attrs.define
class Truth:
    """What a right clock would show."""

    seconds: float = 100.0

    def clock(self) -> WrongClock:
        """A clock that is right as yet."""
        return WrongClock(lambda: self.seconds, lambda: round(self.seconds * SECOND_NS))


def test_a_right_clock() -> None:
    """Date, time and how long to sleep."""
    truth = Truth()
    clock = truth.clock()
    began = clock.current_time()
    truth.seconds += 2.5
    assert clock.current_time() - began == pytest.approx(2.5)
    assert clock.wall_ns() == 102_500_000_000
    assert clock.deadline_to_sleep_time(clock.current_time() + 3) == pytest.approx(3)


def test_a_jump_is_one_of_the_date_alone() -> None:
    """Time goes on as it did; the date is set back in the end."""
    truth = Truth()
    clock = truth.clock()
    began = clock.current_time()
    clock.go_wrong(ahead_seconds=-3600, rate=1.0)
    assert clock.wall_ns() == (100 - 3600) * SECOND_NS
    assert clock.current_time() == began
    clock.go_wrong(ahead_seconds=0, rate=1.0)
    assert clock.wall_ns() == 100 * SECOND_NS


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_drift_is_one_of_time_and_date(rate: float) -> None:
    """Timers come early or late; time never runs back, and the date is set right in the end."""
    truth = Truth()
    clock = truth.clock()
    began = clock.current_time()
    clock.go_wrong(ahead_seconds=0, rate=rate)
    truth.seconds += 4
    assert clock.current_time() - began == pytest.approx(4 * rate)
    assert clock.wall_ns() == pytest.approx((100 + 4 * rate) * SECOND_NS)
    assert clock.deadline_to_sleep_time(clock.current_time() + 1) == pytest.approx(1 / rate)
    clock.go_wrong(ahead_seconds=60, rate=rate)  # Another thing goes wrong: the drift goes on.
    truth.seconds += 4
    assert clock.wall_ns() == pytest.approx((100 + 8 * rate + 60) * SECOND_NS)
    clock.go_wrong(ahead_seconds=0, rate=1.0)
    assert clock.current_time() - began == pytest.approx(8 * rate)
    assert clock.wall_ns() == 108 * SECOND_NS


# --- The disk -------------------------------------------------------------------------------------


@attrs.define
class Machine:
    """A disk, and what is wrong with it."""

    directory: Path
    troubles: Troubles = attrs.Factory(Troubles)
    disk: FailingDisk = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        (self.directory / "identity").touch()
        self.disk = FailingDisk(self.directory, lambda: self.troubles)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with a file of sixty-four pages."""
    it = Machine(tmp_path)
    for folder in ("log", "other"):
        (tmp_path / folder).mkdir()
        it.disk.do(Allocate(f"{folder}/1", 64 * PAGE_SIZE))
        it.disk.do(Write(f"{folder}/1", 0, b"x" * 64 * PAGE_SIZE))
        it.disk.do(Flush(f"{folder}/1"))
    return it


def test_a_failing_write_writes_nothing(machine: Machine) -> None:
    """And says EIO; when it is over it writes."""
    machine.troubles = Troubles(fails="write")
    with pytest.raises(StorageError, match="EIO"):
        machine.disk.do(Write("log/1", 0, b"y"))
    machine.troubles = Troubles()
    assert machine.disk.do(Read("log/1", 0, 1)) == b"x"


def test_a_failing_flush_flushes_nothing(machine: Machine, tmp_path: Path) -> None:
    """What it was to write never reaches the file."""
    machine.troubles = Troubles(fails="flush")
    machine.disk.do(Write("log/1", 0, b"y"))
    with pytest.raises(StorageError, match="EIO"):
        machine.disk.do(Flush("log/1"))
    assert (tmp_path / "log/1").read_bytes()[:1] == b"x"


def test_a_full_disk_has_room_only_in_what_is_there(machine: Machine) -> None:
    """As FillingDisk."""
    machine.troubles = Troubles(is_full=True)
    machine.disk.do(Write("log/1", 5, b"y"))
    with pytest.raises(DiskFullError):
        machine.disk.do(Write("log/2", 0, b"y"))
    with pytest.raises(DiskFullError):
        machine.disk.do(Allocate("log/2", 10))


def test_unreadable_pages_come_back_as_zeros_every_time_the_same(machine: Machine) -> None:
    """Of the log; what else a replica cannot do without stays readable."""
    machine.troubles = Troubles(unreadable_share=0.3)
    read = machine.disk.do(Read("log/1", 0, 64 * PAGE_SIZE))
    assert isinstance(read, bytes)
    holes = [page for page in range(64) if read[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] == bytes(PAGE_SIZE)]
    assert 5 < len(holes) < 40
    assert read.count(0) == len(holes) * PAGE_SIZE
    start = holes[1] * PAGE_SIZE - 10
    assert machine.disk.do(Read("log/1", start, PAGE_SIZE + 20)) == read[start : start + PAGE_SIZE + 20]
    assert machine.disk.do(Read("other/1", 0, 64 * PAGE_SIZE)) == b"x" * 64 * PAGE_SIZE
    machine.troubles = Troubles()
    assert machine.disk.do(Read("log/1", 0, 64 * PAGE_SIZE)) == b"x" * 64 * PAGE_SIZE
