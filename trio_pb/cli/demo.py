"""`trio-pb demo`: a cluster of real processes loses its primary, or a disk, and nobody loses an order."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum

import trio
from rich.progress import Progress, TaskID

from trio_pb.cli.disk_demo import print_disk_demo
from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, progress_bar, screen
from trio_pb.errors import ConfigError
from trio_pb.testbed.demo import DemoResult, run_demo
from trio_pb.testbed.disk_demo import REPLICAS as DISK_DEMO_REPLICAS
from trio_pb.testbed.disk_demo import DiskDemoResult, run_disk_demo

__all__ = ["demo"]


class _Screen:
    """Shows how it goes: a bar with the events above it on a terminal, else one line per event."""

    def __init__(self, bar: Progress, task: TaskID, quiet: bool) -> None:
        self._bar = bar
        self._task = task
        self._quiet = quiet
        self._began = trio.current_time()

    def on_progress(self, acked: int, total: int) -> None:
        self._bar.update(self._task, completed=acked)

    def on_event(self, text: str) -> None:
        if not self._quiet:
            self._bar.console.print(f"{trio.current_time() - self._began:6.2f} s  {text}")


class Faults(StrEnum):
    """What is done to the replicas."""

    KILLS = "kills"
    DISK = "disk"


async def demo(
    *, replicas: int = 3, customers: int = 100, orders: int = 100, faults: Faults = Faults.KILLS, json: Flag = False
) -> int:
    """Show a cluster surviving the death of its primary, or a replica the ruin of its disk.

    Starts replica processes on this machine, lets customers order laptops, kills the primary and a backup
    with SIGKILL, and proves that all is there. Exit code 0 only if every acknowledged order is on every
    replica exactly once. Nothing is left behind: no process, no file.

    With --faults disk a backup is killed instead, and its log, its proofs, a copy of its superblock and a chunk of its
    checkpoint are overwritten with random bytes before it is started again: it has to repair itself.

    Args:
        replicas: Replica processes, 3 to 7; 3 with --faults disk.
        customers: Customers who order at the same time.
        orders: Orders of each customer, one after the other; at least 100 with --faults disk.
        faults: kills: SIGKILL for the primary, then for a backup. disk: random bytes over the disk of a backup.
        json: Print one JSON object instead.
    """
    if faults is Faults.DISK and replicas != DISK_DEMO_REPLICAS:
        raise ConfigError(f"--replicas {replicas}: --faults disk takes {DISK_DEMO_REPLICAS}")
    results: list[DemoResult | DiskDemoResult] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signals, nursery.cancel_scope)
        with progress_bar(errors() if json else screen()) as bar:
            task = bar.add_task("orders", total=customers * orders, note="")
            watcher = _Screen(bar, task, quiet=json)
            if faults is Faults.DISK:
                results.append(await run_disk_demo(customers=customers, orders=orders, watcher=watcher))
            else:
                results.append(await run_demo(replicas=replicas, customers=customers, orders=orders, watcher=watcher))
        nursery.cancel_scope.cancel()
    if not results:
        return ExitCode.INTERRUPTED
    (result,) = results
    if isinstance(result, DiskDemoResult):
        print_disk_demo(result, json=json)
    elif json:
        print_json(_fields(result))
    else:
        _print(result)
    return ExitCode.OK if result.ok else ExitCode.FAILED


async def _end_on_signals(scope: trio.CancelScope) -> None:
    """SIGTERM and SIGHUP end the demo like Ctrl-C does: the replicas die first, then we."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async for _number in signals:
            scope.cancel()


def _fields(result: DemoResult) -> dict[str, object]:
    return {
        "ok": result.ok,
        "acked": result.acked,
        "lost": result.lost,
        "duplicated": result.duplicated,
        "last_orders_wrong": result.last_orders_wrong,
        "misplaced": result.misplaced,
        "digests_equal": result.digests_equal,
        "failover_max_ms": round(result.failover_max_ms, 3),
        "orders_per_s": round(result.orders_per_s, 1),
        "p50_ms": round(result.p50_ms, 3),
        "p99_ms": round(result.p99_ms, 3),
        "kills": [{"kind": kind, "acked_before": acked} for kind, acked in result.kills],
        "acked_after": result.acked_after,
        "events": [
            {"kind": event.kind, "replica": event.replica, "acked_before": event.acked_before}
            for event in result.events
        ],
        "replicas": [
            {
                "replica": status.replica,
                "is_primary": status.is_primary,
                "view": status.view,
                "op": status.state_op,
                "state_digest": status.state_digest.hex(),
                "customers": proof.customers,
                "orders": proof.orders,
                "lost": proof.lost,
                "duplicated": proof.duplicated,
            }
            for status, proof in zip(result.statuses, result.proofs, strict=True)
        ],
    }


def _print(result: DemoResult) -> None:
    print()
    table = new_table("replica", "role", "view", "position", "customers", "orders", "lost", "twice", "state digest")
    for status, proof in zip(result.statuses, result.proofs, strict=True):
        table.add_row(
            str(status.replica),
            "primary" if status.is_primary else "backup",
            str(status.view),
            str(status.state_op),
            str(proof.customers),
            str(proof.orders),
            str(proof.lost),
            str(proof.duplicated),
            status.state_digest.hex()[:16],
        )
    print_table(table)
    print()
    figures = new_table("orders/s", "p50", "p99", "longest wait at failover")
    figures.add_row(
        f"{result.orders_per_s:,.0f}",
        f"{result.p50_ms:.1f} ms",
        f"{result.p99_ms:.1f} ms",
        f"{result.failover_max_ms:.0f} ms",
    )
    print_table(figures)
    print()
    if result.ok:
        print(
            f"All {result.acked} acknowledged orders are on all {len(result.proofs)} replicas exactly once, "
            "and their states are equal."
        )
        return
    print("trio-pb: the demo FAILED:", file=sys.stderr)
    for text in _complaints(result):
        print(f"  {text}", file=sys.stderr)


def _complaints(result: DemoResult) -> list[str]:
    found: list[str] = []
    if result.acked != result.expected:
        found.append(f"{result.acked} of {result.expected} orders were acknowledged")
    for proof in result.proofs:
        counts = {
            "acknowledged orders are missing": proof.lost,
            "orders are there too often": proof.duplicated,
            "customers have a wrong last order": proof.last_orders_wrong,
            "orders stand at another position than their receipt said": proof.misplaced,
        }
        found += [f"replica {proof.replica}: {count} {text}" for text, count in counts.items() if count]
    if not result.digests_equal:
        found.append("the state digests differ")
    if not (all(event.acked_before for event in result.events) and result.acked_after):
        found.append("no order was acknowledged between two of the events")
    return found
