"""What happened so far, as far as it binds what may happen next: the memory of the safety oracles (PROTOCOL 12).

Part of every state of a world: two worlds whose replicas are alike differ if something was answered in only one.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from sim.exhaust.canonical import Entries, Renaming, fingerprint
from sim.exhaust.disk import Disk
from sim.exhaust.step import Applies, Commits, Leads, Leaves, News, Orders, Replies, Starts
from sim.oracles.facts import violate
from trio_pb.core.messages import CODE_REGISTER
from trio_pb.core.ports import ApplyItem
from trio_pb.core.prepare import PrepareId
from trio_pb.core.quorum import Quorums
from trio_pb.core.state import primary_of

__all__ = ["Chronicle", "Judge"]


@attrs.frozen(cache_hash=True)
class Chronicle:
    """The committed log, the log of each view as its primary told it, and who led which view in which boot."""

    committed: tuple[bytes, ...]  # By op, from genesis on.
    logs: tuple[tuple[int, int, bytes], ...]  # (view, op, checksum), sorted.
    leaders: tuple[tuple[int, int, int], ...]  # (view, replica, boot), sorted.

    @property
    def committed_op(self) -> int:
        """The highest op that anybody ever took for committed."""
        return len(self.committed) - 1

    def print(self, renaming: Renaming) -> bytes:
        """Its fingerprint."""
        committed = tuple(map(renaming.name, self.committed))
        logs = tuple([(view, op, renaming.name(checksum)) for view, op, checksum in self.logs])
        return fingerprint((committed, logs, self.leaders))


class Judge:
    """Carries a chronicle on, and objects to what contradicts it."""

    def __init__(self, entries: Entries, quorums: Quorums) -> None:
        self._entries = entries
        self._quorums = quorums
        self._executed: dict[bytes, tuple[frozenset[tuple[bytes, int]], tuple[ApplyItem, ...]]] = {}

    def judge(self, before: Chronicle, replica: int, news: Sequence[News], disks: Sequence[Disk]) -> Chronicle:
        """What is known after a replica's step; `disks` are as they are after it.

        Raises:
            Violation: it contradicts what happened before.
        """
        after = before
        for it in news:
            if isinstance(it, Commits):  # First of all: the rest of a step follows from it.
                after = self._commit(after, replica, it.entry, disks)
        for it in news:
            match it:
                case Applies():
                    self._apply(after, replica, it)
                case Replies():
                    self._reply(after, replica, it)
                case Starts():
                    after = self._start(after, replica, it, disks)
                case Orders():
                    after = self._order(after, replica, it)
                case Leads():
                    after = self._lead(after, replica, it)
                case Leaves():
                    after = self._leave(after, replica, it)
                case Commits():
                    pass
        return after

    def _commit(self, known: Chronicle, replica: int, entry: PrepareId, disks: Sequence[Disk]) -> Chronicle:
        """INV-2 and 11: one committed log, each op of it on a quorum of disks when it first commits."""
        by_checksum = self._entries.by_checksum
        chain = [entry.checksum]
        for _ in range(entry.op - known.committed_op - 1):
            chain.append(by_checksum[chain[-1]].parent)
        chain.reverse()
        below = known.committed[entry.op] if entry.op <= known.committed_op else by_checksum[chain[0]].parent
        expected = entry.checksum if entry.op <= known.committed_op else known.committed[-1]
        if below != expected:
            op = min(entry.op, known.committed_op)
            violate("INV-2", f"R{replica} takes for committed at op {op} another entry than the one committed first")
        if entry.op <= known.committed_op:
            return known
        holders = [
            number for number, disk in enumerate(disks) if disk.watermark >= entry.op and disk.holds(entry, by_checksum)
        ]
        if len(holders) < self._quorums.replication:
            names = ", ".join(f"R{holder}" for holder in holders) or "none"
            quorum = self._quorums.replication
            violate("INV-11", f"R{replica} commits op {entry.op}; disks that hold it: {names}, quorum {quorum}")
        return attrs.evolve(known, committed=(*known.committed, *chain))

    def _apply(self, known: Chronicle, replica: int, applied: Applies) -> None:
        """INV-1 and 18: what is executed is committed, and each request once."""
        if applied.op > known.committed_op:
            violate("INV-1", f"R{replica} executes op {applied.op}, which is not committed")
        _, items = self._execute(known.committed[applied.op])
        if items != applied.items:
            count, right = len(applied.items), len(items)
            violate("INV-18", f"R{replica} executes {count} requests at op {applied.op}, the model {right}")

    def _reply(self, known: Chronicle, replica: int, reply: Replies) -> None:
        """INV-12 and 19: a client hears of a committed op, and of the one that executed its request."""
        if reply.op > known.committed_op:
            violate("INV-12", f"R{replica} answers a client with op {reply.op}, which is not committed")
        _, items = self._execute(known.committed[reply.op])
        if reply.number and reply.client not in {item.client for item in items}:
            violate("INV-19", f"R{replica} answers number {reply.number} with op {reply.op}: not executed there")

    def _execute(self, checksum: bytes) -> tuple[frozenset[tuple[bytes, int]], tuple[ApplyItem, ...]]:
        """Requests executed up to an entry, and those that the entry itself executes."""
        known = self._executed.get(checksum)
        if known is not None:
            return known
        entry = self._entries.by_checksum[checksum]
        done = self._execute(entry.parent)[0] if entry.op else frozenset[tuple[bytes, int]]()
        items: list[ApplyItem] = []
        for index, request in enumerate(entry.requests()):
            if request.code != CODE_REGISTER and (request.client, request.number) not in done:
                items.append(ApplyItem(index, request.client, request.code, request.body))
                done = done | {(request.client, request.number)}
        result = self._executed[checksum] = (done, tuple(items))
        return result

    def _start(self, known: Chronicle, replica: int, start: Starts, disks: Sequence[Disk]) -> Chronicle:
        """INV-6, 7, 10 and 12: a view begins with one log, which is durable and has everything that is committed."""
        entries = [start.base, *[PrepareId(start.base.op + 1 + i, it) for i, it in enumerate(start.checksums)]]
        head = entries[-1]
        if start.view not in {view for view, _, _ in known.logs}:  # What it is told again for may be old news.
            if not disks[replica].holds(head, self._entries.by_checksum):
                violate(
                    "INV-10", f"R{replica} starts view {start.view} without durable records up to its head {head.op}"
                )
            if head.op < known.committed_op:
                text = f"R{replica} starts view {start.view} with head {head.op}; op {known.committed_op} is committed"
                violate("new log", text)
            for op, checksum in entries:
                if op <= known.committed_op and known.committed[op] != checksum:
                    text = f"R{replica} starts view {start.view} with another op {op} than the committed one"
                    violate("new log", text)
        for op, checksum in entries:
            known = self._note(known, replica, start.view, op, checksum, "INV-6")
        return known

    def _order(self, known: Chronicle, replica: int, order: Orders) -> Chronicle:
        """INV-3: a primary gives an op one entry."""
        return self._note(known, replica, order.view, order.op, order.checksum, "INV-3")

    def _note(self, known: Chronicle, replica: int, view: int, op: int, checksum: bytes, rule: str) -> Chronicle:
        for of_view, at, told in known.logs:
            if (of_view, at) == (view, op):
                if told != checksum:
                    violate(rule, f"R{replica} tells two entries for op {op} of view {view}")
                return known
        return attrs.evolve(known, logs=tuple(sorted((*known.logs, (view, op, checksum)))))

    def _lead(self, known: Chronicle, replica: int, lead: Leads) -> Chronicle:
        """INV-5: a view is led by one replica, in one boot."""
        for view, leader, boot in known.leaders:
            if view == lead.view:
                if (leader, boot) != (replica, lead.boot):
                    text = f"R{replica} boot {lead.boot} leads view {view} after R{leader} boot {boot} did"
                    violate("INV-5", text)
                return known
        return attrs.evolve(known, leaders=tuple(sorted((*known.leaders, (lead.view, replica, lead.boot)))))

    def _leave(self, known: Chronicle, replica: int, leave: Leaves) -> Chronicle:
        """Nobody can say anything of the views before that this replica led: what was said need not be remembered."""
        past = {view for view, _, _ in known.leaders if view < leave.view and primary_of(view) == replica}
        logs = tuple([it for it in known.logs if it[0] not in past])
        return attrs.evolve(known, logs=logs, leaders=tuple([it for it in known.leaders if it[0] not in past]))
