"""Linearizable reads without a write: read index with a confirming round (PROTOCOL 10).

A read waits until a round that began after its arrival was echoed in our view by a read quorum: then
nobody led a newer view when the read began. All reads that arrive meanwhile share the next round.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from trio_pb import canonical
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import Envelope, Read, ReadIndex, ReadIndexOk, ReadMode, RejectCode, Reply
from trio_pb.core.ports import Answer, Query, QueryItem
from trio_pb.core.state import State
from trio_pb.core.timeout import Timeout

__all__ = ["Reads"]

RETRY_MS = 50


@attrs.define(eq=False)
class _Waiting:
    """Something that waits for a confirmed position: a client's read, a backup's, or a check of ours."""

    min_op: int
    round: int  # Confirmed once this round is; at a backup the counter of its read_index.
    confirmed_op: int | None  # The read index; None until known.
    connection: int
    read: Read | None
    index: tuple[int, ReadIndex] | None  # (backup, its request)
    then: Callable[[], None] | None  # Our own check, run when confirmed and applied.


class Reads:
    """Queues and rounds. A round is named by a counter per view and boot."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.round = 0  # The newest round begun; prepares and heartbeats carry it.
        self.round_is_due = False  # A heartbeat should leave now.
        self._echoed: dict[int, int] = {}  # Voter -> highest round echoed in this view.
        self._waiting: list[_Waiting] = []
        self._tokens: dict[int, tuple[int, Read, int]] = {}  # Queries given out -> (connection, read, op).
        self._token = 0
        self._index_counter = 0
        self.index_timeout = Timeout("read_index")  # Looked at in any step, hence without a method of its own.

    def __len__(self) -> int:
        return len(self._waiting) + len(self._tokens)

    # --- Arrival ----------------------------------------------------------------------------------

    def on_read(self, connection: int, message: Read) -> None:
        """A client wants an answer from applied state."""
        state = self.state
        if not self._may_serve():
            reach(Mark.READ_REFUSED_UNFIT)
        if len(self) >= state.limits.reads_max or not self._may_serve():
            state.reject(connection, message.client, 0, message.number, RejectCode.BUSY, RETRY_MS)
        elif message.cursor:
            self._continue_scan(connection, message)
        elif state.is_leading and message.min_op > state.log.head:
            # No receipt can name an op that its primary does not have.
            state.reject(connection, message.client, 0, message.number, RejectCode.BAD_REQUEST)
        elif state.is_leading:
            self._wait(connection=connection, read=message, min_op=message.min_op)
        elif message.mode is ReadMode.LINEARIZABLE_HERE:
            if not state.is_backup:
                state.reject(connection, message.client, 0, message.number, RejectCode.BUSY, RETRY_MS)
                return
            self._wait_at_backup(connection, message)
        else:
            state.reject(connection, message.client, 0, message.number, RejectCode.NOT_PRIMARY)

    def _may_serve(self) -> bool:
        """Whether our state is what the log says, or will be before a read is answered (PROTOCOL 10.2)."""
        state = self.state
        return not (state.is_untrusted or state.is_state_lost or "syncing" in state.unfit)

    def on_read_index(self, envelope: Envelope, message: ReadIndex) -> None:
        """A backup wants to answer a read (PROTOCOL 10.2)."""
        if self.state.is_leading and envelope.view == self.state.view and len(self) < self.state.limits.reads_max:
            self._wait(index=(envelope.replica, message))

    def confirm(self, then: Callable[[], None]) -> bool:
        """Run `then` once it is certain that we still led after now, and all before now is applied.

        Returns False, and does nothing, when too many wait already.
        """
        if len(self) >= self.state.limits.reads_max:
            return False
        self._wait(then=then)
        return True

    def _wait(
        self,
        *,
        connection: int = 0,
        read: Read | None = None,
        index: tuple[int, ReadIndex] | None = None,
        min_op: int = 0,
        then: Callable[[], None] | None = None,
    ) -> None:
        # (b): at least all that was committed when we arrived and all that our view began with.
        min_op = max(min_op, self.state.commit_max, self.state.start_view_head)
        # (c): the round in progress may have begun before us; the next one has not.
        self._waiting.append(_Waiting(min_op, self.round + 1, None, connection, read, index, then))

    def _wait_at_backup(self, connection: int, read: Read) -> None:
        self._waiting.append(_Waiting(read.min_op, self._index_counter + 1, None, connection, read, None, None))

    def _continue_scan(self, connection: int, message: Read) -> None:
        """A later page of a scan: its state is pinned here, or nowhere (PROTOCOL 10.5)."""
        state = self.state
        inner: bytes | None = None
        pinned_op = 0
        try:
            value = canonical.decode(message.cursor)
        except canonical.CanonicalError:
            value = None
        if isinstance(value, list) and len(value) == 5:
            replica, incarnation, boot, op, rest = value
            is_ours = [replica, incarnation, boot] == [state.replica, state.incarnation[:8], state.boot]
            if is_ours and isinstance(op, int) and isinstance(rest, bytes):
                pinned_op, inner = op, rest
        if inner is None:
            reach(Mark.SNAPSHOT_GONE)
            state.reject(connection, message.client, 0, message.number, RejectCode.SNAPSHOT_GONE)
            return
        self._query([(connection, message, inner)], pinned_op)

    # --- Rounds at the primary ----------------------------------------------------------------------

    def on_echo(self, replica: int, round_: int) -> None:
        """A voter echoed a round in our view."""
        if self.state.is_primary and self.state.is_voter(replica):
            self._echoed[replica] = max(self._echoed.get(replica, 0), round_)

    def _confirmed_round(self) -> int:
        state = self.state
        echoes = sorted([self.round, *(self._echoed.get(r, 0) for r in state.voters_but_self)], reverse=True)
        return echoes[state.quorums.read - 1]

    # --- Read index at a backup -----------------------------------------------------------------------

    def on_read_index_ok(self, message: ReadIndexOk) -> None:
        """The primary told a position for all reads that waited when we asked."""
        if message.boot != self.state.boot or not self.state.is_backup:
            return
        still: list[_Waiting] = []
        for waiting in self._waiting:
            if waiting.confirmed_op is None and waiting.round <= message.counter:
                if waiting.read is not None and waiting.min_op > message.op:
                    read = waiting.read  # Nothing beyond the commit point can have been acknowledged to anyone.
                    self.state.reject(waiting.connection, read.client, 0, read.number, RejectCode.BAD_REQUEST)
                    continue
                waiting.confirmed_op = message.op
            still.append(waiting)
        self._waiting = still
        if message.counter == self._index_counter:
            self.index_timeout.stop()  # Whoever came later asks at once.

    # --- Once per step ----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Begin a round if somebody needs one, and answer what is confirmed and applied."""
        if not self._waiting:
            self.index_timeout.stop()
            return
        if self.state.is_leading:
            self._advance_at_primary()
        elif self.state.is_backup:
            self._advance_at_backup()
        self._answer_ready()

    def _advance_at_primary(self) -> None:
        confirmed = self._confirmed_round()
        if confirmed >= self.round and any(waiting.round > self.round for waiting in self._waiting):
            # At most one round is outstanding; everybody who waits shares the next one.
            if len(self._waiting) > 1:
                reach(Mark.ROUND_SHARED)
            self.round += 1
            self.round_is_due = True
            confirmed = self._confirmed_round()  # A single voter confirms by itself.
        for waiting in self._waiting:
            if waiting.confirmed_op is None and waiting.round <= confirmed:
                waiting.confirmed_op = waiting.min_op

    def _advance_at_backup(self) -> None:
        unasked = any(waiting.round > self._index_counter for waiting in self._waiting)
        unanswered = any(waiting.confirmed_op is None for waiting in self._waiting)
        is_late = self.index_timeout.is_due(self.state.now_tick)
        if (unasked and not self.index_timeout.running) or (unanswered and is_late):
            self._index_counter += 1
            self.index_timeout.start(self.state.now_tick, self.state.timeouts.wish_ticks)
            self.state.send((self.state.primary,), ReadIndex(self.state.boot, self._index_counter))
        elif not unanswered:
            self.index_timeout.stop()

    def _answer_ready(self) -> None:
        state = self.state
        still: list[_Waiting] = []
        queries: list[tuple[int, Read, bytes]] = []
        checks: list[Callable[[], None]] = []
        for waiting in self._waiting:
            if waiting.confirmed_op is None:
                still.append(waiting)
            elif waiting.index is not None:
                backup, request = waiting.index
                state.send((backup,), ReadIndexOk(request.boot, request.counter, waiting.confirmed_op))
            elif waiting.then is not None and waiting.confirmed_op <= state.applied:
                checks.append(waiting.then)
            elif waiting.read is not None and waiting.confirmed_op <= state.applying and self._may_serve():
                if state.is_backup:
                    reach(Mark.READ_HERE)
                queries.append((waiting.connection, waiting.read, b""))
            else:
                reach(Mark.READ_WAITS_TO_APPLY)
                still.append(waiting)
        self._waiting = still
        if queries:
            self._query(queries, state.applying)
        for check in checks:
            check()

    # --- Evaluation -----------------------------------------------------------------------------------

    def _query(self, reads: list[tuple[int, Read, bytes]], op: int) -> None:
        """Evaluate `reads`, whose answers show the state as of `op`."""
        items: list[QueryItem] = []
        for connection, read, cursor in reads:
            self._token += 1
            self._tokens[self._token] = (connection, read, op)
            items.append(QueryItem(self._token, connection, read.code, read.body, cursor))
        self.state.outputs.append(Query(self.state.applying, self.state.now_tick, tuple(items)))

    def on_answers(self, answers: tuple[Answer, ...]) -> None:
        """The state machine evaluated reads."""
        state = self.state
        for token, result, cursor, error in answers:
            connection, read, op = self._tokens.pop(token)
            if not self._may_serve():
                state.reject(connection, read.client, 0, read.number, RejectCode.BUSY, RETRY_MS)
                continue
            if error:
                code = RejectCode.SNAPSHOT_GONE if error == "snapshot_gone" else RejectCode.BAD_REQUEST
                if code is RejectCode.SNAPSHOT_GONE:
                    reach(Mark.SNAPSHOT_GONE)
                state.reject(connection, read.client, 0, read.number, code)
                continue
            wrapped = b""
            if cursor:
                wrapped = canonical.encode([state.replica, state.incarnation[:8], state.boot, op, cursor])
            state.reply(connection, Reply(read.client, 0, read.number, op, state.view, 0, False, result, wrapped))

    def forget_connection(self, connection: int) -> None:
        """A client is gone: what it waited for need not be evaluated."""
        self._waiting = [
            waiting for waiting in self._waiting if waiting.read is None or waiting.connection != connection
        ]

    # --- View change ------------------------------------------------------------------------------------

    def drop_all(self) -> None:
        """We neither lead nor follow as before: everybody who waits shall ask again."""
        for waiting in self._waiting:
            read = waiting.read
            if read is not None:
                reach(Mark.READ_DROPPED)
                code = RejectCode.BUSY if read.mode is ReadMode.LINEARIZABLE_HERE else RejectCode.NOT_PRIMARY
                self.state.reject(waiting.connection, read.client, 0, read.number, code, RETRY_MS)
        self._waiting.clear()
        self._echoed.clear()
        self.index_timeout.stop()
        self.round_is_due = False
