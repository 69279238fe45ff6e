"""Replicas that lack what others have, and new primaries that do (PROTOCOL 8.1)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from trio_pb.core.config import Limits
from trio_pb.core.messages import Status

ONE_BY_ONE = Shape(limits=Limits(batch_requests_max=1))
SMALL_CACHE = Shape(limits=Limits(batch_requests_max=1, body_cache_ops=32))


@scenario()
def nobody_guesses_a_committed_op(c: NarratedCluster) -> None:
    """One of two copies of a committed op rots, the other is away: nobody guesses, and its return decides (A.4)."""
    a, b, other = c.names
    c.order("laptop-4", customer=4).expect_reply()
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=other)
    c.order("laptop-5", customer=5).expect_reply()
    c.crash(a, b)
    c.heal()
    c.rot(b, "laptop-5")
    c.restart(b)
    c.run_for(300)
    c.expect(c.primaries() == [], "three seconds later nobody leads")
    statuses = {c.replica(name).status for name in (b, other)}
    c.expect(statuses == {Status.VIEW_CHANGE}, f"{b} and {other} wait for somebody who can tell")
    c.restart(a)
    c.expect(c.read(5).expect_reply().record.laptop_type == "laptop-5", "the order is not lost")
    c.expect_same_state()


@scenario(shape=SMALL_CACHE)
def a_thousand_ops_behind(c: NarratedCluster) -> None:
    """A replica was cut off for a thousand ops: it comes back while orders go on, and slows nobody down (A.5)."""
    b = c.names[1]
    c.isolate(b)
    c.orders(1000)
    before = c.view_changes
    c.heal()
    c.expect(c.order("laptop meanwhile").expect_reply().ticks < 5, "that took less than 50 ms")
    c.expect_same_state()
    c.expect(c.view_changes == before, "nobody entered another view")


@scenario(shape=ONE_BY_ONE)
def source_that_sends_nothing(c: NarratedCluster) -> None:
    """One of two sources of repair sends nothing: the requests to it run out, and go to the other (8.1)."""
    a, b, other = c.names
    c.isolate(b)
    c.orders(100)
    c.lose("PrepareCopy", src=other, dst=b)
    c.heal_partitions()
    c.wait_until(lambda: c.replica(b).applied == c.replica(a).commit, f"{b} has everything from {a}")
    c.expect_same_state()
