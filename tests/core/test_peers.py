"""Who is heard, what a frame claims, how old views are answered, how bodies are fetched (R-DROP to R-STALE, 8.1)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.bench import GENESIS, Bench, chain, disk_of, envelope, incarnation, primary, statement
from trio_pb.core.config import Limits
from trio_pb.core.messages import (
    GENESIS_CHECKPOINT,
    NO_PROBE,
    Commit,
    CommitOk,
    DoViewChange,
    Envelope,
    GetIds,
    GetPrepares,
    GetStartView,
    Ids,
    PeerMessage,
    Ping,
    Pong,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    StartView,
)
from trio_pb.core.ports import FromPeer, Link, Send, WalRead

# --- R-DROP and R-ENV -----------------------------------------------------------------------------------

WRONG = [
    ("another cluster", {"cluster": b"z" * 16}),
    ("ourselves", {"replica": 1, "incarnation": incarnation(1)[:8]}),
    ("a stranger", {"replica": 9, "incarnation": incarnation(9)[:8]}),
    ("another incarnation", {"incarnation": b"z" * 8}),
]


@pytest.mark.parametrize(("name", "change"), WRONG, ids=[name for name, _ in WRONG])
def test_r_drop_a_frame_of_the_wrong_sender_is_dropped_and_counted(name: str, change: dict[str, object]) -> None:
    """T-16, INV-26: nothing in it counts, not even its view."""
    b = Bench(disk_of(1))
    said = attrs.evolve(envelope(2, view=4099), **change)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    b.step(FromPeer(said, Ping(b.position())))
    assert b.view == 1024, name
    assert b.counter("dropped") == 1


def test_r_drop_an_unpinned_peer_is_heard_for_hello_only() -> None:
    """From a peer whose identity is not pinned durably only hello is taken."""
    disk = disk_of(1)
    disk.superblock = attrs.evolve(disk.superblock, pinned=((0, incarnation(0)),))
    b = Bench(disk)
    b.ping(2, view=4096)
    assert b.view == 1024
    assert b.counter("dropped") == 1


def test_r_env_the_envelope_view_is_the_durable_one() -> None:
    """INV-4: while the promise is being written, frames still carry the old view."""
    b = Bench(disk_of(1))
    b.auto_disk = False
    b.ping(2, view=1026)
    b.clear()
    b.ping(0, view=1024)
    assert [send.envelope.view for send in b.given(Send)] == [1024]
    b.complete()
    b.clear()
    b.ping(0, view=1026)
    assert [send.envelope.view for send in b.given(Send)] == [1026]


# --- R-STALE ------------------------------------------------------------------------------------------------


def stale_messages() -> list[PeerMessage]:
    """One of each kind that means something only in its view."""
    log = chain(1)
    b = Bench(disk_of(1))
    return [
        PrepareMessage(log[0], None, 0),
        PrepareOk(log[0].id, 0, GENESIS_CHECKPOINT, NO_PROBE),
        Commit(log[0].checksum, None, 0, GENESIS_CHECKPOINT),
        CommitOk(0, None, GENESIS_CHECKPOINT, NO_PROBE, fit=True),
        statement(log, log_view=7),
        StartView(
            base=GENESIS,
            checksums=(log[0].checksum,),
            last_timestamp=0,
            certified=GENESIS_CHECKPOINT,
            configuration=b.disk.superblock.configuration,
            pending=None,
            nonce=0,
        ),
    ]


@pytest.mark.parametrize("message", stale_messages(), ids=lambda message: type(message).__name__)
def test_r_stale_words_of_an_older_view_are_answered_with_a_ping(message: PeerMessage) -> None:
    """Dropped; and the sender, who may be a deposed primary, learns of our view."""
    b = Bench(disk_of(1, view=1026))
    b.clear()
    b.hear(0, message, view=1024, op=1, commit=1)
    assert (b.head, b.commit) == (0, 0)
    pings = [send for send in b.given(Send) if isinstance(send.message, Ping)]
    assert [(send.replicas, send.envelope.view) for send in pings] == [((0,), 1026)]


def test_r_stale_answers_are_rare() -> None:
    """At most one ping in ten ticks to one peer."""
    b = Bench(disk_of(1, view=1026))
    b.now = 3
    for _ in range(5):
        b.hear(0, Commit(GENESIS.checksum, None, 0, GENESIS_CHECKPOINT), view=1024)
    assert len(b.sent(Ping, to=0)) == 1
    b.now = 13
    b.hear(0, Commit(GENESIS.checksum, None, 0, GENESIS_CHECKPOINT), view=1024)
    assert len(b.sent(Ping, to=0)) == 2


# --- Liveness ---------------------------------------------------------------------------------------------


def test_6_1_t_ping_everybody_is_asked() -> None:
    """Every ten ticks, and the answer comes at once with the question's numbers."""
    b = Bench(disk_of(1))
    b.run(1)
    b.clear()
    b.run(20)
    assert len(b.sent(Ping, to=0)) == 2
    b.ping(0, sequence=77, sent_tick=5)
    answer = b.sent(Pong, to=0)[-1].position
    assert (answer.sequence, answer.sent_tick) == (77, 5)


