"""`python -m benchmarks.peers`: measure all systems, point by point, in turn; write a table, and JSON beside it."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

import attrs
import trio

from benchmarks.peers.etcd import etcd
from benchmarks.peers.ours import ours
from benchmarks.peers.points import POINTS, Found, Point, System, middle
from benchmarks.peers.program import build_load
from benchmarks.peers.redis import redis
from trio_pb import __version__
from trio_pb.testbed.load.calibration import Calibration, calibrate
from trio_pb.testbed.load.disk import Disk

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
ATTEMPTS_MAX = 3  # Of one measurement, while others use the machine.


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each point and system")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--only", action="append", default=[], help="a part of a system's name")
    parser.add_argument("--points", default="", help='only these, as in "put 100, get 100 over 1"')
    parser.add_argument(
        "--directory", type=Path, default=Path(".trio-pb"), help="where to make the directory for all data: the disk"
    )
    parser.add_argument("--out", type=Path, default=Path(".trio-pb/peers.json"))
    parser.add_argument("--write", type=Path, help="put the table into this page, between its marks")
    words = parser.parse_args()
    wanted = {it.strip() for it in words.points.split(",")} - {""}
    points = [point for point in POINTS if not wanted or str(point) in wanted]
    check_disk(words.directory)
    chosen = [name for name in SYSTEMS if not words.only or any(it in name for it in words.only)]
    with tempfile.TemporaryDirectory(prefix="peers-", dir=words.directory.resolve()) as scratch:
        calibrations, found = trio.run(
            partial(_measure_all, Path(scratch), chosen, points, words.runs, words.warm_up, words.seconds)
        )
    words.out.parent.mkdir(parents=True, exist_ok=True)
    words.out.write_text(json.dumps(_fields(calibrations, found), indent=1))
    told = table(calibrations, found, points)
    if words.write is not None:
        write(words.write, told)
    print(told)


def check_disk(directory: Path) -> None:
    """Refuse to measure where a flush costs nothing."""
    disk = Disk.of(directory)
    if disk.is_in_memory:
        raise SystemExit(
            f"--directory {directory}: it is in memory ({disk.filesystem}), where a flush costs nothing and nothing is"
            " durable; name a directory on a disk"
        )
    directory.mkdir(parents=True, exist_ok=True)


async def _measure_all(
    directory: Path, chosen: Sequence[str], points: Sequence[Point], runs: int, warm_up: float, seconds: float
) -> tuple[list[Calibration], list[Found]]:
    load = build_load(directory)
    calibrations: list[Calibration] = []
    found: list[Found] = []
    for run in range(runs):
        (directory / f"flush-{run}").mkdir()
        calibrations.append(calibrate(directory / f"flush-{run}"))
        for name in chosen:
            # One system at a time, so that an idle one does not take part: it has heartbeats. Each starts empty, and
            # all points are put to it, one after the other.
            async with AsyncExitStack() as stack:
                place = directory / f"{name.replace(' ', '-')}-{run}"
                place.mkdir()
                system = await SYSTEMS[name](stack, place, load)
                asked = [point for point in points if system.can(point)]
                found.extend([await _measure(system, point, warm_up, seconds) for point in asked])
    return calibrations, found


async def _start_ours(stack: AsyncExitStack, directory: Path, _load: Path, *, is_lean: bool) -> System:
    return await stack.enter_async_context(ours(directory, is_lean=is_lean))


async def _start_etcd(stack: AsyncExitStack, directory: Path, load: Path) -> System:
    return stack.enter_context(etcd(directory, load))


async def _start_redis(stack: AsyncExitStack, directory: Path, load: Path) -> System:
    return stack.enter_context(redis(directory, load))


SYSTEMS: dict[str, Callable[[AsyncExitStack, Path, Path], Awaitable[System]]] = {
    "trio_pb lean": partial(_start_ours, is_lean=True),
    "trio_pb": partial(_start_ours, is_lean=False),
    "etcd": _start_etcd,
    "redis": _start_redis,
}


async def _measure(system: System, point: Point, warm_up: float, seconds: float) -> Found:
    for attempt in range(ATTEMPTS_MAX):
        found = await system.measure(point, warm_up, seconds)
        note = "" if found.is_quiet else f"  ({found.others_cores:.2f} cores were busy with something else)"
        print(
            f"{system.name:28} {point!s:16} {found.per_second:8.0f}/s  p50 {found.p50_ms:.2f} ms{note}", file=sys.stderr
        )
        if found.is_quiet or attempt + 1 == ATTEMPTS_MAX:
            return found
    raise AssertionError("the last attempt returns")


def write(page: Path, told: str) -> None:
    """Put the table between the marks of a page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page}: it has no place for the table, between {BEGIN} and {END}")
    page.write_text(f"{before}{begin}\n{told}\n{end}{after}")


def table(calibrations: Sequence[Calibration], found: Sequence[Found], points: Sequence[Point]) -> str:
    """The medians, as Markdown."""
    lines = [
        f"{time.strftime('%-d %B %Y')}; {machine()}.",
        f"fdatasync {median(it.flush.p50_ms for it in calibrations):.3f} ms, round trip"
        f" {median(it.ping_p50_ms for it in calibrations):.3f} ms, plain sockets with a flush on two"
        f" {median(it.limit_p50_ms for it in calibrations):.3f} ms,"
        f" {median(it.limit_per_s for it in calibrations):.0f} a second. In the cells: answers a second, and of their"
        " latencies the median and the 99th percentile.",
        "",
        "| system | " + " | ".join(str(point) for point in points) + " |",
        "|---" * (len(points) + 1) + "|",
    ]
    is_quiet = True
    for system in dict.fromkeys(it.system for it in found):
        cells: list[str] = []
        for point in points:
            runs = [it for it in found if it.system == system and it.point == point]
            cells.append(_cell(middle(runs)) if runs else "")
            is_quiet = is_quiet and (not runs or middle(runs).is_quiet)
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    if not is_quiet:
        lines += ["", "?: other programs used more than a quarter of a core all the while; these figures say little."]
    return "\n".join(lines)


def _cell(run: Found) -> str:
    return f"{run.per_second:,.0f}/s, {run.p50_ms:.2f}, {run.p99_ms:.2f} ms" + ("" if run.is_quiet else " ?")


def machine() -> str:
    """Versions of all that was measured, and of what it ran on."""
    versions = [
        f"trio_pb {__version__}",
        f"CPython {platform.python_version()}",
        _first_line("etcd", "--version"),
        _first_line("redis-server", "--version"),
        _first_line("go", "version"),
        f"{platform.system()} {platform.release()} {platform.machine()}",
    ]
    return ", ".join(versions)


def _first_line(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


def _fields(calibrations: Sequence[Calibration], found: Sequence[Found]) -> dict[str, object]:
    return {
        "machine": machine(),
        "calibrations": [attrs.asdict(it) for it in calibrations],
        "found": [attrs.asdict(it) for it in found],
    }


if __name__ == "__main__":
    main()
