"""Disks that lie, forget or are full (PROTOCOL 7)."""

from __future__ import annotations

import attrs

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario
from sim.shape import Shape
from trio_pb.core.config import Limits, Timeouts
from trio_pb.core.messages import Status

ONE_BY_ONE = Shape(limits=Limits(batch_requests_max=1))
SCRUBBING = attrs.evolve(ONE_BY_ONE, timeouts=Timeouts(scrub_ticks=2))
SHORT_LOG = Shape(
    limits=Limits(batch_requests_max=1, checkpoint_interval_ops=8, wal_ops=16, pipeline_max=4),
    timeouts=Timeouts(checkpoint_retry_ticks=20, space_ticks=20),
)


def held_ops(c: NarratedCluster, name: str) -> set[int]:
    """The ops of which a replica's disk has an intact record in its place."""
    return {record.header.op for record in c.disk(name).found.records.values()}


@scenario(shape=ONE_BY_ONE)
def misdirected_write(c: NarratedCluster) -> None:
    """A record stands where another was written: it is taken for neither, and both come from peers (T-17)."""
    b = c.names[1]
    c.orders(6)
    head = c.replica(b).head
    moved = {head - 1, head - 3}
    c.crash(b)
    c.tell(f"{b}'s record of op {head - 1} stands in the place of op {head - 3}; its own place is empty")
    c.disk(b).misplace_record(head - 1, onto=head - 3)
    c.expect(not held_ops(c, b) & moved, "neither is taken for what is there")
    c.restart(b)
    c.expect_same_state()
    c.expect(moved <= held_ops(c, b), "both are there again, each in its place")


@scenario(shape=SCRUBBING)
def scrubbing_finds_rot(c: NarratedCluster) -> None:
    """A record rots that nobody asks for: scrubbing reads it, and a peer sends it again (7.5)."""
    b = c.names[1]
    c.orders(5)
    c.run_for(10)
    op = c.replica(b).head - 2
    c.tell(f"{b}'s record of op {op} decays on its disk")
    c.disk(b).rot_record(op)
    c.wait_until(lambda: c.count("record_lost") == 1, f"{b} has found it by itself")
    c.wait_until(lambda: op in held_ops(c, b), "it is on its disk again")
    c.expect_same_state()


@scenario()
def amnesiac_elects_nobody(c: NarratedCluster) -> None:
    """A replica whose disk forgot what it acknowledged does not help to elect, lest that be lost (7.3)."""
    a, b, other = c.names
    c.isolate(other)
    c.order("laptop kept", customer=1).expect_reply()
    c.crash(a, b)
    c.heal()
    c.tell(f"{b}'s disk loses the proofs of what it acknowledged")
    c.disk(b).lose_proofs()
    c.restart(b)
    c.run_for(600)
    c.expect(c.replica(b).status is Status.AMNESIAC, f"six seconds later {b} knows that it does not know")
    c.expect(c.primaries() == [], f"{b} and {other} together elect nobody")
    c.restart(a)
    c.expect(c.read(1).expect_reply().record.laptop_type == "laptop kept", "the order is not lost")
    c.expect_same_state()


@scenario(shape=SHORT_LOG)
def full_disks_everywhere(c: NarratedCluster) -> None:
    """No disk has room: orders stop before a log has none left, and go on when there is some (7.5)."""
    c.orders(4)
    names = ("R0", "R1", "R2")
    c.tell("the disks of all three are full")
    for name in names:
        c.disk(name).fill()
    with c.quietly():
        answers = [c.order(f"laptop {number}", customer=number) for number in range(40)]
        c.run_for(300)
    c.expect(
        not all(answer.is_answered for answer in answers), "of forty orders some are not answered in three seconds"
    )
    c.expect(all(c.is_up(name) for name in names), "all three still run")
    c.tell("there is room again")
    for name in names:
        c.disk(name).make_room()
    c.wait_until(lambda: not any(c.replica(name).state.is_disk_full for name in names), "all three have noticed")
    c.order("laptop after", customer=99).expect_reply()
    c.await_answers()
    c.expect_same_state()
