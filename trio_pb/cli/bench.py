"""`trio-pb bench`: what work takes on this machine and this disk, with the code that ships."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import attrs
from cyclopts import App
from rich.progress import Progress, TaskID

from sim.experiment import Swarm
from sim.profiles import DEFAULT_PROFILE
from sim.speed import SpeedFigures, goals_of, measure
from trio_pb.cli.load import load
from trio_pb.cli.measuring import ended_by_signals, machine_fields, machine_words, rounded
from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar
from trio_pb.cli.seeds import check_seeds
from trio_pb.testbed.bench.figures import StepTimes, StorageFigures, Target, targets_of
from trio_pb.testbed.bench.storage import Plan, run_storage

__all__ = ["app"]

app = App(name="bench", help="Measure a cluster, a replica's storage, or the simulation, on this machine.")
app.default(load)
app.command("trio_pb.cli.failover:failover", name="failover")

CUSTOMERS = 1_000_000
SEEDS = 200

STEP_WORDS = {
    "freeze": "freeze the state",
    "sort": "sort out what changed",
    "encode": "encode a slice",
    "manifest": "encode the manifest",
    "apply": "apply an op meanwhile",
    "collection": "collect garbage, in any of these",
    "loop": "any step of the loop meanwhile",
    "decode": "decode a slice",
    "adopt": "adopt a state",
    "apply_after_adopt": "apply an op after that",
}


class _Screen:
    """A bar for each phase on a terminal, else a line."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._name = ""
        self._task: TaskID | None = None

    def watch(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self.finish()
            self._name = name
            self._task = self._bar.add_task(name, total=None, note="")
            if self._bar.disable:
                print(f"measuring: {name}", file=sys.stderr)
        if total and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def finish(self) -> None:
        """The last phase is over."""
        if self._task is not None:
            total = self._bar.tasks[self._task].total or 1
            self._bar.update(self._task, completed=total, total=total)


@app.command
def storage(*, customers: int = CUSTOMERS, directory: Path | None = None, json: Flag = False) -> None:
    """Measure restart, checkpoints, memory and state transfer.

    A replica fills a directory with orders, and each question is asked of it by a process of its own. With a
    million customers that takes some minutes, 1 GiB of disk and as much memory. A target that is missed is
    told and is no failure; the targets are meant for a million customers on an idle machine.

    Args:
        customers: How many; everything else follows.
        directory: Where to make the directory for all files, which is removed in the end; it decides which disk is
            measured. By default the system's directory for temporary files.
        json: Print one JSON object.
    """
    plan = Plan(customers)
    with ended_by_signals(), progress_bar(errors()) as bar:
        screen = _Screen(bar)
        load_before = os.getloadavg()[0]
        found = run_storage(plan, directory, screen.watch)
        screen.finish()
    if json:
        print_json(_fields(found, load_before))
    else:
        _print(found, load_before)


@app.command(name="sim")
def simulation(*, seeds: int = SEEDS, first_seed: int = 1, profile: str = DEFAULT_PROFILE, json: Flag = False) -> int:
    """Measure how fast simulated clusters run, with all their checks.

    The seeds are run by one process, then again by two. A goal that is missed is told and is no failure; the goals
    are meant for the profile all, some hundred seeds and an idle machine. Exit code 1 if a seed failed.

    Args:
        seeds: How many to run.
        first_seed: The first of them; the others follow it.
        profile: What may happen in a run, as for `sim run`.
        json: Print one JSON object.
    """
    check_seeds(seeds, first_seed)
    experiment = Swarm(profile)
    with progress_bar(errors()) as bar:
        screen = _Screen(bar)
        load_before = os.getloadavg()[0]
        found = measure(first_seed, seeds, experiment, screen.watch)
        screen.finish()
    if json:
        print_json(_speed_fields(profile, found, load_before))
    else:
        _print_speed(profile, found, load_before)
    return ExitCode.FAILED if found.failed else ExitCode.OK


def _speed_fields(profile: str, found: SpeedFigures, load_before: float) -> dict[str, object]:
    goals = [{**attrs.asdict(goal, value_serializer=rounded), "reached": goal.reached} for goal in goals_of(found)]
    return {
        "machine": machine_fields(load_before),
        "profile": profile,
        **attrs.asdict(found, value_serializer=rounded),
        "speedup": round(found.speedup, 4),
        "goals": goals,
    }


def _print_speed(profile: str, found: SpeedFigures, load_before: float) -> None:
    last = found.first_seed + found.seeds - 1
    print(
        f"profile {profile}, seeds {found.first_seed} to {last}: {found.commits} commits and {found.events} events in"
    )
    print(f"{found.cpu_seconds:.1f} s of processor time; {found.one_job_seconds:.1f} s by one job, ", end="")
    print(f"{found.two_jobs_seconds:.1f} s by two")
    print(machine_words(load_before))
    if found.failed:
        print(f"{found.failed} seeds FAILED: `trio-pb sim run` with the same seeds names them")
    print()
    table = new_table("goal", "figure", "at least", "reached")
    for goal in goals_of(found):
        figure = f"{goal.value:.2f}" if goal.value < 10 else f"{goal.value:.0f}"
        table.add_row(goal.name, figure, f"{goal.at_least:g}", "reached" if goal.reached else "NOT reached")
    print_table(table)


def _fields(found: StorageFigures, load_before: float) -> dict[str, object]:
    figures: dict[str, object] = attrs.asdict(found, value_serializer=rounded)
    targets = [
        {**attrs.asdict(target, value_serializer=rounded), "reached": target.reached} for target in targets_of(found)
    ]
    return {"machine": machine_fields(load_before), **figures, "targets": targets}


def _print(found: StorageFigures, load_before: float) -> None:
    print(f"{found.customers} customers, a checkpoint every {found.interval_ops} ops")
    print(machine_words(load_before))
    flush = found.flush
    print(f"4 KiB and fdatasync: median {flush.p50_ms:.3f} ms, p99 {flush.p99_ms:.3f} ms of {flush.count}")
    print()
    for line in _sentences(found):
        print(line)
    for title, steps in (("checkpoints", found.service.steps), ("state transfer", found.transfer.steps)):
        print()
        table = new_table(f"steps of the loop: {title}", "steps", "median", "p99", "longest", "processor time")
        for kind, words in STEP_WORDS.items():
            if kind in steps:
                table.add_row(words, *_step_cells(steps[kind]))
        print_table(table)
    print()
    table = new_table("target", "figure", "limit", "times fdatasync", "reached")
    for target in targets_of(found):
        table.add_row(*_target_cells(target, flush.p50_ms))
    print_table(table)


def _sentences(found: StorageFigures) -> list[str]:
    load, restart, service = found.load, found.restart, found.service
    memory, transfer = found.memory, found.transfer
    return [
        f"load      {load.orders} orders in {load.seconds:.1f} s, "
        f"{1e6 * load.seconds / load.orders:.0f} us each; head {load.head}",
        f"restart   {restart.ready_seconds:.2f} s (processor {restart.ready_cpu_seconds:.2f} s): "
        f"{restart.open_seconds:.2f} s ({restart.open_cpu_seconds:.2f} s) to open and load the checkpoint, "
        f"{restart.replay_seconds:.2f} s to replay {restart.ops} ops with {restart.orders} orders, "
        f"checkpoints begun on the way: {restart.checkpoints}",
        f"bytes     {_mib(load.checkpoint_bytes)} for a checkpoint with everything new; after 1 % of the customers "
        f"{_mib(service.clustered.bytes)} ({service.clustered.ratio:.1%}) when clustered, "
        f"{_mib(service.uniform.bytes)} ({service.uniform.ratio:.1%}) when anywhere",
        f"memory    {memory.loaded_mib:.0f} MiB with all customers, {memory.before_mib:.0f} MiB before, "
        f"{memory.peak_mib:.0f} MiB at most",
        f"transfer  {_mib(transfer.moved_bytes)} of {_mib(transfer.full_bytes)} for {transfer.lacking} of "
        f"{transfer.chunks} chunks; installed in {transfer.install_seconds:.1f} s",
    ]


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.2f} MiB"


def _step_cells(steps: StepTimes) -> tuple[str, ...]:
    times = (steps.p50_ms, steps.p99_ms, steps.max_ms, steps.cpu_max_ms)
    return str(steps.count), *(f"{time:.2f} ms" for time in times)


def _target_cells(target: Target, flush_ms: float) -> tuple[str, ...]:
    milliseconds = {"s": 1e3, "ms": 1.0}.get(target.unit)
    ratio = f"{target.value * milliseconds / flush_ms:.0f}" if milliseconds else ""
    figure, limit = f"{target.value:.2f} {target.unit}", f"< {target.limit:g} {target.unit}"
    return target.name, figure, limit, ratio, "reached" if target.reached else "NOT reached"
