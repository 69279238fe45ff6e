"""`trio-pb sim`: clusters in simulation, each of them decided by one seed."""

from __future__ import annotations

import os
from pathlib import Path

from cyclopts import App
from rich.progress import Progress, TaskID

from sim.crews import Crew, Processes
from sim.dask_crew import FarmError, dask_crew
from sim.determinism import check_determinism
from sim.experiment import Experiment, Swarm
from sim.farm import SweepReport, sweep
from sim.machines import MachineRuns
from sim.naive.experiment import NaiveScript
from sim.profiles import DEFAULT_PROFILE
from sim.sweep_file import SweepFile
from trio_pb.cli.determinism import determinism_fields, print_determinism
from trio_pb.cli.output import ExitCode, Flag, errors, print_json, progress_bar
from trio_pb.cli.scenarios import PROTOCOLS, run_scenario
from trio_pb.cli.seeds import check_seeds
from trio_pb.cli.sweep_report import fields_of, print_report, record_causes
from trio_pb.errors import ConfigError

__all__ = ["OUT", "app"]

app = App(name="sim", help="Run clusters in simulation, each from a seed.")
app.command("trio_pb.cli.driver_simulation:driver", name="driver")
app.command("trio_pb.cli.recordings:replay", name="replay")
app.command("trio_pb.cli.recordings:shrink_command", name="shrink")
app.command("trio_pb.cli.mutants:mutants_command", name="mutants")
app.command("trio_pb.cli.audit:audit_command", name="audit")
app.command("trio_pb.cli.explain:explain", name="explain")
app.command("trio_pb.cli.exhaust:exhaust", name="exhaust")
app.command("trio_pb.cli.scenarios:scenarios", name="scenarios")
app.command("trio_pb.cli.history:check_history", name="check-history")

SEEDS = 100
FAILURES_MAX = 10  # Enough to see a pattern; the rest of a broken build would say the same.
OUT = Path(".trio-pb/sim")
MINUTE_US = 60_000_000
BAR_WIDTH = 16  # Leaves room for words in 80 columns.


