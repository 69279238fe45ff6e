"""What is under way between the replicas and from clients to them, each named in the words of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
from hypothesis.vendor.pretty import RepresentationPrinter

from tests.core.hand_cluster import describe
from trio_pb.core.messages import (
    Commit,
    CommitOk,
    Envelope,
    PeerMessage,
    Ping,
    Pong,
    Read,
    Request,
    StartViewChange,
)

__all__ = ["Letter", "Mail", "Post", "Question", "Shown"]

# Said again and again: of one sender in one view only the newest waits, those before it are lost.
_REPEATED = (Ping, Pong, Commit, CommitOk, StartViewChange)
WAITING_MAX = 300  # Of all others the oldest are lost.


class Shown:
    """What Hypothesis prints as an argument of a step: what it says of itself, not its fields."""

    def _repr_pretty_(self, printer: RepresentationPrinter, _: bool) -> None:
        printer.text(repr(self))


@attrs.frozen(eq=False, repr=False)
class Letter(Shown):
    """A message of one replica to another."""

    source: int
    target: int
    envelope: Envelope
    message: PeerMessage

    def __repr__(self) -> str:
        return f"<{describe(self.message, self.envelope)} R{self.source}>R{self.target}>"

    def is_replaced_by(self, other: Letter) -> bool:
        """Whether `other` says the same anew."""
        return (
            type(self.message) is type(other.message)
            and (self.source, self.target) == (other.source, other.target)
            and (self.envelope.view, self.envelope.boot) == (other.envelope.view, other.envelope.boot)
        )


@attrs.frozen(eq=False, repr=False)
class Question(Shown):
    """A request or a read of a client."""

    person: int
    target: int
    message: Request | Read

    def __repr__(self) -> str:
        message = self.message
        kind = "read" if isinstance(message, Read) else "request" if message.number else "registration"
        return f"<{kind} {message.number} C{self.person}>R{self.target}>"


Mail: TypeAlias = "Letter | Question"


class Post:
    """The bag: in order of sending, delivered in any."""

    def __init__(self) -> None:
        self.waiting: list[Mail] = []
        self.cut_off: set[int] = set()  # Replicas to and from which nothing gets through.

    def send(self, mail: Mail) -> None:
        """Something leaves."""
        ends = {mail.target, mail.source} if isinstance(mail, Letter) else {mail.target}
        if ends & self.cut_off:
            return
        if isinstance(mail, Letter) and isinstance(mail.message, _REPEATED):
            self.waiting = [it for it in self.waiting if not (isinstance(it, Letter) and it.is_replaced_by(mail))]
        self.waiting.append(mail)
        del self.waiting[:-WAITING_MAX]

    def cut(self, replica: int) -> None:
        """From now on nothing passes; what was on its way neither."""
        self.cut_off.add(replica)
        self.lose(lambda mail: mail.target == replica or (isinstance(mail, Letter) and mail.source == replica))

    def lose(self, is_lost: Callable[[Mail], bool]) -> None:
        """Some of it never arrives."""
        self.waiting = [mail for mail in self.waiting if not is_lost(mail)]
