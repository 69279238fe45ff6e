"""The table of peers: the middle of quiet runs, and a page that takes it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.peers.__main__ import BEGIN, END, check_disk, table, write
from benchmarks.peers.points import POINTS, Found, Point, middle
from benchmarks.peers.program import load_with
from trio_pb.testbed.bench.figures import FlushTimes
from trio_pb.testbed.load.calibration import Calibration
from trio_pb.testbed.load.process import LoadError

POINT = Point("put", 100, 1)
PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"


def _found(per_second: float, *, is_quiet: bool = True, system: str = "some") -> Found:
    return Found(
        system=system,
        point=POINT,
        per_second=per_second,
        p50_ms=1.5,
        p99_ms=3.0,
        servers_cpu_us=50.0,
        load_cpu_us=20.0,
        others_cores=0.1,
        is_quiet=is_quiet,
    )


def test_the_middle_is_of_quiet_runs() -> None:
    """Of noisy ones only where there are no others."""
    assert middle([_found(10), _found(30), _found(20)]).per_second == 20
    assert middle([_found(10), _found(99, is_quiet=False), _found(98, is_quiet=False)]).per_second == 10
    assert middle([_found(40), _found(20), _found(10), _found(30)]).per_second == 20  # The slower of the two.
    assert middle([_found(5, is_quiet=False), _found(6, is_quiet=False), _found(7, is_quiet=False)]).per_second == 6


def test_a_table_has_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot be asked so has an empty cell; noise has a question mark."""
    monkeypatch.setattr("benchmarks.peers.__main__.machine", lambda: "a machine")
    calibrations = [
        Calibration(flush=FlushTimes(9, 0.1 * it, 0.2), ping_p50_ms=0.02, limit_p50_ms=0.3, limit_per_s=1000 * it)
        for it in (1, 2, 4)
    ]
    noisy = [_found(7, system="other", is_quiet=False)]
    told = table(calibrations, [_found(1234), *noisy], [POINT, POINTS[0]])
    assert "| system | put 100 over 1 | put 1 |" in told
    assert "| some | 1,234/s, 1.50, 3.00 ms |  |" in told
    assert "| other | 7/s, 1.50, 3.00 ms ? |  |" in told
    assert "?: other programs" in told
    assert "fdatasync 0.200 ms" in told
    assert "2000 a second" in told


def test_noise_is_explained_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a run that the table leaves out."""
    monkeypatch.setattr("benchmarks.peers.__main__.machine", lambda: "a machine")
    calibration = Calibration(flush=FlushTimes(9, 0.1, 0.2), ping_p50_ms=0.02, limit_p50_ms=0.3, limit_per_s=3000)
    assert "?" not in table([calibration], [_found(1), _found(2, is_quiet=False)], [POINT])


@pytest.mark.parametrize(("filesystem", "is_refused"), [("tmpfs", True), ("ext4", False)])
def test_a_directory_in_memory_is_refused(
    filesystem: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush costs nothing there; a directory on a disk is made."""

    def disk_partitions(**_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(mountpoint="/", fstype=filesystem)]

    monkeypatch.setattr("psutil.disk_partitions", disk_partitions)
    with pytest.raises(SystemExit, match="in memory") if is_refused else nullcontext():
        check_disk(tmp_path / "data")
    assert (tmp_path / "data").is_dir() != is_refused


BUSY_BEFORE = """
import json, sys, time
while time.process_time() < 0.5: pass
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps({"per_second": 1000.0, "p50": 1.0, "p99": 2.0}), flush=True)
sys.stdin.read()
"""


async def test_what_a_program_takes_until_it_is_ready_is_not_of_its_load() -> None:
    """It connects in its own time; the windows begin when it is told to go, and it is there when they end."""
    found = await load_with([sys.executable, "-c", BUSY_BEFORE], "some", [], POINT, 0.0, 0.1)
    assert (found.per_second, found.p50_ms, found.p99_ms) == (1000, 1, 2)
    assert found.load_cpu_us < 0.25e6 / 100


async def test_a_program_that_fails_is_named() -> None:
    """With its exit code."""
    with pytest.raises(LoadError, match="exit code 3"):
        await load_with([sys.executable, "-c", "raise SystemExit(3)"], "some", [], POINT, 0.0, 0.1)


def test_a_page_takes_the_table(tmp_path: Path) -> None:
    """Between its marks, again and again; a page without them is left alone."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for told in ("new", "newer"):
        write(page, told)
        assert page.read_text() == f"before\n{BEGIN}\n{told}\n{END}\nafter\n"
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="no place for the table"):
        write(page, "new")
    assert page.read_text() == "nothing"


def test_our_page_has_a_place() -> None:
    """For the table."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