def test_6_1_alive_is_who_answered_lately() -> None:
    """Fifty ticks without a pong, and a peer counts as gone."""
    b = Bench(disk_of(1))
    b.pong(0, 2)
    assert [alive for _, alive, _ in b.replica.report().peers] == [True, True]
    b.run(50)
    b.pong(2)
    b.run(1)
    assert [alive for _, alive, _ in b.replica.report().peers] == [False, True]


def test_6_1_a_pong_to_an_earlier_boot_is_no_sign_of_life() -> None:
    """It answers a ping that another boot numbered, or one of a tick yet to come."""
    b = Bench(disk_of(1))
    b.run(5)
    before = ((b.replica.state.boot - 1) << 32) + 1
    b.hear(0, Pong(b.position(sequence=before)))
    b.hear(0, Pong(attrs.evolve(b.pong_position(), sent_tick=500)))
    assert not b.replica.peers.is_alive(0)
    b.hear(0, Pong(b.pong_position()))
    assert b.replica.peers.is_alive(0)


def test_link_up_asks_at_once() -> None:
    """A connection that came up is used: no waiting for the next T_PING."""
    b = Bench(disk_of(1))
    b.clear()
    b.step(Link(peer=2, connection=None, up=True))
    assert len(b.sent(Ping, to=2)) == 1
    assert not b.sent(Ping, to=0)


def test_report_says_where_it_stands() -> None:
    """The report is complete and changes nothing."""
    a = primary(log=chain(2), commit=1)
    first = a.replica.report()
    assert (first.is_primary, first.primary, first.view, first.log_view) == (True, 0, 1024, 1024)
    assert (first.head, first.commit, first.applied) == (2, 1, 1)
    assert a.replica.report() == first


def test_next_deadline_is_never_missed() -> None:
    """Nothing fires before the deadline that the replica tells, whatever its role; then something does."""
    for bench in (Bench(disk_of(1)), primary(), Bench(disk_of(1, view=1026, log_view=1024)), Bench(disk_of(0))):
        for _ in range(20):
            deadline = bench.replica.next_deadline_tick
            assert deadline > bench.now, "a deadline that has passed makes the driver spin"
            bench.clear()
            if deadline - bench.now > 1:
                bench.tick(deadline - bench.now - 1)
                assert not bench.outputs
            bench.tick()


# --- 8.1 Repair ---------------------------------------------------------------------------------------------


def lagging(count: int = 3) -> Bench:
    """A backup that knows the identities of its log and has no body, everything committed."""
    log = chain(count)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.pong(0, 2, commit=0)
    b.hear_start_view(log, view=1024)
    b.hear_heartbeat(log[-1].id, commit=count, commit_checksum=log[-1].checksum)
    return b


def test_8_1_bodies_are_asked_for_in_ascending_order() -> None:
    """The oldest first, in chunks, from the living, within a budget."""
    b = Bench(disk_of(1, view=1024, log_view=1023), limits=Limits(repair_wanted_max=2, repair_requests_max=2))
    log = chain(7)
    b.pong(0, 2, commit=0)
    b.hear_start_view(log, view=1024)
    asked = [[op for op, _ in message.wanted] for message in b.sent(GetPrepares)]
    assert asked == [[1, 2], [3, 4]]
    b.hear_copy(0, log[0])
    b.hear_copy(0, log[1])
    assert [[op for op, _ in message.wanted] for message in b.sent(GetPrepares)][2:] == [[5, 6]]


