"""What we know of the other replicas, and the pings that tell us (PROTOCOL 6.1, 6.2).

Advice for choosing primaries and sources of repair. The one safety rule here is the check of who is
speaking: frames of an identity that we did not pin are not heard (R-DROP).
"""

from __future__ import annotations

import attrs

from trio_pb.core.cluster_clock import ClusterClock
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    CheckpointId,
    Envelope,
    Hello,
    HelloAck,
    PeerMessage,
    Ping,
    Pong,
    Position,
)
from trio_pb.core.persistence import Persistence
from trio_pb.core.state import State, primary_of
from trio_pb.core.timeout import Timeout

__all__ = ["Peer", "Peers"]


@attrs.define(eq=False)
class Peer:
    """One other replica as last heard."""

    replica: int
    pong_tick: int | None = None  # When it last answered a ping of ours.
    answered_tick: int = 0  # When it last answered us in our view (T_CQ).
    stale_answer_tick: int = -1  # When we last told it that its view is old (R-STALE).
    reach: int = 0
    fit: bool = False
    applied: int = 0
    head: int = 0
    commit: int = 0
    wal_low: int = 1
    checkpoint: CheckpointId = GENESIS_CHECKPOINT
    log_view: int = 0
    progress: int = 0


class Peers:
    """The peer table and the ping timer."""

    def __init__(self, state: State, persistence: Persistence, clock: ClusterClock) -> None:
        self.state = state
        self._persistence = persistence
        self._clock = clock
        self.table: dict[int, Peer] = {}
        self.ping_timeout = Timeout("ping")
        # `_pins_of` as a dictionary of what envelopes say: asked for with every frame.
        self._pins: dict[int, bytes] = {}
        self._pins_of: tuple[tuple[int, bytes], ...] = ()
        self._sequence = 0  # boot * 2^32 + counter: an answer to a ping of an earlier boot is no answer.

    def start(self) -> None:
        """Begin a boot: ping at once, so that a fresh cluster finds together quickly."""
        self.table = {replica: Peer(replica) for replica in self.state.peers}
        self._sequence = self.state.boot << 32
        self.ping_timeout.start(self.state.now_tick, 1)

    # --- Who speaks -------------------------------------------------------------------------------

    def is_heard(self, envelope: Envelope, message: PeerMessage) -> bool:
        """Whether R-DROP lets this frame in."""
        state = self.state
        assert self._persistence.durable is not None
        if envelope.cluster != state.cluster or envelope.replica == state.replica:
            return False
        if envelope.replica not in self.table:
            return False
        if self._pins_of is not self._persistence.durable.pinned:
            self._pins_of = self._persistence.durable.pinned
            self._pins = {replica: incarnation[:8] for replica, incarnation in self._pins_of}
        if self._pins.get(envelope.replica) == envelope.incarnation:
            return True
        if isinstance(message, Hello):
            return True  # Birth judges it, and says so when an id comes back with another identity.
        # A refusal: it gives nothing, and who is refused may know nobody yet.
        return isinstance(message, HelloAck) and message.pinned != state.incarnation

    # --- Liveness ---------------------------------------------------------------------------------

    def is_alive(self, replica: int) -> bool:
        """Whether `replica` answered a ping lately."""
        pong_tick = self.table[replica].pong_tick
        return pong_tick is not None and self.state.now_tick - pong_tick <= self.state.timeouts.alive_ticks

    def reach(self) -> int:
        """Voters that we exchange pongs with, ourselves included."""
        return 1 + sum(1 for replica in self.state.voters_but_self if self.is_alive(replica))

    def eligible(self) -> list[int]:
        """E of R-TARGET: voters worth following into a view, except the primary of ours."""
        state = self.state
        quorum = state.quorums.view_change
        last = primary_of(state.view)
        chosen = [
            replica
            for replica in state.voters_but_self
            if replica != last
            and self.is_alive(replica)
            and self.table[replica].fit
            and self.table[replica].reach >= quorum
        ]
        if state.replica != last and state.is_voter(state.replica) and state.fit and self.reach() >= quorum:
            chosen.append(state.replica)
        return sorted(chosen)

    def sources(self) -> list[int]:
        """Living peers, the most advanced first: where to ask for committed prepares."""
        living = [replica for replica in self.table if self.is_alive(replica)]
        return sorted(living, key=lambda replica: (-self.table[replica].applied, replica))

    def note_answer(self, envelope: Envelope) -> None:
        """A voter answered us in our view (T_CQ)."""
        if envelope.view == self.state.view:
            self.table[envelope.replica].answered_tick = self.state.now_tick

    def forgive_silence(self) -> None:
        """Start counting T_CQ afresh: a view begins."""
        for peer in self.table.values():
            peer.answered_tick = self.state.now_tick

    def has_contact(self) -> bool:
        """Whether a replication quorum answered a primary lately (T_CQ)."""
        state = self.state
        oldest = state.now_tick - state.timeouts.check_quorum_ticks
        answering = sum(1 for replica in state.voters_but_self if self.table[replica].answered_tick >= oldest)
        return answering + 1 >= state.quorums.replication

    # --- Messages ---------------------------------------------------------------------------------

    def position(self, sequence: int, sent_tick: int) -> Position:
        """What ping and pong say of us."""
        state = self.state
        return Position(
            sequence=sequence,
            sent_tick=sent_tick,
            wall_ns=state.wall_ns,
            status=state.status,
            log_view=state.log_view,
            applied=state.applied,
            commit_checksum=state.commit_checksum,
            acked=state.acked,
            wal_low=state.wal_low,
            checkpoint=state.checkpoint,
            certified=state.certified,
            probe=state.probe,
            fit=state.fit,
            reach=self.reach(),
            progress=state.progress,
            release_min=state.options.release_min,
            release_max=state.options.release,
            configuration=state.configuration,
            pending=None,
        )

    def ping(self, replicas: tuple[int, ...]) -> None:
        """Ask how they are."""
        self._sequence += 1
        self.state.send(replicas, Ping(self.position(self._sequence, self.state.now_tick)))

    def on_ping_timeout(self) -> None:
        """T_PING."""
        self.ping_timeout.start(self.state.now_tick, self.state.timeouts.ping_ticks)
        self.ping(self.state.peers)

    def on_ping(self, envelope: Envelope, message: Ping) -> None:
        """Answer at once."""
        self._note(envelope, message.position)
        asked = message.position
        self.state.send((envelope.replica,), Pong(self.position(asked.sequence, asked.sent_tick)))

    def on_pong(self, envelope: Envelope, message: Pong) -> None:
        """A peer hears us and we hear it."""
        self._note(envelope, message.position)
        position = message.position
        if position.sequence >> 32 != self.state.boot or position.sent_tick > self.state.now_tick:
            return  # An answer to a ping of an earlier boot.
        peer = self.table[envelope.replica]
        peer.pong_tick = max(peer.pong_tick or 0, position.sent_tick)
        self._clock.on_sample(envelope.replica, position.sent_tick, position.wall_ns)
        self.note_answer(envelope)

    def answer_stale(self, envelope: Envelope) -> None:
        """Somebody speaks from an old view: let it learn of ours, not too often (R-STALE)."""
        peer = self.table[envelope.replica]
        now_tick = self.state.now_tick
        if peer.stale_answer_tick < 0 or now_tick - peer.stale_answer_tick >= self.state.timeouts.stale_answer_ticks:
            peer.stale_answer_tick = now_tick
            self.ping((envelope.replica,))

    def _note(self, envelope: Envelope, position: Position) -> None:
        peer = self.table[envelope.replica]
        peer.reach = position.reach
        peer.fit = position.fit
        peer.applied = position.applied
        peer.head = envelope.op
        peer.commit = envelope.commit
        peer.wal_low = position.wal_low
        peer.checkpoint = position.checkpoint
        peer.log_view = position.log_view
        peer.progress = position.progress
        self._gossip(envelope, position)

    def _gossip(self, envelope: Envelope, position: Position) -> None:
        """Take a commit point from anybody if our log holds exactly that prepare (R-GOSSIP).

        Not of a view that is not durable here: we would tell it on in the name of the view before, and whoever
        heard that could not know that it says nothing about the logs of views in between.
        """
        state = self.state
        if envelope.view > state.durable_view:
            return
        if envelope.commit <= state.commit_max or position.commit_checksum is None:
            return
        if state.log.checksum(envelope.commit) == position.commit_checksum:
            reach(Mark.GOSSIP)
            state.raise_commit(envelope.commit, position.commit_checksum)
