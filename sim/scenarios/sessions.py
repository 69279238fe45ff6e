"""Clients that ask again, and sessions that end (PROTOCOL 5.4)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from sim.stage import Caller
from trio_pb.core.config import Limits
from trio_pb.core.messages import RejectCode


def registered(c: NarratedCluster, to: str) -> Caller:
    """A client with a session."""
    caller = c.caller()
    caller.register(to)
    c.run_until(lambda: caller.session > 0, "a session")
    return caller


@scenario()
def exactly_once_over_three_failovers(c: NarratedCluster) -> None:
    """One order is sent to four primaries in four views: it is executed once, and all receipts are the first's (G2)."""
    a = c.names[0]
    caller = registered(c, a)
    c.tell(f"a client sends its order 1 to {a}")
    caller.order(1, to=a)
    c.wait_until(lambda: len(caller.replies(1)) == 1, "it is answered")
    for count in range(2, 5):
        old = c.names[0]
        c.crash(old)
        new = c.await_primary()
        c.tell(f"the client sends its order 1 to {new}")
        caller.order(1, to=new)
        c.wait_until(lambda count=count: len(caller.replies(1)) == count, "it is answered")  # type: ignore[misc]
        c.restart(old)
        c.expect_same_state()
    receipts = {(reply.op, reply.timestamp, reply.result) for reply in caller.replies(1)}
    c.expect(len(receipts) == 1, "all four receipts are one and the same")
    c.expect(
        [reply.replayed for reply in caller.replies(1)] == [False, True, True, True], "three say that they repeat it"
    )


@scenario(shape=Shape(limits=Limits(sessions_max=4)))
def full_session_table(c: NarratedCluster) -> None:
    """The fifth session of at most four pushes out the one that was silent the longest, on every replica (T-21)."""
    a = c.names[0]
    callers = [registered(c, a) for _ in range(4)]
    c.tell("four clients have a session each; the first of them orders something, and a fifth comes")
    callers[0].order(1, to=a)
    c.run_until(lambda: len(callers[0].replies(1)) > 0)
    registered(c, a)
    c.tell("all four place an order")
    for caller in callers:
        caller.order(2 if caller is callers[0] else 1, to=a)
    c.run_until(lambda: len(callers[1].refusals(1)) > 0)
    c.run_for(20)
    c.expect(callers[1].refusals(1) == [RejectCode.NO_SESSION], "the second is told that its session is gone")
    others = (callers[0], callers[2], callers[3])
    c.expect(all(len(caller.replies(1)) == 1 for caller in others), "the others are answered")
    c.expect_same_state()


@scenario()
def deposed_primary_ends_no_session(c: NarratedCluster) -> None:
    """A deposed primary has never heard of a session that the new one gave, and says nothing about it (T-33)."""
    a, b, other = c.names
    c.isolate(a)
    c.run_for(1)
    caller = c.caller()
    caller.session = 12345
    c.tell(f"a client with a session that {a} does not know sends it an order")
    caller.order(1, to=a)
    c.await_primary(b, other)
    c.run_for(100)
    c.expect(RejectCode.NO_SESSION not in caller.refusals(1), f"{a} did not say that there is no such session")
    c.heal()
    c.expect_same_state()
