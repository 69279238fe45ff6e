"""At the primary: which requests enter the next prepare (PROTOCOL 5.1, 5.4).

Only a saving, never the authority: what slips through is caught when the op is applied. Still, numbers
enter in order, duplicates in flight wait for the one reply, and the queue is bounded.
"""

from __future__ import annotations

from collections import deque

from trio_pb.core.execution import Execution
from trio_pb.core.log import Hold
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import CODE_REGISTER, RejectCode, Request
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareKind
from trio_pb.core.reads import Reads
from trio_pb.core.repair import Repair
from trio_pb.core.state import State

__all__ = ["Admission"]

BUSY_RETRY_MS = 20
REQUEST_OVERHEAD = 64  # Encoded bytes of a request beside its body, at most.


class Admission:
    """The queue in front of the pump, and per session the last number that went into it."""

    def __init__(self, state: State, execution: Execution, reads: Reads, repair: Repair) -> None:
        self.state = state
        self._repair = repair
        self._execution = execution
        self._reads = reads
        self.queue: deque[OrderedRequest] = deque()
        self.queue_bytes = 0
        self._admitted: dict[tuple[bytes, int], int] = {}  # (client, session) -> last number in queue or log.
        self._held: dict[bytes, dict[int, Request]] = {}  # Numbers ahead of the next one.
        self._held_count = 0
        self._early: list[tuple[int, Request]] = []  # Came before this view's table was known.
        self._parked_bytes = 0  # Bodies held and early.
        self.is_open = False  # The session table is as of our start_view: applied reached its commit point.

    # --- Opening and closing ------------------------------------------------------------------------

    def close(self) -> None:
        """We do not lead (any more): refuse all that is not yet in the log.

        Whoever waits for an op that is in the log hears nothing: it may still commit, and a refusal
        would tell its client that it certainly did not.
        """
        self.is_open = False
        unordered = {(request.client, request.number) for request in self.queue}
        unordered.update((client, number) for client, held in self._held.items() for number in held)
        self.queue.clear()
        self.queue_bytes = 0
        self._admitted.clear()
        self._held.clear()
        self._held_count = 0
        self._parked_bytes = 0
        for connection, request in self._early:
            self._refuse(connection, request, RejectCode.NOT_PRIMARY)
        self._early.clear()
        for (client, number), connection in self._execution.drop_waiting():
            if (client, number) not in unordered:
                continue
            session = self._execution.sessions.session_of(client) or 0
            self.state.reject(connection, client, session, number, RejectCode.NOT_PRIMARY)

    def try_open(self, commit_at_start: int) -> None:
        """Admit once all that our view began with as committed is applied."""
        state = self.state
        if self.is_open or state.applied < commit_at_start or not self._rebuild():
            return
        self.is_open = True
        early, self._early = self._early, []
        if early:
            reach(Mark.EARLY_ADMITTED)
        for connection, request in early:
            self._parked_bytes -= len(request.body)
            self.on_request(connection, request)

    def forget_connection(self, connection: int) -> None:
        """A client is gone: numbers of its that wait for an earlier one would wait for ever."""
        waiting = self._execution.waiting
        for client, held in list(self._held.items()):
            for number in [number for number in held if waiting.get((client, number)) == connection]:
                self._parked_bytes -= len(held.pop(number).body)
                self._held_count -= 1
            if not held:
                del self._held[client]

    def _rebuild(self) -> bool:
        """Learn from the ops above the table which numbers are in flight already."""
        log = self.state.log
        bodies: list[Prepare] = []
        for op in range(self.state.applied + 1, log.head + 1):
            body = log.body(op)
            if body is not None:
                bodies.append(body)
            elif log.hold(op) is not Hold.MISSING:
                self._repair.read(log.id(op))  # What is missing altogether is being repaired.
        if self.state.applied + len(bodies) < log.head:
            return False  # Being read; a later step tries again.
        for body in bodies:
            if body.kind is PrepareKind.BATCH:
                reach(Mark.IN_FLIGHT_REBUILT)
                for request in body.requests():
                    key = (request.client, request.session)
                    self._admitted[key] = max(self._admitted.get(key, 0), request.number)
        return True

    # --- Requests -----------------------------------------------------------------------------------

    def on_request(self, connection: int, request: Request) -> None:
        """Check size, session and number, in this order; then queue, hold, answer or refuse."""
        state = self.state
        if not state.is_leading:
            self._refuse(connection, request, RejectCode.NOT_PRIMARY)
        elif len(request.body) > state.limits.request_size_max:
            self._refuse(connection, request, RejectCode.TOO_LARGE)
        elif self._is_disk_full() and self._execution.sessions.kept_reply(request.client, request.number) is None:
            self._refuse(connection, request, RejectCode.DISK_FULL)
        elif state.is_handing_over or self._is_queue_full(len(request.body)):
            self._refuse(connection, request, RejectCode.BUSY)
        elif not self.is_open:
            if self._is_full_with_parked(len(request.body)):
                self._refuse(connection, request, RejectCode.BUSY)
                return
            self._early.append((connection, request))
            self._parked_bytes += len(request.body)
        elif request.code == CODE_REGISTER:
            self._on_register(connection, request)
        elif self._execution.sessions.session_of(request.client) != request.session:
            # A deposed primary must not declare a living session dead (T-33): confirm first.
            if not self._reads.confirm(lambda: self._on_confirmed_stranger(connection, request)):
                self._refuse(connection, request, RejectCode.BUSY)
        else:
            self._on_number(connection, request)

    def _is_disk_full(self) -> bool:
        """Whether there is no room, be it for a checkpoint: what is ordered past the next could not be executed.

        Then reads would wait for it, which are to go on.
        """
        return self.state.is_disk_full or "checkpoint" in self.state.unfit

    def _is_queue_full(self, size: int) -> bool:
        limits = self.state.limits
        return len(self.queue) >= limits.queue_requests_max or self.queue_bytes + size > limits.queue_bytes_max

    def _is_full_with_parked(self, size: int) -> bool:
        """Whether there is no room for one more that must wait before it may queue.

        The parked never keep out a number whose turn it is: it may be the one that they wait for.
        """
        limits = self.state.limits
        count = len(self.queue) + self._held_count + len(self._early)
        size += self.queue_bytes + self._parked_bytes
        return count >= limits.queue_requests_max or size > limits.queue_bytes_max

    def _on_register(self, connection: int, request: Request) -> None:
        kept = self._execution.sessions.kept_reply(request.client, 0)
        if kept is not None:
            reach(Mark.REGISTERED_AGAIN)
            self._execution.reply(connection, request.client, kept, replayed=True)
            return
        is_in_flight = (request.client, 0) in self._execution.waiting
        self._execution.waiting[request.client, 0] = connection
        if not is_in_flight:
            self._enqueue(Request(request.client, 0, 0, CODE_REGISTER, b""))

    def _on_confirmed_stranger(self, connection: int, request: Request) -> None:
        if not self.state.is_leading or not self.is_open:
            self._refuse(connection, request, RejectCode.NOT_PRIMARY)
        elif self._execution.sessions.session_of(request.client) != request.session:
            reach(Mark.NO_SESSION_CONFIRMED)
            self._refuse(connection, request, RejectCode.NO_SESSION)
        else:
            self._on_number(connection, request)

    def _on_number(self, connection: int, request: Request) -> None:
        sessions = self._execution.sessions
        client, number = request.client, request.number
        ordered = sessions.last_number(client)
        last = max(self._admitted.get((client, request.session), 0), ordered)
        if number == 0 or number > last + self.state.limits.session_window:
            reach(Mark.WINDOW_REFUSED)
            self._refuse(connection, request, RejectCode.WINDOW)
        elif number <= last:
            self._on_duplicate(connection, request, ordered)
        elif number == last + 1:
            self._execution.waiting[client, number] = connection
            self._admitted[client, request.session] = number
            self._enqueue(request)
            self._release_held(client, number)
        elif self._is_full_with_parked(len(request.body)):
            self._refuse(connection, request, RejectCode.BUSY)
        else:
            self._execution.waiting[client, number] = connection
            held = self._held.setdefault(client, {})
            if number not in held:
                reach(Mark.HELD_AHEAD)
                held[number] = request
                self._held_count += 1
                self._parked_bytes += len(request.body)

    def _on_duplicate(self, connection: int, request: Request, ordered: int) -> None:
        """In flight: the one reply goes to the newest connection. Applied: the kept reply."""
        kept = self._execution.sessions.kept_reply(request.client, request.number)
        if kept is not None:
            reach(Mark.DUPLICATE_ANSWERED)
            self._execution.reply(connection, request.client, kept, replayed=True)
        elif request.number <= ordered - self.state.limits.session_window:
            reach(Mark.DUPLICATE_FORGOTTEN)
            self._refuse(connection, request, RejectCode.STALE)
        else:
            reach(Mark.DUPLICATE_IN_FLIGHT)
            self._execution.waiting[request.client, request.number] = connection

    def _release_held(self, client: bytes, number: int) -> None:
        held = self._held.get(client)
        if held is None:
            return
        while (request := held.pop(number + 1, None)) is not None:
            number += 1
            self._held_count -= 1
            self._parked_bytes -= len(request.body)
            self._admitted[client, request.session] = number
            self._enqueue(request)
        if not held:
            del self._held[client]

    def _enqueue(self, request: Request) -> None:
        self.queue.append(
            OrderedRequest(request.client, request.session, request.number, request.code, request.body)
        )  # fmt: skip
        self.queue_bytes += len(request.body) + REQUEST_OVERHEAD

    def _refuse(self, connection: int, request: Request, code: RejectCode) -> None:
        retry_ms = BUSY_RETRY_MS if code is RejectCode.BUSY else 0
        self.state.reject(connection, request.client, request.session, request.number, code, retry_ms)

    # --- The pump's side ----------------------------------------------------------------------------

    def is_batch_full(self) -> bool:
        """Whether the queue holds a batch worth sending while others are in flight."""
        limits = self.state.limits
        return len(self.queue) >= limits.batch_requests_max or self.queue_bytes >= limits.batch_bytes_full

    def take_batch(self) -> list[OrderedRequest]:
        """Up to one batch, in order, within the limits of a prepare."""
        limits = self.state.limits
        batch: list[OrderedRequest] = []
        size = 0
        while self.queue and len(batch) < limits.batch_requests_max:
            cost = len(self.queue[0].body) + REQUEST_OVERHEAD
            if batch and size + cost > limits.batch_bytes_full:
                break
            batch.append(self.queue.popleft())
            size += cost
        self.queue_bytes -= size
        return batch

    def forget_applied(self) -> None:
        """Keep the map small: what the table knows need not be kept beside it."""
        if len(self._admitted) > 2 * self.state.limits.sessions_max:
            sessions = self._execution.sessions
            self._admitted = {
                (client, session): number
                for (client, session), number in self._admitted.items()
                if sessions.session_of(client) == session and sessions.last_number(client) < number
            }
