"""Pinned versions that scans read page by page (PROTOCOL 10.5).

All pages of one scan come from one version, hence from one op. A version is dropped after the last
page, when nobody asked for a page for 3,000 ticks, or, the oldest first, when a ninth is needed. Who
asks for a page of a dropped one starts again. Snapshots are local to a replica and no part of state.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import attrs

from trio_pb import canonical
from trio_pb.errors import SnapshotGoneError

__all__ = ["SNAPSHOTS_MAX", "SNAPSHOT_IDLE_TICKS", "Releasable", "Snapshot", "Snapshots"]

SNAPSHOTS_MAX = 8
SNAPSHOT_IDLE_TICKS = 3000


class Releasable(Protocol):
    """A pinned version."""

    def release(self) -> None:
        """Let go of it."""


V = TypeVar("V", bound=Releasable)


@attrs.define(eq=False)
class Snapshot(Generic[V]):
    """A version of the state that a scan is reading."""

    id: int
    op: int  # The state is that after this op.
    purpose: int  # The query code that opened it; no other may go on with it.
    version: V
    used_tick: int


class Snapshots(Generic[V]):
    """The snapshots of one replica's scans, oldest first."""

    def __init__(self) -> None:
        self._open: dict[int, Snapshot[V]] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, *, op: int, purpose: int, now_tick: int, version: V) -> Snapshot[V]:
        """Keep `version` for a scan; drops the oldest snapshot when there are too many."""
        if len(self._open) == SNAPSHOTS_MAX:
            self.close(next(iter(self._open.values())))
        self._last_id += 1
        snapshot = Snapshot(self._last_id, op, purpose, version, now_tick)
        self._open[snapshot.id] = snapshot
        return snapshot

    def close(self, snapshot: Snapshot[V]) -> None:
        """Drop an open snapshot."""
        del self._open[snapshot.id]
        snapshot.version.release()

    def clear(self) -> None:
        """Drop all: the state that they are versions of was replaced. Their ids are never used again."""
        for snapshot in list(self._open.values()):
            self.close(snapshot)

    def expire(self, now_tick: int) -> None:
        """Drop the snapshots that were idle for longer than their idle life."""
        for snapshot in list(self._open.values()):
            if now_tick - snapshot.used_tick > SNAPSHOT_IDLE_TICKS:
                self.close(snapshot)

    def cursor(self, snapshot: Snapshot[V], last_key: int) -> bytes:
        """Return the cursor with which the page after `last_key` is asked for."""
        return canonical.encode([snapshot.id, snapshot.op, last_key])

    def resume(self, cursor: bytes, *, purpose: int, now_tick: int) -> tuple[Snapshot[V], int]:
        """Return the snapshot and the last key of a cursor.

        Raises:
            SnapshotGoneError: the snapshot was dropped, or no such cursor was ever given out.
        """
        try:
            fields = canonical.decode(cursor)
        except canonical.CanonicalError as error:
            raise SnapshotGoneError("not a cursor of this replica") from error
        if type(fields) is not list or len(fields) != 3 or not all(type(field) is int for field in fields):
            raise SnapshotGoneError("not a cursor of this replica")
        snapshot_id, op, last_key = fields
        assert type(snapshot_id) is int
        assert type(last_key) is int
        snapshot = self._open.get(snapshot_id)
        if snapshot is None or snapshot.op != op or snapshot.purpose != purpose or last_key < 0:
            raise SnapshotGoneError("the snapshot of this scan was dropped")
        snapshot.used_tick = now_tick
        return snapshot, last_key
