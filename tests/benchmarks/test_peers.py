"""The table of peers: the middle of quiet runs, and a page that takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.__main__ import BEGIN, END, table, write
from benchmarks.peers.points import POINTS, Found, Point, middle
from trio_pb.testbed.bench.figures import FlushTimes
from trio_pb.testbed.load.calibration import Calibration

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
    assert middle([_found(5, is_quiet=False), _found(6, is_quiet=False), _found(7, is_quiet=False)]).per_second == 6


def test_a_table_has_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot be asked so has an empty cell; noise has a question mark."""
    monkeypatch.setattr("benchmarks.peers.__main__.machine", lambda: "a machine")
    calibration = Calibration(flush=FlushTimes(9, 0.1, 0.2), ping_p50_ms=0.02, limit_p50_ms=0.3, limit_per_s=3000)
    told = table([calibration], [_found(1234), _found(7, system="other", is_quiet=False)], [POINT, POINTS[0]])
    assert "| system | put 100 over 1 | put 1 |" in told
    assert "| some | 1,234/s, 1.50 ms |  |" in told
    assert "| other | 7/s, 1.50 ms ? |  |" in told
    assert "fdatasync 0.100 ms" in told


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
