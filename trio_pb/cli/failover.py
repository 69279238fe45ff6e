"""`trio-pb bench failover`: how long customers wait when the primary dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from trio_pb.cli.measuring import check_directory, ended_by_signals, machine_fields, machine_words, rounded
from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar
from trio_pb.errors import ConfigError
from trio_pb.testbed.bench.figures import percentile
from trio_pb.testbed.cluster import local_cluster
from trio_pb.testbed.formatting import REPLICAS_MAX

if TYPE_CHECKING:
    from trio_pb.testbed.load.failover import Failovers

__all__ = ["failover"]

KILLS_MAX = 10_000
REPLICAS_MIN = 3
CUSTOMERS_MAX = 1000


def failover(
    *, kills: int = 50, customers: int = 20, replicas: int = 3, directory: Path | None = None, json: Flag = False
) -> int:
    """Measure how long customers wait when the primary dies.

    The primary of a cluster of real processes is killed (SIGKILL) under load, comes back and catches up, and the next
    one is killed. A gap is the time from a kill to the first order that the next primary acknowledges. A target
    that is missed is told and is no failure; targets are meant for an idle machine, and it is told when other
    programs used it. Needs the extra `bench`.

    Args:
        kills: How many.
        customers: How many order all the while, each when he has his answer.
        replicas: How many.
        directory: Where to make the directory for all files, which is removed in the end. By default the system's
            directory for temporary files.
        json: Print one JSON object.
    """
    if not 1 <= kills <= KILLS_MAX:
        raise ConfigError(f"--kills {kills}: must be 1 to {KILLS_MAX}")
    if not 1 <= customers <= CUSTOMERS_MAX:
        raise ConfigError(f"--customers {customers}: must be 1 to {CUSTOMERS_MAX}")
    if not REPLICAS_MIN <= replicas <= REPLICAS_MAX:
        raise ConfigError(f"--replicas {replicas}: must be {REPLICAS_MIN} to {REPLICAS_MAX}, for one of them is killed")
    try:
        from trio_pb.testbed.load.failover import measure_failovers
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed; install it with: pip install 'trio-pb[bench]'") from error
    check_directory(directory)
    load_before = os.getloadavg()[0]
    with ended_by_signals(), progress_bar(errors()) as bar:
        task = bar.add_task("kills", total=kills, note="")

        async def measure() -> Failovers:
            async with local_cluster(replicas, name="bench", parent=directory) as cluster:
                return await measure_failovers(
                    cluster, kills, customers, lambda done, gap: bar.update(task, completed=done, note=f"{gap:.0f} ms")
                )

        found = trio.run(measure)
    if json:
        print_json(_fields(found, replicas, customers, load_before))
    else:
        _print(found, replicas, customers, load_before)
    return ExitCode.OK


def _fields(found: Failovers, replicas: int, customers: int, load_before: float) -> dict[str, object]:
    return {
        "machine": machine_fields(load_before),
        "replicas": replicas,
        "customers": customers,
        "kills": len(found.gaps_ms),
        "gaps_ms": [round(gap, 1) for gap in found.gaps_ms],
        **{f"{name}_ms": round(percentile(found.rising, share), 1) for name, share in _SHARES.items()},
        "orders": found.orders,
        "unknown": found.unknown,
        "others_cores": round(found.others_cores, 3),
        "quiet": found.is_quiet,
        "targets": [
            {**attrs.asdict(target, value_serializer=rounded), "reached": target.reached} for target in found.targets
        ],
    }


_SHARES = {"shortest": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}


def _print(found: Failovers, replicas: int, customers: int, load_before: float) -> None:
    print(machine_words(load_before))
    print(f"{replicas} replicas, {customers} customers: {found.orders} orders, {found.unknown} without an answer")
    gaps = ", ".join(f"{name} {percentile(found.rising, share):.0f} ms" for name, share in _SHARES.items())
    print(f"{len(found.gaps_ms)} kills of the primary, to the first order that the next one acknowledged: {gaps}")
    print()
    table = new_table("target", "figure", "limit", "reached")
    for target in found.targets:
        reached = "reached" if target.reached else "NOT reached"
        table.add_row(target.name, f"{target.value:.0f} {target.unit}", f"< {target.limit:g} {target.unit}", reached)
    print_table(table)
    if not found.is_quiet:
        print(
            f"other programs kept {found.others_cores:.2f} cores busy all the while, more than a quarter of one: "
            "these figures say little"
        )
