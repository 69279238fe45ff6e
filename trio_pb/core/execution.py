"""Committed ops go to the state machine, results come back as replies (R-APPLY, PROTOCOL 5.4).

Owns the session table and the probe. Runs in every status: what is committed stays committed.
"""

from __future__ import annotations

from trio_pb import canonical
from trio_pb.core.messages import CODE_REGISTER, NO_PROBE, Probe, RejectCode, Reply
from trio_pb.core.ports import Applied, Apply
from trio_pb.core.prepare import Prepare, PrepareId, PrepareKind, checksum_of
from trio_pb.core.repair import Repair
from trio_pb.core.sessions import KeptReply, Outcome, OutcomeKind, SessionTable
from trio_pb.core.state import State

__all__ = ["Execution"]


class Execution:
    """Applies in order and answers whoever waits here."""

    def __init__(self, state: State, repair: Repair) -> None:
        self.state = state
        self._repair = repair
        self.sessions = SessionTable(state.limits.sessions_max, state.limits.session_window)
        self.waiting: dict[tuple[bytes, int], int] = {}  # (client, number) -> connection that wants the reply.
        self.probe: Probe = NO_PROBE  # At the last multiple of probe_interval_ops.
        self._rolling = NO_PROBE.digest
        self._applying_checksum: bytes | None = None  # Of the op at `applying`.
        self._checksums: dict[int, bytes] = {}  # Of ops applying, for the probe.

    # --- Committed -> state machine -------------------------------------------------------------

    def advance(self) -> None:
        """Give out every op that is committed, identified and in memory; read ahead what is on disk."""
        state, log = self.state, self.state.log
        limit = min(state.commit_max, log.head)
        while state.applying < limit:
            prepare = log.body(state.applying + 1)
            if prepare is None or prepare.checksum != log.checksum(prepare.op):
                break
            self._apply(prepare)
        if state.applying < limit:
            self._read_ahead(limit)

    def _apply(self, prepare: Prepare) -> None:
        state = self.state
        below = self._applying_checksum or state.log.base.checksum
        assert prepare.parent == below, f"op {prepare.op} does not continue what was applied (INV-2)"
        requests = prepare.requests() if prepare.kind is PrepareKind.BATCH else ()
        items = self.sessions.plan(prepare, requests)
        state.applying = prepare.op
        self._applying_checksum = prepare.checksum
        self._checksums[prepare.op] = prepare.checksum
        state.note_timestamps(prepare)
        state.outputs.append(Apply(prepare.op, prepare.timestamp, prepare.release, items))

    def _read_ahead(self, limit: int) -> None:
        log = self.state.log
        for op in range(self.state.applying + 1, min(limit, self.state.applying + self.state.limits.wal_reads_max) + 1):
            checksum = log.checksum(op)
            if checksum is not None and log.body(op) is None and log.hold(op):
                self._repair.read(PrepareId(op, checksum))

    # --- Results -> replies -----------------------------------------------------------------------

    def on_applied(self, message: Applied) -> None:
        """The state machine executed an op: keep its replies, answer, extend the probe."""
        state = self.state
        assert message.op == state.applied + 1, "ops are applied one after the other"
        outcomes = self.sessions.resolve(message.op, message.results)
        state.applied = message.op
        rolling = self._rolling + self._checksums.pop(message.op) + b"".join(message.results)
        self._rolling = checksum_of(rolling)
        if message.op % state.limits.probe_interval_ops == 0:
            self.probe = Probe(message.op, self._rolling)
        if self.waiting:
            for outcome in outcomes:
                self._answer(outcome)
        if state.log.bodies_in_memory > 2 * state.limits.body_cache_ops:
            state.log.drop_bodies(min(state.applied, state.log.head - state.limits.body_cache_ops))

    @property
    def rolling_probe(self) -> Probe:
        """The probe as of `applied`, for comparison from outside (INV-20)."""
        return Probe(self.state.applied, self._rolling)

    def _answer(self, outcome: Outcome) -> None:
        request = outcome.request
        connection = self.waiting.pop((request.client, request.number), None)
        if connection is None:
            return
        if outcome.reply is not None:
            self.reply(connection, request.client, outcome.reply, replayed=outcome.kind is OutcomeKind.REPLAYED)
            return
        codes = {
            OutcomeKind.NO_SESSION: RejectCode.NO_SESSION,
            OutcomeKind.GAP: RejectCode.WINDOW,
            OutcomeKind.FORGOTTEN: RejectCode.STALE,
        }
        self.state.reject(connection, request.client, request.session, request.number, codes[outcome.kind])

    def reply(self, connection: int, client: bytes, kept: KeptReply, *, replayed: bool) -> None:
        """Give a receipt."""
        session = self.sessions.session_of(client)
        if session is None:
            # Evicted by a later op of the same turn; a registration's result names the session.
            session = 0
        if kept.number == 0:
            named = canonical.decode(kept.result)
            assert isinstance(named, int), f"the result of a registration (code {CODE_REGISTER}) is its session"
            session = named
        reply = Reply(
            client, session, kept.number, kept.op, self.state.view, kept.timestamp, replayed, kept.result
        )  # fmt: skip
        self.state.reply(connection, reply)

    def forget_connection(self, connection: int) -> None:
        """Nobody reads replies there any more."""
        self.waiting = {key: waiting for key, waiting in self.waiting.items() if waiting != connection}

    def drop_waiting(self) -> list[tuple[tuple[bytes, int], int]]:
        """Nobody waits here any more; returns who did, as ((client, number), connection)."""
        dropped = sorted(self.waiting.items())
        self.waiting.clear()
        return dropped
