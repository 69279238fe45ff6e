"""The session table: replicated state that makes a retry harmless (PROTOCOL 5.4).

Everything here is decided by the log alone, so all replicas decide alike: who has a session, which
number comes next, which replies are kept, who is evicted. Admission at the primary only saves work.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from enum import Enum

import attrs

from trio_pb import canonical
from trio_pb.core.manifest import KeptReply, SessionRow
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import CODE_EMPTY, CODE_REGISTER
from trio_pb.core.ports import ApplyItem
from trio_pb.core.prepare import OrderedRequest, Prepare, checksum_of

__all__ = ["SESSION_SHIFT", "Outcome", "OutcomeKind", "SessionTable"]

SESSION_SHIFT = 16  # A session is named by the op that registered it and its index in the batch.


class OutcomeKind(Enum):
    """What became of one ordered request."""

    EXECUTED = "executed"
    REPLAYED = "replayed"  # Executed before; the kept reply stands.
    FORGOTTEN = "forgotten"  # Executed before; the reply is no longer kept.
    NO_SESSION = "no_session"
    GAP = "gap"  # A number ahead of the next one.


@attrs.frozen
class Outcome:
    """Outcome of one ordered request; `reply` for EXECUTED and REPLAYED."""

    request: OrderedRequest
    kind: OutcomeKind
    reply: KeptReply | None


@attrs.define(eq=False)
class _Session:
    session: int
    last_number: int
    last_op: int
    registered: KeptReply
    replies: deque[KeptReply]
    row: SessionRow | None = None  # As a checkpoint keeps it; None since it was last used.


@attrs.frozen
class _Planned:
    request: OrderedRequest
    kind: OutcomeKind
    session: _Session | None
    item: int | None  # Index into the Apply's items; None when the core answers by itself.
    result: bytes  # The answer when `item` is None.
    timestamp: int


class SessionTable:
    """Client id -> session, ordered by last use, bounded by deterministic eviction."""

    def __init__(self, sessions_max: int, window: int) -> None:
        self._sessions_max = sessions_max
        self._window = window
        # Ordered by last_op (R: least recently used first): every use moves to the end.
        self._table: OrderedDict[bytes, _Session] = OrderedDict()
        self._plans: deque[tuple[int, list[_Planned]]] = deque()  # Given to the state machine, unanswered.

    def __len__(self) -> int:
        return len(self._table)

    # --- Looking --------------------------------------------------------------------------------

    def session_of(self, client: bytes) -> int | None:
        """The session that `client` holds."""
        entry = self._table.get(client)
        return entry.session if entry is not None else None

    def last_number(self, client: bytes) -> int:
        """The last number of `client` that was ordered to execute; the client must hold a session."""
        return self._table[client].last_number

    def kept_reply(self, client: bytes, number: int) -> KeptReply | None:
        """The reply to `number` if it is still kept; number 0 is the registration."""
        entry = self._table.get(client)
        if entry is None:
            return None
        if number == 0:
            return entry.registered
        return next((reply for reply in entry.replies if reply.number == number), None)

    # --- Executing ------------------------------------------------------------------------------

    def plan(self, prepare: Prepare, requests: Sequence[OrderedRequest]) -> tuple[ApplyItem, ...]:
        """Decide for each request of a committed batch whether it executes (the authoritative check).

        Returns what the state machine must execute; `resolve` takes its results.
        """
        items: list[ApplyItem] = []
        planned = [
            self._plan_one(prepare.op, prepare.timestamp + index, index, request, items)
            for index, request in enumerate(requests)
        ]
        self._plans.append((prepare.op, planned))
        return tuple(items)

    def resolve(self, op: int, results: Sequence[bytes]) -> list[Outcome]:
        """Take the state machine's results of `op` and return what became of each request."""
        planned_op, planned = self._plans.popleft()
        assert planned_op == op, f"results of op {op} while {planned_op} was due"
        outcomes: list[Outcome] = []
        for plan in planned:
            reply: KeptReply | None = None
            if plan.kind is OutcomeKind.EXECUTED:
                assert plan.session is not None
                result = plan.result if plan.item is None else results[plan.item]
                reply = KeptReply(plan.request.number, op, plan.timestamp, result)
                if plan.request.code != CODE_REGISTER:
                    plan.session.replies.append(reply)
                    plan.session.row = None
            elif plan.kind is OutcomeKind.REPLAYED:
                reply = self._kept_by(plan.session, plan.request.number)
            kind = plan.kind
            if kind is OutcomeKind.REPLAYED and reply is None:
                kind = OutcomeKind.FORGOTTEN
            outcomes.append(Outcome(plan.request, kind, reply))
        return outcomes

    def rows(self) -> tuple[SessionRow, ...]:
        """The whole table, least recently used first; immutable. Nothing planned may be unresolved."""
        assert not self._plans, "results are due: the table is between two ops"
        for client, entry in self._table.items():
            if entry.row is None:
                replies = tuple(entry.replies)
                entry.row = SessionRow(
                    client, entry.session, entry.last_number, entry.last_op, entry.registered, replies
                )
        return tuple([entry.row for entry in self._table.values() if entry.row is not None])

    def restore(self, rows: Sequence[SessionRow]) -> None:
        """Replace the whole table by that of a checkpoint; the order of `rows` does not matter."""
        self._plans.clear()
        self._table = OrderedDict(
            (
                row.client,
                _Session(row.session, row.last_number, row.last_op, row.registered, deque(row.replies, self._window)),
            )
            for row in sorted(rows, key=lambda row: (row.last_op, row.session))
        )

    def digest(self) -> bytes:
        """Identity of the whole table, for comparison between replicas (INV-20)."""
        rows = [
            [
                client,
                entry.session,
                entry.last_number,
                entry.last_op,
                [[reply.number, reply.op, reply.timestamp, reply.result] for reply in entry.replies],
            ]
            for client, entry in self._table.items()
        ]
        return checksum_of(canonical.encode(rows))

    # --- Inside ---------------------------------------------------------------------------------

    def _plan_one(
        self, op: int, timestamp: int, index: int, request: OrderedRequest, items: list[ApplyItem]
    ) -> _Planned:
        entry = self._table.get(request.client)
        if request.code == CODE_REGISTER:
            return self._plan_register(op, timestamp, index, request, entry)
        if entry is None or entry.session != request.session:
            reach(Mark.STRANGER_APPLIED)
            return _Planned(request, OutcomeKind.NO_SESSION, None, None, b"", timestamp)
        if request.number <= entry.last_number:
            return _Planned(request, OutcomeKind.REPLAYED, entry, None, b"", timestamp)
        if request.number > entry.last_number + 1:
            return _Planned(request, OutcomeKind.GAP, entry, None, b"", timestamp)
        entry.last_number = request.number
        entry.row = None
        self._use(request.client, entry, op)
        item: int | None = None
        if request.code != CODE_EMPTY:
            item = len(items)
            items.append(ApplyItem(index, request.client, request.code, request.body))
        return _Planned(request, OutcomeKind.EXECUTED, entry, item, b"", timestamp)

    def _plan_register(
        self, op: int, timestamp: int, index: int, request: OrderedRequest, entry: _Session | None
    ) -> _Planned:
        if entry is not None:
            return _Planned(request, OutcomeKind.REPLAYED, entry, None, b"", timestamp)
        if len(self._table) >= self._sessions_max:
            self._evict()
        session = (op << SESSION_SHIFT) + index
        result = canonical.encode(session)
        registered = KeptReply(0, op, timestamp, result)
        entry = _Session(session, 0, op, registered, deque(maxlen=self._window))
        self._table[request.client] = entry
        return _Planned(request, OutcomeKind.EXECUTED, entry, None, result, timestamp)

    def _use(self, client: bytes, entry: _Session, op: int) -> None:
        if entry.last_op != op:
            entry.last_op = op
            self._table.move_to_end(client)

    def _evict(self) -> None:
        """Drop the session with the least (last_op, session) (T-21)."""
        reach(Mark.EVICTED)
        candidates = iter(self._table.items())
        client, oldest = next(candidates)
        for other, entry in candidates:
            if entry.last_op != oldest.last_op:
                break  # The table is ordered by last_op.
            if entry.session < oldest.session:
                client, oldest = other, entry
        del self._table[client]

    def _kept_by(self, entry: _Session | None, number: int) -> KeptReply | None:
        assert entry is not None
        if number == 0:
            return entry.registered
        return next((reply for reply in entry.replies if reply.number == number), None)
