"""What a restart may believe: from superblock, proof and scanned records to a log (R-SCAN, PROTOCOL 7).

Nothing at or below the acknowledged watermark is ever given up, and nothing above it is taken for
more than it is: a torn tail was never acknowledged, a hole below the watermark is a fault to repair.
"""

from __future__ import annotations

import attrs

from trio_pb.core.durable import BOOT_SHIFT, Proof, RecordHeader, Scan, Superblock
from trio_pb.core.log import Hold, Log
from trio_pb.core.manifest import CoreState
from trio_pb.core.marks import Mark, reach
from trio_pb.core.messages import Status
from trio_pb.core.prepare import CHECKSUM_SIZE, NO_CHECKSUM, PrepareId, genesis
from trio_pb.core.state import primary_of
from trio_pb.errors import StorageError

__all__ = ["Recovered", "recover"]


@attrs.frozen(kw_only=True)
class Recovered:
    """The outcome of a scan."""

    log: Log
    proven: int  # Watermark of the newest proof of this lineage, 0 without one.
    acked: int
    commit_max: int
    commit_known: PrepareId
    status: Status
    faults: int  # Ops at or below `acked` without a readable record.
    found: int  # Ops above it that must be written again.
    is_state_lost: bool  # No state loads from which the log goes on: nothing can be applied (R-SCAN 1).


def recover(superblock: Superblock, scan: Scan, checkpoint: CoreState | None) -> Recovered:
    """Apply R-SCAN 1 to 6 and PROTOCOL 7.2; `checkpoint` is the one that loaded.

    Raises:
        StorageError: the disk contradicts itself, or a single replica lost data for good.
    """
    proof = scan.proof
    is_amnesiac = proof is None or not scan.has_log
    if proof is not None and proof.log_view > superblock.log_view:
        raise StorageError(
            f"a proof of log view {proof.log_view} is newer than the superblock's {superblock.log_view}: "
            "the superblock went back in time; replace this replica"
        )
    if proof is not None and proof.sequence >> BOOT_SHIFT > superblock.boot:
        raise StorageError(
            f"a proof of boot {proof.sequence >> BOOT_SHIFT} is newer than the superblock's boot {superblock.boot}: "
            "the superblock went back in time; replace this replica"
        )
    if proof is not None and not _is_of_lineage(proof, superblock):
        reach(Mark.PROOF_VOID)
        proof = None
    proven = proof.acked if proof is not None else 0
    acked = max(proven, superblock.install.ack_floor)
    records = {(record.op, record.checksum): record for record in scan.records}
    anchor = superblock.anchor or genesis(superblock.cluster).id
    # Before the first certificate the certified checkpoint is the empty state, which always loads: we have freed
    # nothing yet (R-GC), so the log goes on from there.
    is_state_lost = checkpoint is None and min(superblock.checkpoint.op, superblock.certified.op) > 0
    without = anchor if is_state_lost else genesis(superblock.cluster).id
    start = without if checkpoint is None else checkpoint.id
    log = _identify(superblock, proof, records, acked, anchor, start)
    faults, found = _classify(log, records, acked, start.op)
    commit_max, commit_known = _commit_point(
        superblock, scan.proof, log, records, max(anchor, start, key=lambda it: it.op)
    )
    is_alone = len(superblock.configuration.voters) == 1
    if is_alone and (faults or is_amnesiac or is_state_lost or commit_max > log.head):
        raise StorageError(
            "this replica is the only one of its cluster and acknowledged entries are unreadable: "
            "restore the data directory from a backup; nothing was changed"
        )
    return Recovered(
        log=log,
        proven=proven,
        acked=acked,
        commit_max=commit_max,
        commit_known=commit_known,
        status=_status(superblock, is_amnesiac=is_amnesiac),
        faults=faults,
        found=found,
        is_state_lost=is_state_lost,
    )


def _is_of_lineage(proof: Proof, superblock: Superblock) -> bool:
    return proof.log_view == superblock.log_view and proof.sequence > superblock.install.proof_base


def _status(superblock: Superblock, *, is_amnesiac: bool) -> Status:
    """PROTOCOL 7.2."""
    if superblock.retired:
        return Status.RETIRED
    if not superblock.born:
        return Status.UNBORN
    if is_amnesiac:
        reach(Mark.AMNESIA)
        return Status.AMNESIAC
    if superblock.view > superblock.log_view:
        reach(Mark.RESUMED_VIEW_CHANGE)
        return Status.VIEW_CHANGE
    if primary_of(superblock.view) == superblock.replica:
        reach(Mark.EX_PRIMARY)
        return Status.EX_PRIMARY  # We may have sent prepares that we no longer remember (T-6).
    return Status.NORMAL


