"""Normal case: the primary orders, backups acknowledge, a quorum commits (VRR 4.1, PROTOCOL 5)."""

from __future__ import annotations

from trio_pb.core.admission import Admission
from trio_pb.core.checkpoints import Checkpoints
from trio_pb.core.cluster_clock import ClusterClock
from trio_pb.core.execution import Execution
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import (
    Commit,
    CommitOk,
    Envelope,
    GetStartView,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
)
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.prepare import Prepare, PrepareId, build
from trio_pb.core.reads import Reads
from trio_pb.core.repair import Repair
from trio_pb.core.state import State
from trio_pb.core.timeout import Timeout

__all__ = ["Normal"]


class Normal:
    """Prepares, acknowledgements, commit point and heartbeats of one view."""

    def __init__(
        self,
        state: State,
        persistence: Persistence,
        peers: Peers,
        repair: Repair,
        execution: Execution,
        reads: Reads,
        admission: Admission,
        clock: ClusterClock,
        checkpoints: Checkpoints,
    ) -> None:
        self.state = state
        self._checkpoints = checkpoints
        self._persistence = persistence
        self._peers = peers
        self._repair = repair
        self._execution = execution
        self._reads = reads
        self._admission = admission
        self._clock = clock
        self.heartbeat_timeout = Timeout("heartbeat")  # Primary: T_HB.
        self.suspect_timeout = Timeout("suspect")  # Backup: T_SUSPECT.
        self.acked_ops: dict[int, int] = {}  # Voter -> highest op acknowledged in this view.
        self._acked_sent = 0  # Backup: highest op acknowledged in this view.
        self._round_heard = 0  # Backup: highest read round heard in this view.
        self._buffer = repair.ahead  # Backup: prepares above a gap.
        self._commit_at_start = 0
        self._start_view_requests = 0

    # --- Roles begin and end ------------------------------------------------------------------------

    def start_as_primary(self) -> None:
        """Our log was installed and we lead."""
        state = self.state
        self._reset()
        self._commit_at_start = state.commit_max
        self._peers.forgive_silence()
        self.heartbeat_timeout.start(state.now_tick, state.timeouts.heartbeat_ticks)

    def start_as_backup(self) -> None:
        """The primary's log was installed and we follow."""
        self._reset()
        self.restart_suspicion()

    def stop(self) -> None:
        """The view ends for us."""
        self.heartbeat_timeout.stop()
        self.suspect_timeout.stop()
        self._admission.close()
        self._reads.drop_all()
        self._buffer.clear()

    def _reset(self) -> None:
        self.heartbeat_timeout.stop()
        self.suspect_timeout.stop()
        self.acked_ops = {}
        self._acked_sent = 0
        self._round_heard = 0
        self._buffer.clear()

    def restart_suspicion(self) -> None:
        """The primary showed itself (T_SUSPECT)."""
        timeouts = self.state.timeouts
        after = timeouts.suspect_ticks + self.state.jitter(timeouts.suspect_jitter_ticks)
        self.suspect_timeout.start(self.state.now_tick, after)

    # --- Primary: ordering ----------------------------------------------------------------------------

    def pump(self) -> None:
        """While we lead: make prepares of what is queued, as far as the pipeline allows (PROTOCOL 5.1)."""
        state, admission = self.state, self._admission
        if not admission.is_open:
            admission.try_open(self._commit_at_start)
        while admission.queue and self._has_room() and self._clock.is_set:
            in_flight = state.log.head - state.commit_max
            if in_flight >= state.limits.pipeline_eager_max and not admission.is_batch_full():
                break
            self._prepare()
        admission.forget_applied()

    def _has_room(self) -> bool:
        state, limits = self.state, self.state.limits
        if not state.options.release_min <= self._release_of_log() <= state.options.release:
            return False  # Its first op is on its way into memory, or will stop us when it is executed (T-32).
        in_flight = state.log.head - state.commit_max
        if in_flight >= limits.pipeline_max:
            reach(Mark.PIPELINE_FULL)
            return False
        if state.log.head >= state.certified.op + limits.wal_ops:
            reach(Mark.WAL_FULL)
            return False  # A quorum's checkpoints must keep up, or nobody could ever forget anything (PROTOCOL 9).
        if state.log.head >= self._checkpoints.order_limit:
            reach(Mark.ORDER_WAITS)
            return False  # It could not be applied, and reads would wait for it, as long as the disk may be full.
        # Batches have a size limit, so the bytes in flight are bounded by their number.
        return (in_flight + 1) * limits.batch_bytes_full <= limits.pipeline_bytes_max

    def _release_of_log(self) -> int:
        """What our ops are of: replicas of an earlier release must be able to execute them (T-32). 0: not known yet."""
        log = self.state.log
        if log.head == 0:
            return self.state.options.release_min
        newest = log.body(log.head)
        return newest.release if newest is not None else self._execution.applied_release

    def _prepare(self) -> None:
        state, log = self.state, self.state.log
        requests = self._admission.take_batch()
        timestamp = max(self._clock.now_ns(), state.last_timestamp + 1)
        prepare = build(
            cluster=state.cluster,
            epoch=state.configuration.epoch,
            view=state.view,
            op=log.head + 1,
            parent=log.head_checksum,
            commit=state.commit_max,
            timestamp=timestamp,
            requests=requests,
            release=self._release_of_log(),
        )
        state.last_timestamp = timestamp + len(requests) - 1
        log.append(prepare)
        self._persistence.append(prepare)
        # Ahead of our own disk, and to each directly: one slow peer delays nobody (T-24).
        window = prepare.op - state.limits.send_window_ops
        near = tuple([peer for peer in state.peers if self._acked_or_start(peer) >= window])
        if len(near) < len(state.peers):
            reach(Mark.SEND_WINDOW)
        state.send(near, PrepareMessage(prepare, state.commit_checksum, self._reads.round))

    def _acked_or_start(self, replica: int) -> int:
        return max(self.acked_ops.get(replica, 0), self.state.start_view_head)

    # --- Primary: committing --------------------------------------------------------------------------

    def on_prepare_ok(self, envelope: Envelope, message: PrepareOk) -> None:
        """Note how far a backup is (VRR 4.1)."""
        if not self._is_ours(envelope) or not self.state.is_primary:
            return
        self._peers.note_answer(envelope)
        self._note_acked(envelope.replica, message.acked)
        self._reads.on_echo(envelope.replica, message.round)
        self._note_state(envelope.replica, message)

    def on_commit_ok(self, envelope: Envelope, message: CommitOk) -> None:
        """A backup answers a heartbeat; it heals a lost prepare_ok."""
        if not self._is_ours(envelope) or not self.state.is_primary:
            return
        self._peers.note_answer(envelope)
        self._peers.table[envelope.replica].fit = message.fit
        if message.acked is not None:
            self._note_acked(envelope.replica, message.acked)
        self._reads.on_echo(envelope.replica, message.round)
        self._note_state(envelope.replica, message)

    def _note_state(self, replica: int, message: PrepareOk | CommitOk) -> None:
        self._checkpoints.note_advert(replica, message.checkpoint)
        self._checkpoints.note_probe(replica, message.probe)

    def _note_acked(self, replica: int, acked: PrepareId) -> None:
        if self.state.log.checksum(acked.op) != acked.checksum:
            reach(Mark.LOST_PROPOSAL_ACKED)
            return  # A prepare that lost a view change.
        # One mark per voter: duplicates never make a quorum (T-30).
        self.acked_ops[replica] = max(self.acked_ops.get(replica, 0), acked.op)

    def advance_commit(self) -> None:
        """R-COMMIT: what a replication quorum of this view acknowledged is committed."""
        state = self.state
        self.acked_ops[state.replica] = self._persistence.ackable()
        marks = sorted((self.acked_ops.get(voter, 0) for voter in state.configuration.voters), reverse=True)
        committed = min(marks[state.quorums.replication - 1], state.log.head)
        if committed > state.commit_max:
            if committed > self.acked_ops[state.replica]:
                reach(Mark.COMMITTED_AHEAD_OF_DISK)
            if state.abdicated:
                reach(Mark.COMMITTED_AFTER_ABDICATION)
            state.raise_commit(committed, state.log.checksum(committed))

    # --- Primary: heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Tell backups commit point, head and read round; never waits for storage (PROTOCOL 5.5)."""
        state = self.state
        self.heartbeat_timeout.start(state.now_tick, state.timeouts.heartbeat_ticks)
        self._reads.round_is_due = self._checkpoints.certificate_is_due = False
        message = Commit(state.log.head_checksum, state.commit_checksum, self._reads.round, state.certified)
        state.send(state.peers, message)

    # --- Backup ---------------------------------------------------------------------------------------

    def on_prepare(self, envelope: Envelope, message: PrepareMessage) -> None:
        """Append what the primary ordered, or note the gap (PROTOCOL 5.2)."""
        if not self._is_from_primary(envelope):
            return
        self._hear_primary(envelope, message.commit_checksum, message.round)
        self._repair.note_arrival(envelope.replica, message.prepare.op)
        self._take_prepare(message.prepare)

    def on_prepare_copy(self, envelope: Envelope, message: PrepareCopy) -> None:
        """A body that we asked for by identity, or one from the primary that we asked for by position."""
        prepare = message.prepare
        if prepare.cluster != self.state.cluster:
            return
        self._repair.note_arrival(envelope.replica, prepare.op)
        if self._repair.take(prepare):
            if envelope.replica != self.state.primary:
                reach(Mark.COPY_FROM_BACKUP)
            return
        if prepare.op <= self.state.log.head:
            return
        # Above our head only the primary of our very view can name a prepare (T-37).
        if message.is_current and self._is_from_primary(envelope):
            self._take_prepare(prepare)

    def _take_prepare(self, prepare: Prepare) -> None:
        state, log = self.state, self.state.log
        if prepare.cluster != state.cluster:
            return
        if prepare.op <= log.head:
            known = log.checksum(prepare.op)
            if known is not None and known != prepare.checksum:
                self._ask_start_view()
            else:
                self._repair.take(prepare)
        elif prepare.op == log.head + 1:
            self._append(prepare)
        else:
            self._keep_ahead(prepare)

    def _append(self, prepare: Prepare) -> None:
        state = self.state
        if prepare.op > state.wal_high:
            reach(Mark.JOURNAL_FULL)
            return
        if prepare.parent != state.log.head_checksum:
            self._ask_start_view()
            return
        state.log.append(prepare)
        state.note_timestamps(prepare)
        self._persistence.append(prepare)

    def _keep_ahead(self, prepare: Prepare) -> None:
        """Keep what comes above a gap, the lowest ops first: they are needed first."""
        buffer = self._buffer
        self._repair.primary_head = max(self._repair.primary_head, prepare.op - 1)
        if len(buffer) >= self.state.limits.prepare_buffer_max:
            highest = max(buffer)
            if prepare.op >= highest:
                return
            reach(Mark.GAP_FULL)
            del buffer[highest]
        reach(Mark.GAP_KEPT)
        buffer[prepare.op] = prepare

    def drain_buffer(self) -> None:
        """Append what was kept above a gap, once the gap is closed, by whatever closed it."""
        if not self._buffer:
            return
        while (prepare := self._buffer.pop(self.state.log.head + 1, None)) is not None:
            head = self.state.log.head
            self._append(prepare)
            if self.state.log.head == head:
                return
            reach(Mark.GAP_CLOSED)
        if self._buffer:
            head = self.state.log.head
            for op in [op for op in self._buffer if op <= head]:
                del self._buffer[op]

    def _ask_start_view(self) -> None:
        """Our log and the primary's differ where they must not: count it and take the log anew."""
        self.state.counters["protocol_violations"] += 1
        self._start_view_requests += 1
        self.state.send((self.state.primary,), GetStartView(self._start_view_requests))

    def on_commit(self, envelope: Envelope, message: Commit) -> None:
        """A heartbeat: answer at once, pull what we lack."""
        if not self._is_from_primary(envelope):
            return
        state = self.state
        self._hear_primary(envelope, message.commit_checksum, message.round)
        self._checkpoints.note_certified(message.certified)
        self._repair.primary_head = max(self._repair.primary_head, envelope.op)
        known = state.log.checksum(envelope.op)
        if known is not None and known != message.head_checksum:
            reach(Mark.FORKED_HEAD)
            self._ask_start_view()
        ackable = self._ackable_id()
        if ackable is not None and ackable.op > state.commit_max:
            reach(Mark.ACK_REPEATED)
        answer = CommitOk(self._round_heard, ackable, state.checkpoint, state.probe, state.fit)
        state.send((envelope.replica,), answer, acked=ackable.op if ackable is not None else 0)

    def _hear_primary(self, envelope: Envelope, commit_checksum: bytes | None, round_: int) -> None:
        self._round_heard = max(self._round_heard, round_)
        self.restart_suspicion()
        if envelope.commit <= self.state.commit_max:
            self.state.commit_heard = max(self.state.commit_heard, envelope.commit)
            return
        known = self.state.log.checksum(envelope.commit)
        if None not in (known, commit_checksum) and known != commit_checksum:
            reach(Mark.FORKED_HEAD)
            self._ask_start_view()  # Rather stall than apply what the primary did not commit.
            return
        self.state.commit_heard = max(self.state.commit_heard, envelope.commit)
        self.state.raise_commit(envelope.commit, commit_checksum)

    def acknowledge(self) -> None:
        """R-ACK: one cumulative prepare_ok when more became durable."""
        state = self.state
        if state.log.durable_prefix <= self._acked_sent or not state.is_backup or not state.is_live:
            return
        ackable = self._ackable_id()
        if ackable is None or ackable.op <= self._acked_sent:
            return
        self._acked_sent = ackable.op
        message = PrepareOk(ackable, self._round_heard, state.checkpoint, state.probe)
        state.send((state.primary,), message, acked=ackable.op)

    def _ackable_id(self) -> PrepareId | None:
        op = self._persistence.ackable()
        checksum = self.state.log.checksum(op)
        return PrepareId(op, checksum) if checksum is not None else None

    # --- Checks -----------------------------------------------------------------------------------------

    def _is_ours(self, envelope: Envelope) -> bool:
        return envelope.view == self.state.view and self.state.is_voter(envelope.replica)

    def _is_from_primary(self, envelope: Envelope) -> bool:
        state = self.state
        return state.is_backup and envelope.view == state.view and envelope.replica == state.primary
