"""An adversary: what was said in an older view is heard again, the moment that its receiver is in a newer one.

A network may deliver a message twice, and the second time whenever it likes. By chance that is hardly ever just
when a view begins, which is when a rule about views is all that stands between an old message and a new log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.choices import Choices, Key
from sim.cluster import SimCluster
from sim.network import Payload
from trio_pb.core import messages
from trio_pb.core.messages import Status
from trio_pb.core.state import State

__all__ = ["ANCIENT_MESSAGES", "AncientMessages"]

ANCIENT_MESSAGES = ("ancient messages", "messages repeated")  # As counted.
KEPT = 4  # The newest of each kind on each link.
SHARE = 0.5  # Of those that are kept.
# What means something in one view only, or in one boot.
KINDS = (
    messages.PrepareMessage,
    messages.PrepareCopy,
    messages.PrepareOk,
    messages.Commit,
    messages.CommitOk,
    messages.DoViewChange,
    messages.StartView,
    messages.ReadIndexOk,
)


class AncientMessages:
    """Remembers what was sent, and sends it again."""

    def __init__(self, cluster: SimCluster, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """`note(kind)` takes what happened; nothing happens once `is_over()`."""
        self._cluster = cluster
        self._choices: Choices = cluster.choices
        self._note = note
        self._is_over = is_over
        self._kept: dict[tuple[int, int, type], deque[Payload]] = {}  # (from, to, kind) -> the newest.
        self._views: dict[int, tuple[int, bool]] = {}  # Replica -> its view as last seen, and whether it was normal.

    def plan(self) -> tuple[tuple[str, int, Callable[[int], None]], ...]:
        """What is to happen: name, how often, and how."""
        return (("ancient", self._cluster.shape.faults.ancient_messages, self._begin),)

    def _begin(self, _: int) -> None:
        """Listen from now on, to the end of the faults."""
        if not self._is_over():
            self._note("ancient messages")
            self._cluster.network.listeners.append(self._hear)
            self._cluster.watch.listen(self._look)

    def _hear(self, source: int, destination: int, payload: Payload) -> None:
        message = payload.message
        kind = type(message)
        if type(message) is messages.ReadIndex:
            self._answer(source, message)
        elif kind in KINDS:
            self._kept.setdefault((source, destination, kind), deque(maxlen=KEPT)).append(payload)

    def _answer(self, replica: int, asked: messages.ReadIndex) -> None:
        """Whoever asks for a position hears perhaps what an earlier question was answered with."""
        for (source, destination, kind), kept in self._sorted():
            key: Key = ("ancient", kind.__name__, source, destination, asked.boot, asked.counter)
            if destination == replica and kind is messages.ReadIndexOk and self._choices.flag(key, SHARE):
                self._cluster.network.repeat(source, destination, kept[0])

    def _sorted(self) -> list[tuple[tuple[int, int, type], deque[Payload]]]:
        return sorted(self._kept.items(), key=lambda it: (*it[0][:2], it[0][2].__name__))

    def _look(self, replica: int, state: State) -> None:
        seen = (state.view, state.status is Status.NORMAL)
        if seen == self._views.get(replica):
            return
        self._views[replica] = seen
        if not self._is_over():
            self._repeat(replica, state.view)

    def _repeat(self, replica: int, view: int) -> None:
        """Whatever of older views was kept for it may come once more, in the old order."""
        for (source, destination, kind), kept in self._sorted():
            if destination != replica:
                continue
            for payload in kept:
                envelope = payload.envelope
                assert envelope is not None, "replicas speak in envelopes"
                key: Key = ("ancient", kind.__name__, source, destination, view, envelope.view, envelope.op)
                if envelope.view < view and self._choices.flag(key, SHARE):
                    self._cluster.network.repeat(source, destination, payload)
