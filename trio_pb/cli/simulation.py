"""`trio-pb sim`: clusters in simulation, each of them decided by one seed."""

from __future__ import annotations

import os
from textwrap import fill

from cyclopts import App

from sim.determinism import check_determinism
from sim.experiment import Experiment, Swarm, replay_command
from sim.farm import SweepReport, sweep
from sim.machines import MachineRuns
from sim.profiles import DEFAULT_PROFILE
from sim.run import RunReport
from trio_pb.cli.determinism import determinism_fields, print_determinism
from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar
from trio_pb.core.marks import Mark
from trio_pb.errors import ConfigError

__all__ = ["app", "unseen"]

app = App(name="sim", help="Run clusters in simulation, each from a seed.")
app.command("trio_pb.cli.history:check_history", name="check-history")

SEEDS = 100
TEXT_WIDTH = 80
ENOUGH_SEEDS = 300  # A sweep of so many meets everything that it is for.
FAILURES_MAX = 10  # Enough to see a pattern; the rest of a broken build would say the same.

# What a sweep must have had to prove anything, and the counters that tell.
TOTALS = {
    "view changes": "became_primary",
    "crashes": "crashes",
    "truncations": "truncated",
    "repairs": "repaired",
}


@app.command
def run(
    machine: str | None = None,
    /,
    *,
    workload: str | None = None,
    python: list[str] | None = None,
    seeds: int = SEEDS,
    first_seed: int = 1,
    profile: str = DEFAULT_PROFILE,
    jobs: int | None = None,
    json: Flag = False,
) -> int:
    """Run clusters under faults, and check every invariant; of the laptop orders, or of a machine of your own.

    Loss, delay, duplication, reordering, partitions, pauses and crashes: what happens in a run follows from
    its seed alone. Exit code 1 if a seed failed; it is printed with the command that replays it.

    With MACHINE the same log is also run through it in several processes that differ in their hash seed, their
    clock and so on; the first command that gives another answer or another state is named.

    Args:
        machine: A StateMachine, or a function that makes one: package.module:Name or path/of/file.py:Name.
        workload: What its clients ask: a function or a Hypothesis strategy, named like the machine. By
            default that called workload in the machine's module.
        python: Another Python to run the log in; may be given several times.
        seeds: How many to run; it stops after 10 failures.
        first_seed: The first of them; the others follow it.
        profile: What may happen in a run: all, network, storage, crash, clock, ambush, or calm (nothing does).
        jobs: Processes to run them in. By default one per core.
        json: Print one JSON object.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: must be at least 1")
    if first_seed < 0:
        raise ConfigError(f"--first-seed {first_seed}: must not be negative")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
    experiment = _experiment(machine, workload, python, profile)
    with progress_bar(errors()) as bar:
        task = bar.add_task("seeds", total=seeds, note="")

        def show(report: SweepReport) -> None:
            note = f"{len(report.failures)} failed" if report.failures else ""
            bar.update(task, completed=report.seeds, note=note)

        workers = min(jobs or os.cpu_count() or 1, seeds)
        report = sweep(first_seed, seeds, workers, show, FAILURES_MAX, experiment)
    divergence = check_determinism(experiment, python or ()) if isinstance(experiment, MachineRuns) else None
    if json:
        print_json(_fields(report) | determinism_fields(experiment, divergence))
    else:
        _print(report)
        print_determinism(experiment, divergence, python or ())
    return ExitCode.FAILED if report.failures or divergence else ExitCode.OK


def _experiment(machine: str | None, workload: str | None, python: list[str] | None, profile: str) -> Experiment:
    if machine is not None:
        return MachineRuns(machine, workload or "", profile)
    if workload is not None or python:
        raise ConfigError("--workload and --python go with a machine: trio-pb sim run MACHINE")
    return Swarm(profile)


def _fields(report: SweepReport) -> dict[str, object]:
    return {
        "first_seed": report.first_seed,
        "experiment": report.experiment.name,
        "seeds": report.seeds,
        "failed": len(report.failures),
        "failures": [_failure_fields(report, run) for run in report.failures],
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


def _failure_fields(report: SweepReport, run: RunReport) -> dict[str, object]:
    assert run.failure is not None
    failure = run.failure
    return {
        "seed": run.seed,
        "rule": failure.rule,
        "text": failure.text,
        "where": failure.where,
        "replay": replay_command(report.experiment, run.seed),
    }


def _print(report: SweepReport) -> None:
    for run in report.failures:
        assert run.failure is not None
        print(f"seed {run.seed} FAILED: {run.failure.rule}: {run.failure.text}")
        print(f"  at {run.failure.where}")
        print(run.failure.story)
        print(f"  replay: {replay_command(report.experiment, run.seed)}")
    totals = {name: report.counts[counter] for name, counter in TOTALS.items()}
    table = new_table("seeds", "failed", *totals, "commits in the median", "seconds")
    figures = (report.seeds, len(report.failures), *totals.values(), report.committed_median)
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
    print(f"{len(report.marks)} of {len(Mark)} rare branches of the protocol were taken.")
    if report.seeds >= ENOUGH_SEEDS:
        for mark in report.marks_never_reached:
            print(f"  never: {mark}")
    print()
    if report.failures:
        print(f"{len(report.failures)} of {report.seeds} seeds FAILED; each can be replayed by the command above.")
    elif report.seeds == 1:
        print(f"Every invariant held in seed {report.first_seed}.")
    else:
        last = report.first_seed + report.seeds - 1
        print(f"Every invariant held in all {report.seeds} seeds, {report.first_seed} to {last}.")


def unseen(report: SweepReport) -> str:
    """Say what never happened in these seeds, which therefore prove nothing about it."""
    events = ", ".join(_words(event) for event in report.never_happened)
    if report.seeds < ENOUGH_SEEDS:
        return f"did not happen in so few seeds: {events}; a sweep of {ENOUGH_SEEDS} seeds meets all of it"
    return f"NEVER HAPPENED, so this sweep says nothing about it: {events}"


def _words(event: str) -> str:
    return event.replace("_", " ")