def test_8_1_an_unanswered_question_is_asked_again() -> None:
    """After 20 ticks, then twice as long."""
    b = lagging()
    b.clear()
    for _ in range(6):
        b.run(5)
        b.pong(0, 2)
    assert b.sent(GetPrepares)


def test_8_1_committed_bodies_come_from_anybody_by_identity() -> None:
    """A copy is taken from whoever sends it, if it is the prepare that we name."""
    b = lagging()
    log = chain(3)
    b.hear_copy(2, chain(3, tag=b"other")[0])
    assert b.applied == 0
    for prepare in log:
        b.hear_copy(2, prepare)
    assert b.applied == 3


def test_8_1_a_repaired_body_is_written_like_a_new_record() -> None:
    """After a restart it is there."""
    b = lagging()
    for prepare in chain(3):
        b.hear_copy(2, prepare)
    b.restart()
    assert (b.head, b.acked) == (3, 3)


def test_t_37_a_nameless_copy_extends_only_from_the_primary_of_this_view() -> None:
    """Late copies of a deposed primary, copies of a peer, and old copies of our primary extend nothing."""
    log = chain(1, view=1026)
    b = Bench(disk_of(1, view=1026))
    b.hear_copy(0, log[0], is_current=True, view=1024)
    b.hear_copy(0, log[0], is_current=True)
    b.hear_copy(2, log[0], is_current=False)
    assert b.head == 0
    b.hear_copy(2, log[0], is_current=True)
    assert b.head == 1


def test_t_37_only_the_primary_of_this_view_answers_a_nameless_question() -> None:
    """A backup, or a primary asked from another view, keeps silent about a position without identity."""
    log = chain(2)
    b = Bench(disk_of(1, log=log))
    b.hear(2, GetPrepares(((1, None),)))
    assert not b.sent(PrepareCopy)
    a = primary(log=log, view=2048)
    a.hear(2, GetPrepares(((1, None),)), view=1024)
    assert not a.sent(PrepareCopy)
    a.hear(2, GetPrepares(((1, None), (9, None))))
    assert [(copy.prepare, copy.is_current) for copy in a.sent(PrepareCopy, to=2)] == [(log[0], True)]


def test_8_1_serves_what_it_holds_and_keeps_silent_about_the_rest() -> None:
    """From memory, from disk, in every status; another identity is nothing we hold."""
    log = chain(2)
    b = Bench(disk_of(1, view=1026, log_view=1024, log=log))
    b.clear()
    b.hear(0, GetPrepares(((1, log[0].checksum), (2, b"z" * 16), (7, b"y" * 16))))
    assert b.sent(PrepareCopy, to=0) == [PrepareCopy(log[0], is_current=False)]
    assert WalRead(log[0].id) in b.given(WalRead)


def test_t_37_a_copy_is_judged_when_it_leaves() -> None:
    """Asked for while it led, read from disk, and deposed by then: the copy is not called current."""
    log = chain(1)
    a = Bench(disk_of(0, view=1024, log_view=0, log=log, commit=1), held_back=(WalRead,))
    a.hear_statement(1, statement(log, log_view=0, commit=1))
    assert a.leads()
    a.hear(2, GetPrepares(((1, None),)))
    assert not a.sent(PrepareCopy)
    a.ping(1, view=1025)
    a.complete(WalRead)
    assert a.sent(PrepareCopy, to=2) == [PrepareCopy(log[0], is_current=False)]


def test_8_1_two_who_ask_for_one_record_share_its_read() -> None:
    """A record is read once; both get it."""
    log = chain(1)
    b = Bench(disk_of(1, log=log))
    b.held_back = (WalRead,)
    b.clear()
    for peer in (0, 2, 0):
        b.hear(peer, GetPrepares(((1, log[0].checksum),)))
    assert len(b.given(WalRead)) == 1
    b.complete(WalRead)
    assert [len(b.sent(PrepareCopy, to=peer)) for peer in (0, 2)] == [1, 1]


