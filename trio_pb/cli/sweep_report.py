"""What `trio-pb sim run` says of a sweep, and what it keeps of its failures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from sim.experiment import slug
from sim.farm import Cause, SweepReport
from sim.recording import SUFFIX, record
from trio_pb import __version__
from trio_pb.cli.output import new_table, print_table
from trio_pb.core.marks import Mark

__all__ = ["fields_of", "print_report", "record_causes", "replay_line", "unseen"]

TEXT_WIDTH = 80
ENOUGH_SEEDS = 300  # A sweep of so many meets everything that it is for.

# What a sweep must have had to prove anything, and the counters that tell.
TOTALS = {
    "view changes": "became_primary",
    "crashes": "crashes",
    "truncations": "truncated",
    "repairs": "repaired",
}


def record_causes(report: SweepReport, folder: Path) -> dict[str, Path]:
    """Record the first failure of each cause; return the files by signature."""
    files: dict[str, Path] = {}
    for signature, cause in report.causes.items():
        recording = record(__version__, report.experiment, cause.seeds[0])
        path = folder / f"{slug(report.experiment)}-{cause.seeds[0]}{SUFFIX}"
        recording.write(path)
        files[signature] = path
    return files


def fields_of(report: SweepReport, files: Mapping[str, Path]) -> dict[str, object]:
    """For scripts."""
    return {
        "first_seed": report.first_seed,
        "experiment": report.experiment.name,
        "seeds": report.seeds,
        "events": report.events,
        "failed": report.failed,
        "failures": [_cause_fields(cause, files[signature]) for signature, cause in report.causes.items()],
        "committed": sum(report.committed),
        "committed_median": report.committed_median,
        **{name.replace(" ", "_"): report.counts[counter] for name, counter in TOTALS.items()},
        "never_happened": report.never_happened,
        "marks_reached": len(report.marks),
        "marks_total": len(Mark),
        "marks_never_reached": [str(mark) for mark in report.marks_never_reached],
        "marks": {str(mark): runs for mark, runs in sorted(report.marks.items(), key=lambda item: (item[1], item[0]))},
        "counts": dict(sorted(report.counts.items())),
        "cpu_seconds": round(report.cpu_seconds, 3),
        "wall_seconds": round(report.wall_seconds, 3),
    }


def _cause_fields(cause: Cause, file: Path) -> dict[str, object]:
    failure = cause.failure
    return {
        "rule": failure.rule,
        "text": failure.text,
        "where": failure.where,
        "count": cause.count,
        "seeds": cause.seeds,
        "file": str(file),
        "replay": replay_line(file),
    }


def replay_line(file: Path) -> str:
    """The command that runs a recording."""
    return f"trio-pb sim replay {shlex.quote(str(file))}"


def print_report(report: SweepReport, files: Mapping[str, Path]) -> None:
    """For people."""
    for signature, cause in report.causes.items():
        print(f"{_seeds(cause)} FAILED: {cause.failure.rule}: {cause.failure.text}")
        print(f"  at {cause.failure.where}")
        print(f"  replay: {replay_line(files[signature])}")
        print()
    totals = {name: report.counts[counter] for name, counter in TOTALS.items()}
    table = new_table("seeds", "failed", *totals, "commits in the median", "seconds")
    figures = (report.seeds, report.failed, *totals.values(), report.committed_median)
    table.add_row(*map(str, figures), f"{report.wall_seconds:.1f}")
    print_table(table)
    rest = sorted((name, count) for name, count in report.counts.items() if name not in TOTALS.values())
    if rest:
        print()
        print(fill("also: " + ", ".join(f"{_words(name)} {count}" for name, count in rest), TEXT_WIDTH))
    if report.never_happened:
        print()
        print(fill(unseen(report), TEXT_WIDTH))
    print()
    if report.marks:  # Other protocols have none.
        print(f"{len(report.marks)} of {len(Mark)} rare branches of the protocol were taken.")
        if report.seeds >= ENOUGH_SEEDS:
            for mark in report.marks_never_reached:
                print(f"  never: {mark}")
        print()
    if report.causes:
        ways = "in one way" if len(report.causes) == 1 else f"in {len(report.causes)} ways"
        print(
            f"{report.failed} of {report.seeds} seeds FAILED, {ways}; `trio-pb sim shrink FILE` makes a failure small."
        )
    elif report.seeds == 1:
        print(f"Every invariant held in seed {report.first_seed}.")
    else:
        last = report.first_seed + report.seeds - 1
        print(f"Every invariant held in all {report.seeds} seeds, {report.first_seed} to {last}.")


def _seeds(cause: Cause) -> str:
    """The seeds that failed in one way, or the first of them."""
    first, *rest = map(str, cause.seeds)
    if not rest:
        return f"seed {first}"
    more = cause.count - len(cause.seeds)
    return f"{cause.count} seeds ({', '.join((first, *rest))}{', ...' if more else ''})"


def unseen(report: SweepReport) -> str:
    """Say what never happened in these seeds, which therefore prove nothing about it."""
    events = ", ".join(_words(event) for event in report.never_happened)
    if report.seeds < ENOUGH_SEEDS:
        return f"did not happen in so few seeds: {events}; a sweep of {ENOUGH_SEEDS} seeds meets all of it"
    return f"NEVER HAPPENED, so this sweep says nothing about it: {events}"


def _words(event: str) -> str:
    return event.replace("_", " ")
