"""The normal case at primary and backup, rule by rule (PROTOCOL 5.1 to 5.3)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.bench import GENESIS, WALL_NS, Bench, chain, disk_of, primary, statement
from trio_pb.core.cluster_clock import CLAMP_NS
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    CODE_REGISTER,
    GENESIS_CHECKPOINT,
    NO_PROBE,
    CommitOk,
    GetPrepares,
    GetStartView,
    Pong,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
)
from trio_pb.core.ports import Apply, Send, WalAppend, WalDone


def register_many(bench: Bench, count: int) -> list[int]:
    """Give each of clients 1..count a session."""
    return [bench.register(by=by) for by in range(1, count + 1)]


# --- 5.1 Ordering -----------------------------------------------------------------------------------


def test_5_1_prepare_leaves_before_own_disk() -> None:
    """The prepare goes out in the step of the request, while our own append is still in flight."""
    a = primary(auto_disk=False)
    a.request(0, code=1)
    assert [output.replicas for output in a.given(Send) if isinstance(output.message, PrepareMessage)] == [(1, 2)]
    assert len(a.given(WalAppend)) == 1
    assert a.commit == 0


def test_5_1_batching_without_delay_when_idle() -> None:
    """Fewer than four in flight: a prepare leaves at once, for a single request."""
    a = primary()
    sessions = register_many(a, 6)
    a.clear()
    for by, session in enumerate(sessions[:4], start=1):
        a.request(1, by=by, session=session)
    assert [message.prepare.count for message in a.sent(PrepareMessage)] == [1, 1, 1, 1]


def test_5_1_batching_by_itself_when_busy() -> None:
    """With four in flight, requests wait for one another; the next free place takes all of them."""
    a = primary()
    sessions = register_many(a, 8)
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session)
    assert len(a.sent(PrepareMessage)) == 4
    a.ack(1, op=a.commit + 1)
    assert [message.prepare.count for message in a.sent(PrepareMessage)] == [1, 1, 1, 1, 4]


def test_5_1_a_full_batch_does_not_wait() -> None:
    """A full batch goes out although four are in flight."""
    a = primary(limits=Limits(batch_requests_max=2))
    sessions = register_many(a, 8)
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session)
    assert [message.prepare.count for message in a.sent(PrepareMessage)] == [1, 1, 1, 1, 2, 2]


def test_5_1_pipeline_is_bounded() -> None:
    """INV-15: no prepare is made more than PIPE above the commit point; the rest waits and then goes."""
    a = primary(limits=Limits(pipeline_max=3, pipeline_eager_max=3, batch_requests_max=1))
    sessions = register_many(a, 6)
    a.clear()
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session)
    assert a.head - a.commit == 3
    a.ack(1, op=a.commit + 2)
    assert a.head - a.commit == 3
    a.commit_all()
    assert len(a.sent(PrepareMessage)) == 6


def test_5_1_pipeline_bytes_are_bounded() -> None:
    """In-flight bytes bound the pipeline as well as its count."""
    a = primary(limits=Limits(pipeline_bytes_max=2, batch_bytes_full=1, pipeline_max=32))
    sessions = register_many(a, 5)
    for by, session in enumerate(sessions, start=1):
        a.request(1, by=by, session=session)
    assert a.head - a.commit == 2


def test_5_1_wal_ops_bounds_the_primary() -> None:
    """No op is made more than WAL_OPS above the checkpoint."""
    a = primary(limits=Limits(wal_ops=2, checkpoint_interval_ops=1))
    sessions = register_many(a, 2)
    a.request(1, by=1, session=sessions[0])
    assert a.head == 2


def test_5_1_send_window() -> None:
    """T-24: a backup that lags by more than the window is not pushed to; it pulls, and comes back."""
    a = primary(limits=Limits(send_window_ops=2))
    for by in range(1, 5):
        a.register(by=by, backup=1)
    pushed = [output.replicas for output in a.given(Send) if isinstance(output.message, PrepareMessage)]
    assert pushed == [(1, 2), (1, 2), (1,), (1,)]
    a.ack(2, op=4)
    a.clear()
    a.register(by=5, backup=1)
    assert [output.replicas for output in a.given(Send) if isinstance(output.message, PrepareMessage)] == [(1, 2)]


def test_5_1_timestamps_rise_within_and_over_batches() -> None:
    """INV-17: a batch of n takes n timestamps, even when the clock stands still."""
    a = primary()
    a.register(by=1)
    a.register(by=2)
    first, second = (message.prepare for message in a.sent(PrepareMessage))
    assert second.timestamp > first.timestamp + first.count - 1
    assert abs(first.timestamp - WALL_NS) < CLAMP_NS


def test_5_1_clock_clamp_to_the_median() -> None:
    """T-23: our wild clock cannot drag the timestamps more than 5 s away from what a majority believes."""
    a = primary()
    a.wall_offset_ns = 3_600_000_000_000
    a.tick()
    a.pong(1, 2)
    a.register()
    clock = WALL_NS + a.now * 10_000_000
    assert a.sent(PrepareMessage)[0].prepare.timestamp == clock + CLAMP_NS


def test_5_1_the_first_time_of_all_is_not_our_clock_alone() -> None:
    """T-23: it may be years ahead, and times only rise: before others were heard nothing is ordered."""
    a = Bench(disk_of(0, view=1024, log_view=0))
    a.wall_offset_ns = 50 * 365 * 86_400 * 1_000_000_000
    a.tick()
    a.hear_statement(1, statement([], log_view=0))
    assert a.leads()
    a.request(0, code=CODE_REGISTER)
    assert not a.sent(PrepareMessage)
    a.wall_offset_ns, ahead = 0, a.wall_offset_ns
    a.tell(1)
    a.wall_offset_ns = ahead
    a.tick()
    assert a.sent(PrepareMessage)[0].prepare.timestamp <= WALL_NS + a.now * 10_000_000 + CLAMP_NS


def test_5_1_clock_that_is_slow_is_pulled_up() -> None:
    """T-23: the clamp holds on both sides."""
    a = primary()
    a.wall_offset_ns = -3_600_000_000_000
    a.tick()
    a.pong(1, 2)
    a.register()
    clock = WALL_NS + a.now * 10_000_000
    assert a.sent(PrepareMessage)[0].prepare.timestamp == clock - CLAMP_NS


def test_5_1_clock_without_samples_goes_on_from_the_last() -> None:
    """With too few samples our own clock is not believed: time goes on from the last timestamp."""
    a = primary(log=chain(1, timestamp=5_000_000_000), commit=1)
    a.tick(30)
    a.register()
    timestamp = a.sent(PrepareMessage)[0].prepare.timestamp
    assert 5_000_000_001 < timestamp <= 5_400_000_000


def test_t_23_one_wild_peer_moves_nothing() -> None:
    """The median of three ignores one peer whose clock is a day off."""
    a = primary()
    a.tick()
    a.pong(1)
    a.hear(2, Pong(a.pong_position(wall_ns=WALL_NS + 86_400 * 10**9)))
    a.register()
    assert abs(a.sent(PrepareMessage)[0].prepare.timestamp - WALL_NS) < CLAMP_NS


# --- 5.2 A prepare at a backup ------------------------------------------------------------------------


def test_5_2_next_op_is_appended() -> None:
    """Next op, right parent: append, and acknowledge when durable."""
    b = Bench(disk_of(1))
    b.hear_prepare(chain(1)[0])
    assert b.head == 1
    assert [message.acked.op for message in b.sent(PrepareOk)] == [1]


def test_5_2_wrong_parent_asks_for_the_log() -> None:
    """A prepare that does not continue our log is a violation: counted, not taken."""
    b = Bench(disk_of(1, log=chain(1)))
    b.clear()
    b.hear_prepare(chain(2, tag=b"other")[1])
    assert b.head == 1
    assert b.counter("protocol_violations") == 1
    assert len(b.sent(GetStartView, to=0)) == 1


def test_5_2_other_prepare_at_a_held_op_asks_for_the_log() -> None:
    """Another prepare where we hold one: the log never changes by a prepare."""
    b = Bench(disk_of(1, log=chain(1)))
    before = b.log_ids()
    b.hear_prepare(chain(1, tag=b"other")[0])
    assert b.log_ids() == before
    assert b.counter("protocol_violations") == 1


def test_5_2_repeated_prepare_changes_nothing() -> None:
    """What we hold already is not appended twice."""
    b = Bench(disk_of(1, log=chain(1)))
    b.clear()
    b.hear_prepare(chain(1)[0])
    assert not b.given(WalAppend)


def test_5_2_missing_body_is_filled_in() -> None:
    """A prepare whose identity we hold without its body brings the body."""
    log = chain(2)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.hear_start_view(log, view=1024)
    assert b.acked == 0
    b.clear()
    b.hear_prepare(log[0])
    assert [append.prepares for append in b.given(WalAppend)] == [(log[0],)]


def test_5_2_gap_is_buffered_and_pulled() -> None:
    """Above a gap: keep, ask the primary for what lies between, take all when it comes."""
    log = chain(3)
    b = Bench(disk_of(1))
    b.clear()
    b.hear_prepare(log[2])
    b.hear_prepare(log[1])
    assert b.head == 0
    assert b.sent(GetPrepares, to=0)[0].wanted == ((1, None), (2, None))
    b.hear_copy(0, log[0], is_current=True)
    assert b.log_ids() == [prepare.id for prepare in log]
    assert b.sent(PrepareOk)[-1].acked == log[2].id


def test_5_2_buffer_is_bounded() -> None:
    """INV-30: a backup keeps so many prepares above a gap and no more; the rest it pulls."""
    log = chain(5)
    b = Bench(disk_of(1, log=log[:1]), limits=Limits(prepare_buffer_max=2))
    for prepare in log[2:]:
        b.hear_prepare(prepare)
    b.hear_prepare(log[1])
    assert b.head == 4
    assert b.sent(GetPrepares, to=0)


def test_5_2_buffered_prepare_that_does_not_fit_is_dropped() -> None:
    """What waited above a gap must continue the chain like anything else."""
    log = chain(2)
    b = Bench(disk_of(1))
    b.hear_prepare(chain(2, tag=b"other")[1])
    b.hear_prepare(log[0])
    assert b.log_ids() == [log[0].id]
    assert b.counter("protocol_violations") == 1


def test_5_2_only_the_primary_orders() -> None:
    """A prepare from a backup of our view is not for us to append."""
    b = Bench(disk_of(1))
    b.hear(2, PrepareMessage(chain(1)[0], None, 0))
    assert b.head == 0


def test_5_2_a_prepare_of_another_cluster_is_ignored() -> None:
    """The header's cluster is part of the identity."""
    b = Bench(disk_of(1))
    b.hear_prepare(attrs.evolve(chain(1)[0], cluster=b"z" * 16))
    assert b.head == 0


