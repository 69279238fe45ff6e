"""What a restart believes and does (PROTOCOL 7, R-SCAN, R-PROOF), and how a replica is born (7.6)."""

from __future__ import annotations

from itertools import pairwise

import attrs

from tests.core.bench import CLUSTER, GENESIS, Bench, DiskImage, chain, disk_of, envelope, incarnation, statement
from trio_pb.core.messages import (
    CommitOk,
    DoViewChange,
    GetIds,
    GetPrepares,
    GetStartView,
    Hello,
    HelloAck,
    PrepareOk,
    StartViewChange,
    Status,
)
from trio_pb.core.ports import Fatal, FromPeer, Send, SuperblockWrite, WalAppend, WalRead
from trio_pb.core.prepare import Prepare
from trio_pb.core.state import members_digest


def torn(disk: DiskImage, *lost: Prepare) -> DiskImage:
    """The same disk without the records of these."""
    for prepare in lost:
        del disk.records[prepare.id]
    return disk


# --- 7.2 Status after a restart ------------------------------------------------------------------------


def test_7_2_a_backup_goes_on_as_a_backup() -> None:
    """View = log view, led by another: normal at once."""
    b = Bench(disk_of(1, log=chain(2)))
    assert (b.status, b.view, b.head) == (Status.NORMAL, 1024, 2)


def test_7_2_a_promised_view_is_kept() -> None:
    """T-1: view above log view: it states its log for the view that it promised."""
    b = Bench(disk_of(1, view=1026, log_view=1024, log=chain(2)))
    assert (b.status, b.view) == (Status.VIEW_CHANGE, 1026)
    assert [message.log_view for message in b.sent(DoViewChange, to=2)] == [1024]


def test_7_2_ex_primary_never_leads_that_view_again() -> None:
    """T-6: it may have sent prepares that it forgot; it wishes at once, and its backups need not wait."""
    a = Bench(disk_of(0, log=chain(2)))
    assert a.is_in(Status.EX_PRIMARY)
    a.request(0, code=1)
    a.ack(1, 2)
    a.run(50)
    assert (a.head, a.commit) == (2, 0)
    assert a.sent(StartViewChange)[0].sanctioned
    assert a.is_in(Status.EX_PRIMARY)


def test_7_2_ex_primary_follows_into_the_next_view() -> None:
    """When another wishes with it, it moves on and is an ordinary replica again."""
    a = Bench(disk_of(0, log=chain(2)))
    a.hear_wish(1, 1025)
    assert (a.status, a.view) == (Status.VIEW_CHANGE, 1025)
    a.hear_start_view(chain(2), view=1025)
    assert a.is_in(Status.NORMAL)


def test_7_2_nothing_is_said_before_the_boot_is_durable() -> None:
    """R-SCAN 1: boot + 1 is on disk before any frame leaves, and nobody is listened to either."""
    b = Bench(disk_of(1, view=1026, log_view=1024), auto_disk=False)
    b.run(30)
    b.ping(0, view=1030)
    assert not b.given(Send)
    assert b.view == 1026
    b.complete()
    assert b.disk.superblock.boot == 2
    assert b.sent(DoViewChange)


# --- 7.1 The scan --------------------------------------------------------------------------------------


def test_r_scan_a_torn_tail_was_never_acknowledged() -> None:
    """Appendix A.3: above the watermark a bad record ends the log, and is no fault (T-14)."""
    log = chain(4)
    b = Bench(torn(disk_of(1, log=log, acked=3), log[3]))
    assert (b.head, b.acked) == (3, 3)
    assert ("faults", 0) in b.outputs[0].fields  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue]


def test_r_scan_damage_below_the_watermark_is_a_fault() -> None:
    """T-13: the log does not end there; the body is fetched by its identity from the proof."""
    log = chain(4)
    b = Bench(torn(disk_of(1, log=log), log[1]))
    assert (b.head, b.acked) == (4, 4)
    b.pong(0)
    assert b.sent(GetPrepares)[-1].wanted == ((2, log[1].checksum),)


def test_r_scan_a_leftover_of_a_truncated_suffix_stays_gone() -> None:
    """T-19: above the installed head only records of this very log view continue the log."""
    log = chain(2, view=1020)
    leftover = chain(1, after=log[1], view=1020)
    disk = disk_of(1, log=[*log, *leftover], installed=2, acked=2)
    assert Bench(disk).head == 2
    own = chain(1, after=log[1], view=1024)
    assert Bench(disk_of(1, log=[*log, *own], installed=2, acked=2)).head == 3


