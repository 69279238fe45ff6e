"""Honest replicas and nothing else: what may stand in the do_view_changes that `select` is given.

Voters append, acknowledge, crash, rot, state their logs and install what is selected, each at any moment,
by the rules of PROTOCOL 5.3, 6.3 and 6.5. What a replication quorum acknowledged in one view is remembered
from outside, and must be in every log selected afterwards.
"""

from __future__ import annotations

import attrs

from tests.core.bench import GENESIS, chain, statement
from trio_pb.core.messages import DoViewChange, EntryState
from trio_pb.core.prepare import Prepare, PrepareId
from trio_pb.core.quorum import quorums_of
from trio_pb.core.selection import Selected, Undecided, select

__all__ = ["Selection", "Voter"]


@attrs.define(eq=False)
class Voter:
    """One voter's durable state: its log, what of it is readable, what it promised."""

    view: int = 0
    log_view: int = 0
    log: list[Prepare] = attrs.field(factory=list[Prepare])
    held: set[int] = attrs.field(factory=set[int])  # Ops whose body is readable.
    acked: int = 0
    commit: int = 0

    def state_of(self, op: int) -> EntryState:
        """R-NACK: nothing at or below the watermark is denied."""
        if op in self.held:
            return EntryState.PRESENT
        return EntryState.FAULT if op <= self.acked else EntryState.NACK

    def statement(self) -> DoViewChange:
        """Our do_view_change."""
        states = {prepare.op: self.state_of(prepare.op) for prepare in self.log}
        commit = min(self.commit, len(self.log))
        return statement(self.log, log_view=self.log_view, commit=commit, states=states)


class Selection:
    """Voters 0..n-1; a view's primary is whoever selects its log, so any number of views may follow."""

    def __init__(self, voters: int) -> None:
        self.quorums = quorums_of(voters)
        self.voters = [Voter() for _ in range(voters)]
        self.logs: dict[int, list[Prepare]] = {0: []}  # View -> its whole log, as the primary of that view has it.
        self.acks: dict[int, dict[int, int]] = {}  # View -> voter -> op acknowledged in that view.
        self.committed: list[PrepareId] = []
        self.undecided = 0
        self.installs = 0

    # --- One view -------------------------------------------------------------------------------

    def order(self, voter: int) -> None:
        """The view of this voter's log gets another op, and the voter holds it, not yet acknowledged."""
        me = self.voters[voter]
        if me.view != me.log_view:
            return
        log = self.logs[me.log_view]
        if len(me.log) == len(log):
            last = log[-1] if log else None
            log.extend(chain(1, after=last, view=me.log_view, tag=b"view %d" % me.log_view))
        prepare = log[len(me.log)]
        me.log.append(prepare)
        me.held.add(prepare.op)

    def acknowledge(self, voter: int) -> None:
        """R-ACK: everything held, and in the view of its log."""
        me = self.voters[voter]
        if me.view != me.log_view or len(me.held) < len(me.log):
            return
        me.acked = max(me.acked, len(me.log))
        acks = self.acks.setdefault(me.view, {})
        acks[voter] = max(acks.get(voter, 0), len(me.log))
        marks = sorted(acks.values(), reverse=True)
        if len(marks) >= self.quorums.replication:
            op = marks[self.quorums.replication - 1]
            for at in range(len(self.committed), op):
                self.committed.append(self.logs[me.view][at].id)

    def catch_up(self, voter: int) -> None:
        """Everything that its view has ordered arrives, bodies that were lost included."""
        me = self.voters[voter]
        while me.view == me.log_view and len(me.log) < len(self.logs[me.log_view]):
            self.order(voter)
        if me.view == me.log_view:
            me.held = set(range(1, len(me.log) + 1))

    def learn_commit(self, voter: int) -> None:
        """A heartbeat or gossip tells how far the cluster is."""
        me = self.voters[voter]
        op = min(len(self.committed), len(me.log))
        if op and me.log[op - 1].id == self.committed[op - 1]:
            me.commit = max(me.commit, op)

    def rot(self, voter: int, back: int) -> None:
        """A record near the head turns unreadable: acknowledged or not, it makes no difference to the disk."""
        me = self.voters[voter]
        me.held.discard(len(me.log) - back)

    # --- View change ----------------------------------------------------------------------------

    def change_view(self, primary: int, others: list[int]) -> None:
        """`primary` and `others` promise a new view and state their logs; it selects, repairs, installs."""
        stating = sorted({primary, *others})
        if len(stating) < self.quorums.view_change:
            return
        view = max(voter.view for voter in self.voters) + 1
        for voter in stating:
            self.voters[voter].view = view
        logs = {voter: self.voters[voter].statement() for voter in stating}
        heads = {voter: len(self.voters[voter].log) for voter in stating}
        chosen = select(logs, heads, tuple(range(len(self.voters))), self.quorums)
        if isinstance(chosen, Undecided):
            self.undecided += 1
            return
        self.check(chosen)
        self.logs[view] = self.whole(chosen)
        self.install(primary, view, repaired=True)

    def check(self, chosen: Selected) -> None:
        """Nothing committed is lost (6.6), and the log chosen continues its base."""
        assert chosen.head >= len(self.committed), f"a committed op was truncated: {chosen}"
        ids = [PrepareId(chosen.base.op + 1 + i, checksum) for i, checksum in enumerate(chosen.checksums)]
        for id_ in [chosen.base, *ids]:
            if 1 <= id_.op <= len(self.committed):
                assert id_ == self.committed[id_.op - 1], "another prepare stands at a committed op"
        assert chosen.base == GENESIS or chosen.base == self.committed[chosen.base.op - 1]

    def whole(self, chosen: Selected) -> list[Prepare]:
        """The chosen log from op 1 on."""
        bodies = {prepare.id: prepare for log in self.logs.values() for prepare in log}
        below = [bodies[id_] for id_ in self.committed[: chosen.base.op]]
        above = [bodies[PrepareId(len(below) + 1 + i, checksum)] for i, checksum in enumerate(chosen.checksums)]
        return below + above

    def install(self, voter: int, view: int, *, repaired: bool = False) -> None:
        """6.5: the log of `view` in one step; the watermark stays at most at the common prefix."""
        me, log = self.voters[voter], self.logs.get(view)
        if log is None or view < me.view or view <= me.log_view:
            return
        self.installs += 1
        common = 0
        while common < min(len(me.log), len(log)) and me.log[common].id == log[common].id:
            common += 1
        me.view = me.log_view = view
        me.acked = min(me.acked, common)
        me.held = {op for op in me.held if op <= common}
        me.log = list(log)
        if repaired:
            me.held = set(range(1, len(log) + 1))
