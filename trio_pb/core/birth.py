"""Birth of bootstrap members: nobody counts before all the others pinned its identity (PROTOCOL 7.6).

A disk that was wiped and formatted again under its old id has another incarnation; whoever pinned the
first one refuses it for ever, so it can never vote on forgotten promises (T-16).
"""

from __future__ import annotations

from trio_pb.core.messages import Envelope, Hello, HelloAck, Status
from trio_pb.core.persistence import Persistence
from trio_pb.core.state import State, members_digest
from trio_pb.core.timeout import Timeout

__all__ = ["Birth"]

_UNBORN = Status.UNBORN  # Asked for in every step.


class Birth:
    """Pins of the peers, and who pinned us."""

    def __init__(self, state: State, persistence: Persistence) -> None:
        self.state = state
        self._persistence = persistence
        self.hello_timeout = Timeout("hello")
        self._pinned_us: set[int] = set()
        self._to_acknowledge: dict[int, bytes] = {}  # Peer -> incarnation; answered once pinned durably.

    def start(self) -> None:
        """Say hello until born."""
        if self.state.status is Status.UNBORN:
            self.hello_timeout.start(self.state.now_tick, 1)

    def on_hello_timeout(self) -> None:
        """Ask everybody who has not pinned us yet."""
        state = self.state
        self.hello_timeout.start(state.now_tick, state.timeouts.hello_ticks)
        digest = members_digest(state.cluster, state.configuration)
        missing = tuple(peer for peer in state.peers if peer not in self._pinned_us)
        state.send(missing, Hello(incarnation=state.incarnation, members_digest=digest, fresh=True))

    def on_hello(self, envelope: Envelope, message: Hello) -> None:
        """Pin a stranger, acknowledge one pinned before, refuse a changed identity."""
        state = self.state
        assert self._persistence.image is not None
        if message.members_digest != members_digest(state.cluster, state.configuration):
            state.counters["hello_other_members"] += 1
            return
        if message.incarnation[:8] != envelope.incarnation:
            return
        pinned = dict(self._persistence.image.pinned)
        known = pinned.get(envelope.replica)
        if known is not None and known != message.incarnation:
            state.trace("identity_refused", replica=envelope.replica)
            self._acknowledge(envelope.replica, known)  # So that it can say why it is never born.
            return
        if known is None:
            pinned[envelope.replica] = message.incarnation
            self._persistence.change(pinned=tuple(sorted(pinned.items())))
            state.trace("pinned", replica=envelope.replica)
        self._to_acknowledge[envelope.replica] = message.incarnation

    def on_hello_ack(self, envelope: Envelope, message: HelloAck) -> None:
        """A peer durably pinned us; when all did, we are born. One that pinned another never will."""
        state = self.state
        if state.status is not Status.UNBORN:
            return
        if message.pinned == state.incarnation:
            self._pinned_us.add(envelope.replica)
            return
        text = (
            f"replica {envelope.replica} knows replica {state.replica} under another identity, so this directory, "
            f"formatted anew, never gets a vote: the old one may have promised what this one forgot. What remains: "
            f"restore the old directory, or run on with the other replicas"
        )
        state.fatal("identity_refused", text)

    def _acknowledge(self, replica: int, pinned: bytes) -> None:
        """Tell `replica` under which incarnation we durably know it."""
        state = self.state
        answer = HelloAck(
            incarnation=state.incarnation,
            members_digest=members_digest(state.cluster, state.configuration),
            fresh=state.status is Status.UNBORN,
            pinned=pinned,
        )
        state.send((replica,), answer)

    @property
    def has_work(self) -> bool:
        """Whether `advance` could do anything."""
        return bool(self._to_acknowledge) or self.state.status is _UNBORN

    def advance(self) -> bool:
        """Acknowledge durable pins; return whether this replica was just born (durably)."""
        state, durable = self.state, self._persistence.durable
        assert durable is not None
        if self._to_acknowledge and state.is_live:
            pinned = dict(durable.pinned)
            for replica, incarnation in sorted(self._to_acknowledge.items()):
                if pinned.get(replica) == incarnation:
                    del self._to_acknowledge[replica]
                    self._acknowledge(replica, incarnation)
        if state.status is not Status.UNBORN:
            return False
        assert self._persistence.image is not None
        if self._pinned_us >= set(state.peers) and not self._persistence.image.born:
            self._persistence.change(born=True)
        if not durable.born:
            return False
        self.hello_timeout.stop()
        return True