def test_5_2_wal_ops_bounds_the_backup() -> None:
    """A backup drops what lies more than WAL_OPS above its checkpoint."""
    b = Bench(disk_of(1), limits=Limits(wal_ops=2, checkpoint_interval_ops=1))
    log = chain(3)
    for prepare in log:
        b.hear_prepare(prepare)
    assert b.head == 2
    b.hear_heartbeat(log[2].id)
    assert not b.sent(GetPrepares), "what would be dropped is not asked for"


# --- 5.3 Acknowledge, commit, apply --------------------------------------------------------------------


def test_r_ack_waits_for_the_disk() -> None:
    """No acknowledgement before records and proof are durable, one cumulative after."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    log = chain(3)
    for prepare in log:
        b.hear_prepare(prepare)
    assert not b.sent(PrepareOk)
    b.complete(count=2)
    b.complete()
    assert [message.acked.op for message in b.sent(PrepareOk)] == [1, 2, 3]


def test_r_ack_is_cumulative() -> None:
    """One group commit of many records is one acknowledgement."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    log = chain(3)
    for prepare in log:
        b.hear_prepare(prepare)
    last = b.given(WalAppend)[-1]
    for append in b.given(WalAppend):
        b.disk.records.update({prepare.id: prepare for prepare in append.prepares})
    b.disk.proof = last.proof
    b.pending.clear()
    b.step(WalDone(last.sequence))
    assert [message.acked.op for message in b.sent(PrepareOk)] == [3]


