"""Each oracle fires on the violation that it is there for, and stays silent without it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from sim.oracles import invariants as inv
from sim.oracles import promises
from sim.oracles.facts import Facts, Violation
from sim.oracles.linearizability import check_real_time
from sim.oracles.liveness import demand_completion, demand_convergence
from sim.oracles.reference import ExecutedOnce
from sim.oracles.survival import AnsweredSurvives
from sim.oracles.watch import Oracle, Watch
from sim.scenario import Cluster
from sim.shape import Shape
from sim.workload import Operation
from trio_pb.app.orders import SCAN, ScanCustomers, encode_scan
from trio_pb.core import messages as m
from trio_pb.core.client_ports import Success
from trio_pb.core.config import Limits, Options
from trio_pb.core.durable import Install, Proof, RecordHeader, Scan, Superblock
from trio_pb.core.log import Log
from trio_pb.core.ports import Apply, ApplyItem, Requires, Send, Start, SuperblockWrite, ToClient, WalAppend
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId, build, genesis
from trio_pb.core.state import State

CLUSTER = bytes(range(16))
GENESIS = genesis(CLUSTER)
VIEW = 1
CONFIGURATION = m.Configuration(0, (0, 1, 2))


def _image(replica: int, view: int = VIEW, log_view: int = VIEW, install: Install | None = None) -> Superblock:
    return Superblock(
        cluster=CLUSTER,
        replica=replica,
        incarnation=bytes(16),
        boot=1,
        born=True,
        view=view,
        log_view=log_view,
        install=install or Install(base=GENESIS.id),
        commit=GENESIS.id,
        configuration=CONFIGURATION,
        pinned=(),
    )


def _prepare(
    op: int, parent: Prepare, *, timestamp: int = 0, view: int = VIEW, requests: list[OrderedRequest] | None = None
) -> Prepare:
    return build(
        cluster=CLUSTER,
        epoch=0,
        view=view,
        op=op,
        parent=parent.checksum,
        commit=0,
        timestamp=timestamp or op * 1000,
        requests=requests or [],
        release=1,
    )


ONE = _prepare(1, GENESIS)
TWO = _prepare(2, ONE)
OTHER_ONE = _prepare(1, GENESIS, timestamp=5)


class World:
    """Doctored facts: three disks in view 1, and one oracle that looks on."""

    def __init__(self, make: Callable[[Facts], Oracle]) -> None:
        self.facts = Facts(CLUSTER, [_image(0), _image(1), _image(2)])
        self.watch = Watch(self.facts, [make(self.facts)])
        for prepare in (ONE, TWO, OTHER_ONE):
            self.facts.register(prepare)

    def send(
        self, replica: int, message: m.PeerMessage, *, view: int = VIEW, op: int = 9, requires: Requires | None = None
    ) -> None:
        """A message leaves."""
        envelope = m.Envelope(
            cluster=CLUSTER,
            replica=replica,
            incarnation=bytes(8),
            boot=1,
            epoch=0,
            view=view,
            op=op,
            commit=0,
            release=1,
        )
        self.watch.send(replica, Send((2,), envelope, message, requires or Requires(0, 0, 0)))

    def make_durable(self, replica: int, *prepares: Prepare, proof: bool = True) -> None:
        """Records, and a proof of the last, are on the disk."""
        acked = prepares[-1]
        promise = Proof((1 << 32) + acked.op, VIEW, acked.op, acked.checksum, GENESIS.id) if proof else None
        self.watch.append(replica, WalAppend(acked.op, prepares, promise))
        self.watch.append_done(replica, acked.op)

    def commit(self, replica: int, prepare: Prepare) -> None:
        """A replica takes a prepare for committed."""
        state = _state()
        state.commit_max, state.commit_known = prepare.op, prepare.id
        self.watch.step(replica, state)


def _prepare_message(prepare: Prepare) -> m.PrepareMessage:
    return m.PrepareMessage(prepare, None, 0)


def _prepare_ok(prepare: Prepare) -> m.PrepareOk:
    return m.PrepareOk(prepare.id, 0, m.GENESIS_CHECKPOINT, m.NO_PROBE)


def _start_view(*prepares: Prepare, base: Prepare = GENESIS) -> m.StartView:
    return m.StartView(
        base=base.id,
        checksums=tuple(prepare.checksum for prepare in prepares),
        last_timestamp=0,
        certified=m.GENESIS_CHECKPOINT,
        configuration=CONFIGURATION,
        pending=None,
        nonce=0,
    )


def _do_view_change(*entries: m.LogEntry, log_view: int = VIEW) -> m.DoViewChange:
    return m.DoViewChange(
        log_view=log_view,
        head=None,
        commit=GENESIS.id,
        entries=entries,
        last_timestamp=0,
        checkpoint=m.GENESIS_CHECKPOINT,
        certified=m.GENESIS_CHECKPOINT,
        wal_low=1,
        configuration=CONFIGURATION,
        pending=None,
    )


def _state() -> State:
    """A core at the beginning of our cluster's log."""
    state = State(Options())
    state.log = Log(GENESIS.id)
    state.commit_known = GENESIS.id
    return state


