"""What clients do, and the history of what they asked and heard.

An operation without an answer stays in the history as one whose outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Protocol

import attrs

from sim.choices import Choices, latency_of
from sim.orders import ORDERS
from sim.shape import WorkloadPlan
from sim.subject import Subject
from trio_pb.core.client_ports import Failure, Success

__all__ = ["History", "Operation", "Workload"]

PATIENCE_MS = 600_000


@attrs.define(eq=False)
class Operation:
    """One call of a client, from its beginning to its outcome."""

    token: int  # Unique in the run.
    client: str
    code: int
    body: bytes
    is_read: bool
    customer: int = 0
    here: bool = False  # A read that any replica may answer.
    cursor: bytes = b""
    scan: int | None = None  # Token of a scan's first page.
    deadline_ms: int = PATIENCE_MS
    begun: int = 0  # Virtual microseconds.
    ended: int | None = None
    floor: int = 0  # The highest op that anyone had heard of when it began.
    outcome: Success | Failure | None = None

    @property
    def op(self) -> int | None:
        """The op of its answer."""
        return self.outcome.reply.op if isinstance(self.outcome, Success) else None

    @property
    def succeeded(self) -> bool:
        """Whether the cluster answered."""
        return isinstance(self.outcome, Success)


class History:
    """Every operation of a run, in the order in which they began."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.moments: list[Operation] = []  # Each operation when it began and when it ended, in the order of both.
        self.heard = 0  # The highest op in any answer so far.
        self.ended = 0
        self.on_end: Callable[[], None] = lambda: None

    def begin(self, operation: Operation, now: int) -> None:
        """A client calls."""
        operation.begun = now
        operation.floor = self.heard
        self.operations.append(operation)
        self.moments.append(operation)

    def end(self, operation: Operation, outcome: Success | Failure, now: int) -> None:
        """A client hears."""
        assert operation.ended is None, f"token {operation.token} ends twice"
        operation.ended = now
        operation.outcome = outcome
        self.ended += 1
        self.moments.append(operation)
        if operation.op is not None:
            self.heard = max(self.heard, operation.op)
        self.on_end()

    def abandon(self) -> None:
        """Whoever waited for an operation is dead: its outcome stays unknown."""
        self.ended += 1
        self.on_end()

    @property
    def succeeded(self) -> int:
        """Operations with an answer."""
        return sum(1 for operation in self.operations if operation.succeeded)


class Timers(Protocol):
    """Where a workload waits."""

    def after(self, delay: int, call: Callable[..., None], *arguments: Any) -> None:
        """Make `call(*arguments)` when `delay` microseconds have passed."""
        ...


class Caller(Protocol):
    """Who carries a workload: a client of the simulated world, or a real one."""

    name: str
    on_completed: Callable[[Operation], None]
    on_abandoned: Callable[[Operation], None]  # Called instead for what was under way when it died.

    @property
    def pending(self) -> Sized:
        """Operations begun and not ended."""
        ...

    def submit(self, operation: Operation) -> None:
        """Begin an operation; `on_completed` tells its end."""
        ...


class Workload:
    """Keeps one client busy until its share is done."""

    def __init__(
        self,
        client: Caller,
        index: int,
        plan: WorkloadPlan,
        choices: Choices,
        scheduler: Timers,
        subject: Subject = ORDERS,
    ) -> None:
        self.client = client
        self.plan = plan
        self._deadline_ms = plan.deadline_ms
        self.remaining = choices.at_most(("operations", index), plan.operations)
        self._index = index
        self._choices = choices
        self._scheduler = scheduler
        self._tokens = 0
        self._begun = 0  # Operations; pages of a scan are none of their own.
        self._asker = subject.asker(index, plan)
        self._scan_code = subject.scan_code
        client.on_completed = self._on_completed
        client.on_abandoned = self._go_on

    @property
    def is_done(self) -> bool:
        """Whether everything was asked and answered."""
        return self.remaining == 0 and not self.client.pending

    def more(self, count: int) -> None:
        """Ask for so much more, soon, and with all the time in the world: what is due is an answer, not a fast one."""
        self._deadline_ms = PATIENCE_MS
        self.remaining += count
        for lane in range(count):
            self._scheduler.after(1000 + lane, self._next)

    def start(self) -> None:
        """Begin the first operations, or let all of them come when their time is there."""
        if self.plan.is_open:
            at = 0
            for arrival in range(self.remaining):
                bits = self._choices.bits(("arrival", self._index, arrival))
                at += latency_of(bits, 0, max(self.plan.think_mean, 1))
                self._scheduler.after(1000 + at, self._next)
            return
        for lane in range(min(self.plan.in_flight, self.remaining)):
            self._scheduler.after(1000 + lane, self._next)

    def _on_completed(self, operation: Operation) -> None:
        outcome = operation.outcome
        is_scan = operation.is_read and operation.code == self._scan_code
        if is_scan and isinstance(outcome, Success) and outcome.reply.cursor:
            self.client.submit(
                attrs.evolve(
                    operation,
                    token=self._token(),
                    cursor=outcome.reply.cursor,
                    scan=operation.scan or operation.token,
                    ended=None,
                    outcome=None,
                )
            )
            return
        self._go_on(operation)

    def _go_on(self, _: Operation) -> None:
        """The next one, after a while: a new call does not wait for the end of another where arrivals are open."""
        if not self.plan.is_open:
            think = latency_of(self._choices.bits(("think", self._index, self._begun)), 0, self.plan.think_mean)
            self._scheduler.after(think, self._next)

    def _token(self) -> int:
        self._tokens += 1
        return (self._index << 24) + self._tokens

    def _next(self) -> None:
        if self.remaining == 0:
            return
        self.remaining -= 1
        self._begun += 1
        token = self._token()
        bits = self._choices.bits(("operation", self._index, self._begun))
        asked = self._asker.ask(token, bits)
        self.client.submit(
            Operation(
                token,
                self.client.name,
                asked.code,
                asked.body,
                is_read=asked.is_read,
                customer=asked.customer,
                here=asked.here,
                deadline_ms=self._deadline_ms,
            )
        )