def test_r_ack_stops_below_a_hole() -> None:
    """Nothing above a missing body is acknowledged, however durable."""
    log = chain(3)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.hear_start_view(log, view=1024)
    b.clear()
    b.hear_prepare(log[1])
    b.hear_prepare(log[2])
    assert not b.sent(PrepareOk)
    b.hear_prepare(log[0])
    assert [message.acked for message in b.sent(PrepareOk)] == [log[2].id]


def test_r_ack_stops_with_the_view() -> None:
    """INV-9: once a newer view is entered, no acknowledgement of the old one leaves."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    b.hear_prepare(chain(1)[0])
    b.ping(2, view=1026)
    b.complete()
    assert b.view == 1026
    assert not b.sent(PrepareOk)


def test_r_ack_heartbeat_heals_a_lost_prepare_ok() -> None:
    """Commit_ok carries the same mark, at once and without a new disk write."""
    log = chain(2)
    b = Bench(disk_of(1, log=log))
    b.clear()
    b.hear_heartbeat(log[1].id)
    assert [message.acked for message in b.sent(CommitOk)] == [log[1].id]
    assert not b.given(WalAppend)


def test_r_ack_heartbeat_does_not_wait_for_storage() -> None:
    """While the append is in flight the answer claims only what is durable."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    log = chain(1)
    b.hear_prepare(log[0])
    b.hear_heartbeat(log[0].id)
    assert [message.acked for message in b.sent(CommitOk)] == [GENESIS]


