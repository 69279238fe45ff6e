"""State transfer: a replica that lags too far copies a certified checkpoint, chunk by chunk (PROTOCOL 8.2).

Only chunks that this disk lacks move, from all peers that have them, each verified by its digest and kept
over crashes. The same path fetches single chunks that scrubbing found damaged. The log above the
checkpoint stays as it is, so a replica that copies state still votes.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from trio_pb.core.checkpoints import Checkpoints
from trio_pb.core.durable import Install as InstallRecord
from trio_pb.core.execution import Execution
from trio_pb.core.log import Hold
from trio_pb.core.manifest import CHUNK_SIZE_MAX, Chunk, CoreState, chunk_digest
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import CheckpointId, ChunkPiece, Envelope, GetChunk, Gone, Status
from trio_pb.core.peers import Peers
from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import (
    Adopt,
    ChunkPut,
    ChunkRead,
    ChunkReadDone,
    ChunkStored,
    Install,
    Installed,
    InstallFailed,
    Scrubbed,
    SyncBegin,
    SyncState,
)
from trio_pb.core.repair import Repair
from trio_pb.core.state import State
from trio_pb.core.timeout import NEVER

__all__ = ["StateTransfer"]

_UNBORN = Status.UNBORN  # Asked for in every step.
SERVED_READS_MAX = 8  # Chunk reads for peers outstanding.


@attrs.define(eq=False)
class _Fetch:
    """One chunk or manifest on its way."""

    digest: bytes
    size: int | None  # None: a manifest, whose size the first piece tells.
    received: bytearray = attrs.field(factory=bytearray)
    due_tick: int = 0  # Ask for the next piece then: at once, or when the last request has run out.
    is_unserved: bool = False  # No living peer had it when we last looked.


class StateTransfer:
    """Fetches, serves and installs checkpoints."""

    def __init__(
        self,
        state: State,
        persistence: Persistence,
        peers: Peers,
        repair: Repair,
        execution: Execution,
        checkpoints: Checkpoints,
    ) -> None:
        self.state = state
        self._persistence = persistence
        self._peers = peers
        self._repair = repair
        self._execution = execution
        self._checkpoints = checkpoints
        self.is_installing_view: Callable[[], bool] = lambda: False  # Set by the replica.
        self._target: CheckpointId | None = None
        self._is_listed = False  # Its manifest is kept here, and what is missing is known.
        self._is_prepared = False  # Install was given out for it.
        self._serial = 0  # Of the last Install.
        self._ready: Installed | None = None  # Decoded, waits until it may become ours.
        self._switching: Installed | None = None  # Its superblock image is on its way.
        self._is_new_log = False  # That image also begins our log afresh at the target.
        self._missing: dict[bytes, Chunk] = {}  # Of the target: not here yet, nor on its way.
        self._storing: set[bytes] = set()  # Given to the disk, not durable yet.
        self._damaged: dict[bytes, Chunk] = {}  # Of kept checkpoints, found by scrubbing.
        self._fetching: dict[bytes, _Fetch] = {}
        self._gone: set[tuple[int, bytes]] = set()  # (peer, digest) that it does not have.
        self._turn = 0
        self._serving = 0  # Chunk reads for peers in flight.

    # --- When -----------------------------------------------------------------------------------------

    def _is_needed(self) -> bool:
        """Whether the log cannot bring our state up to date, or not before much of it is moot."""
        state = self.state
        if state.certified.op == 0 or state.certified.op < state.log.base.op:
            return False  # There is none, or none yet from which our log goes on.
        if state.is_untrusted or state.is_state_lost:
            reach(Mark.TRANSFER_DISTRUST)
            return True
        if state.certified.op <= state.applied or state.commit_max <= state.applied:
            return False
        if state.commit_max - state.applied > 2 * state.limits.checkpoint_interval_ops:
            reach(Mark.TRANSFER_LAG)
            return True
        if state.log.base.op > state.applied:
            return True
        needed = self._first_missing()
        if needed is None:
            return False
        # Above our head only the primary can name what stands there, whoever else still has it.
        if needed > state.log.head and state.is_backup and needed < self._peers.table[state.primary].wal_low:
            return True
        # Whoever has not executed it itself is no help, however far back its log goes: two that lag alike would wait
        # for each other.
        peers = [self._peers.table[replica] for replica in self._peers.sources()]
        lows = [peer.wal_low for peer in peers if peer.applied >= needed]
        is_freed = bool(lows) and needed < min(lows)
        if is_freed:
            reach(Mark.TRANSFER_FREED)
        return is_freed

    def _first_missing(self) -> int | None:
        """The first op above `applied` whose body we do not hold."""
        log = self.state.log
        op = max(self.state.applied, log.durable_prefix) + 1
        if op > self.state.commit_max:
            return None
        return op if op > log.head or log.hold(op) is Hold.MISSING else None

    # --- Once per step ----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Begin, fetch, install: whatever is possible now."""
        state = self.state
        if state.is_live and state.status is not _UNBORN and self._switching is None:
            self._choose_target()
            if self._target is not None or self._damaged or self._fetching:
                self._fetch()
                self._install()

    @property
    def next_deadline_tick(self) -> int:
        """When an outstanding request runs out."""
        if not self._fetching:
            return NEVER
        return min([fetch.due_tick for fetch in self._fetching.values()])

    def _choose_target(self) -> None:
        state, target = self.state, self._target
        is_needed = self._is_needed()
        if target is None:
            if is_needed:
                self._begin(state.certified)
            return
        # What was applied meanwhile is never undone (INV-14), and our log must go on from the target.
        least = 0 if state.is_untrusted or state.is_state_lost else state.applied + 1
        if is_needed:
            if target.op < max(least, state.log.base.op):
                self._begin(state.certified)
        elif target.op < least or not self._is_listed:
            reach(Mark.TRANSFER_OVERTAKEN)
            self._stop()  # The log got there first; or will, by the look of it, and little was fetched so far.

    def _begin(self, target: CheckpointId) -> None:
        state = self.state
        state.unfit.add("syncing")
        state.trace("sync_begun", op=target.op)
        self._forget()
        self._target = target
        self._fetching[target.digest] = _Fetch(target.digest, None)

    def _stop(self) -> None:
        self.state.unfit.discard("syncing")
        self.state.trace("sync_ended", op=self.state.applied)
        self._forget()

    def _forget(self) -> None:
        self._target = None
        self._ready = None
        self._is_listed = self._is_prepared = False
        self._missing.clear()
        self._fetching.clear()
        self._gone.clear()

    # --- Fetching -----------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Keep as many pieces on their way as the budget allows."""
        limits, now_tick = self.state.limits, self.state.now_tick
        # What is damaged waits for a transfer: some of it may never come, and nobody is in a hurry.
        pool = self._missing if self._target is not None else self._damaged
        self._let_others_pass(pool)
        # What the disk has not taken yet is in memory: a full or slow one must not fill it (INV-30).
        room = 0 if self.state.is_disk_full else limits.chunk_requests_max - len(self._storing)
        while pool and len(self._fetching) < room:
            digest = next(iter(pool))
            chunk = pool.pop(digest)
            if digest not in self._fetching and digest not in self._storing:
                self._fetching[digest] = _Fetch(digest, chunk.size or None)
        for fetch in [fetch for fetch in self._fetching.values() if fetch.due_tick <= now_tick]:
            if not self._ask(fetch) and self._may_retarget():
                reach(Mark.TRANSFER_RETARGETED)
                self._begin(self.state.certified)
                self._fetch()
                return

    def _let_others_pass(self, pool: dict[bytes, Chunk]) -> None:
        """A damaged chunk that nobody has, for now, must not keep out those that somebody has."""
        if self._target is not None or not pool:
            return
        now_tick = self.state.now_tick
        for digest, fetch in list(self._fetching.items()):
            if fetch.is_unserved and fetch.due_tick <= now_tick:
                del self._fetching[digest]
                pool[digest] = Chunk(0, digest, fetch.size or 0)

    def _ask(self, fetch: _Fetch) -> bool:
        """Ask for the next piece; False when no living peer has it."""
        state = self.state
        able = self._able(fetch.digest)
        if not able:
            # Whoever refused may have it later: it was behind itself, or repairs what it found damaged.
            self._gone = {(peer, digest) for peer, digest in self._gone if digest != fetch.digest}
            fetch.due_tick = state.now_tick + state.timeouts.repair_ticks
            fetch.is_unserved = True
            return False
        # No longer: who serves us stays silent when we took enough of it for now.
        fetch.due_tick = state.now_tick + state.timeouts.repair_ticks
        fetch.is_unserved = False
        self._turn += 1
        state.counters["chunk_requests"] += 1
        wanted = GetChunk(fetch.digest, len(fetch.received), state.limits.chunk_piece_max)
        state.send((able[self._turn % len(able)],), wanted)
        return True

    def _able(self, digest: bytes) -> list[int]:
        """Who may have it: a peer without a checkpoint of that age certainly does not."""
        oldest = self._target.op if self._target is not None else 0
        return [
            peer
            for peer in self._peers.sources()
            if (peer, digest) not in self._gone and self._peers.table[peer].checkpoint.op >= oldest
        ]

    def _may_retarget(self) -> bool:
        """Whether there is a newer certificate than the one that nobody serves any more."""
        return self._target is not None and self.state.certified.op > self._target.op

    def on_chunk_piece(self, envelope: Envelope, message: ChunkPiece) -> None:
        """A piece arrived; when it was the last, the whole must have the digest that we asked for."""
        fetch = self._fetching.get(message.digest)
        if fetch is None or message.offset != len(fetch.received) or not 0 < message.total <= CHUNK_SIZE_MAX:
            return
        if not message.data or (fetch.size is not None and fetch.size != message.total):
            return
        fetch.received += message.data
        fetch.due_tick = 0
        if len(fetch.received) < message.total:
            return
        data = bytes(fetch.received)
        if chunk_digest(data) != fetch.digest:
            self.state.counters["chunks_refused"] += 1
            self._gone.add((envelope.replica, fetch.digest))
            fetch.received.clear()
            return
        del self._fetching[fetch.digest]
        self._take(fetch.digest, data)

    def _take(self, digest: bytes, data: bytes) -> None:
        state, target = self.state, self._target
        state.counters["chunk_bytes_received"] += len(data)
        state.progress += 1
        if target is not None and digest == target.digest:
            state.outputs.append(SyncBegin(target, data))
        else:
            self._storing.add(digest)
            state.outputs.append(ChunkPut(digest, data))

    def on_gone(self, envelope: Envelope, message: Gone) -> None:
        """A peer does not have it (any more): ask another; when nobody has it, there is a newer certificate."""
        fetch = self._fetching.get(message.digest)
        if fetch is not None:
            reach(Mark.CHUNK_GONE)
            self._gone.add((envelope.replica, message.digest))
            fetch.received.clear()
            fetch.due_tick = 0

    # --- On our disk ----------------------------------------------------------------------------------------

    def on_sync_state(self, message: SyncState) -> None:
        """The manifest is kept; these chunks are not here yet."""
        if message.target != self._target:
            return
        if message.missing is None:
            text = f"the others' checkpoint of op {message.target.op} is of a format that this program does not know"
            self.state.fatal("upgrade_needed", f"{text}; start the version of trio-pb that they run")
            return
        self.state.trace("sync_chunks", missing=len(message.missing), bytes=sum(it.size for it in message.missing))
        self._is_listed = True
        self._missing = {chunk.digest: chunk for chunk in message.missing if chunk.digest not in self._storing}

    def on_chunk_stored(self, message: ChunkStored) -> None:
        """One more is durable."""
        self._storing.discard(message.digest)
        self.state.counters["chunks_stored"] += 1

    def on_scrubbed(self, message: Scrubbed) -> None:
        """Scrubbing found chunks damaged: fetch them as if they were missing.

        A round begins by telling again what is still missing, so nothing is asked for longer than one round:
        nobody may have it any more, because it is of a checkpoint that nobody keeps any more.
        """
        if message.is_round_done:
            self._damaged.clear()
            if self._target is None:
                self._fetching.clear()
        for chunk in message.chunks:
            self.state.trace("chunk_lost", size=chunk.size)
            self._damaged.setdefault(chunk.digest, chunk)

    # --- Installing -------------------------------------------------------------------------------------------

    def _install(self) -> None:
        """All is here: let the world decode it, then make it ours when nothing else is being installed."""
        target = self._target
        if target is None or self._switching is not None:
            return
        is_complete = self._is_listed and not (self._missing or self._storing or self._fetching)
        if self._ready is not None:
            self._switch(self._ready)
        elif is_complete and not self._is_prepared:
            self._is_prepared = True
            self._serial += 1
            self.state.outputs.append(Install(target, self._serial))

    def on_installed(self, message: Installed) -> None:
        """The world holds the state of the target, decoded, beside ours."""
        if message.target != self._target or not self._is_prepared or message.serial != self._serial:
            return
        if self._execution.speaks(message.state.release, f"the checkpoint of op {message.target.op}"):
            self._ready = message

    def on_install_failed(self, message: InstallFailed) -> None:
        """Some of it was damaged on our own disk: see again what is missing."""
        if message.target == self._target and self._is_prepared and message.serial == self._serial:
            reach(Mark.TRANSFER_REPEATED)
            self._begin(message.target)

    def _switch(self, ready: Installed) -> None:
        """One atomic image replaces checkpoint, base of the log and, where our log was wrong, the log."""
        state, core = self.state, ready.state
        if self.is_installing_view():
            return
        heard = state.commit_max if state.is_primary else state.commit_heard
        if state.log_view == state.view and core.op > heard:
            reach(Mark.TRANSFER_WAITS)
            return  # A later view may have made it: its log is not ours (PROTOCOL 8.2, 4).
        known = state.log.checksum(core.op)
        self._is_new_log = known is not None and known != core.checksum
        self._ready = None
        self._switching = ready
        state.is_switching = True
        commit = max(state.commit_known, core.id, key=lambda it: it.op)
        certified = max(state.certified, ready.target, key=lambda it: it.op)
        changes: dict[str, object] = {
            "checkpoint": ready.target,
            "certified": certified,
            "anchor": core.id,
            "commit": commit,
            "untrusted": False,
            "install": self._persistence.install_above(core.id),
        }
        if self._is_new_log:
            reach(Mark.TRANSFER_NEW_LOG)
            proof_base = self._persistence.last_proof_sequence()
            changes["install"] = InstallRecord(base=core.id, ack_floor=core.op, proof_base=proof_base)
        self._persistence.change(**changes)

    def finish_switch(self) -> None:
        """Finish a switch once its image is durable, and what the old state was given is computed."""
        state, durable, switching = self.state, self._persistence.durable, self._switching
        assert switching is not None
        assert durable is not None
        is_durable = durable.checkpoint == switching.target and not durable.untrusted
        if is_durable and state.applying == state.applied:
            self._switching = None
            state.is_switching = False
            self._finish(switching.target, switching.state)

    def _finish(self, target: CheckpointId, core: CoreState) -> None:
        state, durable = self.state, self._persistence.durable
        assert durable is not None
        state.outputs.append(Adopt(target))
        self._execution.restore(core)
        if core.op > state.log.base.op:
            state.log.rebase(core.id)
        if self._is_new_log:
            self._persistence.begin_lineage(durable.install)
        state.raise_commit(core.op, core.checksum)
        state.is_untrusted = state.is_state_lost = False
        state.unfit.discard("untrusted")
        self._checkpoints.forget_own()
        self._checkpoints.adopt(target)
        self._repair.forget()
        state.trace("state_transferred", op=core.op)
        self._stop()

    # --- Serving ------------------------------------------------------------------------------------------------

    def on_get_chunk(self, envelope: Envelope, message: GetChunk) -> None:
        """A peer wants a piece; silence when too many do, it asks again."""
        state = self.state
        self._checkpoints.pin(envelope.replica, message.digest)
        if self._serving >= SERVED_READS_MAX:
            state.counters["repair_throttled"] += 1
            return
        self._serving += 1
        size = min(message.size, state.limits.chunk_piece_max)
        state.outputs.append(ChunkRead(envelope.replica, message.digest, message.offset, size))

    def on_chunk_read(self, done: ChunkReadDone) -> None:
        """Send it, within what one peer may take of us in a period."""
        self._serving -= 1
        if done.data is None:
            self.state.send((done.replica,), Gone(done.digest))
        elif self._repair.may_serve(done.replica, len(done.data)):
            self.state.send((done.replica,), ChunkPiece(done.digest, done.offset, done.total, done.data))
