"""Each oracle on what was promised and what is durable fires on its violation, and only then."""

from __future__ import annotations

import attrs
import pytest

from sim.oracles import invariants as inv
from sim.oracles import promises, votes
from sim.oracles.equal_states import WrongStateIsKnown
from sim.oracles.survival import AnsweredSurvives
from sim.oracles.watch import Oracle
from tests.sim.oracle_world import (
    CONFIGURATION,
    GENESIS,
    ONE,
    OTHER_ONE,
    TWO,
    VIEW,
    World,
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
from trio_pb.core.durable import Install, Proof, RecordHeader, Scan
from trio_pb.core.manifest import CoreState
from trio_pb.core.ports import Requires, Start, SuperblockWrite, ToClient, WalAppend
from trio_pb.core.prepare import OrderedRequest, Prepare, PrepareId


def test_inv_8_acknowledged_without_record() -> None:
    """An acknowledgement before the flush; after it the same one is fine."""
    w = World(promises.AcknowledgedIsDurable)
    with violates("INV-8"):
        w.send(2, prepare_ok(ONE))
    w.make_durable(2, ONE)
    w.send(2, prepare_ok(ONE))


def test_inv_8_acknowledged_without_what_is_below() -> None:
    """The record of the op is durable, one below it is not."""
    w = World(promises.AcknowledgedIsDurable)
    w.make_durable(2, TWO)
    with violates("INV-8"):
        w.send(2, prepare_ok(TWO))


def test_inv_8_acknowledged_without_proof() -> None:
    """Records without a durable watermark bind nobody."""
    w = World(promises.AcknowledgedIsDurable)
    w.make_durable(2, ONE, proof=False)
    with violates("INV-8"):
        w.send(2, prepare_ok(ONE))


def test_inv_9_log_offered_before_the_view_is_durable() -> None:
    """A do_view_change runs ahead of the disk."""
    w = World(promises.ViewPromisesKept)
    with violates("INV-9"):
        w.send(2, do_view_change(), view=5)


def test_inv_9_acknowledged_after_a_later_offer() -> None:
    """An acknowledgement of view 1 after the log went to view 5."""
    w = World(promises.ViewPromisesKept)
    w.watch.image(2, SuperblockWrite(1, image(2, view=5)))
    w.watch.image_done(2, 1)
    w.send(2, do_view_change(), view=5)
    with violates("INV-9"):
        w.send(2, prepare_ok(ONE), view=1)


def test_inv_10_view_starts_without_its_log() -> None:
    """A start_view names an entry that its sender's disk does not hold."""
    w = World(promises.ViewPromisesKept)
    w.make_durable(1, ONE)
    with violates("INV-10"):
        w.send(1, start_view(ONE, TWO))


def test_inv_11_commit_without_quorum() -> None:
    """One disk is no quorum of three; two are."""
    w = World(promises.CommittedIsHeldByQuorum)
    w.make_durable(1, ONE)
    w.make_durable(2, ONE)
    w.commit(1, ONE)
    w.make_durable(1, TWO)
    with violates("INV-11"):
        w.commit(1, TWO)


def test_inv_12_reply_before_commit() -> None:
    """A client hears of an op that is not committed."""
    w = World(inv.RepliesAreCommitted)
    reply = m.Reply(bytes(16), 1, 1, 1, VIEW, 1, False, b"")
    with violates("INV-12"):
        w.watch.to_client(1, ToClient(1, reply))


@pytest.mark.parametrize(("start", "rule"), [((), "short"), ((OTHER_ONE,), "other")])
def test_new_log_without_committed_op(start: tuple[Prepare, ...], rule: str) -> None:
    """A view starts with a log that lost, or replaced, a committed op."""
    w = World(promises.NewLogKeepsCommitted)
    w.commit(1, ONE)
    with violates("new log"):
        w.send(2, start_view(*start), view=2)


def test_inv_13_denial_of_an_acknowledged_op() -> None:
    """A replica denies what it acknowledged; denying what lies above is fine."""
    w = World(promises.DenialsAreTrue)
    w.send(2, prepare_ok(ONE))
    w.send(2, do_view_change(m.LogEntry(2, None, m.EntryState.NACK)))
    with violates("INV-13"):
        w.send(2, do_view_change(m.LogEntry(1, None, m.EntryState.NACK)))
    with violates("INV-13"):
        w.send(2, do_view_change(), op=0)


def test_inv_13_install_releases_a_promise() -> None:
    """After an install that left the op out, denying it is right."""
    w = World(promises.DenialsAreTrue)
    w.send(2, prepare_ok(ONE))
    install = Install(base=GENESIS.id, checksums=(OTHER_ONE.checksum,))
    w.watch.image(2, SuperblockWrite(1, image(2, view=2, log_view=2, install=install)))
    w.watch.image_done(2, 1)
    w.send(2, do_view_change(m.LogEntry(1, ONE.checksum, m.EntryState.NACK)), view=3)


def test_inv_29_durable_record_is_gone() -> None:
    """A restart does not find what was flushed."""
    w = World(promises.DurableStays)
    w.make_durable(2, ONE)
    proof = w.facts.disks[2].proof
    record = RecordHeader(ONE.op, ONE.checksum, ONE.parent, ONE.view, ONE.commit)
    whole = Scan(proof, True, (record,))
    w.watch.start(2, Start(image(2), whole), whole)
    for scan in (Scan(proof, True, ()), attrs.evolve(whole, proof=None)):
        with violates("INV-29"):
            w.watch.start(2, Start(image(2), scan), scan)


def test_inv_31_requirement_not_met() -> None:
    """A message requires a view, or a watermark, that is not durable."""
    w = World(promises.RequirementsHold)
    w.send(1, m.GetStartView(1), requires=Requires(1, 1, 0))
    with violates("INV-31"):
        w.send(1, m.GetStartView(1), requires=Requires(2, 1, 0))
    with violates("INV-31"):
        w.send(1, m.GetStartView(1), requires=Requires(1, 1, 1))


def test_holders_know_the_ones_below() -> None:
    """A disk holds an op only together with everything below it."""
    w = World(Oracle)
    w.make_durable(1, ONE, TWO)
    w.make_durable(2, TWO)
    assert w.facts.holders(PrepareId(2, TWO.checksum)) == [1]


def test_inv_12_answered_op_on_too_few_disks() -> None:
    """An answer whose op a quorum of disks could forget; held by a replication quorum, no quorum can."""
    w = World(AnsweredSurvives)
    client = bytes(16)
    order = prepare_at(1, GENESIS, requests=[OrderedRequest(client, 1, 1, 2, b"order")])
    w.facts.register(order)
    w.commit(1, order)
    answer = ToClient(1, m.Reply(client, 1, 1, 1, VIEW, 1, False, b""))
    w.make_durable(1, order)
    with violates("INV-12"):
        w.watch.to_client(1, answer)
    survives = World(AnsweredSurvives)
    survives.facts.register(order)
    survives.commit(1, order)
    survives.make_durable(1, order)
    survives.make_durable(2, order)
    survives.watch.to_client(1, answer)


def test_inv_29_watermark_falls() -> None:
    """An install forgets an acknowledgement that the new log keeps; so does a restart."""
    w = World(promises.WatermarkStays)
    w.make_durable(2, ONE)
    w.send(2, prepare_ok(ONE))
    keeps = Install(base=GENESIS.id, checksums=(ONE.checksum,), ack_floor=1, proof_base=9 << 32)
    w.watch.image(2, SuperblockWrite(1, image(2, view=2, log_view=2, install=keeps)))
    w.watch.image_done(2, 1)
    forgets = attrs.evolve(keeps, ack_floor=0)
    w.watch.image(2, SuperblockWrite(2, image(2, view=3, log_view=3, install=forgets)))
    with violates("INV-29"):
        w.watch.image_done(2, 2)


def test_provenance_entry_of_another_view() -> None:
    """A replica acknowledges above its view's first log what an older view ordered."""
    w = World(promises.EntriesOfTheirView)
    w.send(2, prepare_ok(ONE))
    with violates("provenance"):
        stranger = prepare_at(1, GENESIS, view=VIEW - 1)
        w.facts.register(stranger)
        w.send(2, prepare_ok(stranger))


def test_decision_for_an_older_log() -> None:
    """A new primary begins with entries that only a log older than its own has."""
    w = World(promises.NewestLogWins)
    old = prepare_at(1, GENESIS, view=0)
    w.send(0, prepare_message(old), view=0)
    w.send(1, prepare_message(ONE))
    for number, prepare in ((1, ONE), (2, old)):
        view = 2 + 1024 * number
        install = Install(base=GENESIS.id, checksums=(prepare.checksum,))
        w.facts.disks[2].superblock = image(2)
        w.watch.image(2, SuperblockWrite(number, image(2, view=view, log_view=view, install=install)))
        if prepare is ONE:
            w.watch.image_done(2, number)
        else:
            with violates("decision"):
                w.watch.image_done(2, number)


@pytest.mark.parametrize(("view", "log_view"), [(1, 1), (5, 1), (5, 5)])
def test_inv_7_checkpoint_of_a_later_view(view: int, log_view: int) -> None:
    """What view 5 ordered is no ground for the log of view 1, unless that view is over (8.2, 4)."""
    w = World(promises.CheckpointsOfTheirView)
    newer = prepare_at(1, GENESIS, view=5)
    w.facts.register(newer)
    copied = attrs.evolve(
        image(2, view=view, log_view=log_view), anchor=newer.id, checkpoint=m.CheckpointId(1, bytes(32))
    )
    w.watch.image(2, SuperblockWrite(1, copied))
    if (view, log_view) == (1, 1):
        with violates("INV-7"):
            w.watch.image_done(2, 1)
    else:
        w.watch.image_done(2, 1)


@pytest.mark.parametrize("anchor", [None, OTHER_ONE.id])
def test_inv_29_an_amnesiac_is_bound_by_what_it_hears(anchor: PrepareId | None) -> None:
    """Only while it copies a state, which no log binds, it may promise less than it once did (7.3)."""
    w = World(promises.WatermarkStays)
    w.make_durable(2, ONE)
    w.send(2, prepare_ok(ONE))
    disk = w.facts.disks[2]
    disk.may_forget, disk.proof = True, None
    forgets = Install(base=GENESIS.id, checksums=(ONE.checksum,), ack_floor=0, proof_base=9 << 32)
    w.watch.image(2, SuperblockWrite(1, attrs.evolve(image(2, install=forgets), anchor=anchor)))
    if anchor is None:
        with violates("INV-29"):
            w.watch.image_done(2, 1)
    else:
        w.watch.image_done(2, 1)


def test_inv_29_a_proof_that_nobody_wrote() -> None:
    """What a restart finds was written, word for word; one that was never flushed may be found."""
    w = World(promises.FoundWasWritten)
    written = Proof((1 << 32) + 1, VIEW, 1, ONE.checksum, GENESIS.id)
    w.watch.append(2, WalAppend(1, (ONE,), written))
    for proof in (written, Proof(0, 0, 0, b"", GENESIS.id), None):
        scan = Scan(proof, True, ())
        w.watch.start(2, Start(image(2), scan, None), scan)
    scan = Scan(attrs.evolve(written, acked=9), True, ())
    with violates("INV-29"):
        w.watch.start(2, Start(image(2), scan, None), scan)


def test_inv_20_a_wrong_state_is_trusted() -> None:
    """Whoever learns that a quorum made another checkpoint of its op says so in that step; a disk may say it later."""
    w = World(WrongStateIsKnown)
    own, certified = m.CheckpointId(8, bytes(32)), m.CheckpointId(8, bytes(31) + b"1")
    state = fresh_state()
    state.checkpoint = own
    w.watch.step(2, state)
    state.certified = certified
    state.is_untrusted = True
    w.watch.step(2, state)
    both = attrs.evolve(image(2), checkpoint=own, certified=certified)
    w.watch.start(2, Start(both, Scan(None, True, ()), None), Scan(None, True, ()))
    state.is_untrusted = False
    w.watch.step(2, state)
    state.certified = m.GENESIS_CHECKPOINT
    w.watch.step(2, state)
    state.certified = certified
    with violates("INV-20"):
        w.watch.step(2, state)


def test_ops_of_another_release() -> None:
    """T-32: an op of a later release on top of the log that all know."""
    w = World(inv.OneRelease)
    later = attrs.evolve(prepare_at(2, ONE), release=2)
    w.watch.append(2, WalAppend(1, (ONE,), None))
    with violates("one release"):
        w.watch.append(2, WalAppend(2, (later,), None))
    w.watch.step(VIEW, fresh_state())
    with violates("one release"):  # Nor does a log begin with one that its primary need not speak.
        w.watch.append(2, WalAppend(2, (attrs.evolve(OTHER_ONE, release=2),), None))


def test_inv_29_an_older_checkpoint_binds_to_less() -> None:
    """Falling back on it must not unbind from what the newer one held."""
    w = World(promises.WatermarkStays)
    newer, older = m.CheckpointId(8, bytes(32)), m.CheckpointId(4, bytes(32))
    w.watch.image(2, SuperblockWrite(1, attrs.evolve(image(2), checkpoint=newer)))
    w.watch.image_done(2, 1)
    w.watch.image(2, SuperblockWrite(2, attrs.evolve(image(2), checkpoint=older)))
    with violates("INV-29"):
        w.watch.image_done(2, 2)


def test_inv_29_a_copied_state_may_void_a_lost_log() -> None:
    """What hung from an entry that lost binds nobody, though no view began (8.2): the proofs so far are void then."""
    w = World(promises.WatermarkStays)
    w.make_durable(2, ONE)
    copied = Install(base=OTHER_ONE.id, ack_floor=0, proof_base=9 << 32)
    w.watch.image(2, SuperblockWrite(1, attrs.evolve(image(2, install=copied), anchor=OTHER_ONE.id)))
    w.watch.image_done(2, 1)
    assert w.facts.disks[2].watermark == 0


def test_inv_13_an_install_that_a_power_cut_kept() -> None:
    """Its completion never came, and it released what the new log does not have all the same."""
    w = World(promises.DenialsAreTrue)
    w.make_durable(2, ONE)
    w.send(2, prepare_ok(ONE))
    without = image(2, view=4, log_view=4, install=Install(base=GENESIS.id))
    w.watch.image(2, SuperblockWrite(1, without))
    found = Start(without, Scan(records=(), proof=None, has_log=True))
    w.watch.start(2, found, found.scan)
    w.send(2, do_view_change(), view=5, op=0)


def test_inv_20_a_wrong_state_is_over_when_a_sound_one_loads() -> None:
    """One of before it went wrong, or the one that a quorum vouches for, but not its own later one."""
    own, certified, early = m.CheckpointId(16, b"w" * 32), m.CheckpointId(16, b"r" * 32), m.CheckpointId(8, b"r" * 32)
    for loaded, mine, theirs, is_over in (
        (16, own, early, False),
        (8, own, early, True),
        (16, certified, certified, True),
        (16, own, certified, False),
    ):
        w = World(promises.DenialsAreTrue)
        disk = w.facts.disks[2]
        disk.is_flipped, disk.flipped_op = True, 12
        state = CoreState(
            op=loaded,
            checksum=bytes(16),
            last_timestamp=1,
            release=1,
            configuration=CONFIGURATION,
            probe=bytes(16),
            sessions=(),
        )
        found = Start(attrs.evolve(image(2), checkpoint=mine, certified=theirs), Scan(None, True, ()), state)
        w.watch.start(2, found, found.scan)
        assert disk.is_flipped is not is_over


def test_inv_26_an_amnesiac_offers_its_log() -> None:
    """A boot that finds no proof although something was acknowledged must install a log before it offers one."""
    w = World(votes.AmnesiacsDoNotVote)
    bare = Start(image(2), Scan(records=(), proof=None, has_log=True))
    w.watch.start(2, bare, bare.scan)
    w.send(2, do_view_change(), view=5)  # It never acknowledged anything.
    w.send(2, prepare_ok(ONE))
    w.watch.start(2, bare, bare.scan)
    with violates("INV-26"):
        w.send(2, do_view_change(), view=5)
    installed = Install(base=GENESIS.id, checksums=(ONE.checksum,), ack_floor=1, proof_base=9 << 32)
    w.watch.image(2, SuperblockWrite(1, image(2, install=installed)))
    w.watch.image_done(2, 1)
    w.send(2, do_view_change(), view=6)


def test_inv_13_a_view_without_a_quorum_of_logs() -> None:
    """Of three, the primary and one more; offers to another view do not count."""
    w = World(votes.ViewsHaveQuorums)
    w.send(2, do_view_change(), view=3)
    with violates("INV-13"):
        w.send(1, start_view(ONE), view=4)
    w.send(2, do_view_change(), view=4)
    w.send(1, start_view(ONE), view=4)
