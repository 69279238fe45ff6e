"""`trio-pb sim driver`: the shipped servers and clients in virtual time, each run decided by one seed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from textwrap import fill

from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar
from trio_pb.cli.seeds import check_seeds
from trio_pb.testbed.in_memory.run import DriverReport, run_driver_seed

__all__ = ["driver"]

SEEDS = 20
FAILURES_MAX = 10
TEXT_WIDTH = 80
SHOWN = ("connections", "resets", "replicas killed")  # In the table; the other counts below it.


def driver(*, seeds: int = SEEDS, first_seed: int = 1, jobs: int | None = None, json: Flag = False) -> int:
    """Run whole servers and clients in virtual time, under faults of connections, disks and processes.

    Where `sim run` tries the protocol, this tries the code around it: what happens to a frame that arrives in
    pieces, to a connection that is reset, to a call that is cancelled, to a disk that stalls. Exit code 1 if a
    seed failed; it is printed with the command that replays it.

    Args:
        seeds: How many to run; it stops after 10 failures.
        first_seed: The first of them; the others follow it.
        jobs: Processes to run them in. By default one per core.
        json: Print one JSON object.
    """
    check_seeds(seeds, first_seed, jobs)
    began = time.monotonic()
    reports: list[DriverReport] = []
    failures: list[DriverReport] = []
    with progress_bar(errors()) as bar:
        task = bar.add_task("seeds", total=seeds, note="")
        for report in _run(range(first_seed, first_seed + seeds), min(jobs or os.cpu_count() or 1, seeds)):
            reports.append(report)
            if report.failure is not None:
                failures.append(report)
            bar.update(task, completed=len(reports), note=f"{len(failures)} failed" if failures else "")
            if len(failures) >= FAILURES_MAX:
                break
    seconds = time.monotonic() - began
    if json:
        print_json(_fields(first_seed, reports, failures, seconds))
    else:
        _print(first_seed, reports, failures, seconds)
    return ExitCode.FAILED if failures else ExitCode.OK


def _run(seeds: range, jobs: int) -> Iterator[DriverReport]:
    if jobs == 1:
        yield from map(_run_one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_run_one, seeds)  # In order: reports are reproducible.


def _run_one(seed: int) -> DriverReport:
    logger = logging.getLogger("trio_pb")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # What servers say under faults is no news here.
    try:
        return run_driver_seed(seed)
    finally:
        logger.setLevel(level)


def _counts(reports: list[DriverReport]) -> Counter[str]:
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report.counts)
    return total


def _fields(
    first_seed: int, reports: list[DriverReport], failures: list[DriverReport], seconds: float
) -> dict[str, object]:
    return {
        "first_seed": first_seed,
        "seeds": len(reports),
        "failed": len(failures),
        "failures": [
            {
                "seed": report.seed,
                "rule": report.failure.rule,
                "text": report.failure.text,
                "where": report.failure.where,
                "replay": report.command,
            }
            for report in failures
            if report.failure is not None
        ],
        "committed": sum(report.committed for report in reports),
        "events": sum(report.events for report in reports),
        "counts": dict(sorted(_counts(reports).items())),
        "virtual_seconds": round(sum(report.virtual_us for report in reports) / 1e6, 3),
        "cpu_seconds": round(sum(report.cpu_seconds for report in reports), 3),
        "wall_seconds": round(seconds, 3),
    }


def _print(first_seed: int, reports: list[DriverReport], failures: list[DriverReport], seconds: float) -> None:
    for report in failures:
        assert report.failure is not None
        print(f"seed {report.seed} FAILED: {report.failure.rule}: {report.failure.text}")
        print(f"  at {report.failure.where}")
        print(report.failure.story)
        print(f"  replay: {report.command}")
    counts = _counts(reports)
    table = new_table("seeds", "failed", "commits", "connections", "resets", "killed", "virtual seconds", "seconds")
    table.add_row(
        *map(str, (len(reports), len(failures), sum(report.committed for report in reports))),
        *map(str, (counts["connections"], counts["resets"], counts["replicas killed"])),
        f"{sum(report.virtual_us for report in reports) / 1e6:.0f}",
        f"{seconds:.1f}",
    )
    print_table(table)
    rest = sorted((name, count) for name, count in counts.items() if name not in SHOWN)
    print()
    print(fill("also: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in rest), TEXT_WIDTH))
    print()
    if failures:
        print(f"{len(failures)} of {len(reports)} seeds FAILED; each can be replayed by the command above.")
    elif len(reports) == 1:
        print(f"Every promise was kept in seed {first_seed}.")
    else:
        print(f"Every promise was kept in all {len(reports)} seeds, {first_seed} to {first_seed + len(reports) - 1}.")
