"""Fetching what this replica lacks, and serving what others lack (PROTOCOL 8.1).

Identities first (R-IDS), then bodies in ascending order, within a budget, so that the apply of old ops
and the fetch of newer ones go on together. While a new primary prepares its view, the log repaired is
the one it has selected, not yet the one installed.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.log import Hold, Log
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import Envelope, GetIds, GetPrepares, Ids, PrepareCopy
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import WalRead
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.state import State
from trio_pb.core.timeout import NEVER

__all__ = ["IDS_MAX", "Repair"]

IDS_MAX = 1024  # Identities in one answer: 16 KiB.
SERVE_PERIOD_TICKS = 10


@attrs.define(eq=False)
class _Asked:
    replica: int
    ops: frozenset[int]
    deadline_tick: int


@attrs.define(eq=False)
class _Serving:
    period_start_tick: int = 0
    bytes_served: int = 0


class Repair:
    """Needs, outstanding requests, and record reads in flight."""

    def __init__(self, state: State, persistence: Persistence, peers: Peers) -> None:
        self.state = state
        self._persistence = persistence
        self._peers = peers
        self.candidate: Log | None = None  # The log a new primary selected; set by view_change.
        self.candidate_base = 0  # Ops up to here are committed in it.
        self.installing: Log | None = None  # The log whose superblock image is on its way; set by view_change.
        self.holders: dict[int, tuple[int, ...]] = {}  # Op -> voters that said they hold it; candidate only.
        self.primary_head = 0  # Head that the primary of our view told; ops up to it exist.
        self.ahead: dict[int, Prepare] = {}  # Prepares above a gap, in memory; kept by normal.
        self._asked: list[_Asked] = []
        self._ids_asked_until = 0
        self._patience: dict[int, int] = {}  # Peer -> ticks we give it to answer.
        self._turn = 0  # Rotates over the sources.
        self._silent: dict[int, int] = {}  # Op -> who was asked for it last, and gave no answer in time.
        self._reading: dict[PrepareId, list[int]] = {}  # Record reads in flight -> peers that wait.
        self._serving: dict[int, _Serving] = {}

    @property
    def log(self) -> Log:
        """The log being repaired."""
        return self.candidate if self.candidate is not None else self.state.log

    def logs(self) -> tuple[Log, ...]:
        """Every log that a completed read or write may concern."""
        others = (self.candidate, self.installing)
        return (self.state.log, *(log for log in others if log is not None))

    def forget(self) -> None:
        """Another view or another log: what we asked for is moot."""
        self.forget_requests()
        self.candidate = None
        self.candidate_base = 0
        self.holders = {}
        self.primary_head = 0

    def forget_requests(self) -> None:
        """Ask anew: whoever was asked may not be the one to ask now."""
        self._asked.clear()
        self._silent.clear()
        self._ids_asked_until = 0

    @property
    def next_deadline_tick(self) -> int:
        """When an outstanding request runs out."""
        if not self._asked and not self._ids_asked_until:
            return NEVER
        deadlines = [asked.deadline_tick for asked in self._asked]
        if self._ids_asked_until > self.state.now_tick:
            deadlines.append(self._ids_asked_until)
        return min(deadlines, default=NEVER)

    # --- Asking -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Ask for what is missing, as far as the budget goes."""
        log = self.log
        if log.appended_prefix == log.head and self.primary_head <= log.head:
            self._asked.clear()  # Nothing is missing, which is nearly always.
            self._silent.clear()
            return
        self._reappend_found()
        self._give_up_late()
        self._ask_identities()
        self._ask_bodies()

    def _give_up_late(self) -> None:
        now_tick = self.state.now_tick
        for asked in self._asked:
            if asked.deadline_tick <= now_tick:
                reach(Mark.REPAIR_LATE)
                patience = self._patience.get(asked.replica, self.state.timeouts.repair_ticks)
                self._patience[asked.replica] = min(patience * 2, self.state.timeouts.repair_ticks_max)
                self._silent.update(dict.fromkeys(asked.ops, asked.replica))
        self._asked = [asked for asked in self._asked if asked.deadline_tick > now_tick]
        have = self.log.appended_prefix
        self._silent = {op: replica for op, replica in self._silent.items() if op > have}

    def _ask_identities(self) -> None:
        """R-IDS: learn which prepares stand below the commit point, from the top down."""
        log = self.log
        if self._ids_asked_until > self.state.now_tick:
            return
        unknown = log.lowest_unknown()
        if unknown is None:
            return
        top = unknown
        while log.checksum(top) is None:
            top += 1
        low = max(unknown, top - IDS_MAX + 1)
        table = self._peers.table
        sources = [peer for peer in self._peers.sources() if table[peer].wal_low < top <= table[peer].commit]
        if sources:
            reach(Mark.IDENTITIES_ASKED)
            self._ids_asked_until = self.state.now_tick + self.state.timeouts.repair_ticks
            self.state.send((self._pick(sources, top),), GetIds(low, top))

    def on_ids(self, _envelope: Envelope, message: Ids) -> None:
        """Take identities that end in one that we know; anything else is another log's."""
        log = self.log
        top = message.low + len(message.checksums) - 1
        self._ids_asked_until = 0
        if not message.checksums or message.low <= log.base.op or log.checksum(top) != message.checksums[-1]:
            reach(Mark.IDENTITIES_REFUSED)
            return
        for op in range(top - 1, message.low - 1, -1):
            known = log.checksum(op)
            if known is None:
                log.learn(op, message.checksums[op - message.low])
            elif known != message.checksums[op - message.low]:
                raise ContradictionError(f"another entry than ours is committed elsewhere at op {op}")
        self.state.progress += 1
        log.settle_prefixes()

    def _ask_bodies(self) -> None:
        state, log = self.state, self.log
        budget = state.limits.repair_requests_max - len(self._asked)
        if budget <= 0 or log.appended_prefix - log.durable_prefix > state.limits.send_window_ops:
            return  # What our disk has not taken yet stays in memory: fetch no faster than it writes.
        in_flight = {op for asked in self._asked for op in asked.ops}
        span = state.limits.repair_wanted_max * state.limits.repair_requests_max
        low = max(log.appended_prefix, log.base.op) + 1
        missing = [op for op in log.missing(low, low + 2 * span, span) if op not in in_flight]
        requests = self._requests_for(missing)[:budget]
        for sources, ops in requests:
            self._send_wanted(self._pick(sources, ops[0]), tuple((op, log.checksum(op)) for op in ops))
        if len(requests) < budget and self.candidate is None and state.is_backup:
            self._ask_above_head(in_flight)

    def _requests_for(self, missing: list[int]) -> list[tuple[tuple[int, ...], list[int]]]:
        """Whom to ask for what: ops with the same sources share requests, the lowest op first."""
        state, wanted_max = self.state, self.state.limits.repair_wanted_max
        anybody = tuple(self._peers.sources())
        floor = self.candidate_base if self.candidate is not None else state.commit_max
        requests: list[tuple[tuple[int, ...], list[int]]] = []
        open_: dict[tuple[int, ...], list[int]] = {}  # The newest request to each group of sources.
        for op in missing:
            sources = anybody if op <= floor else self._sources_of_uncommitted(op, anybody)
            if not sources:
                continue
            ops = open_.get(sources)
            if ops is None or len(ops) == wanted_max:
                ops = open_[sources] = []
                requests.append((sources, ops))
            ops.append(op)
        return requests

    def _sources_of_uncommitted(self, op: int, anybody: tuple[int, ...]) -> tuple[int, ...]:
        state = self.state
        if self.candidate is not None:
            return tuple(replica for replica in self.holders.get(op, ()) if replica != state.replica)
        # What is not committed its primary has; a primary that lost it asks whoever acknowledged it.
        if state.primary == state.replica:
            reach(Mark.PRIMARY_REPAIRS)
            return anybody
        return (state.primary,)

    def _ask_above_head(self, in_flight: set[int]) -> None:
        """Ask the primary for ops above our head, whose identities only it can tell."""
        head, limits = self.state.log.head, self.state.limits
        # Not beyond what our log takes, or what can wait for the gap to close: it would be thrown away and asked
        # for again, as fast as the network is.
        room = min(limits.repair_wanted_max, limits.prepare_buffer_max)
        high = min(self.primary_head, head + room, self.state.wal_high)
        wanted = [op for op in range(head + 1, high + 1) if op not in in_flight and op not in self.ahead]
        if wanted:
            self._send_wanted(self.state.primary, tuple((op, None) for op in wanted))

    def _send_wanted(self, replica: int, wanted: tuple[tuple[int, bytes | None], ...]) -> None:
        patience = self._patience.setdefault(replica, self.state.timeouts.repair_ticks)
        ops = frozenset(op for op, _ in wanted)
        self._asked.append(_Asked(replica, ops, self.state.now_tick + patience))
        self.state.counters["repair_requests"] += 1
        self.state.send((replica,), GetPrepares(wanted))

    def _pick(self, sources: Sequence[int], op: int) -> int:
        """Take turns; for an op that somebody did not give, go on to the one after him.

        One turn for all requests would not do: two that run out one after the other went to the same two for ever.
        """
        silent = self._silent.get(op)
        if silent is not None:
            return min(sources, key=lambda replica: (replica <= silent, replica))
        self._turn += 1
        return sources[self._turn % len(sources)]

    def note_arrival(self, replica: int, op: int) -> None:
        """A body arrived, asked for or not: stop waiting for it."""
        self._silent.pop(op, None)
        if not self._asked:
            return
        still: list[_Asked] = []
        for asked in self._asked:
            if op in asked.ops:
                asked.ops -= {op}
                if asked.replica == replica:
                    self._patience[replica] = self.state.timeouts.repair_ticks
            if asked.ops:
                still.append(asked)
        self._asked = still

    def take(self, prepare: Prepare) -> bool:
        """Take a body that the log lacks; whether it was one. It is written like a new record."""
        log = self.log
        if log.checksum(prepare.op) != prepare.checksum or log.hold(prepare.op) >= Hold.FOUND:
            return False
        below = log.checksum(prepare.op - 1)
        if below is not None and below != prepare.parent:
            raise ContradictionError(
                f"op {prepare.op} continues another entry than the one at op {prepare.op - 1} here"
            )
        log.fill(prepare)
        own = self.state.log
        if log is not own and own.checksum(prepare.op) == prepare.checksum and own.hold(prepare.op) < Hold.HELD:
            own.fill(prepare)
        self._persistence.append(prepare)
        self.state.note_timestamps(prepare)
        self.state.progress += 1
        self.state.trace("repaired", op=prepare.op)
        return True

    # --- Our own records ----------------------------------------------------------------------------

    def read(self, id_: PrepareId) -> None:
        """Read a record of ours into memory, once."""
        if id_ not in self._reading and len(self._reading) < self.state.limits.wal_reads_max:
            self._reading[id_] = []
            self.state.outputs.append(WalRead(id_))

    def on_read_done(self, id_: PrepareId, prepare: Prepare | None) -> None:
        """A record was read, or turned out missing or damaged."""
        waiting = self._reading.pop(id_, [])
        if prepare is None:
            self.lose(id_)
            return
        self.state.note_timestamps(prepare)
        is_found = False
        for log in self.logs():
            if log.checksum(id_.op) != id_.checksum:
                continue
            if log.hold(id_.op) == Hold.FOUND:
                log.fill(prepare)
                is_found = True
            elif log.hold(id_.op) == Hold.DURABLE and id_.op > self.state.applying:
                log.cache(prepare)  # What is applied was read for a peer; it need not stay in memory.
        if is_found:
            self._persistence.append(prepare)
        for replica in waiting:
            reach(Mark.SERVED_FROM_DISK)
            self._serve(replica, prepare)

    def lose(self, id_: PrepareId) -> None:
        """A record that we thought we hold is missing or damaged: a fault, to be repaired (PROTOCOL 7.5)."""
        state = self.state
        # A view that is being installed has a log of its own; either may have the body in memory.
        bodies = (log.body(id_.op) for log in self.logs())
        body = next((it for it in bodies if it is not None and it.checksum == id_.checksum), None)
        is_lost = False
        for log in self.logs():
            if log.checksum(id_.op) != id_.checksum or log.hold(id_.op) not in (Hold.FOUND, Hold.DURABLE):
                continue
            if id_.op <= max(log.base.op, min(state.checkpoint.op, state.certified.op)):
                state.raise_commit(id_.op, id_.checksum)
                reach(Mark.BASE_RAISED)
                log.free(id_.op)  # No replay of ours needs it, nor what stands below (PROTOCOL 8.1).
                continue
            log.lose(id_.op)
            is_lost = True
            reach(Mark.RECORD_LOST)
            state.trace("record_lost", op=id_.op)
            if body is not None:
                log.fill(body)
        if is_lost and body is not None:
            reach(Mark.RECORD_REWRITTEN)
            self._persistence.append(body)
        elif is_lost and len(state.configuration.voters) == 1 and id_.op <= state.acked:
            text = f"the record of op {id_.op} is unreadable and there is no other replica: restore from a backup"
            self.state.fatal("unrecoverable", text)

    def _reappend_found(self) -> None:
        """Write again what a restart found but cannot prove durable (R-SCAN 6)."""
        for log in self.logs():
            op = log.appended_prefix + 1
            while op <= log.head and log.hold(op) == Hold.FOUND and op <= log.appended_prefix + 32:
                self.read(log.id(op))
                op += 1

    # --- Serving ------------------------------------------------------------------------------------

    def on_get_ids(self, envelope: Envelope, message: GetIds) -> None:
        """Tell identities up to our commit point, as far as we know them (R-IDS)."""
        log = self.state.log
        high = min(message.high, self.state.commit_max, log.head)
        low = max(message.low, high - IDS_MAX + 1, log.base.op + 1)
        if low <= high and high == message.high and log.is_identified(low, high):
            checksums = tuple(log.id(op).checksum for op in range(low, high + 1))
            self.state.send((envelope.replica,), Ids(low, checksums))

    def on_get_prepares(self, envelope: Envelope, message: GetPrepares) -> None:
        """Send what we hold; silence about the rest (PROTOCOL 3.2)."""
        log = self.state.log
        for op, named in message.wanted:
            # Only the primary of a view can name what stands above everybody's commit point.
            may_name = self.state.is_primary and envelope.view == self.state.view
            checksum = named if named is not None else (log.checksum(op) if may_name else None)
            if checksum is not None:
                self._serve_wanted(envelope.replica, PrepareId(op, checksum))

    def _serve_wanted(self, replica: int, wanted: PrepareId) -> None:
        for log in self.logs():
            body = log.body(wanted.op)
            if body is not None and body.checksum == wanted.checksum:
                self._serve(replica, body)
                return
        self.read(wanted)
        if wanted in self._reading and replica not in self._reading[wanted]:
            self._reading[wanted].append(replica)

    def may_serve(self, replica: int, size: int) -> bool:
        """Whether `size` more bytes fit into what one peer may take of us in a period; they are counted."""
        serving = self._serving.setdefault(replica, _Serving(self.state.now_tick))
        if self.state.now_tick - serving.period_start_tick >= SERVE_PERIOD_TICKS:
            serving.period_start_tick, serving.bytes_served = self.state.now_tick, 0
        if serving.bytes_served + size > self.state.limits.repair_serve_bytes_max:
            self.state.counters["repair_throttled"] += 1
            reach(Mark.SERVING_THROTTLED)
            return False
        serving.bytes_served += size
        return True

    def _serve(self, replica: int, prepare: Prepare) -> None:
        """Send a copy, within what one peer may take of us in a period."""
        if not self.may_serve(replica, len(prepare.header) + len(prepare.payload)):
            return
        # Judged now, not when it was asked for: a record read meanwhile may have left our log (T-37).
        is_current = self.state.is_primary and self.state.log.checksum(prepare.op) == prepare.checksum
        self.state.send((replica,), PrepareCopy(prepare, is_current))
