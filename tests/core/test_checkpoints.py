"""Checkpoints: when, who agrees, what may go (PROTOCOL 9, R-GC)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from tests.core.bench import Bench, disk_of, id_at, primary, state_at, statement
from tests.core.checkpointing import LIMITS, LOG, WRONG, at, backup, begun, certified, follow, wal_low, wrong_at
from trio_pb.core.adverts import Adverts
from trio_pb.core.config import Timeouts
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    NO_PROBE,
    CheckpointId,
    Commit,
    CommitOk,
    GetChunk,
    GetStartView,
    Ping,
    PrepareCopy,
    Probe,
    StartView,
)
from trio_pb.core.ports import (
    Apply,
    CheckpointBegin,
    CheckpointFailed,
    CheckpointRetry,
    Collect,
    Query,
    SuperblockWrite,
)

# --- When -----------------------------------------------------------------------------------------------


def test_9_points_depend_on_the_op_only() -> None:
    """However the ops arrive and commit, state is frozen after each multiple of the interval, and equal."""
    one_by_one = backup()
    for op in range(1, 21):
        follow(one_by_one, op)
    at_once = backup(2, ops=20)
    expected = [state_at(LOG, op) for op in (8, 16)]
    for b in (one_by_one, at_once):
        assert [begin.state for begin in b.given(CheckpointBegin)] == expected


def test_9_nothing_above_is_applied_before_the_state_is_frozen() -> None:
    """The freeze stands between Apply(X) and Apply(X + 1) in the outputs."""
    b = backup(ops=20)
    order = [
        output.op if isinstance(output, Apply) else -output.state.op
        for output in b.outputs
        if isinstance(output, Apply | CheckpointBegin)
    ]
    assert order == [*range(1, 9), -8, *range(9, 17), -16, *range(17, 21)]


def test_9_only_one_is_in_progress() -> None:
    """At the next multiple applying waits: back-pressure, until the one before is durable."""
    b = backup(held_back=(CheckpointBegin,), ops=30)
    assert (begun(b), b.applied) == ([8], 16)
    b.complete(CheckpointBegin)
    assert (begun(b), b.applied) == ([8, 16], 24)


def test_9_a_restart_goes_on_from_its_checkpoint() -> None:
    """It replays only what came after, freezes nothing twice and tells of the checkpoint that it has."""
    b = backup(ops=20)
    b.restart()
    b.hear_heartbeat(id_at(LOG, 20), commit=20)
    assert [apply.op for apply in b.given(Apply)] == [17, 18, 19, 20]
    assert not begun(b)
    assert b.sent(CommitOk)[-1].checkpoint == at(16)
    follow(b, 24)
    assert b.given(CheckpointBegin)[-1].state == state_at(LOG, 24)


def test_9_a_replay_freezes_its_last_point_only() -> None:
    """A restart passes over the points within the log that it found; from there on it freezes at each one."""
    b = Bench(disk_of(1, log=LOG[:28], commit=28), limits=LIMITS)
    assert (begun(b), b.applied) == ([24], 28)
    assert b.disk.superblock.checkpoint == at(24)
    follow(b, 44)
    assert [begin.state for begin in b.given(CheckpointBegin)] == [state_at(LOG, op) for op in (24, 32, 40)]


def test_9_a_replay_passes_over_what_is_committed_only() -> None:
    """An op that may never commit cannot be waited for: the last committed point is frozen, as everywhere."""
    b = Bench(disk_of(1, log=LOG[:28], commit=10), limits=LIMITS)
    assert begun(b) == [8]
    b.hear_heartbeat(id_at(LOG, 28), commit=23)
    assert begun(b) == [8, 16]
    b.hear_heartbeat(id_at(LOG, 28), commit=28)
    assert begun(b) == [8, 16, 24]


def test_9_a_replay_passes_over_what_is_held_only() -> None:
    """A record that is gone may be long in coming: what was replayed so far is kept."""
    disk = disk_of(1, log=LOG[:28], commit=28)
    del disk.records[LOG[11].id]
    b = Bench(disk, limits=LIMITS)
    assert (begun(b), b.applied) == ([8], 11)
    b.hear(0, PrepareCopy(LOG[11], is_current=False))
    assert (begun(b), b.applied) == ([8, 24], 28)


def test_9_what_others_ordered_meanwhile_is_not_passed_over() -> None:
    """A replica that is slow for ever must not put off its checkpoints for ever."""
    b = Bench(disk_of(1, log=LOG[:12], commit=12), limits=LIMITS)
    follow(b, 30)
    assert begun(b) == [8, 16, 24]


def test_9_sessions_stand_in_the_checkpoint() -> None:
    """After a restart from it a replayed request gets its kept reply."""
    a = primary(limits=LIMITS)
    session = a.register()
    for number in range(1, 8):
        a.request(number, session=session)
        a.commit_all()
    assert begun(a) == [8]
    rows = a.given(CheckpointBegin)[0].state.sessions
    assert [(row.session, row.last_number, len(row.replies)) for row in rows] == [(session, 7, 7)]
    a.restart()
    assert a.applied == 8
    assert not a.given(Apply)
    assert a.replica.execution.sessions.rows() == rows


# --- Advertising and certifying --------------------------------------------------------------------------


def test_9_told_only_once_it_is_live() -> None:
    """CheckpointDone -> superblock image -> advert: before, a crash would make the advert a lie."""
    b = backup(ops=7)
    b.held_back = (SuperblockWrite,)
    follow(b, 9)
    assert begun(b) == [8]
    b.hear_heartbeat(id_at(LOG, 9), commit=9)
    b.ping(0)
    assert b.sent(CommitOk)[-1].checkpoint == GENESIS_CHECKPOINT
    b.complete(SuperblockWrite)
    assert (b.disk.superblock.checkpoint, b.disk.superblock.anchor) == (at(8), id_at(LOG, 8))
    b.clear()
    b.hear_heartbeat(id_at(LOG, 9), commit=9)
    follow(b, 10)
    b.run(10)
    assert b.sent(CommitOk)[-1].checkpoint == at(8)
    assert b.sent(Ping)[-1].position.checkpoint == at(8)


TELLERS: dict[str, Callable[[Bench, int, CheckpointId], object]] = {
    "ping": lambda b, peer, it: b.hear(peer, Ping(b.position(checkpoint=it))),
    "pong": lambda b, peer, it: b.tell(peer, checkpoint=it),
    "prepare_ok": lambda b, peer, it: b.ack(peer, checkpoint=it),
    "commit_ok": lambda b, peer, it: b.hear(peer, CommitOk(0, None, it, NO_PROBE, True)),
}


@pytest.mark.parametrize("kind", TELLERS)
def test_9_equal_adverts_of_a_quorum_certify(kind: str) -> None:
    """Whatever message carries them; three of five here, and one that differs does not count."""
    a = primary(voters=5, log=LOG[:9], limits=LIMITS)
    tell = TELLERS[kind]
    tell(a, 1, at(8))
    tell(a, 1, at(8))
    tell(a, 2, wrong_at(8))
    tell(a, 3, at(8))
    assert certified(a) == 0
    tell(a, 4, at(8))
    assert certified(a) == 8
    assert a.disk.superblock.certified == at(8)


def test_9_a_primary_tells_a_new_certificate_at_once() -> None:
    """Not with the next heartbeat only: prepares go on meanwhile, and whoever knows no certificate frees nothing."""
    a = primary(voters=5, log=LOG[:9], limits=LIMITS)
    a.clear()
    for peer in (1, 2, 3, 4):
        a.tell(peer, checkpoint=at(8))
    assert [message.certified for message in a.sent(Commit)] == [at(8)]


def test_9_our_own_counts_too() -> None:
    """One peer that made the same checkpoint is a quorum of three with us."""
    b = backup(ops=9)
    assert certified(b) == 0
    b.tell(2, checkpoint=at(8))
    assert certified(b) == 8


def test_9_do_view_change_carries_adverts_and_certificates() -> None:
    """A new primary learns both from what it is told."""
    b = Bench(disk_of(1, view=1025, log_view=1024, log=LOG[:9], commit=9), limits=LIMITS)
    message = attrs.evolve(statement(LOG[:9], log_view=1024, commit=9), checkpoint=at(8))
    b.hear_statement(2, message)
    assert certified(b) == 8
    b = Bench(disk_of(1, view=1025, log_view=1024, log=LOG[:9], commit=9), limits=LIMITS)
    b.hear_statement(2, attrs.evolve(message, checkpoint=GENESIS_CHECKPOINT, certified=at(8)))
    assert certified(b) == 8


def test_9_a_certificate_spreads_and_the_highest_wins() -> None:
    """T-40: by ping, pong, commit and start_view; an older one changes nothing."""
    b = backup()
    b.hear(2, Ping(b.position(certified=at(8))))
    assert certified(b) == 8
    b.tell(2, certified=at(24))
    b.hear_heartbeat(id_at(LOG, 0), certified=at(16))
    assert certified(b) == 24
    b.hear_heartbeat(id_at(LOG, 0), certified=at(32))
    assert certified(b) == 32
    b.hear_start_view(LOG[:1], view=1024, certified=at(40))
    assert certified(b) == 40
    assert b.disk.superblock.certified == at(40)
    b.run(10)
    assert b.sent(Ping)[-1].position.certified == at(40)


def test_9_a_standby_does_not_certify() -> None:
    """INV-26: its advert is not counted, its news of a certificate are."""
    b = Bench(disk_of(1, standbys=(7,)), limits=LIMITS)
    follow(b, 9)
    b.tell(7, checkpoint=at(8))
    assert certified(b) == 0
    b.tell(7, certified=at(8))
    assert certified(b) == 8


def test_9_the_last_four_adverts_of_each_count() -> None:
    """So two replicas need not be at the same checkpoint at the same time; but not for ever."""
    adverts: Adverts[Probe] = Adverts()
    told = [Probe(op, b"p" * 16) for op in range(8, 48, 8)]
    for probe in told[:4]:
        assert adverts.note(0, probe)
        assert not adverts.note(0, probe)
    assert adverts.count((0, 1), told[0]) == 1
    adverts.note(0, told[4])
    assert [adverts.by(0, probe.op) for probe in told] == [None, *told[1:]]


def test_9_the_primary_tells_the_certificate_in_heartbeats_and_new_views() -> None:
    """Cert rides in commit and start_view."""
    a = primary(log=LOG[:9], limits=LIMITS)
    a.tell(1, 2, checkpoint=at(8))
    a.clear()
    a.run(5)
    a.hear(1, GetStartView(7))
    assert {message.certified for message in a.sent(Commit)} == {at(8)}
    assert {message.certified for message in a.sent(StartView)} == {at(8)}


def test_9_a_lone_replica_certifies_its_own() -> None:
    """N = 1: its log stays bounded too."""
    timeouts = Timeouts()
    a = primary(voters=1, limits=LIMITS, timeouts=timeouts)
    session = a.register()
    for number in range(1, 30):
        a.request(number, session=session)
    assert (certified(a), wal_low(a)) == (24, 17)


def test_9_a_lone_replica_certifies_what_it_finds() -> None:
    """N = 1: it died between its checkpoint and the certificate, and nobody else will say it (else writes end)."""
    a = primary(voters=1, limits=LIMITS)
    session = a.register()
    for number in range(1, 30):
        a.request(number, session=session)
    newest = a.disk.superblock.checkpoint
    assert newest.op == 24
    a.disk.superblock = attrs.evolve(a.disk.superblock, certified=GENESIS_CHECKPOINT)
    a.restart()
    assert a.replica.state.certified == newest


# --- Forgetting: R-GC --------------------------------------------------------------------------------------


def collects(b: Bench) -> list[tuple[int, tuple[int, ...]]]:
    """What it said may be freed: lowest op kept, checkpoints kept."""
    return [(it.wal_low, tuple(kept.op for kept in it.keep)) for it in b.given(Collect)]


def test_r_gc_frees_below_the_previous_certified_one() -> None:
    """INV-25: the first certificate frees nothing; the second what stands below the first."""
    b = backup(ops=9)
    b.tell(2, checkpoint=at(8))
    assert (certified(b), collects(b), wal_low(b)) == (8, [], 1)
    follow(b, 17)
    b.tell(2, checkpoint=at(16))
    assert (collects(b), wal_low(b)) == ([(9, (8, 16))], 9)
    follow(b, 25)
    b.tell(2, checkpoint=at(24))
    assert (collects(b)[-1], wal_low(b)) == ((17, (16, 24)), 17)
    assert min(id_.op for id_ in b.disk.records) == 17
    assert b.log_ids_above() == [prepare.id for prepare in LOG[16:25]]


def test_r_gc_frees_nothing_before_the_disk_knows_a_certificate() -> None:
    """Two certificates come within one slow write of the superblock: a start would believe its log to be whole."""
    b = backup(ops=17)
    b.held_back = (SuperblockWrite,)
    b.tell(2, checkpoint=at(8))
    b.tell(2, checkpoint=at(16))
    assert (certified(b), collects(b)) == (16, [])
    b.complete()
    assert collects(b) == [(9, (8, 16))]


def test_r_gc_keeps_nothing_between_two_certificates() -> None:
    """INV-30: who hears of none for long keeps its own, and of those only the two that are agreed on."""
    b = backup(ops=9)
    b.tell(2, checkpoint=at(8))
    follow(b, 41)
    assert b.disk.superblock.checkpoint.op == 40
    b.clear()
    b.tell(2, certified=at(32))
    assert collects(b)[-1] == (9, (8, 32, 40))


def test_r_gc_frees_nothing_above_our_own_checkpoint() -> None:
    """The others are further: what we would replay after a restart stays, and what is not here is not kept."""
    b = backup(held_back=(CheckpointBegin,), ops=9)
    b.tell(2, certified=at(8))
    b.tell(2, certified=at(16))
    b.tell(2, certified=at(24))
    assert wal_low(b) == 1
    b.complete(CheckpointBegin)
    assert (wal_low(b), collects(b)[-1]) == (9, (9, (8,)))


def test_r_gc_frees_nothing_after_a_restart_before_the_next_certificate() -> None:
    """Which one was certified before is not remembered; what the disk has of it stays."""
    b = backup(ops=17)
    b.tell(2, checkpoint=at(8))
    b.tell(2, checkpoint=at(16))
    b.restart()
    b.hear_heartbeat(id_at(LOG, 17), commit=17)
    b.tell(2, checkpoint=at(16), certified=at(16))
    assert not b.given(Collect)
    follow(b, 25)
    b.tell(2, checkpoint=at(24))
    assert collects(b) == [(17, (16, 24))]


def test_r_gc_a_checkpoint_that_is_being_copied_is_kept() -> None:
    """A pin lasts 3000 ticks from the last request for the checkpoint, or for a chunk by the same peer."""
    b = backup(ops=17)
    b.tell(2, checkpoint=at(8))
    b.hear(2, GetChunk(at(8).digest, 0, 100))
    b.run(20)
    b.hear(2, GetChunk(WRONG, 0, 100))
    for op in (16, 24, 32):
        follow(b, op + 1)
        b.tell(2, checkpoint=at(op))
    assert collects(b)[-1] == (25, (8, 24, 32))
    b.hear_heartbeat(id_at(LOG, 33), commit=33)
    b.tick(2999)
    assert collects(b)[-1] == (25, (8, 24, 32))
    b.tick(1)
    assert collects(b)[-1] == (25, (24, 32))


def test_r_gc_a_peer_that_asks_for_an_unknown_chunk_pins_nothing() -> None:
    """Only who named a manifest first copies a checkpoint."""
    b = backup(ops=9)
    b.hear(2, GetChunk(WRONG, 0, 100))
    for op in (8, 16, 24):
        follow(b, op + 1)
        b.tell(2, checkpoint=at(op))
    assert collects(b)[-1] == (17, (16, 24))


def test_9_a_restart_after_collecting_knows_its_log() -> None:
    """The log begins below the checkpoint as far as records link, so that those who lag are served."""
    b = backup(ops=25)
    for op in (8, 16, 24):
        b.tell(2, checkpoint=at(op))
    assert wal_low(b) == 17
    b.restart()
    assert (wal_low(b), b.head, b.applied) == (17, 25, 25)
    assert b.log_ids_above() == [prepare.id for prepare in LOG[16:25]]


# --- WAL_OPS -------------------------------------------------------------------------------------------------


def test_9_the_primary_stops_at_certificate_plus_wal_ops() -> None:
    """INV-15: the cluster cannot outrun a quorum's checkpoints; a certificate opens the way again."""
    a = primary(limits=LIMITS)
    session = a.register()
    for number in range(1, 40):
        a.request(number, session=session)
        a.commit_all()
    assert a.head == 32
    frozen = {begin.state.op: begin.state for begin in a.given(CheckpointBegin)}
    assert sorted(frozen) == [8, 16, 24, 32]
    a.tell(1, checkpoint=a.replica.state.checkpoint)
    assert certified(a) == 32
    a.commit_all()
    assert a.head > 32