def test_r_scan_known_identity_without_record_above_the_watermark_stays_known() -> None:
    """Up to the installed head the identity is known though the body never came."""
    log = chain(3, view=1020)
    b = Bench(torn(disk_of(1, log=log, installed=3, acked=1), log[1], log[2]))
    assert b.head == 3
    b.pong(0)
    assert {op for message in b.sent(GetPrepares) for op, _ in message.wanted} == {2, 3}


def test_8_1_late_requests_go_on_to_the_next() -> None:
    """Whoever does not answer is not asked for ever, however many requests run out one after the other."""
    log = chain(64, commit=64)
    b = Bench(torn(disk_of(1, log=log, commit=64), *log))
    for _ in range(800):
        b.pong(0, 2, commit=64)
        b.run(4)
    asked: dict[int, list[int]] = {1: [], 33: []}
    for send in b.given(Send):
        if isinstance(send.message, GetPrepares):
            asked[send.message.wanted[0][0]].extend(send.replicas)
    for replicas in asked.values():
        assert len(replicas) > 10
        assert all(first != then for first, then in pairwise(replicas))


def test_r_scan_identities_downwards_by_parents() -> None:
    """Below what proof and install name, each record names the one before."""
    log = chain(80)
    b = Bench(disk_of(1, log=log))
    assert b.log_ids() == [prepare.id for prepare in log]


def test_r_scan_what_is_above_the_watermark_is_appended_again() -> None:
    """R-SCAN 6, T-12: it may be in the page cache only; no acknowledgement before it is written anew."""
    log = chain(3)
    b = Bench(disk_of(1, log=log, acked=1), held_back=(WalAppend,))
    assert [read.id.op for read in b.given(WalRead)] == [2, 3]
    appended = [prepare.op for append in b.given(WalAppend) for prepare in append.prepares]
    assert sorted(appended) == [2, 3]
    assert not b.sent(PrepareOk)
    b.held_back = ()
    b.complete()
    assert b.sent(PrepareOk)[-1].acked == log[2].id


def test_r_scan_found_records_that_cannot_be_read_are_fetched() -> None:
    """A record that the scan saw and a later read does not: lost, above the watermark no fault, so fetch it."""
    log = chain(2)
    disk = disk_of(1, log=log, acked=1)
    b = Bench(disk, auto_disk=False)
    del disk.records[log[1].id]
    b.complete()
    b.complete()
    assert b.counter("record_lost") == 1
    b.pong(0)
    assert b.sent(GetPrepares, to=0)[-1].wanted == ((2, log[1].checksum),)


def test_r_scan_the_newest_commit_point_of_all_sources() -> None:
    """Superblock, proof and the records' own commit fields: commit facts never expire."""
    log = chain(3, commit=2)
    assert Bench(disk_of(1, log=log)).commit == 2
    disk = disk_of(1, log=chain(3))
    assert disk.proof is not None
    disk.proof = attrs.evolve(disk.proof, commit=chain(3)[1].id)
    assert Bench(disk).commit == 2
    assert Bench(disk_of(1, log=chain(3), commit=1)).commit == 1


def test_r_scan_committed_ops_are_applied_again() -> None:
    """There is no checkpoint yet: a restart replays the log from its records."""
    b = Bench(disk_of(1, log=chain(3), commit=3))
    assert b.applied == 3


def test_r_scan_a_proof_of_a_future_log_view_is_fatal() -> None:
    """G6: the superblock went back in time; going on would break a promise."""
    disk = disk_of(1, log=chain(2))
    assert disk.proof is not None
    disk.proof = attrs.evolve(disk.proof, log_view=2048)
    b = Bench(disk)
    assert [fatal.code for fatal in b.given(Fatal)] == ["unrecoverable"]


def test_r_scan_a_single_replica_that_lost_something_stops() -> None:
    """A cluster of one has nobody to ask: it stops and changes nothing."""
    log = chain(3)
    b = Bench(torn(disk_of(0, voters=1, view=2048, log_view=1024, log=log), log[1]))
    assert [fatal.code for fatal in b.given(Fatal)] == ["unrecoverable"]
    assert not b.given(SuperblockWrite)


