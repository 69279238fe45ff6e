"""`trio-pb torture`: a cluster of real processes suffers everything at once, and must keep every promise."""

from __future__ import annotations

import json as json_
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter
from rich.console import Console

from trio_pb.cli.output import ExitCode, Flag, errors, new_table, print_json, print_table, screen
from trio_pb.errors import ConfigError
from trio_pb.testbed.torture.deck import BRISK, STEADY, Kind
from trio_pb.testbed.torture.report import fields_of, latencies_of, picture_of, quantile
from trio_pb.testbed.torture.run import REPLICAS, Result
from trio_pb.testbed.torture.run import torture as run_torture

__all__ = ["torture"]

STEADY_MINUTES = 1.0  # A shorter torture does the same things in less time, more of them at once.


class _Screen:
    """One line for each round, and whatever should not have happened."""

    def __init__(self, console: Console, is_quiet: bool) -> None:
        self._console = console
        self._is_quiet = is_quiet
        self._began = trio.current_time()

    def on_round(self, text: str) -> None:
        if not self._is_quiet:
            self._say(text)

    def on_trouble(self, text: str) -> None:
        self._say(f"TROUBLE: {text}")

    def _say(self, text: str) -> None:
        self._console.print(f"{trio.current_time() - self._began:7.1f} s  {text}", markup=False)


async def torture(
    *,
    minutes: float = 1.0,
    seed: int = 1,
    rate: Annotated[float, Parameter(metavar="ORDERS/S")] = 150.0,
    customers: int = 40,
    directory: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    json: Flag = False,
) -> int:
    """Torture real processes, and judge what their clients saw.

    Three replicas on real files, every connection through a fault proxy: messages are lost, damaged, delayed,
    connections are cut, die in silence, are throttled or pass one way only; processes are killed, paused, lose their
    power together; clocks jump and drift; disks fail to read, write and flush, are slow, fill up, rot. Several
    of it at once, while clients order and read. After each round the cluster has to recover. In the end: the history
    of the clients is linearizable, no acknowledged order is lost, none is there twice, all receipts are
    honoured, all states are equal, all logs verify. Exit code 0 only if all of it holds.

    Args:
        minutes: How long, at least: a deck of faults that was begun is played to its end, so that each kind of fault is
            used equally often.
        seed: Decides which faults, when, where and how hard. What becomes of them is up to the machine.
        rate: Orders per second at most, all clients together; half as many reads, and bulk reads besides.
        customers: For whom the clients order, all for all; the fewer, the more calls meet each other.
        directory: Where to write; a new or empty one. By default a new one below the directory for temporary files.
        json: Print one JSON object instead.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes {minutes:g}: must be more than 0")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: must not be negative")
    if not 1 <= customers <= 1000:
        raise ConfigError(f"--customers {customers}: must be 1 to 1000")
    if not 1 <= rate <= 2000:
        raise ConfigError(f"--rate {rate:g}: must be 1 to 2000")
    place = _make_directory(directory, seed)
    results: list[Result] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signals, nursery.cancel_scope)
            watcher = _Screen(errors() if json else screen(), is_quiet=json)
            pace = STEADY if minutes >= STEADY_MINUTES else BRISK
            results.append(
                await run_torture(
                    place, seed=seed, seconds=60 * minutes, rate=rate, customers=customers, pace=pace, watcher=watcher
                )
            )
            nursery.cancel_scope.cancel()
    finally:
        if not results:
            print(f"trio-pb: it did not come to its end; what there is of it: {place}", file=sys.stderr)
    if not results:
        return ExitCode.INTERRUPTED
    (result,) = results
    fields = {**fields_of(result), "directory": str(place)}
    (place / "report.json").write_text(json_.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (place / "latency.svg").write_text(picture_of(result), encoding="utf-8")
    if result.ok:
        for replica in range(REPLICAS):  # Their files have told all that they had to tell, and are large.
            shutil.rmtree(place / f"replica-{replica}")
    if json:
        print_json(fields)
    else:
        _print(result, place)
    return ExitCode.OK if result.ok else ExitCode.FAILED


def _make_directory(directory: Path | None, seed: int) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix=f"trio-pb-torture-{seed}-"))
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ConfigError(f"--directory {directory}: not empty; name one that is, or that does not exist yet")
    return directory


async def _end_on_signals(scope: trio.CancelScope) -> None:
    """SIGTERM and SIGHUP end it like Ctrl-C does: the replicas die first, then we."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _number in signals:
            scope.cancel()


def _print(result: Result, place: Path) -> None:
    print()
    table = new_table("begin", "end", "fault", "where", "what")
    for column in (0, 1):
        table.columns[column].justify = "right"
    for action in sorted(result.actions, key=lambda it: it.begin):
        what = action.what or "nothing there that it could harm"
        table.add_row(f"{action.begin:.1f} s", f"{action.end:.1f} s", action.kind, action.target, what)
    print_table(table)
    print()
    counts = Counter(action.kind for action in result.actions if action.is_done)
    print("faults: " + ", ".join(f"{kind} {counts[kind]}" for kind in Kind))
    latencies = latencies_of(result)
    p50, p99, longest = (1000 * quantile(latencies, share) for share in (0.5, 0.99, 1.0))
    print(
        f"orders: {result.placed:,} acknowledged of {result.asked:,} in {result.seconds:.0f} s; "
        f"p50 {p50:.1f} ms, p99 {p99:,.0f} ms, max {longest:,.0f} ms"
    )
    print()
    table = new_table("", "verdict", "looked at")
    for verdict in result.verdicts:
        table.add_row("holds" if verdict.holds else "BROKEN", verdict.name, verdict.what)
    print_table(table)
    print()
    print(f"history, report, latency plot and what the replicas said: {place}")
    if not result.ok:
        print("trio-pb: the torture broke the cluster:", file=sys.stderr)
        for verdict in result.verdicts:
            for complaint in verdict.complaints:
                print(f"  {verdict.name}: {complaint}", file=sys.stderr)