def _apply(op: int, timestamp: int = 1, items: tuple[ApplyItem, ...] = ()) -> Apply:
    return Apply(op, timestamp, 1, items)


def _violates(rule: str) -> pytest.RaisesExc[Violation]:
    return pytest.RaisesExc(Violation, check=lambda violation: violation.rule == rule)


def test_inv_1_another_execution() -> None:
    """Two replicas execute different things at one op."""
    w = World(inv.AgreementOnApply)
    w.watch.apply(0, _apply(1))
    w.watch.apply(1, _apply(1))
    with _violates("INV-1"):
        w.watch.apply(2, _apply(1, timestamp=2))


def test_inv_1_gap() -> None:
    """An op is skipped."""
    w = World(inv.AgreementOnApply)
    with _violates("INV-1"):
        w.watch.apply(0, _apply(2))


def test_inv_2_two_commits_at_one_op() -> None:
    """Another prepare is taken for committed."""
    w = World(Oracle)
    w.commit(0, TWO)
    w.commit(1, ONE)
    with _violates("INV-2"):
        w.commit(2, OTHER_ONE)


def test_inv_3_second_prepare() -> None:
    """A primary proposes twice at one op; the same one again is fine."""
    w = World(inv.OnePreparePerOp)
    w.send(1, _prepare_message(ONE))
    w.send(1, _prepare_message(ONE))
    with _violates("INV-3"):
        w.send(1, _prepare_message(OTHER_ONE))


def test_inv_4_view_not_durable() -> None:
    """A frame speaks of a view that the disk does not know."""
    w = World(inv.ViewsNeverFall)
    w.send(1, m.GetStartView(1))
    with _violates("INV-4"):
        w.send(1, m.GetStartView(1), view=2)


def test_inv_4_view_falls_over_a_restart() -> None:
    """A restart finds an older view."""
    w = World(inv.ViewsNeverFall)
    scan = Scan(None, True, ())
    with _violates("INV-4"):
        w.watch.start(1, Start(_image(1, view=0, log_view=0), scan), scan)


def test_inv_5_two_primaries() -> None:
    """A replica leads a view that is not its own."""
    w = World(inv.OnePrimaryPerView)
    w.send(1, m.Commit(ONE.checksum, None, 0, m.GENESIS_CHECKPOINT))
    with _violates("INV-5"):
        w.send(2, _prepare_message(ONE))


def test_inv_6_two_installs() -> None:
    """A view starts with two logs; going further is fine."""
    w = World(inv.OneInstallPerView)
    w.send(1, _start_view(ONE))
    w.send(1, _start_view(ONE, TWO))
    with _violates("INV-6"):
        w.send(1, _start_view(OTHER_ONE))


def test_inv_7_logs_differ() -> None:
    """A do_view_change tells another log of the same log_view."""
    w = World(inv.LogsOfOneViewAgree)
    w.send(1, _start_view(ONE))
    w.send(0, _do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.PRESENT)))
    with _violates("INV-7"):
        w.send(0, _do_view_change(m.LogEntry(1, OTHER_ONE.checksum, m.EntryState.PRESENT)))