@app.command
def run(
    machine: str | None = None,
    /,
    *,
    workload: str | None = None,
    python: list[str] | None = None,
    seeds: int | None = None,
    first_seed: int = 1,
    profile: str = DEFAULT_PROFILE,
    scenario: str | None = None,
    protocol: str = PROTOCOLS[0],
    jobs: int | None = None,
    cluster: str | None = None,
    out: Path = OUT,
    keep_going: Flag = False,
    json: Flag = False,
) -> int:
    """Run clusters under faults, and check every invariant; of the laptop orders, or of a machine of your own.

    Loss, delay, duplication, reordering, partitions, pauses and crashes: what happens in a run follows from
    its seed alone. Exit code 1 if a seed failed. Failures that seem to have one cause are told once, and the
    first of them is recorded in a file for `trio-pb sim replay` and `trio-pb sim shrink`.

    A sweep that is interrupted goes on where it was when the same command is given again; one of a MACHINE, whose
    code may have changed meanwhile, begins anew.

    With --scenario there is no seed: one named play is performed, and told sentence by sentence; `all` performs
    all of them. Exit code 1 if it fails.

    With MACHINE the same log is also run through it in several processes that differ in their hash seed, their
    clock and so on; the first command that gives another answer or another state is named.

    Args:
        machine: A StateMachine, or a function that makes one: package.module:Name or path/of/file.py:Name.
        workload: What its clients ask: a function or a Hypothesis strategy, named like the machine. By
            default that called workload in the machine's module.
        python: Another Python to run the log in; may be given several times.
        seeds: How many to run, by default 100; it stops after 10 failures.
        first_seed: The first of them; the others follow it.
        profile: What may happen in a run: all, network, storage, crash, clock, ambush, beyond, or calm (nothing
            does).
        scenario: A name from `trio-pb sim scenarios`, or all. With --protocol naive and --seeds, the script is run
            so many times amid losses, delays and the orders of others.
        protocol: vsr, which is trio-pb's own, or naive: a textbook protocol that makes the scenario's mistake.
        jobs: Processes to run them in. By default one per core.
        cluster: Run them on the workers of this Dask scheduler instead, tcp://HOST:PORT; needs the extra `farm`.
        out: Folder for recordings of failures, and for what an interrupted sweep has found.
        keep_going: Do not stop, however many seeds fail.
        json: Print one JSON object.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: there is no such protocol; choose one of {', '.join(PROTOCOLS)}")
    if scenario is not None and (seeds is None or protocol != "naive"):
        if seeds is not None:
            raise ConfigError("--seeds with --scenario: nothing is left to chance in a scenario of trio-pb itself")
        others = machine, workload, python, profile, first_seed, jobs, cluster
        if others != (None, None, None, DEFAULT_PROFILE, 1, None, None):
            raise ConfigError(
                f"--scenario {scenario}: only --protocol and --json go with it; it is one play, always the same"
            )
        return run_scenario(scenario, protocol, json=json)
    if scenario is None and protocol == "naive":
        raise ConfigError("--protocol naive: it needs --scenario NAME (trio-pb sim scenarios lists them), or all")
    seeds = SEEDS if seeds is None else seeds
    check_seeds(seeds, first_seed, jobs)
    if cluster is not None and jobs is not None:
        raise ConfigError("--jobs and --cluster: the workers of the cluster are its jobs; leave one of the two away")
    experiment = _experiment(machine, workload, python, profile, scenario)
    failures_max = None if keep_going else FAILURES_MAX
    if cluster is not None:
        with dask_crew(cluster) as crew:
            report = _sweep(experiment, first_seed, seeds, crew, out, failures_max)
    else:
        crew = Processes(min(jobs or os.cpu_count() or 1, seeds))
        report = _sweep(experiment, first_seed, seeds, crew, out, failures_max)
    recorded = record_causes(report, out)
    divergence = check_determinism(experiment, python or ()) if isinstance(experiment, MachineRuns) else None
    if json:
        print_json(fields_of(report, recorded) | determinism_fields(experiment, divergence))
    else:
        print_report(report, recorded)
        print_determinism(experiment, divergence, python or ())
    return ExitCode.FAILED if report.causes or divergence else ExitCode.OK


def _experiment(
    machine: str | None, workload: str | None, python: list[str] | None, profile: str, scenario: str | None
) -> Experiment:
    if scenario is not None and (machine is not None or profile != DEFAULT_PROFILE):
        raise ConfigError(
            f"--scenario {scenario}: no machine and no --profile go with it; its script says what happens"
        )
    if machine is not None:
        return MachineRuns(machine, workload or "", profile)
    if workload is not None or python:
        raise ConfigError("--workload and --python go with a machine: trio-pb sim run MACHINE")
    return Swarm(profile) if scenario is None else NaiveScript(scenario, noisy=True)


def _sweep(
    experiment: Experiment, first_seed: int, seeds: int, crew: Crew, out: Path, failures_max: int | None
) -> SweepReport:
    """Run them, or what is left of them, with a bar on a terminal."""
    file = SweepFile(out, experiment, first_seed, seeds)
    report = file.load() or SweepReport(first_seed, experiment)
    if report.seeds:
        errors().print(f"going on with an interrupted sweep: {report.seeds} of {seeds} seeds were run ({file.path})")
    before = report.seeds, report.wall_seconds
    with progress_bar(errors(), BAR_WIDTH) as bar:
        task = bar.add_task("seeds", total=seeds, note="")

        def note(so_far: SweepReport) -> None:
            file.note(so_far)
            _show(bar, task, so_far, *before)

        try:
            sweep(first_seed, seeds, crew, note, failures_max, experiment, report)
        except (KeyboardInterrupt, FarmError):
            bar.stop()
            if report.seeds:
                file.save(report)
                goes_on = "; the same command goes on from there" if file.is_resumable else f" ({file.path})"
                errors().print(f"interrupted after {report.seeds} of {seeds} seeds{goes_on}")
            raise
    file.remove()
    return report


def _show(bar: Progress, task: TaskID, report: SweepReport, seeds_before: int, seconds_before: float) -> None:
    """How fast it is, how much time passed for the clusters, and what was found."""
    seconds = report.wall_seconds - seconds_before
    speed = (report.seeds - seeds_before) / seconds if seconds > 0 else 0.0
    note = f"{speed:.0f}/s, {report.virtual_us // MINUTE_US} min simulated, {len(report.marks)} marks"
    if report.causes:
        note = f"[red]{report.failed} failed[/red], {note}"
    bar.update(task, completed=report.seeds, note=note)
