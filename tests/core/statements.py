"""What the hand says in the name of peers, on the bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.core.disk_image import CLUSTER, id_at, incarnation
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    Configuration,
    DoViewChange,
    EntryState,
    Envelope,
    LogEntry,
)
from trio_pb.core.prepare import Prepare

__all__ = ["envelope", "statement"]


def envelope(replica: int, *, view: int, op: int = 0, commit: int = 0, boot: int = 2) -> Envelope:
    """What the frames of `replica` say of it."""
    return Envelope(
        cluster=CLUSTER,
        replica=replica,
        incarnation=incarnation(replica)[:8],
        boot=boot,
        epoch=0,
        view=view,
        op=op,
        commit=commit,
        release=1,
    )


def statement(
    log: Sequence[Prepare],
    *,
    log_view: int,
    commit: int = 0,
    states: Mapping[int, EntryState] | None = None,
    nameless: Sequence[int] = (),
    last_timestamp: int = 0,
) -> DoViewChange:
    """A do_view_change over `log`; every op above `commit` is present unless `states` says otherwise."""
    states = states or {}
    entries = tuple(
        LogEntry(p.op, None if p.op in nameless else p.checksum, states.get(p.op, EntryState.PRESENT))
        for p in log[commit:]
    )
    return DoViewChange(
        log_view=log_view,
        head=id_at(log, len(log)),
        commit=id_at(log, commit),
        entries=entries,
        last_timestamp=last_timestamp,
        checkpoint=GENESIS_CHECKPOINT,
        certified=GENESIS_CHECKPOINT,
        wal_low=1,
        configuration=Configuration(0, (0, 1, 2)),
        pending=None,
    )