def test_inv_8_acknowledged_without_record() -> None:
    """An acknowledgement before the flush; after it the same one is fine."""
    w = World(promises.AcknowledgedIsDurable)
    with _violates("INV-8"):
        w.send(2, _prepare_ok(ONE))
    w.make_durable(2, ONE)
    w.send(2, _prepare_ok(ONE))


def test_inv_8_acknowledged_without_what_is_below() -> None:
    """The record of the op is durable, one below it is not."""
    w = World(promises.AcknowledgedIsDurable)
    w.make_durable(2, TWO)
    with _violates("INV-8"):
        w.send(2, _prepare_ok(TWO))


def test_inv_8_acknowledged_without_proof() -> None:
    """Records without a durable watermark bind nobody."""
    w = World(promises.AcknowledgedIsDurable)
    w.make_durable(2, ONE, proof=False)
    with _violates("INV-8"):
        w.send(2, _prepare_ok(ONE))


def test_inv_9_log_offered_before_the_view_is_durable() -> None:
    """A do_view_change runs ahead of the disk."""
    w = World(promises.ViewPromisesKept)
    with _violates("INV-9"):
        w.send(2, _do_view_change(), view=5)


def test_inv_9_acknowledged_after_a_later_offer() -> None:
    """An acknowledgement of view 1 after the log went to view 5."""
    w = World(promises.ViewPromisesKept)
    w.watch.image(2, SuperblockWrite(1, _image(2, view=5)))
    w.watch.image_done(2, 1)
    w.send(2, _do_view_change(), view=5)
    with _violates("INV-9"):
        w.send(2, _prepare_ok(ONE), view=1)


def test_inv_10_view_starts_without_its_log() -> None:
    """A start_view names an entry that its sender's disk does not hold."""
    w = World(promises.ViewPromisesKept)
    w.make_durable(1, ONE)
    with _violates("INV-10"):
        w.send(1, _start_view(ONE, TWO))


def test_inv_11_commit_without_quorum() -> None:
    """One disk is no quorum of three; two are."""
    w = World(promises.CommittedIsHeldByQuorum)
    w.make_durable(1, ONE)
    w.make_durable(2, ONE)
    w.commit(1, ONE)
    w.make_durable(1, TWO)
    with _violates("INV-11"):
        w.commit(1, TWO)


def test_inv_12_reply_before_commit() -> None:
    """A client hears of an op that is not committed."""
    w = World(inv.RepliesAreCommitted)
    reply = m.Reply(bytes(16), 1, 1, 1, VIEW, 1, False, b"")
    with _violates("INV-12"):
        w.watch.to_client(1, ToClient(1, reply))


@pytest.mark.parametrize(("start", "rule"), [((), "short"), ((OTHER_ONE,), "other")])
def test_new_log_without_committed_op(start: tuple[Prepare, ...], rule: str) -> None:
    """A view starts with a log that lost, or replaced, a committed op."""
    w = World(promises.NewLogKeepsCommitted)
    w.commit(1, ONE)
    with _violates("new log"):
        w.send(2, _start_view(*start), view=2)


def test_inv_13_denial_of_an_acknowledged_op() -> None:
    """A replica denies what it acknowledged; denying what lies above is fine."""
    w = World(promises.DenialsAreTrue)
    w.send(2, _prepare_ok(ONE))
    w.send(2, _do_view_change(m.LogEntry(2, None, m.EntryState.NACK)))
    with _violates("INV-13"):
        w.send(2, _do_view_change(m.LogEntry(1, None, m.EntryState.NACK)))
    with _violates("INV-13"):
        w.send(2, _do_view_change(), op=0)


def test_inv_13_install_releases_a_promise() -> None:
    """After an install that left the op out, denying it is right."""
    w = World(promises.DenialsAreTrue)
    w.send(2, _prepare_ok(ONE))
    install = Install(base=GENESIS.id, checksums=(OTHER_ONE.checksum,))
    w.watch.image(2, SuperblockWrite(1, _image(2, view=2, log_view=2, install=install)))
    w.watch.image_done(2, 1)
    w.send(2, _do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.NACK)), view=3)


