"""Networks that fall apart: who may lead, who must not be deposed, who goes on (T-8, T-9, PROTOCOL 6.2)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario


def expect_stable(c: NarratedCluster, ticks: int, *, entering: int = 0) -> None:
    """Orders are taken for `ticks`, while `entering` replicas at most enter another view."""
    before = c.view_changes
    end = c.now + ticks
    orders = 0
    with c.quietly():
        while c.now < end:
            c.order("laptop", customer=9).expect_reply()
            c.run_for(50)
            orders += 1
    who = "nobody enters" if not entering else f"at most {entering} enter"
    c.expect(c.view_changes - before <= entering, f"for {ticks / 100:.0f} s orders are taken; {who} another view")


@scenario()
def half_connected_backup(c: NarratedCluster) -> None:
    """A backup that reaches the other backup, not the primary, wishes for another view in vain (T-8)."""
    a, b, _ = c.names
    c.cut(a, b)
    expect_stable(c, 600)
    c.expect(c.primaries() == [a], f"{a} leads, and nobody else")
    c.heal()
    c.expect_same_state()


@scenario()
def isolated_primary(c: NarratedCluster) -> None:
    """A primary is cut off: the others elect one; the old one lets go, comes back and disturbs nobody (INV-34)."""
    a, b, _ = c.names
    c.isolate(a)
    c.run_for(200)
    c.expect(c.primaries() == [b], f"two seconds later {b} leads, and nobody else")
    expect_stable(c, 500)
    c.heal()
    expect_stable(c, 500, entering=1)
    c.expect(c.primaries() == [b], f"{b} leads, and nobody else")
    c.expect(len({c.replica(name).view for name in ("R0", "R1", "R2")}) == 1, "all are in one view")
    c.expect_same_state()


@scenario()
def primary_that_hears_nobody(c: NarratedCluster) -> None:
    """A primary whose heartbeats arrive while no answer does lets go of a view that cannot commit (T_CQ)."""
    a, b, other = c.names
    for name in (b, other):
        c.cut(name, a, one_way=True)
    new = c.await_primary(b, other)
    expect_stable(c, 500)
    c.expect(c.primaries() == [new], f"{new} leads, and nobody else")
    c.expect(c.replica(a).counted("abdicated_no_contact") == 1, f"{a} let go because nobody answered")
    c.heal()
    c.expect_same_state()


@scenario(replicas=5)
def only_the_hub_can_lead(c: NarratedCluster) -> None:
    """Of five only one reaches a quorum, and it is a backup: it must take over, at the first attempt (T-9)."""
    a, b, hub, d, e = c.names
    c.order("laptop", customer=1).expect_reply()
    c.connect_only((hub, a), (hub, b), (hub, d), (hub, e))
    c.await_primary(hub)
    c.expect(c.count("view_timeout") == 0, "it was followed before any other was tried")
    expect_stable(c, 600)
    c.expect(c.primaries() == [hub], f"{hub} leads, and nobody else")
    c.heal()
    c.expect_same_state()


@scenario(replicas=5)
def bridge_between_two_sides(c: NarratedCluster) -> None:
    """Two sides of two, and one that reaches all: the primary's side with the bridge is a quorum (T-9)."""
    a, b, bridge, d, e = c.names
    c.connect_only((a, b), (d, e), *((bridge, name) for name in (a, b, d, e)))
    expect_stable(c, 600)
    c.expect(c.primaries() == [a], f"{a} leads, and nobody else")
    c.heal()
    c.expect_same_state()


@scenario(replicas=5)
def primary_in_the_minority(c: NarratedCluster) -> None:
    """The primary is on the smaller side: it lets go; what it could not commit is not lost."""
    a, b, d, e, f = c.names
    c.partition([a, b], [d, e, f])
    stuck = c.order("laptop stuck", customer=2, via=a).expect_no_reply(100)
    c.await_primary(d, e, f)
    c.order("laptop of the majority", customer=7).expect_reply()
    c.expect(c.replica(a).state.abdicated, f"{a} leads no more")
    c.heal()
    stuck.expect_reply()
    c.expect_same_state()


@scenario()
def flapping_backup(c: NarratedCluster) -> None:
    """A backup whose links break and mend every 300 ms does not depose a primary (INV-34)."""
    a, b, _ = c.names
    before = c.view_changes
    c.tell(f"{b} is cut off for 300 ms and back for 300 ms, twenty times, and each time an order is placed")
    with c.quietly():
        for number in range(20):
            c.isolate(b)
            c.order(f"laptop-{number}").expect_reply()
            c.run_for(30)
            c.heal()
            c.run_for(30)
    c.expect(c.view_changes == before, "every order is answered, and nobody enters another view")
    c.expect(c.primaries() == [a], f"{a} leads, and nobody else")
    c.expect_same_state()


@scenario(replicas=4)
def four_replicas_in_halves(c: NarratedCluster) -> None:
    """Four replicas in two halves: the one with the primary goes on, the other elects nobody (2.5)."""
    a, b, d, e = c.names
    c.order("laptop-1").expect_reply()
    c.partition([a, b], [d, e])
    c.order("laptop-2").expect_reply()
    c.run_for(300)
    c.expect(c.primaries() == [a], f"three seconds later {a} leads, and nobody else")
    c.heal()
    c.expect_same_state()
