"""An earlier release next to a later one (PROTOCOL 11): what they must agree on, and what the earlier refuses."""

from __future__ import annotations

import attrs

from tests.core.bench import Bench, chain, checkpoint_of, disk_of, state_at, statement
from trio_pb.core.config import Limits
from trio_pb.core.messages import CODE_REGISTER, PrepareMessage
from trio_pb.core.ports import Apply, CheckpointBegin, Fatal, Trace

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


def test_checkpoint_of_a_later_release_is_not_gone_on_from() -> None:
    """11: a downgrade below the release of the log is refused at start, before anything is answered from its state."""
    log = chain(8, release=2)
    disk = disk_of(1, log=log, commit=8)
    kept = checkpoint_of(attrs.evolve(state_at(log, 8), release=2))
    disk.superblock = attrs.evolve(disk.superblock, checkpoint=kept.id, certified=kept.id, anchor=log[7].id)
    disk.chunks.update(kept.chunks)
    b = Bench(disk)
    (fatal,) = b.given(Fatal)
    assert fatal.code == "upgrade_needed"
    assert "the checkpoint of op 8 is of release 2, and this program knows none above 1" in fatal.text
    assert not [output for output in b.log_seen if not isinstance(output, Fatal | Trace)]
    assert not Bench(disk, release=2).given(Fatal)


def test_what_a_program_no_longer_speaks() -> None:
    """The same the other way round: its log is older than all that it knows."""
    (fatal,) = Bench(disk_of(1, log=chain(2), commit=2), release=3, release_min=2).given(Fatal)[:1]
    assert "op 1 is of release 1, and this program knows none below 2" in fatal.text


def test_nothing_is_ordered_on_top_of_a_later_release() -> None:
    """T-32: who wins a view with a log that it cannot execute adds nothing to it, before it stops for that."""
    log = chain(2, release=2)
    b = Bench(disk_of(1, view=1025, log_view=1024, log=log))
    b.tick()
    b.hear_statement(0, statement(log, log_view=1024))
    assert b.leads()
    b.tell(0, 2)
    b.request(0, code=CODE_REGISTER)
    assert not b.sent(PrepareMessage)
    b.ack(0)
    assert [fatal.code for fatal in b.given(Fatal)] == ["upgrade_needed"]


def test_ops_have_the_release_of_the_log() -> None:
    """T-32: a later program that leads orders what the others know."""
    log = chain(2)
    b = Bench(disk_of(1, view=1025, log_view=1024, log=log), release=2)
    b.tick()
    b.hear_statement(0, statement(log, log_view=1024))
    assert b.leads()
    b.tell(0, 2)
    b.request(0, code=CODE_REGISTER)
    assert [sent.prepare.release for sent in b.sent(PrepareMessage)] == [1]