def test_inv_14_applied_above_the_cluster() -> None:
    """A replica runs ahead of what is committed anywhere."""
    w = World(inv.AppliedBelowCommit)
    state = _state()
    state.applied = state.commit_max = 3
    with _violates("INV-14"):
        w.watch.step(1, state)


def test_inv_15_pipeline_too_long() -> None:
    """An op is created too far above its creator's commit point."""
    w = World(lambda facts: inv.PipelineBound(facts, Limits(pipeline_max=1)))
    w.watch.append(1, WalAppend(1, (ONE,), None))
    with _violates("INV-15"):
        w.watch.append(1, WalAppend(2, (TWO,), None))


def test_inv_16_broken_chain() -> None:
    """A start_view puts entries together that do not belong together."""
    w = World(inv.ChainedHeaders)
    w.send(1, _start_view(ONE, TWO))
    with _violates("INV-16"):
        w.send(1, _start_view(OTHER_ONE, TWO))


def test_inv_17_time_runs_back() -> None:
    """A committed op is not later than the one below."""
    w = World(inv.RisingTimestamps)
    early = _prepare(2, ONE, timestamp=ONE.timestamp)
    w.facts.register(early)
    w.commit(1, ONE)
    with _violates("INV-17"):
        w.commit(1, early)


def test_inv_18_number_executed_twice() -> None:
    """A replica executes a number that the model refuses."""
    w = World(lambda facts: ExecutedOnce(facts, 8))
    client = bytes(16)
    first = _prepare(1, GENESIS, requests=[OrderedRequest(client, 0, 0, m.CODE_REGISTER, b"")])
    session = 1 << 16
    order = OrderedRequest(client, session, 1, 2, b"order")
    second = _prepare(2, first, requests=[order])
    third = _prepare(3, second, requests=[order])
    for prepare in (first, second, third):
        w.facts.register(prepare)
    w.commit(1, third)
    item = (ApplyItem(0, client, 2, b"order"),)
    w.watch.apply(1, _apply(1))
    w.watch.apply(1, _apply(2, items=item))
    with _violates("INV-18"):
        w.watch.apply(1, _apply(3, items=item))
    with _violates("INV-19"):
        w.watch.to_client(1, ToClient(1, m.Reply(client, session, 1, 2, VIEW, 1, False, b"wrong")))


def test_inv_20_states_differ() -> None:
    """Two replicas have different states, or probes, after one op."""
    w = World(inv.EqualStates)
    w.watch.state(0, 32, b"a")
    w.watch.state(1, 32, b"a")
    with _violates("INV-20"):
        w.watch.state(2, 32, b"b")
    w.send(1, m.CommitOk(0, None, m.GENESIS_CHECKPOINT, m.Probe(64, b"a"), True))
    with _violates("INV-20"):
        w.send(2, m.CommitOk(0, None, m.GENESIS_CHECKPOINT, m.Probe(64, b"b"), True))


def _answered(floor: int, op: int, *, is_read: bool) -> Operation:
    operation = Operation(1, "C0", 2, b"", is_read=is_read, floor=floor)
    operation.outcome = Success(m.Reply(bytes(16), 0, 1, op, VIEW, 0, False, b""), 0, 1)
    return operation


def test_inv_22_and_23_answers_against_real_time() -> None:
    """A read may stand at what was known, a write must stand above it."""
    check_real_time([_answered(5, 5, is_read=True), _answered(5, 6, is_read=False)])
    with _violates("INV-23"):
        check_real_time([_answered(5, 4, is_read=True)])
    with _violates("INV-22"):
        check_real_time([_answered(5, 5, is_read=False)])


def test_inv_26_amnesiac_votes() -> None:
    """A replica that forgot its promises acknowledges."""
    w = World(inv.EligibleVoters)
    state = _state()
    state.status = m.Status.AMNESIAC
    w.watch.step(2, state)
    with _violates("INV-26"):
        w.send(2, _prepare_ok(ONE))