def test_r_ack_binds_the_primary_too() -> None:
    """The primary's own vote counts only when its disk is done: two of three need it here."""
    a = primary(voters=3, auto_disk=False)
    a.request(0, code=1)
    assert a.commit == 0
    a.complete()
    assert a.commit == 0, "its own acknowledgement alone is no quorum"
    a.ack(1)
    assert a.commit == 1


def test_r_commit_on_backups_before_own_disk() -> None:
    """The primary may commit on its backups' acknowledgements while its own disk is slow."""
    a = primary(voters=3, auto_disk=False)
    a.request(0, code=1)
    a.ack(1, 2)
    assert a.commit == 1
    assert a.told(), "applied and answered"


def test_r_commit_takes_a_quorum() -> None:
    """Of five, three must hold an op."""
    a = primary(voters=5)
    a.request(0, code=1)
    a.ack(1)
    assert a.commit == 0
    a.ack(2)
    assert a.commit == 1


def test_r_commit_duplicates_do_not_count() -> None:
    """T-30: one voter is one voice, however often it says so."""
    a = primary(voters=5)
    a.request(0, code=1)
    a.ack(1, 1, 1)
    assert a.commit == 0


def test_r_commit_is_for_this_view() -> None:
    """An acknowledgement said in an older view counts for nothing."""
    a = primary(log=chain(1), view=2048)
    a.hear(1, PrepareOk(a.replica.state.log.id(1), 0, GENESIS_CHECKPOINT, NO_PROBE), view=1024)
    assert a.commit == 0
    a.ack(1)
    assert a.commit == 1


def test_r_commit_is_not_for_a_newer_view() -> None:
    """An acknowledgement said in a view that we have not reached is for that view's log, not for ours."""
    a = primary(log=chain(1))
    a.hear(1, PrepareOk(a.replica.state.log.id(1), 0, GENESIS_CHECKPOINT, NO_PROBE), view=2048)
    assert (a.commit, a.view) == (0, 1024)


def test_r_commit_names_the_prepare() -> None:
    """An acknowledgement of another prepare at that op counts for nothing (T-30)."""
    a = primary(log=chain(1))
    a.hear(1, PrepareOk(chain(1, tag=b"other")[0].id, 0, GENESIS_CHECKPOINT, NO_PROBE))
    assert a.commit == 0


def test_r_commit_an_older_entry_commits_like_any() -> None:
    """T-5 does not arise: acknowledgements are for this view's whole log, entries of older views included."""
    a = primary(log=chain(3, view=7), view=2048)
    a.ack(1, op=2)
    assert (a.commit, a.applied) == (2, 2)