def test_8_1_serving_is_throttled_per_peer() -> None:
    """T-31: so many bytes per peer and 100 ms; the other peers do not suffer."""
    log = chain(3, tag=b"x" * 400)
    b = Bench(disk_of(1), limits=Limits(repair_serve_bytes_max=1300))
    for prepare in log:
        b.hear_prepare(prepare)
    wanted = GetPrepares(tuple((prepare.op, prepare.checksum) for prepare in log))
    b.hear(0, wanted)
    assert len(b.sent(PrepareCopy, to=0)) == 2
    b.hear(2, wanted)
    assert len(b.sent(PrepareCopy, to=2)) == 2
    b.now += 10
    b.hear(0, wanted)
    assert len(b.sent(PrepareCopy, to=0)) == 4


def test_8_1_a_damaged_record_is_found_when_it_is_read() -> None:
    """R-IOERR: a failed read equals damage: the op is fetched from others, and the watermark stays."""
    log = chain(2)
    disk = disk_of(1, log=log)
    b = Bench(disk)
    del disk.records[log[0].id]
    b.pong(0, 2)
    b.clear()
    b.hear(0, GetPrepares(((1, log[0].checksum),)))
    assert b.counter("record_lost") == 1
    assert b.acked == 2
    assert b.sent(GetPrepares)[0].wanted == ((1, log[0].checksum),)


# --- R-IDS --------------------------------------------------------------------------------------------------


def without_identities() -> Bench:
    """A backup that jumped to a log whose commit point is far above its own."""
    log = chain(5)
    b = Bench(disk_of(1, view=1024, log_view=1023))
    b.hear_start_view(log, view=1024, base=4)
    b.pong(0, commit=4)
    assert b.sent(GetIds, to=0) == [GetIds(1, 4)]
    return b


def test_r_ids_are_taken_if_they_end_in_one_that_we_know() -> None:
    """The list links at the top to a known identity: then all below follow."""
    b = without_identities()
    log = chain(5)
    b.hear(0, Ids(1, tuple(prepare.checksum for prepare in log[:4])))
    assert b.log_ids() == [prepare.id for prepare in log]
    assert b.sent(GetPrepares)


@pytest.mark.parametrize(
    "ids",
    [
        Ids(1, ()),
        Ids(1, tuple(prepare.checksum for prepare in chain(4, tag=b"other"))),
        Ids(1, tuple(prepare.checksum for prepare in chain(3))),
        Ids(0, (GENESIS.checksum, *(prepare.checksum for prepare in chain(4)))),
    ],
    ids=["empty", "of another log", "not up to a known one", "below the first op"],
)
def test_r_ids_anything_else_is_another_log_s(ids: Ids) -> None:
    """A list that does not end in a known identity is discarded, and the question asked again."""
    b = without_identities()
    b.hear(0, ids)
    assert b.checksum_at(2) is None
    b.run(21)
    b.pong(0, commit=4)
    assert len(b.sent(GetIds, to=0)) >= 2


def test_r_ids_of_uncommitted_ops_are_never_told() -> None:
    """INV-25: only up to the own commit point, and only if the list reaches what was asked."""
    log = chain(4)
    b = Bench(disk_of(1, log=log, commit=3))
    b.clear()
    b.hear(0, GetIds(1, 4))
    assert not b.sent(Ids)
    b.hear(0, GetIds(2, 3))
    assert b.sent(Ids, to=0) == [Ids(2, (log[1].checksum, log[2].checksum))]


def test_start_view_on_request() -> None:
    """A primary tells its log to whoever lost track of it; a backup tells nobody."""
    a = primary(log=chain(2))
    a.hear(2, GetStartView(5))
    assert [message.nonce for message in a.sent(StartView, to=2)] == [5]
    b = Bench(disk_of(1))
    b.hear(2, GetStartView(5))
    assert not b.sent(StartView)


def test_inv_9_no_statement_carries_a_view_that_is_not_promised() -> None:
    """The frame of a do_view_change names the view that it is for, durable by then."""
    b = Bench(disk_of(1))
    b.ping(2, view=1026)
    said: list[Envelope] = [send.envelope for send in b.given(Send) if isinstance(send.message, DoViewChange)]
    assert [one.view for one in said] == [1026]
    assert b.disk.superblock.view == 1026