def test_inv_29_durable_record_is_gone() -> None:
    """A restart does not find what was flushed."""
    w = World(promises.DurableStays)
    w.make_durable(2, ONE)
    proof = w.facts.disks[2].proof
    record = RecordHeader(ONE.op, ONE.checksum, ONE.parent, ONE.view, ONE.commit)
    whole = Scan(proof, True, (record,))
    w.watch.start(2, Start(_image(2), whole), whole)
    for scan in (Scan(proof, True, ()), attrs.evolve(whole, proof=None)):
        with _violates("INV-29"):
            w.watch.start(2, Start(_image(2), scan), scan)


def test_inv_30_too_many_bodies() -> None:
    """A replica keeps more in memory than its limits allow."""
    limits = Limits(pipeline_max=1, body_cache_ops=1, entries_max=1, repair_requests_max=1, repair_wanted_max=1)
    w = World(lambda facts: inv.Bounds(facts, limits))
    state = _state()
    below = GENESIS
    for op in range(1, 4):
        below = _prepare(op, below)
        state.log.append(below)
    w.watch.step(1, state)
    state.log.append(_prepare(4, below))
    with _violates("INV-30"):
        w.watch.step(1, state)


def test_inv_31_requirement_not_met() -> None:
    """A message requires a view, or a watermark, that is not durable."""
    w = World(promises.RequirementsHold)
    w.send(1, m.GetStartView(1), requires=Requires(1, 1, 0))
    with _violates("INV-31"):
        w.send(1, m.GetStartView(1), requires=Requires(2, 1, 0))
    with _violates("INV-31"):
        w.send(1, m.GetStartView(1), requires=Requires(1, 1, 1))


def test_holders_know_the_ones_below() -> None:
    """A disk holds an op only together with everything below it."""
    w = World(Oracle)
    w.make_durable(1, ONE, TWO)
    w.make_durable(2, TWO)
    assert w.facts.holders(PrepareId(2, TWO.checksum)) == [1]


def test_inv_32_other_outputs_on_replay() -> None:
    """A recorded run replays; a doctored record does not."""
    c = Cluster(shape=Shape(record=True))
    c.order("laptop-1").expect_reply()
    c.sim.replay_recorded()
    steps = c.sim.replicas[0].recorded[0]
    steps[-1] = steps[-1]._replace(outputs=(*steps[-1].outputs, _apply(99)))
    with _violates("INV-32"):
        c.sim.replay_recorded()


def test_inv_22_wrong_read_and_lost_order() -> None:
    """A read with another customer's record, and an order that was answered but never executed."""
    c = Cluster()
    c.order("laptop-1", customer=1).expect_reply()
    right = c.read(1).expect_reply().operation
    wrong = c.read(2).expect_reply().operation
    c.expect_same_state()
    wrong.outcome, true_outcome = right.outcome, wrong.outcome
    with _violates("INV-22"):
        c.expect_same_state()
    wrong.outcome = true_outcome
    c.sim.executed.model.executed.clear()
    with _violates("INV-22"):
        c.expect_same_state()


def test_inv_33_operation_without_an_answer() -> None:
    """Liveness is demanded with what everybody waits for."""
    c = Cluster()
    c.crash("R0", "R1")
    c.order("laptop-1").expect_no_reply(10)
    with pytest.raises(Violation, match=r"INV-33.*\n.*R0: down"):
        demand_completion(c.sim.clients, c.sim.replicas)
    with pytest.raises(Violation, match="INV-33"):
        demand_convergence(c.sim.clients, c.sim.replicas)


def test_inv_12_answered_op_on_too_few_disks() -> None:
    """An answer whose op a quorum of disks could forget; held by a replication quorum, no quorum can."""
    w = World(AnsweredSurvives)
    client = bytes(16)
    order = _prepare(1, GENESIS, requests=[OrderedRequest(client, 1, 1, 2, b"order")])
    w.facts.register(order)
    w.commit(1, order)
    answer = ToClient(1, m.Reply(client, 1, 1, 1, VIEW, 1, False, b""))
    w.make_durable(1, order)
    with _violates("INV-12"):
        w.watch.to_client(1, answer)
    survives = World(AnsweredSurvives)
    survives.facts.register(order)
    survives.commit(1, order)
    survives.make_durable(1, order)
    survives.make_durable(2, order)
    survives.watch.to_client(1, answer)


