"""An earlier release next to a later one (PROTOCOL 11): what they must agree on, and what the earlier refuses."""

from __future__ import annotations

from tests.core.bench import Bench, chain, disk_of
from trio_pb.core.config import Limits
from trio_pb.core.ports import Apply, CheckpointBegin, Fatal

INTERVAL = 4


def test_checkpoints_of_two_releases_are_equal() -> None:
    """9: what is frozen depends on the log alone, or a rolling upgrade would look like divergence."""
    log = chain(INTERVAL)
    limits = Limits(checkpoint_interval_ops=INTERVAL, wal_ops=4 * INTERVAL)
    frozen = [
        Bench(disk_of(1, log=log, commit=INTERVAL), limits=limits, release=release).given(CheckpointBegin)
        for release in (1, 2)
    ]
    assert len(frozen[0]) == 1
    assert frozen[0] == frozen[1]
    assert frozen[0][0].state.release == 1


def test_op_of_a_later_release_is_not_executed() -> None:
    """T-32: whoever does not know what it means stops before it, and says what to start."""
    log = [*chain(2), *chain(1, after=chain(2)[-1], release=2)]
    b = Bench(disk_of(1, log=log, commit=3))
    (fatal,) = b.given(Fatal)[:1]
    assert fatal.code == "upgrade_needed"
    assert "op 3 is of release 2" in fatal.text
    assert "start the version of trio-pb" in fatal.text
    assert [apply.op for apply in b.given(Apply)] == [1, 2]
    assert not Bench(disk_of(1, log=log, commit=3), release=2).given(Fatal)
