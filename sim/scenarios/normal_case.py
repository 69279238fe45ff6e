"""Orders one after the other, while messages are late, lost, repeated and out of order (PROTOCOL 5)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from trio_pb.core.config import Limits


@scenario()
def slow_backup_delays_nobody(c: NarratedCluster) -> None:
    """One backup's disk hangs: orders commit with the other, and the slow one acknowledges later (A.1)."""
    a, _, slow = c.names
    c.hang_disk(slow)
    c.order("laptop").expect_reply()
    op = c.replica(a).commit
    c.expect(c.replica(slow).state.acked < op, f"{slow} has not acknowledged op {op}")
    c.free_disk(slow)
    c.wait_until(lambda: c.replica(slow).state.acked == op, f"{slow} acknowledges op {op}")
    c.expect_same_state()


@scenario()
def backups_ahead_of_the_primarys_disk(c: NarratedCluster) -> None:
    """The primary's own disk hangs: it commits on its backups' word, which is a quorum without it (A.1)."""
    a = c.names[0]
    c.hang_disk(a)
    c.order("laptop").expect_reply()
    c.expect(c.replica(a).state.acked < c.replica(a).commit, f"{a} has not written what it committed")
    c.free_disk(a)
    c.expect_same_state()


@scenario()
def lost_prepare_is_pulled(c: NarratedCluster) -> None:
    """A prepare is lost: a heartbeat shows the backup that it lacks the newest op, and it asks (5.2)."""
    a, b, _ = c.names
    lost = c.lose("PrepareMessage", dst=b)
    c.order("laptop").expect_reply()
    lost.stop()
    c.expect(c.replica(b).head < c.replica(a).head, f"{b} has not heard of that op")
    c.tell("no more prepares are lost")
    c.run_for(30)
    c.expect(c.replica(b).head == c.replica(a).head, f"300 ms later {b} has it")
    c.expect_same_state()


@scenario(shape=Shape(limits=Limits(batch_requests_max=1)))
def prepares_out_of_order(c: NarratedCluster) -> None:
    """Prepares arrive backwards: what comes above a gap is kept, and nothing needs to be fetched again (5.2)."""
    a, b, _ = c.names
    late = c.hold("PrepareMessage", dst=b)
    c.orders(4)
    head = c.replica(b).head
    copies = c.lose("PrepareCopy", dst=b)
    c.tell("the prepares arrive, the newest first")
    late.release(backwards=True)
    c.run_for(2)
    c.expect(c.replica(b).head == c.replica(a).head > head, f"20 ms later {b} has all of them")
    c.expect(not copies.letters and c.replica(b).counted("repaired") == 0, "nobody had to send anything again")
    c.expect_same_state()


@scenario()
def everything_arrives_twice(c: NarratedCluster) -> None:
    """Every message between replicas is repeated, in a view change as well, and that changes nothing (T-30)."""
    c.repeat(7)
    for number in range(5):
        c.order(f"laptop-{number}").expect_reply()
    old = c.names[0]
    c.crash(old)
    c.order("laptop-5").expect_reply()
    c.restart(old)
    c.orders(20)
    c.expect_same_state()


@scenario(replicas=5)
def duplicate_acknowledgements_are_no_quorum(c: NarratedCluster) -> None:
    """Among five, an acknowledgement of one backup that arrives four times is one voice (T-30)."""
    _, b, *others = c.names
    for other in others:
        c.lose("PrepareMessage", dst=other)
        c.lose("PrepareCopy", dst=other)
    acknowledged = c.copy("PrepareOk", src=b)
    lost = c.order("laptop").expect_no_reply(20)
    c.tell(f"what {b} acknowledged arrives three times more")
    for _ in range(3):
        acknowledged.release()
    lost.expect_no_reply(20)
    c.heal()
    lost.expect_reply()
    c.expect_same_state()


@scenario()
def acknowledgement_of_a_lost_suffix(c: NarratedCluster) -> None:
    """An old acknowledgement comes late, when another prepare stands at that op: it counts for nothing (T-30)."""
    a, b, other = c.names
    c.lose("PrepareMessage", src=a, dst=other)
    c.lose("PrepareCopy", src=a, dst=other)
    acknowledged = c.hold("PrepareOk", src=b, dst=a)
    c.lose("CommitOk", src=b, dst=a)
    answer = c.order("laptop-1").expect_no_reply(10)
    c.expect(len(acknowledged.letters) > 0, f"{b} has acknowledged it, and {a} has not heard")
    c.crash(b, a)
    c.restart(a)
    c.await_primary(other, a)
    c.heal()
    c.restart(b)
    answer.expect_reply()
    c.tell(f"the late acknowledgement of {b} arrives")
    acknowledged.release()
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


@scenario()
def clock_jumps(c: NarratedCluster) -> None:
    """The primary's clock jumps a day ahead and a day back: timestamps rise, and stay near the median (T-23)."""
    a = c.names[0]
    before = c.order("laptop-0").expect_reply().timestamp
    stamps = [before]
    for seconds in (86_400, -86_400, 3, -3):
        c.set_clock(a, seconds)
        c.run_for(30)
        stamps.append(c.order(f"laptop at {seconds}").expect_reply().timestamp)
    c.expect(stamps == sorted(set(stamps)), "each order's timestamp is later than the one before")
    c.expect(stamps[-1] - before < 10 * 10**9, "all of them lie within ten seconds")
    c.expect_same_state()
