"""The network of a small world: every message that was ever sent and can still be heard.

A message that was sent stays: it may arrive at any time, before or after any other, again and again, or never. So
loss, delay, reordering and duplication need no moves of their own. What nobody can hear any more is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from sim.exhaust.canonical import Former, fingerprint
from sim.exhaust.disk import Disk
from trio_pb.core.log import Log
from trio_pb.core.messages import (
    Commit,
    CommitOk,
    DoViewChange,
    Envelope,
    PeerMessage,
    Ping,
    Pong,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    StartView,
    StartViewChange,
)
from trio_pb.core.replica import Replica

__all__ = ["Message", "Post"]

# These are lost. Pings and pongs tell who is alive, which everybody is here, and of views, which `Wished` tells; what a
# commit_ok acknowledges a prepare_ok did before.
_LOST = (Ping, Pong, CommitOk, StartViewChange)
# R-STALE: these mean nothing to whoever is in a later view.
_VIEW_BOUND = (PrepareMessage, PrepareOk, Commit, DoViewChange, StartView)
# Whose receivers look at the sender's head, its commit point, its boot.
_TELLS_HEAD = (DoViewChange, Commit)
_TELLS_COMMIT = (PrepareMessage, Commit)
_TELLS_BOOT = (DoViewChange,)
_ANY_VIEW = 1 << 62


@attrs.frozen(eq=False)
class Message:
    """One message to one replica."""

    number: int
    source: int
    destination: int
    envelope: Envelope
    message: PeerMessage
    view: int  # It means something to whoever is in this view or a lower one.
    prints: tuple[bytes, ...]  # Fingerprint under each renaming.


class Post:
    """All messages, by number; equal ones are one."""

    def __init__(self, formers: Sequence[Former]) -> None:
        self._formers = formers
        self.messages: list[Message] = []
        self._numbers: dict[bytes, int] = {}

    def send(self, source: int, destination: int, envelope: Envelope, message: PeerMessage) -> int | None:
        """The number of a message; None for one that is lost."""
        if isinstance(message, _LOST):
            return None
        plain = self._print(0, source, destination, envelope, message)
        number = self._numbers.get(plain)
        if number is None:
            number = self._numbers[plain] = len(self.messages)
            others = [self._print(it, source, destination, envelope, message) for it in range(1, len(self._formers))]
            view = envelope.view if isinstance(message, _VIEW_BOUND) else _ANY_VIEW
            self.messages.append(Message(number, source, destination, envelope, message, view, (plain, *others)))
        return number

    def number_of(self, print_: bytes) -> int | None:
        """The message with this fingerprint, if it was sent."""
        return self._numbers.get(print_)

    def _print(self, renaming: int, source: int, destination: int, envelope: Envelope, message: PeerMessage) -> bytes:
        form, kind = self._formers[renaming].form, type(message)
        head = envelope.op if kind in _TELLS_HEAD else 0
        commit = envelope.commit if kind in _TELLS_COMMIT else 0
        boot = envelope.boot if kind in _TELLS_BOOT else 0
        return fingerprint((kind.__name__, source, destination, envelope.view, head, commit, boot, form(message)))


@attrs.frozen
class Hearing:
    """What messages a replica may still act on, in this state or a later one."""

    view: int
    durable_view: int
    log_view: int  # Durable.
    durable: frozenset[bytes]  # Entries of the log of that view that no crash takes away.
    acknowledged: tuple[tuple[int, int], ...]  # As primary: the highest op by voter.
    may_lead: bool  # Its view; false once it crashed while it led.

    def may_act_on(self, message: Message) -> bool:
        """Whether it does anything now but drop it; it may answer that the message is stale, which is lost here."""
        return message.view >= self.view

    def is_spent(self, message: Message) -> bool:
        """Whether it has no effect now, nor ever will have."""
        view, it = message.view, message.message
        if view < self.durable_view:
            return True
        match it:
            case DoViewChange():
                return self.log_view >= view
            case StartView():
                # Whoever has the log of that view may be told more of it, or that it is another than it was.
                return self.log_view > view or (self.log_view == view and self.durable.issuperset(it.checksums))
            case PrepareMessage():
                return self.log_view == view and it.prepare.checksum in self.durable
            case PrepareCopy():
                return it.prepare.checksum in self.durable
            case PrepareOk():
                known = dict(self.acknowledged).get(message.source, 0)
                return self.view == view and (known >= it.acked.op or not self.may_lead)
            case _:
                return False


def hearing_of(replica: Replica, disk: Disk) -> Hearing:
    """Look at a replica and its disk."""
    state, superblock = replica.state, disk.superblock
    log, low = state.log, min(disk.watermark, state.log.durable_prefix)
    durable = {prepare.checksum for prepare in disk.records if log.checksum(prepare.op) == prepare.checksum}
    ours = frozenset(durable) if log.head <= low else frozenset(it for it in durable if _is_up_to(log, it, low))
    return Hearing(
        state.view,
        superblock.view,
        superblock.log_view,
        ours if state.log_view == superblock.log_view else frozenset(),
        tuple(sorted(replica.normal.acked_ops.items())) if state.is_primary else (),
        state.is_primary or superblock.log_view < state.view,
    )


def _is_up_to(log: Log, checksum: bytes, op: int) -> bool:
    return any(log.checksum(at) == checksum for at in range(log.base.op, op + 1))