def test_r_scan_a_single_replica_that_loses_a_record_later_stops() -> None:
    """Damage found while running is as final when there is nobody to ask."""
    disk = disk_of(0, voters=1, view=2048, log_view=1024, log=chain(2))
    b = Bench(disk, auto_disk=False)
    disk.records.clear()
    b.auto_disk = True
    b.complete()
    b.tick()
    assert [fatal.code for fatal in b.given(Fatal)][:1] == ["unrecoverable"]


def test_r_scan_an_identity_that_nothing_names_stays_unknown() -> None:
    """Below the reach of the proof two damaged records in a row hide a name: all below it is asked for by R-IDS."""
    log = chain(70)
    b = Bench(torn(disk_of(1, log=log, commit=70), log[2], log[3]))
    assert (b.head, b.acked) == (70, 70)
    assert b.checksum_at(3) is None
    assert b.checksum_at(4) == log[3].checksum
    b.pong(0)
    assert b.sent(GetIds)[-1] == GetIds(1, 4)


def test_7_2_a_retired_replica_does_nothing() -> None:
    """Removed for good: it does not even suspect."""
    disk = disk_of(1)
    disk.superblock = attrs.evolve(disk.superblock, retired=True)
    b = Bench(disk)
    b.run(200)
    assert b.is_in(Status.RETIRED)
    assert not b.sent(StartViewChange)


# --- R-PROOF -----------------------------------------------------------------------------------------------


def test_r_proof_found_at_start_binds_but_proves_nothing() -> None:
    """T-12: a fresh proof is written before the first acknowledgement of a boot."""
    log = chain(2)
    b = Bench(disk_of(1, log=log), held_back=(WalAppend,))
    assert b.acked == 2, "it binds: nothing up to it may be denied"
    assert not b.sent(PrepareOk)
    b.hear_heartbeat(log[1].id)
    fresh = [append.proof for append in b.given(WalAppend) if append.proof is not None]
    assert [(proof.acked, proof.sequence >> 32) for proof in fresh] == [(2, 2)]
    b.complete()
    assert b.sent(PrepareOk)[-1].acked == log[1].id


def test_r_proof_the_floor_needs_no_fresh_proof() -> None:
    """What the superblock's install floor covers is acknowledged at once: opening healed and flushed it."""
    log = chain(2)
    b = Bench(disk_of(1, log=log, installed=2, acked=0, floor=2), held_back=(WalAppend,))
    assert [message.acked for message in b.sent(PrepareOk)] == [log[1].id], "as soon as the boot is durable"
    b.hear_heartbeat(log[1].id)
    assert [message.acked for message in b.sent(CommitOk)] == [log[1].id]


def test_r_proof_only_in_normal() -> None:
    """In a view change the old lineage's watermark must not rise: records are appended without a proof."""
    log = chain(2)
    b = Bench(disk_of(1, view=1026, log_view=1024, log=log, acked=1))
    assert [(len(append.prepares), append.proof) for append in b.given(WalAppend)] == [(1, None)]
    assert b.acked == 1


def test_r_proof_covers_only_what_is_on_its_way() -> None:
    """The watermark of a proof stops below a hole."""
    log = chain(3)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.hear_start_view(log, view=1024)
    b.clear()
    b.hear_prepare(log[0])
    b.hear_prepare(log[2])
    proofs = [append.proof.acked for append in b.given(WalAppend) if append.proof is not None]
    assert proofs == [1, 1]


def test_r_proof_without_records_after_an_install() -> None:
    """The watermark may rise with nothing to write: an idle suffix is acknowledged all the same."""
    log = chain(2)
    b = Bench(disk_of(1, view=1026, log_view=1024, log=log, acked=0))
    b.clear()
    b.hear_start_view(log, view=1026)
    assert [(append.prepares, append.proof is not None) for append in b.given(WalAppend)] == [((), True)]
    assert b.sent(PrepareOk, to=2)[-1].acked == log[1].id


def test_r_proof_names_the_last_identities() -> None:
    """A proof has the identities of its last 64 ops, so that a lost record is still known by name."""
    log = chain(70)
    b = Bench(disk_of(1, log=log))
    proof = b.disk.proof
    assert proof is not None
    assert proof.checksums == b"".join(prepare.checksum for prepare in log[6:])


