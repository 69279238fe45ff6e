"""Each oracle on logs, views, bounds and traffic fires on the violation that it is there for, and only then."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sim.oracles import invariants as inv
from sim.oracles.equal_states import EqualStates
from sim.oracles.traffic import COPIES_MAX, TURNS_MAX, AsksAround, NoCopyStorm
from sim.oracles.watch import Oracle
from sim.scenario import Cluster
from tests.sim.oracle_world import (
    GENESIS,
    ONE,
    OTHER_ONE,
    TWO,
    World,
    apply_of,
    do_view_change,
    fresh_state,
    image,
    prepare_at,
    prepare_message,
    prepare_ok,
    start_view,
    violates,
)
from trio_pb.core import messages as m
from trio_pb.core.config import Limits
from trio_pb.core.durable import Scan
from trio_pb.core.ports import Requires, Send, Start, WalAppend


def test_inv_1_another_execution() -> None:
    """Two replicas execute different things at one op."""
    w = World(inv.AgreementOnApply)
    w.watch.apply(0, apply_of(1))
    w.watch.apply(1, apply_of(1))
    with violates("INV-1"):
        w.watch.apply(2, apply_of(1, timestamp=2))


def test_inv_1_gap() -> None:
    """An op is skipped."""
    w = World(inv.AgreementOnApply)
    with violates("INV-1"):
        w.watch.apply(0, apply_of(2))


def test_inv_2_two_commits_at_one_op() -> None:
    """Another prepare is taken for committed."""
    w = World(Oracle)
    w.commit(0, TWO)
    w.commit(1, ONE)
    with violates("INV-2"):
        w.commit(2, OTHER_ONE)


def test_inv_3_second_prepare() -> None:
    """A primary proposes twice at one op; the same one again is fine."""
    w = World(inv.OnePreparePerOp)
    w.send(1, prepare_message(ONE))
    w.send(1, prepare_message(ONE))
    with violates("INV-3"):
        w.send(1, prepare_message(OTHER_ONE))


def test_inv_4_view_not_durable() -> None:
    """A frame speaks of a view that the disk does not know."""
    w = World(inv.ViewsNeverFall)
    w.send(1, m.GetStartView(1))
    with violates("INV-4"):
        w.send(1, m.GetStartView(1), view=2)


def test_inv_4_view_falls_over_a_restart() -> None:
    """A restart finds an older view."""
    w = World(inv.ViewsNeverFall)
    scan = Scan(None, True, ())
    with violates("INV-4"):
        w.watch.start(1, Start(image(1, view=0, log_view=0), scan), scan)


def test_inv_5_two_primaries() -> None:
    """A replica leads a view that is not its own."""
    w = World(inv.OnePrimaryPerView)
    w.send(1, m.Commit(ONE.checksum, None, 0, m.GENESIS_CHECKPOINT))
    with violates("INV-5"):
        w.send(2, prepare_message(ONE))


def test_inv_6_two_installs() -> None:
    """A view starts with two logs; going further is fine."""
    w = World(inv.OneInstallPerView)
    w.send(1, start_view(ONE))
    w.send(1, start_view(ONE, TWO))
    with violates("INV-6"):
        w.send(1, start_view(OTHER_ONE))


def test_inv_7_logs_differ() -> None:
    """A do_view_change tells another log of the same log_view."""
    w = World(inv.LogsOfOneViewAgree)
    w.send(1, start_view(ONE))
    w.send(0, do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.PRESENT)))
    with violates("INV-7"):
        w.send(0, do_view_change(m.LogEntry(1, OTHER_ONE.checksum, m.EntryState.PRESENT)))


def test_inv_14_applied_above_the_cluster() -> None:
    """A replica runs ahead of what is committed anywhere."""
    w = World(inv.AppliedBelowCommit)
    state = fresh_state()
    state.applied = state.commit_max = 3
    with violates("INV-14"):
        w.watch.step(1, state)


def test_inv_15_pipeline_too_long() -> None:
    """An op is created too far above its creator's commit point."""
    w = World(lambda facts: inv.PipelineBound(facts, Limits(pipeline_max=1)))
    w.watch.append(1, WalAppend(1, (ONE,), None))
    with violates("INV-15"):
        w.watch.append(1, WalAppend(2, (TWO,), None))


def test_inv_16_broken_chain() -> None:
    """A start_view puts entries together that do not belong together."""
    w = World(inv.ChainedHeaders)
    w.send(1, start_view(ONE, TWO))
    with violates("INV-16"):
        w.send(1, start_view(OTHER_ONE, TWO))


def test_inv_17_time_runs_back() -> None:
    """A committed op is not later than the one below."""
    w = World(inv.RisingTimestamps)
    early = prepare_at(2, ONE, timestamp=ONE.timestamp)
    w.facts.register(early)
    w.commit(1, ONE)
    with violates("INV-17"):
        w.commit(1, early)


def test_inv_20_states_differ() -> None:
    """Two replicas have different states, or probes, after one op."""
    w = World(EqualStates)
    w.watch.state(0, 32, b"a")
    w.watch.state(1, 32, b"a")
    with violates("INV-20"):
        w.watch.state(2, 32, b"b")
    w.send(1, m.CommitOk(0, None, m.GENESIS_CHECKPOINT, m.Probe(64, b"a"), True))
    with violates("INV-20"):
        w.send(2, m.CommitOk(0, None, m.GENESIS_CHECKPOINT, m.Probe(64, b"b"), True))


