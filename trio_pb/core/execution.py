"""Committed ops go to the state machine, results come back as replies (R-APPLY, PROTOCOL 5.4).

Owns the session table and the probe. Runs in every status: what is committed stays committed.
"""

from __future__ import annotations

from collections import deque

from trio_pb import canonical
from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.manifest import CoreState, KeptReply
from trio_pb.core.messages import CODE_REGISTER, NO_PROBE, Probe, RejectCode, Reply
from trio_pb.core.ports import Applied, Apply
from trio_pb.core.prepare import NO_CHECKSUM, Prepare, PrepareId, PrepareKind, checksum_of, genesis
from trio_pb.core.repair import Repair
from trio_pb.core.sessions import Outcome, OutcomeKind, SessionTable
from trio_pb.core.state import State

__all__ = ["Execution"]


class Execution:
    """Applies in order and answers whoever waits here."""

    def __init__(self, state: State, repair: Repair) -> None:
        self.state = state
        self._repair = repair
        self.sessions = SessionTable(state.limits.sessions_max, state.limits.session_window)
        self.waiting: dict[tuple[bytes, int], int] = {}  # (client, number) -> connection that wants the reply.
        self.applied_checksum = NO_CHECKSUM  # Of the op at `applied`.
        self.applied_release = 0  # In force there: what replicas of several releases agree on (PROTOCOL 11).
        self.applied_timestamp = 0  # Of the last request in it, in nanoseconds.
        self._rolling = NO_PROBE.digest
        self._applying_checksum = NO_CHECKSUM  # Of the op at `applying`.
        self._under_way: deque[Prepare] = deque()  # Given to the state machine, not confirmed.

    def start(self) -> None:
        """Begin with an empty state: nothing was ever applied."""
        state = self.state
        self.applied_checksum = self._applying_checksum = genesis(state.cluster).checksum
        self._limit()

    def restore(self, core: CoreState) -> None:
        """Go on from a checkpoint that the application was loaded from."""
        state = self.state
        self._under_way.clear()
        self.sessions.restore(core.sessions)
        self._rolling = core.probe
        self.applied_checksum = self._applying_checksum = core.checksum
        self.applied_release = core.release
        self.applied_timestamp = core.last_timestamp
        state.last_timestamp = max(state.last_timestamp, core.last_timestamp)
        state.applied = state.applying = core.op
        state.probe = NO_PROBE
        self._limit()

    def _limit(self) -> None:
        """Where applying waits for a checkpoint to be begun: at the next multiple of the interval."""
        interval = self.state.limits.checkpoint_interval_ops
        self.state.apply_limit = (self.state.applied // interval + 1) * interval

    # --- Committed -> state machine -------------------------------------------------------------

    def advance(self) -> None:
        """Give out every op that is committed, identified and in memory; read ahead what is on disk."""
        state, log = self.state, self.state.log
        limit = min(state.commit_max, log.head, state.apply_limit)
        if state.is_untrusted or state.is_state_lost or state.is_switching:
            return  # On wrong, or no, state nothing can be computed.
        while state.applying < limit:
            prepare = log.body(state.applying + 1)
            if prepare is None or prepare.checksum != log.checksum(prepare.op):
                break
            if not self.speaks(prepare.release, f"op {prepare.op}"):
                return
            self._apply(prepare)
        if state.applying < limit:
            self._read_ahead(limit)

    def speaks(self, release: int, what: str) -> bool:
        """Whether we know what `what` means, which is of that release; else stop before it matters (T-32)."""
        options = self.state.options
        if options.release_min <= release <= options.release:
            return True
        known = f"none above {options.release}" if release > options.release else f"none below {options.release_min}"
        self.state.fatal(
            "upgrade_needed",
            f"{what} is of release {release}, and this program knows {known}; start the "
            "version of trio-pb that the others run: this directory is as good as theirs",
        )
        return False

    def _apply(self, prepare: Prepare) -> None:
        state = self.state
        if prepare.parent != self._applying_checksum:
            raise ContradictionError(f"op {prepare.op} does not continue what was applied here (INV-2)")
        requests = prepare.requests() if prepare.kind is PrepareKind.BATCH else ()
        items = self.sessions.plan(prepare, requests)
        state.applying = prepare.op
        self._applying_checksum = prepare.checksum
        self._under_way.append(prepare)
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
        prepare = self._under_way.popleft()
        self.applied_checksum = prepare.checksum
        self.applied_release = prepare.release
        self.applied_timestamp = prepare.timestamp + max(prepare.count, 1) - 1
        self._rolling = checksum_of(self._rolling + prepare.checksum + b"".join(message.results))
        if message.op % state.limits.probe_interval_ops == 0:
            state.probe = Probe(message.op, self._rolling)
        if self.waiting and not state.is_untrusted:
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
