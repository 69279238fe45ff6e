"""Checkpoints: when to freeze, what a quorum agrees on, what may be forgotten, who has diverged (PROTOCOL 9).

State is frozen after every op that is a multiple of the interval, on all replicas alike. Equal states
have equal identities, so a quorum that tells the same identity certifies it, and a replica that tells
another has diverged: it says so, loudly, and takes the certified state instead of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from trio_pb.core.adverts import Adverts
from trio_pb.core.execution import Execution
from trio_pb.core.manifest import CoreState
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import GENESIS_CHECKPOINT, CheckpointId, Probe
from trio_pb.core.persistence import Persistence
from trio_pb.core.ports import CheckpointBegin, CheckpointDone, CheckpointFailed, CheckpointRetry, Collect
from trio_pb.core.prepare import PrepareId
from trio_pb.core.state import State
from trio_pb.core.timeout import Timeout

__all__ = ["Checkpoints"]


class Checkpoints:
    """Our own checkpoints, and what the others tell of theirs."""

    def __init__(self, state: State, persistence: Persistence, execution: Execution) -> None:
        self.state = state
        self._persistence = persistence
        self._execution = execution
        self.on_diverged: Callable[[], None] = lambda: None  # Set by the replica: let go of leading.
        self.retry_timeout = Timeout("checkpoint_retry")
        self._found_head = 0  # Of the log that this boot began with.
        self._begun: PrepareId | None = None  # Frozen, to become our next checkpoint.
        self._is_writing = False  # The world has yet to tell how the last one went; one at a time.
        self.certificate_is_due = False  # A heartbeat should tell it now.
        self._kept: list[CheckpointId] = []  # Durable ones of ours that are not collected yet, oldest first.
        self._previous = GENESIS_CHECKPOINT  # Certified before `state.certified`.
        self._pinned: dict[int, tuple[CheckpointId, int]] = {}  # Peer that copies one -> (which, until tick).
        self._is_collect_due = False  # Something was certified, made or let go of since the last time.
        self._collected: Collect | None = None  # The last one given out.
        self._has_diverged = False  # Before: twice is no accident.
        self._adverts: Adverts[CheckpointId] = Adverts()
        self._probes: Adverts[Probe] = Adverts()
        self._probe_noted = 0  # Op of our newest probe that was compared.

    def start(self) -> None:
        """Begin a boot with what the superblock tells."""
        state, durable = self.state, self._persistence.durable
        assert durable is not None
        self._found_head = state.log.head
        state.certified = durable.certified  # What was certified before it is not known: free nothing until the next.
        if durable.untrusted:
            state.is_untrusted = self._has_diverged = True
            state.unfit.add("untrusted")
        # The certified one may be on this disk, as an older one of ours or as a transfer not yet complete.
        self._kept = [state.certified] if state.certified.op else []
        if state.checkpoint.op:
            self._kept.append(state.checkpoint)
            self.note_advert(state.replica, state.checkpoint)  # Alone we certify it: nobody else will say it.

    @property
    def order_limit(self) -> int:
        """Nothing above can be applied while there is no more room for checkpoints than now.

        With none under way the next one freezes as soon as it is due, and applying goes on to the one after.
        """
        state = self.state
        return state.apply_limit + (0 if self._is_under_way else state.limits.checkpoint_interval_ops)

    @property
    def _is_under_way(self) -> bool:
        return self._begun is not None or self._is_writing

    # --- Freezing -------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Freeze what is due, compare what is new, tell the world what it may forget."""
        state = self.state
        if state.probe.op > self._probe_noted:
            self._probe_noted = state.probe.op
            self.note_probe(state.replica, state.probe)
        if state.applied == state.apply_limit and not state.is_untrusted:
            if not self._is_under_way:
                self._begin()
            elif state.commit_max > state.applied:
                reach(Mark.APPLY_WAITS)
        if self._pinned:
            self._unpin()
        if self._is_collect_due:
            self._collect()

    def _begin(self) -> None:
        """Right after an op at which every replica freezes; nothing later was applied yet."""
        state, execution = self.state, self._execution
        op = state.applied
        state.apply_limit = op + state.limits.checkpoint_interval_ops
        if op <= state.checkpoint.op:
            return  # Replayed over it.
        if self._is_replayed_over(op):
            reach(Mark.POINT_PASSED_OVER)
            return
        frozen = CoreState(
            op=op,
            checksum=execution.applied_checksum,
            last_timestamp=execution.applied_timestamp,
            release=execution.applied_release,
            configuration=state.configuration,
            probe=execution.rolling_probe.digest,
            sessions=execution.sessions.rows(),
        )
        self._begun, self._is_writing = frozen.id, True
        state.trace("checkpoint_begun", op=op)
        state.outputs.append(CheckpointBegin(state.cluster, frozen))

    def _is_replayed_over(self, op: int) -> bool:
        """Whether the log that a restart found goes on, committed and whole, to the next point at least.

        Then the state there is frozen instead: writing this one would cost most of the replay. The last
        point of the committed log is never passed over, and all replicas freeze there, so it is certified.
        """
        state, log = self.state, self.state.log
        following = op + state.limits.checkpoint_interval_ops
        if following > min(state.commit_max, self._found_head, log.head):
            return False
        return log.is_identified(op + 1, following) and not log.missing(op + 1, following, 1)

    def on_done(self, done: CheckpointDone) -> None:
        """It is durable; it becomes live through a superblock image."""
        state = self.state
        begun, self._begun, self._is_writing = self._begun, None, False
        if begun is None or state.is_untrusted or state.is_switching:
            return  # A state transfer, or the discovery that our state is wrong, came in between.
        assert begun.op == done.id.op, "one checkpoint is written at a time"
        self._persistence.change(checkpoint=done.id, anchor=begun)

    def on_failed(self, failed: CheckpointFailed) -> None:
        """No space. The world keeps what was frozen; at the next multiple, applying waits for it."""
        self._is_writing = False
        self.state.trace("checkpoint_failed", op=failed.op)
        if self._begun is None:
            return  # A state transfer came in between: nobody needs it any more.
        self.state.unfit.add("checkpoint")
        self.retry_timeout.start(self.state.now_tick, self.state.timeouts.checkpoint_retry_ticks)

    def on_retry_timeout(self) -> None:
        """Write the same frozen state again."""
        self.retry_timeout.stop()
        if self._begun is not None:
            self._is_writing = True
            reach(Mark.CHECKPOINT_RETRIED)
            self.state.outputs.append(CheckpointRetry(self._begun.op))

    def on_superblock_done(self) -> None:
        """Some image became durable: perhaps the one that makes a checkpoint of ours live."""
        state, durable = self.state, self._persistence.durable
        assert durable is not None
        is_ours = not (state.is_switching or state.is_state_lost)  # Not copied, nor lost.
        if is_ours and durable.checkpoint.op > state.checkpoint.op:
            state.trace("checkpoint_done", op=durable.checkpoint.op)
            self.adopt(durable.checkpoint)

    def adopt(self, checkpoint: CheckpointId) -> None:
        """A checkpoint of ours, made or transferred, is live: tell the others."""
        state = self.state
        state.checkpoint = checkpoint
        state.unfit.discard("checkpoint")
        self.retry_timeout.stop()
        self._kept.append(checkpoint)
        self._let_go()  # A long transfer, during which nothing is collected, must not pile them up.
        self._is_collect_due = True
        self.note_advert(state.replica, checkpoint)
        if checkpoint.op == state.certified.op:
            self._compare_certified()

    def forget_own(self) -> None:
        """Our state was replaced: what we told of the old one does not count any more."""
        self._begun = None
        self._adverts.forget(self.state.replica)
        self._probes.forget(self.state.replica)
        self._probe_noted = self.state.applied

    # --- Agreeing -------------------------------------------------------------------------------------

    def note_advert(self, replica: int, checkpoint: CheckpointId) -> None:
        """A voter tells a durable checkpoint of its own; enough equal ones certify it."""
        state = self.state
        if checkpoint.op == 0 or not state.is_voter(replica) or not self._adverts.note(replica, checkpoint):
            return
        if self._adverts.count(state.configuration.voters, checkpoint) >= state.quorums.certify:
            if checkpoint.op > state.certified.op:
                reach(Mark.CERTIFIED_HERE)
            self.note_certified(checkpoint)
        self._judge(self._adverts, checkpoint.op)

    def note_certified(self, checkpoint: CheckpointId) -> None:
        """A quorum, here or as somebody heard, agrees on `checkpoint`; the highest counts (T-40)."""
        state = self.state
        if checkpoint.op <= state.certified.op:
            return
        if self._adverts.count(state.configuration.voters, checkpoint) < state.quorums.certify:
            reach(Mark.CERTIFIED_ELSEWHERE)
        self._previous, state.certified = state.certified, checkpoint
        state.trace("certified", op=checkpoint.op)
        # At once: whoever hears prepares alone would keep its checkpoints since the last one that it heard of.
        self.certificate_is_due = True
        self._is_collect_due = True
        self._persistence.change(certified=checkpoint)
        self._compare_certified()

    def _compare_certified(self) -> None:
        """Whether we made of the same op what a quorum made."""
        certified = self.state.certified
        own = self._adverts.by(self.state.replica, certified.op)
        if own is not None and own != certified:
            self._diverge(certified.op)

    def note_probe(self, replica: int, probe: Probe) -> None:
        """A voter tells the digest of all results up to some op: divergence shows before a checkpoint."""
        if probe.op and self.state.is_voter(replica) and self._probes.note(replica, probe):
            self._judge(self._probes, probe.op)

    def _judge(self, adverts: Adverts[CheckpointId] | Adverts[Probe], op: int) -> None:
        """Compare what is told for `op` with what we have (PROTOCOL 9, mismatch)."""
        state = self.state
        voters, quorum = state.configuration.voters, state.quorums.certify
        own = adverts.by(state.replica, op)
        if own is None:
            return
        agreed = adverts.agreed(voters, op, quorum)
        if agreed is not None and agreed != own:
            reach(Mark.DIVERGED_BY_PROBE if adverts is self._probes else Mark.DIVERGED_BY_CHECKPOINT)
            self._diverge(op)
        elif adverts.is_split(voters, op, quorum):
            text = f"the replicas disagree about the state after op {op} and no majority holds one answer"
            state.fatal("divergence", f"{text}: compare the directories with `trio-pb checkpoint diff`")

    def _diverge(self, op: int) -> None:
        """Our state is wrong. What we promised about the log stays: that rests on inputs, not on state."""
        state = self.state
        if state.is_untrusted:
            return
        if self._has_diverged:
            text = f"the state after op {op} differs from the others' again, although it had been replaced"
            state.fatal("divergence", f"{text}: this machine or this program does not compute as the others do")
            return
        state.is_untrusted = self._has_diverged = True
        state.unfit.add("untrusted")
        state.trace("diverged", op=op)
        self._persistence.change(untrusted=True)
        self.on_diverged()

    # --- Forgetting -------------------------------------------------------------------------------------

    def pin(self, replica: int, digest: bytes) -> None:
        """A peer copies from us: keep the checkpoint it copies for a while after its last request."""
        state = self.state
        named = next((kept for kept in self._keep() if kept.digest == digest), None)
        # Chunks come from many peers, their manifest from one: take it that they are of the newest agreed on.
        newest = state.certified if state.certified.op <= state.checkpoint.op else state.checkpoint
        pinned = named or self._pinned.get(replica, (newest, 0))[0]
        if pinned.op:
            reach(Mark.PINNED)
            self._pinned[replica] = (pinned, state.now_tick + state.timeouts.checkpoint_pin_ticks)

    def _unpin(self) -> None:
        """Whoever has not asked for so long does not copy any more."""
        now_tick = self.state.now_tick
        for replica in [replica for replica, (_, until) in self._pinned.items() if until <= now_tick]:
            del self._pinned[replica]
            self._is_collect_due = True

    def _collect(self) -> None:
        """R-GC: free below the previous certified checkpoint and our own, whichever is older."""
        state = self.state
        if self._previous.op == 0 or state.is_untrusted or "syncing" in state.unfit:
            return  # Nothing of a transfer that is under way, nor of the log that follows it, may go.
        durable = self._persistence.durable
        if durable is None or durable.certified.op < self._previous.op:
            return  # A start that knows of no certificate takes the log for whole (R-SCAN 1).
        low = self._low
        checksum = state.log.checksum(low)
        if low > state.log.base.op:
            if checksum is None:
                return  # Its identity is on its way (R-IDS).
            state.raise_commit(low, checksum)  # So that nothing below the log is ever stated (6.3).
            reach(Mark.LOG_FREED)
            state.log.free(low)
        self._is_collect_due = False
        collect = Collect(low + 1, self._keep())
        if collect != self._collected:
            self._collected = collect
            state.outputs.append(collect)

    @property
    def _low(self) -> int:
        """Nobody needs the log up to here, nor a checkpoint from below."""
        return min(self._previous.op, self.state.checkpoint.op)

    def _let_go(self) -> None:
        # Between the two last certificates none is needed: neither to start from, nor to serve.
        own, certified = self.state.checkpoint, self.state.certified
        low, high = self._low, min(own.op, certified.op)
        self._kept = [it for it in self._kept if it.op == low or it.op >= high or it in (self._previous, own)]

    def _keep(self) -> tuple[CheckpointId, ...]:
        state = self.state
        self._let_go()
        pinned = {checkpoint for checkpoint, _ in self._pinned.values()}
        image = self._persistence.image
        assert image is not None
        # With the one that an image on its way to the disk makes ours.
        everything = {*self._kept, *pinned, state.checkpoint, image.checkpoint}
        if state.certified.op <= state.checkpoint.op:
            everything.add(state.certified)  # To fall back on. A newer one is not here, or not all of it yet.
        return tuple(sorted((kept for kept in everything if kept.op), key=lambda kept: (kept.op, kept.digest)))
