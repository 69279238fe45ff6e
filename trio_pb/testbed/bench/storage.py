"""Storage at a million customers: restart, checkpoints, memory, state transfer (PROTOCOL 7, 8.2, 9).

One replica fills a directory with real orders and leaves a long log above its checkpoint. Then each question
is asked of these files by a process of its own.
"""

from __future__ import annotations

import math
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import attrs
import trio

from trio_pb.app.buckets import leaf_of
from trio_pb.core.config import Limits
from trio_pb.errors import ConfigError
from trio_pb.storage.disk import run
from trio_pb.storage.store import Store
from trio_pb.testbed.bench.children import Tell, in_process
from trio_pb.testbed.bench.figures import (
    MIB,
    CheckpointBytes,
    FlushTimes,
    LoadFigures,
    MemoryFigures,
    RestartFigures,
    ServiceFigures,
    StorageFigures,
    TransferFigures,
    percentile,
)
from trio_pb.testbed.bench.headless import CLIENTS, headless
from trio_pb.testbed.bench.meter import CountingDisk, Meter, TimedOrders
from trio_pb.testbed.bench.transfer import measure_transfer
from trio_pb.testbed.formatting import cluster_id, format_replica

__all__ = ["CUSTOMERS_MIN", "Plan", "Watcher", "run_storage"]

T = TypeVar("T")

CUSTOMERS_MIN = 1000
FULL_SIZE = 100_000  # Customers; below it the intervals of checkpoints shrink as well.
INTERVAL_OPS_MIN = 64
LOG_INTERVALS = 4
LOG_BATCH = 16  # Orders in each op of the log.
TOUCHED_SHARE = 100  # One of so many customers orders between two checkpoints.
FLUSHES = 500
FLUSH_SIZE = 4096
FLUSH_SECONDS_MAX = 10.0  # On a slow disk fewer of them must do.
SEED = 1

Watcher = Callable[[str, int, int], None]  # Phase, done, of so many.