def test_9_a_backup_takes_no_more_than_wal_ops_above_a_checkpoint() -> None:
    """PROTOCOL 5.2: what comes after is dropped, not acknowledged."""
    b = backup(ops=0)
    for prepare in LOG[:40]:
        b.hear_prepare(prepare)
    assert b.head == 32
    b.tell(2, certified=at(8))
    b.hear_prepare(LOG[32])
    assert b.head == 40  # With what had waited above it.
    b.hear_prepare(LOG[40])
    assert b.head == 40


def test_9_the_primary_orders_nothing_that_must_wait_for_a_checkpoint() -> None:
    """7.5: should the disk turn out to be full, all that is ordered can be executed, and reads go on."""
    a = primary(limits=LIMITS, timeouts=Timeouts(checkpoint_retry_ticks=20))
    a.held_back = (CheckpointBegin, CheckpointRetry)
    session = a.register()
    for number in range(1, 30):
        a.request(number, session=session)
        a.commit_all()
    assert (begun(a), a.head, a.applied) == ([8], 16, 16)
    a.pending.clear()
    a.step(CheckpointFailed(8))
    a.read(1)
    a.answer_heartbeat(1, round_=1)
    assert a.given(Query)
    a.tick(20)
    a.disk.frozen = a.given(CheckpointBegin)[0].state
    a.complete(CheckpointRetry)
    a.commit_all()
    assert a.head > 16


