"""A backup that makes checkpoints of a known log, and what it says of them."""

from __future__ import annotations

from tests.core.bench import Bench, chain, checkpoint_at, disk_of, id_at
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    CheckpointId,
)
from trio_pb.core.ports import (
    CheckpointBegin,
)
from trio_pb.core.prepare import Prepare

LIMITS = Limits(checkpoint_interval_ops=8, wal_ops=32, probe_interval_ops=4)
LOG = chain(60)
WRONG = b"w" * 32


def at(op: int) -> CheckpointId:
    """The identity that the checkpoint after `op` of LOG must have."""
    return checkpoint_at(LOG, op).id


def wrong_at(op: int) -> CheckpointId:
    """Another one."""
    return CheckpointId(op, WRONG)


def backup(replica: int = 1, *, voters: int = 3, held_back: tuple[type, ...] = (), ops: int = 0) -> Bench:
    """A backup of replica 0's view that has applied `ops` of LOG."""
    b = Bench(disk_of(replica, voters=voters), limits=LIMITS, held_back=held_back)
    follow(b, ops)
    return b


def follow(b: Bench, ops: int, log: list[Prepare] = LOG) -> None:
    """The primary sends everything up to `ops`, and then that it is committed."""
    for prepare in log[b.head : ops]:
        b.hear_prepare(prepare)
    if ops:
        b.hear_heartbeat(id_at(log, ops), commit=ops)


def certified(b: Bench) -> int:
    """What it believes to be certified."""
    return b.replica.report().certified


def wal_low(b: Bench) -> int:
    """The lowest op that it can still serve."""
    return b.replica.report().wal_low


def begun(b: Bench) -> list[int]:
    """Ops at which it froze its state."""
    return [begin.state.op for begin in b.given(CheckpointBegin)]