@attrs.frozen
class Plan:
    """How large everything is."""

    customers: int

    def __attrs_post_init__(self) -> None:
        if self.customers < CUSTOMERS_MIN:
            raise ConfigError(f"--customers {self.customers}: must be at least {CUSTOMERS_MIN}")

    @property
    def limits(self) -> Limits:
        """Those that ship, except that a small run checkpoints more often."""
        shipped = Limits()
        interval = shipped.checkpoint_interval_ops
        if self.customers >= FULL_SIZE:
            return shipped
        interval = max(INTERVAL_OPS_MIN, interval * self.customers // FULL_SIZE)
        return Limits(checkpoint_interval_ops=interval, wal_ops=LOG_INTERVALS * interval)

    @property
    def log_ops(self) -> int:
        """Of the log above the checkpoint."""
        return LOG_INTERVALS * self.limits.checkpoint_interval_ops

    @property
    def log_limits(self) -> Limits:
        """For writing a log without a checkpoint in between."""
        return Limits(checkpoint_interval_ops=1 << 30, wal_ops=1 << 32)

    def load(self, head: int) -> Iterator[range]:
        """Batches after op `head` that order once for every customer, or more often, and end at a checkpoint."""
        interval = self.limits.checkpoint_interval_ops
        ops = math.ceil((self.customers / CLIENTS + head) / interval) * interval - head
        size = math.ceil(self.customers / ops)
        for op in range(ops):
            first = op * size % self.customers
            yield range(first, min(first + size, self.customers))

    def log(self) -> Iterator[list[int]]:
        """Batches of random customers."""
        chance = random.Random(SEED)
        for _ in range(self.log_ops):
            yield [chance.randrange(self.customers) for _ in range(LOG_BATCH)]

    def interval(self, customers: Sequence[int], head: int) -> Iterator[list[int]]:
        """Batches in which all of `customers` order, from op `head` to the next checkpoint."""
        interval = self.limits.checkpoint_interval_ops
        ops = interval - head % interval
        size = math.ceil(len(customers) / ops)
        for op in range(ops):
            yield [customers[(op * size + index) % len(customers)] for index in range(size)]

    @property
    def uniform(self) -> list[int]:
        """One customer in a hundred, at random."""
        return random.Random(SEED).sample(range(self.customers), self.customers // TOUCHED_SHARE)

    @property
    def clustered(self) -> list[int]:
        """As many customers, of as few buckets as hold them."""
        return nsmallest(self.customers // TOUCHED_SHARE, range(self.customers), key=leaf_of)


def run_storage(plan: Plan, parent: Path | None, watch: Watcher) -> StorageFigures:
    """Measure everything in a new directory below `parent` (the system's for temporary files), which is then removed.

    Raises:
        BenchError: something did not work.
        OSError: the directory cannot be written.
    """

    def phase(name: str, function: Callable[..., T], *arguments: object) -> T:
        watch(name, 0, 0)
        return in_process(function, lambda done, total: watch(name, done, total), *arguments)

    with tempfile.TemporaryDirectory(prefix="trio-pb-bench-", dir=parent) as root:
        directory = Path(root, "replica-0")
        watch("fdatasync", 0, 0)
        flush = measure_flushes(Path(root, "flushes"))
        load = phase("load", _load, plan, directory)
        restart, service = phase("restart and checkpoints", _serve, plan, directory)
        memory = phase("memory", _memory, directory)
        transfer: TransferFigures = phase("transfer", measure_transfer, directory, Path(root, "replica-1"))
        return StorageFigures(
            customers=plan.customers,
            interval_ops=plan.limits.checkpoint_interval_ops,
            flush=flush,
            load=load,
            restart=restart,
            service=attrs.evolve(
                service,
                uniform=_with_ratio(service.uniform, load.checkpoint_bytes),
                clustered=_with_ratio(service.clustered, load.checkpoint_bytes),
            ),
            memory=memory,
            transfer=transfer,
        )


def measure_flushes(file: Path) -> FlushTimes:
    """Write 4 KiB after 4 KiB into zeros, and fdatasync each: what nobody who keeps promises can do without."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, bytes(FLUSHES * FLUSH_SIZE), 0)
        os.fsync(descriptor)
        data = random.Random(SEED).randbytes(FLUSH_SIZE)
        sync = os.fdatasync if sys.platform != "darwin" else os.fsync
        times: list[float] = []
        end = perf_counter() + FLUSH_SECONDS_MAX
        while len(times) < FLUSHES and perf_counter() < end:
            began = perf_counter()
            os.pwrite(descriptor, data, len(times) * FLUSH_SIZE)
            sync(descriptor)
            times.append((perf_counter() - began) * 1e3)
        times.sort()
        return FlushTimes(len(times), percentile(times, 0.5), percentile(times, 0.99))
    finally:
        os.close(descriptor)
        file.unlink()


# --- Phases, each in a process of its own -----------------------------------------------------------


def _load(tell: Tell, plan: Plan, directory: Path) -> LoadFigures:
    """Fill a new directory, checkpoint it, then write a log above that."""
    format_replica(directory, cluster=cluster_id("bench"), replica=0, members=(0,))
    began = perf_counter()

    async def fill() -> tuple[int, int]:
        async with headless(directory, plan.limits) as replica:
            batches = list(plan.load(replica.core.state.log.head))
            total = len(batches) + plan.log_ops
            orders = await replica.order(batches, lambda done: tell(done, total))
            return orders, await replica.wait_for_checkpoint()

    async def extend() -> tuple[int, int]:
        async with headless(directory, plan.log_limits) as replica:
            head = replica.core.state.log.head
            total = head + plan.log_ops
            orders = await replica.order(plan.log(), lambda done: tell(head + done, total))
            await replica.settle()
            return orders, replica.core.state.log.head

    loaded, checkpoint_bytes = trio.run(fill)
    log_orders, head = trio.run(extend)
    return LoadFigures(
        seconds=perf_counter() - began,
        orders=loaded + log_orders,
        head=head,
        log_ops=plan.log_ops,
        log_orders=log_orders,
        checkpoint_bytes=checkpoint_bytes,
    )


def _serve(tell: Tell, plan: Plan, directory: Path) -> tuple[RestartFigures, ServiceFigures]:
    """Restart on the long log; then write checkpoints while orders go on, first of customers anywhere."""
    interval = plan.limits.checkpoint_interval_ops
    uniform, clustered = plan.uniform, plan.clustered

    async def serve() -> tuple[RestartFigures, ServiceFigures]:
        async with headless(directory, plan.limits) as replica:
            state = replica.core.state
            restart = RestartFigures(
                ready_seconds=replica.ready[0],
                ready_cpu_seconds=replica.ready[1],
                open_seconds=replica.opened[0],
                open_cpu_seconds=replica.opened[1],
                replay_seconds=replica.ready[0] - replica.opened[0],
                ops=replica.replayed_ops,
                orders=replica.replayed_ops * LOG_BATCH,
                checkpoints=replica.checkpointer.begun,
            )
            await replica.wait_for_checkpoint()
            replica.meter.clear()
            # The first of these is written while the second interval's orders copy what it has frozen.
            for number, customers in enumerate((uniform, uniform, clustered)):
                done = number * interval
                tell(done, 3 * interval)
                await replica.order(plan.interval(customers, state.log.head), partial(_tell_from, tell, done, interval))
                if number:
                    await replica.wait_for_checkpoint()
                else:
                    await replica.settle()
            written = replica.checkpointer.written
            head = state.log.head
            return restart, ServiceFigures(
                uniform=CheckpointBytes(len(uniform), written[head - interval], 0.0),
                clustered=CheckpointBytes(len(clustered), written[head], 0.0),
                steps=replica.meter.sums(),
            )

    return trio.run(serve)


def _tell_from(tell: Tell, done: int, interval: int, count: int) -> None:
    tell(done + count, 3 * interval)


def _with_ratio(written: CheckpointBytes, full: int) -> CheckpointBytes:
    return attrs.evolve(written, ratio=written.bytes / full)


def _memory(tell: Tell, directory: Path) -> MemoryFigures:
    """Load the checkpoint and do nothing else."""
    del tell
    before = _resident_mib()
    with CountingDisk(directory) as disk:
        machine = TimedOrders(Meter())
        start = run(disk, Store().open(machine))
        assert start.checkpoint is not None
        return MemoryFigures(before, _resident_mib(), max(_resident_mib(), _peak_mib()))


def _resident_mib() -> float:
    """Resident memory now; where the system does not tell, the peak."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize() / MIB
    except FileNotFoundError:
        return _peak_mib()


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024
