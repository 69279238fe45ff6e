"""INV-12, second half: whatever quorum of disks comes back, an answered op survives the next view change.

Sampled when a client is answered. Every view change quorum of disks, each as a power cut now would leave
it, states its log as a restarted replica would, and the selection of the shipped code runs on that.
"""

from __future__ import annotations

from itertools import combinations

from sim.oracles.facts import DiskFacts, Facts, violate
from sim.oracles.watch import Oracle
from trio_pb.core.durable import RecordHeader, Scan, Superblock
from trio_pb.core.log import Hold
from trio_pb.core.manifest import CoreState
from trio_pb.core.messages import GENESIS_CHECKPOINT, DoViewChange, EntryState, LogEntry, Reject, Reply
from trio_pb.core.recovery import recover
from trio_pb.core.selection import Undecided, select
from trio_pb.errors import StorageError

__all__ = ["AnsweredSurvives"]

SAMPLE = 16  # One answer in so many: a sample costs about as much as twenty steps.


class AnsweredSurvives(Oracle):
    """Would the op still be there after any restart of any quorum."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._answers = 0
        self.samples = 0

    def on_to_client(self, replica: int, message: Reply | Reject) -> None:
        """Sample the answers to requests that were executed."""
        if type(message) is not Reply or message.number == 0 or message.op > self.facts.committed_op:
            return
        self._answers += 1
        if self._answers % SAMPLE == 1:
            self.samples += 1
            self._judge(replica, message.op)

    def _judge(self, replica: int, op: int) -> None:
        facts = self.facts
        statements = {disk.replica: self._statement(disk) for disk in facts.disks.values()}
        voters = tuple(sorted(statements))
        stated = {voter: statement for voter, statement in statements.items() if statement is not None}
        for quorum in combinations(sorted(stated), facts.quorums.view_change):
            logs = {voter: stated[voter][0] for voter in quorum}
            heads = {voter: stated[voter][1] for voter in quorum}
            chosen = select(logs, heads, voters, facts.quorums)
            if isinstance(chosen, Undecided) or chosen.base.op >= op:
                continue  # It waits for more voices; or the op is known committed there.
            index = op - chosen.base.op - 1
            if index >= len(chosen.checksums) or chosen.checksums[index] != facts.committed[op]:
                names = ", ".join(f"R{voter}" for voter in quorum)
                violate("INV-12", f"R{replica} answers with op {op}; a view change of {names} would drop it")

    def _statement(self, disk: DiskFacts) -> tuple[DoViewChange, int] | None:
        """The do_view_change of a replica that starts from this disk, and its head (6.3, 7.1); None: it has no vote."""
        if disk.is_wiped:
            return None
        if disk.is_damaged and disk.examine is not None:
            # What its storage work made durable may not be there any more: look.
            examined = disk.examine()
            if examined is None or _is_amnesiac(examined[1]):
                return None
            if self.facts.is_beyond:
                return self._statement_beyond(disk, *examined)
            return self._statement_of(*examined)
        prepares = self.facts.prepares
        records = tuple(
            RecordHeader(p.op, p.checksum, p.parent, p.view, p.commit)
            for p in sorted((prepares[checksum] for checksum in disk.records), key=lambda p: (p.op, p.checksum))
        )
        return self._statement_of(disk.superblock, Scan(disk.proof, True, records))

    def _statement_beyond(self, disk: DiskFacts, superblock: Superblock, scan: Scan) -> tuple[DoViewChange, int] | None:
        """None as well for a disk whose start changes what can be demanded, and for one that its replica refuses."""
        if disk.misremembers(superblock, scan):
            return None
        try:
            return self._statement_of(superblock, scan)
        except StorageError:
            return None

    def _statement_of(self, superblock: Superblock, scan: Scan) -> tuple[DoViewChange, int]:
        found = recover(superblock, scan, _checkpoint(superblock))
        log, commit = found.log, found.commit_known
        entries: list[LogEntry] = []
        for op in range(commit.op + 1, log.head + 1):
            state = EntryState.PRESENT
            if log.hold(op) is Hold.MISSING:
                state = EntryState.FAULT if op <= found.acked else EntryState.NACK
            entries.append(LogEntry(op, log.checksum(op), state))
        message = DoViewChange(
            log_view=superblock.log_view,
            head=log.id(log.head),
            commit=commit,
            entries=tuple(entries),
            last_timestamp=0,
            checkpoint=GENESIS_CHECKPOINT,
            certified=GENESIS_CHECKPOINT,
            wal_low=1,
            configuration=superblock.configuration,
            pending=None,
        )
        return message, log.head


def _is_amnesiac(scan: Scan) -> bool:
    return scan.proof is None or not scan.has_log


def _checkpoint(superblock: Superblock) -> CoreState | None:
    """The part of a checkpoint that recovery looks at: where it stands in the log."""
    if superblock.anchor is None:
        return None
    return CoreState(
        op=superblock.anchor.op,
        checksum=superblock.anchor.checksum,
        last_timestamp=0,
        release=0,
        configuration=superblock.configuration,
        probe=b"",
        sessions=(),
    )