def test_r_proof_sequences_pass_those_of_earlier_boots() -> None:
    """proof_seq = boot * 2^32 + counter, so it passes even proofs that could not be read."""
    b = Bench(disk_of(1, boot=6))
    b.hear_prepare(chain(1)[0])
    assert b.disk.proof is not None
    assert b.disk.proof.sequence == (7 << 32) + 1


# --- 7.3 Amnesia --------------------------------------------------------------------------------------------


def amnesiac(log: list[Prepare]) -> Bench:
    """A replica with a superblock and without any proof."""
    disk = disk_of(1, log=log)
    disk.proof = None
    b = Bench(disk)
    assert b.is_in(Status.AMNESIAC)
    return b


def test_7_3_an_amnesiac_neither_votes_nor_acknowledges() -> None:
    """No do_view_change, no acknowledgement, no wish."""
    b = amnesiac(chain(2))
    b.run(200)
    b.hear_heartbeat(chain(2)[1].id)
    b.ping(2, view=1026)
    b.run(50)
    assert b.is_in(Status.AMNESIAC)
    for kind in (DoViewChange, PrepareOk, StartViewChange):
        assert not b.sent(kind)


def test_7_3_no_segment_file_is_amnesia_too() -> None:
    """A proof without any log is no memory."""
    disk = disk_of(1, log=chain(2))
    disk.records.clear()
    disk.has_log = False
    assert Bench(disk).is_in(Status.AMNESIAC)


def test_7_3_it_takes_only_the_answer_to_its_own_question() -> None:
    """A start_view without its nonce may be old; with it, it is bound by that log's head and honest again."""
    log = chain(2)
    b = amnesiac([])
    b.run(20)
    nonce = b.sent(GetStartView, to=0)[-1].nonce
    b.hear_start_view(log, view=1024, nonce=nonce + 1)
    b.hear_start_view(log, view=1024)
    assert b.is_in(Status.AMNESIAC)
    b.hear_start_view(log, view=1024, nonce=nonce)
    assert b.is_in(Status.NORMAL)
    assert b.acked == 2
    assert not b.sent(PrepareOk, to=0) or b.sent(PrepareOk, to=0)[-1].acked.op == 0
    for prepare in log:
        b.hear_copy(0, prepare)
    assert b.sent(PrepareOk, to=0)[-1].acked == log[1].id


def test_7_3_after_it_the_bodies_it_lacks_are_faults() -> None:
    """Bound by everything up to the head, it denies nothing."""
    log = chain(2)
    b = amnesiac([])
    b.run(20)
    b.hear_start_view(log, view=1024, nonce=b.sent(GetStartView, to=0)[-1].nonce)
    b.ping(2, view=1026)
    states = {entry.op: entry.state.name for entry in b.sent(DoViewChange, to=2)[-1].entries}
    assert states == {1: "FAULT", 2: "FAULT"}


def test_7_3_a_nonce_is_not_used_again_by_a_later_boot() -> None:
    """An answer to an earlier boot's question is not taken."""
    b = amnesiac([])
    b.run(20)
    old = b.sent(GetStartView, to=0)[-1].nonce
    b.restart()
    b.run(20)
    assert b.sent(GetStartView, to=0)[-1].nonce != old
    b.hear_start_view(chain(1), view=1024, nonce=old)
    assert b.is_in(Status.AMNESIAC)


# --- 7.6 Birth -----------------------------------------------------------------------------------------------


def newborn(replica: int = 1, *, voters: int = 3) -> Bench:
    """A freshly formatted member."""
    return Bench(disk_of(replica, voters=voters, view=0, born=False, boot=0))


def say_hello(b: Bench, replica: int, *, identity: bytes | None = None, members: bytes | None = None) -> None:
    """A peer introduces itself."""
    full = identity or incarnation(replica)
    digest = members or members_digest(CLUSTER, b.disk.superblock.configuration)
    said = attrs.evolve(envelope(replica, view=0), incarnation=full[:8])
    b.step(FromPeer(said, Hello(incarnation=full, members_digest=digest, fresh=True)))


def acknowledge_hello(b: Bench, replica: int, *, pinned: bytes | None = None) -> None:
    """A peer says that it pinned us."""
    digest = members_digest(CLUSTER, b.disk.superblock.configuration)
    answer = HelloAck(
        incarnation=incarnation(replica), members_digest=digest, fresh=True, pinned=pinned or incarnation(b.id)
    )
    b.step(FromPeer(envelope(replica, view=0), answer))


