"""Primaries that die, stall, sleep or hand over, and the view after theirs (PROTOCOL 6, 11)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from trio_pb.core.config import Limits
from trio_pb.core.messages import Envelope, PrepareMessage, RejectCode, Status

ONE_BY_ONE = Shape(limits=Limits(batch_requests_max=1))


@scenario(shape=ONE_BY_ONE)
def uncommitted_suffix_is_kept(c: NarratedCluster) -> None:
    """Of two orders without a quorum one is at a backup, one only at the primary, which dies: the first stays (A.2)."""
    a, b, other = c.names
    for number in range(5):
        c.order(f"laptop-{number}").expect_reply()
    commit = c.replica(a).commit

    def is_second(_: Envelope | None, message: object) -> bool:
        assert isinstance(message, PrepareMessage)
        return message.prepare.op > commit + 1

    c.lose("PrepareMessage", src=a, dst=other)
    c.lose("PrepareMessage", src=a, dst=b, when=is_second)
    c.lose("PrepareCopy", src=a)
    c.lose("PrepareOk", dst=a)
    c.lose("CommitOk", dst=a)
    kept, moved = c.order("laptop kept"), c.order("laptop moved")
    c.run_for(5)
    heads = (c.replica(a).head, c.replica(b).head, c.replica(other).head)
    c.expect(heads == (commit + 2, commit + 1, commit), f"{a} has both, {b} has the first, {other} has neither")
    c.crash(a)
    c.await_primary(b)
    c.expect(c.replica(b).head == commit + 1, f"the new view begins with op {commit + 1}, and without the second")
    c.heal()
    kept.expect_reply()
    moved.expect_reply()
    c.expect(kept.receipt.op == commit + 1, f"'laptop kept' is op {commit + 1}, as in the old view")
    c.expect(moved.receipt.op == commit + 2, "the client's retry of 'laptop moved' made it the next op of the new view")
    c.restart(a)
    c.expect_same_state()
    c.expect(c.count("ex_primary") > 0, f"{a} never led its old view again")


@scenario()
def identity_without_a_body_is_truncated(c: NarratedCluster) -> None:
    """A backup knows which prepare was the last op, and nobody alive has it: two denials end the log (A.2)."""
    first, a, other = c.names
    statement = c.copy("DoViewChange", src=other)
    c.crash(first)
    c.await_primary(a)
    c.restart(first)
    c.expect_same_state()
    c.expect(len(statement.letters) > 0, f"a copy of what {other} said in that view change is kept for later")
    commit = c.replica(a).commit
    c.lose("PrepareMessage", src=a)
    c.lose("PrepareCopy", src=a)
    answer = c.order("laptop-8")
    c.run_for(5)
    c.tell(f"the kept statement of {other} arrives again; {a} answers it with the Ids of its log")
    statement.release()
    c.run_for(5)
    c.expect(c.replica(other).head == commit + 1, f"{other} knows which prepare is op {commit + 1}, and has no body")
    c.crash(a)
    new = c.await_primary(first, other)
    c.expect(c.replica(new).head == commit, f"its log ends with op {commit}")
    c.expect(c.count("truncated") > 0, "that is what it decided when two denied to have the next one")
    c.heal()
    answer.expect_reply()
    c.restart(a)
    c.expect_same_state()


@scenario()
def lost_start_view(c: NarratedCluster) -> None:
    """A backup misses the log of the new view: it says its own again, and is answered with it (T_DVC)."""
    a, b, other = c.names
    lost = c.hold("StartView", dst=other)
    c.crash(a)
    c.await_primary(b)
    c.run_for(5)
    c.expect(c.replica(other).status is Status.VIEW_CHANGE, f"{other} is still between two views")
    c.tell("no more of them are held back")
    lost.stop()
    entered = c.view_changes
    c.run_for(40)
    c.expect(c.replica(other).status is Status.NORMAL, f"400 ms later {other} follows {b}")
    c.expect(c.view_changes == entered, "no other view was needed for that")
    c.order("laptop").expect_reply()
    c.restart(a)
    c.expect_same_state()


@scenario(replicas=5)
def next_primary_dies_too(c: NarratedCluster) -> None:
    """The one whose turn it is dies before it can lead: the view after it begins within 1.5 s (T_VC)."""
    a, b, *rest = c.names
    c.order("laptop-1").expect_reply()
    lost = c.lose("DoViewChange", dst=b)
    c.crash(a)
    entered = (b, *rest)
    c.wait_until(lambda: all(c.replica(it).status is Status.VIEW_CHANGE for it in entered), f"all enter {b}'s view")
    c.crash(b)
    lost.stop()
    since = c.now
    c.await_primary(*rest)
    c.expect(c.now - since < 145, "it took one time-out of a view change")
    c.order("laptop-2").expect_reply()
    c.restart(a, b)
    c.expect_same_state()


@scenario()
def stalled_primary_lets_go(c: NarratedCluster) -> None:
    """Prepares of a primary never arrive while its heartbeats do: it lets go, and another gets on (T_STALL)."""
    a, b, _ = c.names
    c.order("laptop-1").expect_reply()
    c.lose("PrepareMessage", src=a)
    c.lose("PrepareCopy", src=a)
    answer = c.order("laptop-2").expect_no_reply(250)
    answer.expect_reply()
    c.expect(answer.ticks < 450, "that is less than 4.5 s")
    c.expect(c.replica(a).counted("abdicated_stall") == 1, f"{a} let go because nothing got committed")
    c.expect(c.primaries() == [b], f"{b} leads, and nobody else")
    c.heal()
    c.expect_same_state()


@scenario()
def hanging_disk_of_a_primary(c: NarratedCluster) -> None:
    """Heartbeats without a disk behind them do not keep a primary in office (T_DISK, T-26)."""
    a, b, _ = c.names
    c.hang_disk(a)
    c.order("laptop-1").expect_reply()
    c.await_primary(b)
    c.order("laptop-2").expect_reply()
    c.expect(c.replica(a).counted("abdicated_slow_disk") == 1, f"{a} let go because of its disk")
    c.free_disk(a)
    c.run_for(100)
    c.expect(c.primaries() == [b], f"a second later {b} still leads, and nobody else")
    c.expect_same_state()


@scenario()
def paused_primary_returns(c: NarratedCluster) -> None:
    """A primary sleeps until it is replaced; an order that waited for it splits nothing (G4)."""
    a, b, _ = c.names
    c.order("laptop-1").expect_reply()
    stale = c.caller()
    stale.register(a)
    c.run_until(lambda: stale.session > 0)
    c.pause(a)
    c.tell(f"another client sends an order to {a}, which does not see it yet")
    stale.order(1, to=a)
    c.await_primary(b)
    c.order("laptop-2").expect_reply()
    c.resume(a)
    c.run_for(100)
    c.expect(c.primaries() == [b], f"a second later {b} leads, and nobody else")
    c.tell(f"the other client sends its order to {b}")
    stale.order(1, to=b)
    c.wait_until(lambda: len(stale.replies(1)) > 0, "and is answered")
    c.expect_same_state()


@scenario(shape=ONE_BY_ONE)
def newer_log_wins_over_the_longer_one(c: NarratedCluster) -> None:
    """A deposed primary with three ops that nobody else has meets the one op that was committed since (T-3)."""
    a, b, other = c.names
    stranger = c.caller()
    stranger.register(a)
    c.run_until(lambda: stranger.session > 0)
    c.run_for(10)
    c.isolate(a)
    c.tell(f"a client sends {a} three orders")
    for number in range(1, 4):
        stranger.order(number, to=a)
    c.run_for(2)
    c.await_primary(b, other)
    c.order("laptop committed").expect_reply()
    c.expect(c.replica(a).head >= c.replica(b).head, f"{a}'s log is not shorter than {b}'s")
    c.crash(b)
    c.heal()
    record = c.read().expect_reply().record
    c.expect(record.laptop_type == "laptop committed", f"{a} and {other} together chose the newer log")
    c.restart(b)
    c.expect_same_state()


@scenario()
def hand_over_waits_for_what_is_in_flight(c: NarratedCluster) -> None:
    """A primary that hands over finishes what it has, takes nothing new, and then lets go (11)."""
    a, *backups = c.names
    c.order("laptop-0").expect_reply()
    c.run_for(10)
    late = [c.hold(kind, dst=a) for kind in ("PrepareOk", "CommitOk")]
    answer = c.order("laptop-1")
    c.run_for(2)
    c.transfer()
    newcomer = c.caller()
    newcomer.register(a)
    c.run_for(15)
    c.expect(newcomer.refusals(0) == [RejectCode.BUSY], f"{a} tells another client that it is busy")
    c.expect(c.replica(a).is_primary, f"{a} still leads")
    c.tell("the acknowledgements arrive")
    for kind in late:
        kind.release()
    answer.expect_reply()
    c.await_primary(*backups)
    c.expect_same_state()
