"""Snapshots of scans: at most 8, 3,000 idle ticks, and no cursor but those given out."""

from __future__ import annotations

import pytest

from trio_pb import canonical
from trio_pb.app.snapshots import SNAPSHOT_IDLE_TICKS, SNAPSHOTS_MAX, Snapshot, Snapshots
from trio_pb.errors import SnapshotGoneError


class Version:
    """A version that counts how often it was released."""

    def __init__(self) -> None:
        self.releases = 0

    def release(self) -> None:
        """Count."""
        self.releases += 1


def opened(snapshots: Snapshots[Version], now_tick: int = 0) -> tuple[Snapshot[Version], bytes]:
    """Open a snapshot of op 5 for query 3; return it and a cursor after key 10."""
    snapshot = snapshots.open(op=5, purpose=3, now_tick=now_tick, version=Version())
    return snapshot, snapshots.cursor(snapshot, 10)


def test_a_cursor_leads_back_to_its_snapshot() -> None:
    """Any number of times: a page may have to be asked for again."""
    snapshots: Snapshots[Version] = Snapshots()
    snapshot, cursor = opened(snapshots)
    for _ in range(2):
        assert snapshots.resume(cursor, purpose=3, now_tick=1) == (snapshot, 10)


def test_the_oldest_makes_room_for_a_ninth() -> None:
    """Eight stay; the one opened first goes, whoever used it last."""
    snapshots: Snapshots[Version] = Snapshots()
    first, cursor = opened(snapshots)
    second, second_cursor = opened(snapshots)
    for _ in range(SNAPSHOTS_MAX - 2):
        opened(snapshots)
    assert snapshots.resume(cursor, purpose=3, now_tick=5) == (first, 10)
    assert first.version.releases == 0

    opened(snapshots)
    assert len(snapshots) == SNAPSHOTS_MAX
    assert first.version.releases == 1
    with pytest.raises(SnapshotGoneError):
        snapshots.resume(cursor, purpose=3, now_tick=5)
    assert snapshots.resume(second_cursor, purpose=3, now_tick=5) == (second, 10)


def test_an_idle_snapshot_lives_3000_ticks_after_its_last_page() -> None:
    """Use prolongs life; the tick after the last is too late."""
    snapshots: Snapshots[Version] = Snapshots()
    snapshot, cursor = opened(snapshots, now_tick=100)
    snapshots.resume(cursor, purpose=3, now_tick=200)
    snapshots.expire(200 + SNAPSHOT_IDLE_TICKS)
    assert snapshot.version.releases == 0

    snapshots.expire(200 + SNAPSHOT_IDLE_TICKS + 1)
    assert snapshot.version.releases == 1
    with pytest.raises(SnapshotGoneError):
        snapshots.resume(cursor, purpose=3, now_tick=200)


def test_a_closed_snapshot_is_gone_and_its_id_never_used_again() -> None:
    """The cursor of a finished scan does not open somebody else's."""
    snapshots: Snapshots[Version] = Snapshots()
    snapshot, cursor = opened(snapshots)
    snapshots.close(snapshot)
    assert snapshot.version.releases == 1
    opened(snapshots)
    with pytest.raises(SnapshotGoneError):
        snapshots.resume(cursor, purpose=3, now_tick=0)


@pytest.mark.parametrize(
    "cursor",
    [
        b"garbage",
        b"\xff",
        *map(
            canonical.encode,
            (
                None,
                1,
                [],
                [1, 5],
                [1, 5, 10, 0],
                [2, 5, 10],
                [1, 6, 10],
                [1, 5, -1],
                [True, 5, 10],
                [1, 5, b"10"],
                ["1", 5, 10],
            ),
        ),
    ],
    ids=bytes.hex,
)
def test_a_forged_cursor_is_refused(cursor: bytes) -> None:
    """Cursors that were never given out answer as a dropped snapshot does, and leave it alone."""
    snapshots: Snapshots[Version] = Snapshots()
    snapshot, _ = opened(snapshots)
    assert snapshot.id == 1
    with pytest.raises(SnapshotGoneError):
        snapshots.resume(cursor, purpose=3, now_tick=0)
    assert snapshot.version.releases == 0


def test_a_cursor_is_of_use_to_its_own_query_only() -> None:
    """A scan's cursor does not go on with another kind of query."""
    snapshots: Snapshots[Version] = Snapshots()
    _, cursor = opened(snapshots)
    with pytest.raises(SnapshotGoneError):
        snapshots.resume(cursor, purpose=4, now_tick=0)
