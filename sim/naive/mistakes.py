"""Twelve mistakes in primary-backup replication, each of them one method of the teaching protocol done differently.

Every class says in three sentences what is done, what is wrong with it, and which rule of trio_pb's protocol
(docs/protocol.md) excludes it. None is far-fetched: most are in first solutions of the classic course
assignment, and several have been in systems that people relied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sim.naive.ports import Entry, Follow, Order, Read
from sim.naive.replica import UNREACHABLE_TICKS, Replica

__all__ = ["MISTAKES"]


class ReplyBeforeReplication(Replica):
    """The primary executes an order and answers it, and forwards it to the backups on the side.

    If it dies before a backup has the order, nobody has it who is alive, and yet its client was told that it is
    safe. Here an answer needs a commit, and a commit needs a replication quorum that holds the prepare on its
    disks (R-COMMIT, INV-11).
    """

    def is_replicated(self, position: int) -> bool:
        """It will get there."""
        return True


class UnreachableCounted(Replica):
    """A backup that does not answer is counted as if it had acknowledged, so that orders go on while it is away.

    A primary whose backups are all away thus goes on alone, and what it answered dies with it when they return
    and it does not. Here a quorum is a set of voters that said so themselves, and a primary that hears no
    quorum lets go (R-QUORUM, R-COMMIT, T_CQ).
    """

    def holders(self, position: int) -> set[int]:
        """Who does not answer will ask for the log when it is back."""
        silent = {peer for peer, heard in self.heard_tick.items() if self._now - heard >= UNREACHABLE_TICKS}
        return super().holders(position) | silent


class WritePromotes(Replica):
    """A backup that gets an order from a client concludes that the primary must be dead, and becomes primary.

    The client may just have lost its own link to the primary, which is well; now there are two, each with
    a log of its own. Here a backup refuses the order and names the primary, and nobody leads a view without
    a view-change quorum (R-ENTER, INV-5; 5.4, `not_primary`).
    """

    def on_order_at_backup(self, client: int, order: Order) -> None:
        """Why else would it ask me?"""
        self._enter(self.next_own_view())
        self.lead(self.log)
        self.on_order(client, order)


class SilencePromotes(Replica):
    """A backup that hears no heartbeat for a while becomes primary, with the log that it has.

    Silence does not tell a dead primary from a broken cable: both sides go on, and the one that was cut off
    leads without what was ordered meanwhile. Here a suspicion is a wish; a view begins when a quorum wishes it,
    and its log is selected from the logs of a quorum, one of which has every committed op (R-WISH, 6.4).
    """

    def on_silence(self) -> None:
        """Somebody has to do it."""
        self._enter(self.next_own_view())
        self.lead(self.log)


class AppendsBlindly(Replica):
    """A restarted backup asks for the log from index 0 and appends all of it to what it has.

    What it had it now has twice, later orders stand at the wrong positions, and it executes the old ones again.
    Here every prepare has its op and names the one before it, and repair asks for what is missing by identity
    (8.1, INV-16).
    """

    def fill(self, first: int, entries: Sequence[Entry]) -> None:
        """This is what was missing."""
        self.log += entries


class OneBehind(Replica):
    """A backup executes an order when the next one arrives, since only that shows that it was committed.

    The last order before a failover is never followed by another, so the new primary answers from a state
    without it. Here heartbeats carry the commit point as well, and a new primary answers nothing before it has
    executed all that it inherited (5.5, 10.1a; T-10).
    """

    def executable(self) -> int:
        """The last one may not count yet, unless I took it myself."""
        took_one = self.is_primary and len(self.log) > self.inherited
        return self.committed if took_one else min(self.committed, len(self.log) - 1)


class DeposedDiverges(Replica):
    """A primary that was deposed keeps the orders that it took alone, and adds what the new primary has beyond.

    Those orders were never committed, and stand where others of the new view belong; from there on its state
    is another one. Here the log of a new view replaces the old one as a whole, and logs of one view are prefixes
    of one another (6.5, INV-7).
    """

    def install(self, entries: Sequence[Entry]) -> None:
        """No order shall be lost."""
        self.log += entries[len(self.log) :]


class NoRequestIdentity(Replica):
    """An order is what it says and nothing else, so a retry is one more order.

    A client whose answer was lost has to ask again, and gets two laptops. Here a request has a session and a
    number, which are in the log with it; a number that was executed is answered from the session's kept replies
    (5.4, INV-18).
    """

    def position_of(self, order: Order) -> int | None:
        """Somebody may well want two of the same."""
        return None


class ForgetsWhoAsked(Replica):
    """The primary remembers in memory which requests it has taken; backups get the orders only.

    It knows its own retries, but after a failover the new primary has never heard of them, and executes them
    again. Here the sessions are part of the replicated state: each replica rebuilds the table from the log,
    and looks again when it executes (5.4; T-20, INV-18).
    """

    def __init__(self, number: int, replicas: int) -> None:
        super().__init__(number, replicas)
        self.taken: dict[tuple[int, int], int] = {}

    def position_of(self, order: Order) -> int | None:
        """I would remember."""
        position = self.taken.get((order.client, order.number))
        if position is None:
            self.taken[order.client, order.number] = len(self.log) + 1
        return position


class RestartForgets(Replica):
    """The log is in memory; a replica that restarts begins with nothing and gets the rest from the primary.

    It acknowledged orders that only it and the primary had, and if the primary is gone when it comes back there
    is a majority without them. Here a prepare_ok leaves when the prepare is on the disk, and so does the view
    that a replica promised to follow (R-OUT1, 7.2; T-1, INV-8, INV-9).
    """

    def save(self) -> None:
        """Machines are reliable these days."""


class DeposedReads(Replica):
    """The primary answers reads from its own state, since it has executed everything.

    It may have been deposed without hearing of it, and then the others have executed what it has not. Here
    a read waits until a quorum has echoed a round that began after the read came (10.1c; G1, INV-22).
    """

    def on_read(self, client: int, read: Read) -> None:
        """Who if not I?"""
        if self.is_primary:
            self._answer_read(read)
        else:
            super().on_read(client, read)


class LongestLogWins(Replica):
    """A replica that takes over chooses the longest of the logs that it was shown.

    A primary that was cut off may have a long tail of orders that nobody else has, longer than the log of those
    who went on and committed other orders. Here the log of the last view in which a replica was normal counts
    first, and only among equals does length (6.4; T-3).
    """

    def best(self, shown: Iterable[Follow]) -> Sequence[Entry]:
        """The more, the better."""
        return max(shown, key=lambda follow: len(follow.log)).log


MISTAKES: Mapping[str, type[Replica]] = MappingProxyType(
    {
        "reply-before-replication": ReplyBeforeReplication,
        "unreachable-counted": UnreachableCounted,
        "write-promotes": WritePromotes,
        "append-blindly": AppendsBlindly,
        "one-behind": OneBehind,
        "deposed-diverges": DeposedDiverges,
        "no-request-identity": NoRequestIdentity,
        "restart-forgets": RestartForgets,
        "silence-promotes": SilencePromotes,
        "deposed-reads": DeposedReads,
        "retry-after-failover": ForgetsWhoAsked,
        "longest-log-wins": LongestLogWins,
    }
)
