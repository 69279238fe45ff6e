"""`trio-pb order import`: a file of orders through many sessions, resumable, nothing twice.

A reader hands lines to lanes; all lines of one customer are in one lane, which places them one after
the other, so they stay in order. Memory is bounded: the reader waits when a lane is full.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import trio
from cyclopts import Parameter

from trio_pb.cli.line_source import LineSource
from trio_pb.cli.order import ADDRESSES, Addresses
from trio_pb.cli.order_lines import (
    CHECKPOINT_LINES,
    Checkpoint,
    DonePrefix,
    LineError,
    LineReader,
    OrderLine,
    PrefixDigest,
    Progress,
    idempotency_key,
)
from trio_pb.cli.output import ExitCode, Flag, errors, print_json, progress_bar
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient, OrderRejectedError
from trio_pb.errors import ConfigError, NotAppliedError, NotSentError, UnknownOutcomeError

__all__ = ["import_orders"]

LANES_MAX = 1024
LANE_LINES_MAX = 16  # Waiting in one lane.
ORDER_SECONDS_MAX = 10.0  # Of one attempt.
ATTEMPTS_MAX = 6
RETRIED = frozenset({"busy", "deadline", "not_primary", "queue_full"})  # Refusals that pass.
PROBLEMS_MAX = 1000  # Listed by --json; all are counted, and printed as they come.
SAVE_SECONDS = 1.0


@attrs.define
class Counts:
    """What became of the lines of this run."""

    placed: int = 0
    already_placed: int = 0
    superseded: int = 0
    rejected: int = 0
    done_before: int = 0  # By a run before this one: not looked at again.
    problems: list[dict[str, object]] = attrs.Factory(list[dict[str, object]])

    @property
    def orders(self) -> int:
        """Lines that were answered."""
        return self.placed + self.already_placed + self.superseded + self.rejected


async def import_orders(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    addresses: Addresses = ADDRESSES,
    rate: Annotated[float | None, Parameter(metavar="PER_SECOND")] = None,
    lanes: int = 256,
    json: Flag = False,
) -> int:
    """Place the orders of a CSV or JSON-lines file.

    Each line is customer_id, order_number, laptop_type. Interrupted and run again it places nothing
    twice: what a line says makes its idempotency key, and FILE.progress tells where to go on. A line
    whose key is known counts as already placed; one at or below the customer's last order whose key
    is not known any more is reported as superseded.

    Exit code 1 if a line was rejected or superseded, 3 if the cluster did not answer.

    Args:
        file: Path of the file, or - for standard input (which has no progress file).
        addresses: One or more replicas; the client finds the primary.
        rate: At most so many orders per second; by default as many as the cluster takes.
        lanes: Orders under way at once, 1 to 1024; those of one customer go one by one.
        json: Print one JSON object at the end.
    """
    if not 1 <= lanes <= LANES_MAX:
        raise ConfigError(f"--lanes {lanes}: must be 1 to {LANES_MAX}")
    if rate is not None and not 0.01 <= rate <= 1e6:
        raise ConfigError(f"--rate {rate}: must be 0.01 to 1000000")
    path = None if file == "-" else Path(file)
    with LineSource(path) as source:
        async with connect(addresses) as client:
            assert client.cluster is not None, "a client that was greeted knows its cluster"
            job = _Import(OrderClient(client), source, client.cluster.hex(), rate)
            await job.run(lanes)
    counts = job.counts
    if json:
        rate_reached = counts.orders / job.seconds if job.seconds > 0 else 0.0
        print_json({**attrs.asdict(counts), "seconds": round(job.seconds, 3), "orders_per_s": round(rate_reached, 1)})
    else:
        print(
            f"{counts.placed} placed, {counts.already_placed} placed already, {counts.superseded} superseded, "
            f"{counts.rejected} rejected, {counts.done_before} done before, in {job.seconds:.1f} s"
        )
    return ExitCode.FAILED if counts.rejected or counts.superseded else ExitCode.OK


class _Import:
    """One run over one file."""

    def __init__(self, orders: OrderClient, source: LineSource, cluster: str, rate: float | None) -> None:
        self.counts = Counts()
        self.seconds = 0.0
        self._orders = orders
        self._source = source
        self._cluster = cluster
        self._rate = rate
        self._reader = LineReader()
        self._digest = PrefixDigest()
        self._prefix = DonePrefix()
        self._lines_done = 0  # Of the file, headers and empty lines included.
        self._saved_at = 0.0
        self._safe: Checkpoint | None = None  # Where a rerun may begin; None: saved already.
        self._console = errors()
        self._bar = progress_bar(self._console)
        self._task = self._bar.add_task("lines", total=None, note="")

    async def run(self, lanes: int) -> None:
        """Place all lines."""
        began = self._saved_at = trio.current_time()
        try:
            with self._bar:
                self._bar.update(self._task, total=await self._source.count())
                async with trio.open_nursery() as nursery:
                    channels: list[trio.MemorySendChannel[OrderLine]] = []
                    for _ in range(lanes):
                        send, receive = trio.open_memory_channel[OrderLine](LANE_LINES_MAX)
                        channels.append(send)
                        nursery.start_soon(self._place_lane, receive)
                    await self._read(channels)
                    for send in channels:
                        send.close()
        finally:
            # Also when interrupted: what is done need not be done again.
            self._save()
            self.seconds = trio.current_time() - began

    # --- Reading ------------------------------------------------------------------------------

    async def _read(self, channels: list[trio.MemorySendChannel[OrderLine]]) -> None:
        """Hand each order to the lane of its customer."""
        number = await self._skip_done()
        began, handed = trio.current_time(), 0
        while data := await self._source.next_line():
            number += 1
            self._digest.add(data)
            if number % CHECKPOINT_LINES == 0:
                self._prefix.propose(self._digest.checkpoint())
            try:
                order = self._reader.read(number, data)
            except LineError as error:
                self._on_problem(number, "rejected", str(error))
                continue
            if order is None:
                self._on_done(number)
                continue
            if self._rate is not None:
                await trio.sleep_until(began + handed / self._rate)
                handed += 1
            await channels[order.customer_id % len(channels)].send(order)
        if self._digest.at_line_end:  # Else the last line may go on one day.
            self._prefix.propose(self._digest.checkpoint())
            self._on_safe(self._prefix.reached())

    async def _skip_done(self) -> int:
        """Pass over the lines that an earlier run did, if the file still begins with them; return how many."""
        path = self._source.progress_path
        progress = None if path is None else Progress.load(path)
        if progress is None or progress.cluster != self._cluster:
            return 0
        done = progress.checkpoint
        number = 0
        while number < done.lines and (data := await self._source.next_line()):
            number += 1
            self._digest.add(data)
            self._reader.skip(number, data)
        if self._digest.checkpoint() == done:
            self.counts.done_before = number
            self._prefix = DonePrefix(number)
            self._lines_done = number
            self._show()
            return number
        self._console.print(f"{self._source.name} has changed since it was imported: beginning at its first line")
        await self._source.rewind()
        self._reader, self._digest = LineReader(), PrefixDigest()
        return 0

    # --- Placing ------------------------------------------------------------------------------

    async def _place_lane(self, lane: trio.MemoryReceiveChannel[OrderLine]) -> None:
        async for order in lane:
            try:
                duplicate = await self._place(order)
            except OrderRejectedError as error:
                superseded = error.reason == "order_number_not_above_last"
                self._on_problem(order.number, "superseded" if superseded else "rejected", str(error))
            except NotAppliedError as error:
                self._on_problem(order.number, "rejected", str(error))
            else:
                if duplicate:
                    self.counts.already_placed += 1
                else:
                    self.counts.placed += 1
                self._on_done(order.number)

    async def _place(self, order: OrderLine) -> bool:
        """Place one order and return whether it had been placed before; its key makes it safe to try again.

        Raises:
            OrderRejectedError: refused by the service.
            NotAppliedError: refused for good by the cluster.
            NotSentError, UnknownOutcomeError: the cluster did not answer.
        """
        key = idempotency_key(order)
        attempt = 1
        while True:
            try:
                placed = await self._orders.place(
                    order.customer_id,
                    order.order_number,
                    order.laptop_type,
                    idempotency_key=key,
                    timeout_s=ORDER_SECONDS_MAX,
                )
            except (NotAppliedError, NotSentError, UnknownOutcomeError) as error:
                if isinstance(error, NotAppliedError) and error.reason not in RETRIED:
                    raise
                if attempt == ATTEMPTS_MAX:
                    if isinstance(error, NotAppliedError):  # Not this line's fault: do not count it as done.
                        raise NotSentError(str(error)) from error
                    raise
                attempt += 1
            else:
                # A repetition of this very run that finds the order done is no news to the user.
                return placed.duplicate and attempt == 1

    # --- Bookkeeping --------------------------------------------------------------------------

    def _on_problem(self, number: int, kind: str, text: str) -> None:
        """Report a line that was not placed; it is done all the same."""
        if kind == "superseded":
            self.counts.superseded += 1
        else:
            self.counts.rejected += 1
        if len(self.counts.problems) < PROBLEMS_MAX:
            self.counts.problems.append({"line": number, "kind": kind, "text": text})
        self._console.print(f"line {number}: {kind}: {text}", markup=False, soft_wrap=True)
        self._on_done(number)

    def _on_done(self, number: int) -> None:
        self._lines_done += 1
        self._on_safe(self._prefix.done(number))
        self._show()

    def _show(self) -> None:
        troubled = self.counts.superseded + self.counts.rejected
        note = f"{troubled} not placed" if troubled else ""
        self._bar.update(self._task, completed=self._lines_done, note=note)

    def _on_safe(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            self._safe = checkpoint
            if trio.current_time() >= self._saved_at + SAVE_SECONDS:
                self._save()

    def _save(self) -> None:
        path = self._source.progress_path
        if path is not None and self._safe is not None:
            Progress(self._cluster, self._safe).save(path)
            self._safe = None
            self._saved_at = trio.current_time()