def test_inv_24_pages_of_two_states() -> None:
    """A scan goes on at another op than it began, or leaves a customer out."""
    c = Cluster()
    for customer in (1, 2, 3):
        c.order(f"laptop-{customer}", customer=customer).expect_reply()
    client = c.sim.clients[0]
    first = Operation(1 << 20, client.name, SCAN, encode_scan(ScanCustomers(0, 2)), is_read=True)
    client.submit(first)
    c.run_until(lambda: first.succeeded)
    assert isinstance(first.outcome, Success)
    second = attrs.evolve(
        first, token=first.token + 1, cursor=first.outcome.reply.cursor, scan=first.token, ended=None, outcome=None
    )
    client.submit(second)
    c.run_until(lambda: second.succeeded)
    c.expect_same_state()
    assert isinstance(second.outcome, Success)
    true_reply = second.outcome.reply
    for wrong in (attrs.evolve(true_reply, op=true_reply.op - 1), attrs.evolve(true_reply, result=_no_records(first))):
        second.outcome = attrs.evolve(second.outcome, reply=wrong)
        with _violates("INV-24"):
            c.expect_same_state()


def _no_records(page: Operation) -> bytes:
    """A scan page like the one given, but the same records again."""
    assert isinstance(page.outcome, Success)
    return page.outcome.reply.result


def test_inv_28_fault_without_damage() -> None:
    """An acknowledged entry is unreadable, or a replica forgot its promises, although no disk was damaged."""
    w = World(inv.CrashesLeaveNoFault)
    w.send(2, _do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.NACK)))
    with _violates("INV-28"):
        w.send(2, _do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.FAULT)))
    state = _state()
    state.status = m.Status.AMNESIAC
    with _violates("INV-28"):
        w.watch.step(2, state)


def test_inv_29_watermark_falls() -> None:
    """An install forgets an acknowledgement that the new log keeps; so does a restart."""
    w = World(promises.WatermarkStays)
    w.make_durable(2, ONE)
    w.send(2, _prepare_ok(ONE))
    keeps = Install(base=GENESIS.id, checksums=(ONE.checksum,), ack_floor=1, proof_base=9 << 32)
    w.watch.image(2, SuperblockWrite(1, _image(2, view=2, log_view=2, install=keeps)))
    w.watch.image_done(2, 1)
    forgets = attrs.evolve(keeps, ack_floor=0)
    w.watch.image(2, SuperblockWrite(2, _image(2, view=3, log_view=3, install=forgets)))
    with _violates("INV-29"):
        w.watch.image_done(2, 2)


def test_inv_30_too_much_in_the_rooms() -> None:
    """A queue of a live replica is longer than it may be."""
    c = Cluster()
    c.order("laptop-1").expect_reply()
    core = c.replica("R0").replica.core
    assert core is not None
    bounds = inv.Bounds(c.sim.facts, core.state.limits)
    bounds.on_core(0, core)
    core.repair.ahead.update(dict.fromkeys(range(1000, 1065), ONE))
    with _violates("INV-30"):
        bounds.on_core(0, core)


def test_provenance_entry_of_another_view() -> None:
    """A replica acknowledges above its view's first log what an older view ordered."""
    w = World(promises.EntriesOfTheirView)
    w.send(2, _prepare_ok(ONE))
    with _violates("provenance"):
        stranger = _prepare(1, GENESIS, view=VIEW - 1)
        w.facts.register(stranger)
        w.send(2, _prepare_ok(stranger))


def test_decision_for_an_older_log() -> None:
    """A new primary begins with entries that only a log older than its own has."""
    w = World(promises.NewestLogWins)
    old = _prepare(1, GENESIS, view=0)
    w.send(0, _prepare_message(old), view=0)
    w.send(1, _prepare_message(ONE))
    for number, prepare in ((1, ONE), (2, old)):
        view = 2 + 1024 * number
        install = Install(base=GENESIS.id, checksums=(prepare.checksum,))
        w.facts.disks[2].superblock = _image(2)
        w.watch.image(2, SuperblockWrite(number, _image(2, view=view, log_view=view, install=install)))
        if prepare is ONE:
            w.watch.image_done(2, number)
        else:
            with _violates("decision"):
                w.watch.image_done(2, number)