def _identify(
    superblock: Superblock,
    proof: Proof | None,
    records: dict[tuple[int, bytes], RecordHeader],
    acked: int,
    anchor: PrepareId,
    start: PrepareId,
) -> Log:
    """R-SCAN 4 and 5: which prepares our log consists of. State was frozen after `start`."""
    install = superblock.install
    known: dict[int, bytes] = {it.op: it.checksum for it in (install.base, anchor, start)}
    known.update({install.base.op + 1 + i: checksum for i, checksum in enumerate(install.checksums)})
    if proof is not None:
        count = len(proof.checksums) // CHECKSUM_SIZE
        for i in range(count):
            at = i * CHECKSUM_SIZE
            known[proof.acked - count + 1 + i] = proof.checksums[at : at + CHECKSUM_SIZE]
    head = max(acked, install.head, anchor.op, start.op)
    # Upwards: only what this very view ordered; an older record there is a leftover of a truncated
    # suffix (T-19).
    by_parent = {(r.op, r.parent): r for r in records.values() if r.view == superblock.log_view}
    while (above := by_parent.get((head + 1, known.get(head, NO_CHECKSUM)))) is not None:
        head += 1
        known[head] = above.checksum
    if any(record.op == head + 1 and record.parent == known.get(head) for record in records.values()):
        reach(Mark.OLD_LEFTOVER)
    # Downwards: each record names the one below it.
    for op in range(head, start.op, -1):
        record = records.get((op, known[op])) if op in known else None
        if record is not None and op - 1 not in known:
            if (op - 1, record.parent) not in records:
                reach(Mark.IDENTITY_BY_CHILD)
            known[op - 1] = record.parent
    # Below the state only what is there without a gap: to serve it to those who lag.
    base = start
    while (record := records.get((base.op, base.checksum))) is not None:
        known[base.op] = base.checksum
        base = PrepareId(base.op - 1, record.parent)
    log = Log(base)
    checksums = [known.get(op) for op in range(base.op + 1, head + 1)]
    log.extend_identities([checksum if checksum is not None else NO_CHECKSUM for checksum in checksums])
    for op, checksum in enumerate(checksums, start=base.op + 1):
        if checksum is None:
            reach(Mark.IDENTITY_UNKNOWN)
            log.forget_identity(op)
    return log


def _classify(log: Log, records: dict[tuple[int, bytes], RecordHeader], acked: int, start_op: int) -> tuple[int, int]:
    """The verdict table of PROTOCOL 7.1; returns the numbers of faults and of records to write again."""
    faults = found = 0
    for op in range(log.base.op + 1, log.head + 1):
        checksum = log.checksum(op)
        is_present = checksum is not None and (op, checksum) in records
        if is_present and op <= max(acked, start_op):
            log.mark_found(op, Hold.DURABLE)
        elif is_present:
            log.mark_found(op, Hold.FOUND)
            reach(Mark.FOUND_AGAIN)
            found += 1
        elif op <= acked:
            reach(Mark.FAULT_FOUND)
            faults += 1
        else:
            reach(Mark.TORN_TAIL)
    log.settle_prefixes()
    return faults, found


def _commit_point(
    superblock: Superblock,
    proof: Proof | None,
    log: Log,
    records: dict[tuple[int, bytes], RecordHeader],
    start: PrepareId,
) -> tuple[int, PrepareId]:
    """The best of superblock, proof, checkpoint and the records of our log: commit facts never expire."""
    known = max(superblock.commit, start, key=lambda it: it.op)
    if proof is not None and proof.commit.op > known.op:
        known = proof.commit
    commit_max = known.op
    for op in range(log.head, max(log.base.op, log.head - 64), -1):
        checksum = log.checksum(op)
        record = records.get((op, checksum)) if checksum is not None else None
        if record is not None:
            if record.commit > commit_max:
                reach(Mark.COMMIT_FROM_RECORD)
            commit_max = max(commit_max, record.commit)
    checksum = log.checksum(commit_max)
    if checksum is not None:
        known = PrepareId(commit_max, checksum)
    return commit_max, known
