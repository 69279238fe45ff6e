"""Beyond the fault model: which disks took back what they had made durable, and what was lost by that.

A replica's word about its past is right as long as its disk keeps what was flushed, or shows that it did not
(PROTOCOL 7.4). A disk that goes back in time without a trace makes its replica deny what it acknowledged, and one
such replica is enough: a replication quorum and a view change quorum may have only that one in common. So nobody,
whatever the protocol, can tell that a committed op was lost. The simulator can.
"""

from __future__ import annotations

from sim.oracles.facts import Facts
from trio_pb.core.durable import Scan, Superblock
from trio_pb.core.messages import StartView
from trio_pb.core.prepare import PrepareId

__all__ = ["Testimony"]


class Testimony:
    """What the disks of a run remember, and from which op on what committed is not certain any more."""

    def __init__(self, facts: Facts, *, may_fail: bool) -> None:
        """`may_fail`: nothing in this run keeps disks from going back in time."""
        self.facts = facts
        self.may_fail = may_fail
        self.misremembering: set[int] = set()  # Replicas.
        self.fork: int | None = None  # The lowest op that committed and was lost, whether or not another is there now.
        self._started: set[int] = set()  # Views whose log is known.

    @property
    def is_lost(self) -> bool:
        """Whether any replica misremembers: what rests on promises is not owed any more."""
        return bool(self.misremembering)

    def hear(self, replica: int, superblock: Superblock, scan: Scan) -> None:
        """A replica opened its disk: does it still remember what it promised, or know that it does not (7.3)?"""
        if self.may_fail and self.facts.disks[replica].misremembers(superblock, scan):
            self.misremembering.add(replica)

    def note_start_view(self, view: int, message: StartView) -> None:
        """A view begins: maybe without what was committed."""
        if view in self._started:
            return
        self._started.add(view)
        committed = self.facts.committed
        head = message.base.op + len(message.checksums)
        if head < self.facts.committed_op:
            self._lose(head + 1)
        for op, checksum in enumerate((message.base.checksum, *message.checksums), message.base.op):
            if op < len(committed) and committed[op] != checksum:
                self.note_other(PrepareId(op, checksum))
                return

    def note_other(self, id: PrepareId) -> None:  # noqa: A002 -- the paper's word for it
        """`id` is taken for committed, and is not what committed there first: find where the two part."""
        op, checksum = id
        committed, prepares = self.facts.committed, self.facts.prepares
        while op > 0 and committed[op : op + 1] != [checksum]:
            self._lose(op)
            prepare = prepares.get(checksum)
            if prepare is None:
                self._lose(1)  # Nobody saw how it came about.
                return
            op, checksum = op - 1, prepare.parent

    def _lose(self, op: int) -> None:
        self.fork = op if self.fork is None else min(self.fork, op)
