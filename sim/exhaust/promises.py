"""Would the disk of a replica keep, right now, what it just promised? Judged from the replica alone.

The essential form of `sim.oracles.promises` over one state: what those remember of the past stands on the disk.
"""

from __future__ import annotations

from sim.exhaust.canonical import Entries
from sim.exhaust.disk import Disk
from sim.oracles.facts import violate
from trio_pb.core.messages import CommitOk, DoViewChange, EntryState, PrepareOk, StartView
from trio_pb.core.ports import Send
from trio_pb.core.prepare import PrepareId

__all__ = ["check_promise"]


def check_promise(replica: int, disk: Disk, send: Send, entries: Entries) -> None:
    """Compare what leaves with what a power cut now would leave.

    Raises:
        Violation: they differ.
    """
    view, message, durable = send.envelope.view, send.message, disk.superblock
    if view > durable.view:
        kind = type(message).__name__
        violate("INV-4", f"R{replica} sends {kind} of view {view}, durable view {durable.view}")
    if send.envelope.boot > durable.boot:
        violate("INV-4", f"R{replica} speaks in boot {send.envelope.boot}, durable boot {durable.boot}")
    acked = message.acked if isinstance(message, PrepareOk | CommitOk) else None
    if acked is not None:
        _check_acknowledgement(replica, disk, view, acked, entries)
    elif isinstance(message, DoViewChange):
        _check_statement(replica, disk, send.envelope.op, message)
    elif isinstance(message, StartView) and durable.log_view != view:
        violate("INV-10", f"R{replica} starts view {view}; durable log_view {durable.log_view}")


def _check_acknowledgement(replica: int, disk: Disk, view: int, acked: PrepareId, entries: Entries) -> None:
    durable = disk.superblock
    if durable.view > view:
        violate("INV-9", f"R{replica} acknowledges in view {view} after it promised view {durable.view}")
    if durable.log_view != view:
        violate("INV-8", f"R{replica} acknowledges in view {view}; durable log_view {durable.log_view}")
    if disk.watermark < acked.op:
        violate("INV-8", f"R{replica} acknowledges op {acked.op}; its durable watermark is {disk.watermark}")
    if not disk.holds(acked, entries.by_checksum):
        violate("INV-8", f"R{replica} acknowledges op {acked.op} without durable records of all up to it")


def _check_statement(replica: int, disk: Disk, head: int, message: DoViewChange) -> None:
    if head < disk.watermark:
        violate("INV-13", f"R{replica} offers a log up to {head}; it promised to keep op {disk.watermark}")
    for entry in message.entries:
        if entry.state is EntryState.NACK and entry.op <= disk.watermark:
            violate("INV-13", f"R{replica} denies op {entry.op}; it promised to keep op {disk.watermark}")
        if entry.state is EntryState.FAULT:
            violate("INV-28", f"R{replica} cannot read op {entry.op}, which it acknowledged; no disk was damaged")
