"""`trio-pb sim exhaust`: every order of events of a cluster that is small enough for that."""

from __future__ import annotations

from pathlib import Path

import attrs

from sim.exhaust.planting import planted_world
from sim.exhaust.search import Progress, Report, search
from sim.exhaust.story import tell_trace
from sim.exhaust.trace import SUFFIX, Trace, read_trace
from sim.exhaust.world import Size
from sim.explain.model import Kind, Story
from trio_pb.cli.output import ExitCode, Flag, errors, print_json, progress_words
from trio_pb.errors import ConfigError

__all__ = ["exhaust", "story_of"]

OUT = Path(".trio-pb/sim")
DEFAULT = Size()
# Most ids that have a place in the table of quorums; more requests than that change places in too many ways.
REPLICAS_MAX, REQUESTS_MAX, VIEWS_MAX = 7, 4, 8


def exhaust(
    *,
    replicas: int = DEFAULT.replicas,
    requests: int = DEFAULT.requests,
    views: int = DEFAULT.views,
    crashes: int = DEFAULT.crashes,
    mutant: str | None = None,
    states: int | None = None,
    out: Path = OUT,
    json: Flag = False,
) -> int:
    """Try every order of messages, losses, repetitions, disk writes and crashes of a tiny cluster.

    The shipped core is explored breadth first from where R1 leads view 1. Exit code 1 at the first promise that is
    broken: the way there is a shortest one, is told, and is put in a file that `trio-pb sim explain` draws.

    Args:
        replicas: How many.
        requests: How many clients ask for one order each; a request may arrive at any time, and again and again.
        views: How many views there may be, the first included.
        crashes: How many times a replica may lose power; of what was being written its disk keeps any part.
        mutant: Plant this bug first, a name from `trio-pb sim mutants`.
        states: Stop when so many distinct states were found.
        out: Folder for the file.
        json: Print one JSON object.
    """
    size = Size(replicas=replicas, requests=requests, views=views, crashes=crashes)
    _check(size, states)
    with planted_world(size, mutant) as world, progress_words(errors()) as say:
        report = search(world, states, lambda progress: say(_words(progress)))
    trace = None if report.trace is None else attrs.evolve(report.trace, mutant=mutant)
    told = None if trace is None else tell_trace(trace, "", "")
    path = None if trace is None else _write(trace, out)
    if json:
        print_json(_fields(report, trace, path))
    else:
        _print(report, trace, told, path)
    return ExitCode.OK if trace is None else ExitCode.FAILED


def story_of(file: Path) -> Story:
    """Go the way in a file again, and listen.

    Raises:
        ConfigError: it is none, or the code has changed since.
    """
    trace = read_trace(file)
    return tell_trace(trace, f"{file.name}: a small world", f"trio-pb sim explain {file}")


def _check(size: Size, states: int | None) -> None:
    limits = {
        "replicas": (3, REPLICAS_MAX),
        "requests": (1, REQUESTS_MAX),
        "views": (1, VIEWS_MAX),
        "crashes": (0, REPLICAS_MAX),
    }
    for name, (low, high) in limits.items():
        value: int = getattr(size, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name} {value}: from {low} to {high}")
    if states is not None and states < 1:
        raise ConfigError(f"--states {states}: at least 1")


def _words(progress: Progress) -> str:
    speed = progress.states / progress.cpu_seconds if progress.cpu_seconds else 0.0
    found = f"{progress.states:,} states, depth {progress.depth}, {progress.frontier:,} to look at"
    return f"{found}, {speed:,.0f} states per CPU second"


def _write(trace: Trace, out: Path) -> Path:
    bug = "" if trace.mutant is None else f"-{trace.mutant}"
    size = trace.size
    path = out / f"world-{size.replicas}-{size.requests}-{size.views}-{size.crashes}{bug}{SUFFIX}"
    trace.write(path)
    return path


def _print(report: Report, trace: Trace | None, told: Story | None, path: Path | None) -> None:
    size = report.size
    print(f"{size.replicas} replicas, {size.requests} requests, {size.views} views, {size.crashes} crashes at most")
    speed = report.states / report.cpu_seconds if report.cpu_seconds else 0.0
    print(
        f"{report.states:,} distinct states, {report.moves:,} moves between them, depth {report.depth}; "
        f"{report.cpu_seconds:,.1f} s of CPU time, {speed:,.0f} states/s"
    )
    if trace is None or told is None:
        end = "all of them" if report.is_complete else "and there are more: --states ended the search"
        print(f"no promise is broken in {end}" if report.is_complete else f"no promise is broken in these, {end}")
        return
    print(f"\n{trace.rule}: {trace.text}\n\na shortest way there has {len(trace.moves)} moves:\n")
    for line in _sentences(told):
        print(line)
    print(f"\ntrio-pb sim explain {path} tells it again, and draws it with --html FILE")


def _sentences(story: Story) -> list[str]:
    """The story without what leaves and never arrives: that is told as it arrives."""
    width = len(str(story.end_time // 1000))
    shown = [event for event in story.events if event.kind not in (Kind.SEND, Kind.APPEND, Kind.VIOLATION)]
    lines: list[str] = []
    last = -1
    for event in shown:
        move = event.time // 1000
        lines.append(f"{move if move != last else '':>{width + 2}}  {event.text}")
        last = move
    return lines


def _fields(report: Report, trace: Trace | None, path: Path | None) -> dict[str, object]:
    violation: dict[str, object] | None = None
    if trace is not None:
        violation = {"rule": trace.rule, "text": trace.text, "moves": len(trace.moves), "file": str(path)}
    return {
        **attrs.asdict(report.size),
        "states": report.states,
        "moves": report.moves,
        "core_moves": report.core_moves,
        "depth": report.depth,
        "complete": report.is_complete,
        "cpu_seconds": round(report.cpu_seconds, 3),
        "violation": violation,
    }
