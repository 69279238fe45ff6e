"""Crashes, power cuts and new disks, and what a replica remembers afterwards (PROTOCOL 7)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from trio_pb.core.messages import Status


@scenario()
def restarted_primary_reuses_no_op(c: NarratedCluster) -> None:
    """A primary forgets a prepare that it sent: no other one ever stands at that op in the same view (T-6)."""
    a, b, other = c.names
    c.order("laptop-0").expect_reply()
    c.hang_disk(a)
    c.lose("PrepareOk", dst=a)
    c.lose("CommitOk", dst=a)
    c.lose("PrepareMessage", dst=other)
    c.lose("PrepareCopy", dst=other)
    answer = c.order("laptop-1")
    c.run_for(5)
    head = c.replica(b).head
    c.tell(f"{b} has 'laptop-1' as op {head}; the disk of {a} never got it")
    c.crash(a)
    replica = c.replica(a).replica
    replica.disk = replica.disk.after_power_cut()
    c.free_disk(a)
    c.restart(a)
    c.heal()
    answer.expect_reply()
    c.expect(answer.receipt.op == head, f"'laptop-1' is op {head}, of the one time that it was ordered")
    c.order("laptop-2").expect_reply()
    c.expect_same_state()


@scenario()
def rolling_restart(c: NarratedCluster) -> None:
    """One replica after the other is restarted, twice around, and orders go on."""
    for round_ in range(2):
        for name in ("R0", "R1", "R2"):
            c.crash(name, power=bool(round_))
            c.order(f"laptop {round_} {name}").expect_reply()
            c.restart(name)
            c.expect_same_state()


@scenario()
def power_cuts_of_all(c: NarratedCluster) -> None:
    """The whole cluster loses power four times in the middle of an order: no answer is ever taken back."""
    for number in range(4):
        c.order(f"laptop-{number}", customer=number).expect_reply()
        late = c.order(f"late laptop-{number}", customer=100)
        c.crash("R0", "R1", "R2")
        c.restart("R0", "R1", "R2")
        late.expect_reply()
        kept = c.read(number).expect_reply().record.laptop_type
        c.expect(kept == f"laptop-{number}", "what was acknowledged before is there")
    c.expect_same_state()


@scenario()
def reformatted_disk_never_counts_again(c: NarratedCluster) -> None:
    """A disk is wiped and formatted with its old id: it is refused, and nothing commits on its word (T-16)."""
    a, b, wiped = c.names
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=b)
    c.order("laptop", customer=1).expect_reply()
    c.heal()
    c.cut(a, b)
    c.crash(wiped)
    c.reformat(wiped)
    c.restart(wiped)
    c.wait_until(lambda: c.is_stopped(wiped), f"{wiped} stops for good: the others know its number by another identity")
    c.crash(a)
    c.order("laptop-2", customer=2).expect_no_reply(600)
    c.expect(c.primaries() == [], f"{b} alone elects nobody")
    c.heal()
    c.restart(a)
    c.expect(c.read(1).expect_reply().record.laptop_type == "laptop", "what only two had had is not lost")
    c.order("laptop-3", customer=3).expect_reply()
    c.expect_same_state(a, b)


@scenario(is_new=True)
def new_cluster_waits_for_its_last_member(c: NarratedCluster) -> None:
    """Two of three have met: nobody counts before the third has seen them, and they the third (7.6)."""
    c.isolate("R2")
    c.run_for(500)
    c.expect(
        {c.replica(name).status for name in ("R0", "R1", "R2")} == {Status.UNBORN}, "five seconds later none is born"
    )
    c.heal()
    c.order("laptop").expect_reply()
    c.expect_same_state()


@scenario(replicas=5)
def five_replicas_lose_two(c: NarratedCluster) -> None:
    """Of five the primary and the one after it die at once: the other three go on; with two left nobody does (2.5)."""
    a, b, *rest = c.names
    c.order("laptop-1").expect_reply()
    c.crash(a, b)
    c.order("laptop-2").expect_reply()
    c.await_primary(*rest)
    c.crash(rest[-1])
    waiting = c.order("laptop-3").expect_no_reply(300)
    c.restart(a)
    waiting.expect_reply()
    c.restart(b, rest[-1])
    c.expect_same_state()


def _let_lead_upgraded(c: NarratedCluster, *names: str, least: int) -> None:
    """Give some of the replicas a program of release 2, and let one of them lead."""
    with c.quietly():
        for name in names:
            c.crash(name)
            c.upgrade(name, 2, least=least)
            c.restart(name)
            c.expect_same_state()
    if c.await_primary() not in names:
        c.transfer()
        c.await_primary(*names)


@scenario()
def later_release_next_to_an_earlier_one(c: NarratedCluster) -> None:
    """A later release leads earlier ones and orders what they know; one that speaks no earlier one refuses the log."""
    a, b, other = c.names
    c.order("laptop-1").expect_reply()
    c.tell(f"{a} and {b} are started anew, with a later release that still knows this one")
    _let_lead_upgraded(c, a, b, least=1)
    c.order("laptop-2").expect_reply()
    c.expect_same_state()
    c.crash(other)
    c.upgrade(other, 2, least=2)
    c.restart(other)
    c.wait_until(lambda: c.is_stopped(other), f"{other} has stopped: it does not know release 1 any more")
    c.expect(c.count("fatal upgrade_needed") == 1, "its message says what to start")
    c.order("laptop-3").expect_reply()
    c.upgrade(other, 2, least=1)
    c.restart(other)
    c.expect_same_state()


@scenario()
def earlier_release_in_a_log_of_a_later_one(c: NarratedCluster) -> None:
    """Two of three begin a log of a later release: the third stops and says so, and upgraded it is back."""
    a, b, other = c.names
    c.tell(f"{a} and {b} are started anew, with a later release that knows no other")
    _let_lead_upgraded(c, a, b, least=2)
    c.order("laptop-1").expect_reply()
    c.wait_until(lambda: c.is_stopped(other), f"{other} has stopped: it does not know release 2")
    c.expect(c.count("fatal upgrade_needed") == 1, "its message says what to start")
    c.order("laptop-2").expect_reply()
    c.upgrade(other, 2, least=2)
    c.restart(other)
    c.expect_same_state()
