"""States that differ where they must not: who notices, what it does about it, when all stop (PROTOCOL 9, G6)."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench, checkpoint_at, disk_of, id_at, primary, probe_at
from tests.core.checkpointing import LIMITS, LOG, backup, begun, follow, wrong_at
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    CheckpointId,
    CommitOk,
    Probe,
    Reject,
    RejectCode,
)
from trio_pb.core.ports import (
    Apply,
    CheckpointBegin,
    Fatal,
    Query,
)


def diverge(b: Bench, op: int = 8) -> None:
    """Both others made another checkpoint after `op`."""
    b.tell(*b.replica.state.voters_but_self, checkpoint=wrong_at(op))


def test_9_a_checkpoint_unlike_a_quorums_is_a_divergence() -> None:
    """Untrusted, durably; the log's promises stay."""
    b = backup(ops=17)
    acked = b.acked
    diverge(b)
    assert b.disk.superblock.untrusted
    assert b.replica.report().unfit == ("syncing", "untrusted")
    assert b.acked == acked
    b.hear_heartbeat(id_at(LOG, 17), commit=17)
    ok = b.sent(CommitOk)[-1]
    assert (ok.acked, ok.fit) == (id_at(LOG, 17), False)


def test_9_a_probe_unlike_a_quorums_is_a_divergence() -> None:
    """Long before a checkpoint; nothing more is applied on a wrong state."""
    b = backup(ops=5)
    b.tell(0, probe=probe_at(LOG, 4))
    b.tell(2, probe=Probe(4, b"z" * 16))
    assert b.is_fit()  # Two against one.
    b.tell(0, probe=Probe(4, b"z" * 16))
    assert b.disk.superblock.untrusted
    b.clear()
    follow(b, 12)
    assert not b.given(Apply)
    assert not begun(b)
    assert b.acked == 12


def test_9_a_wrong_state_never_becomes_a_checkpoint() -> None:
    """The divergence was found while it was written."""
    b = backup(held_back=(CheckpointBegin,), ops=9)
    b.tell(0, 2, probe=Probe(8, b"z" * 16))
    b.complete(CheckpointBegin)
    assert b.disk.superblock.checkpoint == GENESIS_CHECKPOINT


def test_9_acks_carry_the_newest_probe() -> None:
    """At multiples of the probe's interval."""
    b = backup(ops=11)
    b.hear_heartbeat(id_at(LOG, 11), commit=11)
    assert b.sent(CommitOk)[-1].probe == probe_at(LOG, 8)


def test_9_a_certificate_unlike_our_checkpoint_is_a_divergence() -> None:
    """Whichever of the two comes first, and whoever tells."""
    b = backup(ops=9)
    b.hear_heartbeat(id_at(LOG, 9), commit=9, certified=wrong_at(8))
    assert b.disk.superblock.untrusted
    b = backup()
    b.hear_heartbeat(id_at(LOG, 0), certified=wrong_at(8))
    follow(b, 9)
    assert b.disk.superblock.untrusted


def test_9_a_diverged_primary_abdicates_and_answers_nothing_from_its_state() -> None:
    """No reads, no requests, no replies."""
    a = primary(log=LOG[:9], commit=9, limits=LIMITS)
    assert a.applied == 9
    diverge(a)
    assert a.has_abdicated()
    a.clear()
    a.read(1)
    a.answer_heartbeat(1, 2, round_=1)
    a.run(20)
    assert not a.given(Query)
    assert [answer.code for answer in a.told() if isinstance(answer, Reject)] == [RejectCode.BUSY]


def test_10_2_an_untrusted_backup_refuses_reads() -> None:
    """Its state is not what the log says."""
    b = backup(ops=9)
    diverge(b)
    b.clear()
    b.read(1, here=True)
    assert [answer.code for answer in b.told() if isinstance(answer, Reject)] == [RejectCode.BUSY]


def test_9_untrusted_survives_a_restart() -> None:
    """It applies nothing and serves nothing until its state was replaced."""
    b = Bench(disk_of(1, log=LOG[:17], commit=17, checkpoint=16, untrusted=True), limits=LIMITS)
    b.hear_heartbeat(id_at(LOG, 17), commit=17)
    assert (b.applied, b.is_fit()) == (16, False)
    assert not b.given(Apply)
    assert b.acked == 17


@pytest.mark.parametrize("is_restarted", [False, True])
def test_9_a_second_mismatch_is_fatal(is_restarted: bool) -> None:
    """This machine, or this program, does not compute as the others do."""
    b = backup(ops=9)
    diverge(b)
    if is_restarted:
        b.restart()
    kept = checkpoint_at(LOG, 16)
    follow(b, 17)
    b.tell(0, 2, certified=kept.id, checkpoint=kept.id)
    b.tick(20)
    b.serve(kept)
    assert (b.applied, b.disk.superblock.untrusted) == (17, False)
    b.tell(0, 2, checkpoint=CheckpointId(8, b"v" * 32), probe=Probe(8, b"v" * 16))
    assert not b.given(Fatal)  # What we told of the old state does not count any more.
    follow(b, 25)
    diverge(b, 24)
    assert {fatal.code for fatal in b.given(Fatal)} == {"divergence"}


def test_9_when_nobody_agrees_all_stop() -> None:
    """G6: stopping beats guessing."""
    b = backup(ops=9)
    b.tell(0, checkpoint=CheckpointId(8, b"0" * 32))
    assert not b.given(Fatal)
    b.tell(2, checkpoint=CheckpointId(8, b"2" * 32))
    assert [fatal.code for fatal in b.given(Fatal)] == ["divergence"]
