"""Shadow oracles of what clients are told of their requests and sessions, at the moment it is said (5.4).

A wrong word harms somebody only if the view changes just then and its client asks nobody else: thousands of runs.
"""

from __future__ import annotations

from sim.oracles.facts import Facts, violate
from sim.oracles.read_promises import Voices
from sim.oracles.watch import Oracle
from trio_pb.core.messages import (
    CODE_REGISTER,
    ClientMessage,
    PrepareMessage,
    Reject,
    RejectCode,
    Request,
    ServerMessage,
)
from trio_pb.core.ports import Send, Start
from trio_pb.core.prepare import Prepare, PrepareKind

__all__ = ["CheckpointsKeepReplies", "RefusalsAreCertain", "StrangersAreConfirmed"]

# Said of what was not ordered. The others may be said of what was: it is not executed all the same.
_NOT_ORDERED = (RejectCode.NOT_PRIMARY, RejectCode.BUSY, RejectCode.TOO_LARGE, RejectCode.DISK_FULL)


class StrangersAreConfirmed(Voices):
    """T-33: nobody calls a session gone before a read quorum spoke in one view since its request came."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._came: dict[int, dict[tuple[bytes, int, int], int]] = {}  # Replica -> request -> its first moment.

    def on_start(self, replica: int, _: Start) -> None:
        """Nobody waits at a new process."""
        self._came.pop(replica, None)

    def on_from_client(self, replica: int, message: ClientMessage) -> None:
        """Remember."""
        if type(message) is Request:
            key = (message.client, message.session, message.number)
            self._came.setdefault(replica, {}).setdefault(key, self.said)

    def on_to_client(self, replica: int, message: ServerMessage) -> None:
        """Judge."""
        if type(message) is not Reject or message.code is not RejectCode.NO_SESSION:
            return
        key = message.client, message.session, message.number
        moment = self._came.get(replica, {}).get(key)
        if moment is not None and not self.has_quorum_since(moment) and not self._is_committed(*key):
            violate(
                "no session",
                f"R{replica} declares session {message.session} gone, and no read quorum spoke in one view since then",
            )

    def _is_committed(self, client: bytes, session: int, number: int) -> bool:
        """Whether it was ordered before, perhaps by another primary: then its execution found the session gone."""
        facts = self.facts
        return any(
            (request.client, request.session, request.number) == (client, session, number)
            for checksum in facts.committed[1:]
            if (prepare := facts.prepares[checksum]).kind is PrepareKind.BATCH
            for request in prepare.requests()
        )


class RefusalsAreCertain(Oracle):
    """T-25: of what came to a replica, what it ordered itself is not refused by it.

    A request that comes twice may be ordered once and refused once, when its replica leads no more.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        # Replica -> client and number -> how often it came, less how often it was refused.
        self._open: dict[int, dict[tuple[bytes, int], int]] = {}
        self._ordered: dict[int, set[tuple[bytes, int]]] = {}
        self._unread: dict[int, list[Prepare]] = {}  # Read when something is refused: most never are.

    def on_start(self, replica: int, _: Start) -> None:
        """A new process owes no answer."""
        for known in (self._open, self._ordered, self._unread):
            known.pop(replica, None)

    def on_from_client(self, replica: int, message: ClientMessage) -> None:
        """One more."""
        if type(message) is Request:
            held = self._open.setdefault(replica, {})
            numbers = {message.number, 0} if message.code == CODE_REGISTER else {message.number}
            for number in numbers:  # Registrations are ordered as number 0, whatever they say.
                key = message.client, number
                held[key] = held.get(key, 0) + 1

    def on_prepare(self, replica: int, send: Send, message: PrepareMessage) -> None:
        """It is ordered here; what an older view left over came to somebody else."""
        if message.prepare.kind is PrepareKind.BATCH and message.prepare.view == send.envelope.view:
            self._unread.setdefault(replica, []).append(message.prepare)

    def on_to_client(self, replica: int, message: ServerMessage) -> None:
        """One less; the last may be refused only if none was ordered."""
        if type(message) is not Reject or message.code not in _NOT_ORDERED:
            return
        key = message.client, message.number
        held = self._open.get(replica, {})
        if key not in held:
            return  # A read.
        held[key] -= 1
        if held[key] > 0:
            return
        ordered = self._ordered.setdefault(replica, set())
        for prepare in self._unread.pop(replica, ()):
            ordered.update((request.client, request.number) for request in prepare.requests())
        if key in ordered:
            violate(
                "refusal",
                f"R{replica} refuses number {message.number} ({message.code.name.lower()}), which it ordered itself",
            )


class CheckpointsKeepReplies(Oracle):
    """T-39: of every session a checkpoint has the replies of its last numbers, a window of them."""

    def __init__(self, facts: Facts, window: int) -> None:
        super().__init__(facts)
        self._window = window

    def on_start(self, replica: int, start: Start) -> None:
        """Look at what loads."""
        for row in start.checkpoint.sessions if start.checkpoint is not None else ():
            kept = [reply.number for reply in row.replies]
            if kept != list(range(max(row.last_number - self._window, 0) + 1, row.last_number + 1)):
                violate(
                    "kept reply",
                    f"R{replica}: its checkpoint has replies {kept} of session {row.session}, whose last number is"
                    f" {row.last_number}",
                )