def test_r_commit_commit_ok_counts() -> None:
    """What a heartbeat's answer acknowledges commits as well."""
    a = primary(log=chain(1))
    a.hear(2, CommitOk(0, a.replica.state.log.id(1), GENESIS_CHECKPOINT, NO_PROBE, fit=True))
    assert a.commit == 1


def test_r_commit_standbys_are_not_counted() -> None:
    """INV-26: a standby follows the log and has no vote."""
    a = primary(voters=3, standbys=(3,), auto_disk=False)
    a.request(0, code=1)
    a.ack(3)
    a.complete()
    assert a.commit == 0
    a.ack(1)
    assert a.commit == 1


def test_r_commit_even_sizes_commit_with_half() -> None:
    """Of four, two suffice (PROTOCOL 2.5)."""
    a = primary(voters=4)
    a.request(0, code=1)
    a.ack(3)
    assert a.commit == 1


def test_r_commit_a_single_voter_commits_alone() -> None:
    """Of one, one."""
    a = primary(voters=1)
    a.request(0, code=1)
    assert (a.commit, a.applied) == (1, 1)


def test_r_apply_in_order_and_only_committed() -> None:
    """What is committed is applied without gaps; what is not, is not."""
    log = chain(4)
    b = Bench(disk_of(1))
    for prepare in log:
        b.hear_prepare(prepare)
    assert not b.given(Apply)
    b.hear_heartbeat(log[3].id, commit=2)
    assert [apply.op for apply in b.given(Apply)] == [1, 2]


def test_r_apply_waits_for_the_body() -> None:
    """A hole below the commit point holds everything above it back."""
    log = chain(3)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.hear_start_view(log, view=1024)
    b.hear_prepare(log[1])
    b.hear_prepare(log[2], commit=3)
    assert (b.commit, b.applied) == (3, 0)
    b.hear_prepare(log[0], commit=3)
    assert b.applied == 3


def test_inv_14_an_impossible_state_stops_the_replica() -> None:
    """The core refuses to go on from a state that cannot be."""
    b = Bench(disk_of(1))
    b.replica.state.applied = 3
    with pytest.raises(AssertionError, match="not committed"):
        b.tick()


def test_5_2_a_full_buffer_keeps_the_lowest() -> None:
    """What is needed first is kept; what is thrown away is asked for again."""
    log = chain(6)
    b = Bench(disk_of(1), limits=Limits(prepare_buffer_max=2))
    for op in (6, 5, 3, 2, 4):
        b.hear_prepare(log[op - 1])
    b.hear_prepare(log[0])
    assert b.head == 3


def test_inv_20_equal_logs_have_equal_probes() -> None:
    """However the ops arrived, after the same ops the rolling digest is the same; every so many it is told."""
    log = chain(4)
    one, two = (Bench(disk_of(1), limits=Limits(probe_interval_ops=2)) for _ in range(2))
    for prepare in log:
        one.hear_prepare(prepare, commit=prepare.op)
        two.hear_prepare(prepare)
    one.hear_heartbeat(log[3].id, commit=4)
    two.hear_heartbeat(log[3].id, commit=4)
    assert one.replica.execution.rolling_probe == two.replica.execution.rolling_probe
    one.hear_heartbeat(log[3].id, commit=4)
    assert one.sent(CommitOk)[-1].probe.op == 4
    assert one.sent(CommitOk)[-1].probe == one.replica.execution.rolling_probe


def test_inv_30_bodies_in_memory_are_bounded() -> None:
    """Applied bodies leave the cache; a peer that asks for one still gets it, from the disk."""
    b = Bench(disk_of(1), limits=Limits(body_cache_ops=4, pipeline_max=4))
    log = chain(20)
    for prepare in log:
        b.hear_prepare(prepare, commit=prepare.op - 1)
    assert b.replica.state.log.bodies_in_memory <= 9
    b.hear(2, GetPrepares(((1, log[0].checksum),)))
    assert [copy.prepare for copy in b.sent(PrepareCopy, to=2)] == [log[0]]