def test_7_6_unborn_until_everybody_pinned_it() -> None:
    """One acknowledgement is not enough; with the last one it is born, and only once that is durable."""
    b = newborn()
    b.run(2)
    assert b.sent(Hello, to=0)
    say_hello(b, 0)
    say_hello(b, 2)
    acknowledge_hello(b, 0)
    b.run(50)
    assert b.is_in(Status.UNBORN)
    b.auto_disk = False
    acknowledge_hello(b, 2)
    assert b.is_in(Status.UNBORN)
    b.complete()
    assert b.is_in(Status.NORMAL)
    assert b.disk.superblock.born


def test_7_6_pins_durably_before_it_acknowledges() -> None:
    """The pin is in the superblock before hello_ack leaves."""
    b = newborn()
    b.auto_disk = False
    say_hello(b, 0)
    assert not b.sent(HelloAck)
    b.complete(SuperblockWrite)
    assert [ack.pinned for ack in b.sent(HelloAck, to=0)] == [incarnation(0)]
    assert dict(b.disk.superblock.pinned) == {0: incarnation(0)}


def test_7_6_an_unborn_replica_says_nothing_else_and_hears_nothing_else() -> None:
    """INV-26: it neither votes, acknowledges nor joins."""
    b = newborn()
    say_hello(b, 0)
    b.clear()
    b.ping(0, view=1025)
    b.hear_statement(0, statement([], log_view=0), view=1025)
    b.run(200)
    assert b.view == 0
    assert {type(send.message) for send in b.given(Send)} == {Hello}


def test_7_6_acknowledgement_of_another_identity_is_not_ours() -> None:
    """A peer that pinned an earlier format of our id never makes us born: we say so and stop."""
    b = newborn(voters=2, replica=1)
    say_hello(b, 0)
    acknowledge_hello(b, 0, pinned=b"y" * 16)
    assert b.is_in(Status.UNBORN)
    assert [fatal.code for fatal in b.given(Fatal)] == ["identity_refused"]


def test_t_16_a_reformatted_id_is_refused_for_ever() -> None:
    """A wiped disk comes back with another incarnation: told whom we know instead, never pinned."""
    b = Bench(disk_of(1))
    b.clear()
    say_hello(b, 2, identity=b"z" * 16)
    assert [message.pinned for message in b.sent(HelloAck)] == [incarnation(2)]
    assert b.counter("identity_refused") == 1
    assert dict(b.disk.superblock.pinned)[2] == incarnation(2)


def test_t_16_a_second_identity_before_the_first_is_durable_is_refused() -> None:
    """Whoever comes first is pinned, even while the pin is still being written."""
    b = newborn()
    b.auto_disk = False
    say_hello(b, 2)
    say_hello(b, 2, identity=b"z" * 16)
    b.complete()
    b.complete()
    assert b.counter("identity_refused") == 1
    assert dict(b.disk.superblock.pinned)[2] == incarnation(2)


def test_7_6_a_born_replica_still_acknowledges_its_peers() -> None:
    """A peer that missed our acknowledgement asks again."""
    b = Bench(disk_of(1))
    say_hello(b, 2)
    assert [(ack.pinned, ack.fresh) for ack in b.sent(HelloAck, to=2)] == [(incarnation(2), False)]


def test_7_6_other_members_are_not_pinned() -> None:
    """Who was formatted with another list of members does not belong here."""
    b = newborn()
    say_hello(b, 0, members=b"n" * 16)
    assert b.disk.superblock.pinned == ()


def test_7_6_an_incarnation_that_is_not_its_sender_s_is_ignored() -> None:
    """Hello must carry the incarnation whose prefix stands on every frame."""
    b = newborn()
    digest = members_digest(CLUSTER, b.disk.superblock.configuration)
    b.step(FromPeer(envelope(0, view=0), Hello(incarnation=b"z" * 16, members_digest=digest, fresh=True)))
    assert b.disk.superblock.pinned == ()


def test_7_2_nobody_leads_view_0() -> None:
    """The first primary of a fresh cluster is born as an ex-primary, which wishes at once."""
    a = newborn(0)
    for peer in (1, 2):
        say_hello(a, peer)
        acknowledge_hello(a, peer)
    assert a.is_in(Status.EX_PRIMARY)
    a.run(2)
    assert a.sent(StartViewChange)[0].target == 1
    assert a.replica.state.log.head_checksum == GENESIS.checksum