# --- Failure ---------------------------------------------------------------------------------------------------


def test_9_a_failed_checkpoint_is_tried_again() -> None:
    """7.5: unfit meanwhile; the same frozen state is written after a while, and then all is well."""
    b = backup(held_back=(CheckpointBegin, CheckpointRetry), ops=9)
    b.pending.clear()
    b.step(CheckpointFailed(8))
    assert not b.is_fit()
    b.run(499)
    assert not b.given(CheckpointRetry)
    b.tick()
    assert [retry.op for retry in b.given(CheckpointRetry)] == [8]
    b.disk.frozen = b.given(CheckpointBegin)[0].state
    b.complete(CheckpointRetry)
    assert b.is_fit()
    assert b.disk.superblock.checkpoint == at(8)


def test_9_a_checkpoint_that_fails_again_is_tried_again() -> None:
    """As long as it takes; the next multiple waits."""
    b = backup(held_back=(CheckpointBegin, CheckpointRetry), ops=30)
    b.pending.clear()
    for count in (1, 2, 3):
        b.step(CheckpointFailed(8))
        b.hear_heartbeat(id_at(LOG, 30), commit=30)
        b.tick(500)
        assert len(b.given(CheckpointRetry)) == count
    assert (b.applied, begun(b)) == (16, [8])
