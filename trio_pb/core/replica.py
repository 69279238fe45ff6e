"""The seam: one replica as a pure state machine, `step(now_tick, inputs) -> outputs` (PROTOCOL 4).

The way of one order: a request comes in as `FromClient` -> `admission` queues it -> `normal` makes a
prepare of what is queued and gives out `Send` and `WalAppend` -> backups append it and, when `WalDone`
comes in, answer prepare_ok -> `normal` counts a quorum and moves the commit point -> `execution` gives
out `Apply` -> `Applied` comes in -> `ToClient` with the receipt.

Inputs change state; then `_settle` does, in one fixed order, whatever became possible. So nothing
depends on the order in which completions happen to arrive.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from trio_pb.core.admission import Admission
from trio_pb.core.birth import Birth
from trio_pb.core.checkpoints import Checkpoints
from trio_pb.core.cluster_clock import ClusterClock
from trio_pb.core.config import Options, refuse_optimised_python
from trio_pb.core.contradiction import ContradictionError
from trio_pb.core.execution import Execution
from trio_pb.core.leadership import Leadership
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    ChunkPiece,
    Commit,
    CommitOk,
    DoViewChange,
    Envelope,
    GetChunk,
    GetIds,
    GetPrepares,
    GetStartView,
    Gone,
    Hello,
    HelloAck,
    Ids,
    Ping,
    Pong,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    Read,
    ReadIndex,
    ReadIndexOk,
    RejectCode,
    StartView,
    StartViewChange,
    Status,
)
from trio_pb.core.normal import Normal
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import (
    Applied,
    CheckpointDone,
    CheckpointFailed,
    ChunkReadDone,
    ChunkStored,
    FromClient,
    FromPeer,
    Input,
    Installed,
    InstallFailed,
    Link,
    Output,
    Queried,
    Report,
    Scrubbed,
    Space,
    Start,
    SuperblockDone,
    SyncState,
    Tick,
    Transfer,
    WalDone,
    WalReadDone,
)
from trio_pb.core.prepare import genesis
from trio_pb.core.quorum import quorums_of
from trio_pb.core.reads import Reads
from trio_pb.core.recovery import recover
from trio_pb.core.repair import Repair
from trio_pb.core.state import State, primary_of
from trio_pb.core.state_transfer import StateTransfer
from trio_pb.core.timeout import Timeout
from trio_pb.core.upkeep import Upkeep
from trio_pb.core.view_change import ViewChange
from trio_pb.core.wishes import Wishes
from trio_pb.errors import StorageError

__all__ = ["Replica"]

# R-STALE: these mean something only in the view that they were said in.
_VIEW_BOUND = frozenset({PrepareMessage, PrepareOk, Commit, CommitOk, DoViewChange, StartView})
# R-JOIN: these tell of a view that a quorum wished for.
_VIEW_TELLING = frozenset({Ping, Pong, StartViewChange, DoViewChange, PrepareMessage, Commit, StartView})
# A backup that hears these knows that its primary lives.
_PRIMARY_SPEAKS = frozenset({PrepareMessage, Commit})
_DEADLINE_TICK = attrgetter("deadline_tick")
_UNBORN = Status.UNBORN  # Asked for with every frame; to look up a member of a class takes 0.2 us.
_WHAT_REMAINS = (
    "some disk took back what it had made durable, and acknowledged entries are lost. Nothing was changed here: keep "
    "this directory, it may be the only one that has them, and compare it with the others by `trio-pb log inspect` "
    "before any replica goes on"
)
# Somebody unborn neither votes nor serves (INV-26).
_HEARD_UNBORN = frozenset({Hello, HelloAck})


class Replica:
    """One replica, from the start of its process to the end; storage is all that outlives it."""

    def __init__(self, options: Options) -> None:
        refuse_optimised_python()
        state = self.state = State(options)
        self.persistence = Persistence(state)
        self.clock = ClusterClock(state)
        self.peers = Peers(state, self.persistence, self.clock)
        self.repair = Repair(state, self.persistence, self.peers)
        self.execution = Execution(state, self.repair)
        self.checkpoints = Checkpoints(state, self.persistence, self.execution)
        self.transfer = StateTransfer(
            state, self.persistence, self.peers, self.repair, self.execution, self.checkpoints
        )
        self.upkeep = Upkeep(state, self.persistence, self.repair)
        self.reads = Reads(state)
        self.admission = Admission(state, self.execution, self.reads, self.repair)
        self.normal = Normal(
            state,
            self.persistence,
            self.peers,
            self.repair,
            self.execution,
            self.reads,
            self.admission,
            self.clock,
            self.checkpoints,
        )
        self.wishes = Wishes(state, self.peers)
        self.view_change = ViewChange(
            state, self.persistence, self.peers, self.repair, self.normal, self.wishes, self.checkpoints
        )
        self.transfer.is_installing_view = lambda: self.view_change.is_installing
        self.checkpoints.on_diverged = lambda: self.view_change.abdicate("diverged")
        self.leadership = Leadership(state, self.persistence, self.peers, self.normal, self.admission, self.view_change)
        self.birth = Birth(state, self.persistence)
        self._is_started = False
        # The value types differ per key, which a dict's type cannot say.
        self._on_input: dict[type, Callable[[Any], None]] = {
            Start: self._on_start,
            FromPeer: self._on_peer,
            FromClient: self._on_client,
            Tick: self._on_tick,
            WalDone: self._on_wal_done,
            SuperblockDone: self._on_superblock_done,
            WalReadDone: lambda done: self.repair.on_read_done(done.id, done.prepare),
            Applied: self.execution.on_applied,
            Queried: lambda queried: self.reads.on_answers(queried.answers),
            Link: self._on_link,
            Transfer: lambda _: self.leadership.on_transfer(),
            CheckpointDone: self.checkpoints.on_done,
            CheckpointFailed: self.checkpoints.on_failed,
            SyncState: self.transfer.on_sync_state,
            ChunkStored: self.transfer.on_chunk_stored,
            ChunkReadDone: self.transfer.on_chunk_read,
            Installed: self.transfer.on_installed,
            InstallFailed: self.transfer.on_install_failed,
            Scrubbed: self._on_scrubbed,
            Space: self.upkeep.on_space,
        }
        self._on_message: dict[type, Callable[[Envelope, Any], None]] = {
            Hello: self.birth.on_hello,
            HelloAck: self.birth.on_hello_ack,
            Ping: self._on_ping,
            Pong: self._on_pong,
            PrepareMessage: self.normal.on_prepare,
            PrepareOk: self.normal.on_prepare_ok,
            Commit: self.normal.on_commit,
            CommitOk: self.normal.on_commit_ok,
            StartViewChange: self.wishes.on_start_view_change,
            DoViewChange: self.view_change.on_do_view_change,
            StartView: self.view_change.on_start_view,
            GetStartView: self.view_change.on_get_start_view,
            GetIds: self.repair.on_get_ids,
            Ids: self.repair.on_ids,
            GetPrepares: self.repair.on_get_prepares,
            PrepareCopy: self.normal.on_prepare_copy,
            GetChunk: self.transfer.on_get_chunk,
            ChunkPiece: self.transfer.on_chunk_piece,
            Gone: self.transfer.on_gone,
            ReadIndex: self.reads.on_read_index,
            ReadIndexOk: lambda _, message: self.reads.on_read_index_ok(message),
        }
        timers: list[tuple[Timeout, Callable[[], None]]] = [
            (self.birth.hello_timeout, self.birth.on_hello_timeout),
            (self.peers.ping_timeout, self._on_ping_timeout),
            (self.normal.heartbeat_timeout, self._on_heartbeat_timeout),
            (self.normal.suspect_timeout, self.view_change.on_suspect_timeout),
            (self.wishes.resend_timeout, self.wishes.on_resend_timeout),
            (self.view_change.resend_timeout, self.view_change.on_resend_timeout),
            (self.view_change.view_timeout, self.view_change.on_view_timeout),
            (self.view_change.forfeit_timeout, self.view_change.on_forfeit_timeout),
            (self.leadership.transfer_timeout, self.leadership.on_transfer_timeout),
            (self.checkpoints.retry_timeout, self.checkpoints.on_retry_timeout),
            (self.upkeep.scrub_timeout, self.upkeep.on_scrub_timeout),
            (self.upkeep.space_timeout, self.upkeep.on_space_timeout),
        ]
        self._timers = tuple(timers)
        # Looked through after every step. What asks again in any step is due with a timer like all others.
        self._timeouts = (*[timer for timer, _ in timers], self.reads.index_timeout)

    # --- The seam ---------------------------------------------------------------------------------

    def step(self, now_tick: int, inputs: Sequence[Input]) -> list[Output]:
        """Take everything that is ready, in order, and return what to do now.

        `now_tick` counts ticks of 10 ms since this process started and never falls. The first input
        of all is Start; a Tick, if ticks passed, comes last.
        """
        state = self.state
        assert now_tick >= state.now_tick, "time ran back"
        state.now_tick = now_tick
        try:
            for message in inputs:
                self._on_input[type(message)](message)
            if self._is_started:
                self._settle()
                self.invariants()
        except ContradictionError as error:
            state.outputs.clear()
            state.fatal("contradiction", f"{error}: {_WHAT_REMAINS}")
        outputs, state.outputs = state.outputs, []
        return outputs

    @property
    def next_deadline_tick(self) -> int:
        """The earliest tick at which a timer could fire."""
        timers: int = min(map(_DEADLINE_TICK, self._timeouts))
        return min(timers, self.repair.next_deadline_tick, self.transfer.next_deadline_tick)

    def report(self) -> Report:
        """Where this replica stands; changes nothing."""
        state = self.state
        return Report(
            cluster=state.cluster,
            replica=state.replica,
            incarnation=state.incarnation,
            boot=state.boot,
            status=state.status,
            is_primary=state.is_leading,
            primary=self._leader(),
            view=state.view,
            log_view=state.log_view,
            head=state.log.head,
            commit=state.commit_max,
            applied=state.applied,
            acked=state.acked,
            checkpoint=state.checkpoint.op,
            certified=state.certified.op,
            wal_low=state.wal_low,
            unfit=tuple(sorted(state.unfit)),
            configuration=state.configuration,
            peers=tuple(
                (peer.replica, self.peers.is_alive(peer.replica), peer.applied)
                for _, peer in sorted(self.peers.table.items())
            ),
            counters=tuple(sorted(state.counters.items())),
            release=state.options.release,
        )

    def _leader(self) -> int | None:
        """Whom we would send a client to."""
        state = self.state
        if state.status is not Status.NORMAL or state.abdicated:
            return None
        return primary_of(state.view)

    def _settle(self) -> None:
        """Do what became possible, each room once, in the order in which one enables the next."""
        state = self.state
        if self.birth.has_work:
            self._advance_birth()
        if state.is_switching:
            self.transfer.finish_switch()
        self.view_change.advance()
        self.leadership.advance()
        if state.is_primary:
            if state.commit_max < state.log.head:
                self.normal.advance_commit()
        else:
            self.normal.drain_buffer()
            self.normal.acknowledge()
        self.checkpoints.advance()
        if state.applying < state.commit_max:
            self.execution.advance()
        self.transfer.advance()
        self.reads.advance()
        if state.is_leading:
            self.normal.pump()
            if self.reads.round_is_due or self.checkpoints.certificate_is_due:
                self.normal.heartbeat()
        if state.is_live:
            self.repair.advance()
            self.persistence.flush_journal()
        self.persistence.flush_superblock()

    def invariants(self) -> None:
        """What must hold between any two steps (INV-14, INV-30); an impossible state stops us."""
        state, log = self.state, self.state.log
        head = log.head
        assert state.applied <= state.applying <= state.commit_max, "applied what is not committed"
        assert state.applying <= head, "applied what is not in the log"
        assert state.applying <= state.apply_limit, "applied beyond a checkpoint that was not frozen"
        assert state.log_view <= state.view, "a log from a future view"
        assert log.durable_prefix <= log.appended_prefix <= head, "held more than there is"
        if state.is_leading:
            # What a view begins with may be as long as two pipelines; nothing is added on top of it.
            in_flight = head - max(state.commit_max, state.start_view_head)
            assert in_flight <= state.limits.pipeline_max, "INV-15: more in flight than the pipeline holds"

    # --- Inputs -----------------------------------------------------------------------------------

    def _on_start(self, start: Start) -> None:
        """Begin this boot from what the disk holds (PROTOCOL 7)."""
        state, superblock = self.state, start.superblock
        try:
            recovered = recover(superblock, start.scan, start.checkpoint)
        except StorageError as error:
            state.fatal("unrecoverable", str(error))
            return
        kept = start.checkpoint
        if kept is not None and not self.execution.speaks(kept.release, f"the checkpoint of op {kept.op}"):
            return
        state.cluster = superblock.cluster
        state.replica = superblock.replica
        state.incarnation = superblock.incarnation
        state.boot = superblock.boot + 1
        state.configuration = superblock.configuration
        state.quorums = quorums_of(len(superblock.configuration.voters))
        state.random = random.Random(f"{state.options.seed}/{state.replica}/{state.boot}")
        state.view = state.durable_view = superblock.view
        state.log_view = superblock.log_view
        state.log = recovered.log
        state.commit_known = recovered.commit_known
        state.commit_max = recovered.commit_max
        has_proof = start.scan.proof is not None and start.scan.has_log
        self.persistence.open(superblock, recovered.proven, has_proof=has_proof)
        self.persistence.change(boot=state.boot)
        self._load_state(start, is_lost=recovered.is_state_lost)
        self.checkpoints.start()
        self.upkeep.start()
        self.peers.start()
        self._is_started = True
        state.trace("recovered", head=state.log.head, acked=state.acked, found=recovered.found, faults=recovered.faults)
        self.view_change.resume(recovered.status)
        self.birth.start()

    def _load_state(self, start: Start, *, is_lost: bool) -> None:
        """Go on from the checkpoint that the application was loaded from (R-SCAN 1)."""
        state, superblock, core = self.state, start.superblock, start.checkpoint
        if core is not None:
            self.execution.restore(core)
        else:
            self.execution.start()
        if is_lost:
            reach(Mark.STATE_LOST)
            state.is_state_lost = True
            state.unfit.add("syncing")
            state.trace("state_lost", op=superblock.checkpoint.op)
            return
        state.checkpoint = superblock.checkpoint
        loaded = core.id if core is not None else genesis(state.cluster).id
        if loaded.op != superblock.checkpoint.op:
            reach(Mark.CHECKPOINT_FALLBACK)
            state.trace("checkpoint_lost", op=superblock.checkpoint.op, start=loaded.op)
            # Our own is damaged; the certified one loads, or there is none and we begin with nothing: our newest now.
            state.checkpoint = superblock.certified if core is not None else GENESIS_CHECKPOINT
            install = self.persistence.install_above(loaded)
            anchor = core.id if core is not None else None
            self.persistence.change(checkpoint=state.checkpoint, anchor=anchor, install=install)

    def _on_peer(self, received: FromPeer) -> None:
        envelope, message = received.envelope, received.message
        kind = type(message)
        state = self.state
        if not state.is_live or not self.peers.is_heard(envelope, message):
            state.counters["dropped"] += 1
            return
        if state.status is _UNBORN and kind not in _HEARD_UNBORN:
            return
        if envelope.view > state.view and kind in _VIEW_TELLING:
            self.view_change.join(envelope.view)
        elif envelope.view < state.view and kind in _VIEW_BOUND:
            self.peers.answer_stale(envelope)
            return
        self._on_message[kind](envelope, message)
        if kind in _PRIMARY_SPEAKS and state.is_backup and envelope.replica == state.primary:
            self.view_change.on_primary_heard()

    def _on_client(self, received: FromClient) -> None:
        message = received.message
        if not self.state.is_live:
            number, session = message.number, 0 if isinstance(message, Read) else message.session
            self.state.reject(received.connection, message.client, session, number, RejectCode.NOT_PRIMARY)
        elif isinstance(message, Read):
            self.reads.on_read(received.connection, message)
        else:
            self.admission.on_request(received.connection, message)

    def _on_link(self, link: Link) -> None:
        """A peer can be reached again: ask how it is at once. A client is gone: nobody to answer."""
        if link.peer is not None and link.up and self.state.status is not Status.UNBORN:
            self.peers.ping((link.peer,))
        elif link.connection is not None and not link.up:
            self.admission.forget_connection(link.connection)
            self.execution.forget_connection(link.connection)
            self.reads.forget_connection(link.connection)

    def _on_wal_done(self, done: WalDone) -> None:
        self.persistence.on_wal_done(done.sequence, self.repair.logs())

    def _on_superblock_done(self, done: SuperblockDone) -> None:
        self.persistence.on_superblock_done(done.sequence)
        self.checkpoints.on_superblock_done()
        self.view_change.on_superblock_done()

    def _on_scrubbed(self, found: Scrubbed) -> None:
        self.upkeep.on_scrubbed(found)
        self.transfer.on_scrubbed(found)

    def _on_ping(self, envelope: Envelope, message: Ping) -> None:
        self._note_state(envelope, message)
        self.peers.on_ping(envelope, message)

    def _on_pong(self, envelope: Envelope, message: Pong) -> None:
        self._note_state(envelope, message)
        self.peers.on_pong(envelope, message)

    def _note_state(self, envelope: Envelope, message: Ping | Pong) -> None:
        """Everybody tells everybody about checkpoints and probes: so a lone diverged replica learns that it is."""
        position = message.position
        self.checkpoints.note_advert(envelope.replica, position.checkpoint)
        self.checkpoints.note_certified(position.certified)
        self.checkpoints.note_probe(envelope.replica, position.probe)

    def _on_tick(self, tick: Tick) -> None:
        """Time passed: fire what is due, each timer at most once."""
        state = self.state
        state.wall_ns = tick.wall_ns
        state.wall_tick = state.now_tick
        if not state.is_live:
            return
        for timer, fire in self._timers:
            if timer.deadline_tick <= state.now_tick and timer.is_due(state.now_tick):
                fire()

    # --- Timers that several rooms look at ----------------------------------------------------------

    def _on_ping_timeout(self) -> None:
        if self.state.status is Status.UNBORN:
            self.peers.ping_timeout.start(self.state.now_tick, self.state.timeouts.ping_ticks)
            return
        self.peers.on_ping_timeout()
        self.leadership.on_ping_timeout()

    def _on_heartbeat_timeout(self) -> None:
        self.leadership.on_heartbeat_timeout()
        if self.state.is_leading:
            self.normal.heartbeat()

    def _advance_birth(self) -> None:
        """Born: from now on we count (PROTOCOL 7.6)."""
        if not self.birth.advance():
            return
        self.state.trace("born")
        is_first_primary = primary_of(self.state.view) == self.state.replica
        self.view_change.resume(Status.EX_PRIMARY if is_first_primary else Status.NORMAL)
