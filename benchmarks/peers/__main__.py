"""`python -m benchmarks.peers`: measure all systems, point by point, in turn; write a table, and JSON beside it."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from benchmarks.peers.etcd import etcd
from benchmarks.peers.ours import ours
from benchmarks.peers.points import POINTS, Found, Point, System, middle
from benchmarks.peers.program import build_load
from benchmarks.peers.redis import redis
from trio_pb import __version__
from trio_pb.testbed.load.calibration import Calibration, calibrate

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
    parser.add_argument("--out", type=Path, default=Path(".trio-pb/peers.json"))
    parser.add_argument("--write", type=Path, help="put the table into this page, between its marks")
    words = parser.parse_args()
    wanted = {it.strip() for it in words.points.split(",")} - {""}
    points = [point for point in POINTS if not wanted or str(point) in wanted]
    with tempfile.TemporaryDirectory(prefix="trio-pb-peers-") as scratch:
        directory = Path(scratch)
        load = build_load(directory)
        kinds: dict[str, Callable[[ExitStack, Path], System]] = {
            "trio_pb lean": lambda stack, path: stack.enter_context(ours(path, is_lean=True)),
            "trio_pb": lambda stack, path: stack.enter_context(ours(path, is_lean=False)),
            "etcd": lambda stack, path: stack.enter_context(etcd(path, load)),
            "redis": lambda stack, path: stack.enter_context(redis(path, load)),
        }
        chosen = {name: kind for name, kind in kinds.items() if not words.only or any(it in name for it in words.only)}
        calibrations: list[Calibration] = []
        found: list[Found] = []
        for run in range(words.runs):
            (directory / f"flush-{run}").mkdir()
            calibrations.append(calibrate(directory / f"flush-{run}"))
            for name, kind in chosen.items():
                # One system at a time, so that an idle one does not take part: it has heartbeats.
                with ExitStack() as stack:
                    system = kind(stack, directory / f"{name.replace(' ', '-')}-{run}")
                    asked = (point for point in points if system.can(point))
                    found.extend(_measure(system, point, words.warm_up, words.seconds) for point in asked)
    words.out.parent.mkdir(parents=True, exist_ok=True)
    words.out.write_text(json.dumps(_fields(calibrations, found), indent=1))
    told = table(calibrations, found, points)
    if words.write is not None:
        write(words.write, told)
    print(told)


def _measure(system: System, point: Point, warm_up: float, seconds: float) -> Found:
    for attempt in range(ATTEMPTS_MAX):
        found = system.measure(point, warm_up, seconds)
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
        f"fdatasync {min(it.flush.p50_ms for it in calibrations):.3f} ms, round trip"
        f" {min(it.ping_p50_ms for it in calibrations):.3f} ms, plain sockets with a flush on two"
        f" {min(it.limit_p50_ms for it in calibrations):.3f} ms,"
        f" {max(it.limit_per_s for it in calibrations):.0f} a second.",
        "",
        "| system | " + " | ".join(str(point) for point in points) + " |",
        "|---" * (len(points) + 1) + "|",
    ]
    for system in dict.fromkeys(it.system for it in found):
        cells: list[str] = []
        for point in points:
            runs = [it for it in found if it.system == system and it.point == point]
            cells.append(_cell(middle(runs)) if runs else "")
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(run: Found) -> str:
    return f"{run.per_second:,.0f}/s, {run.p50_ms:.2f} ms" + ("" if run.is_quiet else " ?")


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
