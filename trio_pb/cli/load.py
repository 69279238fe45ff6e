"""`trio-pb bench`: what a cluster of real processes bears on this machine, and how long customers wait meanwhile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import trio
from cyclopts import Parameter

from trio_pb.cli.measuring import check_directory, ended_by_signals, machine_fields, machine_words, rounded
from trio_pb.cli.output import Flag, errors, new_table, print_json, print_table, progress_words
from trio_pb.errors import ConfigError
from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.formatting import REPLICAS_MAX
from trio_pb.testbed.load.plan import KINDS, LoadPlan, Mix

if TYPE_CHECKING:
    from trio_pb.testbed.load.calibration import Calibration
    from trio_pb.testbed.load.disk import Disk
    from trio_pb.testbed.load.run import Measured
    from trio_pb.testbed.load.tally import Latencies

__all__ = ["load"]

CUSTOMERS = (1, 16, 100, 500)
RUNS_MAX = 100
FLUSH_MS_MAX = 1000.0


def load(
    *,
    customers: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    connections: int | None = None,
    processes: int = 1,
    mix: str = "place=100",
    rate: float | None = None,
    lean: Flag = False,
    seconds: float = 5.0,
    warm_up: float = 1.0,
    runs: int = 3,
    replicas: int = 3,
    flush_ms: float | None = None,
    unsafe_no_fsync: Flag = False,
    directory: Path | None = None,
    json: Flag = False,
) -> None:
    """Measure how much a cluster of real processes bears, and how long customers wait.

    Replicas and customers are processes of this machine, over TCP and real files. Each number of customers is
    measured several times, and the run in the middle is told, of an even number the slower one; a run during which
    other programs took more than a quarter of a core is thrown away. The same run measures what a flush, a round
    trip, and both together cost here without any protocol. Needs the extra `bench`.

    Args:
        customers: How many ask at a time; several numbers are measured one after the other. By default 1, 16, 100, 500.
        connections: How many connections they share. By default each has his own.
        processes: How many processes the customers are divided between.
        mix: Of a hundred requests so many are place, read and scan, as in place=80,read=15,scan=5. Where some read,
            all have ordered before.
        rate: Requests a second in all, whatever the answers do; latency then counts from when each was due, and
            answers a second are those that came in time. By default each customer asks again when he has his answer.
        lean: Let the customers use plain sockets in place of the client that ships, which takes as much of a
            processor as a replica does; to compare with systems whose load comes from a compiled program.
        seconds: How long each run is measured.
        warm_up: Seconds of load before that.
        runs: How many for each number of customers.
        replicas: How many.
        flush_ms: Make every flush take so much longer, as on a slower disk.
        unsafe_no_fsync: Never flush: nothing is durable, which shows what durability costs.
        directory: Where to make the directory for all files, which is removed in the end; it decides which disk is
            measured. By default the system's directory for temporary files. Where that is in memory, flushes cost
            nothing, which is told.
        json: Print one JSON object.
    """
    plans = [
        LoadPlan(
            customers=count,
            connections=count if connections is None else connections,
            processes=processes,
            mix=Mix.parse(mix),
            rate=rate,
            is_lean=lean,
            warm_up_seconds=warm_up,
            seconds=seconds,
        )
        for count in (CUSTOMERS if customers is None else customers)
    ]
    _check(runs, replicas, warm_up, flush_ms, unsafe_no_fsync=unsafe_no_fsync)
    try:
        from trio_pb.testbed.load.calibration import calibrate
        from trio_pb.testbed.load.disk import Disk
        from trio_pb.testbed.load.run import measure_point
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed; install it with: pip install 'trio-pb[bench]'") from error
    check_directory(directory)
    load_before = os.getloadavg()[0]
    disk = "unflushed" if unsafe_no_fsync else f"slow:{flush_ms / 1e3}" if flush_ms is not None else None
    below = Disk.of(Path(tempfile.gettempdir()) if directory is None else directory)
    with ended_by_signals(), progress_words(errors()) as say:
        say("what this machine takes without any protocol")
        with tempfile.TemporaryDirectory(prefix="trio-pb-", dir=directory) as scratch:
            calibration = calibrate(Path(scratch))

        async def measure_all() -> list[list[Measured]]:
            async with local_cluster(
                replicas,
                name="bench",
                flags=() if disk is None else ("--disk", disk),
                module="trio_pb" if disk is None else "trio_pb.testbed.faulty_replica",
                parent=directory,
            ) as cluster:
                return [await measure_point(cluster, plan, runs, _teller(say, plan)) for plan in plans]

        points = trio.run(measure_all)
    if json:
        print_json(_fields(calibration, points, below, load_before))
    else:
        _print(calibration, points, replicas, _disk_words(disk, below), load_before)


def _check(runs: int, replicas: int, warm_up: float, flush_ms: float | None, *, unsafe_no_fsync: bool) -> None:
    if not 1 <= runs <= RUNS_MAX:
        raise ConfigError(f"--runs {runs}: must be 1 to {RUNS_MAX}")
    if not 1 <= replicas <= REPLICAS_MAX:
        raise ConfigError(f"--replicas {replicas}: must be 1 to {REPLICAS_MAX}")
    if not 0 <= warm_up <= 600:
        raise ConfigError(f"--warm-up {warm_up:g}: must be 0 to 600 seconds")
    if flush_ms is not None and unsafe_no_fsync:
        raise ConfigError("--flush-ms and --unsafe-no-fsync: a flush cannot be slow and left away; choose one")
    if flush_ms is not None and not 0 < flush_ms <= FLUSH_MS_MAX:
        raise ConfigError(f"--flush-ms {flush_ms:g}: must be above 0 and at most {FLUSH_MS_MAX:g}")


def _teller(say: Callable[[str], None], plan: LoadPlan) -> Callable[[Measured], None]:
    say(f"{plan.customers} customers")

    def told(measured: Measured) -> None:
        note = "" if measured.usage.is_quiet else ", thrown away: other programs use the machine"
        say(f"{plan.customers} customers: {measured.per_second:.0f} answers a second{note}")

    return told


# --- Telling --------------------------------------------------------------------------------------


def _fields(
    calibration: Calibration, points: Sequence[Sequence[Measured]], below: Disk, load_before: float
) -> dict[str, object]:
    return {
        "machine": machine_fields(load_before),
        "filesystem": below.filesystem,
        "in_memory": below.is_in_memory,
        "calibration": attrs.asdict(calibration, value_serializer=rounded),
        "points": [
            {**_run_fields(_middle(runs), calibration), "runs": [_run_fields(run, calibration) for run in runs]}
            for runs in points
        ],
    }


def _run_fields(run: Measured, calibration: Calibration) -> dict[str, object]:
    from trio_pb.testbed.load.tally import columns_of

    tally, usage = run.tally, run.usage
    return {
        "customers": run.plan.customers,
        "connections": run.plan.connections,
        "processes": run.plan.processes,
        "mix": str(run.plan.mix),
        "rate": run.plan.rate,
        "lean": run.plan.is_lean,
        "seconds": run.plan.seconds,
        "per_second": round(run.per_second, 1),
        "times_limit": round(run.per_second / calibration.limit_per_s, 3),
        "latency_ms": {kind: _latency_fields(tally.latencies[kind]) for kind in KINDS if tally.latencies[kind].count},
        "failed": dict(tally.failed),
        "refusal_ms": _latency_fields(tally.refusals) if tally.refusals.count else None,
        "unsent": tally.unsent,
        "unanswered": tally.unanswered,
        "oldest_ms": round(1e3 * tally.oldest_seconds, 1),
        "late": tally.late,
        "per_column": [tally.columns[column] for column in range(columns_of(run.plan.seconds))],
        "views": run.views,
        "primary": run.primary,
        "cpu_ms_per_1000": {name: round(spent, 2) for name, spent in run.cpu_ms_per_1000.items()},
        "memory_mib": {name: round(size, 1) for name, size in usage.memory_mib.items()},
        "others_cores": round(usage.others_cores, 3),
        "quiet": usage.is_quiet,
        "thrown_away": run.thrown_away,
    }


def _latency_fields(latencies: Latencies) -> dict[str, float]:
    return {
        "count": latencies.count,
        "p50": latencies.at(0.5),
        "p90": latencies.at(0.9),
        "p99": latencies.at(0.99),
        "p999": latencies.at(0.999),
        "max": latencies.longest_ms,
    }


def _middle(runs: Sequence[Measured]) -> Measured:
    """Of those that come slowest first."""
    return runs[(len(runs) - 1) // 2]


def _print(
    calibration: Calibration, points: Sequence[Sequence[Measured]], replicas: int, disk: str, load_before: float
) -> None:
    plan = points[0][0].plan
    print(machine_words(load_before))
    flush = calibration.flush
    print(f"4 KiB and fdatasync: median {flush.p50_ms:.3f} ms, p99 {flush.p99_ms:.3f} ms")
    print(
        f"plain sockets: a round trip takes {calibration.ping_p50_ms:.3f} ms; client, primary and backup, flushed on "
        f"both: {calibration.limit_p50_ms:.3f} ms, {calibration.limit_per_s:.0f} a second one after the other"
    )
    kind = (
        "each customer asks again when he has his answer" if plan.rate is None else f"{plan.rate:g} requests a second"
    )
    kind = f"lean customers: {kind}" if plan.is_lean else kind
    print(f"{replicas} replicas, {disk}; {plan.mix}; {kind}; {plan.seconds:g} s")
    print()
    titles = ["customers", "connections", "answers/s", "times plain", "p50 ms", "p99 ms", "p99.9 ms", "longest"]
    titles += ["primary us", "customers us", "failed", "open", "oldest ms"]
    table = new_table(*titles)
    for column in table.columns:
        column.justify = "right"
    for runs in points:
        run = _middle(runs)
        every = _merged(run)
        spent = run.cpu_ms_per_1000
        ours = sum(used for name, used in spent.items() if name.startswith("customers"))
        table.add_row(
            str(run.plan.customers),
            str(run.plan.connections),
            f"{run.per_second:.0f}" + ("" if run.usage.is_quiet else " ?"),
            f"{run.per_second / calibration.limit_per_s:.2f}",
            *(f"{every.at(share):.2f}" for share in (0.5, 0.99, 0.999)),
            f"{every.longest_ms:.1f}",
            f"{spent[f'replica {run.primary}']:.0f}",
            f"{ours:.0f}",
            str(sum(run.tally.failed.values()) + run.tally.unsent),
            str(run.tally.unanswered),
            f"{1e3 * run.tally.oldest_seconds:.1f}",
        )
    print_table(table)
    for line in _remarks(points):
        print(line)


def _disk_words(disk: str | None, below: Disk) -> str:
    if disk == "unflushed":
        return "NEVER flushed"
    words = "flushed on a quorum before the answer"
    if disk is not None:
        words = f"a disk with {float(disk.partition(':')[2]) * 1e3:g} ms a flush more"
    if below.is_in_memory:
        words += f", but files are IN MEMORY ({below.filesystem}), where a flush costs nothing: name a --directory"
    return words


def _merged(run: Measured) -> Latencies:
    """All kinds together."""
    from trio_pb.testbed.load.tally import Latencies

    every = Latencies()
    for latencies in run.tally.latencies.values():
        every.add(latencies.encoded())
    return every


def _remarks(points: Sequence[Sequence[Measured]]) -> list[str]:
    runs = [run for point in points for run in point]
    told = [_middle(point) for point in points]
    remarks: list[str] = []
    if any(not run.usage.is_quiet for run in told):
        remarks.append("?: other programs used more than a quarter of a core all the while; these figures say little")
    remarks.extend(
        f"NOT borne: of {run.plan.rate:g} requests a second {run.per_second:.0f} were answered in time; "
        f"{run.tally.late} answers came after the end, {run.tally.unsent} requests were never sent"
        for run in told
        if run.plan.rate is not None and not run.is_borne
    )
    if any(run.views for run in runs):
        remarks.append(f"view changes although nobody died: {sum(run.views for run in runs)}")
    return remarks