def test_inv_26_amnesiac_votes() -> None:
    """A replica that forgot its promises acknowledges."""
    w = World(inv.EligibleVoters)
    state = fresh_state()
    state.status = m.Status.AMNESIAC
    w.watch.step(2, state)
    with violates("INV-26"):
        w.send(2, prepare_ok(ONE))


def test_inv_30_too_many_bodies() -> None:
    """A replica keeps more in memory than its limits allow."""
    limits = Limits(pipeline_max=1, body_cache_ops=1, entries_max=1, repair_requests_max=1, repair_wanted_max=1)
    w = World(lambda facts: inv.Bounds(facts, limits))
    state = fresh_state()
    below = GENESIS
    for op in range(1, 4):
        below = prepare_at(op, below)
        state.log.append(below)
    w.watch.step(1, state)
    state.log.append(prepare_at(4, below))
    with violates("INV-30"):
        w.watch.step(1, state)


def test_inv_28_fault_without_damage() -> None:
    """An acknowledged entry is unreadable, or a replica forgot its promises, although no disk was damaged."""
    w = World(inv.CrashesLeaveNoFault)
    w.send(2, do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.NACK)))
    with violates("INV-28"):
        w.send(2, do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.FAULT)))
    state = fresh_state()
    state.status = m.Status.AMNESIAC
    with violates("INV-28"):
        w.watch.step(2, state)


def test_inv_30_too_much_in_the_rooms() -> None:
    """A queue of a live replica is longer than it may be."""
    c = Cluster()
    c.order("laptop-1").expect_reply()
    core = c.replica("R0").replica.core
    assert core is not None
    bounds = inv.Bounds(c.sim.facts, core.state.limits)
    bounds.on_core(0, core)
    core.repair.ahead.update(dict.fromkeys(range(1000, 1065), ONE))
    with violates("INV-30"):
        bounds.on_core(0, core)
    core.repair.ahead.clear()
    requests: list[SimpleNamespace] = vars(core.repair)["_asked"]
    requests.extend([SimpleNamespace(ops=frozenset({1000}))] * core.state.limits.repair_requests_max)
    bounds.on_core(0, core)
    requests.append(requests[0])
    with violates("INV-30"):
        bounds.on_core(0, core)


def test_one_peer_is_asked_for_everything() -> None:
    """8.1: while several live, what is committed is not asked of the same one again and again."""
    c = Cluster()
    c.order("laptop-1").expect_reply()
    core = c.replica("R2").replica.core
    assert core is not None
    oracle = AsksAround(c.sim.facts)
    lacked, above = m.GetPrepares(((1, ONE.checksum),)), m.GetPrepares(((9, None),))

    def ask(message: m.GetPrepares, peer: int) -> None:
        send = Send((peer,), core.state.envelope(), message, Requires(0, 0, 0))
        oracle.on_get_prepares(2, send, message)

    oracle.on_step(2, core.state)
    oracle.on_core(2, core)
    for turn in range(4 * TURNS_MAX):
        ask(above, 0)  # Only the primary knows.
        ask(lacked, turn % 2)
    for _ in range(TURNS_MAX):
        ask(lacked, 0)
    copy = m.PrepareCopy(ONE, False)
    oracle.on_prepare_copy(0, Send((2,), core.state.envelope(), copy, Requires(0, 0, 0)), copy)
    for _ in range(TURNS_MAX):  # It had an answer: it counts anew.
        ask(lacked, 0)
    with violates("turns"):
        ask(lacked, 0)


def test_copy_storm_on_one_link() -> None:
    """One prepare goes over one link too often; other links, prepares and boots are counted apart."""
    w = World(NoCopyStorm)
    for _ in range(COPIES_MAX):
        for prepare in (ONE, TWO):
            w.send(0, m.PrepareCopy(prepare, False))
            w.send(1, m.PrepareCopy(prepare, False))
    empty = Scan(None, True, ())
    w.watch.start(0, Start(image(0), empty), empty)
    for _ in range(COPIES_MAX):
        w.send(0, m.PrepareCopy(ONE, False))
    with violates("copy storm"):
        w.send(0, m.PrepareCopy(ONE, False))
    with violates("copy storm"):
        w.send(1, m.PrepareCopy(TWO, False))


def test_copies_to_a_new_boot_of_the_receiver_are_counted_anew() -> None:
    """A replica that lost what it had in memory may ask for all of it again."""
    w = World(NoCopyStorm)
    empty = Scan(None, True, ())
    for _ in range(2):
        for _ in range(COPIES_MAX):
            w.send(0, m.PrepareCopy(ONE, False))
        w.watch.start(2, Start(image(2), empty), empty)


def test_inv_30_too_many_bodies_asked_for_at_once() -> None:
    """One request names more bodies than it may."""
    w = World(lambda facts: inv.Bounds(facts, Limits(repair_wanted_max=2)))
    w.send(1, m.GetPrepares(((1, None), (2, None))))
    with violates("INV-30"):
        w.send(1, m.GetPrepares(((1, None), (2, None), (3, None))))


def test_hook_that_nobody_calls() -> None:
    """A misspelt hook would be a check that never runs."""
    with pytest.raises(TypeError, match=r"Deaf.on_prepare_okay: there is no such hook; there are .*on_prepare_ok,"):

        class Deaf(Oracle):  # pyright: ignore[reportUnusedClass]
            def on_prepare_okay(self) -> None: ...
